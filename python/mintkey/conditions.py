"""Conditions, such as `Order.total > 5`, and actions of updates, such as `Order.n.add(1)`.

A condition is a tree of encoded values. `compile()` converts it to the nested tuples of the compiled core, whose
evaluator gives conditions the same meaning on every store. The meaning follows DynamoDB: every comparison with an
absent attribute, or with a value of another type, is false, except `!=` and `does_not_exist()`.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, Literal, NoReturn, TypeAlias

from mintkey import _core
from mintkey.errors import InvalidValue, shortened

__all__ = ["Action", "Condition", "Operand", "Path"]

Steps: TypeAlias = tuple[str | int, ...]
Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
TypeName: TypeAlias = Literal[
    "string", "number", "boolean", "null", "binary", "list", "map", "string_set", "number_set", "binary_set"
]

_TYPE_NAMES = frozenset(TypeName.__args__)  # type: ignore[attr-defined]
_MAX_VALUES = 100
#: The maximum index of a list on any store.
_LAST_INDEX = (1 << 31) - 1
_LONGEST_LABEL = 200
_SETS = ("string_set", "number_set", "binary_set")


class Condition:
    """A condition on an item. Combine conditions with `&`, `|` and `~`.

    >>> from mintkey import Model
    >>> from mintkey.attributes import NumberAttribute, StringAttribute
    >>> class Order(Model):
    ...     pk = StringAttribute(partition_key=True)
    ...     total = NumberAttribute()
    >>> (Order.total > 5) & ~(Order.total == 7)
    (Order.total > 5) & ~(Order.total == 7)
    """

    __slots__ = ()

    #: The levels of nesting: 1 for a single test.
    levels: int

    def __and__(self, other: Condition) -> Condition:
        return _joined(Every, self, other) if isinstance(other, Condition) else NotImplemented

    def __or__(self, other: Condition) -> Condition:
        return _joined(Some, self, other) if isinstance(other, Condition) else NotImplemented

    def __invert__(self) -> Condition:
        return Not(self, _checked_levels(self.levels + 1))

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"the condition {shortened(self)} has no truth value: it is evaluated in the store. "
            "Combine conditions with & | ~ (each in parentheses) instead of `and`, `or`, `not`, chained comparisons"
        )

    def compile(self) -> tuple[Any, ...]:
        """Return the nested tuples that the compiled core reads."""
        raise NotImplementedError

    def conjuncts(self) -> Iterator[Condition]:
        """Yield the conditions that are joined by AND at the top level."""
        yield self

    def roots(self) -> Iterator[str | int]:
        """Yield the stored names of the attributes in the condition."""
        raise NotImplementedError


def not_a_condition(model: str, given: object) -> TypeError:
    """Return the error for an argument that is not a condition."""
    return TypeError(f"{model}: expected a condition such as {model}.x == 1, got {shortened(given)}")


def _joined(kind: type[Every | Some], left: Condition, right: Condition) -> Condition:
    """Join two conditions. A chain of the same operator counts as one level."""
    parts: list[Condition] = []
    levels = 0
    for side in (left, right):
        if isinstance(side, kind):
            parts.extend(side.conditions)
            levels = max(levels, side.levels)
        else:
            parts.append(side)
            levels = max(levels, side.levels + 1)
    return kind(tuple(parts), _checked_levels(levels))


def _checked_levels(levels: int) -> int:
    if levels > _core.MAX_CONDITION_LEVELS:
        raise InvalidValue(
            f"a condition may nest at most {_core.MAX_CONDITION_LEVELS} levels of & | ~: "
            "join conditions in a row, as in a & b & c, or filter in several steps"
        )
    return levels


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Test(Condition):
    """A test of one path: a comparison or a function, with its encoded operands."""

    __test__ = False  # pytest must not collect it

    label: str
    steps: Steps
    name: str
    operands: tuple[Any, ...]
    levels: int = dataclasses.field(default=1, init=False, compare=False)

    def compile(self) -> tuple[Any, ...]:
        return (self.name, self.steps, *self.operands)

    def roots(self) -> Iterator[str | int]:
        yield self.steps[0]

    def __repr__(self) -> str:
        if self.name in {"==", "!=", "<", "<=", ">", ">="}:
            return f"({self.label} {self.name} {shortened(self.operands[0])})"
        if self.name == "size":
            return f"({self.label}.size() {self.operands[0]} {shortened(self.operands[1])})"
        return f"{self.label}.{self.name}({', '.join(map(shortened, self.operands))})"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Every(Condition):
    """All of these conditions are true."""

    conditions: tuple[Condition, ...]
    levels: int = dataclasses.field(default=1, compare=False)

    def compile(self) -> tuple[Any, ...]:
        return ("and", *(condition.compile() for condition in self.conditions))

    def conjuncts(self) -> Iterator[Condition]:
        for condition in self.conditions:
            yield from condition.conjuncts()

    def roots(self) -> Iterator[str | int]:
        for condition in self.conditions:
            yield from condition.roots()

    def __repr__(self) -> str:
        return " & ".join(map(repr, self.conditions))


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Some(Condition):
    """At least one of these conditions is true."""

    conditions: tuple[Condition, ...]
    levels: int = dataclasses.field(default=1, compare=False)

    def compile(self) -> tuple[Any, ...]:
        return ("or", *(condition.compile() for condition in self.conditions))

    def roots(self) -> Iterator[str | int]:
        for condition in self.conditions:
            yield from condition.roots()

    def __repr__(self) -> str:
        return f"({' | '.join(map(repr, self.conditions))})"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Not(Condition):
    """The condition is false."""

    condition: Condition
    levels: int = dataclasses.field(default=1, compare=False)

    def compile(self) -> tuple[Any, ...]:
        return ("not", self.condition.compile())

    def roots(self) -> Iterator[str | int]:
        return self.condition.roots()

    def __repr__(self) -> str:
        inner = repr(self.condition)
        return f"~{inner}" if inner.startswith("(") or isinstance(self.condition, Test) else f"~({inner})"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Action:
    """A change that the store computes, such as `Order.n.add(1)`, for `update()`."""

    label: str
    steps: Steps
    name: str
    operands: tuple[Any, ...]

    def compile(self) -> tuple[Any, ...]:
        """Return the tuple that the compiled core reads."""
        return (self.name, self.steps, *self.operands)

    def __repr__(self) -> str:
        return f"{self.label}.{self.name}({', '.join(map(shortened, self.operands))})"


class Operand:
    """The left side of conditions and actions: an attribute, or a path into one."""

    __slots__ = ()

    @property
    def _label(self) -> str:
        raise NotImplementedError

    @property
    def _steps(self) -> Steps:
        raise NotImplementedError

    def _operand(self, value: Any) -> Any:
        """Return the encoded value, checked against the type of the attribute."""
        raise NotImplementedError

    def _element(self, value: Any) -> Any:
        """Return `value` encoded as an element of the attribute."""
        return value

    @property
    def _kind(self) -> str:
        """The stored type; `"any"` if it is not known."""
        return "any"

    def _inside(self, step: object) -> Path:
        """Return the path to a key of a map, or to an index of a list."""
        label = f"{self._label}[{shortened(step)}]"
        if len(label) > _LONGEST_LABEL:
            label = f"{label[: _LONGEST_LABEL // 2]}…{label[-_LONGEST_LABEL // 2 :]}"
        steps = self._steps
        if len(steps) >= _core.MAX_VALUE_LEVELS:
            raise InvalidValue(f"{label}: a path has at most {_core.MAX_VALUE_LEVELS} levels (the limit of DynamoDB)")
        if isinstance(step, str):
            return Path(label, (*steps, _core.checked("string", label, step)))
        if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
            if step > _LAST_INDEX:
                raise InvalidValue(f"{label}: the maximum index of a list is {_LAST_INDEX:,}")
            return Path(label, (*steps, operator.index(step)))
        raise TypeError(f"{label}: a path element is a key of a map or an index of a list from 0")

    def _works_on(self, name: str, kinds: Iterable[str]) -> None:
        if self._kind not in {"any", *kinds}:
            raise InvalidValue(
                f"{self._label}.{name}() works on {' or '.join(kinds).replace('_', ' ')} attributes, "
                f"and the type of this one is {self._kind.replace('_', ' ')}"
            )

    def _action(self, name: str, *operands: Any) -> Action:
        return Action(self._label, self._steps, name, operands)

    def _test(self, name: str, *operands: Any) -> Test:
        return Test(self._label, self._steps, name, operands)

    def _given(self, value: Any) -> Any:
        if value is None:
            raise InvalidValue(
                f"{self._label}: a condition cannot compare with None, because None means absent: "
                "use .does_not_exist() or .exists()"
            )
        return self._operand(value)

    def _put(self, name: str, value: Any) -> Any:
        if value is None:
            raise InvalidValue(f"{self._label}.{name}() does not take None, because None means absent: use .remove()")
        return self._operand(value)

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return self._test("==", self._given(value))

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return self._test("!=", self._given(value))

    def __lt__(self, value: Any) -> Condition:
        return self._test("<", self._given(value))

    def __le__(self, value: Any) -> Condition:
        return self._test("<=", self._given(value))

    def __gt__(self, value: Any) -> Condition:
        return self._test(">", self._given(value))

    def __ge__(self, value: Any) -> Condition:
        return self._test(">=", self._given(value))

    __hash__ = object.__hash__

    # Without these methods Python would iterate with `[0]`, `[1]`, … without end.

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self._label} is evaluated in the store and cannot be iterated")

    def __contains__(self, value: object) -> NoReturn:
        raise TypeError(f"{self._label} is evaluated in the store: use {self._label}.contains({shortened(value)})")

    def between(self, low: Any, high: Any) -> Condition:
        """True if `low` <= value <= `high`. The store raises `InvalidValue` if `low` exceeds `high`."""
        return self._test("between", self._given(low), self._given(high))

    def is_in(self, *values: Any) -> Condition:
        """True if the value is one of `values`: `is_in("a", "b")` or `is_in(["a", "b"])`.

        Takes at most 100 values, the limit of DynamoDB, on every store.
        """
        if len(values) == 1 and isinstance(values[0], Iterable) and not isinstance(values[0], (str, bytes)):
            values = tuple(islice(values[0], _MAX_VALUES + 1))
        operands = tuple(self._given(value) for value in values)
        if not operands:
            raise InvalidValue(f"{self._label}.is_in() needs at least one value")
        if len(operands) > _MAX_VALUES:
            raise InvalidValue(f"{self._label}.is_in() takes at most {_MAX_VALUES} values")
        return self._test("is_in", list(operands))

    def begins_with(self, prefix: Any) -> Condition:
        """True if the text or the bytes begin with `prefix`."""
        self._works_on("begins_with", ("string", "binary"))
        return self._test("begins_with", self._given(prefix))

    def contains(self, value: Any) -> Condition:
        """True if the text, list or set contains `value`."""
        self._works_on("contains", ("string", "binary", "list", *_SETS))
        if value is None:
            return self._test("contains", self._given(value))
        if self._kind in {"string", "binary"}:
            return self._test("contains", _core.checked(self._kind, self._label, value))
        return self._test("contains", self._element(value))

    def exists(self) -> Condition:
        """True if the attribute has a value."""
        return self._test("exists")

    def does_not_exist(self) -> Condition:
        """True if the attribute is absent."""
        return self._test("does_not_exist")

    def is_type(self, name: TypeName) -> Condition:
        """True if the stored value has this type, such as `"string"`, `"number"` or `"map"`."""
        if not isinstance(name, str) or name not in _TYPE_NAMES:
            raise InvalidValue(
                f"{self._label}.is_type({shortened(name)}): the types are {', '.join(sorted(_TYPE_NAMES))}"
            )
        return self._test("is_type", name)

    def size(self) -> Size:
        """The size, to compare with an integer: UTF-16 code units of text, bytes of binary, otherwise elements."""
        return Size(self)

    # Changes that the store computes, for `update()`. All changes of one update apply to the same stored item.

    def set(self, value: Any) -> Action:
        """Set the value."""
        return self._action("set", self._put("set", value))

    def remove(self) -> Action:
        """Remove the value, if there is one."""
        return self._action("remove")

    def add(self, number: Any) -> Action:
        """Add to a number; an absent number counts as 0. A negative number subtracts."""
        self._works_on("add", ("number", "decimal"))
        return self._action("add", _core.checked("number", self._label, number))

    def append(self, values: Iterable[Any]) -> Action:
        """Append values to a list; an absent list counts as empty."""
        return self._listed("append", values)

    def prepend(self, values: Iterable[Any]) -> Action:
        """Insert values at the start of a list; an absent list counts as empty."""
        return self._listed("prepend", values)

    def _listed(self, name: str, values: Iterable[Any]) -> Action:
        self._works_on(name, ("list",))
        if isinstance(values, (str, bytes, dict)) or not isinstance(values, Iterable):
            raise InvalidValue(f"{self._label}.{name}() takes a list of values, not one {type(values).__name__}")
        # list() reserves memory for the length that an iterable reports, which may be wrong; chain() reports none.
        listed = values if isinstance(values, (list, tuple)) else list(chain(values))
        return self._action(name, _core.checked("list", self._label, listed))

    def set_if_absent(self, value: Any) -> Action:
        """Set the value if there is none."""
        return self._action("set_if_absent", self._put("set_if_absent", value))

    def add_to_set(self, members: Iterable[Any]) -> Action:
        """Add members to a set; an absent set counts as empty."""
        return self._members("add_to_set", members)

    def delete_from_set(self, members: Iterable[Any]) -> Action:
        """Remove members from a set. A set without members becomes absent."""
        return self._members("delete_from_set", members)

    def _members(self, name: str, members: Iterable[Any]) -> Action:
        self._works_on(name, _SETS)
        if isinstance(members, (str, bytes, dict)) or not isinstance(members, Iterable):
            raise InvalidValue(f"{self._label}.{name}() takes a set of members, not one {type(members).__name__}")
        together = frozenset(members)
        if not together:
            raise InvalidValue(f"{self._label}.{name}() needs at least one member")
        return self._action(name, _core.checked(self._kind, self._label, together))


class Size:
    """The size of an attribute or path, to compare with an integer."""

    __slots__ = ("_of",)

    def __init__(self, of: Operand) -> None:
        self._of = of

    def _compare(self, operator: Operator, value: int) -> Condition:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidValue(f"{self._of._label}.size() compares with an integer, not {shortened(value)}")
        return self._of._test("size", operator, _core.checked("number", self._of._label, value))

    def __eq__(self, value: int) -> Condition:  # type: ignore[override]
        return self._compare("==", value)

    def __ne__(self, value: int) -> Condition:  # type: ignore[override]
        return self._compare("!=", value)

    def __lt__(self, value: int) -> Condition:
        return self._compare("<", value)

    def __le__(self, value: int) -> Condition:
        return self._compare("<=", value)

    def __gt__(self, value: int) -> Condition:
        return self._compare(">", value)

    def __ge__(self, value: int) -> Condition:
        return self._compare(">=", value)

    __hash__ = object.__hash__


class Path(Operand):
    """A path into a list or map attribute: `Order.data["a"][0]`."""

    __slots__ = ("_path_label", "_path_steps")

    def __init__(self, label: str, steps: Steps) -> None:
        self._path_label = label
        self._path_steps = steps

    @property
    def _label(self) -> str:
        return self._path_label

    @property
    def _steps(self) -> Steps:
        return self._path_steps

    def _operand(self, value: Any) -> Any:
        return _core.checked("any", self._path_label, value)

    def _element(self, value: Any) -> Any:
        return self._operand(value)

    def __getitem__(self, step: str | int) -> Path:
        return self._inside(step)
