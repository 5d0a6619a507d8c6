# SPDX-License-Identifier: Apache-2.0
"""Back ends that come while the machine runs; the words of errors are QEMU's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qdevpy.errors import BackendError

if TYPE_CHECKING:
    from qdevpy.backend.base import Backend
    from qdevpy.qdev.device import Device
    from qdevpy.vm.machine import Machine

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


def is_identifier(name: str) -> bool:
    """Whether QEMU takes NAME as an id: a letter, then letters, digits and ``-._``."""
    return _IDENTIFIER.fullmatch(name) is not None


def create_backend(machine: Machine, section: str, type_name: str, name: str, options: Mapping[str, Any]) -> Backend:
    """Make and open a back end.

    :param options: text or plain values; those that are None are left out
    :raises QdevpyError: no such type, an option that it has not or that is missing, or it cannot be opened
    """
    if machine.registry is None:
        raise BackendError("this machine takes no back ends while it runs")
    kind = machine.registry.backend_type(section, type_name)
    given = {option: value for option, value in options.items() if value is not None}
    for choice in kind.required:
        if not any(option in given for option in choice.split("|")):
            raise BackendError(f"Parameter '{choice.partition('|')[0]}' is missing")
    backend = kind(id=name)
    backend.hotplugged = True
    known = backend.all_properties()
    for option, value in given.items():
        if option not in known:
            raise BackendError(f"Parameter '{option}' is unexpected")
        backend.set_property(option, value)
    machine.add_backend(backend)
    return backend


def users(machine: Machine, backend: object) -> Iterator[Device]:
    """The devices with a property that holds BACKEND; what a transport carries, not the transport."""
    from qdevpy.vm.build import references

    for device in machine.devices():
        for owner, _, attribute, _ in references(device):
            if owner is device and getattr(owner, attribute) is backend:
                yield device
