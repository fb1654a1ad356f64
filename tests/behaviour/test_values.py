"""Values: what goes in comes out, of the same type, on every store."""

from __future__ import annotations

import dataclasses
import enum
import math
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pydantic
import pytest

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    CompressedAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    IntegerAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TimeAttribute,
    TimedeltaAttribute,
    TTLAttribute,
    UUIDAttribute,
)
from mintkey.errors import InvalidValue, UnreadableItem

UTC = timezone.utc


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Raw(enum.Enum):
    ONE = b"\x00\x01"


class Address(Model):
    model_config = ModelConfig(abstract=True)
    street = StringAttribute()
    number = NumberAttribute()


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0
    label: str | None = None


class Person(pydantic.BaseModel):
    name: str
    age: int = 0


class Every(Model):
    model_config = ModelConfig(table="every")
    pk = StringAttribute(partition_key=True)
    text = StringAttribute()
    number = NumberAttribute()
    decimal = DecimalAttribute()
    flag = BooleanAttribute()
    raw = BinaryAttribute()
    things = ListAttribute()
    data = MapAttribute()
    address = MapAttribute(Address)
    point = MapAttribute(Point)
    words = StringSetAttribute()
    numbers = NumberSetAttribute()
    blobs = BinarySetAttribute()
    json = JSONAttribute()
    person = JSONAttribute(model_class=Person)
    colour = EnumAttribute(Colour)
    level = EnumAttribute(Level)
    rawed = EnumAttribute(Raw)
    at = DatetimeAttribute()
    day = DateAttribute()
    ident = UUIDAttribute()
    packed = CompressedAttribute()
    gzipped = CompressedAttribute("gzip", level=9)
    lz4 = CompressedAttribute("lz4")
    until = TTLAttribute()
    whole = IntegerAttribute()
    hour = TimeAttribute()
    lasts = TimedeltaAttribute()


async def reloaded(do, **values) -> Any:
    """What comes back of these values; an equal instance in any case."""
    item = Every(pk="a", **values)
    await do.save(item)
    loaded = await do.get(Every, pk="a")
    assert loaded == item
    assert not loaded.is_dirty
    assert loaded.to_dict().keys() == {"pk", *values}
    return loaded


NUMBERS: list[tuple[Any, Any]] = [
    (0, 0),
    (-0.0, 0),
    (1, 1),
    (1.0, 1),
    (-1, -1),
    (1.5, 1.5),
    (0.1, 0.1),
    (1e-7, 1e-7),
    (1e22, 10**22),
    (2**53 + 1, 2**53 + 1),
    (2**63, 2**63),
    (-(2**64), -(2**64)),
    (10**38 - 1, 10**38 - 1),
    (-(10**38 - 1), -(10**38 - 1)),
    (10**125, 10**125),
    (Decimal("0.30000000000000000000000000000000000001"), Decimal("0.30000000000000000000000000000000000001")),
    (Decimal("1.10"), 1.1),
    (Decimal("1E+3"), 1000),
    (Decimal("1e-130"), 1e-130),
    (
        Decimal("9.9999999999999999999999999999999999999e125"),
        int(Decimal("9.9999999999999999999999999999999999999e125")),
    ),
    (99.99, 99.99),
    (5e-100, 5e-100),
    (1.5e120, 15 * 10**119),
    (math.pi, math.pi),
    (12345678901234567.5, 12345678901234568),
]


@pytest.mark.parametrize(("given", "expected"), NUMBERS, ids=[str(given) for given, _ in NUMBERS])
async def test_numbers(do, given, expected):
    loaded = await reloaded(do, number=given, things=[given, [given]], data={"n": given}, numbers={given})
    for value in (loaded.number, loaded.things[0], loaded.things[1][0], loaded.data["n"], *loaded.numbers):
        assert value == expected
        assert type(value) is type(expected)


@pytest.mark.parametrize("given", [Decimal("1.1"), Decimal(1), Decimal("-0"), 5, Decimal("1E+30"), Decimal("0.000")])
async def test_decimals_are_always_decimals(do, given):
    loaded = await reloaded(do, decimal=given)
    assert loaded.decimal == given
    assert type(loaded.decimal) is Decimal


