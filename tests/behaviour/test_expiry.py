"""Expiry: an item whose time has come is absent for everything that asks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from mintkey import AutoGenerate, Model
from mintkey.attributes import ExpiresIn, NumberAttribute, StringAttribute, TTLAttribute, VersionAttribute
from mintkey.errors import ConditionFailed, ItemGone, KeyCollision
from mintkey.testing import FrozenClock, frozen

UTC = timezone.utc
# Ahead of the servers' own clocks, by which some of them remove what has expired, at a time of their choosing.
START = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    """A clock that moves only when told."""
    with frozen(START, seed=1) as stopped:
        yield stopped


class Session(Model):
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    n = NumberAttribute()
    expires_at = TTLAttribute(default=lambda: ExpiresIn.minutes(1))


def test_expires_in_gives_aware_times_of_whole_seconds(clock):
    clock.advance(0.75)
    assert ExpiresIn.seconds(1) == START + timedelta(seconds=1)
    assert ExpiresIn.minutes(2) == START + timedelta(minutes=2)
    assert ExpiresIn.hours(24) == START + timedelta(hours=24)
    assert ExpiresIn.days(2) == START + timedelta(days=2)
    assert ExpiresIn.weeks(1) == START + timedelta(weeks=1)
    assert ExpiresIn.hours(1).utcoffset() == timedelta(0)


async def test_an_item_lives_until_its_second_has_come(do, clock):
    item = Session(pk="a", sk=1)
    await do.save(item)
    assert item.expires_at == START + timedelta(minutes=1)
    assert not item.is_expired
    assert item.expires_in == timedelta(minutes=1)
    clock.advance(59.999)
    assert await do.get(Session, pk="a", sk=1) == item
    assert not item.is_expired
    clock.advance(0.001)
    assert item.is_expired
    assert item.expires_in is None
    assert await do.get(Session, pk="a", sk=1) is None


async def test_an_item_without_a_time_never_expires(do, clock):
    item = Session(pk="a", sk=1, expires_at=None)
    await do.save(item)
    assert item.is_expired is False
    assert item.expires_in is None
    clock.advance(timedelta(days=40_000))
    assert await do.get(Session, pk="a", sk=1) == item


@pytest.fixture
async def half(do, clock):
    """Ten items, of which the even ones have expired."""
    for sk in range(10):
        await do.save(Session(pk="a", sk=sk, n=sk, expires_at=ExpiresIn.hours(1 + sk % 2)))
    clock.advance(timedelta(hours=1))
    return [1, 3, 5, 7, 9]


async def test_reads_and_counts_do_not_see_expired_items(do, half):
    assert [item.sk for item in await do.iterate(do.query(Session, pk="a"))] == half
    assert [item.sk for item in await do.iterate(do.query(Session, pk="a", descending=True))] == half[::-1]
    assert sorted(item.sk for item in await do.iterate(do.scan(Session))) == half
    assert await do.count(Session) == 5
    assert await do.count(Session, pk="a") == 5
    assert await do.count(do.query(Session, Session.sk < 5, pk="a")) == 2
    assert (await do.first(do.query(Session, pk="a"))).sk == 1
    assert [item.sk for item in await do.iterate(do.query(Session, pk="a", limit=3))] == half[:3]
    seen, cursor = [], None
    while True:
        page = await do.page(do.query(Session, pk="a"), 2, cursor)
        seen += [item.sk for item in page]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == half


async def test_write_conditions_take_an_expired_row_for_absent(do, half):
    with pytest.raises(ItemGone):
        await do.update_by_key(Session, {"pk": "a", "sk": 0}, n=1)
    with pytest.raises(ItemGone):
        await do.update(Session(pk="a", sk=0), n=1)
    with pytest.raises(ConditionFailed):
        await do.delete(Session(pk="a", sk=0), condition=Session.n == 0)
    with pytest.raises(ConditionFailed):
        await do.save(Session(pk="a", sk=0), condition=Session.n.exists())
    await do.save(Session(pk="a", sk=0, n=7, expires_at=None), condition=Session.pk.does_not_exist())
    assert (await do.get(Session, pk="a", sk=0)).n == 7


async def test_an_insert_replaces_an_expired_row_whole(do, half):
    item = await do.create(Session, pk="a", sk=0, expires_at=None)
    assert (await do.get(Session, pk="a", sk=0)).to_dict() == item.to_dict() == {"pk": "a", "sk": 0}
    with pytest.raises(KeyCollision):
        await do.create(Session, pk="a", sk=1)


async def test_an_instance_of_an_expired_row_is_gone(do, clock):
    item = Session(pk="a", sk=1)
    await do.save(item)
    clock.advance(60)
    with pytest.raises(ItemGone):
        await do.refresh(item)
    item.n = 1
    with pytest.raises(ItemGone):
        await do.save(item)
    with pytest.raises(ItemGone):
        await do.extend_ttl(item, ExpiresIn.hours(1))
    assert item.is_expired
    await do.delete(item)
    item.expires_at = ExpiresIn.hours(1)
    await do.save(item)
    assert await do.get(Session, pk="a", sk=1) == item


async def test_extend_ttl_is_in_the_instance_and_the_store_at_once(do, clock):
    item = Session(pk="a", sk=1, n=1)
    await do.save(item)
    item.n = 2
    until = datetime(2100, 1, 2, 0, 0, 0, 123_456, UTC)
    await do.extend_ttl(item, until)
    assert item.expires_at == until.replace(microsecond=0)
    assert item.changed == {"n"}
    stored = await do.get(Session, pk="a", sk=1)
    assert (stored.expires_at, stored.n) == (item.expires_at, 1)
    clock.advance(3600)
    assert await do.get(Session, pk="a", sk=1) is not None


async def test_a_vanished_row_cannot_be_extended(do, clock):
    item = Session(pk="a", sk=1)
    await do.save(item)
    await do.delete(Session(pk="a", sk=1))
    with pytest.raises(ItemGone):
        await do.extend_ttl(item, ExpiresIn.hours(1))
    assert item.expires_at == START + timedelta(minutes=1)
    assert await do.count(Session) == 0


async def test_an_item_born_expired_is_not_there(do, clock):
    await do.save(Session(pk="a", sk=1, expires_at=START))
    assert await do.get(Session, pk="a", sk=1) is None
    assert await do.count(Session) == 0
    await do.create(Session, pk="a", sk=1)
    assert await do.count(Session) == 1


async def test_a_versioned_model_starts_anew_over_an_expired_row(do, clock):
    class Lease(Model):
        pk = StringAttribute(partition_key=True)
        until = TTLAttribute()
        version = VersionAttribute()

    await do.save(one := Lease(pk="a", until=ExpiresIn.minutes(1)))
    with pytest.raises(ConditionFailed):
        await do.save(Lease(pk="a"))
    clock.advance(60)
    await do.save(Lease(pk="a"))
    one.until = ExpiresIn.hours(1)
    with pytest.raises(ConditionFailed):
        await do.save(one, condition=Lease.until.exists())


async def test_a_model_without_a_ttl_has_no_expiry(do):
    class Plain(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)

    for ask in (lambda item: item.is_expired, lambda item: item.expires_in):
        with pytest.raises(AttributeError, match="TTLAttribute"):
            ask(Plain())
    with pytest.raises(AttributeError, match="TTLAttribute"):
        await do.extend_ttl(Plain(), START)
