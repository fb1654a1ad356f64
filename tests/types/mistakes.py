"""40 mistakes, as users make them. The comment of each says which type checkers see it: `both` or `neither`.

`plugin` is for those that only mypy sees, with the plugin.
"""

from __future__ import annotations

import mintkey
from mintkey import Attr, AutoGenerate, Collection, ExpiresIn, Index, Model, Reference, Store, TypedModel, auto
from mintkey.attributes import ListAttribute, NumberAttribute, StringAttribute


class Customer(Model):
    id = StringAttribute(partition_key=True)


class Product(Model):
    id = StringAttribute(partition_key=True)
    stock = NumberAttribute(default=0)


class Order(Model):
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    status = StringAttribute(default="new")
    total = NumberAttribute()
    lines = ListAttribute(of=str, default=[])
    customer = Reference(Customer)
    by_status = Index(partition_key="status")


class Receipt(TypedModel):
    id: Attr[str] = StringAttribute(partition_key=True)
    total: Attr[float] = NumberAttribute(required=True)
    note: Attr[str | None] = StringAttribute(default=None)


class Wrong(Model):
    id = NumberAttribute(partition_key=True, default=AutoGenerate.ULID)  # both: a strategy that generates text
    amount = NumberAttribute(default="none")  # both: a default of another type


def constructors() -> None:
    Receipt(id="a", totl=3, total=3)  # both: an unknown keyword
    Receipt(id="a", total="3")  # both: a keyword of the wrong type
    Receipt(id="a")  # both: a missing keyword
    Receipt.create(id="a", total=3, nota="b")  # both: an unknown keyword of create()
    Receipt.create(id="a", total="3")  # both: a keyword of create() of the wrong type


def values(order: Order, product: Product) -> None:
    order.totl = 5  # both: a misspelt attribute
    order.status = 5  # both: a value of the wrong type
    print(order.total + 1)  # both: the value may be absent
    print(Order.get("a").status)  # both: get() may return None
    print(Order.get_or_create(id="a").status)  # both: a pair, not an instance
    print(Order.batch_get(["a"]).status)  # both: an iterator, not an instance
    order.customer = product  # both: a reference to another model


def conditions() -> None:
    Order.query.filter(Order.total > "5")  # both: an operand of the wrong type
    Order.query.filter(Order.status == 5)  # both: == with an operand of the wrong type
    Order.query.filter(Order.status.is_in([1, 2]))  # both: elements of the wrong type
    Order.query.filter(Order.total.between(1, "5"))  # both: mixed bounds
    Order.query.filter(Order.total.begins_with("5"))  # both: begins_with() on a number
    Order.query.filter(Product.stock > 1)  # both: an attribute of another model


def changes(order: Order) -> None:
    order.update(Order.status.add(1))  # both: add() on text
    order.update(Order.total.append([1]))  # both: append() to a number
    order.update(Order.lines.append([1]))  # both: an element of the wrong type
    with mintkey.transaction() as tx:
        tx.update(order, Product.stock.add(1))  # both: a change of another model


async def awaiting(order: Order) -> None:
    await order.save()  # both: a blocking call is awaited
    async for found in Order.query.all().all():  # both: a list is iterated with `async for`
        print(found)


def strategies() -> None:
    auto("ulid", prefx="a")  # both: an unknown parameter of a strategy
    auto("nanoid", size="8")  # both: a parameter of the wrong type
    ExpiresIn.hours("1")  # both: a time range of the wrong type


def stores(order: Order, store: Store) -> None:
    Order.batch_save([Product(id="a")])  # both: instances of another model
    order.save(condition=Product.stock > 1)  # both: a condition of another model
    order.save(condition=Order.total.set(5))  # both: a change as a condition
    print(store.ping().second)  # both: a misspelt attribute of a result
    order.to_dict(mode="xml")  # both: an unknown mode
    print(Order.by_statu)  # both: a misspelt index


def keywords(order: Order) -> None:
    order.update(totl=5)  # plugin: an unknown keyword of update()
    order.update(total="5")  # plugin: a keyword of update() of the wrong type
    Order.get(ident="a")  # plugin: not the key
    Order.by_status.query(customer="ada")  # neither: not the key of the index
    for found in Collection([Order, Product]).query(id="a").of(Order):
        print(found.stock)  # both: an attribute of the other class
