"""The attributes that store each `type=` of a field, and the strategies of auto fields."""

from __future__ import annotations

import functools
import re
import string
import uuid
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from mintkey import _core
from mintkey.attributes import (
    Attribute,
    DateAttribute,
    DatetimeAttribute,
    ListAttribute,
    MapAttribute,
    UUIDAttribute,
)
from mintkey.attributes.containers import SetAttribute
from mintkey.attributes.elements import SCALARS, scalar_attribute
from mintkey.errors import ConfigurationError, shortened
from mintkey.generators import Auto, AutoGenerate

#: The number of hexadecimal digits of a UUID.
UUID_DIGITS = 32
_UUID = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}")


class _Tuple(ListAttribute[Any]):
    """A list that is read as `tuple`."""

    stored_types = (list,)

    @property
    def converts(self) -> bool:
        return True

    def encode(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple):
            raise TypeError(f"expected tuple, got {type(value).__name__}")
        return value

    def decode(self, stored: Any) -> tuple[Any, ...]:
        return tuple(stored)


class _Set(SetAttribute[Any]):
    """A set of text, numbers or bytes."""

    kind = "any"
    stored_types = (set, list)
    reads = "sets"

    def encode(self, value: Any) -> Any:
        if not isinstance(value, (set, frozenset)):
            raise TypeError(f"expected set, got {type(value).__name__}")
        return value

    def decode(self, stored: Any) -> Any:
        # Other programs store sets as lists.
        return set(stored)


#: The attribute that stores the values of each type. `Enum` classes are handled separately.
FORMS: dict[type, Callable[[], Attribute[Any]]] = {
    **SCALARS,
    list: ListAttribute,
    tuple: _Tuple,
    dict: MapAttribute,
    set: _Set,
}


def form_of(kind: Any) -> Attribute[Any] | None:
    """Return the attribute that stores values of a type, or None."""
    scalar = scalar_attribute(kind)
    if scalar is not None:
        return scalar
    try:
        make = FORMS.get(kind)
    except TypeError:  # not hashable, so not a type
        make = None
    return None if make is None else make()


#: The types whose attributes have a further parameter.
OPTIONS: dict[str, dict[type, Callable[..., Attribute[Any]]]] = {
    "stored_as": {datetime: DatetimeAttribute, date: DateAttribute, uuid.UUID: UUIDAttribute},
    "of": {list: ListAttribute, dict: MapAttribute},
}


def form_with(kind: Any, option: str, given: Any) -> Attribute[Any] | None:
    """Return the attribute that stores values of a type with a further parameter, or None if it has no such one."""
    make = OPTIONS[option].get(kind) if isinstance(kind, type) else None
    return None if make is None else make(**{option: given})


def name_of(strategy: str | AutoGenerate | Auto) -> str:
    """Return the name of a field's strategy."""
    if isinstance(strategy, AutoGenerate):
        return strategy.value
    if not isinstance(strategy, Auto):
        return strategy if isinstance(strategy, str) else shortened(strategy)
    if strategy.strategy is None:
        raise ConfigurationError(
            f"strategy={shortened(strategy)} is a function, but a field takes named strategies only: "
            "override get_new_auto_key_value() in a subclass to generate values with a function"
        )
    return strategy.strategy.name


def check_parameters(strategy: str | AutoGenerate | Auto, others: dict[str, Any]) -> None:
    """Raise `ConfigurationError` if parameters of a strategy were passed to a field."""
    stray = {name: value for name, value in others.items() if name in {"prefix", "size", "length", "alphabet"}}
    if stray:
        given = ", ".join(f"{name}={shortened(value)}" for name, value in stray.items())
        raise ConfigurationError(
            f"{given} is a parameter of the strategy, not of the field: strategy=auto({name_of(strategy)!r}, {given})"
        )


@functools.cache
def strategy_of(strategy: str | AutoGenerate | Auto, uuid_length: int) -> _core.Strategy:
    """Return the strategy that generates and checks values of a field. Here `"uuid4"` has no hyphens."""
    name = name_of(strategy)
    given = {} if not isinstance(strategy, Auto) or strategy.strategy is None else dict(strategy.strategy.parameters)
    if name != AutoGenerate.UUID4.value:
        return _core.Strategy(name, **given)
    length = given.pop("length", uuid_length)
    if uuid_length not in {length, UUID_DIGITS}:
        raise ConfigurationError(
            f"auto_uuid_length={uuid_length} and length={length} of the strategy differ: remove one of them"
        )
    return _core.Strategy(name, length=length, **given)


def canonical(strategy: _core.Strategy) -> Callable[[str], str]:
    """Return the conversion of values to the form in which the strategy generates them.

    It changes only case and hyphens, and leaves a value of another form unchanged.
    """
    prefix, length = strategy.prefix, strategy.length
    start = len(prefix)
    cased = str.upper if strategy.name == AutoGenerate.ULID.value else str.lower
    is_uuid7 = strategy.name == AutoGenerate.UUID7.value

    def convert(value: str) -> str:
        body = cased(value[start:])
        if not (value.startswith(prefix) and body.isascii()):
            return value
        if len(value) != length and cased is str.lower and _UUID.fullmatch(body):
            body = str(uuid.UUID(body)) if is_uuid7 else body.replace("-", "")
        return prefix + body if start + len(body) == length else value

    return convert


def form_problem(strategy: _core.Strategy, value: str) -> str | None:
    """Return why a value of the right length does not match a strategy, or None. A UUID may have any version."""
    if strategy.name != AutoGenerate.UUID4.value:
        return strategy.check(value)
    if not value.startswith(strategy.prefix):
        return f"it does not begin with {strategy.prefix!r}"
    rest = value[len(strategy.prefix) :].lstrip(string.hexdigits)
    return f"{rest[0]!r} at position {len(value) - len(rest)} is not a hexadecimal digit" if rest else None
