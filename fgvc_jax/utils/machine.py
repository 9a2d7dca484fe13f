"""What this process may use of the machine: cores and memory.

The machine's own numbers are wrong in a container, under a batch system and where several processes
share a host. So the limits of the control groups (cgroup versions 1 and 2, of this process's group
and all above it), the affinity mask and the number of processes are taken into account.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")  # of the files below /proc and /sys
UNLIMITED = 2**60  # bytes; cgroup version 1 says 2**63 less a page


def cores(processes_here: int = 1) -> int:
    """Cores that this process may keep busy, at least 1, of `processes_here` alike on this host.

    The cores of the host, or the quota of the container, are shared among the processes; the
    affinity mask is each process's own, as batch systems set it.
    """
    online = os.cpu_count() or 1
    share = math.ceil(min([online, *_core_quotas()])) // processes_here
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else online
    return max(min(share, affinity), 1)


def free_memory(processes_here: int = 1) -> int:
    """Bytes that this process may still take, of `processes_here` alike on this host.

    What the system, or the container, holds as file cache only is free.
    """
    return max(min([_available(), *_memory_left()]), 0) // processes_here


def _available() -> int:
    for line in _text(ROOT / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    # Not Linux: half of what there is, since nobody says what is free.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _core_quotas() -> Iterator[float]:
    """Cores that each control group grants, where it limits them."""
    for group in _groups(""):
        granted, *period = _text(group / "cpu.max").split() or ["max"]
        if granted != "max":
            yield int(granted) / int(period[0])
    for group in _groups("cpu"):
        quota = _number(group / "cpu.cfs_quota_us", -1)
        if quota > 0:
            yield quota / _number(group / "cpu.cfs_period_us", 100_000)


def _memory_left() -> Iterator[int]:
    """Bytes that each control group leaves, where it limits them."""
    files = {
        "": ("memory.max", "memory.current", "inactive_file"),
        "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }
    for controller, (limit_file, usage_file, cache) in files.items():
        for group in _groups(controller):
            limit = _number(group / limit_file, UNLIMITED)
            if limit < UNLIMITED:
                statistics = dict(
                    line.split() for line in _text(group / "memory.stat").splitlines()
                )
                used = _number(group / usage_file, 0) - int(statistics.get(cache, 0))
                yield limit - used


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process's control group and of all above it, for a controller of version 1,
    or for version 2 where it is "".

    Inside a container the group's path may be the host's, whose folders are not to be seen: then
    the container's own group is the root.
    """
    for line in _text(ROOT / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        for name in (controllers, controller) if controller else ("unified", ""):
            top = ROOT / "sys/fs/cgroup" / name
            parts = [part for part in path.split("/") if part not in ("", ".", "..")]
            if top.is_dir():
                folders = (top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))
                yield from (folder for folder in folders if folder.is_dir())
                break


def _number(file: Path, default: int) -> int:
    """The number in a file; `default` where it says "max" or is not there."""
    text = _text(file).strip()
    return int(text) if text.lstrip("-").isdigit() else default


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
