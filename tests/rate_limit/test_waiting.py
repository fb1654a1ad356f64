"""Waiting: in order of arrival, without holding anybody up, and given up at once."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from tests.rate_limit.conftest import Note, Pending, let_run

from mintkey import connect, use_store
from mintkey.errors import StoreUnavailable
from mintkey.rate_limit import FixedRate, Stopped


def kilobytes(name: str, number: int) -> Note:
    """A note that takes so many units to write."""
    return Note(id=name, text="x" * (1024 * number - 100))


#: What comes at once under one unit a second, with its size, and who is through after 0, 1, 2 … seconds.
SIZES = {"a": 1, "b": 5, "c": 1, "d": 3, "e": 1}
THROUGH = ["a", "a", "a", "a", "a", "ab", "abc", "abc", "abc", "abcd", "abcde"]


@pytest.fixture
def limited(scripted, told):
    """Connect a store of which every request succeeds, under one unit a second."""
    limit = FixedRate(wcu=1, _time=told.time)
    _, engine = scripted(limit, None)
    return limit, engine.requests


async def test_tasks_go_in_the_order_of_their_arrival(limited, told):
    done: list[str] = []

    async def save(name: str, size: int) -> None:
        await kilobytes(name, size).asave()
        done.append(name)

    tasks = [asyncio.create_task(save(name, size)) for name, size in SIZES.items()]
    await let_run()
    seen = ["".join(done)]
    for _ in THROUGH[1:]:
        await told.aadvance(1)
        seen.append("".join(done))
    assert seen == THROUGH
    assert all(task.done() for task in tasks)
    assert limited[0].waited == pytest.approx(5 + 6 + 9 + 10)


def test_threads_go_in_the_order_of_their_arrival(limited, told):
    done = []

    def save(note: Note) -> None:
        note.save()
        done.append(str(note.id))

    for name, size in SIZES.items():
        told.start(partial(save, kilobytes(name, size)))
    seen = ["".join(done)]
    for _ in THROUGH[1:]:
        told.advance(1)
        seen.append("".join(done))
    assert seen == THROUGH
    assert limited[0].waited == pytest.approx(5 + 6 + 9 + 10)


async def test_threads_and_tasks_are_in_one_queue(limited, told):
    done = []

    def save(name: str) -> None:
        kilobytes(name, 1).save()
        done.append(name)

    async def asave(name: str) -> None:
        await kilobytes(name, 1).asave()
        done.append(name)

    tasks = []
    for thread, task in ("ab", "cd", "ef"):
        told.start(partial(save, thread))
        tasks.append(asyncio.create_task(asave(task)))
        await let_run()
    seen = ["".join(done)]
    for _ in range(5):
        await told.aadvance(1)
        seen.append("".join(done))
    assert seen == ["a", "ab", "abc", "abcd", "abcde", "abcdef"]
    assert all(task.done() for task in tasks)


async def test_a_cancelled_wait_gives_its_units_back_and_those_behind_move_up(limited, told):
    limit, requests = limited
    await kilobytes("a", 1).asave()
    large = asyncio.create_task(kilobytes("large", 300).asave())
    await let_run()
    small = asyncio.create_task(kilobytes("small", 1).asave())
    await let_run()
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    await told.aadvance(1)
    assert small.done()
    assert len(requests) == 2
    assert limit.consumed_wcu == 2


async def test_who_came_before_a_cancelled_wait_waits_as_long_as_ever(limited, told):
    await kilobytes("a", 1).asave()
    first = asyncio.create_task(kilobytes("first", 10).asave())
    await let_run()
    second = asyncio.create_task(kilobytes("second", 10).asave())
    await let_run()
    second.cancel()
    await let_run()
    await told.aadvance(9.5)
    assert not first.done()
    await told.aadvance(0.5)
    assert first.done()


async def test_a_crowd_that_is_cancelled_leaves_nothing(limited, told):
    limit, requests = limited
    await kilobytes("a", 1).asave()
    tasks = [asyncio.create_task(kilobytes(str(number), 7).asave()) for number in range(200)]
    await let_run()
    last = asyncio.create_task(kilobytes("last", 1).asave())
    await let_run()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await told.aadvance(1)
    assert last.done()
    assert len(requests) == 2
    assert limit.consumed_wcu == 2


async def test_the_event_loop_goes_on_meanwhile(limited, told):
    tasks = [asyncio.create_task(kilobytes(name, 1).asave()) for name in "abc"]
    await let_run()
    assert [task.done() for task in tasks] == [True, False, False]
    # Reading has no limit here, and waits for nobody.
    assert await Note.aget(id="a") is None
    await told.aadvance(2)
    assert [task.done() for task in tasks] == [True, True, True]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_request_that_was_never_begun_gives_its_units_back(scripted, told, begun):
    limit = FixedRate(wcu=1, _time=told.time)
    _, engine = scripted(limit, None)
    pending = []

    def submit(request, event_loop):
        pending.append(Pending(event_loop, begun=begun))
        return pending[-1]

    engine.submit = submit
    task = asyncio.create_task(kilobytes("a", 5).asave())
    await let_run()
    await told.aadvance(4)
    assert len(pending) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limit.consumed_wcu == (5 if begun else 0)


def test_a_thread_that_waits_holds_up_no_other(limited, told):
    limit, requests = limited
    kilobytes("a", 1).save()
    told.start(kilobytes("b", 100).save)
    # Reading has no limit here; it and the numbers are there while a writer waits.
    assert Note.get(id="a") is None
    assert limit.consumed_wcu == 1
    assert len(requests) == 2
    told.advance(100)
    assert limit.consumed_wcu == 101


class Interrupted(BaseException):
    """What a signal handler raises."""


def test_what_is_interrupted_while_it_waits_gives_its_units_back(scripted, hurried):
    interrupting = True

    def sleep(seconds: float) -> None:
        if interrupting:
            raise Interrupted
        hurried.sleep(seconds)

    limit = FixedRate(wcu=1, _time=hurried.time._replace(sleep=sleep))
    _, engine = scripted(limit, None)
    kilobytes("a", 1).save()
    note = kilobytes("b", 1000)
    with pytest.raises(Interrupted):
        note.save()
    assert (len(engine.requests), limit.consumed_wcu) == (1, 1)
    interrupting = False
    kilobytes("c", 1).save()
    assert hurried.slept == pytest.approx(1)


def test_a_failed_request_has_taken_its_units(scripted, hurried):
    limit = FixedRate(wcu=1, _time=hurried.time)
    scripted(limit, StoreUnavailable("gone"), None)
    with pytest.raises(StoreUnavailable):
        kilobytes("a", 3).save()
    assert limit.consumed_wcu == 3


def test_a_signal_handler_may_save_while_it_interrupts_the_limit(scripted, hurried):
    limit = FixedRate(wcu=1, _time=hurried.time)
    handled: list[bool] = []

    def now() -> float:
        # Asked under the lock, which is where the signal comes.
        if not handled:
            handled.append(True)
            Note(id="from the handler").save()
        return hurried.now

    limit._time = hurried.time._replace(now=now)
    _, engine = scripted(limit, None)
    Note(id="a").save()
    assert len(engine.requests) == 2


def test_what_is_stopped_does_not_wait_for_its_turn(hurried):
    stop = threading.Event()
    with connect("sqlite://") as store:
        limited = store.limited(FixedRate(wcu=1, _time=hurried.time)).stopped_by(stop)
        with use_store(limited):
            kilobytes("a", 5).save()
            kilobytes("b", 1).save()
            waited = hurried.slept
            stop.set()
            with pytest.raises(Stopped):
                kilobytes("c", 1).save()
        assert waited > 0
        assert hurried.slept == waited
        assert sorted(str(note.id) for note in Note.scan()) == ["a", "b"]
