# SPDX-License-Identifier: Apache-2.0
"""What QEMU's options mean, as YAML; and what is said about those that cannot be taken."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qdevpy.cli.qemu.parser import HelpWantedError, Parsed
from qdevpy.cli.qemu.table import GROUPS, OPTIONS
from qdevpy.errors import LocatedError

Parse = Callable[..., Parsed]
Import = Callable[..., str]

HEAD = "machine: pc\naccel: kvm\n"
NO = ("-nodefaults",)

CASES = {
    "nothing": ("", 'chardevs:\n  serial0: {type: "null"}\ndevices:\n  - isa-serial: {chardev: serial0}\n'),
    "nodefaults": ("-nodefaults", ""),
    "double dash": ("--nodefaults --m 1G", "memory: 1G\n"),
    "memory in megabytes": ("-nodefaults -m 96", "memory: 96M\n"),
    "memory with suffix": ("-nodefaults -m size=1.5G,slots=0,maxmem=1.5G", "memory: 1536M\n"),
    "memory in whole units of 8 KiB": ("-nodefaults -m 12345k", "memory: 12352K\n"),
    "smp": ("-nodefaults -smp 4", "cpus: 4\n"),
    "smp with cores": (
        "-nodefaults -smp 4,cores=2",
        "cpus: 4\ntopology: {sockets: 2, dies: 1, cores: 2, threads: 1}\n",
    ),
    "smp without number": (
        "-nodefaults -smp sockets=2,threads=2",
        "cpus: 4\ntopology: {sockets: 2, dies: 1, cores: 1, threads: 2}\n",
    ),
    "smp of the machine": ("-nodefaults -M pc,smp.cpus=2", "cpus: 2\n"),
    "cpu": ("-nodefaults -cpu host,-avx2", 'cpu: "host,-avx2"\n'),
    "names": ("-nodefaults -name guest=a,debug-threads=on -uuid 01234567-89ab-cdef-0123-456789abcdef", None),
    "rtc": ("-nodefaults -rtc base=utc,clock=vm", "rtc: {base: utc, clock: vm}\n"),
    "acpi": ("-nodefaults -no-acpi -no-hpet -M nvdimm=off", "MACHINE machine-options: {acpi: off, hpet: off}\n"),
    "boot": (
        "-nodefaults -boot c -boot once=d,menu=on",
        "boot:\n  order: c\n  once: d\n  menu: on\n",
    ),
    "fw_cfg": ("-nodefaults -fw_cfg opt/a,string=x,,y", 'fw_cfg:\n  opt/a: {string: "x,y"}\n'),
    "smbios": ("-nodefaults -smbios type=1,serial=7", "smbios:\n  - {type: 1, serial: 7}\n"),
    "run": (
        "-nodefaults -S -no-reboot -no-shutdown -action panic=none",
        "run: {paused: on, reboot: off, shutdown: off, panic: none}\n",
    ),
    "action": ("-nodefaults -action reboot=shutdown,shutdown=pause", "run: {reboot: off, shutdown: off}\n"),
    "action that says the default": ("-nodefaults -action reboot=reset,shutdown=poweroff,watchdog=reset", ""),
    "device as JSON": (
        """-nodefaults -device {"driver":"virtio-net-pci","id":"a","mq":true,"vectors":3}""",
        "devices:\n  - virtio-net-pci: {id: a, mq: on, vectors: 3}\n",
    ),
    "list in a device as JSON": (
        """-nodefaults -object iothread,id=a -object iothread,id=b -device {"driver":"virtio-net-pci","id":"n","""
        """"iothread-vq-mapping":[{"iothread":"a","vqs":[0,2]},{"iothread":"b","vqs":[1]}]}""",
        "objects:\n  a: {type: iothread}\n  b: {type: iothread}\n"
        "devices:\n  - virtio-net-pci: {id: n, iothread-vq-mapping: [{iothread: a, vqs: [0, 2]}, {iothread: b, vqs: [1]}]}\n",
    ),
    "device as JSON in single quotes": (
        """-nodefaults -device {'driver':'virtio-net-pci','id':'a'}""",
        "devices:\n  - virtio-net-pci: {id: a}\n",
    ),
    "bool without value": (
        "-nodefaults -device virtio-net-pci,mq,noctrl_vq",
        "devices:\n  - virtio-net-pci: {mq: on, ctrl_vq: off}\n",
    ),
    "ioeventfd off where there is none": (
        "-nodefaults -device virtio-serial-pci,ioeventfd=off",
        "devices:\n  - virtio-serial-pci\n",
    ),
    "globals": (
        "-nodefaults -global virtio-blk-pci.serial=a=b -global driver=virtio-net-pci,property=mq,value=on",
        "global:\n  virtio-blk-pci.serial: a=b\n  virtio-net-pci.mq: on\n",
    ),
    "iothread as JSON": (
        """-nodefaults -object {"qom-type":"iothread","id":"io"} -object iothread,id=b,poll-max-ns=5""",
        "objects:\n  io: {type: iothread}\n  b: {type: iothread, poll-max-ns: 5}\n",
    ),
    "drive of virtio": (
        "-nodefaults -device virtio-net-pci -drive file=disk,if=virtio,format=raw,readonly=on",
        "drives:\n  virtio0: {readonly: on, file: disk, format: raw}\n"
        "devices:\n  - virtio-net-pci\n  - virtio-blk-pci: {drive: virtio0}\n",
    ),
    "drive of virtio with an index": (
        "-nodefaults -drive file=disk,if=virtio,index=3",
        "drives:\n  virtio3: {file: disk}\ndevices:\n  - virtio-blk-pci: {drive: virtio3}\n",
    ),
    "cdrom": ("-nodefaults -drive file=disk,if=none,id=d,media=cdrom", "drives:\n  d: {readonly: on, file: disk}\n"),
    "cache none": (
        "-nodefaults -drive file=disk,if=none,id=d,cache=none,aio=io_uring,discard=on",
        "drives:\n  d: {cache.direct: on, file: disk, aio: io_uring, discard: unmap}\n",
    ),
    "cache writethrough": (
        "-nodefaults -drive file=disk,if=none,id=d,cache=writethrough -device virtio-blk-pci,drive=d",
        "drives:\n  d: {file: disk}\ndevices:\n  - virtio-blk-pci: {drive: d, write-cache: off}\n",
    ),
    "null drives": (
        "-nodefaults -drive if=none,id=a,file=null-co://,file.size=1M,file.read-zeroes=on,format=raw "
        "-drive driver=null-aio,if=none,id=b -drive if=none,id=c -drive driver=null-co,size=2M,snapshot=on,if=none,id=d",
        "drives:\n  a: {driver: null-co, size: 1M, read-zeroes: on, format: raw}\n  b: {driver: null-aio}\n"
        "  c: {driver: none}\n  d: {scratch: 2M}\n",
    ),
    "file in other words": (
        "-nodefaults -drive file=file:disk,if=none,id=a -drive file.driver=file,file.filename=disk,if=none,id=b,format=raw",
        "drives:\n  a: {file: disk}\n  b: {file: disk, format: raw}\n",
    ),
    "nodes": (
        "-nodefaults -blockdev file,node-name=f,filename=disk,cache.direct=on -blockdev raw,node-name=r,file=f,read-only=on",
        "drives:\n  f: {file: disk, driver: file, cache.direct: on, node-name: f}\n"
        "  r: {driver: raw, below: f, format: raw, readonly: on, node-name: r}\n",
    ),
    "node inside another": (
        """-nodefaults -blockdev {"driver":"raw","node-name":"r","file":{"driver":"file","node-name":"f","filename":"disk"}}""",
        "drives:\n  r: {file: disk, file-node-name: f, format: raw, node-name: r}\n",
    ),
    "netdevs": (
        "-nodefaults -netdev user,id=u,hostfwd=tcp::1-:2,hostfwd=udp::3-:4 -netdev hubport,id=h,hubid=1 "
        "-netdev dgram,id=d,local.type=unix,local.path=a,remote.type=unix,remote.path=b",
        'netdevs:\n  u: {type: user, hostfwd: "tcp::1-:2 udp::3-:4"}\n  h: {type: hubport, hubid: 1}\n'
        "  d: {type: dgram, local.type: unix, local.path: a, remote.type: unix, remote.path: b}\n",
    ),
    "netdev as JSON": (
        """-nodefaults -netdev {"type":"user","id":"u","hostfwd":[{"str":"tcp::1-:2"}]}""",
        'netdevs:\n  u: {type: user, hostfwd: "tcp::1-:2"}\n',
    ),
    "nic": (
        "-nodefaults -nic none -net none -device virtio-serial-pci -nic user,mac=52:54:00:12:34:99",
        "netdevs:\n  nic0: {type: user}\n"
        "devices:\n  - virtio-net-pci: {netdev: nic0, mac: 52:54:00:12:34:99}\n  - virtio-serial-pci\n",
    ),
    "nic by the alias of its model": (
        "-nodefaults -nic hubport,hubid=0,model=virtio",
        "netdevs:\n  nic0: {type: hubport, hubid: 0}\ndevices:\n  - virtio-net-pci: {netdev: nic0}\n",
    ),
    "pflash": (
        "-nodefaults -pflash disk",
        "MACHINE machine-options: {pflash0: pflash0}\ndrives:\n  pflash0: {file: disk, format: raw}\n",
    ),
    "debug console": (
        "-nodefaults -debugcon file:log",
        "chardevs:\n  debugcon0: {type: file, path: log}\ndevices:\n  - isa-debugcon: {chardev: debugcon0}\n",
    ),
    "serial ports over UDP, telnet and a FIFO": (
        "-nodefaults -serial udp:h:1@:2 -serial telnet:localhost:3,server,nowait -serial pipe:p -serial udp::4",
        "chardevs:\n  serial0: {type: udp, host: h, port: 1, localport: 2}\n"
        "  serial1: {type: socket, server: on, wait: off, host: localhost, port: 3, telnet: on}\n"
        "  serial2: {type: pipe, path: p}\n  serial3: {type: udp, port: 4}\n"
        "devices:\n  - isa-serial: {chardev: serial0}\n  - isa-serial: {chardev: serial1}\n"
        "  - isa-serial: {chardev: serial2}\n  - isa-serial: {chardev: serial3}\n",
    ),
    "chardevs": (
        "-nodefaults -chardev stdio,id=a -chardev socket,id=b,path=s,server -chardev socket,id=c,host=h,port=1,nodelay "
        "-chardev memory,id=d,size=4K -chardev socket,id=e,path=p,server=on,wait=off",
        "chardevs:\n  a: {type: stdio, signal: on}\n  b: {type: socket, server: on, wait: on, path: s}\n"
        "  c: {type: socket, nodelay: on, host: h, port: 1}\n  d: {type: ringbuf, size: 4K}\n"
        "  e: {type: socket, server: on, wait: off, path: p}\n",
    ),
    "serial ports": (
        "-nodefaults -serial null -serial none -serial unix:a,server=on,wait=off -chardev pty,id=p -serial chardev:p",
        'chardevs:\n  p: {type: pty}\n  serial0: {type: "null"}\n  serial2: {type: socket, server: on, wait: off, path: a}\n'
        "devices:\n  - isa-serial: {chardev: serial0}\n  - isa-serial: {index: 2, chardev: serial2}\n"
        "  - isa-serial: {index: 3, chardev: p}\n",
    ),
    "serial over TCP": (
        "-nodefaults -serial tcp:h:1 -serial tcp::2,server=on,wait=off -serial tcp::3",
        "chardevs:\n  serial0: {type: socket, host: h, port: 1}\n"
        "  serial1: {type: socket, server: on, wait: off, host: 0.0.0.0, port: 2}\n  serial2: {type: socket, port: 3}\n"
        "devices:\n  - isa-serial: {chardev: serial0}\n  - isa-serial: {chardev: serial1}\n  - isa-serial: {chardev: serial2}\n",
    ),
    "serial file": (
        "-serial file:a:b",
        "chardevs:\n  serial0: {type: file, path: a:b}\ndevices:\n  - isa-serial: {chardev: serial0}\n",
    ),
    "monitors": (
        "-nodefaults -qmp unix:q -qmp-pretty stdio -monitor none -monitor pty "
        "-chardev ringbuf,id=r -mon r,mode=control,pretty=on",
        "chardevs:\n  compat_monitor0: {type: socket, path: q}\n  compat_monitor1: {type: stdio, signal: on}\n"
        "  compat_monitor2: {type: pty}\n  r: {type: ringbuf}\n"
        "monitors:\n  - {chardev: compat_monitor0, mode: control}\n  - {chardev: compat_monitor1, mode: control, pretty: on}\n"
        "  - {chardev: compat_monitor2, mode: readline}\n  - {chardev: r, mode: control, pretty: on}\n",
    ),
    "qtest": (
        "-nodefaults -qtest unix:q -qtest-log none -M pc -accel qtest",
        "QTEST chardevs:\n  qtest: {type: socket, path: q}\nqtest: {chardev: qtest, log: none}\n",
    ),
    "serial and monitor share the terminal": (
        "-nodefaults -serial mon:stdio",
        "chardevs:\n  serial0: {type: stdio, signal: off, mux: on}\ndevices:\n  - isa-serial: {chardev: serial0}\n"
        "monitors:\n  - {chardev: serial0, mode: readline}\n",
    ),
    "nographic": (
        "-nographic",
        "MACHINE machine-options: {graphics: off}\nchardevs:\n  serial0: {type: stdio, signal: off, mux: on}\n"
        "devices:\n  - isa-serial: {chardev: serial0}\nmonitors:\n  - {chardev: serial0, mode: readline}\n",
    ),
    "nographic with a serial port": (
        "-nographic -serial null",
        "MACHINE machine-options: {graphics: off}\n"
        "chardevs:\n  compat_monitor0: {type: stdio, signal: on}\n"
        '  serial0: {type: "null"}\n'
        "devices:\n  - isa-serial: {chardev: serial0}\nmonitors:\n  - {chardev: compat_monitor0, mode: readline}\n",
    ),
    "nographic with a monitor": (
        "-nographic -monitor none",
        "MACHINE machine-options: {graphics: off}\nchardevs:\n  serial0: {type: stdio, signal: on}\n"
        "devices:\n  - isa-serial: {chardev: serial0}\n",
    ),
    "isa-serial of the user's": (
        "-display none -device isa-serial",
        "devices:\n  - isa-serial\n",
    ),
    "what is so anyway": (
        "-nodefaults -vga none -display none -parallel none -sandbox off -no-user-config "
        " -overcommit mem-lock=off -accel kvm,thread=multi",
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_options_become_a_definition(name: str, import_words: Import, tmp_path: Path) -> None:
    words, expected = CASES[name]
    Path("disk").write_bytes(bytes(4096))

    text = import_words(*words.split())

    if expected is None:
        assert text == f"name: a\nuuid: 01234567-89ab-cdef-0123-456789abcdef\n{HEAD}"
    elif expected.startswith("MACHINE "):
        options, _, rest = expected.removeprefix("MACHINE ").partition("\n")
        assert text == f"machine: pc\n{options}\naccel: kvm\n{rest}"
    elif expected.startswith("QTEST "):
        assert text == f"machine: pc\naccel: qtest\n{expected.removeprefix('QTEST ')}"
    else:
        assert text == HEAD + expected


ERRORS = [
    ("-foo", "-foo: error: invalid option; -help lists"),
    ("-nodefault", "-nodefault: error: invalid option; did you mean 'nodefaults'?"),
    ("disk.img", "disk.img: error: a disk image alone is a disk of IDE"),
    ("-m", "-m: error: requires an argument"),
    ("-m 1G,slots=2,maxmem=4G", "-m 1G,slots=2,maxmem=4G: error: slots=2: memory is not hot-plugged"),
    ("-m 1G,maxmem=4G", "maxmem=4G: memory is not hot-plugged"),
    ("-m sise=1G", "Invalid parameter 'sise'; did you mean 'size'?"),
    ("-smp 3,cores=2", "must match maxcpus: sockets (1) * dies (1) * cores (2) * threads (1) != maxcpus (3)"),
    ("-smp 2,maxcpus=4", "maxcpus=4: CPUs are not hot-plugged"),
    ("-smp 4,maxcpus=2", "maxcpus must be equal to or greater than smp: maxcpus (2), smp (4)"),
    ("-smp 0", "CPU topology parameters must be greater than zero (cpus=0)"),
    ("-smp x", "Parameter 'cpus' expects a number, not 'x'"),
    ("-accel tcg", "accelerator tcg is not supported: there is no emulation of processors"),
    ("-accel foo", "invalid accelerator foo; expected one of kvm, qtest, none"),
    ("-accel kvm,kernel-irqchip=split", "kernel-irqchip=split: interrupt controllers are the accelerator's"),
    ("-M pc,sata=on", "sata=on: there is no SATA; use virtio-blk-pci"),
    ("-device foo", "-device foo: error: 'foo' is not a valid device model name; '-device help' lists them"),
    ("-device virtio-blk-cpi", "'virtio-blk-cpi' is not a valid device model name; did you mean 'virtio-blk-pci'?"),
    ('-device {"driver"', "JSON parse error"),
    ("-device virtio-serial-pci,ioeventfd=on", "ioeventfd=on: this device serves kicks at once; remove it"),
    ("-device id=a", "Parameter 'driver' is missing"),
    ("-netdev foo,id=a", "Parameter 'type' does not accept value 'foo'; expected one of dgram,"),
    ("-netdev socket,id=a", "'socket' goes with 'fd' only; for addresses there are stream and dgram"),
    ("-netdev socket,id=a,fd=0x", "Parameter 'fd' expects the number of an open socket, not '0x'"),
    ("-netdev socket,id=a,fd=99999", "expects the number of an open socket, not '99999'"),
    ("-netdev user", "Parameter 'id' is missing"),
    ("-netdev user,id=a -netdev user,id=a", "Duplicate ID 'a' for netdev"),
    ("-net nic", "expected none; write -netdev and -device, or -nic"),
    ("-chardev foo,id=a", "'foo' is not a valid char driver name; expected one of file,"),
    ("-chardev null", "chardev: no id specified"),
    ("-chardev id=a", "chardev: the type is missing"),
    ("-chardev socket,id=a,path=b,websocket=on", "websocket=on: only TCP, telnet and UNIX sockets are supported"),
    ("-serial foo:x", "'foo:x' is not a valid char driver; expected one of null, pty,"),
    ("-serial null " * 5, "a pc has four serial ports"),
    ("-monitor mon:stdio", "mon: isn't supported in this context"),
    ("-parallel stdio", "there is no parallel port"),
    ("-object foo,id=a", "Parameter 'qom-type' does not accept value 'foo'; expected one of"),
    ("-object iothread", "Parameter 'id' is missing"),
    ("-global foo", "Parameter 'driver' is missing"),
    ("-drive file=a", "if=ide: there is no such controller; expected virtio"),
    ("-drive if=none,id=a,file=nbd://x", "Unknown protocol 'nbd'; expected a path (./nbd://x for a name with a colon)"),
    ("-drive if=none,id=a,file=x,cache=fast", "invalid cache option 'fast'; expected one of none, off, writeback,"),
    ("-drive if=none,id=a,file=x,snapshot=on", "snapshot=on: there are no temporary images over others"),
    ("-drive if=none,id=a,file=x,media=tape", "'tape' invalid media; expected disk or cdrom"),
    ("-drive if=none,id=a,file=x,bps=1", "Invalid parameter 'bps'"),
    ("-drive if=virtio,file=x,index=y", "Parameter 'index' expects a number, not 'y'"),
    ("-drive if=none,id=a,file.driver=nbd", "Unknown driver 'nbd'; expected one of raw, file, host_device"),
    ("-drive if=none,id=a,file=x,readonly=perhaps", "Parameter 'readonly' expects 'on' or 'off', not 'perhaps'"),
    ("-blockdev raw,node-name=r,file=f", "Cannot find device='' nor node-name='f'"),
    ("-blockdev file,filename=f", "Parameter 'node-name' is missing"),
    ("-blockdev file,node-name=f -blockdev file,node-name=f", "Duplicate node name 'f'"),
    ("-blockdev file,node-name=f", "Parameter 'filename' is missing"),
    ("-display gtk", "there are no displays; expected none"),
    ("-vga std", "there are no graphics cards; expected none"),
    ("-sandbox on", "system calls are not filtered; expected off"),
    ("-hda x", "there is no IDE and no floppy; use -drive"),
    ("-incoming tcp::1", "machines do not migrate"),
    ("-action shutdown=reset", "Parameter 'shutdown' does not accept value 'reset'; expected pause or poweroff"),
    ("-action watchdog=pause", "watchdog=pause: there are no watchdogs"),
    ("-readconfig none", "Cannot read config file none: No such file or directory"),
]


@pytest.mark.parametrize(("words", "expected"), ERRORS, ids=[words for words, _ in ERRORS])
def test_option_that_cannot_be_taken_is_named_with_the_reason(words: str, expected: str, parse: Parse) -> None:
    with pytest.raises(LocatedError) as error:
        parse(*words.split())

    assert expected in str(error.value)


PROBLEMS = [
    ("-M pcc", "-M pcc: ", "there is no machine type 'pcc'; did you mean"),
    ("-M pc,foo=1", "-M pc,foo=1: ", "property 'foo' not found"),
    ("-device virtio-blk-pci,drve=x", "-device virtio-blk-pci,drve=x: ", "property 'drve' not found; did you mean 'drive'?"),
    ("-device virtio-blk-pci,drive=x", "-device virtio-blk-pci,drive=x: ", "drive: 'x' is not an entry of drives:"),
    ("-mon chardev=x", "-mon chardev=x: ", "chardev: 'x' is not an entry of chardevs:"),
    ("-drive if=none,id=d,file=none", "-drive if=none,id=d,file=none: ", "'none': No such file or directory"),
    (
        "-device isa-serial,id=a -device isa-serial,id=a",
        "-device isa-serial,id=a: ",
        "id 'a' is taken in -device isa-serial,id=a",
    ),
    ("-m 1K", "-m 1K: ", "memory: '1K'"),
    ("-smp 1000", "-smp 1000: ", "cpus: 1000: expected a whole number from 1 to"),
]


@pytest.mark.parametrize(("words", "place", "expected"), PROBLEMS, ids=[words for words, *_ in PROBLEMS])
def test_problem_is_placed_at_its_option(words: str, place: str, expected: str, parse: Parse) -> None:
    problems = [
        str(problem) for problem in parse("-nodefaults", *words.split()).problems.in_order() if "Q106" not in problem.code
    ]

    assert len(problems) == 1, problems
    assert problems[0].startswith(place)
    assert expected in problems[0]


@pytest.mark.parametrize(("kind", "expected"), [("SOCK_STREAM", "stream"), ("SOCK_DGRAM", "dgram")])
def test_netdev_on_a_socket_that_we_inherited_is_of_the_sockets_kind(kind: str, expected: str, parse: Parse) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, getattr(socket, kind))
    with ours, theirs:
        entry = parse("-netdev", f"socket,id=n,fd={ours.fileno()}").definition.netdevs["n"]
        number = str(ours.fileno())
    prefix = {"stream": "addr", "dgram": "local"}[expected]
    assert entry.type == expected
    assert {name: value.given for name, value in entry.options.items()} == {f"{prefix}.type": "fd", f"{prefix}.str": number}


def test_accelerators_are_tried_in_order(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *args: False)

    assert parse("-accel", "tcg", "-accel", "kvm", "-accel", "qtest").definition.accel == "qtest"
    assert parse("-machine", "pc,accel=kvm:tcg").definition.accel == "kvm"


def test_machine_without_isa_gets_no_serial_port(parse: Parse) -> None:
    assert parse("-machine", "none").definition.devices == ()


def test_options_about_the_process_are_kept_apart(parse: Parse) -> None:
    words = "-name a,process=p -daemonize -pidfile f -d int,guest_errors -D log -msg timestamp=on -trace file=t"

    assert parse(*words.split()).host == ("p", True, "f", "log", ("int", "guest_errors"), True, "t")


def test_cache_that_ignores_flushes_is_noted(parse: Parse) -> None:
    notes = parse("-drive", "if=none,id=d,file=null-co://,cache=unsafe").notes

    assert list(notes) == ["-drive if=none,id=d,file=null-co://,cache=unsafe: flushes are carried out; no option leaves them out"]


def test_global_of_a_type_that_is_not_there_is_noted(parse: Parse) -> None:
    parsed = parse("-global", "kvm-pit.lost_tick_policy=delay", "-global", "virtio-pci.page-per-vq=on")

    assert list(parsed.notes) == [
        "-global kvm-pit.lost_tick_policy=delay: nothing is of type 'kvm-pit', and so nothing came of it"
    ]
    assert [(g.type, g.property) for g in parsed.definition.globals] == [("virtio-pci", "page-per-vq")]


def test_error_actions_of_a_drive_without_device_are_noted(parse: Parse) -> None:
    assert (
        "drive d: no device has it, and so nothing came of werror"
        in parse("-drive", "if=none,id=d,file=null-co://,werror=stop").notes
    )


def test_bios_that_is_a_file_here_is_that_file(parse: Parse) -> None:
    Path("bios.bin").touch()

    for word, expected in (("bios.bin", "./bios.bin"), ("other.bin", "other.bin")):
        firmware = parse("-bios", word).definition.boot.firmware
        assert firmware is not None
        assert firmware.given == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-help", "usage: qdevpy-system-x86_64"),
        ("-h", "usage: qdevpy-system-x86_64"),
        ("--version", "QEMU emulator version 7.2.0 (qdevpy"),
        ("-machine help", "pc-i440fx-7.2"),
        ("-M pc,help", "acpi="),
        ("-accel help", "\nqtest\n"),
        ("-cpu help", "x86 host"),
        ("-device help", 'name "virtio-blk-pci", bus PCI'),
        ("-device virtio-blk-pci,help", "drive=<str>"),
        ("-device virtio-blk-pci,?", "drive=<str>"),
        ("-netdev help", "hubport"),
        ("-netdev tap,help", "ifname=<str>"),
        ("-chardev help", "  ringbuf"),
        ("-object help", "  iothread"),
        ("-object iothread,help", "poll-max-ns"),
        ("-drive help", "cache.direct"),
        ("-d help", "Log items"),
    ],
)
def test_help_is_a_text_and_no_machine(words: str, expected: str, parse: Parse) -> None:
    with pytest.raises(HelpWantedError) as text:
        parse(*words.split())

    assert expected in str(text.value)


@pytest.mark.parametrize("words", ["-device foo,help", "-netdev foo,help", "-M foo,help"])
def test_help_on_what_is_not_there_is_an_error(words: str, parse: Parse) -> None:
    with pytest.raises(LocatedError, match="there is no"):
        parse(*words.split())


def test_word_help_inside_a_value_is_no_question(parse: Parse) -> None:
    assert parse("-device", "isa-serial,id=help1").definition.devices[0].options["id"].given == "help1"


def test_every_option_stands_once_in_the_table() -> None:
    assert len(OPTIONS) == sum(map(len, GROUPS.values()))


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed")
def test_every_option_of_qemu_stands_in_the_table() -> None:
    listing = subprocess.run(["qemu-system-x86_64", "-help"], capture_output=True, text=True, timeout=60, check=True).stdout
    theirs = {name for line in re.findall(r"^-(\S+(?:/-\S+)?)", listing, flags=re.MULTILINE) for name in line.split("/")}

    assert len(theirs) > 100
    assert {name.lstrip("-") for name in theirs} - {"h"} - OPTIONS.keys() == set()
