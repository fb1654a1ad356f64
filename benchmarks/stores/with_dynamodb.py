"""DynamoDB Local compared with boto3 and pydynox, by the processor time of this process, because the server is slow."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pydynox
from measure import OURS, Bar, Job, Row, measured
from models import CREATED, Account, Order, UniqueAccount, at_once, batch, get, mint, sign_up, transactions
from pydynox import attributes
from tests.servers import dynamodb as servers

from mintkey import connect

PLACE = "DynamoDB"
REGION = "us-east-1"
EACH = 200
BATCH = 10_000
TRANSACTIONS, TRANSACTION = 20, 10


def item() -> dict[str, Any]:
    return {"pk": uuid.uuid4().hex, "sk": "x", "created_at": CREATED, "total": 5, "status": "open"}


def pydynox_model(endpoint: str) -> type[Any]:
    client = pydynox.DynamoDBClient(region=REGION, endpoint_url=endpoint, access_key="local", secret_key="local")

    class Theirs(pydynox.Model):  # type: ignore[misc]
        model_config = pydynox.ModelConfig(table="orders", client=client)
        pk = attributes.StringAttribute(partition_key=True, default=pydynox.AutoGenerate.ULID)
        sk = attributes.StringAttribute(sort_key=True)
        created_at = attributes.StringAttribute(default=pydynox.AutoGenerate.ISO8601)
        total = attributes.NumberAttribute()
        status = attributes.StringAttribute()

    return Theirs


def jobs(endpoint: str) -> Iterator[Job]:
    table = boto3.resource("dynamodb", endpoint_url=endpoint, region_name=REGION).Table("orders")
    theirs = pydynox_model(endpoint)
    key = uuid.uuid4().hex
    Order(pk=key, sk="x", total=5, status="open").save()

    def boto_batch() -> None:
        with table.batch_writer() as writer:
            for _ in range(BATCH):
                writer.put_item(Item=item())

    async def pydynox_at_once() -> None:
        await asyncio.gather(*(theirs(sk=str(i), total=5.5, status="open").save() for i in range(64)))

    yield Job(
        "save(), key minted",
        EACH,
        {
            OURS: lambda: mint(EACH),
            "pydynox": lambda: [theirs(sk="x", total=5.5, status="open").sync_save() for _ in range(EACH)],
            "boto3": lambda: [table.put_item(Item=item()) for _ in range(EACH)],
        },
        # Theirs overwrites what has the key; ours is a conditional write, for which the server takes longer.
        [Bar("pydynox", 0.2, cpu=True), Bar("boto3", 0.12, cpu=True), Bar("pydynox", 1)],
    )
    yield Job(
        "save(), key given",
        EACH,
        {
            OURS: lambda: [Order(**item()).save() for _ in range(EACH)],
            "pydynox": lambda: [theirs(**item()).sync_save() for _ in range(EACH)],
        },
        [Bar("pydynox", 0.2, cpu=True), Bar("pydynox", 1)],
    )
    yield Job(
        "save() with a unique value",
        EACH,
        {
            "with a unique value": lambda: sign_up(UniqueAccount, [uuid.uuid4().hex for _ in range(EACH)]),
            "save() without": lambda: sign_up(Account, [uuid.uuid4().hex for _ in range(EACH)]),
        },
        # One call each; with a unique value it writes two items.
        [Bar("save() without", 2, cpu=True, ours="with a unique value")],
    )
    yield Job(
        "get()",
        EACH,
        {
            OURS: lambda: get([key] * EACH),
            "pydynox": lambda: [theirs.sync_get(pk=key, sk="x") for _ in range(EACH)],
            "boto3": lambda: [table.get_item(Key={"pk": key, "sk": "x"}) for _ in range(EACH)],
        },
        [Bar("pydynox", 0.2, cpu=True), Bar("boto3", 0.12, cpu=True), Bar("pydynox", 1)],
    )

    async def pydynox_transactions() -> None:
        for _ in range(TRANSACTIONS):
            async with pydynox.Transaction(theirs.model_config.client) as tx:
                for _ in range(TRANSACTION):
                    tx.put("orders", item())

    def boto_transactions() -> None:
        for _ in range(TRANSACTIONS):
            puts = [{"Put": {"TableName": "orders", "Item": item()}} for _ in range(TRANSACTION)]
            table.meta.client.transact_write_items(TransactItems=puts)

    yield Job(
        "transaction of 10 puts",
        TRANSACTIONS,
        {
            OURS: lambda: transactions([uuid.uuid4().hex for _ in range(TRANSACTIONS * TRANSACTION)], TRANSACTION),
            "pydynox": lambda: asyncio.run(pydynox_transactions()),
            "boto3": boto_transactions,
        },
        [Bar("pydynox", 0.3, cpu=True), Bar("boto3", 0.15, cpu=True)],
    )
    yield Job(
        "64 tasks, asave()",
        64,
        {OURS: lambda: asyncio.run(at_once(64, 1)), "pydynox": lambda: asyncio.run(pydynox_at_once())},
        [Bar("pydynox", 0.3, cpu=True)],
    )
    yield Job(
        "batch_save of 10,000",
        BATCH,
        {OURS: lambda: batch(BATCH), "boto3 batch_writer": boto_batch},
        [Bar("boto3 batch_writer", 0.15, cpu=True)],
        share=0.3,
    )


def rows(rounds: int, only: str = "") -> Iterator[Row]:
    os.environ |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": REGION}
    with servers.server() as endpoint, connect(f"dynamodb://{REGION}?endpoint={endpoint}"):
        for model in (Order, Account, UniqueAccount):
            model.create_table()
        for job in jobs(endpoint):
            yield from measured(PLACE, job, rounds, only)
