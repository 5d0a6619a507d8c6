# SPDX-License-Identifier: Apache-2.0
"""Commands on networks (QEMU: qapi/net.json)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, Required, TypedDict

from qdevpy.backend.card import NetCard, RxState
from qdevpy.backend.netdev import NetDev
from qdevpy.monitor.announce import Announcement
from qdevpy.monitor.command import Context, QmpError, UInt32, Union, command
from qdevpy.qdev.device import Device
from qdevpy.qdev.kinds import MacAddr
from qdevpy.vm.backends import create_backend, is_identifier
from qdevpy.vm.machine import Machine

# -- cards


class Card(NamedTuple):
    """A card in the machine.

    :ivar name: the device's id, or ``MODEL.N``
    :ivar device: what the user put in: the transport, where the card is on one
    """

    name: str
    model: str
    device: Device
    card: NetCard


def cards(machine: Machine) -> Iterator[Card]:
    """All cards with the names QEMU gives them: a card without id has its model's name and how many came before."""
    counts: Counter[str] = Counter()
    for device in machine.devices():
        if not isinstance(device, NetCard):
            continue
        outer = device.qom_parent if isinstance(device.qom_parent, Device) else device
        model = outer.type_name
        yield Card(outer.id or f"{model}.{counts[model]}", model, outer, device)
        counts[model] += 1


def netdevs(machine: Machine) -> Iterator[NetDev]:
    """All netdevs, in the order they came."""
    yield from (backend for backend in machine.backends.values() if isinstance(backend, NetDev))


# -- netdevs


class NetdevBase(NamedTuple):
    """What all types take."""

    id: str


class StringValue(TypedDict):
    """A string in an object, for lists of them."""

    str: str


class SocketAddressUnix(TypedDict):
    """A UNIX socket."""

    path: str


class SocketAddressFd(TypedDict):
    """A descriptor that we inherited, by number."""

    str: str


ADDRESS = Union("type", {"unix": SocketAddressUnix, "fd": SocketAddressFd})
SocketAddress = Annotated[dict[str, Any], ADDRESS]


class NetdevHubPortOptions(TypedDict):
    """``type: hubport``."""

    hubid: int


class NetdevNullOptions(TypedDict):
    """``type: null``, which QEMU has not: frames are dropped."""


class NetdevTapOptions(TypedDict, total=False):
    """``type: tap``."""

    ifname: str
    fd: str
    fds: str
    script: str
    downscript: str
    sndbuf: int
    vnet_hdr: bool
    vhost: bool
    queues: UInt32


class NetdevUserOptions(TypedDict, total=False):
    """``type: user``."""

    ipv4: bool
    ipv6: bool
    hostfwd: list[StringValue]


class NetdevStreamOptions(TypedDict, total=False):
    """``type: stream``."""

    addr: Required[SocketAddress]
    server: bool
    reconnect: int


class NetdevDgramOptions(TypedDict, total=False):
    """``type: dgram``."""

    local: SocketAddress
    remote: SocketAddress


NETDEV = Union(
    "type",
    {
        "dgram": NetdevDgramOptions,
        "hubport": NetdevHubPortOptions,
        "null": NetdevNullOptions,
        "stream": NetdevStreamOptions,
        "tap": NetdevTapOptions,
        "user": NetdevUserOptions,
    },
    base=NetdevBase,
)


