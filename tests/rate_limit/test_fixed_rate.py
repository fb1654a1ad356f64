"""So many units a second, on every path, blocking and awaited."""

from __future__ import annotations

import pytest
from tests.rate_limit.conftest import Note

from mintkey import Store, connect
from mintkey.errors import ConditionFailed
from mintkey.rate_limit import FixedRate


def note(name: str, size: int = 100) -> Note:
    """A note of so many bytes: names and values count."""
    return Note(id=name, text="x" * (size - len("id") - len(name) - len("text")))


@pytest.fixture
def limited(hurried):
    """Connect an empty store under a limit, in hurried time."""
    opened: list[Store] = []

    def connected(**rates: float) -> FixedRate:
        limit = FixedRate(**rates, _time=hurried.time)
        opened.append(connect("sqlite://", rate_limit=limit))
        return limit

    yield connected
    for store in opened:
        store.close()


async def test_what_is_over_the_rate_waits(do, hurried, limited):
    limit = limited(wcu=2)
    waits = []
    for name in "abcde":
        before = hurried.slept
        await do.save(note(name))
        waits.append(hurried.slept - before)
    assert waits == pytest.approx([0, 0, 0.5, 0.5, 0.5])
    assert limit.waited == pytest.approx(1.5)
    assert limit.consumed_wcu == 5
    assert len(await do.all(Note.scan())) == 5


async def test_reading_and_writing_have_each_their_own_rate(do, hurried, limited):
    limit = limited(rcu=1, wcu=10)
    await do.save(note("a"))
    for _ in range(2):
        await do.get(Note, id="a", consistent=True)
    assert hurried.slept == pytest.approx(1)
    await do.save(note("b"))
    assert hurried.slept == pytest.approx(1)
    assert (limit.current_rcu, limit.current_wcu) == (1, 10)


async def test_rest_fills_up_to_the_burst_and_no_further(do, hurried, limited):
    limited(wcu=1, burst=3)
    for name in "abc":
        await do.save(note(name))
    assert hurried.slept == 0
    hurried.now += 3600
    for name in "abcd":
        await do.save(note(name))
    assert hurried.slept == pytest.approx(1)


async def test_what_is_larger_than_the_burst_waits_in_proportion(do, hurried, limited):
    limited(wcu=2, burst=1)
    await do.save(note("a", 10 * 1024))
    assert hurried.slept == pytest.approx(4.5)
    assert len((await do.get(Note, id="a")).text) > 10_000


async def test_without_a_rate_nothing_waits_but_all_is_counted(do, hurried, limited):
    limit = limited(rcu=5)
    assert await do.batch_save(Note, [note(str(number)) for number in range(1000)]) == 1000
    assert hurried.slept == 0
    assert limit.consumed_wcu == 1000
    assert limit.current_wcu is None


@pytest.mark.parametrize(("size", "units"), [(100, 1), (1024, 1), (1025, 2), (10_240, 10)])
async def test_a_write_takes_a_unit_for_each_started_kilobyte(do, limited, size, units):
    limit = limited()
    await do.save(note("a", size))
    assert limit.consumed_wcu == units


@pytest.mark.parametrize(("size", "units"), [(100, 1), (4096, 1), (4097, 2), (20_480, 5)])
async def test_a_read_takes_a_unit_for_each_started_four_kilobytes(do, limited, size, units):
    limit = limited()
    await do.save(note("a", size))
    await do.get(Note, id="a", consistent=True)
    assert limit.consumed_rcu == units
    await do.get(Note, id="a")
    assert limit.consumed_rcu == units * 1.5


async def test_what_is_not_there_takes_the_least(do, limited):
    limit = limited()
    assert await do.get(Note, id="a") is None
    assert limit.consumed_rcu == 0.5
    await do.delete(note("a"))
    assert limit.consumed_wcu == 1


