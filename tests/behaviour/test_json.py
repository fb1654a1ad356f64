"""What is read from a store is the same after a way through JSON: by mintkey's own methods and by pydantic."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, computed_field
from tests.behaviour.test_round_trip_or_refusal import KINDS, LIKELY, holder_of, quiet, same, values

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import (
    Attribute,
    BinaryAttribute,
    DateAttribute,
    DatetimeAttribute,
    IntegerAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TimedeltaAttribute,
    VersionAttribute,
)
from mintkey.errors import ConfigurationError, InvalidValue
from mintkey.fields import AutoKeyField, DatetimeField, Field, KeyField
from mintkey.references import Reference


@pytest.mark.parametrize("kind", KINDS)
def test_each_stored_value_is_the_same_after_json(kind):
    with connect("sqlite://"):
        holder = holder_of(kind)
        likely = LIKELY.get(kind, st.nothing())

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.one_of(likely, likely, values))
        def check(value: Any) -> None:
            item = holder(pk="a", value=quiet(value))
            try:
                item.save()
            except InvalidValue:
                return
            loaded = holder.get(pk="a")
            text = loaded.to_json()
            adapter = TypeAdapter(holder)
            again = [
                holder.from_json(text),
                holder.from_json(adapter.dump_json(loaded, by_alias=True)),
                holder.model_validate_json(text),
                holder.model_validate_json(text, strict=True),
                holder.model_validate(json.loads(text)),
                holder.model_validate(loaded.model_dump()),
                adapter.validate_json(adapter.dump_json(loaded)),
            ]
            for one in again:
                assert same(loaded.value, one.value), text
                assert one.pk == "a"

        check()


class Line(Model):
    model_config = ModelConfig(abstract=True)
    name = StringAttribute(required=True, min_length=2)
    price = NumberAttribute(min=0)


class Order(Model):
    """An order of a customer."""

    model_config = ModelConfig(table="json-orders")
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID, description="The number of the order")
    customer = StringAttribute(required=True, pattern="[a-z]+")
    total = NumberAttribute(alias="orderTotal", min=0, max=100)
    status = StringAttribute(default="new", choices=["new", "paid"])
    lines = ListAttribute(of=Line)
    raw = BinaryAttribute(max_length=4)
    words = StringSetAttribute()
    changed_at = DatetimeAttribute(default=AutoGenerate.ISO8601_MS, on_update=AutoGenerate.ISO8601_MS)
    version = VersionAttribute()


class Holder(BaseModel):
    orders: list[Order]


def problems(data: Any, model: Any = Order) -> dict[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(data)
    assert refused.value.title == model.__name__
    return {one["loc"]: one["msg"] for one in refused.value.errors()}


def test_types_and_constraints_are_checked_and_each_problem_names_its_attribute():
    assert problems({}) == {("customer",): "Field required"}
    wrong = {
        "customer": "Ada",
        "orderTotal": 101,
        "status": "lost",
        "lines": [{"name": "ab"}, {"name": "a", "price": -1, "colour": "red"}],
        "raw": "AAECAwQ=",
        "words": "text",
        "nme": 1,
    }
    found = problems(wrong)
    assert set(found) == {
        ("customer",),
        ("orderTotal",),
        ("status",),
        ("lines", 1, "name"),
        ("lines", 1, "price"),
        ("lines", 1, "colour"),
        ("raw",),
        ("words",),
        ("nme",),
    }
    assert found["orderTotal",] == "101 is more than max=100"
    assert "pattern='[a-z]+'" in found["customer",]
    assert problems({"customer": "ada", "total": True}) == {("total",): "expected a number, got a boolean"}
    assert problems({"customer": None}).keys() == {("customer",)}
    assert problems([]).keys() == {()}


def test_names_and_aliases_are_taken_and_an_instance_stays_itself():
    order = Order.model_validate({"customer": "ada", "orderTotal": 5, "raw": "AAE=", "words": ["b", "a", "b"]})
    assert (order.total, order.raw, order.words, order.status) == (5, b"\0\1", {"a", "b"}, "new")
    assert Order.model_validate({"customer": "ada", "total": 5}).total == 5
    assert Order.model_validate(order) is order
    assert Holder(orders=[order]).orders[0] is order
    assert Order.model_validate({"customer": "ada", "status": None}).status is None


def test_generated_values_are_ignored_in_input_and_kept_in_what_was_dumped():
    posted = {"customer": "ada", "pk": "mine", "version": 7, "changed_at": "no time"}
    ignored = TypeAdapter(Order).validate_python(posted)
    assert not vars(ignored).keys() & {"pk", "version", "changed_at"}
    with connect("sqlite://"):
        order = Order.create(customer="ada", lines=[Line(name="ab", price=1.5)], raw=b"\xff")
        for dumped in (order.model_dump(), order.model_dump(mode="json"), order.model_dump(by_alias=True)):
            assert Order.model_validate(dumped).to_dict() == order.to_dict()
        text = Holder(orders=[order]).model_dump_json()
        assert Holder.model_validate_json(text).orders[0].pk is None
        kept = Holder.model_validate_json(text, context={"mintkey": "stored"})
        assert kept.orders[0].to_dict() == order.to_dict()


def test_dumps():
    with connect("sqlite://"):
        order = Order.create(customer="ada", total=Decimal("1.5"), lines=[Line(name="ab")], words={"b", "a"})
        dumped = order.model_dump(mode="json", exclude_none=True, exclude={"pk", "changed_at"})
        assert dumped == {
            "customer": "ada",
            "total": 1.5,
            "status": "new",
            "lines": [{"name": "ab"}],
            "words": ["a", "b"],
            "version": 1,
        }
        assert order.model_dump(include={"raw", "words"}) == {"raw": None, "words": {"a", "b"}}
        assert order.model_dump(include={"total"}, by_alias=True) == {"orderTotal": 1.5}
        assert order.to_dict(mode="json", include={"total", "raw"}) == {"total": 1.5}
        assert order.to_dict(exclude=["lines", "pk", "changed_at", "words"]).keys() == {
            "customer",
            "total",
            "status",
            "version",
        }
        partly = next(iter(Order.query(pk=order.pk, attributes=["customer"])))
        assert partly.model_dump() == {"pk": order.pk, "customer": "ada", "version": 1}
        assert dataclasses.asdict(partly) == {"pk": order.pk, "customer": "ada", "version": 1}
        assert json.loads(partly.to_json()) == {"pk": order.pk, "customer": "ada", "version": 1}
    for wrong in ({"include": {"nme"}}, {"exclude": "pk"}, {"mode": "xml"}):
        with pytest.raises(TypeError):
            order.to_dict(**wrong)


def test_input_and_output_schemas():
    adapter = TypeAdapter(Order)
    given, stored = adapter.json_schema(), adapter.json_schema(mode="serialization")
    assert (given["title"], given["description"]) == ("Order", "An order of a customer.")
    assert given["required"] == ["customer"]
    assert given["additionalProperties"] is False
    assert set(stored["required"]) == set(stored["properties"]) == set(given["properties"])
    key = {"type": "string", "format": "ulid", "title": "Pk", "description": "The number of the order"}
    for schema in (given, stored):
        assert schema["properties"]["pk"] == {**key, "readOnly": True}
        assert {name for name, one in schema["properties"].items() if one.get("readOnly")} == {
            "pk",
            "changed_at",
            "version",
        }
    assert given["properties"]["orderTotal"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 100}
    assert given["properties"]["customer"] == {"type": "string", "title": "Customer", "pattern": "^(?:[a-z]+)$"}
    assert given["properties"]["status"]["anyOf"][0]["enum"] == ["new", "paid"]
    assert given["properties"]["status"]["default"] == "new"
    assert given["properties"]["raw"]["anyOf"][0] == {"type": "string", "contentEncoding": "base64"}
    assert stored["properties"]["words"]["type"] == "array"
    assert given["$defs"]["Line"]["properties"]["name"]["minLength"] == 2


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object"),
        ('{"custmer": "a"}', "did you mean 'customer'"),
        ('{"total": 1, "orderTotal": 1}', "Order.total: the JSON has two values"),
        ('{"raw": "?"}', "Order.raw: "),
        ('{"lines": [{"name": 1}]}', "name"),
        ('{"words": [1]}', "Order.words: in [0]"),
        ('{"customer": "' + "\\ud800" + '"}', None),
    ],
)
def test_json_that_does_not_fit(text, wrong):
    if wrong is None:  # the save refuses it
        Order.from_json(text)
        return
    with pytest.raises(InvalidValue) as refused:
        Order.from_json(text)
    assert wrong in str(refused.value)


def test_sets_of_numbers_are_written_in_their_order():
    class Numbered(Model):
        id = StringAttribute(partition_key=True)
        numbers = NumberSetAttribute()

    numbers = {10, 2.5, -4, 1, Decimal("1.23456789012345678901234567890"), 3}
    written = Numbered(id="a", numbers=numbers).to_dict(mode="json")["numbers"]
    assert written == [-4, 1, 2.5, 3, 10, "1.2345678901234567890123456789"]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"total": float("nan")}, "Order.total: "),
        ({"total": "5"}, "Order.total: expected a number, got str"),
        ({"total": True}, "Order.total: expected a number, got bool"),
        ({"lines": [Line(price="5")]}, "Order.lines: in [0]: "),
        ({"words": {1}}, "Order.words: "),
        ({"raw": "text"}, "Order.raw: expected bytes, got str"),
    ],
)
def test_values_that_could_not_be_saved_have_no_json(values, wrong):
    order = Order(customer="ada", **values)
    for convert in (order.to_json, lambda: order.to_dict(mode="json")):
        with pytest.raises(InvalidValue) as refused:
            convert()
        assert str(refused.value).startswith(wrong)


def test_subclasses_have_the_schema_of_the_declared_class_in_responses():
    class Animal(Model):
        model_config = ModelConfig(table="json-animals")
        pk = StringAttribute(partition_key=True)
        kind = StringAttribute(discriminator=True)

    class Dog(Animal):
        tricks = ListAttribute(of=str)

    dog = Dog(pk="rex", tricks=["sit"])
    assert TypeAdapter(list[Animal]).dump_python([dog]) == [{"pk": "rex", "kind": "Dog"}]
    assert TypeAdapter(list[Any]).dump_python([dog], mode="json") == [{"pk": "rex", "kind": "Dog", "tricks": ["sit"]}]


@pytest.mark.parametrize("kind", KINDS)
def test_each_attribute_type_has_json_schemas(kind):
    adapter = TypeAdapter(holder_of(kind))
    for mode in ("validation", "serialization"):
        value = adapter.json_schema(mode=mode)["properties"]["value"]
        assert value != {}


def test_deep_json_is_refused():
    deep = '{"pk": "a", "lines": ' + "[" * 100_000 + "]" * 100_000 + "}"
    with pytest.raises(InvalidValue):
        Order.from_json(deep)
    with pytest.raises(ValidationError):
        Order.model_validate_json(deep)


def test_durations_and_large_numbers_keep_their_digits():
    class Kept(Model):
        pk = StringAttribute(partition_key=True)
        took = TimedeltaAttribute()
        n = NumberAttribute()
        whole = IntegerAttribute()

    for took in (timedelta(0), timedelta(days=-3, microseconds=1), timedelta(hours=30, milliseconds=5), timedelta.max):
        item = Kept(pk="a", took=took, n=Decimal("1234567890123456789.25"), whole=10**37)
        assert Kept.from_json(item.to_json()).to_dict() == item.to_dict()
        assert Kept.model_validate_json(item.to_json()).to_dict() == item.to_dict()
    assert Kept.from_json('{"pk": "a", "took": 1.5}').took == timedelta(seconds=1.5)


def test_values_that_json_lacks_keep_their_type_in_plain_lists_and_maps():
    class Free(Model):
        pk = StringAttribute(partition_key=True)
        things = MapAttribute()

    things = {
        "one": {"$B": "text"},
        "$B": "text",
        "$x": [b"\0", {1, 2}, None],
        "n": Decimal("0.1234567890123456789"),
        "set": {b"a"},
    }
    free = Free(pk="a", things=things)
    written = json.loads(free.to_json())["things"]
    assert (written["one"], written["$B"]) == ({"$$B": "text"}, "text")
    assert Free.from_json(free.to_json()).things == things
    assert Free.model_validate_json(free.to_json()).things == things


@pytest.mark.parametrize(
    "things",
    [{"$B": "AAE="}, {"$$B": 1}, {"$N": "1", "$ref": "#/x"}, {"a": [{"$S": ["x"]}]}, {"$$": {"$N": "2"}}],
    ids=str,
)
def test_documents_that_look_like_tagged_values_are_kept(things):
    class Free(Model):
        pk = StringAttribute(partition_key=True)
        things = MapAttribute()

    free = Free(pk="a", things=things)
    for dumped in (free.model_dump(), free.model_dump(mode="json"), TypeAdapter(Free).dump_python(free)):
        assert Free.model_validate(dumped).things == things
    assert Free.model_validate_json(free.to_json()).things == free.to_dict()["things"] == things


@pytest.mark.parametrize(
    "value",
    [b"\0\1", {b"a"}, {"x"}, {"$B": "AAE="}, {"$$B": 1}, [{"$N": "1"}, {"k": [b"x"]}], {"$B": {"$S": ["a"]}, "y": 1}],
    ids=str,
)
def test_dumps_of_values_of_any_type_in_a_class_are_read_back(value):
    @dataclasses.dataclass
    class Loose:
        one: Any = None
        pair: tuple[Any, ...] = ()

    class Free(Model):
        pk = StringAttribute(partition_key=True)
        loose = MapAttribute(Loose)
        several = ListAttribute(of=Loose)

    free = Free(pk="a", loose=Loose(value, (value, 1)), several=[Loose({"$S": value})])
    for dumped in (free.model_dump(), free.model_dump(mode="json"), TypeAdapter(Free).dump_python(free)):
        assert Free.model_validate(dumped).to_dict() == free.to_dict()
    assert Free.model_validate_json(free.to_json()).to_dict() == free.to_dict()


def test_types_of_other_modules_are_written_as_they_are_stored():
    class Point(Attribute[Any]):
        kind = "string"

        def encode(self, value: complex) -> str:
            return f"{value.real};{value.imag}"

        def decode(self, stored: str) -> complex:
            return complex(*map(float, stored.split(";")))

    class Cents(Attribute[Any]):
        kind = "string"

        def to_plain(self, value: str) -> float:
            return int(value) / 100

        def from_plain(self, plain: float) -> str:
            return str(round(plain * 100))

    class Own(Model):
        pk = StringAttribute(partition_key=True)
        at = Point()
        price = Cents()

    own = Own(pk="a", at=1 + 2j, price="150")
    assert json.loads(own.to_json()) == {"pk": "a", "at": "1.0;2.0", "price": 1.5}
    assert Own.from_json(own.to_json()).to_dict() == own.to_dict()
    assert Own.model_validate_json(own.to_json()).to_dict() == own.to_dict()


def test_fields_references_templates_and_discriminators():
    class Person(Model):
        id = AutoKeyField(strategy="ulid")
        born = DatetimeField(auto_now_add=True)
        country = KeyField()
        size = Field(type=tuple)

    class Animal(Model):
        model_config = ModelConfig(table="animals")
        pk = StringAttribute(partition_key=True, template="ANIMAL#{name}")
        name = StringAttribute()
        kind = StringAttribute(discriminator=True)
        owner = Reference(Person)

    class Dog(Animal):
        tricks = ListAttribute(of=str)

    with connect("sqlite://"):
        person = Person.create(country="DE", size=(1, "two"))
        dog = Dog.create(name="rex", owner=person, tricks=["sit"])
        assert json.loads(dog.to_json()) == {
            "pk": "ANIMAL#rex",
            "name": "rex",
            "kind": "Dog",
            "owner": person.id,
            "tricks": ["sit"],
        }
        again = Animal.from_json(dog.to_json())
        assert type(again) is Dog
        assert again.to_dict() == dog.to_dict()
        stored = {"mintkey": "stored"}
        for validated in (
            Animal.from_dict(dog.to_dict()),
            Animal.model_validate(dog.model_dump()),
            Animal.model_validate_json(dog.to_json()),
            TypeAdapter(list[Animal]).validate_json(f"[{dog.to_json()}]", context=stored)[0],
        ):
            assert type(validated) is Dog
            assert validated.to_dict() == dog.to_dict()
        assert Dog.model_validate_json(dog.to_json()).to_dict() == dog.to_dict()
        posted = TypeAdapter(Dog).validate_python({"pk": "ignored", "name": "rex", "owner": person.id})
        assert posted.to_dict() == {"pk": "ANIMAL#rex", "name": "rex", "kind": "Dog", "owner": dog.owner}
        assert Person.from_json(person.to_json()).to_dict() == person.to_dict()
        assert TypeAdapter(Person).json_schema()["properties"]["id"]["readOnly"] is True


class Loose(Model):
    pk = StringAttribute(partition_key=True)
    number = NumberAttribute()
    numbers = NumberSetAttribute()
    more = MapAttribute()


@pytest.mark.parametrize(
    ("value", "path", "told"),
    [
        ({"number": "many"}, ("number",), "'many' is not a number"),
        ({"numbers": [1, [2]]}, ("numbers", 1), "expected text, a number or bytes, got list"),
        ({"more": {"a": {"$N": "x"}}}, ("more", "a", "$N"), "'x' is not a number"),
        ({"more": {"a": {"$N": [0, [1, 2], 0]}}}, ("more", "a", "$N"), "expected text, got list"),
        ({"more": {"a": {"$B": 5}}}, ("more", "a", "$B"), "expected base64, got int"),
        ({"more": {"a": {"$S": "ab"}}}, ("more", "a", "$S"), "expected a list, got str"),
        ({"more": {"a": {"$S": [[1]]}}}, ("more", "a", "$S", 0), "expected text, a number or bytes, got list"),
    ],
)
def test_json_that_is_no_value_is_refused_in_plain_words(value, path, told):
    with pytest.raises(ValidationError) as refused:
        Loose.model_validate({"pk": "a", **value})
    (problem,) = refused.value.errors()
    assert (problem["loc"], problem["msg"]) == (path, told)
    with pytest.raises(InvalidValue) as invalid:
        Loose.from_json(json.dumps({"pk": "a", **value}))
    assert str(invalid.value).endswith(told)


def test_models_are_no_values_of_structured_attributes():
    with pytest.raises(ConfigurationError, match="Order is a model"):

        class Wrong(Model):
            pk = StringAttribute(partition_key=True)
            orders = MapAttribute(dict[str, Order])


def test_attributes_win_over_methods_that_came_later(caplog):
    class Named(Model):
        pk = StringAttribute(partition_key=True)
        to_json = StringAttribute()  # type: ignore[assignment]
        model_dump = NumberAttribute()  # type: ignore[assignment]

    assert [record.getMessage() for record in caplog.records] == [
        "Named.model_dump hides the method Model.model_dump()",
        "Named.to_json hides the method Model.to_json()",
    ]
    named = Named(pk="a", to_json="text", model_dump=1)
    assert named.to_json == "text"
    assert TypeAdapter(Named).dump_python(named) == {"pk": "a", "to_json": "text", "model_dump": 1}


def test_instances_can_be_used_as_dataclasses():
    order = Order(customer="ada", total=5)
    assert dataclasses.is_dataclass(Order)
    assert not dataclasses.is_dataclass(Model)
    assert [field.name for field in dataclasses.fields(Order)][:3] == ["pk", "customer", "total"]
    assert dataclasses.asdict(order)["total"] == 5
    assert dataclasses.replace(order, total=6).to_dict() == {**order.to_dict(), "total": 6}


PROGRAM = """
import sys
from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import DatetimeAttribute, StringAttribute
import mintkey.fields, mintkey.pydantic

