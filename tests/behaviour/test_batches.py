"""Batches mean what single operations mean, for any number of items."""

from __future__ import annotations

import re
from typing import Any

import pytest

import mintkey
from mintkey import AutoGenerate, Model, auto, connect
from mintkey.attributes import BinaryAttribute, NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import BatchIncomplete, ConfigurationError, InvalidValue, KeyCollision, VersionConflict
from mintkey.generators import parse
from mintkey.hooks import after_load, after_save, before_save


class Item(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = StringAttribute(sort_key=True)
    n = NumberAttribute()
    made = StringAttribute(default=AutoGenerate.ISO8601)
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601_MS)


async def numbered(count):
    for n in range(count):
        yield Item(pk="p", sk=f"{n:05}", n=n)


async def test_any_iterable_of_any_length_is_saved_in_order(do):
    seen = []
    count = await do.batch_save(
        Item, (Item(sk=f"{n:05}", n=n) for n in range(1234)), on_progress=lambda done, total: seen.append((done, total))
    )
    assert count == 1234
    assert seen[-1] == (1234, None)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    found = await do.all(Item.scan())
    assert [item.n for item in sorted(found, key=lambda item: item.pk)] == list(range(1234))
    assert all(item.made for item in found)


async def test_a_list_tells_its_length(do):
    seen = []
    items = [Item(pk="p", sk=str(n)) for n in range(3)]
    assert await do.batch_save(Item, items, on_progress=lambda *progress: seen.append(progress)) == 3
    assert seen == [(3, 3)]
    assert not any(item.is_dirty for item in items)
    assert await do.batch_save(Item, []) == 0


async def test_the_awaited_twins_take_asynchronous_iterables(store):
    assert await Item.abatch_save(numbered(700)) == 700

    async def keys():
        for n in (3, 700, 5):
            yield ("p", f"{n:05}")

    assert [item and item.n async for item in Item.abatch_get(keys())] == [3, None, 5]
    assert await Item.abatch_delete(keys()) == 3
    assert await Item.acount() == 698


@pytest.mark.parametrize("one", ["ab", b"ab", {"name": "a"}], ids=["text", "bytes", "dict"])
async def test_one_key_is_not_taken_for_many(do, one):
    class Named(Model):
        name = StringAttribute(partition_key=True)

    await do.batch_save(Named, [Named(name="a"), Named(name="b"), Named(name="name")])
    with pytest.raises(
        TypeError, match=re.escape(f"Named: a batch takes an iterable of items, not {one!r}: for one key")
    ):
        await do.batch_delete(Named, one)
    with pytest.raises(TypeError, match=re.escape(f"pass [{one!r}]")):
        _ = list(Named.batch_get(one)) if do.blocking else [item async for item in Named.abatch_get(one)]
    with pytest.raises(TypeError, match=re.escape(f"not {one!r}")):
        await do.batch_save(Named, one)
    assert await do.count(Named) == 3


async def test_gets_answer_in_the_order_of_the_keys_however_written(do):
    await do.batch_save(Item, [Item(pk="p", sk=f"{n:05}", n=n) for n in range(600)])
    keys: list[Any] = [("p", "00599"), {"pk": "p", "sk": "nothing"}, ["p", "00000"], ("p", "00599")]
    found = list(Item.batch_get(keys)) if do.blocking else [item async for item in Item.abatch_get(keys)]
    assert [item and item.n for item in found] == [599, None, 0, 599]
    assert found[0] == found[3]
    many = [("p", f"{n:05}") for n in range(600)]
    found = list(Item.batch_get(many)) if do.blocking else [item async for item in Item.abatch_get(many)]
    assert [item and item.n for item in found] == list(range(600))
    with pytest.raises(TypeError, match="a key is a dict or a tuple of pk, sk"):
        list(Item.batch_get(["p"]))


async def test_a_loaded_item_writes_what_changed_and_mints_on_update(do):
    await do.batch_save(Item, [Item(pk="p", sk=str(n), n=n) for n in range(3)])
    loaded = await do.all(do.query(Item, pk="p"))
    loaded[1].n = 100
    assert await do.batch_save(Item, loaded) == 3
    again = await do.all(do.query(Item, pk="p"))
    assert [item.n for item in again] == [0, 100, 2]
    assert [item.changed_at is not None for item in again] == [False, True, False]


