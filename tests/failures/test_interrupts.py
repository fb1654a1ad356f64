"""Ctrl-C and cancelled tasks while a server keeps still: the wait ends, and the next write resolves what was sent."""

from __future__ import annotations

import asyncio
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from tests.failures.proxies import Proxy
from tests.failures.test_broken_connections import BEHIND

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import KeyCollision

pytestmark = pytest.mark.slow


class Row(Model):
    model_config = ModelConfig(table="rows")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    version = VersionAttribute()


class Plain(Model):
    model_config = ModelConfig(table="plain")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()


@pytest.fixture(params=BEHIND)
def between(request, tmp_path) -> Iterator[Proxy]:
    """A proxy that does nothing unless told; a store that would wait for minutes is connected through it."""
    proxy, rough, _ = BEHIND[request.param](tmp_path, 0)
    proxy.often = 0.0
    proxy.url = rough.replace("timeout=0.5", "timeout=600")
    with proxy, connect(proxy.url):
        Row.create_table()
        Plain.create_table()
        yield proxy


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Sets what a signal does that `signal_when_stalled` sends."""
    before = signal.getsignal(signal.SIGUSR1)

    def set_handler(act: Callable[[], None]) -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: act())

    yield set_handler
    signal.signal(signal.SIGUSR1, before)


def signal_when_stalled(between: Proxy, then: Callable[[], None] = lambda: None) -> threading.Thread:
    """Keep the next answer back, and send the main thread a signal while it waits."""
    between.stalled.clear()
    between.resume.clear()
    between.still = True

    def wait() -> None:
        assert between.stalled.wait(30)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_a_wait_and_loses_nothing(between, on_signal):
    on_signal(interrupt)
    row = Row(n=1)
    for n in (1, 2, 3):
        row.n = n
        thread = signal_when_stalled(between)
        with pytest.raises(KeyboardInterrupt):
            row.save()
        thread.join()
        between.resume.set()
        # It was done all the same: the row is taken for its own, and nothing is written twice.
        row.save()
        assert (row.n, row.version) == (n, n)
        stored = Row.get(pk=row.pk, consistent=True)
        assert stored is not None
        assert (stored.n, stored.version) == (n, n)
    thread = signal_when_stalled(between)
    with pytest.raises(KeyboardInterrupt):
        Row.count()
    thread.join()
    between.resume.set()
    assert Row.count() == 1


def test_ctrl_c_ends_reads_in_segments_and_batches(between, on_signal):
    on_signal(interrupt)
    items = [Row(n=n) for n in range(60)]
    thread = signal_when_stalled(between)
    with pytest.raises(KeyboardInterrupt):
        Row.batch_save(items)
    thread.join()
    between.resume.set()
    Row.batch_save(items)
    assert {row.pk: row.n for row in Row.scan()} == {item.pk: item.n for item in items}
    thread = signal_when_stalled(between)
    with pytest.raises(KeyboardInterrupt):
        Row.scan(segments=4).all()
    thread.join()
    between.resume.set()
    assert Row.count(segments=4) == 60


def test_ctrl_c_ends_a_long_batch(between, on_signal):
    """One chunk is on its way and the next prepared, on stores that let it be so."""
    on_signal(interrupt)
    items = [Plain(n=n) for n in range(1_600)]
    thread = signal_when_stalled(between)
    with pytest.raises(KeyboardInterrupt):
        Plain.batch_save(items)
    thread.join()
    between.resume.set()
    keys = [item.pk for item in items]
    assert Plain.batch_save(items) == 1_600
    assert all(key in {None, item.pk} for key, item in zip(keys, items, strict=True))
    assert {row.pk: row.n for row in Plain.scan()} == {item.pk: item.n for item in items}


def test_ctrl_c_ends_writes_that_need_a_look_and_no_later_call(between, on_signal):
    on_signal(interrupt)
    items = [Row(n=0) for _ in range(40)]
    Row.batch_save(items)

    def together() -> None:
        with mintkey.pipeline() as pipeline:
            for item in items:
                item.save(pipeline=pipeline)

    for n, write in enumerate((lambda: Row.batch_save(items), together), 1):
        for item in items:
            item.n = n
        thread = signal_when_stalled(between)
        with pytest.raises(KeyboardInterrupt):
            write()
        thread.join()
        between.resume.set()
        with pytest.raises(KeyCollision):
            Row.create(pk=items[0].pk, n=0)
        write()
        assert {row.pk: row.n for row in Row.scan()} == {item.pk: item.n for item in items}


def test_ctrl_c_ends_the_wait_of_close(between):
    """What was begun is finished all the same."""
    store = mintkey.connect(between.url)
    row = Row(n=1)
    between.still = True
    task = threading.Thread(target=lambda: asyncio.run(row.asave()))
    task.start()
    assert between.stalled.wait(30)

    def while_closing(number: int, frame: FrameType | None) -> None:
        if any(entry.f_code.co_name == "close" for entry, _ in traceback.walk_stack(frame)):
            raise KeyboardInterrupt

    ended = threading.Event()

    def keep_signalling() -> None:
        while not ended.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, while_closing)
    signals = threading.Thread(target=keep_signalling)
    signals.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            store.close()
    finally:
        ended.set()
        signals.join()
        signal.signal(signal.SIGUSR1, before)
    between.resume.set()
    task.join()
    store.close()
    assert not row.is_dirty
    with connect(between.url):
        assert Row.get(pk=row.pk, consistent=True) == row


def test_a_signal_with_a_handler_interrupts_nothing_but_itself(between, on_signal):
    handled: list[int] = []
    on_signal(lambda: handled.append(1))
    row = Row(n=1)
    thread = signal_when_stalled(between, between.resume.set)
    row.save()
    thread.join()
    assert handled == [1]
    assert Row.get(pk=row.pk) == row


async def test_a_cancelled_task_leaves_its_connection_usable(between):
    async def cancelled(work: Any) -> None:
        between.stalled.clear()
        between.resume.clear()
        between.still = True
        task = asyncio.ensure_future(work)
        assert await asyncio.to_thread(between.stalled.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        between.resume.set()

    row = Row(n=1)
    for n in (1, 2, 3):
        row.n = n
        await cancelled(row.asave())
        await row.asave()
        assert (row.n, row.version) == (n, n)
        stored = await Row.aget(pk=row.pk, consistent=True)
        assert stored is not None
        assert (stored.n, stored.version) == (n, n)
    await cancelled(Row.acount())
    await cancelled(Row.ascan(segments=3).aall())
    await asyncio.gather(*(Row(n=n).asave() for n in range(100)))
    assert await Row.acount() == 101
