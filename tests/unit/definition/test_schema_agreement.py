# SPDX-License-Identifier: Apache-2.0
"""The schema and ``qdevpy check`` agree.

What only ``qdevpy check`` finds has a reason out of a short list (:mod:`schema_parts`); and the schema refuses nothing that
``qdevpy check`` takes, but for C's octal digits without quotes.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schema_parts import OCTAL, Verdict, compare, is_octal, reason_of_value, scalar_to_json

from qdevpy.backend import BUILT_IN
from qdevpy.definition.schema import machine_schema
from qdevpy.faults.rule import KINDS as RULES
from qdevpy.plugin.manager import load_plugins
from qdevpy.plugin.registry import Registry
from qdevpy.qdev.kinds import Kind
from qdevpy.qdev.property import Property, properties_of

ROOT = Path(__file__).parents[3]

#: values of every kind there is, right and wrong
WORDS = [
    *("on", "off", "ON", "Off", "yes", "no", "true", "True", "FALSE", "y", "n", "auto", "AUTO", "null", "Null", "~", "none"),
    *("raw", "qcow2", "threads", "native", "io_uring", "unmap", "ignore", "stop", "report", "enospc", "bh", "timer"),
    *("host", "max", "utc", "kvm", "pc", "tap", "unix", "fd", "some-name", "a.b", "no.such", "disk0", "pci.0", "ümlaut", "cdn"),
    *("2006-06-17", "2006-06-17T16:01:21", "12345678-1234-1234-1234-123456789abc"),
    *("52:54:00:12:34:56", "52-54-00-12-34-56", "52:54:00:12:34", "52:54:00:12:34:5g"),
    *("4", "04", "4.1", "4.8", "1f", "1f.3", "20", "31", "0x1f", "0x20", "1f.9", "4.10", "50", "115200"),
    *("0", "1", "-1", "2", "3", "7", "8", "9", "16", "32", "64", "128", "255", "256", "512", "1000", "1023", "1024", "4096"),
    *("65535", "65536", "4294967295", "4294967296", "-2147483648", "-2147483649", "300", "150000", "256"),
    *("18446744073709551615", "18446744073709551616", "0x10", "0X1F", "0x1ffffffff", "010", "0777", "0o17", "09", "+5"),
    *("1.5", "1e3", "1e", ".5", "5.", "1_000"),
    *(
        "4K",
        "4k",
        "3b",
        "3B",
        "1.5M",
        "0.5b",
        "256M",
        "1%",
        *("1%", "0.5", "50ms", "2s", "1.5m", "5s-10s", "100-199", "9-1", "101%", "5x", "read"),
        "0.5",
        "50ms",
        "2s",
        "1.5m",
        "5s-10s",
        "100-199",
        "9-1",
        "101%",
        "5x",
        "read",
        "16E",
        "15E",
        "1MM",
        "4Kb",
        "1Z",
    ),
]
TEXTS = [*((word, True) for word in WORDS), *((word, False) for word in (*WORDS, "", " 5 ", "a b", "[1]", "{}", "'"))]

GOOD = """
name: guest
uuid: 12345678-1234-1234-1234-123456789abc
machine: pc
machine-options: {acpi: on}
accel: none
memory: 256M
cpus: 4
cpu: host,-avx2
topology: {sockets: 2, cores: 2}
boot: {cmdline: console=hvc0, order: cdn, menu: off, reboot-timeout: -1, splash-time: 0x10}
rtc: {base: 2006-06-17, clock: vm, driftfix: slew}
run: {paused: on, reboot: off, panic: exit-failure}
drives:
  root: {scratch: 64M, format: raw, aio: io_uring, cache: {direct: off}}
  other: {driver: null-co, size: 1G, readonly: on}
netdevs:
  lan: {type: user, hostfwd: "tcp::2222-:22", ipv6: off}
  left: {type: hubport, hubid: 1}
  none: {type: null}
chardevs:
  term: {type: stdio, mux: on}
  ctl: {type: socket, path: ./qmp.sock, server: on}
  sink: {type: null}
objects:
  io0: {type: iothread, poll-max-ns: 32768}
devices:
  - virtio-blk-pci: {id: disk0, drive: root, iothread: io0, serial: 007, addr: 4.1, write-cache: on}
  - virtio-blk-pci: {drive: other, iothread-vq-mapping: [{iothread: io0, vqs: [0]}], num-queues: 1}
  - virtio-net-pci: {id: net0, netdev: lan, mac: 52:54:00:12:34:56, vectors: 3}
  - virtio-serial-pci: {id: vser0}
  - virtconsole: {bus: vser0.0, chardev: term}
  - isa-serial: {chardev: sink}
  - pvpanic
global:
  virtio-blk-pci.ioeventfd: off
  virtio-pci: {modern-pio-notify: off}
monitors:
  - {chardev: ctl, mode: control, pretty: on}
