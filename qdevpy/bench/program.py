# SPDX-License-Identifier: Apache-2.0
"""The programs that are compared, and how each is told to run the measuring guest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from qdevpy.bench.suite import PEER, QDEVPY, Rig
from qdevpy.errors import QdevpyError

#: what QEMU needs for the guest: SeaBIOS, its default, takes seconds where a KVM emulates firmware's instructions
_QBOOT = ("-bios", "qboot.rom")
#: the KVM of some hosts lacks the register that this feature promises
_CPU = ("-cpu", "host,-arch-capabilities")


class BenchError(QdevpyError):
    """A measurement cannot be made: a program is missing, ended early, or its guest said something else."""


@attrs.frozen
class Launch:
    """What a program is to run.

    :ivar devices: the rig's options
    :ivar serial, monitor: UNIX sockets to connect to, for the guest's serial port and for QMP
    """

    rig: Rig
    devices: Sequence[str]
    kernel: Path
    serial: Path
    monitor: Path


@attrs.frozen
class Program:
    """Something that runs the guest.

    :ivar role: what rows call it
    :ivar name: what the table calls it
    :ivar version: as it says
    :ivar command: its command line
    :ivar executable: the program alone, for rigs that start it in their own way
    :ivar has_monitor: it speaks QMP, so that its vCPU threads can be told from others
    """

    role: str
    name: str
    version: str
    command: Callable[[Launch], Sequence[str]] = attrs.field(eq=False)
    executable: Sequence[str] = ()
    has_monitor: bool = True


def qemu_options(launch: Launch) -> list[str]:
    """LAUNCH as the options that QEMU and qdevpy take alike."""
    options = [
        "-M",
        "pc",
        "-accel",
        "kvm",
        "-m",
        str(launch.rig.memory),
        "-smp",
        str(launch.rig.vcpus),
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
    ]
    options += ["-kernel", str(launch.kernel), "-append", "bench"]
    options += ["-chardev", f"socket,id=serial,path={launch.serial}", "-serial", "chardev:serial"]
    options += ["-chardev", f"socket,id=monitor,path={launch.monitor}", "-mon", "chardev=monitor,mode=control"]
    return [*options, *launch.devices]


def qdevpy_program() -> Program:
    """The qdevpy that runs, as its program for QEMU's options."""
    from qdevpy import __version__

    def command(launch: Launch) -> list[str]:
        return [sys.executable, "-m", "qdevpy.cli.qemu", *qemu_options(launch)]

    return Program(QDEVPY, "qdevpy", __version__, command)


def peer_program(path: str) -> Program:
    """The QEMU at PATH, or of that name in PATH.

    :raises BenchError: there is none, or it does not say what it is
    """
    found = shutil.which(path)
    if found is None:
        raise BenchError(f"--against {path}: no such program; give QEMU's name or path (Debian: apt install qemu-system-x86)")
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"--against {path}: it does not tell its version: {error}") from error
    if not said.startswith("QEMU emulator"):
        raise BenchError(f"--against {path}: this is no QEMU: it says '{said.splitlines()[0] if said else ''}'")

    def command(launch: Launch) -> list[str]:
        return [found, *_QBOOT, *_CPU, *qemu_options(launch)]

    version = said.splitlines()[0].removeprefix("QEMU emulator version ")
    return Program(PEER, "QEMU", version, command, (found, *_CPU))


def clean_environment() -> dict[str, str]:
    """The environment for programs: byte code is kept, as it is for users."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
