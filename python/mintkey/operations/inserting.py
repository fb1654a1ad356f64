"""Insert what is missing: the operations of `get_or_create()` and `update_or_create()`.

Both read the row, by its key or by unique values, and insert it if it is missing. The insert fails if another writer
was faster; then they read again. So of several concurrent calls with one key or one unique value, one creates the row,
and all others get it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mintkey import _core
from mintkey.conditions import Condition
from mintkey.errors import (
    CONVERSION_ERRORS,
    ConditionFailed,
    ItemGone,
    KeyCollision,
    MintkeyError,
    UniqueViolation,
    shortened,
)
from mintkey.operations import arguments, saves, unique_reads, updates
from mintkey.operations.unique_reads import UniqueLookup
from mintkey.operations.writing import add_model_to_error, run_hooks

if TYPE_CHECKING:
    from mintkey.definitions.schema import Schema
    from mintkey.stores import Operation

#: The maximum number of attempts to read or insert a row that other writers insert, change and delete meanwhile.
_MAX_TRIES = 16


class Lookup(NamedTuple):
    """The checked lookup of a call.

    Attributes:
        by: the key of the row, or its unique values.
        values: the values of the lookup by name, which a new row gets.
        must: the conditions on the other attributes of the lookup, by name.
    """

    by: _core.Key | UniqueLookup
    values: dict[str, Any]
    must: dict[str, Condition]


class Attempt(NamedTuple):
    """An attempt to write the row of a lookup.

    Attributes:
        found: the instance of the row that is changed; None if there is no row.
        new: the instance that is inserted, or None.
        loaded: the stored item of `found`, as it was read.
    """

    found: Any
    new: Any
    loaded: _core.Item | None

    def is_written(self) -> bool:
        """Return whether the write was done."""
        instance = self.new if self.found is None else self.found
        return instance._state.loaded is not self.loaded


def looked_up(schema: Schema, values: dict[str, Any], call: Callable[..., object]) -> Lookup:
    """Check the lookup of a `call`: it contains the whole key, or the values of a unique set."""
    unknown = [name for name in values if name not in schema.attributes]
    if unknown:
        raise schema.unexpected(unknown, call)
    named = arguments.with_parts(schema, values)
    missing = [name for name in schema.given_keys if name not in named]
    if not missing:
        key, further = arguments.key(schema, values, call)
        return Lookup(key, values, _matching(schema, further))
    unique = unique_reads.unique_in(schema, named)
    if unique is not None:
        further = {name: value for name, value in named.items() if name not in unique.plan.attributes}
        return Lookup(unique, values, _matching(schema, further))
    absent = next((name for plan in schema.unique for name in plan.attributes if named.get(name, plan) is None), None)
    if absent is not None:
        raise TypeError(
            f"{schema.model}.{call.__name__}(): {absent} is None in the lookup, which means absent, and any number of "
            "items may lack the value: pass a value"
        )
    generated = [name for name in missing if name in schema.minted_names]
    way_out = ": a save generates it, so no lookup can find it: use create()" if generated else ""
    sets = unique_reads.unique_names(schema)
    raise TypeError(
        f"{schema.model}.{call.__name__}() needs the whole key in its lookup, "
        f"{', '.join(f'{name}=…' for name in schema.given_keys)}, "
        + (f"or unique values, {sets}, " if sets else "")
        + f"and {missing[0]} is missing{way_out}"
    )


def _matching(schema: Schema, further: Mapping[str, Any]) -> dict[str, Condition]:
    """Return the conditions that a row is read with these values, by name: a row that lacks one may have a default."""
    conditions = dict(zip(further, arguments.equalities(schema, further), strict=True))
    for default in schema.load_defaults:
        name, value = default.name, default.new_default() if default.name in further else None
        attribute = schema.attributes[name]
        with contextlib.suppress(*CONVERSION_ERRORS):
            if value is not None and attribute.encode(value) == attribute.encode(further[name]):
                conditions[name] |= attribute.does_not_exist()
    return conditions


def checked_defaults(
    schema: Schema,
    name: str,
    defaults: Mapping[str, Any] | None,
    call: Callable[..., object],
    *,
    key_in: str | None,
) -> Mapping[str, Any]:
    """Check the values that a row gets in addition to its lookup.

    `key_in` says where the key belongs; None if these values may contain it.
    """
    if defaults is None:
        return {}
    if not isinstance(defaults, Mapping):
        raise TypeError(f"{schema.model}: {name}= takes a dict of values by attribute name, not {shortened(defaults)}")
    unknown = [one for one in defaults if one not in schema.attributes]
    if unknown:
        raise schema.unexpected(map(str, unknown), call)
    keys = [one for one in defaults if one in schema.given_keys or one in schema.keys]
    if keys and key_in is not None:
        raise TypeError(f"{schema.model}: {keys[0]!r} is a part of the key: pass it {key_in}, not in {name}=")
    return defaults


def get_or_create(
    schema: Schema, model: Callable[..., Any], lookup: Lookup, defaults: Mapping[str, Any]
) -> Operation[tuple[Any, bool]]:
    """Return the row of the lookup and False, or a new row and True."""
    failure: MintkeyError | None = None
    for _ in range(_MAX_TRIES):
        found = yield from _found(schema, model, lookup)
        if found is not None:
            return found, False
        new = _new(model, lookup, defaults)
        try:
            yield from saves.save(schema, new, insert=True, constructed=True)
        except (KeyCollision, UniqueViolation) as error:
            if not (yield from _is_retried(schema, lookup, error, failure, Attempt(None, new, None))):
                raise
            failure = error
        else:
            return new, True
    raise _too_many(schema, lookup) from failure


def update_or_create(
    schema: Schema,
    model: Callable[..., Any],
    lookup: Lookup,
    defaults: Mapping[str, Any],
    create_defaults: Mapping[str, Any],
) -> Operation[tuple[Any, bool]]:
    """Set `defaults` on the row of the lookup and return it and False, or return a new row and True."""
    failure: MintkeyError | None = None
    must = [*lookup.must.values(), *_equalities(schema, lookup)]
    for _ in range(_MAX_TRIES):
        found = yield from _found(schema, model, lookup)
        new = _new(model, lookup, create_defaults) if found is None else None
        attempt = Attempt(found, new, None if found is None else found._state.loaded)
        try:
            if found is None:
                yield from saves.save(schema, new, insert=True, constructed=True)
            elif defaults:
                own = found.__mintkey_schema__
                changes = arguments.changes(own, (), _evaluated(defaults))
                condition = Condition.every(must) if must else None
                # Other writers may change other attributes meanwhile, so a version is not checked.
                yield from updates.update(own, found, changes, condition=condition, versioned=False)
        except (ConditionFailed, ItemGone) as error:
            # Another writer was faster, which the next attempt will read.
            if not (yield from _is_retried(schema, lookup, error, failure, attempt)):
                raise
            failure = error
        else:
            return (found, False) if new is None else (new, True)
    raise _too_many(schema, lookup) from failure


def _equalities(schema: Schema, lookup: Lookup) -> list[Condition]:
    """Return the conditions that a row has the unique values of the lookup: another writer may change them."""
    if not isinstance(lookup.by, UniqueLookup):
        return []
    return arguments.equalities(schema, {name: lookup.values[name] for name in lookup.by.plan.attributes})


def _found(schema: Schema, model: Any, lookup: Lookup) -> Operation[Any]:
    """Return the instance of the row, or None. Raise an error if other attributes differ from the lookup."""
    if isinstance(lookup.by, UniqueLookup):
        stored = yield from unique_reads.read(schema, lookup.by)
    else:
        stored = yield schema.codec.get(lookup.by, consistent=True)
    if stored is None:
        return None
    different = next((name for name, test in lookup.must.items() if not test.matches(stored)), None)
    if different is not None:
        raise _taken(
            schema,
            lookup,
            stored,
            f"exists, and its {different} differs from the lookup: leave it out of the lookup (pass it in defaults=), "
            f"or use another {'key' if isinstance(lookup.by, _core.Key) else 'value'}",
            different,
        )
    instance = model._loaded(stored)
    if instance is None:
        raise _taken(schema, lookup, stored, "is of another class", None)
    yield from run_hooks(instance.__mintkey_schema__, instance, "after_load")
    return instance


def _taken(
    schema: Schema, lookup: Lookup, stored: _core.Item, problem: str, different: str | None
) -> KeyCollision | UniqueViolation:
    """Return the error for a row with the key or the unique values of the lookup, which the call cannot return."""
    key = schema.codec.key_of(stored)
    named = schema.codec.key_dict(key)
    if isinstance(lookup.by, UniqueLookup):
        plan = lookup.by.plan
        violation = UniqueViolation(
            f'{lookup.by.text(schema)}: the item {key} in table "{schema.table}" has these unique values, but it '
            f"{problem}",
            model=schema.model,
            key=named,
        )
        violation._violations = [(plan.stored_names, lookup.by.encoded, [named])]
        violation._stored = stored
        add_model_to_error(schema, violation)
        return violation
    error = KeyCollision(
        f'{schema.model} {key}: a row with this key in table "{schema.table}" {problem}',
        model=schema.model,
        attribute=different,
        key=named,
    )
    error._stored, error._owner = stored, schema.owner
    return error


def _new(model: Any, lookup: Lookup, defaults: Mapping[str, Any]) -> Any:
    return model._constructed({**lookup.values, **_evaluated(defaults)})


def _evaluated(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of defaults, of which some may be functions."""
    return {name: value() if callable(value) else value for name, value in defaults.items()}


