# SPDX-License-Identifier: Apache-2.0
"""Properties: declared once, as class attributes of a device.

::

    class Disk(Device):
        serial: str = prop.string(help="serial number, at most 20 bytes")
        num_queues: int = prop.uint16(1, minimum=1, maximum=64, help="request queues")
        event_idx: bool = prop.bit("features", 29, True, help="VIRTIO_F_EVENT_IDX")

A :class:`Kind` knows how to parse and print one sort of value; a :class:`Property` is one
declaration on one class. The user-visible name is the attribute's with ``-`` for ``_`` unless
``name=`` says otherwise (QEMU's names are not regular). One guard refuses writes to a realized
device. As QEMU's ``hw/core/qdev-properties.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs

from qdevpy.qdev import kinds
from qdevpy.qdev.kinds import Kind

_KEY = "qdevpy.property"
#: class attribute that keeps what :func:`properties_of` found
_FOUND = "_properties_by_name"
_NO_METHODS: Any = {"init": False, "eq": False, "repr": False, "kw_only": True, "on_setattr": attrs.setters.NO_OP}


class Property(NamedTuple):
    """One property of one device class.

    :ivar name: as users write it
    :ivar attribute: the class attribute that holds the value
    :ivar kind: how values are parsed and printed
    :ivar default: a value of the kind, not text
    :ivar help: one line
    :ivar word, bit: for bit properties, the word's name and the bit's number
    :ivar runtime: may be set on a realized device
    :ivar dynamic: an object's and not a class's in QEMU, or not QEMU's: not in ``info qtree``, no default in help
    """

    name: str
    attribute: str
    kind: Kind
    default: Any
    help: str
    word: str | None = None
    bit: int | None = None
    runtime: bool = False
    dynamic: bool = False

    def default_text(self) -> str | None:
        """The default as the user would write it; None where there is none."""
        return None if self.kind.is_unset(self.default) else self.kind.format(self.default)


def declare(
    kind: Kind,
    default: Any,
    *,
    help: str,  # noqa: A002 - the field's word for it
    name: str | None = None,
    word: str | None = None,
    bit: int | None = None,
    runtime: bool = False,
    dynamic: bool = False,
) -> Any:
    """Declare a property of any kind; the named functions below are short for it."""
    spec = {"kind": kind, "help": help, "name": name, "word": word, "bit": bit, "runtime": runtime, "dynamic": dynamic}
    return attrs.field(default=default, kw_only=True, metadata={_KEY: spec})


def boolean(default: bool = False, *, help: str, **options: Any) -> Any:  # noqa: A002
    """``on`` or ``off``."""
    return declare(kinds.Bool(), default, help=help, **options)


def bit(word: str, number: int, default: bool = False, *, help: str, **options: Any) -> Any:  # noqa: A002
    """One bit of the word called WORD; users see ``on`` or ``off``, never the word."""
    return declare(kinds.Bit(), default, help=help, word=word, bit=number, **options)


def only(kind: Kind, default: Any, *others: Any, why: str, help: str, **options: Any) -> Any:  # noqa: A002
    """A property of QEMU's that has one value here (or a few); whoever sets another is told WHY it cannot be."""
    return declare(kinds.Only(kind, (default, *others), why), default, help=help, **options)


def _whole(kind: kinds.Integer, default: Any, help: str, options: dict[str, Any]) -> Any:  # noqa: A002
    """Declare an integer; a default that its kind refuses is found here, not by the first user.

    :raises ValueError: names the property by its help, for its name is not known yet
    """
    try:
        if default is not None:
            kind.parse(default)
    except ValueError as error:
        raise ValueError(f"property '{options.get('name') or help}': default {default!r}: {error}") from None
    return declare(kind, default, help=help, **options)


def _integer(bits: int) -> Callable[..., Any]:
    def build(
        default: int = 0,
        *,
        help: str,  # noqa: A002
        minimum: int = 0,
        maximum: int = (1 << bits) - 1,
        unset: int | None = None,
        **options: Any,
    ) -> Any:
        return _whole(kinds.Integer(f"uint{bits}", minimum, maximum, unset), default, help, options)

    build.__doc__ = f"Unsigned, {bits} bits; decimal or 0x hexadecimal. UNSET: a number beyond MAXIMUM that means none."
    return build


uint8 = _integer(8)
uint16 = _integer(16)
uint32 = _integer(32)
uint64 = _integer(64)


def int32(default: int = 0, *, help: str, minimum: int = -(1 << 31), maximum: int = (1 << 31) - 1, **options: Any) -> Any:  # noqa: A002
    """Signed, 32 bits."""
    return _whole(kinds.Integer("int32", minimum, maximum), default, help, options)


def hex32(default: int = 0, *, help: str, **options: Any) -> Any:  # noqa: A002
    """Unsigned, 32 bits, printed in hexadecimal."""
    return declare(kinds.Hex32(), default, help=help, **options)


def size(default: int = 0, *, help: str, **options: Any) -> Any:  # noqa: A002
    """Bytes, with QEMU's suffixes: ``512``, ``4K``, ``1.5M``."""
    return declare(kinds.Size(), default, help=help, **options)


def blocksize(default: int = 0, *, help: str, **options: Any) -> Any:  # noqa: A002
    """A power of two from 512 bytes to 2 MiB, or 0."""
    return declare(kinds.BlockSize(), default, help=help, **options)


def on_error(default: str = "auto", *, help: str, **options: Any) -> Any:  # noqa: A002
    """What to do with a request that the host fails."""
    return declare(kinds.OnError(), default, help=help, **options)


