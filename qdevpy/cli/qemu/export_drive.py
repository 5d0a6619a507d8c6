# SPDX-License-Identifier: Apache-2.0
"""One entry of ``drives:`` as ``-drive`` or ``-blockdev``; the way back of :mod:`.blocks`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from qdevpy.cli.qemu.blocks import FILE_DRIVERS, NULL_DRIVERS
from qdevpy.cli.qemu.opts import join
from qdevpy.qdev.kinds import Size

#: options of a protocol node that a raw node over it has, too, in -blockdev
_BOTH = ("cache.direct", "discard")


def export_drive(name: str, options: dict[str, str]) -> list[str]:
    """The option and its argument.

    :param options: canonical texts
    :raises ValueError: QEMU has no such thing; the text says what to do
    """
    file = options.get("file")
    if file is not None and "://" in file:
        options["driver"] = options.pop("file").removesuffix("://")
    if options.get("node-name") == name:
        return ["-blockdev", join(_node(options))]
    if "below" in options:
        raise ValueError(f"below is an option of block nodes; add 'node-name: {name}'")
    return ["-drive", join([("if", "none"), ("id", name), *_drive(options)])]


def _drive(options: dict[str, str]) -> Iterator[tuple[str, str]]:
    driver = options.pop("driver", "auto")
    file = options.pop("file", None)
    if (scratch := options.pop("scratch", None)) is not None and file is None:
        # nothing below, and a temporary image over it that keeps what is written
        options.pop("format", None)
        yield from (("driver", "null-co"), ("size", scratch), ("read-zeroes", "on"), ("snapshot", "on"))
    elif driver in NULL_DRIVERS:
        options.pop("format", None)
        yield "driver", driver
    elif file is None:
        if driver != "none":
            raise ValueError("it has no file; set one")
    elif driver in FILE_DRIVERS and not {"offset", "size", "format"}.intersection(options):
        yield from (("driver", driver), ("filename", file))
    else:
        yield from (("file", _file_name(file)), ("format", options.pop("format", "raw")))
    for name, text in options.items():
        yield ("file.node-name" if name == "file-node-name" else name), text


def _file_name(path: str) -> str:
    """A path that QEMU takes for one: a colon in front of any slash would make it a protocol."""
    return f"./{path}" if ":" in path.partition("/")[0] else path


def _node(options: dict[str, str]) -> Iterator[tuple[str, str]]:
    driver = options.pop("driver", "auto")
    if "scratch" in options:
        raise ValueError("QEMU has no disk in memory among its block nodes; remove node-name, or use a file")
    if driver == "none":
        raise ValueError("a block node has contents; remove node-name, or set a file")
    file = options.pop("file", None)
    if "readonly" in options:
        options["read-only"] = options.pop("readonly")
    for name in {"size", "offset"}.intersection(options):
        options[name] = str(Size().parse(options[name]))  # numbers here, without suffixes
    if driver in NULL_DRIVERS:
        options.pop("format", None)
        yield "driver", driver
        yield from options.items()
    elif (below := options.pop("below", None)) is not None:
        yield from (("driver", options.pop("format", "raw")), ("file", below))
        yield from options.items()
    elif file is None:
        raise ValueError("it has no file; set one")
    elif driver in FILE_DRIVERS and not {"offset", "size", "format", "file-node-name"}.intersection(options):
        yield from (("driver", driver), ("filename", file))
        yield from options.items()
    else:
        yield from (("driver", options.pop("format", "raw")), ("file.driver", _file_driver(file)), ("file.filename", file))
        yield from _raw_over_file(options)


def _raw_over_file(options: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in options.items():
        if name == "file-node-name":
            yield "file.node-name", text
        elif name == "aio":
            yield "file.aio", text
        else:
            yield name, text
            if name in _BOTH:
                yield f"file.{name}", text


def _file_driver(path: str) -> str:
    """Which driver of QEMU's opens the path."""
    try:
        return "host_device" if stat.S_ISBLK(os.stat(path).st_mode) else "file"
    except OSError:
        return "file"