qtest: {chardev: term, log: none}
faults:
  log: ./faults.jsonl
  seed: 7
  inject:
    - disk0: {what: io-error, requests: [read, write], sectors: 100-199, times: 3}
    - disk0: {what: delay, every: 10, for: 50ms, probability: 1%}
    - net0: {what: link-down, after: 5s, for: 2s}
fw_cfg:
  opt/text: {string: hello}
smbios:
  - {type: 1, manufacturer: Someone}
data-dirs: [/usr/share/seabios]
"""


@functools.cache
def registry() -> Registry:
    """All that is installed, once for all tests."""
    return load_plugins()


@functools.cache
def validator() -> Any:
    return Draft202012Validator(machine_schema(registry()))


def verdict(text: str) -> Verdict:
    return compare(text, validator(), registry())


def explain(text: str, found: Verdict) -> str:
    return f"{text}\nschema: {found.refused}\ncheck: {[str(problem) for problem in found.problems]}"


def assert_agreement(text: str) -> Verdict:
    found = verdict(text)
    assert found.agrees, explain(text, found)
    return found


# -- values: each kind that anything declares


def declared() -> Iterator[tuple[str, Property]]:
    """Every property of devices, back ends and boards."""
    for name, kind in registry().device_types.items():
        yield from ((f"{name}.{prop}", found) for prop, found in kind.properties.items())
    for section in BUILT_IN:
        for name, cls in registry().backends(section).items():
            yield from ((f"{section}.{name}.{prop}", found) for prop, found in properties_of(cls).items())
    for name, board in registry().boards.items():
        yield from ((f"{name}.{prop}", found) for prop, found in board.options().items())
    yield from ((f"faults.{name}", Property(name, name, kind, None, "")) for name, kind in RULES.items())


#: one property of each kind
KINDS = list({(type(p.kind), repr(p.kind.schema()), p.kind.accepts): (name, p) for name, p in declared()}.values())


def takes(kind: Kind, text: str) -> bool:
    try:
        kind.parse(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("prop", [prop for _, prop in KINDS], ids=[name for name, _ in KINDS])
def test_kind_and_its_schema_take_the_same_values(prop: Property) -> None:
    kind, default = prop.kind, prop.default_text()
    schema = Draft202012Validator(kind.schema())
    texts = [*TEXTS, *((default, plain) for plain in (True, False) if default is not None)]
    answers = [(text, plain, takes(kind, text), schema.is_valid(scalar_to_json(text, plain=plain))) for text, plain in texts]

    lost = [(text, plain) for text, plain, right, taken in answers if right and not taken and not (plain and is_octal(text))]
    missed = [
        (text, plain)
        for text, plain, right, taken in answers
        if taken and not right and reason_of_value(text, plain=plain, accepted=kind.accepts) is None
    ]

    assert any(right for _, _, right, _ in answers) or kind.is_list
    assert (lost, missed) == ([], [])


def test_octal_digits_without_quotes_are_what_the_schema_refuses_wrongly() -> None:
    text = "devices: [isa-debug-exit: {iosize: %s}]"

    assert verdict(text % "010").refused, OCTAL
    assert verdict(text % "010").problems == []
    assert_agreement(text % "'010'")


# -- whole definitions


SHIPPED = sorted([*(ROOT / "machine").rglob("definitions/*.yaml"), *(ROOT / "examples").rglob("*.yaml")])
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])
SNIPPETS = [
    (f"{page.name}-{number}", block)
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL), 1)
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_definition_is_taken(path: Path) -> None:
    assert assert_agreement(path.read_text()).refused is None


@pytest.mark.parametrize("snippet", [text for _, text in SNIPPETS], ids=[name for name, _ in SNIPPETS])
def test_yaml_of_the_documentation_gets_one_verdict(snippet: str) -> None:
    assert_agreement(snippet)


def test_good_definition_is_taken_by_both() -> None:
    found = assert_agreement(GOOD)

    assert (found.refused, found.problems) == (None, [])


def test_empty_definition_is_taken_by_both() -> None:
    assert assert_agreement("").problems == []


@pytest.mark.parametrize("name", sorted(registry().device_types))
def test_device_with_each_of_its_defaults_is_taken(name: str) -> None:
    kind = registry().device_types[name]
    defaults = {prop: found.default_text() for prop, found in kind.properties.items()}
    options = ", ".join(f"{prop}: {text!r}" for prop, text in defaults.items() if text)

    assert (assert_agreement(f"devices: [{name}: {{{options}}}]").refused is None) == kind.user_creatable


@pytest.mark.parametrize("name", sorted(registry().device_types))
def test_device_with_a_wrong_property_or_value_is_refused_by_both(name: str) -> None:
    kind = registry().device_types[name]
    wrong = ["%sx: 1", "%s: [x]", "%s: {}", "%s: {x: 1}"]
    for prop, option in zip(kind.properties, itertools.cycle(wrong)):
        found = assert_agreement(f"devices: [{name}: {{{option % prop}}}]")
        assert found.refused, option % prop


#: line of GOOD -> the line as it is written instead
CHANGES = [
    lambda line: "",
    lambda line: re.sub(r"(\w+)(:)", r"\1x\2", line, count=1),
    lambda line: re.sub(r"(\w+)(:[^:]*)$", r"\1x\2", line, count=1),
    lambda line: re.sub(r": (\S.*)$", ":", line),
    lambda line: re.sub(r": (\S.*)$", ": null", line),
    lambda line: re.sub(r": (\S.*)$", ": [a]", line),
    lambda line: re.sub(r": (\S.*)$", ": {a: 1}", line),
    lambda line: re.sub(r": (\S.*)$", ": {}", line),
    lambda line: re.sub(r": (\S.*)$", ": 7", line),
    lambda line: re.sub(r": (\S.*)$", ": on", line),
    lambda line: re.sub(r"type: [\w-]+", "type: tapp", line),
    lambda line: re.sub(r"type: [\w-]+(, )?", "", line),
    lambda line: re.sub(r": (\w+)(?=[,}])", r": [\1]", line),
    lambda line: re.sub(r": (\w+)(?=[,}])", r": {\1: on}", line),
    lambda line: re.sub(r": (\w+)(?=[,}])", r": -5", line),
    lambda line: re.sub(r": (\w+)(?=[,}])", r": '\1'", line),
    lambda line: re.sub(r": (\w+)(?=[,}])", r": 99999999999", line),
    lambda line: re.sub(r"\boff\b", "no", line).replace(": on", ": YES"),
    lambda line: re.sub(r"\boff\b", "of", line).replace(": on", ": onn"),
    lambda line: line.replace("virtio-", "vitrio-"),
    lambda line: line.replace("}", ", extra: 1}"),
]
#: the keys of GOOD, each with what stands there
SECTIONS = re.findall(r"^\S.*\n(?:[ ].*\n)*", GOOD, re.MULTILINE)
LINES = [(section.splitlines(), number) for section in SECTIONS for number in range(len(section.splitlines()))]


@pytest.mark.parametrize(
    ("section", "number"), LINES, ids=lambda part: part[0].partition(":")[0] if isinstance(part, list) else None
)
@pytest.mark.parametrize("head", ["", "include: [nowhere.yaml]\n"], ids=["whole", "part"])
def test_changed_definition_gets_one_verdict(section: list[str], number: int, head: str) -> None:
    for line in sorted({change(section[number]) for change in CHANGES}):
        assert_agreement(head + "\n".join([*section[:number], line, *section[number + 1 :]]))


# -- definitions by chance


def options_of(properties: Any) -> st.SearchStrategy[str]:
    """Options, more right than wrong: a name, and a text that stands for itself."""
    values = [text for text in WORDS if text not in ("~",) and not is_octal(text)]
    right = [f"{name}: {text}" for name, found in properties.items() for text in values if takes(found.kind, text)]
    names = [*properties, "id", "bus", "type", "no-such"]
    chance = st.builds("{}: {}".format, st.sampled_from(names), st.sampled_from(values))
    options = st.lists(st.sampled_from(right) | chance if right else chance, max_size=4)
    return options.map(lambda found: ", ".join({pair.partition(":")[0]: pair for pair in found}.values()))


def entry(name: str, properties: Any) -> st.SearchStrategy[str]:
    return options_of(properties).map(lambda options: f"{name}: {{{options}}}")


def device_lists() -> st.SearchStrategy[str]:
    kinds = {name: kind.properties for name, kind in registry().device_types.items()}
    one = st.one_of([entry(name, properties) for name, properties in kinds.items()] + [st.sampled_from([*kinds, "no-such"])])
    return st.lists(one, max_size=3).map(lambda items: f"devices: [{', '.join(items)}]")


def sections(section: str) -> st.SearchStrategy[str]:
    ways = []
    for name, cls in registry().backends(section).items():
        prefix = "" if section == "drives" else f"type: {name}, "
        ways.append(options_of(properties_of(cls)).map(lambda options, prefix=prefix: f"e: {{{prefix}{options}}}"))
    return st.one_of(ways).map(lambda item: f"{section}: {{{item}}}")


def scalars() -> st.SearchStrategy[str]:
    values = [text for text in WORDS if not is_octal(text)]
    keys = ["machine", "accel", "memory", "cpus", "name", "uuid", "cpu", "boot", "devices", "no-such"]
    return st.builds("{}: {}".format, st.sampled_from(keys), st.sampled_from(values))


def definitions() -> st.SearchStrategy[str]:
    parts = st.one_of(device_lists(), *(sections(section) for section in BUILT_IN), scalars())
    return st.lists(parts, max_size=4).map(lambda found: "\n".join({part.partition(":")[0]: part for part in found}.values()))


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=st.deferred(definitions))
def test_definition_by_chance_gets_one_verdict(text: str) -> None:
    assert_agreement(text)
