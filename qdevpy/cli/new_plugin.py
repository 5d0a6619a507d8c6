# SPDX-License-Identifier: Apache-2.0
"""``new-plugin``: a package with a device that works, to be changed into one's own."""

from __future__ import annotations

from pathlib import Path

import click

from qdevpy.errors import ScaffoldError
from qdevpy.plugin.manager import load_plugins
from qdevpy.scaffold.package import KINDS, Names, render, write


@click.command("new-plugin")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="A PCI device with registers, or a virtio device.")
@click.option("--native", is_flag=True, help="virtio: a handler in C serves the queue, on an I/O thread.")
@click.option("--directory", metavar="DIR", help="Where the package goes; default: qdevpy-NAME here.")
def new_plugin(name: str, kind: str, native: bool, directory: str | None) -> None:
    """Write a package with device NAME, its tests and a machine to boot it in.

    It installs, passes its own tests, ruff and mypy, and boots as it is. NAME: lower-case letters, digits and '-'.
    """
    if native and kind != "virtio":
        raise ScaffoldError(f"--native: C serves virtqueues, and a device of kind {kind} has none; use --kind virtio")
    names = Names.of(name, kind)
    taken = load_plugins().device_types.get(names.type)
    if taken is not None:
        raise ScaffoldError(f"'{name}': there is a device type '{taken.name}' already, of {taken.provider}; choose another name")
    folder = Path(directory or names.distribution)
    write(render(names, native=native), folder)
    isolation = "--no-build-isolation " if native else ""
    print(f"{folder}: {names.type}, a device of kind {kind}{', served by C' if native else ''}")
    print("next:")
    print(f"  cd {folder}")
    print(f"  pip install {isolation}--editable .")
    print("  python -m pytest")
    print("  python guest.py && qdevpy boot machine.yaml")
