"""Many at once: threads, tasks, forked and killed processes lose nothing, repeat nothing, overwrite nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import BatchIncomplete, KeyCollision, StoreUnavailable, VersionConflict
from mintkey.fields import AutoKeyField, Field
from mintkey.testing import frozen

pytestmark = pytest.mark.slow


class Widget(Model):
    id = AutoKeyField(strategy="ulid")
    product = Field()


class Note(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    text = StringAttribute()


class Counter(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    version = VersionAttribute()


def together(threads: int, work: Callable[[int], object]) -> None:
    """Run `work` in so many threads that begin at one moment; what one of them raises is raised here."""
    meet = threading.Barrier(threads)
    raised: list[BaseException] = []

    def run(number: int) -> None:
        meet.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - told below
            raised.append(error)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if raised:
        raise raised[0]


def test_many_threads(store):
    Widget.create_table()
    ids: list[str] = []
    together(8, lambda number: ids.extend(str(Widget.create(product=f"of {number}").id) for _ in range(500)))
    assert len(ids) == len(set(ids)) == 4_000
    rows = Widget.query.all().all()
    assert {row.id for row in rows} == set(ids)
    assert sorted(str(row.product) for row in rows) == sorted(f"of {number}" for number in range(8) for _ in range(500))


async def test_many_tasks(store):
    await Note.acreate_table()
    notes = [Note(text=str(number)) for number in range(2_000)]
    await asyncio.gather(*(note.asave() for note in notes))
    keys = {note.pk: note.text for note in notes}
    assert len(keys) == 2_000
    assert {note.pk: note.text async for note in Note.ascan()} == keys


async def test_two_writers_with_one_minted_key(do):
    await do.create_table(Widget)
    pairs = []
    for number in range(20):
        made = []
        for who in ("first", "second"):
            with frozen("2024-01-01T00:00:00Z", seed=number):
                made.append(Widget(product=who))
        assert made[0].id == made[1].id
        pairs.append(made)
    for made in pairs:
        outcomes: list[Any] = []

        def save(number: int, made: Any = made, outcomes: Any = outcomes) -> None:
            try:
                made[number].save()
            except KeyCollision as error:
                outcomes.append(error)
            else:
                outcomes.append(made[number].product)

        if do.blocking:
            together(2, save)
        else:
            results = await asyncio.gather(*(one.asave() for one in made), return_exceptions=True)
            outcomes += [one.product if result is None else result for one, result in zip(made, results, strict=True)]
        (winner,) = [outcome for outcome in outcomes if isinstance(outcome, str)]
        (loser,) = [outcome for outcome in outcomes if not isinstance(outcome, str)]
        assert isinstance(loser, KeyCollision)
        assert (await do.get(Widget, id=made[0].id)).product == winner
    assert await do.count(Widget) == len(pairs)


async def test_versioned_increments(do):
    await do.create(Counter, pk="c", n=0)
    conflicts = []

    def increment(_: int) -> None:
        for _ in range(5):
            counter = Counter.get(pk="c", consistent=True)
            while True:
                assert counter is not None
                counter.n = (counter.n or 0) + 1
                try:
                    counter.save()
                except VersionConflict as error:
                    conflicts.append(error)
                    counter = Counter.get(pk="c", consistent=True)
                else:
                    break

    async def aincrement() -> None:
        for _ in range(5):
            counter = await Counter.aget(pk="c", consistent=True)
            while True:
                assert counter is not None
                counter.n = (counter.n or 0) + 1
                try:
                    await counter.asave()
                except VersionConflict as error:
                    conflicts.append(error)
                    counter = await Counter.aget(pk="c", consistent=True)
                else:
                    break

    if do.blocking:
        together(6, increment)
    else:
        await asyncio.gather(*(aincrement() for _ in range(6)))
    counter = await do.get(Counter, pk="c", consistent=True)
    assert (counter.n, counter.version) == (30, 31)


def test_increments_in_the_store(store):
    Counter.create_table()
    Counter.create(pk="c", n=0)
    together(6, lambda _: [Counter.update_by_key({"pk": "c"}, Counter.n.add(1)) for _ in range(50)])
    counter = Counter.get(pk="c", consistent=True)
    assert counter is not None
    assert (counter.n, counter.version) == (300, 301)


def test_a_store_used_before_a_fork_works_on_both_sides(store):
    Note.create_table()
    asyncio.run(Note.acreate(text="before"))
    Note.create(text="before")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Note.create(text="child")
            asyncio.run(Note.acreate(text="child"))
            status = 0
        finally:
            os._exit(status)
    Note.create(text="parent")
    asyncio.run(Note.acreate(text="parent"))
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(str(note.text) for note in Note.scan()) == ["before"] * 2 + ["child"] * 2 + ["parent"] * 2


def test_a_fork_while_a_batch_is_on_its_way(store):
    """The batch is the parent's: its answers come there, and the child hears of none."""
    Note.create_table()
    parent = os.getpid()
    child = 0

    def source():
        nonlocal child
        for n in range(1_600):
            if n == 700:
                child = os.fork()
            yield Note(text=str(n))

    try:
        written = Note.batch_save(source())
    except BatchIncomplete as error:
        if os.getpid() != parent:
            os._exit(0 if isinstance(error.failed[0][1], StoreUnavailable) else 2)
        raise
    finally:
        if os.getpid() != parent:
            # A store that lets nothing be on its way has nothing that the child could not do as well.
            os._exit(0 if Note.count() >= 1_600 else 3)
    assert written == 1_600
    assert os.waitpid(child, 0)[1] == 0
    assert {str(note.text) for note in Note.scan()} == {str(n) for n in range(1_600)}


def test_a_fork_between_the_chunks_of_a_batch(store):
    """Both go on with what has not been sent."""
    Note.create_table()
    parent = os.getpid()
    child = -1

    def fork(done: int, total: int | None) -> None:
        nonlocal child
        if done == 500:
            child = os.fork()

    written = 0
    try:
        written = Note.batch_save([Note(text=str(n)) for n in range(1_600)], on_progress=fork)
    finally:
        if os.getpid() != parent:
            os._exit(0 if written == 1_600 else 1)
    assert written == 1_600
    assert os.waitpid(child, 0)[1] == 0
    assert {str(note.text) for note in Note.scan()} == {str(n) for n in range(1_600)}


WRITER = """
import sys
from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute

connect(sys.argv[1])

class Entry(Model):
    model_config = ModelConfig(table="entries")
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute(sort_key=True)
    kind = StringAttribute(index=True)

for n in range(100_000):
    Entry(pk=sys.argv[2], n=n, kind="new").save()
    print(n, flush=True)
"""


class Entry(Model):
    model_config = ModelConfig(table="entries")

    pk = StringAttribute(partition_key=True)
    n = NumberAttribute(sort_key=True)
    kind = StringAttribute(index=True)


def test_killed_writers_leave_whole_rows_and_all_that_were_acknowledged(store, url):
    Entry.create_table()
    for run in range(50):
        with subprocess.Popen([sys.executable, "-c", WRITER, url, f"run {run}"], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            seen = [int(writer.stdout.readline()) for _ in range(3 + run % 7)]
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([*seen, *map(int, writer.stdout.read().split())])
        rows = [row.n for row in Entry.query(pk=f"run {run}", consistent=True)]
        assert rows == list(range(len(rows)))
        assert acknowledged < len(rows) <= acknowledged + 2
        # Nothing that the dead one left is in the way of the next.
        Entry(pk=f"run {run}", n=len(rows), kind="new").save()
    assert sum(1 for _ in Entry.query(kind="new")) == Entry.count()
