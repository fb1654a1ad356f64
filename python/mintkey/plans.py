"""Query plans: the table or index of a query, its key condition and its filter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mintkey import _core
from mintkey.conditions import Condition, not_a_condition
from mintkey.errors import ConfigurationError, InvalidValue, shortened
from mintkey.schema import IndexPlan, Schema

if TYPE_CHECKING:
    import logging

__all__ = ["Plan", "best_plan", "gather", "lookups", "plan", "plan_or_scan", "scan_plan"]


def log() -> logging.Logger:
    """Return the logger that reports scans and sorts in memory."""
    import logging  # a tenth of the package's import time, and most programs do not log here

    return logging.getLogger("mintkey.queries")


_KEY_TESTS = frozenset({"==", "<", "<=", ">", ">=", "between", "begins_with"})
_LOWER, _UPPER = {">": False, ">=": True}, {"<": False, "<=": True}


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A query plan: the table or index, the key condition and the filter."""

    index: str | None
    partition: tuple[Any, ...] | None
    """The values of the partition attributes; None for a scan."""
    sort: tuple[Any, ...] | None
    sorted_by: str | None
    """The attribute that orders the items."""
    rest: tuple[Condition, ...]
    all_conditions: tuple[Condition, ...] | None
    """All conditions, to make another plan; None if the caller named the index."""

    def filter(self) -> Condition | None:
        """Return the condition that is evaluated for each item."""
        if not self.rest:
            return None
        return self.rest[0] if len(self.rest) == 1 else Condition.every(self.rest)

    @property
    def is_empty(self) -> bool:
        """Whether no item can match, so that nothing is read."""
        return any(condition.is_false for condition in self.rest)


def gather(
    schema: Schema,
    conditions: Iterable[Condition],
    equal: dict[str, Any],
    call: Callable[..., object] | None = None,
) -> list[Condition]:
    """Return the conditions and keywords of a `call` as one list of conditions joined by AND."""
    if schema.config.abstract:
        raise ConfigurationError(f"{schema.model} is abstract and has no table to read", model=schema.model)
    unknown = [name for name in equal if name not in schema.attributes]
    if unknown:
        raise schema.unexpected(unknown, call)
    gathered: list[Condition] = []
    for condition in conditions:
        if not isinstance(condition, Condition):
            raise not_a_condition(schema.model, condition)
        schema.check_roots(condition.roots())
        gathered.extend(condition.conjuncts())
    gathered.extend(schema.attributes[name] == value for name, value in equal.items())
    if schema.derived is not None:
        gathered.extend(schema.derived.filters)
    if schema.family is not None:
        gathered.extend(schema.family.conditions())
    return gathered


def plan(schema: Schema, conditions: Sequence[Condition], index: str | None = None) -> Plan | None:
    """Return the plan for conditions joined by AND: the table if its partition key is among them, else the index.

    Return None if neither matches. Raise `ConfigurationError` if several indexes match.
    """
    given, conditions = conditions, _with_derived(schema, conditions, index)
    equal = _equalities(conditions)
    if index is not None:
        chosen = schema.index(index)
        if chosen is None:
            known = ", ".join(plan.name for plan in schema.indexes)
            raise ConfigurationError(
                f"{schema.model} has no index {shortened(index)}; it has: {known or 'none'}", model=schema.model
            )
        missing = [name for name in chosen.partition if name not in equal]
        if missing:
            needed = "+".join(part for name in missing for part in schema.named_by(name))
            raise TypeError(f"{schema.model}: the index {shortened(index)} needs {needed}=…")
        named = _planned(schema, chosen, conditions, given)
        return dataclasses.replace(named, all_conditions=None)
    if schema.partition is not None and schema.partition in equal:
        return _planned(schema, None, conditions, given)
    fitting = [plan for plan in schema.indexes if plan.partition and all(name in equal for name in plan.partition)]
    if len(fitting) > 1:
        names = ", ".join(repr(plan.name) for plan in fitting)
        raise ConfigurationError(
            f"{schema.model}: the indexes {names} all match: pass index= to select one", model=schema.model
        )
    return _planned(schema, fitting[0], conditions, given) if fitting else None


