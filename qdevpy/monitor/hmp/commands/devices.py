# SPDX-License-Identifier: Apache-2.0
"""Devices, objects, buses and the composition tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from qdevpy.monitor.command import QmpError
from qdevpy.monitor.hmp.command import HmpCommand, HmpError, hmp
from qdevpy.monitor.hmp.monitor import Hmp


@hmp("device_add", "device:s?", "driver[,prop=value][,...]", "plug a device in, as -device")
def device_add(monitor: Hmp, *, device: str | None = None) -> str:
    """As -device; ``?`` lists types."""
    from qdevpy.cli.qemu.opts import parse_options
    from qdevpy.qdev.help import device_help

    if device is None:
        raise QmpError("Parameter 'driver' is missing")
    registry = monitor.machine.registry
    lines = device_help(registry, device) if registry is not None else []
    if lines:
        return "".join(f"{line}\n" for line in lines)
    options = parse_options(device, "driver")
    monitor.ctx.table.execute(monitor.ctx, "device_add", dict(options.items))
    return ""


@hmp("device_del", "id:s", "device", "ask for a device to go")
def device_del(monitor: Hmp, *, id: str) -> str:  # noqa: A002
    """As QMP's."""
    monitor.qmp("device_del", id=id)
    return ""


@hmp("object_add", "object:S", "[qom-type=]type,id=str[,prop=value][,...]", "add an object, as -object")
def object_add(monitor: Hmp, *, object: str) -> str:  # noqa: A002
    """As -object."""
    from qdevpy.cli.qemu import devices
    from qdevpy.monitor.hmp.drafts import create, entries

    for entry in entries(monitor.machine, devices.host_object, object):
        if (entry.section, entry.name) in monitor.machine.backends:
            raise QmpError(f"attempt to add duplicate property '{entry.name}' to object (type 'container')")
        create(monitor.machine, entry)
    return ""


@hmp("object_del", "id:s", "id", "take an object out")
def object_del(monitor: Hmp, *, id: str) -> str:  # noqa: A002
    """As QMP's."""
    monitor.qmp("object-del", id=id)
    return ""


@hmp("qom-list", "path:s?", "path", "list an object's properties")
def qom_list(monitor: Hmp, *, path: str | None = None) -> str:
    """As QEMU's."""
    if path is None:
        return "/\n"
    return "".join(f"{entry['name']} ({entry['type']})\n" for entry in monitor.qmp("qom-list", path=path))


@hmp("qom-get", "path:s,property:s", "path property", "print an object's property")
def qom_get(monitor: Hmp, *, path: str, property: str) -> str:  # noqa: A002
    """As QEMU's: in JSON."""
    return json.dumps(monitor.qmp("qom-get", path=path, property=property), indent=4) + "\n"


@hmp("qom-set", "json:-j,path:s,property:s,value:S", "[-j] path property value", "set an object's property (-j: from JSON)")
def qom_set(monitor: Hmp, *, path: str, property: str, value: str, **flags: bool) -> str:  # noqa: A002
    """As QEMU's."""
    parsed: Any = value
    if flags.get("json"):
        try:
            parsed = json.loads(value)
        except ValueError as error:
            raise QmpError(f"JSON parse error, {error}") from None
    monitor.qmp("qom-set", path=path, property=property, value=parsed)
    return ""


# -- trees


@hmp("qtree", help="show the device tree")
def info_qtree(monitor: Hmp) -> str:
    """As QEMU's."""
    from qdevpy.qdev.tree import format_tree

    return "".join(f"{line}\n" for line in format_tree(monitor.machine.root_buses))


@hmp("qom-tree", "path:s?", "[path]", "show the composition tree")
def info_qom_tree(monitor: Hmp, *, path: str | None = None) -> str:
    """As QEMU's."""
    from qdevpy.qdev.qom_text import format_qom_tree

    return "".join(f"{line}\n" for line in format_qom_tree(monitor.machine, path))


@hmp("qdm", help="list device types")
def info_qdm(monitor: Hmp) -> str:
    """As ``device_add help``, with types that only boards make."""
    from qdevpy.qdev.help import list_devices

    registry = monitor.machine.registry
    return "".join(f"{line}\n" for line in list_devices(registry, all_types=True)) if registry is not None else ""


