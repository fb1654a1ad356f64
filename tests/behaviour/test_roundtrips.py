"""Whatever can be stored comes back equal, keys included; and it sorts as the key's type says."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mintkey import Model
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    CompressedAttribute,
    DecimalAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
)
from mintkey.errors import InvalidValue

# The store outlives an example on purpose: what is written is the same key again and again.
quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
integers = st.integers(-(10**38) + 1, 10**38 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x == 0 or 1e-129 < abs(x) < 1e125)


@st.composite
def decimals(draw: st.DrawFn) -> Decimal:
    """Up to 38 digits anywhere in the range of exponents."""
    coefficient = draw(integers)
    return Decimal(coefficient).scaleb(draw(st.integers(-129, 87)))


numbers = st.one_of(integers, floats, decimals())
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, st.binary(max_size=40))
sets = st.one_of(
    st.sets(texts, min_size=1, max_size=4), st.sets(integers, min_size=1, max_size=4), st.sets(st.binary(), min_size=1)
)
values = st.recursive(
    st.one_of(scalars, sets),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=8,
)


def exact(number: Any) -> Any:
    """A number as the one that is stored: a float counts as its shortest text."""
    return Decimal(repr(number)) if isinstance(number, float) else number


def same(one: Any, other: Any) -> bool:
    """Equal, and equally boolean or not, all the way down."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(exact(one) == exact(other))


def saved_and_loaded(do, item: Any, **key: Any) -> Any:
    async def body() -> Any:
        await do.save(item)
        return await do.get(type(item), **key)

    return asyncio.run(body())


class Anything(Model):
    pk = StringAttribute(partition_key=True)
    things = ListAttribute()
    data = MapAttribute()
    json = JSONAttribute()
    number = NumberAttribute()
    decimal = DecimalAttribute()
    text = StringAttribute()
    raw = BinaryAttribute()
    words = StringSetAttribute()
    numbers = NumberSetAttribute()
    blobs = BinarySetAttribute()
    packed = CompressedAttribute(min_size=0)


@given(value=values)
@quick
def test_nested_values(do, value):
    loaded = saved_and_loaded(do, Anything(pk="a", things=[value], data={"v": value}), pk="a")
    assert same(loaded.things, [value])
    assert same(loaded.data, {"v": value})
    assert not loaded.is_dirty


@given(value=json_values)
@quick
def test_json_values(do, value):
    loaded = saved_and_loaded(do, Anything(pk="a", json=value), pk="a")
    assert loaded.json == value


@given(number=numbers, decimal=decimals(), members=st.sets(numbers, min_size=1, max_size=5))
@example(number=12345678901234567890123456789012345678, decimal=Decimal("1e-130"), members={1, Decimal("1.5")})
@quick
def test_numbers_to_38_digits(do, number, decimal, members):
    loaded = saved_and_loaded(do, Anything(pk="a", number=number, decimal=decimal, numbers=members), pk="a")
    assert same(number, loaded.number)
    assert not isinstance(loaded.number, bool)
    assert loaded.decimal == decimal
    assert set(map(exact, loaded.numbers)) == set(map(exact, members))
    if not isinstance(number, Decimal) and number == int(number):
        assert isinstance(loaded.number, int)


@given(text=texts, raw=st.binary(), words=st.sets(texts, min_size=1), blobs=st.sets(st.binary(), min_size=1))
@quick
def test_texts_and_bytes(do, text, raw, words, blobs):
    item = Anything(pk="a", text=text, raw=raw, words=words, blobs=blobs, packed=text * 50)
    loaded = saved_and_loaded(do, item, pk="a")
    assert (loaded.text, loaded.raw, loaded.words, loaded.blobs, loaded.packed) == (text, raw, words, blobs, text * 50)


# Keys.


class ByText(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)


class ByNumber(Model):
    pk = NumberAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)


class ByBytes(Model):
    pk = BinaryAttribute(partition_key=True)
    sk = BinaryAttribute(sort_key=True)


HOSTILE = ["\0", "a", "a\0", "a\0b", "A", "é", "e\u0301", "\U0010ffff", "\ud7ff", "\ue000", "%", "_", "*", "?", "[a]"]
HOSTILE += ["'", '"', ";", "--", " ", "  ", "\n", ":", "x:y", "x", "y:z", "%3A", "None", "null", "0", "{}", "\x7f", "~"]


