"""Query plans: the table or index of a query, its key condition and its filter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from mintkey import _core
from mintkey.conditions import Condition
from mintkey.definitions.index_plans import IndexPlan
from mintkey.definitions.schema import Schema
from mintkey.errors import ConfigurationError, InvalidValue, nearest, shortened
from mintkey.lookups import ClientFilter, Q, Test, every, resolved
from mintkey.operations.arguments import equalities

if TYPE_CHECKING:
    import logging


def log() -> logging.Logger:
    """Return the logger that reports scans and sorts in memory."""
    import logging  # a tenth of the package's import time, and most programs do not log here

    return logging.getLogger("mintkey.queries")


_KEY_TESTS = frozenset({"==", "<", "<=", ">", ">=", "between", "begins_with"})
_LOWER, _UPPER = {">": False, ">=": True}, {"<": False, "<=": True}


#: Who chose the index of a plan: the caller; `query()`, as the only one that matches; or its selectivity.
Chosen: TypeAlias = Literal["named", "first", "best"]


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A query plan: the table or index, the key condition and the filter."""

    index: str | None
    partition: tuple[Any, ...] | None
    """The values of the partition attributes; None for a scan."""
    sort: tuple[Any, ...] | None
    sorted_by: str | None
    """The attribute that orders the items."""
    used: tuple[Test, ...]
    """The conditions that select what is read."""
    rest: tuple[Test, ...]
    """The conditions that are evaluated for each item."""
    all_conditions: tuple[Test, ...]
    """All conditions, to make another plan."""
    chosen: Chosen

    def filter(self) -> Condition | None:
        """Return the condition that the store evaluates for each item."""
        found = [test for test in self.rest if isinstance(test, Condition)]
        return None if not found else found[0] if len(found) == 1 else Condition.every(found)

    @property
    def client_filters(self) -> list[ClientFilter]:
        """The filters that the client evaluates for each item."""
        return [test for test in self.rest if isinstance(test, ClientFilter)]

    @property
    def volatile(self) -> tuple[Test, ...]:
        """The conditions that a row may no longer fulfil after it was read: all but those on its key."""
        return self.rest if self.index is None else (*self.used, *self.rest)

    @property
    def is_empty(self) -> bool:
        """Whether no item can match, so that nothing is read."""
        return any(condition.is_false for condition in self.rest)


def gather(
    schema: Schema,
    conditions: Iterable[Condition | Q],
    equal: dict[str, Any],
    call: Callable[..., object] | None = None,
) -> list[Test]:
    """Return the conditions and keywords of a `call` as one list of tests joined by AND."""
    if schema.config.abstract:
        raise ConfigurationError(f"{schema.model} is abstract and has no table to read", model=schema.model)
    unknown = [name for name in equal if name not in schema.attributes]
    if unknown:
        error = schema.unexpected(unknown, call)
        lookups = [name for name in unknown if name.rpartition("__")[0] in schema.attributes]
        raise TypeError(f"{error}. {lookups[0]}= is a lookup: pass it to filter() of the result") if lookups else error
    gathered = resolved(schema, conditions)
    gathered.extend(equalities(schema, equal))
    if schema.derived is not None:
        gathered.extend(schema.own_rows())
    return gathered


def plan(schema: Schema, conditions: Sequence[Test], index: str | None = None) -> Plan | None:
    """Return the plan for conditions joined by AND: the table if its partition key is among them, else the index.

    Return None if neither matches. Raise `ConfigurationError` if several indexes match.
    """
    expanded = _with_derived(schema, conditions, index)
    equal = expanded.equal
    if index is not None:
        chosen = schema.index(index)
        if chosen is None:
            known = [plan.name for plan in schema.indexes]
            raise ConfigurationError(
                f"{schema.model} has no index {shortened(index)}{nearest(index, known)}; it has: "
                f"{', '.join(known) or 'none'}",
                model=schema.model,
            )
        missing = [name for name in chosen.partition if name not in equal]
        if missing:
            _raise_refusal(expanded, missing)
            needed = "+".join(part for name in missing for part in schema.named_by(name))
            raise TypeError(f"{schema.model}: the index {shortened(index)} needs {needed}=…")
        return _planned(schema, chosen, expanded, "named")
    if schema.partition is not None and schema.partition in equal:
        return _planned(schema, None, expanded, "first")
    fitting = [plan for plan in schema.indexes if plan.partition and all(name in equal for name in plan.partition)]
    if len(fitting) > 1:
        names = ", ".join(repr(plan.name) for plan in fitting)
        raise ConfigurationError(
            f"{schema.model}: the indexes {names} all match: pass index= to select one", model=schema.model
        )
    if not fitting:
        _raise_refusal(expanded, [name for plan in schema.indexes for name in plan.partition])
    return _planned(schema, fitting[0], expanded, "first") if fitting else None


def _raise_refusal(expanded: _Expanded, names: Iterable[str]) -> None:
    """Raise the error for a part that was passed and that no key of an index can have, if there is one."""
    for name in names:
        if name in expanded.refused:
            raise expanded.refused[name]


