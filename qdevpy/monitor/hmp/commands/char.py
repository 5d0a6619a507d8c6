# SPDX-License-Identifier: Apache-2.0
"""Character devices."""

from __future__ import annotations

from qdevpy.monitor.command import QmpError
from qdevpy.monitor.commands.char import find_chardev
from qdevpy.monitor.hmp.command import HmpCommand, hmp
from qdevpy.monitor.hmp.monitor import Hmp


@hmp("chardev-add", "args:s", "args", "add a character device, as -chardev")
def chardev_add(monitor: Hmp, *, args: str) -> str:
    """As -chardev."""
    from qdevpy.cli.qemu import chars
    from qdevpy.monitor.hmp.drafts import create, entries

    for entry in entries(monitor.machine, chars.chardev, args):
        if (entry.section, entry.name) in monitor.machine.backends:
            raise QmpError(f"Chardev with id '{entry.name}' already exists")
        create(monitor.machine, entry)
    return ""


@hmp("chardev-change", "id:s,args:s", "id args", "put another character device in the place of one")
def chardev_change(monitor: Hmp, *, id: str, args: str) -> str:  # noqa: A002
    """As QMP's."""
    from qdevpy.cli.qemu import chars
    from qdevpy.monitor.hmp.drafts import create, entries

    old = find_chardev(monitor.machine, id)
    if old.user is not None:
        raise QmpError("Chardev user does not support chardev hotswap")
    (entry,) = entries(monitor.machine, chars.chardev, f"{args},id={id}")
    monitor.machine.remove_backend("chardevs", id)
    create(monitor.machine, entry)
    return ""


@hmp("chardev-remove", "id:s", "id", "take a character device out")
def chardev_remove(monitor: Hmp, *, id: str) -> str:  # noqa: A002
    """As QMP's."""
    monitor.qmp("chardev-remove", id=id)
    return ""


@hmp("chardev-send-break", "id:s", "id", "send the guest a break")
def chardev_send_break(monitor: Hmp, *, id: str) -> str:  # noqa: A002
    """As QMP's."""
    monitor.qmp("chardev-send-break", id=id)
    return ""


@hmp("ringbuf_write", "device:s,data:s", "device data", "add to a ring buffer")
def ringbuf_write(monitor: Hmp, *, device: str, data: str) -> str:
    """As QMP's."""
    monitor.qmp("ringbuf-write", device=device, data=data)
    return ""


@hmp("ringbuf_read", "device:s,size:i", "device size", "take out of a ring buffer")
def ringbuf_read(monitor: Hmp, *, device: str, size: int) -> str:
    """As QEMU's: control characters and backslashes are written in C's way."""
    data: str = monitor.qmp("ringbuf-read", device=device, size=size)
    shown = (char if char.isprintable() or char in "\n\t" else f"\\{ord(char):03o}" for char in data.replace("\\", "\\\\"))
    return "".join(shown) + "\n"


@hmp("chardev", help="show character devices")
def info_chardev(monitor: Hmp) -> str:
    """As QEMU's."""
    return "".join(f"{entry['label']}: filename={entry['filename']}\n" for entry in monitor.qmp("query-chardev"))


COMMANDS: tuple[HmpCommand, ...] = (
    chardev_add,
    chardev_change,
    chardev_remove,
    chardev_send_break,
    ringbuf_write,
    ringbuf_read,
)
INFO: tuple[HmpCommand, ...] = (info_chardev,)
