"""Rebuilding: the values of index keys that a write has to build again, because it changes some of their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mintkey import _core
from mintkey.operations.stored_parts import StoredParts, read_at_once

if TYPE_CHECKING:
    from mintkey.conditions import Action
    from mintkey.definitions.schema import Schema
    from mintkey.errors import ConditionFailed
    from mintkey.instance_state import State
    from mintkey.stores import Operation


class Rebuild(StoredParts):
    """The derived values that one update has to write too.

    If the update sets all of their parts, or the key has them, the values follow from the arguments. Otherwise they
    follow from the stored row, which is read if the instance does not have it.
    """

    def __init__(self, schema: Schema, names: list[str], key_parts: Mapping[str, Any]) -> None:
        parts = dict.fromkeys(part for name in names for part in schema.named_by(name))
        super().__init__(schema, parts, f"builds {' and '.join(names)} from them")
        self._names = names
        self._derived: Any = schema.derived
        self._key_parts = key_parts

    def _follow_from(self, sent: Iterable[str], actions: Iterable[Action]) -> bool:
        """Return whether the values follow from the arguments of an update that sets the attributes in `sent`."""
        known = self._key_parts.keys() | set(sent)
        return known.issuperset(self._parts) and not any(action.root.name in self._parts for action in actions)

    def values(
        self, state: State, key: _core.Key, sent: dict[str, Any], actions: list[Action]
    ) -> Operation[dict[str, Any]]:
        """Return the values to write; reads the row if it is needed and not known."""
        if self._follow_from(sent, actions):
            built: dict[str, Any] = self._derived.rebuilt(self._names, {**self._key_parts, **sent})
            return built
        if self._row is None and state.loaded is not None and not any(map(state.is_unknown, self._parts)):
            self._row = state.loaded
        if self._row is None:
            self._row = yield from read_at_once(self._schema, key)
        if self._row is None:
            # The update reports a missing row, or inserts it with its own values.
            self._set_guard((), None)
            return {}
        self._set_guard((part for part in self._parts if part not in self._key_parts), self._row)
        after = self._schema.codec.updated(self._row, sent, actions)
        built = self._derived.rebuilt(self._names, self._schema.decode_stored(after, self._parts))
        return built


def rebuild(schema: Schema, names: Iterable[str], key_parts: Mapping[str, Any]) -> Rebuild | None:
    """Return the derived values that a change of attributes affects; None if there are none."""
    affected = [] if schema.derived is None else schema.derived.built_from(names)
    return Rebuild(schema, affected, key_parts) if affected else None


class OtherParts(StoredParts):
    """The parts that index keys have besides those that a save changes.

    The save is sent with the condition that they are stored as they were loaded. If they are not, or were not loaded,
    the instance takes them from the row, as if it had loaded them just now.
    """

    def __init__(self, schema: Schema, values: dict[str, Any], state: State, generated: Mapping[str, Any]) -> None:
        super().__init__(schema, (), "builds an index key from them")
        self._values = values
        self._state = state
        self._generated = generated
        self._built: list[str] = []

    def require(self, loaded: _core.Item) -> Operation[_core.Item]:
        """Require that the parts are stored as they are in the loaded item; return that item.

        Parts that were not loaded are read. If the class counts a version, that is the only requirement.
        """
        self._parts = self._find(loaded)
        if any(map(self._state.is_unknown, self._parts)):
            row = yield from read_at_once(self._schema, self._schema.codec.key_of(loaded))
            # If there is no row, the save reports it.
            self._row = loaded if row is None else row
            loaded = self.take(loaded)
            self._parts = self._find(loaded)
        self._guard = None
        if self._parts and self._schema.version is None:
            self._set_guard(self._parts, loaded)
        return loaded

    def is_outdated(self, error: ConditionFailed) -> bool:
        same = self._schema.on_same_class(None, self._state)
        if error._stored is None or (same is not None and not same.matches(error._stored)):
            return False
        return super().is_outdated(error)

    def _find(self, loaded: _core.Item) -> tuple[str, ...]:
        schema, values = self._schema, self._values
        together = schema.unsaved_defaults(values, loaded).union(self._generated)
        changed = {*schema.codec.changed(values, loaded), *self._state.cleared(values, schema.sets)}
        if schema.derived is None or not changed - together - schema.derived.names:
            return ()
        written = changed | together
        self._built = schema.derived.built_from(written)
        parts = (part for name in self._built for part in schema.named_by(name))
        return tuple(part for part in dict.fromkeys(parts) if part not in written and part not in schema.given_keys)

    def take(self, loaded: _core.Item) -> _core.Item:
        """Set the parts of the row that was read on the instance.

        Returns the loaded item with them, and with the values that are built from them.
        """
        if self._row is None:
            return loaded
        schema, stored, item = self._schema, self._row.to_dict(), loaded.to_dict()
        seen = schema.decode_stored(self._row, self._parts)
        schema.add_defaults(seen, self._parts)
        # What was assigned while the request was under way is kept, and written by the next attempt.
        assigned = {*schema.codec.changed(self._values, loaded), *self._state.cleared(self._values, schema.sets)}
        for name in self._parts:
            if name not in assigned:
                _copy(seen, self._values, name)
        for name in (*self._parts, *self._built):
            _copy(stored, item, schema.attributes[name].stored_name)
        if self._state.fetched is not None:
            self._state.fetched.update(self._parts, self._built)
        loaded = self._state.loaded = _core.Item.from_dict(item)
        return loaded


def _copy(source: Mapping[str, Any], target: dict[str, Any], name: str) -> None:
    if name in source:
        target[name] = source[name]
    else:
        target.pop(name, None)
