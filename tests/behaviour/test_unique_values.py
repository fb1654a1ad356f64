"""Unique values: no two items have the same ones, whatever writes them, and they are free again afterwards."""

from __future__ import annotations

import dataclasses
import enum
import pickle
import uuid
from collections.abc import Awaitable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import (
    BinaryAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    ExpiresIn,
    NumberAttribute,
    StringAttribute,
    TTLAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import (
    BatchIncomplete,
    ConditionFailed,
    InvalidValue,
    ItemGone,
    KeyCollision,
    NotLoaded,
    UniqueViolation,
    VersionConflict,
)
from mintkey.fields import AutoKeyField, Field, UniqueField, UniqueKeyField
from mintkey.hooks import after_load, after_save, after_update, before_save
from mintkey.references import Reference

UTC = timezone.utc
#: Servers remove expired rows by their own clocks, which must not be ahead of that of the test.
FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
RAN: list[str] = []


class User(Model):
    model_config = ModelConfig(table="users")
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    email = StringAttribute(unique=True, alias="mail")
    name = StringAttribute()
    logins = NumberAttribute()
    until = TTLAttribute()
    changed_at = StringAttribute(on_update=AutoGenerate.ISO8601_MS)


class Seat(Model):
    model_config = ModelConfig(table="seats", unique=[("hall", "number")])
    event = StringAttribute(partition_key=True)
    id = NumberAttribute(sort_key=True)
    hall = StringAttribute()
    number = NumberAttribute()
    guest = StringAttribute(unique=True)
    version = VersionAttribute()

    @before_save
    def saving(self) -> None:
        RAN.append("before_save")

    @after_save
    def saved(self) -> None:
        RAN.append("after_save")

    @after_update
    def updated(self) -> None:
        RAN.append("after_update")

    @after_load
    def loaded(self) -> None:
        RAN.append("after_load")


class Built(Model):
    model_config = ModelConfig(table="built")
    id = StringAttribute(partition_key=True)
    name = StringAttribute()
    lookup = StringAttribute(template="NAME#{name}", unique=True)


# For type checkers, the decorator returns the class that it was given.
paired: Any = mintkey.mapped(
    table="pairs", partition_key="id", unique=["email"], config=ModelConfig(unique=[("team", "number")])
)


@paired
@dataclasses.dataclass
class Pair:
    id: str
    email: str
    team: str | None = None
    number: int | None = None


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Sample(Model):
    model_config = ModelConfig(table="samples")
    id = StringAttribute(partition_key=True)
    number = NumberAttribute(unique=True)
    exact = DecimalAttribute(unique=True)
    code = BinaryAttribute(unique=True)
    serial = UUIDAttribute(unique=True)
    colour = EnumAttribute(Colour, unique=True)
    day = DateAttribute(unique=True)
    at = DatetimeAttribute(unique=True)
    owner = Reference(User, unique=True)


class Customer(Model):
    id = AutoKeyField()
    email = UniqueKeyField()
    phone = UniqueField()
    country = Field()


@pytest.fixture(autouse=True)
def forget() -> None:
    RAN.clear()


async def violates(write: Awaitable[Any], attribute: Any, value: Any, holder: Any) -> UniqueViolation:
    """The violation that a write raises, which names what another item has."""
    with pytest.raises(UniqueViolation) as raised:
        await write
    error = raised.value
    assert (error.attribute, error.value, error.holder, error.duplicates) == (attribute, value, holder, [])
    return error


async def emails(do: Any) -> dict[str, Any]:
    return {user.id: user.email for user in await do.all(do.scan(User))}


# What is refused.


async def test_a_second_item_with_the_value_is_refused(do, store):
    await do.create(User, id="ada", email="a@b.c")
    for number, write in enumerate((do.create(User, id="eve", email="a@b.c"), do.save(User(id="eve", email="a@b.c")))):
        error = await violates(write, "email", "a@b.c", {"id": "ada"})
        assert (error.model, error.key, error.store, error.item) == ("User", {"id": "eve"}, store.url, None), number
        assert "is unique in table" in str(error)
        assert "use another value, or change the item that has it" in str(error)
    assert await emails(do) == {"ada": "a@b.c"}
    assert (await do.get_by(User, email="a@b.c")).id == "ada"


async def test_the_instance_is_unchanged_and_can_be_saved_with_another_value(do):
    await do.create(Seat, event="e", id=1, hall="H", number=1, guest="ada")
    RAN.clear()
    seat = Seat(event="e", id=2, hall="H", number=1)
    before = seat.to_dict()
    await violates(do.save(seat), ("hall", "number"), ("H", 1), {"event": "e", "id": 1})
    assert RAN == ["before_save"]
    assert (seat.to_dict(), seat.version, seat.is_dirty) == (before, None, True)
    seat.number = 2
    await do.save(seat)
    assert (seat.version, seat.is_dirty) == (1, False)
    assert await do.get(Seat, "e", 2) == seat
    seat.number = 1
    await violates(do.save(seat), ("hall", "number"), ("H", 1), {"event": "e", "id": 1})
    assert (seat.number, seat.version, set(seat.changed)) == (1, 1, {"number"})
    seat.number = 3
    await do.save(seat)
    assert (await do.get_by(Seat, hall="H", number=3)).version == 2


async def test_a_generated_key_stays_after_a_violation(do):
    await do.create(User, id="ada", email="a@b.c")
    user = User(email="a@b.c")
    with pytest.raises(UniqueViolation):
        await do.save(user)
    made = user.id
    assert made is not None
    user.email = "e@b.c"
    await do.save(user)
    assert (await do.get_by(User, email="e@b.c")).id == made


async def test_absent_values_are_never_in_conflict_and_empty_text_is_a_value(do):
    await do.save(User(id="a"))
    await do.save(User(id="b"))
    await do.save(User(id="c", email=""))
    await violates(do.save(User(id="d", email="")), "email", "", {"id": "c"})
    assert (await do.get_by(User, email="")).id == "c"
    await do.save(Seat(event="e", id=1, hall="H"))
    await do.save(Seat(event="e", id=2, hall="H"))
    await do.save(Seat(event="e", id=3, hall="H", number=1))
    await do.save(Seat(event="e", id=4, hall="I", number=1))


async def test_an_item_keeps_its_own_values(do):
    user = await do.create(User, id="ada", email="a@b.c")
    user.name = "Ada"
    await do.save(user)
    await do.save(user, replace=True)
    await do.update(user, email="a@b.c", logins=1)
    await do.update_by_key(User, "ada", email="a@b.c", name="Countess")
    await do.save(User(id="ada", email="a@b.c", name="again"))
    found = await do.get_by(User, email="a@b.c")
    assert (found.id, found.name) == ("ada", "again")


async def test_updates_and_upserts_are_checked(do):
    await do.create(User, id="ada", email="a@b.c")
    eve = await do.create(User, id="eve", email="e@b.c", logins=1)
    held = ("email", "a@b.c", {"id": "ada"})
    await violates(do.update(eve, User.logins.add(1), email="a@b.c"), *held)
    assert (eve.email, eve.logins, eve.changed_at, eve.is_dirty) == ("e@b.c", 1, None, False)
    await violates(do.update_by_key(User, "eve", email="a@b.c"), *held)
    await violates(do.update_by_key(User, "bob", email="a@b.c", upsert=True), *held)
    bob = User(id="bob")
    await violates(do.update(bob, email="a@b.c", upsert=True), *held)
    eve.email = "a@b.c"
    await violates(do.save(eve, replace=True), *held)
    assert (eve.changed_at, set(eve.changed)) == (None, {"email"})
    assert await emails(do) == {"ada": "a@b.c", "eve": "e@b.c"}
    await do.update(bob, email="b@b.c", upsert=True)
    assert (await do.get_by(User, email="b@b.c")).id == "bob"


async def test_the_check_of_the_row_comes_first(do):
    await do.create(Seat, event="e", id=1, guest="ada")
    seat = await do.create(Seat, event="e", id=2, guest="eve")
    with pytest.raises(KeyCollision):
        await do.create(Seat, event="e", id=2, guest="ada")
    other = await do.get(Seat, "e", 2)
    await do.update(other, hall="H")
    seat.guest = "ada"
    with pytest.raises(VersionConflict):
        await do.save(seat)
    with pytest.raises(ConditionFailed) as raised:
        await do.update(other, guest="ada", condition=Seat.hall == "other")
    assert type(raised.value) is ConditionFailed
    with pytest.raises(ItemGone):
        await do.update_by_key(Seat, ("e", 9), guest="ada")


async def test_several_violations_name_one_of_them(do):
    await do.create(Seat, event="e", id=1, guest="ada")
    await do.create(Seat, event="e", id=2, hall="H", number=2)
    with pytest.raises(UniqueViolation) as raised:
        await do.create(Seat, event="e", id=3, hall="H", number=2, guest="ada")
    assert (raised.value.attribute, raised.value.holder) in (
        ("guest", {"event": "e", "id": 1}),
        (("hall", "number"), {"event": "e", "id": 2}),
    )
    # None of the values of the refused item is taken.
    await do.create(Seat, event="e", id=4, hall="I", number=3, guest="eve")
    assert await do.count(Seat) == 3


# What is free again.


async def test_a_change_or_a_delete_frees_the_value(do):
    ada = await do.create(User, id="ada", email="1")
    ada.email = "2"
    await do.save(ada)
    await do.create(User, id="b", email="1")
    await do.update(ada, email="3")
    await do.create(User, id="c", email="2")
    ada.email = None
    await do.save(ada)
    await do.create(User, id="d", email="3")
    await do.update(ada, email="4")
    await do.update_by_key(User, "ada", email=None)
    await do.create(User, id="e", email="4")
    await do.update(ada, email="5")
    await do.save(User(id="ada", email="6"))
    await do.create(User, id="f", email="5")
    await do.delete(await do.get(User, "b"))
    await do.delete_by_key(User, "c")
    await do.batch_delete(User, ["d"])
    assert await do.delete(User.query.filter(id="e")) == 1
    for number in "1234":
        assert await do.get_by(User, email=number) is None
        await do.create(User, id=number, email=number)
    assert {user.email for user in await do.all(do.scan(User))} == set("123456")


async def test_values_can_be_exchanged_one_after_the_other(do):
    ada, eve = await do.create(User, id="ada", email="a"), await do.create(User, id="eve", email="e")
    await do.update(ada, email=None)
    await do.update(eve, email="a")
    await do.update(ada, email="e")
    assert await emails(do) == {"ada": "e", "eve": "a"}
    assert (await do.get_by(User, email="a")).id == "eve"


async def test_an_expired_item_holds_no_value(do, clock):
    clock.set(FUTURE)
    ada = await do.create(User, id="ada", email="a@b.c", until=ExpiresIn.minutes(10))
    await violates(do.create(User, id="eve", email="a@b.c"), "email", "a@b.c", {"id": "ada"})
    clock.advance(timedelta(minutes=10))
    assert await do.get_by(User, email="a@b.c") is None
    await do.create(User, id="eve", email="a@b.c")
    assert (await do.get_by(User, email="a@b.c")).id == "eve"
    # The former holder is gone; what is left of it takes nothing from the new one.
    with pytest.raises(ItemGone):
        await do.update(ada, name="late")
    await do.delete(ada)
    assert (await do.get_by(User, email="a@b.c")).id == "eve"
    await violates(do.save(User(id="ada", email="a@b.c")), "email", "a@b.c", {"id": "eve"})
    await do.save(User(id="ada", email="new@b.c"))
    assert await emails(do) == {"ada": "new@b.c", "eve": "a@b.c"}


async def test_an_item_whose_life_is_extended_keeps_its_value(do, clock):
    clock.set(FUTURE)
    ada = await do.create(User, id="ada", email="a@b.c", until=ExpiresIn.minutes(10))
    await do.extend_ttl(ada, ExpiresIn.minutes(100))
    clock.advance(timedelta(minutes=50))
    await violates(do.create(User, id="eve", email="a@b.c"), "email", "a@b.c", {"id": "ada"})
    assert (await do.get_by(User, email="a@b.c")).id == "ada"
    await do.update(ada, until=None)
    clock.advance(timedelta(minutes=100))
    await violates(do.create(User, id="eve", email="a@b.c"), "email", "a@b.c", {"id": "ada"})
    await do.update(ada, until=ExpiresIn.seconds(1))
    clock.advance(timedelta(seconds=1))
    await do.create(User, id="eve", email="a@b.c")


async def test_delete_table_frees_all_values(do):
    await do.create(User, id="ada", email="a@b.c")
    await do.delete_table(User)
    await do.create_table(User)
    await do.create(User, id="eve", email="a@b.c")
    assert (await do.get_by(User, email="a@b.c")).id == "eve"


# Many at once.


async def test_batches_report_each_violation(do):
    await do.create(User, id="ada", email="0")
    users = [User(id=f"u{number}", email=str(number % 7)) for number in range(10)]
    with pytest.raises(BatchIncomplete) as raised:
        await do.batch_save(User, users)
    failed: dict[str, Any] = {user.id: error for user, error in raised.value.failed}
    # u0 meets ada; u7 to u9 meet her, u1 and u2.
    assert raised.value.written == 6
    assert failed.keys() == {"u0", "u7", "u8", "u9"}
    found = {key: (error.attribute, error.value, error.holder) for key, error in failed.items()}
    assert found == {
        "u0": ("email", "0", {"id": "ada"}),
        "u7": ("email", "0", {"id": "ada"}),
        "u8": ("email", "1", {"id": "u1"}),
        "u9": ("email", "2", {"id": "u2"}),
    }
    for number, user in enumerate(user for user in users if user.id in failed):
        user.email = f"new {number}"
    assert await do.batch_save(User, users) == 10
    assert len(set((await emails(do)).values())) == 11


async def test_batches_with_generated_keys_and_values_that_become_free(do):
    await do.batch_save(User, [User(email=str(number)) for number in range(30)])
    users = await do.all(do.scan(User))
    for user in users:
        user.email = f"new {user.email}"
    await do.batch_save(User, users)
    await do.batch_save(User, [User(email=str(number)) for number in range(30)])
    assert len({user.email for user in await do.all(do.scan(User))}) == 60
    await do.batch_delete(User, users)
    await do.batch_save(User, [User(email=f"new {number}") for number in range(30)])
    assert await do.count(User) == 60


async def test_updates_of_results_report_violations(do):
    for number in range(3):
        await do.create(User, id=str(number), email=str(number), name="x")
    with pytest.raises(BatchIncomplete) as raised:
        await do.update(User.query.filter(name="x"), email="same")
    assert raised.value.written == 1
    assert [type(error) for _, error in raised.value.failed] == [UniqueViolation] * 2
    assert sorted((await emails(do)).values()).count("same") == 1


async def test_pipelines_report_each_violation(do):
    await do.create(User, id="ada", email="a@b.c")
    eve = await do.create(User, id="eve", email="e@b.c")
    together = mintkey.pipeline()
    bob = User(id="bob", email="a@b.c")
    await do.save(bob, pipeline=together)
    await do.update(eve, email="a@b.c", pipeline=together)
    await do.create(User, id="dan", email="d@b.c", pipeline=together)
    with pytest.raises(BatchIncomplete) as raised:
        await do.execute(together)
    failed: list[tuple[Any, Any]] = list(raised.value.failed)
    assert [(item.id, error.value) for item, error in failed] == [("bob", "a@b.c"), ("eve", "a@b.c")]
    assert (bob.is_dirty, eve.email) == (True, "e@b.c")
    assert await emails(do) == {"ada": "a@b.c", "eve": "e@b.c", "dan": "d@b.c"}


async def test_an_image_that_is_older_than_its_row_frees_what_the_row_has(do):
    ada = await do.create(User, id="ada", email="a@b.c")
    image = User.from_stored(ada.to_stored())
    await do.update(ada, email="new@b.c")
    image.email = "third@b.c"
    await do.save(image)
    assert await emails(do) == {"ada": "third@b.c"}
    for email in ("a@b.c", "new@b.c"):
        await do.create(User, id=email, email=email)


# Reading.


async def test_get_by_reads_one_item(do):
    ada = await do.create(Seat, event="e", id=1, hall="H", number=7, guest="ada")
    await do.create(Seat, event="e", id=2, hall="H", number=8)
    RAN.clear()
    assert await do.get_by(Seat, guest="ada") == ada
    assert await do.get_by(Seat, number=7, hall="H") == ada
    assert RAN == ["after_load"] * 2
    assert await do.get_by(Seat, guest="eve") is None
    assert await do.get_by(Seat, hall="H", number=9) is None
    part = await do.get_by(Seat, guest="ada", attributes=["hall"])
    assert (part.event, part.id, part.hall, part.version) == ("e", 1, "H", 1)
    with pytest.raises(NotLoaded):
        _ = part.guest
    part.hall = "I"
    await do.save(part)
    assert await do.get_by(Seat, hall="H", number=7) is None
    found = await do.get_by(Seat, hall="I", number=7)
    assert (found.guest, found.version) == ("ada", 2)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, r"Seat\.get_by\(\): got no values; unique are: guest=… or hall=…, number=…"),
        ({"hall": "H"}, r"hall is not unique; unique are: guest=… or hall=…, number=…"),
        ({"event": "e", "id": 1}, r"event, id are not unique; unique are: "),
        ({"guest": "a", "hall": "H", "number": 1}, r"guest, hall, number are not unique"),
        ({"gest": "a"}, r"no attribute 'gest' \(did you mean 'guest'\?\).*unique are: guest=…"),
    ],
)
async def test_get_by_takes_one_unique_set(do, values, told):
    with pytest.raises(TypeError, match=told):
        await do.get_by(Seat, **values)
    with pytest.raises(InvalidValue, match=r"Seat\.guest: .*takes no None"):
        await do.get_by(Seat, guest=None)
    with pytest.raises(InvalidValue, match=r"Seat\.guest: "):
        await do.get_by(Seat, guest=5)
    with pytest.raises(InvalidValue, match=r"Seat\.guest: unique values of .* are too long"):
        await do.get_by(Seat, guest="x" * 1025)
    with pytest.raises(TypeError, match="the model has no unique values: pass unique=True"):
        await do.get_by(Plain, id="x")


