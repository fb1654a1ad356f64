"""Versions: checked on every write path, moved only by success."""

from __future__ import annotations

import asyncio
import re

import pytest

from mintkey import Index, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import ConditionFailed, InvalidValue, ItemGone, NotLoaded, VersionConflict


class Account(Model):
    pk = StringAttribute(partition_key=True)
    balance = NumberAttribute()
    note = StringAttribute()
    version = VersionAttribute()


@pytest.fixture
async def account(do):
    made = Account(pk="a", balance=10)
    await do.save(made)
    return made


async def test_a_version_counts_the_writes(do, account):
    assert account.version == 1
    account.balance = 11
    await do.save(account)
    assert account.version == 2
    await do.save(account)
    assert account.version == 2
    await do.update(account, balance=12)
    assert account.version == 3
    await do.save(account, replace=True)
    assert account.version == 4
    loaded = await do.get(Account, pk="a")
    assert loaded.version == 4
    assert loaded == account


@pytest.fixture
async def stale(do, account):
    """Loaded before somebody else wrote."""
    loaded = await do.get(Account, pk="a")
    account.balance = 99
    await do.save(account)
    return loaded


async def refused(do, stale, call) -> None:
    for _ in range(2):
        with pytest.raises(VersionConflict, match="Account") as caught:
            await call()
        assert isinstance(caught.value, ConditionFailed)
        assert caught.value.key == {"pk": "a"}
        assert stale.version == 1
    stored = await do.get(Account, pk="a")
    assert (stored.balance, stored.version) == (99, 2)


async def test_a_stale_save_is_refused_again_and_again(do, stale):
    stale.balance = 5
    await refused(do, stale, lambda: do.save(stale))
    assert stale.changed == {"balance"}


async def test_a_stale_replace_is_refused(do, stale):
    stale.balance = 5
    await refused(do, stale, lambda: do.save(stale, replace=True))


async def test_a_stale_update_is_refused(do, stale):
    await refused(do, stale, lambda: do.update(stale, balance=5))
    assert stale.balance == 10


async def test_a_stale_delete_is_refused(do, stale):
    await refused(do, stale, lambda: do.delete(stale))
    assert not stale.is_dirty


async def test_a_stale_save_with_nothing_changed_and_a_condition_is_refused(do, stale):
    await refused(do, stale, lambda: do.save(stale, condition=Account.balance == 99))


async def test_a_new_item_over_a_versioned_row_is_refused(do, stale):
    new = Account(pk="a", balance=5)
    for _ in range(2):
        with pytest.raises(VersionConflict):
            await do.save(new)
        assert new.version is None
    with pytest.raises(ConditionFailed):
        await do.create(Account, pk="a", balance=5)
    with pytest.raises(VersionConflict):
        await do.delete(Account(pk="a"))
    assert (await do.get(Account, pk="a")).balance == 99


async def test_refresh_makes_a_stale_item_current(do, stale):
    await do.refresh(stale)
    stale.balance += 1
    await do.save(stale)
    assert (await do.get(Account, pk="a")).balance == 100


async def test_a_failed_write_leaves_the_version(do, account):
    account.note = 5
    with pytest.raises(InvalidValue):
        await do.save(account)
    account.note = "x"
    with pytest.raises(ConditionFailed):
        await do.save(account, condition=Account.balance == 0)
    with pytest.raises(ConditionFailed):
        await do.update(account, condition=Account.balance == 0, note="y")
    assert account.version == 1
    await do.save(account)
    assert account.version == 2


async def test_a_vanished_row(do, account):
    twin = await do.get(Account, pk="a")
    await do.delete(account)
    twin.balance = 1
    for write in (lambda: do.save(twin), lambda: do.update(twin, balance=1), lambda: do.delete(twin)):
        with pytest.raises((ItemGone, VersionConflict)):
            await write()
    with pytest.raises((ItemGone, VersionConflict)):
        await do.save(twin, replace=True)
    assert await do.count(Account) == 0
    assert twin.version == 1


