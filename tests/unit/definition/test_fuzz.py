# SPDX-License-Identifier: Apache-2.0
"""Whatever the text, reading it ends in a definition or in a DefinitionError."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from definition_parts import registry_of_parts
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qdevpy.definition.load import load_definition
from qdevpy.definition.source import Override
from qdevpy.errors import DefinitionError
from qdevpy.plugin.registry import Registry


@pytest.fixture(scope="module")
def parts() -> Iterator[Registry]:
    with pytest.MonkeyPatch.context() as patch:
        yield registry_of_parts(patch)


VOCABULARY = """
machine pc accel kvm none memory 256M cpus 2 boot kernel cmdline drives netdevs chardevs objects devices global include
type file id bus addr drive netdev chardev iothread virtio-blk-pci virtio-serial-pci virtconsole isa-serial tap null
vectors ioeventfd on off 52:54:00:12:34:56 0x10 vser0.0 pci.0 a b
"""
WORDS = st.sampled_from(VOCABULARY.split())
SYNTAX = st.sampled_from(
    [
        ": ",
        ":",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "&a ",
        "*a",
        "!t ",
        "'",
        '"',
        "#",
        "|",
        ">",
        "? ",
        "%",
        "\\U",
    ]
)
TEXTS = st.lists(WORDS | SYNTAX | st.text(max_size=3), max_size=40).map("".join)

SCALARS = st.none() | WORDS | st.integers().map(str) | st.text(max_size=8)


def render(node: object) -> str:
    """Flow-style YAML with every scalar quoted or plain, as it comes."""
    if isinstance(node, dict):
        return "{" + ", ".join(f"{render(key)}: {render(value)}" for key, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(render, node)) + "]"
    if node is None:
        return ""
    text = str(node)
    return text if text.replace("-", "").replace(".", "").isalnum() else "'" + text.replace("'", "''").replace("\n", " ") + "'"


TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=20
)
DEFINITIONS = st.dictionaries(WORDS, TREES, max_size=6).map(render)


def read(text: str, registry: Registry, *overrides: Override) -> None:
    problems = []
    try:
        load_definition("/nowhere/m.yaml", registry, text=text, overrides=overrides)
    except DefinitionError as error:
        problems = list(error.problems) or ["none at all"]
    assert all(str(p).startswith(("/nowhere/m.yaml:", "--set", "/")) for p in problems)


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@FUZZ
@given(text=TEXTS | st.text(max_size=60))
@example(text='"\\Uffffffff"')
@example(text="%YAML 9.9\n---\n")
@example(text="&a [*a, *a]")
@example(text="\ufeffmachine: pc")
@example(text="? [a]\n: b")
def test_random_text_is_a_definition_or_a_definition_error(parts: Registry, text: str) -> None:
    read(text, parts)


@FUZZ
@given(text=DEFINITIONS)
def test_random_tree_is_a_definition_or_a_definition_error(parts: Registry, text: str) -> None:
    read(text, parts)


@FUZZ
@given(setting=st.lists(WORDS | st.sampled_from([".", "="]) | st.text(max_size=3), max_size=8).map("".join))
def test_random_setting_is_a_definition_or_a_definition_error(parts: Registry, setting: str) -> None:
    read("drives: {a: {cache: {direct: on}}}\ndevices: [virtio-blk-pci: {id: a}, b: {id: b}]\n", parts, Override.parse(setting))
