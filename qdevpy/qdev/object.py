# SPDX-License-Identifier: Apache-2.0
"""Objects with properties: devices, and the back ends they are plugged into on the host side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import attrs

from qdevpy.errors import PropertyError, did_you_mean
from qdevpy.qdev.property import Property, complete_class, properties_of


class Object:
    """Something with a type name, an id and properties that users set.

    :ivar id: the user's name of it, or None
    :cvar type_name: QEMU's name of the type (``isa-serial``, ``tap``)
    :cvar description: one line for listings
    """

    type_name: ClassVar[str] = ""
    description: ClassVar[str] = ""

    id: str | None = None

    _guarded: ClassVar[frozenset[str]] = frozenset()
    complete_as_object: ClassVar[bool] = True  #: its annotations are fields

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """The first instance of a class completes it."""
        complete_class(cls)
        return super().__new__(cls)

    def __init__(self, **values: Any) -> None:
        """Fields at their defaults, but for those named in VALUES.

        :raises TypeError: no such field, or one without default is not given
        """
        fields = self.__dict__
        for field in type(self).__attrs_attrs__:  # type: ignore[attr-defined]
            default = field.default
            if field.init and field.name in values:
                fields[field.name] = values.pop(field.name)
            elif isinstance(default, attrs.Factory):  # type: ignore[arg-type]
                fields[field.name] = default.factory(self) if default.takes_self else default.factory()
            elif default is not attrs.NOTHING:
                fields[field.name] = default
            elif field.init:
                raise TypeError(f"{type(self).__name__} needs {field.name}")
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)} to begin with")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a property of a realized device refuses (QEMU: qdev_prop_set_after_realize)."""
        if name in self._guarded and self.is_realized:
            shown = next(p.name for p in properties_of(type(self)).values() if p.attribute == name)
            whose = f"device '{self.id}'" if self.id else "anonymous device"
            raise PropertyError(
                f"Attempt to set property '{shown}' on {whose} (type '{self.type_name}') after it was realized", name=shown
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<{self.label}>"

    @property
    def label(self) -> str:
        """How messages name this device: its id, else its type."""
        return f"{self.id} ({self.type_name})" if self.id else self.type_name

    @property
    def is_realized(self) -> bool:
        """Whether properties are fixed by now."""
        return False

    def find_property(self, name: str) -> tuple[Object, Property]:
        """The object that owns a property, and its declaration.

        :raises PropertyError: unknown; the message has the nearest valid name
        """
        for owner in self.property_owners():
            found = properties_of(type(owner)).get(name)
            if found is not None:
                return owner, found
        hint = did_you_mean(name, [*self.all_properties(), "id"]) or f"; see 'qdevpy device {self.type_name}'"
        raise PropertyError(f"property '{name}' not found{hint}", device=self.label, name=name)

    def property_owners(self) -> Iterator[Object]:
        """Objects whose properties are this device's to the user; transports add the device behind them."""
        yield self

    def all_properties(self) -> Mapping[str, Property]:
        """All properties by name, the device's own first."""
        found: dict[str, Property] = {}
        for owner in self.property_owners():
            for name, declared in properties_of(type(owner)).items():
                found.setdefault(name, declared)
        return found

    def set_property(self, name: str, given: Any) -> None:
        """Parse and set a property.

        :param given: text, or a plain YAML scalar
        :raises PropertyError: unknown name, unacceptable value, or the device is realized
        """
        owner, declared = self.find_property(name)
        try:
            value = declared.kind.parse(given)
        except ValueError as error:
            raise PropertyError(f"property '{name}': '{given}': {error}", device=self.label, name=name) from None
        setattr(owner, declared.attribute, value)

    def get_property(self, name: str) -> Any:
        """A property's value (not its text)."""
        owner, declared = self.find_property(name)
        return getattr(owner, declared.attribute)
