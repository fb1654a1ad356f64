"""Operations: what `save()` and its like do, each written once.

An operation is a generator that yields requests and is driven by a store, blocking or awaited. It sees the schema and
the instance's values, never the model class. The order of a save: `before_save` hooks, minting of what is still
absent, keys built from parts, validation, the write, `after_save` hooks.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from mintkey import _core, arguments, generators
from mintkey.arguments import about, check_condition, name_key
from mintkey.conditions import Condition
from mintkey.errors import (
    ConditionFailed,
    ConfigurationError,
    InvalidValue,
    ItemGone,
    KeyCollision,
    MintkeyError,
    NotLoaded,
    shortened,
)
from mintkey.minting import Saving, minted_now
from mintkey.schema import WIDE, Mint, Schema, State

if TYPE_CHECKING:
    from mintkey.arguments import Key
    from mintkey.hooks import HookKind
    from mintkey.stores import Operation

#: A key from a small space is minted again this often before a collision is reported.
_MOST_MINTS = 16
#: The parameters that give a strategy's keys more room.
_LONGER = {"nanoid": "a greater size=", "uuid4": "a greater length=", "cuid2": "a greater length="}
#: A version beyond this has not been counted.
_MOST_WRITES = 1 << 62


def state_of(instance: Any) -> State:
    """What the instance knows of itself, which begins here if it knew nothing."""
    state: State | None = instance._state
    if state is None:
        state = instance.__dict__["_state"] = State()
    return state


def is_untouched(values: dict[str, Any]) -> bool:
    """Whether the instance with these values is new and nothing is known of it."""
    return "_state" not in values and "_stored" not in values


def waits_already(schema: Schema) -> ConfigurationError:
    """What is raised for a second write of an instance that waits in a pipeline."""
    return ConfigurationError(
        f"{schema.model}: this instance waits in a pipeline already, and what it will be is not known before that is "
        "sent: execute() the pipeline first, or put the instance in once, after its last change",
        model=schema.model,
    )


def refuse_waiting(schema: Schema, state: State) -> None:
    """Called at the start of a write: one that waits would undo it."""
    if state.waiting is not None and state.waiting() is not None:
        raise waits_already(schema)


def refuse_async_hooks(schema: Schema, *kinds: HookKind) -> None:
    """Called at the start of a blocking operation: an `async def` hook cannot run in it."""
    if not schema.hooks.any_asynchronous or schema.skip_hooks:
        return
    name = schema.hooks.asynchronous(*kinds)
    if name is not None:
        raise ConfigurationError(
            f"{schema.model}.{name} is an async hook, which a blocking call cannot run. "
            "Await the twin that begins with `a`, such as asave(), or pass skip_hooks=True",
            model=schema.model,
            attribute=name,
        )


def run_hooks(schema: Schema, instance: Any, kind: HookKind) -> Operation[None]:
    """Run the hooks of one kind, in order."""
    if schema.skip_hooks:
        return
    for name in schema.hooks.of(kind):
        result = getattr(instance, name)()
        if inspect.isawaitable(result):
            yield result


def send_write(
    state: State,
    request: _core.Request,
    item: _core.Item | None,
    since: set[str],
    failure: BaseException | None = None,
) -> Operation[Any]:
    """Send a write, and remember what was sent while nobody knows whether it arrived.

    `since` takes in the names that are assigned before the answer comes. With `failure` the write has been sent before,
    and that is what came of it.
    """
    state.noting = (*state.noting, since)
    try:
        if failure is not None:
            raise failure  # noqa: TRY301 - told here as if it had come just now
        return (yield request)
    except BaseException as error:
        unknown = not isinstance(error, MintkeyError) or getattr(error, "outcome", None) == "unknown"
        if unknown and item is not None and item not in state.sent:
            state.sent = (*state.sent, item)
        raise
    finally:
        state.noting = tuple(names for names in state.noting if names is not since)


def own_row(state: State, error: MintkeyError) -> _core.Item | None:
    """The row that a write met, if it is what this instance sent before without learning the outcome."""
    stored = getattr(error, "_stored", None)
    return next((item for item in state.sent if item == stored), None)


def version_guard(schema: Schema, stored: int | None) -> tuple[str, int | None] | None:
    """The version that a write expects in the store, if the model has one."""
    return None if schema.version is None else (schema.stored_version(), stored)


def loaded_version(schema: Schema, state: State) -> int | None:
    """The version of the row as it was loaded, which a write expects to find again."""
    if schema.version is None or state.loaded is None:
        return None
    if state.fetched is not None and schema.version not in state.fetched:
        raise NotLoaded(
            f"{schema.model}.{schema.version} was not loaded: the index does not hold it, so a write could not tell "
            "whether somebody else wrote first. refresh() the item before",
            model=schema.model,
            attribute=schema.version,
        )
    version = state.loaded.get(schema.stored_version())
    if version is None or (isinstance(version, int) and 0 <= version < _MOST_WRITES):
        return version
    key = schema.codec.key_of(state.loaded)
    raise InvalidValue(
        f"{schema.model}.{schema.version}: the stored version {shortened(version)} of "
        f"{schema.model} {key} is no count of writes; "
        "set it to a whole number with the program that wrote it",
        model=schema.model,
        attribute=schema.version,
        key=schema.codec.key_dict(key),
    )


def compiled_guard(condition: Condition | None) -> tuple[Any, ...] | None:
    """The condition of a write, if there is one, as the engine takes it."""
    return None if condition is None else condition.compile()


# Save.


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
) -> Operation[None]:
    """Write an instance: whole when it is new, else what changed.

    `insert` refuses to overwrite; `constructed` says that the instance was made by this very call, so that nobody has
    seen the keys it was constructed with. `pipeline` is what the write waits in.
    """
    if condition is None and pipeline is None and is_untouched(instance.__dict__):
        plain = schema.unhooked_save if skip_hooks else schema.plain_save
        if plain is not None:
            return _save_plain(schema, plain, instance, insert)
    saving = _save(
        schema,
        instance,
        condition=condition,
        replace=replace,
        skip_hooks=skip_hooks,
        insert=insert,
        constructed=constructed,
        pipeline=pipeline,
    )
    return about(schema, instance.__dict__, saving)


def _save(
    schema: Schema,
    instance: Any,
    *,
    condition: Condition | None,
    replace: bool,
    skip_hooks: bool,
    insert: bool,
    constructed: bool,
    pipeline: object,
) -> Operation[None]:
    check_condition(schema, condition)
    values = instance.__dict__
    state = state_of(instance)
    refuse_waiting(schema, state)
    new = state.loaded is None
    hooked = not (skip_hooks or schema.skip_hooks) and bool(schema.hooks.of("before_save"))
    absent_keys = [name for name in schema.given_keys if values.get(name) is None] if new else []
    minted: dict[str, Any] = {}
    exposed = False
    at = None
    if hooked or (new and schema.minted):
        saving = Saving(schema, values, new=new)
        token = generators.instant.set(saving.instant)
        try:
            if hooked:
                state.saving = saving
                yield from run_hooks(schema, instance, "before_save")
            minted = saving.mint()
        finally:
            state.saving = None
            _reset(token)
            for name in absent_keys:
                # Whoever filled it, the caller did not choose it, so it must not overwrite: now or in a later try.
                if values.get(name) is not None:
                    state.made = {**state.made, name: values[name]}
        exposed, at = saving.exposed, saving.at
    if new:
        # A hook, or a constructor of the model's own, may have built other values from a key that it saw. Whoever put
        # the instance into a pipeline sees it before it is sent.
        exposed = exposed or pipeline is not None
        unseen = constructed and not hooked and type(instance).__init__ is type(instance).__mintkey_init__
        again = [] if exposed else _small_keys(schema, {*minted, *(state.made if unseen else ())})
        since = yield from _save_new(schema, instance, state, condition, insert, again, minted, pipeline=pipeline)
    else:
        since = yield from _save_loaded(schema, instance, state, condition, replace=replace, at=at, pipeline=pipeline)
    state.settle(state.loaded, since)
    if not skip_hooks:
        yield from run_hooks(schema, instance, "after_save")


def _save_plain(schema: Schema, plain: _core.PlainSave, instance: Any, insert: bool) -> Operation[None]:
    """Save a new instance of which nothing but the values has a say, in one step."""
    values = instance.__dict__
    request, item, minted = plain.one(values, insert)
    failure: BaseException | None = None
    if request is not None:
        since: set[str] = set()
        try:
            if schema.on_update:
                # Something has to note what is assigned before the answer comes.
                yield from send_write(state_of(instance), request, None, since)
            else:
                yield request
        except BaseException as error:  # noqa: BLE001 - raised again by what comes next
            failure = error
        else:
            if schema.on_update:
                state_of(instance).settle(item, since)  # type: ignore[arg-type]  # an item, as there is a request
            else:
                values["_stored"] = item
                if "_state" in values:
                    settle_late(values, item)  # type: ignore[arg-type]
            return
    yield from failed_plain_save(schema, instance, minted, item, failure, insert=insert)


def failed_plain_save(
    schema: Schema,
    instance: Any,
    minted: Collection[str],
    prepared: _core.Item | BaseException,
    failure: BaseException | None,
    *,
    insert: bool = False,
) -> Operation[None]:
    """Go on with a plain save that went wrong: when it was `prepared`, or when it was sent."""
    state = note_minted(schema, instance, minted)
    if isinstance(prepared, InvalidValue):
        name_key(schema, instance.__dict__, prepared)
    if isinstance(prepared, BaseException):
        raise prepared
    since = yield from _save_new(schema, instance, state, None, insert, _small_keys(schema, minted), minted, failure)
    state.settle(state.loaded, since)


def note_minted(schema: Schema, instance: Any, minted: Collection[str], sent: _core.Item | None = None) -> State:
    """Remember which key parts of an instance were minted, and what was sent with an outcome that nobody knows."""
    state, values = state_of(instance), instance.__dict__
    state.made = {name: values[name] for name in schema.given_keys if name in minted}
    if sent is not None:
        state.sent = (*state.sent, sent)
    return state


def settle_late(values: dict[str, Any], item: _core.Item) -> None:
    """Take in that a new instance with these values is stored, of which somebody wanted to know more meanwhile."""
    values.pop("_stored", None)
    state: State = values["_state"]
    if state.loaded is None and not state.deleted:
        state.loaded = item


def _reset(token: Any) -> None:
    # A ValueError: the operation was given up in another context than it began in, and that context ends with it.
    with contextlib.suppress(ValueError):
        generators.instant.reset(token)


def _key_was_made(schema: Schema, state: State, values: dict[str, Any]) -> bool:
    return any(name in state.made and state.made[name] == values.get(name) for name in schema.given_keys)


def _small_keys(schema: Schema, minted: Collection[str]) -> list[Mint]:
    """The key parts that this call minted from so small a space that a collision is to be expected."""
    return [
        mint
        for mint in schema.minted
        if mint.name in schema.given_keys
        and mint.name in minted
        and mint.auto.strategy is not None
        and mint.auto.strategy.random_bits < WIDE
    ]


def _save_new(
    schema: Schema,
    instance: Any,
    state: State,
    condition: Condition | None,
    insert: bool,
    again: list[Mint],
    minted: Collection[str],
    failure: BaseException | None = None,
    pipeline: object = None,
) -> Operation[set[str]]:
    """Put a new instance whole; gives the names that were assigned between sending and the answer.

    `failure` is what the first try came to, if that has been sent before.
    """
    values = instance.__dict__
    insert = insert or schema.insert_only or _key_was_made(schema, state, values)
    wide = not schema.insert_only and any(
        mint.name in minted and mint.auto.strategy is not None and mint.auto.strategy.random_bits >= WIDE
        for mint in schema.minted
        if mint.name in schema.given_keys
    )
    tries = _MOST_MINTS if again else 1
    while True:
        overrides = _key_overrides(schema, values)
        version = None
        if schema.version is not None:
            overrides[schema.version] = version = _counted(schema, values.get(schema.version)) + 1
        item = schema.codec.encode(values, overrides)
        _check_fields(schema, instance, None, pipeline)
        request = schema.codec.put(
            item,
            row="absent" if insert else "any",
            version=version_guard(schema, None),
            condition=compiled_guard(condition),
            wide=wide,
        )
        met, failure = failure, None
        since: set[str] = set()
        try:
            yield from send_write(state, request, item, since, met)
        except KeyCollision as error:
            tries -= 1
            own = own_row(state, error)
            if own is not None:
                return (yield from _take_own(schema, instance, state, own))
            if not tries:
                if again:
                    raise _no_room(schema, again, item, error) from error
                raise
            fresh = {mint.name: schema.attributes[mint.name].another(values[mint.name]) for mint in again}
            if None in fresh.values():
                raise
            for mint in again:
                values[mint.name] = fresh[mint.name]
                if mint.name in state.made:
                    state.made = {**state.made, mint.name: values[mint.name]}
        except ConditionFailed as error:
            own = own_row(state, error)
            if own is None:
                raise
            return (yield from _take_own(schema, instance, state, own))
        else:
            state.loaded = item
            if schema.version is not None:
                values[schema.version] = version
            return since


def _no_room(schema: Schema, again: list[Mint], item: _core.Item, error: KeyCollision) -> KeyCollision:
    """What is raised when one minted key after the other is taken."""
    spaces, ways_out = [], []
    for mint in again:
        strategy = mint.auto.strategy
        if strategy is not None:
            spaces.append(f"{schema.model}.{mint.name} has room for about {1 << strategy.random_bits:,} keys")
            ways_out.append(_LONGER.get(strategy.name, "another strategy, such as AutoGenerate.ULID"))
    return KeyCollision(
        f"{schema.model}: {_MOST_MINTS} keys that were minted one after the other are all taken in table "
        f'"{schema.table}", the last {schema.codec.key_of(item)}: '
        f"{' and '.join(spaces)}, too few for the items there are. "
        f"Mint longer keys, with {' and '.join(ways_out)}",
        model=schema.model,
        attribute=again[0].name,
        key=error.key,
        store=error.store,
    )


def _counted(schema: Schema, version: Any) -> int:
    """The writes that the version of a new instance has counted before."""
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        return 0
    if version >= _MOST_WRITES:
        raise InvalidValue(
            f"{schema.model}.{schema.version}: {shortened(version)} is no count of writes; leave the version out",
            model=schema.model,
            attribute=schema.version,
        )
    return version


def _take_own(schema: Schema, instance: Any, state: State, own: _core.Item) -> Operation[set[str]]:
    """Go on from a row that turned out to be what this instance sent: write what has changed since."""
    state.loaded, state.sent = own, ()
    stored = schema.codec.decode(state.loaded)
    for name in (*schema.on_update_names, *((schema.version,) if schema.version else ())):
        if name not in state.assigned and name in stored:
            instance.__dict__[name] = stored[name]
    return (yield from _save_loaded(schema, instance, state, None, replace=False, at=None))


def _key_overrides(schema: Schema, values: dict[str, Any]) -> dict[str, Any]:
    if not schema.parts:
        return {}
    compound = schema.with_key(values)
    return {name: value for name, value in compound.items() if name not in values or values[name] is not value}


def _check_fields(schema: Schema, instance: Any, loaded: _core.Item | None, pipeline: object) -> None:
    """Let fields check their new or changed values, and hear of the write."""
    if not schema.checked:
        return
    values = instance.__dict__
    changed = schema.attributes.keys() if loaded is None else frozenset(schema.codec.changed(values, loaded))
    for attribute in schema.checked:
        is_changed = attribute.name in changed
        attribute.check_write(instance, values.get(attribute.name), changed=is_changed, pipeline=pipeline)


def _save_loaded(
    schema: Schema,
    instance: Any,
    state: State,
    condition: Condition | None,
    *,
    replace: bool,
    at: int | None,
    pipeline: object = None,
) -> Operation[set[str]]:
    """Write what changed of a stored instance; gives the names that were assigned between sending and the answer."""
    loaded = state.loaded
    since: set[str] = set()
    if loaded is None:
        return since
    values = instance.__dict__
    codec = schema.codec
    changing: dict[str, Any] = {}
    current = loaded_version(schema, state)
    if schema.version is not None:
        if values.get(schema.version) != current:
            raise InvalidValue(
                f"{schema.model}.{schema.version}: a version counts by itself, so it stays {current!r} until the save",
                model=schema.model,
                attribute=schema.version,
            )
        changing[schema.version] = (current or 0) + 1
    changing.update(minted_now((mint for mint in schema.on_update if mint.name not in state.assigned), at))
    if state.fetched is not None:
        _check_partial(schema, state, replace)
    item = codec.encode(values, {**_key_overrides(schema, values), **changing}, partial=state.fetched is not None)
    if replace:
        refuse_other_key(schema, loaded, item)
        merged, written = item, True
        request = codec.put(
            item, row="any", version=version_guard(schema, current), condition=compiled_guard(condition)
        )
    else:
        patch = codec.patch(
            loaded,
            item,
            removed=list(state.cleared),
            ignored=list(changing),
            version=version_guard(schema, current),
            condition=compiled_guard(condition),
        )
        if patch is None:
            return since
        request, merged, written = patch
    if written:
        _check_fields(schema, instance, loaded, pipeline)
    try:
        yield from send_write(state, request, merged, since)
    except ConditionFailed as error:
        own = own_row(state, error)
        if own is None:
            raise
        return (yield from _take_own(schema, instance, state, own))
    state.loaded = merged
    if written:
        # A version counts by itself, whatever it was set to.
        values.update({name: value for name, value in changing.items() if name not in since or name == schema.version})
    return since


def refuse_other_key(schema: Schema, loaded: _core.Item, item: _core.Item) -> None:
    """Raise `InvalidValue` if the key is not the one that was loaded."""
    if schema.codec.key_of(loaded) != schema.codec.key_of(item):
        raise InvalidValue(
            f"{schema.model}: the key of a stored item cannot change: "
            f"save a new {schema.model} with the new key, then delete() this one",
            model=schema.model,
            key=schema.codec.key_dict(schema.codec.key_of(loaded)),
        )


def _check_partial(schema: Schema, state: State, replace: bool) -> None:
    if replace:
        raise NotLoaded(
            f"{schema.model}: an instance that was loaded with attributes= cannot replace the stored item, "
            "whose other attributes it does not know; refresh() it first",
            model=schema.model,
        )
    for name in state.cleared:
        if schema.attributes[name].required:
            raise InvalidValue(
                f"{schema.model}.{name}: required, but it has no value", model=schema.model, attribute=name
            )


# Delete, reading one.


def take(schema: Schema, instance: Any, state: State, stored: _core.Item, keep: AbstractSet[str] = frozenset()) -> None:
    """Make the instance what the store says, but for the attributes to keep."""
    values = instance.__dict__
    fresh = schema.codec.decode(stored)
    for name in schema.attributes:
        if name in keep:
            continue
        if name in fresh:
            values[name] = fresh[name]
        else:
            values.pop(name, None)
    state.settle(stored, keep)
    # All is known now, so that what was set to None shows as a change without being named.
    state.fetched, state.cleared = None, frozenset()


def delete(
    schema: Schema, instance: Any, *, condition: Condition | None = None, skip_hooks: bool = False
) -> Operation[None]:
    """Remove the instance's row; the instance is new again."""
    check_condition(schema, condition)
    state = state_of(instance)
    refuse_waiting(schema, state)
    hooked = not skip_hooks
    if hooked:
        yield from run_hooks(schema, instance, "before_delete")
    codec = schema.codec
    key = codec.key_of(state.loaded) if state.loaded is not None else codec.key(schema.with_key(instance.__dict__))
    version = version_guard(schema, loaded_version(schema, state))
    yield codec.delete(key, version=version, condition=compiled_guard(condition))
    state.settle(None)
    state.fetched = None
    state.deleted = True
    if hooked:
        yield from run_hooks(schema, instance, "after_delete")


