"""Models, and transactions in blocks of both kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import mintkey
from mintkey import AutoGenerate, Model, Transaction
from mintkey.attributes import ListAttribute, NumberAttribute, StringAttribute, TTLAttribute, VersionAttribute
from mintkey.errors import TransactionCancelled


class Account(Model):
    bank = StringAttribute(partition_key=True)
    name = StringAttribute(sort_key=True)
    balance = NumberAttribute()
    limit_ = NumberAttribute(alias="limit")


class Order(Model):
    shop = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    total = NumberAttribute()
    tags = ListAttribute()
    first_line = StringAttribute()
    created_at = StringAttribute(default=AutoGenerate.ISO8601_MS)
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601_MS)
    version = VersionAttribute()


class Line(Model):
    shop = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    order = StringAttribute(required=True)
    expires_at = TTLAttribute()


@asynccontextmanager
async def begun(do: Any) -> AsyncIterator[Transaction]:
    """A transaction in a block of the test's kind."""
    if do.blocking:
        with mintkey.transaction() as tx:
            yield tx
    else:
        async with mintkey.transaction() as tx:
            yield tx


@asynccontextmanager
async def refused(
    do: Any, kind: type[BaseException] = TransactionCancelled, match: str | None = None
) -> AsyncIterator[tuple[Transaction, pytest.ExceptionInfo[Any]]]:
    """A transaction that fails with this error."""
    with pytest.raises(kind, match=match) as raised:
        async with begun(do) as tx:
            yield tx, raised


async def transact_get(do: Any, *keys: Any) -> list[Any]:
    """Read in one transaction."""
    return await do.transact_get(mintkey, keys)


async def accounts(do: Any, **balances: int) -> list[Any]:
    """Accounts of one bank."""
    return [await do.create(Account, bank="b", name=name, balance=n) for name, n in balances.items()]


def balances(found: list[Any]) -> list[Any]:
    return [None if account is None else account.balance for account in found]
