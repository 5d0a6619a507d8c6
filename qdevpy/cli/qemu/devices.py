# SPDX-License-Identifier: Apache-2.0
"""Options about devices and what they refer to: -device, -global, -object, -netdev, -nic, -net."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from qdevpy.cli.qemu import shared_memory
from qdevpy.cli.qemu.draft import Draft
from qdevpy.cli.qemu.opts import CommandLineError, Options, parse_options
from qdevpy.definition.nodes import List, Map, Node, Text
from qdevpy.errors import UnknownNameError, did_you_mean
from qdevpy.qdev.device import Notification

if TYPE_CHECKING:
    from qdevpy.qdev.types import DeviceType


#: names that ``-nic model=`` has for device types
NIC_ALIASES = {"virtio": "virtio-net-pci"}


def device(draft: Draft, text: str) -> None:
    """``-device TYPE,id=ID,NAME=VALUE``."""
    options = parse_options(text, "driver")
    type_name = options.need("driver")
    kind = find_device_type(draft, type_name)
    if kind.ioeventfd is Notification.FORBIDDEN:
        options.only("ioeventfd", "off", "no", "false", because="this device serves kicks at once; remove it")
    lists = take_lists(draft, options, [name for name, declared in kind.properties.items() if declared.kind.is_list])
    item = draft.device(type_name, options.rest())
    item.entries[type_name][1].entries.update(lists)
    draft.append("devices", item)


def take_lists(draft: Draft, options: Options, names: Iterable[str]) -> dict[str, tuple[Text, Node]]:
    """What JSON said of properties that are lists, which is among OPTIONS by names like ``NAME.0.KEY``; entries of a map."""
    found: dict[str, tuple[Text, Node]] = {}
    for name in names:
        root: dict[str, Any] = {}
        for key, text in options.items:
            if key.startswith(f"{name}."):
                *way, last = key.split(".")[1:]
                place = root
                for step in way:
                    place = place.setdefault(step, {})
                place[last] = text
        if root:
            options.items = [item for item in options.items if not item[0].startswith(f"{name}.")]
            found[name] = (draft.text(name), as_node(draft, root))
    return found


def as_node(draft: Draft, value: Any) -> Node:
    """A map, or a list where its keys are numbers, of what is in VALUE."""
    if isinstance(value, str):
        return draft.text(value)
    if all(key.isdigit() for key in value):
        return List([as_node(draft, inner) for inner in value.values()], draft.at)
    return Map({key: (draft.text(key), as_node(draft, inner)) for key, inner in value.items()}, draft.at)


def find_device_type(draft: Draft, type_name: str) -> DeviceType:
    """:raises CommandLineError: there is none of that name, in QEMU's words."""
    try:
        return draft.registry.device_type(type_name)
    except UnknownNameError:
        hint = did_you_mean(type_name, draft.registry.device_types) or "; '-device help' lists them"
        note = draft.registry.broken_note()
        raise CommandLineError(f"'{type_name}' is not a valid device model name{hint}{note}") from None


def global_default(draft: Draft, text: str) -> None:
    """``-global DRIVER.PROPERTY=VALUE`` or ``driver=,property=,value=``."""
    name, equals, value = text.partition("=")
    driver, dot, prop = name.partition(".")
    if not (equals and dot and driver and prop):
        options = parse_options(text)
        driver, prop, value = options.need("driver"), options.need("property"), options.need("value")
        options.end()
    if not is_known_driver(draft, driver):  # QEMU, too, only warns
        draft.note(f"nothing is of type '{driver}', and so nothing came of it")
        return
    draft.put(value, "global", f"{driver}.{prop}")


def is_known_driver(draft: Draft, name: str) -> bool:
    """Whether some device type has that name, or is derived from one that has."""
    try:
        draft.registry.device_type(name)
    except UnknownNameError:
        return name in draft.registry.base_properties()
    return True


