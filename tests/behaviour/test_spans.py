"""`minted_between`: a span of time as a span of keys."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from mintkey import AutoGenerate, Model, auto
from mintkey.attributes import BinaryAttribute, NumberAttribute, StringAttribute, UUIDAttribute
from mintkey.errors import ConfigurationError

START = datetime(2024, 1, 1, tzinfo=timezone.utc)


class Event(Model):
    stream = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    number = NumberAttribute()


SORTED_STRATEGIES = [
    AutoGenerate.ULID,
    AutoGenerate.UUID7,
    AutoGenerate.KSUID,
    AutoGenerate.XID,
    auto("typeid", prefix="event"),
    auto("ulid", prefix="EVENT#"),
    AutoGenerate.ISO8601_MS,
]


@pytest.mark.parametrize("strategy", SORTED_STRATEGIES, ids=str)
async def test_a_span_finds_what_was_minted_in_it(do, clock, strategy):
    class Entry(Model):
        stream = StringAttribute(partition_key=True)
        id = StringAttribute(sort_key=True, default=strategy)
        second = NumberAttribute()

    for second in range(5):
        clock.set(START + timedelta(seconds=second))
        await do.save(Entry(stream="s", second=second))
    asked = Entry.id.minted_between(START + timedelta(seconds=1), START + timedelta(seconds=3))
    assert [entry.second for entry in await do.all(do.query(Entry, asked, stream="s"))] == [1, 2]
    assert "judged item by item" not in do.query(Entry, asked, stream="s").explain()
    assert [entry.second for entry in await do.all(do.query(Entry, asked, stream="s", descending=True))] == [2, 1]
    assert {entry.second for entry in await do.all(do.scan(Entry, asked))} == {1, 2}


async def test_numbers_and_bytes_and_uuids_have_spans_too(do, clock):
    class Mixed(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.UUID4)
        flake = NumberAttribute(default=auto("snowflake", node=7))
        raw = BinaryAttribute(default=AutoGenerate.ULID)
        uuid = UUIDAttribute(default=AutoGenerate.UUID7)
        at = NumberAttribute(default=AutoGenerate.EPOCH_MS)

    made = []
    for second in range(3):
        clock.set(START + timedelta(seconds=second))
        mixed = Mixed()
        await do.save(mixed)
        made.append(mixed.pk)
    one, two = START + timedelta(seconds=1), START + timedelta(seconds=2)
    for attribute in (Mixed.flake, Mixed.raw, Mixed.uuid, Mixed.at):
        found = await do.all(do.scan(Mixed, attribute.minted_between(one, two)))
        assert [mixed.pk for mixed in found] == [made[1]]


def test_an_attribute_without_an_order_of_time_says_so():
    class Plain(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.UUID4)
        note = StringAttribute()

    for attribute in (Plain.pk, Plain.note):
        with pytest.raises(ConfigurationError, match=r"Plain\.\w+: minted_between\(\) needs a default= strategy"):
            attribute.minted_between(START, START + timedelta(1))
    with pytest.raises(ValueError, match="no ulid can be minted in this span"):
        Event.id.minted_between(START, START)