async def test_what_is_said_of_a_vanished_row_can_be_done(do, account):
    twin = await do.get(Account, pk="a")
    await do.delete(account)
    twin.balance = 1
    way_out = re.escape("save() a new Account with its values")
    for write in (lambda: do.save(twin), lambda: do.update(twin, balance=1)):
        with pytest.raises(ItemGone, match=way_out):
            await write()
    for write in (lambda: do.delete(twin), lambda: do.save(twin, replace=True)):
        with pytest.raises(VersionConflict, match=f"has expired, or was deleted by another writer: .* {way_out}"):
            await write()
    await do.save(Account.from_dict(twin.to_dict()))
    assert (await do.get(Account, pk="a")).balance == 1


async def test_a_version_is_not_set_by_hand(do, account):
    with pytest.raises(InvalidValue, match=r"Account\.version"):
        await do.update(account, version=7)
    with pytest.raises(InvalidValue, match=r"Account\.version"):
        await do.update_by_key(Account, {"pk": "a"}, version=7)
    assert (await do.get(Account, pk="a")).version == 1


async def test_update_by_key_counts_on(do, account):
    await do.update_by_key(Account, {"pk": "a"}, balance=3)
    assert (await do.get(Account, pk="a")).version == 2
    account.balance = 1
    with pytest.raises(VersionConflict):
        await do.save(account)


async def test_delete_and_save_again(do, account):
    await do.delete(account)
    await do.save(account)
    loaded = await do.get(Account, pk="a")
    assert loaded == account
    assert loaded.version == account.version


async def test_of_many_concurrent_writers_each_success_counts_once(store):
    await Account(pk="a", balance=0).asave()

    async def add() -> int:
        tries = 0
        while True:
            tries += 1
            account = await Account.aget(pk="a")
            assert account is not None
            account.balance = (account.balance or 0) + 1
            try:
                await account.asave()
            except VersionConflict:
                continue
            return tries

    await asyncio.gather(*(add() for _ in range(16)))
    stored = await Account.aget(pk="a")
    assert stored is not None
    assert (stored.balance, stored.version) == (16, 17)


async def test_a_projection_carries_the_version_so_that_it_can_be_written(do):
    class Account(Model):
        pk = StringAttribute(partition_key=True)
        sk = StringAttribute(sort_key=True)
        n = NumberAttribute()
        note = StringAttribute()
        version = VersionAttribute()
        by_note = Index("note", projection="keys")

    await do.save(Account(pk="a", sk="1", n=1, note="x"))
    account = await do.first(do.query(Account, pk="a", attributes=["n"]))
    assert account.version == 1
    account.n = 2
    await do.save(account)
    stored = await do.get(Account, pk="a", sk="1")
    assert (stored.n, stored.note, stored.version) == (2, "x", 2)
    keys_alone = await do.first(do.query(Account, note="x"))
    keys_alone.n = 3
    for write in (do.save, do.delete):
        with pytest.raises(NotLoaded, match=r"Account\.version was not loaded"):
            await write(keys_alone)
    assert (await do.get(Account, pk="a", sk="1")).n == 2


@pytest.mark.parametrize("stored", [1.5, 10**37, -1, "one"])
async def test_a_stored_version_that_is_no_count_is_refused_in_words(do, stored):
    class Loose(Model):
        model_config = ModelConfig(table="accounts")
        pk = StringAttribute(partition_key=True)
        version = NumberAttribute() if not isinstance(stored, str) else StringAttribute()

    class Account(Model):
        model_config = ModelConfig(table="accounts")
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()
        version = VersionAttribute()

    await do.save(Loose(pk="a", version=stored))
    account = await do.get(Account, pk="a")
    account.n = 1
    with pytest.raises(InvalidValue, match=r'Account\.version: the stored version .* of Account "a"'):
        await do.save(account)
    assert (await do.get(Loose, pk="a")).version == stored


async def test_a_version_cannot_be_assigned(do, account):
    account.version = 77
    with pytest.raises(InvalidValue, match=r"Account\.version: the version is counted automatically, so leave it at 1"):
        await do.save(account)
    assert (await do.get(Account, pk="a")).version == 1
    await do.refresh(account)
    account.balance = 11
    await do.save(account)
    assert account.version == 2
