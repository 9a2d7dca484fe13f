"""Bars on a terminal, and none where they are hidden."""

import io

import numpy as np

from fgvc_jax.utils import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_are_shown_on_a_terminal_until_they_are_hidden():
    def drawn(file, **options):
        progress.bar(total=3, desc="steps", file=file, **options).close()
        return "steps" in file.getvalue()

    assert drawn(Terminal()) and not drawn(io.StringIO())
    assert not drawn(Terminal(), disable=True)
    with progress.hidden():
        assert not drawn(Terminal())
        with progress.hidden(False):
            assert drawn(Terminal())
        assert not drawn(Terminal(), disable=False)
    assert drawn(Terminal())


def test_batches_are_handed_on_and_padding_is_not_counted(monkeypatch):
    made, bar = [], progress.bar

    def kept(**options):
        assert options["total"] == 6 and options["desc"] == "birds" and options["disable"] is None
        made.append(bar(**options | {"file": Terminal(), "delay": 0}))
        return made[-1]

    monkeypatch.setattr(progress, "bar", kept)
    batches = [{"mask": np.array([True] * 4)}, {"mask": np.array([True, True, False, False])}]
    assert list(progress.over_batches(iter(batches), "birds", 6)) == batches
    assert made[0].n == 6
