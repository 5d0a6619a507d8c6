# SPDX-License-Identifier: Apache-2.0
"""Character devices over QMP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from monitor_rig import MakeQmp

PORTS = """
chardevs: {rb: {type: ringbuf, size: 64}, nul: {type: "null"}, port: {type: "null"}}
devices:
  - virtio-serial-pci: {id: vs}
  - virtconsole: {chardev: nul}
  - virtserialport: {chardev: port, id: p1}
"""


def test_query_chardev_says_who_listens(qmp: MakeQmp) -> None:
    found = {entry["label"]: entry for entry in qmp(PORTS)("query-chardev")}
    assert {name: entry["frontend-open"] for name, entry in found.items()} == {"rb": False, "nul": True, "port": False}
    assert found["rb"]["filename"] == "ringbuf"


def test_query_chardev_backends_lists_types(qmp: MakeQmp) -> None:
    names = {entry["name"] for entry in qmp()("query-chardev-backends")}
    assert {"null", "pty", "socket", "stdio", "file", "ringbuf"} <= names


def test_chardev_comes_and_goes(qmp: MakeQmp) -> None:
    call = qmp(PORTS)
    assert call("chardev-add", id="c2", backend={"type": "null", "data": {}}) == {}
    assert call.error("chardev-add", id="c2", backend={"type": "null", "data": {}}) == "Chardev with id 'c2' already exists"
    call("chardev-change", id="c2", backend={"type": "memory", "data": {"size": 16}})
    call("ringbuf-write", device="c2", data="x")
    call("chardev-remove", id="c2")
    assert call.error("chardev-remove", id="c2") == "Chardev 'c2' not found"
    assert call.error("chardev-remove", id="nul") == "Chardev 'nul' is busy"
    assert call.error("chardev-change", id="nul", backend={"type": "null", "data": {}}) == (
        "Chardev user does not support chardev hotswap"
    )


def test_pty_says_its_name(qmp: MakeQmp) -> None:
    call = qmp()
    pty = call("chardev-add", id="c3", backend={"type": "pty", "data": {}})["pty"]
    assert os.path.exists(pty)
    assert call("query-chardev")[0]["filename"] == f"pty:{pty}"


def test_socket_and_file_take_qapis_options(qmp: MakeQmp, tmp_path: Path) -> None:
    call = qmp()
    unix = {"type": "unix", "data": {"path": str(tmp_path / "s")}}
    call("chardev-add", id="s", backend={"type": "socket", "data": {"addr": unix, "wait": False}})
    inet = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}
    call("chardev-add", id="t", backend={"type": "socket", "data": {"addr": inet, "server": True, "wait": False}})
    call("chardev-add", id="f", backend={"type": "file", "data": {"out": str(tmp_path / "f"), "append": True}})

    names = {entry["label"]: entry["filename"] for entry in call("query-chardev")}

    assert names["s"] == f"disconnected:unix:{tmp_path / 's'},server=on"
    assert names["t"].startswith("disconnected:tcp:127.0.0.1:")
    assert names["f"] == "file"
    assert call.error("chardev-add", id="g", backend={"type": "file", "data": {"out": "/nonexistent/x"}}).startswith(
        "Failed to add chardev 'g': "
    )


def test_break_reaches_the_device(qmp: MakeQmp) -> None:
    call = qmp(PORTS)
    chardev: Any = call.machine.backend("chardevs", "rb")
    events: list[str] = []
    chardev.attach(lambda: 0, lambda data: None, events.append)
    call("chardev-send-break", id="rb")
    assert events == ["opened", "break"]


def test_ringbuf_is_written_and_read(qmp: MakeQmp) -> None:
    call = qmp(PORTS)
    call("ringbuf-write", device="rb", data="abcd")
    call("ringbuf-write", device="rb", data="/w==", format="base64")
    assert call("ringbuf-read", device="rb", size=2) == "ab"
    assert call("ringbuf-read", device="rb", size=100, format="base64") == "Y2T/"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ringbuf-read", {"device": "nul", "size": 1}, "nul is not a ringbuf device"),
        ("ringbuf-read", {"device": "nope", "size": 1}, "Device 'nope' not found"),
        ("ringbuf-read", {"device": "rb", "size": 0}, "size must be greater than zero"),
        ("ringbuf-write", {"device": "rb", "data": "!", "format": "base64"}, "Invalid base64"),
        ("chardev-send-break", {"id": "x"}, "Chardev 'x' not found"),
    ],
)
def test_mistakes_with_chardevs_are_errors(qmp: MakeQmp, name: str, arguments: dict[str, Any], message: str) -> None:
    assert message in qmp(PORTS).error(name, **arguments)


def test_guest_that_opens_a_port_is_an_event_and_shows(qmp: MakeQmp) -> None:
    from qdevpy.vm.event_types import VserportChange

    call = qmp(PORTS)
    port: Any = call.machine.find_device("p1")
    with call.machine.lock:
        port.set_guest_connected(True)
    assert {entry["label"]: entry["frontend-open"] for entry in call("query-chardev")}["port"] is True
    with call.machine.lock:
        port.set_guest_connected(False)
    assert call.events == [VserportChange("p1", True), VserportChange("p1", False)]
    assert {entry["label"]: entry["frontend-open"] for entry in call("query-chardev")}["port"] is False