def delete_by_key(schema: Schema, given: Key) -> Operation[None]:
    """Remove the row of a key, whatever its version; hooks do not run."""
    key, _ = arguments.key(schema, arguments.named_key(schema, given))
    yield schema.codec.delete(key, version=None)


def refresh(schema: Schema, instance: Any, *, consistent: bool = True) -> Operation[None]:
    """Read the row again and take it."""
    if type(consistent) is not bool:
        raise arguments.not_a_flag(schema, "consistent", consistent)
    state = state_of(instance)
    codec = schema.codec
    key = codec.key_of(state.loaded) if state.loaded is not None else codec.key(schema.with_key(instance.__dict__))
    stored = yield codec.get(key, consistent=consistent)
    if stored is None:
        raise ItemGone(
            f'{schema.model} {key} is not in table "{schema.table}" any more (deleted or expired), '
            "so there is nothing to refresh from",
            model=schema.model,
            key=codec.key_dict(key),
        )
    take(schema, instance, state, stored)
    yield from run_hooks(schema, instance, "after_load")


def get(
    schema: Schema,
    key: _core.Key,
    make: Callable[[_core.Item], Any],
    must: tuple[tuple[Any, ...], ...] = (),
    *,
    consistent: bool = False,
) -> Operation[Any]:
    """Read one item by key: an instance, or None; also None when one of the conditions `must` does not hold."""
    if type(consistent) is not bool:
        raise arguments.not_a_flag(schema, "consistent", consistent)
    stored = yield schema.codec.get(key, consistent=consistent)
    if stored is None or (must and not all(schema.codec.matches(stored, condition) for condition in must)):
        return None
    instance = make(stored)
    if schema.hooks.of("after_load"):
        yield from run_hooks(schema, instance, "after_load")
    return instance


# Tables.


def create_table(schema: Schema) -> Operation[None]:
    """Make the table, or add what it lacks."""
    yield schema.codec.create_table()


def table_exists(schema: Schema) -> Operation[bool]:
    """Ask whether the table is there."""
    exists: bool = yield schema.codec.table_exists()
    return exists


def delete_table(schema: Schema) -> Operation[None]:
    """Drop the table with everything in it."""
    yield schema.codec.delete_table()
