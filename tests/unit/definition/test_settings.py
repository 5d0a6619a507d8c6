# SPDX-License-Identifier: Apache-2.0
"""Keys that few machines have: monitors, qtest, run, rtc, topology, firmware's."""

from __future__ import annotations

from pathlib import Path

import pytest
from definition_parts import Complain, Load

from qdevpy.definition.model import RunDefinition

CHARDEVS = "chardevs: {a: {type: null}, b: {type: null}}\n"


def test_settings_that_are_given_are_in_the_definition(load: Load) -> None:
    Path("bios.bin").touch()
    definition = load(
        CHARDEVS
        + """
name: my guest
uuid: 01234567-89ab-cdef-0123-456789abcdef
cpu: host,-avx2
cpus: 4
topology: {sockets: 2, cores: 2}
rtc: {base: 2006-06-17T16:01:21, clock: vm, driftfix: slew}
run: {paused: on, reboot: off, shutdown: off, panic: pause}
monitors: [{chardev: a, pretty: on}]
qtest: {chardev: b, log: ./q.log}
boot: {firmware: ./bios.bin, order: cn, once: d, menu: on, strict: off, reboot-timeout: -1, splash-time: 100}
fw_cfg: {opt/x: {string: hello}, opt/y: {file: ./bios.bin}}
smbios: [{type: 1, serial: "7"}]
data-dirs: [./roms]
"""
    )

    assert definition.name == "my guest"
    assert definition.uuid is not None
    assert definition.uuid.given == "01234567-89ab-cdef-0123-456789abcdef"
    assert definition.cpu is not None
    assert definition.cpu.given == "host,-avx2"
    assert definition.topology == {"sockets": 2, "dies": 1, "cores": 2, "threads": 1}
    assert {key: value.given for key, value in definition.rtc.items()} == {
        "base": "2006-06-17T16:01:21",
        "clock": "vm",
        "driftfix": "slew",
    }
    assert definition.run == RunDefinition(paused=True, reboot=False, shutdown=False, panic="pause")
    assert [(m.chardev.given, m.mode, m.pretty) for m in definition.monitors] == [("a", "control", True)]
    assert definition.qtest is not None
    assert (definition.qtest.chardev.given, definition.qtest.log and definition.qtest.log.given) == ("b", "q.log")
    boot = {key: value and value.given for key, value in definition.boot._asdict().items()}
    assert boot == {
        "kernel": None,
        "initrd": None,
        "cmdline": None,
        "firmware": "./bios.bin",
        "order": "cn",
        "once": "d",
        "menu": "on",
        "strict": "off",
        "reboot_timeout": "-1",
        "splash_time": "100",
    }
    assert {name: {k: v.given for k, v in entry.items()} for name, entry in definition.fw_cfg.items()} == {
        "opt/x": {"string": "hello"},
        "opt/y": {"file": "bios.bin"},
    }
    assert [{k: v.given for k, v in entry.items()} for entry in definition.smbios] == [{"type": "1", "serial": "7"}]
    assert definition.data_dirs == ("roms",)


