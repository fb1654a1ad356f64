"""Structured values: dataclasses, pydantic models and types made of them, encoded as plain values.

A plain value consists of dicts, lists, text, numbers, booleans and `None`. `structure_of` returns the structure of a
type, which encodes and decodes its values. Dataclasses, lists, tuples, sets, dicts, optional values and common types
such as `datetime` are encoded here. All other types need pydantic, whose `TypeAdapter` encodes them.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import sys
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from mintkey.attributes.comparing import Misfit, at, difference, ignored_entry, is_model, path_of
from mintkey.attributes.iso import parse_iso
from mintkey.attributes.reading import NUMBERS, check_type
from mintkey.errors import CONVERSION_ERRORS, cause, needs, shortened

#: Types whose values are plain already.
_PLAIN = (str, int, bool, type(None), Any, object, list, dict)


class Structure:
    """The values of a type. This class takes plain values of certain types and keeps them as they are."""

    #: The stored type.
    kind = "any"
    #: Whether no value is a map or a list.
    is_scalar = True

    def __init__(self, allowed: tuple[type, ...] = ()) -> None:
        self._allowed = allowed

    def encode(self, value: Any) -> Any:
        """Return the plain value. It is not checked."""
        return value

    def decode(self, plain: Any) -> Any:
        """Return the value of a plain value. Raises `Misfit` or a conversion error if it does not fit."""
        return plain

    def fitted(self, value: Any) -> Any:
        """Return the value with instances in place of dicts that stand for them. Raises an error if it does not fit."""
        if self._allowed and not isinstance(value, self._allowed):
            raise _expected(self._allowed, value)
        if isinstance(value, bool) and int in self._allowed and bool not in self._allowed:
            raise _expected(self._allowed, value)
        return value


def _expected(allowed: tuple[type, ...], value: Any) -> TypeError:
    return TypeError(f"expected {' or '.join(kind.__name__ for kind in allowed)}, got {type(value).__name__}")


class _Leaf(Structure):
    """One value that is not plain, such as a datetime."""

    def __init__(
        self,
        kind: type,
        encode: Callable[[Any], Any],
        decode: Callable[[Any], Any],
        types: tuple[type, ...] = (),
        reads: str = "",
    ) -> None:
        super().__init__((kind,))
        self._type, self._encode, self._decode = kind, encode, decode
        self._types, self._reads = types, reads

    def encode(self, value: Any) -> Any:
        return self._encode(value) if isinstance(value, self._type) else value

    def decode(self, plain: Any) -> Any:
        if plain is None:
            return None
        if self._types:
            check_type(plain, self._types, self._type.__name__, self._reads)
        return self._decode(plain)


class _Float(Structure):
    """A float. Integers are allowed, as type checkers allow them, and are read as floats."""

    def __init__(self) -> None:
        super().__init__((float, int))

    def decode(self, plain: Any) -> Any:
        return float(plain) if isinstance(plain, (int, Decimal)) and not isinstance(plain, bool) else plain


class _Optional(Structure):
    """A value, or None."""

    def __init__(self, inner: Structure) -> None:
        super().__init__()
        self._inner = inner
        self.kind, self.is_scalar = inner.kind, inner.is_scalar

    def encode(self, value: Any) -> Any:
        return None if value is None else self._inner.encode(value)

    def decode(self, plain: Any) -> Any:
        return None if plain is None else self._inner.decode(plain)

    def fitted(self, value: Any) -> Any:
        return None if value is None else self._inner.fitted(value)


class SequenceOf(Structure):
    """A list, set or tuple of values of one type, or a tuple of a fixed length."""

    kind = "list"
    is_scalar = False

    def __init__(self, of: type, inner: Structure | None, fixed: tuple[Structure, ...] = ()) -> None:
        super().__init__((of,))
        self._type: Any = of
        self._inner, self._fixed = inner, fixed

    def _each(self, values: Iterable[Any], name: str) -> list[Any]:
        values = list(values)
        if self._inner is None and len(values) != len(self._fixed):
            raise Misfit(f"expected {len(self._fixed)} elements, got {len(values)}")
        inner = self._fixed if self._inner is None else (self._inner,) * len(values)
        return [
            at(index, getattr(one, name), value) for index, (one, value) in enumerate(zip(inner, values, strict=True))
        ]

    def encode(self, value: Any) -> Any:
        if not isinstance(value, self._type):
            return value
        if isinstance(value, (set, frozenset)):
            # In a stable order, so that an equal set does not count as a change.
            return sorted(self._each(value, "encode"), key=repr)
        return self._each(value, "encode")

    def decode(self, plain: Any) -> Any:
        if plain is None:
            return None
        if not isinstance(plain, (list, set)):
            raise Misfit(f"expected a list, got {type(plain).__name__}")
        return self._type(self._each(plain, "decode"))

    def fitted(self, value: Any) -> Any:
        super().fitted(value)
        fitted = self._each(value, "fitted")
        return value if all(map(operator.is_, fitted, value)) else self._type(fitted)


class DictOf(Structure):
    """A dict of values of one type."""

    kind = "map"
    is_scalar = False

    def __init__(self, inner: Structure) -> None:
        super().__init__((dict,))
        self._inner = inner

    def encode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: at(name, self._inner.encode, item) for name, item in value.items()}

    def decode(self, plain: Any) -> Any:
        if plain is None:
            return None
        if not isinstance(plain, dict):
            raise Misfit(f"expected a map, got {type(plain).__name__}")
        return {name: at(name, self._inner.decode, item) for name, item in plain.items()}

    def fitted(self, value: Any) -> Any:
        super().fitted(value)
        fitted = {name: at(name, self._inner.fitted, item) for name, item in value.items()}
        return value if all(map(operator.is_, fitted.values(), value.values())) else fitted


_MISSING: Any = object()


class _Dataclass(Structure):
    """Instances of a dataclass."""

    kind = "map"
    is_scalar = False

    def __init__(self, cls: type) -> None:
        super().__init__((cls,))
        self._type = cls
        self._fields: tuple[tuple[dataclasses.Field[Any], Structure], ...] = ()

    def compile(self, hints: Mapping[str, Any], compiler: _Compiler) -> None:
        """Find the structures of the fields. A field may be of this class again."""
        self._fields = tuple((field, compiler.structure(hints[field.name])) for field in dataclasses.fields(self._type))

    def encode(self, value: Any) -> Any:
        if not isinstance(value, self._type):
            return value
        plain = {}
        for field, inner in self._fields:
            item = getattr(value, field.name, _MISSING)
            if item is not _MISSING:
                plain[field.name] = at(field.name, inner.encode, item)
        return plain

    def decode(self, plain: Any) -> Any:
        if plain is None:
            return None
        if not isinstance(plain, dict):
            raise Misfit(f"expected a map for {self._type.__name__}, got {type(plain).__name__}")
        values = {
            field.name: at(field.name, inner.decode, plain[field.name])
            for field, inner in self._fields
            if field.name in plain
        }
        for field, inner in self._fields:
            absent = field.init and field.name not in values
            if absent and isinstance(inner, _Optional) and _has_no_default(field):
                # Earlier versions did not store None.
                values[field.name] = None
        return self._instance(values)

    def _instance(self, values: dict[str, Any]) -> Any:
        instance = self._type(
            **{field.name: values[field.name] for field, _ in self._fields if field.init and field.name in values}
        )
        for field, _ in self._fields:
            if not field.init and field.name in values:
                object.__setattr__(instance, field.name, values[field.name])
        return instance

    def fitted(self, value: Any) -> Any:
        if isinstance(value, self._type):
            self._check_fields(value)
            return value
        if not isinstance(value, dict):
            raise TypeError(f"expected {self._type.__name__} or dict, got {type(value).__name__}")
        known = {field.name: inner for field, inner in self._fields}
        for name in value:
            if name not in known:
                raise Misfit(f"{self._type.__name__} has no field {shortened(name)}")
        return self._instance({name: at(name, known[name].fitted, item) for name, item in value.items()})

    def _check_fields(self, instance: Any) -> None:
        """Raise an error if a field does not have its type: Python checks none."""
        for field, inner in self._fields:
            item = getattr(instance, field.name, _MISSING)
            # `x: int = None` is common.
            if item is not _MISSING and item is not field.default:
                at(field.name, inner.fitted, item)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


class _Adapted(Structure):
    """Values of a type that pydantic encodes."""

    is_scalar = False

    def __init__(self, adapter: Any, hint: Any) -> None:
        super().__init__()
        self._adapter = adapter
        of = typing.get_origin(hint) or hint
        if isinstance(of, type):
            is_object = hasattr(of, "__pydantic_fields__") and not getattr(of, "__pydantic_root_model__", False)
            if issubclass(of, (list, tuple, set, frozenset)):
                self.kind = "list"
            elif is_object or issubclass(of, dict):
                self.kind = "map"

    def encode(self, value: Any) -> Any:
        # Computed fields are left out: they are not input.
        try:
            return self._adapter.dump_python(value, mode="json", by_alias=True, round_trip=True, warnings=False)
        except UnicodeDecodeError as error:
            raise Misfit(
                "pydantic stores bytes as UTF-8 text, and these bytes are not: set ConfigDict(ser_json_bytes='base64', "
                "val_json_bytes='base64') in their class",
                path_of(value, error.object),
            ) from error
        except AttributeError as error:  # from an instance of another class, or one that lacks a field
            raise TypeError(f"{type(value).__name__}: {cause(error)}") from error

    def decode(self, plain: Any) -> Any:
        from pydantic import ValidationError

        text = json_text(plain)
        try:
            try:
                # Earlier versions stored the names of fields instead of their aliases.
                return self._adapter.validate_json(text, by_alias=True, by_name=True)
            except ValidationError as error:
                if any(
                    one["type"] != "extra_forbidden" for one in error.errors(include_url=False, include_input=False)
                ):
                    raise
                # The class had these fields when the row was written.
                return self._adapter.validate_json(text, by_alias=True, by_name=True, extra="ignore")
        except ValidationError as error:
            raise _first_problem(error, plain) from error

    def fitted(self, value: Any) -> Any:
        from pydantic import BaseModel, ValidationError

        # Validating an instance again would run its validators on it, which may change it.
        if isinstance(value, BaseModel) or self._is_kept(value):
            return value
        try:
            fitted = self._adapter.validate_python(value)
        except ValidationError as error:
            raise _first_problem(error, value) from error
        problem = difference(value, fitted, dicts_fit=True) or self._ignored(value, fitted)
        if problem is not None:
            raise problem
        return fitted

    def _ignored(self, value: Any, fitted: Any) -> Misfit | None:
        """Return the first entry of a dict that its class ignored, or None."""
        from pydantic import ValidationError

        problem = ignored_entry(value, fitted)
        if problem is None or problem.certain:
            return problem
        try:
            # Validators that run before may use entries that are not fields.
            self._adapter.validate_python(value, extra="forbid")
        except ValidationError:
            return problem
        return None

    def _is_kept(self, value: Any) -> bool:
        try:
            return difference(value, self.decode(self.encode(value))) is None
        except CONVERSION_ERRORS:
            return False


def _first_problem(error: Any, value: Any) -> Misfit:
    """Return the first problem of the validation of a value, with its path."""
    problems = error.errors(include_url=False, include_input=False)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Misfit(f"{problems[0]['msg']}{more}", _path(problems[0], value))


def _path(problem: Mapping[str, Any], value: Any) -> tuple[Any, ...]:
    """Return the path of a problem inside of a value, without pydantic's names for the members of unions."""
    path = []
    for step in problem["loc"]:
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, (list, tuple)) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]
        elif isinstance(step, str) and step.isidentifier() and hasattr(value, step) and not isinstance(value, dict):
            value = getattr(value, step)
        elif problem["type"] != "missing" or step is not problem["loc"][-1]:
            continue
        path.append(step)
    return tuple(path)


