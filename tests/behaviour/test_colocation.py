"""`ModelConfig(colocate=…)`: the rows of several models in one slot group of a Redis Cluster."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
import redis
from tests.behaviour.conftest import cluster_prefix
from tests.behaviour.transacting import begun, refused

import mintkey
from mintkey import Index, Model, ModelConfig, Store, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.catalog import create_table_like, describe
from mintkey.cli import main
from mintkey.copying import compare, copy
from mintkey.errors import ConfigurationError, UniqueViolation, UnsupportedOperation
from mintkey.raw import RawTable


class Account(Model):
    model_config = ModelConfig(table="colocated.accounts", colocate="accounts")

    id = StringAttribute(partition_key=True)
    balance = NumberAttribute(default=0)
    owner = StringAttribute()
    email = StringAttribute(unique=True)
    by_owner = Index(partition_key="owner", sort_key="balance")


class Entry(Model):
    model_config = ModelConfig(table="colocated.entries", colocate="accounts")

    account = StringAttribute(partition_key=True)
    number = NumberAttribute(sort_key=True)
    amount = NumberAttribute()


class Elsewhere(Model):
    id = StringAttribute(partition_key=True)


NAMES = [f"account {number}" for number in range(12)]


def on_cluster(store: Store) -> bool:
    return store.url.startswith("redis-cluster")


async def accounts(do: Any) -> list[Account]:
    made = [Account(id=name, balance=n, owner="ada" if n % 2 else "bob", email=name) for n, name in enumerate(NAMES)]
    if do.blocking:
        Account.batch_save(made)
    else:
        await Account.abatch_save(made)
    return made


async def test_a_transaction_writes_rows_with_different_partition_keys(do, store):
    made = await accounts(do)
    async with begun(do) as tx:
        for number, account in enumerate(made):
            tx.update(account, Account.balance.add(100), condition=Account.balance == number)
            tx.create(Entry, account=account.id, number=1, amount=100)
    keys: list[Any] = [*((Account, account.id) for account in made), *((Entry, (name, 1)) for name in NAMES)]
    found = mintkey.transact_get(keys) if do.blocking else await mintkey.atransact_get(keys)
    assert [item and (item.balance if isinstance(item, Account) else item.amount) for item in found] == [
        *range(100, 112),
        *[100] * 12,
    ]
    async with refused(do) as (tx, _):
        tx.update(made[0], balance=0)
        tx.check(Account, NAMES[1], Account.balance == 0)
    assert (await do.get(Account, id=NAMES[0])).balance == 100


async def test_queries_scans_and_batches_find_all_rows(do, store):
    await accounts(do)
    ada = [account.balance for account in await do.iterate(do.query(Account, owner="ada"))]
    assert ada == [1, 3, 5, 7, 9, 11]
    assert await do.count(Account, owner="bob") == 6
    assert sorted(account.id for account in await do.iterate(do.scan(Account))) == sorted(NAMES)
    assert sorted(account.id for account in await do.iterate(do.scan(Account, segments=3))) == sorted(NAMES)
    found, cursor = [], None
    while True:
        page = await do.page(do.query(Account, owner="ada") if do.blocking else Account.query(owner="ada"), 4, cursor)
        found += [account.balance for account in page.items]
        if (cursor := page.cursor) is None:
            break
    assert found == ada
    got = await do.iterate(Account.batch_get(NAMES) if do.blocking else Account.abatch_get(NAMES))
    assert [account.balance for account in got] == list(range(12))
    assert await do.delete_by_key(Account, NAMES[0]) is None
    assert await do.get(Account, id=NAMES[0]) is None


async def test_unique_values(do, store):
    one, other, *_ = await accounts(do)
    assert (await do.get_by(Account, email=NAMES[7])).id == NAMES[7]
    with pytest.raises(UniqueViolation):
        await do.create(Account, id="another", email=NAMES[7])
    async with begun(do) as tx:
        tx.update(one, email=NAMES[1])
        tx.update(other, email=NAMES[0])
    assert (await do.get_by(Account, email=NAMES[0])).id == NAMES[1]
    await do.delete(one)
    await do.create(Account, id="another", email=NAMES[1])
    assert (await do.get_by(Account, email=NAMES[1])).id == "another"


async def test_a_refused_transaction_names_both_items_and_the_option(do, store):
    await do.create(Elsewhere, id="here")
    await accounts(do)

    async def write() -> None:
        async with begun(do) as tx:
            tx.check(Account, NAMES[0], Account.balance == 0)
            tx.create(Elsewhere, id="there")

    if not on_cluster(store):
        await write()
        return
    with pytest.raises(UnsupportedOperation) as raised:
        await write()
    for part in ("account 0", "there", 'define Account and Elsewhere with ModelConfig(colocate="accounts")'):
        assert part in str(raised.value)
    assert "equal partition keys" not in str(raised.value)
    async with refused(do, UnsupportedOperation, match="equal partition keys, define Elsewhere with") as (tx, _):
        for number in range(9):
            tx.create(Elsewhere, id=f"{number}")


def test_all_rows_are_in_one_slot(tmp_path):
    url = cluster_prefix(tmp_path)
    with mintkey.connect(url) as store:
        asyncio.run(accounts_of(store))
    prefix = url.partition("prefix=")[2].partition("&")[0]
    host, _, port = url.removeprefix("redis-cluster://").partition("?")[0].partition(",")[0].rpartition(":")
    opened: Any = redis.cluster.RedisCluster(host=host, port=int(port))
    with opened as client:
        names = [name.decode() for name in client.scan_iter(match=f"{prefix}/*", count=10_000)]
        tables = [name for name in names if name.endswith((":table", "@:tables"))]
        slots = {client.keyslot(name) for name in names if name not in tables}
    assert any("@colocated.accounts:unique:email" in name for name in names)
    assert any("@colocated.accounts:index:by_owner" in name for name in names)
    assert sum("}colocated.entries:" in name for name in names) == len(NAMES)
    assert len(slots) == 1


async def accounts_of(store: Store) -> None:
    with mintkey.use_store(store):
        for name in NAMES:
            await Account(id=name, owner="ada", email=name).asave()
            await Entry(account=name, number=1).asave()


def with_text(text: str | None, table: str) -> Any:
    return type(
        "Changed",
        (Model,),
        {"model_config": ModelConfig(table=table, colocate=text), "id": StringAttribute(partition_key=True)},
    )


@pytest.mark.parametrize(("first", "then"), [("here", "there"), (None, "there"), ("here", None)])
async def test_another_text_than_that_of_the_table_is_refused(do, store, first, then):
    table = f"changed.{first}.{then}"
    await do.save(with_text(first, table)(id="a"))
    again = with_text(then, table)
    must_be_equal = on_cluster(store) or (first and then and not store.url.startswith("dynamodb"))
    if not must_be_equal:
        await do.save(again(id="b"))
        assert (await do.get(again, id="a")).id == "a"
        return
    there, here = (None if text is None else f'"{text}"' for text in (first, then))
    for call in (do.save(again(id="b")), do.get(again, id="a"), do.iterate(do.scan(again)), do.count(again)):
        with pytest.raises(ConfigurationError, match=rf"Changed .*colocate is {there} there and {here} in the class"):
            await call


def test_the_command_line_shows_the_text(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/shown.db"
    with connect(url):
        Account.create_table()
    with pytest.raises(SystemExit):
        main(["describe", url, "colocated.accounts", "--output", "json"])
    assert json.loads(capsys.readouterr().out)["colocate"] == "accounts"
    with pytest.raises(SystemExit):
        main(["describe", url, "colocated.accounts", "--output", "table"])
    assert re.search(r"colocate +accounts", capsys.readouterr().out)


async def test_copies_keep_the_slot_group(do, store, tmp_path):
    await accounts(do)
    with Store(f"sqlite:///{tmp_path}/copy.db") as file:
        assert copy(store, file, tables=["colocated.accounts"], verify=True).is_complete
        expected = None if store.url.startswith("dynamodb") else "accounts"
        assert describe(file, "colocated.accounts").colocate == expected
        assert compare(store, file, tables=["colocated.accounts"]) == {}


def test_a_copy_moves_the_rows_of_a_table_that_had_no_text(tmp_path):
    url = cluster_prefix(tmp_path)
    with Store(url.replace("prefix=", "prefix=old-")) as old, Store(url.replace("prefix=", "prefix=new-")) as new:
        plain, moved = with_text(None, "moved"), with_text("here", "moved")
        with mintkey.use_store(old):
            plain.batch_save([plain(id=name) for name in NAMES])
        with mintkey.use_store(new):
            moved.create_table()
        assert describe(new, "moved").colocate == "here"
        assert copy(old, new, tables=["moved"], verify=True).is_complete
        assert compare(old, new) == {}
        create_table_like(new, describe(old, "moved"))
        with mintkey.use_store(new), mintkey.transaction() as tx:
            for name in NAMES:
                tx.delete_by_key(moved, name)
        assert RawTable(new, "moved").scan().rows == []


async def test_an_index_that_is_added_later_has_all_rows(do, store):
    def model(*, index: bool) -> Any:
        attributes = {"id": StringAttribute(partition_key=True), "owner": StringAttribute(index=index)}
        config = ModelConfig(table="colocated.later", colocate="later")
        return type("Later", (Model,), {"model_config": config, **attributes})

    plain, indexed = model(index=False), model(index=True)
    for name in NAMES:
        await do.save(plain(id=name, owner="ada"))
    await do.create_table(indexed)
    assert await do.count(indexed, owner="ada") == len(NAMES)
    assert await do.delete_by_key(indexed, NAMES[0]) is None
    assert await do.count(indexed, owner="ada") == len(NAMES) - 1


@pytest.mark.parametrize("text", ["", 1, "x" * 256, "\ud800"])
def test_a_value_that_is_no_text_is_refused(text):
    with pytest.raises(ConfigurationError, match="colocate= takes a text of 1 to 255 printable characters"):
        ModelConfig(colocate=text)


def test_subclasses_inherit_the_text():
    class Base(Model):
        model_config = ModelConfig(abstract=True, colocate="base")

    class Own(Base):
        id = StringAttribute(partition_key=True)

    schema: Any = Own.__mintkey_schema__
    assert schema.config.colocate == "base"
