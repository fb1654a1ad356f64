"""The parts of structured values: the fields of classes, and the elements of lists and dicts, for paths into them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection
from typing import Any, NamedTuple

from mintkey.errors import shortened

__all__ = ["Part", "no_member", "part_of", "without_none"]


class Part(NamedTuple):
    """A part of a structured value.

    Attributes:
        name: its name in the store.
        hint: its type.
        required: whether values without it cannot be read.
        adapted: whether pydantic encodes it.
    """

    name: str
    hint: Any
    required: bool
    adapted: bool


def part_of(hint: Any, label: str, step: object, *, adapted: bool) -> Part | None:
    """Return a part of the values of a type; None if any value can be there.

    Raises `TypeError` with the `label` of the path for a part that the type does not have.
    """
    hint = without_none(hint)
    of = typing.get_args(hint)
    kind = typing.get_origin(hint) or hint
    if kind is list and of and isinstance(step, int):
        return Part("", of[0], False, adapted)
    if kind is dict and of and isinstance(step, str):
        return Part(step, of[1], False, adapted)
    if kind in {list, dict, Any, object} or not isinstance(kind, type):
        return None
    known = _fields(kind)
    if known is None:
        raise TypeError(f"{label}: values of {kind.__name__} have no parts in the store")
    if not isinstance(step, str) or step not in known:
        raise TypeError(f"{label}: {no_member(kind.__name__, step, known)}")
    return known[step]


def without_none(hint: Any) -> Any:
    """Return `T` of `T | None`: None means absent."""
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        rest = [one for one in typing.get_args(hint) if one is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def _fields(cls: type) -> dict[str, Part] | None:
    """Return the fields of a class; None for a class without fields."""
    validated: dict[str, Any] | None = getattr(cls, "__pydantic_fields__", None)
    if validated is not None:
        return {
            name: Part(field.serialization_alias or name, field.annotation, field.is_required(), True)
            for name, field in validated.items()
        }
    if dataclasses.is_dataclass(cls):
        hints, missing = _hints(cls), dataclasses.MISSING
        return {
            field.name: Part(
                field.name,
                hint := hints.get(field.name, Any),
                field.default is missing and field.default_factory is missing and without_none(hint) is hint,
                False,
            )
            for field in dataclasses.fields(cls)
        }
    required: Collection[str] | None = getattr(cls, "__required_keys__", None)
    if required is None:
        return None
    return {name: Part(name, hint, name in required, True) for name, hint in _hints(cls).items()}


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:  # a class of the function that defines the model
        return dict.fromkeys(cls.__annotations__, Any)


def no_member(owner: str, step: object, known: Collection[str]) -> str:
    """Return the reason why a class has no such part, with the most similar name."""
    import difflib

    near = difflib.get_close_matches(step, known, n=1) if isinstance(step, str) else []
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{owner} has no attribute {shortened(step)}{hint}. It has: {', '.join(known)}"