TEXTS = [
    "",
    " ",
    "x",
    "\0",
    "a\0b",
    "é",
    "\u0301",
    "\U0010ffff",
    "\ufeff",
    "'\"`;--",
    "%_*?[",
    "$B",
    "\\",
    "\r\n\t",
    "\x7f",
]
TEXTS += ["None", "null", "NaN", "x" * 10_000, '{"$B": "AA=="}', "\u2028"]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
async def test_texts(do, text):
    data = {f"-{text}": text, "$": {f"${text}": text}}
    loaded = await reloaded(do, text=text, things=[text], data=data, words={text})
    assert loaded.text == text
    assert loaded.things == [text]
    assert loaded.data == data
    assert loaded.words == {text}


@pytest.mark.parametrize("raw", [b"", b"\0", b"\xff\xfe", bytes(range(256)), b"x" * 5000, b'{"$B": ""}'], ids=len)
async def test_bytes(do, raw):
    loaded = await reloaded(do, raw=raw, things=[raw], data={"b": raw}, blobs={raw, b"other"})
    assert loaded.raw == raw
    assert type(loaded.raw) is bytes
    assert loaded.things == [raw]
    assert loaded.data == {"b": raw}
    assert loaded.blobs == {raw, b"other"}


async def test_bytes_and_text_of_the_same_letters_differ(do):
    loaded = await reloaded(do, things=["YQ==", b"a", {"$B": "YQ=="}, {"$$B": 1}, {"$SS": ["a"]}, {"$NS": []}])
    assert loaded.things == ["YQ==", b"a", {"$B": "YQ=="}, {"$$B": 1}, {"$SS": ["a"]}, {"$NS": []}]


async def test_booleans_are_no_numbers(do):
    for flag in (True, False):
        loaded = await reloaded(do, flag=flag, things=[flag, 1, 0], data={"f": flag})
        assert loaded.flag is flag
        assert loaded.things[0] is flag
        assert [type(value) for value in loaded.things] == [bool, int, int]
    for wrong in (1, 0, "true"):
        with pytest.raises(InvalidValue, match=r"Every\.flag"):
            await do.save(Every(pk="b", flag=wrong))
    for name in ("number", "decimal"):
        with pytest.raises(InvalidValue, match=rf"Every\.{name}"):
            await do.save(Every(pk="b", **{name: True}))
    with pytest.raises(InvalidValue, match=r"Every\.numbers"):
        await do.save(Every(pk="b", numbers={True}))


async def test_containers(do):
    things: list[Any] = [
        None,
        True,
        1,
        1.5,
        "x",
        b"y",
        [],
        {},
        [[[]]],
        {"a": {"b": [None]}},
        {" ": ""},
        {"set"},
        {1, 2.5},
        {b"z"},
    ]
    loaded = await reloaded(do, things=things, data={"deep": things, " ": None})
    assert loaded.things == things
    assert loaded.data == {"deep": things, " ": None}
    assert isinstance(loaded.things[11], set)


async def test_empty_containers_are_values(do):
    loaded = await reloaded(do, things=[], data={})
    assert (loaded.things, loaded.data) == ([], {})


async def test_deep_nesting_within_reason(do):
    deep: Any = "bottom"
    for _ in range(31):
        deep = [deep]
    loaded = await reloaded(do, things=deep)
    assert loaded.things == deep


async def test_a_hundred_thousand_levels_are_refused_and_not_a_crash(do):
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    item = Every(pk="b", things=deep)
    with pytest.raises(InvalidValue, match=r"Every\.things"):
        await do.save(item)
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidValue, match=r"Every\.things"):
        await do.save(Every(pk="b", things=circle))
    assert await do.count(Every) == 0
    # Taken apart by hand: the interpreter's own recursion is no part of the test.
    while deep:
        deep = deep.pop()
    item.things = None


