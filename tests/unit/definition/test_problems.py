# SPDX-License-Identifier: Apache-2.0
"""Each code of the error table, from inline text; and that all errors are reported, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from definition_parts import Complain

import qdevpy.definition.problems as q
from qdevpy.definition.load import check_file
from qdevpy.definition.source import Override
from qdevpy.plugin.registry import Registry

CASES = {
    # Q101
    "unclosed bracket": ("devices: [a", "m.yaml:1:12: error[Q101]: while parsing a flow sequence"),
    "tab indentation": ("boot:\n\tkernel: x", "m.yaml:2:1: error[Q101]: while scanning for the next token"),
    "bad escape": ('machine: "\\q"', "m.yaml:1:12: error[Q101]: while scanning a double-quoted scalar"),
    "code point beyond Unicode": ('machine: "\\Uffffffff"', "error[Q101]: not YAML"),
    "control character": ("machine: p\x01c", "m.yaml:1:11: error[Q101]: character"),
    "tag": ("machine: !!python/name:os.system pc", "m.yaml:1:10: error[Q101]: tag 'tag:yaml.org,2002:python/name:os.system'"),
    "two documents": ("machine: pc\n---\nmachine: pc", "m.yaml:2:1: error[Q101]: a second document starts here"),
    "recursive alias": ("boot: &b {kernel: *b}", "m.yaml:1:19: error[Q101]: '*b': no complete value before it"),
    "undefined alias": ("machine: *pc", "m.yaml:1:10: error[Q101]: '*pc'"),
    "nested too deep": ("[" * 100 + "]" * 100, "m.yaml:1:17: error[Q101]: nested deeper than 16 levels"),
    # Q102
    "duplicate key": ("cpus: 1\ncpus: 2", "m.yaml:2:1: error[Q102]: key 'cpus' again; it stands in line 1 already"),
    "duplicate option": (
        "devices:\n- virtio-blk-pci:\n    serial: a\n    serial: b",
        "m.yaml:4:5: error[Q102]: key 'serial' again; it stands in line 3",
    ),
    "option flat and nested": (
        "drives: {d: {file: m.yaml, cache.direct: on, cache: {direct: off}}}",
        "m.yaml:1:54: error[Q102]: drives: d: 'cache.direct' again",
    ),
    # Q103
    "unknown key": ("memroy: 1G", "m.yaml:1:1: error[Q103]: definition: unknown key 'memroy'; did you mean 'memory'?"),
    "unknown key like no other": (
        "xyzzy: 1",
        "m.yaml:1:1: error[Q103]: definition: unknown key 'xyzzy'; expected one of include,",
    ),
    "unknown boot key": ("boot: {kernl: x}", "m.yaml:1:8: error[Q103]: boot: unknown key 'kernl'; did you mean 'kernel'?"),
    "global without property": (
        "global: {virtio-blk-pci: on}",
        "m.yaml:1:10: error[Q103]: global: 'virtio-blk-pci': expected TYPE.",
    ),
    # Q104
    "list as definition": ("- pc", "m.yaml:1:1: error[Q104]: expected a map with keys such as machine and devices, found a list"),
    "map as machine": ("machine: {a: b}", "m.yaml:1:10: error[Q104]: machine: expected a value, found a map"),
    "no value": ("machine:", "m.yaml:1:9: error[Q104]: machine: expected a value, found nothing"),
    "memory no size": ("memory: lots", "m.yaml:1:9: error[Q104]: memory: 'lots': expected bytes, or a number with suffix"),
    "cpus no number": ("cpus: two", "m.yaml:1:7: error[Q104]: cpus: 'two': expected a whole number from 1 to 8"),
    "list as drives": ("drives: [a]", "m.yaml:1:9: error[Q104]: drives: expected a map, found a list"),
    "text as drive": (
        "drives: {root: a.img}",
        "m.yaml:1:16: error[Q104]: drives: root: expected a map of options, found 'a.img'",
    ),
    "map as devices": ("devices: {virtio-blk-pci: {}}", "m.yaml:1:10: error[Q104]: devices: expected a list, found a map"),
    "list as device": ("devices: [[a]]", "m.yaml:1:11: error[Q104]: devices: expected TYPE: {PROPERTY: VALUE}, found a list"),
    "nothing as device": ("devices:\n-", "error[Q104]: devices: expected TYPE: {PROPERTY: VALUE}, found nothing"),
    "properties not indented": (
        "devices:\n- virtio-blk-pci:\n  serial: x",
        "m.yaml:2:3: error[Q104]: devices: one device an item, and here are 2 keys; "
        "indent the properties deeper than 'virtio-blk-pci:', or start another item with '-'",
    ),
    "text as properties": (
        "devices: [virtio-blk-pci: x]",
        "m.yaml:1:27: error[Q104]: devices: virtio-blk-pci: expected a map, found 'x'",
    ),
    "list as property": (
        "devices: [virtio-blk-pci: {serial: [x]}]",
        "m.yaml:1:36: error[Q104]: virtio-blk-pci: 'serial': expected a value, found a list",
    ),
    "nothing as property": (
        "devices: [virtio-blk-pci: {serial: }]",
        "error[Q104]: virtio-blk-pci: 'serial': expected a value, found nothing",
    ),
    "map as key": ("{a: b}: c", "m.yaml:1:1: error[Q104]: a map as a key; expected a name"),
    "map as include": ("include: {a: b}", "m.yaml:1:10: error[Q104]: include: expected a file or a list of files, found a map"),
    # Q105
    "no cpus": ("cpus: 0", "m.yaml:1:7: error[Q105]: cpus: 0: expected a whole number from 1 to 8"),
    "too many cpus": ("cpus: 9", "m.yaml:1:7: error[Q105]: cpus: 9: expected a whole number from 1 to 8"),
    "memory in bytes": (
        "memory: 256",
        "m.yaml:1:9: error[Q105]: memory: '256' (256 bytes): expected whole pages of 4K, from 1M to 64G; did you mean 256M?",
    ),
    "too much memory": ("memory: 1T", "m.yaml:1:9: error[Q105]: memory: '1T' (1099511627776 bytes)"),
    # Q106
    "netdev without type": (
        "netdevs: {lan: {ifname: t}}",
        "m.yaml:1:11: error[Q106]: netdevs: lan: key 'type' is missing; expected one of null, tap",
    ),
    "drive without file": ("drives: {root: {readonly: on}}", "m.yaml:1:10: error[Q106]: drives: root: key 'file' is missing"),
    # Q107
    "include of itself": ("include: m.yaml", "m.yaml:1:10: error[Q107]: include goes round in a circle: m.yaml -> m.yaml"),
    # Q201 to Q204
    "unknown machine": ("machine: pcc", "m.yaml:1:10: error[Q201]: there is no machine type 'pcc'; did you mean 'pc'?"),
    "unknown accel": (
        "accel: kwm",
        "m.yaml:1:8: error[Q202]: accel: 'kwm': expected one of kvm, qtest, none; did you mean 'kvm'?",
    ),
    "unknown device": (
        "devices: [virtio-blk: {}]",
        "m.yaml:1:11: error[Q203]: there is no device type 'virtio-blk'; did you mean 'virtio-blk-pci'?",
    ),
    "device of the board": (
        "devices: [i440FX]",
        "m.yaml:1:11: error[Q203]: device type 'i440FX' is part of the board and cannot be added",
    ),
    "unknown device in global": (
        "global: {virtio-blk.ioeventfd: on}",
        "m.yaml:1:10: error[Q203]: global: there is no device type 'virtio-blk'",
    ),
    "unknown netdev type": (
        "netdevs: {lan: {type: tapp}}",
        "m.yaml:1:23: error[Q204]: there is no netdev type 'tapp'; did you mean 'tap'?",
    ),
    "unknown object type": (
        "objects: {io: {type: thread}}",
        "m.yaml:1:22: error[Q204]: there is no object type 'thread'; did you mean 'iothread'?",
    ),
    # Q301 to Q303
    "unknown property": (
        "devices: [virtio-blk-pci: {id: d, seriel: x}]",
        "m.yaml:1:35: error[Q301]: d (virtio-blk-pci): property 'seriel' not found; did you mean 'serial'?",
    ),
    "unknown property like no other": (
        "devices: [virtio-blk-pci: {xyzzy: x}]",
        "error[Q301]: virtio-blk-pci: property 'xyzzy' not found; 'qdevpy device virtio-blk-pci' lists them",
    ),
    "unknown option of a back end": (
        "chardevs: {a: {type: null, xx: 1}}",
        "error[Q301]: chardevs: a: property 'xx' not found; it has none",
    ),
    "unknown nested option": (
        "drives: {r: {file: m.yaml, cache: {xyzzy: on}}}",
        "m.yaml:1:36: error[Q301]: drives: r: property 'cache.xyzzy' not found",
    ),
    "unknown property in global": (
        "global: {virtio-pci.vectorz: 1}",
        "error[Q301]: global: virtio-pci: property 'vectorz' not found; did you mean 'vectors'?",
    ),
    "bad value": (
        "devices: [virtio-blk-pci: {vectors: many}]",
        "m.yaml:1:37: error[Q302]: virtio-blk-pci: property 'vectors': 'many': expected a whole number from 0 to 4294967295",
    ),
    "bad value in global": (
        "global: {virtio-pci.vectors: many}",
        "m.yaml:1:30: error[Q302]: global: virtio-pci: property 'vectors'",
    ),
    "bad mac": (
        "devices: [virtio-net-pci: {mac: 52:54:00}]",
        "error[Q302]: virtio-net-pci: property 'mac': '52:54:00': expected six bytes",
    ),
    "bad id": (
        "devices: [virtio-blk-pci: {id: 0disk}]",
        "m.yaml:1:32: error[Q302]: virtio-blk-pci: id: '0disk': expected a letter",
    ),
    "bad name": ("drives: {a b: {file: m.yaml}}", "m.yaml:1:10: error[Q302]: drives: 'a b': expected a letter"),
    "ioeventfd forbidden": (
        "devices: [virtio-serial-pci: {ioeventfd: on}]",
        "m.yaml:1:31: error[Q303]: virtio-serial-pci: property 'ioeventfd' is forbidden: drivers of this device spin",
    ),
    # Q401 to Q405
    "unknown drive": (
        "drives: {root: {file: m.yaml}}\ndevices: [virtio-blk-pci: {drive: rot}]",
        "m.yaml:2:35: error[Q401]: virtio-blk-pci: drive: 'rot' is not an entry of drives:; did you mean 'root'?",
    ),
    "unknown chardev": (
        "devices: [isa-serial: {chardev: c}]",
        "error[Q401]: isa-serial: chardev: 'c' is not an entry of chardevs:; there are: none",
    ),
    "unknown netdev": (
        "devices: [virtio-net-pci: {netdev: n}]",
        "error[Q401]: virtio-net-pci: netdev: 'n' is not an entry of netdevs:",
    ),
    "unknown iothread": (
        "objects: {io0: {type: iothread}}\ndevices: [virtio-blk-pci: {iothread: io1}]",
        "m.yaml:2:38: error[Q401]: virtio-blk-pci: iothread: no iothread has the id 'io1'; did you mean 'io0'?",
    ),
    "list where none is taken": (
        "devices: [virtio-blk-pci: {serial: [a]}]",
        "m.yaml:1:36: error[Q104]: virtio-blk-pci: 'serial': expected a value, found a list",
    ),
    "unknown bus": (
        "devices:\n- virtio-serial-pci: {id: vser0}\n- virtconsole: {bus: vser1.0}",
        "m.yaml:3:22: error[Q401]: virtconsole: bus 'vser1.0' not found; did you mean 'vser0.0'?",
    ),
    "bus that comes later": (
        "devices:\n- virtconsole: {bus: vser0.0}\n- virtio-serial-pci: {id: vser0}",
        "m.yaml:2:22: error[Q401]: virtconsole: bus 'vser0.0' not found; buses of type virtio-serial-bus before it: none",
    ),
    "back end used twice": (
        "chardevs: {c: {type: null}}\ndevices:\n- isa-serial: {chardev: c}\n- isa-serial: {chardev: c}",
        "m.yaml:4:25: error[Q402]: isa-serial: chardev: 'c' is in use by isa-serial in line 3",
    ),
    "id twice": (
        "devices:\n- virtio-blk-pci: {id: d}\n- virtio-net-pci: {id: d}",
        "m.yaml:3:24: error[Q403]: id 'd' is taken in line 2 already",
    ),
    "slot twice": (
        "devices:\n- virtio-blk-pci: {addr: 0x4, id: d}\n- virtio-net-pci: {addr: 4.0, bus: pci.0}",
        "m.yaml:3:26: error[Q404]: virtio-net-pci: addr: slot 04.0 of pci.0 is taken by d (virtio-blk-pci) in line 2",
    ),
    "slot of the board": (
        "devices: [virtio-net-pci: {addr: 1}]",
        "m.yaml:1:34: error[Q404]: virtio-net-pci: addr: slot 01.0 of pci.0 is taken by PIIX3 of the board",
    ),
    "wrong bus": (
        "devices: [virtio-net-pci: {bus: isa.0}]",
        "m.yaml:1:33: error[Q405]: virtio-net-pci: plugs into a bus of type PCI, and 'isa.0' is of type ISA",
    ),
    "no bus": (
        "devices: [virtconsole]",
        "m.yaml:1:11: error[Q405]: virtconsole: needs a bus of type virtio-serial-bus, and there is none before it; "
        "put a virtio-serial-pci before it",
    ),
    # Q501
    "missing kernel": (
        "boot: {kernel: gone/vmlinuz}",
        "m.yaml:1:16: error[Q501]: boot: kernel: 'gone/vmlinuz': No such file or directory",
    ),
    "missing initrd": ("boot: {initrd: /gone}", "m.yaml:1:16: error[Q501]: boot: initrd: '/gone': No such file or directory"),
    "kernel is a folder": ("boot: {kernel: .}", "error[Q501]: boot: kernel: '.': is a directory"),
    "missing drive file": ("drives: {r: {file: r.img}}", "m.yaml:1:20: error[Q501]: drives: r: file: 'r.img': No such file"),
    "missing file of a device": (
        "devices: [virtio-blk-pci: {romfile: r.rom}]",
        "error[Q501]: virtio-blk-pci: romfile: 'r.rom': No such",
    ),
    "missing include": ("include: base.yaml", "m.yaml:1:10: error[Q501]: 'base.yaml': No such file or directory"),
    "null character in a path": ('include: "a\\0b"', "m.yaml:1:10: error[Q501]: 'a\0b': embedded null byte"),
    "null character in a kernel": (
        'boot: {kernel: "a\\0b"}',
        "m.yaml:1:16: error[Q501]: boot: kernel: 'a\0b': embedded null byte",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_problem_of_inline_text_is_reported(complain: Complain, case: str) -> None:
    text, expected = CASES[case]

    lines = complain(text)

    assert len(lines) == 1, lines
    assert expected in lines[0]


SETTINGS = {
    "no equals sign": ("memory", "--set memory: error[Q108]: expected PATH=VALUE"),
    "unknown key": ("memroy=1G", "--set memroy=1G: error[Q108]: 'memroy' names nothing that can be set; did you mean 'memory'?"),
    "include": ("include=x", "error[Q108]: 'include' names nothing that can be set"),
    "section without entry": ("drives=x", "error[Q108]: 'drives' names nothing that can be set; expected one of memory"),
    "entry without option": ("drives.root=x", "error[Q108]: 'drives.root' names nothing"),
    "memory with a tail": ("memory.x=1", "error[Q108]: 'memory.x' names nothing"),
    "no such device": (
        "devices.dsk0.serial=x",
        "error[Q108]: 'devices.dsk0.serial': no device has the id 'dsk0'; did you mean 'disk0'?",
    ),
    "device like no other": ("devices.q.serial=x", "error[Q108]: 'devices.q.serial': no device has the id 'q'; ids are: disk0"),
    "device without property": ("devices.disk0=x", "error[Q108]: 'devices.disk0': which property?"),
    "unknown property": (
        "devices.disk0.seriel=x",
        "--set devices.disk0.seriel=x: error[Q301]: disk0 (virtio-blk-pci): property 'seriel'",
    ),
    "bad value": ("memory=lots", "--set memory=lots: error[Q104]: memory: 'lots'"),
    "missing file": ("boot.kernel=gone", "--set boot.kernel=gone: error[Q501]: boot: kernel: 'gone': No such file"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_problem_of_a_setting_is_reported(complain: Complain, case: str) -> None:
    setting, expected = SETTINGS[case]

    lines = complain("devices:\n- virtio-blk-pci: {id: disk0}\n- isa-serial:\n", setting)

    assert len(lines) == 1, lines
    assert expected in lines[0]


def test_all_problems_are_reported_in_order_of_lines(complain: Complain) -> None:
    lines = complain(
        "machine: pd\nmemory: none\nxx: 1\ndevices:\n- virtio-blk-pci: {vectors: x, foo: y}\n- virtio-nte-pci\ncpus: 1\ncpus: 2\n"
    )

    assert [re.search(r":(\d+):\d+: error\[(\w+)\]", line).groups() for line in lines] == [  # type: ignore[union-attr]
        ("1", "Q201"),
        ("2", "Q104"),
        ("3", "Q103"),
        ("5", "Q302"),
        ("5", "Q301"),
        ("6", "Q203"),
        ("8", "Q102"),
    ]


def test_cycle_through_another_file_is_named(complain: Complain) -> None:
    Path("a.yaml").write_text("include: b.yaml\n")
    Path("b.yaml").write_text("\ninclude: a.yaml\n")

    assert complain("include: a.yaml\n") == [
        "b.yaml:2:10: error[Q107]: include goes round in a circle: a.yaml -> b.yaml -> a.yaml"
    ]


def test_problem_in_an_included_file_names_that_file(complain: Complain) -> None:
    Path("base.yaml").write_text("memory: lots\n")

    assert complain("include: base.yaml\n")[0].startswith("base.yaml:1:9: error[Q104]")


def test_id_taken_by_an_included_file_names_it(complain: Complain) -> None:
    Path("base.yaml").write_text("devices: [virtio-blk-pci: {id: d}]\n")

    (line,) = complain("include: base.yaml\ndevices: [virtio-net-pci: {id: d}]\n")

    assert line == "m.yaml:2:32: error[Q403]: id 'd' is taken in base.yaml:1:32 already"


def test_file_that_is_not_there_is_a_problem(registry: Registry, tmp_path: Path) -> None:
    (problem,) = check_file(tmp_path / "gone.yaml", registry)

    assert str(problem) == f"{tmp_path}/gone.yaml: error[Q501]: '{tmp_path}/gone.yaml': No such file or directory"


def test_file_that_is_not_utf8_names_the_place(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"machine: pc\naccel: \xff\n")

    (problem,) = check_file(tmp_path / "m.yaml", registry)

    assert str(problem).endswith("m.yaml:2:8: error[Q101]: not UTF-8 text")


def test_file_that_is_too_long_is_refused(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"#" * (1 << 20) + b"#")

    assert "this is no machine definition" in str(check_file(tmp_path / "m.yaml", registry)[0])


def test_option_of_the_command_line_is_named_as_written(complain: Complain) -> None:
    lines = complain("machine: pc\n", Override("--kernel gone", "boot.kernel", "gone"))

    assert lines == ["--kernel gone: error[Q501]: boot: kernel: 'gone': No such file or directory"]


def codes_of_the_source() -> set[str]:
    return {value for name, value in vars(q).items() if name.isupper() and isinstance(value, str)}


def test_every_code_is_in_the_table_and_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "errors.md").read_text()

    assert set(re.findall(r"^(Q\d{3}) ", q.__doc__ or "", re.MULTILINE)) == codes_of_the_source()
    assert set(re.findall(r"^## (Q\d{3})", page, re.MULTILINE)) == codes_of_the_source()


def test_every_code_has_a_case() -> None:
    tested = {re.search(r"Q\d{3}", expected).group() for _, expected in [*CASES.values(), *SETTINGS.values()]}  # type: ignore[union-attr]

    assert tested == codes_of_the_source()
