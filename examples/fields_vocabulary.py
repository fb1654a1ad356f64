"""The vocabulary of Redis mappers: fields, auto keys that exist from construction on, and lookups.

Run it with `python examples/fields_vocabulary.py`. It works on the store that $MINTKEY_URL names, else on the file
mintkey.db in the folder where it runs.
"""

from __future__ import annotations

from mintkey import Model
from mintkey.fields import AutoKeyField, Field


class Article(Model):
    """The key is 32 hexadecimal characters of a random UUID."""

    id = AutoKeyField()
    title = Field()


class Order(Model):
    """The key is a ULID: sorted by time, to the millisecond."""

    id = AutoKeyField(strategy="ulid")
    product = Field()


class Event(Model):
    """The key is a KSUID: sorted by time, to the second."""

    id = AutoKeyField(strategy="ksuid")
    name = Field()


class LogEntry(Model):
    """No key is declared, so there is a hidden one: `_auto_key`."""

    message = Field()


def main() -> None:
    for model in (Article, Order, Event, LogEntry):
        model.create_table()

    article = Article(title="Keys that mint themselves")
    print(f"Article, before the save: id={article.id}")
    article.save()
    print(f"Article, after the save:  id={article.id}")

    orders = [Order.create(product=product) for product in ("Widget", "Gadget", "Gizmo")]
    print(f"Order:    id={orders[0].id}")
    print(f"Event:    id={Event.create(name='signup').id}")
    entry = LogEntry.create(message="hi")
    print(f"LogEntry: _auto_key={entry.to_dict()['_auto_key']}")

    found = Order.query.get(id=orders[1].id)
    print(f"by key:   {found}")
    latest = Order.query.order_by("-id")[:3]
    print(f"latest first: {[order.product for order in latest]}")
    mine = Order.query.filter(id__gte=orders[0].id, product__startswith="G")
    print(f"of these, with a G: {sorted(str(order.product) for order in mine)}")


if __name__ == "__main__":
    main()
