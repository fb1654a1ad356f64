"""Writes whose outcome nobody learned: the next write of the same instance takes its own row for its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

import mintkey
from mintkey import AutoGenerate, Model
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import BatchIncomplete, KeyCollision, StoreUnavailable, VersionConflict
from mintkey.hooks import after_save
from mintkey.operations import saves


class Line:
    """The way to a store, on which an answer, or a request with it, is lost when told."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.faults: list[str] = []
        #: Called while a write is under way.
        self.meanwhile: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def _cut(self) -> StoreUnavailable:
        error = StoreUnavailable("the line was cut")
        error.outcome = "unknown"
        return error

    def execute(self, request: Any) -> Any:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "request lost":
            raise self._cut()
        answer = self._core.execute(request)
        self.meanwhile()
        if fault == "answer lost":
            raise self._cut()
        return answer

    __call__ = execute

    def submit(self, request: Any, event_loop: asyncio.AbstractEventLoop) -> Any:
        async def later() -> Any:
            fault = self.faults.pop(0) if self.faults else None
            if fault == "request lost":
                raise self._cut()
            answer = await self._core.submit(request, event_loop).future
            self.meanwhile()
            if fault == "answer lost":
                raise self._cut()
            return answer

        class Flight:
            future = event_loop.create_task(later())

            @staticmethod
            def withdraw() -> bool:
                return False

        return Flight


@pytest.fixture
def line(store):
    store._core = Line(store._core)
    yield store._core
    store._core = store._core._core


class Plain(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601_MS)


class Counted(Plain):
    version = VersionAttribute()


@pytest.fixture(params=[Plain, Counted])
def model(request):
    return request.param


async def fails(write, *arguments, **named):
    with pytest.raises(StoreUnavailable):
        await write(*arguments, **named)


@pytest.mark.parametrize("fault", ["request lost", "answer lost"])
async def test_a_retry_of_a_new_item_is_the_same_item(do, line, model, fault):
    item = model(n=1)
    line.faults = [fault]
    await fails(do.save, item)
    key = item.pk
    assert key is not None
    await do.save(item)
    assert item.pk == key
    assert not item.is_dirty
    assert [found.n for found in await do.all(model.scan())] == [1]
    item.n = 2
    await do.save(item)
    assert (await do.get(model, pk=key)).n == 2


class Bare(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()


@pytest.mark.parametrize("changed", [Bare, Plain, Counted])
@pytest.mark.parametrize("in_batch", [False, True])
async def test_a_value_assigned_while_the_answer_is_lost_is_saved_by_the_next_save(do, line, changed, in_batch):
    item = changed(n=1)
    line.meanwhile = lambda: setattr(item, "n", 2)
    line.faults = ["answer lost"]
    if in_batch:
        with pytest.raises(BatchIncomplete):
            await do.batch_save(changed, [item])
    else:
        await fails(do.save, item)
    line.meanwhile = lambda: None
    assert item.n == 2
    await do.save(item)
    assert [found.n for found in await do.all(changed.scan())] == [2]


async def test_a_wrong_value_assigned_while_the_answer_is_lost_does_not_hide_the_failure(do, line):
    item = Bare(n=1)
    line.meanwhile = lambda: setattr(item, "n", "no number")
    line.faults = ["answer lost"]
    await fails(do.save, item)


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="a trace function that raises leaves a frame without its `except` and `finally`"
)
@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("calls", range(1, 9))
@pytest.mark.parametrize("changed", [Bare, Plain, Counted])
def test_an_interrupt_after_the_answer_loses_nothing(store, line, changed, calls, condition):
    """Python raises an interrupt when it enters a function. This one comes at the given one after the answer."""
    left = 0

    def trace(frame, event, _):
        nonlocal left
        if event == "call" and frame.f_globals["__name__"].startswith("mintkey."):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    def start():
        nonlocal left
        left = calls
        sys.settrace(trace)

    def save():
        line.meanwhile = start
        try:
            with contextlib.suppress(KeyboardInterrupt):
                item.save(changed.n.does_not_exist() | changed.n.exists() if condition else None)
        finally:
            sys.settrace(None)
            line.meanwhile = lambda: None

    item = changed(n=1)
    save()
    key = item.pk
    item.save()
    assert [(found.pk, found.n) for found in changed.scan()] == [(key, 1)]
    item.n = 2
    save()
    item.n = 3
    item.save()
    assert not item.is_dirty
    stored = changed.get(pk=key, consistent=True)
    assert stored == item
    assert stored.n == 3
    if changed is Counted:
        assert (stored.version, item.version) == (3, 3)


