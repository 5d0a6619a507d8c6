# SPDX-License-Identifier: Apache-2.0
"""QAPI types, made from annotations: they check and convert what comes, convert what goes, and describe themselves.

The rules for annotations are in :mod:`qdevpy.monitor.command`; messages are QEMU's (qapi/qobject-input-visitor.c).
"""

from __future__ import annotations

import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, NotRequired, Protocol, Required, is_typeddict

from qdevpy.monitor.command import Name, QmpError, Range, Union

INT64 = Range("integer", -(1 << 63), (1 << 63) - 1)


class Describer(Protocol):
    """Gathers the schema."""

    def type_name(self, kind: Type) -> str:
        """The name of KIND in the schema; it will be described."""


class Type(ABC):
    """A QAPI type.

    :cvar json_type: as in query-qmp-schema: string, int, number, boolean, null, object, array, value
    :cvar meta: SchemaMetaType
    """

    json_type: ClassVar[str] = "value"
    meta: ClassVar[str] = "builtin"

    @abstractmethod
    def decode(self, value: Any, path: str) -> Any:
        """Check and convert JSON.

        :param path: where it is, for messages: ``backend.data.path``
        :raises QmpError: it is not of this type
        """

    def encode(self, value: Any) -> Any:
        """To JSON."""
        return value

    def describe(self, schema: Describer) -> dict[str, Any]:
        """The members of its SchemaInfo beyond name and meta-type."""
        return {"json-type": self.json_type}


def wrong_type(path: str, expected: str) -> QmpError:
    """QEMU's QERR_INVALID_PARAMETER_TYPE."""
    return QmpError(f"Invalid parameter type for '{path or 'null'}', expected: {expected}")


class Scalar(Type):
    """str, bool, number, null: one Python type each.

    :param name: QAPI's
    """

    def __init__(self, name: str, json_type: str, python: tuple[type[Any], ...]) -> None:
        self.name, self.json_type, self.python = name, json_type, python  # type: ignore[misc]

    def decode(self, value: Any, path: str) -> Any:
        """As :meth:`Type.decode`; True is no number."""
        if not isinstance(value, self.python) or (isinstance(value, bool) and bool not in self.python):
            raise wrong_type(path, self.json_type)
        return value


class Integer(Type):
    """An integer of a range."""

    json_type = "int"
    name = "int"

    def __init__(self, allowed: Range) -> None:
        self.allowed = allowed

    def decode(self, value: Any, path: str) -> int:
        """As :meth:`Type.decode`."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(path, "integer")
        if not self.allowed.low <= value <= self.allowed.high:
            raise QmpError(f"Parameter '{path}' expects {self.allowed.kind}")
        return value


class AnyType(Type):
    """Anything; with ``python`` dict, any object."""

    name = "any"

    def __init__(self, python: type | None = None) -> None:
        self.python = python

    def decode(self, value: Any, path: str) -> Any:
        """As :meth:`Type.decode`."""
        if self.python is not None and not isinstance(value, self.python):
            raise wrong_type(path, "object")
        return value


class Enum(Type):
    """``Literal[...]``."""

    meta = "enum"
    json_type = "string"

    def __init__(self, values: Iterable[str]) -> None:
        self.values = tuple(values)

    def decode(self, value: Any, path: str) -> str:
        """As :meth:`Type.decode`."""
        if not isinstance(value, str):
            raise wrong_type(path, "string")
        if value not in self.values:
            raise QmpError(f"Parameter '{path.rpartition('.')[2]}' does not accept value '{value}'")
        return value

    def describe(self, schema: Describer) -> dict[str, Any]:
        """As :meth:`Type.describe`."""
        return {"members": [{"name": value} for value in self.values], "values": list(self.values)}


class Array(Type):
    """``list[T]``."""

    meta = "array"
    json_type = "array"

    def __init__(self, element: Type) -> None:
        self.element = element

    def decode(self, value: Any, path: str) -> list[Any]:
        """As :meth:`Type.decode`."""
        if not isinstance(value, list):
            raise wrong_type(path, "array")
        return [self.element.decode(item, f"{path}[{index}]") for index, item in enumerate(value)]

    def encode(self, value: Any) -> list[Any]:
        """To JSON."""
        return [self.element.encode(item) for item in value]

    def describe(self, schema: Describer) -> dict[str, Any]:
        """As :meth:`Type.describe`."""
        return {"element-type": schema.type_name(self.element)}


class Member(NamedTuple):
    """A member of an object type.

    :ivar name: on the wire
    :ivar attribute: in Python
    :ivar optional: may be absent
    :ivar default: what it is then
    """

    name: str
    attribute: str
    type: Type
    optional: bool
    default: Any = None

    def describe(self, schema: Describer) -> dict[str, Any]:
        """Its SchemaInfoObjectMember."""
        info: dict[str, Any] = {"name": self.name, "type": schema.type_name(self.type)}
        return {**info, "default": None} if self.optional else info


class ObjectType(Type):
    """What JSON objects have in common: structs, unions, arguments."""

    meta = "object"
    json_type = "object"

    def check_object(self, value: Any, path: str, known: Iterable[str]) -> dict[str, Any]:
        """VALUE, if it is an object and has no member that is not in KNOWN."""
        if not isinstance(value, dict):
            raise wrong_type(path, "object")
        for name in value:
            if name not in known:
                raise QmpError(f"Parameter '{join(path, name)}' is unexpected")
        return value


def join(path: str, name: str) -> str:
    """The path of a member."""
    return f"{path}.{name}" if path else name


def missing(path: str, name: str) -> QmpError:
    """QEMU's QERR_MISSING_PARAMETER."""
    return QmpError(f"Parameter '{join(path, name)}' is missing")


