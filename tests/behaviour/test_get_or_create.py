"""`get_or_create()` and `update_or_create()`: what they return and write, also when several writers call them."""

from __future__ import annotations

import asyncio
import threading
from datetime import date
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import DateAttribute, DatetimeAttribute, NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import ConditionFailed, ConfigurationError, InvalidValue, KeyCollision
from mintkey.fields import Field, KeyField
from mintkey.hooks import after_load, after_save, after_update, before_save, before_update

RAN: list[str] = []


class Counter(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    kind = StringAttribute()
    n = NumberAttribute(default=0)
    note = StringAttribute()
    version = VersionAttribute()
    made_at = DatetimeAttribute(default=AutoGenerate.ISO8601_MS)

    @before_save
    def saving(self) -> None:
        RAN.append("before_save")
        if self.note == "refuse":
            raise RuntimeError("refused by a hook")

    @after_save
    def saved(self) -> None:
        RAN.append("after_save")

    @before_update
    def updating(self) -> None:
        RAN.append("before_update")

    @after_update
    def updated(self) -> None:
        RAN.append("after_update")

    @after_load
    def loaded(self) -> None:
        RAN.append("after_load")


class Generated(Model):
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()


class Page(Model):
    model_config = ModelConfig(table="get-or-create-pages")
    pk = StringAttribute(partition_key=True)
    language = StringAttribute(default="en", default_on_load=True)
    day = DateAttribute(default=lambda: date(2024, 1, 1), default_on_load=True)
    text = StringAttribute()


async def test_a_row_that_is_read_with_the_default_matches_the_lookup(do):
    await do.update_by_key(Page, "a", Page.language.remove(), Page.day.remove(), text="old", upsert=True)
    assert await do.count(Page, Page.language.does_not_exist(), Page.day.does_not_exist()) == 1
    page, created = await do.get_or_create(Page, pk="a", language="en", day=date(2024, 1, 1))
    assert (page.text, created) == ("old", False)
    page, created = await do.update_or_create(Page, pk="a", language="en", defaults={"text": "new"})
    assert (page.text, created) == ("new", False)
    assert (await do.get(Page, "a")).text == "new"
    for other in ({"language": "de"}, {"day": date(2024, 1, 2)}):
        for call in (do.get_or_create, do.update_or_create):
            with pytest.raises(KeyCollision, match=f"its {next(iter(other))} differs"):
                await call(Page, pk="a", **other)


class Seat(Model):
    row = KeyField(type=int)
    number = KeyField(type=int)
    guest = Field(null=True)


@pytest.fixture(autouse=True)
def forget() -> None:
    RAN.clear()


async def test_get_or_create(do):
    made, created = await do.get_or_create(Counter, defaults={"n": 5, "note": lambda: "called"}, pk="a", sk="1")
    assert (created, made.n, made.note, made.version, made.is_dirty) == (True, 5, "called", 1, False)
    assert made.made_at is not None
    assert RAN == ["before_save", "after_save"]
    RAN.clear()
    found, created = await do.get_or_create(Counter, defaults={"n": 6}, pk="a", sk="1")
    assert (created, found.n, found.note) == (False, 5, "called")
    assert found == made
    assert RAN == ["after_load"]
    plain, created = await do.get_or_create(Counter, pk="a", sk="2")
    assert (created, plain.n) == (True, 0)
    seat, created = await do.get_or_create(Seat, defaults={"guest": "ada"}, row=1, number=2)
    assert (created, seat.guest) == (True, "ada")
    assert (await do.get_or_create(Seat, row=1, number=2))[0].guest == "ada"
    own, created = await do.get_or_create(Generated, id="0" * 26, defaults={"n": 1})
    assert (created, own.n) == (True, 1)
    assert (await do.get_or_create(Generated, id="0" * 26))[1] is False


async def test_further_attributes_of_the_lookup(do):
    made, created = await do.get_or_create(Counter, defaults={"n": 5}, pk="a", sk="1", kind="x")
    assert (created, made.kind) == (True, "x")
    assert (await do.get_or_create(Counter, pk="a", sk="1", kind="x"))[1] is False
    for call in (do.get_or_create, do.update_or_create):
        with pytest.raises(KeyCollision, match=r"Counter .*its kind differs from the lookup") as caught:
            await call(Counter, defaults={"n": 7}, pk="a", sk="1", kind="y")
        assert (caught.value.attribute, caught.value.item.kind, caught.value.item.n) == ("kind", "x", 5)
    assert (await do.get(Counter, "a", "1")).n == 5


@pytest.mark.parametrize(
    ("model", "lookup", "told"),
    [
        (Counter, {"pk": "a"}, r"needs the whole key in its lookup, pk=…, sk=…, and sk is missing$"),
        (Counter, {"kind": "x"}, r"pk is missing$"),
        (Counter, {}, r"pk is missing$"),
        (Generated, {"n": 1}, r"id is missing: a save generates it, so no lookup can find it: use create\(\)"),
        (Seat, {"row": 1}, r"needs the whole key in its lookup, row=…, number=…, and number is missing"),
        (Counter, {"pk": "a", "sk": "1", "n__gt": 1}, "no attribute 'n__gt'"),
        (Counter, {"pk": "a", "sk": "1", "defaults": {"nn": 1}}, "no attribute 'nn'"),
        (Counter, {"pk": "a", "sk": "1", "defaults": {"sk": "2"}}, "'sk' is a part of the key: pass it in the lookup"),
        (Counter, {"pk": "a", "sk": "1", "defaults": [1]}, "defaults= takes a dict"),
    ],
)
async def test_a_lookup_without_the_whole_key_is_a_type_error(do, model, lookup, told):
    for call in (do.get_or_create, do.update_or_create):
        with pytest.raises(TypeError, match=told):
            await call(model, **lookup)
    assert RAN == []


async def test_values_are_checked_and_hooks_may_refuse(do):
    with pytest.raises(InvalidValue, match=r"n.*expected a number|expected .*number|got str"):
        await do.get_or_create(Counter, defaults={"n": "x"}, pk="a", sk="1")
    with pytest.raises(RuntimeError, match="refused by a hook"):
        await do.get_or_create(Counter, defaults={"note": "refuse"}, pk="a", sk="1")
    with pytest.raises(InvalidValue, match="None means absent"):
        await do.get_or_create(Counter, pk="a", sk="1", kind=None)
    assert await do.count(Counter) == 0


async def test_update_or_create(do):
    made, created = await do.update_or_create(
        Counter, defaults={"n": 5}, create_defaults={"n": 1, "note": "new"}, pk="a", sk="1"
    )
    assert (created, made.n, made.note) == (True, 1, "new")
    assert RAN == ["before_save", "after_save"]
    RAN.clear()
    changed, created = await do.update_or_create(
        Counter, defaults={"n": lambda: 5, "note": None}, create_defaults={"n": 1}, pk="a", sk="1"
    )
    assert (created, changed.n, changed.note, changed.version, changed.is_dirty) == (False, 5, None, 2, False)
    assert RAN == ["after_load", "before_update", "after_update"]
    assert await do.get(Counter, "a", "1") == changed
    other, created = await do.update_or_create(Counter, defaults={"n": 9}, pk="a", sk="2", kind="x")
    assert (created, other.n, other.kind) == (True, 9, "x")
    same, created = await do.update_or_create(Counter, pk="a", sk="2")
    assert (created, same.version) == (False, 1)
    with pytest.raises(InvalidValue, match=r"Counter\.version: the version is counted"):
        await do.update_or_create(Counter, defaults={"version": 9}, pk="a", sk="2")


def together(number: int, call: Any) -> list[Any]:
    """The results, or exceptions, of calls by several threads at once."""
    results: list[Any] = [None] * number
    start = threading.Barrier(number)

    def run(at: int) -> None:
        start.wait()
        try:
            results[at] = call(at)
        except BaseException as error:  # noqa: BLE001 - the assertion shows it
            results[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_sixteen_threads_one_creates(store):
    assert Counter.count() == 0
    for round_ in range(3):
        results = together(16, lambda at, sk=f"{round_}": Counter.get_or_create(defaults={"n": at}, pk="a", sk=sk))
        assert [type(one) for one in results] == [tuple] * 16
        assert sum(created for _, created in results) == 1
        winner = next(item for item, created in results if created)
        assert {item.n for item, _ in results} == {winner.n}


def test_of_sixteen_threads_one_creates_and_all_others_update(store):
    assert Counter.count() == 0
    results = together(
        16, lambda at: Counter.update_or_create(defaults={"note": f"{at}"}, create_defaults={"n": 100}, pk="a", sk="1")
    )
    assert [one for one in results if not isinstance(one, tuple)] == []
    assert sum(created for _, created in results) == 1
    stored = Counter.get("a", "1")
    assert stored is not None
    assert (stored.n, stored.version) == (100, 16)


async def test_other_writers_of_the_row_do_not_disturb_an_update(do):
    class Busy(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()
        others = NumberAttribute()
        version = VersionAttribute()

        @before_update
        def meanwhile(self) -> None:
            Busy.update_by_key("a", Busy.others.add(1))

    await do.save(Busy(pk="a"))
    busy, created = await do.update_or_create(Busy, pk="a", defaults={"n": 1})
    assert (created, busy.n, busy.others, busy.version, busy.is_dirty) == (False, 1, 1, 3, False)


async def test_of_sixteen_tasks_one_creates(store):
    assert await Counter.acount() == 0
    results = await asyncio.gather(*(Counter.aget_or_create(defaults={"n": at}, pk="a", sk="1") for at in range(16)))
    assert sum(created for _, created in results) == 1
    assert len({item.n for item, _ in results}) == 1


async def test_a_collision_of_a_row_that_a_hook_writes_is_not_retried(do):
    tries = []

    class Log(Model):
        model_config = ModelConfig(table="logs")
        pk = StringAttribute(partition_key=True)

    class Logged(Model):
        pk = StringAttribute(partition_key=True)

        @before_save
        def log(self) -> None:
            tries.append(1)
            raise KeyCollision("another row", model="Log", key={"pk": "x"})

    with pytest.raises(ConditionFailed, match="another row"):
        await do.get_or_create(Logged, pk="a")
    assert tries == [1]


def test_a_blocking_call_refuses_async_hooks(store):
    class Slow(Model):
        pk = StringAttribute(partition_key=True)

        @before_save
        async def wait(self) -> None: ...

    with pytest.raises(ConfigurationError, match="wait is an async hook"):
        Slow.get_or_create(pk="a")


async def test_an_async_call_runs_async_hooks(store):
    class Slow(Model):
        pk = StringAttribute(partition_key=True)

        @before_save
        async def wait(self) -> None:
            RAN.append("waited")

    assert (await Slow.aget_or_create(pk="a"))[1]
    assert RAN == ["waited"]


async def test_attributes_may_have_the_names_of_these_methods_and_options(do):
    class Old(Model):
        pk = StringAttribute(partition_key=True)
        exists = StringAttribute()  # type: ignore[assignment]
        defaults = StringAttribute()

    await do.save(Old(pk="a", exists="yes", defaults="d"))
    found: Any = await do.get(Old, "a")
    assert (found.exists, found.defaults) == ("yes", "d")
