"""A clock that stands still, and ids that repeat."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from mintkey import _core
from mintkey.errors import ConfigurationError
from mintkey.generators import AutoGenerate, auto, epoch_ms, generate_many, generate_value, iso8601, parse, ulid
from mintkey.testing import frozen

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
START_MS = 1_704_067_200_000


def test_time_stands_still_until_it_is_moved() -> None:
    with frozen(START) as clock:
        assert [epoch_ms() for _ in range(3)] == [START_MS] * 3
        assert _core.now_ms() == START_MS
        clock.advance(1.5)
        assert epoch_ms() == START_MS + 1500
        clock.advance(timedelta(days=1))
        assert iso8601() == "2024-01-02T00:00:01Z"
        clock.set("2020-01-01")
        assert iso8601() == "2020-01-01T00:00:00Z"
        assert clock.time == datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "time", [START, START.replace(tzinfo=None), "2024-01-01T00:00:00Z", "2024-01-01T01:00:00+01:00", START_MS / 1000]
)
def test_a_time_has_many_forms(time: datetime | str | float) -> None:
    with frozen(time):
        assert epoch_ms() == START_MS


def test_without_a_time_it_stands_at_now() -> None:
    before = epoch_ms()
    with frozen():
        stood = epoch_ms()
        assert before <= stood
        assert epoch_ms() == stood
    assert epoch_ms() >= stood


def test_a_seed_makes_everything_repeat() -> None:
    def mint(seed: object) -> list[object]:
        with frozen(START, seed=seed) as clock:  # type: ignore[arg-type]
            first = [generate_value(member) for member in AutoGenerate]
            clock.advance(1)
            return first + [generate_value(member) for member in AutoGenerate]

    assert mint(1) == mint(1)
    assert mint("a") == mint("a")
    ids = 9
    for one, other in ((1, 2), (1, "1"), ("1", b"1")):
        differing = sum(a != b for a, b in zip(mint(one), mint(other), strict=True))
        assert differing == 2 * ids
    with frozen(START):
        unseeded = ulid()
    with frozen(START):
        assert ulid() != unseeded


def test_blocks_nest_and_end_in_any_order() -> None:
    with frozen(START, seed=1) as outer:
        first = ulid()
        with frozen("2020-01-01T00:00:00Z"):
            assert iso8601() == "2020-01-01T00:00:00Z"
            outer.advance(60)
            assert iso8601() == "2020-01-01T00:00:00Z", "the innermost one rules"
        assert iso8601() == "2024-01-01T00:01:00Z"
        assert ulid() > first
    one, other = frozen(START), frozen("2020-01-01")
    clock = one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert iso8601() == "2020-01-01T00:00:00Z"
    other.__exit__(None, None, None)
    assert epoch_ms() > START_MS
    with pytest.raises(ValueError, match="ended"):
        clock.advance(1)


def test_it_ends_with_an_error_too() -> None:
    with pytest.raises(LookupError), frozen(START):
        raise LookupError
    assert epoch_ms() > START_MS


def test_functions_can_be_frozen() -> None:
    @frozen(START)
    def sync() -> int:
        return epoch_ms()

    @frozen(START)
    async def awaited() -> int:
        await asyncio.sleep(0)
        return epoch_ms()

    assert sync() == sync() == START_MS
    assert asyncio.run(awaited()) == START_MS
    assert sync.__name__ == "sync"
    assert epoch_ms() > START_MS


def test_what_is_called_like_a_function_can_be_frozen() -> None:
    class Sync:
        def __call__(self) -> int:
            return epoch_ms()

    class Awaited:
        async def __call__(self) -> int:
            return epoch_ms()

    assert frozen(START)(Sync())() == START_MS
    assert asyncio.run(frozen(START)(Awaited())()) == START_MS
    assert frozen(START)(partial(epoch_ms))() == START_MS


def test_what_would_not_be_frozen_is_refused() -> None:
    def values() -> Iterator[int]:
        yield epoch_ms()

    async def later() -> AsyncIterator[int]:
        yield epoch_ms()

    class Values:
        def __call__(self) -> Iterator[int]:
            yield epoch_ms()

    for generator in (values, later, Values(), partial(values)):
        with pytest.raises(TypeError, match=r"generator .* Write `with frozen\(…\):` in its body"):
            frozen(START)(generator)
    with pytest.raises(TypeError, match="the class Values: decorate its methods"):
        frozen(START)(Values)
    with pytest.raises(TypeError, match="put @classmethod above it"):
        frozen(START)(classmethod(epoch_ms))  # type: ignore[type-var,arg-type]
    with pytest.raises(TypeError, match="time=<function"):
        frozen(test_time_stands_still_until_it_is_moved)  # type: ignore[arg-type]


def test_what_is_no_time_is_told() -> None:
    wrongs: tuple[Any, ...] = (START.date(), [], b"2024", True, timedelta(1), Decimal(5))
    with frozen(START) as clock:
        for wrong in wrongs:
            with pytest.raises(TypeError, match=r"time=.* is neither a datetime nor ISO 8601 text nor seconds"):
                frozen(wrong)
            with pytest.raises(TypeError, match=r"time=.* is neither"):
                clock.set(wrong)
        for late in (1e30, -1e30, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="gives a time outside the years 1 to 9999"):
                frozen(late)
            with pytest.raises(ValueError, match=r"by=.* gives a time outside the years"):
                clock.advance(late)
        with pytest.raises(ValueError, match=r"by=.* gives a time outside the years"):
            clock.advance(timedelta.max)
        for text in ("x", None, START):
            with pytest.raises(TypeError, match=r"by=.* is neither a timedelta nor seconds"):
                clock.advance(text)  # type: ignore[arg-type]
        assert epoch_ms() == START_MS
    for seed in (1.5, object(), True):
        with pytest.raises(TypeError, match=r"seed=.* is not an int, str or bytes"):
            frozen(START, seed=seed)  # type: ignore[arg-type]


async def test_tasks_and_threads_see_the_same_clock() -> None:
    async with frozen(START, seed=3) as clock:
        assert await asyncio.gather(*[asyncio.to_thread(epoch_ms) for _ in range(4)]) == [START_MS] * 4
        clock.advance(1)
        told: list[int] = []
        thread = threading.Thread(target=lambda: told.append(epoch_ms()))
        thread.start()
        thread.join()
        assert told == [START_MS + 1000]


@pytest.mark.parametrize("step", [-5, -3600, -86_400])
def test_ids_increase_when_the_clock_steps_back(sortable: AutoGenerate, step: int) -> None:
    with frozen(START) as clock:
        ids = generate_many(sortable, 500)
        clock.advance(step)
        ids += [generate_value(sortable) for _ in range(500)]
        clock.advance(1)
        ids += generate_many(sortable, 500)
        clock.advance(-step)
        ids += generate_many(sortable, 500)
    assert all(a < b for a, b in pairwise(ids))


def test_a_day_ahead_and_back_leads_by_a_second_at_most(sortable: AutoGenerate) -> None:
    with frozen(START) as clock:
        before = generate_value(sortable)
        clock.advance(86_400)
        ids = [before, *generate_many(sortable, 5_000)]
        clock.advance(-86_400)
        ids += generate_many(sortable, 5_000)
        highest = START + timedelta(days=1)
        latest = max(parse(value, sortable).timestamp_ms or 0 for value in ids)
        assert latest <= (highest.timestamp() + 1) * 1000
        assert all(a < b for a, b in pairwise(ids))


def test_an_overflowing_counter_borrows_and_then_raises() -> None:
    with frozen(START, seed=5) as clock:
        strategy = auto("snowflake", node=1)
        ids = generate_many(strategy, 2_000_000)
        assert all(a < b for a, b in pairwise(ids))
        with pytest.raises(ConfigurationError, match=r"used up; move the clock forward with advance\(\)"):
            generate_many(strategy, 3_000_000)
        clock.advance(1)
        assert generate_value(strategy) > ids[-1]


def test_a_time_that_a_format_cannot_tell_is_refused() -> None:
    with frozen("2010-01-01"):
        for strategy in ("ksuid", "snowflake"):
            with pytest.raises(ConfigurationError, match=r"a time that .* cannot represent"):
                generate_value(strategy)
        assert generate_value("ulid")


def test_timestamps_tell_the_truth_when_the_clock_goes_back() -> None:
    with frozen(START) as clock:
        assert generate_value("epoch") == START_MS // 1000
        clock.advance(-3600)
        assert generate_value("epoch") == START_MS // 1000 - 3600


def test_a_step_back_is_logged_once(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.WARNING, "mintkey.generators"), frozen(START) as clock:
        ulid()
        clock.advance(-9)
        ulid()
        assert not caplog.records
        clock.advance(-3600)
        clock.advance(3609)
        ulid()
        clock.advance(-3600)
        for _ in range(3):
            ulid()
        assert [record.name for record in caplog.records] == ["mintkey.generators"]
        assert "stepped back by 3600.000 s" in caplog.text
    assert capfd.readouterr().err == ""
