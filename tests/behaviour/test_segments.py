"""Scans and counts in segments: the same items, each once, read several parts at a time."""

from __future__ import annotations

import pytest

from mintkey import Model
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConditionFailed
from mintkey.hooks import after_load

LOADED: list[object] = []


class Part(Model):
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    kind = StringAttribute(index=True)

    @after_load
    def check(self) -> None:
        LOADED.append(self.sk)
        if self.kind == "bad":
            raise ConditionFailed("a hook that refuses")


KEYS = {(f"p{number % 60}", number) for number in range(150)}


@pytest.fixture
async def parts(do):
    await do.batch_save(Part, [Part(pk=pk, sk=sk, kind="even" if sk % 2 == 0 else "odd") for pk, sk in sorted(KEYS)])


def keys(found):
    return [(part.pk, part.sk) for part in found]


@pytest.mark.parametrize("segments", [1, 2, 4, 30])
async def test_each_item_comes_once(do, parts, segments):
    found = keys(await do.iterate(do.scan(Part, segments=segments)))
    assert len(found) == len(KEYS)
    assert set(found) == KEYS
    assert await do.count(Part, segments=segments) == len(KEYS)
    assert await do.count(Part, Part.sk < 10, segments=segments) == 10
    assert await do.count(do.scan(Part, Part.sk < 10, segments=segments, limit=4)) == 4


async def test_what_is_asked_of_any_scan_holds(do, parts):
    odd = do.scan(Part, Part.kind == "odd", segments=4)
    assert set(keys(await do.all(odd))) == {key for key in KEYS if key[1] % 2}
    assert len(await do.all(do.scan(Part, segments=4, limit=70))) == 70
    assert await do.all(do.scan(Part, segments=4, limit=0)) == []
    first = await do.first(odd)
    assert first is not None
    assert (first.pk, first.sk) in KEYS
    assert await do.first(do.scan(Part, Part.kind == "none", segments=4)) is None
    ordered = await do.all(do.scan(Part, segments=4).order_by("-sk")[:3])
    assert [part.sk for part in ordered] == [149, 148, 147]
    assert len(await do.all(do.scan(Part, segments=4)[10:])) == 140
    some = await do.all(do.scan(Part, segments=4, attributes=["kind"], consistent=True))
    assert {part.kind for part in some} == {"even", "odd"}


async def test_no_more_is_loaded_than_needed(do, parts):
    LOADED.clear()
    assert len(await do.all(do.scan(Part, segments=3, limit=2))) == 2
    assert len(LOADED) <= 6


async def test_explain_tells_the_segments(do):
    assert do.scan(Part, segments=4).explain() == "scan of table 'Part'; in 4 segments, up to 8 at once"
    assert do.scan(Part).explain() == "scan of table 'Part'"


@pytest.mark.parametrize("segments", [0, -1, True, 1.5, "2", None, 1_000_001, 1 << 32, 1 << 70])
async def test_a_number_of_segments_is_a_whole_one(do, segments):
    with pytest.raises(ValueError, match="segments="):
        do.scan(Part, segments=segments)
    with pytest.raises(ValueError, match="segments="):
        await do.count(Part, segments=segments)


async def test_a_million_segments_are_no_mistake(do, parts):
    found = do.scan(Part, segments=1_000_000)
    assert found.explain() == "scan of table 'Part'; in 1000000 segments, up to 8 at once"


async def test_only_scans_have_segments_and_they_have_no_pages(do, parts):
    with pytest.raises(TypeError, match="segments="):
        await do.count(Part, pk="p1", segments=2)
    with pytest.raises(TypeError, match="index 'kind'"):
        await do.count(Part, kind="odd", segments=2)
    assert await do.count(Part, kind="odd", segments=1) == 75
    with pytest.raises(TypeError, match="segments="):
        await do.page(do.scan(Part, segments=2), 10)


async def test_a_failure_of_one_segment_is_told(do, parts):
    await do.save(Part(pk="bad", sk=0, kind="bad"))
    with pytest.raises(ConditionFailed, match="refuses"):
        await do.all(do.scan(Part, segments=4))


async def test_a_missing_table_is_told_once(do, store):
    class Nowhere(Model):
        pk = StringAttribute(partition_key=True)

    if store.creates_tables:
        assert await do.count(Nowhere, segments=3) == 0
        return
    await do.delete_table(Nowhere)
    with pytest.raises(LookupError, match="create_table"):
        await do.count(Nowhere, segments=3)
    with pytest.raises(LookupError, match="create_table"):
        await do.all(do.scan(Nowhere, segments=3))
