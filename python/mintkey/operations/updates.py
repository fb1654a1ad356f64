"""Updates: changes that the store computes, and upserts that insert a missing row."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from mintkey import _core
from mintkey.definitions.schema import Schema
from mintkey.errors import (
    ConditionFailed,
    InvalidValue,
    ItemGone,
    KeyCollision,
    MintkeyError,
    UnreadableItem,
    check_flags,
)
from mintkey.instance_state import State, moment, state_of
from mintkey.operations.arguments import changes as checked_changes
from mintkey.operations.arguments import check_condition, with_key_in_errors
from mintkey.operations.merging import merge
from mintkey.operations.minting import MintContext, minted_now
from mintkey.operations.rebuilding import Rebuild, rebuild
from mintkey.operations.stored_parts import absent, joined, read_at_once
from mintkey.operations.writing import (
    add_class_to_error,
    add_model_to_error,
    loaded_version,
    mark_written,
    own_row,
    refuse_other_key,
    refuse_parts,
    refuse_waiting,
    run_hooks,
    send_write,
    set_stored_values,
    version_guard,
)

if TYPE_CHECKING:
    from mintkey.conditions import Action, Condition
    from mintkey.operations.arguments import Changes
    from mintkey.stores import Operation

#: The maximum number of attempts to change or insert a row that other writers insert and delete meanwhile.
MAX_TRIES = 16


class _Rows(NamedTuple):
    """The row after an update, None if it is not known; and before it, if that is wanted and there was a row."""

    new: _core.Item | None
    old: _core.Item | None = None


class _Update(NamedTuple):
    """The arguments of an update; see `update`."""

    condition: Condition | None
    upsert: bool
    skip_hooks: bool
    pipeline: object
    in_transaction: bool
    versioned: bool
    return_old: bool


def update(
    schema: Schema,
    instance: Any,
    changes: Changes,
    *,
    condition: Condition | None = None,
    upsert: bool = False,
    skip_hooks: bool = False,
    pipeline: object = None,
    in_transaction: bool = False,
    versioned: bool = True,
    return_old: bool = False,
) -> Operation[_core.Item | None]:
    """Change attributes in the store without reading first, and set the stored result on the instance.

    Returns the row as it was before if `return_old`. A transaction runs the `after_update` hooks itself. Without
    `versioned`, a version is incremented without a check.
    """
    check_flags(schema.model, upsert=upsert, skip_hooks=skip_hooks)
    how = _Update(condition, upsert, skip_hooks, pipeline, in_transaction, versioned, return_old)
    return with_key_in_errors(schema, instance.__dict__, _update(schema, instance, changes, how))


def _update(schema: Schema, instance: Any, changes: Changes, how: _Update) -> Operation[_core.Item | None]:
    check_condition(schema, how.condition)
    state = state_of(instance)
    refuse_waiting(schema, state)
    values = instance.__dict__
    codec = schema.codec
    if not how.skip_hooks and schema.hooks.of["before_update"]:
        before, sent = frozenset(codec.changed(values, state.loaded)), moment()
        yield from run_hooks(schema, instance, "before_update")
        changes = _with_assigned(schema, values, state, changes, before, sent)
    changes = _without_equal(schema, values, state, changes)
    key = codec.key_of(state.loaded) if state.loaded is not None else codec.key(schema.with_key(values))
    if state.loaded is not None and codec.key(schema.with_key(values)) != key:
        overrides = schema.with_key(values, state.loaded)
        refuse_other_key(schema, state.loaded, codec.encode(values, overrides, partial=True, loaded=state.loaded))
    unknown = {schema.version, *state.parts}
    known = {name: values[name] for name in schema.shown if name in values and name not in unknown}
    written = {**known, **changes.values} if how.upsert and state.loaded is None else changes.values
    _check_fields(schema, instance, written, how.pipeline)
    loaded, cleared = state.loaded, state.cleared(values, schema.sets)
    changed = frozenset(codec.changed(values, loaded))
    new_key = state.has_new_key(values)

    def writing(writer: Schema, guard: Condition | None) -> Operation[_Rows]:
        return _update_or_insert(
            writer,
            state,
            key,
            known if how.upsert and writer is schema else None,
            changes,
            versioned=how.versioned and writer is schema,
            condition=writer.on_same_class(how.condition, state),
            guard=guard,
            new_key=new_key,
            rebuilding=_rebuilding(writer, changes, known),
            return_old=how.return_old,
        )

    sent = moment()
    if loaded is None and not new_key:
        stored, old = yield from _written_as_owner(schema, key, changes.names, writing, upsert=how.upsert)
    else:
        stored, old = yield from writing(schema, None)
    if stored is None:
        stored = yield from _read_result(schema, values, state, key, changes)
    # Changes inside a list or a map during the request are not assignments.
    grown = frozenset(codec.changed(values, loaded)) - changed
    meanwhile = state.touched.keys() - state.touched_until(sent)
    try:
        set_stored_values(
            schema, instance, state, stored, keep=((changed | cleared) - changes.names) | meanwhile | grown
        )
    except UnreadableItem as error:
        mark_written(error, "The row was updated, and `item` of this error is its new state")
        raise
    if not how.skip_hooks and not how.in_transaction:
        yield from run_hooks(schema, instance, "after_update")
    return old


def _read_result(
    schema: Schema, values: dict[str, Any], state: State, key: _core.Key, changes: Changes
) -> Operation[_core.Item]:
    """Read the row that a transaction has updated, in a store that does not return it."""
    codec = schema.codec
    assumed = state.loaded
    if assumed is None:
        own_key = {name: values.get(name) for name in schema.given_keys}
        assumed = codec.encode(schema.with_key(own_key), partial=True)
    with contextlib.suppress(InvalidValue):
        assumed = codec.updated(assumed, changes.values, list(changes.actions))
    # The transaction is committed, so a failed read is not a failure of the update.
    with contextlib.suppress(MintkeyError):
        stored: _core.Item | None = yield from send_write(state, codec.get(key, consistent=True), assumed)
        if stored is not None:
            return stored
    return assumed


def _with_assigned(
    schema: Schema, values: dict[str, Any], state: State, changes: Changes, before: frozenset[str], sent: int
) -> Changes:
    """Add the changes that hooks have made on the instance since the moment `sent`; `before` had changed already."""
    changed = frozenset(schema.codec.changed(values, state.loaded))
    assigned = state.touched.keys() - state.touched_until(sent)
    if state.loaded is not None:
        assigned &= changed | state.cleared(values, schema.sets)
    # Changes inside a list or a map are not assignments.
    added = (assigned | (changed - before)) - changes.names
    if not added:
        return changes
    refuse_parts(schema, state, added)
    given = {**{name: values.get(name) for name in sorted(added)}, **changes.values}
    return checked_changes(schema, changes.actions, given)


def _without_equal(schema: Schema, values: dict[str, Any], state: State, changes: Changes) -> Changes:
    """Leave out the `on_update` attributes that are set to the loaded value, unless nothing else is changed."""
    named = schema.on_update_names & changes.values.keys()
    if not named or state.loaded is None:
        return changes
    equal = named.difference(schema.codec.changed({**values, **changes.values}, state.loaded))
    if equal == changes.names:
        return changes
    kept = {name: value for name, value in changes.values.items() if name not in equal}
    return dataclasses.replace(changes, values=kept, names=changes.names - equal)


def update_by_key(
    schema: Schema,
    key: _core.Key,
    known: dict[str, Any],
    changes: Changes,
    *,
    condition: Condition | None = None,
    upsert: bool = False,
    return_old: bool = False,
    is_checked: bool = False,
) -> Operation[_core.Item | None]:
    """Like `update`, without an instance: no hooks run, and a version is incremented without a check.

    An update that `is_checked` is that of a row of exactly this class. Its condition may name attributes of other
    classes in the table.
    """
    check_flags(schema.model, upsert=upsert)

    def writing(writer: Schema, guard: Condition | None) -> Operation[_Rows]:
        _check_fields(writer, None, changes.values)
        updating = _update_or_insert(
            writer,
            State(),
            key,
            known if upsert and writer is schema else None,
            changes,
            versioned=False,
            condition=writer.on_own_row(condition),
            guard=guard,
            rebuilding=_rebuilding(writer, changes, known),
            return_old=return_old,
        )
        return (yield from with_key_in_errors(writer, known, updating))

    def updating() -> Operation[_core.Item | None]:
        if is_checked:
            return (yield from writing(schema, None)).old
        check_condition(schema, condition)
        return (yield from _written_as_owner(schema, key, changes.names, writing, upsert=upsert)).old

    return with_key_in_errors(schema, known, updating())


def _written_as_owner(
    schema: Schema,
    key: _core.Key,
    names: frozenset[str],
    write: Callable[[Schema, Condition | None], Operation[_Rows]],
    *,
    upsert: bool,
) -> Operation[_Rows]:
    """Update a row as its class does. If that is another class when it is written, or an upsert misses it, repeat."""
    if not _writes_more_in_subclasses(schema, names):
        return (yield from write(schema, None))
    for tries_left in reversed(range(MAX_TRIES)):
        row = yield from read_at_once(schema, key)
        owner = _owner(schema, row, names)
        guard = _same_class(schema, row)
        try:
            return (yield from write(owner, guard))
        except ItemGone:
            if owner is schema or not upsert or not tries_left:
                raise
        except ConditionFailed as error:
            if not tries_left or error._stored is None or guard.matches(error._stored):
                raise
    raise AssertionError("the last attempt returns or raises")


def _writes_more_in_subclasses(schema: Schema, names: frozenset[str]) -> bool:
    """Return whether an update of these attributes writes more in a row of a subclass, which builds it from them."""

    def written(one: Schema) -> set[object]:
        sources = () if one.derived is None else map(one.derived.sources.get, one.derived.built_from(names))
        built = {(source.name, getattr(source, "text", None)) for source in sources if source is not None}
        return {one.version, *one.on_update_names, *built}

    if schema.family is None:
        return False
    own = written(schema)
    return any(not own.issuperset(written(other)) for other in schema.family.member_schemas())


def _same_class(schema: Schema, row: _core.Item | None) -> Condition:
    """Return the condition that a row has the class that was read, or that there is still no row."""
    if row is None:
        return absent(schema)
    family: Any = schema.family
    attribute: Any = schema.attributes[family.attribute_name]
    same: Condition = attribute._unchanged_since(row)
    return same


def _owner(schema: Schema, row: _core.Item | None, names: frozenset[str]) -> Schema:
    """Return the schema of the class of a row, or this one if there is no row or its class lacks an attribute."""
    owner = schema if row is None else _class_of(schema, row)
    return owner if names <= owner.attributes.keys() else schema


def _class_of(schema: Schema, row: _core.Item) -> Schema:
    """Return the schema of the class of a row; this one if it is not known."""
    found: type | None = None
    if schema.family is not None:
        with contextlib.suppress(UnreadableItem):
            found = schema.family.class_of(row)
    owner: Schema = schema if found is None else vars(found)["__mintkey_schema__"]
    return owner


def check_values(schema: Schema, changes: Changes) -> None:
    """Refuse values that no row can take, before any row is read."""
    _check_fields(schema, None, changes.values)
    schema.codec.updated(_core.Item.from_json("{}"), changes.values, [])


def _check_fields(schema: Schema, instance: Any, written: dict[str, Any], pipeline: object = None) -> None:
    """Check the values that an update may write."""
    for attribute in schema.checked:
        if attribute.name in written:
            value = written[attribute.name]
            if value is not None:
                attribute._operand(value)  # a wrong type is reported as such
            attribute.check_write(instance, value, changed=True, pipeline=pipeline)


def _update_or_insert(
    schema: Schema,
    state: State,
    key: _core.Key,
    known: dict[str, Any] | None,
    changes: Changes,
    *,
    versioned: bool,
    condition: Condition | None,
    new_key: bool = False,
    rebuilding: Rebuild | None = None,
    return_old: bool = False,
    guard: Condition | None = None,
) -> Operation[_Rows]:
    """Change a stored row. If it is missing and `known` has the values of a new row, insert that row.

    With a `new_key` no row is of this instance, and a row with the same key is another item. `rebuilding` builds the
    index keys whose parts are changed. The `guard` is a condition of the change only.
    """
    if new_key:
        if known is None:
            raise _item_gone(schema, key, "this instance was never saved, and its key is generated")
        return (yield from _insert(schema, state, known, changes, condition))
    guarded = joined(guard, condition)
    updating = _RowUpdate(schema, state, key, changes, versioned, guarded, rebuilding, return_old)
    tries_left = MAX_TRIES
    while tries_left:
        tries_left -= 1
        attempt = yield from updating.attempt()
        try:
            reply: _core.Item | None = yield from send_write(state, attempt.request, attempt.expected)
        except ItemGone as error:
            if known is None:
                updating.raise_gone(error)
        except ConditionFailed as error:
            own = own_row(schema, state, error)
            if own is None:
                updating.raise_unless_outdated(error)
                # No other writer has to end for the next attempt: its number is not limited.
                tries_left += 1
            elif (rows := updating.settled(attempt, own, error)) is not None:
                return rows
            continue
        else:
            return updating.rows(attempt, reply)
        try:
            return (yield from _insert(schema, state, known, changes, condition))
        except KeyCollision:
            # Another writer has inserted the row, so it can be changed now.
            updating.forget()
    raise ItemGone(
        f"{schema.model}: other writers inserted and deleted the row {MAX_TRIES} times during this update; retry it",
        model=schema.model,
        key=schema.codec.key_dict(key),
    )


class _Attempt(NamedTuple):
    """A request that changes a row, and what it does."""

    request: _core.Request
    values: dict[str, Any]
    actions: list[Action]
    expected: _core.Item | None
    is_checked: bool
    """Whether the version of the row is checked."""


class _RowUpdate:
    """The update of a stored row, in as many attempts as it takes."""

    def __init__(
        self,
        schema: Schema,
        state: State,
        key: _core.Key,
        changes: Changes,
        versioned: bool,
        condition: Condition | None,
        rebuilding: Rebuild | None,
        return_old: bool,
    ) -> None:
        self._schema = schema
        self._state = state
        self._key = key
        self._versioned = versioned
        self._condition = condition
        self._rebuilding = rebuilding
        self._return_old = return_old
        self._minted = minted_now((mint for mint in schema.on_update if mint.name not in changes.names), None)
        _check_fields(schema, None, self._minted)
        self._values = {**self._minted, **changes.values}
        self._actions = list(changes.actions)
        if schema.version is not None and not versioned:
            self._actions.append(schema.attributes[schema.version].add(1))
        self._merging = merge(schema, changes.values)
        # What is computed from the stored row is computed again if another writer has changed the row.
        self._readers = [reader for reader in (rebuilding, self._merging) if reader is not None]

    def attempt(self) -> Operation[_Attempt]:
        """Return the next attempt."""
        schema, state = self._schema, self._state
        version = None
        if schema.version is not None and self._versioned:
            current = loaded_version(schema, state)
            version = version_guard(schema, current)
            self._values[schema.version] = (current or 0) + 1
        values, actions, guarded = self._values, self._actions, self._condition
        if self._rebuilding is not None:
            values = {**values, **(yield from self._rebuilding.values(state, self._key, values, actions))}
            guarded = self._rebuilding.guarded(guarded)
        if self._merging is not None:
            actions = [*actions, *(yield from self._merging.actions(state, self._key, self._values))]
            values = {name: value for name, value in values.items() if name not in self._merging.names}
            guarded = self._merging.guarded(guarded)
        request = schema.codec.update(
            self._key, values, actions=actions, version=version, condition=guarded, return_old=self._return_old
        )
        return _Attempt(request, values, actions, _expected(schema, state, values, actions), version is not None)

    def rows(self, attempt: _Attempt, reply: _core.Item | None) -> _Rows:
        """Return the rows of an attempt that succeeded."""
        if self._return_old and reply is not None:
            return _Rows(self._schema.codec.updated(reply, attempt.values, attempt.actions), reply)
        # No other writer has changed the row if its version was checked.
        return _Rows(attempt.expected if reply is None and attempt.is_checked else reply)

    def settled(self, attempt: _Attempt, own: _core.Item, error: ConditionFailed) -> _Rows | None:
        """Note that an earlier write of this instance succeeded. If it was this update, return the rows."""
        state = self._state
        before, state.loaded, state.uncertain_writes = state.loaded, own, ()
        if attempt.expected is None or not _is_same_write(self._schema, own, attempt.expected, self._minted):
            return None
        if self._return_old and not attempt.is_checked:
            # The row before that write is not known.
            raise error
        return _Rows(own, before if self._return_old else None)

    def raise_unless_outdated(self, error: ConditionFailed) -> None:
        """Raise the error, unless it only says that another writer has changed the row since it was read."""
        if not any(reader.is_outdated(error) for reader in self._readers):
            add_class_to_error(self._schema, error, self._state.loaded)
            raise error

    def raise_gone(self, error: ItemGone) -> NoReturn:
        """Raise the error for a missing row."""
        if self._versioned and (self._state.loaded is not None or self._state.deleted):
            raise error
        why = "this instance was never saved" if self._versioned else "never saved, deleted or expired"
        raise _item_gone(self._schema, self._key, why, error.store) from error

    def forget(self) -> None:
        """Forget what was read of the row."""
        for reader in self._readers:
            reader.forget()


def _insert(
    schema: Schema, state: State, known: dict[str, Any], changes: Changes, condition: Condition | None
) -> Operation[_Rows]:
    """Insert a row with these values and changes."""
    item = _inserted(schema, known, changes)
    try:
        yield from send_write(state, schema.codec.put(item, row="absent", version=None, condition=condition), item)
    except ConditionFailed as error:
        add_model_to_error(schema, error)
        raise
    return _Rows(item)


def _rebuilding(schema: Schema, changes: Changes, known: dict[str, Any]) -> Rebuild | None:
    """Return the index keys that an update has to build again; None if there are none."""
    if schema.derived is None:
        return None
    names = changes.names.union(mint.name for mint in schema.on_update)
    return rebuild(schema, names, {name: known[name] for name in schema.given_keys if name in known})


def _item_gone(schema: Schema, key: _core.Key, why: str, store: str | None = None) -> ItemGone:
    return ItemGone(
        f'{schema.model} {key}: the item is not in table "{schema.table}" ({why}): pass upsert=True to insert it',
        model=schema.model,
        key=schema.codec.key_dict(key),
        store=store,
    )


def _expected(schema: Schema, state: State, sent: dict[str, Any], actions: list[Action]) -> _core.Item | None:
    """Return the expected result of an update, to recognize it after an unknown outcome; None if it is not known."""
    if state.loaded is None or state.fetched is not None:
        return None
    try:
        return schema.codec.updated(state.loaded, sent, actions)
    except InvalidValue:
        # The row may have changed in the store, so that the actions apply to it.
        return None


def _is_same_write(schema: Schema, own: _core.Item, expected: _core.Item, minted: dict[str, Any]) -> bool:
    """Return whether two items differ only in values that each attempt generates again."""
    patch = schema.codec.patch(own, expected, removed=[], ignored=list(minted), version=None)
    return patch is None


def _inserted(schema: Schema, known: dict[str, Any], changes: Changes) -> _core.Item:
    """Return the new row of an upsert: its key, known values, defaults, generated values, and the changes to them."""
    values = {name: value for name, value in known.items() if name not in changes.values}
    for name, attribute in schema.attributes.items():
        if name not in values and name not in changes.values and attribute.default is not None:
            values[name] = attribute.new_default()
    # Named attributes count as set, so no value is generated for them.
    named = {name: True for name in changes.names if name not in values}
    values.update(MintContext(schema, {**values, **named}, new=True).mint())
    _check_fields(schema, None, values)
    if schema.version is not None:
        values[schema.version] = 1
    item = schema.codec.encode(values, schema.overrides(values), partial=True)
    item = schema.codec.updated(item, changes.values, list(changes.actions))
    if schema.derived is not None:
        built = schema.derived.built_from(changes.names)
        item = schema.codec.updated(item, schema.derived.rebuilt(built, schema.decode_stored(item)), [])
    for name, attribute in schema.attributes.items():
        if attribute.required and item.get(attribute.stored_name) is None:
            raise InvalidValue(
                f"{schema.model}.{name}: required, but the new row of this upsert has no value: pass {name}=…",
                model=schema.model,
                attribute=name,
            )
    return item
