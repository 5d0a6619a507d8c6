# SPDX-License-Identifier: Apache-2.0
"""``faults:`` in a definition: each mistake with its place, and what is written out again."""

from pathlib import Path

import pytest

from qdevpy.definition.dump import to_yaml
from qdevpy.definition.load import check_file, load_definition
from qdevpy.errors import LocatedError
from qdevpy.plugin.manager import load_plugins
from qdevpy.vm.build import build_machine

MACHINE = """\
machine: pc
accel: none
drives: {root: {file: ./disk.img, format: raw}}
netdevs: {lan: {type: "null"}}
chardevs: {}
devices:
  - virtio-blk-pci: {id: disk0, drive: root}
  - virtio-net-pci: {id: net0, netdev: lan}
  - virtio-serial-pci: {id: vser0}
"""
NETDEVS = 'netdevs: {lan: {type: "null"}, host: {type: tap, ifname: tap0, vhost: on}, far: {type: vhost-user, chardev: c}}'
CHARDEVS = 'chardevs: {c: {type: "null"}, d: {type: "null"}}'
OTHERS = """\
  - virtio-net-pci: {id: net1, netdev: host}
  - virtio-net-pci: {id: net2, netdev: far}
  - vhost-user-blk-pci: {id: disk1, chardev: d}
  - isa-serial: {id: com1}
"""


@pytest.fixture(scope="module")
def registry():
    return load_plugins()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """The definition with these faults, in ``m.yaml``."""
    monkeypatch.chdir(tmp_path)
    Path("disk.img").write_bytes(bytes(1 << 16))

    def write(faults, others=""):
        machine = MACHINE
        if others:
            machine = machine.replace('netdevs: {lan: {type: "null"}}', NETDEVS).replace("chardevs: {}", CHARDEVS)
        Path("m.yaml").write_text(f"{machine}{others}faults:\n{faults}\n")
        return "m.yaml"

    return write


RULES = """\
  log: ./faults.jsonl
  seed: 7
  inject:
    - disk0: {what: io-error, requests: [read, write], sectors: 100-199}
    - disk0: {what: delay, every: 10, for: 50ms}
    - net0: {what: link-down, after: 5s, for: 2s}
    - vser0: {what: lost-interrupt, queue: 2, nth: 3}"""


def test_rules_are_in_the_definition_and_come_back_from_its_text(write, registry):
    definition = load_definition(write(RULES), registry)

    faults = definition.faults
    assert (faults.log.given, faults.seed, faults.replay) == ("faults.jsonl", 7, None)
    assert [(rule.device, rule.what) for rule in faults.inject] == [
        ("disk0", "io-error"),
        ("disk0", "delay"),
        ("net0", "link-down"),
        ("vser0", "lost-interrupt"),
    ]
    Path("again.yaml").write_text(to_yaml(definition, registry))
    again = load_definition("again.yaml", registry).faults
    assert [{name: value.given for name, value in rule.options.items()} for rule in again.inject] == [
        {name: value.given for name, value in rule.options.items()} for rule in faults.inject
    ]
    assert (again.log.given, again.seed) == ("faults.jsonl", 7)


