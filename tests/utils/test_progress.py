"""Bars on a terminal, and none where they are hidden."""

import gc
import io
import sys
import threading
import time

import jax
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


def test_the_clock_of_a_bar_goes_on_where_nothing_comes(monkeypatch):
    monkeypatch.setattr(progress, "TICK", 0.01)
    shown = Terminal()
    bar = progress.bar(total=3, desc="steps", file=shown, bar_format="{desc} {elapsed_s:.3f}")
    bar.set_postfix_str("compiling")
    before = shown.getvalue()
    while len(shown.getvalue()) == len(before):
        time.sleep(0.01)
    bar.close()
    ended = shown.getvalue()
    time.sleep(0.05)
    assert shown.getvalue() == ended  # nothing after it is closed


def test_what_takes_longer_than_a_moment_is_named_and_taken_away(monkeypatch):
    monkeypatch.setattr(progress, "TICK", 0.01)
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress.waiting("compiling"):
        time.sleep(0.05)
    assert shown.getvalue() == ""
    monkeypatch.setattr(progress, "MOMENT", 0.02)
    with progress.waiting("compiling"):
        while "compiling: 00:00" not in shown.getvalue():
            time.sleep(0.01)
    line = shown.getvalue()
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with progress.in_first("compiling"):
        time.sleep(0.05)
    assert shown.getvalue() == line
    assert line.endswith("\r") and not line.split("\r")[-2].strip()  # wiped
    with progress.waiting("compiling", disable=True), progress.hidden():
        time.sleep(0.05)
    assert shown.getvalue() == line


def test_a_bar_that_nobody_has_any_more_stops(monkeypatch):
    monkeypatch.setattr(progress, "TICK", 0.01)
    before = threading.active_count()
    bar = progress.bar(total=3, file=Terminal())
    assert threading.active_count() > before
    del bar
    gc.collect()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


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
