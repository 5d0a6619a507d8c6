# SPDX-License-Identifier: Apache-2.0
"""Sound definitions: what is written arrives, typed, with its place."""

from __future__ import annotations

from pathlib import Path

from definition_parts import Load

from qdevpy.definition.load import check_file, load_definition
from qdevpy.definition.model import Position
from qdevpy.definition.source import Override
from qdevpy.plugin.registry import Registry

SAMPLE = """\
machine: pc
accel: kvm
memory: 256M
cpus: 2
boot:
  kernel: ./vmlinuz
  initrd: ./initrd.gz
  cmdline: console=hvc0
drives:
  root: {file: ./root.img, format: raw, readonly: off, cache: {direct: on}}
netdevs:
  lan: {type: tap, ifname: tap0}        # a comment
chardevs:
  term: {type: socket, path: ./term}
  log: {type: null}
objects:
  io0: {type: iothread, poll-max-ns: 32768}
devices:
  - virtio-blk-pci: {id: disk0, drive: root, iothread: io0, serial: root0, vectors: 2}
  - virtio-net-pci: {netdev: lan, mac: "52:54:00:12:34:56"}
  - virtio-serial-pci: {id: vser0}
  - virtconsole: {bus: vser0.0, chardev: term}
  - isa-serial: {chardev: log}
global:
  virtio-blk-pci.ioeventfd: off
"""