class Plain(Model):
    id = StringAttribute(partition_key=True)


SAMPLES: dict[str, Any] = {
    "number": (1, 2.5),
    "exact": (Decimal("1.10"), Decimal("2.25")),
    "code": (b"\0", b""),
    "serial": (uuid.UUID(int=1), uuid.UUID(int=2)),
    "colour": (Colour.RED, Colour.BLUE),
    "day": (date(2024, 1, 31), date(2024, 2, 1)),
    "at": (datetime(2024, 1, 31, 12, tzinfo=UTC), datetime(2024, 1, 31, 12, 0, 0, 1, tzinfo=UTC)),
}


async def test_values_of_all_types(do):
    await do.create_table(User)
    for name, (one, other) in {**SAMPLES, "owner": (User(id="u1"), User(id="u2"))}.items():
        first, second = Sample(id=f"{name} 1", **{name: one}), Sample(id=f"{name} 2", **{name: other})
        await do.save(first)
        await do.save(second)
        expected = getattr(await do.get(Sample, first.id), name)
        await violates(do.save(Sample(id="third", **{name: one})), name, expected, {"id": first.id})
        assert type(expected) is type(getattr(first, name))
        assert (await do.get_by(Sample, **{name: one})).id == first.id
        assert (await do.get_by(Sample, **{name: other})).id == second.id
    # Numbers are compared as numbers, and times as points in time.
    assert (await do.get_by(Sample, number=1.0)).id == "number 1"
    east = datetime(2024, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))
    await violates(do.save(Sample(id="third", at=east)), "at", SAMPLES["at"][0], {"id": "at 1"})


