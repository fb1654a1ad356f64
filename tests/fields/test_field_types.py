"""What a field holds: its type, whether it may be absent, how long it may be, and where its value comes from."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

import mintkey
from mintkey import AutoGenerate, Model, auto, fields
from mintkey.attributes import DecimalAttribute
from mintkey.errors import ConfigurationError, InvalidValue
from mintkey.fields import (
    AutoKeyField,
    BooleanField,
    BytesField,
    DateField,
    DatetimeField,
    DecimalField,
    DictField,
    Field,
    FloatField,
    IndexedField,
    IntField,
    KeyField,
    ListField,
    SetField,
    SortedField,
    SortedFieldMixin,
    StringField,
    TimeField,
    TupleField,
    UniqueKeyField,
    UUIDField,
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


UTC = timezone.utc
VALUES: list[Any] = [
    (str, "text", StringField),
    (int, 12345678901234567890, IntField),
    (float, 2.0, FloatField),
    (float, -1.5e-7, FloatField),
    (bool, True, BooleanField),
    (bool, False, BooleanField),
    (bytes, b"\0\xff", BytesField),
    (list, [1, "a", [None]], ListField),
    (tuple, (1, "a"), TupleField),
    (dict, {"a": {"b": 1}}, DictField),
    pytest.param(set, {"a", "b"}, SetField, id="a set of texts"),
    pytest.param(set, {1, 2.5}, SetField, id="a set of numbers"),
    (set, {b"a"}, SetField),
    (Decimal, Decimal("0.10"), DecimalField),
    (Decimal, Decimal(3), DecimalField),
    (datetime, datetime(2024, 1, 2, 3, 4, 5, 6, UTC), DatetimeField),
    (date, date(2024, 2, 29), DateField),
    (time, time(1, 2, 3, 4), TimeField),
    (uuid.UUID, uuid.UUID(int=1), UUIDField),
]
WRONG: list[Any] = [
    (str, 1),
    (str, b"a"),
    (str, "\ud800"),
    (int, 1.0),
    (int, "1"),
    (int, True),
    (int, 10**200),
    (float, "1"),
    (float, True),
    (float, float("nan")),
    (float, 10**400),
    (bool, 1),
    (bytes, "a"),
    (list, {"a"}),
    (tuple, [1]),
    (dict, [1]),
    (dict, {1: 2}),
    (set, ["a"]),
    pytest.param(set, {"a", 1}, id="a mixed set"),
    (Decimal, 1.5),
    (datetime, "2024-01-01"),
    (datetime, date(2024, 1, 1)),
    (date, datetime(2024, 1, 1, tzinfo=UTC)),
    (time, "01:02"),
    (time, time(1, tzinfo=UTC)),
    (uuid.UUID, str(uuid.UUID(int=1))),
    (Colour, "red"),
    (Colour, Level.LOW),
]


def item_of(field: Field[Any]) -> Any:
    """A model with the field as its `value`."""
    return type("Item", (Model,), {"id": KeyField(), "value": field})


@pytest.mark.parametrize(("kind", "value", "shortcut"), VALUES, ids=repr)
async def test_each_type_reads_back_as_it_was(do, kind, value, shortcut):
    for field in (Field(type=kind), Field(kind), shortcut()):
        item = item_of(field)
        await do.save(item(id="a", value=value))
        found = await do.get(item, id="a")
        assert found.value == value
        assert type(found.value) is kind
        assert not found.is_dirty


@pytest.mark.parametrize("value", [*Colour, *Level, *Mixed], ids=str)
async def test_enum_classes(do, value):
    item = item_of(Field(type=type(value)))
    await do.create(item, id="a", value=value)
    assert (await do.get(item, id="a")).value is value


@pytest.mark.parametrize(("kind", "value"), WRONG, ids=repr)
async def test_a_value_of_another_type_is_refused_at_save(do, kind, value):
    item = item_of(Field(type=kind))
    wrong = item(id="a", value=value)
    with pytest.raises(InvalidValue, match=r"Item\.value"):
        await do.save(wrong)
    assert await do.count(item) == 0
    assert type(item.value).is_valid(item.value, value) is False


@pytest.mark.parametrize(("kind", "value", "shortcut"), VALUES, ids=repr)
def test_is_valid(kind, value, shortcut):
    assert Field.is_valid(Field(type=kind), value) is True
    assert shortcut.is_valid(shortcut(), value) is True


async def test_a_datetime_without_zone_is_utc(do):
    item = item_of(DatetimeField())
    await do.create(item, id="a", value=datetime(2024, 1, 1, 12))  # noqa: DTZ001 - that is the question
    assert (await do.get(item, id="a")).value == datetime(2024, 1, 1, 12, tzinfo=UTC)
    east = timezone(timedelta(hours=2))
    await do.create(item, id="b", value=datetime(2024, 1, 1, 12, tzinfo=east))
    assert (await do.get(item, id="b")).value == datetime(2024, 1, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("kind", [complex, object, None.__class__, "str", [str], Model, 3])
def test_a_type_that_no_field_stores(kind):
    with pytest.raises(ConfigurationError, match=r"Item\.value: type=.* is not a type that a field can store: use str"):
        item_of(Field(type=kind))


@pytest.mark.parametrize("field", [KeyField, UniqueKeyField, IndexedField, SortedField])
@pytest.mark.parametrize("kind", [bool, list, tuple, dict, set, Mixed])
def test_types_that_cannot_be_keys_or_indexed(field, kind):
    with pytest.raises(ConfigurationError, match=rf"Wrong\.value: values of type {kind.__name__} cannot be "):
        type(
            "Wrong",
            (Model,),
            {"id": AutoKeyField(), "value": field(type=kind)}
            if field is not UniqueKeyField
            else {"value": field(type=kind)},
        )


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (str, ["a", "b", "ä"]),
        (int, [-10, -9, 0, 5, 10**20]),
        (float, [-1.5, 0.0, 2.0, 1e10]),
        (Decimal, [Decimal("-0.1"), Decimal("0.01"), Decimal(7)]),
        (bytes, [b"", b"\0", b"a", b"\xff"]),
        (date, [date(999, 1, 1), date(2024, 1, 1)]),
        (datetime, [datetime(1, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]),
        (time, [time(0), time(9), time(10, 0, 0, 1)]),
        (uuid.UUID, [uuid.UUID(int=1), uuid.UUID(int=2**127)]),
        (Colour, [Colour.BLUE, Colour.RED]),
        (Level, [Level.LOW, Level.HIGH]),
    ],
    ids=repr,
)
async def test_types_that_can_be_keys_and_keep_their_order(do, kind, values):
    class Ranked(Model):
        id = KeyField(type=kind)
        same = IndexedField(type=kind)
        place = SortedField(type=kind)

    values = [value for value in values if value != b""]
    for value in reversed(values):
        await do.create(Ranked, id=value, same=value, place=value)
    for value in values:
        assert (await do.get(Ranked, id=value)).id == value
        assert [item.id for item in await do.all(Ranked.query.filter(same=value))] == [value]
    assert [item.place for item in await do.all(Ranked.query.order_by("place"))] == values
    assert [item.place for item in await do.all(Ranked.query.filter(place__gt=values[0]).order_by("place"))] == values[
        1:
    ]


# Null, default, max_length, alias.


def test_the_defaults_of_a_field():
    field = Field()
    assert (field.type, field.null, field.default, field.max_length) == (str, True, None, None)
    assert SortedField().null is False
    assert SortedField().type is float
    assert SortedField().partition_by == ()


@pytest.mark.parametrize("field", [Field(null=False), SortedField(type=str), SetField(null=False)])
async def test_a_value_is_needed_without_null(do, field):
    item = item_of(field)
    with pytest.raises(InvalidValue, match=r"Item\.value: required, but it has no value"):
        await do.create(item, id="a")
    assert type(field).is_valid(field, None) is False
    assert type(field).is_valid(field, None, null_check=False) is True


async def test_absent_values_are_none_and_sets_are_empty(do):
    item: Any = type("Item", (Model,), {"id": KeyField(), "text": Field(), "names": SetField()})
    new = item(id="a")
    assert (new.text, new.names) == (None, set())
    await do.save(new)
    found = await do.get(item, id="a")
    assert (found.text, found.names) == (None, set())
    found.names.add("x")
    await do.save(found)
    assert (await do.get(item, id="a")).names == {"x"}


async def test_defaults_are_copied_and_in_place_changes_saved(do):
    item = item_of(ListField(default=[]))
    one, two = item(id="a"), item(id="b")
    one.value.append(1)
    assert (one.value, two.value, item.value.default) == ([1], [], [])
    await do.save(one)
    found = await do.get(item, id="a")
    found.value.append(2)
    await do.save(found)
    assert (await do.get(item, id="a")).value == [1, 2]


def test_a_callable_default():
    numbers = iter(range(10))
    item = item_of(IntField(default=lambda: next(numbers)))
    assert [item().value, item().value, item(value=7).value] == [0, 1, 7]


async def test_a_strategy_as_default_is_minted_at_save(do):
    class Note(Model):
        id = KeyField(default=AutoGenerate.ULID)
        at = Field(default=AutoGenerate.ISO8601, on_update=AutoGenerate.ISO8601)
        code = Field(default=auto("nanoid", size=5, when="init"))
        number = IntField(default=AutoGenerate.EPOCH)

    note: Any = Note()
    assert (note.id, note.at, len(note.code)) == (None, None, 5)
    await do.save(note)
    assert (len(note.id), len(note.at), type(note.number)) == (26, 20, int)


@pytest.mark.parametrize(
    "field",
    [IntField(default=AutoGenerate.ULID), Field(default=AutoGenerate.EPOCH), ListField(default=AutoGenerate.XID)],  # type: ignore[call-overload]
)
def test_a_strategy_must_fit_the_type(field):
    with pytest.raises(ConfigurationError, match=r"Item\.value: the strategy"):
        item_of(field)


@pytest.mark.parametrize(
    ("kind", "fits", "too_long"),
    [(str, "äöü", "äöüß"), (bytes, b"abc", b"abcd"), (list, [1, 2, 3], [1, 2, 3, 4]), (set, {1}, {1, 2, 3, 4})],
)
async def test_max_length(do, kind, fits, too_long):
    item = item_of(Field(type=kind, max_length=3))
    await do.create(item, id="a", value=fits)
    wrong = item(id="b", value=too_long)
    with pytest.raises(InvalidValue, match=r"Item\.value: the value has the length 4, and max_length=3"):
        await do.save(wrong)
    assert await do.get(item, id="b") is None
    found = await do.get(item, id="a")
    with pytest.raises(InvalidValue, match="max_length=3"):
        await do.update(found, value=too_long)
    assert (await do.get(item, id="a")).value == fits


@pytest.mark.parametrize(
    "field",
    [
        Field(max_length=0),
        Field(max_length=-1),
        Field(max_length="3"),  # type: ignore[call-overload]  # that is the mistake
        Field(max_length=True),
        IntField(max_length=3),
    ],
)
def test_a_max_length_that_means_nothing(field):
    with pytest.raises(ConfigurationError, match=r"Item\.value: .*max_length"):
        item_of(field)


async def test_an_alias_is_the_name_in_the_store_only(do):
    class Item(Model):
        id = KeyField(alias="pk")
        count_ = IntField(alias="count")
        land = IndexedField(alias="country")

    item = await do.create(Item, id="a", count_=3, land="DE")
    assert await do.get(Item, id="a") == item
    assert await do.all(Item.query.filter(land="DE", count___gte=3)) == [item]


def test_a_subclass_states_its_type_and_limits():
    class Name(Field):
        null = False
        max_length = 5

    class Money(Field):
        type = Decimal

    field = Name()
    assert (field.required, field.max_length, Money().type) == (True, 5, Decimal)
    assert Name(max_length=9).max_length == 9
    assert Name.is_valid(field, "too long") is False


def test_paths_into_lists_and_maps():
    item = item_of(DictField())
    assert repr(item.value["a"] == 1) == "(Item.value['a'] == 1)"
    with pytest.raises(TypeError, match=r"Item\.id has the type str"):
        item.id["a"]
    with pytest.raises(TypeError, match="cannot be iterated"):
        list(item.value)


async def test_conditions_on_fields(do):
    item = item_of(DictField())
    one = await do.create(item, id="a", value={"n": 1})
    await do.create(item, id="b", value={"n": 2})
    assert await do.all(do.scan(item, item.value["n"] == 1)) == [one]
    with pytest.raises(InvalidValue, match=r"Item\.id"):
        item.id == 1  # noqa: B015 - it raises


@pytest.mark.parametrize("wrong", [("a", 1), (1,)])
def test_partition_by_takes_names(wrong):
    with pytest.raises(ConfigurationError, match=r"Item\.value: partition_by= takes names of fields"):
        item_of(SortedField(partition_by=wrong))


def test_partition_by_names_fields_that_exist_and_others():
    with pytest.raises(ConfigurationError, match=r"Item\.value: partition_by names 'nothing'"):
        item_of(SortedField(partition_by="nothing"))
    with pytest.raises(ConfigurationError, match=r"Item\.value: partition_by="):
        item_of(SortedField(partition_by="value"))
    with pytest.raises(ConfigurationError, match=r"Item\.value: partition_by="):
        item_of(SortedField(partition_by=("id", "id")))


# The clock.


async def test_auto_now_add_and_auto_now(do, clock):
    class Note(Model):
        id = KeyField()
        text = Field()
        made = DatetimeField(auto_now_add=True)
        changed_at = DatetimeField(auto_now=True)
        day = DateField(auto_now_add=True)

    note = Note(id="a", text="one")
    assert note.to_dict() == {"id": "a", "text": "one"}
    await do.save(note)
    first = datetime(2024, 1, 1, tzinfo=UTC)
    assert (note.made, note.changed_at, note.day) == (first, first, first.date())
    clock.advance(60)
    await do.save(note)  # has nothing to write
    assert note.changed_at == first
    note.text = "two"
    await do.save(note)
    later = first + timedelta(minutes=1)
    assert (note.made, note.changed_at) == (first, later)
    found = await do.get(Note, id="a")
    assert (found.made, found.changed_at, found.day) == (first, later, first.date())
    given = datetime(2000, 1, 1, tzinfo=UTC)
    assert (await do.create(Note, id="b", made=given)).made == given


def test_the_clock_and_a_default_exclude_each_other():
    with pytest.raises(ConfigurationError, match=r"Item\.value: auto_now= and auto_now_add="):
        item_of(DatetimeField(auto_now=True, default=datetime(2024, 1, 1, tzinfo=UTC)))  # type: ignore[call-overload]


async def test_a_sorted_clock(do, clock):
    class SortedTime(SortedFieldMixin, DatetimeField):
        pass

    class Note(Model):
        id = AutoKeyField()
        at = SortedTime(auto_now_add=True)

    made = []
    for _ in range(3):
        made.append(await do.create(Note))
        clock.advance(1)
    since = Note.query.filter(at__gte=made[1].at)
    assert "index 'at'" in since.explain()
    assert {note.id for note in await do.all(since)} == {note.id for note in made[1:]}


# Names.


def test_a_misspelt_keyword_is_refused():
    make: list[Callable[[], Any]] = [
        lambda: Field(tpye=int),  # type: ignore[call-overload]  # that is the mistake
        lambda: AutoKeyField(stratgy="ulid"),  # type: ignore[call-arg]
        lambda: SortedField(partition="a"),  # type: ignore[call-overload]
        lambda: DatetimeField(auto_nwo=True),  # type: ignore[call-overload]
        lambda: item_of(Field())(vlaue="a"),
    ]
    for one in make:
        with pytest.raises(TypeError, match=r"tpye|stratgy|partition|auto_nwo|vlaue"):
            one()


@pytest.mark.parametrize("name", fields.__all__)
def test_each_name_is_exported_from_mintkey_itself(name):
    assert getattr(mintkey, name) is getattr(fields, name)
    assert name in mintkey.__all__


def test_fields_take_the_forms_and_elements_of_their_attributes(store):
    class Formed(Model):
        pk = KeyField()
        at = DatetimeField(stored_as="Z")
        day = DateField(stored_as="basic")
        id = UUIDField(stored_as="hex")
        when = SortedField(type=datetime, stored_as="seconds", null=True)
        days = ListField(of=date)
        prices = DictField(of=DecimalAttribute(min=0))

    moment = datetime(2024, 1, 31, 12, tzinfo=timezone.utc)
    given = {"at": moment, "day": moment.date(), "id": uuid.UUID(int=5), "when": moment, "days": [date(2024, 1, 1)]}
    formed = Formed(pk="a", **given, prices={"x": Decimal("1.50")})
    formed.save()
    loaded: Any = Formed.get(pk="a")
    assert loaded.to_dict() == formed.to_dict()
    assert formed.to_stored()["day"] == {"S": "20240131"}
    assert formed.to_stored()["at"] == {"S": "2024-01-31T12:00:00Z"}
    assert Formed.from_json(formed.to_json()).to_dict() == formed.to_dict()
    assert Formed.query.filter(when__gte=moment).count() == 1
    with pytest.raises(InvalidValue, match=r"Formed\.days: in \[0\]: expected date"):
        Formed(pk="b", days=["2024"]).save()
    with pytest.raises(InvalidValue, match=r"Formed\.prices.*min=0"):
        Formed(pk="b", prices={"x": Decimal(-1)}).save()
    with pytest.raises(InvalidValue):
        Formed.update_by_key("a", Formed.days.append([5]))


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (lambda: IntField(stored_as="Z"), "stored_as= is for the types datetime, date, UUID"),
        (lambda: TupleField(of=int), "of= is for the types list, dict, and this field has the type tuple"),
        (lambda: DatetimeField(stored_as="z"), "stored_as= takes 'micro'"),
        (lambda: ListField(of=IntField()), "use an attribute or a type, not a IntField"),
    ],
)
def test_forms_and_elements_that_a_field_has_not(field, told):
    with pytest.raises(ConfigurationError, match=told):
        type("Odd", (Model,), {"pk": KeyField(), "value": field()})
