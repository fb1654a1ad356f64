"""`from_stored()` and `to_stored()` take and give what boto3's client does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from mintkey import Model, ModelConfig
from mintkey.attributes import BinaryAttribute, ListAttribute, NumberAttribute, StringAttribute, StringSetAttribute


class Thing(Model):
    model_config = ModelConfig(table="things")
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    raw = BinaryAttribute()
    words = StringSetAttribute()
    data = ListAttribute()


def test_items_of_the_client_are_images(store, service, prefix):
    client, table = service.meta.client, f"{prefix}things"
    # The resource's client converts plain values; its own is the one of `boto3.client()`.
    client.meta.events.unregister("before-parameter-build.dynamodb", unique_id="dynamodb-attr-value-input")
    client.meta.events.unregister("after-call.dynamodb", unique_id="dynamodb-attr-value-output")
    Thing.create_table()
    try:
        values: dict[str, Any] = {
            "n": Decimal("0.1234567890123456789012"),
            "raw": b"\0\xff",
            "words": {"a"},
            "data": [1, {"b": b"c"}],
        }
        ours = Thing.create(pk="a", **values)
        image = client.get_item(TableName=table, Key={"pk": {"S": "a"}})["Item"]
        assert Thing.from_stored(image) == ours
        assert ours.to_stored() == image
        client.put_item(TableName=table, Item=Thing(pk="b", **values).to_stored())
        theirs = Thing.get(pk="b")
        assert theirs is not None
        assert theirs.to_dict() == {"pk": "b", **values}
    finally:
        Thing.delete_table()
