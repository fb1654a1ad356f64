"""Rebuilding: the values of index keys that an update has to build again, because it changes their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mintkey.conditions import Condition
from mintkey.errors import ConditionFailed

if TYPE_CHECKING:
    from mintkey import _core
    from mintkey.attributes import Attribute
    from mintkey.conditions import Action
    from mintkey.definitions.schema import Schema
    from mintkey.instance_state import State
    from mintkey.stores import Operation

__all__ = ["Rebuild", "rebuild"]

#: The maximum number of times that the parts may change during one update. Each time another writer has succeeded.
MAX_TRIES = 256


class Rebuild:
    """The derived values that one update has to write too.

    If the update sets all of their parts, or the key has them, the values follow from the arguments. Otherwise they
    follow from the stored row. It is read if the instance does not have it, and the update is sent with the condition
    that the parts are still the same.
    """

    def __init__(self, schema: Schema, names: list[str], key_parts: Mapping[str, Any]) -> None:
        self._schema = schema
        self._names = names
        self._derived: Any = schema.derived
        self._parts = list(dict.fromkeys(part for name in names for part in schema.named_by(name)))
        self._key_parts = key_parts
        self._row: _core.Item | None = None
        self._guard: Condition | None = None
        self._tries = 0

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
            self._row = yield from self._read(key)
        if self._row is None:
            # The update reports a missing row, or inserts it with its own values.
            self._guard = None
            return {}
        parts = [self._schema.attributes[part] for part in self._parts if part not in self._key_parts]
        self._guard = Condition.every([self._is_same(part, self._row) for part in parts])
        after = self._schema.codec.updated(self._row, sent, actions)
        built = self._derived.rebuilt(self._names, self._schema.decode_stored(after, self._parts))
        return built

    @staticmethod
    def _is_same(part: Attribute[Any], row: _core.Item) -> Condition:
        """Return the condition that a part has the same stored text, which need not be the one that a save writes."""
        seen = row.get(part.stored_name)
        return part.does_not_exist() if seen is None else Condition(part, part._label, part._steps, "==", (seen,))

    def _read(self, key: _core.Key) -> Operation[_core.Item | None]:
        # In a list, it is sent at once, also in a batch or a pipeline, which suspend an operation at a single request.
        (row,) = yield [self._schema.codec.get(key, consistent=True)]
        if isinstance(row, BaseException):
            raise row
        found: _core.Item | None = row
        return found

    def guarded(self, condition: Condition | None) -> Condition | None:
        """Return the condition of the update, joined with the condition that the parts are the same."""
        if self._guard is None:
            return condition
        return self._guard if condition is None else self._guard & condition

    def is_outdated(self, error: ConditionFailed) -> bool:
        """Return whether an update failed because the parts have changed, so that it must be built again.

        Raises `ConditionFailed` if that happens again and again.
        """
        stored: _core.Item | None = getattr(error, "_stored", None)
        if self._guard is None or stored is None or self._guard.matches(stored):
            return False
        self._tries += 1
        if self._tries >= MAX_TRIES:
            raise ConditionFailed(
                f"{self._schema.model}: other writers changed {' or '.join(self._parts)} {MAX_TRIES} times during this "
                f"update, which builds {' and '.join(self._names)} from them; retry it",
                model=self._schema.model,
                key=error.key,
                store=error.store,
            ) from error
        self._row = stored
        return True

    def forget(self) -> None:
        """Forget the row, which another writer has inserted or deleted."""
        self._row = self._guard = None


def rebuild(schema: Schema, names: Iterable[str], key_parts: Mapping[str, Any]) -> Rebuild | None:
    """Return the derived values that a change of attributes affects; None if there are none."""
    affected = [] if schema.derived is None else schema.derived.built_from(names)
    return Rebuild(schema, affected, key_parts) if affected else None