@pytest.mark.parametrize("fault", ["request lost", "answer lost"])
async def test_a_retry_of_a_batch_is_the_same_items(do, line, model, fault):
    items = [model(n=n) for n in range(5)]
    line.faults = [fault]
    with pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(model, items)
    assert caught.value.stopped
    assert caught.value.written == 0
    assert [item for item, _ in caught.value.failed] == items
    keys = [item.pk for item in items]
    items[0].n = 10
    assert await do.batch_save(model, items) == 5
    assert [item.pk for item in items] == keys
    assert {item.pk: item.n for item in await do.all(model.scan())} == dict(zip(keys, [10, 1, 2, 3, 4], strict=True))


@pytest.mark.parametrize("fault", ["request lost", "answer lost"])
async def test_a_retry_of_a_pipeline_is_the_same_items(do, line, model, fault):
    stored = await do.create(model, n=100)
    stored.n = 101
    items = [model(n=n) for n in range(5)]
    pipeline = mintkey.pipeline()
    for item in (*items, stored):
        await do.save(item, pipeline=pipeline)
    line.faults = [fault]
    with pytest.raises(BatchIncomplete) as caught:
        await do.execute(pipeline)
    assert caught.value.stopped
    assert [item for item, _ in caught.value.failed] == [*items, stored]
    assert {getattr(why, "outcome", None) for _, why in caught.value.failed} == {"unknown"}
    keys = [item.pk for item in items]
    items[0].n = 10
    for item in (*items, stored):
        await do.save(item, pipeline=pipeline)
    assert await do.execute(pipeline) == 6
    assert [item.pk for item in items] == keys
    assert not any(item.is_dirty for item in (*items, stored))
    expected = dict(zip(keys, [10, 1, 2, 3, 4], strict=True)) | {stored.pk: 101}
    assert {item.pk: item.n for item in await do.all(model.scan())} == expected


async def test_a_pipeline_that_is_cancelled_can_be_filled_and_sent_again(line, model):
    items = [model(n=n) for n in range(5)]
    begun = asyncio.Event()

    class Endless:
        def __init__(self, event_loop: asyncio.AbstractEventLoop) -> None:
            self.future = event_loop.create_future()
            begun.set()

        @staticmethod
        def withdraw() -> bool:
            return True

    pipeline = mintkey.pipeline()
    for item in items:
        await item.asave(pipeline=pipeline)
    keys = [item.pk for item in items]
    line.submit = lambda _, event_loop: Endless(event_loop)
    sending = asyncio.ensure_future(pipeline.aexecute())
    await begun.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    del line.submit
    assert len(pipeline) == 0
    assert await model.acount() == 0
    for item in items:
        assert item.is_dirty
        await item.asave(pipeline=pipeline)
    assert await pipeline.aexecute() == 5
    assert sorted(item.pk for item in await model.scan().aall()) == keys


@pytest.mark.parametrize("second", ["request lost", "answer lost"])
@pytest.mark.parametrize("first", ["request lost", "answer lost"])
async def test_two_unknown_outcomes_with_a_change_between(do, line, model, first, second):
    item = model(n=1)
    line.faults = [first]
    await fails(do.save, item)
    item.n = 2
    line.faults = [second]
    try:
        await do.save(item)
    except StoreUnavailable:
        item.n = 3
    await do.save(item)
    stored = await do.all(model.scan())
    assert [found.n for found in stored] == [item.n]
    assert stored == [item]
    item.n = 4
    await do.save(item)
    assert [found.n for found in await do.all(model.scan())] == [4]


@pytest.mark.parametrize("fault", ["request lost", "answer lost"])
async def test_a_retry_of_a_change_is_one_change(do, line, model, fault):
    item = await do.create(model, n=1)
    item.n = 2
    line.faults = [fault]
    await fails(do.save, item)
    await do.save(item)
    assert not item.is_dirty
    stored = await do.get(model, pk=item.pk)
    assert stored == item
    if model is Counted:
        assert stored.version == item.version == 2


@pytest.mark.parametrize("fault", ["request lost", "answer lost"])
async def test_a_retry_of_a_counted_update_adds_once(do, line, fault):
    item = await do.create(Counted, n=1)
    line.faults = [fault]
    await fails(do.update, item, Counted.n.add(10))
    await do.update(item, Counted.n.add(10))
    stored = await do.get(Counted, pk=item.pk)
    assert (stored.n, stored.version) == (item.n, item.version) == (11, 2)


async def test_another_update_after_one_that_arrived_unheard_follows_it(do, line):
    item = await do.create(Counted, n=1)
    line.faults = ["answer lost"]
    await fails(do.update, item, Counted.n.add(10))
    await do.update(item, Counted.n.add(100))
    stored = await do.get(Counted, pk=item.pk)
    assert (stored.n, stored.version) == (item.n, item.version) == (111, 3)


