"""Python's own `sqlite3` in the same process: a second copy of SQLite, which knows nothing of the first."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading

import pytest

from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute

COUNT = 'SELECT count(*) FROM "^row"'


class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()


def peek(path) -> int:
    """Count the rows as another program would: open, read, close."""
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        (found,) = connection.execute(COUNT).fetchone()
    return int(found)


def test_rows_saved_after_another_copy_has_read_are_in_the_file(url, path, program):
    with connect(url):
        for number in range(1, 20):
            Row(n=number).save()
            assert peek(path) == number
            assert Row.count() == number
        output = program("print(Row.count())")
        assert int(output) == 19
    assert peek(path) == 19


async def test_awaited_rows_are_in_the_file_too(url, path):
    async with connect(url):
        for round_ in range(1, 6):
            await asyncio.gather(*(Row(n=n).asave() for n in range(20)))
            assert await asyncio.to_thread(peek, path) == 20 * round_
    assert peek(path) == 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="locks that count inside a process")
def test_looking_while_threads_save_loses_nothing(url, path):
    with connect(url):
        Row(n=0).save()

        def save() -> None:
            for number in range(50):
                Row(n=number).save()

        threads = [threading.Thread(target=save) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            with contextlib.suppress(sqlite3.OperationalError):
                peek(path)
        for thread in threads:
            thread.join()
        assert Row.count() == 151
    assert peek(path) == 151


def test_a_log_that_was_removed_is_noticed_by_readers_and_writers(url, path, program):
    """As on systems without such locks, or when a person removes the files."""
    with connect(url):
        Row(pk="a", n=1).save()
        assert Row.get(pk="a") is not None
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint").fetchall()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        program("Row(pk='b', n=2).save()")
        # A reader may see the former rows, but not for long.
        while Row.get(pk="b") is None:
            pass
        Row(pk="c", n=3).save()
        assert Row.count() == 3
        assert program("print(Row.count())") == "3\n"
    assert peek(path) == 3
