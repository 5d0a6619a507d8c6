# SPDX-License-Identifier: Apache-2.0
"""Commands on character devices (QEMU: qapi/char.json)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Required, TypedDict

from qdevpy.backend.chardev import Chardev
from qdevpy.backend.chardev_ringbuf import RingbufChardev
from qdevpy.errors import BackendError
from qdevpy.monitor.command import Context, QmpError, Union, command
from qdevpy.vm.backends import create_backend
from qdevpy.vm.machine import Machine


class ChardevInfo(NamedTuple):
    """A character device; ``frontend_open``: the device that has it listens."""

    label: str
    filename: str
    frontend_open: bool


class ChardevBackendInfo(NamedTuple):
    """A type of character devices."""

    name: str


def chardevs(machine: Machine) -> Iterator[Chardev]:
    """All, in the order they came."""
    yield from (backend for backend in machine.backends.values() if isinstance(backend, Chardev))


def find_chardev(machine: Machine, name: str) -> Chardev:
    """:raises QmpError: there is none."""
    for chardev in chardevs(machine):
        if chardev.name == name:
            return chardev
    raise QmpError(f"Chardev '{name}' not found")


@command("query-chardev", allow_preconfig=True)
def query_chardev(ctx: Context) -> list[ChardevInfo]:
    """All character devices."""
    return [ChardevInfo(chardev.name, chardev.filename, chardev.frontend_open) for chardev in chardevs(ctx.machine)]


@command("query-chardev-backends")
def query_chardev_backends(ctx: Context) -> list[ChardevBackendInfo]:
    """The types there are."""
    registry = ctx.machine.registry
    return [ChardevBackendInfo(name) for name in (registry.backend_names("chardevs") if registry is not None else [])]


# -- adding


class InetSocketAddress(TypedDict, total=False):
    """TCP."""

    host: str
    port: str
    to: int
    ipv4: bool
    ipv6: bool


class UnixSocketAddress(TypedDict):
    """A UNIX socket."""

    path: str


class FdSocketAddress(TypedDict):
    """A socket that we inherited, by number."""

    str: str


class InetWrapper(TypedDict):
    """As QAPI nests them."""

    data: InetSocketAddress


class UnixWrapper(TypedDict):
    """As QAPI nests them."""

    data: UnixSocketAddress


class FdWrapper(TypedDict):
    """As QAPI nests them."""

    data: FdSocketAddress


ADDRESS = Union("type", {"inet": InetWrapper, "unix": UnixWrapper, "fd": FdWrapper})
SocketAddressLegacy = Annotated[dict[str, Any], ADDRESS]


class ChardevCommon(TypedDict, total=False):
    """What all take."""

    logfile: str
    logappend: bool


ChardevFile = TypedDict("ChardevFile", {"in": NotRequired[str], "out": str, "append": NotRequired[bool]})


class ChardevStdio(ChardevCommon, total=False):
    """``type: stdio``."""

    signal: bool


class ChardevRingbuf(ChardevCommon, total=False):
    """``type: ringbuf``."""

    size: int


class ChardevSocket(ChardevCommon, total=False):
    """``type: socket``; there is no TLS or WebSocket here."""

    addr: Required[SocketAddressLegacy]
    server: bool
    wait: bool
    nodelay: bool
    telnet: bool
    reconnect: int


class ChardevUdp(ChardevCommon, total=False):
    """``type: udp``."""

    remote: Required[SocketAddressLegacy]
    local: SocketAddressLegacy


class ChardevHostdev(ChardevCommon):
    """``type: pipe``: its path."""

    device: str


class CommonWrapper(TypedDict):
    """As QAPI nests them."""

    data: ChardevCommon


class FileWrapper(TypedDict):
    """As QAPI nests them."""

    data: ChardevFile


class StdioWrapper(TypedDict):
    """As QAPI nests them."""

    data: ChardevStdio


class SocketWrapper(TypedDict):
    """As QAPI nests them."""

    data: ChardevSocket


class UdpWrapper(TypedDict):
    """As QAPI nests them."""

    data: ChardevUdp


class HostdevWrapper(TypedDict):
    """As QAPI nests them."""

    data: ChardevHostdev


class RingbufWrapper(TypedDict):
    """As QAPI nests them."""

    data: ChardevRingbuf


BACKEND = Union(
    "type",
    {
        "file": FileWrapper,
        "pipe": HostdevWrapper,
        "socket": SocketWrapper,
        "udp": UdpWrapper,
        "pty": CommonWrapper,
        "null": CommonWrapper,
        "stdio": StdioWrapper,
        "ringbuf": RingbufWrapper,
        "memory": RingbufWrapper,
    },
)
ChardevBackend = Annotated[dict[str, Any], BACKEND]


class ChardevReturn(NamedTuple):
    """The pseudo-terminal's name, where there is one."""

    pty: str | None = None