def json_text(plain: Any) -> str:
    """Return the JSON of a plain value. A Decimal becomes text, which keeps its digits."""
    import json

    return json.dumps(plain, separators=(",", ":"), allow_nan=False, default=_decimal_text)


def _decimal_text(value: Any) -> str:
    if isinstance(value, Decimal):
        return Decimal.__str__(value)
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")


def _decimal(plain: Any) -> Decimal:
    try:
        return Decimal(repr(plain)) if isinstance(plain, float) else Decimal(plain)
    except ArithmeticError as error:
        raise ValueError(f"{shortened(plain)} is not a number") from error


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise ValueError("NaN and infinity cannot be stored")
    return value


def _unchanged(value: Any) -> Any:
    return value


#: How the values of a type are encoded and decoded, the types of plain values, and a description of these.
_LEAVES: dict[Any, tuple[Callable[[Any], Any], Callable[[Any], Any], tuple[type, ...], str]] = {
    datetime: (datetime.isoformat, parse_iso, (str,), "ISO 8601 text"),
    date: (date.isoformat, lambda plain: parse_iso(plain).date(), (str,), "ISO 8601 text"),
    time: (time.isoformat, time.fromisoformat, (str,), "ISO 8601 text"),
    uuid.UUID: (str, uuid.UUID, (str,), "the text of UUIDs"),
    # JSON has the digits of a Decimal as text.
    Decimal: (_finite, _decimal, (*NUMBERS, str), "numbers"),
    bytes: (_unchanged, _unchanged, (bytes,), "binary"),
}


