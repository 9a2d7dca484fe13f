"""Processes of a run end together, in one line each, when one is killed, fails or is done."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT

ABORTED = """
import ctypes, sys
from fgvc_jax.utils import watchdog
watchdog.await_others()
if sys.argv[2:]:
    watchdog.watch(lambda: None, is_first=False)
libc = ctypes.CDLL(None)
stream = ctypes.c_void_p.in_dll(libc, "__stderrp" if sys.platform == "darwin" else "stderr")
libc.fputs(sys.argv[1].encode(), stream)
libc.abort()
"""
JAXS = "F1129 Terminating process because the JAX distributed service detected fatal errors. "
TOLD = "process {} ended; the same command continues\n"


@pytest.mark.parametrize(
    "words, code, told",
    [
        (f"{JAXS}grpc_message: Socket closed\n", 1, TOLD.format(0)),
        (f"{JAXS}tasks are unhealthy (stopped sending heartbeats):\n12\n", 1, TOLD.format(12)),
        (f"{JAXS}UNAVAILABLE: Task 3 heartbeat timeout.\n", 1, TOLD.format(3)),
        ("corrupted size vs. prev_size\n", -signal.SIGABRT, "corrupted size vs. prev_size\n"),
    ],
)
def test_an_abort_of_jaxs_client_is_one_line_and_others_keep_their_words(words, code, told):
    done = subprocess.run(
        [sys.executable, "-c", ABORTED, words, "met"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (code, told)


def test_who_does_not_meet_the_others_says_so_in_one_line():
    """It was a screenful of C's, after five minutes."""
    words = f"{JAXS}absl::Status: DEADLINE_EXCEEDED: Deadline Exceeded\n"
    done = subprocess.run(
        [sys.executable, "-c", ABORTED, words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: --distributed did not meet the other processes in time")


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_nobody_joins_ends_in_one_line(index):
    """The first one waits for the second, or this for the first: where a stranger listens, too."""
    program = "import functools, jax\njax.distributed.initialize = functools.partial(" + (
        "jax.distributed.initialize, initialization_timeout=5)\n" + PROGRAM
    )
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = "{}:{}".format(*stranger.getsockname())
        if index == 0:
            stranger.close()
        names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
        done = subprocess.run(
            [sys.executable, "-c", program, "wait"], cwd=ROOT, capture_output=True, text=True,
            env=os.environ | names | {"JAX_PROCESS_ID": str(index)}, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: --distributed did not meet the other processes")


PROGRAM = """
import os, sys, time
import jax, numpy as np
from fgvc_jax.commands import start
from fgvc_jax.utils import processes, watchdog
from fgvc_jax.utils.errors import UserError
watchdog.SILENT = 6  # half of what users wait
index, what = int(os.environ["JAX_PROCESS_ID"]), sys.argv[1]
def main(_):
    processes.join_processes()
    print("joined", jax.config.jax_enable_compilation_cache, flush=True)
    sys.stdin.readline()
    if what == "collective" and index == 0:
        processes.total(1)
    if what in (f"fail{index}", "fail all"):
        raise UserError(f"the mistake of {index}")
    if what != "done":
        time.sleep(60)
start.run(main)
"""


@pytest.fixture
def two():
    """What starts two processes that join and then do what a word says, after `meanwhile`, which
    is told the address of JAX's service."""
    started = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()

    def start(what, meanwhile=lambda address: None):
        names = {"JAX_COORDINATOR_ADDRESS": "{}:{}".format(*address), "JAX_NUM_PROCESSES": "2"}
        for index in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, what], cwd=ROOT, text=True,
                env=os.environ | names | {"JAX_PROCESS_ID": str(index)},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            started.append(process)
        for process in started:
            # After lines of Gloo's. The cache serves the first alone, see `join_processes`.
            assert "joined False\n" in iter(process.stdout.readline, "")
        meanwhile(address)
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ends(processes):
    """(code, what it said) of each, within 15 seconds."""
    deadline = time.monotonic() + 15
    said = []
    for process in processes:
        _, err = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
        said.append((process.returncode, err))
    return said


def test_when_the_process_with_jaxs_service_is_killed_the_other_says_its_line(two):
    processes = two("wait")
    processes[0].kill()
    assert ends(processes)[1] == (1, TOLD.format(0))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["wait", "collective"])
def test_when_another_is_killed_the_first_says_its_line(two, where):
    """A collective may raise long before JAX knows that the other one is gone."""
    processes = two(where)
    processes[1].kill()
    assert ends(processes)[0] == (1, TOLD.format(1))


@pytest.mark.slow
@pytest.mark.parametrize("failed", [0, 1])
def test_who_fails_says_its_own_line_and_code(two, failed):
    said = ends(two(f"fail{failed}"))
    assert said[failed] == (2, f"error: the mistake of {failed}\n")
    assert said[1 - failed] == (1, TOLD.format(failed))


@pytest.mark.slow
def test_a_mistake_of_all_is_told_by_each(two):
    assert ends(two("fail all")) == [(2, f"error: the mistake of {n}\n") for n in range(2)]


def strangers(address):
    """As of a port scan: they connect, say something or nothing, and go."""
    for words in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))):
        with socket.create_connection(address, timeout=5) as stranger:
            stranger.sendall(words)


@pytest.mark.slow
def test_at_the_end_nobody_is_missed_and_strangers_do_not_end_it(two):
    assert ends(two("done", strangers)) == [(0, "")] * 2
