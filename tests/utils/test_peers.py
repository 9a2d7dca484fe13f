"""Processes of a run end together: three small ones, of which one is killed, fails or is done."""

import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from fgvc_jax.utils import peers

PROGRAM = """
import sys, time
from fgvc_jax import command, peers
index, port, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
mine = peers.Peers(index)
if index == 0:
    print(mine.listen(2), flush=True)
else:
    mine.connect("127.0.0.1", port)
peers.watch(mine, lambda: None)
def collective(_):
    raise RuntimeError("connection closed by peer")
print("ready", flush=True)
sys.stdin.readline()
if what == "done":
    peers.done()
    time.sleep(1)
elif what == f"fail{index}" or what == "fail all":
    time.sleep(index / 4)
    command._leave(2, f"error: the mistake of {index}")
elif what == "collective" and index != 1:
    command.run(collective)
else:
    time.sleep(60)
"""


@pytest.fixture
def three(request):
    started = []

    def start(what):
        port = "0"
        for index in range(3):
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(index), port, what], cwd=ROOT, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            started.append(process)
            if index == 0:
                port = process.stdout.readline().strip()
            assert process.stdout.readline() == "ready\n"
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
        _, err = process.communicate(timeout=deadline - time.monotonic())
        said.append((process.returncode, err))
    return said


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_when_one_is_killed_the_others_end_in_one_line(three, killed):
    processes = three("wait")
    processes[killed].send_signal(signal.SIGKILL)
    for index, (code, err) in enumerate(ends(processes)):
        if index != killed:
            assert (code, err) == (1, f"process {killed} ended; the same command continues\n")


def test_a_collective_that_misses_somebody_is_no_traceback(three):
    """It may raise before the system says that the other one is gone."""
    processes = three("collective")
    processes[1].send_signal(signal.SIGKILL)
    for index in (0, 2):
        _, err = processes[index].communicate(timeout=15)
        assert (processes[index].returncode, err) == (
            1, "process 1 ended; the same command continues\n",
        )  # fmt: skip


@pytest.mark.parametrize("failed", [0, 2])
def test_who_fails_says_its_own_line_and_code(three, failed):
    for index, (code, err) in enumerate(ends(three(f"fail{failed}"))):
        if index == failed:
            assert (code, err) == (2, f"error: the mistake of {failed}\n")
        else:
            assert (code, err) == (1, f"process {failed} ended; the same command continues\n")


def test_a_mistake_of_all_is_told_by_each(three):
    for index, (code, err) in enumerate(ends(three("fail all"))):
        assert (code, err) == (2, f"error: the mistake of {index}\n")


def test_at_the_end_nobody_is_missed(three):
    assert ends(three("done")) == [(0, "")] * 3


def test_a_relayed_connection_stays_open_when_what_is_behind_it_breaks():
    with socket.create_server(("127.0.0.1", 0)) as there:
        host, port = peers.relay(f"127.0.0.1:{there.getsockname()[1]}").split(":")
        near = socket.create_connection((host, int(port)), timeout=5)
        far, _ = there.accept()
        near.sendall(b"question")
        assert far.recv(100) == b"question"
        far.sendall(b"answer")
        assert near.recv(100) == b"answer"
        far.close()
    near.settimeout(0.2)
    with pytest.raises(TimeoutError):
        near.recv(1)
    again = socket.create_connection((host, int(port)), timeout=5)
    assert again.recv(1) == b""  # nobody is there
    near.close(), again.close()
