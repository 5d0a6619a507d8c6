# SPDX-License-Identifier: Apache-2.0
"""Hook specifications: what a plugin may offer. These docstrings are the reference.

A plugin is a module, named by an entry point in group ``qdevpy``::

    [project.entry-points.qdevpy]
    my_device = "my_package.plugin"

whose functions are marked with :data:`hookimpl`::

    from qdevpy.plugin import hookimpl

    @hookimpl
    def qdevpy_devices():
        return [MyDevice]
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from qdevpy.backend.netdev import NetDev
    from qdevpy.qdev.device import Device
    from qdevpy.vm.board import Board

PROJECT = "qdevpy"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def qdevpy_devices() -> Iterable[type[Device]]:
    """Device classes. A ``VirtIODevice`` is offered on every transport (``NAME-pci``,
    ``NAME-pci-transitional``, ``NAME-pci-non-transitional``); any other class by its ``type_name``.
    """
    raise NotImplementedError


@hookspec
def qdevpy_boards() -> Iterable[type[Board]]:
    """Boards: what ``machine:`` names."""
    raise NotImplementedError


@hookspec
def qdevpy_netdevs() -> Iterable[type[NetDev]]:
    """Network back ends beyond the built-in ones, by their ``type_name``."""
    raise NotImplementedError


@hookspec
def qdevpy_definitions() -> Iterable[str | PathLike[str]]:
    """Machine definitions that ``qdevpy boot NAME`` finds by their file's stem."""
    raise NotImplementedError


@hookspec
def qdevpy_benches() -> Iterable[str]:
    """Modules with measurements for ``qdevpy bench``, by their import names; each has a function ``suite()`` that
    returns a :class:`qdevpy.bench.suite.Suite`. Only ``qdevpy bench`` imports them.
    """
    raise NotImplementedError


@hookspec
def qdevpy_doctors() -> Iterable[str]:
    """Modules that know what the plugin's devices need of the host, by their import names; each has a function
    ``findings()`` that yields :class:`qdevpy.plugin.finding.Finding`. Only ``qdevpy doctor`` imports them.
    """
    raise NotImplementedError
