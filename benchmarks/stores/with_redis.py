"""Redis compared with redis-py, redis.asyncio, popoto and redis-om.

Client and server take turns on one processor, so that what is measured is work. With a processor each, redis-py and the
server fall asleep and wake up once a call, which is most of what it takes; the last rows show that. redis-py reads
answers by itself, as it does when it is installed alone; redis-om brings hiredis along and keeps it.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from measure import OURS, Bar, Job, Row, measured
from memory import streamed
from models import CREATED
from redis._parsers import _AsyncRESP2Parser, _RESP2Parser
from tests.servers import redis as servers

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute

PLACE = "Redis"
EACH = 300
BATCH = 10_000
TRANSACTIONS, TRANSACTION = 50, 10


class Item(Model):
    model_config = ModelConfig(table="items")
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    status = StringAttribute()
    total = NumberAttribute()
    name = StringAttribute()


class Account(Item):
    model_config = ModelConfig(table="accounts")
    email = StringAttribute()


class UniqueAccount(Account):
    model_config = ModelConfig(table="unique_accounts")
    email = StringAttribute(unique=True)


class Indexed(Item):
    model_config = ModelConfig(table="indexed")
    status = StringAttribute(index=True)


def fields(key: str) -> dict[str, Any]:
    return {"pk": key, "created_at": CREATED, "status": "new", "total": "99.99", "name": "Widget"}


def save(model: type[Item], count: int = EACH) -> None:
    for _ in range(count):
        model(status="new", total=99.99, name="Widget").save()


def sign_up(model: type[Account], numbers: Iterator[int]) -> None:
    for number in itertools.islice(numbers, EACH):
        model(status="new", total=99.99, name="Widget", email=f"{number:025}@example.com").save()


def save_given(count: int = EACH) -> None:
    for i in range(count):
        Item(pk=f"given{i}", status="new", total=99.99, name="Widget").save()


def get(count: int = EACH) -> None:
    for i in range(count):
        Item.get(pk=f"given{i}")


def transactions() -> None:
    for _ in range(TRANSACTIONS):
        with mintkey.transaction() as tx:
            for _ in range(TRANSACTION):
                tx.create(Item, status="new", total=99.99, name="Widget")


def batch() -> None:
    Item.batch_save(Item(status="new", total=99.99, name="Widget") for _ in range(BATCH))


async def in_turn(count: int) -> None:
    for _ in range(count):
        await Item(status="new", total=99.99, name="Widget").asave()


async def at_once(tasks: int, turns: int) -> None:
    for _ in range(turns):
        await asyncio.gather(*(in_turn(1) for _ in range(tasks)))


class Driver:
    """redis-py, doing the same with bare hashes, each under a key of its own as minted ones are."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url, parser_class=_RESP2Parser)
        self.awaited = redis.asyncio.Redis.from_url(url, parser_class=_AsyncRESP2Parser)
        self.keys = (f"{number:026}" for number in itertools.count())

    def save(self, count: int = EACH) -> None:
        for key in itertools.islice(self.keys, count):
            self.client.hset(f"raw:{key}", mapping=fields(key))

    def save_given(self) -> None:
        for i in range(EACH):
            self.client.hset(f"raw:{i}", mapping=fields(f"given{i}"))

    def get(self) -> None:
        for i in range(EACH):
            self.client.hgetall(f"raw:{i}")

    def batch(self) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for key in itertools.islice(self.keys, BATCH):
            pipeline.hset(f"raw:{key}", mapping=fields(key))
        pipeline.execute()

    def transactions(self) -> None:
        for _ in range(TRANSACTIONS):
            pipeline = self.client.pipeline(transaction=True)
            for key in itertools.islice(self.keys, TRANSACTION):
                pipeline.hset(f"raw:{key}", mapping=fields(key))
            pipeline.execute()

    async def in_turn(self, count: int) -> None:
        for key in itertools.islice(self.keys, count):
            await self.awaited.hset(f"raw:{key}", mapping=fields(key))

    async def at_once(self, tasks: int, turns: int) -> None:
        for _ in range(turns):
            await asyncio.gather(*(self.in_turn(1) for _ in range(tasks)))


