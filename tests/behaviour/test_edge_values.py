"""Values at the edges of their types: they are read back equal, or refused with every kind of write."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, RootModel
from pydantic_core import PydanticSerializationError

from mintkey import Model, ModelConfig, connect, pipeline
from mintkey.attributes import (
    Attribute,
    EnumAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
)
from mintkey.errors import BatchIncomplete, InvalidValue
from mintkey.fields import Field, KeyField, SetField


class Level(enum.IntEnum):
    LOW = 1


class Zone(tzinfo):
    """A zone in which the hour after 02:00 occurs twice on 27 October 2024, and not at all on 31 March."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        if moment is None:
            return timedelta(0)
        summer = moment.month in range(4, 11) and not (moment.month == 10 and moment.hour >= 2 and moment.fold)
        gap = moment.month == 3 and moment.hour >= 2 and moment.fold
        return timedelta(hours=2 if summer or gap else 1)

    def dst(self, moment: datetime | None) -> timedelta:
        return self.utcoffset(moment) - timedelta(hours=1)

    def tzname(self, moment: datetime | None) -> str:
        return "Zone"


@dataclasses.dataclass
class Visit:
    at: datetime
    others: set[datetime] = dataclasses.field(default_factory=set)


class Call(BaseModel):
    at: datetime


class Names(RootModel[list[str]]):
    pass


class Edge(Model):
    model_config = ModelConfig(table="edges")
    pk = StringAttribute(partition_key=True)
    text = StringAttribute()
    ratio = Field(type=float)
    ratios = ListAttribute(of=float)
    shares = MapAttribute(of=float)
    level = EnumAttribute(Level)
    numbers = NumberSetAttribute()
    members = SetField()
    things = ListAttribute()
    data = MapAttribute()
    ids = MapAttribute(set[int], required=True)
    visit = MapAttribute(Visit)
    visits = JSONAttribute(list[Visit])
    call = JSONAttribute(Call)
    names = MapAttribute(Names)


#: Two numbers that Python takes for different, and that are stored as the same digits.
ALIKE = {0.1, Decimal("0.1")}
REFUSED: list[tuple[str, Any]] = [
    ("ratio", 2**53 + 1),
    ("ratios", [1.5, 10**38 - 1]),
    ("shares", {"a": -(2**60) - 1}),
    ("level", set()),
    ("level", frozenset()),
    ("numbers", ALIKE),
    ("members", frozenset(ALIKE)),
    ("things", [ALIKE]),
    ("data", {"a": ALIKE}),
]


async def test_what_would_be_read_as_another_value_is_refused(do):
    await do.create(Edge, pk="kept", ids={1})
    for name, value in REFUSED:
        for write in ways_to_write(do, **{name: value}):
            with pytest.raises(InvalidValue, match=rf"Edge\.{name}") as refused:
                await write()
            assert (refused.value.model, refused.value.attribute) == ("Edge", name)
    (row,) = await do.all(do.scan(Edge))
    assert row.to_dict() == {"pk": "kept", "ids": {1}}


def ways_to_write(do: Any, **values: Any) -> list[Callable[[], Any]]:
    ((name, value),) = values.items()

    def new() -> Edge:
        return Edge(pk="new", ids={1}, **values)

    async def batch() -> None:
        with pytest.raises(BatchIncomplete) as caught:
            await do.batch_save(Edge, [new()])
        raise caught.value.failed[0][1]

    return [
        lambda: do.save(new()),
        lambda: do.update_by_key(Edge, "kept", **values),
        lambda: do.update_by_key(Edge, "kept", getattr(Edge, name).set(value)),
        lambda: do.update_by_key(Edge, "new", upsert=True, ids={1}, **values),
        lambda: do.save(new(), pipeline=pipeline()),
        batch,
    ]


