"""Compressed texts: one limit for saving and reading, and pages that a few small rows cannot make huge."""

from __future__ import annotations

import base64
import gzip
import struct
import tracemalloc

import pytest

from mintkey import Model, ModelConfig
from mintkey.attributes import BinaryAttribute, CompressedAttribute, MapAttribute, NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, InvalidValue
from mintkey.hooks import after_load

pytestmark = pytest.mark.slow

MEBI = 1 << 20
#: What `max_size=` is by default, and what the texts of a page may have together.
LONGEST, TOGETHER = 16 * MEBI, 64 * MEBI


class Small(Model):
    model_config = ModelConfig(table="texts")
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    text = CompressedAttribute(max_size=1_000)
    other = StringAttribute()


class Large(Model):
    model_config = ModelConfig(table="texts")
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    text = CompressedAttribute(max_size=2_000)


class Inside(Model):
    model_config = ModelConfig(abstract=True)
    text = CompressedAttribute()


class Long(Model):
    model_config = ModelConfig(table="long")
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    text = CompressedAttribute()
    inside = MapAttribute(Inside)
    loaded = 0

    @after_load
    def note(self) -> None:
        type(self).loaded += 1


@pytest.mark.parametrize("algorithm", ["zstd", "lz4", "gzip"])
@pytest.mark.parametrize("letter", ["x", "é"])
async def test_the_limit_is_the_same_for_saving_and_reading(do, algorithm, letter):
    class Text(Model):
        model_config = ModelConfig(table="texts")
        pk = StringAttribute(partition_key=True)
        sk = NumberAttribute(sort_key=True)
        text = CompressedAttribute(algorithm, max_size=1_000, min_size=0, threshold=1.0)

    longest = letter * (1_000 // len(letter.encode()))
    await do.save(Text(pk="a", sk=1, text=longest))
    assert (await do.get(Text, pk="a", sk=1)).text == longest
    await do.create(Text, pk="b", sk=1)
    stored = await do.get(Text, pk="b", sk=1)
    for call in (
        lambda: do.save(Text(pk="a", sk=2, text=longest + "x")),
        lambda: do.update(stored, text=longest + "x"),
        lambda: do.update_by_key(Text, ("b", 1), text=longest + "x"),
        lambda: do.update_by_key(Text, ("b", 1), Text.text.set(longest + "x")),
        lambda: do.all(do.query(Text, Text.text == longest + "x", pk="a")),
    ):
        with pytest.raises(InvalidValue, match=r"Text\.text: the text has 1,00\d bytes, and max_size=1000") as caught:
            await call()
        assert (caught.value.model, caught.value.attribute) == ("Text", "text")
    with pytest.raises(BatchIncomplete) as incomplete:
        await do.batch_save(Text, [Text(pk="a", sk=2, text=longest + "x"), Text(pk="a", sk=3)])
    assert isinstance(incomplete.value.failed[0][1], InvalidValue)
    assert await do.count(Text, pk="a") == 2


async def test_a_row_beyond_the_limit_is_named_with_the_way_out(do):
    await do.save(Large(pk="a", sk=1, text="x" * 1_500))
    await do.save(Small(pk="a", sk=2, text="fine"))
    for call in (
        lambda: do.get(Small, pk="a", sk=1),
        lambda: do.all(do.query(Small, pk="a")),
        lambda: do.page(Small.query(pk="a"), 2),
        lambda: do.all(do.scan(Small)),
        lambda: do.first(Small.query(pk="a")),
        lambda: do.update(Small(pk="a", sk=1), other="x"),
    ):
        with pytest.raises(InvalidValue, match=r'Small \("a", 1\): Small\.text: .*max_size=1000') as caught:
            await call()
        error = caught.value
        assert (error.model, error.attribute, error.key) == ("Small", "text", {"pk": "a", "sk": 1})
        assert len(str(error)) < 1_000
    assert (await do.get(Small, pk="a", sk=2)).text == "fine"
    assert (await do.get(Large, pk="a", sk=1)).text == "x" * 1_500
    assert (await do.first(Small.query(pk="a", attributes=["other"]))).sk == 1


BOMBS = {
    "lz4 that promises 4 GiB": b"\2" + struct.pack("<I", 0xFFFF_FFFF) + b"\0" * 20,
    "lz4 that lies": b"\2" + struct.pack("<I", 10) + b"\0" * 20,
    "gzip": b"\3" + gzip.compress(b"x" * 2_000),
    "nothing of that": b"\3" + b"x" * 20,
    "an unknown form": b"\xff" + b"x" * 20,
    "plain": b"\0" + b"x" * 2_000,
    "no byte at all": b"",
    "zstd cut short": b"\1\x28\xb5\x2f\xfd",
}


@pytest.mark.parametrize("stored", BOMBS.values(), ids=BOMBS)
async def test_forged_bytes_are_refused(do, raw, stored):
    await do.save(raw(Large, text=BinaryAttribute())(pk="a", sk=1, text=stored))
    with pytest.raises(InvalidValue, match=r'Small \("a", 1\): Small\.text'):
        await do.get(Small, pk="a", sk=1)


async def test_the_limit_holds_for_what_pydynox_stored(do, raw):
    await do.save(
        raw(Large, text=StringAttribute())(
            pk="a", sk=1, text="GZIP:" + base64.b64encode(gzip.compress(b"x" * 1_000)).decode()
        )
    )
    assert (await do.get(Small, pk="a", sk=1)).text == "x" * 1_000
    await do.save(
        raw(Large, text=StringAttribute())(
            pk="a", sk=1, text="GZIP:" + base64.b64encode(gzip.compress(b"x" * 1_001)).decode()
        )
    )
    with pytest.raises(InvalidValue, match="max_size=1000"):
        await do.get(Small, pk="a", sk=1)


async def test_a_page_of_small_rows_does_not_fill_the_memory(do):
    """Twelve rows of some KB that hold 16 MiB each: 192 MiB together."""
    text = "x" * LONGEST
    items = [Long(pk="a", sk=n, text=text) for n in range(6)]
    items += [Long(pk="a", sk=n, inside=Inside(text=text)) for n in range(6, 12)]
    await do.batch_save(Long, items)
    del items
    seen: list[float] = []
    cursor = None
    pages = 0
    while pages == 0 or cursor is not None:
        Long.loaded = 0
        page = await do.page(Long.query(pk="a"), 20, cursor)
        held = sum(len(item.text or item.inside.text) for item in page)
        assert 0 < held <= TOGETHER + LONGEST
        assert Long.loaded == len(page)
        seen += [item.sk for item in page]
        cursor, pages = page.cursor, pages + 1
        del page
    assert seen == list(range(12))
    assert pages == 3
    limited = await do.page(Long.query(pk="a", limit=7), 20)
    rest = await do.page(Long.query(pk="a", limit=7), 20, limited.cursor)
    assert (len(limited), len(rest), rest.cursor) == (5, 2, None)
    del limited, rest


async def test_iterating_holds_a_few_texts_at_a_time(do):
    text = "x" * LONGEST
    await do.batch_save(Long, [Long(pk="a", sk=n, text=text) for n in range(12)])
    tracemalloc.start()
    try:
        for result in (do.query(Long, pk="a"), do.scan(Long), do.scan(Long, segments=2)):
            count = 0
            if do.blocking:
                for item in result:
                    count += len(item.text) == LONGEST
            else:
                async for item in result:
                    count += len(item.text) == LONGEST
            assert count == 12
        keys = [("a", n) for n in range(12)]
        if do.blocking:
            assert sum(found is not None for found in Long.batch_get(keys)) == 12
        else:
            assert [found is not None async for found in Long.abatch_get([*keys, ("a", 99)])] == [True] * 12 + [False]
        assert tracemalloc.get_traced_memory()[1] < 2.5 * TOGETHER
    finally:
        tracemalloc.stop()
