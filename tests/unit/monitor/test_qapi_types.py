# SPDX-License-Identifier: Apache-2.0
"""From annotations to checks, conversions and schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import pytest

from qdevpy.monitor.command import Context, Name, Null, QmpError, UInt16, Union, command
from qdevpy.monitor.qapi import Compiler
from qdevpy.monitor.schema import make_schema
from qdevpy.monitor.table import Bound, CommandTable


class Point(NamedTuple):
    x_pos: int
    label: str | None = None
    old_name: Annotated[int, Name("old_name")] = 7


class FileOptions(TypedDict):
    filename: str


RawOptions = TypedDict("RawOptions", {"file": "NodeRef", "read-only": NotRequired[bool]})


class NodeBase(NamedTuple):
    node_name: str | None = None


Node = Annotated[dict[str, Any], Union("driver", {"file": FileOptions, "raw": RawOptions, "empty": None}, base=NodeBase)]
NodeRef = str | Node | Null


@command("draw", features=("unstable",))
def draw(
    ctx: Context,
    *,
    at: Point,
    class_: Literal["thin", "thick"] = "thin",
    ports: list[UInt16] | None = None,
    data: dict[str, Any] | None = None,
    scale: float | None = None,
    on: bool = False,
) -> list[Point]:
    return [at, Point(len(class_), str((ports, data, scale, on)))]


@command("node-add", allow_oob=True)
def node_add(ctx: Context, options: Node, /) -> Node:
    return options


@command("raw-add", gen=False)
def raw_add(ctx: Context, options: FileOptions, /) -> Any:
    return options


COMMANDS = (draw, node_add, raw_add)


@pytest.fixture
def table():
    return CommandTable((__name__,))


def execute(table, name, **arguments):
    return table.execute(Context(None, None, table), name, arguments)


def test_arguments_reach_the_handler_converted_and_its_answer_the_wire(table):
    answer = execute(table, "draw", at={"x-pos": 3, "old_name": 9}, ports=[1, 65535], data={"a": None}, scale=2, on=True)
    assert answer == [
        {"x-pos": 3, "old_name": 9},
        {"x-pos": 4, "label": "([1, 65535], {'a': None}, 2, True)", "old_name": 7},
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Parameter 'at' is missing"),
        ({"at": {}}, "Parameter 'at.x-pos' is missing"),
        ({"at": 3}, "Invalid parameter type for 'at', expected: object"),
        ({"at": {"x-pos": "3"}}, "Invalid parameter type for 'at.x-pos', expected: integer"),
        ({"at": {"x-pos": True}}, "Invalid parameter type for 'at.x-pos', expected: integer"),
        ({"at": {"x-pos": 1.0}}, "Invalid parameter type for 'at.x-pos', expected: integer"),
        ({"at": {"x-pos": 1 << 63}}, "Parameter 'at.x-pos' expects integer"),
        ({"at": {"x_pos": 1}}, "Parameter 'at.x_pos' is unexpected"),
        ({"at": {"x-pos": 1, "label": None}}, "Invalid parameter type for 'at.label', expected: string"),
        ({"at": {"x-pos": 1}, "class": "red"}, "Parameter 'class' does not accept value 'red'"),
        ({"at": {"x-pos": 1}, "class": 1}, "Invalid parameter type for 'class', expected: string"),
        ({"at": {"x-pos": 1}, "ports": [1, 65536]}, "Parameter 'ports[1]' expects uint16_t"),
        ({"at": {"x-pos": 1}, "ports": {}}, "Invalid parameter type for 'ports', expected: array"),
        ({"at": {"x-pos": 1}, "data": []}, "Invalid parameter type for 'data', expected: object"),
        ({"at": {"x-pos": 1}, "on": 1}, "Invalid parameter type for 'on', expected: boolean"),
        ({"at": {"x-pos": 1}, "scale": True}, "Invalid parameter type for 'scale', expected: number"),
        ({"at": {"x-pos": 1}, "more": 1}, "Parameter 'more' is unexpected"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_qemus_words(table, arguments, message):
    with pytest.raises(QmpError) as caught:
        execute(table, "draw", **arguments)
    assert str(caught.value) == message
    assert caught.value.class_ == "GenericError"


@pytest.mark.parametrize(
    "node",
    [
        {"driver": "file", "filename": "x", "node-name": "n"},
        {"driver": "raw", "file": "other", "read-only": True},
        {"driver": "raw", "file": None},
        {"driver": "raw", "file": {"driver": "raw", "file": {"driver": "empty"}}},
    ],
)
def test_union_gives_the_object_as_it_came(table, node):
    assert execute(table, "node-add", **node) == node


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, "Parameter 'driver' is missing"),
        ({"driver": "iscsi"}, "Parameter 'driver' does not accept value 'iscsi'"),
        ({"driver": "file"}, "Parameter 'filename' is missing"),
        ({"driver": "file", "filename": "x", "file": "y"}, "Parameter 'file' is unexpected"),
        ({"driver": "raw", "file": {"driver": "file"}}, "Parameter 'file.filename' is missing"),
        ({"driver": "raw", "file": 1}, "Invalid parameter type for 'file', expected: string or object or null"),
    ],
)
def test_union_refuses_what_its_branch_does_not_have(table, node, message):
    with pytest.raises(QmpError) as caught:
        execute(table, "node-add", **node)
    assert str(caught.value) == message


def test_command_without_gen_gets_anything(table):
    assert execute(table, "raw-add", anything=[1]) == {"anything": [1]}


def test_unknown_command_is_not_found(table):
    with pytest.raises(QmpError) as caught:
        execute(table, "no-such")
    assert caught.value.class_ == "CommandNotFound"


def test_schema_names_every_type_once_and_describes_every_name():
    schema = make_schema(CommandTable((__name__,)))
    named = [info["name"] for info in schema]
    assert len(named) == len(set(named))
    by_name = {info["name"]: info for info in schema}
    arguments = by_name[by_name["draw"]["arg-type"]]
    assert {member["name"]: "default" in member for member in arguments["members"]} == {
        "at": False, "class": True, "ports": True, "data": True, "scale": True, "on": True,
    }  # fmt: skip
    node = by_name[by_name["node-add"]["arg-type"]]
    assert node["tag"] == "driver"
    assert [variant["case"] for variant in node["variants"]] == ["file", "raw", "empty"]
    assert by_name["node-add"]["allow-oob"] is True
    assert by_name["draw"]["features"] == ["unstable"]
    for info in schema:
        for key in ("arg-type", "ret-type", "element-type"):
            assert info.get(key, "str") in {*by_name}
        for member in (*info.get("members", ()), *info.get("variants", ())):
            assert member.get("type", "str") in by_name


def test_positional_arguments_are_a_mistake_of_the_declaration():
    @command("wrong")
    def wrong(ctx: Context, name: str) -> None: ...

    with pytest.raises(TypeError, match="keyword-only"):
        Bound(wrong, Compiler())


def test_annotation_that_means_nothing_is_a_mistake_of_the_declaration():
    with pytest.raises(TypeError, match="is no type of QMP"):
        Compiler().type_of(set[int])
