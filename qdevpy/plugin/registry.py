# SPDX-License-Identifier: Apache-2.0
"""What names mean: device types, boards, back ends, packaged definitions.

Plugins are loaded in a fixed order, only as far as a lookup needs. The first to offer a name has it, and a
later plugin that offers it again is broken; so the answer is the same however many have been loaded.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from qdevpy.backend import BUILT_IN
from qdevpy.backend.base import Backend
from qdevpy.errors import PluginError, UnknownNameError, did_you_mean
from qdevpy.plugin.discovery import EntryPoint
from qdevpy.plugin.manager import Offer, load_plugin, make_plugin_manager
from qdevpy.qdev.object import Object
from qdevpy.qdev.property import Property, properties_of
from qdevpy.qdev.types import DeviceType
from qdevpy.vm.board import Board

log = logging.getLogger(__name__)

T = TypeVar("T")

#: what an Offer has, and how messages call one of them
SORTS = {
    "devices": "device type",
    "boards": "machine type",
    "netdevs": "netdev type",
    "definitions": "machine definition",
    "benches": "bench module",
    "doctors": "doctor module",
}


class BrokenPlugin(NamedTuple):
    """A plugin that is not there, and why."""

    distribution: str
    plugin: str
    message: str

    def __str__(self) -> str:
        return f"plugin '{self.plugin}' of {self.distribution}: {self.message}"


class Registry:
    """Everything that definitions may name. Made by :func:`qdevpy.plugin.manager.load_plugins`."""

    def __init__(self, entry_points: Iterable[EntryPoint]) -> None:
        self._manager = make_plugin_manager()
        self._pending = deque(entry_points)
        self._broken: list[BrokenPlugin] = []
        self._known = Offer()
        self._providers: dict[tuple[str, str], EntryPoint] = {}

    # -- loading

    def _load_next(self) -> bool:
        if not self._pending:
            return False
        entry = self._pending.popleft()
        try:
            self._take(entry, load_plugin(self._manager, entry))
        except PluginError as error:
            broken = BrokenPlugin(entry.distribution, entry.name, str(error))
            log.debug("%s", broken, exc_info=error)
            self._broken.append(broken)
        return True

    def _take(self, entry: EntryPoint, offer: Offer) -> None:
        """Add an offer, all of it or nothing.

        :raises PluginError: a name that somebody else offers
        """
        for section, sort in SORTS.items():
            for name in getattr(offer, section):
                if section == "netdevs" and name in BUILT_IN["netdevs"]:
                    raise PluginError(f"offers {sort} '{name}', which is built in; choose another name")
                if (section, name) in self._providers:
                    first = self._providers[section, name]
                    raise PluginError(
                        f"offers {sort} '{name}', and so does plugin '{first.name}' of {first.distribution}; "
                        "remove one of the two, or rename what it offers"
                    )
        for section in SORTS:
            offered = getattr(offer, section)
            getattr(self._known, section).update(offered)
            self._providers.update({(section, name): entry for name in offered})
        for alias, name in offer.aliases.items():  # a type's own name goes before another's alias
            self._known.aliases.setdefault(alias, name)

    def load_all(self) -> Registry:
        """Load every plugin; for listings."""
        while self._load_next():
            pass
        return self

    @property
    def broken(self) -> Sequence[BrokenPlugin]:
        """Plugins that could not be loaded (all plugins are tried first)."""
        return tuple(self.load_all()._broken)

    def broken_note(self) -> str:
        """The end of a message about something that is not there: plugins that might have offered it; or nothing."""
        return "".join(f"\n  note: not loaded: {broken}" for broken in self.broken)

    def _find(self, section: str, known: dict[str, T], name: str, command: str) -> T:
        while name not in known:
            if not self._load_next():
                sort = SORTS[section]
                hint = did_you_mean(name, known) or f"; 'qdevpy {command}' lists them"
                raise UnknownNameError(f"there is no {sort} '{name}'{hint}{self.broken_note()}")
        return known[name]

    # -- lookup by name: raises UnknownNameError

    def device_type(self, name: str) -> DeviceType:
        """By name, or QEMU's other name of it (``virtio-blk``).

        :raises UnknownNameError: no plugin offers it
        """
        known = self._known
        while name not in known.devices and name not in known.aliases and self._load_next():
            pass
        if name not in known.devices:
            name = known.aliases.get(name, name)
        return self._find("devices", known.devices, name, "devices")

    def board(self, name: str) -> type[Board]:
        """By type name or alias.

        :raises UnknownNameError: no plugin offers it
        """
        return self._find("boards", self._known.boards, name, "machines")

    def definition(self, name: str) -> str:
        """The file of a packaged definition.

        :raises UnknownNameError: no plugin offers it
        """
        return self._find("definitions", self._known.definitions, name, "machines")

    def backend_type(self, section: str, name: str) -> type[Backend]:
        """The class of a back end's type.

        :param section: ``drives``, ``netdevs``, ``chardevs`` or ``objects``
        :raises UnknownNameError: there is none
        """
        built_in = BUILT_IN[section].get(name)
        if built_in is not None:
            return _import_backend(built_in)
        if section == "netdevs":
            while name not in self._known.netdevs and self._load_next():
                pass
            if name in self._known.netdevs:
                return self._known.netdevs[name]
        known = self.backend_names(section)
        hint = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
        raise UnknownNameError(f"there is no {section.removesuffix('s')} type '{name}'{hint}{self.broken_note()}")

    # -- listings: load everything

    @property
    def device_types(self) -> Mapping[str, DeviceType]:
        """All device types by name."""
        return MappingProxyType(self.load_all()._known.devices)

    @property
    def boards(self) -> Mapping[str, type[Board]]:
        """All boards by name and alias."""
        return MappingProxyType(self.load_all()._known.boards)

    @property
    def definitions(self) -> Mapping[str, str]:
        """All packaged definitions by name."""
        return MappingProxyType(self.load_all()._known.definitions)

    @property
    def benches(self) -> Sequence[str]:
        """Names of all modules with measurements, in the order of plugins."""
        return tuple(self.load_all()._known.benches)

    @property
    def doctors(self) -> Sequence[str]:
        """Names of all modules that look at the host, in the order of plugins."""
        return tuple(self.load_all()._known.doctors)

    def base_properties(self) -> Mapping[str, Mapping[str, Property]]:
        """By every type name that device types derive from (``virtio-pci``), the properties that one of them has.

        Defaults may name these.
        """
        found: dict[str, dict[str, Property]] = {}
        owners = [type(owner) for kind in self.device_types.values() for owner in _owners(kind)]
        chips = [chip for board in self.boards.values() for chip in board.chip_classes()]
        for owner in (*owners, *chips):
            for cls in owner.__mro__:
                name = getattr(cls, "type_name", "")
                if name:
                    found[name] = {**properties_of(owner), **found.get(name, {})}
        return found

    def backend_names(self, section: str) -> list[str]:
        """Names of the types of a section, sorted; built-in modules are not imported."""
        offered = self.load_all()._known.netdevs if section == "netdevs" else ()
        return sorted({*BUILT_IN[section], *offered})

    def backends(self, section: str) -> Mapping[str, type[Backend]]:
        """All types of a section by name."""
        return {name: self.backend_type(section, name) for name in self.backend_names(section)}


def _owners(kind: DeviceType) -> Sequence[Object]:
    """Whose properties a type's are; nobody's where a device of it cannot even be made (its ``properties`` say why)."""
    try:
        return tuple(kind.create().property_owners())
    except Exception:  # somebody else's code: it may raise anything
        return ()


def _import_backend(where: str) -> type[Backend]:
    module, _, name = where.partition(":")
    found: type[Backend] = getattr(import_module(module), name)
    return found
