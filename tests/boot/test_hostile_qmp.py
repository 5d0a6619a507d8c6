# SPDX-License-Identifier: Apache-2.0
"""Ten thousand malformed and half-malformed inputs at the QMP server of a machine that works meanwhile."""

import json
import re
import threading

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from qmp_parts import Client, Demo

from qdevpy.monitor.schema import make_schema
from qdevpy.monitor.table import CommandTable

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.slow,
    pytest.mark.needs_host("kvm"),
]

INPUTS = 10_000
#: inputs between two questions whether all is well
BATCH = 5

# -- inputs: what a schema says, and what it does not

SCHEMA = {entry["name"]: entry for entry in make_schema(CommandTable())}
NAMES = sorted(name for name, entry in SCHEMA.items() if entry["meta-type"] == "command")
#: commands that leave the machine as it is, whatever their arguments
HARMLESS = [name for name in NAMES if re.match(r"(x-)?query-|qom-list|qom-get|device-list-properties", name)]

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
JSON = st.recursive(
    SCALARS, lambda i: st.lists(i, max_size=4) | st.dictionaries(st.text(max_size=8), i, max_size=4), max_leaves=8
)
TEXTS = st.sampled_from(
    ["", "/machine", "/machine/peripheral/disk0", "virtio-blk-pci", "type", "nic0", "../..", "disk0", "%s", "\0"]
)


def values_of(name, depth=0):
    """Values that fit the schema's type NAME, and now and then some that do not."""
    entry = SCHEMA[name]
    meta = entry["meta-type"]
    if depth > 3:
        return JSON
    if meta == "builtin":
        kinds = {"string": TEXTS | st.text(max_size=9), "int": st.integers(), "boolean": st.booleans(), "number": st.floats()}
        return kinds.get(entry["json-type"], JSON)
    if meta == "enum":
        return st.sampled_from(entry["values"]) | TEXTS
    if meta == "array":
        return st.lists(values_of(entry["element-type"], depth + 1), max_size=3)
    if meta == "alternate":
        return st.one_of([values_of(member["type"], depth + 1) for member in entry["members"]])
    fitting = {member["name"]: values_of(member["type"], depth + 1) | JSON for member in entry["members"]}
    return st.fixed_dictionaries({}, optional=fitting)


@st.composite
def requests(draw):
    """A request of the right form, or nearly: commands that would change the machine have a member too many."""
    name = draw(st.sampled_from(NAMES))
    arguments = draw(values_of(SCHEMA[name]["arg-type"]))
    if name not in HARMLESS:
        arguments["no-such-argument"] = draw(SCALARS)
    request = {"execute": name, "arguments": arguments}
    if draw(st.booleans()):
        request["id"] = draw(JSON)
    if not draw(st.integers(0, 9)):
        request[draw(st.sampled_from(["exec-oob", "arguments", "execute", "extra"]))] = draw(JSON)
        if request["execute"] not in HARMLESS and request["arguments"] != arguments:
            request["extra"] = None
    return json.dumps(request).encode()


@st.composite
def damaged(draw):
    """A harmless request with bytes taken out, put in or changed."""
    name = draw(st.sampled_from(HARMLESS))
    text = bytearray(json.dumps({"execute": name, "arguments": draw(values_of(SCHEMA[name]["arg-type"])), "id": 1}).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b"{", b"}", b"[", b'"', b"'", b"\\"])
        )
    return bytes(text)


NESTED = st.builds(lambda n, o: o * n, st.integers(1, 2000), st.sampled_from([b"[", b'{"a":', b"[{", b"]", b'"', b"1", b"a"]))
STRANGE = st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()) | NESTED
INPUT = requests() | damaged() | STRANGE


class Rounds(threading.Thread):
    """The machine's work: each time the guest has powered off it is reset and does it again."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.done = 0
        self.last = threading.Event()

    def run(self):
        with Client(self.path) as client:
            while not self.last.is_set():
                self.wait_for_power_off(client)
                client.command("system_reset")
                client.command("cont")
            client.command("set-action", shutdown="poweroff")
            self.wait_for_power_off(client)

    def wait_for_power_off(self, client):
        while client.event("SHUTDOWN")["data"] != {"guest": True, "reason": "guest-shutdown"}:
            pass
        if not self.last.is_set():
            client.event("STOP")
        self.done += 1


def throw(path, count):
    """Throw COUNT inputs, a few at a time; they are answered, or at least forgotten, before the next few."""
    client = Client(path)
    thrown = 0

    @settings(
        max_examples=count // BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(INPUT, min_size=BATCH, max_size=BATCH))
    def throw_some(inputs):
        nonlocal thrown
        thrown += len(inputs)
        mark = f"after {thrown}"
        client.send(b"\n\xff\n".join([*inputs, json.dumps({"execute": "query-name", "id": mark}).encode()]))
        while (answer := client.answer()).get("id") != mark:
            assert answer.keys() & {"return", "error"}, (inputs, answer)
        assert answer == {"return": {}, "id": mark}, inputs
        client.events.clear()

    throw_some()
    client.close()
    return thrown


def test_machine_finishes_its_work_whatever_is_thrown_at_its_monitor(tmp_path):
    with Demo(tmp_path, "shutdown: off") as demo:
        rounds = Rounds(demo.path)
        rounds.start()
        try:
            thrown = throw(demo.path, INPUTS)
        finally:
            rounds.last.set()
        assert demo.process.wait(60) == 0
        rounds.join(60)
    output = demo.output()
    assert thrown >= INPUTS
    assert rounds.done > 1
    assert output.count("demo: 20 checks passed") == rounds.done
    assert "FAILED" not in output
    assert "Traceback" not in demo.errors()
