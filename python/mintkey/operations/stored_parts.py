"""Stored parts: what an update computes from values of the stored row, which must not change meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mintkey.conditions import Condition
from mintkey.errors import ConditionFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mintkey import _core
    from mintkey.definitions.schema import Schema
    from mintkey.stores import Operation

#: The maximum number of times that the values may change during one update. Each time another writer has succeeded.
MAX_TRIES = 256


def read_at_once(schema: Schema, key: _core.Key) -> Operation[_core.Item | None]:
    """Read a row, also in a batch or a pipeline, which suspend an operation at a single request, but not at a list."""
    row: _core.Item | BaseException | None
    (row,) = yield [schema.codec.get(key, consistent=True)]
    if isinstance(row, BaseException):
        raise row
    return row


def absent(schema: Schema) -> Condition:
    """Return the condition that there is no row. An update of a row that was missing when it was read has it."""
    return schema.attributes[schema.keys[0]].does_not_exist()


def joined(guard: Condition | None, condition: Condition | None) -> Condition | None:
    """Return the condition that both are true."""
    return condition if guard is None else guard if condition is None else guard & condition


class StoredParts:
    """Values of a row, from which a part of an update is computed.

    The update is sent with the condition that they are still the same. If they are not, it is computed again.
    """

    def __init__(self, schema: Schema, names: Iterable[str], purpose: str) -> None:
        self._schema = schema
        self._parts = tuple(names)
        self._purpose = purpose
        self._row: _core.Item | None = None
        self._guard: Condition | None = None
        self._tries = 0

    def _set_guard(self, names: Iterable[str], row: _core.Item | None) -> None:
        """Require that these attributes have the same encoded values as in the row, or that there is still no row."""
        if row is None:
            self._guard = absent(self._schema)
            return
        self._guard = Condition.every([self._schema.attributes[name]._unchanged_since(row) for name in names])

    def guarded(self, condition: Condition | None) -> Condition | None:
        """Return the condition of the update, joined with the condition that the values are the same."""
        return joined(self._guard, condition)

    def is_outdated(self, error: ConditionFailed) -> bool:
        """Return whether an update failed because the values have changed, so that it must be computed again.

        Raises `ConditionFailed` if that happens again and again.
        """
        stored = error._stored
        if self._guard is None or stored is None or self._guard.matches(stored):
            return False
        self._tries += 1
        if self._tries >= MAX_TRIES:
            raise ConditionFailed(
                f"{self._schema.model}: other writers changed {' or '.join(self._parts)} {MAX_TRIES} times during this "
                f"update, which {self._purpose}; retry it",
                model=self._schema.model,
                key=error.key,
                store=error.store,
            ) from error
        self._row = stored
        return True

    def forget(self) -> None:
        """Forget the row, which another writer has inserted or deleted."""
        self._row = self._guard = None