def _enum(cls: type[enum.Enum]) -> Structure:
    def decode(plain: Any) -> Any:
        for member in cls:
            value = member.value
            is_equal = value == plain and isinstance(value, bool) is isinstance(plain, bool)
            if is_equal or (isinstance(value, Decimal) and _is_number(plain, value)):
                return member
        if isinstance(plain, bool):  # `cls(True)` is the member with the value 1
            raise Misfit(f"{shortened(plain)} is not a valid {cls.__name__}")
        return cls(plain)

    return _Leaf(cls, lambda member: member.value, decode)


def _is_number(plain: Any, number: Decimal) -> bool:
    """Return whether a plain value is a number in any form: Decimals are text in JSON."""
    try:
        return not isinstance(plain, bool) and _decimal(plain) == number
    except (ArithmeticError, TypeError, ValueError):
        return False


class _Compiler:
    """Finds the structures of types. `local` are names that the types may refer to."""

    def __init__(self, local: Mapping[str, Any]) -> None:
        self._local = dict(local)
        self._dataclasses: dict[type, _Dataclass] = {}

    def structure(self, hint: Any) -> Structure:
        """Return the structure of a type."""
        if hint is float:
            return _Float()
        if hint in (Any, object):
            return Structure()
        is_class = isinstance(hint, type) and not typing.get_args(hint)
        found = self._of_class(hint) if is_class else self._of_generic(hint)
        return found or self._adapted(hint)

    def _of_class(self, cls: type) -> Structure | None:
        if is_model(cls):
            raise TypeError(f"{cls.__name__} is a model: use MapAttribute, or a Reference for a model with a table")
        if cls in {list, dict}:
            return SequenceOf(list, Structure()) if cls is list else DictOf(Structure())
        if cls in _PLAIN:
            return Structure((cls,))
        if cls in _LEAVES:
            return _Leaf(cls, *_LEAVES[cls])
        if issubclass(cls, enum.Enum):
            return _enum(cls)
        if dataclasses.is_dataclass(cls) and not hasattr(cls, "__pydantic_fields__"):
            known = self._dataclasses.get(cls)
            if known is None:
                known = self._dataclasses[cls] = _Dataclass(cls)
                refuse_init_only(cls)
                known.compile(typing.get_type_hints(cls, localns={**self._local, cls.__name__: cls}), self)
            return known
        return None

    def _of_generic(self, hint: Any) -> Structure | None:
        origin, of = typing.get_origin(hint), typing.get_args(hint)
        if origin in {typing.Union, types.UnionType}:
            rest = tuple(one for one in of if one is not type(None))
            if len(rest) < len(of):
                return _Optional(self.structure(rest[0] if len(rest) == 1 else functools.reduce(operator.or_, rest)))
            if all(one in {str, int, float, bool} for one in rest):
                return Structure(rest)
        if origin is tuple and of and of[-1] is not Ellipsis:
            return SequenceOf(tuple, None, tuple(map(self.structure, of)))
        if origin in {list, set, frozenset, tuple}:
            return SequenceOf(origin, self.structure(of[0]))
        if origin is dict and of[0] is str:
            return DictOf(self.structure(of[1]))
        return None

    def _adapted(self, hint: Any) -> Structure:
        try:
            from pydantic import TypeAdapter
        except ImportError:
            remedy = needs(shortened(hint), "pydantic", "pydantic")
            raise TypeError(f"{remedy}, or use dataclasses, lists, dicts and plain values") from None
        try:
            adapter = TypeAdapter(hint)
            # Types that cannot be validated are found now.
            adapter.rebuild(_types_namespace=self._local)
        except Exception as error:  # pydantic's errors are of many classes
            raise TypeError(f"{shortened(hint)} cannot be stored: {cause(error)}") from error
        return _Adapted(adapter, hint)


