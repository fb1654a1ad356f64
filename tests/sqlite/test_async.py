"""Awaited calls share commits."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

from mintkey import AutoGenerate, Model
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute


class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    version = VersionAttribute()


def commits(path: Path) -> int:
    """How many transactions the write-ahead log holds: a frame that ends one tells the database's size (SQLite's
    file format, section 4.1 of https://sqlite.org/fileformat2.html).
    """
    log = path.with_name(path.name + "-wal").read_bytes()
    page, salt = struct.unpack(">I", log[8:12])[0], log[16:24]
    found = 0
    for at in range(32, len(log) - 23, 24 + page):
        if log[at + 8 : at + 16] != salt:
            break
        found += struct.unpack(">I", log[at + 4 : at + 8])[0] > 0
    return found


async def test_sixty_four_saves_make_at_most_four_commits(store, path):
    await Row(pk="first").asave()
    rounds = []
    for _ in range(5):
        before = commits(path)
        await asyncio.gather(*(Row(n=n).asave() for n in range(64)))
        rounds.append(commits(path) - before)
    # The event loop hands them over sixteen at a time, and those share a commit.
    assert all(1 <= made <= 4 for made in rounds), rounds
    before = commits(path)
    for n in range(8):
        await Row(n=n).asave()
    assert commits(path) - before == 8, "the count itself works"
    assert await Row.acount() == 329