async def test_a_value_that_cannot_be_unique_is_refused(do, raw):
    other = raw(User, email=NumberAttribute(alias="mail"), logins=NumberAttribute())
    ada = await do.create(User, id="ada", email="x" * 1000)
    for write in (
        do.save(User(id="eve", email="x" * 1025)),
        do.update(ada, email="x" * 1025),
        do.update_by_key(User, "ada", email="x" * 1025),
    ):
        with pytest.raises(InvalidValue, match=r"too long"):
            await write
    # The number 5 is another value than the text "5".
    await do.save(User(id="text", email="5"))
    await do.save(other(id="number", email=5))
    assert (await do.get_by(User, email="5")).id == "text"


async def test_the_vocabulary_of_redis_mappers(do):
    ada = await do.create(Customer, email="a@b.c", phone="1", country="DE")
    await violates(do.create(Customer, email="a@b.c"), "email", "a@b.c", {"id": ada.id})
    await violates(do.create(Customer, phone="1"), "phone", "1", {"id": ada.id})
    assert await do.get_by(Customer, phone="1") == ada
    assert await do.get(Customer.query, email="a@b.c") == ada
    assert await do.get(Customer.query, phone="1", country="DE") == ada
    assert await do.get(Customer.query, phone="1", country="FR") is None
    assert await do.get(Customer.query, phone__startswith="1") == ada
    assert await do.all(Customer.query.filter(email="a@b.c")) == [ada]
    assert await do.first(Customer.query, phone="1") == ada


