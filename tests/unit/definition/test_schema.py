# SPDX-License-Identifier: Apache-2.0
"""The JSON schema of definitions: what it says, and of what."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from qdevpy.backend import BUILT_IN
from qdevpy.cli.app import run
from qdevpy.definition import keys
from qdevpy.definition.keys import KEYS, Key
from qdevpy.definition.model import MachineDefinition
from qdevpy.definition.schema import machine_schema
from qdevpy.definition.source import MAP_KEYS, NAMED_SECTIONS, SCALAR_KEYS
from qdevpy.plugin import hookimpl
from qdevpy.plugin.discovery import EntryPoint, find_entry_points
from qdevpy.plugin.manager import load_plugins
from qdevpy.plugin.registry import Registry
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Device
from qdevpy.qdev.kinds import Kind, Str

EXAMPLES = Path(__file__).parents[3] / "examples"

Schema = dict[str, Any]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_plugins()


@pytest.fixture(scope="module")
def schema(registry: Registry) -> Schema:
    return machine_schema(registry)


def accepts(schema: Schema, definition: Any) -> bool:
    return bool(Draft202012Validator(schema).is_valid(definition))


def test_schema_is_a_schema_of_draft_2020_12(schema: Schema) -> None:
    Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_schema_says_the_same_each_time(registry: Registry, schema: Schema) -> None:
    assert json.dumps(machine_schema(registry)) == json.dumps(schema)


def test_every_reference_leads_somewhere_and_nothing_is_defined_in_vain(schema: Schema) -> None:
    names = {str(found).removeprefix("#/$defs/") for found in values_of(schema, "$ref")}

    assert names == set(schema["$defs"])


def values_of(node: Any, key: str) -> Iterator[Any]:
    """What stands at KEY anywhere in NODE."""
    if isinstance(node, dict):
        if isinstance(node.get(key), str):
            yield node[key]
        for value in node.values():
            yield from values_of(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from values_of(item, key)


# -- keys


def test_every_part_of_a_definition_is_a_declared_key() -> None:
    fields = {name.replace("_", "-") for name in MachineDefinition._fields} - {"path"}

    assert fields == {{"fw_cfg": "fw-cfg", "global": "globals"}.get(key, key) for key in KEYS} - {"include"}


def test_keys_for_set_are_declared() -> None:
    assert {*SCALAR_KEYS, *MAP_KEYS, *NAMED_SECTIONS} <= KEYS.keys()


def test_schema_has_all_declared_keys_with_their_help(schema: Schema) -> None:
    assert {name: found["description"].partition("\n")[0] for name, found in schema["properties"].items()} == {
        name: key.help for name, key in KEYS.items()
    }


def test_a_key_that_the_schema_knows_no_shape_of_is_an_error(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KEYS, "weather", Key("of the guest"))  # type: ignore[attr-defined]

    with pytest.raises(LookupError, match="'weather'"):
        machine_schema(registry)


def test_every_map_of_keys_is_in_the_schema(schema: Schema) -> None:
    declared = {name for maps in vars(keys).values() if isinstance(maps, dict) for name in maps if isinstance(maps[name], Key)}
    written = json.dumps(schema)

    assert {name for name in declared if f'"{name}": ' not in written} == set()


# -- devices, back ends, boards


def test_every_device_type_is_there_by_name_and_alias(registry: Registry, schema: Schema) -> None:
    names, items = schema["properties"]["devices"]["items"]["anyOf"]
    types = [kind for kind in registry.device_types.values() if kind.user_creatable]

    assert set(items["properties"]) == {kind.name for kind in types} | {kind.alias for kind in types if kind.alias}
    assert set(names["enum"]) == set(items["properties"])


def test_every_property_is_there_with_help_and_default(registry: Registry, schema: Schema) -> None:
    described = schema["$defs"]["device.virtio-blk-pci"]["properties"]
    properties = registry.device_type("virtio-blk-pci").properties

    assert {*properties, "id", "bus"} == set(described)
    for name, declared in properties.items():
        found = schema["$defs"][described[name]["$ref"].removeprefix("#/$defs/")]
        assert found["description"].startswith(declared.help)
        assert str(found.get("default")) == str(declared.default_text())


def test_every_default_is_a_value_that_its_own_schema_takes(schema: Schema) -> None:
    described = [found for found in schema["$defs"].values() if "default" in found]
    defs = {"$defs": schema["$defs"]}

    assert len(described) > 50
    assert [found for found in described if not accepts({**found, **defs}, found["default"])] == []


@pytest.mark.parametrize("section", BUILT_IN)
def test_every_back_end_is_there_with_its_options(section: str, registry: Registry, schema: Schema) -> None:
    for name, cls in registry.backends(section).items():
        options = prop.properties_of(cls)
        entry = schema["$defs"].get(f"{section}.{name}") or schema["properties"][section]["additionalProperties"]

        assert set(options) <= set(entry["properties"])


def test_units_are_told_by_example(schema: Schema) -> None:
    assert "256M" in schema["$defs"]["kind.size"]["examples"]


def test_board_limits_memory_and_cpus(schema: Schema) -> None:
    assert accepts(schema, {"cpus": 64})
    assert not accepts(schema, {"cpus": 65})
    assert not accepts(schema, {"machine": "none", "cpus": 2})
    assert not accepts(schema, {"memory": 4097})


def test_options_may_be_nested_or_flat(schema: Schema) -> None:
    assert accepts(schema, {"drives": {"root": {"file": "a", "cache.direct": "on"}}})
    assert accepts(schema, {"drives": {"root": {"file": "a", "cache": {"direct": "on"}}}})
    assert not accepts(schema, {"drives": {"root": {"file": "a", "cache": {"indirect": "on"}}}})
    assert not accepts(schema, {"drives": {"root": {"file": "a", "cache": {}}}})


def test_file_with_include_need_not_be_whole(schema: Schema) -> None:
    part = {"drives": {"root": {"readonly": "on"}}, "netdevs": {"lan": {"ifname": "tap0"}}}

    assert not accepts(schema, part)
    assert accepts(schema, {"include": "base.yaml", **part})


def test_global_takes_types_and_what_they_are_derived_from(schema: Schema) -> None:
    assert accepts(schema, {"global": {"virtio-blk-pci.ioeventfd": "off", "virtio-pci": {"vectors": 3}}})
    assert not accepts(schema, {"global": {"virtio-pci.wectors": 3}})


# -- third parties


class Volume(Kind):
    """A kind of a plugin's own, which says nothing of its schema."""

    type_name = "volume"
    accepts = "a number from 0 to 11"

    def parse(self, given: Any) -> int:
        if str(given) not in map(str, range(12)):
            raise ValueError(f"expected {self.accepts}")
        return int(given)


