"""Unique values with many writers at once: each value has one holder, whatever the others do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, ModelConfig, transaction
from mintkey.attributes import ExpiresIn, NumberAttribute, StringAttribute, TTLAttribute
from mintkey.errors import (
    BatchIncomplete,
    ConditionFailed,
    ConfigurationError,
    ItemGone,
    KeyCollision,
    TransactionCancelled,
    UniqueViolation,
)
from mintkey.hooks import after_save, after_update, before_save
from mintkey.testing import frozen

VALUES = 50
THREADS = 16

RAN: list[Any] = []


class User(Model):
    model_config = ModelConfig(table="users")
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    email = StringAttribute(unique=True)
    name = StringAttribute()
    n = NumberAttribute(default=0)
    until = TTLAttribute()


class Account(Model):
    model_config = ModelConfig(table="accounts", unique=[("tenant", "login")])
    key = StringAttribute(partition_key=True)
    tenant = StringAttribute()
    login = StringAttribute()
    email = StringAttribute(unique=True)
    n = NumberAttribute(default=0)


def together(threads: int, work: Callable[[int], object]) -> None:
    """Run `work` in so many threads that begin at one moment; what one of them raises is raised here."""
    meet = threading.Barrier(threads)
    raised: list[BaseException] = []

    def run(number: int) -> None:
        meet.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if raised:
        raise raised[0]


def check(model: Any = User) -> dict[str, str]:
    """Each value has one holder, and is found by it; return the holders by value."""
    rows = [row for row in model.scan() if row.email is not None]
    times = Counter(row.email for row in rows)
    assert [value for value, many in times.items() if many > 1] == []
    found = {row.email: row.id for row in rows}
    assert {email: model.get_by(email=email).id for email in found} == found
    return found


@pytest.mark.slow
def test_of_several_threads_one_gets_each_value(store):
    User.create_table()
    written: list[Any] = []
    refused: list[Any] = []

    def work(number: int) -> None:
        emails = [str(value) for value in range(VALUES)]
        random.Random(number).shuffle(emails)
        for email in emails:
            try:
                written.append(User.create(email=email, name=str(number)).email)
            except UniqueViolation as error:
                refused.append((error.attribute, error.value == email))

    together(THREADS, work)
    assert sorted(written) == sorted(str(value) for value in range(VALUES))
    assert set(refused) == {("email", True)}
    assert check().keys() == set(written)
    assert User.count() == VALUES


@pytest.mark.slow
def test_renames_deletes_and_expiry_leave_no_value_to_two(store):
    """Threads create, rename, free, expire, delete and replace users of few e-mail addresses."""
    User.create_table()
    with frozen("2100-01-01T00:00:00Z", seed=1) as clock:

        def work(number: int) -> None:
            dice = random.Random(number)
            for step in range(30):
                email, key = str(dice.randrange(20)), str(dice.randrange(30))
                try:
                    match dice.randrange(7):
                        case 0 | 1:
                            User.create(id=key, email=email)
                        case 2:
                            User.update_by_key(key, email=email)
                        case 3:
                            User.create(id=key, email=email, until=ExpiresIn.minutes(dice.randrange(1, 4)))
                        case 4:
                            User.delete_by_key(key)
                        case 5:
                            User(id=key, email=dice.choice([email, None])).save()
                        case _:
                            User.batch_save([User(id=f"{key} {one}", email=f"{email}{one}") for one in "abc"])
                except (UniqueViolation, KeyCollision, ItemGone, BatchIncomplete):
                    pass
                if step % 10 == number % 10:
                    clock.advance(timedelta(minutes=1))

        together(THREADS, work)
        held = check()
        # What no item has is free, and what one has is not.
        for value in range(20):
            if str(value) in held:
                with pytest.raises(UniqueViolation) as raised:
                    User.create(id="last", email=str(value))
                assert raised.value.holder == {"id": held[str(value)]}
            else:
                User.create(id=f"free {value}", email=str(value))
        check()


@pytest.mark.slow
async def test_of_several_tasks_one_gets_each_value(store):
    await User.acreate_table()
    tasks = [User(email=str(number % 20)).asave() for number in range(200)]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = Counter(type(one) for one in done)
    assert kinds == {type(None): 20, UniqueViolation: 180}
    assert len({user.email async for user in User.ascan()}) == 20


def test_get_or_create_by_a_unique_value_creates_one(store):
    User.create_table()
    results: list[tuple[Any, bool]] = []

    def work(number: int) -> None:
        results.extend(User.get_or_create(email=email, defaults={"name": str(number)}) for email in "ab")

    together(THREADS, work)
    created = [user for user, is_new in results if is_new]
    assert sorted(str(user.email) for user in created) == ["a", "b"]
    assert {user.id for user, _ in results} == {user.id for user in created}
    assert User.count() == 2


def test_update_or_create_by_a_unique_value_loses_no_call(store):
    User.create_table()
    results: list[tuple[Any, bool]] = []

    def work(number: int) -> None:
        for _ in range(3):
            results.append(User.update_or_create(email="a", defaults={"name": str(number)}))  # noqa: PERF401 - one by one

    together(8, work)
    assert [is_new for _, is_new in results].count(True) == 1
    assert User.count() == 1
    found: Any = User.get_by(email="a")
    assert found.name in {str(number) for number in range(8)}


async def test_get_or_create_by_unique_values(do):
    made, created = await do.get_or_create(Account, tenant="t", login="l", defaults={"key": "k", "n": 5})
    assert (created, made.key, made.n, made.is_dirty) == (True, "k", 5, False)
    found, created = await do.get_or_create(Account, tenant="t", login="l", defaults={"key": "other", "n": 6})
    assert (created, found) == (False, made)
    assert (await do.get_or_create(Account, tenant="t", login="l", n=5))[1] is False
    for call in (do.get_or_create, do.update_or_create):
        with pytest.raises(UniqueViolation, match=r"its n differs from the lookup") as raised:
            await call(Account, tenant="t", login="l", n=6)
        assert (raised.value.attribute, raised.value.value) == (("tenant", "login"), ("t", "l"))
        assert (raised.value.holder, raised.value.item.n) == ({"key": "k"}, 5)
    # The key of another item, and the unique value of another one.
    with pytest.raises(KeyCollision):
        await do.get_or_create(Account, tenant="t", login="new", defaults={"key": "k"})
    await do.update(made, email="a@b.c")
    with pytest.raises(UniqueViolation) as raised:
        await do.get_or_create(Account, tenant="t", login="new", defaults={"key": "k2", "email": "a@b.c"})
    assert (raised.value.attribute, raised.value.holder) == ("email", {"key": "k"})
    with pytest.raises(UniqueViolation) as raised:
        await do.get_or_create(Account, key="k3", defaults={"email": "a@b.c"})
    assert raised.value.attribute == "email"
    with pytest.raises(TypeError, match=r"key=…, or unique values, email=… or tenant=…, login=…, and key is missing"):
        await do.get_or_create(Account, tenant="t")
    for absent in ({"email": None}, {"tenant": "t", "login": None}):
        with pytest.raises(TypeError, match=r"(email|login) is None in the lookup, which means absent"):
            await do.get_or_create(Account, **absent)
    assert await do.count(Account) == 1


async def test_update_or_create_by_unique_values(do):
    made, created = await do.update_or_create(
        Account, email="a@b.c", defaults={"n": 1}, create_defaults={"key": "k", "n": 0}
    )
    assert (created, made.n) == (True, 0)
    changed, created = await do.update_or_create(Account, email="a@b.c", defaults={"n": lambda: 7})
    assert (created, changed.key, changed.n) == (False, "k", 7)
    renamed, created = await do.update_or_create(Account, email="a@b.c", defaults={"email": "new@b.c"})
    assert (created, renamed.email) == (False, "new@b.c")
    assert (await do.get_by(Account, email="new@b.c")).key == "k"
    await do.create(Account, key="other", email="other@b.c")
    with pytest.raises(UniqueViolation) as raised:
        await do.update_or_create(Account, email="other@b.c", defaults={"email": "new@b.c"})
    assert raised.value.holder == {"key": "k"}
    with pytest.raises(TypeError, match="'key' is a part of the key: pass it in create_defaults=, not in defaults="):
        await do.update_or_create(Account, email="x", defaults={"key": "k"})


class Old(Model):
    """The table of `User`, before e-mail addresses were unique."""

    model_config = ModelConfig(table="users")
    id = StringAttribute(partition_key=True)
    email = StringAttribute()


def test_values_are_built_while_programs_write(store):
    """Programs with the new class write before `create_table()` has built the values, and go on meanwhile."""
    Old.create_table()
    Old.batch_save([Old(id=f"old {n}", email=f"old {n}") for n in range(40)])
    built = threading.Event()

    def write(number: int) -> None:
        dice = random.Random(number)
        done = 0
        while done < 3:
            done += built.is_set()
            key, email = f"{number} {dice.randrange(6)}", f"{dice.randrange(12)}"
            with contextlib.suppress(UniqueViolation, ItemGone, BatchIncomplete, TransactionCancelled):
                match dice.randrange(5):
                    case 0:
                        User.delete_by_key(key)
                    case 1:
                        User.update_by_key(f"old {dice.randrange(40)}", email=email)
                    case 2:
                        User.batch_save([User(id=key, email=email), User(id=f"{key} b", email=f"{email} b")])
                    case 3:
                        with transaction() as tx:
                            tx.save(User(id=key, email=email))
                    case _:
                        User(id=key, email=email).save()

    def build() -> None:
        """Resolves the duplicates that are reported, until there are none."""
        try:
            while not built.is_set():
                try:
                    User.create_table()
                    built.set()
                except UniqueViolation as error:
                    for _, keys in error.duplicates:
                        for key in keys[1:]:
                            Old.delete_by_key(str(key["id"]))
        finally:
            built.set()

    together(5, lambda number: build() if number == 4 else write(number))
    assert len(check()) >= 20


class Slow(Model):
    """Another writer takes the value while an item is created."""

    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    email = StringAttribute(unique=True)
    log = StringAttribute(unique=True)

    @after_save
    def write_another(self) -> None:
        if self.log is not None:
            Slow(email=self.log).save(skip_hooks=True)


async def test_a_violation_of_a_hook_is_not_taken_for_another_writer(do):
    await do.create(Slow, email="taken")
    with pytest.raises(UniqueViolation) as raised:
        await do.get_or_create(Slow, email="new", defaults={"log": "taken"})
    assert raised.value.value == "taken"
    assert (await do.get_by(Slow, email="new")).log == "taken"


class Member(Model):
    """Another writer is faster with the same item, which has two unique values."""

    model_config = ModelConfig(table="members", unique=[("tenant", "login")])
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    email = StringAttribute(unique=True)
    tenant = StringAttribute()
    login = StringAttribute()
    n = NumberAttribute(default=0)

    @before_save
    def be_slower(self) -> None:
        if self.n == 1:
            Member(email=self.email, tenant=self.tenant, login=self.login).save(skip_hooks=True)


async def test_the_faster_writer_of_an_item_has_all_of_its_unique_values(do):
    for number, lookup in enumerate(({"email": "a"}, {"tenant": "t", "login": "a"}, {"email": "a", "tenant": "t"})):
        one = {"email": f"{number}", "tenant": f"{number}", "login": f"{number}"}
        by = {name: one[name] for name in lookup}
        rest = {name: value for name, value in one.items() if name not in lookup}
        found, created = await do.get_or_create(Member, **by, defaults={**rest, "n": 1})
        assert (created, found.n, found == await do.get_by(Member, email=found.email)) == (False, 0, True)
        one = {name: f"{value} more" for name, value in one.items()}
        by = {name: one[name] for name in lookup}
        rest = {name: value for name, value in one.items() if name not in lookup}
        found, created = await do.update_or_create(Member, **by, defaults={"n": 5}, create_defaults={**rest, "n": 1})
        assert (created, found.n, found == await do.get_by(Member, email=found.email)) == (False, 5, True)
    with pytest.raises(UniqueViolation, match='email = "0"'):
        await do.get_or_create(Member, tenant="new", login="new", defaults={"email": "0"})
    assert await do.count(Member) == 6


def test_of_many_threads_with_two_unique_values_one_creates(store):
    Member.create_table()
    results: list[tuple[Any, bool]] = []

    def work(_: int) -> None:
        results.extend(
            Member.get_or_create(tenant="t", login=one, defaults={"email": f"{one}@b.c"}) for one in ("x", "y", "z")
        )

    together(THREADS, work)
    assert sum(created for _, created in results) == Member.count() == 3
    assert len({member.id for member, _ in results}) == 3


class Twice(Model):
    """A hook writes another item of the same class."""

    id = StringAttribute(partition_key=True)
    email = StringAttribute(unique=True)
    n = NumberAttribute(default=0)

    @after_save
    @after_update
    def write_another(self) -> None:
        RAN.append(self.n)
        if self.n == 1:
            Twice.create(id="taken", skip_hooks=True)
        if self.n == 2:
            Twice.update_by_key(self.id, n=3, condition=Twice.n == 5)


async def test_a_failure_of_a_hook_after_the_write_is_raised(do):
    await do.create(Twice, id="taken")
    RAN.clear()
    with pytest.raises(KeyCollision, match='"taken"'):
        await do.get_or_create(Twice, email="a", defaults={"id": "1", "n": 1})
    with pytest.raises(ConditionFailed):
        await do.update_or_create(Twice, email="a", defaults={"n": 2})
    with pytest.raises(ConditionFailed):
        await do.update_or_create(Twice, id="1", defaults={"n": 2})
    assert RAN == [1, 2, 2]
    assert (await do.get_by(Twice, email="a")).n == 2


def test_async_hooks_need_the_async_version(store):
    class Loaded(Model):
        id = StringAttribute(partition_key=True)
        email = StringAttribute(unique=True)

        from mintkey.hooks import after_load

        @after_load
        async def loaded(self) -> None:
            pass

    for call in (lambda: Loaded.get_by(email="x"), lambda: Loaded.query.get(email="x")):
        with pytest.raises(ConfigurationError, match="async hook"):
            call()
