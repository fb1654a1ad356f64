"""Hooks: which run, in which order, and what an exception in one of them means."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConditionFailed, ConfigurationError, InvalidValue
from mintkey.generators import generate_value
from mintkey.hooks import (
    after_delete,
    after_load,
    after_save,
    after_update,
    before_delete,
    before_save,
    before_update,
)

RAN: list[str] = []


@pytest.fixture(autouse=True)
def _fresh():
    RAN.clear()


class Noted(Model):
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    n = NumberAttribute()
    code = StringAttribute(default=AutoGenerate.ULID)

    @before_save
    def one(self) -> None:
        RAN.append("before_save")

    @after_save
    def two(self) -> None:
        RAN.append("after_save")

    @before_update
    def three(self) -> None:
        RAN.append("before_update")

    @after_update
    def four(self) -> None:
        RAN.append("after_update")

    @before_delete
    def five(self) -> None:
        RAN.append("before_delete")

    @after_delete
    def six(self) -> None:
        RAN.append("after_delete")

    @after_load
    def seven(self) -> None:
        RAN.append("after_load")


def ran() -> list[str]:
    told = list(RAN)
    RAN.clear()
    return told


async def test_each_operation_runs_its_hooks(do):
    item = Noted(pk="a", sk=1)
    await do.save(item)
    assert ran() == ["before_save", "after_save"]
    await do.create(Noted, pk="a", sk=2)
    assert ran() == ["before_save", "after_save"]
    await do.update(item, n=1)
    assert ran() == ["before_update", "after_update"]
    await do.get(Noted, pk="a", sk=1)
    assert ran() == ["after_load"]
    await do.get(Noted, pk="a", sk=99)
    assert ran() == []
    await do.refresh(item)
    assert ran() == ["after_load"]
    for result in (do.query(Noted, pk="a"), do.scan(Noted)):
        await do.iterate(result)
        assert ran() == ["after_load"] * 2
        await do.first(result)
        assert ran() == ["after_load"]
        await do.page(result, 2)
        assert ran() == ["after_load"] * 2
        await do.count(result)
        assert ran() == []
    await do.update_by_key(Noted, {"pk": "a", "sk": 1}, n=2)
    assert ran() == []
    await do.delete(item)
    assert ran() == ["before_delete", "after_delete"]


async def test_skip_hooks_on_every_write(do):
    item = Noted(pk="a", sk=1)
    await do.save(item, skip_hooks=True)
    await do.update(item, n=1, skip_hooks=True)
    item.n = 5
    await do.save(item, skip_hooks=True)
    await do.delete(item, skip_hooks=True)
    await do.create(Noted, pk="a", sk=1, skip_hooks=True)
    assert ran() == []
    assert item.code is not None


async def test_a_model_can_skip_hooks_altogether(do):
    class Quiet(Noted):
        model_config = ModelConfig(skip_hooks=True)

    item = Quiet(pk="a", sk=1)
    await do.save(item)
    await do.update(item, n=1)
    await do.refresh(item)
    await do.get(Quiet, pk="a", sk=1)
    await do.iterate(do.query(Quiet, pk="a"))
    await do.delete(item)
    await do.create(Quiet, pk="a", sk=1)
    assert ran() == []
    assert item.code is not None

    class Loud(Quiet):
        model_config = ModelConfig(skip_hooks=False)

    await do.save(Loud(pk="a", sk=1))
    assert ran() == ["before_save", "after_save"]


async def test_hooks_run_in_order_of_definition_base_class_first_an_overridden_one_once(do):
    class Base(Model):
        model_config = ModelConfig(abstract=True)

        @before_save
        def first(self) -> None:
            RAN.append("base first")

        @before_save
        def second(self) -> None:
            RAN.append("base second")

    class Middle(Base):
        model_config = ModelConfig(abstract=True)

        @before_save
        def third(self) -> None:
            RAN.append("middle third")

    class Last(Middle):
        pk = StringAttribute(partition_key=True)

        @before_save
        def fourth(self) -> None:
            RAN.append("last fourth")

        @before_save
        def first(self) -> None:
            RAN.append("last first")

        def second(self) -> None:
            super().second()
            RAN.append("last second")

    await do.save(Last(pk="a"))
    assert ran() == ["last first", "base second", "last second", "middle third", "last fourth"]


async def test_one_method_can_be_several_hooks(do):
    class Both(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

        @before_save
        @before_update
        def note(self) -> None:
            RAN.append(f"note {self.n}")

    item = Both(pk="a", n=1)
    await do.save(item)
    await do.update(item, n=2)
    assert ran() == ["note 1", "note 1"]


@pytest.mark.parametrize("kind", ["save", "update", "delete"])
async def test_an_exception_before_stops_and_reaches_the_caller_unchanged(do, kind):
    class Odd(Exception):
        pass

    decorate: Any = {"save": before_save, "update": before_update, "delete": before_delete}[kind]

    class Guarded(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

        @decorate
        def guard(self) -> None:
            raise Odd(kind)

        @after_save
        @after_update
        @after_delete
        def after(self) -> None:
            RAN.append("after")

    item = Guarded(pk="a", n=1)
    await do.save(item, skip_hooks=True)
    item.n = 2
    with pytest.raises(Odd) as caught:
        await {"save": do.save, "delete": do.delete, "update": lambda it: do.update(it, n=3)}[kind](item)
    assert caught.value.args == (kind,)
    assert caught.value.__cause__ is None
    assert ran() == []
    assert item.changed == {"n"}
    assert (await do.get(Guarded, pk="a")).n == 1


async def test_after_hooks_see_the_stored_item(do):
    class Seen(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        n = NumberAttribute()

        @after_save
        def look(self) -> None:
            assert not self.is_dirty
            assert self.pk is not None
            RAN.append("seen")

    item = Seen(n=1)
    await do.save(item)
    assert ran() == ["seen"]
    item.n = "wrong"  # type: ignore[assignment]
    with pytest.raises(InvalidValue):
        await do.save(item)
    item.n = 2
    with pytest.raises(ConditionFailed):
        await do.save(item, condition=Seen.n == 5)
    assert ran() == []


async def test_after_load_may_change_the_instance(do):
    class Told(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

        @after_load
        def tell(self) -> None:
            self.n = (self.n or 0) + 1

    await do.save(Told(pk="a", n=1))
    loaded = await do.get(Told, pk="a")
    assert loaded.n == 2
    assert loaded.changed == {"n"}


async def test_hooks_may_use_the_store(do):
    class Counter(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

    class Member(Model):
        pk = StringAttribute(partition_key=True)

        @after_save
        def count_me(self) -> None:
            Counter(pk="members", n=Member.count()).save()

    await do.save(Member(pk="a"))
    await do.save(Member(pk="b"))
    assert (await do.get(Counter, pk="members")).n == 2


# async hooks


class Awaiting(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    code = StringAttribute(default=AutoGenerate.ULID)

    @before_save
    def plain(self) -> None:
        RAN.append("plain")

    @before_save
    async def before(self) -> None:
        RAN.append("began")
        await asyncio.sleep(0)
        RAN.append(f"minted {self.code is not None}")

    @after_load
    async def after(self) -> None:
        await asyncio.sleep(0)
        RAN.append("loaded")


async def test_async_hooks_are_awaited_in_order(store):
    await Awaiting(pk="a").asave()
    assert ran() == ["plain", "began", "minted True"]
    assert await Awaiting.aget(pk="a") is not None
    assert [item.pk async for item in Awaiting.aquery(pk="a")] == ["a"]
    assert len((await Awaiting.ascan().apage(5)).items) == 1
    assert ran() == ["loaded"] * 3
    await Awaiting.acreate(pk="b")
    assert ran() == ["plain", "began", "minted True"]


@pytest.mark.parametrize(
    "call",
    [
        lambda item: item.save(),
        lambda _: Awaiting.create(pk="b"),
        lambda _: Awaiting.get(pk="a"),
        lambda item: item.refresh(),
        lambda _: Awaiting.query(pk="a").all(),
        lambda _: Awaiting.query(pk="a").first(),
        lambda _: Awaiting.scan().page(1),
        lambda _: list(Awaiting.scan()),
        lambda _: len(Awaiting.scan()),
    ],
    ids=["save", "create", "get", "refresh", "all", "first", "page", "list", "len"],
)
async def test_a_blocking_call_refuses_an_async_hook_before_any_hook_runs(store, call):
    item = await Awaiting.acreate(pk="a")
    ran()
    item.n = 5
    with pytest.raises(ConfigurationError, match="async") as caught:
        call(item)
    assert caught.value.model == "Awaiting"
    assert ran() == []
    assert await Awaiting.acount() == 1
    assert (await Awaiting.acount(n=5)) == 0


def test_a_blocking_call_that_skips_hooks_may_have_async_ones(store):
    Awaiting(pk="a").save(skip_hooks=True)
    assert ran() == []


def test_a_hook_that_gives_back_something_to_await_is_refused(store):
    class Sly(Model):
        pk = StringAttribute(partition_key=True)

        @before_save
        def sly(self) -> Any:
            return asyncio.sleep(0)

    with pytest.raises(ConfigurationError, match="async"):
        Sly(pk="a").save()
    assert Sly.count() == 0


async def test_an_exception_in_an_async_hook(store):
    class Odd(Model):
        pk = StringAttribute(partition_key=True)

        @before_save
        async def guard(self) -> None:
            await asyncio.sleep(0)
            raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await Odd(pk="a").asave()
    assert await Odd.acount() == 0


async def test_concurrent_saves_keep_their_instants_apart(store):
    class Paused(Model):
        pk = StringAttribute(partition_key=True)
        one = StringAttribute(default=AutoGenerate.ULID)
        two = NumberAttribute(default=AutoGenerate.EPOCH_MS)
        three = NumberAttribute()

        @before_save
        async def pause(self) -> None:
            for _ in range(int(self.pk or 0) % 5):
                await asyncio.sleep(0)
            self.three = generate_value(AutoGenerate.EPOCH_MS)

    items = [Paused(pk=str(number)) for number in range(40)]
    await asyncio.gather(*(item.asave() for item in items))
    assert all(item.two == item.three for item in items)
    assert len({item.one for item in items}) == 40


async def test_a_hook_that_saves_another_item_keeps_the_instants_apart(do, clock):
    class Log(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        at = StringAttribute(default=AutoGenerate.ISO8601)

    class Main(Model):
        pk = StringAttribute(partition_key=True)
        at = StringAttribute(default=AutoGenerate.ISO8601)

        @before_save
        def log(self) -> None:
            _ = self.at
            clock.advance(60)
            Log().save()

    item = Main(pk="a")
    await do.save(item)
    assert item.at == "2024-01-01T00:00:00Z"
    (log,) = await do.iterate(do.scan(Log))
    assert log.at == "2024-01-01T00:01:00Z"
