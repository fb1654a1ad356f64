"""The first save generates the key and the timestamps. The second save keeps the key and `created_at`.

Run it with `python examples/basic_order.py`. It uses the store that $MINTKEY_URL names, or else the file
mintkey.db in the working folder.
"""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute


class Order(Model):
    """An order of a shop."""

    model_config = ModelConfig(table="orders")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = StringAttribute(sort_key=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    updated_at = StringAttribute(default=AutoGenerate.ISO8601, on_update=AutoGenerate.ISO8601)
    total = NumberAttribute()


def main() -> None:
    Order.create_table()

    order = Order(sk="ORDER#DETAILS", total=99.99)
    print(f"before the save: pk={order.pk} created_at={order.created_at}")
    order.save()
    print(f"after the save:  pk={order.pk} created_at={order.created_at}")

    generated = (order.pk, order.created_at)
    order.total = 149.99
    order.save()
    print(f"second save:     pk={order.pk} created_at={order.created_at} updated_at={order.updated_at}")
    print(f"key and created_at kept: {(order.pk, order.created_at) == generated}")

    stored = Order.get(pk=order.pk, sk="ORDER#DETAILS")
    print(f"stored: {stored}")
    print(f"same as ours: {stored == order}")


if __name__ == "__main__":
    main()