async def test_hostile_keys_are_told_apart(do):
    pairs = list(itertools.product(HOSTILE, HOSTILE[::3]))
    await asyncio.gather(*(ByText(pk=pk, sk=sk).asave() for pk, sk in pairs))
    assert await do.count(ByText) == len(pairs)
    for pk in HOSTILE:
        found = await do.iterate(do.query(ByText, pk=pk))
        assert [item.sk for item in found] == sorted(HOSTILE[::3], key=str.encode)
        assert all(item.pk == pk for item in found)
    item = await do.get(ByText, pk="x:y", sk="None")
    assert item is None or item.pk == "x:y"
    await do.delete(ByText(pk="a\0b", sk="\0"))
    assert await do.get(ByText, pk="a\0b", sk="\0") is None
    assert await do.get(ByText, pk="a", sk="\0") is not None


@pytest.mark.parametrize(
    "model",
    [ByText, ByNumber, ByBytes],
)
def test_any_key_is_found_again_and_sorts_by_its_type(do, model):
    kinds: dict[Any, st.SearchStrategy[Any]] = {
        ByText: texts.filter(bool),
        ByNumber: numbers,
        ByBytes: st.binary(min_size=1, max_size=40),
    }

    def place(key: Any) -> Any:
        return key.encode() if isinstance(key, str) else exact(key)

    @given(partition=kinds[model], keys=st.lists(kinds[model], min_size=1, max_size=12))
    @settings(quick, max_examples=30)
    def check(partition: Any, keys: list[Any]) -> None:
        async def body() -> None:
            for item in await do.iterate(do.query(model, pk=partition)):
                await do.delete(item)
            for key in keys:
                await do.save(model(pk=partition, sk=key))
            expected = sorted({place(key) for key in keys})
            found = await do.iterate(do.query(model, pk=partition))
            assert [place(item.sk) for item in found] == expected
            backwards = await do.iterate(do.query(model, pk=partition, descending=True))
            assert [place(item.sk) for item in backwards] == expected[::-1]
            for key in keys:
                assert place((await do.get(model, pk=partition, sk=key)).sk) == place(key)
                low = [place(item.sk) for item in await do.iterate(do.query(model, model.sk <= key, pk=partition))]
                assert low == [other for other in expected if other <= place(key)]

        asyncio.run(body())

    check()


async def test_equal_numbers_are_one_key(do):
    for key in (1, 1.0, Decimal("1.00"), Decimal("10e-1")):
        await do.save(ByNumber(pk=key, sk=0))
        await do.save(ByNumber(pk=0, sk=key))
    assert await do.count(ByNumber) == 2
    assert (await do.get(ByNumber, pk=Decimal("1E0"), sk=-0.0)).pk == 1


@pytest.mark.parametrize(
    ("model", "pk", "sk"),
    [
        (ByText, "a", ""),
        (ByText, "", "a"),
        (ByText, "\ud800", "a"),
        (ByText, "a", "x\udfff"),
        (ByText, "x" * 2049, "a"),
        (ByText, "é" * 1025, "a"),
        (ByText, "a", "x" * 1025),
        (ByText, 5, "a"),
        (ByText, None, "a"),
        (ByText, "a", None),
        (ByBytes, b"", b"a"),
        (ByBytes, b"a", b""),
        (ByBytes, b"x" * 2049, b"a"),
        (ByBytes, b"a", b"x" * 1025),
        (ByBytes, "a", b"a"),
        (ByNumber, "1", 1),
        (ByNumber, 1, float("nan")),
        (ByNumber, 1, 10**38 + 1),
        (ByNumber, True, 1),
        (ByNumber, 1, 1e-131),
    ],
    ids=ascii,
)
async def test_keys_that_no_store_takes(do, model, pk, sk):
    for write in (do.save(model(pk=pk, sk=sk)), do.create(model, pk=pk, sk=sk), do.get(model, pk=pk, sk=sk)):
        with pytest.raises(InvalidValue, match=rf"{model.__name__}\.[ps]k"):
            await write
    with pytest.raises(InvalidValue):
        await do.update_by_key(model, {"pk": pk, "sk": sk})
    assert await do.count(model) == 0


async def test_keys_of_the_greatest_length(do):
    await do.save(ByText(pk="x" * 2048, sk="é" * 512))
    assert await do.get(ByText, pk="x" * 2048, sk="é" * 512) is not None
    await do.save(ByBytes(pk=b"\xff" * 2048, sk=b"\0" * 1024))
    assert (await do.get(ByBytes, pk=b"\xff" * 2048, sk=b"\0" * 1024)).sk == b"\0" * 1024
