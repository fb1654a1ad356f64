"""Large values are compared, searched and changed in time that grows with their size, not with its square."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mintkey import Model
from mintkey.attributes import BinaryAttribute, ListAttribute, MapAttribute, NumberSetAttribute, StringAttribute
from mintkey.errors import ConditionFailed

pytestmark = pytest.mark.slow

#: A map of so many short entries nearly fills an item.
ENTRIES = 45_000
#: How much smaller the value is to which the large one is compared.
TIMES = 9


class Large(Model):
    pk = StringAttribute(partition_key=True)
    data = MapAttribute()
    things = ListAttribute()
    numbers = NumberSetAttribute()
    raw = BinaryAttribute()
    text = StringAttribute()


def entries(count: int) -> dict[str, Any]:
    return {f"{number:x}": 1 for number in range(count)}


def turned(values: dict[str, Any]) -> dict[str, Any]:
    """The same entries from the last to the first."""
    return dict(reversed(values.items()))


async def cost(work: Callable[[], Awaitable[object]]) -> float:
    """The processor time that it takes, whatever else the machine does."""
    costs = []
    for _ in range(3):
        started = time.process_time()
        await work()
        costs.append(time.process_time() - started)
    return min(costs)


async def grows_with_size(work: Callable[[str], Callable[[], Awaitable[object]]]) -> bool:
    """Whether the work on the large item takes little more than so many times that on the small one.

    With the square of the size it would take 81 times as long.
    """
    return await cost(work("large")) < 3 * TIMES * await cost(work("small")) + 0.1


@pytest.fixture
async def stored(do, store) -> dict[str, Large]:
    """A small and a large item, stored and read back, whose maps are then given in another order."""
    items = {}
    for pk, count in (("small", ENTRIES // TIMES), ("large", ENTRIES)):
        await do.save(Large(pk=pk, data=entries(count)))
        items[pk] = await do.get(Large, pk=pk)
        items[pk].data = turned(items[pk].data)
    return items


async def test_maps_in_another_order_are_equal(do, stored):
    other = await do.get(Large, pk="large")
    assert not stored["large"].is_dirty
    assert stored["large"] == other
    other.data["0"] = 2
    assert other.is_dirty
    assert other.changed == {"data"}
    assert stored["large"] != other
    del other.data["0"]
    assert other.is_dirty
    await do.save(other)
    assert len((await do.get(Large, pk="large")).data) == ENTRIES - 1


async def test_comparing_instances_grows_with_the_size_of_their_maps(do, stored):
    others = {pk: await do.get(Large, pk=pk) for pk in stored}

    def is_dirty(pk: str) -> Callable[[], Awaitable[object]]:
        async def work() -> None:
            assert not stored[pk].is_dirty

        return work

    def equal(pk: str) -> Callable[[], Awaitable[object]]:
        async def work() -> None:
            assert stored[pk] == others[pk]

        return work

    def save(pk: str) -> Callable[[], Awaitable[object]]:
        async def work() -> None:
            await do.save(stored[pk])

        return work

    for work in (is_dirty, equal, save):
        assert await grows_with_size(work), work.__name__


async def test_conditions_grow_with_the_size_of_their_maps(do, url, stored):
    if url.startswith("dynamodb"):
        pytest.skip("DynamoDB evaluates these, and takes no value of this size in them")
    values = {pk: item.data for pk, item in stored.items()}

    def filtered(pk: str) -> Callable[[], Awaitable[object]]:
        async def work() -> None:
            assert await do.count(Large, Large.data == values[pk]) == 1

        return work

    def guarded(pk: str) -> Callable[[], Awaitable[object]]:
        async def work() -> None:
            await do.save(stored[pk], condition=Large.data == values[pk])

        return work

    for work in (filtered, guarded):
        assert await grows_with_size(work), work.__name__
    assert await do.count(Large, Large.data != values["large"]) == 1
    with pytest.raises(ConditionFailed):
        await do.delete(stored["large"], condition=Large.data == {**values["large"], "0": 2})


async def test_maps_inside_of_lists_are_compared_alike(do, url, store):
    inner = entries(ENTRIES // 2)
    await do.save(Large(pk="a", things=[1, {"inner": [inner]}]))
    item = await do.get(Large, pk="a")
    item.things = [1, {"inner": [turned(inner)]}]
    assert not item.is_dirty
    if url.startswith("dynamodb"):
        return
    assert await do.count(Large, Large.things == item.things) == 1
    assert await do.count(Large, Large.things.contains({"inner": [turned(inner)]})) == 1
    assert await do.count(Large, Large.things.contains({"inner": [inner, 1]})) == 0
    assert await do.count(Large, Large.things[1]["inner"][0].is_in([], {}, turned(inner))) == 1


async def test_large_sets_are_compared_and_changed(do, url, store):
    numbers = set(range(ENTRIES))
    await do.save(Large(pk="a", numbers=numbers))
    item = await do.get(Large, pk="a")
    item.numbers = {*range(ENTRIES - 1, -1, -1)}
    assert not item.is_dirty
    if url.startswith("dynamodb"):
        return
    assert await do.count(Large, Large.numbers == numbers) == 1
    assert await do.count(Large, Large.numbers == numbers - {7} | {-7}) == 0
    await do.update(item, Large.numbers.delete_from_set(set(range(1, ENTRIES))))
    assert item.numbers == {0}
    await do.update(item, Large.numbers.add_to_set(numbers))
    assert item.numbers == numbers


async def test_text_and_bytes_are_searched(do, url, store):
    if url.startswith("dynamodb"):
        pytest.skip("DynamoDB evaluates these, and takes no value of this size in them")
    await do.save(Large(pk="raw", raw=b"a" * 300_000))
    await do.save(Large(pk="text", text="a" * 300_000))
    for length, times in ((150_000, 1), (300_000, 1), (300_001, 0)):
        assert await do.count(Large, Large.raw.contains(b"a" * length)) == times
        assert await do.count(Large, Large.text.contains("a" * length)) == times

    for pk, size in (("small", 300_000 // TIMES), ("large", 300_000)):
        await do.save(Large(pk=pk, raw=b"a" * size))

    def search(pk: str) -> Callable[[], Awaitable[object]]:
        size = 300_000 // (TIMES if pk == "small" else 1)
        condition = Large.raw.contains(b"a" * (size // 2) + b"b")

        async def work() -> None:
            assert await do.count(do.query(Large, condition, pk=pk)) == 0

        return work

    assert await grows_with_size(search)


async def test_an_update_of_many_entries_grows_with_their_number(do, url, store):
    if url.startswith("dynamodb"):
        pytest.skip("DynamoDB takes no expression of this length")
    items = {}
    for pk, count in (("small", ENTRIES // 2 // TIMES), ("large", ENTRIES // 2)):
        items[pk] = Large(pk=pk, data=entries(count), things=list(range(count)))
        await do.save(items[pk])

    def update(pk: str) -> Callable[[], Awaitable[object]]:
        numbers = range(1, ENTRIES // 2 // (TIMES if pk == "small" else 1))
        changes = [Large.things[number].set(-number) for number in numbers]
        removals = [Large.data[f"{number:x}"].remove() for number in numbers]

        async def work() -> None:
            await do.update(items[pk], *changes, *removals)
            assert items[pk].data == {"0": 1}
            assert items[pk].things == [0, *(-number for number in numbers)]
            items[pk].data = entries(numbers.stop)
            await do.save(items[pk])

        return work

    assert await grows_with_size(update)
