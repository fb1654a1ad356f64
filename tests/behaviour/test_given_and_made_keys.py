"""Keys that a callable makes, and generated times: none overwrites, none lies before its save."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mintkey import Model, fields
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, KeyCollision
from mintkey.fields import AutoKeyField, DatetimeField, Field, KeyField

LOWER = "01arz3ndektsv4rrffq69g5fav"


class Made(Model):
    pk = StringAttribute(partition_key=True, default=lambda: "same")
    n = NumberAttribute()


class MadeSort(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True, default=lambda: "same")
    n = NumberAttribute()


class MadePart(Model):
    room = KeyField()
    place = KeyField(default=lambda: "same")
    n = Field(type=int)


MODELS: list[tuple[Any, dict[str, Any]]] = [(Made, {}), (MadeSort, {"pk": "a"}), (MadePart, {"room": "a"})]


@pytest.mark.parametrize(("model", "given"), MODELS, ids=[model.__name__ for model, _ in MODELS])
async def test_a_key_of_a_callable_never_overwrites(do, model, given):
    first = model(n=1, **given)
    await do.save(first)
    first.n = 2
    await do.save(first)
    with pytest.raises(KeyCollision):
        await do.save(model(n=3, **given))
    with pytest.raises(KeyCollision):
        await do.create(model, n=3, **given)
    with pytest.raises(BatchIncomplete) as incomplete:
        await do.batch_save(model, [model(n=3, **given)])
    assert isinstance(incomplete.value.failed[0][1], KeyCollision)
    assert [one.n for one in await do.iterate(do.scan(model))] == [2]


async def test_a_given_key_overwrites_as_before(do):
    await do.save(Made(pk="a", n=1))
    await do.save(Made(pk="a", n=2))
    assert (await do.get(Made, pk="a")).n == 2


class Note(Model):
    text = Field()
    written = DatetimeField(auto_now_add=True)
    changed_at = DatetimeField(auto_now=True)


async def test_generated_times_are_never_before_the_save(do):
    for _ in range(20):
        before = datetime.now(timezone.utc)
        note: Any = Note(text="a")
        await do.save(note)
        after = datetime.now(timezone.utc)
        assert before <= note.written <= after
        assert note.written == note.changed_at
        again = datetime.now(timezone.utc)
        note.text = "b"
        await do.save(note)
        assert note.changed_at >= again
        loaded = (await do.all(do.query(Note, _auto_key=note._auto_key)))[0]
        assert (loaded.written, loaded.changed_at) == (note.written, note.changed_at)


async def test_generated_times_have_microseconds(do, clock):
    clock.advance(timedelta(microseconds=123_456))
    note = Note(text="a")
    await do.save(note)
    assert note.written == note.changed_at == datetime(2024, 1, 1, 0, 0, 0, 123_456, timezone.utc)
    start = datetime(2024, 1, 1, 0, 0, 0, 123_456, timezone.utc)
    later = start + timedelta(microseconds=1)
    assert await do.count(Note, Note.written.minted_between(start, later)) == 1
    assert await do.count(Note, Note.written.minted_between(later, later + timedelta(seconds=1))) == 0


FORMS = [
    ("ulid", LOWER, LOWER.upper()),
    ("uuid4", "0188C89D-DF6B-4F1C-A388-91396EC314BC", "0188c89ddf6b4f1ca38891396ec314bc"),
    ("uuid4", "0188C89DDF6B4F1CA38891396EC314BC", "0188c89ddf6b4f1ca38891396ec314bc"),
    ("uuid7", "0188C89DDF6B7F1CA38891396EC314BC", "0188c89d-df6b-7f1c-a388-91396ec314bc"),
]


@pytest.mark.parametrize(("strategy", "given", "stored"), FORMS, ids=range(len(FORMS)))
async def test_an_auto_key_is_stored_in_its_canonical_form(do, strategy, given, stored):
    class Thing(Model):
        id = AutoKeyField(strategy=strategy)
        n = fields.IntField()

    thing = Thing(id=given, n=1)
    await do.save(thing)
    assert thing.id == stored
    assert (await do.get(Thing, id=given)).id == stored
    assert (await do.get(Thing, id=stored)).n == 1
    assert [one.id for one in await do.iterate(do.query(Thing, id=given))] == [stored]
    with pytest.raises(KeyCollision):
        await do.save(Thing(id=stored))
    await do.update_by_key(Thing, {"id": given}, n=2)
    await do.batch_delete(Thing, [{"id": given}])
    assert await do.count(Thing) == 0