class Loudspeaker(Device):
    type_name = "lab-loudspeaker"
    description = "makes noise"
    volume: int = prop.declare(Volume(), 11, help="how loud")
    tune: str | None = prop.declare(Str(), None, help="what")


class Broken(Device):
    type_name = "lab-broken"

    def __init__(self) -> None:
        raise RuntimeError("not today")


@hookimpl
def qdevpy_devices() -> list[type[Device]]:
    return [Loudspeaker, Broken]


def test_device_of_an_installed_example_is_completed_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "edu")
    for module in [name for name in sys.modules if name.startswith("qdevpy_edu")]:
        monkeypatch.delitem(sys.modules, module)
    installed = load_plugins([*find_entry_points(), EntryPoint("edu", "qdevpy_edu.plugin", "qdevpy-edu")])

    schema = machine_schema(installed)

    assert accepts(schema, {"devices": [{"edu": {"dma_mask": "0xfffffff"}}, "edu"]})
    assert not accepts(schema, {"devices": [{"edu": {"dma_musk": 1}}]})
    assert accepts(schema, {"global": {"edu.addr": "5"}})


def test_kind_of_a_plugin_takes_any_value_and_says_in_words_what_is_accepted() -> None:
    schema = machine_schema(load_plugins([EntryPoint("lab", __name__, "lab")]), warn=lambda message: None)

    assert accepts(schema["$defs"]["property.volume"], 12)
    assert schema["$defs"]["property.volume"]["description"] == "how loud\n\na number from 0 to 11"
    assert schema["$defs"]["property.volume"]["default"] == "11"


def test_class_that_cannot_be_described_is_left_out_with_a_warning() -> None:
    warnings: list[str] = []

    schema = machine_schema(load_plugins([EntryPoint("lab", __name__, "lab")]), warn=warnings.append)

    assert "device.lab-broken" not in schema["$defs"]
    assert "device.lab-loudspeaker" in schema["$defs"]
    assert warnings
    assert all("lab-broken" in warning for warning in warnings)


# -- command line


def test_command_prints_the_schema(capsys: pytest.CaptureFixture[str], schema: Schema) -> None:
    assert run(["schema"]) == 0

    assert json.loads(capsys.readouterr().out) == schema


def test_command_writes_the_schema_to_a_file(tmp_path: Path, schema: Schema) -> None:
    assert run(["schema", "--output", str(tmp_path / "s.json")]) == 0

    assert json.loads((tmp_path / "s.json").read_text()) == schema


def test_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "--output", str(tmp_path / "no" / "s.json")]) == 1

    assert "no/s.json': No such file or directory" in capsys.readouterr().err
