"""Indexes and unique values that are added to a table while other programs write to it."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.behaviour.conftest import PATIENCE

from mintkey import Model, ModelConfig, Store, connect, use_store
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ItemGone, StoreUnavailable, UniqueViolation
from mintkey.stores import store_of

ROWS = 400
#: On SQLite a step of a build has up to 1,000 rows.
MANY_ROWS = 2_500
STATUSES = ["open", "paid", "sent"]


class Old(Model):
    model_config = ModelConfig(table="live")

    pk = StringAttribute(partition_key=True)
    status = StringAttribute()
    email = StringAttribute()
    n = NumberAttribute()


class New(Old):
    model_config = ModelConfig(table="live")

    status = StringAttribute(index=True)


class Unique(Old):
    model_config = ModelConfig(table="live")

    email = StringAttribute(unique=True)


class Both(New):
    model_config = ModelConfig(table="live")

    email = StringAttribute(unique=True)


def writer_of_unique(store: Store) -> type[Old]:
    """The class of programs that may write while unique values are built. On DynamoDB it has to declare them."""
    return Old if store.creates_tables else Unique


@pytest.fixture
def url(url) -> str:
    """The address of an empty store. Writers of an SQLite file wait for each other on a busy machine."""
    return f"{url}?{PATIENCE}" if url.startswith("sqlite:") else url


def row_count(store: Store) -> int:
    """A number of rows that a build takes several steps for."""
    return MANY_ROWS if store.url.startswith("sqlite:") else ROWS


def old_rows(store: Store) -> list[Old]:
    numbers = range(row_count(store))
    return [Old(pk=f"{n}", status=STATUSES[n % 3] if n % 5 else None, email=f"{n}@old") for n in numbers]


#: DynamoDB Local fails some writes while it adds an index.
REFUSED: dict[bool, tuple[type[Exception], ...]] = {True: (ItemGone,), False: (ItemGone, StoreUnavailable)}


def write(writer: int, model: type[Old], stop: threading.Event, written: threading.Semaphore) -> None:
    """Insert, change and delete rows until the end."""
    refused = REFUSED[store_of(model.__mintkey_schema__).creates_tables]
    choices = random.Random(writer)
    number = 0
    while not stop.is_set():
        number += 1
        pk = str(choices.randrange(ROWS))
        with contextlib.suppress(*refused):
            match number % 4:
                case 0:
                    model(pk=f"{writer}-{number}", status=choices.choice(STATUSES), email=f"{number}@{writer}").save()
                case 1:
                    model.update_by_key(pk, status=choices.choice(STATUSES), email=f"{number}@{writer}")
                case 2:
                    model.update_by_key(pk, status=None, n=number)
                case _:
                    model.delete_by_key(pk)
        written.release()


@contextlib.contextmanager
def writers(url: str, model: type[Old]) -> Iterator[None]:
    """Programs that write while the block runs, and for some writes before and after it."""
    stop, written = threading.Event(), threading.Semaphore(0)
    raised: list[BaseException] = []

    def run(writer: int) -> None:
        try:
            with use_store(other):
                write(writer, model, stop, written)
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)
            written.release(1000)

    other = connect(url, name="writers")
    threads = [threading.Thread(target=run, args=(writer,)) for writer in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            written.acquire()
        yield
        for _ in range(10):
            written.acquire()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        other.close()
    for error in raised:
        raise error


def check_index() -> None:
    """A query by the index gives what a filtered scan gives."""
    for status in STATUSES:
        scanned = {row.pk: row.n for row in New.scan(New.status == status, consistent=True)}
        assert {row.pk: row.n for row in New.query(status=status)} == scanned
        assert New.query(status=status).count() == len(scanned)


@pytest.mark.parametrize("model", [Old, New])
def test_an_index_is_built_while_others_write(store, url, model):
    if model is New and not store.creates_tables:
        pytest.skip("to DynamoDB, which builds the index itself, the two are the same")
    Old.batch_save(old_rows(store))
    with writers(url, model):
        New.create_table()
    check_index()
    if not store.creates_tables:
        return  # DynamoDB Local fails some writes for a while
    # Nothing is left of deleted rows.
    New.batch_delete(list(New.scan()))
    assert [New.query(status=status).count() for status in STATUSES] == [0, 0, 0]


def test_no_query_sees_a_part_of_an_index(store, url):
    if not store.creates_tables:
        pytest.skip("DynamoDB itself builds the index, and refuses queries meanwhile. DynamoDB Local finds no rows")
    rows = row_count(store)
    Old.batch_save([Old(pk=f"{n}", status="open") for n in range(rows)])
    seen: Counter[int] = Counter()
    built = threading.Event()

    def read() -> None:
        with connect(url, name="reader") as other, use_store(other):
            while not built.is_set():
                seen[New.query(status="open").count()] += 1
                seen[len(New.query(status="open").all())] += 1

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            New.create_table()
        finally:
            built.set()
        for reader in readers:
            reader.result()
    assert New.query(status="open").count() == rows
    assert set(seen) <= {rows}


def test_unique_values_are_built_while_others_write(store, url):
    Old.batch_save(old_rows(store))
    with writers(url, writer_of_unique(store)):
        Unique.create_table()
    rows = list(Unique.scan(consistent=True))
    assert max(Counter(row.email for row in rows).values()) == 1
    for row in rows[:50]:
        assert Unique.get_by(email=row.email) == row
        with pytest.raises(UniqueViolation):
            Unique(pk="another", email=row.email).save()


BUILDING = """
import sys
from mintkey import connect
from tests.behaviour import test_indexes_meanwhile as models

connect(sys.argv[1])
print("ready", flush=True)
getattr(models, sys.argv[2]).create_table()
"""


@pytest.mark.parametrize(
    "writes", [pytest.param(0, marks=pytest.mark.slow), 3, pytest.param(30, marks=pytest.mark.slow)]
)
def test_another_program_goes_on_where_a_killed_one_was(store, url, writes):
    Old.batch_save(old_rows(store))
    # DynamoDB builds its indexes itself.
    model = Both if store.creates_tables else Unique
    command = [sys.executable, "-c", BUILDING, url, model.__name__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        # Killed after some writes of this program, whatever it has built by then.
        with connect(url, name="writer") as other, use_store(other):
            for number in range(writes):
                writer_of_unique(store).update_by_key(str(number), status="sent", email=f"{number}@new")
        child.kill()
    model.create_table()
    if model is Both:
        check_index()
    for number in (0, 40, 100, row_count(store) - 1):
        row = model.get(str(number), consistent=True)
        assert row is not None
        assert model.get_by(email=row.email) == row
