"""Files that a person or another program removes or renames under an open store: rows are saved, and it is logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from mintkey import Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import StoreUnavailable


class Row(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


@pytest.fixture
def errors(caplog) -> Callable[[], list[str]]:
    """What was logged, each at ERROR and by the store's logger."""

    def logged() -> list[str]:
        for record in caplog.records:
            assert (record.name, record.levelno) == ("mintkey.sqlite", logging.ERROR)
        return [record.getMessage() for record in caplog.records]

    return logged


def remove(path: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink()


REMOVED = [("-wal", "-shm"), ("-wal",), ("-shm",)]


@pytest.mark.parametrize("suffixes", REMOVED)
def test_rows_of_a_removed_log_are_saved(url, path, errors, suffixes):
    with connect(url):
        for number in range(5):
            Row(pk=str(number), n=number).save()
        remove(path, *suffixes)
        while not errors():
            assert Row.count() == 5
        Row(pk="5").save()
        assert Row.count() == 6
    (message,) = errors()
    assert str(path) in message
    assert "no row is lost" in message
    with connect(url):
        assert Row.count() == 6


@pytest.mark.parametrize("suffixes", REMOVED)
async def test_rows_of_a_removed_log_are_saved_awaited(url, path, errors, suffixes):
    async with connect(url):
        await asyncio.gather(*(Row(pk=str(number), n=number).asave() for number in range(5)))
        remove(path, *suffixes)
        await asyncio.gather(*(Row(pk=str(number), n=number).asave() for number in range(5, 20)))
        while not errors():
            assert await Row.acount() == 20
        assert await Row.acount() == 20
    assert len(errors()) == 1
    async with connect(url):
        assert await Row.acount() == 20


@pytest.mark.parametrize("suffixes", REMOVED)
def test_rows_of_a_removed_log_are_saved_by_closing(url, path, errors, suffixes):
    with connect(url):
        for number in range(5):
            Row(pk=str(number), n=number).save()
        remove(path, *suffixes)
    assert "no row is lost" in errors()[0]
    with connect(url):
        assert Row.count() == 5


def test_rows_of_a_renamed_file_are_in_it(url, path, errors):
    renamed = path.with_name("renamed.db")
    with connect(url):
        for number in range(5):
            Row(pk=str(number), n=number).save()
        path.rename(renamed)
        while not errors():
            Row.count()
        Row(pk="new").save()
        assert Row.count() == 1
    assert "renamed" in errors()[0]
    # Nothing is left of the old log, which SQLite would take for that of the next file of this name.
    assert sorted(file.name for file in path.parent.iterdir()) == ["renamed.db", "test.db"]
    with connect(f"sqlite:///{renamed}"):
        assert Row.count() == 5


def test_a_removed_file_is_reported(url, path, errors):
    with connect(url):
        Row(pk="a").save()
        path.unlink()
        while not errors():
            Row.count()
        Row(pk="b").save()
        assert [row.pk for row in Row.scan()] == ["b"]
    assert "its rows are lost" in errors()[0]
    assert len(errors()) == 1


def test_rows_that_others_have_written_since_are_not_overwritten(url, path, program, errors):
    with connect(url):
        Row(pk="a").save()
        remove(path, "-wal", "-shm")
        program("Row(pk='b').save()")
        while not errors():
            Row.count()
        assert [row.pk for row in Row.scan()] == ["b"]
    assert "may be lost" in errors()[0]


def test_an_error_is_seen_where_logging_is_not_configured(start):
    process = start("""
from pathlib import Path
with connect(sys.argv[1]):
    Row(pk="a").save()
    Path(sys.argv[1].removeprefix("sqlite:///") + "-wal").unlink()
""")
    output, stderr = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
    assert "no row is lost" in stderr


def test_a_trigger_of_somebody_else_cannot_call_what_has_side_effects(url, program):
    with connect(url):
        Row(pk="a").save()
        program("""
raw = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"))
raw.execute("CREATE TABLE spy (x)")
body = "INSERT INTO spy SELECT compile_options FROM pragma_compile_options"
raw.execute(f'CREATE TRIGGER watch AFTER INSERT ON "^row" BEGIN {body}; END')
raw.commit()
raw.close()
""")
        with pytest.raises(StoreUnavailable, match="unsafe use"):
            Row(pk="b").save()
        assert Row.count() == 1
