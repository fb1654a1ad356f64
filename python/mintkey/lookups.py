"""Lookups: keywords such as `age__gt=18`, `Q` objects that combine them, and filters that the client evaluates.

A store evaluates conditions. Some lookups have no condition that every store could evaluate, such as `__icontains`.
They become a `ClientFilter`, which the client evaluates on the stored items that it reads.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

from mintkey import _core
from mintkey.conditions import Condition, invalid, not_a_condition
from mintkey.errors import InvalidValue, nearest, shortened

if TYPE_CHECKING:
    from mintkey.attributes import Attribute
    from mintkey.definitions.schema import Schema

__all__ = ["ClientFilter", "Q", "Test", "every", "keyword_tests", "resolved"]

#: The maximum number of levels of a `Q`, as of a condition.
_MAX_LEVELS = 32

Kind: TypeAlias = Literal["all", "any", "not"]


class ClientFilter:
    """A filter that the client evaluates on stored items."""

    __slots__ = ()

    # What query plans ask of a condition.
    name: str | None = None
    attribute: Any = None
    operands: tuple[Any, ...] = ()
    is_false = False

    def matches(self, item: _core.Item) -> bool:
        """Return whether the filter is true for an item."""
        raise NotImplementedError

    def roots(self) -> list[Any]:
        """Return the attributes in the filter."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return a text that is the same for equal filters, in every process."""
        raise NotImplementedError


Test: TypeAlias = Condition | ClientFilter


class _TextTest(ClientFilter):
    """A test of text, or of bytes, that has no condition."""

    __slots__ = ("_attribute", "_lookup", "_operand")

    def __init__(self, attribute: Attribute[Any], lookup: str, value: Any) -> None:
        kinds = ("string", "binary") if lookup == "endswith" else ("string",)
        attribute._allow(f"__{lookup}")
        kind = attribute.kind
        if kind == "any" and not attribute.converts:
            kind = "binary" if isinstance(value, bytes) and "binary" in kinds else "string"
        if kind not in kinds:
            raise invalid(
                attribute._label,
                f"the lookup __{lookup} works on {' or '.join(kinds)} attributes, and this is a {attribute.described}",
            )
        self._attribute = attribute
        self._lookup = lookup
        self._operand = _core.checked(kind, attribute._label, value)

    def matches(self, item: _core.Item) -> bool:
        stored, wanted = item.get(self._attribute.stored_name), self._operand
        if type(stored) is not type(wanted):
            return False
        return _TEXT_TESTS[self._lookup](stored, wanted)

    def roots(self) -> list[Any]:
        return [self._attribute]

    def fingerprint(self) -> str:
        return repr((self._attribute.stored_name, self._lookup, self._operand))

    def __repr__(self) -> str:
        return f"{self._attribute._label}__{self._lookup}({shortened(self._operand)})"


_TEXT_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "endswith": lambda stored, wanted: stored.endswith(wanted),
    "iexact": lambda stored, wanted: stored.casefold() == wanted.casefold(),
    "icontains": lambda stored, wanted: wanted.casefold() in stored.casefold(),
    "istartswith": lambda stored, wanted: stored.casefold().startswith(wanted.casefold()),
    "iendswith": lambda stored, wanted: stored.casefold().endswith(wanted.casefold()),
}


class _Combined(ClientFilter):
    """A combination of tests, of which at least one has no condition."""

    __slots__ = ("_kind", "_parts")

    def __init__(self, kind: Kind, parts: Sequence[Test]) -> None:
        self._kind = kind
        self._parts = parts

    def matches(self, item: _core.Item) -> bool:
        if self._kind == "any":
            return any(part.matches(item) for part in self._parts)
        every = all(part.matches(item) for part in self._parts)
        return not every if self._kind == "not" else every

    def roots(self) -> list[Any]:
        return [root for part in self._parts for root in part.roots()]

    def fingerprint(self) -> str:
        return repr((self._kind, [part.fingerprint() for part in self._parts]))

    def __repr__(self) -> str:
        text = (" | " if self._kind == "any" else " & ").join(map(repr, self._parts))
        return f"~({text})" if self._kind == "not" else f"({text})"


