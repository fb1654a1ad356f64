"""Index keys from templates, of rows that were loaded in part, lack a default on load, or cannot be read as a whole."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from mintkey import AutoGenerate, Index, Model, ModelConfig
from mintkey.attributes import DatetimeAttribute, NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import VersionConflict


class Ticket(Model):
    model_config = ModelConfig(table="tickets")
    id = StringAttribute(partition_key=True)
    owner = StringAttribute()
    status = StringAttribute()
    note = StringAttribute()
    board = StringAttribute(template="{owner}#{status}")
    by_board = Index("board")
    version = VersionAttribute()
    changed_at = StringAttribute(on_update=AutoGenerate.ULID)


class Setting(Model):
    model_config = ModelConfig(table="settings")
    id = StringAttribute(partition_key=True)
    note = StringAttribute()
    language = StringAttribute(default="en", default_on_load=True)
    group = StringAttribute(template="LANG#{language}")
    by_group = Index("group")
    size = NumberAttribute(default=1, default_on_load=True)
    version = VersionAttribute()


class Visit(Model):
    model_config = ModelConfig(table="visits")
    id = StringAttribute(partition_key=True)
    at = DatetimeAttribute()
    left_at = DatetimeAttribute()
    room = StringAttribute(default="hall")
    place = StringAttribute(template="{room}#{at:%Y-%m-%d}")
    by_place = Index("place")


class Place(Model):
    model_config = ModelConfig(table="places")
    id = StringAttribute(partition_key=True)
    room = StringAttribute(default="hall", default_on_load=True)
    name = StringAttribute()
    sign = StringAttribute(template="{room}/{name}")
    by_sign = Index("sign")


async def on_board(do: Any, owner: str, status: str) -> list[str]:
    return [ticket.id for ticket in await do.all(Ticket.by_board.query(owner=owner, status=status))]


async def of_language(do: Any, language: str) -> list[str]:
    return [setting.id for setting in await do.all(Setting.by_group.query(language=language))]


LOADED = (["note"], ["owner"], ["status"], ["board"], ["owner", "status"], ["status", "board"])


@pytest.mark.parametrize("empty", [None, ""])
async def test_an_item_without_a_part_leaves_the_index(do, empty):
    for number, names in enumerate(LOADED):
        await do.save(Ticket(id=str(number), owner="ada", status="open"))
        (part,) = await do.all(do.query(Ticket, id=str(number), attributes=names))
        part.status = empty
        await do.save(part)
        assert await on_board(do, "ada", "open") == []
        whole = await do.get(Ticket, str(number))
        assert (whole.board, whole.version, whole.is_dirty) == (None, 2, False)
        part.status, part.owner = "done", "ada"
        await do.save(part)
        assert await on_board(do, "ada", "done") == [str(number)]
        await do.delete(part)


async def test_an_index_key_of_parts_that_were_not_loaded(do):
    await do.save(Ticket(id="1", owner="ada", status="open"))
    for status, write in (("done", do.save), ("later", do.update)):
        (part,) = await do.all(do.query(Ticket, id="1", attributes=["status"]))
        part.status = status
        if write == do.save:
            await do.save(part)
            assert (part.owner, part.version, part.is_dirty) == ("ada", 2, False)
        else:
            await do.update(part, status=status)
            assert part == await do.get(Ticket, "1")
        assert await on_board(do, "ada", status) == ["1"]


async def test_a_version_protects_the_parts_that_were_not_loaded(do):
    await do.save(Ticket(id="1", owner="ada", status="open"))
    (part,) = await do.all(do.query(Ticket, id="1", attributes=["status"]))
    await do.update_by_key(Ticket, "1", owner="bob")
    part.status = "done"
    with pytest.raises(VersionConflict):
        await do.save(part)
    assert await on_board(do, "bob", "open") == ["1"]


async def test_a_part_with_a_default_on_load_that_another_writer_stores(do):
    await do.update_by_key(Place, "1", Place.room.remove(), Place.name.set("a"), upsert=True)
    place = await do.get(Place, "1")
    assert (place.room, place.changed) == ("hall", frozenset())
    place.name = "b"
    await do.save(place)
    assert await do.all(Place.by_sign.query(room="hall", name="b")) == [place]
    late = await do.get(Place, "1")
    await do.update_by_key(Place, "1", room="attic")
    late.name = "c"
    await do.save(late)
    (found,) = await do.all(Place.by_sign.query(room="attic", name="c"))
    assert (late.room, found) == ("attic", late)
    late = await do.get(Place, "1")
    await do.update_by_key(Place, "1", room=None)
    late.name = "d"
    await do.save(late)
    (found,) = await do.all(Place.by_sign.query(room="hall", name="d"))
    assert (late.room, found) == ("hall", late)


@pytest.mark.parametrize("names", LOADED)
async def test_an_item_that_was_loaded_in_part_is_unchanged(do, names):
    await do.save(Ticket(id="1", owner="ada", status="open"))
    (part,) = await do.all(do.query(Ticket, id="1", attributes=names))
    assert part.changed == frozenset()
    await do.save(part)
    assert (await do.get(Ticket, "1")).version == 1
    part.note = "x"
    assert part.changed == {"note"}
    await do.save(part)
    assert await on_board(do, "ada", "open") == ["1"]


async def test_a_default_on_load_is_no_part_until_it_is_stored(do):
    for number in "123":
        await do.update_by_key(Setting, number, Setting.language.remove(), Setting.size.remove(), upsert=True)
    assert await of_language(do, "en") == []
    assert await do.count(Setting, Setting.language == "en") == 0
    first, second = await do.get(Setting, "1"), await do.get(Setting, "2")
    (third,) = await do.all(do.query(Setting, id="3", attributes=["language"]))
    for setting in (first, second, third):
        assert (setting.language, setting.changed) == ("en", frozenset())
        await do.save(setting)
        assert setting.version == 1
    await do.update(first, note="x")
    assert await of_language(do, "en") == []
    second.note = third.note = "x"
    assert second.changed == third.changed == {"note"}
    await do.save(second)
    await do.save(third)
    assert sorted(await of_language(do, "en")) == ["2", "3"]
    await do.update(second, Setting.language.remove())
    assert await of_language(do, "en") == ["3"]
    assert (second.language, second.is_dirty) == ("en", False)


async def test_a_row_that_cannot_be_read_as_a_whole_gets_index_keys(do, raw):
    day = datetime(2024, 1, 1, tzinfo=timezone.utc)
    await do.count(Visit)  # creates the table with its index
    rows = raw(Visit, at=StringAttribute(), left_at=StringAttribute(), room=StringAttribute())
    for number in "123":
        # Another program has written the time in another form, and no time at all.
        await do.save(
            rows(id=number, at="2024-01-01T00:00:00Z", left_at="soon", room="door" if number == "1" else None)
        )
    await do.update_by_key(Visit, "1", room="bar")
    assert await do.backfill(Visit, "room") == 2
    assert await do.count(Visit.by_place.query(room="hall", at=day)) == 2
    assert await do.update(Visit.query.filter(room="hall"), room="bar") == 2
    assert await do.count(Visit.by_place.query(room="bar", at=day)) == 3
    await do.update_by_key(Visit, "1", Visit.at.remove())
    assert await do.count(Visit.by_place.query(room="bar", at=day)) == 2
