"""Saves of stored items: what has changed since the item was loaded, and the request that writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mintkey import _core
from mintkey.conditions import Condition
from mintkey.definitions.schema import Schema
from mintkey.errors import ConditionFailed, InvalidValue, NotLoaded
from mintkey.instance_state import State, moment
from mintkey.operations.minting import minted_now
from mintkey.operations.rebuilding import OtherParts
from mintkey.operations.writing import (
    add_class_to_error,
    loaded_version,
    own_row,
    refuse_other_key,
    refuse_parts,
    replaced_on_update,
    send_write,
    version_guard,
)

if TYPE_CHECKING:
    from mintkey.stores import Operation


class Save(NamedTuple):
    """The arguments of a save; see `saves.save`."""

    condition: Condition | None = None
    replace: bool = False
    skip_hooks: bool = False
    insert: bool = False
    constructed: bool = False
    pipeline: object = None
    in_transaction: bool = False


def accept_own_row(schema: Schema, instance: Any, state: State, own: _core.Item) -> Operation[None]:
    """Accept a row that this instance has written before, and write what has changed since."""
    kept = replaced_on_update(schema, instance.__dict__, state)
    state.loaded, state.uncertain_writes = own, ()
    stored = schema.decode(own)
    for name in stored.keys() & {*(schema.on_update_names - kept), schema.version, *state.parts}:
        instance.__dict__[name] = stored[name]
    state.parts = frozenset()
    yield from save_loaded(schema, instance, state, Save(), None)


def save_loaded(schema: Schema, instance: Any, state: State, how: Save, at: int | None) -> Operation[None]:
    """Write the changes of a stored item; `at` is the instant of this save, if a hook has read it."""
    loaded = state.loaded
    if loaded is None:  # a hook has deleted it
        return
    sent = moment()
    values = instance.__dict__
    codec = schema.codec
    current = loaded_version(schema, state)
    changing = _changing(schema, values, state, current, at)
    if state.fetched is not None or state.parts:
        _check_partial(schema, instance, state, how.replace)
    rebuilds = not how.replace and schema.derived is not None and schema.derived.index_sources
    others = OtherParts(schema, values, state, changing) if rebuilds else None
    while True:
        if others is not None:
            loaded = yield from others.require(loaded)
        changes = _changes(schema, values, state, loaded, how, changing, others)
        if changes is None:
            state.settle(loaded, sent)
            return
        request, merged, written = changes
        if written and schema.checked:
            schema.check_fields(instance, frozenset(codec.changed(values, loaded)), how.pipeline, changing)
        try:
            yield from send_write(state, request, merged)
            break
        except ConditionFailed as error:
            own = own_row(schema, state, error)
            if own is not None:
                yield from accept_own_row(schema, instance, state, own)
                return
            if others is None or not others.is_outdated(error):
                add_class_to_error(schema, error, loaded)
                raise
            loaded = others.take(loaded)
    # Before any call, because a call may raise an interrupt.
    state.loaded = merged
    if written and schema.version is not None:
        # The version is always counted, also if it was assigned meanwhile.
        values[schema.version] = changing[schema.version]
    state.settle(merged, sent)
    if written:
        values.update((name, value) for name, value in changing.items() if name not in state.touched)


def _changes(
    schema: Schema,
    values: dict[str, Any],
    state: State,
    loaded: _core.Item,
    how: Save,
    changing: dict[str, Any],
    others: OtherParts | None,
) -> tuple[_core.Request, _core.Item, bool] | None:
    """Return the request that writes the changes of a stored item, and its result; None if nothing is changed."""
    codec = schema.codec
    derived = schema.overrides(values, loaded, state, changing)
    item = codec.encode(values, {**derived, **changing}, partial=state.fetched is not None, loaded=loaded)
    version = version_guard(schema, loaded_version(schema, state))
    if how.replace or schema.plain_key is None:
        refuse_other_key(schema, loaded, item)
    condition = schema.on_same_class(how.condition, state)
    if how.replace:
        return codec.put(item, row="any", version=version, condition=condition), item, True
    if others is not None:
        condition = others.guarded(condition)
    return codec.patch(
        loaded,
        item,
        removed=schema.removed(values, state, derived, changing),
        ignored=list(schema.unwritten(values, loaded, state, changing)),
        version=version,
        condition=how.condition,
        guard=None if condition is how.condition else condition,
    )


def _changing(
    schema: Schema, values: dict[str, Any], state: State, current: int | None, at: int | None
) -> dict[str, Any]:
    """Return what each save of a stored item sets: the next version, and the values of `on_update=`."""
    changing: dict[str, Any] = {}
    if schema.version is not None:
        if values.get(schema.version) != current:
            raise InvalidValue(
                f"{schema.model}.{schema.version}: the version is counted automatically, so leave it at {current!r}",
                model=schema.model,
                attribute=schema.version,
            )
        changing[schema.version] = (current or 0) + 1
    if schema.on_update:
        kept = replaced_on_update(schema, values, state)
        changing.update(minted_now((mint for mint in schema.on_update if mint.name not in kept), at))
    return changing


def _check_partial(schema: Schema, instance: Any, state: State, replace: bool) -> None:
    if replace:
        raise NotLoaded(
            f"{schema.model}: replace=True needs all attributes, and this instance was loaded with attributes=: "
            "call refresh() first",
            model=schema.model,
        )
    if state.parts:
        refuse_parts(schema, state, {*schema.codec.changed(instance.__dict__, state.loaded)})
    for name in state.cleared(instance.__dict__, schema.sets):
        if schema.attributes[name].required:
            raise InvalidValue(
                f"{schema.model}.{name}: required, but it has no value", model=schema.model, attribute=name
            )
