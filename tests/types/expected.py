"""76 types that both type checkers know."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from typing_extensions import assert_type

from mintkey import Attr, AutoGenerate, Collection, Index, Model, Pipeline, Reference, TypedModel, transact_get
from mintkey._core import Action, Condition
from mintkey.attributes import (
    BinaryAttribute,
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
    VersionAttribute,
)
from mintkey.fields import (
    AutoKeyField,
    DatetimeField,
    DictField,
    Field,
    IndexedField,
    IntField,
    KeyField,
    ListField,
    SetField,
    SortedField,
)
from mintkey.queries import Page, Result
from mintkey.references import Ref


class Size(enum.Enum):
    SMALL = "s"


@dataclasses.dataclass
class Address:
    city: str = ""


class Customer(Model):
    id = StringAttribute(partition_key=True)


class Order(Model):
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    part = IntegerAttribute(sort_key=True)
    status = StringAttribute(required=True)
    note = StringAttribute()
    hidden = StringAttribute(required=False, default=None)
    total = NumberAttribute(default=0)
    weight = NumberAttribute()
    price = DecimalAttribute(default=lambda: Decimal(1))
    paid = BooleanAttribute(default=False)
    raw = BinaryAttribute()
    token = UUIDAttribute(default=AutoGenerate.UUID4)
    size = EnumAttribute(Size)
    least = EnumAttribute(Size, default=Size.SMALL)
    version = VersionAttribute()
    created = DatetimeAttribute(default=AutoGenerate.ISO8601)
    day = DateAttribute()
    at = TimeAttribute()
    lasts = TimedeltaAttribute(default=timedelta(hours=1))
    until = TTLAttribute()
    text = CompressedAttribute(required=True)
    anything = ListAttribute()
    lines = ListAttribute(of=str, default=[])
    times = ListAttribute(of=DatetimeAttribute())
    sizes = ListAttribute(of=EnumAttribute(Size))
    rows = ListAttribute(of=ListAttribute(of=int))
    hours = MapAttribute(of=ListAttribute(of=TimeAttribute()), required=True)
    payers = ListAttribute(of=Reference(Customer))
    data = MapAttribute(default={})
    address = MapAttribute(Address)
    home = MapAttribute(Address, required=True)
    counts = MapAttribute(of=int)
    json = JSONAttribute(Address, default=Address)
    tags = StringSetAttribute()
    numbers = NumberSetAttribute()
    customer = Reference(Customer)
    payer = Reference(Customer, required=True)
    by_status = Index(partition_key="status")


class Person(Model):
    name = KeyField()
    title = Field()
    age = Field(type=int, null=False)
    born = Field(type=date)
    score = SortedField()
    rank = SortedField(type=int, null=True)
    city = IndexedField(default="Ulm")
    n = IntField()
    changed_at = DatetimeField(auto_now=True)
    links = ListField(default=[])
    more = DictField()
    tags = SetField()


class Note(Model):
    id = AutoKeyField(strategy="ulid")


class Receipt(TypedModel):
    id: Attr[str] = StringAttribute(partition_key=True)
    seats: Attr[int] = NumberAttribute(required=True)
    note: Attr[str | None] = StringAttribute(default=None)


def values(order: Order) -> None:
    assert_type(order.id, str)
    assert_type(order.part, int)
    assert_type(order.status, str)
    assert_type(order.note, str | None)
    assert_type(order.hidden, str | None)
    assert_type(order.total, float)
    assert_type(order.weight, float | None)
    assert_type(order.price, Decimal)
    assert_type(order.paid, bool)
    assert_type(order.raw, bytes | None)
    assert_type(order.token, uuid.UUID)
    assert_type(order.size, Size | None)
    assert_type(order.least, Size)
    assert_type(order.version, int | None)
    assert_type(order.created, datetime)
    assert_type(order.day, date | None)
    assert_type(order.at, time | None)
    assert_type(order.lasts, timedelta)
    assert_type(order.until, datetime | None)
    assert_type(order.text, str)
    assert_type(order.anything, list[Any] | None)
    assert_type(order.lines, list[str])
    assert_type(order.times, list[datetime] | None)
    assert_type(order.sizes, list[Size] | None)
    assert_type(order.rows, list[list[int]] | None)
    assert_type(order.hours, dict[str, list[time]])
    assert_type(order.payers, list[Ref[Customer]] | None)
    assert_type(order.data, dict[str, Any])
    assert_type(order.address, Address | None)
    assert_type(order.home, Address)
    assert_type(order.counts, dict[str, int] | None)
    assert_type(order.json, Address)
    assert_type(order.tags, set[str])
    assert_type(order.customer, Ref[Customer] | None)
    assert_type(order.payer, Ref[Customer])
    assert_type(order.payer.get(), Customer | None)


def narrowed(order: Order) -> None:
    if order.day is not None:
        assert_type(order.day, date)
    order.times = [order.created]
    assert_type(order.times, list[datetime])


def fields(person: Person, note: Note) -> None:
    assert_type(person.name, str)
    assert_type(person.title, str | None)
    assert_type(person.age, int)
    assert_type(person.born, date | None)
    assert_type(person.score, float)
    assert_type(person.rank, int | None)
    assert_type(person.city, str)
    assert_type(person.changed_at, datetime)
    assert_type(person.links, list[Any])
    assert_type(note.id, str)


def annotated(receipt: Receipt) -> None:
    assert_type(receipt.seats, int)
    assert_type(receipt.note, str | None)
    assert_type(Receipt.create(id="a", seats=1), Receipt)


def conditions(order: Order, pipeline: Pipeline) -> None:
    assert_type(Order.total > 5, Condition[Order])
    assert_type((Order.id == "a") & (Order.price < 5), Condition[Order])
    assert_type(Order.lines[0] == "a", Condition[Order])
    assert_type(Order.lines.append(["a"]), Action[Order])
    assert_type(Order.query.filter(Order.total > 5), Result[Order])
    assert_type(Order.get("a", 1), Order | None)
    assert_type(Order.by_status.query(status="a").page(5), Page[Order])
    assert_type(Order.batch_get([("a", 1)]), Iterator[Order | None])
    assert_type(order.update(total=1, return_old=True), Order | None)
    assert_type(order.update(total=1, pipeline=pipeline), Pipeline)
    assert_type(Order.update_by_key(("a", 1), total=1, return_old=True), Order | None)
    assert_type(order.delete(return_old=True), Order | None)
    assert_type(order.delete(pipeline=pipeline), Pipeline)
    assert_type(Order.delete_by_key(("a", 1), return_old=True), Order | None)
    assert_type(Collection([Order, Receipt]).query(id="a").of(Order), list[Order])


def results(order: Order) -> None:
    assert_type(order.save(), None)
    assert_type(Order.get_or_create(id="a"), tuple[Order, bool])
    assert_type(Order.query.filter(status="a").order_by("-total").limit(4).first(), Order | None)
    assert_type(Order.query.all().values("id"), Result[dict[str, Any]])
    assert_type(Order.query.filter(Order.total > 5).delete(), int)
    assert_type(transact_get([(Order, ("a", 1)), (Order, ("b", 1))]), list[Order | None])
    assert_type(Order.model_validate({}), Order)


async def awaited() -> None:
    assert_type(await Order.aget("a", 1), Order | None)
    assert_type(await Order.aquery(id="a").aall(), list[Order])
    async for order in Order.ascan():
        assert_type(order, Order)
