"""Comparing structured values: differences, entries that a class ignores, and what a change must keep of a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from mintkey.errors import CONVERSION_ERRORS, cause, shortened

_SHOWN_STEPS = 8


class Misfit(ValueError):
    """A value does not fit its type. `path` leads from the whole value to the part that does not fit."""

    def __init__(self, reason: str, path: tuple[Any, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"in {path_text(self.path)}: {self.reason}" if self.path else self.reason


def path_text(path: tuple[Any, ...]) -> str:
    """Return a path as text, such as `items[0].price`."""
    shown = path if len(path) <= _SHOWN_STEPS else (*path[: _SHOWN_STEPS // 2], "…", *path[-_SHOWN_STEPS // 2 :])
    text = ""
    for step in shown:
        if isinstance(step, str) and (step == "…" or step.isidentifier()):
            text += f".{step}" if text else step[:40]
        else:
            text += f"[{shortened(step)}]"
    return text


def at(step: Any, convert: Callable[[Any], Any], value: Any) -> Any:
    """Convert a part of a value; add its step to the path of an error."""
    try:
        return convert(value)
    except Misfit as error:
        error.path = (step, *error.path)
        raise
    except CONVERSION_ERRORS as error:
        raise Misfit(cause(error), (step,)) from error


def check_depth(value: Any, limit: int) -> None:
    """Raise `Misfit` for a value that nests deeper than `limit` levels, without recursion."""
    level = [value]
    for _ in range(limit + 1):
        parts = {id(part): part for one in level for _, part in _parts(one)}
        if not parts:
            return
        level = list(parts.values())
    raise Misfit(f"the value nests deeper than {limit} levels")


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the parts of a value with their steps: fields, entries or elements."""
    names = field_names(type(value))
    if names is not None:
        for name in names:
            if hasattr(value, name):
                yield name, getattr(value, name)
        yield from (getattr(value, "__pydantic_extra__", None) or {}).items()
    elif isinstance(value, dict):
        yield from dict.items(value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from enumerate(value)


def path_of(value: Any, wanted: bytes) -> tuple[Any, ...]:
    """Return the path to the first part of a value that is these bytes; empty if there is none."""
    for step, part in _parts(value):
        if isinstance(part, bytes) and part == wanted:
            return (step,)
        rest = path_of(part, wanted)
        if rest:
            return (step, *rest)
    return ()


def is_model(cls: object) -> bool:
    """Return whether a class is a model, and not a dataclass or a pydantic model that is mapped like one."""
    return not hasattr(cls, "__mintkey_mapped__") and hasattr(cls, "__mintkey_schema__")


def field_names(cls: type) -> tuple[str, ...] | None:
    """Return the names of the fields of a dataclass or a pydantic model; None for other classes."""
    if dataclasses.is_dataclass(cls) and not is_model(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    fields = cls.__dict__.get("__pydantic_fields__")
    return None if fields is None else tuple(fields)


def difference(written: Any, read: Any, *, dicts_fit: bool = False) -> Misfit | None:
    """Return the first difference between two values, types included, or None.

    An integer is equal to a float of the same number. With `dicts_fit` a dict is equal to any instance of a class.
    """
    kind = type(read)
    if type(written) is not kind:
        if kind is float and type(written) is int and written == read:
            return None
        if dicts_fit and isinstance(written, dict) and field_names(kind) is not None:
            return None
        return _differs(written, read)
    if field_names(kind) is None and not isinstance(read, (dict, list, tuple, set, frozenset)):
        return None if _equal(written, read) else _differs(written, read)
    if isinstance(read, (set, frozenset)):
        same = _members(written) == _members(read)
        return None if same else _differs(written, read)
    ours, theirs = dict(_parts(written)), dict(_parts(read))
    if _kinds(ours) != _kinds(theirs):
        return _differs(written, read)
    for step, part in ours.items():
        problem = difference(part, theirs[step], dicts_fit=dicts_fit)
        if problem is not None:
            problem.path = (step, *problem.path)
            return problem
    return None


def _kinds(parts: dict[Any, Any]) -> set[tuple[type, Any]]:
    return {(type(step), step) for step in parts}


def _members(values: Iterable[Any]) -> set[tuple[type, Any]]:
    return {(type(one), _comparable(one)) for one in values}


def _comparable(value: Any) -> Any:
    """Return what is compared of a value.

    A time that its zone has twice or not at all is unequal to all times of other zones in Python. Moments are compared.
    """
    offset = value.utcoffset() if isinstance(value, datetime) else None
    return value if offset is None else value.replace(tzinfo=None, fold=0) - datetime.min - offset  # noqa: DTZ901


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(_comparable(one) == _comparable(other))
    except Exception:  # noqa: BLE001 - the comparison of another class may raise anything
        return False


def _differs(written: Any, read: Any) -> Misfit:
    kinds = f" ({type(written).__name__})", f" ({type(read).__name__})"
    one, other = kinds if type(written) is not type(read) else ("", "")
    return Misfit(f"{shortened(written)}{one} would be read as {shortened(read)}{other}")


class IgnoredEntry(Misfit):
    """An entry of a dict that the class does not use. `certain` is False if one of its validators may use it."""

    certain = False


def ignored_entry(given: Any, fitted: Any) -> IgnoredEntry | None:
    """Return the first entry of the dicts in `given` that the instances in `fitted` do not have, or None."""
    if isinstance(given, dict) and field_names(type(fitted)) is not None:
        problem = _ignored_key(given, fitted)
        if problem is not None:
            return problem
    for step, part, item in _pairs(given, fitted):
        problem = ignored_entry(part, item)
        if problem is not None:
            problem.path = (step, *problem.path)
            return problem
    return None


def _ignored_key(given: dict[Any, Any], fitted: Any) -> IgnoredEntry | None:
    cls = type(fitted)
    known: set[Any] = set()
    for name, names, paths in _accepted(cls):
        known.update(names, paths)
        used = [one for one in names if one in given]
        for other in used[1:]:
            if exact(given[used[0]]) != exact(given[other]):
                problem = IgnoredEntry(f"{shortened(used[0])} gives {cls.__name__}.{name} another value", (other,))
                problem.certain = True
                return problem
    extra = getattr(fitted, "__pydantic_extra__", None) or {}
    for key in given:
        if key not in known and key not in extra:
            return IgnoredEntry(f"{cls.__name__} has no field of this name", (key,))
    return None


def _pairs(given: Any, fitted: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the parts of both values with their step."""
    if isinstance(given, dict):
        if isinstance(fitted, dict):
            yield from ((name, part, fitted[name]) for name, part in given.items() if name in fitted)
        elif field_names(type(fitted)) is not None:
            for name, names, _ in _accepted(type(fitted)):
                used = next((one for one in names if one in given), None)
                if used is not None:
                    yield used, given[used], getattr(fitted, name, None)
    elif isinstance(given, (list, tuple)) and isinstance(fitted, (list, tuple)):
        yield from ((index, *both) for index, both in enumerate(zip(given, fitted, strict=False)))


def _accepted(cls: type) -> Iterator[tuple[str, list[str], list[Any]]]:
    """Yield the fields of a class: the name, the keys that give its value, and the first steps of paths that do."""
    fields = getattr(cls, "__pydantic_fields__", None)
    if fields is None:
        yield from ((field.name, [field.name], []) for field in dataclasses.fields(cls))
        return
    config = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None) or {}
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    for name, field in fields.items():
        alias = field.validation_alias or field.alias
        if alias is None:
            yield name, [name], []
            continue
        choices = getattr(alias, "choices", [alias]) if config.get("validate_by_alias", True) else []
        names = [one for one in choices if isinstance(one, str)]
        paths = [one.path[0] for one in choices if not isinstance(one, str)]
        yield name, names + [name] * bool(by_name and name not in names), paths


def exact(plain: Any) -> Any:
    """Return a hashable form of a plain value that is equal only if the types are equal too, unlike `1 == True`."""
    if isinstance(plain, dict):
        return dict, frozenset((name, exact(item)) for name, item in plain.items())
    if isinstance(plain, list):
        return list, tuple(map(exact, plain))
    if isinstance(plain, (set, frozenset)):
        return set, frozenset(map(exact, plain))
    return type(plain), plain


def with_unknown(stored: Any, known: Any, new: Any, read: Any = None, written: Any = None) -> Any:
    """Return the plain value `new` with the entries of `stored` that its class does not know.

    `known` is what the class knows of `stored`: the value that was `read`, encoded again. `written` is the value of
    `new`. Nothing is kept in an instance of another class.
    """
    if exact(new) == exact(known):
        return stored
    if type(read) is not type(written):
        return new
    if isinstance(stored, dict) and isinstance(known, dict) and isinstance(new, dict):
        merged = {}
        for name, value in new.items():
            both = name in stored and name in known
            parts = _part(read, name), _part(written, name)
            merged[name] = with_unknown(stored[name], known[name], value, *parts) if both else value
        for name, value in stored.items():
            if name not in known and name not in merged:
                merged[name] = value
        return merged
    if isinstance(stored, list) and isinstance(known, list) and isinstance(new, list) and len(stored) == len(known):
        sources = _sources(known, new)
        return [
            value
            if index is None
            else with_unknown(stored[index], known[index], value, _part(read, index), _part(written, position))
            for position, (value, index) in enumerate(zip(new, sources, strict=True))
        ]
    return new


def _part(value: Any, step: Any) -> Any:
    """Return the part of a value that is encoded at a step; None if it cannot be found."""
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, (list, tuple)) and isinstance(step, int):
        return value[step]
    fields = getattr(type(value), "__pydantic_fields__", {})
    by_alias = (name for name, field in fields.items() if step in {field.serialization_alias, field.alias})
    name = next(by_alias, step)
    return getattr(value, name, None) if name in (field_names(type(value)) or ()) else None


def _sources(known: list[Any], new: list[Any]) -> list[int | None]:
    """Return for each new element the index of the known one that it was; None for all that are not certain."""
    ours, theirs = list(map(exact, known)), list(map(exact, new))
    short = min(len(ours), len(theirs))
    first, last = _equal_start(ours, theirs), _equal_start(ours[::-1], theirs[::-1])
    if len(ours) == len(theirs) and first + last >= short - 1:
        # At most one element was changed.
        return list(range(len(ours)))
    if first + last >= short:
        # Elements were inserted or removed at one index, which equal elements can make uncertain.
        start, end = short - last, short - first
        middle = [None] * (len(theirs) - start - end)
        return [*range(start), *middle, *range(len(ours) - end, len(ours))]
    indexes = {one: index for index, one in enumerate(ours)}
    if len(indexes) == len(ours) and len(set(theirs)) == len(theirs):
        moved = [indexes.get(one) for one in theirs]
        if moved.count(None) in {0, len(theirs) - len(ours)}:
            # All elements were there before, or none was changed.
            return moved
    return [None] * len(theirs)


def _equal_start(one: list[Any], other: list[Any]) -> int:
    """Return how many elements are equal, from the start."""
    count = 0
    for ours, theirs in zip(one, other, strict=False):
        if ours != theirs:
            break
        count += 1
    return count
