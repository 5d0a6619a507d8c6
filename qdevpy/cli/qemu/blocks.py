# SPDX-License-Identifier: Apache-2.0
"""Options about disks: -drive and -blockdev. Both end in ``drives:``.

A drive is a *format* node over a *protocol* node in QEMU. Here it is one: its options are those of both.
"""

from __future__ import annotations

from collections.abc import Mapping

from qdevpy.cli.qemu.draft import Draft
from qdevpy.cli.qemu.opts import CommandLineError, Options, parse_options

#: words of ``cache=`` -> what they say (bdrv_parse_cache_mode() of QEMU): bypass the host's cache, write through, ignore flushes
CACHE_MODES = {
    "none": (True, False, False),
    "off": (True, False, False),
    "writeback": (False, False, False),
    "writethrough": (False, True, False),
    "directsync": (True, True, False),
    "unsafe": (False, False, True),
}
#: drivers of protocol nodes that are a file or a block device
FILE_DRIVERS = ("file", "host_device")
#: driver of a disk that reads as zeros and forgets what is written; ``scratch`` here, which does not forget
NULL_DRIVERS = ("null-co", "null-aio")
NULL_SIZE = "1G"


def drive(draft: Draft, text: str) -> None:
    """``-drive file=FILE,if=none,id=ID,...``."""
    options = parse_options(text)
    interface = options.pop("if") or "ide"
    if interface not in ("none", "virtio"):
        raise CommandLineError(
            f"if={interface}: there is no such controller; expected virtio, or none with a -device that has it"
        )
    index = options.pop("index")
    number = _number(index) if index is not None else draft.drive_counts.get(interface, 0)
    draft.drive_counts[interface] = number + 1
    name = options.pop("id") or f"{interface}{number}"
    found = _legacy_options(draft, name, options)
    draft.entry("drives", name, found)
    if interface == "virtio":
        draft.late_devices.append(draft.device("virtio-blk-pci", {"drive": name}))


def _number(text: str) -> int:
    if not text.isdecimal():
        raise CommandLineError(f"Parameter 'index' expects a number, not '{text}'")
    return int(text)


def _legacy_options(draft: Draft, name: str, options: Options) -> dict[str, str]:
    """An entry of ``drives:``, of what ``-drive`` takes beside ``if``, ``index`` and ``id``."""
    found = _media(options)
    for word in ("werror", "rerror"):
        if (action := options.pop(word)) is not None:
            draft.device_options.setdefault(name, {})[word] = action
    mode = options.pop("cache")
    if mode is not None:
        if mode not in CACHE_MODES:
            raise CommandLineError(f"invalid cache option '{mode}'; expected one of {', '.join(CACHE_MODES)}")
        direct, through, unsafe = CACHE_MODES[mode]
        if direct:
            found["cache.direct"] = "on"
        if through:
            draft.device_options.setdefault(name, {})["write-cache"] = "off"
        if unsafe:
            draft.note("flushes are carried out; no option leaves them out")
    if options.pop_bool("cache.writeback") is False:
        draft.device_options.setdefault(name, {})["write-cache"] = "off"
    refuse_extras(options)
    file = options.pop("file")
    format_name = options.pop("format")
    found.update(_content(draft, file, options))
    if format_name is not None:
        found["format"] = format_name
    take_cache_and_aio(draft, options, found)
    options.end()
    return found


def _media(options: Options) -> dict[str, str]:
    """``media=`` and what says that nothing is written."""
    media = options.pop("media")
    if media not in (None, "disk", "cdrom"):
        raise CommandLineError(f"'{media}' invalid media; expected disk or cdrom")
    readonly = [options.pop_bool("readonly"), options.pop_bool("read-only"), media == "cdrom"]
    return {"readonly": "on"} if any(readonly) else {}


def refuse_extras(options: Options) -> None:
    """Options of block nodes that are not here, unless they say so."""
    off = ("off", "no", "false")
    options.only("snapshot", *off, because="there are no temporary overlays; copy the image")
    options.only("copy-on-read", *off, because="images have no backing files; remove it")
    options.only("detect-zeroes", "off", because="zeroes are written as they are; remove it")
    options.only("force-share", *off, because="use share-rw=on at the device")
    options.only("locking", "auto", "on", because="images are locked where the file system can; remove it")
    options.only("auto-read-only", "on", "off", because="expected on or off")


def _content(draft: Draft, file: str | None, options: Options) -> dict[str, str]:
    """Where the data is: ``file=``, or the nested node of ``file.driver=``, or ``driver=``."""
    outer = options.pop("driver")
    nested = Options((name[5:], text) for name, text in options.items if name.startswith("file."))
    options.items = [item for item in options.items if not item[0].startswith("file.")]
    if file is not None and file.partition(":")[0] in NULL_DRIVERS:
        nested.items.insert(0, ("driver", file.partition(":")[0]))
        file = None
    found: dict[str, str] = {}
    if outer in NULL_DRIVERS or outer in FILE_DRIVERS:
        nested.items.insert(0, ("driver", str(outer)))
        for name in ("size", "read-zeroes", "latency-ns", "filename"):
            if (text := options.pop(name)) is not None:
                nested.items.append((name, text))
    elif outer is not None:
        found["format"] = outer
    if file is not None:
        found["file"] = _path(file)
    if file is None or nested.items:
        found.update(protocol_options(draft, nested, found.get("file")))
    return found


