# SPDX-License-Identifier: Apache-2.0
"""``-readconfig``: options from an ini file (``util/qemu-config.c`` of QEMU).

::

    [device "disk0"]        is  -device id=disk0,driver=virtio-blk-pci
      driver = "virtio-blk-pci"
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from qdevpy.cli.qemu import blocks, chars, devices, machine, process
from qdevpy.cli.qemu.draft import Draft
from qdevpy.cli.qemu.opts import CommandLineError, escape
from qdevpy.errors import did_you_mean

_GROUP = re.compile(r'\[([a-z-]+)(?: "([^"\]]*)")?\]')
_VALUE = re.compile(r'([A-Za-z0-9_.-]+)\s*=\s*"([^"]*)"')

#: group -> who carries it out
GROUPS = {
    "machine": machine.machine,
    "accel": machine.accel,
    "memory": machine.memory,
    "smp-opts": machine.smp,
    "boot-opts": machine.boot,
    "rtc": machine.rtc,
    "name": machine.name,
    "action": machine.action,
    "fw_cfg": machine.fw_cfg,
    "device": devices.device,
    "global": devices.global_default,
    "object": devices.host_object,
    "netdev": devices.netdev,
    "drive": blocks.drive,
    "blockdev": blocks.blockdev,
    "chardev": chars.chardev,
    "mon": chars.mon,
    "msg": process.messages,
}


def read_config_file(draft: Draft, path: str) -> None:
    """Carry out every group of a file.

    :raises CommandLineError: it cannot be read, a line is malformed, or a group is unknown
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandLineError(f"Cannot read config file {path}: {reason}") from None
    for number, group, pairs in list(_groups(draft, path, lines)):
        draft.enter(f"{path}:{number}")
        if group not in GROUPS:
            hint = did_you_mean(group, GROUPS) or f"; expected one of {', '.join(GROUPS)}"
            raise CommandLineError(f"There is no option group '{group}'{hint}")
        GROUPS[group](draft, ",".join(f"{name}={escape(value)}" for name, value in pairs))


def _groups(draft: Draft, path: str, lines: list[str]) -> Iterator[tuple[int, str, list[tuple[str, str]]]]:
    """Line number, name and values of each group."""
    found: list[tuple[int, str, list[tuple[str, str]]]] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if match := _GROUP.fullmatch(text):
            found.append((number, match[1], [("id", match[2])] if match[2] is not None else []))
        elif (match := _VALUE.fullmatch(text)) and found:
            found[-1][2].append((match[1], match[2]))
        else:
            draft.enter(f"{path}:{number}")
            reason = "no group defined" if _VALUE.fullmatch(text) else 'expected [GROUP "ID"], or NAME = "VALUE"'
            raise CommandLineError(f"parse error: {reason}")
    yield from found
