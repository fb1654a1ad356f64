"""The model that is kept everywhere, and the same item for rivals."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute

CREATED = "2024-01-01T00:00:00Z"


class Order(Model):
    model_config = ModelConfig(table="orders")
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = StringAttribute(sort_key=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    total = NumberAttribute()
    status = StringAttribute()


class Account(Order):
    model_config = ModelConfig(table="accounts")
    email = StringAttribute()


class UniqueAccount(Account):
    model_config = ModelConfig(table="unique_accounts")
    email = StringAttribute(unique=True)


@attrs.define(kw_only=True, slots=False)
class Plain:
    pk: str | None = None
    sk: str | None = None
    created_at: str | None = None
    total: float | None = None
    status: str | None = None


def item(key: str, sort: str = "x", total: float = 5.5) -> dict[str, Any]:
    """What a rival is given for an `Order`."""
    return {"pk": key, "sk": sort, "created_at": CREATED, "total": total, "status": "open"}


def construct(model: type, count: int) -> None:
    for _ in range(count):
        model(pk="P", sk="x", created_at=CREATED, total=5.5, status="open")


def mint(count: int) -> None:
    """Save one after another, each with a minted key."""
    for _ in range(count):
        Order(sk="x", total=5.5, status="open").save()


def save(keys: list[str]) -> None:
    for key in keys:
        Order(**item(key)).save()


def sign_up(model: type[Account], keys: list[str]) -> None:
    """Save accounts, each with an email of its own; emails and keys are in different orders, as those of people are."""
    for key in keys:
        model(**item(key), email=f"{key[::-1]}@example.com").save()


def get(keys: list[str]) -> None:
    for key in keys:
        Order.get(pk=key, sk="x")


def read() -> None:
    for _ in Order.query(pk="P"):
        pass


def batch(count: int) -> None:
    Order.batch_save(Order(sk="x", total=5.5, status="open") for _ in range(count))


def transactions(keys: list[str], size: int) -> None:
    """Save items with these keys, so many in a transaction."""
    for start in range(0, len(keys), size):
        with mintkey.transaction() as tx:
            for key in keys[start : start + size]:
                tx.save(Order(**item(key)))


def fill(count: int) -> None:
    """A partition of so many items."""
    Order.batch_save(Order(pk="P", sk=f"{i:06}", created_at=CREATED, total=i, status="open") for i in range(count))


async def at_once(tasks: int, turns: int) -> None:
    """So many tasks that save, several times over."""
    for _ in range(turns):
        await asyncio.gather(*(Order(sk=str(i), total=5.5, status="open").asave() for i in range(tasks)))
