"""Which field is the key: one alone, several together, a minted one, or a hidden one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import ConfigurationError, InvalidValue, KeyCollision
from mintkey.fields import AutoFieldMixin, AutoKeyField, Field, IntField, KeyField, UniqueKeyField
from mintkey.testing import frozen


class Person(Model):
    email = UniqueKeyField()
    name = Field()


class Member(Model):
    band = KeyField()
    role = KeyField()
    name = Field()


class Order(Model):
    id = AutoKeyField(strategy="ulid")
    country = KeyField()
    product = Field()


class LogEntry(Model):
    message = Field()


def key_of(entry: Any) -> str:
    """The hidden key of an instance."""
    key: str = entry._auto_key
    return key


def hidden(model: Any) -> Any:
    """The partition key that several key fields form."""
    return model._key


# One key field.


async def test_one_key_field_is_the_partition_key(do):
    class Tag(Model):
        name = KeyField()
        uses = IntField()

    await do.create(Tag, name="a", uses=1)
    found = await do.get(Tag, name="a")
    assert found.to_dict() == {"name": "a", "uses": 1}
    assert await do.all(do.query(Tag, name="a")) == [found]


async def test_a_plain_key_is_written_over_by_save_and_not_by_create(do):
    class Tag(Model):
        name = KeyField()
        uses = IntField()

    await do.create(Tag, name="a", uses=1)
    await do.save(Tag(name="a", uses=2))
    assert (await do.get(Tag, name="a")).uses == 2
    with pytest.raises(KeyCollision):
        await do.create(Tag, name="a", uses=3)
    assert (await do.get(Tag, name="a")).uses == 2


async def test_a_new_item_never_overwrites_a_unique_key(do):
    await do.save(Person(email="a@b.c", name="first"))
    with pytest.raises(KeyCollision) as raised:
        await do.save(Person(email="a@b.c", name="second"))
    assert raised.value.key == {"email": "a@b.c"}
    assert (await do.get(Person, email="a@b.c")).name == "first"


async def test_a_new_item_never_overwrites_a_given_auto_key(do):
    order = await do.create(Order, product="first")
    with pytest.raises(KeyCollision):
        await do.save(Order(id=order.id, product="second"))
    with pytest.raises(KeyCollision):
        await do.create(Order, id=order.id, product="second")
    assert (await do.get(Order, id=order.id)).product == "first"


async def test_a_new_item_never_overwrites_by_a_minted_auto_key(do):
    with frozen("2024-01-01T00:00:00Z", seed=1):
        first = await do.create(Order, product="first")
    with frozen("2024-01-01T00:00:00Z", seed=1):
        second = Order(product="second")
    assert second.id == first.id
    with pytest.raises(KeyCollision):
        await do.save(second)
    assert (await do.get(Order, id=first.id)).product == "first"
    assert second.id == first.id


async def test_a_deleted_key_can_be_used_again(do):
    order = await do.create(Order, product="first")
    await do.delete(order)
    await do.save(order)
    assert await do.get(Order, id=order.id) == order


@pytest.mark.parametrize("key", [None, ""])
async def test_a_key_is_neither_absent_nor_empty(do, key):
    with pytest.raises(InvalidValue, match=r"Person\.email"):
        await do.save(Person(email=key))
    assert await do.count(Person) == 0


async def test_an_empty_auto_key_is_refused(do):
    with pytest.raises(InvalidValue, match=r"Order\.id"):
        await do.save(Order(id=""))
    assert await do.count(Order) == 0


async def test_the_key_of_a_stored_item_cannot_change(do):
    person = await do.create(Person, email="a@b.c")
    person.email = "d@e.f"
    with pytest.raises(InvalidValue, match="the key of a stored item cannot change"):
        await do.save(person)


async def test_a_short_key_that_collides_is_minted_again(do):
    class Ticket(Model):
        id = AutoKeyField(auto_uuid_length=4)
        n = IntField()

    made = []
    for n in range(6):
        with frozen(seed=1):  # so that each one begins with the ids of those before it
            made.append(await do.create(Ticket, n=n))
    assert len({ticket.id for ticket in made}) == 6
    assert {ticket.n for ticket in await do.all(Ticket.query.all())} == set(range(6))


async def test_a_short_key_that_is_given_is_never_minted_again(do):
    class Ticket(Model):
        id = AutoKeyField(auto_uuid_length=1)

    await do.create(Ticket, id="a")
    with pytest.raises(KeyCollision):
        await do.create(Ticket, id="a")
    assert await do.count(Ticket) == 1


async def test_a_short_key_that_was_seen_is_never_minted_again(do):
    class Ticket(Model):
        id = AutoKeyField(auto_uuid_length=4)
        label = Field()

        def __init__(self, **values):
            super().__init__(**values)
            self.label = f"ticket {self.id}"

    with frozen(seed=1):
        first = await do.create(Ticket)
    with frozen(seed=1), pytest.raises(KeyCollision):  # a constructor of its own has seen it
        await do.create(Ticket)
    with frozen(seed=1):
        ticket = Ticket()
    with pytest.raises(KeyCollision):  # whoever constructed it may have
        await do.save(ticket)
    assert ticket.id == first.id
    assert await do.count(Ticket) == 1


async def test_a_constructor_of_its_own_is_inherited(do):
    class Named(Model):
        id = AutoKeyField()
        name = Field()

        def __init__(self, **values):
            super().__init__(**values)
            self.name = (self.name or "").upper()

    class Titled(Named):
        title = Field()

    made = await do.create(Titled, name="ada", title="Dr")
    assert (made.name, made.title, len(made.id)) == ("ADA", "Dr", 32)
    assert await do.get(Titled, id=made.id) == made


# Beside a key that is one by itself.


async def test_key_fields_beside_an_auto_key_are_looked_up(do):
    german = await do.create(Order, country="DE")
    await do.create(Order, country="FR")
    assert (await do.get(Order, id=german.id)).country == "DE"
    lookup = Order.query.filter(country="DE")
    assert await do.all(lookup) == [german]
    assert "index 'country'" in lookup.explain()


async def test_get_takes_further_equalities_which_must_hold(do):
    order = await do.create(Order, country="DE")
    assert await do.get(Order, id=order.id, country="DE") == order
    assert await do.get(Order, id=order.id, country="FR") is None
    assert await do.get(Order.query, id=order.id, country="FR") is None
    with pytest.raises(TypeError, match="'land'"):
        await do.get(Order, id=order.id, land="DE")


async def test_a_key_field_beside_an_auto_key_may_be_absent(do):
    order = await do.create(Order)
    assert (await do.get(Order, id=order.id)).country is None


def test_two_generated_keys():
    with pytest.raises(ConfigurationError, match="Wrong has two partition keys, 'a' and 'b'"):

        class Wrong(Model):
            a = AutoKeyField()
            b = AutoKeyField()


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        (AutoKeyField(), UniqueKeyField(), "a"),
        (UniqueKeyField(), AutoKeyField(), "b"),
        (UniqueKeyField(), UniqueKeyField(), "a"),
        (StringAttribute(partition_key=True), UniqueKeyField(), "a"),
    ],
)
def test_beside_another_key_a_unique_key_field_is_a_unique_value(first, second, key):
    keyed: Any = type("Keyed", (Model,), {"a": first, "b": second})
    schema = keyed.__mintkey_schema__
    other = "b" if key == "a" else "a"
    assert (schema.keys, [plan.attributes for plan in schema.unique]) == ((key,), [(other,)])
    assert [plan.name for plan in schema.indexes] == [other]


def test_auto_keys_have_no_value_index_and_every_other_key_field_has_one():
    class AutoPart(AutoFieldMixin, KeyField):
        pass

    class Mixed(Model):
        id = AutoKeyField()
        part = AutoPart()
        country = KeyField()

    assert [plan.name for plan in Mixed.__mintkey_schema__.indexes] == ["country"]
    assert [plan.name for plan in Member.__mintkey_schema__.indexes] == ["band", "role"]


# Several plain key fields.


async def test_several_key_fields_form_one_key(do):
    lisa = await do.create(Member, band="BLACKPINK", role="vocalist", name="Lisa")
    await do.create(Member, band="BLACKPINK", role="dancer", name="Rosé")
    assert await do.get(Member, band="BLACKPINK", role="vocalist") == lisa
    assert await do.get(Member, band="BLACKPINK", role="drummer") is None
    assert lisa.to_dict() == {"band": "BLACKPINK", "role": "vocalist", "name": "Lisa"}
    assert repr(lisa) == "Member(band='BLACKPINK', role='vocalist', name='Lisa')"
    with pytest.raises(TypeError, match="role is missing"):
        await do.get(Member, band="BLACKPINK")


async def test_the_parts_are_stored_as_attributes_and_looked_up(do):
    await do.create(Member, band="A", role="x")
    await do.create(Member, band="A", role="y")
    await do.create(Member, band="B", role="x")
    by_band = Member.query.filter(band="A")
    assert {member.role for member in await do.all(by_band)} == {"x", "y"}
    assert "index 'band'" in by_band.explain()
    by_role = Member.query.filter(role="x")
    assert {member.band for member in await do.all(by_role)} == {"A", "B"}
    both = Member.query.filter(band="A", role="x")
    assert "index" not in both.explain()
    assert [member.role for member in await do.all(both)] == ["x"]


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("a", "b"), "a:b"),
        (("x:y", "z"), "x%3Ay:z"),
        (("x", "y:z"), "x:y%3Az"),
        (("100%", "%3A"), "100%25:%253A"),
        (("*", "[a]?"), "*:[a]?"),
        (("ä", "日本"), "ä:日本"),
    ],
)
async def test_the_parts_are_escaped_and_joined_by_colons(do, parts, key):
    member = await do.create(Member, band=parts[0], role=parts[1])
    assert Member.__mintkey_schema__.with_key({"band": parts[0], "role": parts[1]})["_key"] == key
    assert await do.all(do.query(Member, hidden(Member) == key)) == [member]


async def test_parts_never_run_into_each_other(do):
    pairs = [("x:y", "z"), ("x", "y:z"), ("x%3Ay", "z"), ("x", "y%3Az"), ("x%", "y"), ("x", "%y")]
    for band, role in pairs:
        await do.create(Member, band=band, role=role, name=f"{band}|{role}")
    for band, role in pairs:
        assert (await do.get(Member, band=band, role=role)).name == f"{band}|{role}"
    assert await do.count(Member) == len(pairs)


async def test_parts_keep_their_types(do):
    class Seat(Model):
        row = KeyField(type=int)
        letter = KeyField()
        price = Field(type=float)

    await do.create(Seat, row=12, letter="A", price=1.0)
    found = await do.get(Seat, row=12, letter="A")
    assert (found.row, found.letter) == (12, "A")
    with pytest.raises(InvalidValue, match=r"Seat\.row: expected int, got str"):
        await do.get(Seat, row="12", letter="A")


@pytest.mark.parametrize(("band", "role"), [("", "x"), ("x", ""), (None, "x"), ("x", None)])
async def test_a_part_is_neither_absent_nor_empty(do, band, role):
    with pytest.raises(InvalidValue, match=r"Member\.(band|role)"):
        await do.save(Member(band=band, role=role))
    assert await do.count(Member) == 0


async def test_a_part_of_a_stored_key_cannot_change(do):
    member = await do.create(Member, band="A", role="x")
    member.role = "y"
    with pytest.raises(InvalidValue, match="cannot change"):
        await do.save(member)
    assert (await do.get(Member, band="A", role="x")) is not None
    with pytest.raises(InvalidValue, match="a key cannot be updated"):
        await do.update(member, role="y")


async def test_the_parts_are_in_order_of_declaration_base_class_first(do):
    class Located(Model):
        model_config = ModelConfig(abstract=True)
        country = KeyField()

    class City(Located):
        name = KeyField()
        people = IntField()

    city = await do.create(City, name="Bonn", country="DE", people=1)
    assert await do.all(do.query(City, hidden(City) == "DE:Bonn")) == [city]


async def test_an_auto_field_is_a_part_of_a_compound_key(do):
    class AutoPart(AutoFieldMixin, KeyField):
        pass

    class Comment(Model):
        article = KeyField()
        id = AutoPart(strategy="ulid")
        text = Field()

    made = [await do.create(Comment, article="a", text=str(n)) for n in range(3)]
    assert await do.get(Comment, article="a", id=made[1].id) == made[1]
    assert [comment.text for comment in await do.all(Comment.query.filter(article="a").order_by("id"))] == list("012")
    with pytest.raises(KeyCollision):
        await do.create(Comment, article="a", id=made[0].id)


# The hidden key.


async def test_a_class_of_fields_without_a_key_gets_a_hidden_one(do):
    entry = LogEntry(message="hi")
    assert len(key_of(entry)) == 32
    await do.save(entry)
    created = await do.create(LogEntry, message="there")
    assert created._auto_key != entry._auto_key
    assert isinstance(LogEntry._auto_key, AutoKeyField)


async def test_the_hidden_key_is_accepted_and_shown_like_any_key(do):
    entry = await do.create(LogEntry, message="hi")
    key = entry._auto_key
    assert entry.to_dict() == {"_auto_key": key, "message": "hi"}
    assert repr(entry) == f"LogEntry(_auto_key={key!r}, message='hi')"
    assert await do.get(LogEntry, _auto_key=key) == entry
    assert await do.get(LogEntry.query, _auto_key=key) == entry
    assert await do.all(LogEntry.query.filter(_auto_key=key)) == [entry]
    assert LogEntry.from_dict(entry.to_dict())._auto_key == key
    given = await do.create(LogEntry, _auto_key="0" * 32, message="hi")
    assert given._auto_key == "0" * 32
    assert given != entry


async def test_a_hidden_key_never_overwrites(do):
    entry = await do.create(LogEntry, message="first")
    with pytest.raises(KeyCollision):
        await do.save(LogEntry(_auto_key=entry._auto_key, message="second"))
    assert (await do.get(LogEntry, _auto_key=entry._auto_key)).message == "first"


async def test_a_subclass_that_declares_a_key_drops_the_hidden_one(do):
    class Dated(LogEntry):
        day = KeyField()

    class Deeper(LogEntry):
        pass

    entry = await do.create(Dated, day="monday", message="hi")
    assert entry.to_dict() == {"day": "monday", "message": "hi"}
    with pytest.raises(TypeError, match="_auto_key"):
        Dated(_auto_key="x", day="monday")
    assert len(key_of(Deeper())) == 32
    assert len(key_of(LogEntry())) == 32


def test_an_abstract_class_of_fields_gets_none():
    class Base(Model):
        model_config = ModelConfig(abstract=True)
        text = Field()

    class Concrete(Base):
        pass

    assert "_auto_key" not in Base.__mintkey_schema__.attributes
    assert len(key_of(Concrete())) == 32


def test_attributes_without_a_partition_key_are_an_error():
    with pytest.raises(ConfigurationError, match="Wrong has no partition key"):

        class Wrong(Model):
            text = StringAttribute()

    with pytest.raises(ConfigurationError, match="Mixed has no partition key"):

        class Mixed(Model):
            text = StringAttribute()
            other = Field()


async def test_fields_and_attributes_go_together(do):
    class Event(Model):
        stream = StringAttribute(partition_key=True)
        seq = StringAttribute(sort_key=True)
        kind = KeyField()

    event = await do.create(Event, stream="a", seq="1", kind="made")
    assert await do.get(Event, stream="a", seq="1") == event
    assert await do.all(Event.query.filter(kind="made")) == [event]


async def test_two_unsaved_instances_are_not_equal(do):
    assert LogEntry(message="a") != LogEntry(message="a")
    one = Order(id="0" * 26)
    assert one != Order(id="0" * 26)
    assert one == one  # noqa: PLR0124 - that is the question


def test_keys_from_many_threads_lose_no_row(tmp_path):
    class Row(Model):
        n = IntField()

    threads, each = 4, 250
    with connect(f"sqlite:///{tmp_path}/threads.db?sync=normal"):
        failures: list[BaseException] = []

        def write(first: int) -> None:
            try:
                for n in range(first, first + each):
                    Row.create(n=n)
            except BaseException as error:  # noqa: BLE001 - a thread must not hide it
                failures.append(error)

        workers = [threading.Thread(target=write, args=(n * each,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not failures
        assert sorted(row.n or 0 for row in Row.query.all()) == list(range(threads * each))
