"""How a training tells of itself as it goes: lines, numbers, and bars on a terminal."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

from tqdm import tqdm


class Report(Protocol):
    """Hears of a training as it goes."""

    def __call__(self, line: str, /, **numbers: Any) -> None:
        """What is said in a line, and after an epoch in numbers: "member", "members", "epoch",
        "epochs", "step", and the counts and accuracies of `evaluator.evaluate_member`."""


_hidden = ContextVar("hidden", default=False)


def bar(*, disable: bool | None = None, **options: Any) -> tqdm:
    """A bar as tqdm makes it: on a terminal, unless it is disabled or all are `hidden`."""
    return tqdm(disable=_hidden.get() or disable, **options)


@contextlib.contextmanager
def hidden(hide: bool = True) -> Iterator[None]:
    """While entered no bar is shown."""
    before = _hidden.set(hide)
    try:
        yield
    finally:
        _hidden.reset(before)