@hmp("iothreads", help="show I/O threads")
def info_iothreads(monitor: Hmp) -> str:
    """As QEMU's."""
    shown = ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch")
    lines = []
    for thread in monitor.qmp("query-iothreads"):
        numbers = "".join(f"  {name}={thread[name]}\n" for name in shown)
        lines.append(f"{thread['id']}:\n  thread_id={thread['thread-id']}\n{numbers}")
    return "".join(lines)


# -- PCI


@hmp("pci", help="show PCI devices")
def info_pci(monitor: Hmp) -> str:
    """As QEMU's."""
    return "".join(line for bus in monitor.qmp("query-pci") for device in bus["devices"] for line in _pci_lines(device))


def _pci_lines(device: dict[str, Any]) -> Iterator[str]:
    identity, kind = device["id"], device["class_info"]
    yield f"  Bus {device['bus']:2}, device {device['slot']:3}, function {device['function']}:\n"
    name = kind.get("desc") or f"Class {kind['class']:04}"
    yield f"    {name}: PCI device {identity['vendor']:04x}:{identity['device']:04x}\n"
    if "subsystem" in identity:
        yield f"      PCI subsystem {identity['subsystem-vendor']:04x}:{identity['subsystem']:04x}\n"
    if "irq" in device:
        yield f"      IRQ {device['irq']}, pin {chr(ord('A') + device['irq_pin'] - 1)}\n"
    bridge = device.get("pci_bridge")
    if bridge is not None:
        yield from _bridge_lines(bridge["bus"])
    for region in device["regions"]:
        yield _region_line(region)
    yield f'      id "{device["qdev_id"]}"\n'
    for behind in (bridge or {}).get("devices", ()):
        yield from _pci_lines(behind)


def _bridge_lines(bus: dict[str, Any]) -> Iterator[str]:
    yield f"      BUS {bus['number']}.\n"
    yield f"      secondary bus {bus['secondary']}.\n"
    yield f"      subordinate bus {bus['subordinate']}.\n"
    yield f"      IO range [{bus['io_range']['base']:#06x}, {bus['io_range']['limit']:#06x}]\n"
    for name, text in (("memory_range", "memory"), ("prefetchable_range", "prefetchable memory")):
        yield f"      {text} range [{bus[name]['base']:#010x}, {bus[name]['limit']:#010x}]\n"


def _region_line(region: dict[str, Any]) -> str:
    """The end is computed in 64 bits, also where the BAR is not decoded, as QEMU does."""
    base = region["address"] & ((1 << 64) - 1)
    end = (base + region["size"] - 1) & ((1 << 64) - 1)
    if region["type"] == "io":
        return f"      BAR{region['bar']}: I/O at {base:#06x} [{end:#06x}].\n"
    width = 64 if region["mem_type_64"] else 32
    prefetch = " prefetchable" if region["prefetch"] else ""
    return f"      BAR{region['bar']}: {width} bit{prefetch} memory at {base:#010x} [{end:#010x}].\n"


# -- virtio


@hmp("virtio", help="list virtio devices")
def info_virtio(monitor: Hmp) -> str:
    """As QEMU's."""
    found = monitor.qmp("x-query-virtio")
    if not found:
        return "No VirtIO devices\n"
    return "".join(f"{entry['path']} [{entry['name']}]\n" for entry in found)


def _words(values: list[str], indent: str = "\t") -> str:
    return ",\n".join(f"{indent}{value}" for value in values) + "\n"


def _features(features: dict[str, Any]) -> str:
    unknown = features.get("unknown-dev-features")
    text = _words(features["transports"]) + _words(features.get("dev-features", []))
    return text.replace("\n\n", "\n") + (f"  unknown-features({unknown:#018x})\n" if unknown else "")


