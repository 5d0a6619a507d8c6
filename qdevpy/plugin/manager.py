# SPDX-License-Identifier: Apache-2.0
"""Loading plugins through pluggy: import, check the hooks, collect what is offered.

A plugin is taken whole or not at all: what breaks a rule is reported with the plugin's and its
distribution's name, and the others never notice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

from qdevpy.backend.base import Backend
from qdevpy.errors import PluginError
from qdevpy.plugin import spec
from qdevpy.plugin.discovery import EntryPoint, find_entry_points
from qdevpy.qdev.device import Device
from qdevpy.qdev.types import DeviceType
from qdevpy.vm.board import Board

if TYPE_CHECKING:
    from qdevpy.plugin.registry import Registry


class Offer:
    """What one plugin offers, or all together, by name.

    :ivar boards: aliases are names too
    :ivar aliases: other names of device types
    """

    def __init__(self) -> None:
        self.devices: dict[str, DeviceType] = {}
        self.aliases: dict[str, str] = {}
        self.boards: dict[str, type[Board]] = {}
        self.netdevs: dict[str, type[Backend]] = {}
        self.definitions: dict[str, str] = {}
        self.benches: dict[str, str] = {}
        self.doctors: dict[str, str] = {}


def load_plugins(entry_points: Iterable[EntryPoint] | None = None) -> Registry:
    """The registry of all that plugins offer. Plugins are imported when something is looked up.

    :param entry_points: instead of the installed ones (tests, embedding)
    """
    from qdevpy.plugin.registry import Registry

    return Registry(find_entry_points() if entry_points is None else entry_points)


def make_plugin_manager() -> pluggy.PluginManager:
    """A pluggy manager that knows our hooks."""
    manager = pluggy.PluginManager(spec.PROJECT)
    manager.add_hookspecs(spec)
    return manager


def load_plugin(manager: pluggy.PluginManager, entry: EntryPoint) -> Offer:
    """Import and register one plugin, and collect what it offers.

    :raises PluginError: whatever it does wrong; it is not registered then
    """
    plugin = _import(entry)
    name = f"{entry.distribution}:{entry.name}"
    try:
        manager.register(plugin, name)
        manager.check_pending()
        return _collect(manager, plugin, entry.distribution)
    except (pluggy.PluginValidationError, ValueError) as error:
        _unregister(manager, plugin)
        hooks = ", ".join(sorted(name for name in vars(spec) if name.startswith("qdevpy_")))
        raise PluginError(f"{'; '.join(str(error).splitlines())}; the hooks are {hooks}") from error
    except BaseException:
        _unregister(manager, plugin)
        raise


def _unregister(manager: pluggy.PluginManager, plugin: object) -> None:
    if manager.is_registered(plugin):
        manager.unregister(plugin)


def _import(entry: EntryPoint) -> object:
    module_name, _, attribute = entry.value.partition(":")
    try:
        plugin: Any = import_module(module_name)
        for part in filter(None, attribute.split(".")):
            plugin = getattr(plugin, part)
    except (Exception, SystemExit) as error:  # somebody else's code: it may raise anything
        raise PluginError(f"cannot be imported ({entry.value}): {type(error).__name__}: {error}") from error
    return plugin


def _collect(manager: pluggy.PluginManager, plugin: object, distribution: str) -> Offer:
    offer = Offer()
    offer.devices = _devices(_call(manager, plugin, "qdevpy_devices"), distribution)
    offer.aliases = {kind.alias: kind.name for kind in offer.devices.values() if kind.alias is not None}
    offer.boards = _boards(_call(manager, plugin, "qdevpy_boards"))
    offer.netdevs = _netdevs(_call(manager, plugin, "qdevpy_netdevs"))
    offer.definitions = _definitions(_call(manager, plugin, "qdevpy_definitions"))
    offer.benches = _modules("qdevpy_benches", _call(manager, plugin, "qdevpy_benches"))
    offer.doctors = _modules("qdevpy_doctors", _call(manager, plugin, "qdevpy_doctors"))
    return offer


def _call(manager: pluggy.PluginManager, plugin: object, hook: str) -> list[Any]:
    """What PLUGIN's implementation of HOOK returns, as a list; empty where it has none."""
    implementations = [i for i in getattr(manager.hook, hook).get_hookimpls() if i.plugin is plugin]
    if not implementations:
        return []
    caller = manager.subset_hook_caller(hook, [p for p in manager.get_plugins() if p is not plugin])
    try:
        results = caller()
        if not results:  # pluggy leaves None out
            raise PluginError(f"{hook}() returned None; return a list")
        return list(results[0])
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code: it may raise anything
        raise PluginError(f"{hook}() failed: {type(error).__name__}: {error}") from error


def _check_class(hook: str, offered: Any, base: type[Any]) -> None:
    if not (isinstance(offered, type) and issubclass(offered, base)):
        raise PluginError(f"{hook}() offers {offered!r}; expected classes derived from {base.__module__}.{base.__name__}")


def _by_name(hook: str, named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, offered in named:
        if not name or not isinstance(name, str):
            raise PluginError(f"{hook}() offers {offered!r}, which has no type_name; set the class variable")
        if name in found:
            raise PluginError(f"{hook}() offers '{name}' twice")
        found[name] = offered
    return found


def _devices(offered: list[Any], distribution: str) -> dict[str, DeviceType]:
    from qdevpy.virtio.device import VirtIODevice

    types: list[DeviceType] = []
    for cls in offered:
        _check_class("qdevpy_devices", cls, Device)
        if issubclass(cls, VirtIODevice) and not (cls.base_name and cls.device_id):
            raise PluginError(
                f"device class {cls.__name__}: set the class variables base_name and device_id (virtio 1.2, section 5)"
            )
        try:
            if issubclass(cls, VirtIODevice):
                from qdevpy.virtio.pci_types import device_types_for

                make: Callable[..., list[DeviceType]] = device_types_for
                types += make(cls, distribution)
            else:
                types.append(DeviceType.of(cls, distribution))
        except Exception as error:  # a class that cannot even be created
            raise PluginError(f"device class {cls.__name__}: {type(error).__name__}: {error}") from error
    return _by_name("qdevpy_devices", ((kind.name, kind) for kind in types))


def _boards(offered: list[Any]) -> dict[str, type[Board]]:
    for cls in offered:
        _check_class("qdevpy_boards", cls, Board)
    return _by_name("qdevpy_boards", ((name, cls) for cls in offered for name in (getattr(cls, "type_name", ""), *cls.aliases)))


def _netdevs(offered: list[Any]) -> dict[str, type[Backend]]:
    for cls in offered:
        _check_class("qdevpy_netdevs", cls, Backend)
    return _by_name("qdevpy_netdevs", ((cls.type_name, cls) for cls in offered))


def _definitions(offered: list[Any]) -> dict[str, str]:
    for path in offered:
        if not isinstance(path, str | os.PathLike):
            raise PluginError(f"qdevpy_definitions() offers {path!r}; expected paths")
    paths = [os.fspath(path) for path in offered]
    return _by_name("qdevpy_definitions", ((os.path.splitext(os.path.basename(path))[0], path) for path in paths))


def _modules(hook: str, offered: list[Any]) -> dict[str, str]:
    for module in offered:
        if not isinstance(module, str):
            raise PluginError(f"{hook}() offers {module!r}; expected names of modules")
    return _by_name(hook, ((module, module) for module in offered))
