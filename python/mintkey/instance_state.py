"""The state of an instance: what is known of its stored row, and of its writes."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Mapping
from types import MemberDescriptorType
from typing import Any, NamedTuple, TypeAlias
from weakref import ReferenceType, ref

from mintkey import _core

#: Returns a later moment than any call before.
moment = itertools.count(1).__next__

_NO_NAMES: frozenset[str] = frozenset()
_NOTHING: dict[str, Any] = {}
#: The name under which a pickle or a copy has the values in `__slots__`.
_SLOTS = "__slots__"


class Part(NamedTuple):
    """A part of a map: the name of the attribute, and the stored names of the steps into the map."""

    name: str
    steps: tuple[str, ...]

    def is_inside(self, other: Part) -> bool:
        """Return whether it is a part of another part."""
        return self != other and self.name == other.name and self.steps[: len(other.steps)] == other.steps


#: What a read loads: attributes, and parts of maps.
Selected: TypeAlias = "str | Part"


class Fetched(set[str]):
    """The names of the attributes that were loaded whole, and as `parts` of the maps that were loaded in part."""

    __slots__ = ("parts",)

    def __init__(self, names: Iterable[str], parts: frozenset[str]) -> None:
        super().__init__(names)
        self.parts = parts


def fetched(selected: Iterable[Selected]) -> set[str]:
    """Return the names of the attributes that are loaded, with those of which only parts are."""
    selected = list(selected)
    names = {one for one in selected if isinstance(one, str)}
    parts = frozenset(one.name for one in selected if not isinstance(one, str)) - names
    return Fetched(names, parts) if parts else names


class State:
    """The state of an instance, apart from its values. A new instance has none until it is needed.

    Attributes:
        loaded: the stored item as this instance last read or wrote it; None while the instance is new.
        uncertain_writes: the items of writes with unknown outcomes. Any of them may be stored.
        mint_context: the running save, which generates the values that a hook reads.
        fetched: the names of the attributes whose stored values are known, if a query loaded only some.
        parts: the names of the maps that were loaded in part. No save writes them.
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
        "parts",
        "pipeline",
        "touched",
        "uncertain_writes",
    )

    def __init__(self, loaded: _core.Item | None = None, fetched: set[str] | None = None) -> None:
        self.loaded = loaded
        self.uncertain_writes: tuple[_core.Item, ...] = ()
        self.mint_context: Any = None
        self.fetched = fetched
        self.parts = _NO_NAMES
        if isinstance(fetched, Fetched):
            self.parts = fetched.parts
            self.fetched = {*fetched, *fetched.parts}
        self.touched: dict[str, int] = {}
        # It is replaced and never changed in place: most instances share the empty one.
        self.generated_keys: dict[str, Any] = _NOTHING
        # A weak reference: a pipeline that was dropped unsent does not block further writes.
        self.pipeline: ReferenceType[Any] | None = None
        self.deleted = False

    @property
    def is_unwritten(self) -> bool:
        """Whether the instance is new, and nothing more is known of it than its generated keys."""
        if self.loaded is not None or self.uncertain_writes or self.deleted:
            return False
        return self.pipeline is None and self.mint_context is None

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

    def cleared(self, values: Mapping[str, Any], sets: frozenset[str]) -> frozenset[str]:
        """Return the names of attributes that were set to nothing without being loaded. An empty set of `sets` is."""
        if self.fetched is None:
            return _NO_NAMES
        unknown = self.touched.keys() - self.fetched
        return frozenset(
            name for name in unknown if (value := values.get(name)) is None or (name in sets and value == set())
        )

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
        copied.parts = self.parts
        copied.uncertain_writes = self.uncertain_writes
        # No write of the copy is in flight, so the moments do not matter, which another process may not have reached.
        copied.touched = dict.fromkeys(self.touched.copy(), 0)
        copied.generated_keys = self.generated_keys
        copied.deleted = self.deleted
        return copied


# An instance has two slots next to its `__dict__`, which holds only its values: `_stored` is the item as it was last
# read or written, and `_kept` is the state, once more has to be recorded. Both are None until they are set.

#: Sets a slot, also of a frozen dataclass. It is no Python code, so no signal handler runs before it has set the slot.
set_slot = object.__setattr__


class LazyState:
    """A descriptor that creates the `State` of an instance with a stored item on first access.

    Most loaded and saved instances never need a state, and the item alone is cheaper.
    """

    def __get__(self, instance: Any, owner: type) -> State | None:
        if instance is None:
            return None
        state: State | None = instance._kept
        if state is not None:
            return state
        item = instance._stored
        # Without an item, another thread may have created the state.
        found: State | None = instance._kept if item is None else _create(instance, State(item))
        return found


class _CreationLock:
    """The lock under which states are created. A thread may hold it while another one forks."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()


_creating = _CreationLock()


def _create(instance: Any, state: State) -> State:
    """Set the state of an instance, and return it, or the one that another thread has set."""
    with _creating.lock:
        other: State | None = instance._kept
        if other is not None:
            return other
        set_slot(instance, "_kept", state)
        set_slot(instance, "_stored", None)
        return state


def state_of(instance: Any) -> State:
    """Return the state of an instance; create it if the instance has none."""
    state: State | None = instance._kept
    return _create(instance, State(instance._stored)) if state is None else state


def is_untouched(instance: Any) -> bool:
    """Return whether an instance is new and has no state."""
    return instance._kept is None and instance._stored is None


def pickled(instance: Any) -> dict[str, Any]:
    """Return what a pickle or a copy of an instance has besides its values."""
    state: State | None = instance._kept
    if state is not None:
        return {"_state": state.copy()}
    item = instance._stored
    return {} if item is None else {"_stored": item}


def all_values(instance: Any) -> dict[str, Any]:
    """Return the values of an instance for a pickle or a copy, also those in `__slots__` of its class."""
    slots: dict[str, Any] = {}
    for base in type(instance).__mro__:
        if vars(base).get("__slots__"):
            for name, member in vars(base).items():
                if isinstance(member, MemberDescriptorType) and hasattr(instance, name):
                    slots.setdefault(name, getattr(instance, name))
    return {**instance.__dict__, _SLOTS: slots} if slots else dict(instance.__dict__)


def unpickled(instance: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Set the slots from the results of `pickled` and `all_values`, and return the rest of the `values`."""
    for slot, name in (("_kept", "_state"), ("_stored", "_stored")):
        if values.get(name) is not None:
            set_slot(instance, slot, values[name])
    for slot, value in values.get(_SLOTS, _NOTHING).items():
        set_slot(instance, slot, value)
    return {name: value for name, value in values.items() if name not in {"_state", "_stored", _SLOTS}}


class WeakSlot:
    """A slot for the instances of a class that has none. It neither compares nor hashes the instances."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[_SlotReference, Any]] = {}

    def __get__(self, instance: Any, owner: type) -> Any:
        found = None if instance is None else self._kept.get(id(instance))
        return None if found is None else found[1]

    def __set__(self, instance: Any, value: Any) -> None:
        found = self._kept.get(id(instance))
        if found is None:
            of = _SlotReference(instance, _remove)
            of.key, of.table = id(instance), self._kept
        else:
            of = found[0]
        self._kept[id(instance)] = (of, value)


class _SlotReference(ref[Any]):
    """A weak reference to an instance, which removes what is kept for it when the instance is deleted."""

    __slots__ = ("key", "table")

    key: int
    table: dict[int, tuple[_SlotReference, Any]]


def _remove(gone: Any) -> None:
    gone.table.pop(gone.key, None)
