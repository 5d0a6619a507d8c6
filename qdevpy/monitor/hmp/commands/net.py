# SPDX-License-Identifier: Apache-2.0
"""Networks."""

from __future__ import annotations

from collections.abc import Iterator

from qdevpy.backend.netdev import NetDev
from qdevpy.monitor.commands.net import Card, cards, netdevs
from qdevpy.monitor.hmp.command import HmpCommand, hmp
from qdevpy.monitor.hmp.monitor import Hmp
from qdevpy.qdev.kinds import MacAddr

#: announce_self's, in milliseconds (QEMU: migrate's announce- parameters)
ANNOUNCE = {"initial": 50, "max": 550, "rounds": 5, "step": 100}


@hmp("netdev_add", "netdev:s", "type,id=str[,prop=value][,...]", "add a network back end")
def netdev_add(monitor: Hmp, *, netdev: str) -> str:
    """As -netdev."""
    from qdevpy.cli.qemu import devices
    from qdevpy.monitor.command import QmpError
    from qdevpy.monitor.hmp.drafts import create, entries

    for entry in entries(monitor.machine, devices.netdev, netdev):
        if (entry.section, entry.name) in monitor.machine.backends:
            raise QmpError(f"Duplicate ID '{entry.name}'")
        create(monitor.machine, entry)
    return ""


@hmp("netdev_del", "id:s", "id", "take a network back end out")
def netdev_del(monitor: Hmp, *, id: str) -> str:  # noqa: A002
    """As QMP's."""
    monitor.qmp("netdev_del", id=id)
    return ""


@hmp("set_link", "name:s,up:b", "name on|off", "plug the cable of a network card in or out")
def set_link(monitor: Hmp, *, name: str, up: bool) -> str:
    """As QMP's."""
    monitor.qmp("set_link", name=name, up=up)
    return ""


@hmp("announce_self", "interfaces:s?,id:s?", "[interfaces] [id]", "tell the networks where the machine is now")
def announce_self(monitor: Hmp, *, interfaces: str | None = None, id: str | None = None) -> str:  # noqa: A002
    """As QMP's; INTERFACES with commas between."""
    monitor.qmp("announce-self", interfaces=interfaces.split(",") if interfaces else None, id=id, **ANNOUNCE)
    return ""


@hmp("network", help="show network cards and back ends")
def info_network(monitor: Hmp) -> str:
    """As QEMU's: hubs, then cards with what they are plugged into, and back ends that no card has."""
    found = list(cards(monitor.machine))
    taken = {id(card.card.netdev) for card in found}
    return "".join([*_hubs(monitor, found), *_cards(monitor, found), *_others(monitor, taken)])


def _hubs(monitor: Hmp, found: list[Card]) -> Iterator[str]:
    ports: dict[int, list[NetDev]] = {}
    for netdev in netdevs(monitor.machine):
        hub = getattr(netdev, "hubid", None)
        if isinstance(hub, int):
            ports.setdefault(hub, []).append(netdev)
    for hub, members in sorted(ports.items()):
        yield f"hub {hub}\n"
        for netdev in members:
            card = next((each for each in found if each.card.netdev is netdev), None)
            yield f" \\ {netdev.name}" + (f": {_card_text(card)}" if card is not None else "\n")


def _card_text(card: Card) -> str:
    mac = MacAddr().format(card.card.address)
    return f"{card.name}: index=0,type=nic,model={card.model},macaddr={mac}\n"


def _cards(monitor: Hmp, found: list[Card]) -> Iterator[str]:
    for card in found:
        netdev = card.card.netdev
        if hasattr(netdev, "hubid"):
            continue
        yield _card_text(card)
        if netdev is not None and monitor.machine.backends.get(("netdevs", netdev.name)) is netdev:
            yield f" \\ {_netdev_text(netdev)}"


def _netdev_text(netdev: NetDev) -> str:
    return f"{netdev.name}: index=0,type={netdev.type_name},{netdev.summary}\n"


def _others(monitor: Hmp, taken: set[int]) -> Iterator[str]:
    for netdev in netdevs(monitor.machine):
        if id(netdev) not in taken and not hasattr(netdev, "hubid"):
            yield _netdev_text(netdev)


COMMANDS: tuple[HmpCommand, ...] = (netdev_add, netdev_del, set_link, announce_self)
INFO: tuple[HmpCommand, ...] = (info_network,)