def mappers(url: str) -> tuple[type[Any], type[Any], type[Any]]:
    """The same model in popoto, in redis-om and in its async version, which read their address from the environment."""
    os.environ["REDIS_URL"] = os.environ["REDIS_OM_URL"] = url
    popoto = importlib.import_module("popoto")
    redis_om = importlib.import_module("redis_om")
    awaited = importlib.import_module("aredis_om")

    class Popoto(popoto.Model):  # type: ignore[misc, name-defined]
        pk = popoto.AutoKeyField()
        created_at = popoto.Field()
        status = popoto.Field()
        total = popoto.Field(type=float)
        name = popoto.Field()

    class RedisOm(redis_om.HashModel, index=True):  # type: ignore[misc, name-defined]
        created_at: str
        status: str
        total: float
        name: str

    class AwaitedRedisOm(awaited.HashModel, index=True):  # type: ignore[misc, name-defined]
        created_at: str
        status: str
        total: float
        name: str

    return Popoto, RedisOm, AwaitedRedisOm


VALUES: dict[str, Any] = {"created_at": CREATED, "status": "new", "total": 99.99, "name": "Widget"}


def others(made: type[Any], count: int) -> None:
    for _ in range(count):
        made(**VALUES).save()


def others_given(made: type[Any], count: int) -> None:
    for i in range(count):
        made(pk=f"{i:032}", **VALUES).save()


def popoto_batch(made: type[Any]) -> None:
    made.bulk_create([made(**VALUES) for _ in range(BATCH)])


def redis_om_batch(made: type[Any]) -> None:
    pipeline = made.db().pipeline(transaction=False)
    made.add([made(**VALUES) for _ in range(BATCH)], pipeline)
    pipeline.execute()


async def in_turn_with(made: type[Any], name: str, count: int) -> None:
    for _ in range(count):
        await getattr(made(**VALUES), name)()


async def at_once_with(made: type[Any], name: str, tasks: int, turns: int) -> None:
    for _ in range(turns):
        await asyncio.gather(*(in_turn_with(made, name, 1) for _ in range(tasks)))


def jobs(url: str) -> Iterator[Job]:
    driver = Driver(url)
    popoto, redis_om, aredis_om = mappers(url)
    hset, hgetall = "redis-py HSET", "redis-py HGETALL"
    yield Job(
        "save(), key minted",
        EACH,
        {
            OURS: lambda: save(Item),
            hset: driver.save,
            "popoto": lambda: others(popoto, EACH),
            "redis-om": lambda: others(redis_om, EACH),
        },
        [Bar(hset, 0.8), Bar(hset, 0.5, cpu=True), Bar("popoto", 0.2), Bar("redis-om", 0.5)],
    )
    yield Job(
        "save(), key given",
        EACH,
        {
            OURS: save_given,
            hset: driver.save_given,
            "popoto": lambda: others_given(popoto, EACH),
            "redis-om": lambda: others_given(redis_om, EACH),
        },
        [Bar(hset, 0.8), Bar(hset, 0.5, cpu=True), Bar("popoto", 0.2), Bar("redis-om", 0.5)],
    )
    made, kept = popoto(**VALUES), redis_om(**VALUES)
    made.save()
    kept.save()
    yield Job(
        "get()",
        EACH,
        {
            OURS: get,
            hgetall: driver.get,
            "popoto": lambda: [popoto.query.get(pk=made.pk) for _ in range(EACH)],
            "redis-om": lambda: [redis_om.get(kept.pk) for _ in range(EACH)],
        },
        [Bar(hgetall, 0.8), Bar(hgetall, 0.5, cpu=True), Bar("popoto", 0.2), Bar("redis-om", 0.5)],
    )
    yield Job(
        "save() with an index",
        EACH,
        {"with an index": lambda: save(Indexed), "save() without": lambda: save(Item)},
        [Bar("save() without", 1.5, ours="with an index")],
    )
    numbers = itertools.count()
    yield Job(
        "save() with a unique value",
        EACH,
        {
            "with a unique value": lambda: sign_up(UniqueAccount, numbers),
            "save() without": lambda: sign_up(Account, numbers),
        },
        [Bar("save() without", 1.3, ours="with a unique value")],
    )
    yield batches(
        "batch_save of 10,000",
        driver,
        {"popoto": lambda: popoto_batch(popoto), "redis-om": lambda: redis_om_batch(redis_om)},
        [Bar("redis-py pipeline", 0.8), Bar("popoto", 0.2), Bar("redis-om", 0.5)],
    )
    yield Job(
        "transaction of 10 puts",
        TRANSACTIONS,
        {OURS: transactions, "redis-py MULTI": driver.transactions},
        [Bar("redis-py MULTI", 1.5)],
    )
    event_loop = asyncio.new_event_loop()

    def awaiting(work: Callable[..., Coroutine[Any, Any, None]], *counts: int) -> Callable[[], None]:
        return lambda: event_loop.run_until_complete(work(*counts))

    yield Job(
        "64 tasks, asave()",
        64 * 5,
        {
            OURS: awaiting(at_once, 64, 5),
            "redis.asyncio": awaiting(driver.at_once, 64, 5),
            "popoto": awaiting(at_once_with, popoto, "async_save", 64, 5),
            "redis-om": awaiting(at_once_with, aredis_om, "save", 64, 5),
        },
        [Bar("redis.asyncio", 0.35), Bar("popoto", 0.2), Bar("redis-om", 0.5)],
    )
    yield Job(
        "one task, asave()",
        200,
        {
            OURS: awaiting(in_turn, 200),
            "redis.asyncio": awaiting(driver.in_turn, 200),
            "popoto": awaiting(in_turn_with, popoto, "async_save", 200),
            "redis-om": awaiting(in_turn_with, aredis_om, "save", 200),
        },
        [Bar("redis.asyncio", 0.9), Bar("popoto", 0.2), Bar("redis-om", 0.5)],
    )
    event_loop.run_until_complete(driver.awaited.aclose())
    event_loop.close()


