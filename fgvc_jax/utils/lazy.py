"""Modules that are imported when something of them is first asked for.

Where a method is declared stands beside what computes it; --help and a mistake in a command line
need the former alone, and JAX, Flax and optax take a second and a half to load.
"""

import importlib
from types import ModuleType


class _Lazy(ModuleType):
    """Stands for the module of its name."""

    def __getattr__(self, name: str) -> object:
        found = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, found)
        return found


def lazily(name: str) -> ModuleType:
    """What stands for the module `name`; a type checker is told by an import of its own."""
    return _Lazy(name)
