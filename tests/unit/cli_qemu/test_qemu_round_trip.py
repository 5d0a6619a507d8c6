# SPDX-License-Identifier: Apache-2.0
"""From a definition to QEMU's command line and back, and from its YAML and back: nothing is lost, nothing is added."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from qemu_parts import BEFORE, PREAMBLE, normal, other_value

from qdevpy.backend import BUILT_IN
from qdevpy.cli.qemu.export import Exporter
from qdevpy.cli.qemu.parser import parse_command_line
from qdevpy.definition.dump import to_yaml
from qdevpy.definition.load import load_definition
from qdevpy.definition.model import MachineDefinition
from qdevpy.plugin.manager import load_plugins
from qdevpy.plugin.registry import Registry
from qdevpy.qdev import kinds
from qdevpy.qdev.property import properties_of

Load = Callable[[str], MachineDefinition]

DEVICES = sorted(name for name, kind in load_plugins().device_types.items() if kind.user_creatable)
BACK_ENDS = [(section, name) for section, types in BUILT_IN.items() for name in types if (section, name) != ("netdevs", "null")]
#: options that QEMU does not have: refused, see test_qemu_export.py
NOT_QEMU = {("netdevs", "user"): {"mtu", "passt"}}
#: options that exclude others
APART = {
    ("drives", "drive"): [{"scratch"}, {"driver", "file", "readonly"}, {"read-zeroes"}, {"below"}],
    ("netdevs", "tap"): [{"fd"}, {"fds"}],
    ("netdevs", "dgram"): [{"local.type", "local.str"}],
    ("netdevs", "stream"): [{"addr.type", "addr.str"}],
    ("chardevs", "socket"): [{"host", "port", "nodelay", "telnet"}, {"path", "reconnect"}],
}


def there_and_back(definition: MachineDefinition, registry: Registry) -> MachineDefinition:
    words = [word for option in Exporter(definition, registry).options() for word in option]
    parsed = parse_command_line(words, registry)
    assert [p for p in parsed.problems.in_order() if p.code != "Q501"] == []
    assert parsed.notes == []
    return parsed.definition


def assert_same(definition: MachineDefinition, registry: Registry) -> None:
    before = normal(definition, registry)
    assert normal(there_and_back(definition, registry), registry) == before
    again = load_definition("again.yaml", registry, text=to_yaml(definition, registry))
    assert normal(again, registry) == before


@pytest.mark.parametrize("name", DEVICES)
def test_device_with_every_property_comes_back_the_same(name: str, registry: Registry, load: Load, tmp_path: Path) -> None:
    kind = registry.device_type(name)
    rom = tmp_path / "rom,1.bin"
    rom.touch()
    values = {n: str(rom) if isinstance(p.kind, kinds.Path) else other_value(p) for n, p in kind.properties.items()}
    options = {"id": "dev0", **{n: v for n, v in values.items() if v is not None}}
    text = f"{PREAMBLE}devices:\n{BEFORE.get(kind.bus or '', '')}  - {name}: {_flow(options)}\n"

    assert_same(load(text), registry)


@pytest.mark.parametrize("name", DEVICES)
def test_device_without_properties_comes_back_the_same(name: str, registry: Registry, load: Load) -> None:
    kind = registry.device_type(name)

    assert_same(load(f"{PREAMBLE}devices:\n{BEFORE.get(kind.bus or '', '')}  - {name}\n"), registry)


@pytest.mark.parametrize(("section", "name"), BACK_ENDS)
def test_back_end_with_every_option_comes_back_the_same(section: str, name: str, registry: Registry, load: Load) -> None:
    cls = registry.backend_type(section, name)
    for options in _option_sets(section, name, cls):
        type_text = "" if section == "drives" else f"type: {name}, "
        needs_file = options.get("driver", "file") == "file" and "scratch" not in options
        if section == "drives" and needs_file != ("file" in options):
            continue
        if all({*wanted.split("|")} & {*options} for wanted in cls.required):
            assert_same(load(f"{section}: {{b: {{{type_text}{_flow(options)[1:]}}}"), registry)


def _option_sets(section: str, name: str, cls: type[Any]) -> Iterator[dict[str, str]]:
    declared = properties_of(cls)
    values: dict[str, str] = {}
    for key, p in declared.items():
        value = "/dev/null" if isinstance(p.kind, kinds.Path) else other_value(p)
        if key in ("local.str", "addr.str", "fd"):
            value = "7"
        if key == "hostfwd":
            value = "tcp::22-:22 udp::1-:1"
        if value is not None and key not in NOT_QEMU.get((section, name), ()):
            values[key] = value
    apart = APART.get((section, name), [])
    lonely = set().union(*apart)
    yield {key: value for key, value in values.items() if key not in lonely}
    if section == "drives":
        yield {"driver": "null-aio", "size": "3M", "read-zeroes": "on"}
        yield {"driver": "none"}
        yield {"driver": "file", "file": "/dev/null", "node-name": "b", "readonly": "on", "discard": "unmap"}
        yield {"driver": "host_device", "file": "/dev/null"}
        yield {"driver": "null-co", "node-name": "b", "size": "1K"}
        yield {"driver": "raw", "file": "/dev/null", "node-name": "b", "file-node-name": "f", "offset": "1K", "readonly": "on"}
        yield {"file": "/dev/null", "node-name": "b", "aio": "io_uring", "cache.direct": "on", "discard": "unmap"}
        yield {"file": "/dev/null", "node-name": "other", "file-node-name": "f"}
        yield {"file": "null-co://"}
        yield {"file": "/dev/null", "offset": "1K", "size": "512"}
    for keys in apart:
        yield {key: value for key, value in values.items() if key in keys}
    for key, value in values.items():
        yield {key: value}
    yield {}


def _flow(options: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in options.items()) + "}"


TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x85\u2028\u2029\ufeff", exclude_categories=("Cs", "Cc")), max_size=8
)
NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,6}", fullmatch=True)
SWITCH = st.sampled_from(["on", "off"])


def _maybe(**options: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional=options)


AIO = st.sampled_from(["threads", "io_uring"])
DISCARD = st.sampled_from(["ignore", "unmap"])
PANIC = st.sampled_from(["pause", "none", "shutdown"])
BASE = st.sampled_from(["utc", "localtime", "2006-06-17"])
NUMBER = st.integers(0, 9).map(str)


@st.composite
def machines(draw: st.DrawFn) -> str:
    """The text of a definition."""

    def options(given: dict[str, str] | None = None, /, **choice: st.SearchStrategy[str]) -> str:
        drawn = draw(st.fixed_dictionaries({}, optional=choice))
        return _quoted_map({**(given or {}), **{name.replace("_", "-"): value for name, value in drawn.items()}})

    disk, lan, term, control = draw(st.lists(NAME, min_size=4, max_size=4, unique_by=str.lower))
    path = {"type": "socket", "path": "/s" + draw(TEXT).replace("/", "")}
    boot = options({"kernel": "/dev/null"}, cmdline=TEXT, order=st.sampled_from(["c", "cdn"]), menu=SWITCH, splash_time=NUMBER)
    lines = [
        f"accel: {draw(st.sampled_from(['kvm', 'qtest']))}",
        f"memory: {draw(st.integers(256, 1 << 20)) * 4096}",
        f"cpus: {draw(st.integers(1, 64))}",
        f"name: {_quoted(draw(TEXT))}",
        f"boot: {boot}",
        f"run: {options(paused=SWITCH, reboot=SWITCH, shutdown=SWITCH, panic=PANIC)}",
        f"rtc: {options(base=BASE, clock=st.sampled_from(['host', 'vm']))}",
        f"fw_cfg: {{opt/a: {options({'string': draw(TEXT)})}}}",
        f"smbios: [{options({'type': '1'}, serial=TEXT, product=TEXT)}]",
        f"drives: {{{disk}: {options({'file': '/dev/null'}, readonly=SWITCH, aio=AIO, discard=DISCARD)}}}",
        f"netdevs: {{{lan}: {options({'type': 'user'}, ipv4=SWITCH, ipv6=SWITCH)}}}",
        f"chardevs: {{{term}: {{type: stdio}}, {control}: {options(path, server=SWITCH, wait=SWITCH)}}}",
        f"monitors: [{{chardev: {control}, mode: {draw(st.sampled_from(['control', 'readline']))}}}]",
        "devices:",
        f"  - virtio-blk-pci: {options({'drive': disk}, serial=TEXT, vectors=NUMBER)}",
        f"  - virtio-net-pci: {options({'netdev': lan}, mq=SWITCH)}",
        f"  - virtio-serial-pci: {options({'id': 's'}, vectors=NUMBER)}",
        f"  - virtserialport: {options({'chardev': term}, name=TEXT)}",
        f"global: {_quoted_map({'virtio-blk-pci.serial': draw(TEXT), 'virtio-pci.page-per-vq': 'on'})}",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quoted_map(options: dict[str, str]) -> str:
    return "{" + ", ".join(f"{_quoted(key)}: {_quoted(value)}" for key, value in options.items()) + "}"


@given(text=machines())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate])
def test_any_machine_comes_back_the_same(registry: Registry, text: str) -> None:
    assert_same(load_definition("any.yaml", registry, text=text), registry)


def test_options_of_the_board_come_back_the_same(registry: Registry, load: Load) -> None:
    declared = registry.board("pc").options()
    values = {name: "d" if name == "pflash0" else other_value(p) for name, p in declared.items() if name != "pflash1"}
    accepted = {name: value for name, value in values.items() if value is not None}

    assert len(accepted) > 4
    assert_same(load(f"{PREAMBLE}machine-options: {_flow(accepted)}\n"), registry)


def test_node_over_another_comes_back_the_same(registry: Registry, load: Load) -> None:
    assert_same(
        load(
            "drives:\n"
            "  z: {driver: file, file: /dev/null, node-name: z, discard: unmap}\n"
            "  l: {driver: raw, below: z, node-name: l, offset: 1K, readonly: on}\n"
        ),
        registry,
    )


@pytest.mark.parametrize("name", ["demo", "linux"])
def test_packaged_machine_comes_back_the_same(name: str, registry: Registry) -> None:
    assert_same(load_definition(registry.definition(name), registry), registry)
