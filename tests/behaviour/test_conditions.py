"""Conditions and changes: they belong to a model, and know the types of its attributes."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pydantic
import pytest

from mintkey import Model, ModelConfig, pipeline
from mintkey.attributes import (
    Attribute,
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
)
from mintkey.errors import ConditionFailed, InvalidValue, MintkeyError, UnsupportedOperation, WrongModel
from mintkey.fields import Field, KeyField, SortedField

UTC = timezone.utc


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Geo(Model):
    model_config = ModelConfig(abstract=True)
    lat = NumberAttribute(required=True)
    seen = DatetimeAttribute(alias="s")


class Address(Model):
    model_config = ModelConfig(abstract=True)
    city = StringAttribute(alias="c")
    at = DatetimeAttribute()
    geo = MapAttribute(Geo, alias="g")
    rest = MapAttribute()


@dataclasses.dataclass
class Point:
    x: int
    label: str | None = None
    more: dict[str, Any] | None = None


class Order(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    text = StringAttribute(alias="t")
    exact = DecimalAttribute()
    flag = BooleanAttribute()
    blob = BinaryAttribute()
    things = ListAttribute()
    data = MapAttribute()
    addr = MapAttribute(Address)
    point = MapAttribute(Point)
    tags = StringSetAttribute()
    numbers = NumberSetAttribute()
    blobs = BinarySetAttribute()
    doc = JSONAttribute()
    colour = EnumAttribute(Colour)
    at = DatetimeAttribute()
    day = DateAttribute()
    uid = UUIDAttribute()
    until = TTLAttribute()
    packed = CompressedAttribute(min_size=0)


class Base(Model):
    model_config = ModelConfig(abstract=True)
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


class Aaa(Base):
    text = StringAttribute()


class Bbb(Base):
    text = StringAttribute()
    extra = NumberAttribute()


class Sub(Aaa):
    more = NumberAttribute()


MOMENT = datetime(2024, 5, 1, 12, tzinfo=UTC)


# Conditions belong to a model.


async def test_conditions_of_bases_are_accepted_and_those_of_other_models_are_refused(do):
    await do.save(Aaa(pk="a", n=1, text="x"))
    await do.save(Sub(pk="a", n=1, more=2))
    for model, condition in ((Aaa, Base.n == 1), (Aaa, Aaa.text == "x"), (Sub, Base.n == 1), (Sub, Sub.more == 2)):
        assert await do.count(model, condition) == 1
    assert await do.count(Sub, Aaa.text.does_not_exist()) == 1
    for wrong in (Bbb.text == "x", (Aaa.n == 1) & ~(Bbb.extra == 1), Bbb.text.size() > 1, Sub.more == 2):  # type: ignore[operator]
        for use in (
            lambda wrong=wrong: do.scan(Aaa, wrong),
            lambda wrong=wrong: do.query(Aaa, wrong, pk="a"),
            lambda wrong=wrong: Aaa.query.filter(wrong),
        ):
            with pytest.raises(WrongModel, match=r"Aaa: (Bbb|Sub)\.") as caught:
                use()
            assert caught.value.model == "Aaa"
        with pytest.raises(WrongModel, match=r"Aaa: (Bbb|Sub)\."):
            await do.count(Aaa, wrong)
        item = await do.get(Aaa, pk="a")
        item.text = "y"
        for write in (do.save, do.delete):
            with pytest.raises(WrongModel, match=r"Aaa: (Bbb|Sub)\."):
                await write(item, condition=wrong)
        with pytest.raises(WrongModel, match=r"Aaa: (Bbb|Sub)\."):
            await do.update(item, condition=wrong, n=5)
        with pytest.raises(WrongModel, match=r"Aaa: (Bbb|Sub)\."):
            await do.update_by_key(Aaa, "a", condition=wrong, upsert=True, n=5)
    stored = await do.get(Aaa, pk="a")
    assert (stored.n, stored.text) == (1, "x")


async def test_changes_of_other_models_are_refused(do):
    await do.save(Aaa(pk="a", n=1))
    item = await do.get(Aaa, pk="a")
    for wrong in (Bbb.extra.add(5), Bbb.text.set("x"), Sub.more.remove()):
        with pytest.raises(WrongModel, match=r"Aaa: (Bbb|Sub)\."):
            await do.update(item, wrong)
        with pytest.raises(WrongModel, match=r"Aaa: (Bbb|Sub)\."):
            await do.update_by_key(Aaa, "a", wrong, upsert=True)
    for wrong in (Bbb.n.add(5), Bbb.n.remove()):
        with pytest.raises(WrongModel, match=r"Aaa: Bbb\.n"):
            await do.update_by_key(Aaa, "a", wrong)
    with pytest.raises(WrongModel, match=r"Aaa: Bbb\.n"):
        do.scan(Aaa, Bbb.n == 1)
    await do.update(item, Base.n.add(4))
    assert (await do.get(Aaa, pk="a")).n == item.n == 5


async def test_a_pipeline_refuses_conditions_of_other_models(do):
    await do.save(Aaa(pk="a", n=1))
    item = await do.get(Aaa, pk="a")
    with pipeline() as collected:
        item.n = 2
        with pytest.raises(WrongModel):
            await do.save(item, condition=Bbb.text == "x", pipeline=collected)
        with pytest.raises(WrongModel):
            await do.update(item, Bbb.extra.add(1), pipeline=collected)
    assert (await do.get(Aaa, pk="a")).n == 1


# Lists of values.


async def test_no_values_match_nothing(do, caplog):
    await do.save(Order(pk="a", n=1, tags={"x"}))
    for empty in (Order.n.is_in([]), Order.n.is_in(), Order.data["x"].is_in(())):
        assert await do.all(do.scan(Order, empty)) == []
        assert await do.count(Order, empty) == 0
        assert await do.count(Order, ~empty) == 1
        assert await do.count(Order, empty | (Order.n == 1)) == 1
        assert (await do.page(do.scan(Order, empty), 5)).items == []
        with pytest.raises(ConditionFailed):
            await do.update_by_key(Order, "a", condition=empty, n=5)
    assert await do.all(Order.query.filter(n__in=[])) == []
    assert await do.all(Order.query.filter(pk="a", n__in=[])) == []
    await do.update_by_key(Order, "a", condition=~Order.n.is_in([]), n=2)
    assert (await do.get(Order, pk="a")).n == 2


async def test_many_values_are_filtered_on_every_store(do, store):
    for number in range(5):
        await do.save(Order(pk=f"{number}", n=number, flag=True))
    many = [*range(3), *range(1000, 1500)]
    few = Order.n.is_in(many)
    assert {item.n for item in await do.all(do.scan(Order, few))} == {0, 1, 2}
    assert await do.count(Order, few) == 3
    assert await do.count(Order, ~few) == 2
    assert await do.count(Order, (few & (Order.n > 0)) | (Order.n == 4)) == 3
    assert len(await do.all(Order.query.filter(n__in=many, flag=True))) == 3
    assert len(await do.all(do.query(Order, few, pk="1"))) == 1
    assert "evaluated by the client" in do.scan(Order, few).explain()
    item = await do.get(Order, pk="1")
    if "dynamodb" in store.url:
        with pytest.raises(UnsupportedOperation, match="is_in"):
            await do.update(item, condition=few, n=1)
    else:
        await do.update(item, condition=few, n=1)
    await do.update(item, condition=Order.n.is_in(many[:100]), n=2)


# Empty sets.

EMPTY: list[Any] = [set(), frozenset()]


async def test_an_empty_set_is_absence(do):
    await do.save(Order(pk="none"))
    await do.save(Order(pk="some", tags={"x"}, numbers={1}, blobs={b"x"}, data={"s": {"x"}}))
    for attribute in (Order.tags, Order.numbers, Order.blobs, Order.data["s"]):
        for empty in EMPTY:
            assert [item.pk for item in await do.all(do.scan(Order, attribute == empty))] == ["none"]
            assert [item.pk for item in await do.all(do.scan(Order, attribute != empty))] == ["some"]
    assert await do.count(Order, Order.tags.is_in([set(), {"y"}])) == 1
    assert await do.count(Order, Order.tags.is_in([set(), {"x"}])) == 2
    assert [item.pk for item in await do.all(Order.query.filter(tags=set()))] == ["none"]
    some = await do.get(Order, pk="some")
    await do.update(some, Order.tags.set(set()), Order.data["s"].set(set()))
    stored = await do.get(Order, pk="some")
    assert (some.tags, stored.tags, stored.data) == (set(), set(), {})


# JSON and compressed values.


async def test_equality_of_json_ignores_the_order_of_keys(do, store):
    await do.save(Order(pk="a", doc={"x": 1, "y": [1, 2.5]}, n=1))
    await do.save(Order(pk="b", doc=[2]))
    await do.save(Order(pk="c"))
    same = {"y": [1, 2.5], "x": 1}
    for condition, found in (
        (Order.doc == same, {"a"}),
        (Order.doc != same, {"b", "c"}),
        (Order.doc.is_in([same, [2]]), {"a", "b"}),
        ((Order.doc == same) & (Order.n == 1), {"a"}),
        (~(Order.doc == same) & Order.doc.exists(), {"b"}),
        (Order.doc == {"x": 1}, set()),
    ):
        assert {item.pk for item in await do.all(do.scan(Order, condition))} == found, condition
        assert await do.count(Order, condition) == len(found)
    assert [item.pk for item in await do.all(Order.query.filter(doc=same))] == ["a"]
    item = await do.get(Order, pk="a")
    if "dynamodb" in store.url:
        for write in (do.update(item, condition=Order.doc == same, n=2), do.delete(item, condition=Order.doc != same)):
            with pytest.raises(UnsupportedOperation, match="JSON"):
                await write
    else:
        await do.update(item, condition=Order.doc == same, n=2)
    await do.update(item, condition=Order.doc.exists(), n=3)
    for wrong in (
        lambda: Order.doc < {},
        lambda: Order.doc.between(1, 2),
        lambda: Order.doc.begins_with("a"),
        lambda: Order.doc.contains("a"),
        lambda: Order.doc.size() > 3,
    ):
        with pytest.raises(InvalidValue, match=r"Order\.doc"):
            wrong()
    with pytest.raises(TypeError, match=r"Order\.doc.*MapAttribute"):
        Order.doc["x"]


async def test_compressed_values_are_only_asked_for_existence(do):
    await do.save(Order(pk="a", packed="x" * 500))
    await do.save(Order(pk="b"))
    assert await do.count(Order, Order.packed.exists()) == 1
    assert await do.count(Order, Order.packed.does_not_exist()) == 1
    for wrong in (
        lambda: Order.packed == "x",
        lambda: Order.packed != "x",
        lambda: Order.packed < "x",
        lambda: Order.packed.is_in(["x"]),
        lambda: Order.packed.between("a", "b"),
        lambda: Order.packed.begins_with("x"),
        lambda: Order.packed.contains("x"),
        lambda: Order.packed.size() > 1,
        lambda: Order.packed.is_type("binary"),
        lambda: Order.query.filter(packed="x"),
    ):
        with pytest.raises(InvalidValue, match=r"Order\.packed.*exists\(\)"):
            wrong()
    await do.update_by_key(Order, "b", Order.packed.set("new"))
    assert (await do.get(Order, pk="b")).packed == "new"


# Paths into nested classes.


async def test_paths_into_nested_classes_know_names_and_types(do):
    geo = Geo(lat=5, seen=MOMENT)
    await do.save(Order(pk="a", addr=Address(city="Ulm", at=MOMENT, geo=geo, rest={"k": 1}), point=Point(1, "here")))
    await do.save(Order(pk="b", addr=Address(city="Bonn")))
    later = MOMENT + timedelta(hours=1)
    for condition in (
        Order.addr["city"] == "Ulm",
        Order.addr["city"].begins_with("U"),
        Order.addr["at"] == MOMENT,
        Order.addr["at"] < later,
        Order.addr["at"].between(MOMENT, later),
        Order.addr["geo"]["lat"] == 5,
        Order.addr["geo"]["seen"] == MOMENT,
        Order.addr["geo"] == geo,
        Order.addr["rest"]["k"] == 1,
        Order.point["x"] == 1,
        Order.point["label"].contains("er"),
        Order.point == Point(1, "here"),
    ):
        assert [item.pk for item in await do.all(do.scan(Order, condition))] == ["a"], condition
    await do.update_by_key(
        Order,
        "b",
        Order.addr["city"].set("Köln"),
        Order.addr["at"].set(later),
        Order.addr["geo"].set(geo),
        condition=Order.addr["city"] == "Bonn",
    )
    await do.update_by_key(Order, "b", Order.addr["geo"]["seen"].set(later), Order.addr["geo"]["lat"].add(1))
    stored = (await do.get(Order, pk="b")).addr
    assert (stored.city, stored.at, stored.geo) == ("Köln", later, Geo(lat=6, seen=later))
    await do.update_by_key(Order, "b", Order.addr["city"].remove())
    assert (await do.get(Order, pk="b")).addr.city is None


class Item(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    name: str = pydantic.Field(alias="itemName")
    price: Decimal
    at: datetime


@dataclasses.dataclass
class Line:
    item: Item
    at: datetime
    colour: Colour
    counts: dict[str, int]


class Basket(Model):
    pk = StringAttribute(partition_key=True)
    first = MapAttribute(Line)
    lines = MapAttribute(list[Line])
    by_name = MapAttribute(dict[str, Line])


async def test_paths_into_structured_values_know_all_of_their_types(do):
    item = Item(itemName="tea", price=Decimal("2.50"), at=MOMENT)
    line = Line(item, MOMENT, Colour.RED, {"a": 1})
    await do.save(Basket(pk="a", first=line, lines=[line], by_name={"x": line}))
    later = MOMENT + timedelta(hours=1)
    for place in (Basket.first, Basket.lines[0], Basket.by_name["x"]):
        for condition in (
            place["at"] == MOMENT,
            place["colour"] == Colour.RED,
            place["counts"]["a"] == 1,
            place["item"]["name"] == "tea",
            place["item"]["at"] == MOMENT,
            place["item"] == item,
        ):
            assert await do.count(Basket, condition) == 1, condition
        for wrong in (
            lambda place=place: place["at"] == "x",
            lambda place=place: place["at"] < later,
            lambda place=place: place["item"]["at"].between(MOMENT, later),
            lambda place=place: place["item"]["price"] == Decimal("2.5"),
            lambda place=place: place["item"]["price"] > Decimal(2),
            lambda place=place: place["item"]["price"].set("much"),
            lambda place=place: place["colour"].set("red"),
            lambda place=place: place["item"]["name"].remove(),
        ):
            with pytest.raises(InvalidValue, match=r"Basket\."):
                wrong()
        for unknown, near in (
            (lambda place=place: place["att"], "'at'"),
            (lambda place=place: place["item"]["nam"], "name"),
        ):
            with pytest.raises(TypeError, match=near):
                unknown()
        await do.update_by_key(
            Basket,
            "a",
            place["at"].set(later),
            place["colour"].set(Colour.BLUE),
            place["counts"]["a"].add(1),
            place["item"]["name"].set("cake"),
            place["item"]["price"].set(Decimal("3.10")),
            place["item"]["at"].set(later),
        )
    stored = await do.get(Basket, pk="a")
    changed = Line(Item(itemName="cake", price=Decimal("3.10"), at=later), later, Colour.BLUE, {"a": 2})
    assert stored.first == stored.lines[0] == stored.by_name["x"] == changed


class Prices(pydantic.BaseModel):
    exact: list[Decimal] = []
    days: list[date] = []
    wait: timedelta = timedelta(1)
    day: date = date(2024, 5, 1)
    id: UUID = UUID(int=1)


@dataclasses.dataclass
class Exact:
    price: Decimal


class Quote(Model):
    pk = StringAttribute(partition_key=True)
    prices = MapAttribute(Prices)
    exact = MapAttribute(Exact)


async def test_conditions_compare_values_and_not_their_text(do):
    await do.save(Quote(pk="a", prices=Prices(days=[date(2024, 5, 1)]), exact=Exact(Decimal(20))))
    prices = Quote.prices
    for condition in (
        prices["days"].contains(date(2024, 5, 1)),
        prices["day"] >= date(2024, 5, 1),
        prices["wait"] == timedelta(1),
        prices["id"] <= UUID(int=2),
        Quote.exact["price"] == Decimal("20.0"),
        Quote.exact["price"] < Decimal(100),
    ):
        assert await do.count(Quote, condition) == 1, condition
    assert await do.count(Quote, prices["days"].contains(date(2024, 5, 2))) == 0
    for wrong in (
        lambda: prices["exact"].contains(Decimal(20)),
        lambda: prices["exact"][0] == Decimal(20),
        lambda: prices["days"].contains("2024-05-01"),
        lambda: prices["wait"] > timedelta(1),
        lambda: prices["wait"].between(timedelta(1), timedelta(2)),
    ):
        with pytest.raises(InvalidValue, match=r"Quote\.prices"):
            wrong()


UNKNOWN: dict[str, tuple[Callable[[], Any], str]] = {
    "misspelt": (lambda: Order.addr["ctiy"], r"Order\.addr\['ctiy'\].*Address has no attribute.*'city'"),
    "alias": (lambda: Order.addr["c"], r"Order\.addr\['c'\].*Address has no attribute"),
    "inside": (lambda: Order.addr["geo"]["latt"], r"Geo has no attribute 'latt' \(did you mean 'lat'"),
    "index": (lambda: Order.addr[0], r"Order\.addr\[0\].*Address"),  # type: ignore[index]
    "dataclass": (lambda: Order.point["lable"], r"Point has no attribute 'lable' \(did you mean 'label'"),
    "into text": (lambda: Order.addr["city"]["x"], r"Order\.addr\['city'\]\['x'\].*StringAttribute"),
    "text": (lambda: Order.text[0], r"Order\.text\[0\].*StringAttribute"),  # type: ignore[index]
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_part_is_refused_with_the_nearest_name(case):
    build, message = UNKNOWN[case]
    with pytest.raises(TypeError, match=message):
        build()


WRONG: dict[str, Callable[[], Any]] = {
    "number as text": lambda: Order.addr["city"] == 5,
    "number as time": lambda: Order.addr["at"].set(5),
    "text as time": lambda: Order.addr["at"] < "2024",
    "text as number": lambda: Order.addr["geo"]["lat"].set("x"),
    "sum of times": lambda: Order.addr["at"].add(1),
    "required": Order.addr["geo"]["lat"].remove,
    "class": lambda: Order.addr["geo"].set({"lat": "x"}),
    "dataclass": lambda: Order.point["x"] == "x",
    "list": lambda: Order.addr["city"].append(["x"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_type_inside_a_nested_class_is_refused_when_it_is_built(case):
    with pytest.raises(InvalidValue, match=r"Order\.(addr|point)"):
        WRONG[case]()


# Every operand on every attribute.

OPERANDS: list[Any] = [
    None, True, 0, -1, 10**60, 1.5, float("nan"), float("inf"), Decimal("1.10"), Decimal("NaN"), "", "x", "\ud800",
    b"", b"x", bytearray(b"x"), [], [1], [object()], (1,), {}, {"a": 1}, {1: 2}, set(), {1}, {"x"}, {b"x"}, {1, "x"},
    frozenset(), object(), object, Colour.RED, MOMENT, datetime(1, 1, 1, tzinfo=UTC), date(2024, 1, 1), timedelta(1),
    UUID(int=1), Address(city="x"), Address(city=5), Point(1), Order(pk="x"), Order.n, Order.n == 1, Order.n.add(1),
    1j, range(3), memoryview(b"x"), NotImplemented, ...,
]  # fmt: skip
TESTS: list[Callable[[Any, Any], Any]] = [
    lambda left, value: left == value,
    lambda left, value: left != value,
    lambda left, value: left < value,
    lambda left, value: left >= value,
    lambda left, value: left.between(value, value),
    lambda left, value: left.is_in(value),
    lambda left, value: left.is_in([value, value]),
    lambda left, value: left.begins_with(value),
    lambda left, value: left.contains(value),
    lambda left, value: left.is_type(value),
    lambda left, value: left.size() == value,
    lambda left, value: left.size() < value,
]
CHANGES: list[Callable[[Any, Any], Any]] = [
    lambda left, value: left.set(value),
    lambda left, value: left.set_if_absent(value),
    lambda left, value: left.add(value),
    lambda left, value: left.append(value),
    lambda left, value: left.prepend(value),
    lambda left, value: left.add_to_set(value),
    lambda left, value: left.delete_from_set(value),
]
LEFT: dict[str, Any] = {
    **{name: attribute for name, attribute in vars(Order).items() if isinstance(attribute, Attribute)},
    **{f"addr {name}": Order.addr[name] for name in ("city", "at", "geo", "rest")},
    "inside": Order.data["x"],
    "listed": Order.things[0],
    "point": Order.point["x"],
}


def refused(build: Callable[[], Any], label: str) -> tuple[Any, bool]:
    """The built object, and whether it was refused: by an exception of this package, or a TypeError with the label."""
    try:
        return build(), False
    except MintkeyError:
        return None, True
    except TypeError as error:
        if label not in str(error):
            raise
        return None, True


@pytest.mark.parametrize("name", LEFT)
async def test_every_operand_in_every_condition(do, name):
    left = LEFT[name]
    await do.save(stored())
    accepted = []
    for value in OPERANDS:
        for test in TESTS:
            condition, wrong = refused(functools.partial(test, left, value), left._label)
            if not wrong:
                assert isinstance(repr(condition), str)
                accepted.append(condition)
    for start in range(0, len(accepted), 10):
        together = functools.reduce(operator.or_, accepted[start : start + 10])
        assert await do.count(Order, together) in {0, 1}, together


@pytest.mark.parametrize("name", LEFT)
async def test_every_operand_in_every_change(do, name):
    left = LEFT[name]
    for value in OPERANDS:
        for change in CHANGES:
            action, wrong = refused(functools.partial(change, left, value), left._label)
            if wrong:
                continue
            await do.save(stored())
            with suppress(MintkeyError):  # a key, or a value that does not fit the stored one
                await do.update_by_key(Order, "a", action)
            # A time in the past has expired the row.
            assert name == "until" or (await do.get(Order, pk="a")).pk == "a", action


def stored() -> Order:
    address = Address(city="x", geo=Geo(lat=1))
    return Order(pk="a", things=[1], data={"x": 1}, addr=address, point=Point(1))


class Shelf(Model):
    id = KeyField()
    kind = Field()
    rank = SortedField(type=int)
    seen = Field(type=datetime)


LOOKUPS = ("", "__gt", "__lte", "__ne", "__in", "__between", "__startswith", "__contains", "__isnull")


async def test_every_operand_in_every_lookup(do):
    await do.create(Shelf, id="a", kind="x", rank=1)
    for name in ("id", "kind", "rank", "seen"):
        for lookup in LOOKUPS:
            for value in OPERANDS:
                keywords = {f"{name}{lookup}": value}
                found, wrong = refused(functools.partial(Shelf.query.filter, **keywords), "Shelf")
                assert wrong or len(await do.all(found)) <= 1
