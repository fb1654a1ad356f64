"""Merging: what an update keeps of stored structured values, because the class does not know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mintkey.conditions import Action, Condition
from mintkey.errors import CONVERSION_ERRORS, ConditionFailed, MintkeyError

if TYPE_CHECKING:
    from mintkey import _core
    from mintkey.definitions.schema import Schema
    from mintkey.instance_state import State
    from mintkey.stores import Operation

__all__ = ["Merge", "merge"]

#: The maximum number of times that the values may change during one update. Each time another writer has succeeded.
MAX_TRIES = 256


class Merge:
    """The structured values that one update sets, with the stored keys that their classes do not know.

    A loaded instance has the stored values, as in a save. Without one the row is read, and the update is sent with the
    condition that these values are still the same.
    """

    def __init__(self, schema: Schema, names: list[str]) -> None:
        self.names = frozenset(names)
        self._schema = schema
        self._row: _core.Item | None = None
        self._guard: Condition | None = None
        self._tries = 0

    def actions(self, state: State, key: _core.Key, sent: Mapping[str, Any]) -> Operation[list[Action]]:
        """Return the changes that set the merged values; reads the row if it is needed and not known."""
        is_whole = not self.names & state.parts and not any(map(state.is_unknown, self.names))
        is_loaded = state.loaded is not None and is_whole
        row = state.loaded if is_loaded else self._row
        if row is None:
            # In a list, it is sent at once, also in a batch or a pipeline, which suspend an operation at a request.
            (row,) = yield [self._schema.codec.get(key, consistent=True)]
            if isinstance(row, BaseException):
                raise row
            self._row = row
        actions, guards = [], []
        for name in sorted(self.names):
            attribute = self._schema.attributes[name]
            seen = None if row is None else row.get(attribute.stored_name)
            value = attribute._put("set", sent[name])
            actions.append(attribute._action("set", value if seen is None else _merged(attribute, seen, value)))
            if row is not None:
                same = Condition(attribute, attribute._label, attribute._steps, "==", (seen,))
                guards.append(attribute.does_not_exist() if seen is None else same)
        self._guard = None if is_loaded or not guards else Condition.every(guards)
        return actions

    def guarded(self, condition: Condition | None) -> Condition | None:
        """Return the condition of the update, joined with the condition that the stored values are the same."""
        if self._guard is None:
            return condition
        return self._guard if condition is None else self._guard & condition

    def is_outdated(self, error: ConditionFailed) -> bool:
        """Return whether an update failed because the stored values have changed, so that they are merged again."""
        stored: _core.Item | None = getattr(error, "_stored", None)
        if self._guard is None or stored is None or self._guard.matches(stored) or self._tries == MAX_TRIES:
            return False
        self._tries += 1
        self._row = stored
        return True

    def forget(self) -> None:
        """Forget the row, which another writer has inserted or deleted."""
        self._row = self._guard = None


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
