# SPDX-License-Identifier: Apache-2.0
"""What ``-help``, ``-version`` and ``-OPTION help`` print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from qdevpy import __version__
from qdevpy.cli.qemu.opts import HELP_WORDS, CommandLineError, parse_options
from qdevpy.errors import UnknownNameError
from qdevpy.qdev.property import Property, properties_of

if TYPE_CHECKING:
    from qdevpy.plugin.registry import Registry

#: QEMU's version that names, defaults and protocols are those of
QEMU_VERSION = "7.2.0"


def usage() -> str:
    """``-help``."""
    from qdevpy.cli.qemu.table import GROUPS

    lines = ["usage: qdevpy-system-x86_64 [options]", ""]
    for heading, options in GROUPS.items():
        if heading == "Not here":
            continue
        lines.append(f"{heading}:")
        for option in options:
            shown = f"-{option.name} {option.argument}".rstrip()
            lines += [shown, f"                {option.help}"] if len(shown) > 14 else [f"{shown:<15} {option.help}"]
        lines.append("")
    lines += ["-help, -h and --help are the same; so are all others with one dash or two.", ""]
    lines.append("With -nographic 'ctrl-a h' prints what other keys do.")
    return "\n".join(lines)


def version() -> str:
    """``-version``."""
    return f"QEMU emulator version {QEMU_VERSION} (qdevpy {__version__})"


def help_text(option: str, argument: str, registry: Registry) -> str | None:
    """The listing that an option's argument asks for; None: it asks for none.

    :raises CommandLineError: for something that is not there
    """
    listing = LISTINGS.get(option)
    if listing is None or not any(word in argument for word in HELP_WORDS):
        return None
    if argument in HELP_WORDS:
        return "\n".join(listing("", registry))
    if argument.startswith("{"):
        return None
    items = parse_options(argument, "").items
    words = [name for name, text in items[1:] if text == "on"]
    if not items or items[0][0] or not any(word in HELP_WORDS for word in words):
        return None
    return "\n".join(listing(items[0][1], registry))


# -- listings: of everything, or of the options of one type


def _machines(name: str, registry: Registry) -> Iterator[str]:
    if name:
        try:
            board = registry.board(name)
        except UnknownNameError as error:
            raise CommandLineError(str(error)) from None
        yield f"{board.type_name}-machine options:"
        yield from _options(board.options(), width=22)
        return
    yield "Supported machines are:"
    for key, board in sorted(registry.boards.items()):
        alias = f" (alias of {board.type_name})" if key != board.type_name else ""
        default = " (default)" if board.is_default and not alias else ""
        yield f"{key:<20} {board.description}{alias}{default}"


def _accels(name: str, registry: Registry) -> Iterator[str]:
    yield "Accelerators supported in QEMU binary:"
    yield from ("kvm", "qtest", "none")


def _cpus(name: str, registry: Registry) -> Iterator[str]:
    yield "Available CPUs:"
    for model, description in CPU_MODELS.items():
        yield f"x86 {model:<20}  {description}"


#: models of -cpu
CPU_MODELS = {
    "host": "everything that KVM on this host shows a guest",
    "max": "the same",
    "qemu64": "few features, those of QEMU's model of this name",
    "kvm64": "few features, those of QEMU's model of this name",
}


def _devices(name: str, registry: Registry) -> Iterable[str]:
    from qdevpy.qdev.help import list_devices, list_properties

    try:
        return list(list_properties(registry, name) if name else list_devices(registry))
    except UnknownNameError as error:
        raise CommandLineError(str(error)) from None


def _back_ends(section: str, heading: str) -> Callable[[str, Registry], Iterator[str]]:
    def listing(name: str, registry: Registry) -> Iterator[str]:
        if not name:
            yield heading
            yield from (f"  {key}" if section != "netdevs" else key for key in registry.backend_names(section))
            return
        try:
            cls = registry.backend_type(section, name)
        except UnknownNameError as error:
            raise CommandLineError(str(error)) from None
        yield f"{name} options:"
        yield from _options(properties_of(cls))

    return listing


def _drive(name: str, registry: Registry) -> Iterator[str]:
    yield "drive options:"
    options = {"if": "<str>                  - none, or virtio: with its disk", "index": "<num>               - of if=virtio"}
    yield from (f"  {key}={text}" for key, text in options.items())
    yield from _options(properties_of(registry.backend_type("drives", "drive")))


def _options(declared: Mapping[str, Property], width: int = 0) -> Iterator[str]:
    for name, prop in sorted(declared.items()):
        default = prop.default_text()
        shown = f"  {name}=<{prop.kind.type_name}>"
        yield f"{shown:<{max(width, 23)}} - {prop.help}{f' (default: {default})' if default else ''}"


def _log_items(name: str, registry: Registry) -> Iterable[str]:
    return ["Log items: any word; each turns all messages on"]


LISTINGS: dict[str, Callable[[str, Registry], Iterable[str]]] = {
    "machine": _machines,
    "M": _machines,
    "accel": _accels,
    "cpu": _cpus,
    "device": _devices,
    "netdev": _back_ends("netdevs", "Available netdev backend types:"),
    "nic": _back_ends("netdevs", "Available netdev backend types:"),
    "chardev": _back_ends("chardevs", "Available chardev backend types:"),
    "object": _back_ends("objects", "List of user creatable objects:"),
    "drive": _drive,
    "d": _log_items,
}


def options_table() -> str:
    """The table of options in docs/qemu-command-line.md."""
    from qdevpy.cli.qemu.table import GROUPS

    lines = []
    for heading, options in GROUPS.items():
        lines += [f"### {heading}", "", "| option | |", "|---|---|"]
        for option in options:
            shown = f"-{option.name} {option.argument}".rstrip().replace("|", "\\|")
            lines.append(f"| `{shown}` | {option.help} |")
        lines.append("")
    return "\n".join(lines)