async def test_a_change_takes_what_the_whole_item_does(do, limited):
    limit = limited()
    large = note("a", 5000)
    await do.save(large)
    limit.reset()
    large.text = "y" * 3000
    await do.save(large)
    assert limit.consumed_wcu == 3
    await do.update(large, text="z" * 2000)
    assert limit.consumed_wcu == 3 + 2


async def test_a_refused_write_takes_its_units(do, limited):
    limit = limited()
    await do.save(note("a", 2000))
    with pytest.raises(ConditionFailed):
        await do.save(note("a", 2000), condition=Note.id.does_not_exist())
    assert limit.consumed_wcu == 4


async def test_what_a_read_turned_out_to_take_is_waited_for_by_the_next(do, hurried, limited):
    limited(rcu=5)
    await do.save(note("a", 60 * 1024))
    await do.get(Note, id="a", consistent=True)
    assert hurried.slept == 0
    await do.get(Note, id="b", consistent=True)
    assert hurried.slept == pytest.approx((15 - 5 + 1) / 5)


async def test_pages_take_what_their_items_take_together(do, limited):
    limit = limited()
    await do.batch_save(Note, [note(f"{number:03}", 1024) for number in range(100)])
    limit.reset()
    assert len(await do.all(Note.scan())) == 100
    # Two pages, of 64 and 36 items of a kilobyte.
    assert limit.consumed_rcu == (16 + 9) / 2
    limit.reset()
    assert len(await do.all(Note.scan(consistent=True))) == 100
    assert limit.consumed_rcu == 16 + 9
    limit.reset()
    assert len(await do.all(Note.query(id="001"))) == 1
    assert limit.consumed_rcu == 0.5


async def test_counting_takes_the_least_a_page_can(do, limited):
    limit = limited()
    await do.batch_save(Note, [note(str(number), 4096) for number in range(10)])
    assert await do.count(Note) == 10
    assert limit.consumed_rcu == 0.5


async def test_the_parts_of_a_batch_add_up(do, limited):
    limit = limited()
    notes = [note("a", 1500), note("b", 100), note("c", 9000)]
    await do.batch_save(Note, notes)
    assert limit.consumed_wcu == 2 + 1 + 9
    found = [one async for one in Note.abatch_get(["a", "b", "c", "d"], consistent=True)]
    assert len(found) == 4
    assert limit.consumed_rcu == 1 + 1 + 3 + 1
    limit.reset()
    for one in notes:
        one.text = "y" * 3000
    await do.batch_save(Note, notes)
    assert limit.consumed_wcu == 3 * 3
    limit.reset()
    await do.batch_delete(Note, notes)
    assert limit.consumed_wcu == 3


async def test_a_batch_larger_than_the_burst_is_written(do, hurried, limited):
    limited(wcu=10)
    assert await do.batch_save(Note, [note(str(number)) for number in range(1200)]) == 1200
    assert hurried.slept == pytest.approx((1200 - 10) / 10)


async def test_tables_take_nothing(do, hurried, limited):
    limit = limited(rcu=0.001, wcu=0.001, burst=1)
    await do.save(note("a", 5000))
    await do.get(Note, id="a", consistent=True)
    # That took more than there was: the next read would wait for two thousand seconds.
    limit.reset()
    hurried.slept = 0.0
    await do.create_table(Note)
    assert await do.table_exists(Note)
    await do.delete_table(Note)
    assert (hurried.slept, limit.consumed_rcu, limit.consumed_wcu) == (0, 0, 0)


async def test_reset_sets_counters_to_zero_and_returns_no_units(do, hurried, limited):
    limit = limited(rcu=1, wcu=1)
    for name in "ab":
        await do.save(note(name))
        await do.get(Note, id=name, consistent=True)
    limit.throttle_count = 3
    assert hurried.slept > 0
    limit.reset()
    assert (limit.consumed_rcu, limit.consumed_wcu, limit.throttle_count, limit.waited) == (0, 0, 0, 0)
    before = hurried.slept
    await do.save(note("c"))
    assert hurried.slept > before
    assert limit.consumed_wcu == 1
