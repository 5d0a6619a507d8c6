# SPDX-License-Identifier: Apache-2.0
"""A definition as an editor's schema sees it, and what only ``qdevpy check`` can find in it.

:func:`to_json` reads YAML 1.2 by the core schema (yaml.org/spec/1.2.2, 10.3.2), as YAML language servers do. :func:`compare`
holds what a schema and ``qdevpy check`` say of a text against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from qdevpy.definition import problems as q
from qdevpy.definition.load import load_definition
from qdevpy.definition.model import Problem
from qdevpy.errors import DefinitionError
from qdevpy.plugin.registry import Registry

_NULL = ("", "~", "null", "Null", "NULL")
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGERS = {r"[-+]?[0-9]+": 10, r"0o[0-7]+": 8, r"0x[0-9a-fA-F]+": 16}
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"


def scalar_to_json(text: str, *, plain: bool) -> Any:
    """What a scalar is; PLAIN: written without quotes."""
    if not plain:
        return text
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    for pattern, base in _INTEGERS.items():
        if re.fullmatch(pattern, text):
            return int(text.lower().removeprefix("0o").removeprefix("0x"), base)
    return float(text) if re.fullmatch(_FLOAT, text) else text


def to_json(text: str) -> Any:
    """The document as JSON; keys are text."""
    return _node_to_json(YAML(typ="safe", pure=True).compose(text))


def _node_to_json(node: Any) -> Any:
    match node:
        case ScalarNode():
            return scalar_to_json(node.value, plain=node.style is None)
        case SequenceNode():
            return [_node_to_json(item) for item in node.value]
        case MappingNode():
            return {key.value: _node_to_json(value) for key, value in node.value}
    return None


def _scalars(node: Any) -> Iterator[Any]:
    match node:
        case ScalarNode():
            yield node
        case SequenceNode():
            for item in node.value:
                yield from _scalars(item)
        case MappingNode():
            for _, value in node.value:
                yield from _scalars(value)


# -- what a schema cannot know

#: codes of problems that need more than one value to be seen, or more than the file
BEYOND_ONE_VALUE = {
    q.UNRESOLVED: "a name refers to another entry",
    q.USED_TWICE: "a back end is in use elsewhere in the file",
    q.DUPLICATE_ID: "an id stands elsewhere in the file",
    q.SLOT_TAKEN: "a slot is taken by another device",
    q.WRONG_BUS: "the buses that there are depend on the devices before",
    q.MISSING_FILE: "a file of the host",
    q.DUPLICATE_KEY: "an option is written flat and nested",
}
TOPOLOGY = "a product of other keys"
CONTRADICTION = "a key goes with one value of another"
INCLUDED = "another file has it, or has it not"
NOTHING = "YAML has no difference between the word null and nothing"
SPELLING = "YAML reads a number, and the text that we read is not how the kind spells it"
COUNT = "digits in quotes, or with a suffix, cannot be counted"
ABILITY = "what can happen to a device is the device's to know"
JSON = "a schema does not look into JSON in quotes"
#: the one way in which a schema refuses what ``qdevpy check`` takes
OCTAL = "YAML 1.2 reads 010 as ten, and we read eight, as C and QEMU do"


def reason(problem: Problem, text: str, document: Any) -> str | None:
    """Why a schema need not find a problem; None: it should.

    :param document: TEXT as JSON
    """
    if problem.code in BEYOND_ONE_VALUE:
        return BEYOND_ONE_VALUE[problem.code]
    if problem.code == q.OUT_OF_RANGE and problem.message.startswith("topology:"):
        return TOPOLOGY
    if problem.code == q.BAD_VALUE and problem.message.startswith("monitors: pretty:"):
        return CONTRADICTION
    if "include" in document and (problem.code == q.MISSING_KEY or (_is_of_the_board(problem) and "machine" not in document)):
        return INCLUDED
    if _is_of_a_device_with_faults(problem):
        return ABILITY
    place = (problem.position.line - 1, problem.position.column - 1)
    for node in _scalars(YAML(typ="safe", pure=True).compose(text)):
        if (node.start_mark.line, node.start_mark.column) == place:
            return reason_of_value(node.value, plain=node.style is None, accepted=problem.message)
    return None


def _is_of_a_device_with_faults(problem: Problem) -> bool:
    about_words = problem.code == q.BAD_VALUE and re.search(r": (?:what|requests): ", problem.message) is not None
    others = (q.UNKNOWN_PROPERTY, q.FORBIDDEN, q.MISSING_KEY)
    return problem.message.startswith("faults: ") and (about_words or problem.code in others)


def _is_of_the_board(problem: Problem) -> bool:
    return problem.message.startswith(("machine-options:", "memory:", "cpus:"))


def reason_of_value(text: str, *, plain: bool, accepted: str) -> str | None:
    """Why a schema may take a value that its kind does not take.

    :param accepted: what the kind takes, in words
    """
    value = scalar_to_json(text, plain=plain)
    if value is None:
        return NOTHING
    if isinstance(value, str):
        digits = r"\s*[+-]?(?:0[xX][0-9a-fA-F]+|[0-9.]+(?:[bBkKmMgGtTpPeE%]|[num]?s)?|0[oO][0-7]+)\s*"
        return COUNT if re.fullmatch(f"{digits}(?:-{digits})?", text) else JSON if text.startswith("[") else None
    if isinstance(value, bool):
        return None
    return SPELLING if isinstance(value, float) or str(value) != text or "hexadecimal" in accepted else None


def is_octal(text: str) -> bool:
    """Whether C reads another number than YAML."""
    return re.fullmatch(r"[+-]?0[0-7]+", text) is not None


class Verdict(NamedTuple):
    """Both answers about a definition.

    :ivar refused: the schema's first error; None: it takes it
    :ivar problems: what ``qdevpy check`` finds
    :ivar unexplained: those of them that the schema should have found
    """

    refused: str | None
    problems: list[Problem]
    unexplained: list[Problem]

    @property
    def agrees(self) -> bool:
        """Neither finds what the other should have found, too."""
        return bool(self.problems) if self.refused is not None else not self.unexplained


def compare(text: str, validator: Any, registry: Registry) -> Verdict:
    """What VALIDATOR and ``qdevpy check`` say of a definition."""
    problems: list[Problem] = []
    try:
        load_definition("definition.yaml", registry, text=text)
    except DefinitionError as found:
        problems = list(found.problems)
    try:
        document = to_json(text)
    except YAMLError as found:
        return Verdict(f"not YAML: {found}", problems, [])
    error = next(validator.iter_errors(document), None)
    if error is not None:
        return Verdict(f"{error.json_path}: {error.message}", problems, [])
    return Verdict(None, problems, [problem for problem in problems if reason(problem, text, document) is None])
