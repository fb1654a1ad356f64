"""Cursors that a client made up: they give nothing that the query does not give, or `InvalidCursor`."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest

from mintkey import Index, Model
from mintkey.attributes import BinaryAttribute, NumberAttribute, StringAttribute
from mintkey.errors import InvalidCursor, InvalidValue


class Entry(Model):
    owner = StringAttribute(partition_key=True)
    at = NumberAttribute(sort_key=True)
    kind = StringAttribute()
    by_kind = Index(partition_key="kind", sort_key="at")


class Blob(Model):
    owner = BinaryAttribute(partition_key=True)


class Note(Model):
    owner = StringAttribute(partition_key=True)


@pytest.fixture
async def entries(do):
    for owner in ("ada", "bob"):
        for at in range(8):
            await do.save(Entry(owner=owner, at=at, kind="even" if at % 2 == 0 else "odd"))
    for letter in "xyz":
        await do.save(Note(owner=letter))
        await do.save(Blob(owner=letter.encode()))


def position(cursor: str) -> bytes:
    """The position of the store in a cursor, behind the fingerprint and the number of items that are left."""
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[16:]


async def read_on(do, result, left, after) -> Any:
    return await do.page(result, 100, result._cursors().encode(left, after))


async def test_what_is_left_cannot_exceed_the_limit(do, entries):
    limited, whole = do.query(Entry, owner="ada", limit=3), do.query(Entry, owner="ada")
    after = position((await do.page(whole, 1)).cursor)
    assert [entry.at for entry in await read_on(do, limited, 2, after)] == [1, 2]
    for result, left in ((limited, 4), (limited, 1 << 40), (limited, 0), (limited, None), (whole, 3), (whole, 0)):
        with pytest.raises(InvalidCursor, match=r"Entry: .*start again without cursor=") as caught:
            await read_on(do, result, left, after)
        assert isinstance(caught.value, InvalidValue)
        assert caught.value.model == "Entry"


async def test_the_limit_of_this_call_counts(do, entries):
    cursor = (await do.page(do.query(Entry, owner="ada", limit=6), 2)).cursor
    for other in (do.query(Entry, owner="ada", limit=3), do.query(Entry, owner="ada")):
        with pytest.raises(InvalidCursor):
            await do.page(other, 2, cursor)


async def test_a_position_elsewhere_is_refused(do, entries):
    """A position in another partition, table or index, written into a cursor of this query."""
    ada, bob = do.query(Entry, owner="ada"), do.query(Entry, owner="bob")
    even, odd = Entry.by_kind.query(kind="even"), Entry.by_kind.query(kind="odd")
    entries, notes, blobs = do.scan(Entry), do.scan(Note), do.scan(Blob)
    places = {result: position((await do.page(result, 1)).cursor) for result in (ada, bob, even, odd, notes, blobs)}
    refused = {
        ada: (bob, even, odd, notes, blobs),
        even: (ada, bob, odd, notes, blobs),
        entries: (even, odd, notes, blobs),
        notes: (ada, even, blobs),
        blobs: (ada, even, notes),
    }
    for result, others in refused.items():
        for other in others:
            with pytest.raises(InvalidCursor, match=r"start again without cursor=") as caught:
                await read_on(do, result, None, places[other])
            assert caught.value.model == result._schema.model


async def test_an_index_position_agrees_with_its_key(do, entries):
    """The sort value of the index is a part of the key as well: a position holds it twice."""
    even = Entry.by_kind.query(kind="even")
    after = position((await do.page(even, 1)).cursor)
    number = after.rindex(b"N")
    changed = bytearray(after)
    other = position((await do.page(Entry.by_kind.query(kind="odd"), 1)).cursor)
    changed[number:] = other[other.rindex(b"N") :]
    with pytest.raises(InvalidCursor):
        await read_on(do, even, None, bytes(changed))


async def test_a_made_up_position_gives_rows_of_the_query_or_nothing(do, entries):
    ada = do.query(Entry, Entry.at.between(2, 4), owner="ada")
    whole = do.query(Entry, owner="ada")
    outside = [position((await do.page(whole, size)).cursor) for size in (1, 6)]
    dice = random.Random(7)
    base = position((await do.page(ada, 1)).cursor)
    damaged = [base[:length] for length in range(len(base))]
    for _ in range(40):
        changed = bytearray(base)
        for _ in range(dice.randrange(1, 4)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        damaged.append(bytes(changed))
    for after in [*outside, *damaged, b"\x01", b"\x01\x02", b"\xff" * 20]:
        try:
            page = await read_on(do, ada, None, after)
        except InvalidCursor:
            continue
        assert {(entry.owner, entry.at) for entry in page} <= {("ada", 2), ("ada", 3), ("ada", 4)}
