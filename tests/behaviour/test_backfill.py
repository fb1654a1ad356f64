"""Defaults that are written into the rows that lack them."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any, cast

import pytest

from mintkey import AutoGenerate, Model, ModelConfig, backfilling
from mintkey.attributes import (
    JSONAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    VersionAttribute,
)
from mintkey.backfilling import BackfillProgress
from mintkey.errors import BatchIncomplete, InvalidCursor
from mintkey.fields import Field, KeyField


class Old(Model):
    model_config = ModelConfig(table="backfilled")

    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    status = StringAttribute()
    version = VersionAttribute()


class New(Model):
    model_config = ModelConfig(table="backfilled")

    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    status = StringAttribute(default="open", index=True)
    tags = JSONAttribute(default=lambda: ["new"])
    id = StringAttribute(default=AutoGenerate.ULID)
    at = StringAttribute(on_update=AutoGenerate.ISO8601)
    note = StringAttribute()
    version = VersionAttribute()


class Filled(Model):
    """Without an index: DynamoDB Local is slow to add one, and fails some writes meanwhile."""

    model_config = ModelConfig(table="backfilled")

    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    status = StringAttribute(default="open")
    tags = JSONAttribute(default=lambda: ["new"])
    id = StringAttribute(default=AutoGenerate.ULID)
    version = VersionAttribute()


def rows(number: int) -> list[Old]:
    return [Old(pk="a", sk=n, status="paid" if n % 3 == 0 else None) for n in range(number)]


async def test_defaults_are_written_where_they_are_absent(do, store):
    await do.batch_save(Old, rows(9))
    seen: list[BackfillProgress] = []
    assert await do.backfill(New, on_progress=seen.append) == 9
    assert seen == [(9, 9, None)]
    found = await do.all(do.query(New, pk="a"))
    assert [row.status for row in found] == ["paid", "open", "open"] * 3
    assert {tuple(row.tags) for row in found} == {("new",)}
    assert {(row.id, row.note, row.version) for row in found} == {(None, None, 2)}
    assert all(row.at for row in found)
    assert await do.count(New, status="open") == 6
    # There is nothing left to do.
    assert await do.backfill(New, on_progress=seen.append) == 0
    assert seen[1:] == [(9, 0, None)]
    assert {row.version for row in await do.all(do.query(New, pk="a"))} == {2}


async def test_a_named_attribute_may_have_a_strategy(do, store):
    await do.batch_save(Old, rows(700))
    assert await do.backfill(Filled, "id") == 700
    found = await do.all(do.query(Filled, pk="a"))
    assert len({row.id for row in found}) == 700
    assert {row.tags for row in found} == {None}


async def test_a_value_written_meanwhile_is_kept(do, store):
    changes = [
        lambda: Filled.update_by_key(("a", 1), status="closed"),
        lambda: Filled.batch_delete([("a", 2)]),
    ]

    def late() -> str:
        # The row was read, and is not written yet.
        if changes:
            changes.pop()()
        return "open"

    class Late(Model):
        model_config = ModelConfig(table="backfilled")

        pk = StringAttribute(partition_key=True)
        sk = NumberAttribute(sort_key=True)
        status = StringAttribute(default=late)
        version = VersionAttribute()

    await do.batch_save(Old, rows(3))
    assert await do.backfill(Late) == 0
    found = {row.sk: (row.status, row.version) for row in await do.all(do.query(Filled, pk="a"))}
    # The backfill has counted up no version.
    assert found == {0: ("paid", 1), 1: ("closed", 2)}


@pytest.mark.parametrize("name", ["note", "nothing", "pk", "sk", "version", 5])
async def test_a_name_without_a_default_is_refused(do, store, name):
    with pytest.raises(TypeError, match=r"New\.backfill\(\) takes"):
        await do.backfill(New, name)


async def test_failures_are_listed(do, store):
    class Limited(Model):
        model_config = ModelConfig(table="backfilled")

        pk = StringAttribute(partition_key=True)
        sk = NumberAttribute(sort_key=True)
        large = StringAttribute(default=lambda: "x" * 500_000)

    await do.batch_save(Old, rows(2))
    with pytest.raises(BatchIncomplete) as caught:
        await do.backfill(Limited)
    assert len(caught.value.failed) == 2


def test_an_attribute_of_that_name_hides_the_method(caplog):
    with caplog.at_level(logging.WARNING, "mintkey"):

        class Named(Model):
            pk = StringAttribute(partition_key=True)
            backfill = StringAttribute()  # type: ignore[assignment]

    assert Named(pk="a", backfill="b").backfill == "b"
    assert "Named.backfill hides the method Model.backfill()" in caplog.text


class Person(Model):
    model_config = ModelConfig(table="backfilled_people")

    name = KeyField()
    language = Field()


class Later(Model):
    model_config = ModelConfig(table="backfilled_people")

    name = KeyField()
    language = Field(default="en", default_on_load=True)


async def test_fields_have_defaults_on_load_and_backfills(do, store):
    await do.save(Person(name="ada"))
    assert (await do.get(Later, name="ada")).language == "en"
    assert await do.count(Later, Later.language == "en") == 0
    assert await do.backfill(Later) == 1
    assert await do.count(Later, Later.language == "en") == 1


async def test_an_empty_set_is_no_value_to_write(do, store):
    class Tagged(Model):
        model_config = ModelConfig(table="backfilled-sets")
        pk = StringAttribute(partition_key=True)
        tags = StringSetAttribute(default=set())
        more = NumberSetAttribute(default=set)
        status: Any = StringAttribute(default=lambda: cast("Any", None))

    await do.save(Tagged(pk="a"))
    assert await do.backfill(Tagged, "tags", "more") == 0
    assert await do.backfill(Tagged) == 0
    assert (await do.get(Tagged, pk="a")).to_dict() == {"pk": "a"}


@pytest.mark.parametrize("segments", [1, 3])
async def test_it_goes_on_where_it_was_interrupted(do, store, monkeypatch, segments):
    monkeypatch.setattr(backfilling, "CHUNK", 20)
    await do.batch_save(Old, [Old(pk=f"p{n % 40}", sk=n) for n in range(100)])
    seen: list[BackfillProgress] = []

    def interrupted(progress: BackfillProgress) -> None:
        seen.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await do.backfill(Filled, "status", on_progress=interrupted, segments=segments)
    [stopped] = seen
    assert 0 < stopped.seen == stopped.changed < 100
    assert await do.count(Filled, Filled.status == "open") == stopped.changed
    rest = await do.backfill(Filled, "status", on_progress=seen.append, after=stopped.after)
    assert stopped.changed + rest == 100
    # What was done is not read again.
    assert seen[-1] == (rest, rest, None)
    assert await do.backfill(Filled, "status") == 0
    assert {row.version for row in await do.all(do.scan(Filled))} == {2}


async def test_the_position_stays_before_a_row_that_failed(do, store):
    class Limited(Model):
        model_config = ModelConfig(table="backfilled")

        pk = StringAttribute(partition_key=True)
        sk = NumberAttribute(sort_key=True)
        large = StringAttribute(default=lambda: "x" * 500_000)

    class Repaired(Model):
        model_config = ModelConfig(table="backfilled")

        pk = StringAttribute(partition_key=True)
        sk = NumberAttribute(sort_key=True)
        large = StringAttribute(default="x")

    await do.batch_save(Old, rows(2))
    seen: list[BackfillProgress] = []
    with pytest.raises(BatchIncomplete, match="2 of 2 items failed"):
        await do.backfill(Limited, on_progress=seen.append)
    assert seen[-1].changed == 0
    assert await do.backfill(Repaired, after=seen[-1].after) == 2


async def test_positions_that_do_not_fit_are_refused(do, store, monkeypatch):
    monkeypatch.setattr(backfilling, "CHUNK", 2)
    await do.batch_save(Old, rows(3))
    seen: list[BackfillProgress] = []
    await do.backfill(Filled, "status", on_progress=seen.append)
    after = seen[0].after
    assert after is not None
    for wrong in (after[:-1], after + "x", "", "x", f"{after}.{after}", 5):
        with pytest.raises(InvalidCursor, match=r"Filled: after= is damaged"):
            await do.backfill(Filled, "status", after=wrong)
    with pytest.raises(InvalidCursor, match=r"other\s+attributes"):
        await do.backfill(Filled, "tags", after=after)
    with pytest.raises(TypeError, match="segments=1: leave segments= out"):
        await do.backfill(Filled, "status", after=after, segments=2)


@pytest.mark.parametrize("given", [5, "x"])
async def test_on_progress_takes_a_function(do, store, given):
    with pytest.raises(TypeError, match="on_progress= takes a plain function of a BackfillProgress"):
        await do.backfill(Filled, on_progress=given)


KILLED = """
import sys
from mintkey import backfilling, connect
from tests.behaviour.test_backfill import Filled

def report(progress):
    print(progress.changed, progress.after, flush=True)
    sys.stdin.read()

connect(sys.argv[1])
backfilling.CHUNK = 20
Filled.backfill("status", on_progress=report)
"""


def test_after_a_kill_it_goes_on(store, url):
    Old.batch_save([Old(pk=f"p{n % 40}", sk=n) for n in range(50)])
    Filled.create_table()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        changed, after = child.stdout.readline().split()
        child.kill()
    assert int(changed) + Filled.backfill("status", after=after) == 50
    assert Filled.count(Filled.status == "open") == 50