async def test_whole_floats_and_equal_members_are_stored(do):
    numbers = {0.5, 1, Decimal("0.1")}
    await do.create(Edge, pk="a", ids={1}, ratio=2**60, ratios=[1, -0.0], shares={"a": 10**22}, numbers=numbers)
    row = await do.get(Edge, pk="a")
    assert (row.ratio, row.ratios, row.shares, row.numbers) == (2.0**60, [1.0, 0.0], {"a": 1e22}, {0.5, 1, 0.1})
    assert {type(row.ratio), type(row.ratios[0]), type(row.shares["a"])} == {float}


async def test_an_empty_set_of_a_type_is_a_value(do):
    created = await do.create(Edge, pk="a", ids=set(), text="x")
    row = await do.get(Edge, pk="a")
    assert created.to_dict() == row.to_dict() == {"pk": "a", "ids": set(), "text": "x"}
    assert Edge.from_dict(row.to_dict()).ids == Edge.from_json(row.to_json()).ids == set()
    await do.update(row, ids={5})
    (part,) = await do.all(do.scan(Edge, attributes=["text"]))
    part.ids = set()
    assert part.changed == {"ids"}
    await do.save(part)
    assert (await do.get(Edge, pk="a")).ids == set()
    await do.update(row, Edge.ids.set({7}))
    await do.update(row, Edge.ids.set(set()))
    assert (await do.get(Edge, pk="a")).ids == set()


async def test_times_that_a_zone_has_twice_or_not_at_all(do):
    days = (10, 27, 0), (10, 27, 1), (3, 31, 0), (3, 31, 1)
    times = [datetime(2024, month, day, 2, 30, tzinfo=Zone(), fold=fold) for month, day, fold in days]
    for at in times:
        offset = at.utcoffset()
        assert offset is not None
        moment = at.replace(tzinfo=timezone(offset), fold=0)
        await do.save(Edge(pk=f"{at}", ids=set(), visit=Visit(at, {at}), visits=[Visit(at)], call=Call(at=at)))
        row = await do.get(Edge, pk=f"{at}")
        assert (row.visit, row.visits, row.call) == (Visit(moment, {moment}), [Visit(moment)], Call(at=moment))
        assert not row.is_dirty


async def test_offsets_with_seconds(do):
    at = datetime(1880, 1, 1, tzinfo=timezone(timedelta(minutes=53, seconds=28)))
    other = datetime(2024, 1, 1, tzinfo=timezone(-timedelta(hours=1, microseconds=5)))
    await do.create(Edge, pk="a", ids=set(), visit=Visit(at, {other}))
    row = await do.get(Edge, pk="a")
    assert row.visit == Visit(at, {other})
    with pytest.raises(InvalidValue, match=r"Edge\.call: in at: .* would be read as"):
        await do.update(row, call=Call(at=at))  # pydantic cuts the seconds


async def test_a_root_model_of_a_list(do):
    await do.create(Edge, pk="a", ids=set(), names=Names(["x", "y"]))
    row = await do.get(Edge, pk="a")
    assert (row.names, type(row.names), row.is_dirty) == (Names(["x", "y"]), Names, False)
    await do.update(row, names=Names([]))
    assert (await do.get(Edge, pk="a")).names == Names([])


class Band(Model):
    model_config = ModelConfig(table="edge-bands")
    name = KeyField()
    role = KeyField()


async def test_a_compound_key_that_is_too_long_names_its_longest_part(do):
    await do.create(Band, name="n" * 1_000, role="r" * 1_047)
    for call in (
        lambda: do.create(Band, name="n" * 1_001, role="r" * 1_047),
        lambda: do.get(Band, name="é" * 600, role=":" * 700),
        lambda: do.delete_by_key(Band, ("n", "r" * 2_047)),
    ):
        with pytest.raises(InvalidValue, match=r"Band\.role: the key of name and role has \d,\d+ bytes") as long:
            await call()
        assert long.value.attribute == "role"