async def test_nested_classes(do):
    loaded = await reloaded(do, address=Address(street="High", number=5), point=Point(1.5, 2.0))
    assert isinstance(loaded.address, Address)
    assert (loaded.address.street, loaded.address.number) == ("High", 5)
    assert loaded.point == Point(1.5, 2.0)
    loaded.address.street = "Low"
    assert loaded.changed == {"address"}
    loaded.point.label = "p"
    await do.save(loaded)
    again = await do.get(Every, pk="a")
    assert (again.address.street, again.address.number) == ("Low", 5)
    assert again.point == Point(1.5, 2.0, "p")
    assert await do.count(Every, Every.address["street"] == "Low") == 1


async def test_a_nested_class_refuses_another(do):
    with pytest.raises(InvalidValue, match=r"Every\.address"):
        await do.save(Every(pk="a", address=Point(1)))
    with pytest.raises(InvalidValue, match=r"Every\.(point|address)"):
        await do.save(Every(pk="a", point="x"))
    with pytest.raises(InvalidValue):
        await do.save(Every(pk="a", address=Address(street=5)))
    assert await do.count(Every) == 0


@pytest.mark.parametrize(
    "value", [0, False, "", [], {}, "x", 1.5, [None, {"a": [1, 2.5, "é\0", True]}], {"$B": 1}], ids=repr
)
async def test_json(do, value):
    loaded = await reloaded(do, json=value)
    assert loaded.json == value
    assert type(loaded.json) is type(value)
    assert await do.count(Every, Every.json.is_type("string")) == 1


async def test_json_of_a_model_class(do):
    loaded = await reloaded(do, person=Person(name="Ada", age=36))
    assert loaded.person == Person(name="Ada", age=36)
    loaded.person.age = 37
    assert loaded.changed == {"person"}


@pytest.mark.parametrize("value", [len, {1}, math.nan, math.inf, b"x", {b"k": 1}], ids=repr)
async def test_json_refuses_what_json_has_not(do, value):
    with pytest.raises(InvalidValue, match=r"Every\.json"):
        await do.save(Every(pk="a", json=value))
    assert await do.count(Every) == 0


async def test_enums_are_stored_by_value(do):
    loaded = await reloaded(do, colour=Colour.RED, level=Level.HIGH, rawed=Raw.ONE)
    assert loaded.colour is Colour.RED
    assert loaded.level is Level.HIGH
    assert loaded.rawed is Raw.ONE
    assert await do.count(Every, Every.colour.is_type("string"), Every.level.is_type("number")) == 1
    assert await do.count(Every, Every.colour == Colour.RED, Every.level == Level.HIGH) == 1
    with pytest.raises(InvalidValue, match=r"Every\.colour.*RED"):
        await do.save(Every(pk="b", colour="red"))
    with pytest.raises(InvalidValue, match=r"Every\.colour"):
        Every.colour == "red"  # noqa: B015


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (datetime(2024, 1, 2, 3, 4, 5, 678901, UTC), datetime(2024, 1, 2, 3, 4, 5, 678901, UTC)),
        (datetime(2024, 1, 2, 3, 4, 5), datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),  # noqa: DTZ001
        (
            datetime(2024, 1, 2, 3, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            datetime(2024, 1, 1, 21, 30, tzinfo=UTC),
        ),
        (datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)),
        (datetime(999, 12, 31, tzinfo=UTC), datetime(999, 12, 31, tzinfo=UTC)),
        (datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
        (datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
    ],
    ids=str,
)
async def test_datetimes(do, given, expected):
    item = Every(pk="a", at=given)
    await do.save(item)
    loaded = await do.get(Every, pk="a")
    assert loaded.at == expected
    assert loaded.at.tzinfo is not None
    assert loaded.at.utcoffset() == timedelta(0)
    assert loaded == item


