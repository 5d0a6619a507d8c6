# SPDX-License-Identifier: Apache-2.0
"""A board, devices and back ends to write definitions for; nothing here works, all of it has properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from qdevpy.backend import BUILT_IN
from qdevpy.backend.base import Backend
from qdevpy.definition.model import MachineDefinition
from qdevpy.plugin import hookimpl
from qdevpy.plugin.discovery import EntryPoint
from qdevpy.plugin.manager import load_plugins
from qdevpy.plugin.registry import Registry
from qdevpy.qdev import property as prop
from qdevpy.qdev.bus import Bus
from qdevpy.qdev.device import Device, Notification
from qdevpy.vm.board import Board

Load = Callable[..., MachineDefinition]
Complain = Callable[..., list[str]]


class PciBus(Bus):
    bus_type = "PCI"


class IsaBus(Bus):
    bus_type = "ISA"


class PortBus(Bus):
    bus_type = "virtio-serial-bus"


class Pc(Board):
    """A board with two buses and nothing on them."""

    type_name: ClassVar[str] = "pc"
    aliases = ("pc-1.0",)
    buses: ClassVar[dict[str, str]] = {"pci.0": "PCI", "isa.0": "ISA"}
    chips: ClassVar[dict[tuple[str, int], str]] = {("pci.0", 0x08): "PIIX3"}
    max_memory = 64 << 30
    max_cpus = 8

    def add_memory(self, machine: Any) -> None: ...

    def build(self, machine: Any) -> None:
        machine.add_root_bus(PciBus("pci.0"))
        machine.add_root_bus(IsaBus("isa.0"))

    def prepare_boot(self, machine: Any) -> None:
        return None


class Pci(Device):
    type_name: ClassVar[str] = "virtio-pci"
    bus_type = "PCI"
    addr: int | None = prop.pci_devfn(help="place on the bus")
    vectors: int = prop.uint32(2, help="MSI-X vectors")


class Disk(Pci):
    description: ClassVar[str] = "a disk"
    type_name: ClassVar[str] = "virtio-blk-pci"
    ioeventfd = Notification.ALLOWED
    drive: Any = prop.drive(help="the disk's content")
    iothread: Any = prop.link("iothread", help="thread that serves it")
    serial: str | None = prop.string(help="serial number")
    use_ioeventfd: bool = prop.boolean(True, name="ioeventfd", help="kicks by ioeventfd")
    write_cache: str = prop.on_off_auto(help="write-back cache")
    romfile: str | None = prop.path(help="option ROM", must_exist=True)


class Nic(Pci):
    type_name: ClassVar[str] = "virtio-net-pci"
    netdev: Any = prop.netdev(help="the host's side")
    mac: bytes | None = prop.macaddr(help="address")


class SerialBus(Pci):
    type_name: ClassVar[str] = "virtio-serial-pci"
    ioeventfd = Notification.FORBIDDEN
    offers_bus: ClassVar[str | None] = "virtio-serial-bus"

    def do_realize(self) -> None:
        self.add_bus(PortBus(f"{self.id}.0", self))


class Console(Device):
    type_name: ClassVar[str] = "virtconsole"
    bus_type = "virtio-serial-bus"
    chardev: Any = prop.chardev(help="the other end")


class IsaSerial(Device):
    type_name: ClassVar[str] = "isa-serial"
    bus_type = "ISA"
    chardev: Any = prop.chardev(help="the other end")


class HostBridge(Device):
    type_name: ClassVar[str] = "i440FX"
    bus_type = "PCI"
    user_creatable = False


class Drive(Backend):
    type_name: ClassVar[str] = "drive"
    section: ClassVar[str] = "drives"
    required: ClassVar[tuple[str, ...]] = ("file",)
    file: str | None = prop.path(help="image", must_exist=True)
    format: str = prop.enum("raw", choices=("raw",), type_name="Format", help="format")
    readonly: bool = prop.boolean(help="no writes")
    cache_direct: bool = prop.boolean(name="cache.direct", help="O_DIRECT")


class Tap(Backend):
    type_name: ClassVar[str] = "tap"
    section: ClassVar[str] = "netdevs"
    ifname: str | None = prop.string(help="interface")


class NullNetDev(Backend):
    type_name: ClassVar[str] = "null"
    section: ClassVar[str] = "netdevs"


class NullChardev(Backend):
    type_name: ClassVar[str] = "null"
    section: ClassVar[str] = "chardevs"


class Socket(Backend):
    type_name: ClassVar[str] = "socket"
    section: ClassVar[str] = "chardevs"
    path: str | None = prop.path(help="where to listen")


BACKENDS = {
    "drives": {"drive": f"{__name__}:Drive"},
    "netdevs": {"tap": f"{__name__}:Tap", "null": f"{__name__}:NullNetDev"},
    "chardevs": {"null": f"{__name__}:NullChardev", "socket": f"{__name__}:Socket"},
}


@hookimpl
def qdevpy_boards() -> list[type[Board]]:
    return [Pc]


@hookimpl
def qdevpy_devices() -> list[type[Device]]:
    return [Disk, Nic, SerialBus, Console, IsaSerial, HostBridge]


@hookimpl
def qdevpy_definitions() -> list[str]:
    return [f"{__file__.removesuffix('.py')}.yaml"]


def registry_of_parts(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of what is in this module, and nothing else; for the time of a test."""
    for section, types in BACKENDS.items():
        monkeypatch.setitem(BUILT_IN, section, types)
    return load_plugins([EntryPoint("parts", __name__, "lab-parts")])
