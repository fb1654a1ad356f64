"""Items of which a query loaded a part, and results that are given up half way."""

from __future__ import annotations

import asyncio
import gc
from datetime import datetime, timezone

import pytest

from mintkey import AutoGenerate, Model
from mintkey.attributes import (
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
    VersionAttribute,
)
from mintkey.errors import InvalidValue, NotLoaded, VersionConflict


class Account(Model):
    pk = StringAttribute(partition_key=True)
    balance = NumberAttribute(required=True)
    note = StringAttribute()
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601)
    until = TTLAttribute()
    version = VersionAttribute()


@pytest.fixture
async def part(do, clock):
    """An account of which the key and the note were loaded."""
    await do.save(Account(pk="a", balance=1, note="old", until=datetime(2999, 1, 1, tzinfo=timezone.utc)))
    return await do.first(do.query(Account, pk="a", attributes=["note"]))


async def test_a_part_of_a_versioned_item_is_saved_updated_and_deleted(do, part):
    part.note = "new"
    await do.save(part)
    stored = await do.get(Account, pk="a")
    assert (stored.note, stored.balance, stored.version) == ("new", 1, 2)
    assert stored.changed_at == "2024-01-01T00:00:00Z"
    part.note = "newer"
    await do.save(part)
    assert (await do.get(Account, pk="a")).version == 3
    part = await do.first(do.query(Account, pk="a", attributes=["note"]))
    await do.update(part, balance=2)
    assert (await do.get(Account, pk="a")).version == 4
    part = await do.first(do.query(Account, pk="a", attributes=["note"]))
    await do.delete(part)
    assert await do.get(Account, pk="a") is None


async def test_the_version_of_a_part_is_checked(do, part):
    await do.update_by_key(Account, {"pk": "a"}, balance=7)
    part.note = "new"
    for write in (lambda: do.save(part), lambda: do.update(part, note="x"), lambda: do.delete(part)):
        with pytest.raises(VersionConflict):
            await write()
    stored = await do.get(Account, pk="a")
    assert (stored.balance, stored.note) == (7, "old")


class Tagged(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    tags = StringSetAttribute()


@pytest.mark.parametrize("nothing", [None, set()])
async def test_a_set_that_was_not_loaded_can_be_emptied(do, nothing):
    await do.create(Tagged, pk="a", n=1, tags={"x"})
    tagged = await do.first(do.query(Tagged, pk="a", attributes=["n"]))
    tagged.tags = nothing
    assert tagged.tags == set()
    assert tagged.changed == {"tags"}
    await do.save(tagged)
    assert not tagged.is_dirty
    assert (await do.get(Tagged, pk="a")).tags == set()


async def test_the_version_of_a_part_cannot_be_assigned_to_write_unchecked(do):
    await do.create(Account, pk="a", balance=1)
    part = await do.first(do.query(Account, pk="a", attributes=["note"]))
    part.version = 7
    with pytest.raises(InvalidValue, match="counted automatically"):
        await do.save(part)


async def test_what_a_part_lacks_is_not_missing(do, part):
    for ask in (lambda: part.balance, lambda: part.until, lambda: part.is_expired, lambda: part.changed_at):
        with pytest.raises(NotLoaded):
            ask()
    part.balance = None
    with pytest.raises(InvalidValue, match=r"Account\.balance"):
        await do.save(part)
    assert (await do.get(Account, pk="a")).balance == 1


async def test_a_part_is_known_by_its_key(do, part):
    whole = await do.get(Account, pk="a")
    assert hash(part) == hash(whole)
    assert part != whole
    await do.refresh(part)
    assert part == whole


async def test_a_result_given_up_half_way_leaves_nothing_behind(do, caplog):
    for number in range(200):
        await do.save(Account(pk=str(number), balance=number))

    async def give_up() -> None:
        async for _ in Account.ascan():
            break
        for _ in Account.scan():
            break
        assert await Account.ascan().afirst() is not None
        assert Account.scan().first() is not None

    def run() -> None:
        event_loop = asyncio.new_event_loop()
        event_loop.run_until_complete(give_up())
        event_loop.close()
        gc.collect()

    await asyncio.get_running_loop().run_in_executor(None, run)
    assert caplog.records == []
