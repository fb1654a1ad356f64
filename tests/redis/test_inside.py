"""Any sequence of writes, compared with a dict. A plain client reads all keys of the server.

The server has exactly what belongs to the rows: a key for each row, a member of the row set, and a member of the set
of each index that the row is in. A deleted row leaves nothing. An expired row leaves nothing after a read has found it.
In a Cluster, all slot groups together have the same.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.behaviour.conftest import Do

import mintkey
from mintkey import Index, Model, connect
from mintkey.attributes import ExpiresIn, NumberAttribute, StringAttribute, TTLAttribute
from mintkey.errors import ItemGone, KeyCollision
from mintkey.testing import FrozenClock, frozen


class Thing(Model):
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    status = StringAttribute(index=True)
    amount = NumberAttribute()
    until = TTLAttribute()
    by_amount = Index(partition_key="status", sort_key="amount")


partitions = st.sampled_from(["a", "{b}", "a\0", "*", "é:"])
sorts = st.sampled_from([-1, 0, 0.5, 2, 10**20])
values = st.fixed_dictionaries(
    {}, optional={"status": st.sampled_from(["new", "*", "\0"]), "amount": st.sampled_from([-2, 0, 1, 10.5])}
)
modes = st.booleans()

ROWS, INDEXES = "@Thing:rows", {"status": {"status"}, "by_amount": {"status", "amount"}}
SETS = {ROWS, *(f"@Thing:index:{name}" for name in INDEXES)}
HASH_TAG = re.compile(r"^\{[0-9a-z]+\}")


class AgainstADict(RuleBasedStateMachine):
    """Writes in every way, lets time pass, and compares all that is in Redis."""

    address: str
    raw: Any

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[str, float], dict[str, Any]] = {}
        self.prefix = f"{uuid.uuid4()}/"
        # The server removes expired rows by its own clock, which must not be ahead of this one: so rows live for hours.
        self.block = frozen("2100-01-01T00:00:00Z", seed=1)
        self.clock: FrozenClock = self.block.__enter__()
        self.event_loop = asyncio.new_event_loop()
        self.store = connect(f"{self.address}?prefix={self.prefix[:-1]}")

    def teardown(self) -> None:
        Thing.delete_table()
        left = self.keys()
        self.store.close()
        self.event_loop.close()
        self.block.__exit__(None, None, None)
        assert not left

    def do(self, awaited: bool, name: str, target: Any, *positional: Any, **named: Any) -> Any:
        run = getattr(Do(blocking=not awaited), name)
        return self.event_loop.run_until_complete(run(target, *positional, **named))

    def alive(self) -> dict[tuple[str, float], dict[str, Any]]:
        return {key: row for key, row in self.rows.items() if "until" not in row or row["until"] > self.clock.time}

    def keys(self) -> dict[str, list[bytes]]:
        """All keys, by their names without the prefix and the hash tag."""
        found: dict[str, list[bytes]] = {}
        for key in self.raw.scan_iter(f"{self.prefix}*", count=1000):
            found.setdefault(HASH_TAG.sub("", key.decode().removeprefix(self.prefix)), []).append(key)
        return found

    @rule(pk=partitions, sk=sorts, row=values, hours=st.none() | st.integers(1, 5), awaited=modes)
    def put(self, pk, sk, row, hours, awaited):
        row = {**row, **({} if hours is None else {"until": ExpiresIn.hours(hours)})}
        self.do(awaited, "save", Thing(pk=pk, sk=sk, **row))
        self.rows[pk, sk] = row

    @rule(pk=partitions, sk=sorts, row=values, awaited=modes)
    def create(self, pk, sk, row, awaited):
        taken = (pk, sk) in self.alive()
        try:
            self.do(awaited, "create", Thing, pk=pk, sk=sk, **row)
        except KeyCollision:
            assert taken
        else:
            assert not taken
            self.rows[pk, sk] = row

    @rule(pk=partitions, sk=sorts, row=values, gone=st.sets(st.sampled_from(["status", "amount"])), awaited=modes)
    def update(self, pk, sk, row, gone, awaited):
        changes = {**row, **dict.fromkeys(gone)}
        if not changes:
            return
        there = (pk, sk) in self.alive()
        try:
            self.do(awaited, "update_by_key", Thing, {"pk": pk, "sk": sk}, **changes)
        except ItemGone:
            assert not there
        else:
            assert there
            kept = {**self.rows[pk, sk], **changes}
            self.rows[pk, sk] = {name: value for name, value in kept.items() if value is not None}

    @rule(pk=partitions, sk=sorts, row=values, awaited=modes)
    def change_a_loaded_one(self, pk, sk, row, awaited):
        thing = self.do(awaited, "get", Thing, pk=pk, sk=sk)
        assert (thing is not None) == ((pk, sk) in self.alive())
        if thing is not None:
            for name, value in row.items():
                setattr(thing, name, value)
            self.do(awaited, "save", thing)
            self.rows[pk, sk] = {**self.rows[pk, sk], **row}

    @rule(pk=partitions, sk=sorts, awaited=modes)
    def delete(self, pk, sk, awaited):
        self.do(awaited, "delete", Thing(pk=pk, sk=sk))
        self.rows.pop((pk, sk), None)

    @rule(writes=st.lists(st.tuples(partitions, sorts, st.none() | values), max_size=6), awaited=modes)
    def write_many(self, writes, awaited):
        """Saves and deletes in a pipeline."""
        pipeline = mintkey.pipeline()
        for pk, sk, row in writes:
            if row is None:
                self.do(awaited, "delete", Thing(pk=pk, sk=sk), pipeline=pipeline)
                self.rows.pop((pk, sk), None)
            else:
                self.do(awaited, "save", Thing(pk=pk, sk=sk, **row), pipeline=pipeline)
                self.rows[pk, sk] = row
        assert self.do(awaited, "execute", pipeline) == len(writes)

    @rule(hours=st.integers(1, 3))
    def let_time_pass(self, hours):
        self.clock.advance(timedelta(hours=hours))

    @rule(awaited=modes)
    def read_everything(self, awaited):
        """Reads return the live rows, and remove the expired ones."""
        alive = self.alive()
        found = self.do(awaited, "all", Thing.scan())
        assert {(thing.pk, thing.sk) for thing in found} == alive.keys()
        for status in ("new", "*", "\0"):
            for name, must in INDEXES.items():
                expected = {key for key, row in alive.items() if row.get("status") == status and must <= row.keys()}
                found = self.do(awaited, "all", Thing.query(status=status, index=name))
                assert {(thing.pk, thing.sk) for thing in found} == expected
        self.rows = alive
        assert self.look_inside() == alive.keys()

    @invariant()
    def nothing_is_missing_and_nothing_left(self):
        """An expired row may exist, complete, until a read finds it."""
        assert self.alive().keys() <= self.look_inside() <= self.rows.keys()

    def look_inside(self) -> set[tuple[str, float]]:
        """The existing rows. The server has what belongs to them, and nothing else."""
        keys = self.keys()
        there = set()
        for name in (name for name in keys if not name.startswith("@")):
            (whole,) = keys[name]
            fields = self.raw.hgetall(whole)
            row = {field.decode(): json.loads(value) for field, value in fields.items() if field}
            key = (row.pop("pk"), row.pop("sk"))
            there.add(key)
            expected = self.rows[key]
            assert row.keys() == expected.keys()
            assert (row.get("status"), row.get("amount")) == (expected.get("status"), expected.get("amount"))
        members = {name: sum(self.raw.zcard(key) for key in keys.get(name, [])) for name in SETS}
        assert members[ROWS] == len(there)
        for name, must in INDEXES.items():
            assert members[f"@Thing:index:{name}"] == sum(1 for key in there if must <= self.rows[key].keys())
        assert {name for name in keys if name.startswith("@")} <= {"@:tables", "@Thing", "@Thing:table", *SETS}
        return there


@pytest.fixture(params=["server", "cluster"])
def machine(request, start) -> Any:
    """The state machine, on servers where no other test leaves keys: it reads all keys after each step."""
    with ExitStack() as running:
        if request.param == "server":
            address = running.enter_context(start())
            raw: Any = redis.Redis.from_url(address)
        else:
            address = request.getfixturevalue("cluster")
            host, port = address.removeprefix("redis-cluster://").split(",")[0].split(":")
            raw = redis.RedisCluster(host=host, port=int(port))
        running.callback(raw.close)
        yield type("Machine", (AgainstADict,), {"address": address, "raw": raw})


@pytest.mark.slow
def test_against_a_dict(machine):
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
    )