def _path(file: str) -> str:
    """The path that a file name means: QEMU takes words before a colon for protocols."""
    protocol, colon, rest = file.partition(":")
    if not colon or "/" in protocol:
        return file
    if protocol in FILE_DRIVERS:
        return rest
    raise CommandLineError(f"file={file}: Unknown protocol '{protocol}'; expected a path (./{file} for a name with a colon)")


def protocol_options(draft: Draft, options: Options, file: str | None = None) -> dict[str, str]:
    """Options of a protocol node, as a drive has them.

    :param file: known already
    """
    driver = options.pop("driver") or ("file" if file or options.items else None)
    if driver is None:
        raise CommandLineError("Must specify either driver or file")
    refuse_extras(options)
    found: dict[str, str] = {}
    if driver in NULL_DRIVERS:
        found["scratch"] = options.pop("size") or NULL_SIZE
        options.pop_bool("read-zeroes")  # zeros are as good as any content
        options.only("latency-ns", "0", because="there is no artificial latency; remove it")
    elif driver in FILE_DRIVERS:
        if (filename := options.pop("filename")) is not None:
            found["file"] = filename
        elif file is None:
            raise CommandLineError("Parameter 'filename' is missing")
    else:
        raise CommandLineError(f"Unknown driver '{driver}'; expected one of raw, {', '.join((*FILE_DRIVERS, *NULL_DRIVERS))}")
    if options.pop_bool("read-only"):
        found["readonly"] = "on"
    take_cache_and_aio(draft, options, found)
    options.end()
    return found


def take_cache_and_aio(draft: Draft, options: Options, found: dict[str, str]) -> None:
    """``aio``, ``discard``, ``cache.direct`` and ``cache.no-flush``, which both nodes have."""
    if (aio := options.pop("aio")) is not None:
        found["aio"] = aio
    if (discard := options.pop("discard")) is not None:
        found["discard"] = {"on": "unmap", "off": "ignore"}.get(discard, discard)
    direct = options.pop_bool("cache.direct")
    if direct is not None:
        found["cache.direct"] = "on" if direct else "off"
    if options.pop_bool("cache.no-flush"):
        draft.note("flushes are carried out; no option leaves them out")


# -- block nodes


def blockdev(draft: Draft, text: str) -> None:
    """``-blockdev DRIVER,node-name=NAME,...``; nodes become drives at the end, by :func:`add_block_nodes`."""
    options = parse_options(text, "driver")
    name = options.need("node-name")
    if name in draft.block_nodes:
        raise CommandLineError(f"Duplicate node name '{name}'")
    draft.block_nodes[name] = (options.rest(), draft.at)


def add_block_nodes(draft: Draft) -> None:
    """A drive for each node that no other one stands on."""
    used = {options["file"] for options, _ in draft.block_nodes.values() if "file" in options}
    for name, (options, at) in draft.block_nodes.items():
        draft.at = at
        if name not in used:
            draft.entry("drives", name, _node(draft, Options(options.items())))


def _node(draft: Draft, options: Options) -> dict[str, str]:
    """The drive that a node is."""
    driver = options.need("driver")
    if driver in (*FILE_DRIVERS, *NULL_DRIVERS):
        options.items.append(("driver", driver))
        return protocol_options(draft, options)
    below = _node_below(draft, options)
    refuse_extras(options)
    upper = {"format": driver}
    if options.pop_bool("read-only"):
        upper["readonly"] = "on"
    take_cache_and_aio(draft, options, upper)
    options.end()
    if upper.get("discard", "ignore") == "ignore":  # it takes both to pass a discard on
        below.pop("discard", None)
    elif below.get("discard", "ignore") == "ignore":
        upper.pop("discard")
    return {**below, **upper}


def _node_below(draft: Draft, options: Options) -> dict[str, str]:
    """The drive that the node's ``file`` is: another node's name, or a node's options."""
    reference = options.pop("file")
    nested = Options((name[5:], text) for name, text in options.items if name.startswith("file."))
    options.items = [item for item in options.items if not item[0].startswith("file.")]
    if reference is not None:
        found: tuple[Mapping[str, str], object] | None = draft.block_nodes.get(reference)
        if found is None:
            raise CommandLineError(f"Cannot find device='' nor node-name='{reference}'")
        nested = Options(found[0].items())
    nested.pop("node-name")
    return protocol_options(draft, nested)


def finish_drives(draft: Draft) -> None:
    """Give devices what QEMU has at the drive: write-through, and what to do about errors."""
    for item in draft.devices() + draft.late_devices:
        options = next(iter(item.entries.values()))[1].entries
        if "drive" not in options:
            continue
        wanted = draft.device_options.pop(options["drive"][1].text, {})
        for name, text in wanted.items():
            options.setdefault(name, (draft.text(name), draft.text(text)))
    for name, left in draft.device_options.items():
        draft.notes.append(f"drive {name}: no device has it, and so nothing came of {', '.join(left)}")
