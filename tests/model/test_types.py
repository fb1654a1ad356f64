"""What a type checker knows of a model: `make types` reads this file, the test sees that it is no lie."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from typing_extensions import assert_type

import mintkey
from mintkey import Attr, Index, Model, Q, TypedModel, connect
from mintkey.attributes import (
    DatetimeAttribute,
    IntegerAttribute,
    ListAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TimeAttribute,
    TimedeltaAttribute,
)
from mintkey.errors import InvalidValue
from mintkey.fields import Field, IntField, KeyField, SortedField, TimedeltaField
from mintkey.queries import Result


class Order(Model):
    pk = StringAttribute(partition_key=True)
    status = StringAttribute()
    total = NumberAttribute()
    paid_at = DatetimeAttribute()
    tags = StringSetAttribute()
    by_status = Index(partition_key="status", sort_key="paid_at")


class Person(Model):
    name = KeyField()
    title = Field(type=str)
    born = Field(type=int)
    height = SortedField(type=float)
    children = IntField()


class Whole(Field[int]):
    type = int


class Counted(Model):
    name = KeyField()
    n = Whole()


def test_values_have_the_types_of_their_attributes():
    order = Order(pk="a")
    assert_type(order.status, "str | None")
    assert_type(order.paid_at, "datetime | None")
    assert_type(order.tags, "set[str]")
    assert order.tags == set()
    assert order.paid_at is None
    person = Person(name="Ada", title="Countess", born=1815, height=1.65, children=3)
    assert_type(person.title, "str | None")
    assert_type(person.born, "int | None")
    assert_type(person.height, float)
    assert_type(person.children, "int | None")
    assert_type(Counted(name="a", n=1).n, int)
    shown = [type(value) for value in (person.title, person.born, person.height, person.children)]
    assert shown == [str, int, float, int]


class Tally(TypedModel):
    name: Attr[str] = StringAttribute(partition_key=True)
    whole: Attr[int] = NumberAttribute(required=True)
    exact: Attr[Decimal] = NumberAttribute()
    real: Attr[float] = NumberAttribute()
    seats: Attr[set[int]] = NumberSetAttribute()
    prices: Attr[set[Decimal]] = NumberSetAttribute()


def test_numbers_have_the_type_of_their_annotation():
    tally = Tally(name="a", whole=3, exact=Decimal("1e-30"), real=0.5, seats={1, 2}, prices={Decimal("1e-30")})
    assert_type(tally.whole, int)
    assert_type(tally.exact, Decimal)
    assert_type(tally.real, float)
    assert_type(Order(pk="a").total, "float | None")
    assert_type(NumberSetAttribute(), "NumberSetAttribute[set[float]]")
    with connect("sqlite://"):
        tally.save()
        assert Tally.get(name="a") == tally
    wrong: Attr[str] = NumberAttribute()  # type: ignore[assignment]
    assert isinstance(wrong, NumberAttribute)


class Shift(Model):
    pk = StringAttribute(partition_key=True)
    seats = IntegerAttribute(min=1)
    begins = TimeAttribute()
    lasts = TimedeltaAttribute()
    pause = TimedeltaField()
    dates = ListAttribute(of=DatetimeAttribute())


def test_values_of_further_attributes_have_their_types():
    shift = Shift(pk="a", seats=2, begins=time(9), lasts=timedelta(hours=8), pause=timedelta(minutes=30), dates=[])
    assert_type(shift.seats, "int | None")
    assert_type(shift.begins, "time | None")
    assert_type(shift.lasts, "timedelta | None")
    assert_type(shift.pause, "timedelta | None")
    assert_type(shift.dates, "list[datetime] | None")
    shift.seats = "2"  # type: ignore[assignment]
    with connect("sqlite://"), pytest.raises(InvalidValue, match="expected int, got str"):
        shift.save()


def test_queries_give_items_of_the_model():
    with connect("sqlite://"):
        Order(pk="a", status="paid", paid_at=datetime(2026, 1, 2, tzinfo=timezone.utc)).save()
        assert_type(Order.get(pk="a"), "Order | None")
        assert_type(Order.query(pk="a"), Result[Order])
        assert_type(Order.by_status.query(status="paid"), Result[Order])
        assert_type(Order.by_status.aquery(status="paid", limit=1), Result[Order])
        assert_type(Order.by_status.count(status="paid"), int)
        assert_type(Order.get("a"), "Order | None")
        assert_type(Order.get_or_create(pk="b"), tuple[Order, bool])
        chain = Order.query.filter(Q(total__gt=1) | (Order.total == 0)).exclude(status="x").order_by("-total").limit(5)
        assert_type(chain, Result[Order])
        assert_type(chain.values("total"), Result[dict[str, Any]])
        assert_type(chain.values_list("total", "status"), Result[tuple[Any, ...]])
        assert_type(chain.exists(), bool)
        assert_type(Order.query.all().last(), "Order | None")
        assert_type(Order.query.filter(status="none").update(status="x"), int)
        assert_type([item.total for item in Order.by_status.query(status="paid")], "list[float | None]")
        finds: list[Callable[..., Any]] = [Order.query, Order.by_status.query]
        found = [find(**key).first() for find, key in zip(finds, ({"pk": "a"}, {"status": "paid"}), strict=True)]
        assert [type(item) for item in found] == [Order, Order]


def test_names_that_the_package_lacks_are_known_as_such():
    assert_type(mintkey.__version__, str)
    with pytest.raises(AttributeError, match="module 'mintkey' has no attribute 'Modle'"):
        _ = mintkey.Modle  # type: ignore[attr-defined]


def test_a_misspelt_assignment_is_known_as_such():
    order = Order(pk="a")
    order.totl = 5  # type: ignore[attr-defined]
    assert order.to_dict() == {"pk": "a"}
