"""Conditions that take long to evaluate: `?timeout=` and Ctrl-C end them, by the work they do and not by rows."""

from __future__ import annotations

import functools
import gc
import operator
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.behaviour.conftest import STORES, Do

from mintkey import Model, connect, pipeline
from mintkey.attributes import ListAttribute, NumberAttribute, StringAttribute
from mintkey.conditions import Condition
from mintkey.errors import BatchIncomplete, StoreTimeout

pytestmark = pytest.mark.slow

#: Evaluated to the end, a condition here takes some minutes.
GENEROUS = 40


class Large(Model):
    pk = StringAttribute(partition_key=True)
    things = ListAttribute()
    n = NumberAttribute()


def any_of(conditions: list[Condition]) -> Condition:
    """The conditions joined by OR, in two steps: each join copies what is joined already."""
    rows = [functools.reduce(operator.or_, conditions[start : start + 200]) for start in range(0, len(conditions), 200)]
    return functools.reduce(operator.or_, rows)


#: No row fulfils it. It is too long for an expression of DynamoDB, so every store evaluates it in this process.
SLOW = any_of([Large.things.contains(f"none {number}") for number in range(20_000)])
#: The same, and fulfilled by rows with `n`.
SLOW_BUT_TRUE = SLOW | Large.n.exists()


def address_with(address: str, timeout: float) -> str:
    """The address with another timeout, and with room for long lists where the store can have it."""
    if "timeout=60" in address:
        address = address.replace("timeout=60", f"timeout={timeout}")
    else:
        address += f"?timeout={timeout}"
    return address if address.startswith("dynamodb") else f"{address}&max_item=10000000"


@pytest.fixture(params=STORES)
def address(request, tmp_path) -> Iterator[str]:
    """A store of four rows. To evaluate the condition on each takes long."""
    address = STORES[request.param](tmp_path)
    with connect(address_with(address, 60)):
        Large.create_table()
        elements = 40_000 if address.startswith("dynamodb") else 150_000
        Large.batch_save([Large(pk=pk, things=["x"] * elements, n=1) for pk in "abcd"])
        yield address
    with connect(address_with(address, 60)):
        assert Large.count() == 4
        assert all(item.n == 1 for item in Large.scan())
        Large.delete_table()


@pytest.fixture(params=["blocking", "async"])
def do(request) -> Do:
    return Do(blocking=request.param == "blocking")


@pytest.fixture(autouse=True)
def in_time(address) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < GENEROUS


async def test_filters_end_with_the_timeout(address, do):
    with connect(address_with(address, 0.5)):
        with pytest.raises(StoreTimeout):
            await do.iterate(do.scan(Large, SLOW))
        with pytest.raises(StoreTimeout):
            await do.iterate(do.query(Large, SLOW, pk="a"))
        with pytest.raises(StoreTimeout):
            await do.count(Large, ~SLOW_BUT_TRUE)


async def test_guards_end_with_the_timeout_and_write_nothing(address, do):
    if address.startswith("dynamodb"):
        pytest.skip("DynamoDB evaluates conditions of writes, and refuses this one")
    with connect(address_with(address, 60)):
        item = await do.get(Large, pk="a")
    with connect(address_with(address, 0.5)):
        item.n = 2
        for write in (
            do.save(item, condition=SLOW_BUT_TRUE),
            do.save(Large(pk="b", n=3), condition=SLOW_BUT_TRUE),
            do.update(Large(pk="c"), Large.n.add(1), condition=SLOW_BUT_TRUE),
            do.update(Large(pk="c"), n=4, condition=SLOW_BUT_TRUE, upsert=True),
            do.delete(Large(pk="d"), condition=SLOW_BUT_TRUE),
        ):
            with pytest.raises(StoreTimeout) as caught:
                await write
            assert caught.value.outcome == "not_applied"


async def save_together(do: Do, items: list[Large], condition: Condition) -> None:
    if do.blocking:
        with pipeline() as together:
            for item in items:
                item.save(condition=condition, pipeline=together)
    else:
        async with pipeline() as together:
            for item in items:
                await item.asave(condition=condition, pipeline=together)


async def test_guards_in_a_pipeline_end_with_the_timeout(address, do):
    if address.startswith("dynamodb"):
        pytest.skip("DynamoDB evaluates conditions of writes, and refuses this one")
    with connect(address_with(address, 0.5)):
        with pytest.raises(BatchIncomplete) as caught:
            await save_together(do, [Large(pk=pk, n=2) for pk in "abcd"], SLOW_BUT_TRUE)
        assert len(caught.value.failed) == 4
        assert all(isinstance(error, StoreTimeout) for _, error in caught.value.failed)


@contextmanager
def interrupted_soon() -> Iterator[None]:
    """Ctrl-C after a moment, and what it raises."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    # Hypothesis has a callback in the garbage collector, which would swallow the exception of the signal handler.
    gc.disable()
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


def test_filters_end_with_an_interrupt(address):
    with connect(address_with(address, 600)):
        with interrupted_soon():
            Large.scan(SLOW).all()
        with interrupted_soon():
            Large.count(SLOW)


def test_guards_end_with_an_interrupt_and_write_nothing(address):
    if address.startswith("dynamodb"):
        pytest.skip("DynamoDB evaluates conditions of writes, and refuses this one")
    with connect(address_with(address, 600)):
        with interrupted_soon():
            Large(pk="a", n=2).save(condition=SLOW_BUT_TRUE)
        with interrupted_soon():
            Large(pk="a").update(Large.n.add(1), condition=SLOW_BUT_TRUE)
        with interrupted_soon():
            Large(pk="a").delete(SLOW_BUT_TRUE)
