"""Transactions at the same time, and transactions whose outcome nobody learned."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.behaviour.test_unknown_outcomes import Line as Way
from tests.behaviour.transacting import (
    Account,
    Line,
    Order,
    accounts,
    balances,
    begun,
    refused,
    transact_get,
)

import mintkey
from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import ConditionFailed, ConfigurationError, KeyCollision, StoreUnavailable, TransactionCancelled
from mintkey.hooks import after_save, before_save
from mintkey.operations import arguments, updates


async def test_a_row_is_changed_only_as_others_left_it(do):
    """Each transaction reads a counter, and writes it under a condition: no increment is lost."""
    await accounts(do, one=0, two=0)

    async def step() -> None:
        one, two = await transact_get(do, (Account, ("b", "one")), (Account, ("b", "two")))
        assert one.balance == two.balance
        try:
            async with begun(do) as tx:
                tx.update(one, balance=one.balance + 1, condition=Account.balance == one.balance)
                tx.update(two, balance=two.balance + 1, condition=Account.balance == two.balance)
        except TransactionCancelled:
            await step()

    if do.blocking:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: asyncio.run(step()), range(12)))
    else:
        await asyncio.gather(*(step() for _ in range(12)))
    assert balances(await transact_get(do, (Account, ("b", "one")), (Account, ("b", "two")))) == [12, 12]


#: How many times as long as usual the transfers run.
TIMES = int(os.environ.get("MINTKEY_CHAOS") or 1)
NAMES = [f"{n:02}" for n in range(20)]


async def test_transfers_never_change_the_sum(do):
    await accounts(do, **dict.fromkeys(NAMES, 100))
    keys = [(Account, ("b", name)) for name in NAMES]
    ended = threading.Event()
    done, refusals = 0, []
    blamed: list[tuple[str, str, str]] = []

    async def look() -> None:
        while not ended.is_set():
            assert sum(balances(await transact_get(do, *keys))) == 2000
            await asyncio.sleep(0)

    async def transfers(seed: int, count: int) -> int:
        chance, done = random.Random(seed), 0
        for _ in range(count):
            source, target = chance.sample(NAMES, 2)
            amount = chance.randint(1, 60)
            try:
                async with begun(do) as tx:
                    tx.update_by_key(
                        Account, ("b", source), Account.balance.add(-amount), condition=Account.balance >= amount
                    )
                    tx.update_by_key(Account, ("b", target), Account.balance.add(amount))
            except TransactionCancelled as error:
                refusals.append([type(reason) for reason in error.reasons])
                reason: Any = error.reasons[0]
                blamed.append((reason.item.name, reason.key["name"], source))
            else:
                done += 1
        return done

    if do.blocking:
        with ThreadPoolExecutor(9) as threads:
            watching = threads.submit(asyncio.run, look())
            running = [threads.submit(asyncio.run, transfers(seed, 25 * TIMES)) for seed in range(8)]
            try:
                done = sum(one.result() for one in running)
            finally:
                ended.set()
            watching.result()
    else:
        looking = asyncio.create_task(look())
        try:
            done = sum(await asyncio.gather(*(transfers(seed, 3 * TIMES) for seed in range(64))))
        finally:
            ended.set()
        await looking
    assert done > 50
    assert all(types == [ConditionFailed, type(None)] for types in refusals)
    assert all(item == key == source for item, key, source in blamed)
    found = balances(await transact_get(do, *keys))
    assert sum(found) == 2000
    assert min(found) >= 0


@pytest.fixture
def way(store):
    store._core = Way(store._core)
    yield store._core
    store._core = store._core._core


async def commit(do: Any, order: Order, line: Line, old: Order) -> None:
    """The same transaction again, with the same instances."""
    async with begun(do) as tx:
        tx.save(order)
        tx.save(line)
        tx.update(old, Order.total.add(1))


@pytest.mark.parametrize("fault", ["answer lost", "request lost"])
async def test_a_transaction_whose_outcome_is_unknown_can_be_tried_again(do, way, fault):
    old = await do.create(Order, shop="b", total=1)
    order, line = Order(shop="b", total=1), Line(shop="b", order="x")
    await do.count(Line)
    way.faults = [fault]
    with pytest.raises(StoreUnavailable) as raised:
        await commit(do, order, line, old)
    assert raised.value.outcome == "unknown"
    assert (order.is_dirty, line.is_dirty, old.version) == (True, True, 1)
    await commit(do, order, line, old)
    assert (order.is_dirty, line.is_dirty, old.is_dirty, order.version, old.version, old.total) == (
        False,
        False,
        False,
        1,
        2,
        2,
    )
    found = await transact_get(do, (Order, ("b", order.id)), (Line, ("b", line.id)), (Order, ("b", old.id)))
    assert found == [order, line, old]
    assert found[2].total == 2


async def test_a_failed_transaction_that_wrote_nothing_leaves_no_trace(do, way):
    class Refusing:
        def execute(self, request: Any) -> Any:
            raise StoreUnavailable("refused")

        __call__ = execute

        def submit(self, request: Any, event_loop: Any) -> Any:
            raise StoreUnavailable("refused")

        def __getattr__(self, name: str) -> Any:
            return getattr(way, name)

    line = Line(shop="b", order="x")
    await do.count(Line)
    core, way._core = way._core, Refusing()
    async with refused(do, StoreUnavailable, match="refused") as (tx, _):
        tx.save(line)
    way._core = core
    await do.create(Line, shop="b", id=line.id, order="x")
    with pytest.raises(KeyCollision):
        await do.save(line)


class Silent:
    """A store that does not return the rows that a transaction has updated."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.fails = False
        self.meanwhile: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def _silenced(self, request: Any, reply: Any) -> Any:
        if not request.writes:
            return reply
        self.meanwhile()
        return [None] * len(reply) if isinstance(reply, list) else reply

    def execute(self, request: Any) -> Any:
        if self.fails and not request.writes:
            raise StoreUnavailable("no more reads")
        return self._silenced(request, self._core.execute(request))

    __call__ = execute

    def execute_all(self, requests: list[Any]) -> list[Any]:
        return [StoreUnavailable("no more reads") if self.fails else self.execute(request) for request in requests]

    def submit(self, request: Any, event_loop: asyncio.AbstractEventLoop) -> Any:
        async def later() -> Any:
            if self.fails and not request.writes:
                raise StoreUnavailable("no more reads")
            return self._silenced(request, await self._core.submit(request, event_loop).future)

        class Flight:
            future = event_loop.create_task(later())

        return Flight


