"""57 wrong keywords, which mypy sees with the plugin only. Each error is in the line with the comment `plugin`."""

from __future__ import annotations

import dataclasses

import mintkey
from mintkey import Attr, Index, Mapped, Model, ModelConfig, TypedModel, mapped
from mintkey.attributes import (
    DatetimeAttribute,
    IntegerAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
)
from mintkey.fields import Field, KeyField


# A function above the class that it uses.
def early(total: str) -> None:
    Order.create(id="a", total=total)  # plugin: a value of the wrong type
    Order.create(id="a", totl=1)  # plugin: an unknown keyword


class Base(Model):
    model_config = ModelConfig(abstract=True)
    note = StringAttribute()


class Order(Base):
    id = StringAttribute(partition_key=True)
    part = IntegerAttribute(sort_key=True, default=1)
    status = StringAttribute(default="new")
    total = NumberAttribute()
    lines = ListAttribute(of=str, default=[])
    hours = MapAttribute(of=ListAttribute(of=float))
    at = DatetimeAttribute()
    seats: Attr[int] = NumberAttribute(default=1)
    by_status = Index(partition_key="status")


class Large(Order):
    weight = NumberAttribute()


class Event(Model):
    id = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True)


class Receipt(TypedModel):
    id: Attr[str] = StringAttribute(partition_key=True)
    total: Attr[float] = NumberAttribute(required=True)


class Person(Model):
    name = KeyField()
    age = Field(type=int, null=False)


@mapped(partition_key="id")
@dataclasses.dataclass
class User(Mapped):
    id: str
    city: str = ""


def constructors() -> None:
    Order(totl=1)  # plugin: an unknown keyword
    Order(total="1")  # plugin: a value of the wrong type
    Order(note=1)  # plugin: a value of an inherited attribute
    Order(weight=1)  # plugin: an attribute of a subclass
    Base(total=1)  # plugin: an attribute of a subclass
    Order.create(totl=1)  # plugin: an unknown keyword
    Order.create(total="1", skip_hooks=True)  # plugin: a value of the wrong type
    Person(age="36")  # plugin: a value of the wrong type
    Person(agee=36)  # plugin: an unknown keyword


def updates(order: Order, large: Large, receipt: Receipt, user: User) -> None:
    order.update(totl=1)  # plugin: an unknown keyword
    order.update(total="1")  # plugin: a value of the wrong type
    order.update(total="1", return_old=True)  # plugin: a value of the wrong type
    order.update(lines=[1])  # plugin: an element of the wrong type
    order.update(lines="paper")  # plugin: text for a list
    order.update(hours={"monday": ["9"]})  # plugin: an element of the wrong type
    order.update(seats=1.5)  # plugin: another type than the annotation
    order.update(at="2024-01-01")  # plugin: text for a time
    large.update(weight="1")  # plugin: a value of the wrong type
    receipt.update(total="1")  # plugin: a value of the wrong type
    user.update(town="Ulm")  # plugin: an unknown field
    user.update(city=5)  # plugin: a value of the wrong type
    Order.update_by_key(("a", 1), totl=1)  # plugin: an unknown keyword
    Order.update_by_key({"id": "a", "prt": 1}, total=1)  # plugin: an unknown part of a key
    Order.query(id="a").update(totl=1)  # plugin: an unknown keyword
    with mintkey.transaction() as tx:
        tx.create(Order, totl=1)  # plugin: an unknown keyword
        tx.update(order, total="1")  # plugin: a value of the wrong type
        tx.update_by_key(Order, ("a", 1), totl=1)  # plugin: an unknown keyword
        tx.delete_by_key(Order, {"id": "a", "prt": 1})  # plugin: an unknown part of a key


def keys() -> None:
    Order.get(ident="a", part=1)  # plugin: an unknown keyword
    Order.get(id=5, part=1)  # plugin: a value of the wrong type
    Order.get(id="a", part=1, status=None)  # plugin: a comparison with None
    Order.exists(id="a", prt=1)  # plugin: an unknown keyword
    Order.delete_by_key({"ident": "a"})  # plugin: an unknown part of a key
    Order.get_or_create(id="a", prt=1)  # plugin: an unknown keyword
    Order.get_or_create(id="a", part=1, defaults={"totl": 1})  # plugin: an unknown default
    Order.update_or_create(id="a", part="1", defaults={"total": 1})  # plugin: a value of the wrong type
    User.get(ident="a")  # plugin: an unknown keyword


def queries() -> None:
    Order.query(ident="a")  # plugin: an unknown keyword
    Order.query(id=5)  # plugin: a value of the wrong type
    Order.by_status.query(statu="new")  # plugin: an unknown keyword
    Order.count(total="1")  # plugin: a value of the wrong type
    Order.query.filter(totl=1)  # plugin: an unknown keyword
    Order.query.filter(total__gt="1")  # plugin: an operand of the wrong type
    Order.query.filter(total__gtt=1)  # plugin: an unknown lookup
    Order.query.filter(total__in=["1"])  # plugin: an operand of the wrong type
    Order.query.filter(total__between=("1", "2"))  # plugin: bounds of the wrong type
    Order.query.filter(total__isnull=1)  # plugin: an operand of the wrong type
    Order.query.filter(status__startswith=1)  # plugin: an operand of the wrong type
    Event.query(id="a").filter(x=1)  # plugin: an attribute of a subclass
    Order.query.first(totl__lt=1)  # plugin: an unknown keyword
    Order.query(id="a").exclude(status=5)  # plugin: a value of the wrong type


async def awaited(order: Order) -> None:
    await Order.acreate(totl=1)  # plugin: an unknown keyword
    await order.aupdate(total="1")  # plugin: a value of the wrong type
    await Order.aget(id="a", prt=1)  # plugin: an unknown keyword
    Order.aquery(id=5)  # plugin: a value of the wrong type
