"""What stands in the file, and files that cannot be used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    DatetimeAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
)
from mintkey.errors import ConfigurationError, ItemTooLarge, MintkeyError, StoreUnavailable
from mintkey.testing import frozen

ASK = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
values = [bytes.fromhex(value["hex"]) if isinstance(value, dict) else value for value in json.loads(sys.argv[3])]
print(repr(connection.execute(sys.argv[2], values).fetchall()))
connection.close()
"""


def ask(path: Any, sql: str, *values: Any) -> list[Any]:
    """What another program reads or writes in the file.

    It has to be another one: two copies of SQLite in one process take each other's locks away.
    """
    given = json.dumps([{"hex": value.hex()} if isinstance(value, bytes) else value for value in values])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ASK, str(path), sql, given], check=True, capture_output=True, text=True
    )
    answer: list[Any] = ast.literal_eval(done.stdout)
    return answer


class Row(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


class Full(Model):
    model_config = ModelConfig(table="full")
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    text = StringAttribute()
    number = NumberAttribute()
    raw = BinaryAttribute()
    things = ListAttribute()
    data = MapAttribute()
    words = StringSetAttribute()
    numbers = NumberSetAttribute()
    blobs = BinarySetAttribute()
    at = DatetimeAttribute()
    until = TTLAttribute()


def test_an_item_is_json_that_people_can_read(store, path):
    Full(
        pk="a",
        sk=1,
        text="é\0",
        number=Decimal("0.10"),
        raw=b"\x00\xff",
        things=[None, True, 1, 1.5],
        data={"$a": {"b": "x"}, "c": b"y"},
        words={"w"},
        numbers={2},
        blobs={b"z"},
        at=datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        until=datetime(2999, 1, 1, tzinfo=timezone.utc),
    ).save()
    ((pk, kind, text),) = ask(path, 'SELECT pk, typeof(sk), item FROM "full"')
    assert (pk, kind) == ("a", "blob")
    assert json.loads(text) == {
        "pk": "a",
        "sk": 1,
        "text": "é\0",
        "number": 0.1,
        "raw": {"$B": "AP8="},
        "things": [None, True, 1, 1.5],
        "data": {"$$a": {"b": "x"}, "c": {"$B": "eQ=="}},
        "words": {"$SS": ["w"]},
        "numbers": {"$NS": [2]},
        "blobs": {"$BS": ["eg=="]},
        "at": "2024-01-02T03:04:05.000000+00:00",
        "until": 32472144000,
    }


def test_numbers_keep_their_digits_in_the_file(store, path):
    Row(pk="a", n=12345678901234567890123456789012345678).save()
    ((text,),) = ask(path, 'SELECT item FROM "^row"')
    assert "12345678901234567890123456789012345678" in text


def test_what_a_file_holds_today_stays_readable(url, path):
    """Rows as they are written now, put in by hand: later code has to read them."""
    with connect(url):
        Full(pk="made", sk=0).save()
    ((key,),) = ask(path, 'SELECT sk FROM "full"')
    item = '{"sk":0,"pk":"by hand","number":1.50,"words":{"$SS":["b","a"]},"data":{"$$x":{"$B":"AA=="}},"new":[1]}'
    ask(path, 'INSERT INTO "full" (pk, sk, item) VALUES (?, ?, ?)', "by hand", key, item)
    with connect(url):
        loaded = Full.get(pk="by hand", sk=0)
        assert loaded is not None
        assert loaded.to_dict() == {
            "pk": "by hand",
            "sk": 0,
            "number": 1.5,
            "words": {"a", "b"},
            "data": {"$x": b"\0"},
        }
        loaded.text = "x"
        loaded.save()
    ((text,),) = ask(path, "SELECT item FROM \"full\" WHERE pk = 'by hand'")
    assert json.loads(text)["new"] == [1], "what this class does not know is kept"


def test_the_log_is_a_write_ahead_one_and_gone_after_close(url, path):
    with connect(url):
        Row(pk="a").save()
        assert ask(path, "PRAGMA journal_mode") == [("wal",)]
        Row(pk="b").save()
    assert ask(path, 'SELECT count(*) FROM "^row"') == [(2,)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["test.db"]


def test_names_that_differ_in_case_alone_are_different_tables(store):
    models: list[Any] = []
    for table in ("orders", "Orders", "ORDERS", "oRDERS", "sqlite_master", "SQLITE_x", "a.b", "a-b", "mintkey.catalog"):

        class Named(Model):
            model_config = ModelConfig(table=table)
            pk = StringAttribute(partition_key=True)

        models.append(Named)
    for number, model in enumerate(models):
        for row in range(number):
            model(pk=str(row)).save()
    assert [model.count() for model in models] == list(range(len(models)))


def test_other_tables_in_the_file_are_left_alone(store, path):
    ask(path, "CREATE TABLE mine (x)")
    ask(path, "INSERT INTO mine VALUES (1)")
    Row(pk="a").save()
    Row.delete_table()
    assert ask(path, "SELECT * FROM mine") == [(1,)]


def test_a_table_of_somebody_else_with_our_name_is_not_touched(store, path):
    ask(path, 'CREATE TABLE "^row" (x)')
    with pytest.raises(MintkeyError, match="Row"):
        Row(pk="a").save()
    assert ask(path, 'SELECT count(*) FROM "^row"') == [(0,)]


def test_a_file_that_is_no_database(path, url):
    path.write_bytes(b"This is a letter, not a database. " * 100)
    before = path.read_bytes()
    with connect(url):
        for call in (Row(pk="a").save, Row.count, Row.create_table):
            with pytest.raises((StoreUnavailable, ConfigurationError), match=r"test\.db"):
                call()
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_awaited(path, url):
    path.write_bytes(b"This is a letter, not a database. " * 100)
    async with connect(url):
        with pytest.raises((StoreUnavailable, ConfigurationError), match=r"test\.db"):
            await Row(pk="a").asave()


@pytest.mark.parametrize("wrong", ["missing/folder/x.db", ".", "test.db/x.db"])
def test_a_path_where_no_file_can_be(tmp_path, path, wrong):
    path.write_bytes(b"")
    with connect(f"sqlite:///{tmp_path}/{wrong}"):
        with pytest.raises((StoreUnavailable, ConfigurationError)) as caught:
            Row(pk="a").save()
        assert str(tmp_path) in str(caught.value)
        assert isinstance(caught.value, MintkeyError)


def test_a_file_system_that_refuses(tmp_path):
    with connect("sqlite:////proc/mintkey.db"), pytest.raises(StoreUnavailable, match=r"/proc/mintkey\.db"):
        Row(pk="a").save()


def test_a_file_without_the_right_to_write(program):
    # Not below tmp_path, whose folders nobody but its owner may enter: root becomes somebody else here.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kept.db")
        with connect(f"sqlite:///{path}"):
            Row(pk="a").save()
        path.chmod(0o444)
        path.parent.chmod(0o555)
        output = program(
            """
if os.geteuid() == 0:
    os.setuid(65534)
with connect(f"sqlite:///{sys.argv[2]}"):
    try:
        Row(pk="b").save()
    except StoreUnavailable as error:
        print("kept.db" in str(error), error.outcome)
""",
            path,
        )
        path.parent.chmod(0o755)
        with connect(f"sqlite:///{path}"):
            assert Row.count() == 1
    assert output == "True not_applied\n"


def test_a_full_disk_loses_nothing_that_was_acknowledged(program):
    """A limit on the size of files stands for the full disk; afterwards the same instances are saved."""
    output = program("""
import resource
store = connect(sys.argv[1])
Row(n=0, who="first").save()
unlimited = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, unlimited))
rows = [Row(n=n, who="x" * 5000) for n in range(150)]
acknowledged, failed = [], []

async def together():
    outcomes = await asyncio.gather(*(row.asave() for row in rows[100:]), return_exceptions=True)
    for row, outcome in zip(rows[100:], outcomes):
        if outcome is None:
            acknowledged.append(row.pk)
        else:
            assert isinstance(outcome, StoreUnavailable), outcome
            failed.append(row)

for row in rows[:100]:
    try:
        row.save()
        acknowledged.append(row.pk)
    except StoreUnavailable:
        failed.append(row)
asyncio.run(together())
assert failed and acknowledged
assert set(acknowledged) <= {row.pk for row in Row.scan()}
resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
for row in failed:
    row.save()
store.close()
with connect(sys.argv[1]):
    print(Row.count(), len({row.pk for row in rows} - {row.pk for row in Row.scan()}))
""")
    assert output == "151 0\n"


def test_a_folder_that_may_not_be_entered(program):
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder, "closed")
        (closed / "inner").mkdir(parents=True)
        Path(folder).chmod(0o755)
        closed.chmod(0o000)
        output = program(
            """
if os.geteuid() == 0:
    os.setuid(65534)
with connect(f"sqlite:///{sys.argv[2]}"):
    try:
        Row(pk="b").save()
    except StoreUnavailable as error:
        print("permission" in str(error), sys.argv[2].rpartition("/")[0] in str(error), error.outcome)
""",
            closed / "inner" / "test.db",
        )
        closed.chmod(0o755)
    assert output == "True True not_applied\n"


def test_after_an_error_the_store_works_as_soon_as_the_file_does(path, url):
    path.write_bytes(b"not a database, but some text that is long enough to have a header of its own")
    with connect(url):
        with pytest.raises(MintkeyError):
            Row(pk="a").save()
        path.unlink()
        Row(pk="a").save()
        assert Row.count() == 1


def test_a_truncated_file_is_no_crash(path, url):
    with connect(url):
        for number in range(200):
            Row(pk=str(number), n=number).save()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with connect(url), pytest.raises(StoreUnavailable, match=r"test\.db"):
        list(Row.scan())


def test_a_damaged_row_is_no_crash(store, path):
    Row(pk="a", n=1).save()
    for damage in ("{", "[]", "5", "", '{"pk":"a","n":"x"}', '{"pk":"a","n":{"$B":"?"}}', '{"pk":"a","n":1e999}'):
        ask(path, 'UPDATE "^row" SET item = ?', damage)
        try:
            loaded = Row.get(pk="a")
        except MintkeyError as error:
            assert "damaged" in str(error)  # noqa: PT017 - either is fine, a crash is not
        else:
            assert loaded is not None


def test_a_larger_item_is_possible_when_the_address_says_so(path):
    with connect(f"sqlite:///{path}?max_item=2000000"):
        row = Row(pk="a")
        Full(pk="a", sk=1, text="x" * 1_500_000).save()
        assert len(Full.get(pk="a", sk=1).text) == 1_500_000  # type: ignore[union-attr, arg-type]
        with pytest.raises(ItemTooLarge, match="text"):
            Full(pk="a", sk=1, text="x" * 2_500_000).save()
        row.save()


# The catalog.


def keyed(**members: Any) -> Any:
    """A class over the table "things"."""
    members = {"pk": StringAttribute(partition_key=True), **members}
    return type("Thing", (Model,), {"model_config": ModelConfig(table="things"), **members})


DIFFERENT = {
    "the partition key's type": lambda: keyed(
        pk=NumberAttribute(partition_key=True), sk=NumberAttribute(sort_key=True)
    ),
    "the partition key's name": lambda: keyed(
        pk=NumberAttribute(), id=StringAttribute(partition_key=True), sk=NumberAttribute(sort_key=True)
    ),
    "the sort key's type": lambda: keyed(sk=StringAttribute(sort_key=True)),
    "no sort key": keyed,
    "another attribute to expire by": lambda: keyed(sk=NumberAttribute(sort_key=True), gone=TTLAttribute()),
}


@pytest.mark.parametrize("difference", DIFFERENT)
def test_a_class_that_differs_from_the_table_is_refused(store, path, difference):
    first = keyed(sk=NumberAttribute(sort_key=True), until=TTLAttribute())
    first(pk="a", sk=1).save()
    other = DIFFERENT[difference]()
    for call in (other.count, other.create_table, lambda: list(other.scan())):
        with pytest.raises(ConfigurationError, match="things"):
            call()
    assert first.count() == 1


def test_an_attribute_to_expire_by_can_be_added_and_then_counts_for_all(store):
    with frozen("2024-01-01T00:00:00Z") as clock:
        plain = keyed(sk=NumberAttribute(sort_key=True), until=NumberAttribute())
        plain(pk="a", sk=1, until=1704067260).save()
        expiring = keyed(sk=NumberAttribute(sort_key=True), until=TTLAttribute())
        assert expiring.count() == 1
        clock.advance(60)
        assert expiring.count() == 0


def test_what_the_class_lacks_is_kept_up(store, path):
    """A class that knows nothing of the expiry writes rows that expire all the same."""
    with frozen("2024-01-01T00:00:00Z") as clock:
        expiring = keyed(sk=NumberAttribute(sort_key=True), until=TTLAttribute())
        expiring.create_table()
        plain = keyed(sk=NumberAttribute(sort_key=True), until=NumberAttribute())
        plain(pk="a", sk=1, until=1704067260).save()
        assert expiring.count() == 1
        clock.advance(60)
        assert expiring.count() == 0


KNOWS_THE_INDEX = """
from mintkey.fields import KeyField, UniqueKeyField
class Person(Model):
    model_config = ModelConfig(table="persons")
    id = UniqueKeyField()
    country = KeyField(null=True)
for country in ("DE", "FR"):
    found = Person.query.filter(country=country)
    assert "index" in found.explain(), found.explain()
    print(country, *sorted(person.id for person in found), found.count())
"""


def test_an_index_of_a_later_class_is_built_and_kept_up_by_those_who_do_not_know_it(store, program):
    class Person(Model):
        model_config = ModelConfig(table="persons")
        id = StringAttribute(partition_key=True)
        country = StringAttribute()

    for name in "abc":
        Person(id=name, country="DE").save()
    Person(id="n").save()
    assert program(KNOWS_THE_INDEX) == "DE a b c 3\nFR 0\n"
    Person(id="d", country="DE").save()
    one = Person.get(id="a")
    assert one is not None
    one.country = "FR"
    one.save()
    Person(id="b").delete()
    Person.update_by_key({"id": "c"}, country="FR")
    Person.update_by_key({"id": "n"}, country="FR")
    Person.update_by_key({"id": "n"}, country=None)
    assert program(KNOWS_THE_INDEX) == "DE d 1\nFR a c 2\n"


def test_a_newer_layout_is_refused_clearly(store, path, url):
    Row(pk="a").save()
    ask(path, "UPDATE \"mintkey:catalog\" SET layout = 99 WHERE name = 'Row'")
    with connect(url):
        for call in (Row.count, Row(pk="b").save, lambda: Row.get(pk="a")):
            with pytest.raises((ConfigurationError, StoreUnavailable), match=r"Row.*newer|newer.*Row"):
                call()
    assert ask(path, 'SELECT count(*) FROM "^row"') == [(1,)]


def test_a_table_that_another_program_drops_or_makes_is_noticed(store, path, program):
    Row(pk="a").save()
    program("Row.delete_table()")
    assert Row.count() == 0
    Row(pk="b").save()
    program("Row.delete_table(); Row.create_table(); Row(pk='c').save()")
    assert [row.pk for row in Row.scan()] == ["c"]


# Expired rows are removed.


class Session(Model):
    pk = StringAttribute(partition_key=True)
    until = TTLAttribute()


def test_writers_remove_expired_rows_a_hundred_at_a_time(store, path):
    with frozen("2024-01-01T00:00:00Z") as clock:
        for number in range(250):
            Session(pk=str(number), until=clock.time.replace(minute=1)).save()
        Session(pk="stays").save()
        clock.advance(60)
        assert Session.count() == 1
        assert ask(path, 'SELECT count(*) FROM "^session"') == [(251,)]
        for left in (151, 51, 1):
            Session(pk="stays").save()
            assert ask(path, 'SELECT count(*) FROM "^session"') == [(left,)]
        assert Session.count() == 1
