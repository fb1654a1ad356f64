"""What all writes of an instance share: hooks, the checks before a write, sending it, and its traces in the state."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from mintkey import _core
from mintkey.attributes.base import is_whole
from mintkey.definitions.schema import MAX_VERSION, Schema
from mintkey.errors import (
    ConditionFailed,
    ConfigurationError,
    InvalidValue,
    MintkeyError,
    NotLoaded,
    UniqueViolation,
    UnreadableItem,
    shortened,
)
from mintkey.instance_state import State

if TYPE_CHECKING:
    from mintkey.hooks import HookKind
    from mintkey.stores import Operation


def pending_write_error(schema: Schema) -> ConfigurationError:
    """Return the error for a second write of an instance that has a pending write in a pipeline."""
    return ConfigurationError(
        f"{schema.model}: this instance has a pending write in a pipeline: execute() that pipeline first, or add the "
        "instance only once, after its last change",
        model=schema.model,
    )


def refuse_waiting(schema: Schema, state: State) -> None:
    """Refuse a write of an instance with a pending write, which would later overwrite it."""
    if state.pipeline is not None and state.pipeline() is not None:
        raise pending_write_error(schema)


def refuse_async_hooks(
    schema: Schema, *kinds: HookKind, instead: str = "the async version of the method, such as asave()"
) -> None:
    """Refuse a blocking operation of a model with an `async def` hook, which cannot run in it."""
    if schema.skip_hooks or not schema.hooks.any_asynchronous:
        return
    name = schema.hooks.asynchronous(*kinds)
    if name is not None:
        raise ConfigurationError(
            f"{schema.model}.{name} is an async hook, which a blocking call cannot run: "
            f"use {instead}, or pass skip_hooks=True",
            model=schema.model,
            attribute=name,
        )


def run_hooks(schema: Schema, instance: Any, kind: HookKind) -> Operation[None]:
    """Run the hooks of one kind, in order."""
    if schema.skip_hooks:
        return
    for name in schema.hooks.of[kind]:
        result = getattr(instance, name)()
        if inspect.isawaitable(result):
            yield result


def send_write(state: State, request: _core.Request, item: _core.Item | None) -> Operation[Any]:
    """Send a write of this item, and record a failure in the state."""
    try:
        return (yield request)
    except BaseException as error:
        record_failure(state, item, error)
        raise


def record_failure(state: State, item: _core.Item | None, error: BaseException) -> None:
    """Record an item that was sent if the outcome is unknown."""
    unknown = not isinstance(error, MintkeyError) or getattr(error, "outcome", None) == "unknown"
    if unknown and item is not None and item not in state.uncertain_writes:
        state.uncertain_writes = (*state.uncertain_writes, item)


def own_row(schema: Schema, state: State, error: ConditionFailed) -> _core.Item | None:
    """Return the conflicting row if this instance has written it, in a write with an unknown outcome.

    Of another row, the error makes an instance for the caller.
    """
    add_model_to_error(schema, error)
    stored = error._stored
    return next((item for item in state.uncertain_writes if item == stored), None)


def add_model_to_error(schema: Schema, error: ConditionFailed) -> None:
    """Let an error make instances of the model, and name unique values as the model does."""
    error._owner = schema.owner
    if schema.family is not None and error._stored is not None:
        # A row of another class is an instance of that class.
        error._owner = schema.family.any_class_of(error._stored) or schema.owner
    if not isinstance(error, UniqueViolation) or error._named:
        return
    names = {attribute.stored_name: name for name, attribute in schema.attributes.items()}
    named = []
    for stored, values, keys in error._violations:
        unique = tuple(names.get(name, name) for name in stored)
        read: dict[str, Any] = {}
        # What the model cannot read is kept as it is stored.
        with contextlib.suppress(UnreadableItem):
            read = schema.codec.decode_plain(dict(zip(stored, values, strict=True)))
        shown = tuple(read.get(name, value) for name, value in zip(unique, values, strict=True))
        named.append((unique, shown, keys))
    error._named = named
    if named:
        unique = named[0][0]
        error.attribute = unique[0] if len(unique) == 1 else unique


def version_guard(schema: Schema, stored: int | None) -> tuple[str, int | None] | None:
    """Return the version that a write expects in the store, or None for a model without a version."""
    return None if schema.version is None else (schema.stored_version(), stored)


def _is_loaded_by_base(schema: Schema, state: State) -> bool:
    """Return whether a base class, which lacks the attribute, has loaded the version by its stored name."""
    name = schema.stored_version()
    return state.fetched is not None and name in state.fetched and name not in schema.attributes


def loaded_version(schema: Schema, state: State) -> int | None:
    """Return the version of the loaded row, which a write expects in the store."""
    if schema.version is None or state.loaded is None:
        return None
    if state.fetched is not None and schema.version not in state.fetched and not _is_loaded_by_base(schema, state):
        raise NotLoaded(
            f"{schema.model}.{schema.version} was not loaded, because the index does not contain it, so a write cannot "
            "check the version: call refresh() first",
            model=schema.model,
            attribute=schema.version,
        )
    version: Any = state.loaded.get(schema.stored_version())
    if version is None or (is_whole(version) and 0 <= version < MAX_VERSION):
        return version  # type: ignore[no-any-return]
    key = schema.codec.key_of(state.loaded)
    raise InvalidValue(
        f"{schema.model}.{schema.version}: the stored version {shortened(version)} of "
        f"{schema.model} {key} is not a count of writes: "
        "set it to an integer with the program that wrote it",
        model=schema.model,
        attribute=schema.version,
        key=schema.codec.key_dict(key),
    )


def refuse_other_key(schema: Schema, loaded: _core.Item, item: _core.Item) -> None:
    """Raise `InvalidValue` if the key differs from the loaded one."""
    key = schema.codec.key_of(loaded)
    if key == schema.codec.key_of(item):
        return
    stored_names = {name: schema.attributes[name].stored_name for name in schema.given_keys}
    changed = [name for name, stored in stored_names.items() if loaded.get(stored) != item.get(stored)]
    where = f"{schema.model}.{changed[0]}" if changed else schema.model
    raise InvalidValue(
        f"{where}: the key of a stored item cannot change (it is {key}): "
        f"save a new {schema.model} with the new key, then delete() this one",
        model=schema.model,
        attribute=changed[0] if changed else None,
        key=schema.codec.key_dict(key),
    )


def replaced_on_update(schema: Schema, values: dict[str, Any], state: State) -> AbstractSet[str]:
    """Return the `on_update` attributes that were assigned another value than the loaded one, which is kept."""
    # A mapped class does not report assignments.
    touched = schema.on_update_names if schema.is_mapped else schema.on_update_names & state.touched.keys()
    if not touched:
        return touched
    return touched & {*schema.codec.changed(values, state.loaded), *state.cleared(values, schema.sets)}


def set_stored_values(
    schema: Schema, instance: Any, state: State, stored: _core.Item, keep: AbstractSet[str] = frozenset()
) -> None:
    """Set the stored values on the instance, except the attributes in `keep`."""
    values = instance.__dict__
    fresh = schema.decode(stored)
    for name in schema.attributes:
        if name in keep:
            continue
        if name in fresh:
            values[name] = fresh[name]
        else:
            values.pop(name, None)
    for name in state.touched.keys() - keep:
        state.touched.pop(name, None)
    state.settle(stored, 0)
    # All attributes are loaded now, so an attribute set to None is detected as a change.
    state.fetched = None
    state.parts &= keep


def mark_written(error: UnreadableItem, what: str) -> None:
    """Add to an error that its write was done. `what` is a sentence about the row."""
    error.written = True
    error._reword(f"{error}. {what}")


def refuse_parts(schema: Schema, state: State, names: AbstractSet[str]) -> None:
    """Raise `NotLoaded` if an attribute to write was loaded in part: the rest of the stored map would be lost."""
    for name in sorted(state.parts & names):
        raise NotLoaded(
            f"{schema.model}.{name} was loaded in part, so it cannot be written as a whole: change it in the store "
            f"with update({schema.model}.{name}[…].set(…)), replace it with update({name}=…), or call refresh() first",
            model=schema.model,
            attribute=name,
        )


def add_class_to_error(schema: Schema, error: ConditionFailed, loaded: _core.Item | None = None) -> None:
    """Add to an error that the row is of another class, if that is why a write was refused."""
    stored = error._stored
    if schema.family is None or stored is None:
        return
    name = schema.attributes[schema.family.attribute_name].stored_name
    with contextlib.suppress(UnreadableItem):
        is_other = loaded is not None and loaded.get(name) != stored.get(name)
        if is_other or schema.family.class_of(stored) is None:
            error._reword(f"{error}: the row is of another class than {schema.model}")
