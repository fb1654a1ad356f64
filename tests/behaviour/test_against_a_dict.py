"""The store against a dict: any sequence of operations leaves both with the same items."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from tests.behaviour.conftest import STORES, Do
from tests.behaviour.store_and_dict import StoreAndDict

from mintkey import Model, connect
from mintkey.attributes import (
    ExpiresIn,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
)
from mintkey.errors import ConditionFailed, ItemGone, KeyCollision


class Thing(Model):
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    n = NumberAttribute()
    text = StringAttribute()
    things = ListAttribute()
    data = MapAttribute()
    words = StringSetAttribute()
    until = TTLAttribute()


Key = tuple[str, float]

partitions = st.sampled_from(["a", "b", "a\0", "%", "é"])
sorts = st.sampled_from([-1, 0, 0.5, 1, 2, 10, 10**20])
values = st.fixed_dictionaries(
    {},
    optional={
        "n": st.integers(-3, 3) | st.floats(-2, 2).map(lambda x: round(x, 3)),
        "text": st.sampled_from(["", "x", "\0", "é"]),
        "things": st.lists(st.integers(0, 3) | st.none() | st.booleans(), max_size=3),
        "data": st.dictionaries(st.sampled_from(["a", "$", "$$"]), st.integers(0, 2), max_size=2),
        "words": st.sets(st.sampled_from(["x", "y", ""]), min_size=1),
    },
)
modes = st.booleans()


class AgainstADict(StoreAndDict):
    """Puts, gets, updates, deletes, queries, scans, lets time pass, and opens the store anew."""

    model = Thing

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[Key, Thing] = {}

    def expected(self, key: Key) -> dict[str, Any] | None:
        row = self.alive().get(key)
        return None if row is None else {"pk": key[0], "sk": key[1], **row}

    @initialize()
    def begin(self) -> None:
        Thing.create_table()

    @rule(pk=partitions, sk=sorts, row=values, awaited=modes)
    def put(self, pk, sk, row, awaited):
        thing = Thing(pk=pk, sk=sk, **row)
        self.run(awaited, lambda do: do.save(thing))
        self.rows[pk, sk] = row
        self.held[pk, sk] = thing

    @rule(pk=partitions, sk=sorts, row=values, awaited=modes)
    def create(self, pk, sk, row, awaited):
        taken = (pk, sk) in self.alive()
        try:
            self.held[pk, sk] = self.run(awaited, lambda do: do.create(Thing, pk=pk, sk=sk, **row))
        except KeyCollision:
            assert taken
        else:
            assert not taken
            self.rows[pk, sk] = row

    @rule(pk=partitions, sk=sorts, row=values, minutes=st.integers(1, 5), awaited=modes)
    def put_for_a_while(self, pk, sk, row, minutes, awaited):
        thing = Thing(pk=pk, sk=sk, **row, until=ExpiresIn.minutes(minutes))
        self.run(awaited, lambda do: do.save(thing))
        self.rows[pk, sk] = {**row, "until": thing.until}
        self.held[pk, sk] = thing

    @rule(pk=partitions, sk=sorts, row=values, awaited=modes)
    def change_a_held_one(self, pk, sk, row, awaited):
        """An instance loaded at any time writes its changes and nothing else."""
        thing = self.held.get((pk, sk))
        if thing is None:
            return
        before = thing.to_dict()
        for name, value in row.items():
            setattr(thing, name, value)
        changed = {name for name, value in row.items() if typed(before.get(name)) != typed(value)}
        assert thing.changed == changed | (thing.changed - row.keys())
        changes = {name: getattr(thing, name) for name in thing.changed}
        there = (pk, sk) in self.alive()
        try:
            self.run(awaited, lambda do: do.save(thing))
        except ItemGone:
            assert changes
            assert not there
            del self.held[pk, sk]
        else:
            assert there or not changes
            if changes:
                self.rows[pk, sk] = {**self.rows[pk, sk], **changes}

    @rule(pk=partitions, sk=sorts, row=values, gone=st.sets(st.sampled_from(["n", "text"])), awaited=modes)
    def update_by_key(self, pk, sk, row, gone, awaited):
        changes = {**row, **dict.fromkeys(gone)}
        if not changes:
            return
        there = (pk, sk) in self.alive()
        try:
            self.run(awaited, lambda do: do.update_by_key(Thing, {"pk": pk, "sk": sk}, **changes))
        except ItemGone:
            assert not there
        else:
            assert there
            merged = {**self.rows[pk, sk], **changes}
            self.rows[pk, sk] = {name: value for name, value in merged.items() if value is not None}

    @rule(pk=partitions, sk=sorts, n=st.integers(-3, 3), awaited=modes)
    def update_where(self, pk, sk, n, awaited):
        row = self.alive().get((pk, sk))
        holds = row is not None and row.get("n") is not None and row["n"] < n
        try:
            self.run(
                awaited, lambda do: do.update_by_key(Thing, {"pk": pk, "sk": sk}, condition=Thing.n < n, text="less")
            )
        except (ItemGone, ConditionFailed):
            assert not holds
        else:
            assert holds
            self.rows[pk, sk] = {**self.rows[pk, sk], "text": "less"}

    @rule(pk=partitions, sk=sorts, awaited=modes)
    def delete(self, pk, sk, awaited):
        self.run(awaited, lambda do: do.delete(Thing(pk=pk, sk=sk)))
        self.rows.pop((pk, sk), None)
        self.held.pop((pk, sk), None)

    @rule(minutes=st.integers(0, 4))
    def time_passes(self, minutes):
        self.clock.advance(timedelta(minutes=minutes))

    @rule()
    def open_anew(self):
        self.store.close()
        self.store = connect(type(self).address(self.folder.name))

    @rule(pk=partitions, sk=sorts, awaited=modes)
    def get(self, pk, sk, awaited):
        thing = self.run(awaited, lambda do: do.get(Thing, pk=pk, sk=sk))
        assert (None if thing is None else thing.to_dict()) == self.expected((pk, sk))
        if thing is not None:
            self.held[pk, sk] = thing

    @rule(pk=partitions, low=sorts, high=sorts, descending=st.booleans(), limit=st.none() | st.integers(0, 4))
    def query(self, pk, low, high, descending, limit):
        keys = sorted(key for key in self.alive() if key[0] == pk and low <= key[1] < high)
        found = Thing.query(Thing.sk >= low, Thing.sk < high, pk=pk, descending=descending, limit=limit).all()
        expected = (keys[::-1] if descending else keys)[:limit]
        assert [thing.to_dict() for thing in found] == [self.expected(key) for key in expected]

    @rule(pk=partitions, size=st.integers(1, 4), awaited=modes)
    def pages(self, pk, size, awaited):
        async def walk(do: Do) -> list[Any]:
            found, cursor = [], None
            while True:
                page = await do.page(do.query(Thing, pk=pk), size, cursor)
                found += [(item.pk, item.sk) for item in page]
                cursor = page.cursor
                if cursor is None:
                    return found

        assert self.run(awaited, walk) == sorted(key for key in self.alive() if key[0] == pk)

    @rule(n=st.integers(-3, 3), awaited=modes)
    def count(self, n, awaited):
        expected = sum(1 for row in self.alive().values() if row.get("n") is not None and row["n"] > n)
        assert self.run(awaited, lambda do: do.count(Thing, Thing.n > n)) == expected

    @invariant()
    def a_scan_gives_the_same_items(self):
        found = {(thing.pk, thing.sk): thing.to_dict() for thing in Thing.scan()}
        assert found == {key: self.expected(key) for key in self.alive()}


def typed(value: Any) -> Any:
    """`1` and `True` are equal and yet different values."""
    if isinstance(value, list):
        return [typed(one) for one in value]
    return (isinstance(value, bool), value)


@pytest.mark.slow
@pytest.mark.parametrize("name", STORES)
def test_the_store_and_a_dict_agree(name):
    machine = type("Machine", (AgainstADict,), {"address": staticmethod(STORES[name])})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
    )
