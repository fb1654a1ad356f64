"""Rebuilding: the values of index keys that an update has to build again, because it changes their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mintkey.operations.stored_parts import StoredParts, read_at_once

if TYPE_CHECKING:
    from mintkey import _core
    from mintkey.conditions import Action
    from mintkey.definitions.schema import Schema
    from mintkey.instance_state import State
    from mintkey.stores import Operation

__all__ = ["Rebuild", "rebuild"]


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
            self._guard = None
            return {}
        self._set_guard((part for part in self._parts if part not in self._key_parts), self._row)
        after = self._schema.codec.updated(self._row, sent, actions)
        built = self._derived.rebuilt(self._names, self._schema.decode_stored(after, self._parts))
        return built


def rebuild(schema: Schema, names: Iterable[str], key_parts: Mapping[str, Any]) -> Rebuild | None:
    """Return the derived values that a change of attributes affects; None if there are none."""
    affected = [] if schema.derived is None else schema.derived.built_from(names)
    return Rebuild(schema, affected, key_parts) if affected else None