class Plain(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    made = StringAttribute(default=AutoGenerate.ISO8601_MS)
    at = NumberAttribute(default=AutoGenerate.EPOCH_MS)
    n = NumberAttribute()


class WithHook(Plain):
    @before_save
    def nothing(self):
        pass


@pytest.fixture(params=[Plain, WithHook])
def model(request):
    """Two models that mean the same: one is saved by the chunk, the other by one operation for each item."""
    return request.param


async def test_each_item_has_an_instant_and_keys_that_rise(do, model):
    items = [model(n=n) for n in range(1100)]
    assert await do.batch_save(model, items) == 1100
    keys = [item.pk for item in items]
    assert keys == sorted(set(keys))
    for item in items:
        assert parse(item.pk).timestamp_ms == item.at
        assert parse(item.made).timestamp_ms == item.at
    stored = {item.pk: item for item in await do.all(model.scan())}
    assert all(stored[item.pk] == item for item in items)
    assert len(stored) == 1100


async def test_a_refused_item_keeps_what_was_minted_and_can_be_saved_again(do, model):
    items = [model(n=1), model(n="two"), model(n=3)]
    with pytest.raises(BatchIncomplete, match="1 of 3") as caught:
        await do.batch_save(model, items)
    assert [(item, type(reason)) for item, reason in caught.value.failed] == [(items[1], InvalidValue)]
    key = items[1].pk
    assert key is not None
    assert items[0].pk < key < items[2].pk
    await do.save(model(pk=key, n=0))
    items[1].n = 2
    with pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(model, items)
    assert [type(reason) for _, reason in caught.value.failed] == [KeyCollision]
    assert (await do.get(model, pk=key)).n == 0


class Crowded(Model):
    pk = StringAttribute(partition_key=True, default=auto("nanoid", alphabet="ab", size=1))
    n = NumberAttribute()


@pytest.mark.parametrize("again", [[999], [0, 999]])
async def test_the_same_instance_in_the_next_chunk_is_written_once(do, model, again):
    items = [model(n=n) for n in range(1000)]
    assert await do.batch_save(model, [*items, *(items[n] for n in again), model(n=-1)]) == 1001 + len(again)
    assert not any(item.is_dirty for item in items)
    assert sorted(row.n for row in await do.all(model.scan())) == list(range(-1, 1000))


async def test_a_key_that_collides_is_not_taken_for_a_given_one_in_the_next_chunk(do):
    await do.batch_save(Crowded, [Crowded(pk="a", n=1), Crowded(pk="b", n=2)])
    minted = Crowded(n=3)
    others = [Crowded(pk=f"given{n}", n=n) for n in range(998)]
    with pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(Crowded, [*others[:499], minted, minted, *others[499:]])
    assert [(item, type(reason)) for item, reason in caught.value.failed] == [(minted, KeyCollision)] * 2
    assert [(await do.get(Crowded, pk=key)).n for key in ("a", "b")] == [1, 2]
    assert await do.count(Crowded) == 1000


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
async def test_a_source_that_fails_loses_nothing_of_what_came_before(do, model, failure):
    items = [model(n=n) for n in range(1300)]

    def source():
        yield from items[:1200]
        raise failure("no more")

    done = []
    with pytest.raises(failure, match="no more"):
        await do.batch_save(model, source(), on_progress=lambda *progress: done.append(progress))
    # Chunks that were drawn whole are written.
    assert done == [(500, None), (1000, None)]
    assert [item.n for item in items if not item.is_dirty] == list(range(1000))
    assert sorted(row.n for row in await do.all(model.scan())) == list(range(1000))
    assert await do.batch_save(model, items) == 1300
    assert {row.pk: row.n for row in await do.all(model.scan())} == {item.pk: item.n for item in items}


async def test_what_was_prepared_and_not_sent_still_overwrites_nothing(do, model):
    items = [model(n=n) for n in range(1200)]

    def stop(done, total):
        raise ValueError(f"stopped at {done} of {total}")

    with pytest.raises(ValueError, match="stopped at 500 of 1200"):
        await do.batch_save(model, items, on_progress=stop)
    assert sorted(row.n for row in await do.all(model.scan())) == list(range(500))
    minted = [item for item in items[500:] if item.pk is not None]
    assert await do.batch_save(model, [model(pk=item.pk, n=-1) for item in minted]) == len(minted)
    if minted:
        with pytest.raises(BatchIncomplete) as caught:
            await do.batch_save(model, minted)
        assert {type(reason) for _, reason in caught.value.failed} == {KeyCollision}
        assert [item for item, _ in caught.value.failed] == minted
    assert all(row.n < 500 for row in await do.all(model.scan()))


async def test_a_source_may_use_the_store_and_what_it_gave(do, model):
    given = []

    def source():
        for n in range(1200):
            item = model(n=n)
            given.append(item)
            yield item
            item.n = -n
            if n % 400 == 0:
                model.create(n=5000)

    async def awaited():
        for n in range(1200):
            item = model(n=n)
            given.append(item)
            yield item
            item.n = -n
            if n % 400 == 0:
                await model.acreate(n=5000)

    assert await do.batch_save(model, source() if do.blocking else awaited()) == 1200
    stored = {row.pk: row.n for row in await do.all(model.scan())}
    assert sorted(n for n in stored.values() if n == 5000) == [5000] * 3
    # The last of a chunk is assigned to when it has been taken already.
    late = [n for n, item in enumerate(given) if stored[item.pk] == n and n != 0]
    assert late in ([499, 999], [499]), "later chunks may be larger on SQLite"
    assert [n for n, item in enumerate(given) if item.is_dirty] == late
    assert await do.batch_save(model, given) == 1200
    assert [(await do.get(model, pk=given[n].pk)).n for n in late] == [-n for n in late]


async def test_a_source_may_write_what_it_gave(do, model):
    given = [model(n=n) for n in range(1200)]
    pipeline = mintkey.pipeline()

    async def source():
        for n, item in enumerate(given):
            if n == 700:
                await given[10].adelete()
                given[20].n = -20
                await given[20].asave(pipeline=pipeline)
                given[30].n = -30
                await given[30].aupdate(n=-300)
                given[40].n = -40
                await given[40].asave()
            yield item

    def blocking_source():
        for n, item in enumerate(given):
            if n == 700:
                given[10].delete()
                given[20].n = -20
                given[20].save(pipeline=pipeline)
                given[30].n = -30
                given[30].update(n=-300)
                given[40].n = -40
                given[40].save()
            yield item

    assert await do.batch_save(model, blocking_source() if do.blocking else source()) == 1200
    stored = {row.pk: row.n for row in await do.all(model.scan())}
    assert len(stored) == 1199
    assert [stored.get(given[n].pk) for n in (10, 20, 30, 40)] == [None, 20, -300, -40]
    # What was deleted is new again.
    await do.save(given[10])
    assert (await do.get(model, pk=given[10].pk)).n == 10
    with pytest.raises(ConfigurationError, match="has a pending write in a pipeline"):
        await do.save(given[20])
    await do.execute(pipeline)
    given[20].n = -21
    await do.save(given[20])
    assert (await do.get(model, pk=given[20].pk)).n == -21
    assert await do.batch_save(model, given) == 1200
    assert {row.pk: row.n for row in await do.all(model.scan())} == {item.pk: item.n for item in given}


async def test_the_same_instance_twice_is_written_once(do, model):
    item = model(n=1)
    assert await do.batch_save(model, [item, model(n=2), item]) == 3
    assert await do.count(model) == 2
    assert not item.is_dirty


async def test_of_two_items_with_one_key_the_later_stays(do, model):
    assert await do.batch_save(model, [model(pk="a", n=1), model(pk="b", n=2), model(pk="a", n=3)]) == 3
    assert {item.pk: item.n for item in await do.all(model.scan())} == {"a": 3, "b": 2}


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 70_000])
async def test_items_of_one_batch_differ_in_what_they_have(do, length):
    class Shape(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        text = StringAttribute()
        a_name_of_more_than_thirty_two_bytes = NumberAttribute()
        data = BinaryAttribute()

    given: list[dict[str, Any]] = [
        {"text": "é" * length},
        {},
        {"data": bytes(range(256)) * (length // 256), "a_name_of_more_than_thirty_two_bytes": -1},
        {"text": '\0"\\', "data": b"\xff" * min(length, 99)},
    ]
    made = [Shape(**values) for values in given * 3]
    await do.batch_save(Shape, made)
    found = {item.pk: item.to_dict() for item in await do.all(Shape.scan())}
    assert found == {item.pk: item.to_dict() for item in made}


async def test_new_and_stored_items_mix(do, model):
    old = [model(pk=str(n), n=n) for n in range(3)]
    await do.batch_save(model, old)
    old[1].n = 10
    del old[2].n
    assert await do.batch_save(model, [model(n=7), *old, model(n=8)]) == 5
    found = {item.pk: item.n for item in await do.all(model.scan())}
    assert [found[item.pk] for item in old] == [0, 10, None]
    assert sorted(n for key, n in found.items() if len(key) > 1) == [7, 8]


async def test_a_failed_item_stops_no_other_and_is_told_at_the_end(do):
    class Counted(Model):
        pk = StringAttribute(partition_key=True)
        version = VersionAttribute()
        n = NumberAttribute()

    await do.save(Counted(pk="2", n=-2))
    good, taken, wrong, last = Counted(pk="1"), Counted(pk="2"), Counted(pk="3", n="three"), Counted(pk="4")
    with pytest.raises(BatchIncomplete, match="2 of 4 items failed") as caught:
        await do.batch_save(Counted, [good, taken, wrong, last])
    error = caught.value
    assert error.written == 2
    assert not error.stopped
    assert [(item, type(reason)) for item, reason in error.failed] == [(taken, VersionConflict), (wrong, InvalidValue)]
    assert (good.version, taken.version, last.version) == (1, None, 1)
    assert await do.count(Counted) == 3
    assert (await do.get(Counted, pk="2")).n == -2


async def test_hooks_run_for_each_item_and_a_failing_one_fails_its_item_alone(do):
    ran = []

    class Hooked(Model):
        pk = StringAttribute(partition_key=True)
        note = StringAttribute()

        @before_save
        def first(self):
            if self.pk == "bad":
                raise RuntimeError("no")
            self.note = f"note of {self.pk}"

        @after_save
        def last(self):
            ran.append(self.pk)

        @after_load
        def loaded(self):
            ran.append(f"loaded {self.pk}")

    with pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(Hooked, [Hooked(pk="a"), Hooked(pk="bad"), Hooked(pk="b")])
    assert [(item.pk, str(reason)) for item, reason in caught.value.failed] == [("bad", "no")]
    assert ran == ["a", "b"]
    assert await do.get(Hooked, pk="bad") is None
    ran.clear()
    keys = ["a", "b"]
    found = list(Hooked.batch_get(keys)) if do.blocking else [item async for item in Hooked.abatch_get(keys)]
    assert [item and item.note for item in found] == ["note of a", "note of b"]
    assert ran == ["loaded a", "loaded b"]
    assert await do.batch_save(Hooked, [Hooked(pk="bad")], skip_hooks=True) == 1


async def test_async_hooks_run_in_the_awaited_batch(store):
    class Hooked(Model):
        pk = StringAttribute(partition_key=True)
        note = StringAttribute()

        @before_save
        async def first(self):
            if self.pk == "bad":
                raise RuntimeError("no")
            self.note = "noted"

    with pytest.raises(BatchIncomplete) as caught:
        await Hooked.abatch_save([Hooked(pk="a"), Hooked(pk="bad"), Hooked(pk="b")])
    assert [item.pk for item, _ in caught.value.failed] == ["bad"]
    assert sorted([str(item.pk) async for item in Hooked.ascan()]) == ["a", "b"]


async def test_short_keys_that_collide_are_minted_again(do):
    class Short(Model):
        pk = StringAttribute(partition_key=True, default=auto("uuid4", length=2))

    assert await do.batch_save(Short, [Short() for _ in range(60)]) == 60
    assert await do.count(Short) == 60


async def test_a_minted_key_never_overwrites_in_a_batch(do, clock):
    class Minted(Model):
        pk = StringAttribute(partition_key=True, default=auto(lambda: "same"))
        n = NumberAttribute()

    with pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(Minted, [Minted(n=1), Minted(n=2)])
    assert [(item.n, type(reason)) for item, reason in caught.value.failed] == [(2, KeyCollision)]
    assert (await do.get(Minted, pk="same")).n == 1


async def test_deletes_take_instances_and_keys(do):
    items = [Item(pk="p", sk=str(n)) for n in range(5)]
    await do.batch_save(Item, items)
    assert await do.batch_delete(Item, [items[0], ("p", "1"), {"pk": "p", "sk": "nothing"}]) == 3
    assert [item.sk for item in await do.all(do.query(Item, pk="p"))] == ["2", "3", "4"]
    assert items[0].is_dirty


class Other(Model):
    pk = StringAttribute(partition_key=True)


@pytest.mark.parametrize("strangers", [[0], [700], [3, 499, 500, 1199]])
async def test_what_is_no_instance_of_the_model_fails_alone(do, model, strangers):
    items: list[Any] = [model(n=n) for n in range(1200)]
    for at in strangers:
        items[at] = Other(pk=str(at))
    seen = []
    with pytest.raises(
        BatchIncomplete, match=f"{len(strangers)} of 1200 .* saves items of {model.__name__}, not <?Other"
    ) as caught:
        await do.batch_save(model, items, on_progress=lambda *progress: seen.append(progress))
    error = caught.value
    assert seen == [(500, 1200), (1000, 1200), (1200, 1200)]
    assert error.written == 1200 - len(strangers)
    assert not error.stopped
    assert [(item, type(reason)) for item, reason in error.failed] == [(items[at], TypeError) for at in strangers]
    good = [item for item in items if type(item) is model]
    assert not any(item.is_dirty for item in good)
    assert {row.pk: row.n for row in await do.all(model.scan())} == {item.pk: item.n for item in good}


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text")


async def test_an_item_that_cannot_even_be_shown_fails_alone(do, model):
    strange = Unprintable()
    with pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(model, [model(n=1), strange, model(n=2)])
    assert [item for item, _ in caught.value.failed] == [strange]
    assert caught.value.written == await do.count(model) == 2


async def test_a_key_that_is_none_fails_alone(do):
    items = [Item(pk="p", sk=f"{n:05}", n=n) for n in range(1200)]
    await do.batch_save(Item, items)
    keys: list[Any] = [("p", f"{n:05}") for n in range(600)]
    wrong: dict[int, Any] = {
        0: ("p", ""),
        10: "p",
        499: ("p", 5),
        500: {"pk": "p"},
        550: ("", "x"),
        551: {"pk": "p", "sk": "x", "n": 1},
    }
    wrong |= {552: {"pk": "p", "sk": "x", "elsewhere": 1}, 599: None}
    for at, key in wrong.items():
        keys[at] = key
    seen = []
    given = [*keys, items[700], items[701]]
    with pytest.raises(BatchIncomplete, match="8 of 602 items") as caught:
        await do.batch_delete(Item, given, on_progress=lambda *progress: seen.append(progress))
    error = caught.value
    assert seen == [(500, 602), (602, 602)]
    assert error.written == 594
    assert not error.stopped
    assert [key for key, _ in error.failed] == list(wrong.values())
    invalid, mistaken = InvalidValue, TypeError
    kinds = [invalid, mistaken, invalid, mistaken, invalid, mistaken, mistaken, mistaken]
    assert [type(reason) for _, reason in error.failed] == kinds
    assert error.__cause__ is error.failed[0][1]
    left = sorted(n for n in wrong) + [n for n in range(600, 1200) if n not in (700, 701)]
    assert [row.n for row in await do.all(do.query(Item, pk="p"))] == left


async def test_a_query_is_read_as_the_call_is_made(do):
    await do.batch_save(Item, [Item(pk="p", sk=f"{n:04}", n=n) for n in range(1200)])
    seen = []
    rest = Item.query(Item.n >= 200, pk="p")
    assert await do.batch_delete(Item, rest, on_progress=lambda *progress: seen.append(progress)) == 1000
    assert seen[-1] == (1000, None)
    assert await do.count(Item) == 200


async def told_later(done, total):
    raise AssertionError(f"{done} of {total}")


@pytest.mark.parametrize("progress", [5, "print", told_later])
async def test_progress_is_told_to_a_plain_function(do, model, progress):
    items = iter([model(pk="a", n=1), model(pk="b", n=2)])
    for operation in (do.batch_save, do.batch_delete):
        with pytest.raises(TypeError, match=f"{model.__name__}: on_progress= takes a plain function"):
            await operation(model, items, on_progress=progress)
    assert len(list(items)) == 2
    assert await do.count(model) == 0


def test_what_only_iterates_asynchronously_is_refused_by_a_blocking_call(store):
    with pytest.raises(TypeError, match="use the async version"):
        Item.batch_save(numbered(3))
    assert Item.count() == 0


async def test_what_a_batch_raises_is_short(do, model):
    def stop(done, total):
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop") as caught:
        await do.batch_save(model, [model(n=n) for n in range(1200)], on_progress=stop)
    assert len(caught.traceback) < 40


async def test_a_store_that_is_closed_meanwhile_takes_no_more(do, store, url, model):
    await do.count(model)

    def close(done, total):
        store.close()

    items = [model(n=n) for n in range(1100)]
    with pytest.raises((BatchIncomplete, ConfigurationError), match="closed"):
        await do.batch_save(model, items, on_progress=close)
    with connect(url):
        assert sorted(row.n for row in await do.all(model.scan())) == list(range(500))
        assert await do.batch_save(model, items) == 1100
