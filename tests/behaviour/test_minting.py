"""When values are minted: on the first save of a new item, in one step, and at no other time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, auto
from mintkey.attributes import ListAttribute, MapAttribute, NumberAttribute, StringAttribute
from mintkey.errors import ConditionFailed, InvalidValue
from mintkey.generators import generate_value
from mintkey.hooks import after_save, before_save

NOW = "2024-01-01T00:00:00Z"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def ulid_ms(text: str) -> int:
    """The milliseconds in the first ten characters, read without the code under test."""
    return sum(CROCKFORD.index(digit) * 32**power for power, digit in enumerate(reversed(text[:10])))


def ksuid_s(text: str) -> int:
    """The seconds in the first four bytes."""
    whole = sum(BASE62.index(digit) * 62**power for power, digit in enumerate(reversed(text)))
    return (whole >> 128) + 1_400_000_000


class Order(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = StringAttribute(sort_key=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    updated_at = StringAttribute(default=AutoGenerate.ISO8601, on_update=AutoGenerate.ISO8601)
    total = NumberAttribute()


async def test_the_first_example(do):
    order = Order(sk="ORDER#DETAILS", total=99.99)
    assert order.pk is None
    await do.save(order)
    assert order.pk is not None
    assert re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", order.pk)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", order.created_at or "")
    assert order.updated_at == order.created_at
    loaded = await do.get(Order, pk=order.pk, sk=order.sk)
    assert loaded == order
    assert loaded.to_dict() == order.to_dict()


class Everything(Model):
    pk = StringAttribute(partition_key=True)
    uuid4 = StringAttribute(default=AutoGenerate.UUID4)
    ulid = StringAttribute(default=AutoGenerate.ULID)
    ksuid = StringAttribute(default=AutoGenerate.KSUID)
    epoch = NumberAttribute(default=AutoGenerate.EPOCH)
    epoch_ms = NumberAttribute(default=AutoGenerate.EPOCH_MS)
    iso = StringAttribute(default=AutoGenerate.ISO8601)
    cut = StringAttribute(default=auto("uuid4", length=8))


async def test_every_strategy_has_its_exact_form(do):
    item = Everything(pk="a")
    await do.save(item)
    forms = {
        "uuid4": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "ulid": r"[0-7][0-9A-HJKMNP-TV-Z]{25}",
        "ksuid": r"[0-9A-Za-z]{27}",
        "iso": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
        "cut": r"[0-9a-f]{8}",
    }
    for name, form in forms.items():
        assert re.fullmatch(form, getattr(item, name)), name
    assert type(item.epoch) is int
    assert type(item.epoch_ms) is int
    assert (await do.get(Everything, pk="a")).to_dict() == item.to_dict()


async def test_one_save_has_one_instant(do):
    item = Everything(pk="a")
    await do.save(item)
    assert item.epoch_ms is not None
    assert ulid_ms(item.ulid or "") == item.epoch_ms
    assert item.epoch == item.epoch_ms // 1000
    assert ksuid_s(item.ksuid or "") == item.epoch


async def test_a_given_value_is_kept(do, clock):
    await do.save(Order(pk="mine", sk="x", created_at="", updated_at="before"))
    loaded = await do.get(Order, pk="mine", sk="x")
    assert (loaded.created_at, loaded.updated_at) == ("", "before")


async def test_zero_counts_as_given(do):
    item = Everything(pk="a", epoch=0, epoch_ms=0)
    await do.save(item)
    loaded = await do.get(Everything, pk="a")
    assert (loaded.epoch, loaded.epoch_ms) == (0, 0)


async def test_an_explicit_none_counts_as_not_given(do):
    order = Order(pk=None, sk="x", created_at=None)
    await do.save(order)
    assert order.pk
    assert order.created_at


async def test_an_empty_key_is_refused_and_never_minted_over(do):
    order = Order(pk="", sk="x")
    with pytest.raises(InvalidValue, match=r"Order\.pk"):
        await do.save(order)
    assert order.pk == ""
    assert await do.count(Order) == 0


async def test_a_second_save_mints_nothing(do, clock):
    order = Order(sk="x")
    await do.save(order)
    before = order.to_dict()
    clock.advance(60)
    await do.save(order)
    assert order.to_dict() == before
    order.total = 1
    await do.save(order)
    assert {**order.to_dict(), "updated_at": before["updated_at"]} == {**before, "total": 1}


async def test_a_strategy_does_not_run_for_a_stored_item_that_lacks_the_value(do):
    order = Order(sk="x")
    await do.save(order)
    await do.update(order, created_at=None)
    assert order.created_at is None
    order.total = 2
    await do.save(order)
    assert order.created_at is None
    loaded = await do.get(Order, pk=order.pk, sk="x")
    assert loaded.created_at is None
    loaded.total = 3
    await do.save(loaded)
    assert loaded.created_at is None


class Born(Model):
    pk = StringAttribute(partition_key=True)
    born = StringAttribute(default=AutoGenerate.ISO8601, on_update=AutoGenerate.ISO8601)
    kind = StringAttribute(default="plain")
    tag = StringAttribute(default=lambda: "called")
    early = StringAttribute(default=auto("ulid", when="init"))


async def test_loading_mints_nothing_and_applies_no_default(do):
    await do.save(Born(pk="b"))
    await do.update_by_key(Born, {"pk": "b"}, born=None, kind=None, tag=None, early=None)
    loaded = await do.get(Born, pk="b")
    assert loaded.to_dict() == {"pk": "b"}
    assert not loaded.is_dirty
    await do.refresh(loaded)
    assert loaded.to_dict() == {"pk": "b"}
    assert [item.to_dict() for item in await do.iterate(do.query(Born, pk="b"))] == [{"pk": "b"}]
    assert [item.to_dict() for item in await do.iterate(do.scan(Born))] == [{"pk": "b"}]


class Session(Model):
    pk = StringAttribute(partition_key=True, default=auto("uuid4", length=32, when="init"))
    seen = NumberAttribute()


async def test_minting_at_construction_is_per_instance(do):
    one, two, three = Session(), Session(pk=None), Session(pk="given")
    assert one.pk is not None
    assert two.pk is not None
    assert one.pk != two.pk
    assert three.pk == "given"
    assert len(one.pk) == 32
    kept = one.pk
    await do.save(one)
    assert one.pk == kept
    assert (await do.get(Session, pk=kept)) == one


async def test_create_mints_as_save_does(do, clock):
    order = await do.create(Order, sk="x", total=1)
    assert order.pk
    assert order.created_at == NOW
    assert await do.get(Order, pk=order.pk, sk="x") == order


async def test_callables_given_to_auto_run_at_the_save(do):
    made: list[int] = []

    def serial() -> str:
        made.append(1)
        return f"S{len(made)}"

    class Ticket(Model):
        pk = StringAttribute(partition_key=True, default=auto(serial))
        early = StringAttribute(default=auto(serial, when="init"))

    ticket = Ticket()
    assert ticket.early == "S1"
    assert ticket.pk is None
    await do.save(ticket)
    assert ticket.pk == "S2"
    await do.save(ticket)
    assert len(made) == 2


async def test_plain_defaults_apply_at_construction_and_are_copied(do):
    class Basket(Model):
        pk = StringAttribute(partition_key=True)
        things = ListAttribute(default=[])
        notes = MapAttribute(default={"a": [1]})
        count_made = NumberAttribute(default=lambda: 7)

    one, two = Basket(pk="1"), Basket(pk="2")
    assert one.things is not None
    one.things.append("x")
    assert one.notes is not None
    one.notes["a"].append(2)
    assert (two.things, two.notes, two.count_made) == ([], {"a": [1]}, 7)
    await do.save(one)
    await do.save(two)
    assert (await do.get(Basket, pk="2")).to_dict() == {"pk": "2", "things": [], "notes": {"a": [1]}, "count_made": 7}
    assert Basket(pk="3", things=None).things is None


# on_update


async def test_on_update_mints_on_each_write_that_changes_a_stored_item(do, clock):
    order = Order(sk="x")
    await do.save(order)
    for minute in range(1, 4):
        clock.advance(60)
        order.total = minute
        await do.save(order)
        assert order.updated_at == f"2024-01-01T00:0{minute}:00Z"
        assert order.created_at == NOW
        assert (await do.get(Order, pk=order.pk, sk="x")).updated_at == order.updated_at


async def test_on_update_does_not_mint_on_the_first_insert(do):
    class Note(Model):
        pk = StringAttribute(partition_key=True)
        changed_at = StringAttribute(on_update=AutoGenerate.ISO8601)
        text = StringAttribute()

    note = Note(pk="a", text="x")
    await do.save(note)
    assert note.changed_at is None
    note.text = "y"
    await do.save(note)
    assert note.changed_at is not None


async def test_on_update_does_not_mint_when_there_is_nothing_to_write(do, clock):
    order = Order(sk="x", total=1)
    await do.save(order)
    clock.advance(60)
    await do.save(order)
    order.total = 1
    await do.save(order)
    await do.save(order, condition=Order.total == 1)
    assert order.updated_at == NOW
    assert (await do.get(Order, pk=order.pk, sk="x")).updated_at == NOW


async def test_on_update_does_not_mint_over_a_value_assigned_since_the_load(do, clock):
    order = Order(sk="x")
    await do.save(order)
    clock.advance(60)
    order.total = 1
    order.updated_at = "by hand"
    await do.save(order)
    assert order.updated_at == "by hand"
    order.total = 2
    await do.save(order)
    assert order.updated_at == "2024-01-01T00:01:00Z"
    await do.update(order, updated_at="again by hand")
    assert (await do.get(Order, pk=order.pk, sk="x")).updated_at == "again by hand"


async def test_on_update_mints_in_update_and_update_by_key(do, clock):
    order = Order(sk="x")
    await do.save(order)
    clock.advance(60)
    await do.update(order, total=1)
    assert order.updated_at == "2024-01-01T00:01:00Z"
    clock.advance(60)
    await do.update_by_key(Order, {"pk": order.pk, "sk": "x"}, total=2)
    assert (await do.get(Order, pk=order.pk, sk="x")).updated_at == "2024-01-01T00:02:00Z"
    assert order.updated_at == "2024-01-01T00:01:00Z"


async def test_on_update_follows_a_failed_write_back(do, clock):
    order = Order(sk="x", total=1)
    await do.save(order)
    clock.advance(60)
    order.total = 2
    with pytest.raises(ConditionFailed):
        await do.save(order, condition=Order.total > 5)
    assert order.updated_at == NOW
    assert order.changed == {"total"}
    clock.advance(60)
    await do.save(order)
    assert order.updated_at == "2024-01-01T00:02:00Z"


# Hooks that read, assign and ask.


class Audit(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    number = NumberAttribute(default=AutoGenerate.EPOCH_MS)
    ident = StringAttribute(default=AutoGenerate.ULID)

    @before_save
    def build_key(self) -> None:
        self.sk = f"LOG#{self.created_at}"


async def test_a_hook_that_reads_an_unminted_attribute_mints_it(do, clock):
    log = Audit(pk="a")
    await do.save(log)
    assert log.sk == f"LOG#{NOW}"
    assert await do.get(Audit, pk="a", sk=f"LOG#{NOW}") == log


async def test_the_first_read_in_a_hook_settles_the_instant_of_all(do, clock):
    class Slow(Model):
        pk = StringAttribute(partition_key=True)
        created_at = StringAttribute(default=AutoGenerate.ISO8601)
        number = NumberAttribute(default=AutoGenerate.EPOCH_MS)
        ident = StringAttribute(default=AutoGenerate.ULID)
        told = StringAttribute()

        @before_save
        def take_time(self) -> None:
            _ = self.ident
            clock.advance(60)
            self.told = generate_value(AutoGenerate.ISO8601)

    item = Slow(pk="a")
    await do.save(item)
    assert item.created_at == item.told == NOW
    assert item.number == 1704067200000
    assert ulid_ms(item.ident or "") == 1704067200000


async def test_generate_value_in_a_hook_tells_the_saves_instant(do, clock):
    class Told(Model):
        pk = StringAttribute(partition_key=True)
        created_at = StringAttribute(default=AutoGenerate.ISO8601)
        key_of_day = NumberAttribute()

        @before_save
        def build(self) -> None:
            self.key_of_day = generate_value(AutoGenerate.EPOCH)
            clock.advance(60)

    item = Told(pk="a")
    await do.save(item)
    assert item.created_at == NOW
    assert item.key_of_day == 1704067200


async def test_a_hook_may_assign_what_would_be_minted(do):
    class Chosen(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        code = StringAttribute(default=AutoGenerate.UUID4)

        @before_save
        def choose(self) -> None:
            self.code = "chosen"

    item = Chosen()
    await do.save(item)
    assert item.code == "chosen"
    assert (await do.get(Chosen, pk=item.pk)).code == "chosen"


async def test_unminted_tells_what_had_no_value_and_was_not_assigned(do):
    seen: dict[str, Any] = {}

    class Asked(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        created_at = StringAttribute(default=AutoGenerate.ISO8601)
        code = StringAttribute(default=AutoGenerate.UUID4)
        given = StringAttribute(default=AutoGenerate.UUID4)

        @before_save
        def ask(self) -> None:
            seen["begin"] = set(self.unminted)
            seen["created_at"] = self.created_at
            seen["read"] = set(self.unminted)
            self.code = "x"
            seen["assigned"] = set(self.unminted)

    item = Asked(given="g")
    assert item.unminted == {"pk", "created_at", "code"}
    await do.save(item)
    assert seen["begin"] == {"pk", "created_at", "code"}
    assert seen["created_at"] is not None
    assert seen["read"] == seen["begin"]
    assert seen["assigned"] == {"pk", "created_at"}
    assert item.unminted == set()


@pytest.mark.parametrize(
    "look",
    [
        repr,
        Model.to_dict,
        lambda item: item == Order(sk="x"),
        lambda item: item.is_dirty,
        lambda item: item.changed,
        lambda item: item.unminted,
    ],
    ids=["repr", "to_dict", "==", "is_dirty", "changed", "unminted"],
)
async def test_looking_at_an_instance_never_mints(do, look: Callable[[Any], Any]):
    item = Order(sk="x")
    look(item)
    assert item.pk is None
    assert item.created_at is None

    class Looked(Model):
        pk = StringAttribute(partition_key=True)
        code = StringAttribute(default=AutoGenerate.UUID4)

        @before_save
        def look_on(self) -> None:
            look(self)
            assert "code" not in self.__dict__

    await do.save(looked := Looked(pk="a"))
    assert looked.code


async def test_skipping_hooks_still_mints(do):
    audit = Audit(pk="a", sk="own")
    await do.save(audit, skip_hooks=True)
    assert audit.sk == "own"
    assert audit.created_at
    assert audit.ident
    made = await do.create(Audit, pk="b", sk="own", skip_hooks=True)
    assert made.sk == "own"
    assert made.created_at


# Callables, and the instant they see.


async def test_a_callable_may_mint_and_write_by_itself(do, clock):
    class Trail(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        at = NumberAttribute(default=AutoGenerate.EPOCH_MS)

    def trailing() -> str:
        clock.advance(60)
        trail = Trail()
        trail.save()
        return f"{trail.at} {generate_value(AutoGenerate.EPOCH_MS)}"

    class Calling(Model):
        pk = StringAttribute(partition_key=True, default=auto(trailing))
        at = NumberAttribute(default=AutoGenerate.EPOCH_MS)

    item = Calling()
    await do.save(item)
    assert item.at == 1704067200000
    assert item.pk == "1704067260000 1704067200000"


async def test_without_a_save_the_time_is_the_clocks(do, clock):
    class Failing(Model):
        pk = StringAttribute(partition_key=True)
        at = NumberAttribute(default=AutoGenerate.EPOCH)
        must = NumberAttribute(required=True)

        @before_save
        def read(self) -> None:
            _ = self.at

    with pytest.raises(InvalidValue):
        await do.save(Failing(pk="a"))
    clock.advance(60)
    assert generate_value(AutoGenerate.EPOCH) == 1704067260
    await do.save(Failing(pk="a", must=1))
    clock.advance(60)
    assert generate_value(AutoGenerate.EPOCH) == 1704067320


async def test_a_hook_that_takes_a_minted_value_away_gets_the_same_again(do):
    seen: list[Any] = []

    class Undecided(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)

        @before_save
        def waver(self) -> None:
            seen.append(self.pk)
            self.pk = None  # type: ignore[assignment]
            seen.append(self.pk)
            self.pk = None  # type: ignore[assignment]

    item = Undecided()
    await do.save(item)
    assert [item.pk] * 2 == seen


async def test_on_update_tells_the_instant_that_a_hook_has_seen(do, clock):
    class Told(Model):
        pk = StringAttribute(partition_key=True)
        changed_at = StringAttribute(on_update=AutoGenerate.ISO8601)
        told = StringAttribute()

        @before_save
        def tell(self) -> None:
            self.told = generate_value(AutoGenerate.ISO8601)
            clock.advance(60)

    item = Told(pk="a")
    await do.save(item)
    await do.save(item)
    assert item.told == item.changed_at == "2024-01-01T00:01:00Z"


async def test_on_update_may_be_a_callable(do):
    class Counted(Model):
        pk = StringAttribute(partition_key=True)
        writes = NumberAttribute(on_update=auto(itertools.count(1).__next__))
        n = NumberAttribute()

    item = Counted(pk="a")
    await do.save(item)
    assert item.writes is None
    for n in range(1, 4):
        item.n = n
        await do.save(item)
        assert item.writes == n
    with pytest.raises(ConditionFailed):
        await do.update(item, condition=Counted.n == 99, n=5)
    assert item.writes == 3
    assert (await do.get(Counted, pk="a")).writes == 3


async def test_an_exception_after_the_write_leaves_a_stored_item(do):
    class Late(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

        @after_save
        def late(self) -> None:
            raise LookupError("late")

    item = Late(pk="a", n=1)
    with pytest.raises(LookupError, match="late"):
        await do.save(item)
    assert not item.is_dirty
    assert await do.get(Late, pk="a") == item