async def test_errors_lead_to_get_by(do):
    with pytest.raises(TypeError, match=r"to read one item by unique values, User\.get_by\(email=…\)"):
        do.query(User, email="a@b.c")
    with pytest.raises(TypeError, match=r"id is missing; get_by\(email=…\) reads one item by unique values"):
        await do.get(User, email="a@b.c")
    assert "get_by" not in User.query.filter(name="x").explain()
    assert "; get_by(email=…) reads one item by unique values; " in User.query.filter(name="x", email="y").explain()


async def test_a_value_that_is_built_from_others(do):
    await do.create(Built, id="1", name="a")
    second = await do.create(Built, id="2", name="b")
    await violates(do.update(second, name="a"), "lookup", "NAME#a", {"id": "1"})
    await do.update_by_key(Built, "1", name="c")
    await do.update(second, name="a")
    assert (await do.get_by(Built, lookup="NAME#a")).id == "2"
    assert (await do.get_by(Built, lookup="NAME#c")).id == "1"


async def test_mapped_classes_have_unique_values(do):
    first = Pair("1", "a@b.c", "x", 1)
    await do.save(first)
    assert await do.get_by(Pair, email="a@b.c") == first
    assert await do.get_by(Pair, team="x", number=1) == first
    await violates(do.save(Pair("2", "a@b.c")), "email", "a@b.c", {"id": "1"})
    await violates(do.save(Pair("2", "e@b.c", "x", 1)), ("team", "number"), ("x", 1), {"id": "1"})
    made, created = await do.get_or_create(Pair, email="e@b.c", defaults={"id": "2"})
    assert (made, created) == (Pair("2", "e@b.c"), True)
    assert await do.update_or_create(Pair, email="e@b.c", defaults={"number": 2}) == (
        Pair("2", "e@b.c", None, 2),
        False,
    )


async def test_a_violation_is_pickled(do):
    await do.create(User, id="ada", email="a@b.c")
    error = await violates(do.create(User, id="eve", email="a@b.c"), "email", "a@b.c", {"id": "ada"})
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.attribute, copy.value, copy.holder) == (str(error), "email", "a@b.c", {"id": "ada"})


async def test_images_claim_what_they_write(do):
    await do.create(User, id="ada", email="a@b.c")
    eve = await do.create(User, id="eve", email="e@b.c")
    image = User.from_stored({**eve.to_stored(), "mail": {"S": "f@b.c"}})
    image.email = "a@b.c"
    await violates(do.save(image), "email", "a@b.c", {"id": "ada"})
