"""Transactions: all of their writes are done or none, and each refused item has its reason."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.behaviour import test_single_table
from tests.behaviour.transacting import (
    Account,
    Line,
    Order,
    accounts,
    balances,
    begun,
    refused,
    transact_get,
)

import mintkey
from mintkey import ExpiresIn, Model, ModelConfig, Transaction, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import (
    ConditionFailed,
    ConfigurationError,
    InvalidValue,
    ItemGone,
    ItemTooLarge,
    KeyCollision,
    MintkeyError,
    UnsupportedOperation,
    VersionConflict,
)
from mintkey.hooks import after_delete, after_load, after_save, after_update, before_delete, before_save, before_update
from mintkey.rate_limit import FixedRate
from mintkey.testing import frozen


class Logged(Model):
    """A model whose hooks are recorded."""

    shop = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True)
    n = NumberAttribute()

    @before_save
    @before_update
    @before_delete
    def before(self) -> None:
        CALLS.append(("before", self.id))
        if self.n == BAD:
            raise ValueError("not this one")

    @after_save
    @after_update
    @after_delete
    def after(self) -> None:
        CALLS.append(("after", self.id))
        SEEN.append([other.is_dirty for other in WATCHED])


CALLS: list[tuple[str, str | None]] = []
WATCHED: list[Logged] = []
SEEN: list[list[bool]] = []
BAD = 13


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()
    WATCHED.clear()
    SEEN.clear()


async def test_all_kinds_of_writes_are_done_together(do):
    ada, grace, joan = await accounts(do, ada=10, grace=0, joan=1)
    await accounts(do, mary=1, rosa=1, lise=8)
    async with begun(do) as tx:
        ada.balance -= 5
        tx.save(ada)
        emmy = tx.create(Account, bank="b", name="emmy", balance=3)
        tx.update(grace, Account.balance.add(5), limit_=1)
        tx.update_by_key(Account, ("b", "mary"), Account.balance.add(1))
        tx.delete(joan)
        tx.delete_by_key(Account, ("b", "rosa"))
        tx.check(Account, {"bank": "b", "name": "lise"}, Account.balance == 8)
        assert len(tx) == 7
        assert await do.get(Account, bank="b", name="emmy") is None
    names = ["ada", "emmy", "grace", "mary", "joan", "rosa", "lise"]
    found = await transact_get(do, *((Account, ("b", name)) for name in names))
    assert balances(found) == [5, 3, 5, 2, None, None, 8]
    assert found[:3] == [ada, emmy, grace]
    assert (grace.balance, grace.limit_) == (5, 1)
    assert not any(account.is_dirty for account in (ada, emmy, grace))
    assert joan.is_dirty


async def test_nothing_is_written_and_each_refused_item_has_its_reason(do):
    ada, grace = await accounts(do, ada=10, grace=0)
    order = await do.create(Order, shop="b", total=1)
    stale = await do.get(Order, shop="b", id=order.id)
    await do.update(order, total=2)
    gone = await do.create(Account, bank="b", name="gone", balance=1)
    await do.batch_delete(Account, [("b", "gone")])
    async with refused(do) as (tx, raised):
        tx.update(ada, Account.balance.add(-5))
        tx.update(grace, Account.balance.add(-5), condition=Account.balance >= 5)
        tx.create(Account, bank="b", name="new", balance=1)
        tx.update(stale, total=5)
        tx.update(gone, balance=2)
        tx.check(Account, ("b", "nobody"), Account.balance.exists())
    error = raised.value
    assert [None if reason is None else type(reason) for reason in error.reasons] == [
        None,
        ConditionFailed,
        None,
        VersionConflict,
        ItemGone,
        ConditionFailed,
    ]
    assert all(reason is None or isinstance(reason, MintkeyError) for reason in error.reasons)
    first = error.reasons[1]
    assert (first.model, first.key) == ("Account", {"bank": "b", "name": "grace"})
    assert first.item == grace
    assert error.reasons[3].item.total == 2
    assert (error.model, error.key) == (first.model, first.key)
    assert "item 2 of 6" in str(error)
    assert "grace" in str(error)
    assert error.reasons[5].key == {"bank": "b", "name": "nobody"}
    found = await transact_get(do, (Account, ("b", "ada")), (Account, ("b", "new")), (Order, ("b", order.id)))
    assert balances(found[:2]) == [10, None]
    assert found[2].total == 2
    assert (ada.balance, grace.balance, ada.is_dirty, grace.is_dirty) == (10, 0, False, False)


async def test_guards_of_each_kind_of_write(do):
    (ada,) = await accounts(do, ada=10)
    order = await do.create(Order, shop="b", total=1)
    stale = await do.get(Order, shop="b", id=order.id)
    await do.update(order, total=2)

    def change(tx: Transaction) -> None:
        stale.total = 9
        tx.save(stale)

    for add, kind in [
        (lambda tx: tx.save(ada, condition=Account.balance == 1), ConditionFailed),
        (lambda tx: tx.create(Account, bank="b", name="ada", balance=1), KeyCollision),
        (change, VersionConflict),
        (lambda tx: tx.update(stale, total=3), VersionConflict),
        (lambda tx: tx.delete(stale), VersionConflict),
        (lambda tx: tx.update(Account(bank="b", name="never"), balance=1), ItemGone),
        (lambda tx: tx.update_by_key(Account, ("b", "never"), balance=1), ItemGone),
        (lambda tx: tx.update_by_key(Account, ("b", "ada"), balance=1, condition=Account.balance < 0), ConditionFailed),
        (lambda tx: tx.delete(ada, condition=Account.balance == 1), ConditionFailed),
        (lambda tx: tx.delete_by_key(Account, ("b", "ada"), condition=Account.balance == 1), ConditionFailed),
        (lambda tx: tx.check(Account, ("b", "ada"), Account.balance == 1), ConditionFailed),
    ]:
        async with refused(do) as (tx, raised):
            tx.create(Account, bank="b", name="other", balance=1)
            add(tx)
        first, reason = raised.value.reasons
        assert first is None
        assert type(reason) is kind
        assert reason.key is not None
        assert await do.get(Account, bank="b", name="other") is None
    assert stale.version == 1
    assert (await do.get(Order, shop="b", id=order.id)).total == 2


async def test_versions_are_counted_and_values_generated_as_in_single_writes(do):
    with frozen("2024-01-01T00:00:00Z", seed=1) as clock:
        order = await do.create(Order, shop="b", total=1)
        other = await do.create(Order, shop="b", total=1)
        third = await do.create(Order, shop="b", total=1)
        clock.advance(60)
        async with begun(do) as tx:
            order.total = 2
            tx.save(order)
            tx.update(other, Order.total.add(1), Order.tags.append(["x"]))
            tx.update_by_key(Order, ("b", third.id), total=2)
            new = tx.create(Order, shop="b", total=2)
    assert (order.version, other.version, new.version) == (2, 2, 1)
    assert order.changed_at == other.changed_at == new.created_at == "2024-01-01T00:01:00.000Z"
    assert new.changed_at is None
    assert other.tags == ["x"]
    keys = [(Order, ("b", one.id)) for one in (order, other, new, third)]
    found = await transact_get(do, *keys)
    assert found[:3] == [order, other, new]
    assert (found[3].version, found[3].changed_at) == (2, order.changed_at)
    assert not any(one.is_dirty for one in (order, other, new))
    # Each instance knows its stored row: the next writes are accepted.
    async with begun(do) as tx:
        for one in (order, other, new):
            tx.update(one, Order.total.add(1))
    assert [one.total for one in (order, other, new)] == [3, 3, 3]


async def test_keys_are_generated_at_the_call_so_that_items_can_refer_to_each_other(do):
    async with begun(do) as tx:
        order = tx.create(Order, shop="b", total=1)
        assert order.id
        assert order.created_at is None
        line = Line(shop="b", order=order.id)
        tx.save(line)
        assert line.id
        order.first_line = line.id  # values are taken at the commit
    found_order, found_line = await transact_get(do, (Order, ("b", order.id)), (Line, ("b", line.id)))
    assert found_order == order
    assert found_order.first_line == found_line.id == line.id
    assert found_line.order == order.id


async def test_keys_from_templates_are_known_at_the_call(do):
    async with begun(do) as tx:
        order = tx.create(test_single_table.Order, user="ada", total=1)
        assert order.sk == f"ORDER#{order.id}"
        user = test_single_table.User(email="ada", name="Ada")
        tx.save(user)
    keys = [(test_single_table.User, {"email": "ada"}), (test_single_table.Order, {"user": "ada", "id": order.id})]
    assert await transact_get(do, *keys) == [user, order]


async def test_generated_keys_stay_and_never_overwrite(do):
    line = Line(shop="b", order="x")
    async with refused(do) as (tx, raised):
        tx.save(line)
        tx.check(Account, ("b", "nobody"), Account.balance.exists())
    assert raised.value.reasons[0] is None
    made = line.id
    assert made
    assert line.is_dirty
    await do.create(Line, shop="b", id=made, order="another")
    async with refused(do) as (tx, raised):
        tx.save(line)
    assert type(raised.value.reasons[0]) is KeyCollision
    assert line.id == made
    await do.batch_delete(Line, [("b", made)])
    async with begun(do) as tx:
        tx.save(line)
    assert await do.get(Line, shop="b", id=made) == line


async def test_two_rows_swap_their_values(do):
    ada, grace = await accounts(do, ada=1, grace=2)
    async with begun(do) as tx:
        ada.balance, grace.balance = grace.balance, ada.balance
        tx.save(ada, condition=Account.balance == 1)
        tx.save(grace, condition=Account.balance == 2)
    assert balances(await transact_get(do, (Account, ("b", "ada")), (Account, ("b", "grace")))) == [2, 1]


async def test_an_upsert_inserts_or_changes(do):
    (ada,) = await accounts(do, ada=1)
    new = Account(bank="b", name="new")
    async with begun(do) as tx:
        tx.update(ada, Account.balance.add(1), upsert=True)
        tx.update(new, balance=5, upsert=True)
        tx.update_by_key(Account, ("b", "third"), balance=7, upsert=True)
    assert (ada.balance, new.balance, new.is_dirty) == (2, 5, False)
    found = await transact_get(do, *((Account, ("b", name)) for name in ("ada", "new", "third")))
    assert balances(found) == [2, 5, 7]
    async with refused(do) as (tx, raised):
        tx.update_by_key(Account, ("b", "fourth"), balance=7, upsert=True)
        tx.check(Account, ("b", "ada"), Account.balance == 0)
    assert [type(reason) for reason in raised.value.reasons] == [type(None), ConditionFailed]
    assert await do.get(Account, bank="b", name="fourth") is None


async def test_changes_of_other_attributes_stay_unsaved_after_an_update(do):
    (ada,) = await accounts(do, ada=1)
    ada.limit_ = 5
    async with begun(do) as tx:
        tx.update(ada, Account.balance.add(1))
    assert (ada.balance, ada.limit_, ada.changed) == (2, 5, {"limit_"})
    await do.save(ada)
    found = await do.get(Account, bank="b", name="ada")
    assert (found.balance, found.limit_) == (2, 5)


async def test_an_update_of_an_instance_that_was_not_loaded(do):
    await accounts(do, ada=1)
    async with begun(do) as tx:
        ada = Account(bank="b", name="ada")
        tx.update(ada, limit_=7)
    assert (ada.balance, ada.limit_, ada.is_dirty) == (1, 7, False)


async def test_hooks_run_at_the_commit_and_those_after_it_see_all_instances_stored(do):
    old = await do.create(Logged, shop="b", id="old", n=1, skip_hooks=True)
    dead = await do.create(Logged, shop="b", id="dead", n=1, skip_hooks=True)
    async with begun(do) as tx:
        first = tx.create(Logged, shop="b", id="first", n=1)
        tx.update(old, n=2)
        tx.delete(dead)
        quiet = Logged(shop="b", id="quiet", n=BAD)
        tx.save(quiet, skip_hooks=True)
        WATCHED.extend([first, old, quiet])
        assert CALLS == []
    names = ["first", "old", "dead"]
    before, after = ([(when, name) for name in names] for when in ("before", "after"))
    assert [*before, *after] == CALLS
    assert SEEN == [[False, False, False]] * 3


async def test_a_hook_that_raises_fails_the_transaction(do):
    good = Logged(shop="b", id="good", n=1)
    async with refused(do, ValueError, match="not this one") as (tx, _):
        tx.save(good)
        tx.create(Logged, shop="b", id="bad", n=BAD)
        tx.create(Logged, shop="b", id="later", n=1)
    assert CALLS == [("before", "good"), ("before", "bad")]
    assert good.is_dirty
    assert await transact_get(do, (Logged, ("b", "good")), (Logged, ("b", "later"))) == [None, None]
    await do.save(good)
    assert not good.is_dirty


async def test_no_hooks_run_after_a_cancelled_transaction(do):
    async with refused(do) as (tx, _):
        tx.create(Logged, shop="b", id="one", n=1)
        tx.check(Logged, ("b", "none"), Logged.n == 1)
    assert CALLS == [("before", "one")]


class Waiting(Model):
    shop = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True)
    calls: list[str] = []  # noqa: RUF012 - the record of all instances

    @before_save
    async def before(self) -> None:
        await asyncio.sleep(0)
        self.calls.append("before")

    @after_save
    async def after(self) -> None:
        await asyncio.sleep(0)
        self.calls.append("after")

    @after_load
    async def loaded(self) -> None:
        await asyncio.sleep(0)
        self.calls.append("loaded")


async def test_async_hooks(do):
    Waiting.calls.clear()
    if do.blocking:
        with pytest.raises(ConfigurationError, match="async with"), mintkey.transaction() as tx:
            tx.create(Waiting, shop="b", id="1")
        with pytest.raises(ConfigurationError, match="atransact_get"):
            mintkey.transact_get([(Waiting, ("b", "1"))])
        assert Waiting.calls == []
        return
    async with mintkey.transaction() as tx:
        tx.create(Waiting, shop="b", id="1")
    assert Waiting.calls == ["before", "after"]
    await mintkey.atransact_get([(Waiting, ("b", "1"))])
    assert Waiting.calls == ["before", "after", "loaded"]


async def test_an_exception_discards_the_transaction(do):
    (ada,) = await accounts(do, ada=1)
    line = Line(shop="b", order="x")
    async with refused(do, ZeroDivisionError) as (tx, _):
        tx.update(ada, balance=5)
        tx.save(line)
        raise ZeroDivisionError
    assert line.id
    assert (ada.balance, ada.is_dirty, line.is_dirty) == (1, False, True)
    assert await transact_get(do, (Account, ("b", "ada")), (Line, ("b", line.id))) == [ada, None]
    await do.save(ada)
    await do.save(line)


async def test_a_transaction_without_writes_does_nothing(do):
    async with begun(do) as tx:
        pass
    assert len(tx) == 0
    (ada,) = await accounts(do, ada=1)
    async with begun(do) as tx:
        tx.save(ada)  # it has no changes
    assert not ada.is_dirty


async def test_an_invalid_value_fails_before_anything_is_sent(do):
    (ada,) = await accounts(do, ada=1)
    async with refused(do, InvalidValue, match=r"Line.*order: required") as (tx, _):
        tx.update(ada, balance=5)
        tx.save(Line(shop="b"))
    async with refused(do, InvalidValue, match="key") as (tx, _):
        tx.save(Account(bank="b", balance=1))
    async with refused(do, ItemTooLarge, match="big") as (tx, _):
        tx.update(ada, balance=5)
        tx.save(Order(shop="b", id="big", tags=["x" * 500_000]))
    assert ada.balance == 1
    assert balances(await transact_get(do, (Account, ("b", "ada")))) == [1]


async def test_a_hundred_items_and_no_more(do):
    keys = [("b", f"{n:03}") for n in range(101)]

    async def write(count: int) -> None:
        async with begun(do) as tx:
            for bank, name in keys[:count]:
                tx.create(Account, bank=bank, name=name, balance=1)

    with pytest.raises(InvalidValue, match="at most 100 items, and this one has 101"):
        await write(101)
    assert await do.get(Account, bank="b", name="000") is None
    with pytest.raises(InvalidValue, match="at most 100 items, and this one has 101"):
        await transact_get(do, *((Account, key) for key in keys))
    await write(100)
    found = await transact_get(do, *((Account, key) for key in keys[:100]))
    assert balances(found) == [1] * 100


async def test_four_megabytes_and_no_more(do):
    def order(n: int) -> Order:
        return Order(shop="b", id=str(n), tags=["x" * 390_000])

    async with refused(do, InvalidValue, match="4194304") as (tx, _):
        for n in range(11):
            tx.save(order(n))
    assert await do.get(Order, shop="b", id="0") is None


async def test_an_item_occurs_once(do):
    ada, grace = await accounts(do, ada=1, grace=1)
    async with begun(do) as tx:
        tx.update(ada, balance=2)
        for again in (
            lambda: tx.save(ada),
            lambda: tx.update(ada, balance=3),
            lambda: tx.delete(ada),
        ):
            with pytest.raises(InvalidValue, match=r"Account.*in the transaction already"):
                again()
    assert ada.balance == 2
    async with refused(do, InvalidValue, match=r"""Account \("b", "grace"\).*items 2 and 3""") as (tx, raised):
        tx.update(ada, balance=3)
        tx.update(grace, balance=3)
        tx.check(Account, ("b", "grace"), Account.balance == 1)
    assert raised.value.key == {"bank": "b", "name": "grace"}
    assert balances(await transact_get(do, (Account, ("b", "ada")), (Account, ("b", "grace")))) == [2, 1]


async def test_models_of_two_stores_are_refused(do, store):
    with connect("sqlite://", name="elsewhere") as other:

        class Elsewhere(Model):
            model_config = ModelConfig(store="elsewhere")
            pk = StringAttribute(partition_key=True)

        both = rf"Account is in {re.escape(store.url)} and Elsewhere in {other.url}"
        async with refused(do, ConfigurationError, match=both) as (tx, _):
            tx.create(Account, bank="b", name="ada", balance=1)
            tx.create(Elsewhere, pk="a")
        assert await do.get(Account, bank="b", name="ada") is None
        with pytest.raises(ConfigurationError, match=both):
            await transact_get(do, (Account, ("b", "ada")), (Elsewhere, "a"))
        async with begun(do) as tx:
            tx.create(Elsewhere, pk="a")
        assert await do.count(Elsewhere) == 1


async def test_a_transaction_ends_with_its_block(do):
    (ada,) = await accounts(do, ada=1)
    tx = mintkey.transaction()
    with pytest.raises(ConfigurationError, match="not begun"):
        tx.save(ada)
    async with begun(do) as tx:
        with pytest.raises(ConfigurationError, match=r"mintkey\.transaction\(\)"):
            tx.__enter__()
    for use in (
        lambda: tx.save(ada),
        lambda: tx.create(Account, bank="b", name="x"),
        lambda: tx.check(Account, ("b", "x"), Account.balance == 1),
    ):
        with pytest.raises(ConfigurationError, match="ended with its `with` block"):
            use()
    with pytest.raises(ConfigurationError, match="used before"):
        tx.__enter__()
    with pytest.raises(ConfigurationError, match="used before"):
        await tx.__aenter__()


async def test_arguments_of_wrong_types_are_refused_at_the_call(do):
    (ada,) = await accounts(do, ada=1)
    tx: Any
    async with begun(do) as tx:
        for wrong in (
            lambda: tx.save("ada"),
            lambda: tx.save(ada, condition=True),
            lambda: tx.update(ada),
            lambda: tx.update(ada, colour=1),
            lambda: tx.create("Account"),
            lambda: tx.create(Account, colour=1),
            lambda: tx.check(Account, ("b", "ada"), None),
            lambda: tx.check(Account, "b", Account.balance == 1),
            lambda: tx.check(Account, ("b", "ada"), Order.total == 1),
            lambda: tx.delete_by_key(Account, "b"),
        ):
            with pytest.raises(TypeError):
                wrong()
        assert len(tx) == 0
    with pytest.raises(TypeError, match="pairs of a model and a key"):
        await transact_get(do, "ada")
    with pytest.raises(TypeError, match="model"):
        await transact_get(do, (ada, ("b", "ada")))


async def test_reading_several_items(do):
    ada, _ = await accounts(do, ada=1, grace=2)
    order = await do.create(Order, shop="b", total=1)
    assert await transact_get(do) == []
    found = await transact_get(
        do,
        (Account, ("b", "ada")),
        (Account, ("b", "nobody")),
        (Order, {"shop": "b", "id": order.id}),
        (Account, {"bank": "b", "name": "ada"}),
    )
    assert found == [ada, None, order, ada]
    assert found[0] is not found[3]
    found[2].total = 5
    await do.save(found[2])
    assert (await do.get(Order, shop="b", id=order.id)).total == 5


async def test_expired_rows_count_as_absent(do):
    with frozen("2100-01-01T00:00:00Z", seed=1) as clock:
        for name in ("1", "2", "3"):
            await do.create(Line, shop="b", id=name, order="old", expires_at=ExpiresIn.minutes(1))
        clock.advance(61)
        assert await transact_get(do, (Line, ("b", "1"))) == [None]
        async with begun(do) as tx:
            tx.create(Line, shop="b", id="1", order="new")
            tx.check(Line, ("b", "2"), Line.order.does_not_exist())
        assert (await do.get(Line, shop="b", id="1")).order == "new"
        async with refused(do) as (tx, raised):
            tx.update_by_key(Line, ("b", "3"), order="new")
        assert type(raised.value.reasons[0]) is ItemGone


async def test_rate_limits_of_all_models_count(do):
    one, two = FixedRate(wcu=1000, rcu=1000), FixedRate(wcu=1000, rcu=1000)

    class First(Model):
        model_config = ModelConfig(table="firsts", rate_limit=one)
        pk = StringAttribute(partition_key=True)
        sk = StringAttribute(sort_key=True)

    class Second(Model):
        model_config = ModelConfig(table="seconds", rate_limit=two)
        pk = StringAttribute(partition_key=True)
        sk = StringAttribute(sort_key=True)

    async with begun(do) as tx:
        tx.create(First, pk="a", sk="1")
        tx.create(Second, pk="a", sk="1")
    # DynamoDB Local counts twice as much as AWS.
    assert one.consumed_wcu == two.consumed_wcu
    assert one.consumed_wcu in (4, 8)
    await transact_get(do, (First, ("a", "1")), (Second, ("a", "1")))
    assert one.consumed_rcu == two.consumed_rcu == 4


async def test_rows_of_other_slots_are_refused_on_a_cluster(do, store):
    far = [await do.create(Account, bank=f"bank {n}", name="ada", balance=0) for n in range(3)]

    async def write() -> None:
        async with begun(do) as tx:
            for account in far:
                tx.update(account, balance=1)

    if store.url.startswith("redis-cluster"):
        with pytest.raises(UnsupportedOperation, match=r"bank \d.*bank \d"):
            await write()
        with pytest.raises(UnsupportedOperation, match=r"bank \d.*bank \d"):
            await transact_get(do, *((Account, (account.bank, "ada")) for account in far))
    else:
        await write()
    expected = 0 if store.url.startswith("redis-cluster") else 1
    for account in far:
        assert (await do.get(Account, bank=account.bank, name="ada")).balance == expected
