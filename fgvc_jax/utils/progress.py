"""How a training tells of itself as it goes: lines, numbers, and bars on a terminal."""

import contextlib
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

B = TypeVar("B")
MOMENT = 2  # seconds, after which something is shown of what goes on
TICK = 1.0  # seconds between two looks at the clock


class Reporter(Protocol):
    """Hears of a training as it goes."""

    def __call__(self, line: str, /, **numbers: float | None) -> None:
        """What is said in a line, and after an epoch in numbers: "member", "members", "epoch",
        "epochs", "step", and the counts and accuracies of `evaluator.evaluate_member`."""


_hidden = ContextVar("hidden", default=False)


class Bar(tqdm):
    """tqdm's bar, whose clock goes on where nothing comes, as while a program is compiled; one with
    a `delay` is then shown before its first step."""

    def __init__(self, *arguments: object, **options: object):
        super().__init__(*arguments, **options)
        self._closing = threading.Event()
        self._ticked = False
        if not self.disable:
            tick = threading.Thread(target=_tick, args=(weakref.ref(self), self._closing))
            tick.daemon = True
            tick.start()

    def tick(self) -> None:
        """Show how late it is."""
        with self.get_lock():
            if not self.disable and self._time() >= self.start_t + self.delay:
                self.display()
                self._ticked = True

    def close(self) -> None:
        if hasattr(self, "_closing"):
            self._closing.set()
            if self._ticked:  # else tqdm takes one with a delay for never shown, and leaves it
                self.last_print_t = self._time()
        super().close()


def _tick(shown: weakref.ref, closing: threading.Event) -> None:
    """Until a bar is closed, or nobody has it any more."""
    while not closing.wait(TICK):
        bar = shown()
        if bar is None:
            return
        bar.tick()
        del bar


def bar(
    iterable: Iterable[Any] | None = None, *, disable: bool | None = None, **options: object
) -> tqdm:
    """A bar as tqdm makes it: on a terminal, unless it is disabled or all are `hidden`."""
    return Bar(iterable, disable=_hidden.get() or disable, **options)


@contextlib.contextmanager
def waiting(what: str, *, disable: bool | None = None) -> Iterator[None]:
    """While entered, and that is longer than a moment, a line says what goes on and since when."""
    with bar(desc=what, bar_format="{desc}: {elapsed}", leave=False, delay=MOMENT, disable=disable):
        yield


def in_first(what: str) -> contextlib.AbstractContextManager[None]:
    """`waiting`, in the first process."""
    return waiting(what, disable=_off_in_others())


def _off_in_others() -> bool | None:
    """What disables a bar in all processes but the first."""
    import jax  # bars are also shown where nothing is computed

    return None if jax.process_index() == 0 else True


def image_bar(what: str, count: int, iterable: Iterable[Any] | None = None) -> tqdm:
    """A bar over so many images, in the first process, where they take longer than a moment; or
    over an iterable that has something for each."""
    return bar(
        iterable=iterable, total=count, desc=what, unit=" images", leave=False, delay=MOMENT,
        dynamic_ncols=True, disable=_off_in_others(),
    )  # fmt: skip


def over_batches(batches: Iterable[B], what: str, count: int) -> Iterator[B]:
    """Batches with a "mask" of so many images, without what is padding, with that bar."""
    with image_bar(what, count) as shown:
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
