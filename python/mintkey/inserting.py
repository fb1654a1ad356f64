"""Insert what is missing: the operations of `get_or_create()` and `update_or_create()`.

Both read the row, and insert it if it is missing. The insert fails if another writer was faster; then they read again.
So of several concurrent calls with one key, one creates the row, and all others get it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mintkey import arguments, operations, updates
from mintkey.conditions import Condition
from mintkey.errors import ConditionFailed, ItemGone, KeyCollision, MintkeyError, shortened
from mintkey.writing import run_hooks

if TYPE_CHECKING:
    from mintkey import _core
    from mintkey.schema import Schema
    from mintkey.stores import Operation

__all__ = ["Lookup", "checked_defaults", "get_or_create", "looked_up", "update_or_create"]

#: The maximum number of attempts to read or insert a row that other writers insert, change and delete meanwhile.
_MAX_TRIES = 16


class Lookup(NamedTuple):
    """The checked lookup of a call.

    Attributes:
        key: the key of the row.
        values: the values of the lookup by name, which a new row gets.
        must: the conditions on the other attributes of the lookup.
    """

    key: _core.Key
    values: dict[str, Any]
    must: list[Condition]


def looked_up(schema: Schema, values: dict[str, Any], call: Callable[..., object]) -> Lookup:
    """Check the lookup of a `call`: it contains the whole key."""
    unknown = [name for name in values if name not in schema.attributes]
    if unknown:
        raise schema.unexpected(unknown, call)
    named = arguments.with_parts(schema, values)
    missing = [name for name in schema.given_keys if name not in named]
    if missing:
        generated = [name for name in missing if name in schema.minted_names]
        way_out = ": a save generates it, so no lookup can find it: use create()" if generated else ""
        raise TypeError(
            f"{schema.model}.{call.__name__}() needs the whole key in its lookup, "
            f"{', '.join(f'{name}=…' for name in schema.given_keys)}, and {missing[0]} is missing{way_out}"
        )
    key, further = arguments.key(schema, values, call)
    return Lookup(key, values, arguments.equalities(schema, further))


def checked_defaults(
    schema: Schema, name: str, defaults: Mapping[str, Any] | None, call: Callable[..., object]
) -> Mapping[str, Any]:
    """Check the values that a new row gets in addition to its lookup."""
    if defaults is None:
        return {}
    if not isinstance(defaults, Mapping):
        raise TypeError(f"{schema.model}: {name}= takes a dict of values by attribute name, not {shortened(defaults)}")
    unknown = [one for one in defaults if one not in schema.attributes]
    if unknown:
        raise schema.unexpected(map(str, unknown), call)
    keys = [one for one in defaults if one in schema.given_keys or one in schema.keys]
    if keys:
        raise TypeError(f"{schema.model}: {keys[0]!r} is a part of the key: pass it in the lookup, not in {name}=")
    return defaults


def get_or_create(
    schema: Schema, model: Callable[..., Any], lookup: Lookup, defaults: Mapping[str, Any]
) -> Operation[tuple[Any, bool]]:
    """Return the row of the lookup and False, or a new row and True."""
    collision = None
    for _ in range(_MAX_TRIES):
        found = yield from _found(schema, model, lookup)
        if found is not None:
            return found, False
        try:
            return (yield from _created(schema, model, lookup, defaults)), True
        except KeyCollision as error:
            if not _is_about(schema, lookup, error):
                raise
            collision = error
    raise _too_many(schema, lookup) from collision


def update_or_create(
    schema: Schema,
    model: Callable[..., Any],
    lookup: Lookup,
    defaults: Mapping[str, Any],
    create_defaults: Mapping[str, Any],
) -> Operation[tuple[Any, bool]]:
    """Set `defaults` on the row of the lookup and return it and False, or return a new row and True."""
    failure: MintkeyError | None = None
    for _ in range(_MAX_TRIES):
        found = yield from _found(schema, model, lookup)
        try:
            if found is None:
                return (yield from _created(schema, model, lookup, create_defaults)), True
            if defaults:
                own = found.__mintkey_schema__
                changes = arguments.changes(own, (), _evaluated(defaults))
                condition = Condition.every(lookup.must) if lookup.must else None
                # Other writers may change other attributes meanwhile, so a version is not checked.
                yield from updates.update(own, found, changes, condition=condition, versioned=False)
        except (ConditionFailed, ItemGone) as error:
            # Another writer was faster, which the next attempt will read.
            if not _is_about(schema, lookup, error):
                raise
            failure = error
        else:
            return found, False
    raise _too_many(schema, lookup) from failure


def _found(schema: Schema, model: Any, lookup: Lookup) -> Operation[Any]:
    """Return the instance of the row, or None. Raise `KeyCollision` if other attributes than the key differ."""
    stored = yield from operations.read(schema, lookup.key, consistent=True)
    if stored is None:
        return None
    different = next((test.attribute.name for test in lookup.must if not test.matches(stored)), None)
    if different is not None:
        error = KeyCollision(
            f'{schema.model} {lookup.key}: a row with this key exists in table "{schema.table}", and its {different} '
            "differs from the lookup: leave it out of the lookup (pass it in defaults=), or use another key",
            model=schema.model,
            attribute=different,
            key=schema.codec.key_dict(lookup.key),
        )
        error._stored, error._owner = stored, schema.owner
        raise error
    instance = model._loaded(stored)
    if instance is None:
        raise KeyCollision(
            f'{schema.model} {lookup.key}: the row with this key in table "{schema.table}" is of another class',
            model=schema.model,
            key=schema.codec.key_dict(lookup.key),
        )
    yield from run_hooks(instance.__mintkey_schema__, instance, "after_load")
    return instance


def _created(schema: Schema, model: Callable[..., Any], lookup: Lookup, defaults: Mapping[str, Any]) -> Operation[Any]:
    instance = model(**{**lookup.values, **_evaluated(defaults)})
    yield from operations.save(schema, instance, insert=True, constructed=True)
    return instance


def _evaluated(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of defaults, of which some may be functions."""
    return {name: value() if callable(value) else value for name, value in defaults.items()}


def _is_about(schema: Schema, lookup: Lookup, error: MintkeyError) -> bool:
    """Return whether an error is about the row of the lookup, and not about a row that a hook has written."""
    return error.model == schema.model and error.key == schema.codec.key_dict(lookup.key)


def _too_many(schema: Schema, lookup: Lookup) -> ConditionFailed:
    return ConditionFailed(
        f"{schema.model} {lookup.key}: other writers changed the row {_MAX_TRIES} times during this call; retry it",
        model=schema.model,
        key=schema.codec.key_dict(lookup.key),
    )