def test_firmware_without_a_folder_is_a_name_for_the_board_to_find(load: Load) -> None:
    firmware = load("boot: {firmware: bios.bin}").boot.firmware

    assert firmware is not None
    assert firmware.given == "bios.bin"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uuid: 1234", "m.yaml:1:7: error[Q302]: uuid: '1234': expected 8-4-4-4-12 hexadecimal digits"),
        ("cpus: 4\ntopology: {cores: 3}", "m.yaml:2:11: error[Q105]: topology: cores (3) make 3 CPUs, and cpus is 4"),
        ("topology: {cores: 0}", "Q302]: topology: cores: '0': out of range"),
        ("topology: {books: 1}", "Q103]: topology: unknown key 'books'"),
        ("rtc: {base: noon}", "m.yaml:1:13: error[Q302]: rtc: base: 'noon': expected utc, localtime, or a date"),
        ("rtc: {clock: sun}", "Q302]: rtc: clock: 'sun': expected one of host, rt, vm"),
        ("run: {paused: maybe}", "Q302]: run: paused: 'maybe': expected on or off"),
        ("run: {pause: on}", "Q103]: run: unknown key 'pause'; did you mean 'paused'?"),
        ("run: {panic: weep}", "Q302]: run: panic: 'weep': expected one of shutdown, pause, exit-failure, none"),
        ("monitors: {chardev: a}", "Q104]: monitors: expected a list, found a map"),
        ("monitors: [{mode: control}]", "Q106]: monitors: key 'chardev' is missing"),
        ("monitors: [{chardev: x}]", "Q401]: a monitor (control): chardev: 'x' is not an entry of chardevs:; there are: a, b"),
        ("monitors: [{chardev: a}, {chardev: a}]", "Q402]: a monitor (control): chardev: 'a' is in use by a monitor (control)"),
        ("monitors: [{chardev: a, mode: readline, pretty: on}]", "Q302]: monitors: pretty: only 'mode: control' prints JSON"),
        ("qtest: {log: x}", "Q106]: qtest: key 'chardev' is missing"),
        ("qtest: {chardev: a}\ndevices: [isa-serial: {chardev: a}]", "Q402]: isa-serial: chardev: 'a' is in use by qtest in"),
        ("boot: {order: c1}", "Q302]: boot: order: 'c1': expected letters from a to p"),
        ("boot: {menu: later}", "Q302]: boot: menu: 'later': expected on or off"),
        ("boot: {reboot-timeout: 70000}", "Q302]: boot: reboot-timeout: '70000': out of range"),
        ("boot: {firmware: ./none.bin}", "Q501]: boot: firmware: './none.bin': No such file or directory"),
        ("machine-options: {acpi2: off}", "Q301]: machine-options: pc: property 'acpi2' not found"),
        ("fw_cfg: {opt/x: {}}", "Q106]: fw_cfg: opt/x: expected one of the keys 'file' and 'string'"),
        ("fw_cfg: {opt/x: {file: ./none}}", "Q501]: fw_cfg: opt/x: file: 'none': No such file or directory"),
        (f"fw_cfg: {{{'x' * 56}: {{string: a}}}}", "the name is longer than 55 characters"),
        ("smbios: [{serial: 1}]", "Q106]: smbios: key 'type' or 'file' is missing"),
        ("smbios: [{file: ./none}]", "Q501]: smbios: file: 'none': No such file or directory"),
        ("data-dirs: [{}]", "Q104]: data-dirs: expected a folder, found a map"),
    ],
)
def test_problem_of_a_setting_is_reported_once_with_its_place(complain: Complain, text: str, expected: str) -> None:
    lines = complain(f"{text}\n{CHARDEVS}")

    assert len(lines) == 1, lines
    assert expected in lines[0]


def test_chardev_with_mux_serves_several(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    import definition_parts

    monkeypatch.setitem(definition_parts.BACKENDS["chardevs"], "stdio", "qdevpy.backend.chardev_stdio:StdioChardev")
    definition = load(
        "chardevs: {t: {type: stdio, mux: on}}\nmonitors: [{chardev: t, mode: readline}]\ndevices: [isa-serial: {chardev: t}]\n"
    )

    assert definition.monitors[0].chardev.given == definition.devices[0].options["chardev"].given


def test_settings_are_set_from_the_command_line(load: Load) -> None:
    definition = load("run: {reboot: off}", "run.paused=on", "cpu=host,-avx2", "name=a", "rtc.clock=vm", "topology.cores=1")

    assert definition.run == RunDefinition(paused=True, reboot=False)
    assert definition.cpu is not None
    assert (definition.cpu.given, definition.name) == ("host,-avx2", "a")
    assert definition.rtc["clock"].given == "vm"
    assert definition.topology["cores"] == 1
