"""Pipelines: when what happens to a write that waits, and what comes of those that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, Pipeline, auto, connect
from mintkey.attributes import ListAttribute, NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import (
    BatchIncomplete,
    ConditionFailed,
    ConfigurationError,
    InvalidValue,
    ItemGone,
    KeyCollision,
    StoreUnavailable,
    VersionConflict,
)
from mintkey.hooks import after_delete, after_save, after_update, before_save, before_update
from mintkey.rate_limit import FixedRate


class Order(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    tags = ListAttribute()
    made = StringAttribute(default=AutoGenerate.ISO8601_MS)
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601_MS)


class Line(Model):
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    n = NumberAttribute()


class Account(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    version = VersionAttribute()


@asynccontextmanager
async def pipelined(do: Any) -> AsyncIterator[Pipeline]:
    """A pipeline that is left as the tests' world leaves one."""
    if do.blocking:
        with mintkey.pipeline() as pipeline:
            yield pipeline
    else:
        async with mintkey.pipeline() as pipeline:
            yield pipeline


class Counting:
    """The compiled store, counting what is asked of it, and how often something is asked while nothing is under way."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.asked = self.trips = self.flying = 0

    def execute(self, request: Any) -> Any:
        return self.execute_all([request])[0]

    __call__ = execute

    def execute_all(self, requests: list[Any]) -> list[Any]:
        self.asked += len(requests)
        self.trips += 1
        return self._core.execute_all(requests)

    def submit(self, request: Any, event_loop: Any) -> Any:
        self.asked += 1
        self.trips += not self.flying
        self.flying += 1
        flight = self._core.submit(request, event_loop)
        flight.future.add_done_callback(self.landed)
        return flight

    def landed(self, _: Any) -> None:
        self.flying -= 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


async def test_what_is_put_in_is_written_at_the_end(do):
    async with pipelined(do) as pipeline:
        order = Order(n=1)
        assert await do.save(order, pipeline=pipeline) is pipeline
        assert order.pk
        assert order.made
        made = await do.create(Order, n=2, pipeline=pipeline)
        assert made.pk > order.pk
        assert len(pipeline) == 2
        assert order.is_dirty
        assert await do.count(Order) == 0
    assert not order.is_dirty
    assert await do.get(Order, pk=order.pk) == order
    assert await do.get(Order, pk=made.pk) == made
    assert len(pipeline) == 0


async def test_all_goes_in_one_trip_and_the_writes_of_a_model_in_one_request(do, store):
    old = [await do.create(Account, pk=f"{n}") for n in range(3)]
    await do.count(Order)
    await do.count(Line)
    store._core = counting = Counting(store._core)
    async with pipelined(do) as pipeline:
        for n in range(40):
            await do.create(Order, n=n, pipeline=pipeline)
            await do.create(Line, pk="a", sk=n, pipeline=pipeline)
        for account in old:
            await do.update(account, n=1, pipeline=pipeline)
        assert counting.asked == 0
    assert counting.trips == 1
    assert counting.asked == 5
    assert await do.count(Order) == await do.count(Line) == 40
    assert [account.version for account in old] == [2, 2, 2]


async def test_any_number_of_writes(do):
    async with pipelined(do) as pipeline:
        for n in range(1100):
            await do.save(Order(n=n), pipeline=pipeline)
    found = await do.all(Order.scan())
    assert [order.n for order in sorted(found, key=lambda order: order.pk)] == list(range(1100))


async def test_it_can_be_sent_early_and_without_a_block(do):
    pipeline = mintkey.pipeline()
    assert await do.execute(pipeline) == 0
    await do.create(Order, n=1, pipeline=pipeline)
    await do.create(Line, pk="a", sk=1, pipeline=pipeline)
    assert await do.execute(pipeline) == 2
    assert await do.execute(pipeline) == 0
    await do.create(Order, n=2, pipeline=pipeline)
    assert await do.execute(pipeline) == 1
    assert await do.count(Order) == 2


def test_an_empty_one_is_there_all_the_same():
    pipeline = mintkey.pipeline()
    assert pipeline
    assert len(pipeline) == 0
    assert repr(pipeline) == "<Pipeline of 0 writes>"


async def test_a_block_left_by_an_exception_sends_nothing(do):
    new, stored = Order(n=1), await do.create(Order, n=1)
    stored.n = 2
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - raised by what happens at the block's end
        async with pipelined(do) as pipeline:
            await do.save(new, pipeline=pipeline)
            await do.save(stored, pipeline=pipeline)
            await do.delete(await do.create(Order, n=3), pipeline=pipeline)
            raise ZeroDivisionError
    assert await do.count(Order) == 2
    assert (await do.get(Order, pk=stored.pk)).n == 1
    assert new.is_dirty
    assert stored.changed == {"n"}
    assert stored.changed_at is None
    minted = new.pk
    await do.save(new)
    assert new.pk == minted


async def test_what_was_given_up_still_never_overwrites(do):
    order = Order(n=1)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - raised by what happens at the block's end
        async with pipelined(do) as pipeline:
            await do.save(order, pipeline=pipeline)
            raise ZeroDivisionError
    await do.create(Order, pk=order.pk, n=1, made=order.made)
    with pytest.raises(KeyCollision):
        await do.save(order)


async def test_each_write_is_guarded_for_itself(do):
    first, second, third = [await do.create(Account, pk=name, n=1) for name in "abc"]
    rival = await do.get(Account, pk="b")
    rival.n = 7
    await do.save(rival)
    for account in (first, second, third):
        account.n = 5
    pipeline = mintkey.pipeline()
    for account in (first, second):
        await do.save(account, pipeline=pipeline)
    await do.save(third, pipeline=pipeline, condition=Account.n > 1)
    assert (first.version, second.version) == (1, 1)
    with pytest.raises(BatchIncomplete, match="2 of 3") as caught:
        await do.execute(pipeline)
    assert (first.version, second.version) == (2, 1)
    assert caught.value.written == 1
    assert not caught.value.stopped
    assert caught.value.model == "Account"
    assert [item for item, _ in caught.value.failed] == [second, third]
    assert [type(why) for _, why in caught.value.failed] == [VersionConflict, ConditionFailed]
    assert second.changed == {"n"}
    assert [account.n for account in [await do.get(Account, pk=pk) for pk in "abc"]] == [5, 7, 1]


async def test_an_insert_never_overwrites(do):
    await do.create(Line, pk="a", sk=1, n=1)
    with pytest.raises(BatchIncomplete) as caught:  # noqa: PT012 - raised by what happens at the block's end
        async with pipelined(do) as pipeline:
            await do.create(Line, pk="a", sk=1, n=2, pipeline=pipeline)
            await do.create(Order, n=2, pipeline=pipeline)
    assert [type(why) for _, why in caught.value.failed] == [KeyCollision]
    assert caught.value.model is None
    assert (await do.get(Line, pk="a", sk=1)).n == 1
    assert await do.count(Order) == 1


async def test_a_key_that_was_seen_stays(do):
    class Short(Model):
        pk = StringAttribute(partition_key=True, default=auto("nanoid", size=1, alphabet="ab"))

    async with pipelined(do) as pipeline:
        keys = {(await do.create(Short, pipeline=pipeline)).pk for _ in range(1)}
    taken = keys.pop()
    pipeline = mintkey.pipeline()
    waiting = [await do.create(Short, pipeline=pipeline) for _ in range(20)]
    seen = [short.pk for short in waiting]
    with pytest.raises(BatchIncomplete) as caught:
        await do.execute(pipeline)
    assert [short.pk for short in waiting] == seen
    assert caught.value.written == len({*seen} - {taken})


async def test_updates_take_the_stored_result(do):
    order = await do.create(Order, n=1, tags=["a"])
    await do.update(await do.get(Order, pk=order.pk), n=10)
    line = await do.create(Line, pk="a", sk=1)
    async with pipelined(do) as pipeline:
        assert await do.update(order, Order.n.add(5), Order.tags.append(["b"]), pipeline=pipeline) is pipeline
        assert await do.delete(line, pipeline=pipeline) is pipeline
        new = Line(pk="b", sk=1)
        await do.update(new, n=3, upsert=True, pipeline=pipeline)
        assert (order.n, order.tags) == (1, ["a"])
    assert (order.n, order.tags) == (15, ["a", "b"])
    assert not order.is_dirty
    assert order.changed_at
    assert (new.n, new.is_dirty) == (3, False)
    assert await do.all(Line.scan()) == [new]
    assert line.is_dirty


async def test_an_update_of_what_is_not_there_fails_alone(do):
    there, gone = await do.create(Order, n=1), await do.create(Order, n=1)
    await do.delete(await do.get(Order, pk=gone.pk))
    with pytest.raises(BatchIncomplete) as caught:  # noqa: PT012 - raised by what happens at the block's end
        async with pipelined(do) as pipeline:
            await do.update(gone, n=2, pipeline=pipeline)
            await do.update(there, n=2, pipeline=pipeline)
    assert [(item.pk, type(why)) for item, why in caught.value.failed] == [(gone.pk, ItemGone)]
    assert (there.n, gone.n) == (2, 1)


async def test_updates_by_key_wait_too(do):
    orders = [await do.create(Order, n=n) for n in range(3)]
    key = {"pk": orders[0].pk}
    with pytest.raises(BatchIncomplete) as caught:  # noqa: PT012 - raised by what happens at the block's end
        async with pipelined(do) as pipeline:
            assert await do.update_by_key(Order, key, Order.n.add(10), pipeline=pipeline) is pipeline
            await do.update_by_key(Order, key, Order.n.add(10), pipeline=pipeline)
            await do.update_by_key(Order, orders[1].pk, n=7, condition=Order.n > 5, pipeline=pipeline)
            await do.update_by_key(Order, "new", n=9, upsert=True, pipeline=pipeline)
            await do.update_by_key(Order, "gone", n=9, pipeline=pipeline)
            assert len(pipeline) == 5
            assert (await do.get(Order, **key)).n == 0
    failed = [(item, type(why)) for item, why in caught.value.failed]
    assert failed == [({"pk": orders[1].pk}, ConditionFailed), ({"pk": "gone"}, ItemGone)]
    assert caught.value.written == 3
    assert {order.pk: order.n for order in await do.all(Order.scan())} == {
        orders[0].pk: 20,
        orders[1].pk: 1,
        orders[2].pk: 2,
        "new": 9,
    }


async def test_two_writes_of_a_row_happen_in_their_order(do):
    old = await do.create(Line, pk="a", sk=1, n=1)
    async with pipelined(do) as pipeline:
        await do.delete(old, pipeline=pipeline)
        await do.create(Line, pk="a", sk=1, n=2, pipeline=pipeline)
    assert [line.n for line in await do.all(Line.scan())] == [2]


async def test_changes_of_a_row_happen_in_their_order(do):
    await do.create(Line, pk="a", sk=1, n=1)
    one, two, three = [await do.get(Line, pk="a", sk=1) for _ in range(3)]
    async with pipelined(do) as pipeline:
        await do.update(one, n=5, pipeline=pipeline)
        await do.update(two, Line.n.add(1), pipeline=pipeline)
        await do.delete(three, pipeline=pipeline)
        await do.create(Line, pk="b", sk=1, pipeline=pipeline)
    assert (one.n, two.n) == (5, 6)
    assert [line.pk for line in await do.all(Line.scan())] == ["b"]


async def test_writes_of_a_row_keep_their_order_under_different_limits(do, store):
    class Open(Model):
        model_config = ModelConfig(table="limited")
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

    class Limited(Model):
        model_config = ModelConfig(table="limited", rate_limit=FixedRate(rcu=1000, wcu=1000))
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

    await do.count(Open)
    await do.count(Limited)
    async with pipelined(do) as pipeline:
        for n in range(1, 6):
            await do.save((Open, Limited)[n % 2](pk="a", n=n), pipeline=pipeline)
            await do.save((Open, Limited)[n % 2](pk=f"{n}", n=n), pipeline=pipeline)
    assert {open_.pk: open_.n for open_ in await do.all(Open.scan())} == {"a": 5} | {f"{n}": n for n in range(1, 6)}
    open_, limited = [await do.get(model, pk="a", consistent=True) for model in (Open, Limited)]
    async with pipelined(do) as pipeline:
        await do.update(limited, n=10, pipeline=pipeline)
        await do.update(open_, Open.n.add(1), pipeline=pipeline)
    assert (limited.n, open_.n) == (10, 11)


async def test_what_goes_under_different_limits_goes_together_where_it_can(do, store):
    class Free(Model):
        model_config = ModelConfig(table="free")
        pk = StringAttribute(partition_key=True)

    class Bound(Model):
        model_config = ModelConfig(table="bound", rate_limit=FixedRate(rcu=1000, wcu=1000))
        pk = StringAttribute(partition_key=True)

    store._core = counting = Counting(store._core)
    for model in (Free, Bound):
        await do.count(model)
    counting.asked = 0
    async with pipelined(do) as pipeline:
        for n in range(20):
            await do.create((Free, Bound)[n % 2], pk=f"{n}", pipeline=pipeline)
    assert counting.asked == 2


class Interrupted:
    """The compiled store, interrupted after the first part of a trip was answered, or failed."""

    def __init__(self, core: Any, first: Exception | None = None) -> None:
        self._core = core
        self._first = first

    def execute_all(self, requests: list[Any]) -> list[Any]:
        first = self._first or self._core.execute_all(requests[:1])[0]
        not_begun = StoreUnavailable("not begun")
        not_begun.outcome = "not_applied"
        return [first, KeyboardInterrupt(), *[not_begun] * (len(requests) - 2)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


def test_ctrl_c_leaves_the_answers_that_came_before_it(store):
    accounts = [Account(pk=f"{n}", n=0) for n in range(4)]
    Account.batch_save(accounts)
    pipeline = mintkey.pipeline()
    for account in accounts:
        account.update(n=1, pipeline=pipeline)
    core = store._core
    store._core = Interrupted(core)
    with pytest.raises(KeyboardInterrupt):
        pipeline.execute()
    store._core = core
    assert [(account.n, account.version) for account in accounts] == [(1, 2), (0, 1), (0, 1), (0, 1)]
    for account in accounts:
        account.update(n=2)
    assert {account.n for account in Account.scan()} == {2}


def test_ctrl_c_is_told_though_the_store_failed_as_well(store):
    accounts = [Account(pk=f"{n}", n=0) for n in range(3)]
    Account.batch_save(accounts)
    pipeline = mintkey.pipeline()
    for account in accounts:
        account.update(n=1, pipeline=pipeline)
    core = store._core
    store._core = Interrupted(core, StoreUnavailable("gone"))
    with pytest.raises(KeyboardInterrupt):
        pipeline.execute()
    store._core = core
    for account in accounts:
        account.update(n=2)
    assert {account.n for account in Account.scan()} == {2}


async def test_nothing_to_write_is_no_write(do):
    order = await do.create(Order, n=1)
    async with pipelined(do) as pipeline:
        await do.save(order, pipeline=pipeline)
        assert len(pipeline) == 0
        order.n = 2
        await do.save(order, pipeline=pipeline)
        assert len(pipeline) == 1
    assert (await do.get(Order, pk=order.pk)).n == 2


async def test_what_is_wrong_shows_when_it_is_put_in(do):
    async with pipelined(do) as pipeline:
        with pytest.raises(InvalidValue):
            await do.save(Order(n="many"), pipeline=pipeline)
        with pytest.raises(InvalidValue):
            await do.save(Line(sk=1), pipeline=pipeline)
        with pytest.raises(TypeError):
            await do.save(Order(n=1), condition="n > 1", pipeline=pipeline)
        assert len(pipeline) == 0
        await do.create(Order, n=1, pipeline=pipeline)
    assert await do.count(Order) == 1


async def test_the_same_instance_waits_once(do):
    order = Order(n=1)
    async with pipelined(do) as pipeline:
        await do.save(order, pipeline=pipeline)
        order.n = 2
        for write in (do.save, do.delete):
            with pytest.raises(ConfigurationError, match="has a pending write"):
                await write(order, pipeline=pipeline)
        await do.execute(pipeline)
        await do.save(order, pipeline=pipeline)
    assert [found.n for found in await do.all(Order.scan())] == [2]


async def test_a_pipeline_ends_with_its_block(do):
    async with pipelined(do) as pipeline:
        pass
    with pytest.raises(ConfigurationError, match="ended"):
        await do.save(Order(n=1), pipeline=pipeline)
    with pytest.raises(ConfigurationError, match="ended"):
        await do.execute(pipeline)
    with pytest.raises(ConfigurationError, match="ended"):
        pipeline.__enter__()
    assert await do.count(Order) == 0


async def test_only_a_pipeline_will_do(do):
    for other in ([], Order(n=1), object()):
        with pytest.raises(TypeError, match=r"mintkey\.pipeline\(\)"):
            await do.save(Order(n=1), pipeline=other)


async def test_of_two_stores_each_gets_its_own(do, store):
    with connect("sqlite://", name="second") as second:

        class Away(Model):
            model_config = ModelConfig(store=second)
            pk = StringAttribute(partition_key=True)

        async with pipelined(do) as pipeline:
            await do.create(Away, pk="a", pipeline=pipeline)
            await do.create(Order, n=1, pipeline=pipeline)
        assert await do.count(Away) == await do.count(Order) == 1

        pipeline = mintkey.pipeline()
        away = await do.create(Away, pk="b", pipeline=pipeline)
        await do.create(Order, n=1, pipeline=pipeline)
        second.close()
        with pytest.raises(BatchIncomplete) as caught:
            await do.execute(pipeline)
    assert caught.value.failed[0][0] is away
    assert caught.value.written == 1
    assert await do.count(Order) == 2


RAN: list[str] = []


class Noted(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()

    @before_save
    def before(self) -> None:
        RAN.append(f"before {self.pk}")
        if self.n == 13:
            raise ZeroDivisionError

    @after_save
    def after(self) -> None:
        RAN.append(f"after {self.pk}")
        if self.n == 14:
            raise ZeroDivisionError

    @before_update
    def before_change(self) -> None:
        RAN.append(f"before update {self.pk}")

    @after_update
    def after_change(self) -> None:
        RAN.append(f"after update {self.pk}")

    @after_delete
    def after_end(self) -> None:
        RAN.append(f"after delete {self.pk}")


async def test_hooks_run_before_the_wait_and_after_it(do):
    stored = await do.create(Noted, pk="c", n=1)
    gone = await do.create(Noted, pk="d", n=1)
    RAN.clear()
    async with pipelined(do) as pipeline:
        await do.create(Noted, pk="a", pipeline=pipeline)
        await do.create(Noted, pk="b", pipeline=pipeline)
        await do.update(stored, n=2, pipeline=pipeline)
        await do.delete(gone, pipeline=pipeline)
        await do.create(Noted, pk="quiet", pipeline=pipeline, skip_hooks=True)
        with pytest.raises(ZeroDivisionError):
            await do.create(Noted, pk="x", n=13, pipeline=pipeline)
        assert RAN == ["before a", "before b", "before update c", "before x"]
        RAN.clear()
    assert RAN == ["after a", "after b", "after delete d", "after update c"]
    assert {noted.pk for noted in await do.all(Noted.scan())} == {"a", "b", "c", "quiet"}


async def test_an_after_hook_that_raises_is_told_of(do):
    with pytest.raises(BatchIncomplete) as caught:  # noqa: PT012 - raised by what happens at the block's end
        async with pipelined(do) as pipeline:
            await do.create(Noted, pk="a", n=14, pipeline=pipeline)
            await do.create(Noted, pk="b", pipeline=pipeline)
    assert [(item.pk, type(why)) for item, why in caught.value.failed] == [("a", ZeroDivisionError)]
    assert await do.count(Noted) == 2


class Patient(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()

    @before_save
    async def before(self) -> None:
        await asyncio.sleep(0)
        self.n = 1

    @after_save
    async def after(self) -> None:
        await asyncio.sleep(0)
        self.n = 2


async def test_async_hooks_are_awaited(store):
    async with mintkey.pipeline() as pipeline:
        patient = await Patient.acreate(pk="a", pipeline=pipeline)
        assert patient.n == 1
    assert patient.n == 2
    with mintkey.pipeline() as pipeline:
        with pytest.raises(ConfigurationError, match="async hook"):
            Patient.create(pk="b", pipeline=pipeline)
        Patient.create(pk="c", pipeline=pipeline, skip_hooks=True)
        await Patient.acreate(pk="d", pipeline=pipeline)
        with pytest.raises(ConfigurationError, match="async hook"):
            pipeline.execute()
        assert len(pipeline) == 2
        await pipeline.aexecute()
    assert await Patient.acount() == 3


async def test_many_tasks_may_fill_one(store):
    async with mintkey.pipeline() as pipeline:
        patients = await asyncio.gather(*(Patient.acreate(pk=str(n), pipeline=pipeline) for n in range(30)))
        assert len(pipeline) == 30
    assert await Patient.acount() == 30
    assert {patient.n for patient in patients} == {2}


async def test_what_comes_too_late_is_refused(store):
    begun, proceed = asyncio.Event(), asyncio.Event()

    class Slow(Model):
        pk = StringAttribute(partition_key=True)

        @before_save
        async def wait(self) -> None:
            begun.set()
            await proceed.wait()

    async with mintkey.pipeline() as pipeline:
        late = asyncio.ensure_future(Slow.acreate(pk="a", pipeline=pipeline))
        await begun.wait()
        assert len(pipeline) == 0
    proceed.set()
    with pytest.raises(ConfigurationError, match="ended"):
        await late
    assert await Slow.acount() == 0