def write_files(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def test_sample_of_the_documentation_is_read_whole(load: Load, tmp_path: Path) -> None:
    write_files(*(str(tmp_path / name) for name in ("vmlinuz", "initrd.gz", "root.img")))

    d = load(SAMPLE)

    assert (d.machine, d.accel, d.memory, d.cpus) == ("pc", "kvm", 256 << 20, 2)
    assert d.boot.kernel is not None
    assert d.boot.kernel.given == "vmlinuz"
    assert d.boot.kernel.position == Position("m.yaml", 6, 11)
    assert d.boot.cmdline is not None
    assert d.boot.cmdline.given == "console=hvc0"
    assert {n: v.given for n, v in d.drives["root"].options.items()} == {
        "file": "root.img",
        "format": "raw",
        "readonly": "off",
        "cache.direct": "on",
    }
    assert d.drives["root"].type == "drive"
    assert (d.netdevs["lan"].type, d.netdevs["lan"].options["ifname"].given) == ("tap", "tap0")
    assert d.netdevs["lan"].position == Position("m.yaml", 12, 3)
    assert d.chardevs["term"].options["path"].given == "term"
    assert d.objects["io0"].type == "iothread"
    assert [e.type for e in d.devices] == ["virtio-blk-pci", "virtio-net-pci", "virtio-serial-pci", "virtconsole", "isa-serial"]
    assert d.devices[0].options["serial"].given == "root0"
    assert d.devices[3].options["bus"].position == Position("m.yaml", 22, 24)
    assert [(g.type, g.property, g.value.given) for g in d.globals] == [("virtio-blk-pci", "ioeventfd", "off")]
    assert d.path == str(tmp_path / "m.yaml")


def test_empty_file_is_a_machine_of_defaults(load: Load) -> None:
    d = load("# nothing\n")

    assert (d.machine, d.accel, d.memory, d.cpus, d.devices) == ("pc", "kvm", 0, 1, ())


def test_empty_sections_are_allowed(load: Load) -> None:
    d = load("boot:\ndrives:\nnetdevs: {}\ndevices:\nglobal:\n")

    assert d.devices == ()


def test_machine_alias_is_accepted(load: Load) -> None:
    assert load("machine: pc-1.0\n").machine == "pc-1.0"


def test_unquoted_mac_stays_text(load: Load) -> None:
    d = load("devices:\n- virtio-net-pci: {mac: 52:54:00:12:34:56}\n- virtio-net-pci:\n    mac: 12:34:56:12:34:56\n")

    assert [e.options["mac"].given for e in d.devices] == ["52:54:00:12:34:56", "12:34:56:12:34:56"]


def test_values_keep_their_spelling(load: Load) -> None:
    d = load(
        "devices:\n- virtio-blk-pci: {serial: 0x10, addr: 4.1, vectors: '3', ioeventfd: true}\n- virtio-blk-pci: {serial: 007}\n"
    )

    assert {n: v.given for n, v in d.devices[0].options.items()} == {
        "serial": "0x10",
        "addr": "4.1",
        "vectors": "3",
        "ioeventfd": "true",
    }
    assert d.devices[1].options["serial"].given == "007"


def test_device_without_properties_may_be_a_word(load: Load) -> None:
    d = load("devices:\n- virtio-serial-pci\n- virtio-net-pci:\n")

    assert [e.type for e in d.devices] == ["virtio-serial-pci", "virtio-net-pci"]


def test_on_off_auto_takes_true(load: Load) -> None:
    assert load("devices:\n- virtio-blk-pci: {write-cache: true}\n").devices[0].options["write-cache"].given == "true"


def test_anchor_and_alias_share_a_value(load: Load) -> None:
    d = load("netdevs:\n  a: &net {type: tap, ifname: t}\n  b: *net\n")

    assert d.netdevs["b"].options["ifname"].given == "t"


def test_bus_of_a_device_without_id_is_named_after_its_sort(load: Load) -> None:
    d = load("devices: [virtio-serial-pci, virtconsole: {bus: virtio-serial-bus.0}, virtconsole]\n")

    assert len(d.devices) == 3


def test_global_of_a_base_type_is_accepted(load: Load) -> None:
    d = load("global:\n  virtio-pci.vectors: 3\n  virtio-blk-pci:\n    ioeventfd: off\n")

    assert [(g.type, g.property) for g in d.globals] == [("virtio-pci", "vectors"), ("virtio-blk-pci", "ioeventfd")]


def test_multifunction_addresses_in_one_slot_are_two_places(load: Load) -> None:
    assert len(load("devices: [virtio-net-pci: {addr: 4.0}, virtio-net-pci: {addr: 4.1}]\n").devices) == 2


def test_link_may_be_shared(load: Load) -> None:
    d = load("objects: {io: {type: iothread}}\ndevices: [virtio-blk-pci: {iothread: io}, virtio-blk-pci: {iothread: io}]\n")

    assert len(d.devices) == 2


def test_text_is_loaded_as_a_file_would_be(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"")

    d = load_definition(tmp_path / "none.yaml", registry, text="boot: {kernel: k}\n")

    assert d.boot.kernel is not None
    assert d.boot.kernel.given == str(tmp_path / "k")
    assert d.path is None


def test_check_file_of_a_sound_file_finds_nothing(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("machine: pc\n")

    assert check_file(tmp_path / "m.yaml", registry) == []


# -- include


def test_include_is_merged_below_the_including_file(load: Load) -> None:
    write_files("parts/root.img")
    Path("parts/base.yaml").write_text(
        "machine: pc\nmemory: 1G\nboot: {cmdline: quiet}\ndrives: {root: {file: root.img}}\n"
        "devices: [virtio-blk-pci: {id: disk0, drive: root}]\nglobal: {virtio-pci.vectors: 3}\n"
    )

    d = load(
        "include: parts/base.yaml\nmemory: 2G\ndrives: {root: {readonly: on}}\n"
        "devices: [virtio-net-pci]\nglobal: {virtio-pci.vectors: 4}\n"
    )

    assert d.memory == 2 << 30
    assert d.boot.cmdline is not None
    assert d.boot.cmdline.position == Position("parts/base.yaml", 3, 17)
    assert {n: v.given for n, v in d.drives["root"].options.items()} == {"file": "parts/root.img", "readonly": "on"}
    assert [e.type for e in d.devices] == ["virtio-blk-pci", "virtio-net-pci"]
    assert [g.value.given for g in d.globals] == ["4"]


def test_include_list_is_merged_in_order(load: Load) -> None:
    Path("a.yaml").write_text("memory: 1G\ncpus: 2\n")
    Path("b.yaml").write_text("memory: 2G\n")

    d = load("include: [a.yaml, b.yaml]\n")

    assert (d.memory, d.cpus) == (2 << 30, 2)


def test_same_file_included_by_two_is_no_cycle(load: Load) -> None:
    Path("base.yaml").write_text("memory: 1G\n")
    Path("a.yaml").write_text("include: base.yaml\n")
    Path("b.yaml").write_text("include: base.yaml\n")

    assert load("include: [a.yaml, b.yaml]\n").memory == 1 << 30


# -- command line


def test_set_replaces_and_adds(load: Load) -> None:
    write_files("new.img", "k")
    text = (
        "memory: 1G\ndrives: {root: {file: old.img, cache: {direct: on}}}\ndevices: [virtio-blk-pci: {id: disk0, drive: root}]\n"
    )

    d = load(
        text,
        "memory=512M",
        "drives.root.file=new.img",
        "drives.root.cache.direct=off",
        "devices.disk0.serial=a=b",
        "boot.kernel=k",
        "netdevs.lan.type=tap",
        "global.virtio-blk-pci.ioeventfd=off",
    )

    assert d.memory == 512 << 20
    assert {n: v.given for n, v in d.drives["root"].options.items()} == {"file": "new.img", "cache.direct": "off"}
    assert d.devices[0].options["serial"].given == "a=b"
    assert d.devices[0].options["serial"].position == Position("--set devices.disk0.serial=a=b")
    assert d.boot.kernel is not None
    assert d.boot.kernel.given == "k"
    assert d.netdevs["lan"].type == "tap"
    assert d.globals[0].property == "ioeventfd"


def test_set_on_a_device_written_without_options(load: Load) -> None:
    d = load("devices: [virtio-blk-pci: {id: a.b}]\n", "devices.a.b.serial=x")

    assert d.devices[0].options["serial"].given == "x"


def test_append_is_put_behind_the_command_line(load: Load) -> None:
    append = Override("--append quiet", "boot.cmdline", "quiet", append=True)

    both, alone = load("boot: {cmdline: console=hvc0}\n", append), load("", append)

    assert both.boot.cmdline is not None
    assert both.boot.cmdline.given == "console=hvc0 quiet"
    assert alone.boot.cmdline is not None
    assert alone.boot.cmdline.given == "quiet"