async def test_a_datetime_is_stored_as_text_that_sorts(do):
    class Log(Model):
        model_config = ModelConfig(table="Log")
        pk = StringAttribute(partition_key=True)
        at = DatetimeAttribute(sort_key=True)

    class Text(Model):
        model_config = ModelConfig(table="Log")
        pk = StringAttribute(partition_key=True)
        at = StringAttribute(sort_key=True)

    times = [datetime(year, 1, 1, second=second, tzinfo=UTC) for year in (1, 999, 2024) for second in (0, 1)]
    times.append(times[-1] + timedelta(microseconds=1))

    for at in reversed(times):
        await do.save(Log(pk="a", at=at))
    assert [item.at for item in await do.iterate(do.query(Log, pk="a"))] == times
    assert [item.at for item in await do.iterate(do.query(Log, Log.at > times[3], pk="a"))] == times[4:]
    texts = [item.at for item in await do.iterate(do.query(Text, pk="a"))]
    assert texts[0] == "0001-01-01T00:00:00.000000+00:00"
    assert texts[-1] == "2024-01-01T00:00:01.000001+00:00"


ISO_FORMS = ["2024-01-02T03:04:05Z", "2024-01-02T03:04:05+00:00", "20240102T030405Z", "2024-01-02 03:04:05"]
ISO_FORMS += [
    "2024-01-02T04:04:05+01:00",
    "2024-01-02T03:04:05.000",
    "2024-W01-2T03:04:05Z",
    "2024-01-02T03:04:05,000Z",
]


@pytest.mark.parametrize("form", ISO_FORMS)
async def test_any_iso_form_is_read(do, form):
    class Text(Model):
        model_config = ModelConfig(table="times")
        pk = StringAttribute(partition_key=True)
        at = StringAttribute()

    class Time(Model):
        model_config = ModelConfig(table="times")
        pk = StringAttribute(partition_key=True)
        at = DatetimeAttribute()

    await do.save(Text(pk="a", at=form))
    loaded = await do.get(Time, pk="a")
    assert loaded.at == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert not loaded.is_dirty


async def test_dates_and_uuids(do):
    ident = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")
    loaded = await reloaded(do, day=date(2024, 2, 29), ident=ident)
    assert (loaded.day, loaded.ident) == (date(2024, 2, 29), ident)
    assert type(loaded.day) is date
    assert await do.count(Every, Every.day < date(2024, 3, 1), Every.ident == ident) == 1
    for name, wrong in (("day", datetime(2024, 1, 1, tzinfo=UTC)), ("day", "2024-01-01"), ("ident", str(ident))):
        with pytest.raises(InvalidValue, match=rf"Every\.{name}"):
            await do.save(Every(pk="b", **{name: wrong}))


async def test_integers_times_and_durations(do):
    for whole, hour, lasts in (
        (0, time(0), timedelta(0)),
        (-(10**38) + 1, time(23, 59, 59, 999_999), timedelta.max),
        (10**23, time(12, 30), timedelta.min),
        (7, time(1, 2, 3, 4), timedelta(microseconds=-1)),
        (1, time(6, fold=1), timedelta(days=1, seconds=0.5)),
    ):
        loaded = await reloaded(do, whole=whole, hour=hour, lasts=lasts)
        assert (loaded.whole, loaded.hour, loaded.lasts) == (whole, hour, lasts)
        assert (type(loaded.whole), type(loaded.hour), type(loaded.lasts)) == (int, time, timedelta)
        assert await do.count(Every, Every.whole == whole, Every.hour == hour, Every.lasts == lasts) == 1
        assert await do.count(Every, Every.whole.is_type("number"), Every.lasts.is_type("number")) == 1
        assert await do.count(Every, Every.whole > whole) == await do.count(Every, Every.lasts < lasts) == 0


async def test_integers_times_and_durations_of_other_programs(do, raw):
    stored = raw(Every, whole=NumberAttribute(), hour=StringAttribute(), lasts=NumberAttribute())
    for hour in ("12:30", "12:30:00", "123000", "T12:30:00,000", "12:30:00.000000"):
        await do.save(stored(pk="a", whole=3.0, hour=hour, lasts=Decimal("1.5000000009")))
        loaded = await do.get(Every, pk="a")
        assert (loaded.whole, loaded.hour, loaded.lasts) == (3, time(12, 30), timedelta(seconds=1.5))
        assert not loaded.is_dirty
    for name, value in (("whole", 1.5), ("hour", "12:30Z"), ("hour", "noon"), ("lasts", 10**20)):
        await do.save(stored(pk="a", **{name: value}))
        with pytest.raises(UnreadableItem, match=rf"Every\.{name}"):
            await do.get(Every, pk="a")


