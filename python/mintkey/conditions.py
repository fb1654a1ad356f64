"""Conditions, such as `Order.total > 5`, and actions of updates, such as `Order.n.add(1)`.

They are objects of the compiled core, whose evaluator gives conditions the same meaning on every store. The meaning
follows DynamoDB: every comparison with an absent attribute, or with a value of another type, is false, except `!=` and
`does_not_exist()`.

>>> from mintkey import Model
>>> from mintkey.attributes import NumberAttribute, StringAttribute
>>> class Order(Model):
...     pk = StringAttribute(partition_key=True)
...     total = NumberAttribute()
>>> (Order.total > 5) & ~(Order.total == 7)
(Order.total > 5) & ~(Order.total == 7)
"""

from __future__ import annotations

import builtins
import operator
import types
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn, Protocol, TypeAlias, TypeVar, overload

from mintkey import _core
from mintkey._core import Action, Condition
from mintkey.errors import CONVERSION_ERRORS, InvalidValue, cause, shortened

__all__ = ["Action", "Condition", "Operand", "Path"]

Steps: TypeAlias = tuple[str | int, ...]
Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
TypeName: TypeAlias = Literal[
    "string", "number", "boolean", "null", "binary", "list", "map", "string_set", "number_set", "binary_set"
]
#: The tests that the encoding of a type allows.
Tests: TypeAlias = Literal["all", "unordered", "equality", "existence"]

_TYPE_NAMES = frozenset(TypeName.__args__)  # type: ignore[attr-defined]
#: The maximum number of values of one `is_in()`.
_MAX_VALUES = 100_000
#: The maximum index of a list on any store.
_LAST_INDEX = (1 << 31) - 1
_LONGEST_LABEL = 200
_SETS = ("string_set", "number_set", "binary_set")
M = TypeVar("M")  # the model of a condition
T = TypeVar("T")  # the type of a value
E = TypeVar("E")  # the type of an element of a list or set
N = TypeVar("N", bound="float | Decimal")
Text = TypeVar("Text", str, bytes)

if TYPE_CHECKING:

    class _Dataclass(Protocol):
        __dataclass_fields__: ClassVar[dict[str, Any]]

    class _PydanticModel(Protocol):
        __pydantic_fields__: ClassVar[dict[str, Any]]

    class _AbstractModel(Protocol):
        __mintkey_schema__: Any

    #: The classes whose values are stored as maps.
    Nested = TypeVar("Nested", bound="_Dataclass | _PydanticModel | _AbstractModel | Mapping[str, object]")

_EXISTENCE = frozenset({"exists", "does_not_exist", "is_stored", "is_not_stored"})
_EQUALITY = _EXISTENCE | {"==", "!=", "is_in", "is_type"}
_ORDER = frozenset({"<", "<=", ">", ">=", "between"})


def not_a_condition(model: str, given: object) -> TypeError:
    """Return the error for an argument that is not a condition."""
    return TypeError(f"{model}: expected a condition such as {model}.x == 1, got {shortened(given)}")


def invalid(label: str, reason: str, method: str | None = None) -> InvalidValue:
    """Return the error for a value that does not fit the attribute, or the path into one, with this label."""
    model, _, path = label.partition(".")
    message = f"{label}: {reason}" if method is None else f"{label}.{method}() {reason}"
    return InvalidValue(message, model=model, attribute=path.partition("[")[0])


def _set_of(label: str, members: Iterable[Any]) -> frozenset[Any]:
    listed = [bytes(member) if isinstance(member, bytearray) else member for member in members]
    try:
        return frozenset(listed)
    except TypeError as error:  # not hashable
        raise invalid(label, f"a set cannot contain one of these members: {cause(error)}") from error


