"""Cores and memory as containers, batch systems and neighbours on the host leave them."""

import os

import pytest

from fgvc_jax.utils import machine

GIB = 2**30


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A made-up machine of 64 cores and 100 GiB of available memory; call it to add files."""

    def add(**files):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")

    def affinity(count):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)), raising=False)

    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    affinity(64)
    add(**{"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable:  {100 * 2**20} kB\nCached: 5 kB"})
    add.affinity = affinity
    return add


def test_a_bare_machine(host):
    assert machine.cores() == 64 and machine.free_memory() == 100 * GIB
    assert machine.cores(8) == 8 and machine.free_memory(8) == 100 * GIB // 8
    assert machine.cores(1000) == 1


def test_affinity_is_each_processes_own(host):
    host.affinity(8)
    assert machine.cores() == 8
    assert machine.cores(8) == 8  # eight processes bound to eight cores each
    assert machine.cores(16) == 4  # more of them than would fit side by side


def test_version_2(host):
    host(**{
        "proc/self/cgroup": "0::/slice/job",
        "sys/fs/cgroup/cgroup.procs": "",
        "sys/fs/cgroup/slice/cpu.max": "350000 100000",
        "sys/fs/cgroup/slice/memory.max": "max",
        "sys/fs/cgroup/slice/job/cpu.max": "max 100000",
        "sys/fs/cgroup/slice/job/memory.max": 8 * GIB,
        "sys/fs/cgroup/slice/job/memory.current": 6 * GIB,
        "sys/fs/cgroup/slice/job/memory.stat": f"anon 5\ninactive_file {3 * GIB}",
    })  # fmt: skip
    assert machine.cores() == 4  # 3.5 of the slice above the job's own group
    assert machine.cores(2) == 2
    assert machine.free_memory() == 5 * GIB  # file cache makes room
    assert machine.free_memory(5) == GIB


def test_the_tightest_of_nested_groups(host):
    host(**{
        "proc/self/cgroup": "0::/a/b",
        "sys/fs/cgroup/a/memory.max": 4 * GIB,
        "sys/fs/cgroup/a/memory.current": 3 * GIB,
        "sys/fs/cgroup/a/cpu.max": "1600000 100000",
        "sys/fs/cgroup/a/b/memory.max": 3 * GIB,
        "sys/fs/cgroup/a/b/memory.current": GIB,
        "sys/fs/cgroup/a/b/cpu.max": "800000 100000",
    })  # fmt: skip
    assert machine.free_memory() == GIB and machine.cores() == 8


def test_version_1(host):
    host(**{
        "proc/self/cgroup": "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n3:cpuset:/\n0::/docker/x",
        "sys/fs/cgroup/unified/docker/x/cgroup.procs": "",
        "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": 2 * GIB,
        "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": GIB,
        "sys/fs/cgroup/memory/docker/x/memory.stat": f"cache 7\ntotal_inactive_file {GIB // 2}",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 2**63 - 4096,
        "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": 250_000,
        "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": 100_000,
    })  # fmt: skip
    assert machine.cores() == 3 and machine.free_memory() == 3 * GIB // 2


def test_version_1_inside_a_container(host):
    """The path is the host's; the container sees its own group as the root."""
    host(**{
        "proc/self/cgroup": "5:memory:/docker/x\n4:cpu:/docker/x",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 2 * GIB,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": 3 * GIB,
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100_000,
    })  # fmt: skip
    assert machine.cores() == 64 and machine.free_memory() == 0


def test_odd_files_limit_nothing(host):
    host(**{
        "proc/self/cgroup": "0::/../../x",
        "sys/fs/cgroup/cpu.max": "",
        "sys/fs/cgroup/x/cpu.max": "max",
        "sys/fs/cgroup/memory.max": "what",
    })  # fmt: skip
    assert machine.cores() == 64 and machine.free_memory() == 100 * GIB


def test_no_linux(host, tmp_path, monkeypatch):
    (tmp_path / "proc/meminfo").unlink()
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert machine.free_memory() == 2_048_000 and machine.cores() == 64


def test_this_machine():
    assert 1 <= machine.cores() <= os.cpu_count() and machine.free_memory() > 0
