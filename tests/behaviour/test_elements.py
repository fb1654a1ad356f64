"""Lists and maps whose elements are declared: `ListAttribute(of=…)` and `MapAttribute(of=…)`."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pydantic
import pytest
from typing_extensions import assert_type

from mintkey import Model, ModelConfig
from mintkey.attributes import (
    Attribute,
    CompressedAttribute,
    DatetimeAttribute,
    IntegerAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    TimeAttribute,
    TTLAttribute,
    VersionAttribute,
)
from mintkey.errors import ConfigurationError, InvalidValue, UnreadableItem
from mintkey.fields import Field

UTC = timezone.utc
EARLY, LATE = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, 12, 30, tzinfo=UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Stranger:
    """No type that can be stored."""


class Person(pydantic.BaseModel):
    name: str
    age: int = 0


class Line(Model):
    model_config = ModelConfig(abstract=True)
    text = StringAttribute(max_length=5)
    price = NumberAttribute(alias="p")


class Every(Model):
    model_config = ModelConfig(table="elements")
    pk = StringAttribute(partition_key=True)
    times = ListAttribute(of=DatetimeAttribute())
    whole = ListAttribute(of=int)
    money = ListAttribute(of=Decimal)
    codes = ListAttribute(of=StringAttribute(pattern="[a-z]+"))
    points = ListAttribute(of=Point)
    people = MapAttribute(of=Person)
    lines = ListAttribute(of=Line)
    hours = MapAttribute(of=ListAttribute(of=TimeAttribute()))
    colours = MapAttribute(of=Colour)
    words = MapAttribute(of=StringSetAttribute(min_length=2))
    gaps = ListAttribute(of=timedelta | None)
    texts = ListAttribute(of=CompressedAttribute())
    jsons = ListAttribute(of=JSONAttribute())
    anything = ListAttribute(of=Any)
    rows = ListAttribute(of=dict)
    pairs = MapAttribute(of=list)
    n = NumberAttribute()


VALUES: dict[str, Any] = {
    "times": [EARLY, LATE],
    "whole": [1, -(10**30)],
    "money": [Decimal("0.10"), Decimal(5)],
    "codes": ["a", "b"],
    "points": [Point(1), Point(2, 3)],
    "people": {"a": Person(name="Ada", age=36)},
    "lines": [Line(text="paper", price=4), Line(text="ink")],
    "hours": {"monday": [time(9), time(12, 30)], "sunday": []},
    "colours": {"front": Colour.RED},
    "words": {"de": {"eins", "zwei"}},
    "gaps": [timedelta(microseconds=1), None, timedelta(days=-1)],
    "texts": ["x" * 500, ""],
    "jsons": [{"a": [1.5, None]}, 1],
    "anything": [1, None, {"a": [b"x"]}],
    "rows": [{"a": 1}, {}],
    "pairs": {"a": [1, "x"], "b": []},
}


async def test_elements_are_read_as_they_were_written(do):
    item = Every(pk="a", **VALUES)
    await do.save(item)
    for loaded in (await do.get(Every, pk="a"), *await do.iterate(do.scan(Every))):
        assert loaded == item
        assert not loaded.is_dirty
        for name, value in VALUES.items():
            assert getattr(loaded, name) == value, name
        assert [type(one) for one in loaded.money] == [Decimal, Decimal]
        assert type(loaded.points[0]) is Point
        assert type(loaded.lines[0]) is Line
    loaded.times.append(LATE)
    loaded.lines[0].price = 5
    assert loaded.changed == {"times", "lines"}
    await do.save(loaded)
    again = await do.get(Every, pk="a")
    assert (again.times, again.lines[0].price) == ([EARLY, LATE, LATE], 5)


async def test_elements_are_stored_as_the_attribute_stores_them(do):
    class Stored(Model):
        model_config = ModelConfig(table="elements")
        pk = StringAttribute(partition_key=True)
        times = ListAttribute()
        hours = MapAttribute()
        lines = ListAttribute()
        points = ListAttribute()

    naive = datetime(2024, 1, 1)  # noqa: DTZ001
    await do.save(Every(pk="a", times=[naive], hours=VALUES["hours"], lines=VALUES["lines"], points=[{"x": 1}]))
    stored = await do.get(Stored, pk="a")
    assert stored.times == ["2024-01-01T00:00:00.000000+00:00"]
    assert stored.hours == {"monday": ["09:00:00.000000", "12:30:00.000000"], "sunday": []}
    assert stored.lines == [{"text": "paper", "p": 4}, {"text": "ink"}]
    assert stored.points == [{"x": 1, "y": 0}]
    # Other forms are read, and are no change.
    await do.update_by_key(Stored, "a", times=["2024-01-01T02:00:00+02:00", None], points=[{"x": 1, "z": 9}])
    loaded = await do.get(Every, pk="a")
    assert loaded.times == [EARLY, None]
    assert "points" not in loaded.changed
    loaded.points[0].x = 5
    loaded.times = [EARLY]
    await do.save(loaded)
    # What the class does not know is kept.
    assert (await do.get(Stored, pk="a")).points == [{"x": 5, "y": 0, "z": 9}]


WRONG: list[tuple[str, Any, str]] = [
    ("times", ["2024-01-01"], r"in \[0\]: expected datetime, got str"),
    ("times", (EARLY,), "expected list, got tuple"),
    ("times", {EARLY}, "expected list, got set"),
    ("times", [EARLY, None], r"in \[1\]: an element must not be None"),
    ("whole", [1, True], r"in \[1\]: expected int, got bool"),
    ("whole", [1.0], r"in \[0\]: expected int, got float"),
    ("whole", [10**38 + 1], r"in \[0\]: "),
    ("money", [1.5], r"in \[0\]: expected Decimal or int, got float"),
    ("codes", ["a", "B"], r"in \[1\]: 'B' does not match pattern='\[a-z\]\+'"),
    ("codes", [b"a"], r"in \[0\]: expected str, got bytes"),
    ("points", [{"x": "1"}], r"in \[0\]\.x: expected int, got str"),
    ("points", [Point(1), 5], r"in \[1\]: expected Point or dict, got int"),
    ("people", {"a": {"name": 5}}, r"in a\.name: "),
    ("people", [Person(name="x")], "expected dict, got list"),
    ("lines", [Line(text="longer")], r"in \[0\]\.text: the value has the length 6, and max_length=5"),
    ("lines", [{"txt": "x"}], r"in \[0\]: .*did you mean 'text'"),
    ("hours", {"monday": [time(9), "x"]}, r"in monday\[1\]: expected time, got str"),
    ("hours", {"monday": time(9)}, r"in monday: expected list, got time"),
    ("colours", {"a": "red"}, r"in a: expected a Colour"),
    ("words", {"de": {"eins"}}, r"in de: the value has the length 1, and min_length=2"),
    ("words", {"de": set()}, "empty set"),
    ("rows", [{}, 1], r"in \[1\]: expected dict, got int"),
    ("rows", [[1]], r"in \[0\]: expected dict, got list"),
    ("pairs", {"a": "x"}, r"in a: expected list, got str"),
    ("pairs", {"a": (1,)}, r"in a: expected list, got tuple"),
    ("gaps", [5], r"in \[0\]: expected timedelta, got int"),
]


@pytest.mark.parametrize(("name", "value", "reason"), WRONG, ids=[f"{name}-{value!a}" for name, value, _ in WRONG])
async def test_a_wrong_element_is_refused_with_its_path(do, name, value, reason):
    for write in (
        lambda: do.save(Every(pk="a", **{name: value})),
        lambda: do.update_by_key(Every, "a", upsert=True, **{name: value}),
    ):
        with pytest.raises(InvalidValue, match=rf"Every\.{name}: .*{reason}") as caught:
            await write()
        assert (caught.value.model, caught.value.attribute) == ("Every", name)
    with pytest.raises(InvalidValue, match=rf"Every\.{name}"):
        getattr(Every, name).set(value)
    assert await do.count(Every) == 0


async def test_conditions_encode_elements(do):
    await do.save(Every(pk="a", **VALUES))
    true = [
        Every.times.contains(LATE),
        Every.times.contains(datetime(2024, 1, 2, 13, 30, tzinfo=timezone(timedelta(hours=1)))),
        Every.times[1] == LATE,
        Every.times[0] < LATE,
        Every.times == [EARLY, LATE],
        Every.whole[0].between(0, 2),
        Every.money.contains(Decimal("0.1")),
        Every.points.contains(Point(2, 3)),
        Every.points[1] == {"x": 2, "y": 3},
        Every.points[1]["y"] == 3,
        Every.people["a"] == Person(name="Ada", age=36),
        Every.people["a"]["age"] > 35,
        Every.lines[0]["price"] == 4,
        Every.hours["monday"].contains(time(9)),
        Every.hours["monday"][1] == time(12, 30),
        Every.hours["tuesday"].does_not_exist(),
        Every.colours["front"].is_in(Colour.RED, Colour.BLUE),
        Every.words["de"].contains("zwei"),
        Every.gaps[0] < timedelta(seconds=1),
    ]
    for condition in true:
        assert [one.pk for one in await do.iterate(do.scan(Every, condition))] == ["a"], condition
        assert await do.count(Every, ~condition) == 0  # type: ignore[operator]
    await do.update_by_key(Every, "a", n=1, condition=true[0] & true[2] & true[4])  # type: ignore[operator]


async def test_changes_encode_elements(do):
    await do.save(Every(pk="a", **VALUES))
    await do.update_by_key(
        Every,
        "a",
        Every.times.append([EARLY]),
        Every.whole.prepend([0]),
        Every.points[0]["x"].set(9),
        Every.points[1].set(Point(7)),
        Every.people["b"].set({"name": "Bo"}),  # type: ignore[arg-type]
        Every.lines[1].set(Line(text="new")),
        Every.hours["monday"][0].set(time(8)),
        Every.colours["back"].set(Colour.BLUE),
        Every.gaps[0].set(None),  # type: ignore[arg-type]
    )
    loaded = await do.get(Every, pk="a")
    assert loaded.times == [EARLY, LATE, EARLY]
    assert loaded.whole == [0, 1, -(10**30)]
    assert loaded.points == [Point(9), Point(7)]
    assert loaded.people["b"] == Person(name="Bo")
    assert loaded.lines[1] == Line(text="new")
    assert loaded.hours["monday"] == [time(8), time(12, 30)]
    assert loaded.colours == {"front": Colour.RED, "back": Colour.BLUE}
    assert loaded.gaps[0] is None
    await do.update_by_key(Every, "a", Every.people["a"].remove(), Every.whole[0].add(5))
    again = await do.get(Every, pk="a")
    assert (set(again.people), again.whole[0]) == ({"b"}, 5)


def test_a_condition_or_change_that_does_not_fit_is_refused():
    refused: list[Any] = [
        lambda: Every.times.contains("2024-01-01"),  # type: ignore[call-overload]
        lambda: Every.times[0] == 5,
        lambda: Every.times.append(["x"]),  # type: ignore[list-item]
        lambda: Every.times.append([None]),  # type: ignore[list-item]
        lambda: Every.whole[0].add(0.5),  # type: ignore[arg-type]
        lambda: Every.codes.append(["B"]),
        lambda: Every.codes[0].set("B"),
        lambda: Every.codes.append([5]),  # type: ignore[list-item]
        lambda: Every.points.append([{"x": "y"}]),  # type: ignore[list-item]
        lambda: Every.points[0]["x"].set("y"),
        lambda: Every.lines[0]["text"].set("longer"),
        lambda: Every.hours["a"].append([5]),  # type: ignore[list-item]
        lambda: Every.colours["a"].set("red"),  # type: ignore[arg-type]
        lambda: Every.texts.contains("x"),
    ]
    for build in refused:
        with pytest.raises(InvalidValue, match=r"Every\."):
            build()
    for build in (
        lambda: Every.times["a"],
        lambda: Every.people[0],  # type: ignore[call-overload]
        lambda: Every.points[0]["z"],
        lambda: Every.lines[0]["p"],
        lambda: Every.times[0][0],  # type: ignore[index]
    ):
        with pytest.raises(TypeError, match=r"Every\."):
            build()


async def test_an_element_that_cannot_be_read_makes_the_item_unreadable(do, raw):
    stored = raw(Every, times=ListAttribute(), hours=MapAttribute())
    for name, value in (("times", ["x"]), ("times", ["2024-01-01", 5]), ("hours", {"a": ["x"]}), ("hours", {"a": 5})):
        await do.save(stored(pk="a", **{name: value}))
        with pytest.raises(UnreadableItem, match=rf"Every\.{name}"):
            await do.get(Every, pk="a")


async def test_the_whole_list_has_validators_of_its_own(do):
    class Limited(Model):
        pk = StringAttribute(partition_key=True)
        few = ListAttribute(of=IntegerAttribute(min=0), max_length=2)
        some = MapAttribute(of=Point, min_length=1, validate=lambda points: all(p.x for p in points.values()))

    await do.create(Limited, pk="a", few=[1, 2], some={"a": {"x": 1}})
    for values, reason in (
        ({"few": [1, 2, 3]}, "max_length=2"),
        ({"few": [-1]}, r"in \[0\]: -1 is less than min=0"),
        ({"some": {}}, "min_length=1"),
        ({"some": {"a": {"x": 0}}}, "validate="),
    ):
        with pytest.raises(InvalidValue, match=reason):
            await do.create(Limited, pk="b", **values)
        with pytest.raises(InvalidValue, match=reason):
            await do.update_by_key(Limited, "a", **values)
    with pytest.raises(InvalidValue, match="max_length=2 applies to the whole value"):
        Limited.few.append([1])


NONSENSE: dict[str, tuple[Any, str]] = {
    "a key": (lambda: ListAttribute(of=StringAttribute(partition_key=True)), "partition_key= has no meaning"),
    "required": (lambda: ListAttribute(of=StringAttribute(required=True)), "required= has no meaning"),
    "default": (lambda: MapAttribute(of=StringAttribute(default="x")), "default= has no meaning"),
    "an alias and an index": (
        lambda: ListAttribute(of=StringAttribute(alias="x", index=True)),
        "index=, alias= has no",
    ),
    "no parentheses": (lambda: ListAttribute(of=StringAttribute), r"Write of=StringAttribute\(\), with parentheses"),
    "a version": (lambda: ListAttribute(of=VersionAttribute()), "a VersionAttribute belongs to a whole item"),
    "an expiry": (lambda: ListAttribute(of=TTLAttribute()), "a TTLAttribute belongs to a whole item"),
    "a field": (lambda: ListAttribute(of=Field()), "use an attribute or a type, not a Field"),
    "an attribute of a class": (lambda: ListAttribute(of=Every.__mintkey_schema__.attributes["n"]), "create another"),
    "no type": (lambda: ListAttribute(of=5), "MapAttribute takes"),  # type: ignore[call-overload]
    "a type that cannot be stored": (lambda: MapAttribute(of=Stranger), "cannot be stored"),
    "a class and elements": (lambda: MapAttribute(Point, of=int), "Pass either the class of the whole map, or of="),  # type: ignore[call-overload]
    "a wrong form": (lambda: ListAttribute(of=DatetimeAttribute(stored_as="x")), "stored_as= takes"),  # type: ignore[call-overload]
    "a wrong validator": (lambda: ListAttribute(of=StringAttribute(min=1)), "min= does not apply"),
    "a wrong default": (lambda: ListAttribute(of=int, default=["x"]), r"in \[0\]: expected int, got str"),  # type: ignore[list-item]
    "a default refused": (lambda: ListAttribute(of=IntegerAttribute(max=1), default=[2]), r"in \[0\]: 2 is more than"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_elements_without_meaning_are_refused_at_definition(case):
    make, reason = NONSENSE[case]
    with pytest.raises(ConfigurationError, match=rf"Wrong\.value.*({reason})") as caught:
        type("Wrong", (Model,), {"pk": StringAttribute(partition_key=True), "value": make()})
    assert caught.value.model == "Wrong"


def test_type_checkers_know_the_elements():
    assert_type(ListAttribute(of=int), "ListAttribute[list[int] | None]")
    assert_type(ListAttribute(of=DatetimeAttribute()), "ListAttribute[list[datetime] | None]")
    assert_type(ListAttribute(), "ListAttribute[list[Any] | None]")
    item = Every(pk="a", points=[Point(1)], times=[EARLY])
    assert_type(item.points, "list[Point] | None")
    assert_type(item.times, "list[datetime] | None")
    assert isinstance(Every.times, Attribute)


async def test_defaults_of_elements_are_instances_and_copied(do):
    class Defaulted(Model):
        pk = StringAttribute(partition_key=True)
        points = ListAttribute(of=Point, default=[{"x": 1}])  # type: ignore[list-item]

    one, other = Defaulted(pk="a"), Defaulted(pk="b")
    assert one.points == [Point(1)]
    one.points.append(Point(2))
    assert other.points == [Point(1)]
    await do.save(one)
    assert (await do.get(Defaulted, pk="a")).points == [Point(1), Point(2)]
