"""Elements of lists and maps that an attribute declares: `ListAttribute(of=…)` and `MapAttribute(of=…)`."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from mintkey import _core
from mintkey.attributes.base import Attribute
from mintkey.attributes.reading import reader
from mintkey.attributes.scalars import (
    BinaryAttribute,
    BooleanAttribute,
    DecimalAttribute,
    EnumAttribute,
    IntegerAttribute,
    NumberAttribute,
    StringAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.attributes.structures import Structure
from mintkey.attributes.times import (
    DateAttribute,
    DatetimeAttribute,
    TimeAttribute,
    TimedeltaAttribute,
    TTLAttribute,
)
from mintkey.errors import shortened


class _Float(NumberAttribute[float]):
    """Numbers that are always read as `float`."""

    @property
    def described(self) -> str:
        return "float"

    def encode(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"expected float, got {type(value).__name__}")
        try:
            number = float(value)
        except OverflowError as error:
            raise ValueError(f"{error}: use Decimal") from error
        if isinstance(value, int) and number != value:
            raise ValueError(f"{shortened(value)} would be read as {number!r}: use Decimal")
        return number

    def decode(self, stored: Any) -> float:
        return float(stored)


#: The attribute that stores the single values of each type. `Enum` classes are handled separately.
SCALARS: dict[type, Callable[[], Attribute[Any]]] = {
    str: StringAttribute,
    int: IntegerAttribute,
    float: _Float,
    bool: BooleanAttribute,
    bytes: BinaryAttribute,
    Decimal: DecimalAttribute,
    datetime: DatetimeAttribute,
    date: DateAttribute,
    time: TimeAttribute,
    timedelta: TimedeltaAttribute,
    uuid.UUID: UUIDAttribute,
}


def scalar_attribute(kind: Any) -> Attribute[Any] | None:
    """Return the attribute that stores the values of a type, or None for a type whose values are not single."""
    if not isinstance(kind, type):
        return None
    if issubclass(kind, enum.Enum):
        return EnumAttribute(kind)
    make = SCALARS.get(kind)
    return None if make is None else make()


class Element(Structure):
    """The elements that an attribute declares. They are encoded, decoded and checked as its values."""

    def __init__(self, attribute: Attribute[Any]) -> None:
        super().__init__()
        self.attribute = attribute
        self.kind = attribute.kind
        self._read = reader(attribute) if attribute.converts else attribute.decode

    def encode(self, value: Any) -> Any:
        attribute = self.attribute
        if value is None:
            if attribute.keeps_none:
                return None
            raise TypeError("an element must not be None here: leave it out")
        encoded = attribute.encode(value)
        if attribute.kind in {"list", "map", "any"}:
            wanted = {"list": list, "map": dict}.get(attribute.kind, object)
            if not isinstance(encoded, wanted):
                raise TypeError(f"expected {wanted.__name__}, got {type(value).__name__}")
            return encoded  # its contents are checked together with the rest of the value
        # Without a label: the path names the element.
        return _core.checked(attribute.kind, None, encoded)

    def decode(self, plain: Any) -> Any:
        if plain is None:
            return None
        if self.kind == "decimal" and type(plain) in {int, float}:
            plain = Decimal(repr(plain))
        return self._read(plain)

    def fitted(self, value: Any) -> Any:
        return self.attribute.fitted(value) if value is not None and self.attribute.fits else value

    def check_declaration(self, owner: Attribute[Any]) -> None:
        """Raise `ConfigurationError` if the attribute cannot declare elements of the `owner`."""
        attribute = self.attribute
        attribute.model, attribute.name = owner.model, f"{owner.name}[…]"
        problem = None
        if isinstance(attribute, (TTLAttribute, VersionAttribute)):
            problem = f"a {type(attribute).__name__} belongs to a whole item"
        elif attribute.is_field:
            problem = f"use an attribute or a type, not a {type(attribute).__name__}"
        elif attribute._owner is not None:
            problem = "this attribute object is already declared under a name: create another one"
        else:
            given = {
                "partition_key": attribute.partition_key,
                "sort_key": attribute.sort_key,
                "index": attribute.value_indexed,
                "required": attribute.required,
                "alias": attribute.alias is not None,
                "default": attribute.default is not None or attribute.minted is not None,
                "on_update": attribute.on_update is not None or attribute._misplaced_on_update is not None,
            }
            used = [f"{name}=" for name, is_used in given.items() if is_used]
            if used:
                problem = f"{', '.join(used)} has no meaning for elements: leave it out"
        if problem is not None:
            raise owner._declaration_error(f"of=: {problem}")
        attribute.check_declaration()


def element_named(attribute: Attribute[Any], name: str) -> Attribute[Any]:
    """Return the attribute of one entry of a map."""
    named = object.__new__(type(attribute))
    named.__dict__.update(attribute.__dict__)
    named.name = name
    return named