def flatten(options: dict[str, Any]) -> dict[str, Any]:
    """Nested options joined by dots, as back ends have them; lists of strings with spaces between."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        match value:
            case dict():
                found.update((f"{name}.{key}", inner) for key, inner in flatten(value).items())
            case list():
                found[name] = " ".join(item["str"] for item in value)
            case _:
                found[name] = value
    return found


@command("netdev_add", allow_preconfig=True)
def netdev_add(ctx: Context, options: Annotated[dict[str, Any], NETDEV], /) -> None:
    """Add a network back end."""
    given = flatten(options)
    kind, name = given.pop("type"), given.pop("id")
    if not is_identifier(name):
        raise QmpError("Parameter 'id' expects an identifier")
    if ("netdevs", name) in ctx.machine.backends:
        raise QmpError(f"Duplicate ID '{name}'")
    create_backend(ctx.machine, "netdevs", kind, name, given)


@command("netdev_del", allow_preconfig=True)
def netdev_del(ctx: Context, *, id: str) -> None:  # noqa: A002 - the member's name
    """Take a network back end out; a card that had it stays, without a network."""
    if ("netdevs", id) not in ctx.machine.backends:
        raise QmpError(f"Device '{id}' not found", "DeviceNotFound")
    ctx.machine.remove_backend("netdevs", id)


# -- links and announcements


@command("set_link")
def set_link(ctx: Context, *, name: str, up: bool) -> None:
    """Plug the cable of a card in or out; NAME is the card's or that of what it is plugged into."""
    for card in cards(ctx.machine):
        if name == card.name or (card.card.netdev is not None and card.card.netdev.name == name):
            card.card.set_link(up)
            return
    if ("netdevs", name) not in ctx.machine.backends:
        raise QmpError(f"Device '{name}' not found", "DeviceNotFound")


@command("announce-self")
def announce_self(
    ctx: Context,
    *,
    initial: int,
    max: int,  # noqa: A002 - the member's name
    rounds: int,
    step: int,
    interfaces: list[str] | None = None,
    id: str | None = None,  # noqa: A002
) -> None:
    """Tell networks where the machine is now: frames of our own, and the drivers are asked to do likewise.

    Times are milliseconds. An announcement of the same id ends; ``rounds: 0`` does only that.
    """
    running: dict[str, Announcement] = ctx.machine.announcements
    previous = running.pop(id or "", None)
    if previous is not None:
        previous.cancel()
    if rounds <= 0:
        return

    def once() -> None:
        for card in list(cards(ctx.machine)):
            if not interfaces or card.name in interfaces:
                Announcement.announce(card.card)

    running[id or ""] = Announcement(ctx.machine.loop, once, initial=initial, longest=max, rounds=rounds, step=step)
    running[id or ""].start()


# -- receive filters


class RxFilterInfo(NamedTuple):
    """The receive filter of a card."""

    name: str
    promiscuous: bool
    multicast: RxState
    unicast: RxState
    vlan: RxState
    broadcast_allowed: bool
    multicast_overflow: bool
    unicast_overflow: bool
    main_mac: str
    vlan_table: list[int]
    unicast_table: list[str]
    multicast_table: list[str]


@command("query-rx-filter")
def query_rx_filter(ctx: Context, *, name: str | None = None) -> list[RxFilterInfo]:
    """The receive filters of all cards, or of the one called NAME."""
    wanted = [card for card in cards(ctx.machine) if name in (None, card.name)]
    if name is not None and not wanted:
        raise QmpError(f"invalid net client name: {name}")
    found = [info for card in wanted if (info := _rx_filter(card)) is not None]
    if name is not None and not found:
        raise QmpError(f"net client({name}) doesn't support rx-filter querying")
    return found


def _rx_filter(card: Card) -> RxFilterInfo | None:
    state = card.card.receive_state()
    if state is None:
        return None
    text = MacAddr().format
    return RxFilterInfo(
        name=card.name,
        promiscuous=state.promiscuous,
        multicast=state.multicast,
        unicast=state.unicast,
        vlan=state.vlan,
        broadcast_allowed=state.broadcast,
        multicast_overflow=state.overflow[1],
        unicast_overflow=state.overflow[0],
        main_mac=text(state.mac),
        vlan_table=state.vlan_table,
        unicast_table=[text(mac) for mac in state.unicast_table],
        multicast_table=[text(mac) for mac in state.multicast_table],
    )


COMMANDS = (netdev_add, netdev_del, set_link, announce_self, query_rx_filter)
