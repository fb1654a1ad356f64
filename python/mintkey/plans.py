"""Query plans: the table or index of a query, its key condition and its filter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mintkey import _core
from mintkey.conditions import Condition, not_a_condition
from mintkey.errors import ConfigurationError, InvalidValue, shortened
from mintkey.schema import COMPOUND_KEY, Schema

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
    return gathered


def plan(schema: Schema, conditions: Sequence[Condition], index: str | None = None) -> Plan | None:
    """Return the plan for conditions joined by AND: the table if its partition key is among them, else the index.

    Return None if neither matches. Raise `ConfigurationError` if several indexes match.
    """
    conditions = _with_compound(schema, conditions)
    equal = _equalities(conditions)
    if index is not None:
        known = {plan.name: plan for plan in schema.indexes}
        if index not in known:
            raise ConfigurationError(
                f"{schema.model} has no index {shortened(index)}; it has: {', '.join(known) or 'none'}",
                model=schema.model,
            )
        chosen = known[index]
        missing = [name for name in chosen.partition if name not in equal]
        if missing:
            raise TypeError(f"{schema.model}: the index {shortened(index)} needs {missing[0]}=…")
        named = _planned(index, chosen.partition, chosen.sort, conditions)
        return dataclasses.replace(named, all_conditions=None)
    if schema.partition is not None and schema.partition in equal:
        return _planned(None, (schema.partition,), schema.sort, conditions)
    fitting = [plan for plan in schema.indexes if plan.partition and all(name in equal for name in plan.partition)]
    if len(fitting) > 1:
        names = ", ".join(repr(plan.name) for plan in fitting)
        raise ConfigurationError(
            f"{schema.model}: the indexes {names} all match: pass index= to select one", model=schema.model
        )
    return _planned(fitting[0].name, fitting[0].partition, fitting[0].sort, conditions) if fitting else None


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
    conditions = _with_compound(schema, conditions)
    equal = _equalities(conditions)
    if schema.partition is not None and schema.partition in equal:
        return _planned(None, (schema.partition,), schema.sort, conditions)
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
    return None if best is None else _planned(best.name, best.partition, best.sort, conditions)


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


def _with_compound(schema: Schema, conditions: Sequence[Condition]) -> Sequence[Condition]:
    """Replace equalities on all parts of a compound key by one equality on the compound key."""
    if not schema.parts:
        return conditions
    equal = _equalities(conditions)
    used = [equal.get(name) for name in schema.parts]
    if any(test is None for test in used):
        return conditions
    values = {name: test.operands[0] for name, test in zip(schema.parts, used, strict=True) if test is not None}
    key = schema.compound_of_stored(values)
    rest = [condition for condition in conditions if not any(condition is test for test in used)]
    return [schema.attributes[COMPOUND_KEY] == key, *rest]


def _planned(index: str | None, partition: tuple[str, ...], sort: str | None, conditions: Sequence[Condition]) -> Plan:
    equal = _equalities(conditions)
    used = [equal[name] for name in partition]
    values = tuple(test.operands[0] for test in used)
    condition = None
    if sort is not None:
        condition, spent = _sort_condition(sort, conditions)
        used.extend(spent)
    rest = tuple(condition for condition in conditions if not any(condition is other for other in used))
    return Plan(index, values, condition, sort, rest, tuple(conditions))


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
