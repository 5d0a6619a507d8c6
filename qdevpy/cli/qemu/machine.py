# SPDX-License-Identifier: Apache-2.0
"""Options about the machine: -machine, -accel, -cpu, -m, -smp, -boot, -rtc and how it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdevpy.cli.qemu import shared_memory
from qdevpy.cli.qemu.draft import Draft
from qdevpy.cli.qemu.opts import CommandLineError, Options, parse_options
from qdevpy.definition.dump import size_text
from qdevpy.definition.nodes import Map, Text
from qdevpy.errors import UnknownNameError
from qdevpy.qdev.kinds import Size

if TYPE_CHECKING:
    from qdevpy.vm.board import Board

#: accelerators of QEMU that are not here, and why not
REFUSED_ACCELS = {
    "tcg": "there is no emulation of processors; expected one of kvm, qtest, none",
    "xen": "expected one of kvm, qtest, none",
    "hax": "expected one of kvm, qtest, none",
    "hvf": "expected one of kvm, qtest, none",
    "nvmm": "expected one of kvm, qtest, none",
    "whpx": "expected one of kvm, qtest, none",
}
ACCELS = ("kvm", "qtest", "none")

#: bytes of which RAM is a multiple (set_memory_options() of QEMU's softmmu/vl.c)
MEMORY_UNIT = 8192

_OFF, _ON = ("off", "no", "false"), ("on", "yes", "true")
#: machine options of QEMU that boards here do not have -> what they may say nevertheless, and what to do about the rest
SAID_ANYWAY = {
    "sata": (_OFF, "there is no SATA; use virtio-blk-pci"),
    "nvdimm": (_OFF, "there are no NVDIMMs; remove it"),
    "suppress-vmdesc": ((*_ON, *_OFF), "expected on or off"),
    "hmat": (_OFF, "there is one NUMA node; remove it"),
    "kvm-shadow-mem": ((), "KVM decides; remove it"),
}


def machine(draft: Draft, text: str) -> None:
    """``-machine [type=]NAME,accel=A:B,OPTION=VALUE``; a later one adds to it."""
    options = parse_options(text, "type")
    if (name := options.pop("type")) is not None:
        draft.put(name, "machine")
    if (accels := options.pop("accel")) is not None:
        for word in accels.split(":"):
            add_accel(draft, word)
    _irqchip(options)
    for prefix, take in (("smp", take_smp), ("memory", take_memory), ("boot", take_boot)):
        nested = Options((name[len(prefix) + 1 :], text) for name, text in options.items if name.startswith(f"{prefix}."))
        if nested.items:
            options.items = [item for item in options.items if not item[0].startswith(f"{prefix}.")]
            take(draft, nested)
    for name, key in (("kernel", "kernel"), ("initrd", "initrd"), ("append", "cmdline"), ("firmware", "firmware")):
        if (value := options.pop(name)) is not None:
            draft.put(value, "boot", key)
    for name, value in options.rest().items():
        draft.put(value, "machine-options", name.replace("_", "-"))


def accel(draft: Draft, text: str) -> None:
    """``-accel NAME,OPTION=VALUE``; the first that works is taken."""
    options = parse_options(text, "accel")
    name = options.need("accel")
    add_accel(draft, name)
    _irqchip(options)
    options.only("thread", "multi", because="every CPU has a thread of its own; remove it")
    options.only("dirty-ring-size", "0", because="nothing looks at dirty pages; remove it")
    options.end()


def _irqchip(options: Options) -> None:
    because = "interrupt controllers are the accelerator's; expected on"
    options.only("kernel-irqchip", "on", "yes", "true", because=because)
    options.only("kernel_irqchip", "on", "yes", "true", because=because)


def add_accel(draft: Draft, name: str) -> None:
    """One more to try."""
    if name not in ACCELS and name not in REFUSED_ACCELS:
        raise CommandLineError(f"invalid accelerator {name}; expected one of {', '.join(ACCELS)}")
    draft.accelerators.append((name, draft.at))


def choose_accel(draft: Draft) -> None:
    """The first of those given that we have, and that works where there is a choice.

    :raises CommandLineError: we have none of them
    """
    ours = [pair for pair in draft.accelerators if pair[0] in ACCELS]
    if draft.accelerators and not ours:
        name, draft.at = draft.accelerators[-1]
        raise CommandLineError(f"accelerator {name} is not supported: {REFUSED_ACCELS[name]}")
    if ours:
        name, draft.at = next((pair for pair in ours if _works(pair[0])), ours[0]) if len(ours) > 1 else ours[0]
        draft.put(name, "accel")


def _works(name: str) -> bool:
    import os

    return name != "kvm" or os.access("/dev/kvm", os.R_OK | os.W_OK)


def enable_kvm(draft: Draft, text: str) -> None:
    """``-enable-kvm``."""
    add_accel(draft, "kvm")


def find_board(draft: Draft) -> type[Board] | None:
    """The board that was asked for, or the default; None: there is none of that name, which is said later."""
    found = draft.root.get("machine")
    try:
        return draft.registry.board(found.text if isinstance(found, Text) else "pc")
    except UnknownNameError:
        return None


def drop_said_anyway(draft: Draft) -> None:
    """Machine options that the board does not have, where they say what is so without them.

    :raises CommandLineError: they say something else
    """
    board, given = find_board(draft), draft.root.get("machine-options")
    if board is None or not isinstance(given, Map):
        return
    shared_memory.take_machine_option(draft, given, board.default_memory)
    for name in [name for name in given.entries if name in SAID_ANYWAY and name not in board.options()]:
        accepted, because = SAID_ANYWAY[name]
        value = given.entries.pop(name)[1]
        if value.text not in accepted:
            draft.at = value.position
            raise CommandLineError(f"{name}={value.text}: {because}")
    if not given.entries:
        del draft.root.entries["machine-options"]


def no_graphics(draft: Draft) -> None:
    """What ``-nographic`` says to firmware."""
    board = find_board(draft)
    if board is not None and "graphics" in board.options():
        draft.root.entries.setdefault("machine-options", (draft.text("machine-options"), draft.map({})))
        draft.root.entries["machine-options"][1].entries.setdefault("graphics", (draft.text("graphics"), draft.text("off")))


def no_acpi(draft: Draft, text: str) -> None:
    """``-no-acpi``."""
    draft.put("off", "machine-options", "acpi")


def no_fd_bootchk(draft: Draft, text: str) -> None:
    """``-no-fd-bootchk``."""
    draft.put("off", "machine-options", "fd-bootchk")


def no_hpet(draft: Draft, text: str) -> None:
    """``-no-hpet``."""
    draft.put("off", "machine-options", "hpet")


def cpu(draft: Draft, text: str) -> None:
    """``-cpu MODEL,+FEATURE,FEATURE=off``."""
    draft.put(text, "cpu")


def memory(draft: Draft, text: str) -> None:
    """``-m [size=]MEGABYTES``."""
    take_memory(draft, parse_options(text, "size"))


def take_memory(draft: Draft, options: Options) -> None:
    """``size``, and no room for more."""
    size = options.pop("size")
    options.only("slots", "0", because="memory is not hot-plugged; give all of it as size")
    options.only("maxmem", size or "", because="memory is not hot-plugged; give all of it as size")
    options.pop("max-size")
    options.end()
    if size is not None and size != "0":
        draft.put(_round_up(f"{size}M" if size.isdecimal() else size), "memory")


def _round_up(size: str) -> str:
    """SIZE in whole units of 8 KiB, as QEMU does; half ones stay, for a definition can have them."""
    try:
        number = Size().parse(size)
    except ValueError:  # told with the rest of the definition
        return size
    if number % (MEMORY_UNIT // 2) == 0 or number < MEMORY_UNIT:
        return size
    return size_text(-(-number // MEMORY_UNIT) * MEMORY_UNIT)


def smp(draft: Draft, text: str) -> None:
    """``-smp [cpus=]N,sockets=,dies=,cores=,threads=,maxcpus=``."""
    take_smp(draft, parse_options(text, "cpus"))


def take_smp(draft: Draft, options: Options) -> None:
    """Number and arrangement of CPUs; what is not given follows from the rest, sockets first (QEMU's machine-smp.c)."""
    given = {name: _count(options, name) for name in ("cpus", "sockets", "dies", "cores", "threads", "maxcpus")}
    options.only("clusters", "1", because="a pc has no clusters of cores; expected 1")
    options.end()
    most = given["maxcpus"] or given["cpus"]
    factors = {name: given[name] or 1 for name in ("sockets", "dies", "cores", "threads")}
    product = factors["sockets"] * factors["dies"] * factors["cores"] * factors["threads"]
    if most:
        for name in ("sockets", "cores", "threads"):  # the first that is free takes what is left
            if given[name] is None:
                factors[name] = max(1, most // product)
                product = factors["sockets"] * factors["dies"] * factors["cores"] * factors["threads"]
                break
    most = most or product
    cpus = given["cpus"] or most
    if product != most:
        hierarchy = " * ".join(f"{name} ({factors[name]})" for name in factors)
        raise CommandLineError(
            f"Invalid CPU topology: product of the hierarchy must match maxcpus: {hierarchy} != maxcpus ({most})"
        )
    if cpus > most:
        raise CommandLineError(
            f"Invalid CPU topology: maxcpus must be equal to or greater than smp: maxcpus ({most}), smp ({cpus})"
        )
    if cpus != most:
        raise CommandLineError(f"maxcpus={most}: CPUs are not hot-plugged; expected as many as there are, {cpus}")
    draft.put(str(cpus), "cpus")
    if any(given[name] is not None for name in factors):
        for name, value in factors.items():
            draft.put(str(value), "topology", name)


def _count(options: Options, name: str) -> int | None:
    text = options.pop(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise CommandLineError(f"Parameter '{name}' expects a number, not '{text}'")
    if int(text) == 0:
        raise CommandLineError(f"Invalid CPU topology: CPU topology parameters must be greater than zero ({name}=0)")
    return int(text)


# -- booting


def boot(draft: Draft, text: str) -> None:
    """``-boot [order=]DRIVES,once=,menu=,...``."""
    take_boot(draft, parse_options(text, "order"))


def take_boot(draft: Draft, options: Options) -> None:
    """What firmware is told."""
    for name in ("order", "once", "menu", "strict", "reboot-timeout", "splash-time"):
        if (value := options.pop(name)) is not None:
            draft.put(value, "boot", name)
    options.end()


def kernel(draft: Draft, text: str) -> None:
    """``-kernel FILE``."""
    draft.put(text, "boot", "kernel")


def initrd(draft: Draft, text: str) -> None:
    """``-initrd FILE``."""
    draft.put(text, "boot", "initrd")


def append(draft: Draft, text: str) -> None:
    """``-append TEXT``."""
    draft.put(text, "boot", "cmdline")


def bios(draft: Draft, text: str) -> None:
    """``-bios FILE``: a file of that name, or one that is looked for."""
    import os

    draft.put(text if "/" in text or not os.path.exists(text) else f"./{text}", "boot", "firmware")


def data_dir(draft: Draft, text: str) -> None:
    """``-L FOLDER``."""
    draft.append("data-dirs", draft.text(text))


def fw_cfg(draft: Draft, text: str) -> None:
    """``-fw_cfg [name=]NAME,file=FILE`` or ``string=TEXT``."""
    options = parse_options(text, "name")
    name = options.need("name")
    found = {key: value for key in ("file", "string") if (value := options.pop(key)) is not None}
    options.end()
    for key, value in found.items():
        draft.put(value, "fw_cfg", name, key)


def smbios(draft: Draft, text: str) -> None:
    """``-smbios type=N,FIELD=VALUE`` or ``file=FILE``."""
    draft.append("smbios", draft.map(parse_options(text).items))


def rtc(draft: Draft, text: str) -> None:
    """``-rtc base=,clock=,driftfix=``."""
    options = parse_options(text)
    for name in ("base", "clock", "driftfix"):
        if (value := options.pop(name)) is not None:
            draft.put(value, "rtc", name)
    options.end()


def name(draft: Draft, text: str) -> None:
    """``-name [guest=]NAME,process=NAME,debug-threads=on``."""
    options = parse_options(text, "guest")
    if (guest := options.pop("guest")) is not None:
        draft.put(guest, "name")
    draft.host = draft.host._replace(process=options.pop("process") or draft.host.process)
    options.pop_bool("debug-threads")  # threads have names anyway
    options.end()


def uuid(draft: Draft, text: str) -> None:
    """``-uuid UUID``."""
    draft.put(text, "uuid")


# -- how it runs


def paused(draft: Draft, text: str) -> None:
    """``-S``."""
    draft.put("on", "run", "paused")


def preconfig(draft: Draft, text: str) -> None:
    """``-preconfig``."""
    draft.put("on", "run", "preconfig")


def no_reboot(draft: Draft, text: str) -> None:
    """``-no-reboot``."""
    draft.put("off", "run", "reboot")


def no_shutdown(draft: Draft, text: str) -> None:
    """``-no-shutdown``."""
    draft.put("off", "run", "shutdown")


def action(draft: Draft, text: str) -> None:
    """``-action reboot=,shutdown=,panic=,watchdog=``."""
    options = parse_options(text)
    for key, stays, ends in (("reboot", "reset", "shutdown"), ("shutdown", "pause", "poweroff")):
        word = options.pop(key)
        if word is None:
            continue
        if word not in (stays, ends):
            raise CommandLineError(f"Parameter '{key}' does not accept value '{word}'; expected {stays} or {ends}")
        draft.put("on" if (word == stays) == (key == "reboot") else "off", "run", key)
    if (panic := options.pop("panic")) is not None:
        draft.put(panic, "run", "panic")
    options.only("watchdog", "reset", because="there are no watchdogs; remove it")
    options.end()
