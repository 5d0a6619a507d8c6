# SPDX-License-Identifier: Apache-2.0
"""Options about disks: -drive and -blockdev. Both end in ``drives:``.

A drive is a *format* node over a *protocol* node in QEMU. Here it is one: its options are those of both.
"""

from __future__ import annotations

from qdevpy.cli.qemu.draft import Draft
from qdevpy.cli.qemu.opts import CommandLineError, Options, escape, parse_options

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
#: drivers of disks without contents
NULL_DRIVERS = ("null-co", "null-aio")


def drive(draft: Draft, text: str) -> None:
    """``-drive file=FILE,if=none,id=ID,...``."""
    options = parse_options(text)
    interface = options.pop("if") or "ide"
    if interface not in ("none", "virtio", "pflash"):
        raise CommandLineError(
            f"if={interface}: there is no such controller; expected virtio, pflash, or none with a -device that has it"
        )
    index = options.pop("index") or options.pop("unit")
    number = _number(index) if index is not None else draft.drive_counts.get(interface, 0)
    draft.drive_counts[interface] = number + 1
    name = options.pop("id") or f"{interface}{number}"
    found = _legacy_options(draft, name, options)
    draft.entry("drives", name, found)
    if interface == "virtio":
        draft.late_devices.append(draft.device("virtio-blk-pci", {"drive": name}))
    elif interface == "pflash":
        if number > 1:
            raise CommandLineError(f"if=pflash: unit {number}: expected 0 or 1")
        draft.put(name, "machine-options", f"pflash{number}")


def pflash(draft: Draft, text: str) -> None:
    """``-pflash FILE``."""
    drive(draft, f"if=pflash,format=raw,file={escape(text)}")


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
    in_memory = options.pop_bool("snapshot")
    refuse_extras(options)
    file = options.pop("file")
    format_name = options.pop("format")
    found.update(_content(draft, file, options))
    if format_name is not None:
        found["format"] = format_name
    take_cache_and_aio(draft, options, found)
    if (node_name := options.pop("node-name")) is not None:
        found["node-name"] = node_name
    options.end()
    return _scratch(found) if in_memory else found


def _scratch(options: dict[str, str]) -> dict[str, str]:
    """A disk without contents under a temporary image is one in memory."""
    if options.pop("driver", None) not in NULL_DRIVERS:
        raise CommandLineError("snapshot=on: there are no temporary images over others; copy the image")
    options.pop("read-zeroes", None)
    return {"scratch": options.pop("size", "1G"), **options}


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
    options.only("copy-on-read", *off, because="images have no backing files; remove it")
    options.only("detect-zeroes", "off", because="zeroes are written as they are; remove it")
    options.only("force-share", *off, because="use share-rw=on at the device")
    options.only("locking", "auto", "on", because="images are locked where the file system can; remove it")
    options.only("auto-read-only", "on", "off", because="expected on or off")


def _content(draft: Draft, file: str | None, options: Options) -> dict[str, str]:
    """Where the data is: ``file=``, or the nested node of ``file.driver=``, or ``driver=``; or nowhere."""
    driver = options.pop("driver")
    nested = nested_options(options, "file")
    if file is not None and file.partition(":")[0] in NULL_DRIVERS:
        nested.items.insert(0, ("driver", file.partition(":")[0]))
        file = None
    if driver in (*NULL_DRIVERS, *FILE_DRIVERS):
        nested.items.insert(0, ("driver", driver))
        for name in ("size", "read-zeroes", "latency-ns", "filename"):
            if (text := options.pop(name)) is not None:
                nested.items.append((name, text))
        return protocol_options(draft, nested, _path(file))
    found = raw_options(options)
    if driver is not None:
        found["format"] = driver
    if file is None and not nested.items:
        return {**found, "driver": "none"}
    if (node_name := nested.pop("node-name")) is not None:
        found["file-node-name"] = node_name
    return {**_below_format(protocol_options(draft, nested, _path(file))), **found}


def _below_format(options: dict[str, str]) -> dict[str, str]:
    """What is under a raw node: whether it is a file or a device is found out by looking."""
    return {name: text for name, text in options.items() if name != "driver" or text in NULL_DRIVERS}


def raw_options(options: Options) -> dict[str, str]:
    """Which part of the node below a raw node is."""
    return {name: text for name in ("offset", "size") if (text := options.pop(name)) is not None}


def nested_options(options: Options, prefix: str) -> Options:
    """Take those out that begin with ``PREFIX.``, without it."""
    found = [(name[len(prefix) + 1 :], text) for name, text in options.items if name.startswith(f"{prefix}.")]
    options.items = [item for item in options.items if not item[0].startswith(f"{prefix}.")]
    return Options(found)


def _path(file: str | None) -> str | None:
    """The path that a file name means: QEMU takes words before a colon for protocols."""
    if file is None:
        return None
    protocol, colon, rest = file.partition(":")
    if not colon or "/" in protocol:
        return file
    if protocol in FILE_DRIVERS:
        return rest
    raise CommandLineError(f"file={file}: Unknown protocol '{protocol}'; expected a path (./{file} for a name with a colon)")


def protocol_options(draft: Draft, options: Options, file: str | None = None) -> dict[str, str]:
    """Options of a protocol node, as a drive has them.

    :param file: its path, where that is known already
    """
    driver = options.pop("driver")
    refuse_extras(options)
    found: dict[str, str] = {}
    if driver in NULL_DRIVERS:
        found["driver"] = driver
        for name in ("size", "read-zeroes"):
            if (text := options.pop(name)) is not None:
                found[name] = text
        options.only("latency-ns", "0", because="there is no artificial latency; remove it")
    elif driver is None or driver in FILE_DRIVERS:
        file = options.pop("filename") or file
        if file is None:
            raise CommandLineError("Parameter 'filename' is missing")
        found["file"] = file
        if driver is not None:
            found["driver"] = driver
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
    """A drive for each node; those that stand inside another's options are one with it."""
    for name, (options, at) in draft.block_nodes.items():
        draft.at = at
        draft.entry("drives", name, {**_node(draft, Options(options.items())), "node-name": name})


def _node(draft: Draft, options: Options) -> dict[str, str]:
    """The drive that a node is, with the one below it."""
    driver = options.need("driver")
    if driver in (*FILE_DRIVERS, *NULL_DRIVERS):
        options.items.append(("driver", driver))
        return protocol_options(draft, options)
    below = _node_below(draft, options)
    refuse_extras(options)
    upper = {"format": driver, **raw_options(options)}
    if options.pop_bool("read-only"):
        upper["readonly"] = "on"
    take_cache_and_aio(draft, options, upper)
    options.end()
    discards = {upper.get("discard", "ignore"), below.get("discard", "ignore")}
    if "below" not in below and len(discards) > 1:
        draft.note("discards change nothing: it takes discard=unmap at both nodes")
        upper["discard"] = "ignore"
    return {**below, **upper}


def _node_below(draft: Draft, options: Options) -> dict[str, str]:
    """The drive that the node's ``file`` is: another node's name, or a node's options."""
    reference = options.pop("file")
    if reference is not None:
        if reference not in draft.block_nodes:
            raise CommandLineError(f"Cannot find device='' nor node-name='{reference}'")
        return {"driver": "raw", "below": reference}
    nested = nested_options(options, "file")
    name = nested.pop("node-name")
    found = _below_format(protocol_options(draft, nested))
    return found if name is None else {**found, "file-node-name": name}


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