async def test_the_row_of_somebody_else_stays_somebody_elses(do, line):
    item = Counted(n=1)
    line.faults = ["request lost"]
    await fails(do.save, item)
    other = await do.create(Counted, pk=item.pk, n=5)
    with pytest.raises(KeyCollision):
        await do.save(item)
    assert await do.get(Counted, pk=item.pk) == other
    mine = await do.get(Counted, pk=item.pk)
    mine.n = 6
    line.faults = ["request lost"]
    await fails(do.save, mine)
    other.n = 7
    await do.save(other)
    with pytest.raises(VersionConflict):
        await do.save(mine)
    assert (await do.get(Counted, pk=item.pk)).n == 7


class Hooked(Model):
    """An instance whose `after_save` hook is interrupted, once."""

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()

    @after_save
    def interrupt(self) -> None:
        if interrupts:
            raise interrupts.pop()


class AsyncHooked(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()

    @after_save
    async def interrupt(self) -> None:
        if waiting:
            waiting.pop().set()
            await asyncio.Event().wait()


interrupts: list[BaseException] = []
#: Set by the first hook, which then waits.
waiting: list[asyncio.Event] = []


@pytest.mark.parametrize("many", ["batch", "pipeline", "two models"])
async def test_an_interrupt_in_a_hook_loses_no_reply_of_the_other_writes(store, many):
    items: list[Any] = [Hooked(n=number) for number in range(3)]
    others: list[Any] = [Plain(n=number) for number in range(3)] if many == "two models" else []
    interrupts[:] = [KeyboardInterrupt()]

    def save() -> None:
        if many == "batch":
            Hooked.batch_save(items)
            return
        with mintkey.pipeline() as pipeline:
            for item in [*items, *others]:
                item.save(pipeline=pipeline)

    with pytest.raises(KeyboardInterrupt):
        save()
    for item in [*items, *others]:
        assert type(item).get(pk=item.pk, consistent=True) is not None
        item.n = 7
        # It knows its own row.
        item.save()
        assert type(item).get(pk=item.pk, consistent=True).n == 7


@pytest.mark.parametrize("many", ["batch", "pipeline"])
async def test_a_cancelled_hook_loses_no_reply_of_the_other_writes(store, many):
    items = [AsyncHooked(n=number) for number in range(3)]
    hook_waits = asyncio.Event()
    waiting[:] = [hook_waits]

    async def save() -> None:
        if many == "batch":
            await AsyncHooked.abatch_save(items)
        else:
            async with mintkey.pipeline() as pipeline:
                for item in items:
                    await item.asave(pipeline=pipeline)

    task = asyncio.create_task(save())
    await hook_waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for item in items:
        item.n = 7
        await item.asave()
        found = await AsyncHooked.aget(pk=item.pk, consistent=True)
        assert found is not None
        assert found.n == 7


async def test_an_interrupt_loses_no_unknown_outcome_of_a_batch(store, monkeypatch):
    """It arrives while the outcomes of a batch are recorded, and some of them are unknown."""
    unknown = StoreUnavailable("the line was cut")
    unknown.outcome = "unknown"
    real, failed_save = store._core, saves.failed_save

    class Lossy(Line):
        def execute(self, request: Any) -> Any:
            replies = real.execute(request)
            return [unknown] * len(replies) if isinstance(replies, list) else replies

        __call__ = execute

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(saves, "failed_save", failed_save)
        raise KeyboardInterrupt

    monkeypatch.setattr(saves, "failed_save", interrupted)
    items = [Bare(n=number) for number in range(3)]
    store._core = Lossy(real)
    try:
        with pytest.raises(KeyboardInterrupt):
            Bare.batch_save(items)
    finally:
        store._core = real
    for item in items:
        item.save()
        assert Bare.get(pk=item.pk, consistent=True) is not None


@pytest.mark.parametrize("fault", ["request lost", "answer lost"])
@pytest.mark.parametrize("way", ["delete", "condition", "batch", "pipeline"])
async def test_an_item_is_deleted_after_a_save_of_unknown_outcome(do, line, model, way, fault):
    item = await do.create(model, n=1)
    item.n = 2
    line.faults = [fault]
    await fails(do.save, item)
    if way == "batch":
        assert await do.batch_delete(model, [item]) == 1
    elif way == "pipeline":
        pipeline = mintkey.pipeline()
        await do.delete(item, pipeline=pipeline)
        assert await do.execute(pipeline) == 1
    else:
        await do.delete(item, condition=model.n < 3 if way == "condition" else None)
    assert await do.count(model) == 0


async def test_an_item_is_not_deleted_after_a_change_by_another_writer(do, line):
    item = await do.create(Counted, n=1)
    item.n = 2
    line.faults = ["answer lost"]
    await fails(do.save, item)
    await do.update_by_key(Counted, item.pk, n=3)
    with pytest.raises(VersionConflict):
        await do.delete(item)
    new = Counted(pk="new", n=1)
    line.faults = ["answer lost"]
    await fails(do.save, new)
    await do.delete(new)
    assert [found.n for found in await do.all(Counted.scan())] == [3]
