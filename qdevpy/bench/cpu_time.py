# SPDX-License-Identifier: Apache-2.0
"""CPU time of a process's threads, as the kernel's scheduler counts it: the same way for every program."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple


class CPUTime(NamedTuple):
    """Nanoseconds that a process's threads have run.

    :ivar vcpu: threads that are vCPUs, guest time included
    :ivar others: all others, io_uring's workers included
    """

    vcpu: int
    others: int

    def since(self, earlier: CPUTime) -> CPUTime:
        """What was spent between the two."""
        return CPUTime(self.vcpu - earlier.vcpu, self.others - earlier.others)


def cpu_time(pid: int, vcpus: Collection[int]) -> CPUTime:
    """Read ``/proc/PID/task/TID/schedstat`` (Linux, Documentation/scheduler/sched-stats.rst) of every thread.

    A thread that ended takes its time with it, which matters little for those that a drive keeps.

    :param vcpus: thread ids of the vCPUs
    """
    times = {True: 0, False: 0}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            spent = int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
        times[int(task.name) in vcpus] += spent
    return CPUTime(times[True], times[False])
