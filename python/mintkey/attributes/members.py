"""The parts of structured values: the fields of classes, and the elements of lists and dicts, for paths into them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection
from typing import Any, NamedTuple

from mintkey.errors import nearest, shortened

_WRAPPERS = ("Required", "NotRequired", "ReadOnly")
_UNIONS = (typing.Union, types.UnionType)


class Part(NamedTuple):
    """A part of a structured value.

    Attributes:
        name: its name in the store.
        hint: its type.
        required: whether values without it cannot be read.
        adapted: whether pydantic encodes it.
        guard: why no change of it can be verified on its own; None if it can.
    """

    name: str
    hint: Any
    required: bool
    adapted: bool
    guard: str | None = None


def part_of(hint: Any, label: str, step: object, *, adapted: bool) -> Part | None:
    """Return a part of the values of a type; None if any value can be there.

    Raises `TypeError` with the `label` of the path for a part that the type does not have.
    """
    hint = without_none(hint)
    of = typing.get_args(hint)
    kind = typing.get_origin(hint) or hint
    if isinstance(step, int) and element_of(hint) is not None:
        return Part("", element_of(hint), False, adapted)
    if kind is dict and of and isinstance(step, str):
        return Part(step, of[1], False, adapted)
    if kind in {list, dict, Any, object}:
        return None
    if kind in _UNIONS or not isinstance(kind, type):
        if not _has_parts(hint):
            raise TypeError(f"{label}: values of {shortened(hint)} have no parts in the store")
        return Part(step if isinstance(step, str) else "", Any, False, adapted, f"{shortened(hint)} is not one class")
    known = _fields(kind, of)
    if known is None:
        raise TypeError(f"{label}: values of {kind.__name__} have no parts in the store")
    if not isinstance(step, str) or step not in known:
        raise TypeError(f"{label}: {no_member(kind.__name__, step, known)}")
    return known[step]


def _has_parts(hint: Any) -> bool:
    """Return whether a value of the type can be a map or a list."""
    kind = typing.get_origin(_plain(hint)) or _plain(hint)
    if kind in _UNIONS:
        return any(map(_has_parts, typing.get_args(_plain(hint))))
    if not isinstance(kind, type):
        return kind is not typing.Literal
    is_many = issubclass(kind, Collection) and not issubclass(kind, (str, bytes))
    return is_many or kind is object or _fields(kind, ()) is not None or hasattr(kind, "__pydantic_fields__")


def element_of(hint: Any) -> Any:
    """Return the type of the elements of a list, or of a tuple of any length; None for other types."""
    hint = without_none(hint)
    of, kind = typing.get_args(hint), typing.get_origin(hint)
    if (kind is list and of) or (kind is tuple and of[1:] == (Ellipsis,)):
        return of[0]
    return None


def constraints_of(hint: Any) -> str | None:
    """Return why the values of a type have to be checked as a whole; None if they have not."""
    if is_annotated(hint):
        return "its type has constraints"
    kind = typing.get_origin(without_none(hint)) or without_none(hint)
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Collection) and not issubclass(kind, (str, bytes, list, dict)) and element_of(hint) is None:
        return f"a {kind.__name__} has other rules than a list"
    decorators = getattr(kind, "__pydantic_decorators__", None)
    whole = ("validators", "root_validators", "model_validators", "model_serializers")
    settings = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None)
    if any(getattr(decorators, name, None) for name in whole) or (
        isinstance(settings, dict) and any(name.startswith("str_") for name in settings)
    ):
        return f"{kind.__name__} has validators"
    if dataclasses.is_dataclass(kind) and hasattr(kind, "__post_init__"):
        return f"{kind.__name__} has a __post_init__()"
    return None


def is_annotated(hint: Any) -> bool:
    """Return whether a type, or one of a union, is `Annotated`."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    return any(typing.get_origin(one) is typing.Annotated for one in parts)


def allows_none(hint: Any) -> bool:
    """Return whether None is a value of the type."""
    hint = _plain(hint)
    return hint in (None, Any, object) or (typing.get_origin(hint) in _UNIONS and type(None) in typing.get_args(hint))