def host_object(draft: Draft, text: str) -> None:
    """``-object TYPE,id=ID,...``."""
    options = parse_options(text, "qom-type")
    type_name, name = options.need("qom-type"), options.need("id")
    if type_name in shared_memory.SHAREABLE:
        shared_memory.take_object(draft, type_name, name, options)
        return
    known = draft.registry.backend_names("objects")
    if type_name not in known:
        hint = did_you_mean(type_name, known) or f"; expected one of {', '.join(known)}"
        raise CommandLineError(f"Parameter 'qom-type' does not accept value '{type_name}'{hint}")
    draft.entry("objects", name, {"type": type_name, **options.rest()})


# -- network


def netdev(draft: Draft, text: str) -> None:
    """``-netdev TYPE,id=ID,...``."""
    options = parse_options(text, "type")
    type_name = options.need("type")
    if type_name == "socket":
        type_name = take_socket(options)
    check_netdev_type(draft, type_name)
    add_netdev(draft, type_name, options.need("id"), options)


def take_socket(options: Options) -> str:
    """``-netdev socket,fd=NUMBER`` as its successors say it, ``stream`` or ``dgram`` after the socket's own kind.

    :raises CommandLineError: an address instead of a number, or the number of no socket
    """
    number = options.pop("fd")
    if number is None:
        raise CommandLineError("Parameter 'type': value 'socket' goes with 'fd' only; for addresses there are stream and dgram")
    kind, prefix = ("dgram", "local") if socket_is_datagram(number) else ("stream", "addr")
    options.items += [(f"{prefix}.type", "fd"), (f"{prefix}.str", number)]
    return kind


def socket_is_datagram(number: str) -> bool:
    """Whether the socket that we inherited as descriptor NUMBER keeps messages apart.

    :raises CommandLineError: it is no socket
    """
    import socket

    try:
        with socket.socket(fileno=os.dup(int(number))) as inherited:
            return inherited.type == socket.SOCK_DGRAM
    except (ValueError, OSError, OverflowError):
        raise CommandLineError(f"Parameter 'fd' expects the number of an open socket, not '{number}'") from None


def check_netdev_type(draft: Draft, type_name: str) -> None:
    """:raises CommandLineError: there is none of that name."""
    known = draft.registry.backend_names("netdevs")
    if type_name not in known:
        hint = did_you_mean(type_name, known) or f"; expected one of {', '.join(known)}"
        if type_name == "socket":
            hint = "; its successors are stream and dgram"
        raise CommandLineError(f"Parameter 'type' does not accept value '{type_name}'{hint}")


def add_netdev(draft: Draft, type_name: str, name: str, options: Options) -> None:
    """An entry of ``netdevs:``."""
    found: dict[str, str] = {}
    if type_name == "user":
        # one text here; in QEMU the option is repeated, or a JSON list of {"str": TEXT}
        forwards = options.pop_all("hostfwd")
        forwards += [text for key, text in options.items if key.startswith("hostfwd.")]
        options.items = [item for item in options.items if not item[0].startswith("hostfwd.")]
        if forwards:
            found["hostfwd"] = " ".join(forwards)
    draft.entry("netdevs", name, {"type": type_name, **found, **options.rest()})


def nic(draft: Draft, text: str) -> None:
    """``-nic none``; or a netdev and its card in one. Cards come before the devices of ``-device``, as QEMU's do."""
    if text == "none":
        return
    options = parse_options(text, "type")
    type_name = options.need("type")
    check_netdev_type(draft, type_name)
    model = options.pop("model") or "virtio-net-pci"
    model = NIC_ALIASES.get(model, model)
    find_device_type(draft, model)
    card = {name: value for name in ("mac", "addr") if (value := options.pop(name)) is not None}
    draft.nic_count += 1
    name = options.pop("id") or f"nic{draft.nic_count - 1}"
    add_netdev(draft, type_name, name, options)
    draft.board_devices.append(draft.device(model, {"netdev": name, **card}))


def net(draft: Draft, text: str) -> None:
    """``-net none``; everything else of it is history."""
    if text != "none":
        raise CommandLineError("expected none; write -netdev and -device, or -nic")