class Struct(ObjectType):
    """A NamedTuple, a TypedDict, or a command's arguments.

    :param source: the class; None: arguments, whose members are given
    """

    def __init__(self, source: type[Any] | None, compiler: Compiler, members: tuple[Member, ...] | None = None) -> None:
        self.source, self._compiler = source, compiler
        self._members = members

    @property
    def members(self) -> tuple[Member, ...]:
        """Its members; found late, for types that contain themselves."""
        if self._members is None:
            assert self.source is not None
            self._members = tuple(self._compiler.members_of(self.source))
        return self._members

    @property
    def as_dict(self) -> bool:
        """Whether Python has a dict of wire names for it."""
        return self.source is None or is_typeddict(self.source)

    def decode(self, value: Any, path: str) -> Any:
        """As :meth:`Type.decode`: a dict by Python names, or an instance."""
        given = self.check_object(value, path, {member.name for member in self.members})
        decoded = self.decode_members(given, path)
        return decoded if self.source is None or self.as_dict else self.source(**decoded)

    def decode_members(self, given: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The members, by Python names; others in GIVEN are not looked at."""
        decoded: dict[str, Any] = {}
        for member in self.members:
            if member.name in given:
                decoded[member.attribute] = member.type.decode(given[member.name], join(path, member.name))
            elif not member.optional:
                raise missing(path, member.name)
            elif not self.as_dict:
                decoded[member.attribute] = member.default
        return decoded

    def encode(self, value: Any) -> dict[str, Any]:
        """To JSON."""
        encoded = {}
        for member in self.members:
            if isinstance(value, Mapping):
                item = value.get(member.name)
                null = member.name in value and isinstance(member.type, AnyType)  # "default": null is one
            else:
                item, null = getattr(value, member.attribute), False
            if item is not None or null or not member.optional:
                encoded[member.name] = member.type.encode(item)
        return encoded

    def describe(self, schema: Describer) -> dict[str, Any]:
        """As :meth:`Type.describe`."""
        return {"members": [member.describe(schema) for member in self.members]}


class UnionType(ObjectType):
    """:class:`qdevpy.monitor.command.Union`."""

    def __init__(self, declared: Union, compiler: Compiler) -> None:
        self.tag, self.optional = declared.tag, declared.optional
        self.enum = Enum(declared.branches)
        self.base = Struct(declared.base, compiler, None if declared.base is not None else ())
        self.branches = {case: compiler.struct(source) for case, source in declared.branches.items()}

    def decode(self, value: Any, path: str) -> dict[str, Any]:
        """As :meth:`Type.decode`: the object as it came."""
        if not isinstance(value, dict):
            raise wrong_type(path, "object")
        case = self.case(value, path)
        branch = self.branches[case]
        known = {self.tag, *(m.name for m in self.base.members), *(m.name for m in branch.members)}
        self.base.decode_members(value, path)
        branch.decode_members(value, path)
        return self.check_object(value, path, known)

    def case(self, value: Mapping[str, Any], path: str) -> str:
        """Which branch VALUE is of."""
        if self.tag in value:
            return self.enum.decode(value[self.tag], join(path, self.tag))
        if self.optional is None:
            raise missing(path, self.tag)
        return self.optional

    def encode(self, value: Any) -> dict[str, Any]:
        """To JSON."""
        branch = self.branches[self.case(value, "")]
        return {self.tag: value[self.tag], **self.base.encode(value), **branch.encode(value)}

    def describe(self, schema: Describer) -> dict[str, Any]:
        """As :meth:`Type.describe`."""
        tag = Member(self.tag, self.tag, self.enum, self.optional is not None)
        return {
            "members": [member.describe(schema) for member in (*self.base.members, tag)],
            "tag": self.tag,
            "variants": [{"case": case, "type": schema.type_name(branch)} for case, branch in self.branches.items()],
        }


class Alternate(Type):
    """One of several types, told apart by JSON type."""

    meta = "alternate"
    pythons: ClassVar[Mapping[str, tuple[type, ...]]] = {
        "string": (str,),
        "int": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "null": (type(None),),
        "array": (list,),
        "object": (dict,),
    }

    def __init__(self, choices: Iterable[Type]) -> None:
        self.choices = tuple(choices)

    def decode(self, value: Any, path: str) -> Any:
        """As :meth:`Type.decode`."""
        return self._choose(value, path).decode(value, path)

    def _choose(self, value: Any, path: str) -> Type:
        for choice in self.choices:
            allowed = self.pythons[choice.json_type]
            if isinstance(value, allowed) and (not isinstance(value, bool) or bool in allowed):
                return choice
        raise wrong_type(path, " or ".join(choice.json_type for choice in self.choices))

    def encode(self, value: Any) -> Any:
        """To JSON; a NamedTuple is an object."""
        if hasattr(value, "_fields"):
            return next(choice for choice in self.choices if choice.json_type == "object").encode(value)
        return self._choose(value, "").encode(value)

    def describe(self, schema: Describer) -> dict[str, Any]:
        """As :meth:`Type.describe`."""
        return {"members": [{"type": schema.type_name(choice)} for choice in self.choices]}


SCALARS: Mapping[Any, tuple[str, str, tuple[type, ...]]] = {
    str: ("str", "string", (str,)),
    bool: ("bool", "boolean", (bool,)),
    float: ("number", "number", (int, float)),
    type(None): ("null", "null", (type(None),)),
}


class Compiler:
    """Makes types from annotations, each once."""

    def __init__(self) -> None:
        self._made: dict[Any, Type] = {}
        self._integer = Integer(INT64)
        self._empty = Struct(None, self, ())

    def type_of(self, annotation: Any) -> Type:
        """The type that ANNOTATION means.

        :raises TypeError: none of those in :mod:`qdevpy.monitor.command`
        """
        made = self._made.get(annotation)
        if made is None:
            made = self._made[annotation] = self._make(annotation)
        return made

    def struct(self, source: type[Any] | None) -> Struct:
        """The struct of a NamedTuple or TypedDict; None: without members."""
        if source is None:
            return self._empty
        found = self.type_of(source)
        assert isinstance(found, Struct)
        return found

    def _make(self, annotation: Any) -> Type:
        if annotation in SCALARS:
            return Scalar(*SCALARS[annotation])
        if annotation is int:
            return self._integer
        if annotation is Any:
            return AnyType()
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            return self._annotated(args[0], args[1:])
        if origin is Literal:
            return self.type_of(type(None)) if args == (None,) else Enum(args)
        if origin is list:
            return Array(self.type_of(args[0]))
        if origin is dict or annotation is dict:
            return AnyType(dict)
        if origin in (typing.Union, types.UnionType):
            return Alternate(self.type_of(choice) for choice in args)
        if is_typeddict(annotation) or hasattr(annotation, "_fields"):
            return Struct(annotation, self)
        raise TypeError(f"{annotation!r} is no type of QMP")

    def _annotated(self, annotation: Any, notes: Iterable[Any]) -> Type:
        for note in notes:
            if isinstance(note, Union):
                return UnionType(note, self)
            if isinstance(note, Range):
                return Integer(note)
        return self.type_of(annotation)

    def members_of(self, source: type[Any]) -> Iterable[Member]:
        """The members of a NamedTuple or TypedDict."""
        hints = typing.get_type_hints(source, include_extras=True)
        if is_typeddict(source):
            for name, annotation in hints.items():
                origin = typing.get_origin(annotation)
                optional = name in source.__optional_keys__ and origin is not Required
                if origin in (Required, NotRequired):
                    annotation, optional = typing.get_args(annotation)[0], origin is NotRequired
                yield self.member(name, annotation, optional=optional, verbatim=True)
            return
        defaults: Mapping[str, Any] = getattr(source, "_field_defaults", {})
        for name in source._fields:
            yield self.member(name, hints[name], optional=name in defaults, default=defaults.get(name))

    def member(
        self, name: str, annotation: Any, *, optional: bool = False, default: Any = None, verbatim: bool = False
    ) -> Member:
        """A member from a field or parameter.

        :param verbatim: NAME is as on the wire
        """
        wire = name if verbatim else name.removesuffix("_").replace("_", "-")
        if typing.get_origin(annotation) is Annotated:
            wire = next((note.name for note in annotation.__metadata__ if isinstance(note, Name)), wire)
        stripped = without_none(annotation)
        if typing.get_origin(stripped) is Annotated:  # Annotated[T, Name("x")] | None
            wire = next((note.name for note in stripped.__metadata__ if isinstance(note, Name)), wire)
        optional = optional or stripped is not annotation
        return Member(wire, wire if verbatim else name, self.type_of(stripped), optional, default)


def without_none(annotation: Any) -> Any:
    """T for ``T | None``, also inside Annotated; else ANNOTATION itself."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        inner = without_none(args[0])
        return annotation if inner is args[0] else Annotated[(inner, *args[1:])]
    if origin in (typing.Union, types.UnionType) and type(None) in args:
        rest = tuple(arg for arg in args if arg is not type(None))
        return typing.Union[rest]  # noqa: UP007
    return annotation
