# SPDX-License-Identifier: Apache-2.0
"""What definitions may name, as text and as JSON."""

from __future__ import annotations

import json

import pytest
from cli_parts import Program
from definition_parts import Nic

from qdevpy.cli.listing import describe_device
from qdevpy.plugin.discovery import EntryPoint
from qdevpy.plugin.manager import load_plugins


def test_devices_lists_those_that_users_can_create(program: Program) -> None:
    lines = program("devices").out.splitlines()

    assert lines[0].split() == ["name", "bus", "ioeventfd", "from", "description"]
    assert [line.split()[0] for line in lines[1:]] == [
        "isa-serial",
        "virtconsole",
        "virtio-blk-pci",
        "virtio-net-pci",
        "virtio-serial-pci",
    ]
    assert lines[3].split()[1:] == ["PCI", "allowed", "lab-parts", "a", "disk"]


def test_device_json_has_the_documented_form(program: Program) -> None:
    found = json.loads(program("device", "virtio-blk-pci", "--json").out)

    assert list(found) == ["name", "bus", "description", "ioeventfd", "properties"]
    assert (found["name"], found["bus"], found["description"], found["ioeventfd"]) == (
        "virtio-blk-pci",
        "PCI",
        "a disk",
        "allowed",
    )
    properties = {p["name"]: p for p in found["properties"]}
    assert properties["vectors"] == {"name": "vectors", "type": "uint32", "default": "2", "help": "MSI-X vectors"}
    assert properties["ioeventfd"]["default"] == "on"
    assert properties["drive"]["default"] is None


@pytest.mark.parametrize(("name", "policy"), [("virtio-serial-pci", "forbidden"), ("virtconsole", None)])
def test_device_json_has_the_policy(program: Program, name: str, policy: str | None) -> None:
    assert json.loads(program("device", name, "--json").out)["ioeventfd"] == policy


def test_devices_json_is_a_list_of_the_same(program: Program) -> None:
    listed = json.loads(program("devices", "--json").out)

    assert listed[2] == json.loads(program("device", "virtio-blk-pci", "--json").out)


def test_json_of_all_that_is_packaged_has_the_documented_form() -> None:
    registry = load_plugins()
    found = {kind.name: describe_device(kind) for kind in registry.device_types.values()}

    assert registry.broken == ()
    assert found["virtio-blk-pci"]["ioeventfd"] == found["virtio-net-pci"]["ioeventfd"] == "allowed"
    assert found["virtio-serial-pci"]["ioeventfd"] == "forbidden"
    for device in found.values():
        assert list(device) == ["name", "bus", "description", "ioeventfd", "properties"]
        assert all(device[key] for key in ("name", "description")), device
        for declared in device["properties"]:
            assert list(declared) == ["name", "type", "default", "help"]
            assert all(isinstance(declared[key], str) and declared[key] for key in ("name", "type", "help")), (device, declared)
            assert declared["default"] is None or isinstance(declared["default"], str)


def test_device_as_text_shows_policy_and_properties(program: Program) -> None:
    out = program("device", "virtio-blk-pci").out

    assert "bus: PCI\nioeventfd: allowed\nfrom: lab-parts\n" in out
    assert "serial number (text)" in out


def test_device_of_the_board_says_so(program: Program) -> None:
    assert "part of a board; definitions cannot add it" in program("device", "i440FX").out


def test_device_unknown_has_the_nearest(program: Program) -> None:
    result = program("device", "virtio-blk")

    assert result == (1, "", "qdevpy: error: there is no device type 'virtio-blk'; did you mean 'virtio-blk-pci'?\n")


def test_listing_names_plugins_that_could_not_be_loaded(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = load_plugins([EntryPoint("gone", "no_such_module", "lost-and-found")])
    monkeypatch.setattr("qdevpy.cli.listing.load_plugins", lambda: broken)

    result = program("devices")

    assert result.status == 0
    assert "warning: not loaded: plugin 'gone' of lost-and-found: cannot be imported" in result.err


def test_devices_json_leaves_out_a_class_that_cannot_be_created(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Nic) -> None:
        raise ValueError("no cable")

    monkeypatch.setattr(Nic, "all_properties", fail)

    result = program("devices", "--json")

    assert result.status == 0
    assert [kind["name"] for kind in json.loads(result.out)] == [
        "isa-serial",
        "virtconsole",
        "virtio-blk-pci",
        "virtio-serial-pci",
    ]
    assert result.err == "qdevpy: warning: device type 'virtio-net-pci' of lab-parts: ValueError: no cable\n"


def test_machines_lists_boards_and_definitions(program: Program) -> None:
    out = program("machines").out

    assert "alias of pc" in out
    assert "definition_parts.yaml" in out


def test_machines_json(program: Program) -> None:
    found = json.loads(program("machines", "--json").out)

    assert found["machines"]["pc-1.0"]["alias_of"] == "pc"
    assert list(found["definitions"]) == ["definition_parts"]


def test_backends_lists_options(program: Program) -> None:
    out = program("backends").out

    assert "netdevs: type: tap" in out
    assert "cache.direct" in out


def test_backends_json_of_one_section(program: Program) -> None:
    found = json.loads(program("backends", "drives", "--json").out)

    assert [option["name"] for option in found["drives"]["drive"]["options"]] == ["file", "format", "readonly", "cache.direct"]


def test_backends_of_an_unknown_section_is_an_error(program: Program) -> None:
    assert "there is no section 'disks'" in program("backends", "disks").err
