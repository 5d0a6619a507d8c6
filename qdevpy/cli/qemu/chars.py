# SPDX-License-Identifier: Apache-2.0
"""Options about characters: -chardev, -serial, -parallel, -debugcon, -mon, -monitor, -qmp, -qtest."""

from __future__ import annotations

from qdevpy.cli.qemu.draft import Draft
from qdevpy.cli.qemu.opts import CommandLineError, Options, parse_options, split
from qdevpy.errors import did_you_mean

#: names that QEMU has for what has another one here
ALIASES = {"memory": "ringbuf"}
#: words that stand alone in -serial and its like
PLAIN = ("null", "pty", "stdio")


def chardev(draft: Draft, text: str) -> None:
    """``-chardev TYPE,id=ID,...``."""
    options = parse_options(text, "backend")
    type_name = options.pop("backend")
    if type_name is None:
        raise CommandLineError("chardev: the type is missing; '-chardev help' lists them")
    name = options.pop("id")
    if name is None:
        raise CommandLineError("chardev: no id specified")
    add_chardev(draft, name, type_name, options)


def add_chardev(draft: Draft, name: str, type_name: str, options: Options) -> None:
    """An entry of ``chardevs:``, QEMU's defaults and spellings turned into ours."""
    type_name = ALIASES.get(type_name, type_name)
    known = draft.registry.backend_names("chardevs")
    if type_name not in known:
        hint = did_you_mean(type_name, known) or f"; expected one of {', '.join(known)}"
        raise CommandLineError(f"'{type_name}' is not a valid char driver name{hint}")
    draft.entry("chardevs", name, {"type": type_name, **chardev_options(type_name, options)})


def chardev_options(type_name: str, options: Options) -> dict[str, str]:
    """Options of one chardev as a definition has them."""
    found: dict[str, str] = {}
    if type_name == "stdio":
        found["signal"] = _word(options.pop_bool("signal"), "on")
    if type_name == "socket":
        for name in ("websocket", "tn3270", "abstract"):
            options.only(name, "off", "no", "false", because="only TCP, telnet and UNIX sockets are supported; remove it")
        options.only("tight", "on", "yes", "true", because="it is for abstract sockets; remove it")
        if options.pop_bool("delay") is False:
            found["nodelay"] = "on"
        if options.pop_bool("server"):
            found["server"] = "on"
            found["wait"] = _word(options.pop_bool("wait"), "on")
            if options.items.count(("host", "")):  # of tcp::PORT
                options.pop("host")
                found["host"] = "0.0.0.0"
        elif options.items.count(("host", "")):
            options.pop("host")
    found.update(options.rest())
    return found


def _word(value: bool | None, default: str) -> str:
    return default if value is None else "on" if value else "off"


# -- device strings: stdio, unix:PATH,server=on, tcp:HOST:PORT


def add_from_string(draft: Draft, name: str, text: str, *, mux_monitor: bool = False) -> str:
    """The chardev that a device string means.

    :param name: what a new one is called
    :param mux_monitor: ``mon:`` is taken
    :returns: the entry's name; another than NAME for ``chardev:ID``
    """
    kind, colon, rest = text.partition(":")
    if kind == "chardev" and colon:
        return rest
    extra: list[tuple[str, str]] = []
    if kind == "mon" and colon:
        if not mux_monitor:
            raise CommandLineError("mon: isn't supported in this context")
        extra = [("mux", "on")]
        text = rest
        if text == "stdio":
            extra.append(("signal", "off"))
        kind, colon, rest = text.partition(":")
    type_name, items = parse_device_string(text)
    add_chardev(draft, name, type_name, Options([*items, *extra]))
    if extra:
        draft.append("monitors", draft.map({"chardev": name, "mode": "readline"}))
    return name