async def test_integers_times_and_durations_sort(do):
    class Sorted(Model):
        pk = StringAttribute(partition_key=True)
        lasts = TimedeltaAttribute(sort_key=True)
        hour = TimeAttribute(index=True)

    long = [timedelta(days=-2), timedelta(microseconds=-1), timedelta(0), timedelta(seconds=9), timedelta(seconds=10)]
    for lasts in reversed(long):
        await do.save(Sorted(pk="a", lasts=lasts, hour=time(9)))
    assert [item.lasts for item in await do.iterate(do.query(Sorted, pk="a"))] == long
    assert [one.lasts for one in await do.iterate(do.query(Sorted, Sorted.lasts > long[2], pk="a"))] == long[3:]
    assert len(await do.iterate(do.query(Sorted, hour=time(9)))) == len(long)
    assert (await do.get(Sorted, pk="a", lasts=long[1])).lasts == long[1]


async def test_only_whole_numbers_are_added_to_an_integer(do):
    await do.save(Every(pk="a", whole=1))
    await do.update_by_key(Every, {"pk": "a"}, Every.whole.add(2))
    assert (await do.get(Every, pk="a")).whole == 3
    for wrong in (0.5, 1.0, True, Decimal(1)):
        with pytest.raises(InvalidValue, match=r"Every\.whole"):
            Every.whole.add(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="longer than the longest timedelta"):
        Every.lasts.add(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "short", "é" * 9_000, "a\0" * 5000, "".join(map(chr, range(32, 5000)))], ids=len)
async def test_compressed_texts(do, text):
    loaded = await reloaded(do, packed=text, gzipped=text, lz4=text)
    assert (loaded.packed, loaded.gzipped, loaded.lz4) == (text, text, text)
    loaded.text = "other"
    assert loaded.changed == {"text"}


async def test_compression_saves_room(do, raw):
    await reloaded(do, packed="x" * 300_000, gzipped="x" * 300_000, lz4="x" * 300_000)
    stored = raw(Every, packed=BinaryAttribute(), gzipped=BinaryAttribute())
    assert await do.count(stored, stored.packed.size() < 10_000, stored.gzipped.size() < 10_000) == 1
    with pytest.raises(InvalidValue):
        await do.save(Every(pk="b", text="x" * 500_000))


async def test_a_time_to_live_is_whole_seconds_from_its_assignment_on(do, clock):
    item = Every(pk="a", until=datetime(2124, 5, 1, 0, 0, 0, 999_999, UTC))
    assert item.until == datetime(2124, 5, 1, tzinfo=UTC)
    item.until = datetime(2124, 6, 1, 12, 0, 0, 5, timezone(timedelta(hours=2)))
    assert item.until == datetime(2124, 6, 1, 10, tzinfo=UTC)
    await do.save(item)
    loaded = await do.get(Every, pk="a")
    assert loaded == item
    assert loaded.until.utcoffset() == timedelta(0)
    assert await do.count(Every, Every.until.is_type("number")) == 1


@pytest.mark.parametrize(
    ("attribute", "strategy", "kind"),
    [
        (DatetimeAttribute, AutoGenerate.EPOCH_MS, datetime),
        (DatetimeAttribute, AutoGenerate.ISO8601, datetime),
        (DecimalAttribute, AutoGenerate.EPOCH, Decimal),
        (UUIDAttribute, AutoGenerate.UUID4, uuid.UUID),
        (BinaryAttribute, AutoGenerate.UUID4, bytes),
        (TTLAttribute, AutoGenerate.EPOCH, datetime),
    ],
)
async def test_a_minted_value_has_its_attributes_type(do, clock, attribute, strategy, kind):
    class Minted(Model):
        pk = StringAttribute(partition_key=True)
        value = attribute(default=strategy)

    item = Minted(pk="a")
    await do.save(item)
    assert type(item.value) is kind
    if attribute is not TTLAttribute:
        assert (await do.get(Minted, pk="a")).value == item.value
