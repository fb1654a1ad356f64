"""The save of an instance, written once for blocking and async calls. Here are its steps, and the rows of new items.

The steps: `before_save` hooks, generated values, compound keys, validation, the write, `after_save` hooks. Saves of
stored items write what `saved_changes` finds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mintkey import _core, generators
from mintkey.conditions import Condition
from mintkey.definitions.schema import COLLISION_FREE_BITS, Mint, Schema
from mintkey.errors import ConditionFailed, InvalidValue, KeyCollision, check_flags
from mintkey.instance_state import State, is_untouched, moment, set_slot, state_of
from mintkey.operations.arguments import add_key_to_error, check_condition, with_key_in_errors
from mintkey.operations.minting import MintContext, mint_others
from mintkey.operations.saved_changes import Save, accept_own_row, save_loaded
from mintkey.operations.writing import own_row, record_failure, refuse_waiting, run_hooks, send_write

if TYPE_CHECKING:
    from mintkey.stores import Operation

#: The maximum number of keys that are generated for an item before a collision of short keys is reported.
_MAX_KEYS = 16
#: The parameters that make the keys of a strategy longer.
_LONGER = {"nanoid": "a greater size=", "uuid4": "a greater length=", "cuid2": "a greater length="}


def save(
    schema: Schema,
    instance: Any,
    *,
    condition: Condition | None = None,
    replace: bool = False,
    skip_hooks: bool = False,
    insert: bool = False,
    constructed: bool = False,
    pipeline: object = None,
    in_transaction: bool = False,
) -> Operation[None]:
    """Write an instance: the whole item if it is new, otherwise the changes.

    With `insert` the row must not exist. With `constructed` the instance was constructed by this call, so the caller
    has not seen its generated keys. `pipeline` is the pipeline that will send the write. A write `in_transaction` does
    not generate a key again, and the transaction runs the `after_save` hooks.
    """
    if skip_hooks is not False or replace is not False:
        check_flags(schema.model, skip_hooks=skip_hooks, replace=replace)
    direct = schema.saves_unhooked_directly if skip_hooks else schema.saves_directly
    if direct and condition is None and pipeline is None and is_untouched(instance):
        return _save_directly(schema, instance, insert)
    how = Save(condition, replace, skip_hooks, insert, constructed, pipeline, in_transaction)
    return with_key_in_errors(schema, instance.__dict__, _save(schema, instance, how))


def _save(schema: Schema, instance: Any, how: Save) -> Operation[None]:
    check_condition(schema, how.condition)
    values = instance.__dict__
    state = state_of(instance)
    refuse_waiting(schema, state)
    new = state.loaded is None
    hooked = not (how.skip_hooks or schema.skip_hooks) and bool(schema.hooks.of["before_save"])
    context = None
    if hooked or (new and schema.minted):
        context = MintContext(schema, values, new=new)
        yield from _generate(schema, instance, state, context, hooked=hooked)
    if new:
        minted = {} if context is None else context.mint()
        # A hook, or the model's own constructor, may have built other values from a generated key. The caller of a
        # pipeline or a transaction can read the key before it is sent. In these cases a key is not generated again.
        together = how.in_transaction or how.pipeline is not None
        exposed = together or (context is not None and context.exposed)
        unseen = how.constructed and not hooked and type(instance).__init__ is type(instance).__mintkey_init__
        again = () if exposed else _small_keys(schema, {*minted, *(state.generated_keys if unseen else ())})
        yield from _save_new(schema, instance, state, _NewRow(how, minted, again))
    else:
        yield from save_loaded(schema, instance, state, how, None if context is None else context.at)
    if not how.skip_hooks and not how.in_transaction:
        yield from run_hooks(schema, instance, "after_save")


def generate_keys(schema: Schema, instance: Any) -> None:
    """Generate the missing key parts of a new instance before its save. They never overwrite a row."""
    values = instance.__dict__
    for mint in schema.minted_keys:
        if values.get(mint.name) is None:
            break
    else:
        return
    state = state_of(instance)
    if state.loaded is not None:
        return
    minted = dict(state.generated_keys)
    schema.new_save.mint(values, minted, True)
    mint_others(schema, schema.minted_keys, values, minted)
    state.generated_keys = minted


def _generate(schema: Schema, instance: Any, state: State, context: MintContext, *, hooked: bool) -> Operation[None]:
    """Run the `before_save` hooks, and generate the missing values of a new instance."""
    values = instance.__dict__
    absent_keys = [name for name in schema.given_keys if values.get(name) is None] if state.loaded is None else []
    token = generators.instant.set(context.instant)
    try:
        if hooked:
            state.mint_context = context
            if schema.is_mapped:
                context.expose()
            yield from run_hooks(schema, instance, "before_save")
        context.mint()
    finally:
        state.mint_context = None
        _reset(token)
        for name in absent_keys:
            # The caller did not supply this key part, so it must not overwrite a row, now or in a later attempt.
            if values.get(name) is not None:
                state.generated_keys = {**state.generated_keys, name: values[name]}


def _save_directly(schema: Schema, instance: Any, insert: bool) -> Operation[None]:
    """Save a new instance without hooks, condition or pipeline."""
    request, item, minted = schema.new_save.one(instance, insert)
    failure = None
    if request is not None:
        version = None if schema.version is None else _version_of(schema, item)
        # Only an instance with a state records the assignments that are made before the reply arrives.
        state = state_of(instance) if schema.on_update else None
        try:
            yield request
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure = error
        else:
            # Before any call, because a call may raise an interrupt.
            if state is None:
                set_slot(instance, "_stored", item)
            else:
                state.loaded = item
            if schema.version is not None:
                instance.__dict__[schema.version] = version
            if state is None and instance._kept is not None:
                mark_stored(schema, instance, item)
            return
    yield from failed_save(schema, instance, minted, item, failure, insert=insert)


def mark_stored(schema: Schema, instance: Any, item: _core.Item, sent: int = 0) -> None:
    """Mark a new instance as stored: as the item that was sent at this moment, or before the instance had a state."""
    version = None if schema.version is None else _version_of(schema, item)
    set_slot(instance, "_stored", item)
    if schema.version is not None:
        instance.__dict__[schema.version] = version
    state: State | None = instance._kept
    if state is not None:
        # It may have been created during the request.
        if state.loaded is None and not state.deleted:
            state.settle(item, sent)
        set_slot(instance, "_stored", None)


def _version_of(schema: Schema, item: _core.Item) -> Any:
    return None if schema.version is None else item.get(schema.stored_version())


def failed_save(
    schema: Schema,
    instance: Any,
    minted: Collection[str],
    prepared: _core.Item | BaseException,
    failure: BaseException | None,
    *,
    insert: bool = False,
) -> Operation[None]:
    """Handle the failure of a direct save: `prepared` is an exception, or sending it raised `failure`."""
    state = record_generated_keys(schema, instance, minted)
    if isinstance(prepared, InvalidValue):
        add_key_to_error(schema, instance.__dict__, prepared)
    if isinstance(prepared, BaseException):
        raise prepared
    error = cast("BaseException", failure)
    record_failure(state, prepared, error)
    if not isinstance(error, ConditionFailed):
        raise error
    row = _NewRow(Save(insert=insert), minted, _small_keys(schema, minted))
    yield from _save_new(schema, instance, state, row, (prepared, error))


def record_generated_keys(
    schema: Schema, instance: Any, minted: Collection[str], sent: _core.Item | None = None
) -> State:
    """Record which key parts of an instance were generated, and an item that was sent with an unknown outcome."""
    state, values = state_of(instance), instance.__dict__
    generated = {name: values[name] for name in schema.given_keys if name in minted}
    if generated:
        state.generated_keys = {**state.generated_keys, **generated}
    if sent is not None:
        state.uncertain_writes = (*state.uncertain_writes, sent)
    return state


def _reset(token: Any) -> None:
    # A ValueError means that the operation was abandoned in another context than it started in.
    with contextlib.suppress(ValueError):
        generators.instant.reset(token)


def _small_keys(schema: Schema, minted: Collection[str]) -> tuple[Mint, ...]:
    """Return the key parts that this call generated with so few random bits that collisions are likely."""
    return tuple(
        mint
        for mint in schema.minted_keys
        if mint.name in minted
        and mint.auto.strategy is not None
        and mint.auto.strategy.random_bits < COLLISION_FREE_BITS
    )


class _NewRow(NamedTuple):
    """What all attempts to write a new row have in common.

    Attributes:
        how: the arguments of the save.
        minted: the names of the values that were generated in this save.
        again: the keys that are generated again after a collision.
    """

    how: Save
    minted: Collection[str]
    again: tuple[Mint, ...]


def _save_new(
    schema: Schema,
    instance: Any,
    state: State,
    row: _NewRow,
    failed: tuple[_core.Item, ConditionFailed] | None = None,
) -> Operation[None]:
    """Write a new row, with other keys after collisions. `failed` is the first attempt, if it was made before."""
    for tries_left in reversed(range(_MAX_KEYS if row.again else 1)):
        if failed is None:
            failed = yield from _try_new(schema, instance, state, row)
        if failed is None:
            return
        (item, error), failed = failed, None
        own = own_row(schema, state, error)
        if own is not None:
            # The instance may have been changed since it was written.
            yield from accept_own_row(schema, instance, state, own)
            return
        if not isinstance(error, KeyCollision) or not row.again:
            raise error
        if not tries_left:
            raise _key_space_exhausted(schema, row.again, item, error) from error
        values = instance.__dict__
        fresh = {mint.name: schema.attributes[mint.name].retry_key(values[mint.name]) for mint in row.again}
        if None in fresh.values():
            raise error
        values.update(fresh)
        generated = {name: value for name, value in fresh.items() if name in state.generated_keys}
        state.generated_keys = {**state.generated_keys, **generated}


def _try_new(
    schema: Schema, instance: Any, state: State, row: _NewRow
) -> Operation[tuple[_core.Item, ConditionFailed] | None]:
    """Write a new row; return the item and the error if an existing row or the condition prevents it."""
    sent = moment()
    request, item, _ = schema.new_save.one(
        instance, row.how.insert, list(row.minted), state.generated_keys, row.how.condition, row.how.pipeline
    )
    if request is None:
        raise item
    values, version = instance.__dict__, _version_of(schema, item)
    try:
        yield from send_write(state, request, item)
    except ConditionFailed as error:
        return item, error
    # Before any call, because a call may raise an interrupt.
    state.loaded = item
    if schema.version is not None:
        values[schema.version] = version
    state.settle(item, sent)
    return None


def _key_space_exhausted(
    schema: Schema, again: tuple[Mint, ...], item: _core.Item, error: KeyCollision
) -> KeyCollision:
    """Return the error for several generated keys in a row that exist already."""
    spaces, remedies = [], []
    for mint in again:
        strategy = mint.auto.strategy
        if strategy is not None:
            spaces.append(f"{schema.model}.{mint.name} has about {1 << strategy.random_bits:,} possible keys")
            remedies.append(_LONGER.get(strategy.name, "another strategy, such as AutoGenerate.ULID"))
    return KeyCollision(
        f"{schema.model}: {_MAX_KEYS} generated keys in a row exist already in table "
        f'"{schema.table}", the last one is {schema.codec.key_of(item)}: '
        f"{' and '.join(spaces)}, too few for this table. "
        f"Generate longer keys, with {' and '.join(remedies)}",
        model=schema.model,
        attribute=again[0].name,
        key=error.key,
        store=error.store,
    )