def every(tests: Sequence[Test]) -> Test | None:
    """Return the test that all of these are true; None for none."""
    if len(tests) <= 1:
        return tests[0] if tests else None
    conditions = [test for test in tests if isinstance(test, Condition)]
    return Condition.every(conditions) if len(conditions) == len(tests) else _Combined("all", tests)


class Q:
    """A combination of lookups and conditions, for `filter()` and all other reads: `Q(age__gt=18) | ~Q(country="DE")`.

    Combine with `&`, `|` and `~`. A `Q` without arguments is left out of combinations.

    Args:
        conditions: conditions, or other `Q`s, that must all be true.
        lookups: lookups that must all be true; see `Model.query.filter()`.

    >>> from mintkey import Model, connect
    >>> from mintkey.attributes import StringAttribute
    >>> _ = connect("sqlite://")
    >>> class City(Model):
    ...     name = StringAttribute(partition_key=True)
    >>> City(name="Ulm").save(), City(name="Bonn").save()
    (None, None)
    >>> [city.name for city in City.query.filter(Q(name__iendswith="LM") | Q(name="Berlin"))]
    ['Ulm']
    """

    __slots__ = ("_kind", "_levels", "_parts")

    _levels: int

    def __init__(self, *conditions: Condition | Q, **lookups: Any) -> None:
        for condition in conditions:
            if not isinstance(condition, (Condition, Q)):
                raise TypeError(
                    f"Q takes conditions, other Qs and lookups such as age__gt=18, not {shortened(condition)}"
                )
        self._set("all", (*conditions, *lookups.items()))

    def _set(self, kind: Kind, parts: tuple[Condition | Q | tuple[str, Any], ...]) -> None:
        self._kind: Kind = kind
        self._parts = parts
        self._levels = 1 + max((part._levels for part in parts if isinstance(part, Q)), default=0)
        if self._levels > _MAX_LEVELS:
            raise InvalidValue(
                f"a Q has at most {_MAX_LEVELS} levels of &, | and ~: pass conditions that are joined by & to one Q"
            )

    def __and__(self, other: Condition | Q) -> Q:
        return _joined("all", self, other) if isinstance(other, (Condition, Q)) else NotImplemented

    def __rand__(self, other: Condition) -> Q:
        return _joined("all", other, self) if isinstance(other, Condition) else NotImplemented

    def __or__(self, other: Condition | Q) -> Q:
        return _joined("any", self, other) if isinstance(other, (Condition, Q)) else NotImplemented

    def __ror__(self, other: Condition) -> Q:
        return _joined("any", other, self) if isinstance(other, Condition) else NotImplemented

    def __invert__(self) -> Q:
        inverted = Q()
        inverted._set("not" if self._parts else "all", (self,) if self._parts else ())
        return inverted

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} has no truth value: it is evaluated for each item. Combine Qs with & | ~ instead of `and`, "
            "`or`, `not`"
        )

    def __repr__(self) -> str:
        texts = [f"{part[0]}={shortened(part[1])}" if isinstance(part, tuple) else repr(part) for part in self._parts]
        if self._kind == "not":
            return f"~{texts[0]}"
        if self._kind == "all":
            return f"Q({', '.join(texts)})"
        return " | ".join(f"Q({text})" for text in texts)


def _joined(kind: Literal["all", "any"], *sides: Condition | Q) -> Q:
    parts: list[Condition | Q | tuple[str, Any]] = []
    for side in sides:
        if not isinstance(side, Q):
            parts.append(side)
        elif side._kind == kind or (len(side._parts) == 1 and side._kind != "not"):
            parts += side._parts
        elif side._parts:
            parts.append(side)
    joined = Q()
    joined._set(kind, tuple(parts))
    return joined


def resolved(schema: Schema, given: Iterable[Condition | Q]) -> list[Test]:
    """Return conditions and `Q`s as a list of tests joined by AND."""
    tests: list[Test] = []
    for one in given:
        if isinstance(one, Q):
            tests += _resolved(schema, one)
        elif isinstance(one, Condition):
            schema.check_roots(one.roots())
            tests += one.conjuncts()
        else:
            raise not_a_condition(schema.model, one)
    return tests


