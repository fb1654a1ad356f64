"""A rate that falls when the store throttles and rises in quiet times."""

from __future__ import annotations

import asyncio

import pytest
from tests.rate_limit.conftest import Note, let_run

from mintkey.errors import BatchIncomplete, StoreUnavailable, Throttled
from mintkey.rate_limit import AdaptiveRate, FixedRate

TOO_MANY = Throttled("too many requests")


@pytest.fixture
def adaptive(hurried, scripted):
    """`adaptive(answers, max_rcu=…)` connects a store with these answers under such a rate."""

    def start(*answers, **rates):
        limit = AdaptiveRate(**{"max_rcu": 100, "max_wcu": 200, **rates}, _time=hurried.time)
        scripted(limit, *answers)
        return limit

    return start


async def throttled_save(do):
    with pytest.raises(Throttled):
        await do.save(Note(id="a"))


def test_it_begins_at_half():
    limit = AdaptiveRate(max_rcu=100, max_wcu=50)
    assert (limit.current_rcu, limit.current_wcu) == (50, 25)


def test_it_begins_no_lower_than_its_least():
    limit = AdaptiveRate(max_rcu=100, max_wcu=50, min_rcu=80, min_wcu=50)
    assert (limit.current_rcu, limit.current_wcu) == (80, 50)


async def test_throttling_takes_a_fifth_of_the_rate_that_was_too_high(do, adaptive):
    limit = adaptive(TOO_MANY)
    await throttled_save(do)
    assert (limit.current_rcu, limit.current_wcu, limit.throttle_count) == (50, 80, 1)
    await throttled_save(do)
    assert (limit.current_rcu, limit.current_wcu, limit.throttle_count) == (50, pytest.approx(64), 2)
    with pytest.raises(Throttled):
        await do.get(Note, id="a")
    assert (limit.current_rcu, limit.current_wcu, limit.throttle_count) == (40, pytest.approx(64), 3)


async def test_it_never_falls_below_its_least(do, adaptive):
    limit = adaptive(TOO_MANY, max_wcu=10, min_wcu=3)
    for _ in range(20):
        await throttled_save(do)
    assert limit.current_wcu == 3
    assert limit.throttle_count == 20


async def test_ten_quiet_seconds_raise_it_by_a_tenth(do, adaptive, hurried):
    limit = adaptive(TOO_MANY)
    await throttled_save(do)
    hurried.now += 9.9
    assert limit.current_wcu == 80
    hurried.now += 0.1
    assert limit.current_wcu == pytest.approx(88)
    hurried.now += 10
    assert limit.current_wcu == pytest.approx(96.8)
    hurried.now += 20
    assert limit.current_wcu == pytest.approx(80 * 1.1**4)


async def test_quiet_is_counted_from_the_last_throttling_on(do, adaptive, hurried):
    limit = adaptive(TOO_MANY)
    await throttled_save(do)
    hurried.now += 9
    await throttled_save(do)
    hurried.now += 9
    assert limit.current_wcu == pytest.approx(64)
    hurried.now += 1
    assert limit.current_wcu == pytest.approx(70.4)


async def test_it_never_rises_above_its_greatest(do, adaptive, hurried):
    limit = adaptive(None)
    await do.save(Note(id="a"))
    hurried.now += 70
    assert limit.current_wcu == pytest.approx(100 * 1.1**7)
    hurried.now += 10
    assert limit.current_wcu == 200
    hurried.now += 365 * 24 * 3600
    assert limit.current_wcu == 200


async def test_quiet_before_the_first_request_says_nothing(do, adaptive, hurried):
    limit = adaptive(None)
    hurried.now += 3600
    assert (limit.current_rcu, limit.current_wcu) == (50, 100)
    await do.save(Note(id="a"))
    hurried.now += 10
    assert (limit.current_rcu, limit.current_wcu) == (50, pytest.approx(110))


async def test_writing_may_be_without_limit(do, adaptive, hurried):
    limit = adaptive(TOO_MANY, max_wcu=None)
    await throttled_save(do)
    assert (limit.current_rcu, limit.current_wcu, limit.throttle_count) == (50, None, 1)
    assert hurried.slept == 0