def test_a_boolean_in_json_is_no_number():
    class Counted(Model):
        pk = StringAttribute(partition_key=True)
        number = NumberAttribute()
        ratio = Field(type=float)
        ratios = ListAttribute(of=float)

    for name, plain in (("number", "true"), ("ratio", "false"), ("ratios", "[1, true]")):
        with pytest.raises(InvalidValue, match=rf"{name}.*expected a number, got bool"):
            Counted.from_json(f'{{"pk": "a", "{name}": {plain}}}')


class Deep(Model):
    model_config = ModelConfig(table="deep_values")
    pk = StringAttribute(partition_key=True)
    things = ListAttribute()
    data = MapAttribute()


async def test_the_deepest_values_are_kept(do):
    things: Any = "x"
    empty: Any = []
    data: Any = {"b": {1, 2}}
    for _ in range(30):
        things, empty, data = [things], [empty], {"a": data}
    await do.save(Deep(pk="a", things=[things], data=data))
    await do.update_by_key(Deep, {"pk": "b"}, things=empty, upsert=True)
    loaded = await do.get(Deep, pk="a")
    assert (loaded.things, loaded.data) == ([things], data)
    assert (await do.get(Deep, pk="b")).things == empty
    for deeper in ([[things]], [empty]):
        with pytest.raises(InvalidValue, match="deeper than 31 levels"):
            await do.save(Deep(pk="c", things=deeper))


EMPTY_SETS: list[Any] = [set(), frozenset()]


class Loose(Model):
    model_config = ModelConfig(table="loose")
    pk = StringAttribute(partition_key=True)
    anything = Attribute[Any]()


async def test_an_empty_set_of_an_attribute_without_a_type_is_absence(do):
    await do.save(Loose(pk="none", anything=set()))
    await do.save(Loose(pk="some", anything={1}))
    assert (await do.get(Loose, pk="none")).anything is None
    for empty in EMPTY_SETS:
        assert [item.pk for item in await do.all(do.scan(Loose, Loose.anything == empty))] == ["none"]
        assert [item.pk for item in await do.all(do.scan(Loose, Loose.anything != empty))] == ["some"]
    await do.update_by_key(Loose, "some", Loose.anything.set(set()))
    assert await do.count(Loose, Loose.anything.does_not_exist()) == 2
    # In an instance of which other attributes were loaded, it is a change.
    await do.update_by_key(Loose, "some", anything={1})
    part = await do.get(Loose, pk="some", attributes=["pk"])
    part.anything = set()
    await do.save(part)
    assert await do.count(Loose, Loose.anything.does_not_exist()) == 2


@pytest.mark.parametrize(
    ("of", "value"),
    [(date | datetime, datetime(2024, 1, 1)), (bytes | str, b"x"), (bytes | str, "\u00e9")],  # noqa: DTZ001
)
@pytest.mark.parametrize("kind", [MapAttribute, JSONAttribute])
def test_members_of_unions_are_read_back(kind, of, value):
    class Union(Model):
        pk = StringAttribute(partition_key=True)
        value = kind(of)

    with connect("sqlite://"):
        try:
            union = Union.create(pk="a", value=value)
        except InvalidValue:  # it would be read as another member
            assert isinstance(value, str)
            return
    for dumped in (union.model_dump(), union.model_dump(mode="json")):
        assert repr(Union.model_validate(dumped).value) == repr(value)
    assert repr(Union.model_validate_json(union.to_json()).value) == repr(value)


def test_a_dump_to_json_names_the_attribute_with_a_wrong_value():
    class Wrong(Model):
        pk = StringAttribute(partition_key=True)
        numbers = ListAttribute(of=int)
        data = MapAttribute()

    wrong: list[dict[str, Any]] = [{"pk": 3}, {"numbers": ["x"]}, {"data": {"a": object()}}]
    for values in wrong:
        (name,) = values
        with pytest.raises(PydanticSerializationError, match=rf"Wrong\.{name}.*: .*(expected|cannot be stored)"):
            Wrong(**values).model_dump(mode="json")
