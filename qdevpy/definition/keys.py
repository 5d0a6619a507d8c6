# SPDX-License-Identifier: Apache-2.0
"""The keys of a definition: names, kinds of values, defaults, a line of help each. Declared once.

A map of keys is called as the key that it stands under.

:mod:`.load` and :mod:`.settings` check with them, :mod:`.schema` makes a JSON schema of them. What stands under
``drives:`` and its like, ``devices:``, ``global:`` and ``machine-options:`` is what back ends, device types and boards declare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from qdevpy.qdev.kinds import Bool, Enum, Integer, Kind, Path, Size, Str
from qdevpy.qdev.value_schema import Schema, matching


class Key(NamedTuple):
    """One key of a map.

    :ivar help: one line
    :ivar kind: of its value; None: a map or a list
    :ivar default: as users would write it; None: there is none
    :ivar required: it must be there, in the map that has it
    """

    help: str
    kind: Kind | None = None
    default: str | None = None
    required: bool = False


class Matching(Str):
    """Text of a form.

    :param pattern: a regular expression that the whole text matches
    :param accepts: the form in words
    """

    def __init__(self, pattern: str, accepts: str) -> None:
        self.pattern = pattern
        self.accepts = accepts

    def parse(self, given: Any) -> str:
        """The text."""
        if not re.fullmatch(self.pattern, str(given)):
            raise ValueError(f"expected {self.accepts}")
        return str(given)

    def schema(self) -> Schema:
        """Texts of the form."""
        return matching(self.pattern)


class Name(Str):
    """The name of something that plugins offer; whoever knows them checks it."""


class Reference(Str):
    """The name of an entry of another section.

    :param section: which
    """

    def __init__(self, section: str) -> None:
        self.accepts = f"the name of an entry of {section}:"


#: ids and names, as QEMU's id_wellformed()
NAME = Matching("[A-Za-z][A-Za-z0-9._-]*", "a letter, then letters, digits, '-', '.' and '_'")
ACCEL = Enum("Accelerator", ("kvm", "qtest", "none"))
MIN_MEMORY = 1 << 20
PAGE = 4096
#: letters of -boot: floppies, disks, CD, network
_ORDER = Matching("[a-p]*", "letters from a to p, as in cdn")
#: QEMU's FW_CFG_MAX_FILE_PATH, less the null character
LONGEST_FW_CFG_NAME = 55

KEYS: Mapping[str, Key] = {
    "include": Key("a file, or a list of files, that this one is laid over"),
    "machine": Key("the board, or an alias of it; 'qdevpy machines' lists them", Name(), "pc"),
    "accel": Key("what runs the guest: KVM, QEMU's qtest protocol (no CPUs), or nothing (the device tree only)", ACCEL, "kvm"),
    "memory": Key("RAM: a size in whole pages of 4K, from 1M to what the board takes", Size()),
    "cpus": Key("virtual CPUs, from 1 to what the board takes", Integer("uint16", 1, 0xFFFF), "1"),
    "boot": Key("what is booted"),
    "drives": Key("disk images, by name"),
    "netdevs": Key("the host's side of network cards, by name"),
    "chardevs": Key("the host's side of serial ports and consoles, by name"),
    "objects": Key("everything else that devices refer to, by id"),
    "devices": Key("devices, plugged in this order; each is TYPE: {PROPERTY: VALUE}, or TYPE alone"),
    "global": Key("defaults for all devices of a type, or derived from it: TYPE.PROPERTY: VALUE"),
    "name": Key("what people call the guest", Str()),
    "uuid": Key(
        "of the machine; firmware tables have it",
        Matching("[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", "8-4-4-4-12 hexadecimal digits"),
    ),
    "machine-options": Key("options of the board"),
    "cpu": Key("CPU model and features: host, or host,-avx2", Str()),
    "topology": Key("how the CPUs are arranged; the product must be cpus"),
    "rtc": Key("the clock"),
    "run": Key("how the machine starts and ends"),
    "monitors": Key("QMP and human monitors"),
    "qtest": Key("where QEMU's qtest protocol is served"),
    "fw_cfg": Key("files for the firmware, by name"),
    "smbios": Key("additions to the SMBIOS tables: {type: N, FIELD: VALUE}, or {file: PATH}"),
    "data-dirs": Key("folders in which firmware and option ROMs are looked for first"),
    "faults": Key("what goes wrong on purpose"),
}
#: keys that a boot without firmware has
BOOT_FILES: Mapping[str, Key] = {
    "kernel": Key("a Linux bzImage, or an ELF kernel (64-bit entry, or PVH)", Path(must_exist=True)),
    "initrd": Key("the initial RAM disk", Path(must_exist=True)),
    "cmdline": Key("the kernel's command line", Str()),
}
BOOT_SETTINGS: Mapping[str, Key] = {
    "firmware": Key("a BIOS image: a path, or a name that is looked for in data-dirs and the board's own places", Path()),
    "order": Key("drive letters in the order in which firmware tries them: c disk, d CD, n network", _ORDER),
    "once": Key("as order, until the first reset", _ORDER),
    "menu": Key("firmware offers a menu", Bool()),
    "strict": Key("firmware tries nothing but devices that have a bootindex", Bool()),
    "reboot-timeout": Key(
        "milliseconds after which firmware that found nothing starts again; -1: never", Integer("int32", -1, 0xFFFF)
    ),
    "splash-time": Key("milliseconds that firmware shows its picture", Integer("uint16", 0, 0xFFFF)),
}
BOOT: Mapping[str, Key] = {**BOOT_FILES, **BOOT_SETTINGS}
_FACTOR = Integer("uint16", 1, 0xFFFF)
TOPOLOGY: Mapping[str, Key] = {
    "sockets": Key("packages", _FACTOR, "1"),
    "dies": Key("dies of a socket; they count as cores", _FACTOR, "1"),
    "cores": Key("cores of a die", _FACTOR, "1"),
    "threads": Key("threads of a core; a power of two", _FACTOR, "1"),
}
RTC: Mapping[str, Key] = {
    "base": Key(
        "what the clock shows at the start",
        Matching(
            r"utc|localtime|\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d)?",
            "utc, localtime, or a date as in 2006-06-17T16:01:21 or 2006-06-17",
        ),
        "utc",
    ),
    "clock": Key(
        "what it follows; rt: the host's monotonic clock; vm: stands while the machine is stopped",
        Enum("RtcClock", ("host", "rt", "vm")),
        "host",
    ),
    "driftfix": Key("slew: interrupts that the guest missed come later", Enum("LostTickPolicy", ("none", "slew")), "none"),
}
RUN: Mapping[str, Key] = {
    "paused": Key("wait for a monitor's 'cont' before the first instruction", Bool(), "off"),
    "reboot": Key("off: a reset of the guest ends the machine", Bool(), "on"),
    "shutdown": Key("off: after power-off the machine stays, for monitors to look at", Bool(), "on"),
    "panic": Key(
        "what a panic of the guest does", Enum("PanicAction", ("shutdown", "pause", "exit-failure", "none")), "shutdown"
    ),
    "preconfig": Key("wait for QMP's x-exit-preconfig before the machine is built", Bool(), "off"),
}
MONITORS: Mapping[str, Key] = {
    "chardev": Key("where it is served", Reference("chardevs"), required=True),
    "mode": Key("control: QMP; readline: QEMU's human monitor", Enum("MonitorMode", ("control", "readline")), "control"),
    "pretty": Key("QMP's answers are indented", Bool(), "off"),
}
QTEST: Mapping[str, Key] = {
    "chardev": Key("where it is served", Reference("chardevs"), required=True),
    "log": Key("file that gets every line; none: it is not kept", Path(words=("none",))),
}
FW_CFG: Mapping[str, Key] = {
    "file": Key("the file's contents are this file's", Path(must_exist=True)),
    "string": Key("the file's contents are this text", Str()),
}
FAULTS: Mapping[str, Key] = {
    "log": Key("file that gets a JSON object a line for each fault that fires", Path()),
    "replay": Key(
        "such a file of an earlier run: its faults hit the same requests, and inject is not carried out", Path(must_exist=True)
    ),
    "seed": Key("decides what probabilities come to", Integer("uint64", 0, (1 << 64) - 1), "0"),
    "inject": Key("rules, each DEVICE: {what: EFFECT, ...}; DEVICE is an id"),
}