class Order(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    at = DatetimeAttribute(default=AutoGenerate.ISO8601)

connect("sqlite://")
order = Order.create()
assert Order.from_json(order.to_json()).to_dict() == order.to_dict()
assert Order.get(pk=order.pk).to_dict(mode="json")
assert not [name for name in sys.modules if name.partition(".")[0] in {"pydantic", "pydantic_core", "fastapi"}]
sys.modules["pydantic"] = None
try:
    order.model_dump()
except ImportError:
    print("refused")
"""


def test_pydantic_is_imported_when_it_is_used():
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout == "refused\n"


def test_dates_of_json_are_points_in_time():
    class Event(Model):
        pk = KeyField(type=uuid.UUID)
        at = DatetimeAttribute()

    event = Event(pk=uuid.uuid4(), at=datetime(2024, 1, 1, 12))  # noqa: DTZ001 - a naive time is UTC
    assert json.loads(event.to_json())["at"] == "2024-01-01T12:00:00Z"
    assert Event.from_json(event.to_json()).at == datetime(2024, 1, 1, 12, tzinfo=timezone.utc)


def test_in_unions_the_locations_name_the_models():
    class Cat(Model):
        pk = StringAttribute(partition_key=True)
        lives = IntegerAttribute(required=True)

    class Dog(Model):
        pk = StringAttribute(partition_key=True)
        name = StringAttribute(required=True)

    either: TypeAdapter[Any] = TypeAdapter(Cat | Dog)
    with pytest.raises(ValidationError) as caught:
        either.validate_python({"pk": "a", "lives": "x"})
    assert {one["loc"][0] for one in caught.value.errors()} == {"Cat", "Dog"}
    assert either.validate_python({"pk": "a", "name": "rex"}).name == "rex"
    names = {"Cat", "Dog"}
    assert names <= either.json_schema()["$defs"].keys()


def test_dumps_with_computed_fields_and_fields_without_input_are_read():
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True, extra="forbid")
        n: int
        at: datetime | None = None

        @computed_field  # type: ignore[prop-decorator]
        @property
        def double(self) -> int:
            return self.n * 2

    @dataclasses.dataclass
    class Counted:
        name: str
        calls: int = dataclasses.field(init=False, default=0)

    class Both(Model):
        pk = StringAttribute(partition_key=True)
        strict = MapAttribute(Strict)
        counted = JSONAttribute(Counted)

    counted = Counted("x")
    counted.calls = 5
    both = Both(pk="a", strict=Strict(n=1, at=datetime(2024, 1, 1, tzinfo=timezone.utc)), counted=counted)
    for dumped in (both.model_dump(), both.model_dump(mode="json")):
        assert Both.model_validate(dumped).to_dict() == both.to_dict()
    for strict in (None, True):
        assert Both.model_validate_json(both.to_json(), strict=strict).to_dict() == both.to_dict()
    with pytest.raises(ValidationError):
        Both.model_validate({"pk": "a", "strict": {"n": 1, "more": 2}})
    with pytest.raises(ValidationError):
        Both.model_validate_json('{"pk": "a", "strict": {"n": "1"}}', strict=True)


def test_a_datetime_is_not_written_as_a_date():
    class Dated(Model):
        day = DateAttribute(partition_key=True)

    with pytest.raises(InvalidValue, match=r"Dated\.day: expected date, got datetime"):
        Dated(day=datetime(2024, 1, 1, 5)).to_json()  # noqa: DTZ001
