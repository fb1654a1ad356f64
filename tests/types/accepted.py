"""Calls that run time accepts, as the test sees when it runs this program. The plugin for mypy reports none of them."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel
from typing_extensions import Self

import mintkey
from mintkey import (
    Attr,
    AutoGenerate,
    Collection,
    Index,
    Mapped,
    Model,
    ModelConfig,
    Q,
    Reference,
    TypedModel,
    connect,
    mapped,
)
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    IntegerAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    UUIDAttribute,
)
from mintkey.fields import AutoKeyField, Field, IntField, KeyField, SortedField

M = TypeVar("M", bound=Model)
B = TypeVar("B", bound="Base")
connect("sqlite://")


# Generic code, which uses attributes that it does not know.
def found(model: type[M], **key: Any) -> M | None:
    return model.get(id="a") if not key else model.get(**key)


def made(model: type[M], names: Iterable[str]) -> list[M]:
    return [model.create(id=name) for name in names]


def renamed(item: Model, name: str) -> None:
    item.update(name=name)


def noted(item: Base) -> None:
    item.update(note="a", name="b")


def of_base(model: type[B]) -> list[B]:
    return model.query.filter(name="b").all()


def early() -> Customer:  # above the class that it uses
    return Customer.create(id="early", name="Ada")


class Named:  # a mixin that is not a model
    name = StringAttribute()


class Base(Model):
    model_config = ModelConfig(abstract=True)
    note = StringAttribute()

    @classmethod
    def named(cls, name: str) -> list[Self]:
        return cls.query.filter(name=name).all()

    @classmethod
    def new(cls, name: str) -> Self:
        return cls(id=name, name=name) if name < "n" else cls.create(id=name, name=name)

    def rename(self, name: str) -> None:
        self.update(name=name, note=None)


class Customer(Base, Named):
    id = StringAttribute(partition_key=True)
    email = StringAttribute(unique=True, alias="e")


@dataclasses.dataclass
class Address:
    city: str = ""


class Money(DecimalAttribute[Decimal | None]):
    """An attribute that converts text."""

    def encode(self, value: Any) -> Any:
        return super().encode(Decimal(value))


def untyped() -> Any:
    return StringAttribute()


class Order(Model):
    model_config = ModelConfig(unique=[("a", "b")])
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    part = IntegerAttribute(sort_key=True, default=1)
    status = StringAttribute(default="new")
    total = NumberAttribute(default=0)
    limit_ = NumberAttribute()
    price = DecimalAttribute()
    rate = Money()
    raw = BinaryAttribute()
    token = UUIDAttribute()
    at = DatetimeAttribute()
    lines = ListAttribute(of=str, default=[])
    weights = ListAttribute(of=float)
    hours = MapAttribute(of=ListAttribute(of=float))
    home = MapAttribute(Address)
    homes = ListAttribute(of=Address)
    anything = JSONAttribute()
    tags = StringSetAttribute()
    numbers = NumberSetAttribute()
    blobs = BinarySetAttribute()
    customer = Reference(Customer)
    a = StringAttribute()
    b = StringAttribute()
    made_by = untyped()
    by_status = Index(partition_key="status", sort_key="total")


class Bare(Order):  # with constructor and methods of its own
    def __init__(self, name: str = "", **values: Any) -> None:
        state = values.pop("state", "new")
        super().__init__(status=name or state, **values)

    def update(self, *actions: Any, state: str = "", **values: Any) -> Any:
        return super().update(*actions, status=state or "new", **values)


class Keyed(Model):
    pk = StringAttribute(partition_key=True, template="USER#{user}")
    sk = StringAttribute(sort_key=True, template="ORDER#{number:08d}")
    user = StringAttribute()
    number = IntegerAttribute()
    city = StringAttribute()
    total = NumberAttribute()


class Event(Model):
    id = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True)


class Click(Event):
    x = IntegerAttribute()


class Receipt(TypedModel):
    id: Attr[str] = StringAttribute(partition_key=True)
    total: Attr[float] = NumberAttribute(required=True)
    note: Attr[str | None] = StringAttribute(default=None)


class Person(Model):
    name = KeyField()
    age = Field(type=int)
    score = SortedField(type=float, partition_by="age")
    n = IntField()


class Log(Model):
    id = AutoKeyField(strategy="ulid")
    text = Field()


class Plain(Model):  # with a hidden key
    text = Field()


@mapped(partition_key="id", table="users")
@dataclasses.dataclass
class User(Mapped):
    id: str
    city: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)
    home: Address | None = None


@mapped(partition_key="id", table="guests")
class Guest(BaseModel, Mapped):  # type: ignore[misc]
    id: str
    age: int = 0


def writes() -> None:
    moment = datetime(2024, 1, 1, tzinfo=timezone.utc)
    values: dict[str, Any] = {"status": "paid", "total": 5}
    more: Any = {"a": "1"}
    whole, mixed = [1, 2], {1, 2.5, Decimal(3)}
    frozen = frozenset({"a"})
    customer = Customer.create(id="a", name="Ada", email="a@b", note=None)
    Order(id="a", **values)
    order = Order.create(id="a", part=1, total=Decimal(5), price=3, rate="1.5", raw=bytearray(b"x"))
    order.update(token=uuid.UUID(int=1), at=moment, lines=[], weights=whole, hours={"monday": whole}, tags=frozen)
    order.update(home={"city": "Ulm"}, homes=[Address("Ulm"), {"city": "Bonn"}], anything={"a": [1]}, numbers=mixed)
    order.update(home=Address("Ulm"), blobs={b"a"}, tags=set(), numbers={1}, lines=sorted(values))
    order.update(customer=customer, made_by="me", limit_=None, total=None, return_old=True)
    order.update(Order.total.add(1), customer="a", status="paid", condition=Order.total.does_not_exist(), **more)
    order.update(customer=("a",), upsert=True, skip_hooks=True, anything=5)
    Order.update_by_key({"id": "a", "part": 1}, price=2, **values)
    Order.update_by_key(("a", 1), b="2", return_old=True)
    Order.create(total=1, skip_hooks=True)
    Bare(name="a", state="b", total=1)
    Bare.create(name="c", total=1).update(state="d")
    partial(Order.create, total=1)(status="new")
    with mintkey.transaction() as tx:
        tx.create(Order, id="tx", total=1).lines.append("a")
        tx.create(Bare, name="x", state="y", total=5, skip_hooks=True)
        tx.update(order, Order.total.add(1), status="new", condition=Order.id == "a")
        tx.update_by_key(Customer, "a", name="Eva")
        tx.delete_by_key(Order, {"id": "no", "part": 1})
    with mintkey.pipeline() as pipeline:
        Order.create(id="p", total=1, pipeline=pipeline)
        order.update(status="paid", pipeline=pipeline)
    Order.get_or_create(id="a", part=1, defaults={"total": 5, "lines": lambda: ["a"]})
    Order.update_or_create(id="b", part=1, defaults={"total": 5}, create_defaults={"total": 1, "status": "new"})
    Customer.get_or_create(email="b@c", defaults={"id": "b"})
    Click.create(id="c", x=1)
    event = Event.get(id="c")
    if event is not None:
        event.update(x=2)  # of a subclass
    Keyed.create(user="a", number=1, city="Ulm")
    Keyed.create(pk="USER#b", sk="ORDER#00000002")
    Keyed.update_by_key({"user": "a", "number": 1}, city="Bonn")
    Receipt.create(id="a", total=1).update(total=2.5, note=None)
    Person.create(name="a", age=1, score=1).update(score=2.5, n=None)
    Log.create(text="a").update(text="b")
    User.create(id="a", city="Ulm").update(home={"city": "Ulm"}, tags=["a"], city="Bonn")
    Guest.create(id="a", age=1).update(age=2)


def reads() -> None:
    lookups: Any = {"total__gt": 1}
    order = Order.get("a", 1)
    assert order is not None
    Order.get(id="a", part=1, status=order.status, consistent=True, attributes=["id"])
    Order.get({"id": "a", "part": 1}, customer=order.customer)
    Order.get(("a", 1), made_by="me", limit_=Order.total)
    Order.exists(id="a", part=1, raw=order.raw)
    Order.get_by(a="1", b="2")
    Customer.get_by(email="a@b")
    Keyed.get(user="a", number=1)
    Keyed.get(pk="USER#a", sk="ORDER#00000001")
    Keyed.query(user="a", descending=True, limit=5).all()
    Keyed.query.filter(pk="USER#a", sk__startswith="ORDER#", number__gt=1).all()
    Order.query(id="a", part=1, total=Order.limit_, index=None).filter(total__gt=Decimal(1)).first()
    Order.query.filter(total__lt=Order.limit_, price__gte=1, price__in=(1, Decimal(2)), lines=["a"]).all()
    Order.query.filter(total__in={1, 2.5}, price__between=[1, Decimal(2)], status__in=iter(["new"])).all()
    Order.query.filter(at__endswith="00:00", status__icontains="EW", tags__contains="a", lines__contains="a").all()
    Order.query.filter(Order.total > 1, Q(status="new"), limit___isnull=True, raw__startswith=b"x").exclude(a="1").all()
    Order.query.filter(status="new", **lookups).update(Order.total.add(1), status="paid")
    Order.query.get(id="a", part=1)
    Order.query.get({"id": "a", "part": 1})
    Order.query.exists(total__gt=1)
    Order.query.count(home={"city": "Ulm"})
    Order.query.first(customer="a")
    Order.query.order_by("total").filter(total__gt=1).values("id").all()
    Order.by_status.query(Order.total > 1, status="paid", descending=True).filter(total__ne=5).all()
    Order.by_status.count(status="paid", total=3)
    Order.count(Order.total > 1, a="1", segments=2)
    Event.query.filter(kind="Click").all()
    Click.query.filter(x__gt=1).all()
    Collection([Keyed, Keyed]).query(user="a", number=1).all()
    Person.query.filter(age__gt=1, score__between=(1, 2.5)).all()
    Log.query.filter(text__iexact="A").first()
    plain = Plain()
    plain.save()
    Plain.get(_auto_key=plain._auto_key)
    User.get(id="a", city="Bonn")
    User.query.filter(city__startswith="B", tags__contains="a").all()
    Guest.query.filter(age__gte=1).all()


def generic() -> None:
    Customer.new("a").refresh()
    for customer in (*made(Customer, ["x", "y"]), early(), Customer.new("z")):
        renamed(customer, "a")
        noted(customer)
        customer.rename("c")
    found(Customer)
    found(Order, id="a", part=1)
    Customer.named("c")
    of_base(Customer)

    class Inner(Customer):
        size = IntegerAttribute()

    model = Inner
    model.create(id="inner", size=1, name="a").update(size=2)
    either = Customer if datetime.now(timezone.utc) > datetime.min.replace(tzinfo=timezone.utc) else Inner
    either.query.filter(name="a").all()


async def awaited() -> None:
    order = await Order.acreate(id="async", total=1, lines=["a"])
    await order.aupdate(total=2, at=datetime.now(timezone.utc) + timedelta(1))
    await Order.aget(id="async", part=1, total=2)
    await Order.aexists(id="async", part=1)
    await Order.aquery(id="async").aall()
    await Order.aquery.filter(total__gt=1).aupdate(status="paid")
    await Order.aget_or_create(id="async", part=1, defaults={"total": 1})
    await Order.acount(status="paid")


writes()
reads()
generic()
asyncio.run(awaited())
