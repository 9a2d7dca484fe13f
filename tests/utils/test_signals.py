"""A signal is never lost, and never taken for an error."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from fgvc_jax.utils import signals
from fgvc_jax.utils.errors import Interrupted
from fgvc_jax.utils.signals import Deferred


@pytest.fixture(autouse=True)
def handlers():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    yield
    for number, handler in zip(signals.SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_interrupts_and_no_handler_of_errors_takes_it(number):
    signals.interrupt()
    with pytest.raises(Interrupted) as stop:
        try:
            signal.raise_signal(number)
        except Exception:
            pytest.fail("it was taken for an error")
    assert stop.value.signal_number == number


def test_a_deferred_signal_is_noted_and_raised_at_the_end_at_the_latest():
    with Deferred() as asked:
        signal.raise_signal(signal.SIGTERM)
        assert asked.number == signal.SIGTERM
        asked.number = 0  # it was dealt with
    with pytest.raises(Interrupted), Deferred():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Interrupted), Deferred():
        signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(Interrupted, match="twice"), Deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_a_thread_defers_nothing_and_does_not_fail():
    failures = []

    def work():
        try:
            with Deferred() as asked:
                assert asked.number == 0
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures


def test_a_signal_is_told_at_once_while_a_compiler_has_the_main_thread():
    """Python's handler waits for the end of what is in C; a hash takes the compiler's place."""
    lines = (
        "import hashlib, threading; from fgvc_jax.utils import signals",
        "signals.interrupt(); signals.acknowledge()",
        "threading.Timer(0.5, print, ['ready'], {'flush': True}).start()",  # once it hashes
        "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 20_000_000)",
    )
    started = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert started.stdout.readline() == "ready\n"
    started.send_signal(signal.SIGINT)
    assert started.stderr.readline() == f"{signals.HEARD}\n"
    assert started.poll() is None
    started.kill()
    started.communicate()


def test_a_hangup_that_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.interrupt()
    with Deferred() as asked:
        signal.raise_signal(signal.SIGHUP)
        assert asked.number == 0


def test_after_a_hangup_nothing_fails_for_being_printed():
    """A save after the step died of the progress bar, whose terminal had gone."""
    lines = (
        "import sys, time; from fgvc_jax.utils.signals import Deferred; from pathlib import Path",
        "with Deferred() as asked:",
        "    print('ready', flush=True)",
        "    while not asked.number: time.sleep(0.01)",
        "    print('of a bar', flush=True); print('more', file=sys.stderr, flush=True)",
        "    saved, asked.number = asked.number, 0",
        "sys.exit(100 + saved)",
    )
    ours, theirs = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        stdout=theirs, stderr=theirs, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    with open(ours, "rb") as terminal:
        assert terminal.readline() == b"ready\r\n"  # else it goes while that is being printed
    started.send_signal(signal.SIGHUP)
    assert started.wait(30) == 100 + signal.SIGHUP


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_before_anything_is_begun_a_signal_is_one_line_and_its_code(number, code):
    """From the first line of a command on, while it is being imported."""
    words = "from fgvc_jax.commands import start; start.prepare(); import signal; "
    done = subprocess.run(
        [sys.executable, "-c", f"{words}signal.raise_signal({int(number)})"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "interrupted before anything was begun\n")