def plan_or_scan(schema: Schema, conditions: Sequence[Test]) -> Plan:
    """Return the most selective plan, or else a scan, which is logged at INFO."""
    best = best_plan(schema, conditions)
    if best is not None:
        return best
    if conditions:
        log().info("%s: no index can be used for %s; the whole table is read", schema.model, every(conditions))
    return scan_plan(conditions)


def best_plan(schema: Schema, conditions: Sequence[Test], order: str | None = None) -> Plan | None:
    """Return the plan with the most selective index; among equal ones, prefer an index with this order."""
    expanded = _with_derived(schema, conditions)
    equal = expanded.equal
    if schema.partition is not None and schema.partition in equal:
        return _planned(schema, None, expanded, "best")
    bounded = {
        test.attribute.name for test in expanded.conditions if test.attribute is not None and test.name in _KEY_TESTS
    }
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
    return None if best is None else _planned(schema, best, expanded, "best")


def narrowed(schema: Schema, how: Plan, conditions: Iterable[Test]) -> Plan:
    """Return the plan for the same items, as far as further conditions are true for them.

    The index of `query()` is kept: it may lack items that another index or the table has.
    """
    given = (*how.all_conditions, *conditions)
    if how.chosen == "best":
        return plan_or_scan(schema, given)
    derived = _with_derived(schema, given, how.index if how.chosen == "named" else None)
    return _planned(schema, schema.index(how.index), derived, how.chosen)


def _is_indexed(value: Any) -> bool:
    """Return whether an index holds the items with this value."""
    if not isinstance(value, (str, bytes)):
        return True
    return 0 < len(value if isinstance(value, bytes) else value.encode()) <= _core.MAX_INDEXED


def scan_plan(conditions: Iterable[Test]) -> Plan:
    """Return a plan that reads the whole table."""
    conditions = tuple(conditions)
    return Plan(None, None, None, None, (), conditions, conditions, "best")


def _equalities(conditions: Iterable[Test]) -> dict[str, Test]:
    """Return the first equality of each attribute."""
    found: dict[str, Test] = {}
    for test in conditions:
        if test.attribute is not None and test.name == "==":
            found.setdefault(test.attribute.name, test)
    return found


class _Expanded(NamedTuple):
    """The conditions of a query, with those on derived attributes that follow from equalities on their parts.

    Attributes:
        given: the conditions before that.
        conditions: all conditions.
        equal: the first equality of each attribute among them.
        parts: the conditions on the parts of an index key, by the `id()` of the condition on it. They filter the rows
            of another index, because a row may lack the value of this one, if another program has not written it.
        implied: the `id()` of each condition on a part of the key. It filters no rows: the condition on the key does.
        refused: why there is no condition on the key of an index, by its name.
    """

    given: Sequence[Test]
    conditions: Sequence[Test]
    equal: dict[str, Test]
    parts: dict[int, list[Test]]
    implied: set[int]
    refused: dict[str, InvalidValue]


def _with_derived(schema: Schema, conditions: Sequence[Test], index: str | None = None) -> _Expanded:
    """Add the conditions on derived attributes."""
    derived = schema.derived
    equal = _equalities(conditions)
    if derived is None:
        return _Expanded(conditions, conditions, equal, {}, set(), {})
    stored = {name: test.operands[0] for name, test in equal.items()}
    named = schema.index(index)
    added: list[Test] = []
    implied: set[int] = set()
    parts: dict[int, list[Test]] = {}
    refused: dict[str, InvalidValue] = {}
    for name, source in derived.sources.items():
        if name in equal or (source.is_static and (named is None or name not in named.partition)):
            continue
        is_key = name in schema.keys
        try:
            text, used = source.beginning(stored)
        except InvalidValue as error:
            if is_key:
                raise
            refused[name] = error
            continue
        if len(used) == len(source.parts):
            added.append(schema.attributes[name] == text)
        elif used:
            added.append(schema.attributes[name].begins_with(text))
        else:
            continue
        tests = [equal[part] for part in used]
        if is_key:
            implied.update(map(id, tests))
        else:
            parts[id(added[-1])] = tests
    expanded = _without_wider([*added, *conditions], schema)
    return _Expanded(conditions, expanded, _equalities(expanded), parts, implied, refused)


def _without_wider(conditions: Sequence[Test], schema: Schema) -> Sequence[Test]:
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


def _planned(schema: Schema, index: IndexPlan | None, expanded: _Expanded, chosen: Chosen) -> Plan:
    """Return the plan of the table or of an index. Conditions that were added for another index are left out."""
    partition, sort = ((schema.partition or "",), schema.sort) if index is None else (index.partition, index.sort)
    used = [expanded.equal[name] for name in partition]
    values = tuple(test.operands[0] for test in used)
    condition = None
    if sort is not None:
        condition, spent = sort_condition(sort, expanded.conditions)
        used.extend(spent)
    parts = expanded.parts
    spent_ids = {
        *map(id, used),
        *(id(test) for one in used for test in parts.get(id(one), ())),
        *parts,
        *expanded.implied,
    }
    rest = tuple(one for one in expanded.conditions if id(one) not in spent_ids)
    name = None if index is None else index.name
    return Plan(name, values, condition, sort, tuple(used), rest, tuple(expanded.given), chosen)


def sort_condition(name: str, conditions: Iterable[Test]) -> tuple[tuple[Any, ...] | None, list[Test]]:
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