def _is_many(value: object) -> bool:
    """Return whether an argument holds several values."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Operand))


class Operand(Generic[M, T]):
    """The left side of conditions and actions on items of `M`: an attribute with values of `T`, or a path into one."""

    __slots__ = ()

    if not TYPE_CHECKING:
        # Subclasses have parameters with defaults, which `Generic` does not know in every version of Python.
        __class_getitem__ = classmethod(types.GenericAlias)

    @property
    def _label(self) -> str:
        raise NotImplementedError

    @property
    def _steps(self) -> Steps:
        raise NotImplementedError

    @property
    def _root(self) -> Any:
        """The attribute at the start of the path."""
        return self

    @property
    def _declared(self) -> Any:
        """The attribute that declares the type of the value; None inside of plain lists and maps."""
        return self

    @property
    def _guard(self) -> str | None:
        """Why no change of the value can be verified; None if changes can."""
        return None

    def _operand(self, value: Any) -> Any:
        """Return the encoded value, checked against the declared type."""
        return self._operands((value,))[0]

    def _operands(self, values: Iterable[Any]) -> list[Any]:
        """Return several encoded values."""
        declared, label = self._declared, self._label
        kind = "any" if declared is None else declared.kind
        encoded = values
        if declared is not None and declared.converts:
            try:
                encoded = [declared.encode(value) for value in values]
            except CONVERSION_ERRORS as error:
                raise invalid(label, cause(error)) from error
        elif kind == "list":
            encoded = list(values)
            if any(isinstance(value, tuple) for value in encoded):
                raise invalid(label, "a tuple would be read as a list: use a list")
        return [_core.checked(kind, label, value) for value in encoded]

    def _element(self, value: Any) -> Any:
        """Return `value` encoded as an element of the value."""
        if self._kind in _SETS:
            return next(iter(_core.checked(self._kind, self._label, _set_of(self._label, [value]))))
        declared = self._declared
        element = None if declared is None else declared.element(self._label)
        if element is None:
            return _core.checked("any", self._label, value)
        path: Path[M, Any] = Path(self._root, f"{self._label}[…]", self._steps, element)
        path._allow("==")
        return path._operand(value)

    @property
    def _kind(self) -> str:
        """The stored type; `"any"` if it is not known."""
        return "any" if self._declared is None else str(self._declared.kind)

    def _inside(self, step: object) -> Path[M, Any]:
        """Return the path to a key of a map, or to an index of a list."""
        label = f"{self._label}[{shortened(step)}]"
        if len(label) > _LONGEST_LABEL:
            label = f"{label[: _LONGEST_LABEL // 2]}…{label[-_LONGEST_LABEL // 2 :]}"
        steps = self._steps
        if len(steps) >= _core.MAX_VALUE_LEVELS:
            raise InvalidValue(f"{label}: a path has at most {_core.MAX_VALUE_LEVELS} steps (the limit of DynamoDB)")
        declared = None if self._declared is None else self._declared.member(label, step)
        if isinstance(step, str):
            if not step:
                raise InvalidValue(f"{label}: a map contains no entry with an empty name: pass the name of an entry")
            name = _core.checked("string", label, step if declared is None else declared.stored_name)
            return Path(self._root, label, (*steps, name), declared, self._guard_inside())
        if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
            if step > _LAST_INDEX:
                raise InvalidValue(f"{label}: the maximum index of a list is {_LAST_INDEX:,}")
            return Path(self._root, label, (*steps, operator.index(step)), declared, self._guard_inside())
        raise TypeError(f"{label}: a path element is a key of a map or an index of a list from 0")

    def _guard_inside(self) -> str | None:
        return self._guard or (None if self._declared is None else self._declared.unverified)

    @overload
    def __getitem__(self: Operand[M, list[E]], step: int) -> Path[M, E]: ...
    @overload
    def __getitem__(self: Operand[M, dict[str, E]], step: str) -> Path[M, E]: ...
    @overload
    def __getitem__(self: Operand[M, tuple[E, ...]], step: int) -> Path[M, E]: ...
    @overload
    def __getitem__(self: Operand[M, Nested], step: str) -> Path[M, Any]: ...
    def __getitem__(self, step: str | int) -> Path[M, Any]:
        # Types without parts report that they have none.
        return self._inside(step)

    def _allow(self, name: str) -> None:
        """Refuse a test to which the encoding gives no meaning."""
        declared = self._declared
        if declared is None:
            return
        tests: Tests = declared.tests
        if tests == "unordered":
            if name in _ORDER:
                raise invalid(
                    self._label,
                    f"{name} is not possible, because the order of the stored text is not the order of the values: "
                    "store the value in an attribute of its own, or compare the loaded items",
                )
            return
        if tests != "all" and name not in (_EQUALITY if tests == "equality" else _EXISTENCE):
            allowed = "exists() and does_not_exist()" if tests == "existence" else "==, !=, is_in() and exists()"
            raise invalid(
                self._label,
                f"{name} is not possible on a {declared.described}, because of the encoding of its values: "
                f"use {allowed}",
            )

    def _works_on(self, name: str, kinds: Iterable[str]) -> None:
        declared = self._declared
        if self._kind not in kinds and (declared is not None and (self._kind != "any" or declared.converts)):
            kind = type(declared).__name__ if self._kind == "any" else self._kind.replace("_", " ")
            raise invalid(
                self._label,
                f"works on {' or '.join(kinds).replace('_', ' ')} attributes, and the type of this one is {kind}",
                name,
            )

    def _action(self, name: str, *operands: Any) -> Action[M]:
        computed = name not in {"set", "set_if_absent", "remove"}
        problem = self._guard_inside() if computed else self._guard
        if problem is not None:
            raise self._unverifiable(name, problem)
        return Action(self._root, self._label, self._steps, name, operands)

    def _unverifiable(self, name: str, problem: str) -> InvalidValue:
        remedy = "assign the new value and save() the item"
        return invalid(self._label, f"cannot be verified, because {problem}: {remedy}", name)

    def _test(self, name: str, *operands: Any) -> Condition[M]:
        self._allow(name)
        json = self._declared is not None and self._declared.tests == "equality"
        return Condition(self._root, self._label, self._steps, name, operands, json)

    def _compare(self, name: Operator, value: Any) -> Condition:
        """Return the comparison with a value, or with the value of another attribute."""
        if not isinstance(value, Operand):
            return self._test(name, *self._given(value))
        self._check_comparable(value, name)
        return self._test(name, *value._as_operands())

    def _as_operands(self) -> tuple[Any, str, Steps]:
        """Return the operands that stand for this attribute in a condition or a change of another one."""
        return self._root, self._label, self._steps

    def _check_comparable(self, other: Operand[M, Any], name: str) -> None:
        """Refuse another attribute whose values are stored in another form."""
        own, others = self._declared, other._declared
        for side in (self, other):
            if side._declared is not None and side._declared.tests != "all" and name != "set":
                side._allow(name)
                raise invalid(side._label, "the stored text can be compared with values only, not with an attribute")
        if own is None or others is None:
            return
        converts = own.converts or others.converts
        if self._kind != other._kind or (converts and not own.has_type_of(others)):
            raise invalid(
                self._label,
                f"cannot be compared with or set from {other._label}, a {others.described}, which stores its values "
                f"in another form than a {own.described}",
            )

    def _given(self, *values: Any) -> list[Any]:
        """Return the encoded operands of a condition."""
        if any(value is None for value in values):
            raise invalid(
                self._label,
                "a condition cannot compare with None, because None means absent: use .does_not_exist() or .exists()",
            )
        if any(map(self._is_nothing, values)):
            raise invalid(
                self._label, "an empty set means absent: compare it with ==, or use .does_not_exist() or .exists()"
            )
        return self._operands(values)

    def _put(self, name: str, value: Any) -> Any:
        if value is None:
            if self._keeps_none:
                return None
            raise invalid(self._label, "does not take None, because None means absent: use .remove()", name)
        if self._is_nothing(value):
            raise invalid(
                self._label, "does not take an empty set, which means absent: leave it out, or use .remove()", name
            )
        return self._change(value)

    @property
    def _keeps_none(self) -> bool:
        """Whether a null is a value here."""
        return False if self._declared is None else bool(self._declared.keeps_none)

    @property
    def _is_never_null(self) -> bool:
        """Whether a stored null is a value here, or cannot be: elsewhere it counts as absent."""
        root = self._root
        if len(self._steps) > 1:
            return self._keeps_none
        return bool(root.partition_key or root.sort_key)

    def _change(self, value: Any) -> Any:
        """Return the encoded value of a change, checked as a save checks it."""
        declared = self._declared
        encoded = self._operand(value)
        if declared is not None:
            try:
                declared.verify(value)
            except InvalidValue:
                raise
            except CONVERSION_ERRORS as error:
                raise invalid(self._label, cause(error)) from error
        return encoded

    def _is_nothing(self, value: object) -> bool:
        """Return whether a value is an empty set, which is stored as nothing."""
        declared = self._declared
        if not isinstance(value, (set, frozenset)) or not (declared is None or declared.empty_is_absent):
            return False
        # A subclass may report a wrong length.
        return (set.__len__(value) if isinstance(value, set) else frozenset.__len__(value)) == 0

    def __eq__(self, value: T | Operand[M, Any]) -> Condition[M]:  # type: ignore[override]
        return self.does_not_exist() if self._is_nothing(value) else self._compare("==", value)

    def __ne__(self, value: T | Operand[M, Any]) -> Condition[M]:  # type: ignore[override]
        return self.exists() if self._is_nothing(value) else self._compare("!=", value)

    def __lt__(self, value: T | Operand[M, Any]) -> Condition[M]:
        return self._compare("<", value)

    def __le__(self, value: T | Operand[M, Any]) -> Condition[M]:
        return self._compare("<=", value)

    def __gt__(self, value: T | Operand[M, Any]) -> Condition[M]:
        return self._compare(">", value)

    def __ge__(self, value: T | Operand[M, Any]) -> Condition[M]:
        return self._compare(">=", value)

    __hash__ = object.__hash__

    # Without these methods Python would iterate with `[0]`, `[1]`, … without end.

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self._label} is evaluated in the store and cannot be iterated")

    def __contains__(self, value: object) -> NoReturn:
        raise TypeError(f"{self._label} is evaluated in the store: use {self._label}.contains({shortened(value)})")

    def between(self, low: T, high: T) -> Condition[M]:
        """True if `low` <= value <= `high`. Raises `InvalidValue` if `low` exceeds `high`."""
        return self._test("between", *self._given(low, high))

    @overload
    def is_in(self, values: Iterable[T], /) -> Condition[M]: ...
    @overload
    def is_in(self, *values: T) -> Condition[M]: ...
    def is_in(self, *values: Any) -> Condition[M]:
        """True if the value is one of `values`: `is_in("a", "b")` or `is_in(["a", "b"])`; without values always false.

        In conditions of writes DynamoDB takes at most 100 values.
        """
        if len(values) == 1 and _is_many(values[0]):
            values = tuple(islice(values[0], _MAX_VALUES + 1))
        if len(values) > _MAX_VALUES:
            raise invalid(self._label, f"takes at most {_MAX_VALUES:,} values", "is_in")
        something = [value for value in values if not self._is_nothing(value)]
        test = self._test("is_in", self._given(*something))
        return test if len(something) == len(values) else test | self.does_not_exist()

    def begins_with(self: Operand[M, Text], prefix: Text) -> Condition[M]:
        """True if the text or the bytes begin with `prefix`."""
        self._allow("begins_with")
        self._works_on("begins_with", ("string", "binary"))
        return self._test("begins_with", *self._given(prefix))

    @overload
    def contains(self: Operand[M, Text], value: Text) -> Condition[M]: ...
    @overload
    def contains(self: Operand[M, list[E]], value: E) -> Condition[M]: ...
    @overload
    def contains(self: Operand[M, tuple[E, ...]], value: E) -> Condition[M]: ...
    @overload
    def contains(self: Operand[M, builtins.set[E]], value: E) -> Condition[M]: ...
    def contains(self, value: Any) -> Condition[M]:
        """True if the text, list or set contains `value`."""
        self._allow("contains")
        self._works_on("contains", ("string", "binary", "list", *_SETS))
        if value is None:
            return self._test("contains", *self._given(value))
        if self._kind in {"string", "binary"}:
            return self._test("contains", _core.checked(self._kind, self._label, value))
        return self._test("contains", self._element(value))

    def exists(self) -> Condition[M]:
        """True if the attribute has a value."""
        return self._test("is_stored" if self._is_never_null else "exists")

    def does_not_exist(self) -> Condition[M]:
        """True if the attribute is absent."""
        return self._test("is_not_stored" if self._is_never_null else "does_not_exist")

    def is_type(self, name: TypeName) -> Condition[M]:
        """True if the stored value has this type, such as `"string"`, `"number"` or `"map"`."""
        if not isinstance(name, str) or name not in _TYPE_NAMES:
            raise invalid(self._label, f"is_type({shortened(name)}): the types are {', '.join(sorted(_TYPE_NAMES))}")
        return self._test("is_type", name)

    def size(self) -> Size[M]:
        """The size, to compare with an integer: UTF-16 code units of text, bytes of binary, otherwise elements."""
        return Size(self)

    # Changes that the store computes, for `update()`. All changes of one update apply to the same stored item.

    def set(self, value: T | Operand[M, T]) -> Action[M]:
        """Set the value, or the value of another attribute, which must have one. An empty set removes it."""
        if isinstance(value, Operand):
            return self._set_from(value)
        return self.remove() if self._is_nothing(value) else self._action("set", self._put("set", value))

    def _set_from(self, other: Operand[M, Any]) -> Action[M]:
        self._check_comparable(other, "set")
        own, others = self._declared, other._declared
        problem = self._guard
        if problem is None and own is not None and others is None:
            problem = f"the type of {other._label} is not declared"
        if problem is None and own is not None:
            is_same = type(own) is type(others) and not own.validators and own.has_type_of(others)
            problem = None if is_same else own.unverified
        if problem is not None:
            raise self._unverifiable("set", problem)
        return Action(self._root, self._label, self._steps, "set", other._as_operands())

    def remove(self) -> Action[M]:
        """Remove the value, if there is one."""
        if self._declared is not None and self._declared.required:
            raise invalid(self._label, "required, so an update cannot remove it: pass another value")
        return self._action("remove")

    def add(self: Operand[M, N], number: N) -> Action[M]:
        """Add to a number; an absent number counts as 0. A negative number subtracts."""
        self._works_on("add", ("number", "decimal"))
        declared = self._declared
        if declared is not None and declared.unverified is None:
            self._change(number)
        return self._action("add", _core.checked("number", self._label, number))

    def append(self: Operand[M, list[E]], values: Iterable[E]) -> Action[M]:
        """Append values to a list; an absent list counts as empty."""
        return self._listed("append", values)

    def prepend(self: Operand[M, list[E]], values: Iterable[E]) -> Action[M]:
        """Insert values at the start of a list; an absent list counts as empty."""
        return self._listed("prepend", values)

    def _listed(self, name: str, values: Iterable[Any]) -> Action[M]:
        self._works_on(name, ("list",))
        if isinstance(values, dict) or not _is_many(values):
            raise invalid(self._label, f"takes a list of values, not one {type(values).__name__}", name)
        # list() reserves memory for the length that an iterable reports, which may be wrong; chain() reports none.
        listed = values if isinstance(values, (list, tuple)) else list(chain(values))
        declared = self._declared
        element = None if declared is None else declared.element(self._label)
        if element is not None:
            path: Path[M, Any] = Path(self._root, f"{self._label}[…]", self._steps, element)
            listed = [path._put(name, value) for value in listed]
        return self._action(name, _core.checked("list", self._label, listed))

    def set_if_absent(self, value: T) -> Action[M]:
        """Set the value if there is none."""
        return self._action("set_if_absent", self._put("set_if_absent", value))

    def add_to_set(self: Operand[M, builtins.set[E]], members: Iterable[E]) -> Action[M]:
        """Add members to a set; an absent set counts as empty."""
        return self._members("add_to_set", members)

    def delete_from_set(self: Operand[M, builtins.set[E]], members: Iterable[E]) -> Action[M]:
        """Remove members from a set. A set without members becomes absent."""
        return self._members("delete_from_set", members)

    def _members(self, name: str, members: Iterable[Any]) -> Action[M]:
        self._works_on(name, _SETS)
        if isinstance(members, dict) or not _is_many(members):
            raise invalid(self._label, f"takes a set of members, not one {type(members).__name__}", name)
        together = _set_of(self._label, members)
        if not together:
            raise invalid(self._label, "needs at least one member", name)
        return self._action(name, _core.checked(self._kind, self._label, together))


class Size(Generic[M]):
    """The size of an attribute or path, to compare with an integer."""

    __slots__ = ("_of",)

    def __init__(self, of: Operand[M, Any]) -> None:
        self._of = of

    def _compare(self, operator: Operator, value: int) -> Condition[M]:
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid(self._of._label, f"compares with an integer, not {shortened(value)}", "size")
        return self._of._test("size", operator, _core.checked("number", self._of._label, value))

    def __eq__(self, value: int) -> Condition[M]:  # type: ignore[override]
        return self._compare("==", value)

    def __ne__(self, value: int) -> Condition[M]:  # type: ignore[override]
        return self._compare("!=", value)

    def __lt__(self, value: int) -> Condition[M]:
        return self._compare("<", value)

    def __le__(self, value: int) -> Condition[M]:
        return self._compare("<=", value)

    def __gt__(self, value: int) -> Condition[M]:
        return self._compare(">", value)

    def __ge__(self, value: int) -> Condition[M]:
        return self._compare(">=", value)

    __hash__ = object.__hash__


class Path(Operand[M, T]):
    """A path into a list or map attribute: `Order.data["a"][0]`."""

    __slots__ = ("_path_declared", "_path_guard", "_path_label", "_path_root", "_path_steps")

    def __init__(self, root: Any, label: str, steps: Steps, declared: Any, guard: str | None = None) -> None:
        self._path_root = root
        self._path_label = label
        self._path_steps = steps
        self._path_declared = declared
        self._path_guard = guard or (None if declared is None else declared.guard)

    def __repr__(self) -> str:
        return f"<Path {self._path_label}>"

    @property
    def _label(self) -> str:
        return self._path_label

    @property
    def _steps(self) -> Steps:
        return self._path_steps

    @property
    def _root(self) -> Any:
        return self._path_root

    @property
    def _declared(self) -> Any:
        return self._path_declared

    @property
    def _guard(self) -> str | None:
        return self._path_guard

    @property
    def _keeps_none(self) -> bool:
        return self._path_declared is None or super()._keeps_none
