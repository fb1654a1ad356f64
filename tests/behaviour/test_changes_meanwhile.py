"""What changes on an instance between putting a write in a pipeline, or beginning to await it, and the answer."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle

import pytest

import mintkey
from mintkey import AutoGenerate, Model
from mintkey.attributes import ListAttribute, NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import BatchIncomplete, ConfigurationError, ItemGone
from mintkey.hooks import after_save


class Note(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    text = StringAttribute()
    tags = ListAttribute()
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601_MS)
    version = VersionAttribute()


async def test_an_update_keeps_what_is_changed_while_it_waits(do):
    note = await do.create(Note, pk="a", n=0, text="old", tags=["x"])
    pipeline = mintkey.pipeline()
    await do.update(note, n=5, text="named", pipeline=pipeline)
    note.text = "mine"
    note.tags.append("y")
    await do.execute(pipeline)
    assert (note.n, note.text, note.tags, note.version) == (5, "mine", ["x", "y"], 2)
    assert note.changed == {"text", "tags"}
    await do.save(note)
    stored = await do.get(Note, pk="a", consistent=True)
    assert (stored.n, stored.text, stored.tags) == (5, "mine", ["x", "y"])


async def test_an_update_keeps_what_was_cleared_without_being_loaded(do):
    await do.create(Note, pk="a", n=0, text="old", tags=["x"])
    (note,) = await do.all(Note.query(pk="a", attributes=["n", "version"]))
    note.tags = None
    pipeline = mintkey.pipeline()
    await do.update(note, n=5, pipeline=pipeline)
    note.text = None
    await do.execute(pipeline)
    assert (note.n, note.text, note.tags) == (5, None, None)
    assert note.changed == {"text", "tags"}
    await do.save(note)
    stored = await do.get(Note, pk="a", consistent=True)
    assert (stored.n, stored.text, stored.tags) == (5, None, None)


async def test_a_save_keeps_what_is_changed_while_it_waits(do):
    note = await do.create(Note, pk="a", n=0, text="old", tags=["x"])
    pipeline = mintkey.pipeline()
    note.n = 1
    await do.save(note, pipeline=pipeline)
    note.changed_at = "mine"
    note.tags.append("y")
    note.version = 9
    await do.execute(pipeline)
    assert (note.n, note.changed_at, note.tags, note.version) == (1, "mine", ["x", "y"], 2)
    assert note.changed == {"changed_at", "tags"}
    await do.save(note)
    stored = await do.get(Note, pk="a", consistent=True)
    assert (stored.n, stored.changed_at, stored.tags) == (1, "mine", ["x", "y"])


async def test_what_was_assigned_before_a_save_counts_for_that_alone(do):
    note = await do.create(Note, pk="a", n=0)
    pipeline = mintkey.pipeline()
    note.changed_at = "mine"
    await do.save(note, pipeline=pipeline)
    await do.execute(pipeline)
    assert not note.is_dirty
    note.n = 1
    await do.save(note)
    assert note.changed_at != "mine"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda note: pickle.loads(pickle.dumps(note))])
async def test_what_was_assigned_before_a_copy_is_written_by_the_copy_once(do, copied):
    note = await do.create(Note, pk="a", n=0)
    note.changed_at = "mine"
    note = copied(note)
    await do.save(note)
    assert (await do.get(Note, pk="a", consistent=True)).changed_at == "mine"
    note.n = 1
    await do.save(note)
    assert note.changed_at != "mine"


async def test_a_new_instance_keeps_what_is_changed_while_it_waits(do):
    note = Note(pk="a", n=0, tags=["x"])
    pipeline = mintkey.pipeline()
    await do.save(note, pipeline=pipeline)
    note.n = 1
    note.changed_at = "mine"
    assert note.tags is not None
    note.tags.append("y")
    await do.execute(pipeline)
    assert note.changed == {"n", "changed_at", "tags"}
    await do.save(note)
    stored = await do.get(Note, pk="a", consistent=True)
    assert (stored.n, stored.changed_at, stored.tags) == (1, "mine", ["x", "y"])


async def test_a_partly_loaded_instance_keeps_what_is_cleared_while_it_waits(do):
    await do.create(Note, pk="a", n=0, text="old")
    (note,) = await do.all(Note.query(pk="a", attributes=["n", "version"]))
    pipeline = mintkey.pipeline()
    note.n = 1
    await do.save(note, pipeline=pipeline)
    note.text = None
    await do.execute(pipeline)
    assert note.changed == {"text"}
    await do.save(note)
    stored = await do.get(Note, pk="a", consistent=True)
    assert (stored.n, stored.text) == (1, None)


async def test_what_was_assigned_survives_a_failure(do):
    note = await do.create(Note, pk="a", n=0)
    note.changed_at = "mine"
    await do.delete(await do.get(Note, pk="a", consistent=True))
    pipeline = mintkey.pipeline()
    await do.save(note, pipeline=pipeline)
    with pytest.raises(BatchIncomplete):
        await do.execute(pipeline)
    await do.create(Note, pk="a", n=0)
    await do.save(note)
    assert note.changed_at == "mine"
    assert (await do.get(Note, pk="a", consistent=True)).changed_at == "mine"


async def test_awaited_writes_keep_what_is_changed_meanwhile(store):
    note = Note(pk="a", n=0, text="old", tags=["x"])
    await note.asave()
    updating = asyncio.ensure_future(note.aupdate(n=5))
    await asyncio.sleep(0)
    note.text = "mine"
    assert note.tags is not None
    note.tags.append("y")
    await updating
    assert (note.n, note.text, note.tags) == (5, "mine", ["x", "y"])
    saving = asyncio.ensure_future(note.asave())
    await asyncio.sleep(0)
    note.changed_at = "mine"
    await saving
    assert note.changed_at == "mine"
    assert note.changed == {"changed_at"}
    await note.asave()
    assert await Note.aget(pk="a", consistent=True) == note


class Stamped(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601_MS)


@pytest.mark.parametrize("many", [False, True])
async def test_a_new_instance_keeps_what_is_assigned_while_its_save_is_awaited(store, many):
    stamped = Stamped(n=1)
    saving = asyncio.ensure_future(Stamped.abatch_save([stamped]) if many else stamped.asave())
    await asyncio.sleep(0)
    stamped.changed_at = "mine"
    await saving
    assert stamped.changed == {"changed_at"}
    stamped.n = 2
    await stamped.asave()
    assert stamped.changed_at == "mine"
    assert await Stamped.aget(pk=str(stamped.pk), consistent=True) == stamped


async def test_each_of_two_awaited_saves_writes_what_was_assigned_before_it(store):
    stamped = Stamped(n=0)
    await stamped.asave()
    stamped.n = 1
    first = asyncio.ensure_future(stamped.asave())
    await asyncio.sleep(0)
    stamped.changed_at = "mine"
    second = asyncio.ensure_future(stamped.asave())
    await asyncio.gather(first, second)
    found = await Stamped.aget(pk=str(stamped.pk), consistent=True)
    assert found is not None
    assert (found.n, found.changed_at) == (1, stamped.changed_at)
    # DynamoDB carries out two requests that are under way in any order.
    assert stamped.changed_at == "mine" or store.url.startswith("dynamodb")
    stamped.n = 2
    await stamped.asave()
    assert stamped.changed_at != "mine"


class Plain(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    text = StringAttribute()


async def test_two_awaited_updates_of_an_instance_take_both_results(store):
    plain = Plain(pk="a", n=0, text="old")
    await plain.asave()
    for n in range(1, 20):
        await asyncio.gather(plain.aupdate(n=n), plain.aupdate(text=f"{n}"))
        assert (plain.n, plain.text) == (n, f"{n}")


@pytest.mark.parametrize("model", [Plain, Note])
async def test_a_waiting_instance_is_written_by_its_pipeline_alone(do, model):
    new, old = model(pk="a", n=1), await do.create(model, pk="b", n=1)
    old.n = 2
    pipeline = mintkey.pipeline()
    await do.save(new, pipeline=pipeline)
    await do.save(old, pipeline=pipeline)
    for instance in (new, old):
        instance.text = "later"
        for write in (do.save, do.delete):
            with pytest.raises(ConfigurationError, match="has a pending write in a pipeline"):
                await write(instance)
            with pytest.raises(ConfigurationError, match="has a pending write in a pipeline"):
                await write(instance, pipeline=mintkey.pipeline())
        with pytest.raises(ConfigurationError, match="has a pending write in a pipeline"):
            await do.update(instance, n=7)
    with pytest.raises(BatchIncomplete) as caught:
        await do.batch_save(model, [new, old])
    assert [type(why) for _, why in caught.value.failed] == [ConfigurationError] * 2
    assert await do.execute(pipeline) == 2
    for instance in (new, old):
        assert instance.changed == {"text"}
        await do.save(instance)
    assert {(found.pk, found.n, found.text) for found in await do.all(model.scan())} == {
        ("a", 1, "later"),
        ("b", 2, "later"),
    }


async def test_an_instance_waits_no_more_when_its_pipeline_has_failed_or_been_left(do):
    gone, left = [await do.create(Plain, pk=pk, n=1) for pk in "ab"]
    await do.delete(await do.get(Plain, pk="a", consistent=True))
    pipeline = mintkey.pipeline()
    await do.update(gone, n=2, pipeline=pipeline)
    with pytest.raises(BatchIncomplete):
        await do.execute(pipeline)
    with pytest.raises(ItemGone):
        await do.update(gone, n=2)
    left.n = 2
    pipeline = mintkey.pipeline()
    with pytest.raises(ZeroDivisionError), pipeline:  # noqa: PT012 - raised by what happens at the block's end
        await do.save(left, pipeline=pipeline)
        raise ZeroDivisionError
    await do.save(left)
    left.n = 3
    pipeline = mintkey.pipeline()
    await do.save(left, pipeline=pipeline)
    del pipeline
    gc.collect()
    await do.save(left)
    assert (await do.get(Plain, pk="b", consistent=True)).n == 3


class Twice(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()

    @after_save
    def again(self) -> None:
        if self.n == 1:
            self.n = 2
            self.save()


async def test_a_hook_after_the_write_may_write_again(do):
    pipeline = mintkey.pipeline()
    await do.create(Twice, pk="a", n=1, pipeline=pipeline)
    assert await do.execute(pipeline) == 1
    assert (await do.get(Twice, pk="a", consistent=True)).n == 2
