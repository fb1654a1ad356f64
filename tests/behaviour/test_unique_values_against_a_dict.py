"""Unique values against a dict: any sequence of writes leaves both with the same items, and refuses the same writes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from tests.behaviour.conftest import STORES, Do
from tests.behaviour.store_and_dict import StoreAndDict
from tests.behaviour.transacting import begun

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import ExpiresIn, NumberAttribute, StringAttribute, TTLAttribute
from mintkey.errors import (
    BatchIncomplete,
    ItemGone,
    KeyCollision,
    TransactionCancelled,
    UniqueViolation,
    UnsupportedOperation,
)


class Thing(Model):
    model_config = ModelConfig(unique=[("team", "number")])
    id = StringAttribute(partition_key=True)
    email = StringAttribute(unique=True)
    team = StringAttribute()
    number = NumberAttribute()
    note = StringAttribute()
    until = TTLAttribute()


SETS = (("email",), ("team", "number"))

ids = st.sampled_from("1234")
values = st.fixed_dictionaries(
    {},
    optional={
        "email": st.sampled_from(["", "a", "b", "\0", "é"]),
        "team": st.sampled_from("xy"),
        "number": st.sampled_from([1, 1.5, -1]),
        "note": st.sampled_from("nm"),
    },
)
modes = st.booleans()


class AgainstADict(StoreAndDict):
    """Saves, inserts, updates and deletes things, lets time pass, and opens the store again."""

    model = Thing

    def holders(self, row: dict[str, Any], *others: str) -> set[str]:
        """The items that have unique values of a row, except these."""
        alive = {key: one for key, one in self.alive().items() if key not in others}
        return {
            key
            for key, one in alive.items()
            for names in SETS
            if all(name in row for name in names) and all(one.get(name) == row[name] for name in names)
        }

    def attempt(self, awaited: bool, body: Callable[[Do], Coroutine[Any, Any, Any]], key: str, row: Any) -> None:
        """A write of a whole row, which the dict has allowed or not."""
        holders = self.holders(row, key)
        error = self.refusal(awaited, body)
        if error is None:
            assert not holders
            self.rows[key] = row
        else:
            assert isinstance(error, UniqueViolation)
            assert error.holder in [{"id": holder} for holder in holders]

    def refusal(self, awaited: bool, body: Callable[[Do], Coroutine[Any, Any, Any]]) -> Any:
        """Run a write; return the violation that it raises, or None."""
        try:
            self.run(awaited, body)
        except (UniqueViolation, TransactionCancelled, UnsupportedOperation) as error:
            return error
        return None

    @initialize()
    def begin(self) -> None:
        Thing.create_table()

    @rule(key=ids, row=values, awaited=modes)
    def save(self, key, row, awaited):
        self.attempt(awaited, lambda do: do.save(Thing(id=key, **row)), key, row)

    @rule(key=ids, row=values, hours=st.integers(1, 5), awaited=modes)
    def save_for_a_while(self, key, row, hours, awaited):
        # Redis counts the time by its own clock: no row may expire there during the test.
        thing = Thing(id=key, **row, until=ExpiresIn.hours(hours))
        self.attempt(awaited, lambda do: do.save(thing), key, {**row, "until": thing.until})

    @rule(key=ids, row=values, awaited=modes)
    def create(self, key, row, awaited):
        if key in self.alive():
            with pytest.raises(KeyCollision):
                self.run(awaited, lambda do: do.create(Thing, id=key, **row))
        else:
            self.attempt(awaited, lambda do: do.create(Thing, id=key, **row), key, row)

    @rule(key=ids, row=values, gone=st.sets(st.sampled_from(["email", "team", "until"])), upsert=modes, awaited=modes)
    def update(self, key, row, gone, upsert, awaited):
        changes = {**row, **dict.fromkeys(gone)}
        if not changes:
            return
        before = self.alive().get(key, {} if upsert else None)
        if before is None:
            with pytest.raises(ItemGone):
                self.run(awaited, lambda do: do.update_by_key(Thing, key, **changes))
            return
        after = {name: value for name, value in {**before, **changes}.items() if value is not None}
        self.attempt(awaited, lambda do: do.update_by_key(Thing, key, upsert=upsert, **changes), key, after)

    @rule(key=ids, row=values, awaited=modes)
    def change_a_loaded_one(self, key, row, awaited):
        thing: Any = Thing.get(key)
        if thing is None:
            return
        for name, value in row.items():
            setattr(thing, name, value)
        self.attempt(awaited, lambda do: do.save(thing), key, {**self.rows[key], **row})

    @rule(key=ids, awaited=modes)
    def delete(self, key, awaited):
        self.run(awaited, lambda do: do.delete_by_key(Thing, key))
        self.rows.pop(key, None)

    @rule(rows=st.lists(st.tuples(ids, values), max_size=4, unique_by=lambda one: one[0]), awaited=modes)
    def batch(self, rows, awaited):
        things = [Thing(id=key, **row) for key, row in rows]
        failed: dict[str, BaseException] = {}
        try:
            self.run(awaited, lambda do: do.batch_save(Thing, things))
        except BatchIncomplete as error:
            failed = {thing.id: why for thing, why in error.failed}
        assert {type(why) for why in failed.values()} <= {UniqueViolation}
        before = {key: self.holders(row, key) for key, row in rows}
        self.rows.update((key, row) for key, row in rows if key not in failed)
        for key, row in rows:
            if key in failed:
                # Which of two items gets a value, or whether one gets what another frees, depends on their order.
                assert before[key] | self.holders(row, key)
            else:
                assert not self.holders(row, key)

    @rule(first=ids, second=ids, row=values, awaited=modes)
    def transact(self, first, second, row, awaited):
        if first == second:
            return
        holders = self.holders(row, first, second)

        async def body(do: Do) -> None:
            async with begun(do) as tx:
                tx.delete_by_key(Thing, first)
                tx.save(Thing(id=second, **row))

        error = self.refusal(awaited, body)
        if error is None:
            assert not holders
            self.rows.pop(first, None)
            self.rows[second] = row
        elif not isinstance(error, UnsupportedOperation):  # the two items are in different slots of a Cluster
            assert holders
            assert isinstance(error.reasons[1], UniqueViolation)

    @rule(hours=st.integers(0, 4))
    def time_passes(self, hours):
        self.clock.advance(timedelta(hours=hours))

    @rule()
    def open_again(self):
        self.store.close()
        self.store = connect(type(self).address(self.folder.name))

    @invariant()
    def reads_agree(self):
        expected = {key: {"id": key, **row} for key, row in self.alive().items()}
        assert {thing.id: thing.to_dict() for thing in Thing.scan()} == expected
        for email in ("", "a", "b", "\0", "é"):
            wanted = [row for row in expected.values() if row.get("email") == email]
            found = Thing.get_by(email=email)
            assert ([] if found is None else [found.to_dict()]) == wanted
        for number in (1, 1.5):
            wanted = [row for row in expected.values() if (row.get("team"), row.get("number")) == ("x", number)]
            found = Thing.get_by(team="x", number=number)
            assert ([] if found is None else [found.to_dict()]) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", STORES)
def test_the_store_and_a_dict_agree(name):
    machine = type("Machine", (AgainstADict,), {"address": staticmethod(STORES[name])})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=12, stateful_step_count=20, deadline=None, derandomize=True)
    )