def plan_or_scan(schema: Schema, conditions: Sequence[Condition]) -> Plan:
    """Return the most selective plan, or else a scan, which is logged at INFO."""
    best = best_plan(schema, conditions)
    if best is not None:
        return best
    if conditions:
        log().info(
            "%s: no index can be used for %s; the whole table is read", schema.model, Condition.every(conditions)
        )
    return scan_plan(conditions)


def best_plan(schema: Schema, conditions: Sequence[Condition], order: str | None = None) -> Plan | None:
    """Return the plan with the most selective index; among equal ones, prefer an index with this order."""
    given, conditions = conditions, _with_derived(schema, conditions)
    equal = _equalities(conditions)
    if schema.partition is not None and schema.partition in equal:
        return _planned(schema, None, conditions, given)
    bounded = {test.attribute.name for test in conditions if test.attribute is not None and test.name in _KEY_TESTS}
    indexed = {name for name, test in equal.items() if _is_indexed(test.operands[0])}
    best, most = None, (0, False)
    for candidate in schema.indexes:
        narrows = candidate.sort in bounded
        # An index lacks the items without its sort attribute. A query without a condition on it needs them too.
        whole = candidate.sort is None or narrows or schema.attributes[candidate.sort].required
        if not whole or candidate.projected is not None or not indexed.issuperset(candidate.partition):
            continue
        worth = (len(candidate.partition) + narrows, candidate.sort is not None and candidate.sort == order)
        if worth > most:
            best, most = candidate, worth
    return None if best is None else _planned(schema, best, conditions, given)


def _is_indexed(value: Any) -> bool:
    """Return whether an index holds the items with this value."""
    if not isinstance(value, (str, bytes)):
        return True
    return 0 < len(value if isinstance(value, bytes) else value.encode()) <= _core.MAX_INDEXED


def scan_plan(conditions: Iterable[Condition]) -> Plan:
    """Return a plan that reads the whole table."""
    conditions = tuple(conditions)
    return Plan(None, None, None, None, conditions, conditions)


def _equalities(conditions: Iterable[Condition]) -> dict[str, Condition]:
    """Return the first equality of each attribute."""
    found: dict[str, Condition] = {}
    for test in conditions:
        if test.attribute is not None and test.name == "==":
            found.setdefault(test.attribute.name, test)
    return found


def _with_derived(schema: Schema, conditions: Sequence[Condition], index: str | None = None) -> Sequence[Condition]:
    """Add conditions on derived attributes, which follow from equalities on their parts.

    A condition on the key replaces those on its parts. An index may lack a value that the row has the parts of, so the
    conditions on these parts stay.
    """
    derived = schema.derived
    if derived is None:
        return conditions
    equal = _equalities(conditions)
    stored = {name: test.operands[0] for name, test in equal.items()}
    named = schema.index(index)
    added: list[Condition] = []
    replaced: list[Condition] = []
    for name, source in derived.sources.items():
        if name in equal or (source.is_static and (named is None or name not in named.partition)):
            continue
        is_key = name in schema.keys
        try:
            text, used = source.beginning(stored)
        except InvalidValue:
            if is_key:
                raise
            continue
        if len(used) == len(source.parts):
            added.append(schema.attributes[name] == text)
        elif used:
            added.append(schema.attributes[name].begins_with(text))
        if is_key:
            replaced.extend(equal[part] for part in used)
    rest = [condition for condition in conditions if not any(condition is one for one in replaced)]
    return _without_wider([*added, *rest], schema)


