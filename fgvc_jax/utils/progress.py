"""How a training tells of itself as it goes: lines, numbers, and bars on a terminal."""

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

B = TypeVar("B")


class Report(Protocol):
    """Hears of a training as it goes."""

    def __call__(self, line: str, /, **numbers: Any) -> None:
        """What is said in a line, and after an epoch in numbers: "member", "members", "epoch",
        "epochs", "step", and the counts and accuracies of `evaluator.evaluate_member`."""


_hidden = ContextVar("hidden", default=False)


def bar(*, disable: bool | None = None, **options: Any) -> tqdm:
    """A bar as tqdm makes it: on a terminal, unless it is disabled or all are `hidden`."""
    return tqdm(disable=_hidden.get() or disable, **options)


def of_images(what: str, count: int, iterable: Iterable[Any] | None = None) -> tqdm:
    """A bar over so many images, in the first process, where they take longer than a moment; or
    over an iterable that has something for each."""
    import jax  # bars are also shown where nothing is computed

    return bar(
        iterable=iterable, total=count, desc=what, unit=" images", leave=False, delay=2,
        dynamic_ncols=True, disable=None if jax.process_index() == 0 else True,
    )  # fmt: skip


def over_batches(batches: Iterable[B], what: str, count: int) -> Iterator[B]:
    """Batches with a "mask" of so many images, without what is padding, with that bar."""
    with of_images(what, count) as shown:
        for batch in batches:
            yield batch
            shown.update(min(len(batch["mask"]), shown.total - shown.n))  # type: ignore[index]


@contextlib.contextmanager
def hidden(hide: bool = True) -> Iterator[None]:
    """While entered no bar is shown."""
    before = _hidden.set(hide)
    try:
        yield
    finally:
        _hidden.reset(before)
