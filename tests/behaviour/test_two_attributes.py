"""Conditions on two attributes, and changes that copy one attribute to another."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import pickle
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from mintkey import Model, ModelConfig, transaction
from mintkey.attributes import (
    CompressedAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    IntegerAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    VersionAttribute,
)
from mintkey.errors import ConditionFailed, InvalidValue, TransactionCancelled, WrongModel

UTC = timezone.utc


class Stock(Model):
    pk = StringAttribute(partition_key=True)
    sold = NumberAttribute()
    held = NumberAttribute(alias="h")
    first = NumberAttribute()
    exact = DecimalAttribute()
    name = StringAttribute()
    label = StringAttribute()
    data = MapAttribute()
    row = ListAttribute()
    tags = StringSetAttribute()
    others = StringSetAttribute()
    opened = DatetimeAttribute()
    closed = DatetimeAttribute()
    closed_day = DatetimeAttribute(stored_as="seconds")
    doc = JSONAttribute()
    doc2 = JSONAttribute()
    packed = CompressedAttribute()
    few = IntegerAttribute(max=3)


class Counted(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    kept = NumberAttribute()
    version = VersionAttribute()


class Line(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    n = NumberAttribute()
    kept = NumberAttribute()


class Other(Model):
    pk = StringAttribute(partition_key=True)
    sold = NumberAttribute()


OPERATORS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@pytest.mark.parametrize("name", OPERATORS)
async def test_two_attributes_are_compared_in_filters_and_conditions_of_writes(do, store, name):
    compare = OPERATORS[name]
    pairs = {"less": (1, 2), "equal": (2.0, Decimal(2)), "more": (3, 2)}
    for key, (sold, held) in pairs.items():
        await do.save(Stock(pk=key, sold=sold, held=held))
    expected = {key for key, (sold, held) in pairs.items() if compare(sold, held)}
    condition = compare(Stock.sold, Stock.held)
    assert {row.pk for row in await do.iterate(Stock.scan(condition))} == expected
    for key in pairs:
        row = await do.get(Stock, pk=key)
        if key in expected:
            await do.update(row, name="changed", condition=condition)
        else:
            with pytest.raises(ConditionFailed):
                await do.update(row, name="changed", condition=condition)
            with pytest.raises(ConditionFailed):
                await do.delete(row, condition=condition)


async def test_an_absent_attribute_only_differs(do, store):
    await do.save(Stock(pk="none"))
    await do.save(Stock(pk="left", sold=1))
    await do.save(Stock(pk="right", held=1))
    await do.save(Stock(pk="type", data={"a": "1", "b": 1}))
    for name, compare in OPERATORS.items():
        found = {row.pk for row in await do.iterate(Stock.scan(compare(Stock.sold, Stock.held)))}
        assert found == ({"none", "left", "right", "type"} if name == "!=" else set()), name
        found = {row.pk for row in await do.iterate(Stock.scan(compare(Stock.data["a"], Stock.data["b"])))}
        assert found == ({"none", "left", "right", "type"} if name == "!=" else set()), name


async def test_parts_of_maps_sets_and_times_are_compared(do, store):
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    await do.save(Stock(pk="a", data={"n": [5]}, sold=5, tags={"x", "y"}, others={"y", "x"}, opened=early, closed=late))
    for condition in (
        Stock.data["n"][0] == Stock.sold,
        Stock.tags == Stock.others,
        Stock.opened < Stock.closed,
        ~(Stock.opened > Stock.closed) & (Stock.sold >= Stock.data["n"][0]),
    ):
        assert len(await do.iterate(Stock.scan(condition))) == 1, condition
        assert len(await do.iterate(Stock.query(condition, pk="a"))) == 1, condition
        assert len(await do.iterate(Stock.scan(~condition))) == 0, condition


async def test_the_key_is_compared_with_another_attribute(do, store):
    for pk, name in (("a", "a"), ("b", "a")):
        await do.save(Stock(pk=pk, name=name))
    assert [row.pk for row in await do.iterate(Stock.query(Stock.pk == Stock.name, pk="a"))] == ["a"]
    assert [row.pk for row in await do.iterate(Stock.query(Stock.pk == Stock.name, pk="b"))] == []
    assert [row.pk for row in await do.iterate(Stock.scan(Stock.name < Stock.pk))] == ["b"]


def test_what_cannot_be_compared_is_refused():
    for compare in (
        lambda: Stock.sold == Stock.sold,
        lambda: Stock.name < Stock.sold,
        lambda: Stock.opened < Stock.name,
        lambda: Stock.closed == Stock.closed_day,
        lambda: Stock.doc == Stock.doc2,
        lambda: Stock.name == Stock.packed,
        lambda: Stock.packed == Stock.name,
        lambda: Stock.name.is_in(Stock.label),
        lambda: Stock.sold.between(Stock.held, 3),  # type: ignore[arg-type]
        lambda: Stock.sold.add(Stock.held),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidValue, match="Stock"):
            compare()


async def test_an_attribute_of_another_model_is_refused(do, store):
    with pytest.raises(WrongModel):
        await do.iterate(Stock.scan(Stock.held < Other.sold))  # type: ignore[operator]
    with pytest.raises(WrongModel):
        await do.update_by_key(Stock, {"pk": "a"}, Stock.held.set(Other.sold))  # type: ignore[arg-type]


def test_conditions_on_two_attributes_are_values():
    condition = Stock.sold < Stock.held
    assert repr(condition) == "(Stock.sold < Stock.held)"
    assert condition == (Stock.sold < Stock.held)
    assert condition != (Stock.sold <= Stock.held)
    assert hash(condition) == hash(Stock.sold < Stock.held)
    assert repr(Stock.name.set(Stock.label)) == "Stock.name.set(Stock.label)"
    assert pickle.loads(pickle.dumps(condition)) == condition
    with pytest.raises(TypeError, match="no truth value"):
        bool(condition)


async def test_an_attribute_is_set_to_the_value_of_another(do, store):
    stock = Stock(pk="a", sold=1, held=2, first=7, data={"n": [7, "x"]}, tags={"x"})
    await do.save(stock)
    await do.update(stock, Stock.sold.set(Stock.held), Stock.held.set(Stock.sold))
    assert (stock.sold, stock.held) == (2, 1)
    await do.update(stock, Stock.sold.set(Stock.first), Stock.data["n"][0].set(Stock.held))
    await do.update(stock, Stock.others.set(Stock.tags), Stock.tags.remove(), Stock.held.add(1))
    stored = await do.get(Stock, pk="a")
    for row in (stock, stored):
        assert (row.sold, row.held, row.data, row.tags, row.others) == (7, 2, {"n": [1, "x"]}, set(), {"x"}), row
    await do.update_by_key(Stock, {"pk": "a"}, Stock.held.set(Stock.sold))
    assert (await do.get(Stock, pk="a")).held == 7


async def test_a_copy_of_an_absent_value_is_refused_and_changes_nothing(do, store):
    stock = Stock(pk="a", sold=1)
    await do.save(stock)
    for upsert in (False, True):
        with pytest.raises(InvalidValue, match="sold"):
            await do.update(stock, Stock.sold.set(Stock.held), name="new", upsert=upsert)
    with pytest.raises(InvalidValue):
        await do.update_by_key(Stock, {"pk": "b"}, Stock.sold.set(Stock.held), upsert=True)
    assert (await do.get(Stock, pk="a")).name is None
    assert await do.get(Stock, pk="b") is None


class Labelled(Model):
    model_config = ModelConfig(table="labelled")
    pk = StringAttribute(partition_key=True)
    name = StringAttribute()
    label = StringAttribute(template="L#{name}")


def test_an_attribute_is_no_value(store):
    attribute: Any = Labelled.pk
    Labelled(pk="a", name="b").save()
    for write in (
        lambda: Labelled(pk="a", name=attribute).save(),
        lambda: Labelled.create(pk="c", name=attribute),
        lambda: Labelled.update_by_key({"pk": "a"}, name=attribute),
        lambda: Labelled.update_or_create(pk="c", defaults={"name": attribute}),
    ):
        with pytest.raises(InvalidValue, match=r"Labelled\.name: expected str, got StringAttribute"):
            write()


def test_a_copy_that_cannot_be_verified_is_refused():
    for change in (
        lambda: Stock.few.set(Stock.sold),  # type: ignore[arg-type]
        lambda: Stock.name.set(Stock.sold),  # type: ignore[arg-type]
        lambda: Stock.sold.set(Stock.data["n"][0]),
        lambda: Stock.name.set(Stock.row[0]),
        lambda: Stock.closed.set(Stock.closed_day),
        lambda: Stock.opened.set(Stock.name),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidValue, match="Stock"):
            change()


async def test_copies_count_versions_and_join_transactions(do, store):
    first, second = Counted(pk="a", n=1, kept=0), Counted(pk="b", n=2, kept=0)
    for row in (first, second):
        await do.save(row)
    await do.update(first, Counted.kept.set(Counted.n), condition=Counted.kept < Counted.n)
    assert (first.kept, first.version) == (1, 2)
    with pytest.raises(ConditionFailed):
        await do.update(first, Counted.kept.set(Counted.n), condition=Counted.kept < Counted.n)
    stored = await do.get(Counted, pk="a")
    assert (stored.kept, stored.version) == (1, 2)


def test_a_transaction_compares_and_copies(store):
    first, second = (Line(pk="p", sk=sk, n=n, kept=0) for sk, n in (("a", 1), ("b", 2)))
    Line.batch_save([first, second])
    with transaction() as tx:
        tx.check(Line, {"pk": "p", "sk": "a"}, Line.kept < Line.n)
        tx.update(second, Line.kept.set(Line.n), condition=Line.kept != Line.n)
    assert second.kept == 2

    def refused() -> None:
        with transaction() as tx:
            tx.update(first, Line.kept.set(Line.n))
            tx.update(second, Line.n.add(1), condition=Line.kept != Line.n)

    with pytest.raises(TransactionCancelled) as cancelled:
        refused()
    assert [type(reason) for reason in cancelled.value.reasons] == [type(None), ConditionFailed]
    assert [(row.n, row.kept) for row in Line.query(pk="p")] == [(1, 0), (2, 2)]


VALUES: Any = st.one_of(
    st.none(), st.integers(-2, 2), st.sampled_from(["", "a", "b", "ab"]), st.booleans(), st.sampled_from([b"", b"a"])
)


class Pair(Model):
    model_config = ModelConfig(table="pairs")
    pk = StringAttribute(partition_key=True)
    data = MapAttribute()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs=st.lists(st.tuples(VALUES, VALUES), min_size=4, max_size=8))
def test_every_store_compares_any_two_values_alike(store, pairs):
    for row in list(Pair.scan()):
        row.delete()
    keys = itertools.count()
    rows = {}
    for left, right in pairs:
        data = {name: value for name, value in (("l", left), ("r", right)) if value is not None}
        rows[f"k{next(keys)}"] = data
    Pair.batch_save(Pair(pk=pk, data=data) for pk, data in rows.items())
    for name, compare in OPERATORS.items():
        found = {row.pk for row in Pair.scan(compare(Pair.data["l"], Pair.data["r"]))}
        assert found == {pk for pk, data in rows.items() if _agrees(name, data.get("l"), data.get("r"))}, (name, rows)


def _agrees(name: str, left: Any, right: Any) -> bool:
    same_type = type(left) is type(right) and left is not None
    if name in {"==", "!="}:
        return (same_type and left == right) is (name == "==")
    return same_type and not isinstance(left, bool) and OPERATORS[name](left, right)


class Size(enum.Enum):
    SMALL = "s"


class Colour(enum.Enum):
    RED = "r"


@dataclasses.dataclass
class Box:
    n: int = 0
    more: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Bag:
    text: str = ""


class Typed(Model):
    model_config = ModelConfig(table="typed-attributes")
    pk = StringAttribute(partition_key=True)
    size = EnumAttribute(Size)
    colour = EnumAttribute(Colour)
    box = MapAttribute(Box)
    box2 = MapAttribute(Box)
    bag = MapAttribute(Bag)
    boxes = MapAttribute(of=Box)
    bags = MapAttribute(of=Bag)
    numbers = ListAttribute(of=int)
    numbers2 = ListAttribute(of=int)
    days = ListAttribute(of=date)
    plain = ListAttribute[Any]()
    map = MapAttribute()
    text = JSONAttribute(Box)
    text2 = JSONAttribute(Bag)
    positive: Any = MapAttribute(list[Annotated[int, Field(gt=0)]])
    n = NumberAttribute()


PAIRS: list[tuple[Any, Any]] = [
    (Typed.size, Typed.colour),
    (Typed.box, Typed.bag),
    (Typed.box, Typed.map),
    (Typed.boxes, Typed.bags),
    (Typed.boxes, Typed.box),
    (Typed.numbers, Typed.days),
    (Typed.numbers, Typed.plain),
    (Typed.text, Typed.text2),
    (Typed.positive, Typed.plain),
    (Typed.positive[0], Typed.box["n"]),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[f"{one._label}-{other._label}" for one, other in PAIRS])
def test_values_of_another_type_are_not_copied(one, other):
    for path, source in ((one, other), (other, one)):
        if path is PAIRS[-1][1]:
            continue  # each positive number is a number
        with pytest.raises(InvalidValue, match="cannot be"):
            path.set(source)


async def test_values_of_the_same_type_are_copied(do):
    await do.create(Typed, pk="a", box=Box(1, [2]), numbers=[3], n=4, text=Box(5))
    await do.update_by_key(
        Typed, "a", Typed.box2.set(Typed.box), Typed.numbers2.set(Typed.numbers), Typed.text.set(Typed.text)
    )
    await do.update_by_key(Typed, "a", Typed.box["n"].set(Typed.n))
    item = await do.get(Typed, "a")
    assert (item.box, item.box2, item.numbers2, item.text) == (Box(4, [2]), Box(1, [2]), [3], Box(5))
    assert await do.count(Typed, Typed.numbers == Typed.numbers2, Typed.box != Typed.box2) == 1