def backend_options(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Options of a chardev of ours, of QAPI's."""
    found = dict(data)
    if kind == "file":
        found["path"] = found.pop("out")
        found["input-path"] = found.pop("in", None)
    elif kind == "pipe":
        found["path"] = found.pop("device")
    elif kind == "socket":
        found.update(address_options(found.pop("addr")))
        if not found.setdefault("server", True):  # QAPI's default is a server that waits
            found.pop("wait", None)
    elif kind == "udp":
        found.update(address_options(found.pop("remote")))
        local = address_options(found.pop("local", {"type": "inet", "data": {}}))
        found.update(localaddr=local.get("host"), localport=local.get("port"))
    return found


def address_options(address: dict[str, Any]) -> dict[str, Any]:
    """Of a socket's address."""
    data = address["data"]
    if address["type"] == "inet":
        return {"host": data.get("host"), "port": data.get("port")}
    return {"path": data["path"]} if address["type"] == "unix" else {"fd": data["str"]}


@command("chardev-add")
def chardev_add(ctx: Context, *, id: str, backend: ChardevBackend) -> ChardevReturn:  # noqa: A002 - the member's name
    """Add a character device."""
    if ("chardevs", id) in ctx.machine.backends:
        raise QmpError(f"Chardev with id '{id}' already exists")
    return add_chardev(ctx.machine, id, backend)


def add_chardev(machine: Machine, name: str, backend: dict[str, Any]) -> ChardevReturn:
    """:raises QmpError: it cannot be opened."""
    kind = {"memory": "ringbuf"}.get(backend["type"], backend["type"])
    try:
        made = create_backend(machine, "chardevs", kind, name, backend_options(kind, backend["data"]))
    except BackendError as error:
        raise QmpError(f"Failed to add chardev '{name}': {error}") from error
    return ChardevReturn(getattr(made, "device", None))


@command("chardev-change")
def chardev_change(ctx: Context, *, id: str, backend: ChardevBackend) -> ChardevReturn:  # noqa: A002
    """Put another character device in the place of one that nobody uses."""
    old = find_chardev(ctx.machine, id)
    if old.user is not None:
        raise QmpError("Chardev user does not support chardev hotswap")
    ctx.machine.remove_backend("chardevs", id)
    return add_chardev(ctx.machine, id, backend)


@command("chardev-remove")
def chardev_remove(ctx: Context, *, id: str) -> None:  # noqa: A002
    """Take a character device out that nobody uses."""
    if find_chardev(ctx.machine, id).user is not None:
        raise QmpError(f"Chardev '{id}' is busy")
    ctx.machine.remove_backend("chardevs", id)


@command("chardev-send-break")
def chardev_send_break(ctx: Context, *, id: str) -> None:  # noqa: A002
    """Send the guest a break."""
    find_chardev(ctx.machine, id).send_event("break")


# -- ring buffers

DataFormat = Literal["utf8", "base64"]


def find_ringbuf(machine: Machine, name: str) -> RingbufChardev:
    """:raises QmpError: there is none, or it is of another type."""
    found = machine.backends.get(("chardevs", name))
    if found is None:
        raise QmpError(f"Device '{name}' not found")
    if not isinstance(found, RingbufChardev):
        raise QmpError(f"{name} is not a ringbuf device")
    return found


@command("ringbuf-write")
def ringbuf_write(ctx: Context, *, device: str, data: str, format: DataFormat | None = None) -> None:  # noqa: A002
    """Add to a ring buffer, as a device's output would."""
    ringbuf = find_ringbuf(ctx.machine, device)
    try:
        ringbuf.write(base64.b64decode(data, validate=True) if format == "base64" else data.encode())
    except binascii.Error as error:
        raise QmpError(f"Invalid base64: {error}") from None


@command("ringbuf-read")
def ringbuf_read(ctx: Context, *, device: str, size: int, format: DataFormat | None = None) -> str:  # noqa: A002
    """Take out the oldest bytes; those that are no UTF-8 become U+FFFD."""
    ringbuf = find_ringbuf(ctx.machine, device)
    if size <= 0:
        raise QmpError("size must be greater than zero")
    data = ringbuf.read(size)
    return base64.b64encode(data).decode() if format == "base64" else data.decode(errors="replace")


COMMANDS = (
    query_chardev,
    query_chardev_backends,
    chardev_add,
    chardev_change,
    chardev_remove,
    chardev_send_break,
    ringbuf_write,
    ringbuf_read,
)
