"""The state of an instance: what is known of its stored row, and of its writes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any
from weakref import ReferenceType

from mintkey import _core

__all__ = ["LazyState", "State", "is_untouched", "moment", "state_of"]

#: Returns a later moment than any call before.
moment = itertools.count(1).__next__

_NO_NAMES: frozenset[str] = frozenset()
_NOTHING: dict[str, Any] = {}


class State:
    """The state of an instance, apart from its values. A new instance has none until it is needed.

    Attributes:
        loaded: the stored item as this instance last read or wrote it; None while the instance is new.
        uncertain_writes: the items of writes with unknown outcomes. Any of them may be stored.
        mint_context: the running save, which generates the values that a hook reads.
        fetched: the names of the attributes whose stored values are known, if a query loaded only some.
        touched: the names of attributes that were assigned and not written since, each with the moment of its last
            assignment.
        generated_keys: the key parts that were generated, or set by a hook, with their values. Such a key never
            overwrites a row.
        pipeline: the pipeline with a pending write of the instance.
        deleted: whether this instance deleted its row and has not written it since.
    """

    __slots__ = (
        "deleted",
        "fetched",
        "generated_keys",
        "loaded",
        "mint_context",
        "pipeline",
        "touched",
        "uncertain_writes",
    )

    def __init__(self, loaded: _core.Item | None = None, fetched: set[str] | None = None) -> None:
        self.loaded = loaded
        self.uncertain_writes: tuple[_core.Item, ...] = ()
        self.mint_context: Any = None
        self.fetched = fetched
        self.touched: dict[str, int] = {}
        # It is replaced and never changed in place: most instances share the empty one.
        self.generated_keys: dict[str, Any] = _NOTHING
        # A weak reference: a pipeline that was dropped unsent does not block further writes.
        self.pipeline: ReferenceType[Any] | None = None
        self.deleted = False

    def has_new_key(self, values: Mapping[str, Any]) -> bool:
        """Return whether the key was generated and never sent, so that a row with this key is another item."""
        if self.loaded is not None or self.uncertain_writes:
            return False
        return any(values.get(name) == value for name, value in self.generated_keys.items())

    def touched_until(self, moment: int) -> list[str]:
        """Return the names of the attributes whose last assignment was before this moment."""
        return [name for name, assigned in self.touched.copy().items() if assigned < moment]

    def is_unknown(self, name: str) -> bool:
        """Return whether the value of an attribute is neither loaded nor assigned."""
        return self.fetched is not None and name not in self.fetched and name not in self.touched

    def cleared(self, values: Mapping[str, Any]) -> frozenset[str]:
        """Return the names of attributes that were set to nothing without being loaded."""
        if self.fetched is None:
            return _NO_NAMES
        unknown = self.touched.keys() - self.fetched
        return frozenset(name for name in unknown if (value := values.get(name)) is None or value == set())

    def settle(self, loaded: _core.Item | None, sent: int) -> None:
        """Reset the state to an item that was sent at this moment, or to None; keep what was assigned since."""
        self.loaded = loaded
        self.uncertain_writes = ()
        self.deleted = False
        self.generated_keys = _NOTHING
        if self.touched:
            written = self.touched_until(sent)
            if self.fetched is not None:
                self.fetched.update(written)
            for name in written:
                self.touched.pop(name, None)

    def copy(self) -> State:
        """Return a state for a copy of the instance."""
        copied = State(self.loaded, None if self.fetched is None else set(self.fetched))
        copied.uncertain_writes = self.uncertain_writes
        # No write of the copy is in flight, so the moments do not matter, which another process may not have reached.
        copied.touched = dict.fromkeys(self.touched.copy(), 0)
        copied.generated_keys = self.generated_keys
        copied.deleted = self.deleted
        return copied


class LazyState:
    """A descriptor that creates the `State` of an instance with a stored item on first access.

    Most loaded and saved instances never need a state, and the item alone is cheaper. Python finds an existing state in
    the instance's `__dict__` before it calls this descriptor.
    """

    def __get__(self, instance: Any, owner: type) -> State | None:
        if instance is None:
            return None
        values = instance.__dict__
        item = values.get("_stored")
        if item is None:
            # Another thread may have created the state.
            return values.get("_state")  # type: ignore[no-any-return]
        state: State = values.setdefault("_state", State(item))
        values.pop("_stored", None)
        return state


def state_of(instance: Any) -> State:
    """Return the state of an instance; create it if the instance has none."""
    state: State | None = instance._state
    if state is None:
        state = instance.__dict__["_state"] = State()
    return state


def is_untouched(values: dict[str, Any]) -> bool:
    """Return whether the instance with these values is new and has no state."""
    return "_state" not in values and "_stored" not in values