@hmp("virtio-status", "path:s", "path", "show a virtio device's status and features")
def info_virtio_status(monitor: Hmp, *, path: str) -> str:
    """As QEMU's."""
    status = monitor.qmp("x-query-virtio-status", path=path)

    def word(name: str) -> str:
        return "true" if status[name] else "false"

    return (
        f"{path}:\n"
        f"  device_name:             {status['name']} \n"
        f"  device_id:               {status['device-id']}\n"
        f"  vhost_started:           {word('vhost-started')}\n"
        f"  bus_name:                {status['bus-name'] or '(null)'}\n"
        f"  broken:                  {word('broken')}\n"
        f"  disabled:                {word('disabled')}\n"
        f"  disable_legacy_check:    {word('disable-legacy-check')}\n"
        f"  started:                 {word('started')}\n"
        f"  use_started:             {word('use-started')}\n"
        f"  start_on_kick:           {word('start-on-kick')}\n"
        f"  use_guest_notifier_mask: {word('use-guest-notifier-mask')}\n"
        f"  vm_running:              {word('vm-running')}\n"
        f"  num_vqs:                 {status['num-vqs']}\n"
        f"  queue_sel:               {status['queue-sel']}\n"
        f"  isr:                     {status['isr']}\n"
        f"  endianness:              {status['device-endian']}\n"
        f"  status:\n{_words(status['status']['statuses'])}"
        f"  Guest features:\n{_features(status['guest-features'])}"
        f"  Host features:\n{_features(status['host-features'])}"
        f"  Backend features:\n{_features(status['backend-features'])}"
    )


@hmp("virtio-queue-status", "path:s,queue:i", "path queue", "show a virtqueue's positions and addresses")
def info_virtio_queue_status(monitor: Hmp, *, path: str, queue: int) -> str:
    """As QEMU's."""
    status = monitor.qmp("x-query-virtio-queue-status", path=path, queue=queue)
    return (
        f"{path}:\n"
        f"  device_name:          {status['name']}\n"
        f"  queue_index:          {status['queue-index']}\n"
        f"  inuse:                {status['inuse']}\n"
        f"  used_idx:             {status['used-idx']}\n"
        f"  signalled_used:       {status['signalled-used']}\n"
        f"  signalled_used_valid: {'true' if status['signalled-used-valid'] else 'false'}\n"
        f"  last_avail_idx:       {status['last-avail-idx']}\n"
        f"  shadow_avail_idx:     {status['shadow-avail-idx']}\n"
        f"  VRing:\n"
        f"    num:          {status['vring-num']}\n"
        f"    num_default:  {status['vring-num-default']}\n"
        f"    align:        {status['vring-align']}\n"
        f"    desc:         {status['vring-desc']:#018x}\n"
        f"    avail:        {status['vring-avail']:#018x}\n"
        f"    used:         {status['vring-used']:#018x}\n"
    )


@hmp("virtio-vhost-queue-status", "path:s,queue:i", "path queue", "show a queue that vhost serves; there are none")
def info_virtio_vhost_queue_status(monitor: Hmp, *, path: str, queue: int) -> str:
    """As QEMU's without vhost: an error."""
    monitor.qmp("x-query-virtio-vhost-queue-status", path=path, queue=queue)
    raise HmpError("")


@hmp("virtio-queue-element", "path:s,queue:i,index:i?", "path queue [index]", "show a descriptor chain")
def info_virtio_queue_element(monitor: Hmp, *, path: str, queue: int, index: int | None = None) -> str:
    """As QEMU's."""
    element = monitor.qmp("x-query-virtio-queue-element", path=path, queue=queue, index=index)
    descs = ",\n".join(
        f"        addr {desc['addr']:#x} len {desc['len']}" + (f" ({', '.join(desc['flags'])})" if desc["flags"] else "")
        for desc in element["descs"]
    )
    avail, used = element["avail"], element["used"]
    return (
        f"{path}:\n  device_name: {element['name']}\n  index:   {element['index']}\n  desc:\n    descs:\n{descs}\n"
        f"  avail:\n    flags: {avail['flags']}\n    idx:   {avail['idx']}\n    ring:  {avail['ring']}\n"
        f"  used:\n    flags: {used['flags']}\n    idx:   {used['idx']}\n"
    )


COMMANDS: tuple[HmpCommand, ...] = (device_add, device_del, object_add, object_del, qom_list, qom_get, qom_set)
INFO: tuple[HmpCommand, ...] = (
    info_qtree,
    info_qom_tree,
    info_qdm,
    info_iothreads,
    info_pci,
    info_virtio,
    info_virtio_status,
    info_virtio_queue_status,
    info_virtio_vhost_queue_status,
    info_virtio_queue_element,
)