async def test_requests_wait_by_the_rate_of_the_moment(do, adaptive, hurried):
    adaptive(TOO_MANY, None, max_wcu=2)
    await throttled_save(do)  # takes the one unit that one second brings; then the rate is 1, its least
    await do.save(Note(id="a"))
    assert hurried.slept == pytest.approx(1)
    hurried.now += 9  # the tenth quiet second: one unit is there, and 1.1 come a second
    await do.save(Note(id="a"))
    await do.save(Note(id="a"))
    assert hurried.slept == pytest.approx(1 + 1 / 1.1)


async def test_who_waits_feels_a_new_rate(scripted, told):
    limit = AdaptiveRate(max_rcu=1, max_wcu=20, _time=told.time)
    scripted(limit, TOO_MANY, None)
    large = asyncio.create_task(Note(id="b", text="x" * (110 * 1024 - 100)).asave())
    await let_run()
    await told.aadvance(9.75)
    assert not large.done()  # 110 units at 10 a second, of which 10 were there
    await told.aadvance(0.25)
    assert isinstance(large.exception(), Throttled)
    other = asyncio.create_task(Note(id="c", text="x" * (8 * 1024 - 100)).asave())
    await let_run()
    assert limit.current_wcu == pytest.approx(8.8)
    await told.aadvance(0.75)
    assert not other.done()
    await told.aadvance(0.25)
    assert other.done()


async def test_the_time_before_a_throttling_counts_at_the_old_rate(do, hurried, scripted):
    limit = AdaptiveRate(max_rcu=1, max_wcu=20, _time=hurried.time)
    _, engine = scripted(limit, TOO_MANY, None)
    execute = engine.execute

    def slow(request):
        hurried.now += 0.5
        return execute(request)

    engine.execute = slow
    ten_units = "x" * (10 * 1024 - 100)
    with pytest.raises(Throttled):
        await do.save(Note(id="a", text=ten_units))
    await do.save(Note(id="b", text=ten_units))
    assert hurried.slept == pytest.approx((10 - 5) / 8)


async def test_a_crowd_that_is_throttled_together_slows_it_once(scripted, told):
    limit = AdaptiveRate(max_rcu=1, max_wcu=100, _time=told.time)
    _, engine = scripted(limit, None)
    flights = []

    class Flight:
        def __init__(self, event_loop):
            self.future = event_loop.create_future()

    def submit(request, event_loop):
        flights.append(Flight(event_loop))
        return flights[-1]

    engine.submit = submit
    tasks = [asyncio.create_task(Note(id=str(number)).asave()) for number in range(8)]
    await let_run()
    for flight in flights:
        flight.future.set_exception(Throttled("too many requests"))
    assert len(await asyncio.gather(*tasks, return_exceptions=True)) == 8
    assert (limit.current_wcu, limit.throttle_count) == (40, 8)


async def test_a_batch_that_is_throttled_in_part_slows_it_once(do, adaptive):
    limit = adaptive([None, TOO_MANY, TOO_MANY])
    with pytest.raises(BatchIncomplete) as raised:
        await do.batch_save(Note, [Note(id=name) for name in "abc"])
    assert [item.id for item, _ in raised.value.failed] == ["b", "c"]
    assert (limit.current_wcu, limit.throttle_count) == (80, 1)


async def test_other_failures_are_no_throttling(do, adaptive):
    limit = adaptive(StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        await do.save(Note(id="a"))
    assert (limit.current_wcu, limit.throttle_count) == (100, 0)


async def test_a_fixed_rate_counts_throttling_and_stays(do, hurried, scripted):
    limit = FixedRate(wcu=10, _time=hurried.time)
    scripted(limit, TOO_MANY)
    await throttled_save(do)
    assert (limit.current_wcu, limit.throttle_count) == (10, 1)


async def test_reset_forgets_the_counts_and_keeps_what_was_learned(do, adaptive):
    limit = adaptive(TOO_MANY)
    await throttled_save(do)
    limit.reset()
    assert (limit.throttle_count, limit.consumed_wcu) == (0, 0)
    assert limit.current_wcu == 80
