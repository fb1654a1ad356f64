"""What an error says: class, item and attribute, in words and as attributes of the exception."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from tests.behaviour.conftest import STORES

import mintkey
from mintkey import Attr, Model, connect, pipeline
from mintkey.attributes import BinaryAttribute, MapAttribute, NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import (
    BatchIncomplete,
    ConditionFailed,
    InvalidValue,
    ItemGone,
    ItemTooLarge,
    KeyCollision,
    MintkeyError,
    TransactionCancelled,
    UniqueViolation,
    VersionConflict,
)


class Ledger(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    n: Attr[Decimal] = NumberAttribute()
    text = StringAttribute()
    data = MapAttribute()


KEY: dict[str, object] = {"pk": "a", "sk": "1"}


def check(error: BaseException, attribute: str | None = None, key: dict[str, object] | None = KEY) -> None:
    assert isinstance(error, MintkeyError)
    assert error.model == "Ledger"
    assert error.key == key
    assert ('Ledger ("a", "1")' if key else "Ledger") in str(error)
    if attribute:
        assert attribute in str(error)


async def test_an_item_that_is_too_large(do):
    large = Ledger(**KEY, text="x" * 500_000)
    with pytest.raises(ItemTooLarge, match="text \\(500004 bytes\\)") as caught:
        await do.save(large)
    check(caught.value)
    assert caught.value.attribute == "text"
    with pytest.raises(BatchIncomplete) as incomplete:
        await do.batch_save(Ledger, [Ledger(pk="b", sk="1"), large])
    check(incomplete.value.failed[0][1], "text")
    await do.create(Ledger, **KEY, text="x" * 300_000)
    with pytest.raises(ItemTooLarge) as caught:
        await do.update_by_key(Ledger, KEY, Ledger.data.set({"long": "x" * 300_000}))
    check(caught.value)


async def test_a_change_that_fits_nothing(do):
    await do.create(Ledger, **KEY, n=Decimal("9E+125"), text="x", data={"a": 1})
    for change, attribute in [
        (Ledger.data["zz"]["y"].set(1), "data"),
        (Ledger.n.add(Decimal("9E+125")), "n"),
    ]:
        with pytest.raises(InvalidValue) as caught:
            await do.update_by_key(Ledger, KEY, change)
        check(caught.value, attribute)
        assert caught.value.attribute == attribute


async def test_in_a_pipeline_each_write_is_named(do):
    one, two = Ledger(pk="b", sk="1"), Ledger(**KEY, text="x" * 500_000)
    writes = pipeline()
    await do.save(one, pipeline=writes)
    await do.save(two, pipeline=writes)
    with pytest.raises(BatchIncomplete) as caught:
        await do.execute(writes)
    check(caught.value.failed[0][1], "text")


async def test_bounds_in_the_wrong_order(do):
    for attribute in ("sk", "text"):
        with pytest.raises(InvalidValue, match="the lower bound is above the upper one") as caught:
            await do.all(do.query(Ledger, getattr(Ledger, attribute).between("9", "1"), pk="a"))
        check(caught.value, attribute, None)
        assert caught.value.attribute == attribute


@pytest.mark.parametrize("kind", STORES)
def test_stores_side_by_side_can_be_told_apart(kind, tmp_path):
    with connect(STORES[kind](tmp_path / "a"), name="one") as one:
        with connect(STORES[kind](tmp_path / "b"), name="other") as other:
            assert one.url != other.url
            assert repr(one) != repr(other)
        assert "timeout" not in one.url, "only what says which store it is"


class Blob(Model):
    data = BinaryAttribute(partition_key=True)
    n = NumberAttribute(sort_key=True)


class Word(Model):
    text = StringAttribute(partition_key=True)
    n = NumberAttribute()


@pytest.mark.parametrize(
    "item",
    [
        {"text": "é \"quoted\" \\ 'and'\n"},
        {"text": "x" * 60},
        {"text": "x" * 61},
        {"data": b"\0\"a'\xff\\", "n": Decimal("1.50")},
        {"data": b"x" * 61, "n": 10**20},
        {"data": b"x", "n": -5},
    ],
)
async def test_every_message_shows_a_key_in_the_same_form(do, item):
    model = Word if "text" in item else Blob
    with pytest.raises(ItemGone) as refreshed:
        await do.refresh(model(**item))
    await do.create(model, **item)
    with pytest.raises(KeyCollision) as collided:
        await do.create(model, **item)
    shown = str(collided.value).partition(": an item with this key exists already")[0]
    assert str(refreshed.value).startswith(f"{shown}: the item is not in table")
    assert refreshed.value.key == collided.value.key


class Aliased(Model):
    pk = StringAttribute(partition_key=True, alias="P")
    sk = NumberAttribute(sort_key=True, alias="S")
    email = StringAttribute(unique=True, alias="E")
    n = NumberAttribute(alias="N")
    version = VersionAttribute(alias="V")


async def test_errors_of_conditions_name_keys_and_attributes_as_the_model_does(do):
    key = {"pk": "p", "sk": 1}
    first = Aliased(**key, email="x", n=1)
    await do.save(first)
    other = await do.get(Aliased, **key)
    await do.update(first, n=2)
    other.n = 5
    refused = [
        (KeyCollision, None, lambda: do.create(Aliased, **key)),
        (VersionConflict, "version", lambda: do.save(other)),
        (ConditionFailed, None, lambda: do.update_by_key(Aliased, key, n=1, condition=Aliased.n == 1)),
    ]
    for kind, attribute, write in refused:
        with pytest.raises(kind) as caught:
            await write()
        assert (caught.value.attribute, caught.value.key) == (attribute, key)
        assert await do.get(Aliased, **(caught.value.key or {})) == first
    with pytest.raises(UniqueViolation) as taken:
        await do.create(Aliased, pk="p", sk=2, email="x")
    assert (taken.value.attribute, taken.value.key, taken.value.holder) == ("email", {"pk": "p", "sk": 2}, key)
    assert (await do.get_or_create(Aliased, **key))[1] is False


class Swapped(Model):
    """Its attributes are stored under the names of each other."""

    pk = StringAttribute(partition_key=True, alias="sk")
    sk = NumberAttribute(sort_key=True, alias="pk")
    email = StringAttribute(unique=True, alias="n")
    n = NumberAttribute(alias="email")
    data = MapAttribute(alias="text")
    text = StringAttribute(alias="data")


async def test_all_errors_of_writes_name_keys_and_attributes_as_the_model_does(do):
    key = {"pk": "p", "sk": 1}
    row = Swapped(**key, email="x", n=1, data={"a": "text"})
    await do.save(row)
    big: Any = {"a": "x" * 420_000}

    async def batch(item: Swapped) -> None:
        with pytest.raises(BatchIncomplete) as failed:
            await do.batch_save(Swapped, [item])
        raise failed.value.failed[0][1]

    async def pipelined() -> None:
        async with pipeline() as together:
            await do.save(Swapped(pk="p", sk=1, data=big), pipeline=together)

    async def loaded(**values: Any) -> None:
        found = await do.get(Swapped, **key)
        for name, value in values.items():
            setattr(found, name, value)
        await do.save(found)

    async def transacted(write: Callable[[Any], None]) -> None:
        with pytest.raises(TransactionCancelled) as cancelled:
            async with mintkey.transaction() as tx:
                write(tx)
        assert cancelled.value.key == key
        raise next(reason for reason in cancelled.value.reasons if reason)

    too_large = [
        lambda: do.save(Swapped(**key, data=big)),
        lambda: do.create(Swapped, **key, data=big),
        lambda: batch(Swapped(**key, data=big)),
        lambda: loaded(data=big),
        lambda: do.update(row, data=big),
        lambda: do.update_by_key(Swapped, key, data=big),
        lambda: transacted(lambda tx: tx.update_by_key(Swapped, key, data=big)),
    ]
    for write in too_large:
        with pytest.raises(ItemTooLarge, match=r"largest .* data \(420") as large:
            await write()
        assert (large.value.attribute, large.value.key) == ("data", key)
    with pytest.raises(BatchIncomplete) as incomplete:
        await pipelined()
    why: Any = incomplete.value.failed[0][1]
    assert (type(why), why.attribute, why.key) == (ItemTooLarge, "data", key)
    wrong = [
        ("data", lambda: do.update_by_key(Swapped, key, Swapped.data["a"].add(1))),
        ("data", lambda: do.update(row, Swapped.data["a"]["b"].set(1))),
        ("email", lambda: do.save(Swapped(pk="p", sk=2, email="x" * 2000))),
        ("email", lambda: do.update_by_key(Swapped, key, email="x" * 2000)),
        ("email", lambda: batch(Swapped(pk="p", sk=2, email="x"))),
        ("email", lambda: transacted(lambda tx: tx.save(Swapped(pk="p", sk=1, email="x" * 2000)))),
        (None, lambda: do.update_by_key(Swapped, key, Swapped.data.set({}), Swapped.data["b"].set(1))),
    ]
    for attribute, write in wrong:
        with pytest.raises(MintkeyError) as refused:
            await write()
        assert refused.value.attribute == attribute
        assert refused.value.key == {"pk": "p", "sk": refused.value.key and refused.value.key["sk"]}
        # The text names the attribute, and no other one.
        assert (attribute or "data.b") in str(refused.value)
        assert not re.search(r"\b(text|n)( =|\.| holds)", str(refused.value)), str(refused.value)
    gone = Swapped(pk="p", sk=3, email="y")
    await do.save(gone)
    await do.delete_by_key(Swapped, ("p", 3))
    gone.n = 5
    with pytest.raises(ItemGone) as absent:
        await do.save(gone)
    assert absent.value.key == {"pk": "p", "sk": 3}
    assert await do.get(Swapped, **key) == row
