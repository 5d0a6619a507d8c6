# SPDX-License-Identifier: Apache-2.0
"""The machine that figures were made on, named well enough to judge them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path


def describe_host(*folders: Path) -> dict[str, str]:
    """Name and value of what figures depend on.

    :param folders: whose file systems matter
    """
    facts = {
        "CPU": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "kernel": platform.release(),
        "KVM": ", ".join(_kvm_modules()) or "built in",
    }
    for folder in folders:
        facts[f"file system of {folder}"] = file_system_of(folder)
    return facts


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _kvm_modules() -> Iterator[str]:
    modules = Path("/sys/module")
    for name in ("kvm_intel", "kvm_amd", "kvm_pvm"):
        if (modules / name).exists():
            yield name


def file_system_of(folder: Path) -> str:
    """Type of the file system that holds FOLDER; "unknown" where the kernel does not tell."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[2] == wanted:
            return words[words.index("-") + 1]
    return "unknown"


def is_tmpfs(folder: Path) -> bool:
    """Whether files in FOLDER are in memory."""
    return folder.is_dir() and file_system_of(folder) in ("tmpfs", "ramfs")
