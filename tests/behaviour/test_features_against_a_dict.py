"""Many features of one model against a dict: any sequence of writes leaves both with the same items and index entries.

The model has a key and an index key with templates, a default on load, a unique value, a version, an expiry and an
`on_update` attribute. Items are written whole and in part, one by one and in batches, pipelines and transactions.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from tests.behaviour.conftest import STORES, Do
from tests.behaviour.store_and_dict import StoreAndDict
from tests.behaviour.transacting import begun

from mintkey import AutoGenerate, Index, Model, ModelConfig, pipeline
from mintkey.attributes import ExpiresIn, IntegerAttribute, StringAttribute, TTLAttribute, VersionAttribute
from mintkey.errors import (
    BatchIncomplete,
    ConditionFailed,
    ItemGone,
    MintkeyError,
    NotLoaded,
    TransactionCancelled,
    UniqueViolation,
    VersionConflict,
)


class Thing(Model):
    model_config = ModelConfig(table="feature-things", colocate="things")
    pk = StringAttribute(partition_key=True, template="TEAM#{team}")
    sk = StringAttribute(sort_key=True, template="THING#{n:02d}")
    team = StringAttribute()
    n = IntegerAttribute()
    owner = StringAttribute()
    status = StringAttribute(default="open", default_on_load=True)
    board = StringAttribute(template="{owner}#{status}")
    by_board = Index("board")
    email = StringAttribute(unique=True)
    note = StringAttribute()
    version = VersionAttribute()
    until = TTLAttribute()
    written = StringAttribute(on_update=AutoGenerate.ULID)


Key = tuple[str, int]
TEXTS = ("owner", "status", "email", "note")
OWNERS, STATUSES, EMAILS = ("ada", "bob"), ("open", "done"), ("x", "y", "")

keys = st.tuples(st.sampled_from("ab"), st.just(1))
given = st.fixed_dictionaries(
    {},
    optional={
        "owner": st.sampled_from(OWNERS),
        "status": st.sampled_from(STATUSES),
        "email": st.sampled_from(EMAILS),
        "note": st.sampled_from("nm"),
    },
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "owner": st.sampled_from((*OWNERS, None, "")),
        "status": st.sampled_from((*STATUSES, None)),
        "email": st.sampled_from((*EMAILS, None)),
        "note": st.sampled_from(("n", "m", None)),
    },
).filter(bool)
loaded_names = st.sets(st.sampled_from((*TEXTS, "board")), min_size=1, max_size=3)
modes = st.booleans()


class Held:
    """An instance that was loaded, with the row as it was then, and the names that were loaded (None: all)."""

    def __init__(self, thing: Any, row: dict[str, Any], names: set[str] | None) -> None:
        self.thing = thing
        self.row = row
        self.names = names
        self.local: dict[str, Any] = {}

    def knows(self, name: str) -> bool:
        return self.names is None or name in self.names

    def shown(self, name: str) -> Any:
        """The value that the instance shows without local changes."""
        return self.row.get(name, "open" if name == "status" else None)

    def assign(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self.thing, name, value)
            self.local[name] = value

    def is_change(self, name: str, value: Any) -> bool:
        """Whether a save writes an assigned value. A row that lacks a value does not get its default alone."""
        if not self.knows(name):
            return True
        return value != self.row.get(name) and not (name not in self.row and value == self.shown(name))

    def changes(self) -> dict[str, Any]:
        """What a save writes."""
        return {name: value for name, value in self.local.items() if self.is_change(name, value)}

    def misses_parts(self) -> bool:
        """Whether the index key of the changed item cannot be built without reading the row."""
        changed = self.changes()
        parts = [self.local.get(name, self.shown(name)) for name in ("owner", "status") if self.sees(name)]
        return bool(changed.keys() & {"owner", "status"}) and len(parts) == 1 and bool(parts[0])

    def sees(self, name: str) -> bool:
        return self.knows(name) or name in self.local


class AgainstADict(StoreAndDict):
    model = Thing

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[Key, Held] = {}

    @initialize()
    def begin(self) -> None:
        Thing.create_table()

    # What the dict says.

    def holders(self, row: dict[str, Any], key: Key) -> set[Key]:
        email = row.get("email")
        return {
            one
            for one, other in self.alive().items()
            if one != key and email is not None and other.get("email") == email
        }

    @staticmethod
    def merged(row: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in {**row, **values}.items() if value is not None}

    @staticmethod
    def new_row(values: dict[str, Any]) -> dict[str, Any]:
        return {"status": "open", **values, "version": 1, "written": False}

    def next_row(self, row: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        return self.merged(row, {**values, "version": row["version"] + 1, "written": True})

    def attempt(self, awaited: bool, body: Any) -> Any:
        """Run a write of one item; return its refusal, or None."""
        try:
            self.run(awaited, body)
        except TransactionCancelled as error:
            (reason,) = [reason for reason in error.reasons if reason is not None]
            return reason
        except BatchIncomplete as error:
            ((_, failure),) = error.failed
            return failure
        except MintkeyError as error:
            return error
        return None

    def writing(self, how: str, thing: Any) -> Any:
        """A save of one instance, in one of many ways."""

        async def body(do: Do) -> None:
            if how == "save":
                await do.save(thing)
            elif how == "batch":
                await do.batch_save(Thing, [thing])
            elif how == "transaction":
                async with begun(do) as tx:
                    tx.save(thing)
            elif do.blocking:
                with pipeline() as p:
                    thing.save(pipeline=p)
            else:
                async with pipeline() as p:
                    await thing.asave(pipeline=p)

        return body

    # Writes.

    ways = st.sampled_from(("save", "batch", "transaction", "pipeline"))

    @rule(key=keys, row=given, hours=st.none() | st.integers(1, 3), how=ways, awaited=modes)
    def put(self, key, row, hours, how, awaited):
        thing = Thing(team=key[0], n=key[1], **row, until=hours and ExpiresIn.hours(hours))
        error = self.attempt(awaited, self.writing(how, thing))
        new = self.new_row(self.merged(row, {"until": thing.until}))
        if key in self.alive():
            assert isinstance(error, VersionConflict)
        elif self.holders(new, key):
            assert isinstance(error, UniqueViolation)
            assert error.holder in [
                {"pk": f"TEAM#{team}", "sk": f"THING#{n:02d}"} for team, n in self.holders(new, key)
            ]
        else:
            assert error is None
            self.rows[key] = new
            self.held[key] = Held(thing, new, None)

    @rule(key=keys, names=st.none() | loaded_names, awaited=modes)
    def load(self, key, names, awaited):
        found = self.run(awaited, lambda do: do.all(do.query(Thing, team=key[0], n=key[1], attributes=names)))
        row = self.alive().get(key)
        assert len(found) == (row is not None)
        if row is None:
            return
        self.held[key] = held = Held(found[0], row, names)
        for name in TEXTS:
            if held.knows(name):
                assert getattr(held.thing, name) == held.shown(name)
        assert not held.thing.is_dirty

    @rule(key=keys, values=changes)
    def assign(self, key, values):
        if key in self.held:
            self.held[key].assign(values)
            assert self.held[key].thing.changed - {"board"} == self.held[key].changes().keys()

    @rule(key=keys, how=ways, awaited=modes)
    def save(self, key, how, awaited):
        held = self.held.get(key)
        if held is None:
            return
        changed, row = held.changes(), self.alive().get(key)
        error = self.attempt(awaited, self.writing(how, held.thing))
        if not changed:
            assert error is None
            return
        if held.misses_parts():
            assert isinstance(error, NotLoaded)
            return
        if row is None:
            assert isinstance(error, (ItemGone, VersionConflict))
        elif row["version"] != held.row["version"]:
            assert isinstance(error, VersionConflict)
        else:
            status = held.local.get("status", held.shown("status"))
            if held.sees("status") and status is not None:
                changed = {"status": status, **changed}
            after = self.next_row(row, changed)
            if self.holders(after, key):
                assert isinstance(error, UniqueViolation)
                return
            assert error is None, error
            self.rows[key] = after
            names = None if held.names is None else {*held.names, *held.local}
            self.held[key] = Held(held.thing, after, names)
            assert not held.thing.is_dirty

    @rule(key=keys, names=st.none() | loaded_names, values=changes, how=ways, awaited=modes)
    def load_and_save(self, key, names, values, how, awaited):
        self.load(key, names, awaited)
        self.assign(key, values)
        self.save(key, how, awaited)

    @rule(key=keys, values=changes, transact=modes, awaited=modes)
    def update(self, key, values, transact, awaited):
        held = self.held.get(key)
        if held is None:
            return

        async def body(do: Do) -> None:
            if transact:
                async with begun(do) as tx:
                    tx.update(held.thing, **values)
            else:
                await do.update(held.thing, **values)

        row, local = self.alive().get(key), held.changes()
        error = self.attempt(awaited, body)
        if row is None:
            assert isinstance(error, (ItemGone, VersionConflict))
        elif row["version"] != held.row["version"]:
            assert isinstance(error, VersionConflict)
        else:
            after = self.next_row(row, values)
            if self.holders(after, key):
                assert isinstance(error, UniqueViolation)
                return
            assert error is None, error
            self.rows[key] = after
            self.held[key] = Held(held.thing, after, None)
            self.held[key].local = {name: value for name, value in local.items() if name not in values}

    @rule(key=keys, values=changes, upsert=modes, awaited=modes)
    def update_by_key(self, key, values, upsert, awaited):
        row = self.alive().get(key)
        by_key = {"team": key[0], "n": key[1]}
        error = self.attempt(awaited, lambda do: do.update_by_key(Thing, by_key, upsert=upsert, **values))
        if row is None and not upsert:
            assert isinstance(error, ItemGone)
            return
        after = self.merged(self.new_row({}), values) if row is None else self.next_row(row, values)
        if self.holders(after, key):
            assert isinstance(error, UniqueViolation)
        else:
            assert error is None, error
            self.rows[key] = after

    @rule(
        status=st.sampled_from(STATUSES), values=changes, by_index=modes, owner=st.sampled_from(OWNERS), awaited=modes
    )
    def update_all(self, status, values, by_index, owner, awaited):
        values = {name: value for name, value in values.items() if name != "email"}
        if not values:
            return
        matching = [
            key
            for key, row in self.alive().items()
            if row.get("status") == status and (not by_index or row.get("owner") == owner)
        ]
        result = Thing.by_board.query(owner=owner, status=status) if by_index else Thing.query.filter(status=status)
        assert self.run(awaited, lambda do: do.update(result, **values)) == len(matching)
        for key in matching:
            self.rows[key] = self.next_row(self.rows[key], values)

    @rule(note=st.sampled_from("nm"), awaited=modes)
    def delete_all(self, note, awaited):
        matching = [key for key, row in self.alive().items() if row.get("note") == note]
        assert self.run(awaited, lambda do: do.delete(Thing.query.filter(note=note))) == len(matching)
        for key in matching:
            del self.rows[key]

    @rule(key=keys, awaited=modes)
    def delete(self, key, awaited):
        held = self.held.pop(key, None)
        if held is None:
            return
        row = self.alive().get(key)
        error = self.attempt(awaited, lambda do: do.delete(held.thing))
        if row is None or row["version"] != held.row["version"]:
            assert isinstance(error, ConditionFailed)
        else:
            assert error is None, error
            self.rows.pop(key)

    @rule(email=st.sampled_from(EMAILS), key=keys, values=given, awaited=modes)
    def update_or_create(self, email, key, values, awaited):
        values = {name: value for name, value in values.items() if name != "email"}
        alive = self.alive()
        holder = next((one for one, row in alive.items() if row.get("email") == email), None)
        new = {"team": key[0], "n": key[1], **values}
        found: list[Any] = []

        async def body(do: Do) -> None:
            found[:] = await do.update_or_create(Thing, email=email, defaults=values, create_defaults=new)

        error = self.attempt(awaited, body)
        if holder is not None:
            assert error is None, error
            if values:
                self.rows[holder] = self.next_row(self.rows[holder], values)
        elif key in alive:
            assert isinstance(error, (VersionConflict, ConditionFailed))
            return
        else:
            assert error is None, error
            self.rows[key] = self.new_row({**values, "email": email})
        assert found[1] == (holder is None)

    @rule(hours=st.integers(1, 2))
    def time_passes(self, hours):
        self.clock.advance(timedelta(hours=hours))

    @rule(awaited=modes)
    def backfill(self, awaited):
        lacking = [key for key, row in self.alive().items() if "status" not in row]
        assert self.run(awaited, lambda do: do.backfill(Thing)) == len(lacking)
        for key in lacking:
            self.rows[key] = self.next_row(self.rows[key], {"status": "open"})

    # Reads.

    @invariant()
    def reads_agree(self) -> None:
        alive = self.alive()
        things = {(thing.team, thing.n): thing for thing in Thing.scan()}
        assert things.keys() == alive.keys()
        for key, row in alive.items():
            thing: Any = things[key]
            held = Held(thing, row, None)
            assert [getattr(thing, name) for name in TEXTS] == [held.shown(name) for name in TEXTS], (thing, row)
            assert (thing.version, thing.until, thing.written is not None) == (
                row["version"],
                row.get("until"),
                row["written"],
            )
            assert not thing.is_dirty, thing.changed
        for owner in OWNERS:
            for status in STATUSES:
                expected = {
                    key for key, row in alive.items() if (row.get("owner"), row.get("status")) == (owner, status)
                }
                found = {(thing.team, thing.n) for thing in Thing.by_board.query(owner=owner, status=status)}
                assert found == expected, (owner, status)
        for email in EMAILS:
            holder: Any = Thing.get_by(email=email)
            holders = [key for key, row in alive.items() if row.get("email") == email]
            assert ([] if holder is None else [(holder.team, holder.n)]) == holders


@pytest.mark.parametrize("name", ["sqlite", "redis", "redis-cluster"])
def test_the_store_and_a_dict_agree(name):
    machine = type("Machine", (AgainstADict,), {"address": staticmethod(STORES[name])})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=15, stateful_step_count=20, deadline=None, derandomize=True)
    )