def _plain(hint: Any) -> Any:
    """Return the type without the constraints of `Annotated`."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def without_none(hint: Any) -> Any:
    """Return `T` of `T | None` and of `Annotated[T, …]`."""
    hint = _plain(hint)
    if typing.get_origin(hint) in _UNIONS:
        rest = [one for one in typing.get_args(hint) if one is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else hint
    return hint


def annotated(kind: Any, metadata: list[Any]) -> Any:
    """Return a type with metadata."""
    form: Any = typing.Annotated
    arguments = (kind, *metadata)
    return form[arguments]


def _fields(cls: type, of: tuple[Any, ...]) -> dict[str, Part] | None:
    """Return the fields of a class with these type arguments; None for a class without fields."""
    validated: dict[str, Any] | None = getattr(cls, "__pydantic_fields__", None)
    if validated is not None:
        if getattr(cls, "__pydantic_root_model__", False):
            return None
        return {
            name: Part(
                field.serialization_alias or name,
                annotated(field.annotation, field.metadata) if field.metadata else field.annotation,
                field.is_required(),
                True,
                _decorated(cls, name),
            )
            for name, field in validated.items()
        }
    variables = dict(zip(getattr(cls, "__parameters__", ()), of, strict=False))
    if dataclasses.is_dataclass(cls):
        hints, missing = _hints(cls), dataclasses.MISSING
        return {
            field.name: _resolved(
                Part(
                    field.name,
                    hint := hints.get(field.name, Any),
                    field.default is missing and field.default_factory is missing and without_none(hint) is hint,
                    bool(of),
                ),
                variables,
                known=field.name in hints,
            )
            for field in dataclasses.fields(cls)
        }
    required: Collection[str] | None = getattr(cls, "__required_keys__", None)
    if required is None:
        return None
    hints = _hints(cls)
    return {
        name: _resolved(Part(name, hints.get(name, Any), name in required, True), variables, known=name in hints)
        for name in cls.__annotations__ | hints
    }


def _decorated(cls: type, name: str) -> str | None:
    """Return why values of a field cannot be checked on their own; None if they can."""
    decorators = getattr(cls, "__pydantic_decorators__", None)
    for kind in ("field_validators", "field_serializers", "validators"):
        for one in (getattr(decorators, kind, None) or {}).values():
            if name in one.info.fields or "*" in one.info.fields:
                return f"{cls.__name__}.{name} has a validator or serializer"
    return None


def _resolved(part: Part, variables: dict[Any, Any], *, known: bool) -> Part:
    """Return a part with the type arguments in place of type variables."""
    hint = part.hint
    if isinstance(hint, typing.TypeVar):
        hint = variables.get(hint, hint)
    elif _is_open(hint):
        hint = hint[tuple(variables.get(one, one) for one in hint.__parameters__)]
    if not known or isinstance(hint, typing.TypeVar) or _is_open(hint):
        return part._replace(hint=Any, guard=f"the type of {part.name} is not known")
    return part._replace(hint=hint)


def _is_open(hint: Any) -> bool:
    """Return whether a type such as `list[T]` has type variables."""
    return not isinstance(hint, type) and getattr(hint, "__parameters__", None) not in {None, ()}


def _hints(cls: type) -> dict[str, Any]:
    """Return the types of the fields; none if they name a class of the function that defines the model."""
    try:
        hints = typing.get_type_hints(cls, include_extras=not dataclasses.is_dataclass(cls))
    except NameError:
        return {}
    return {name: _unwrapped(hint) for name, hint in hints.items()}


def _unwrapped(hint: Any) -> Any:
    """Return the type without the `Required` and `NotRequired` of a TypedDict."""
    while getattr(typing.get_origin(hint), "__name__", getattr(typing.get_origin(hint), "_name", "")) in _WRAPPERS:
        hint = typing.get_args(hint)[0]
    return hint


def no_member(owner: str, step: object, known: Collection[str]) -> str:
    """Return the reason why a class has no such part, with the most similar name."""
    return f"{owner} has no attribute {shortened(step)}{nearest(step, known)}. It has: {', '.join(known)}"
