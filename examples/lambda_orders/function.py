"""Two functions for AWS Lambda: an HTTP API for orders, and a reader of the table's stream.

Set `function.handle_request` as the handler of the function behind an HTTP API (payload format 2.0), and
`function.handle_stream` as the handler of the function that reads the stream of the table. Create the tables once, with
`python examples/lambda_orders/function.py`. The program uses the store that $MINTKEY_URL names, or else DynamoDB in the
region of the function.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import InvalidId, InvalidValue, StoreError
from mintkey.generators import parse

log = logging.getLogger("orders")

# Once for each process: all invocations of this process share the store. The first request opens the connection.
connect(os.environ.get("MINTKEY_URL", "dynamodb://?timeout=3"))


class Order(Model):
    """An order of a customer."""

    model_config = ModelConfig(table="lambda-orders")
    id = StringAttribute(partition_key=True)
    customer = StringAttribute(required=True, min_length=1)
    total = NumberAttribute(required=True, min=0)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)


class Change(Model):
    """A change of an order, as the stream reported it."""

    model_config = ModelConfig(table="lambda-changes")
    order = StringAttribute(partition_key=True)
    number = StringAttribute(sort_key=True)
    total = NumberAttribute()


def answer(status: int, body: str) -> dict[str, Any]:
    """Return a response of the HTTP API."""
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": body}


def handle_request(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer `PUT /orders/{id}` and `GET /orders/{id}`. The client generates the ULID, so it can repeat a request."""
    try:
        key = parse(event["pathParameters"]["id"], AutoGenerate.ULID).text
        if event["requestContext"]["http"]["method"] == "GET":
            order = Order.get(key)
            return answer(404, "null") if order is None else answer(200, order.to_json())
        body = json.loads(event["body"])
        values = {"customer": body.get("customer"), "total": body.get("total")}
        order, _ = Order.get_or_create(id=key, defaults=values)
        return answer(200, order.to_json())
    except (InvalidId, InvalidValue, json.JSONDecodeError) as error:
        return answer(400, json.dumps({"detail": str(error)}))
    except StoreError as error:
        log.warning("%s", error)
        return answer(503, json.dumps({"detail": "try again later"}))


def handle_stream(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Record the changes of a batch. If the store fails, Lambda repeats the batch from the first record not done."""
    for record in event["Records"]:
        number = record["dynamodb"]["SequenceNumber"]
        try:
            record_change(number, record["dynamodb"])
        except InvalidValue as error:
            log.error("record %s is skipped: %s", number, error)  # noqa: TRY400 - the message says enough
        except StoreError as error:
            log.warning("record %s: %s", number, error)
            return {"batchItemFailures": [{"itemIdentifier": number}]}
    return {"batchItemFailures": []}


def record_change(number: str, change: dict[str, Any]) -> None:
    """Write one change. The key follows from the record, so a repeated record writes the same row again."""
    image = change.get("NewImage") or change["OldImage"]
    order = Order.from_stored(image)
    total = order.total if "NewImage" in change else 0
    Change(order=order.id, number=number, total=total).save()


if __name__ == "__main__":
    Order.create_table()
    Change.create_table()
