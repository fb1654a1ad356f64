"""Operations on one item, apart from saves: delete, check, refresh and get, for blocking and async calls.

An operation is a generator that yields requests; a store runs it. It uses the schema and the values of the instance,
never the model class.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from mintkey import _core
from mintkey.conditions import Condition
from mintkey.definitions.schema import Schema
from mintkey.errors import ConditionFailed, ItemGone, check_flags
from mintkey.instance_state import fetched, moment, state_of
from mintkey.operations import arguments
from mintkey.operations.arguments import check_condition
from mintkey.operations.writing import (
    add_class_to_error,
    add_model_to_error,
    loaded_version,
    own_row,
    refuse_waiting,
    run_hooks,
    set_stored_values,
    version_guard,
)

if TYPE_CHECKING:
    from mintkey.instance_state import Selected
    from mintkey.operations.arguments import Key
    from mintkey.stores import Operation


def delete(
    schema: Schema,
    instance: Any,
    *,
    condition: Condition | None = None,
    skip_hooks: bool = False,
    in_transaction: bool = False,
    return_old: bool = False,
) -> Operation[_core.Item | None]:
    """Delete the row of an instance, and return it if `return_old`. The instance counts as new afterwards.

    `in_transaction`: see `save`.
    """
    check_condition(schema, condition)
    state = state_of(instance)
    refuse_waiting(schema, state)
    hooked = not skip_hooks
    if hooked:
        yield from run_hooks(schema, instance, "before_delete")
    codec = schema.codec
    key = codec.key_of(state.loaded) if state.loaded is not None else codec.key(schema.with_key(instance.__dict__))
    if state.has_new_key(instance.__dict__):
        # A row with the same key is another item.
        absent = schema.attributes[schema.given_keys[0]].does_not_exist()
        condition = absent if condition is None else absent & condition
    else:
        condition = schema.on_same_class(condition, state)
    while True:
        version = version_guard(schema, loaded_version(schema, state))
        try:
            old: _core.Item | None = yield codec.delete(
                key, version=version, condition=condition, return_old=return_old
            )
        except ConditionFailed as error:
            own = own_row(schema, state, error)
            if own is None:
                add_class_to_error(schema, error, state.loaded)
                raise
            state.loaded, state.uncertain_writes = own, ()
        else:
            break
    state.settle(None, moment())
    for name in state.parts:
        # The next save inserts the instance: a part must not become the whole.
        instance.__dict__.pop(name, None)
    state.fetched, state.parts = None, frozenset()
    state.deleted = True
    if hooked and not in_transaction:
        yield from run_hooks(schema, instance, "after_delete")
    return old


def delete_by_key(
    schema: Schema, given: Key, condition: Condition | None = None, *, return_old: bool = False
) -> Operation[_core.Item | None]:
    """Delete the row of a key without checking its version. No hooks run."""
    key, _ = arguments.key(schema, arguments.named_key(schema, given))
    check_condition(schema, condition)
    return (yield from delete_row(schema, key, condition, return_old=return_old))


def delete_row(
    schema: Schema, key: _core.Key, condition: Condition | None = None, *, return_old: bool = False
) -> Operation[_core.Item | None]:
    """Delete a row, and return it if `return_old`. A condition is checked, a version is not."""
    own = schema.on_own_row(condition)
    return _sent(schema, schema.codec.delete(key, version=None, condition=own, return_old=return_old))


def check_row(schema: Schema, key: _core.Key, condition: Condition) -> Operation[None]:
    """Check a condition on a row, in a transaction. A row of another class is refused."""
    own = schema.on_own_row(condition)
    return _sent(schema, schema.codec.check(key, condition if own is None else own))


def _sent(schema: Schema, request: _core.Request) -> Operation[Any]:
    """Send a request by key. If its condition is false, the error makes an instance of the stored row."""
    try:
        return (yield request)
    except ConditionFailed as error:
        add_model_to_error(schema, error)
        add_class_to_error(schema, error)
        raise


def refresh(schema: Schema, instance: Any, *, consistent: bool = True) -> Operation[None]:
    """Read the row again and set its values on the instance."""
    check_flags(schema.model, consistent=consistent)
    state = state_of(instance)
    codec = schema.codec
    key = codec.key_of(state.loaded) if state.loaded is not None else codec.key(schema.with_key(instance.__dict__))
    stored = yield codec.get(key, consistent=consistent)
    if stored is None:
        raise ItemGone(
            f'{schema.model} {key}: the item is not in table "{schema.table}" any more (deleted or expired), '
            "so it cannot be refreshed",
            model=schema.model,
            key=codec.key_dict(key),
        )
    if schema.family is not None and schema.family.class_of(stored) is None:
        raise ItemGone(
            f'{schema.model} {key}: the row in table "{schema.table}" is now of another class than {schema.model}, so '
            "it cannot be refreshed: read it with that class",
            model=schema.model,
            key=codec.key_dict(key),
        )
    set_stored_values(schema, instance, state, stored)
    yield from run_hooks(schema, instance, "after_load")


def get(
    schema: Schema,
    key: _core.Key,
    make: Callable[..., Any],
    must: Sequence[Condition] = (),
    consistent: bool | None = None,
    attributes: Collection[Selected] | None = None,
) -> Operation[Any]:
    """Read one item by key; return an instance, or None if it is missing or a condition in `must` is false."""
    consistent = arguments.consistency(schema, consistent)
    names = None if attributes is None else list(attributes)
    stored = yield schema.codec.get(key, consistent=consistent, attributes=names)
    if stored is None or (must and not all(condition.matches(stored) for condition in must)):
        return None
    instance = make(stored) if attributes is None else make(stored, fetched(attributes))
    if schema.family is not None and instance is not None:
        schema = instance.__mintkey_schema__
    if schema.hooks.of["after_load"] and instance is not None:
        yield from run_hooks(schema, instance, "after_load")
    return instance