@pytest.fixture
def silent(store):
    store._core = Silent(store._core)
    yield store._core
    store._core = store._core._core


async def test_updates_read_their_results_if_the_store_does_not_return_them(do, silent):
    ada, grace = await accounts(do, ada=1, grace=1)
    order = await do.create(Order, shop="b", total=1)
    await do.update_by_key(Account, ("b", "ada"), balance=10)

    def change() -> None:
        # Another writer changes a row after the commit.
        silent.meanwhile = lambda: None
        other.run(updates.update_by_key(schema, key, {}, changed))

    other = connect(silent.address, name="other")
    schema = Account.__mintkey_schema__
    key, _ = arguments.key(schema, {"bank": "b", "name": "grace"})
    changed = arguments.changes(schema, (), {"limit_": 3})
    silent.meanwhile = change
    async with begun(do) as tx:
        tx.update(ada, Account.balance.add(1))
        tx.update(grace, Account.balance.add(1))
        tx.update(order, Order.total.add(1), Order.tags.append(["x"]))
    other.close()
    assert (ada.balance, grace.balance, grace.limit_) == (11, 2, 3)
    assert (order.total, order.tags, order.version) == (2, ["x"], 2)
    assert not any(one.is_dirty for one in (ada, grace, order))
    assert await transact_get(do, (Account, ("b", "grace")), (Order, ("b", order.id))) == [grace, order]


async def test_a_result_that_cannot_be_read_is_no_failure(do, silent):
    (ada,) = await accounts(do, ada=1)
    order = await do.create(Order, shop="b", total=1)
    silent.fails = True
    unloaded = Account(bank="b", name="grace")
    async with begun(do) as tx:
        tx.update(ada, Account.balance.add(1))
        tx.update(order, Order.total.add(1))
        tx.update(unloaded, balance=5, upsert=True)
    silent.fails = False
    assert (ada.balance, order.total, order.version, unloaded.balance) == (2, 2, 2, 5)
    assert not any(one.is_dirty for one in (ada, order, unloaded))


async def test_a_cancelled_task_leaves_its_transaction_whole(do):
    if do.blocking:
        pytest.skip("a blocking call cannot be cancelled")
    await accounts(do, one=0, two=0)

    async def move() -> None:
        async with mintkey.transaction() as tx:
            tx.update_by_key(Account, ("b", "one"), Account.balance.add(-1))
            tx.update_by_key(Account, ("b", "two"), Account.balance.add(1))

    for turns in range(8):
        task = asyncio.create_task(move())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    one, two = balances(await transact_get(do, (Account, ("b", "one")), (Account, ("b", "two"))))
    assert one + two == 0


class Stop(BaseException):
    """An interrupt, as Ctrl-C is one."""


class Interrupted(Model):
    """A model whose hooks are interrupted when told."""

    shop = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    stop = StringAttribute()

    @before_save
    def before(self) -> None:
        if self.stop == "before":
            raise Stop

    @after_save
    def after(self) -> None:
        if self.stop == "after":
            raise Stop


async def test_an_interrupt_before_the_commit_writes_nothing(do):
    items = [Interrupted(shop="b", stop=stop) for stop in (None, "before", None)]
    async with refused(do, Stop) as (tx, _):
        for item in items:
            tx.save(item)
    assert await do.count(Interrupted) == 0
    assert all(item.id and item.is_dirty for item in items)
    items[1].stop = None
    async with begun(do) as tx:
        for item in items:
            tx.save(item)
    assert await do.count(Interrupted) == 3


async def test_an_interrupt_after_the_commit_finds_all_instances_stored(do):
    items = [Interrupted(shop="b", stop=stop) for stop in (None, "after", None)]
    async with refused(do, Stop) as (tx, _):
        for item in items:
            tx.save(item)
    assert not any(item.is_dirty for item in items)
    assert await do.count(Interrupted) == 3


async def test_an_instance_in_a_pipeline_is_refused(do):
    (ada,) = await accounts(do, ada=1)
    pipeline = mintkey.pipeline()
    await do.update(ada, balance=5, pipeline=pipeline)
    async with refused(do, ConfigurationError, match="pending write in a pipeline") as (tx, _):
        tx.create(Account, bank="b", name="grace", balance=1)
        tx.save(ada)
    assert await do.get(Account, bank="b", name="grace") is None
    await do.execute(pipeline)
    assert ada.balance == 5


async def test_an_instance_that_was_saved_meanwhile_is_written_once(do):
    async with begun(do) as tx:
        line, other = Line(shop="b", order="x"), Account(bank="b", name="ada", balance=1)
        tx.save(line)
        tx.save(other)
        await do.save(line)
        await do.save(other)
        line.order = "y"
    assert [one.is_dirty for one in (line, other)] == [False, False]
    assert (await do.get(Line, shop="b", id=line.id)).order == "y"