def refuse_init_only(cls: type) -> None:
    """Raise `TypeError` for a dataclass that cannot be constructed of its fields."""
    for name, field in getattr(cls, "__dataclass_fields__", {}).items():
        if field._field_type is dataclasses._FIELD_INITVAR and _has_no_default(field):  # type: ignore[attr-defined]
            raise TypeError(f"{cls.__name__}.{name} is an InitVar, which is not stored: give it a default")


def adapted_structure(hint: Any) -> Structure:
    """Return the structure of a type whose values pydantic encodes."""
    return _Compiler({})._adapted(hint)


def structure_of(hint: Any) -> Structure:
    """Return the structure of a type. Raises `TypeError` with the reason for a type that cannot be stored."""
    local: dict[str, Any] = {}
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "mintkey":
        frame = frame.f_back
    module = None if frame is None else frame.f_globals
    # An annotation may name a class of the function that defines the model.
    while frame is not None and frame.f_globals is module and frame.f_locals is not frame.f_globals:
        local = {**frame.f_locals, **local}
        frame = frame.f_back
    try:
        return _Compiler(local).structure(hint)
    except TypeError:
        raise
    except Exception as error:  # a name in an annotation that does not exist, for example
        raise TypeError(f"{shortened(hint)}: {cause(error)}") from error