def _resolved(schema: Schema, q: Q) -> list[Test]:
    parts = [
        keyword_tests(schema, dict([part])) if isinstance(part, tuple) else resolved(schema, [part])
        for part in q._parts
    ]
    if q._kind == "any":
        return _either([every(part) for part in parts])
    tests = [test for part in parts for test in part]
    return _inverted(tests) if q._kind == "not" else tests


def _either(parts: list[Test | None]) -> list[Test]:
    tests = [test for test in parts if test is not None]
    if len(tests) <= 1:
        return tests
    conditions = [test for test in tests if isinstance(test, Condition)]
    if len(conditions) < len(tests):
        return [_Combined("any", tests)]
    return [functools.reduce(operator.or_, conditions)]


def _inverted(tests: list[Test]) -> list[Test]:
    whole = every(tests)
    if whole is None:
        return []
    return [~whole if isinstance(whole, Condition) else _Combined("not", tests)]


# The vocabulary of Redis mappers and Django: filter(age__gte=18).

_LOOKUPS: dict[str, Callable[[Any, Any], Condition]] = {
    "gt": lambda attribute, value: attribute > value,
    "gte": lambda attribute, value: attribute >= value,
    "lt": lambda attribute, value: attribute < value,
    "lte": lambda attribute, value: attribute <= value,
    "ne": lambda attribute, value: attribute != value,
    "in": lambda attribute, value: attribute.is_in(value),
    "between": lambda attribute, value: attribute.between(*value),
    "startswith": lambda attribute, value: attribute.begins_with(value),
    "contains": lambda attribute, value: attribute.contains(value),
    "isnull": lambda attribute, value: attribute.does_not_exist() if value else attribute.exists(),
}


def keyword_tests(schema: Schema, keywords: dict[str, Any]) -> list[Test]:
    """Return the tests of `name=value` and `name__lookup=value` keywords."""
    tests: list[Test] = []
    for keyword, value in keywords.items():
        name, _, lookup = keyword.rpartition("__")
        if keyword in schema.attributes:
            _refuse_none(schema, keyword, value)
            tests.append(schema.attributes[keyword] == value)
        elif name in schema.attributes:
            tests.append(_lookup(schema, keyword, name, lookup, value))
        else:
            raise schema.unexpected([name or keyword])
    return tests


def _lookup(schema: Schema, keyword: str, name: str, lookup: str, value: Any) -> Test:
    if lookup not in _LOOKUPS and lookup not in _TEXT_TESTS:
        known = [*_LOOKUPS, *_TEXT_TESTS]
        raise TypeError(
            f"{schema.model}.{name} has no lookup {shortened(lookup)}{nearest(lookup, known)}; the lookups are "
            + ", ".join(f"__{one}" for one in known)
        )
    if lookup == "between" and not (isinstance(value, (tuple, list)) and len(value) == 2):  # noqa: PLR2004
        raise TypeError(f"{schema.model}: {keyword}= takes two bounds, not {shortened(value)}")
    if lookup == "isnull" and not isinstance(value, bool):
        raise TypeError(f"{schema.model}: {keyword}= takes True or False, not {shortened(value)}")
    _refuse_none(schema, name, value)
    if lookup == "in" and (not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping))):
        raise TypeError(f"{schema.model}: {keyword}= takes a list of values, not {shortened(value)}")
    attribute = schema.attributes[name]
    return _TextTest(attribute, lookup, value) if lookup in _TEXT_TESTS else _LOOKUPS[lookup](attribute, value)


def _refuse_none(schema: Schema, name: str, value: object) -> None:
    if value is None:
        raise InvalidValue(
            f"{schema.model}.{name}: a lookup cannot compare with None, because None means absent; "
            f"use {name}__isnull=True for items without a value, {name}__isnull=False for items with one",
            model=schema.model,
            attribute=name,
        )
