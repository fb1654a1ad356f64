"""Rows of other programs: null as a value, and times and UUIDs that are written with other characters."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from datetime import date, datetime, timezone
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from mintkey import Model, ModelConfig, _core
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    CompressedAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import InvalidValue
from mintkey.fields import Field, KeyField


class Colour(enum.Enum):
    RED = "red"


class Prefs(BaseModel):
    note: str | None = "x"


@dataclasses.dataclass
class Point:
    x: float | None = 1.5


class Inner(Model):
    model_config = ModelConfig(abstract=True)
    at = DatetimeAttribute()
    words = StringSetAttribute()
    colour = EnumAttribute(Colour)
    prefs = JSONAttribute(Prefs)


class Every(Model):
    pk = StringAttribute(partition_key=True)
    text = StringAttribute()
    number = NumberAttribute()
    decimal = DecimalAttribute()
    flag = BooleanAttribute()
    raw = BinaryAttribute()
    things = ListAttribute()
    data = MapAttribute()
    inner = MapAttribute(Inner)
    point = MapAttribute(Point)
    prefs = MapAttribute(Prefs)
    words = StringSetAttribute()
    numbers = NumberSetAttribute()
    blobs = BinarySetAttribute()
    json = JSONAttribute()
    model = JSONAttribute(Prefs)
    colour = EnumAttribute(Colour)
    at = DatetimeAttribute()
    day = DateAttribute()
    ident = UUIDAttribute()
    packed = CompressedAttribute()
    until = TTLAttribute()
    field = Field(type=int)
    members = Field(type=set)
    pair = Field(type=tuple)


SETS = {"words", "numbers", "blobs", "members"}


@pytest.fixture
def write(store) -> Any:
    """Writes a row as another program does: the stored JSON form, with nulls."""

    def put(model: Any, /, **stored: Any) -> None:
        schema = model.__mintkey_schema__
        store.claim(schema)
        item = _core.Item.from_json(json.dumps(stored))
        store._core.execute(schema.codec.put(item, row="any", version=None))

    return put


async def test_null_is_absence_for_every_type(do, write):
    names = [name for name in Every.__mintkey_schema__.attributes if name != "pk"]
    write(Every, pk="a", **dict.fromkeys(names))
    for loaded in (await do.get(Every, pk="a"), *await do.iterate(do.scan(Every))):
        assert {name: getattr(loaded, name) for name in names} == {
            name: set() if name in SETS else None for name in names
        }
        assert not loaded.is_dirty
    loaded.number = 5
    await do.save(loaded)
    loaded.at = datetime(2024, 1, 1, tzinfo=timezone.utc)
    await do.save(loaded)
    await do.refresh(loaded)
    assert (loaded.number, loaded.at) == (5, datetime(2024, 1, 1, tzinfo=timezone.utc))
    await do.update(loaded, words={"a"})
    assert loaded.words == {"a"}


async def test_null_is_absence_inside_a_nested_model(do, write):
    write(Every, pk="a", inner={"at": None, "words": None, "colour": None, "prefs": None})
    loaded = await do.get(Every, pk="a")
    inner = loaded.inner
    assert (inner.at, inner.words, inner.colour, inner.prefs) == (None, set(), None, None)


async def test_null_is_kept_in_plain_and_structured_values(do, write):
    write(Every, pk="a", things=[None], data={"a": None}, point={"x": None}, prefs={"note": None})
    loaded = await do.get(Every, pk="a")
    assert (loaded.things, loaded.data, loaded.point, loaded.prefs) == (
        [None],
        {"a": None},
        Point(None),
        Prefs(note=None),
    )
    await do.save(Every(pk="b", json=[None], model=Prefs(note=None), point=Point(None), prefs=Prefs(note=None)))
    other = await do.get(Every, pk="b")
    assert (other.json, other.model, other.point, other.prefs) == (
        [None],
        Prefs(note=None),
        Point(None),
        Prefs(note=None),
    )


async def test_a_null_version_counts_as_none(do, write):
    class Versioned(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()
        version = VersionAttribute()

    for pk in ("a", "b", "c"):
        write(Versioned, pk=pk, version=None)
    loaded = await do.get(Versioned, pk="a")
    assert loaded.version is None
    loaded.n = 1
    await do.save(loaded)
    assert (await do.get(Versioned, pk="a")).version == 1
    loaded = await do.get(Versioned, pk="b")
    await do.update(loaded, n=2)
    assert (loaded.n, loaded.version) == (2, 1)
    await do.delete(await do.get(Versioned, pk="c"))
    assert await do.get(Versioned, pk="c") is None


class Growing(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def grow(cls, n: int) -> int:
        return n + 1


class Grown(Model):
    pk = StringAttribute(partition_key=True)
    number = NumberAttribute()
    things = ListAttribute()
    json = JSONAttribute(Growing)
    mapped = MapAttribute(Growing)
    text = StringAttribute()


async def test_stored_values_that_the_class_cannot_write_stay_when_others_change(do, write):
    row = {"number": "many", "things": {"a": 1}, "json": '{"n":1}', "mapped": {"n": 1}}
    write(Grown, pk="a", **row)
    loaded = await do.get(Grown, pk="a")
    assert (loaded.number, loaded.things, loaded.json.n, loaded.mapped.n) == ("many", {"a": 1}, 2, 2)
    assert not loaded.is_dirty
    loaded.text = "x"
    assert loaded.changed == {"text"}
    await do.save(loaded)
    await do.update(loaded, text="y")
    await do.save(loaded, replace=True)
    await do.refresh(loaded)
    assert (loaded.number, loaded.things, loaded.json.n, loaded.mapped.n, loaded.text) == ("many", {"a": 1}, 2, 2, "y")
    loaded.mapped.n = 7
    assert loaded.changed == {"mapped"}
    with pytest.raises(InvalidValue, match=r"Grown\.mapped: in n"):
        await do.save(loaded)
    loaded = await do.get(Grown, pk="a")
    loaded.number = "more"
    with pytest.raises(InvalidValue, match=r"Grown\.number"):
        await do.save(loaded)


async def test_a_null_as_json_text_is_read_as_none(do, write):
    write(Grown, pk="a", json="null")
    loaded = await do.get(Grown, pk="a")
    assert (loaded.json, loaded.is_dirty) == (None, False)


NOON = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
TIMES = [
    "2024-01-01T12:00:00+00:00",
    "2024-01-01T12:00:00Z",
    "2024-01-01T12:00:00.000Z",
    "2024-01-01T13:00:00+01:00",
    "2024-01-01T12:00:00.000000+0000",
    "20240101T120000Z",
]


class Log(Model):
    pk = StringAttribute(partition_key=True)
    at = DatetimeAttribute(sort_key=True)
    n = NumberAttribute()
    other = DatetimeAttribute()


@pytest.mark.parametrize("text", TIMES)
async def test_a_row_with_another_form_of_its_key_keeps_it(do, write, text):
    write(Log, pk="a", at=text, n=1, other=text)
    (loaded,) = await do.iterate(do.query(Log, pk="a"))
    assert (loaded.at, loaded.other, loaded.is_dirty) == (NOON, NOON, False)
    loaded.n = 2
    await do.save(loaded)
    await do.update(loaded, Log.n.add(1))
    await do.refresh(loaded)
    assert loaded.n == 3
    loaded.n = 4
    await do.save(loaded, replace=True)
    loaded.n = 5
    await do.batch_save(Log, [loaded])
    assert [(one.n, one.at) for one in await do.iterate(do.scan(Log))] == [(5, NOON)]
    loaded.at = NOON.replace(hour=13)
    with pytest.raises(InvalidValue, match="key of a stored item cannot change"):
        await do.save(loaded)
    loaded.at = NOON
    await do.delete(loaded)
    assert await do.count(Log) == 0


FORMS = [
    ("micro", "2024-01-01T12:00:00.000000+00:00"),
    ("micro+0000", "2024-01-01T12:00:00.000000+0000"),
    ("micro Z", "2024-01-01T12:00:00.000000Z"),
    ("seconds", "2024-01-01T12:00:00+00:00"),
    ("Z", "2024-01-01T12:00:00Z"),
    ("isoformat", "2024-01-01T12:00:00+00:00"),
]


@pytest.mark.parametrize(("form", "text"), FORMS)
async def test_stored_as_is_the_text_that_is_written_and_sought(do, write, form, text):
    class Event(Model):
        pk = StringAttribute(partition_key=True)
        at = DatetimeAttribute(sort_key=True, stored_as=form)
        n = NumberAttribute()

    write(Event, pk="a", at=text, n=1)
    loaded = await do.get(Event, pk="a", at=NOON)
    assert loaded.n == 1
    assert await do.count(Event, Event.at == NOON) == 1
    assert len(await do.iterate(do.query(Event, Event.at >= NOON, pk="a"))) == 1
    await do.save(Event(pk="a", at=NOON, n=2))
    assert [one.n for one in await do.iterate(do.scan(Event))] == [2]
    fraction = NOON.replace(microsecond=5)
    if form in {"seconds", "Z"}:
        with pytest.raises(InvalidValue, match="fraction of a second"):
            await do.save(Event(pk="a", at=fraction))
    else:
        await do.save(Event(pk="a", at=fraction))
        assert (await do.get(Event, pk="a", at=fraction)).at == fraction


IDENT = uuid.UUID("0188c89d-df6b-7f1c-a388-91396ec314bc")
IDENTS = [
    ("hyphens", "0188c89d-df6b-7f1c-a388-91396ec314bc"),
    ("hex", "0188c89ddf6b7f1ca38891396ec314bc"),
    ("upper", "0188C89D-DF6B-7F1C-A388-91396EC314BC"),
    ("upper hex", "0188C89DDF6B7F1CA38891396EC314BC"),
]


@pytest.mark.parametrize(("form", "text"), IDENTS)
async def test_forms_of_uuids(do, write, form, text):
    class Thing(Model):
        model_config = ModelConfig(table="things")
        id = UUIDAttribute(partition_key=True)
        n = NumberAttribute()

    class Exact(Model):
        model_config = ModelConfig(table="things")
        id = UUIDAttribute(partition_key=True, stored_as=form)
        n = NumberAttribute()

    write(Thing, id=text, n=1)
    (loaded,) = await do.iterate(do.scan(Thing))
    assert loaded.id == IDENT
    loaded.n = 2
    await do.save(loaded)
    await do.update(loaded, n=3)
    await do.refresh(loaded)
    found = await do.get(Exact, id=IDENT)
    assert found.n == 3
    await do.save(Exact(id=IDENT, n=4))
    assert [one.n for one in await do.iterate(do.scan(Thing))] == [4]
    await do.delete(loaded)
    assert await do.count(Thing) == 0


async def test_a_date_in_basic_form(do, write):
    class Day(Model):
        pk = StringAttribute(partition_key=True)
        day = DateAttribute(sort_key=True, stored_as="basic")

    write(Day, pk="a", day="20240131")
    assert (await do.get(Day, pk="a", day=date(2024, 1, 31))).day == date(2024, 1, 31)


async def test_a_compound_key_of_an_older_form_is_kept(do, write):
    class Visit(Model):
        room = KeyField()
        ident = KeyField(type=uuid.UUID)
        n = Field(type=int)

    upper = str(IDENT).upper()
    write(Visit, _key=f"a:{upper}", room="a", ident=upper, n=1)
    (loaded,) = await do.iterate(do.scan(Visit))
    loaded.n = 2
    await do.save(loaded)
    await do.update(loaded, n=3)
    await do.refresh(loaded)
    assert [one.n for one in await do.iterate(do.scan(Visit))] == [3]
