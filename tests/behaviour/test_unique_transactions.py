"""Unique values in transactions, which are compared after all items of the transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.behaviour.test_unique_values import Seat
from tests.behaviour.transacting import begun, refused

from mintkey import Model, ModelConfig
from mintkey.attributes import ExpiresIn, NumberAttribute, StringAttribute, TTLAttribute, VersionAttribute
from mintkey.errors import ConditionFailed, InvalidValue, ItemGone, KeyCollision, UniqueViolation, VersionConflict


class Pass(Model):
    event = StringAttribute(partition_key=True)
    id = NumberAttribute(sort_key=True)
    guest = StringAttribute(unique=True)
    phone = StringAttribute(unique=True)
    until = TTLAttribute()


async def guests(do: Any) -> dict[int, Any]:
    return {seat.id: seat.guest for seat in await do.all(do.query(Seat, event="e"))}


async def test_a_transaction_is_refused_as_a_whole(do):
    await do.create(Seat, event="e", id=1, guest="ada")
    second = await do.create(Seat, event="e", id=2, guest="eve")
    third = Seat(event="e", id=3, guest="bob")
    async with refused(do) as (tx, raised):
        tx.save(third)
        tx.update(second, guest="ada")
        tx.delete_by_key(Seat, ("e", 9))
    reasons: list[Any] = raised.value.reasons
    assert (reasons[0], reasons[2]) == (None, None)
    assert isinstance(reasons[1], UniqueViolation)
    holder = {"event": "e", "id": 1}
    assert (reasons[1].attribute, reasons[1].value, reasons[1].holder) == ("guest", "ada", holder)
    assert raised.value.key == {"event": "e", "id": 2}
    assert (third.is_dirty, second.guest) == (True, "eve")
    assert await guests(do) == {1: "ada", 2: "eve"}
    async with begun(do) as tx:
        tx.save(third)
        tx.update(second, guest="new")
    assert await guests(do) == {1: "ada", 2: "new", 3: "bob"}
    assert await do.get_by(Seat, guest="eve") is None


async def test_a_new_item_with_a_value_that_cannot_be_unique_is_an_error_of_its_own(do):
    """As with every other value that cannot be stored."""
    await do.create(Seat, event="e", id=1, guest="ada")
    with pytest.raises(InvalidValue, match="too long") as raised:  # noqa: PT012 - the end of the block raises
        async with begun(do) as tx:
            tx.delete_by_key(Seat, ("e", 1))
            tx.create(Seat, event="e", id=2, guest="x" * 1025)
    assert (raised.value.attribute, raised.value.key) == ("guest", {"event": "e", "id": 2})
    assert await guests(do) == {1: "ada"}


@pytest.mark.parametrize("refusal", ["condition", "gone", "collision", "condition on a change of the value"])
async def test_a_violation_beside_a_refused_item_is_named(do, refusal):
    first = await do.create(Seat, event="e", id=1, guest="ada")
    await do.create(Seat, event="e", id=2, guest="eve")
    third = await do.create(Seat, event="e", id=3, guest="bob")
    async with refused(do) as (tx, raised):
        tx.create(Seat, event="e", id=4, guest="eve")
        if refusal == "gone":
            tx.update_by_key(Seat, ("e", 9), number=1)
        elif refusal == "collision":
            tx.create(Seat, event="e", id=1, guest="new")
        elif refusal == "condition":
            tx.update(first, number=1, condition=Seat.number == 7)
        else:
            tx.update(first, guest="new", condition=Seat.number == 7)
        tx.update(third, guest="eve")
        tx.save(Seat(event="e", id=5, guest="free"))
    reasons: list[Any] = raised.value.reasons
    kinds = {"gone": ItemGone, "collision": KeyCollision}
    assert [type(reason) for reason in reasons] == [
        UniqueViolation,
        kinds.get(refusal, ConditionFailed),
        UniqueViolation,
        type(None),
    ]
    for reason in (reasons[0], reasons[2]):
        assert (reason.value, reason.holder) == ("eve", {"event": "e", "id": 2})
    assert await guests(do) == {1: "ada", 2: "eve", 3: "bob"}


async def test_what_an_item_of_the_transaction_has_may_depend_on_a_refused_one(do):
    first = await do.create(Seat, event="e", id=1, guest="ada")
    async with refused(do) as (tx, raised):
        tx.delete(first, condition=Seat.number == 7)
        tx.create(Seat, event="e", id=2, guest="ada")
    assert [type(reason) for reason in raised.value.reasons] == [ConditionFailed, type(None)]


async def test_a_transaction_passes_a_value_on(do):
    first = await do.create(Seat, event="e", id=1, guest="ada")
    async with begun(do) as tx:
        tx.delete(first)
        tx.save(Seat(event="e", id=2, guest="ada"))
    assert (await do.get_by(Seat, guest="ada")).id == 2
    async with refused(do) as (tx, raised):
        tx.create(Seat, event="e", id=3, guest="twice")
        tx.create(Seat, event="e", id=4, guest="twice")
    assert any(isinstance(reason, UniqueViolation) for reason in raised.value.reasons)
    assert await guests(do) == {2: "ada"}


async def test_two_items_exchange_their_values_in_a_transaction(do):
    first = await do.create(Seat, event="e", id=1, guest="ada")
    second = await do.create(Seat, event="e", id=2, guest="eve")
    async with begun(do) as tx:
        tx.update(first, guest="eve")
        tx.update(second, guest="ada")
    assert await guests(do) == {1: "eve", 2: "ada"}
    assert (await do.get_by(Seat, guest="ada")).id == 2
    assert (await do.get_by(Seat, guest="eve")).id == 1


async def test_a_value_that_passes_to_another_item_counts_once(do):
    names = [f"{number:02d}" for number in range(50)]
    await do.batch_save(Seat, [Seat(event="e", id=number, guest=name) for number, name in enumerate(names)])

    async def change(guests: list[str]) -> None:
        async with begun(do) as tx:
            for number, guest in enumerate(guests):
                tx.update_by_key(Seat, ("e", number), guest=guest)

    await change([names[-1], *names[:-1]])
    assert await guests(do) == {number: names[number - 1] for number in range(50)}
    message = "at most 100 items and changes of unique values, and this one has 50 items and 51 changes"
    with pytest.raises(InvalidValue, match=message):
        await change(["new", *names[1:]])
    assert await guests(do) == {number: names[number - 1] for number in range(50)}


async def test_an_item_of_a_transaction_keeps_one_of_two_values(do):
    first = await do.create(Seat, event="e", id=1, hall="h", number=1, guest="ada")
    second = await do.create(Seat, event="e", id=2, hall="h", number=2, guest="eve")
    async with begun(do) as tx:
        tx.update(first, guest="bob")
        tx.update(second, number=3)
        tx.save(Seat(event="e", id=3, hall="h", number=2, guest="ada"))
    assert await guests(do) == {1: "bob", 2: "eve", 3: "ada"}
    for number, key in ((1, 1), (2, 3), (3, 2)):
        assert (await do.get_by(Seat, hall="h", number=number)).id == key
    # What an item keeps is not free for another one, whatever else changes.
    async with refused(do) as (tx, raised):
        tx.update(first, guest="dan")
        tx.save(Seat(event="e", id=4, hall="h", number=1))
    reason: Any = raised.value.reasons[1]
    assert (reason.attribute, reason.value, reason.holder) == (("hall", "number"), ("h", 1), {"event": "e", "id": 1})
    assert await guests(do) == {1: "bob", 2: "eve", 3: "ada"}


async def test_an_expired_item_loses_both_of_its_values_at_once(do, clock):
    for together in (True, False):
        await do.create(Pass, event="e", id=1, guest="ada", phone="1", until=ExpiresIn.hours(1))
        clock.advance(timedelta(hours=1))
        async with begun(do) as tx:
            if together:
                tx.create(Pass, event="e", id=2, guest="ada", phone="1")
            else:
                tx.create(Pass, event="e", id=2, guest="ada")
                tx.create(Pass, event="e", id=3, phone="1")
        assert (await do.get_by(Pass, guest="ada")).id == 2
        assert (await do.get_by(Pass, phone="1")).id == 2 + (not together)
        assert await do.delete(do.scan(Pass)) == 1 + (not together)
    # A single write does the same.
    await do.create(Pass, event="e", id=1, guest="ada", phone="1", until=ExpiresIn.hours(1))
    clock.advance(timedelta(hours=1))
    found, created = await do.get_or_create(Pass, guest="ada", defaults={"event": "e", "id": 4, "phone": "1"})
    assert (found.id, created, (await do.get_by(Pass, phone="1")).id) == (4, True, 4)


@pytest.mark.parametrize("refusal", ["condition", "version", "gone", "collision"])
async def test_a_violation_between_items_is_named_beside_a_refused_item(do, refusal):
    class Member(Model):
        model_config = ModelConfig(unique=[("club", "number")])
        club = StringAttribute(partition_key=True)
        id = StringAttribute(sort_key=True)
        email = StringAttribute(unique=True)
        number = NumberAttribute()
        version = VersionAttribute()

    ada = await do.create(Member, club="c", id="ada", email="ada", number=1)
    eve = await do.create(Member, club="c", id="eve", email="eve", number=2)
    stale = await do.get(Member, "c", "eve")
    await do.update(eve, number=3)
    async with refused(do) as (tx, raised):
        tx.create(Member, club="c", id="first", email="both")
        if refusal == "condition":
            # It keeps its email and frees its number, if it is ever written.
            tx.update(ada, number=9, condition=Member.number == 7)
        elif refusal == "version":
            tx.update(stale, number=9)
        elif refusal == "gone":
            tx.update_by_key(Member, ("c", "nobody"), email="ada", number=1)
        else:
            tx.create(Member, club="c", id="ada", email="eve", number=1)
        tx.create(Member, club="c", id="second", email="both")
        tx.create(Member, club="c", id="third", email="eve" if refusal == "version" else "ada")
        tx.create(Member, club="c", id="fourth", number=3 if refusal == "version" else 1)
        tx.create(Member, club="c", id="fifth", email="free", number=100)
    reasons: list[Any] = raised.value.reasons
    kinds = {"condition": ConditionFailed, "version": VersionConflict, "gone": ItemGone, "collision": KeyCollision}
    assert (reasons[0], type(reasons[1]), reasons[5]) == (None, kinds[refusal], None)
    assert type(reasons[2]) is UniqueViolation
    assert (reasons[2].value, reasons[2].holder) == ("both", {"club": "c", "id": "first"})
    holder = "eve" if refusal == "version" else "ada"
    if refusal == "collision":
        # The refused item would have replaced the row.
        assert reasons[3] is None
    else:
        assert (reasons[3].value, reasons[3].holder) == (holder, {"club": "c", "id": holder})
    if refusal in ("gone", "collision"):
        assert (reasons[4].value, reasons[4].holder) == (("c", 1), {"club": "c", "id": "ada"})
    else:
        assert reasons[4] is None
    assert [member.id for member in await do.all(do.query(Member, club="c"))] == ["ada", "eve"]


async def test_the_keys_of_new_items_are_compared_before_their_values(do):
    await do.create(Pass, event="e", id=1, guest="ada")
    async with refused(do) as (tx, raised):
        tx.create(Pass, event="e", id=1, guest="both")
        tx.create(Pass, event="e", id=2, guest="both")
        tx.create(Pass, event="e", id=3, guest="twice")
        tx.create(Pass, event="e", id=4, guest="twice")
    reasons: list[Any] = raised.value.reasons
    assert [type(reason) for reason in reasons] == [KeyCollision, type(None), type(None), UniqueViolation]
    assert (reasons[3].value, reasons[3].holder) == ("twice", {"event": "e", "id": 3})
    assert [one.id for one in await do.all(do.query(Pass, event="e"))] == [1]
