"""A signal handler that raises ends the call: its exception is never taken for that of an item, a row or a callback."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, ModelConfig, pipeline
from mintkey.attributes import Attribute, IntegerAttribute, StringAttribute
from mintkey.hooks import before_save
from mintkey.rate_limit import FixedRate


class TimeLimit(ValueError):
    """An ordinary exception, as the time limits of Celery are."""


def end_call(*_: object) -> None:
    raise TimeLimit


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, end_call), signal.signal(signal.SIGALRM, end_call)
    yield
    signal.signal(signal.SIGUSR1, before[0])
    signal.signal(signal.SIGALRM, before[1])


def interrupt() -> None:
    signal.raise_signal(signal.SIGUSR1)


class Number(Attribute[Any]):
    """A signal arrives while this value is encoded or decoded."""

    kind = "number"
    interrupted = ""

    def encode(self, value: Any) -> Any:
        if value == 2 and self.interrupted == "encode":
            interrupt()
        return value

    def decode(self, value: Any) -> Any:
        if value == 2 and self.interrupted == "decode":
            interrupt()
        return value


class Task(Model):
    model_config = ModelConfig(table="tasks")
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = Number()


class Hooked(Model):
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = IntegerAttribute()
    interrupted = True

    @before_save
    def stop(self) -> None:
        if self.n == 2 and self.interrupted:
            interrupt()


class Handler:
    def __call__(self, *_: object) -> None:
        raise TimeLimit

    def end(self, *_: object) -> None:
        raise TimeLimit


@pytest.mark.parametrize(
    "handler",
    [lambda *_: end_call(), functools.partial(end_call, 1), functools.partial(Handler()), Handler(), Handler().end],
)
async def test_every_kind_of_handler_ends_a_batch(do, handler, monkeypatch):
    signal.signal(signal.SIGUSR1, handler)
    monkeypatch.setattr(Number, "interrupted", "encode")
    with pytest.raises(TimeLimit):
        await do.batch_save(Task, [Task(n=1), Task(n=2)])


async def test_a_batch_ends_and_can_be_repeated(do, store, monkeypatch):
    monkeypatch.setattr(Number, "interrupted", "encode")
    tasks, hooked = [Task(n=n) for n in (1, 2, 3)], [Hooked(n=n) for n in (1, 2, 3)]
    with pytest.raises(TimeLimit):
        await do.batch_save(Task, tasks)
    with pytest.raises(TimeLimit):
        await do.batch_save(Hooked, hooked)
    monkeypatch.setattr(Number, "interrupted", "")
    monkeypatch.setattr(Hooked, "interrupted", False)
    assert await do.batch_save(Task, tasks) == 3
    assert await do.batch_save(Hooked, hooked) == 3
    for model in (Task, Hooked):
        assert sorted([row.n for row in await do.all(do.scan(model))]) == [1, 2, 3]


async def test_changes_of_all_rows_and_backfills_end(do, store, monkeypatch):
    class WithDefault(Model):
        model_config = ModelConfig(table="tasks")
        id = StringAttribute(partition_key=True)
        other = Number(default=2)

    await do.batch_save(Task, [Task(n=1), Task(n=3)])
    monkeypatch.setattr(Number, "interrupted", "encode")
    with pytest.raises(TimeLimit):
        await do.update(do.scan(Task), n=2)
    with pytest.raises(TimeLimit):
        await do.backfill(WithDefault)
    assert sorted([row.n for row in await do.all(do.scan(Task))]) == [1, 3]
    assert [row.other for row in await do.all(do.scan(WithDefault))] == [None, None]


async def test_a_row_is_not_taken_for_an_unreadable_one(do, store, monkeypatch):
    await do.batch_save(Task, [Task(id=str(n), n=n) for n in (1, 2, 3)])
    errors: list[Exception] = []
    monkeypatch.setattr(Number, "interrupted", "decode")
    for choice in ("raise", "skip", errors.append):
        with pytest.raises(TimeLimit):
            await do.all(do.scan(Task, on_unreadable=choice))
    with pytest.raises(TimeLimit):
        await do.get(Task, "2")
    assert errors == []


async def test_a_callback_of_requests_does_not_keep_it(do, store):
    def report(_: object) -> None:
        store.off_request(report)
        interrupt()

    store.on_request(report)
    task = Task(id="a", n=1)
    with pytest.raises(TimeLimit):
        await do.save(task)
    await do.save(task)
    assert await do.get(Task, "a") == task


def send_until_alarm(writes: Any) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    writes.execute()


async def test_a_pipeline_that_waits_ends(do, store):
    limit = FixedRate(wcu=0.001, burst=1)

    class Slow(Model):
        model_config = ModelConfig(rate_limit=limit)
        id = StringAttribute(partition_key=True)

    await do.save(Slow(id="first"))
    later = Slow(id="later")
    writes = pipeline()
    await do.save(later, pipeline=writes)
    if do.blocking:
        with pytest.raises(TimeLimit):
            send_until_alarm(writes)
    else:
        sending = asyncio.create_task(writes.aexecute())
        await asyncio.wait([sending], timeout=0.05)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert limit.consumed_wcu == 1
    assert [row.id for row in await do.all(do.scan(Slow))] == ["first"]
