"""`minted_between`: a time range as a range of keys."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from uuid import UUID

import pytest

from mintkey import AutoGenerate, Model, auto
from mintkey.attributes import (
    BinaryAttribute,
    DateAttribute,
    DatetimeAttribute,
    NumberAttribute,
    StringAttribute,
    TTLAttribute,
    UUIDAttribute,
)
from mintkey.errors import ConfigurationError, InvalidValue
from mintkey.fields import Field

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
    assert "filter:" not in do.query(Entry, asked, stream="s").explain()
    assert [entry.second for entry in await do.all(do.query(Entry, asked, stream="s", descending=True))] == [2, 1]
    assert {entry.second for entry in await do.all(do.scan(Entry, asked))} == {1, 2}


async def test_numbers_and_bytes_and_uuids_have_spans_too(do, clock):
    class Mixed(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.UUID4)
        flake = NumberAttribute(default=auto("snowflake", node=7))
        raw = BinaryAttribute(default=AutoGenerate.ULID)
        uuid = UUIDAttribute(default=AutoGenerate.UUID7)
        typed = UUIDAttribute(default=AutoGenerate.TYPEID)
        packed = BinaryAttribute(default=AutoGenerate.TYPEID)
        at = NumberAttribute(default=AutoGenerate.EPOCH_MS)

    made = []
    for second in range(3):
        clock.set(START + timedelta(seconds=second))
        mixed = Mixed()
        await do.save(mixed)
        for typed in (mixed.typed, UUID(bytes=mixed.packed)):
            assert isinstance(typed, UUID)
            assert typed.version == 7
        made.append(mixed.pk)
    one, two = START + timedelta(seconds=1), START + timedelta(seconds=2)
    for attribute in (Mixed.flake, Mixed.raw, Mixed.uuid, Mixed.typed, Mixed.packed, Mixed.at):
        found = await do.all(do.scan(Mixed, attribute.minted_between(one, two)))
        assert [mixed.pk for mixed in found] == [made[1]]


def test_an_attribute_without_an_order_of_time_says_so():
    class Plain(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.UUID4)
        note = StringAttribute()

    for attribute in (Plain.pk, Plain.note):
        with pytest.raises(ConfigurationError, match=r"Plain\.\w+: minted_between\(\) needs a default= strategy"):
            attribute.minted_between(START, START + timedelta(1))


async def test_on_a_partition_key_a_span_is_a_filter(do, clock):
    class Note(Model):
        id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        hour = NumberAttribute()

    for hour in range(4):
        clock.set(START + timedelta(hours=hour))
        await do.save(Note(hour=hour))
    asked = do.scan(Note, Note.id.minted_between(START + timedelta(hours=1), START + timedelta(hours=3)))
    assert sorted([note.hour for note in await do.all(asked)]) == [1, 2]
    assert "filter:" in asked.explain()


async def test_times_have_spans_by_when_they_were_minted(do, clock):
    class Ticket(Model):
        pk = StringAttribute(partition_key=True)
        at = DatetimeAttribute(sort_key=True, default=AutoGenerate.ISO8601_MS)
        until = TTLAttribute(default=auto("epoch_ms", plus=timedelta(days=7, milliseconds=500)))
        number = NumberAttribute()

    start = START.replace(year=2100)  # servers remove expired rows by their own clocks
    for number in range(4):
        clock.set(start + timedelta(seconds=number))
        await do.save(Ticket(pk="a", number=number))
    span = start + timedelta(seconds=1), start + timedelta(seconds=3)
    found = await do.all(do.query(Ticket, Ticket.at.minted_between(*span), pk="a"))
    assert [ticket.number for ticket in found] == [1, 2]
    assert "filter:" not in do.query(Ticket, Ticket.at.minted_between(*span), pk="a").explain()
    # Its seconds begin half a second late.
    half = tuple(time - timedelta(milliseconds=500) for time in span)
    found = await do.all(do.query(Ticket, Ticket.until.minted_between(*half), pk="a"))
    assert [ticket.number for ticket in found] == [1, 2]
    with pytest.raises(InvalidValue, match=r"Ticket\.until: minted_between\(\): no second starts"):
        Ticket.until.minted_between(START, START + timedelta(milliseconds=400))


async def test_a_day_belongs_to_the_span_in_which_it_begins(do, clock):
    class Visit(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute(sort_key=True)
        day = DateAttribute(default=AutoGenerate.ISO8601)
        due = Field(type=date, default=auto("epoch_ms", plus=timedelta(hours=1)))

    hours = (0, 15, 23, 24, 47, 48)
    for hour in hours:
        clock.set(START + timedelta(hours=hour))
        await do.save(Visit(pk="a", n=hour))

    async def found(attribute, start, end):
        span = attribute.minted_between(START + timedelta(hours=start), START + timedelta(hours=end))
        return [visit.n for visit in await do.all(do.query(Visit, span, pk="a"))]

    assert await found(Visit.day, 0, 24) == [0, 15, 23]
    assert await found(Visit.day, 10, 30) == [24, 47]
    assert await found(Visit.day, 24, 49) == [24, 47, 48]
    assert await found(Visit.due, -1, 23) == [0, 15]
    assert await found(Visit.due, 23, 47) == [23, 24]
    with pytest.raises(InvalidValue, match=r"Visit\.day: minted_between\(\): no day starts between .* whole days"):
        await found(Visit.day, 10, 11)


@pytest.mark.parametrize(
    ("start", "end", "match"),
    [
        (START, START, "no ulid can be generated in this time range"),
        (START, START - timedelta(1), "it ends before it begins"),
        ("2024-01-01", START, "start='2024-01-01' is not a datetime: use datetime.fromisoformat"),
        (START, None, "end=None is not a datetime"),
        (date(2024, 1, 1), START, "is not a datetime"),
        (0, 1, "start=0 is not a datetime"),
    ],
)
def test_what_is_no_span_is_refused_by_name(start, end, match):
    with pytest.raises(InvalidValue, match=rf"Event\.id: minted_between\(\): .*{match}") as caught:
        Event.id.minted_between(start, end)
    assert (caught.value.model, caught.value.attribute) == ("Event", "id")