def test_machine_is_built_with_its_rules(write, registry):
    definition = load_definition(write(RULES), registry)
    with build_machine(definition, registry) as machine:
        assert machine.faults.seed == 7
        taps = [queue.pointer.ring.tapped for queue in machine.find_device("disk0").device.queues]
        assert all(taps)
    assert Path("faults.jsonl").read_text() == '{"qdevpy-faults": 1, "seed": 7}\n'


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ("  logs: x", "m.yaml:11:3: error[Q103]: faults: unknown key 'logs'; did you mean 'log'?"),
        ("  seed: many", "m.yaml:11:9: error[Q302]: faults: seed: 'many'"),
        ("  inject: {disk0: {}}", "m.yaml:11:11: error[Q104]: faults: inject: expected a list, found a map"),
        ("  inject: [disk0]", "m.yaml:11:12: error[Q104]: faults: inject: expected DEVICE: {what: EFFECT, ...}, found 'disk0'"),
        ("  inject: [{disk0: {nth: 1}}]", "m.yaml:11:13: error[Q106]: faults: disk0: key 'what' is missing"),
        (
            "  inject: [{dsk0: {what: delay, for: 1s}}]",
            "m.yaml:11:13: error[Q401]: faults: no device has the id 'dsk0'; did you mean 'disk0'?",
        ),
        ("  inject: [{disk0: {what: io-eror}}]", "m.yaml:11:27: error[Q302]: faults: disk0: what: 'io-eror': expected one of"),
        (
            "  inject: [{disk0: {what: link-down, nth: 1}}]",
            "m.yaml:11:27: error[Q302]: faults: disk0: what: 'link-down' is nothing that this device can do",
        ),
        (
            "  inject: [{disk0: {what: io-error, nht: 1}}]",
            "m.yaml:11:37: error[Q301]: faults: disk0: io-error: option 'nht' not found; did you mean 'nth'?",
        ),
        (
            "  inject: [{disk0: {what: io-error, nth: 0}}]",
            "m.yaml:11:42: error[Q302]: faults: disk0: io-error: nth: '0': out of range",
        ),
        (
            "  inject: [{disk0: {what: io-error, requests: reed}}]",
            "m.yaml:11:47: error[Q302]: faults: disk0: io-error: requests: 'reed': 'reed': expected one or more of read",
        ),
        (
            "  inject: [{net0: {what: delay, for: 1s, sectors: 1}}]",
            "m.yaml:11:42: error[Q301]: faults: net0: delay: option 'sectors': requests of this device have no sectors",
        ),
        ("  inject: [{disk0: {what: delay}}]", "m.yaml:11:13: error[Q106]: faults: disk0: delay: 'delay' needs option 'for'"),
        ("  inject: [{net0: {what: link-down}}]", "m.yaml:11:13: error[Q106]: faults: net0: link-down: 'link-down': when?"),
        ("  replay: ./none.jsonl", "m.yaml:11:11: error[Q501]: faults: replay: 'none.jsonl': No such file or directory"),
        ("  log: disk.img\n  replay: disk.img", "m.yaml:11:8: error[Q302]: faults: log: 'disk.img' is what is replayed"),
    ],
)
def test_mistake_is_reported_once_with_its_place(write, registry, faults, expected):
    (problem,) = check_file(write(faults), registry)

    assert str(problem).startswith(expected)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("net1", "net1 (virtio-net-pci): vhost serves its queues, so nothing can happen to them here; set 'vhost: off'"),
        ("net2", "net2 (virtio-net-pci): netdev 'far' is vhost-user, whose back end serves the queues"),
        ("disk1", "disk1 (vhost-user-blk-pci): another program serves its queues (vhost-user)"),
        ("com1", "com1 (isa-serial): has no virtqueues"),
    ],
)
def test_device_that_can_have_no_faults_is_refused_with_the_reason(write, registry, device, expected):
    problems = check_file(write(f"  inject: [{{{device}: {{what: delay, for: 1s}}}}]", OTHERS), registry)

    (message,) = [str(problem) for problem in problems if "faults" in str(problem)]
    assert f"error[Q303]: faults: {expected}" in message


@pytest.mark.parametrize("text", ["", "hello\n", '{"qdevpy-faults": 1}\n{"time": 1, "device": "disk9", "what": "delay"}\n'])
def test_replay_of_what_is_no_log_of_this_machine_names_the_place(write, registry, text):
    Path("old.jsonl").write_text(text)
    definition = load_definition(write("  replay: ./old.jsonl"), registry)

    with pytest.raises(LocatedError, match=r"m\.yaml:11:11: error: "):
        build_machine(definition, registry)


def test_command_line_sets_seed_and_replay(write, registry):
    from qdevpy.definition.source import Override

    Path("old.jsonl").write_text('{"qdevpy-faults": 1}\n')
    overrides = [Override.parse("faults.seed=9"), Override.parse("faults.replay=old.jsonl")]
    faults = load_definition(write(RULES), registry, overrides=overrides).faults

    assert (faults.seed, faults.replay.given) == (9, "old.jsonl")
    assert len(faults.inject) == 4
