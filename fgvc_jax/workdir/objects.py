"""The objects of a bucket by name, as one process last saw them. What is written has its name at
once and whole: uploaded beside, then renamed where the object is of the generation last seen.
"""

import contextlib
import io
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import bucket
from fgvc_jax.workdir.bucket import Changed, ObjectStat, SharedText, Unavailable, patient

SCHEME = "gs://"
PARTIAL = ".partial-"
TRIES = 5  # of what others get in the way of
_NAMELESS = re.compile(r"\.partial-[0-9a-f]{8}$")
T = TypeVar("T")


class Objects:
    """Objects of one bucket, for one process. Generations are 0 where there is no object.

    Args:
        name: of the bucket.
        url: of what is worked on in it, for messages.
    """

    def __init__(self, name: str, url: str):
        self._bucket = name
        self._url = url
        self._client = bucket.connect(name)
        self._generations: dict[str, int] = {}  # as they were last seen

    def address(self, name: str) -> str:
        """The URL of an object."""
        return f"{SCHEME}{self._bucket}/{name}"

    def found(self, name: str) -> ObjectStat | None:
        """An object's size and generation now."""
        return self._ask(lambda: self._client.stat(name))

    def generation(self, name: str) -> int:
        """An object's generation now, which is remembered."""
        found = self.found(name)
        self._generations[name] = found.generation if found else 0
        return self._generations[name]

    def seen(self, name: str) -> int | None:
        """An object's generation as it was last seen; None for one never looked at."""
        return self._generations.get(name)

    def below(self, prefix: str) -> list[str]:
        """Names of all objects that begin so."""
        return self._ask(lambda: self._client.list(prefix))

    def load(self, name: str, file: IO[bytes], generation: int) -> None:
        """Write what an object of that generation holds to a file; Changed when it is another."""

        def load() -> None:
            file.seek(0)
            file.truncate()
            self._client.load(name, file, generation)

        self._ask(load)

    def store(self, name: str, source: Path, check: Callable[[], None]) -> int:
        """Replace an object by a file; its new generation. `check` as for `Mirror.put`."""
        seen = self.seen(name)
        expected = self.generation(name) if seen is None else seen
        for _ in range(TRIES):
            beside = _beside(name)
            try:
                with source.open("rb") as file:
                    self._ask(lambda: self._client.store(beside, file, 0))  # noqa: B023
                check()
                found = self._ask(
                    lambda: self._client.rename(beside, name, expected)  # noqa: B023
                )
            except Changed:  # by a command without the lease, or by a try that was not heard of
                expected = self.generation(name)
                self._discard(beside)
                continue
            except BaseException:
                self._discard(beside)
                raise
            self._generations[name] = found
            return found
        raise UserError(f"{self.address(name)} is written by others all the time")

    def rename(self, name: str, new: str, check: Callable[[], None]) -> int:
        """Give an object another name; its new generation."""
        for _ in range(TRIES):
            expected = self.generation(new)
            check()
            try:
                found = self._ask(lambda: self._client.rename(name, new, expected))  # noqa: B023
            except Changed:  # by a try that was not heard of
                found = 0 if self.generation(name) else self.generation(new)
            if found:
                self._generations[new] = found
                return found
        raise UserError(f"{self.address(new)} is written by others all the time: try again")

    def remove(self, name: str) -> None:
        """Remove an object that may be gone already, or changes at this moment."""
        if found := self.generation(name):
            with contextlib.suppress(Changed):
                self._ask(lambda: self._client.remove(name, found))
        self._generations.pop(name, None)

    def clear(self, prefix: str) -> None:
        """Remove what is uploaded below a prefix and has no name yet."""
        for name in filter(_NAMELESS.search, self.below(prefix)):
            self.remove(name)

    def check_writable(self, prefix: str) -> None:
        """Raise a UserError when nothing can be written below a prefix."""
        beside = _beside(f"{prefix}writable")
        self._ask(lambda: self._client.store(beside, io.BytesIO(), 0))
        self._discard(beside)

    def cell(self, name: str) -> SharedText:
        """An object that is a small text to compare and swap, over a connection of its own."""
        return SharedText(self._url, name, bucket.connect(self._bucket))

    def _discard(self, name: str) -> None:
        """Remove what has no name yet, if it can be: whoever takes the lease next does."""
        with contextlib.suppress(Changed, Unavailable, UserError):
            if found := self._client.stat(name):
                self._client.remove(name, found.generation)

    def _ask(self, request: Callable[[], T]) -> T:
        return patient(request, self._url)


def _beside(name: str) -> str:
    """A name beside an object's that nobody else has."""
    return f"{name}{PARTIAL}{uuid.uuid4().hex[:8]}"
