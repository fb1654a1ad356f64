"""Tables and rows without classes: what the catalog of a store says is enough to read and write them."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from mintkey import Index, Model, ModelConfig, catalog
from mintkey.attributes import BinaryAttribute, NumberAttribute, StringAttribute, TTLAttribute, VersionAttribute
from mintkey.catalog import IndexInfo, KeyInfo, TableInfo, UniqueInfo
from mintkey.errors import (
    BatchIncomplete,
    ConfigurationError,
    InvalidCursor,
    InvalidValue,
    KeyCollision,
    TableMissing,
    UniqueViolation,
)
from mintkey.hooks import before_save
from mintkey.raw import PutReport, RawPage, RawTable


class Parcel(Model):
    model_config = ModelConfig(table="parcels")

    owner = StringAttribute(partition_key=True)
    number = NumberAttribute(sort_key=True)
    status = StringAttribute()
    weight = NumberAttribute(alias="w")
    expires = TTLAttribute()
    version = VersionAttribute()
    by_status = Index(partition_key="status", sort_key="weight")

    @before_save
    def refuse(self) -> None:
        raise AssertionError("no hook runs")


class Account(Model):
    model_config = ModelConfig(table="accounts")

    id = BinaryAttribute(partition_key=True)
    email = StringAttribute(unique=True)


EXACT = {
    "text": "ä\0",
    "int": 10**37,
    "decimal": Decimal("0.1234567890123456789012345678901234567"),
    "float": 1.5,
    "bytes": b"\0\xff",
    "null": None,
    "truth": True,
    "texts": {"a", "b"},
    "numbers": {1, Decimal("2.5")},
    "binaries": {b"\0", b"\1"},
    "list": [1, None, {"$": b"x", "empty": {}}],
}


@pytest.fixture
async def parcels(do, store) -> RawTable:
    """The table of an empty store, created by its class."""
    await do.create_table(Parcel)
    return RawTable(store, "parcels")


async def scan(do, table: RawTable, **named) -> RawPage:
    """A page of `table.scan()` or `table.ascan()`."""
    return table.scan(**named) if do.blocking else await table.ascan(**named)


async def query(do, table: RawTable, partition, **named) -> RawPage:
    """A page of `table.query()` or `table.aquery()`."""
    return table.query(partition, **named) if do.blocking else await table.aquery(partition, **named)


def row(number: object, **others) -> dict[str, object]:
    return {"owner": "ada", "number": number, **others}


async def test_tables_are_described_from_the_store(do, store):
    assert await do.tables(catalog, store) == []
    for model in (Parcel, Account):
        await do.create_table(model)
    account, parcel = await do.tables(catalog, store)
    assert account == await do.describe(catalog, store, "accounts")
    assert (account.name, account.partition, account.sort) == ("accounts", KeyInfo("id", "binary"), None)
    assert account.unique == (UniqueInfo("email", ("email",), {}),)
    assert parcel.keys == (KeyInfo("owner", "string"), KeyInfo("number", "number"))
    assert parcel.ttl == "expires"
    assert not parcel.is_exact
    by_status = IndexInfo("by_status", (KeyInfo("status", "string"),), KeyInfo("w", "number"), "all", False)
    assert parcel.indexes == (by_status,)
    assert repr(parcel) == "<TableInfo parcels: owner (string), number (number)>"


async def test_a_missing_table_names_those_that_exist(do, store):
    with pytest.raises(TableMissing, match=r"'parcel' does not exist in .*: it has no tables"):
        await do.describe(catalog, store, "parcel")
    await do.create_table(Parcel)
    with pytest.raises(TableMissing, match=r"'parcel' does not exist in .*: did you mean 'parcels'\?"):
        await scan(do, RawTable(store, "parcel"))
    with pytest.raises(TableMissing, match="its tables are parcels"):
        await do.count(RawTable(store, "xyz"))
    assert len(await do.tables(catalog, store)) == 1


async def test_rows_are_exact(do, parcels):
    await do.put_many(parcels, [row(1, **EXACT)])
    for found in [await do.get(parcels, ("ada", 1)), *(await scan(do, parcels)).rows]:
        assert found == row(1, **EXACT)
        assert {name: type(value) for name, value in found.items()} == {
            name: type(value) for name, value in row(1, **EXACT).items()
        }
    stored = await do.get(Parcel, owner="ada", number=1)
    assert stored.version is None


async def test_writes_keep_indexes_expiry_and_versions(do, parcels, clock):
    clock.set("2100-01-01T00:00:00Z")  # servers remove expired rows by their own clocks
    in_an_hour = 4_102_444_800 + 3600
    rows = [row(n, status="new", w=10 - n, version=7, **{"expires": in_an_hour} if n == 1 else {}) for n in (1, 2, 3)]
    assert await do.put_many(parcels, rows) == PutReport(3, 0)
    found = await do.iterate(do.query(Parcel, status="new", index="by_status"))
    assert [(one.number, one.version) for one in found] == [(3, 7), (2, 7), (1, 7)]
    page = await query(do, parcels, "new", index="by_status", sort=("<", 9))
    assert [one["number"] for one in page.rows] == [3, 2]
    clock.advance(3600)
    assert await do.count(parcels) == 2
    await do.delete(parcels, ("ada", 2))
    await do.delete(parcels, {"owner": "ada", "number": 2})
    assert [one.number for one in await do.iterate(do.query(Parcel, status="new", index="by_status"))] == [3]


async def test_unique_values_stay_unique(do, store):
    await do.create_table(Account)
    accounts = RawTable(store, "accounts")
    with pytest.raises(BatchIncomplete) as caught:
        await do.put_many(accounts, [{"id": b"1", "email": "a"}, {"id": b"2", "email": "a"}])
    assert caught.value.written == 1
    ((failed, error),) = caught.value.failed
    assert (failed, type(error)) == ({"id": b"2", "email": "a"}, UniqueViolation)
    assert (await do.get_by(Account, email="a")).id == b"1"


async def test_conflicts_fail_are_skipped_or_replaced(do, parcels):
    await do.put_many(parcels, [row(1, status="old")])
    news = [row(1, status="new"), row(2, status="new")]
    with pytest.raises(BatchIncomplete, match="parcels: 1 of 2 rows failed") as caught:
        await do.put_many(parcels, news)
    assert [(failed, type(error)) for failed, error in caught.value.failed] == [(news[0], KeyCollision)]
    assert await do.put_many(parcels, news, "skip") == PutReport(0, 2)
    assert (await do.get(parcels, ("ada", 1)))["status"] == "old"
    assert await do.put_many(parcels, news, on_conflict="replace") == PutReport(2, 0)
    assert (await do.get(parcels, ("ada", 1)))["status"] == "new"


async def test_each_row_has_its_own_outcome(do, parcels):
    bad = [{"owner": "ada"}, row(2, tags=set()), row(3, x=object()), row("4"), {**row(1), "owner": "x" * 3000}, 7]
    with pytest.raises(BatchIncomplete) as caught:
        await do.put_many(parcels, [row(1), *bad, row(2)])
    assert caught.value.written == 2
    assert {id(failed) for failed, _ in caught.value.failed} == {id(one) for one in bad}
    assert all(isinstance(error, InvalidValue) for _, error in caught.value.failed)
    assert await do.count(parcels) == 2


async def test_pages_continue_at_their_cursor(do, parcels):
    await do.put_many(parcels, [row(n) for n in range(25)])
    seen, cursor = [], None
    while True:
        page = await scan(do, parcels, limit=10, cursor=cursor)
        seen += [one["number"] for one in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(seen) == list(range(25))
    first = await query(do, parcels, "ada", sort=("between", 5, 9), descending=True, limit=3)
    assert [one["number"] for one in first.rows] == [9, 8, 7]
    rest = await query(do, parcels, "ada", sort=("between", 5, 9), descending=True, limit=3, cursor=first.cursor)
    assert [one["number"] for one in rest.rows] == [6, 5]
    for cursor in (first.cursor, "", "x", None if rest.cursor is None else rest.cursor + "A", "é"):
        if cursor is not None:
            with pytest.raises(InvalidCursor):
                await scan(do, parcels, cursor=cursor)


async def test_segments_divide_the_rows(do, parcels):
    await do.put_many(parcels, [{"owner": f"o{n}", "number": n} for n in range(40)])
    pages = [await scan(do, parcels, segment=n, segments=4) for n in range(4)]
    assert sorted(one["number"] for page in pages for one in page.rows) == list(range(40))


async def test_a_description_survives_json_and_creates_the_table_again(do, store, parcels):
    info = await do.describe(parcels)
    read = TableInfo.from_dict(json.loads(json.dumps(info.to_dict())))
    assert read.to_dict() == info.to_dict()
    await do.delete_table(Parcel)
    await do.create_table_like(catalog, store, read)
    assert (await do.describe(parcels)).to_dict() == info.to_dict()
    # What exists is kept.
    await do.put_many(parcels, [row(1)])
    await do.create_table_like(catalog, store, read)
    assert await do.count(RawTable(store, read)) == 1


async def test_a_table_with_another_key_is_refused(do, store, parcels):
    values = (await do.describe(parcels)).to_dict()
    other = TableInfo.from_dict({**values, "partition": {"name": "owner", "type": "N"}})
    with pytest.raises(ConfigurationError, match=r"key owner \(string\), number \(number\), not with owner \(number\)"):
        await do.create_table_like(catalog, store, other)


@pytest.mark.parametrize("values", [None, {}, {"name": "a b c"}, {"name": "abc", "partition": 1}, {"name": "abc"}])
def test_a_description_is_checked(values):
    with pytest.raises(ConfigurationError):
        TableInfo.from_dict(values)


async def test_wrong_arguments_name_what_is_right(do, store, parcels):
    with pytest.raises(InvalidValue, match=r"2 parts, owner \(string\), number \(number\), not 1"):
        await do.get(parcels, "ada")
    with pytest.raises(InvalidValue, match=r"the key is owner \(string\), number \(number\)"):
        await do.get(parcels, {"owner": "ada"})
    with pytest.raises(InvalidValue, match=r"parcels\.number: expected int"):
        await do.get(parcels, ("ada", "1"))
    with pytest.raises(InvalidValue, match="no index 'x': the indexes are by_status"):
        await query(do, parcels, "ada", index="x")
    with pytest.raises(InvalidValue, match="the conditions are =="):
        await query(do, parcels, "ada", sort=("~", 1))
    with pytest.raises(InvalidValue, match="sort= takes"):
        await query(do, parcels, "ada", sort=("between", 1))
    with pytest.raises(InvalidValue, match=r"each attribute of the partition key \(owner \(string\)\)"):
        await query(do, parcels, ("ada", 1))
    with pytest.raises(InvalidValue, match="limit= takes a whole number from 1"):
        await scan(do, parcels, limit=0)
    with pytest.raises(InvalidValue, match="segment=4 does not exist: the 4 begin with 0"):
        await scan(do, parcels, segment=4, segments=4)
    with pytest.raises(InvalidValue, match='"fail", "skip" or "replace"'):
        await do.put_many(parcels, [], on_conflict="ignore")
    with pytest.raises(TypeError, match="an iterable of dicts"):
        await do.put_many(parcels, row(1))
    with pytest.raises(TypeError, match="an open store"):
        RawTable(store.url, "parcels")
