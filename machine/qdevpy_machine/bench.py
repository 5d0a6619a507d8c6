# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy bench`` measures of KVM, of the machine as a whole, and of devices in Python."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence

from qdevpy.bench.footprint import PRIVATE, RESIDENT, FootprintGuest
from qdevpy.bench.guest import Guest
from qdevpy.bench.measurement import KICK_RATE, P50, REQUESTS
from qdevpy.bench.program import Launch, Program
from qdevpy.bench.suite import PEER, QDEVPY, Place, Rig, Row, Setting, Start, Suite, Target
from qdevpy_machine.bare import AWAITED, QUIET
from qdevpy_machine.bench_device import DEVICE_ID
from qdevpy_machine.bench_start import TIME, StartTimer

# -- KVM alone

BARE = "bare"


def _command(launch: Launch) -> list[str]:
    return [sys.executable, "-m", "qdevpy_machine.bare", str(launch.kernel), str(launch.serial)]


BARE_PROGRAM = Program(BARE, "bare KVM", platform.release(), _command, has_monitor=False)
BARE_RIG = Rig("bare", lambda setting, place: ())


def _bare_row(name: str, words: str) -> Row:
    return Row(name, BARE_RIG, f"bare {words} count=4000", P50, (BARE,))


# -- the machine as a whole


def _demo_devices(setting: Setting, place: Place) -> Sequence[str]:
    """Those of the packaged definition "demo"."""
    image = place.memory / "demo.img"
    image.write_bytes(bytes(16 << 20))
    options = ["-chardev", "null,id=term", "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=term"]
    options += ["-drive", f"file={image},format=raw,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk,serial=demo0"]
    for port in ("left", "right"):
        options += ["-netdev", f"hubport,id={port},hubid=0", "-device", f"virtio-net-pci,netdev={port}"]
    return [*options, "-device", "isa-debug-exit,iobase=0x501"]


DEMO = Rig("demo", _demo_devices, memory=64, session=FootprintGuest.of)
#: QEMU's own choice of firmware, or the one that does less
START_SETTINGS = {PEER: [Setting("default"), Setting("qboot", {"option": "-bios", "value": "qboot.rom"})]}
START = Rig("start", lambda setting, place: (), START_SETTINGS, session=StartTimer)


# -- a device in Python


def _sink(start: Start) -> Guest:
    """A machine with the device of :mod:`qdevpy_machine.bench_device`, which an entry point of its own declares."""
    declared = start.place.disk / "qdevpy_bench_device-0.dist-info"
    declared.mkdir(exist_ok=True)
    (declared / "METADATA").write_text("Metadata-Version: 2.1\nName: qdevpy-bench-device\nVersion: 0\n")
    (declared / "entry_points.txt").write_text("[qdevpy]\nbench_device = qdevpy_machine.bench_device\n")
    devices = ["-device", "virtio-bench-sink-pci"]
    environment = {"PYTHONPATH": str(start.place.disk)}
    return Guest(start.program, start.rig, devices, start.kernel, environment=environment)


PYTHON = Rig("python", lambda setting, place: (), session=_sink)


def _rows() -> Iterator[Row]:
    yield _bare_row("bare-kick", f"address={QUIET['mmio']:#x}")
    yield _bare_row("bare-kick-awaited", f"address={AWAITED['mmio']:#x}")
    yield _bare_row("bare-kick-port", f"port={QUIET['pio']:#x}")
    kick_the_disk = "kick sort=2 count=100"
    yield Row("memory-resident", DEMO, kick_the_disk, RESIDENT)
    yield Row("memory-anonymous", DEMO, kick_the_disk, PRIVATE)
    yield Row("start", START, "start", TIME)
    sink = f"queue sort={DEVICE_ID} size=64 depth=64"
    yield Row("python-kicks", PYTHON, f"{sink} kicks=all", KICK_RATE, (QDEVPY,))
    yield Row("python-requests", PYTHON, sink, REQUESTS, (QDEVPY,))


def _targets() -> Iterator[Target]:
    text = "vCPU's cost of a kick with ioeventfd, over a bare KVM ioeventfd write"
    yield Target(text, "blk-kick", "bare-kick", BARE, 1.05, at_least=False)
    yield Target(f"{text} that a thread waits for", "blk-kick", "bare-kick-awaited", BARE, 1.05, at_least=False)
    text = "resident memory beyond guest RAM, demo machine, over QEMU's"
    yield Target(text, "memory-resident", "memory-resident", PEER, 1.0, at_least=False)
    text = "process start to first guest instruction, over QEMU -M microvm"
    yield Target(text, "start", "start", PEER, 2.0, at_least=False)
    yield Target("Python-only virtio device, kicks/s", "python-kicks", None, QDEVPY, 50_000, at_least=True)


def suite() -> Suite:
    """Rows and targets of KVM, the machine and Python."""
    return Suite(list(_rows()), list(_targets()), [BARE_PROGRAM])