def _is_retried(
    schema: Schema, lookup: Lookup, error: MintkeyError, before: MintkeyError | None, attempt: Attempt
) -> Operation[bool]:
    """Return whether another writer was faster with the row of the lookup, so that the next attempt reads its row.

    `before` is the error of the last attempt.
    """
    if attempt.is_written():
        return False  # an `after_` hook raised it
    if _is_about(schema, lookup, error, attempt.found):
        return not _is_other_row(lookup, error, before)
    # The row of the other writer may also have another unique value of the new row, which was compared first.
    if attempt.new is None or not isinstance(error, UniqueViolation) or not isinstance(lookup.by, UniqueLookup):
        return False
    return (yield from unique_reads.read(schema, lookup.by)) is not None


def _is_about(schema: Schema, lookup: Lookup, error: MintkeyError, found: Any = None) -> bool:
    """Return whether an error says that another writer was faster with the row of the lookup, `found` or new.

    It is not if a hook has written another row, or if another value is not unique.
    """
    if error.model not in {schema.model, None if found is None else found.__mintkey_schema__.model}:
        return False
    if isinstance(error, UniqueViolation):
        if isinstance(lookup.by, UniqueLookup):
            return found is None and lookup.by.is_violated(error)
        return error.holder == schema.codec.key_dict(lookup.by)
    if not isinstance(lookup.by, UniqueLookup):
        return error.key == schema.codec.key_dict(lookup.by)
    return found is None or error.key == schema.codec.key_dict(schema.codec.key_of(found._state.loaded))


def _is_other_row(lookup: Lookup, error: MintkeyError, before: MintkeyError | None) -> bool:
    """Return whether a row with other unique values has the key of the new row: the second attempt found it again."""
    pair = isinstance(error, KeyCollision) and isinstance(before, KeyCollision)
    return pair and isinstance(lookup.by, UniqueLookup)


def _too_many(schema: Schema, lookup: Lookup) -> ConditionFailed:
    by = lookup.by
    text, key = (
        (by.text(schema), None) if isinstance(by, UniqueLookup) else (f"{schema.model} {by}", schema.codec.key_dict(by))
    )
    return ConditionFailed(
        f"{text}: other writers changed the row {_MAX_TRIES} times during this call; retry it",
        model=schema.model,
        key=key,
    )
