"""A program that transfers money between accounts until it is killed, and prints each transfer.

    python -m tests.chaos.transfers URL NAME SEED blocking|async

An awaiting program has several tellers.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from typing import Any

from tests.behaviour.conftest import Do
from tests.chaos.ledger import Ledger, Write

import mintkey
from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConditionFailed, TransactionCancelled

ACCOUNTS = [f"{number:02}" for number in range(20)]
START = 100


class Account(Model):
    """An account, whose balance is never negative."""

    model_config = ModelConfig(table="chaos_accounts")

    bank = StringAttribute(partition_key=True)
    name = StringAttribute(sort_key=True)
    balance = NumberAttribute()


def total() -> float:
    """The sum of all accounts at one moment."""
    found = mintkey.transact_get([(Account, ("b", name)) for name in ACCOUNTS])
    balances = [account.balance or 0 for account in found if account is not None]
    assert len(balances) == len(ACCOUNTS)
    assert min(balances) >= 0
    return sum(balances)


async def transfer(do: Do, chance: random.Random) -> None:
    """Move an amount, or find that there is too little."""
    source, target = [await do.get(Account, "b", name, consistent=True) for name in chance.sample(ACCOUNTS, 2)]
    before = source.to_dict(), target.to_dict()
    amount = chance.randint(1, START)
    enough = Account.balance >= amount
    items: list[tuple[Any, ...]] = [(source, Account.balance.add(-amount), enough)]
    items.append((target, Account.balance.add(amount), None))
    if chance.random() < 0.5:
        items.reverse()
    try:
        if do.blocking:
            with mintkey.transaction() as tx:
                for item, action, condition in items:
                    tx.update(item, action, condition=condition)
        else:
            async with mintkey.transaction() as tx:
                for item, action, condition in items:
                    tx.update(item, action, condition=condition)
    except TransactionCancelled as error:
        # The reason is that of the right item, and both instances are as they were.
        reasons = {item.name: reason for (item, _, _), reason in zip(items, error.reasons, strict=True)}
        assert reasons[target.name] is None
        refused = reasons[source.name]
        assert type(refused) is ConditionFailed
        assert refused.item.name == source.name
        assert refused.item.balance < amount
        assert (source.to_dict(), target.to_dict()) == before


async def tell(name: str, seed: str, kind: str) -> None:
    """Transfer until the program is killed."""
    do, ledger = Do(blocking=kind == "blocking"), Ledger(lambda line: os.write(1, f"{line}\n".encode()))

    async def work(own: str) -> None:
        chance = random.Random(f"{seed} {own}")
        while True:
            number = ledger.begin(Write("Account", own, "transaction", "change"))
            await transfer(do, chance)
            ledger.end(number, "applied")

    await asyncio.gather(*(work(f"{name}.{number}") for number in range(1 if do.blocking else 4)))


if __name__ == "__main__":
    with connect(sys.argv[1]):
        asyncio.run(tell(*sys.argv[2:]))
