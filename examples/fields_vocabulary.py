"""The vocabulary of Redis mappers: fields, auto keys that are generated at construction, and lookups.

Run it with `python examples/fields_vocabulary.py`. It uses the store that $MINTKEY_URL names, or else the file
mintkey.db in the working folder.
"""

from __future__ import annotations

from mintkey import Model
from mintkey.fields import AutoKeyField, Field


class Article(Model):
    """The key is a random UUID as 32 hexadecimal digits."""

    id = AutoKeyField()
    title = Field()


class Order(Model):
    """The key is a ULID: sorted by time, with millisecond resolution."""

    id = AutoKeyField(strategy="ulid")
    product = Field()


class Event(Model):
    """The key is a KSUID: sorted by time, with one-second resolution."""

    id = AutoKeyField(strategy="ksuid")
    name = Field()


class LogEntry(Model):
    """No key is declared, so a hidden key is added: `_auto_key`."""

    message = Field()


def main() -> None:
    for model in (Article, Order, Event, LogEntry):
        model.create_table()

    article = Article(title="Keys without effort")
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
