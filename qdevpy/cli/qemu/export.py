# SPDX-License-Identifier: Apache-2.0
"""A definition as QEMU's command line; the way back of :mod:`.parser`.

What QEMU does not have is refused, with all reasons at once. What only later versions than 7.2 have is printed, with
a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qdevpy.cli.qemu import shared_memory
from qdevpy.cli.qemu.export_drive import export_drive
from qdevpy.cli.qemu.opts import join
from qdevpy.definition.dump import device_properties, size_text
from qdevpy.errors import QdevpyError
from qdevpy.qdev.kinds import Bool, Integer, Kind, Size
from qdevpy.qdev.property import Property, properties_of

if TYPE_CHECKING:
    from qdevpy.definition.model import BackendDefinition, DeviceDefinition, MachineDefinition, Value
    from qdevpy.plugin.registry import Registry

#: options of back ends that QEMU got after 7.2: section, type, option -> version
LATER = {
    ("chardevs", "file", "input-path"): "8.1",
    ("chardevs", "pty", "path"): "9.2",
    ("netdevs", "stream", "reconnect"): "8.0",
}
#: options of back ends that QEMU does not have -> what to do
MISSING = {
    ("netdevs", "user", "mtu"): "QEMU's user network has no such option; use host_mtu at the card",
    ("netdevs", "user", "passt"): "QEMU's user network is its own; remove it",
}
#: types of back ends that QEMU does not have -> what to do
MISSING_TYPES = {("netdevs", "null"): "QEMU has no such type; use a hubport of a hub of its own"}

#: what QEMU, too, takes for a number
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)")


class ExportError(QdevpyError):
    """A definition says what QEMU has no word for."""


class Exporter:
    """One definition to words.

    :ivar notes: what the reader of the command line should know
    """

    def __init__(self, definition: MachineDefinition, registry: Registry) -> None:
        self.definition = definition
        self.registry = registry
        self.notes: list[str] = []
        self._refused: list[str] = []

    def options(self) -> list[list[str]]:
        """Each option with its argument.

        :raises ExportError: everything that cannot be said
        """
        found = [word for part in (self._machine(), self._back_ends(), self._devices(), self._rest()) for word in part]
        if self._refused:
            raise ExportError("\n  ".join(["cannot be exported:", *self._refused]))
        return found

    def _refuse(self, value: str, position: object, because: str) -> None:
        self._refused.append(f"{position}: {value}: {because}")

    # -- machine

    def _machine(self) -> Iterator[list[str]]:
        definition = self.definition
        yield ["-nodefaults"]
        yield ["-no-user-config"]
        yield ["-display", "none"]
        if definition.name:
            yield ["-name", join([("guest", definition.name)])]
        if definition.uuid:
            yield ["-uuid", definition.uuid.given]
        declared = self.registry.board(definition.machine).options()
        chosen = dict(definition.machine_options)
        floppy_check = chosen.pop("fd-bootchk", None)  # an option of its own in QEMU 7.2
        yield ["-machine", join(_canonical_texts(chosen, declared), definition.machine)]
        if floppy_check is not None and not Bool().parse(floppy_check.given):
            yield ["-no-fd-bootchk"]
        if definition.accel == "none":
            self._refused.append("accel: none: QEMU has no machine without CPUs; use --set accel=kvm")
        yield ["-accel", definition.accel]
        if definition.memory:
            yield ["-m", size_text(definition.memory)]
        yield from shared_memory.export(definition, self.registry.board(definition.machine)().default_memory)
        if definition.topology:
            yield ["-smp", join([("cpus", str(definition.cpus)), *((k, str(v)) for k, v in definition.topology.items())])]
        elif definition.cpus != 1:
            yield ["-smp", str(definition.cpus)]
        if definition.cpu:
            yield ["-cpu", definition.cpu.given]
        if definition.rtc:
            yield ["-rtc", join(_texts(definition.rtc))]
        yield from self._boot()

    def _boot(self) -> Iterator[list[str]]:
        boot = self.definition.boot
        for folder in self.definition.data_dirs:
            yield ["-L", folder]
        for option, key in (("-bios", "firmware"), ("-kernel", "kernel"), ("-initrd", "initrd"), ("-append", "cmdline")):
            value = getattr(boot, key)
            if value is None:
                continue
            if key in ("initrd", "cmdline") and boot.kernel is None:
                self.notes.append(f"boot: {key}: QEMU takes {option} together with -kernel only")
            yield [option, value.given]
        told = {
            name.replace("_", "-"): value.given
            for name in ("order", "once", "menu", "strict", "reboot_timeout", "splash_time")
            if (value := getattr(boot, name)) is not None
        }
        if told:
            yield [
                "-boot",
                join(
                    (name, _canonical(Bool(), text)) if name in ("menu", "strict") else (name, text)
                    for name, text in told.items()
                ),
            ]
        for name, entry in self.definition.fw_cfg.items():
            yield ["-fw_cfg", join([("name", name), *_texts(entry)])]
        for fields in self.definition.smbios:
            yield ["-smbios", join(_texts(fields))]

    # -- back ends

    def _back_ends(self) -> Iterator[list[str]]:
        for section, option in (("objects", "-object"), ("chardevs", "-chardev"), ("netdevs", "-netdev"), ("drives", "")):
            for entry in getattr(self.definition, section).values():
                if (because := MISSING_TYPES.get((section, entry.type))) is not None:
                    self._refuse(f"{section}: {entry.name}: type {entry.type}", entry.position, because)
                    continue
                texts = self._option_texts(section, entry)
                if section == "drives":
                    yield from self._drive(entry, texts)
                else:
                    pairs = OPTIONS[section](entry.type, texts) if section in OPTIONS else texts.items()
                    yield [option, join([("id", entry.name), *pairs], entry.type)]

    def _drive(self, entry: BackendDefinition, texts: dict[str, str]) -> Iterator[list[str]]:
        try:
            yield export_drive(entry.name, texts)
        except ValueError as error:
            self._refuse(f"drives: {entry.name}", entry.position, str(error))

    def _option_texts(self, section: str, entry: BackendDefinition) -> dict[str, str]:
        declared = properties_of(self.registry.backend_type(section, entry.type))
        texts = dict(_canonical_texts(entry.options, declared))
        for name in list(texts):
            place = (section, entry.type, name)
            what = f"{section}: {entry.name}: {name}"
            if place in MISSING:
                self._refuse(what, entry.options[name].position, MISSING[place])
            elif place in LATER:
                self.notes.append(f"{what}: QEMU has it from version {LATER[place]} on")
        return texts

    # -- devices

    def _devices(self) -> Iterator[list[str]]:
        for entry in self.definition.devices:
            declared = device_properties(self.registry, entry.type)
            lists = [name for name in entry.options if name in declared and declared[name].kind.is_list]
            if lists:
                self.notes.append(f"{entry.type}: {', '.join(lists)}: QEMU has it from version 9.0 on, and for virtio-blk")
                yield ["-device", _json_text(entry, declared)]
            else:
                yield ["-device", join(_canonical_texts(entry.options, declared), entry.type)]
        for default in self.definition.globals:
            declared = device_properties(self.registry, default.type) or self.registry.base_properties().get(default.type, {})
            text = dict(_canonical_texts({default.property: default.value}, declared))[default.property]
            yield ["-global", f"{default.type}.{default.property}={text}"]

    # -- everything else

    def _rest(self) -> Iterator[list[str]]:
        definition = self.definition
        if definition.faults is not None:
            self.notes.append("faults: QEMU has nothing of the kind; they are left out")
        for monitor in definition.monitors:
            pretty = [("pretty", "on")] if monitor.pretty else []
            yield ["-mon", join([("chardev", monitor.chardev.given), ("mode", monitor.mode), *pretty])]
        if definition.qtest is not None:
            yield ["-qtest", f"chardev:{definition.qtest.chardev.given}"]
            if definition.qtest.log is not None:
                yield ["-qtest-log", definition.qtest.log.given]
        if definition.run.paused:
            yield ["-S"]
        if definition.run.preconfig:
            yield ["--preconfig"]
        if not definition.run.reboot:
            yield ["-no-reboot"]
        if not definition.run.shutdown:
            yield ["-no-shutdown"]
        if definition.run.panic != "shutdown":
            yield ["-action", f"panic={definition.run.panic}"]


def _json_text(entry: DeviceDefinition, declared: Mapping[str, Property]) -> str:
    """A device as JSON: the only way in which QEMU takes lists."""
    import json

    found: dict[str, Any] = {"driver": entry.type}
    for name, value in entry.options.items():
        kind = declared[name].kind if name in declared else None
        typed = kind is not None and kind.json_type != "string" and kind.legacy is None  # "addr" is either
        found[name] = kind.to_json(kind.parse(value.given)) if kind is not None and typed else value.given
    return json.dumps(found)


def _texts(options: Mapping[str, Value]) -> list[tuple[str, str]]:
    return [(name, value.given) for name, value in options.items()]


def _canonical_texts(options: Mapping[str, Value], declared: Mapping[str, Property]) -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        yield name, _canonical(declared[name].kind, value.given) if name in declared else value.given


def _canonical(kind: Kind, text: str) -> str:
    """TEXT as every part of QEMU takes it: booleans are words, numbers have no underscores."""
    if isinstance(kind, Bool):
        return "on" if kind.parse(text) else "off"
    if isinstance(kind, Size):
        return size_text(kind.parse(text))
    if isinstance(kind, Integer) and not _PLAIN_NUMBER.fullmatch(text):
        return str(kind.parse(text))
    return text


# -- ours to QEMU's, where they differ


def _chardev(type_name: str, options: dict[str, str]) -> Iterable[tuple[str, str]]:
    if type_name == "stdio":
        if options.get("mux") == "auto":
            del options["mux"]
        if options.pop("signal", "off") == "off":
            options["signal"] = "off"
    if type_name == "socket":
        if "port" in options:
            options.setdefault("host", "localhost")
        if options.get("server") == "on":
            options.setdefault("wait", "off")
    return options.items()


def _netdev(type_name: str, options: dict[str, str]) -> Iterator[tuple[str, str]]:
    if type_name == "tap" and not {"fd", "fds"}.intersection(options):
        options = {"script": "no", "downscript": "no", **options}
    if type_name == "stream":
        options = {"addr.type": "unix", **options}
    if type_name == "dgram":
        options = {"local.type": "unix", **options}
        if options["local.type"] != "fd":
            options.setdefault("remote.type", "unix")
    for name, text in options.items():
        if (type_name, name) == ("user", "hostfwd"):
            yield from (("hostfwd", forward) for forward in text.split())
        else:
            yield name, text


OPTIONS: dict[str, Callable[[str, dict[str, str]], Iterable[tuple[str, str]]]] = {"chardevs": _chardev, "netdevs": _netdev}