def string(default: str | None = None, *, help: str, **options: Any) -> Any:  # noqa: A002
    """Text."""
    return declare(kinds.Str(), default, help=help, **options)


def path(
    default: str | None = None,
    *,
    help: str,  # noqa: A002
    must_exist: bool = False,
    words: tuple[str, ...] = (),
    **options: Any,
) -> Any:
    """The path of a file; relative ones are relative to the definition they are written in.

    :param must_exist: checked when the definition is read, not only when the machine is built
    :param words: values that stand for themselves and are no path
    """
    return declare(kinds.Path(must_exist, words), default, help=help, **options)


def enum(default: str, *, choices: tuple[str, ...], type_name: str, help: str, **options: Any) -> Any:  # noqa: A002
    """One word of CHOICES."""
    return declare(kinds.Enum(type_name, choices), default, help=help, **options)


def on_off_auto(default: str = "auto", *, help: str, **options: Any) -> Any:  # noqa: A002
    """``on``, ``off`` or ``auto``, kept as that word."""
    return declare(kinds.OnOffAuto(), default, help=help, **options)


def macaddr(default: bytes | None = None, *, help: str, **options: Any) -> Any:  # noqa: A002
    """Six bytes; None until the machine gives the device one."""
    return declare(kinds.MacAddr(), default, help=help, **options)


def pci_devfn(default: int = -1, *, help: str, **options: Any) -> Any:  # noqa: A002
    """``slot`` or ``slot.function``, hexadecimal; slot * 8 + function; -1: the next free slot."""
    return declare(kinds.PciDevfn(), default, help=help, **options)


def drive(*, help: str, **options: Any) -> Any:  # noqa: A002
    """The name of an entry of ``drives:``; holds the backend object once resolved."""
    return declare(kinds.BackendRef("drive"), None, help=help, **options)


def netdev(*, help: str, **options: Any) -> Any:  # noqa: A002
    """The name of an entry of ``netdevs:``."""
    return declare(kinds.BackendRef("netdev"), None, help=help, **options)


def chardev(*, help: str, **options: Any) -> Any:  # noqa: A002
    """The name of an entry of ``chardevs:``."""
    return declare(kinds.BackendRef("chardev"), None, help=help, **options)


def link(target: str, *, help: str, **options: Any) -> Any:  # noqa: A002
    """The id of an object or device of type TARGET (``iothread``)."""
    return declare(kinds.Link(target), None, help=help, **options)


def only_integer(type_name: str, default: int, *, why: str, help: str, **options: Any) -> Any:  # noqa: A002
    """As :func:`only`, for an integer of QEMU's TYPE_NAME (``uint8``)."""
    return only(kinds.Integer(type_name, -(1 << 63), (1 << 64) - 1), default, why=why, help=help, **options)


def fixed_field(value: Any) -> Any:
    """No property: a value that a derived class gives to what is a property elsewhere."""
    return attrs.field(default=value, init=False)


def complete_class(cls: type[Any]) -> None:
    """Turn a class's annotated attributes into attrs fields, those of its bases first; ``_guarded`` names properties.

    This comes with a class's first use and not with its definition: plugins offer many classes, and a machine uses
    few. Authors need not know. Only the fields that a class adds go through attrs, which would else copy those of
    its bases and compile methods for each class: a millisecond and more, twenty times before a guest starts.
    """
    if "__attrs_attrs__" in vars(cls):
        return
    bases: list[Any] = [base for base in cls.__bases__ if hasattr(base, "complete_as_object")]
    for base in bases:
        complete_class(base)
    own = {name: hint for name, hint in vars(cls).get("__annotations__", {}).items() if "ClassVar" not in str(hint)}
    values = {name: vars(cls)[name] for name in own if name in vars(cls)}
    body = {"__annotations__": own, **values}
    added = attrs.fields(attrs.define(type(cls.__name__, (), body), slots=False, **_NO_METHODS)) if own else ()
    fields = {field.name: field for base in reversed(bases) for field in base.__attrs_attrs__}
    for field in added:
        fields.pop(field.name, None)  # a class's own come last, also those that it declares anew
        fields[field.name] = field
    for name in values:
        delattr(cls, name)
    cls.__attrs_attrs__ = tuple(fields.values())
    cls._guarded = frozenset(f.name for f in fields.values() if _KEY in f.metadata and not f.metadata[_KEY]["runtime"])


def properties_of(cls: type[Any]) -> Mapping[str, Property]:
    """The properties that a device class declares or inherits, by user-visible name; not to be changed."""
    known: Mapping[str, Property] | None = vars(cls).get(_FOUND)
    if known is not None:
        return known
    complete_class(cls)
    found: dict[str, Property] = {}
    for field in cls.__attrs_attrs__:
        spec = field.metadata.get(_KEY)
        if spec is None:
            continue
        name = spec["name"] or field.name.replace("_", "-")
        found[name] = Property(
            name=name,
            attribute=field.name,
            kind=spec["kind"],
            default=None if field.default is attrs.NOTHING else field.default,
            help=spec["help"],
            word=spec["word"],
            bit=spec["bit"],
            runtime=spec["runtime"],
            dynamic=spec["dynamic"],
        )
    setattr(cls, _FOUND, found)
    return found


def word_of(device: Any, word: str) -> int:
    """The word that the device's bit properties make: the sum of the bits that are on."""
    bits = [p for p in properties_of(type(device)).values() if p.word == word and p.bit is not None]
    return sum(1 << (p.bit or 0) for p in bits if getattr(device, p.attribute))
