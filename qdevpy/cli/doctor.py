# SPDX-License-Identifier: Apache-2.0
"""``doctor``: what this host offers to a machine, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import import_module

import click

from qdevpy.plugin.finding import Finding
from qdevpy.plugin.manager import load_plugins


def examine() -> Iterator[Finding]:
    """Look at everything, what is required first."""
    yield _host()
    core = _native_core()
    yield core
    if core.ok:
        yield from _kvm()
    yield _device_file("/dev/net/tun", "netdev type tap", "modprobe tun; run as root or with CAP_NET_ADMIN")
    yield _device_file(
        "/dev/vhost-net",
        "in-kernel virtio-net",
        "modprobe vhost_net, and be allowed to open it; without it vhost: on of a tap warns, and works",
    )
    yield _program("passt", "netdev type user", "apt install passt")
    yield _program("qemu-system-x86_64", "comparison and the tests' lab", "apt install qemu-system-x86")
    yield from _plugins()


def _host() -> Finding:
    system, machine = platform.system(), platform.machine()
    ok = (system, machine) == ("Linux", "x86_64")
    return Finding("host", ok, f"{system} {platform.release()} on {machine}", "qdevpy needs Linux on x86-64", required=True)


def _native_core() -> Finding:
    try:
        _core = import_module("qdevpy.native._core")
    except ImportError as error:
        return Finding("C core", False, str(error), "build it: pip install . (needs a C compiler and cffi)", required=True)
    return Finding("C core", True, os.path.basename(_core.__file__ or "built in"), required=True)


def _kvm() -> Iterator[Finding]:
    from qdevpy.accel.kvm.doctor import host_report

    report = host_report()
    yield Finding(report.device, report.problem is None, report.problem or f"up to {report.max_vcpus} vCPUs", required=True)
    if report.modules:
        yield Finding("KVM modules", True, ", ".join(report.modules))
    missing = [name for name, value in report.capabilities.items() if not value]
    for name in missing:
        required = name in report.needed
        yield Finding(
            name, False, "not offered by this kernel", "a newer kernel" + ("" if required else ", if you need it"), required
        )
    if report.start_ms is not None and report.instructions_per_second is not None:
        advice = "guest kernels run in KVM's instruction emulator: correct, and slow; use a host with full virtualization"
        found = f"{report.instructions_per_second / 1e6:.3g} million instructions/s, first exit after {report.start_ms:.0f} ms"
        yield Finding("guest kernel code", not report.emulated, found, advice)


def _device_file(path: str, purpose: str, advice: str) -> Finding:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Finding(path, False, f"{error.strerror} ({purpose})", advice)
    return Finding(path, True, purpose)


def _program(name: str, purpose: str, advice: str) -> Finding:
    where = shutil.which(name)
    return Finding(name, where is not None, where or f"not in PATH ({purpose})", advice)


def _plugins() -> Iterator[Finding]:
    registry = load_plugins()
    yield Finding("plugins", not registry.broken, f"{len(registry.device_types)} device types", "see below")
    for broken in registry.broken:
        yield Finding(f"plugin {broken.plugin}", False, broken.message, f"reinstall or remove {broken.distribution}")
    for name in registry.doctors:
        yield from _asked(name)


def _asked(module: str) -> Iterator[Finding]:
    """What a plugin's module finds; somebody else's code may raise anything."""
    try:
        yield from import_module(module).findings()
    except Exception as error:
        yield Finding(module, False, f"{type(error).__name__}: {error}", "reinstall its plugin")


@click.command()
def doctor() -> int:
    """Print what this host offers to machines, and what to do for each thing that is missing.

    The exit status is 1 when something is missing that every machine needs.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", box=None, pad_edge=False)
    table.add_column("found", overflow="fold")
    table.add_column("what to do", overflow="fold")
    findings = list(examine())
    for finding in findings:
        mark = Text("ok", "green") if finding.ok else Text("missing", "red") if finding.required else Text("note", "yellow")
        table.add_row(mark, finding.name, Text(finding.found), Text("" if finding.ok else finding.advice))
    Console().print(table)
    return 0 if all(finding.ok for finding in findings if finding.required) else 1
