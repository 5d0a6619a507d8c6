# SPDX-License-Identifier: Apache-2.0
"""Devices that come and go (QEMU: qapi/qdev.json)."""

from __future__ import annotations

from typing import Any

from qdevpy.errors import PathError
from qdevpy.monitor.command import Context, QmpError, command
from qdevpy.vm import hotplug


@command("device_add", gen=False)
def device_add(ctx: Context, options: dict[str, Any], /) -> None:
    """Plug a device in; the members are those of an entry of ``devices:``, and ``driver``."""
    hotplug.device_add(ctx.machine, options)


@command("device_del")
def device_del(ctx: Context, *, id: str) -> None:  # noqa: A002 - QMP's name
    """Ask for a device to go; the event DEVICE_DELETED tells when it has."""
    try:
        hotplug.device_del(ctx.machine, id)
    except PathError as error:
        raise QmpError(str(error), "DeviceNotFound") from None


COMMANDS = (device_add, device_del)