def parse_device_string(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Type and options of ``unix:PATH,server=on`` and its like."""
    if text in PLAIN:
        return text, []
    kind, colon, rest = text.partition(":")
    if colon and kind in ("file", "pipe"):
        return kind, [("path", rest)]
    if colon and kind == "unix":
        return "socket", list(split(rest, "path"))
    if colon and kind in ("tcp", "telnet"):
        address, _, options = rest.partition(",")
        host, _, port = address.rpartition(":")
        protocol = [("telnet", "on")] if kind == "telnet" else []
        return "socket", [("host", host), ("port", port), *protocol, *split(options)]
    if colon and kind == "udp":
        return "udp", _udp_addresses(rest)
    accepted = (
        "null, pty, stdio, file:PATH, pipe:PATH, unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT, udp:HOST:PORT, mon:..., chardev:ID"
    )
    raise CommandLineError(f"'{text}' is not a valid char driver; expected one of {accepted}")


def _udp_addresses(text: str) -> list[tuple[str, str]]:
    """``[HOST]:PORT[@[LOCAL]:PORT]``."""
    remote, _, local = text.partition("@")
    host, _, port = remote.rpartition(":")
    own_host, _, own_port = local.rpartition(":")
    named = (("host", host), ("port", port), ("localaddr", own_host), ("localport", own_port))
    return [(name, value) for name, value in named if value]


# -- who uses them


def serial(draft: Draft, text: str) -> None:
    """``-serial DEV``; the port is made at the end, by :func:`add_serials`."""
    draft.default_serial = False
    if text.startswith("mon:"):
        draft.default_monitor = False
    draft.serials.append((text, draft.at))


def add_serials(draft: Draft) -> None:
    """A COM port for each ``-serial``, in order; ``none`` leaves its number free."""
    for number, (text, at) in enumerate(draft.serials):
        draft.at = at
        if text == "none":
            continue
        if number > 3:
            raise CommandLineError("a pc has four serial ports; remove one, or use virtconsole")
        name = add_from_string(draft, f"serial{number}", text, mux_monitor=True)
        skipped = any(before == "none" for before, _ in draft.serials[:number])
        options = {"index": str(number)} if skipped else {}
        draft.board_devices.append(draft.device("isa-serial", {**options, "chardev": name}))


def parallel(draft: Draft, text: str) -> None:
    """``-parallel none``."""
    if text not in ("none", "null"):
        raise CommandLineError("there is no parallel port; expected none")


def debugcon(draft: Draft, text: str) -> None:
    """``-debugcon DEV``: what the guest writes to a port, 0xE9 where ``-global`` says nothing else."""
    draft.debugcons.append((text, draft.at))


def add_debugcons(draft: Draft) -> None:
    """A port for each ``-debugcon``; made after all chardevs are known."""
    for number, (text, at) in enumerate(draft.debugcons):
        draft.at = at
        name = add_from_string(draft, f"debugcon{number}", text, mux_monitor=True)
        draft.board_devices.append(draft.device("isa-debugcon", {"chardev": name}))


def add_monitor(draft: Draft, text: str, mode: str, pretty: bool = False) -> None:
    """A monitor on a device string."""
    draft.default_monitor = False
    if text == "none":
        return
    name = add_from_string(draft, f"compat_monitor{draft.monitor_count}", text, mux_monitor=False)
    draft.monitor_count += 1
    options = {"chardev": name, "mode": mode}
    draft.append("monitors", draft.map({**options, "pretty": "on"} if pretty else options))


def monitor(draft: Draft, text: str) -> None:
    """``-monitor DEV``."""
    add_monitor(draft, text, "readline")


def qmp(draft: Draft, text: str) -> None:
    """``-qmp DEV``."""
    add_monitor(draft, text, "control")


def qmp_pretty(draft: Draft, text: str) -> None:
    """``-qmp-pretty DEV``."""
    add_monitor(draft, text, "control", pretty=True)


def mon(draft: Draft, text: str) -> None:
    """``-mon [chardev=]ID,mode=control``."""
    options = parse_options(text, "chardev")
    draft.default_monitor = False
    found = {"chardev": options.need("chardev"), "mode": options.pop("mode") or "readline"}
    if options.pop_bool("pretty"):
        found["pretty"] = "on"
    options.pop("id")  # names a monitor that nothing refers to
    options.end()
    draft.append("monitors", draft.map(found))


def qtest(draft: Draft, text: str) -> None:
    """``-qtest DEV``."""
    draft.put(add_from_string(draft, "qtest", text), "qtest", "chardev")


def qtest_log(draft: Draft, text: str) -> None:
    """``-qtest-log FILE``."""
    draft.put(text, "qtest", "log")
