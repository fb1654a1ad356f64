"""Merging: what an update keeps of stored structured values, because the class does not know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mintkey.conditions import Action
from mintkey.errors import CONVERSION_ERRORS, MintkeyError
from mintkey.operations.stored_parts import StoredParts, read_at_once

if TYPE_CHECKING:
    from mintkey import _core
    from mintkey.definitions.schema import Schema
    from mintkey.instance_state import State
    from mintkey.stores import Operation


class Merge(StoredParts):
    """The structured values that one update sets, with the stored keys that their classes do not know.

    A loaded instance has the stored values, as in a save. Without one the row is read.
    """

    def __init__(self, schema: Schema, names: list[str]) -> None:
        super().__init__(schema, sorted(names), "keeps what their classes do not know")
        self.names = frozenset(names)

    def actions(self, state: State, key: _core.Key, sent: Mapping[str, Any]) -> Operation[list[Action]]:
        """Return the changes that set the merged values; reads the row if it is needed and not known."""
        is_whole = not self.names & state.parts and not any(map(state.is_unknown, self.names))
        is_loaded = state.loaded is not None and is_whole
        row = state.loaded if is_loaded else self._row
        if row is None:
            row = self._row = yield from read_at_once(self._schema, key)
        actions = []
        for name in self._parts:
            attribute = self._schema.attributes[name]
            seen = None if row is None else row.get(attribute.stored_name)
            value = attribute._put("set", sent[name])
            actions.append(attribute._action("set", value if seen is None else _merged(attribute, seen, value)))
        self._guard = None
        if not is_loaded:
            self._set_guard(self._parts, row)
        return actions


def _merged(attribute: Any, seen: Any, value: Any) -> Any:
    """Return the merged value; the new one if the stored one cannot be read, and so is replaced as a whole."""
    try:
        return attribute.merged(seen, value)
    except (*CONVERSION_ERRORS, MintkeyError):
        return value


def merge(schema: Schema, values: Mapping[str, Any]) -> Merge | None:
    """Return the structured values among those that an update sets; None if there are none."""
    names = [name for name, value in values.items() if value is not None and schema.attributes[name].fits]
    return Merge(schema, names) if names else None
