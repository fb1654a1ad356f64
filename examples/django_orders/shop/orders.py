"""The models of mintkey."""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute


class Order(Model):
    """An order. `customer` is the key of a `Customer`."""

    model_config = ModelConfig(table="django-orders")
    customer = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    total = NumberAttribute(required=True, min=0)
    note = StringAttribute(max_length=200)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