def apart(url: str) -> Iterator[Job]:
    """With a processor for the client and one for the server, so that both are idle at times."""
    driver = Driver(url)
    event_loop = asyncio.new_event_loop()

    def awaiting(work: Callable[[int], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        return lambda: event_loop.run_until_complete(work(EACH))

    hset, hgetall, awaited = "redis-py HSET", "redis-py HGETALL", "redis.asyncio"
    runs: dict[str, dict[str, Callable[[], object]]] = {
        "save(), key minted": {OURS: lambda: save(Item), hset: driver.save},
        "save(), key given": {OURS: save_given, hset: driver.save_given},
        "get()": {OURS: get, hgetall: driver.get},
    }
    for name, rivals in runs.items():
        rival = list(rivals)[1]
        yield Job(f"{name}, a processor each", EACH, rivals, [Bar(rival, 0.8), Bar(rival, 1, cpu=True)])
    one: dict[str, Callable[[], object]] = {OURS: awaiting(in_turn), awaited: awaiting(driver.in_turn)}
    yield Job("one task, asave(), a processor each", EACH, one, [Bar(awaited, 0.9)])
    yield batches("batch_save, a processor each", driver, {}, [Bar("redis-py pipeline", 1)])
    event_loop.run_until_complete(driver.awaited.aclose())
    event_loop.close()


def batches(name: str, driver: Driver, others: dict[str, Callable[[], object]], bars: list[Bar]) -> Job:
    runs: dict[str, Callable[[], object]] = {OURS: batch, "redis-py pipeline": driver.batch}
    return Job(name, BATCH, runs | others, bars, share=0.5)


def memory_of_a_row(url: str) -> Row:
    """Bytes of a row with its member of the row set, compared with those of the bare hash."""
    client = redis.Redis.from_url(url)

    def used() -> int:
        return int(client.info("memory")["used_memory"])

    client.flushall()
    save(Item, 1)
    before = used()
    batch()
    ours = (used() - before) / BATCH
    hashes = {key: client.hgetall(key) for key in client.scan_iter("*01*", count=1000) if client.type(key) == b"hash"}
    client.flushall()
    before = used()
    for key, values in hashes.items():
        client.hset(key, mapping=values)
    raw = (used() - before) / len(hashes)
    over = ours - raw
    return Row(PLACE, "memory of a row over the hash", "bytes", over, "allowed", 250, over / 250, 1)


@contextmanager
def one_processor() -> Iterator[None]:
    """Keep this thread, and whatever it starts, on one processor, where the system lets it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def rows(rounds: int, only: str = "") -> Iterator[Row]:
    with one_processor(), servers.server() as url:
        with connect(url):
            for job in jobs(url):
                yield from measured(PLACE, job, rounds, only)
            if not only:
                yield memory_of_a_row(url)
        if not only:
            yield streamed(PLACE, url, 10_000, 1_000_000)
    with servers.server() as url, connect(url):
        for job in apart(url):
            yield from measured(PLACE, job, rounds, only)
