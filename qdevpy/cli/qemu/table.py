# SPDX-License-Identifier: Apache-2.0
"""QEMU's options, those that we have and those that we do not, with what to do instead: one table.

``-help`` and docs/qemu-command-line.md are made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from qdevpy.cli.qemu import blocks, chars, devices, machine, process
from qdevpy.cli.qemu.draft import Draft


class Option(NamedTuple):
    """One option.

    :ivar name: without dashes
    :ivar argument: what follows it, for people; empty: nothing does
    :ivar help: one line
    :ivar handler: carries it out; gets an empty text where nothing follows
    """

    name: str
    argument: str
    help: str
    handler: Callable[[Draft, str], None]


def _refused(names: tuple[str, ...], argument: str, because: str) -> tuple[Option, ...]:
    return tuple(Option(name, argument, f"not here: {because}", process.refuse(because)) for name in names)


_NO_IDE = "there is no IDE and no floppy; use -drive file=FILE,format=raw,if=virtio"

#: heading -> options
GROUPS: dict[str, tuple[Option, ...]] = {
    "Machine": (
        Option(
            "machine", "[type=]NAME[,accel=A[:B...]][,OPTION=VALUE...]", "board and its options ('help' lists)", machine.machine
        ),
        Option("M", "NAME", "the same", machine.machine),
        Option("accel", "[accel=]NAME", "what runs the guest: kvm, qtest, none; several: the first that works", machine.accel),
        Option("enable-kvm", "", "the same as -accel kvm", machine.enable_kvm),
        Option("cpu", "MODEL[,+FEATURE][,FEATURE=off]", "model and features of the CPUs ('help' lists)", machine.cpu),
        Option(
            "smp", "[cpus=]N[,sockets=][,dies=][,cores=][,threads=][,maxcpus=]", "number and arrangement of CPUs", machine.smp
        ),
        Option("m", "[size=]MEGABYTES", "RAM; also with suffix K, M, G or T", machine.memory),
        Option("rtc", "[base=utc|localtime|DATE][,clock=host|rt|vm][,driftfix=none|slew]", "the clock", machine.rtc),
        Option("uuid", "UUID", "of the machine, for firmware tables", machine.uuid),
        Option("name", "[guest=]NAME[,process=NAME][,debug-threads=on|off]", "of the guest, and of the process", machine.name),
        Option("no-acpi", "", "the same as -machine acpi=off", machine.no_acpi),
        Option("no-fd-bootchk", "", "the same as -machine fd-bootchk=off", machine.no_fd_bootchk),
        Option("no-hpet", "", "the same as -machine hpet=off", machine.no_hpet),
    ),
    "Booting": (
        Option("kernel", "FILE", "Linux or ELF kernel", machine.kernel),
        Option("initrd", "FILE", "initial RAM disk", machine.initrd),
        Option("append", "TEXT", "the kernel's command line", machine.append),
        Option("bios", "FILE", "firmware, a path or a name that is looked for", machine.bios),
        Option("L", "FOLDER", "where firmware and option ROMs are looked for first; may be repeated", machine.data_dir),
        Option(
            "boot",
            "[order=]DRIVES[,once=][,menu=on|off][,strict=on|off][,reboot-timeout=MS][,splash-time=MS]",
            "what firmware tries, in which order: c disk, d CD, n network",
            machine.boot,
        ),
        Option("fw_cfg", "[name=]NAME,file=FILE | NAME,string=TEXT", "a file for the firmware", machine.fw_cfg),
        Option("smbios", "type=N,FIELD=VALUE... | file=FILE", "additions to the SMBIOS tables", machine.smbios),
    ),
    "Devices": (
        Option(
            "device",
            "TYPE[,id=ID][,bus=BUS][,PROPERTY=VALUE...]",
            "a device ('help' lists; 'TYPE,help': its properties)",
            devices.device,
        ),
        Option("global", "TYPE.PROPERTY=VALUE", "default for all devices of a type", devices.global_default),
        Option("object", "iothread,id=ID[,OPTION=VALUE...]", "what devices refer to ('help' lists)", devices.host_object),
        Option("nodefaults", "", "no device that was not asked for", process.nodefaults),
    ),
    "Disks": (
        Option(
            "drive",
            "file=FILE[,format=raw][,if=none|virtio|pflash][,id=ID][,readonly=on][,media=disk|cdrom][,cache=MODE][,aio=threads|native|io_uring]"
            "[,discard=unmap|ignore][,werror=][,rerror=]",
            "an image; with if=virtio its disk, too; with if=pflash the board's flash",
            blocks.drive,
        ),
        Option(
            "blockdev",
            "DRIVER,node-name=NAME[,OPTION=VALUE...]",
            "a block node: raw, file, host_device, null-co",
            blocks.blockdev,
        ),
        Option("pflash", "FILE", "the same as -drive if=pflash,format=raw,file=FILE", blocks.pflash),
    ),
    "Network": (
        Option("netdev", "TYPE,id=ID[,OPTION=VALUE...]", "the host's side of a network card ('help' lists)", devices.netdev),
        Option("nic", "TYPE[,model=virtio-net-pci][,mac=MAC][,OPTION=VALUE...] | none", "both sides in one", devices.nic),
        Option("net", "none", "accepted", devices.net),
    ),
    "Characters and monitors": (
        Option("chardev", "TYPE,id=ID[,OPTION=VALUE...]", "where characters go and come from ('help' lists)", chars.chardev),
        Option(
            "serial",
            "DEV",
            "a serial port: null, pty, stdio, file:, pipe:, unix:, tcp:, telnet:, udp:, mon:DEV, chardev:ID, none",
            chars.serial,
        ),
        Option("debugcon", "DEV", "isa-debugcon on DEV", chars.debugcon),
        Option("parallel", "none", "accepted", chars.parallel),
        Option("monitor", "DEV", "human monitor on DEV, or none", chars.monitor),
        Option("qmp", "DEV", "QMP on DEV", chars.qmp),
        Option("qmp-pretty", "DEV", "the same, with indented answers", chars.qmp_pretty),
        Option("mon", "[chardev=]ID[,mode=readline|control][,pretty=on|off]", "a monitor on a chardev", chars.mon),
        Option("nographic", "", "the first serial port and the monitor share the terminal", process.nographic),
        Option("display", "none", "there are no displays", process.display),
        Option("vga", "none", "there are no graphics cards", process.vga),
        Option("qtest", "DEV", "QEMU's qtest protocol on DEV", chars.qtest),
        Option("qtest-log", "FILE", "file that gets every line of it, or none", chars.qtest_log),
    ),
    "Running": (
        Option("S", "", "wait for a monitor's 'cont' before the first instruction", machine.paused),
        Option("preconfig", "", "wait for QMP's 'x-exit-preconfig'; until then few commands are there", machine.preconfig),
        Option("no-reboot", "", "a reset ends the machine", machine.no_reboot),
        Option("no-shutdown", "", "power-off leaves the machine standing", machine.no_shutdown),
        Option(
            "action",
            "[reboot=reset|shutdown][,shutdown=poweroff|pause][,panic=pause|shutdown|exit-failure|none]",
            "what follows what the guest does",
            machine.action,
        ),
        Option("daemonize", "", "go into the background once everything is open", process.daemonize),
        Option("pidfile", "FILE", "file that gets the process id", process.pid_file),
        Option("readconfig", "FILE", "read options from an ini file", process.read_config),
        Option("d", "ITEM[,...]", "log more (items: see -d help)", process.log_items),
        Option("D", "FILE", "log to FILE instead of stderr", process.log_file),
        Option("trace", "file=FILE", "write what happens to FILE, for ui.perfetto.dev", process.trace),
        Option("msg", "[timestamp=on|off]", "times in front of messages", process.messages),
        Option("sandbox", "off", "accepted", process.sandbox),
        Option("no-user-config", "", "accepted; there is none", process.nothing),
        Option("overcommit", "[mem-lock=off][,cpu-pm=off]", "accepted where off", process.overcommit),
        Option("help", "", "this", process.nothing),
        Option("version", "", "print the version", process.nothing),
    ),
    "Not here": (
        *_refused(("hda", "hdb", "hdc", "hdd", "fda", "fdb"), "FILE", _NO_IDE),
        *_refused(("cdrom",), "FILE", "there is no IDE; use -drive file=FILE,format=raw,if=virtio,readonly=on"),
        *_refused(("sd", "mtdblock"), "FILE", "there is no such controller; use -drive file=FILE,format=raw,if=virtio"),
        *_refused(("iscsi",), "OPTIONS", "images are files and block devices of the host; remove it"),
        *_refused(("snapshot",), "", "there are no temporary overlays; copy the image"),
        *_refused(("fsdev", "virtfs"), "OPTIONS", "there is no 9p; remove it"),
        *_refused(("incoming",), "URI", "machines do not migrate"),
        *_refused(("loadvm",), "NAME", "machines are not saved"),
        *_refused(("only-migratable",), "", "machines do not migrate; remove it"),
        *_refused(("dump-vmstate",), "FILE", "machines do not migrate; remove it"),
        *_refused(("numa",), "OPTIONS", "there is one NUMA node; remove it"),
        *_refused(("mem-path",), "PATH", "RAM is the machine's own; remove it"),
        *_refused(("mem-prealloc",), "", "RAM is taken when the guest touches it; remove it"),
        *_refused(("tpmdev",), "OPTIONS", "there is no TPM; remove it"),
        *_refused(("usb",), "", "there is no USB; remove it"),
        *_refused(("usbdevice",), "NAME", "there is no USB; remove it"),
        *_refused(("audiodev", "audio"), "OPTIONS", "there is no sound; remove it"),
        *_refused(("audio-help",), "", "there is no sound; remove it"),
        *_refused(("spice", "vnc"), "OPTIONS", "there are no displays; remove it, or write -display none"),
        *_refused(("full-screen", "portrait"), "", "there are no displays; remove it"),
        *_refused(("rotate", "k"), "WORD", "there are no displays; remove it"),
        *_refused(("gdb",), "DEV", "there is no debugger stub; remove it"),
        *_refused(("s",), "", "there is no debugger stub; remove it"),
        *_refused(("acpitable",), "OPTIONS", "ACPI tables are the board's; remove it"),
        *_refused(("option-rom",), "FILE", "option ROMs belong to devices: -device TYPE,romfile=FILE"),
        *_refused(("dtb",), "FILE", "a pc has no device tree; remove it"),
        *_refused(("set",), "GROUP.ID.NAME=VALUE", "write NAME=VALUE at the option that has the id"),
        *_refused(("add-fd",), "OPTIONS", "give the file's name; /dev/fd/N is one"),
        *_refused(("writeconfig",), "FILE", "'qdevpy import' writes a machine's YAML"),
        *_refused(("dfilter",), "OPTIONS", "there are no trace points; use -d"),
        *_refused(("icount", "plugin"), "OPTIONS", "it is for emulated processors; remove it"),
        *_refused(("singlestep", "win2k-hack"), "", "it is for emulated processors and disks; remove it"),
        *_refused(("seed",), "NUMBER", "random numbers are the host's; remove it"),
        *_refused(("compat",), "OPTIONS", "nothing here is deprecated; remove it"),
        *_refused(("echr",), "CHARACTER", "the terminal's escape character is Ctrl-A; remove it"),
        *_refused(("watchdog-action",), "ACTION", "there are no watchdogs; remove it"),
        *_refused(("async-teardown", "enable-sync-profile"), "", "there is no such thing; remove it"),
        *_refused(("xen-attach", "xen-domid-restrict"), "", "there is no Xen; remove it"),
        *_refused(("xen-domid",), "ID", "there is no Xen; remove it"),
        *_refused(("chroot",), "FOLDER", "start the program in the folder that it is to see"),
        *_refused(("runas",), "USER", "start the program as the user that it is to be"),
    ),
}

OPTIONS: dict[str, Option] = {option.name: option for group in GROUPS.values() for option in group}