def _without_wider(conditions: Sequence[Condition], schema: Schema) -> Sequence[Condition]:
    """Leave out the prefixes of keys that follow from other conditions."""
    narrow = {
        (test.attribute.name, operand)
        for test in conditions
        if test.attribute is not None and test.name in {"==", "begins_with"} and test.attribute.name in schema.keys
        for operand in test.operands
        if isinstance(operand, str)
    }
    return [
        test
        for test in conditions
        if test.name != "begins_with"
        or test.attribute is None
        or not any(
            name == test.attribute.name and text != test.operands[0] and text.startswith(test.operands[0])
            for name, text in narrow
            if isinstance(test.operands[0], str)
        )
    ]


def _planned(
    schema: Schema, index: IndexPlan | None, conditions: Sequence[Condition], given: Sequence[Condition]
) -> Plan:
    """Return the plan of the table or of an index; `given` are the conditions before those on derived attributes."""
    partition, sort = ((schema.partition or "",), schema.sort) if index is None else (index.partition, index.sort)
    equal = _equalities(conditions)
    used = [equal[name] for name in partition]
    values = tuple(test.operands[0] for test in used)
    condition = None
    if sort is not None:
        condition, spent = _sort_condition(sort, conditions)
        used.extend(spent)
    rest = (one for one in conditions if not any(one is other for other in used))
    if schema.derived is not None:
        # Conditions that were added for another index are not needed: those on the parts stay.
        known = {*map(id, given)}
        rest = (one for one in rest if id(one) in known or one.attribute.name in schema.keys)
    return Plan(None if index is None else index.name, values, condition, sort, tuple(rest), tuple(given))


def _sort_condition(name: str, conditions: Iterable[Condition]) -> tuple[tuple[Any, ...] | None, list[Condition]]:
    """Return the key condition on a sort key: an equality, a prefix, a range, or a lower and an upper bound merged."""
    tests = [
        test
        for test in conditions
        if test.attribute is not None and test.attribute.name == name and test.name in _KEY_TESTS
    ]
    for test in tests:
        if test.name in {"==", "between", "begins_with"}:
            return (str(test.name), *test.operands), [test]
    low = next((test for test in tests if test.name in _LOWER), None)
    high = next((test for test in tests if test.name in _UPPER), None)
    used = [test for test in (low, high) if test is not None]
    if not used:
        return None, []
    low_bound = (None, False) if low is None else (low.operands[0], _LOWER[str(low.name)])
    high_bound = (None, False) if high is None else (high.operands[0], _UPPER[str(high.name)])
    return ("range", *low_bound, *high_bound), used


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


def lookups(schema: Schema, keywords: dict[str, Any]) -> list[Condition]:
    """Return the conditions of `name=value` and `name__lookup=value` keywords."""
    conditions: list[Condition] = []
    for keyword, value in keywords.items():
        name, _, lookup = keyword.rpartition("__")
        if keyword in schema.attributes:
            _refuse_none(schema, keyword, value)
            conditions.append(schema.attributes[keyword] == value)
        elif name in schema.attributes:
            if lookup not in _LOOKUPS:
                known = ", ".join(f"__{one}" for one in _LOOKUPS)
                raise TypeError(f"{schema.model}.{name} has no lookup {shortened(lookup)}; the lookups are {known}")
            if lookup == "between" and not (isinstance(value, (tuple, list)) and len(value) == 2):  # noqa: PLR2004
                raise TypeError(f"{schema.model}: {keyword}= takes two bounds, not {shortened(value)}")
            if lookup == "isnull" and not isinstance(value, bool):
                raise TypeError(f"{schema.model}: {keyword}= takes True or False, not {shortened(value)}")
            _refuse_none(schema, name, value)
            conditions.append(_LOOKUPS[lookup](schema.attributes[name], value))
        else:
            raise schema.unexpected([name or keyword])
    return conditions


def _refuse_none(schema: Schema, name: str, value: object) -> None:
    if value is None:
        raise InvalidValue(
            f"{schema.model}.{name}: a lookup cannot compare with None, because None means absent; "
            f"use {name}__isnull=True for items without a value, {name}__isnull=False for items with one",
            model=schema.model,
            attribute=name,
        )
