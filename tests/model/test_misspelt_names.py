"""Names of attributes, indexes and lookups that a class does not have: an error with the nearest name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mintkey import Collection, Index, Model, ModelConfig, Q, Reference, Store, connect, prefetch
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.catalog import describe
from mintkey.errors import ConfigurationError
from mintkey.raw import RawTable
from mintkey.stores import store_named


class Customer(Model):
    model_config = ModelConfig(table="customers")
    pk = StringAttribute(partition_key=True)


class Order(Model):
    model_config = ModelConfig(table="orders")
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    email = StringAttribute(unique=True)
    total = NumberAttribute()
    status = StringAttribute(default="new")
    customer = Reference(Customer)
    version = VersionAttribute()
    by_status = Index("status", "total")


class Refund(Order):
    pass


@pytest.fixture
def order():
    with connect("sqlite://"):
        yield Order.create(pk="a", sk="b", email="x", total=1, status="s", customer="c")


def declared(**body: Any) -> Any:
    return type("Declared", (Model,), {"pk": StringAttribute(partition_key=True), "total": NumberAttribute(), **body})


ATTRIBUTES: list[Callable[[Order], Any]] = [
    lambda order: list(Order.scan(attributes=["totl"])),
    lambda order: list(Order.query(pk="a", attributes=["totl"])),
    lambda order: list(Order.batch_get([("a", "b")], attributes=["totl"])),
    lambda order: Order.get_by(email="x", attributes=["totl"]),
    lambda order: list(Order.query(pk="a", totl=1)),
    lambda order: list(Order.query.filter(totl=1)),
    lambda order: list(Order.query.filter(Q(totl=1))),
    lambda order: list(Order.query.exclude(totl__gt=1)),
    lambda order: Order.query.filter(pk="a").order_by("-totl").last(),
    lambda order: list(Order.query.filter(pk="a").values("totl")),
    lambda order: list(Order.query.filter(pk="a").values_list("totl", flat=True)),
    lambda order: Order.query(pk="a").update(totl=1),
    lambda order: Order.count(totl=1),
    lambda order: Order.backfill("totl"),
    lambda order: order.to_dict(include={"totl"}),
    lambda order: order.to_json(exclude={"totl"}),
    lambda order: order.update(totl=1),
    lambda order: Order.update_by_key(("a", "b"), totl=1),
    lambda order: Order.get_or_create(pk="a", sk="c", defaults={"totl": 1}),
    lambda order: Order.update_or_create(pk="a", sk="c", create_defaults={"totl": 1}),
    lambda order: Order.from_dict({"totl": 1}),
    lambda order: Order.from_json('{"totl": 1}'),
    lambda order: Collection([Order]).query(pk="a", totl=1),
    lambda order: declared(model_config=ModelConfig(unique=[("totl", "pk")])),
    lambda order: declared(model_config=ModelConfig(order_by="-totl")),
    lambda order: declared(by_total=Index("totl")),
    lambda order: declared(by_total=Index("total", projection=["totl"])),
    lambda order: declared(text=StringAttribute(template="{totl}#")),
]


@pytest.mark.parametrize("call", ATTRIBUTES, ids=map(str, range(len(ATTRIBUTES))))
def test_attributes(order, call):
    with pytest.raises((TypeError, ValueError), match=r"totl.*did you mean 'total'\?"):
        call(order)


OTHERS: list[tuple[Callable[[Store], Any], str]] = [
    (lambda store: Order.get_by(emial="x"), "email"),
    (lambda store: Order.create_table(drop_unique=["emial"]), "email"),
    (lambda store: list(Order.query(status="s", index="by_statu")), "by_status"),
    (lambda store: list(Collection([Order]).query(pk="a", index="by_statu")), "by_status"),
    (lambda store: RawTable(store, "orders").query("s", index="by_statu"), "by_status"),
    (lambda store: list(Order.query.filter(total__gtt=1)), "gt"),
    (lambda store: Collection([Order]).query(pk="a", limt=1), "limit="),
    (lambda store: prefetch(list(Order.scan()), "custmer"), "customer"),
    (lambda store: describe(store, "ordrs"), "orders"),
]


@pytest.mark.parametrize(("call", "near"), OTHERS, ids=map(str, range(len(OTHERS))))
def test_other_names(order, call, near):
    with pytest.raises((TypeError, ConfigurationError, LookupError, ValueError), match=rf"did you mean '?{near}'?\?"):
        call(store_named("default"))


def test_a_lookup_in_a_query(order):
    with pytest.raises(TypeError, match=r"total__gte= is a lookup: pass it to filter\(\) of the result"):
        Order.query(pk="a", total__gte=1)


def test_classes_of_a_collection(order):
    found = Collection([Order]).query(pk="a")
    several: list[Any] = [found, found.all(), found.page(5).items]
    for items in several:
        assert [item.sk for item in items.of(Order)] == ["b"]
        assert items.of(Refund) == []
        assert items.of(Model) == items.of(object) == [order]
        with pytest.raises(TypeError, match="Customer is not in the collection, whose items are of Order"):
            items.of(Customer)
        with pytest.raises(TypeError, match=r"of\(\) takes a class, not 'Order'"):
            items.of("Order")
