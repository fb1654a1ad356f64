"""Which attribute stores the values of a Python type, where a field names the type alone; which strategy mints them."""

from __future__ import annotations

import enum
import functools
import string
import uuid
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal, cast

from mintkey import _core
from mintkey.attributes import (
    Attribute,
    BinaryAttribute,
    BooleanAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    UUIDAttribute,
    _SetAttribute,
)
from mintkey.errors import ConfigurationError, shortened
from mintkey.generators import Auto, AutoGenerate

__all__ = ["FORMS", "UUID_DIGITS", "check_parameters", "form_of", "form_problem", "name_of", "strategy_of"]

#: How many hexadecimal digits a UUID has.
UUID_DIGITS = 32


class _Int(NumberAttribute):
    """Whole numbers alone."""

    def encode(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"expected int, got {type(value).__name__}")
        return value


class _Float(NumberAttribute):
    """Numbers that read back as `float`, integral ones too."""

    def encode(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"expected float, got {type(value).__name__}")
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{error}; use type=Decimal") from error

    def decode(self, stored: Any) -> float:
        return float(stored)


class _Tuple(ListAttribute):
    """A list that reads back as `tuple`."""

    def encode(self, value: Any) -> list[Any]:
        if not isinstance(value, tuple):
            raise TypeError(f"expected tuple, got {type(value).__name__}")
        return list(value)

    def decode(self, stored: Any) -> tuple[Any, ...]:
        return tuple(stored)


class _Set(_SetAttribute[Any]):
    """A set of texts, of numbers or of bytes, as its members tell."""

    kind = "any"

    def encode(self, value: Any) -> Any:
        if not isinstance(value, (set, frozenset)):
            raise TypeError(f"expected set, got {type(value).__name__}")
        return value


class _Time(Attribute[time]):
    """A time of day, stored as ISO 8601 with six decimals, which sorts as text."""

    kind = "string"
    key_kind = "string"

    def encode(self, value: Any) -> str:
        if not isinstance(value, time):
            raise TypeError(f"expected time, got {type(value).__name__}")
        if value.tzinfo is not None:
            raise ValueError("a time of day has no time zone; use type=datetime for a point in time")
        return value.isoformat("microseconds")

    def decode(self, stored: Any) -> time:
        return time.fromisoformat(stored)


class _Enum(EnumAttribute[Any]):
    """Members of an `Enum`; one whose values are all of a key's type can be a key."""

    def __init__(self, enum_class: type[enum.Enum]) -> None:
        super().__init__(enum_class)
        for kind, of in (("string", str), ("number", (int, float, Decimal)), ("binary", bytes)):
            if all(isinstance(member.value, of) and not isinstance(member.value, bool) for member in enum_class):
                self.key_kind = cast("Literal['string', 'number', 'binary']", kind)
                break


#: The attribute that stores values of each type; `Enum` classes have one, too.
FORMS: dict[type, Callable[[], Attribute[Any]]] = {
    str: StringAttribute,
    int: _Int,
    float: _Float,
    bool: BooleanAttribute,
    bytes: BinaryAttribute,
    list: ListAttribute,
    tuple: _Tuple,
    dict: MapAttribute,
    set: _Set,
    Decimal: DecimalAttribute,
    datetime: DatetimeAttribute,
    date: DateAttribute,
    time: _Time,
    uuid.UUID: UUIDAttribute,
}


def form_of(kind: Any) -> Attribute[Any] | None:
    """The attribute that stores values of a type."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _Enum(kind)
    try:
        make = FORMS.get(kind)
    except TypeError:  # no type at all, and not hashable either
        make = None
    return None if make is None else make()


def name_of(strategy: str | AutoGenerate | Auto) -> str:
    """The name of a field's strategy, however it was given."""
    if isinstance(strategy, AutoGenerate):
        return strategy.value
    if not isinstance(strategy, Auto):
        return strategy if isinstance(strategy, str) else shortened(strategy)
    if strategy.strategy is None:
        raise ConfigurationError(
            f"strategy={shortened(strategy)} is a function, and a field's strategy has a name: "
            "override get_new_auto_key_value() in a subclass to make values with a function"
        )
    return strategy.strategy.name


def check_parameters(strategy: str | AutoGenerate | Auto, others: dict[str, Any]) -> None:
    """Refuse parameters of a strategy among the `others` that a field was given."""
    stray = {name: value for name, value in others.items() if name in {"prefix", "size", "length", "alphabet"}}
    if stray:
        given = ", ".join(f"{name}={shortened(value)}" for name, value in stray.items())
        raise ConfigurationError(
            f"{given} is for the strategy, not for the field: strategy=auto({name_of(strategy)!r}, {given})"
        )


@functools.cache
def strategy_of(strategy: str | AutoGenerate | Auto, uuid_length: int) -> _core.Strategy:
    """What mints and judges the values of a field; `"uuid4"` is hexadecimal digits here, without hyphens."""
    name = name_of(strategy)
    given = {} if not isinstance(strategy, Auto) or strategy.strategy is None else dict(strategy.strategy.parameters)
    if name != AutoGenerate.UUID4.value:
        return _core.Strategy(name, **given)
    length = given.pop("length", uuid_length)
    if uuid_length not in {length, UUID_DIGITS}:
        raise ConfigurationError(
            f"auto_uuid_length={uuid_length} and length={length} of the strategy differ; drop one of them"
        )
    return _core.Strategy(name, length=length, **given)


def form_problem(strategy: _core.Strategy, value: str) -> str | None:
    """Why a value of the right length is none of a strategy's; the digits of a UUID may be those of any version."""
    if strategy.name != AutoGenerate.UUID4.value:
        return strategy.check(value)
    if not value.startswith(strategy.prefix):
        return f"it does not begin with {strategy.prefix!r}"
    rest = value[len(strategy.prefix) :].lstrip(string.hexdigits)
    return f"{rest[0]!r} is no hexadecimal digit at position {len(value) - len(rest)}" if rest else None
