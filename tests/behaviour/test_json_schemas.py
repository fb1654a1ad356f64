"""Each response fits the output schema of its model, and each body that the input schema allows is accepted."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, computed_field
from pydantic import Field as PydanticField
from tests.behaviour.json_schemas import problems, samples

from mintkey import AutoGenerate, Model, ModelConfig, Reference, connect
from mintkey.attributes import (
    Attribute,
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    CompressedAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    IntegerAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TimeAttribute,
    TimedeltaAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.fields import Field


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Rate(enum.Enum):
    LOW = Decimal("0.07")
    HIGH = Decimal(1)


class Prefs(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = PydanticField(1, alias="theCount")
    price: Decimal | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.count * 2


@dataclasses.dataclass
class Point:
    x: float
    price: Decimal | None = None
    colour: Colour | None = None
    words: set[str] = dataclasses.field(default_factory=set)
    prices: dict[str, Decimal] = dataclasses.field(default_factory=dict)
    anything: Any = None


class Line(Model):
    model_config = ModelConfig(abstract=True)
    sku = StringAttribute(required=True)
    price = DecimalAttribute(alias="unitPrice", min=0)
    words = StringSetAttribute()


MOMENT = datetime(2024, 1, 31, 12, tzinfo=timezone.utc)
POINT = Point(3, Decimal("0.25"), Colour.RED, {"a"}, {"$N": Decimal("1.50")}, {"$B": "text"})
#: How to declare each attribute, and two of its values.
KINDS: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "text": (StringAttribute, "a", ""),
    "number": (NumberAttribute, 5, Decimal("1234567890123456789.25")),
    "decimal": (DecimalAttribute, Decimal("9.90"), Decimal("1E-20")),
    "integer": (IntegerAttribute, 5, 10**30),
    "boolean": (BooleanAttribute, True, False),
    "bytes": (BinaryAttribute, b"a", b"\xff"),
    "list": (ListAttribute, [1, None], [b"\xff", {"a": {1}}]),
    "map": (MapAttribute, {"a": 1}, {"$B": [b"\xff"]}),
    "words": (StringSetAttribute, {"a"}, {"b", "c"}),
    "numbers": (NumberSetAttribute, {1, 2.5}, {Decimal("1.23456789012345678901234567890")}),
    "blobs": (BinarySetAttribute, {b"a"}, {b"\xff", b""}),
    "json": (JSONAttribute, {"a": [1]}, 5),
    "enum": (partial(EnumAttribute, Colour), Colour.RED, Colour.BLUE),
    "enum of decimals": (partial(EnumAttribute, Rate), Rate.LOW, Rate.HIGH),
    "datetime": (DatetimeAttribute, MOMENT, MOMENT + timedelta(microseconds=1)),
    "date": (DateAttribute, date(2024, 1, 31), date(1, 1, 1)),
    "time": (TimeAttribute, time(12), time(23, 59, 59, 1)),
    "timedelta": (TimedeltaAttribute, timedelta(hours=30), timedelta(days=-3, microseconds=1)),
    "uuid": (UUIDAttribute, uuid.UUID(int=1), uuid.UUID(int=2)),
    "compressed": (CompressedAttribute, "a", "b" * 5000),
    "nested": (partial(MapAttribute, Line), Line(sku="a"), Line(sku="b", price=Decimal("1.5"), words={"a"})),
    "map of a dataclass": (partial(MapAttribute, Point), Point(1), POINT),
    "JSON of a dataclass": (partial(JSONAttribute, Point), Point(1), POINT),
    "map of a model": (partial(MapAttribute, Prefs), Prefs(theCount=3), Prefs(theCount=1, price=Decimal("1.5"))),
    "JSON of a model": (partial(JSONAttribute, Prefs), Prefs(theCount=3), Prefs(theCount=1, price=Decimal("1.5"))),
    "JSON of models": (partial(JSONAttribute, list[Prefs]), [Prefs(theCount=3)], []),
    "JSON of a Decimal": (partial(JSONAttribute, Decimal), Decimal("1.5"), Decimal(3)),
    "list of times": (partial(ListAttribute, of=datetime), [MOMENT], []),
    "list of numbers": (
        lambda **more: ListAttribute(of=NumberAttribute(), **more),
        [5, Decimal("1234567890123456789.25")],
        [],
    ),
    "list of nested": (partial(ListAttribute, of=Line), [Line(sku="a")], []),
    "map of optional enums": (partial(MapAttribute, of=Colour | None), {"a": None}, {"b": Colour.RED}),
    "map of floats": (partial(MapAttribute, of=float), {"a": 1.5}, {"a": 1e30}),
    "any": (Attribute, [1, "a"], b"\xff"),
    "field of tuples": (partial(Field, type=tuple), (1, "a"), ()),
    "field of sets": (partial(Field, type=set), {"a"}, {b"\xff"}),
    "field of floats": (partial(Field, type=float), 1.5, 1e30),
}


class Keyed(Model):
    """Rows that have no value of the other class."""

    model_config = ModelConfig(table="json-schemas")
    pk = StringAttribute(partition_key=True)


def declared(kind: str) -> Any:
    make, value, _ = KINDS[kind]

    class Declared(Model):
        model_config = ModelConfig(table="json-schemas")
        pk = StringAttribute(partition_key=True)
        plain = make(alias="thePlain")
        filled = make(default=lambda: value)

    return Declared


def response(adapter: TypeAdapter[Any], instance: Any) -> Any:
    return json.loads(adapter.dump_json(instance, by_alias=True))


@pytest.mark.parametrize("kind", KINDS)
def test_each_response_fits_the_output_schema(kind):
    model, (_, one, other) = declared(kind), KINDS[kind]
    adapter = TypeAdapter(model)
    schema = adapter.json_schema(mode="serialization")
    assert set(schema["required"]) == {"pk", "thePlain", "filled"}
    with connect("sqlite://"):
        given = model(pk="a", plain=one, filled=other)
        given.save()
        none = model(pk="b", plain=other, filled=None)
        none.save()
        Keyed(pk="c").save()
        old = model.get(pk="c")
        dumped = [
            model.model_validate(item.model_dump(mode=mode)) for item in (given, none) for mode in ("python", "json")
        ]
        for instance in (given, none, old, model(pk="d"), model.get(pk="a"), model.get(pk="b"), *dumped):
            assert problems(schema, response(adapter, instance)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_body_that_the_input_schema_allows_is_accepted(kind):
    model = declared(kind)
    adapter = TypeAdapter(model)
    schema = adapter.json_schema()
    count = 0
    with connect("sqlite://"):
        for body in samples(schema, schema.get("$defs", {})):
            assert problems(schema, body) == []
            for accepted in (adapter.validate_python(body), adapter.validate_json(json.dumps(body))):
                accepted.save()
                count += 1
    assert count >= 8


class Limited(Model):
    model_config = ModelConfig(table="json-schemas-limited")
    pk = StringAttribute(partition_key=True, template="T#{tenant}")
    sk = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    tenant = StringAttribute(alias="theTenant")
    needed = StringAttribute(required=True, default="x")
    short = StringAttribute(min_length=2, max_length=3)
    code = StringAttribute(pattern="[a-z]+")
    amount = NumberAttribute(min=-1, max=7)
    whole = IntegerAttribute(min=1)
    exact = DecimalAttribute(max=7)
    status = StringAttribute(default="new", choices=["new", "paid"])
    two = ListAttribute(of=int, min_length=2, max_length=3)
    version = VersionAttribute()
    changed_at = NumberAttribute(on_update=AutoGenerate.EPOCH)


class Given(Model):
    model_config = ModelConfig(table="json-schemas-keys")
    pk = StringAttribute(partition_key=True)
    sk = BinaryAttribute(sort_key=True)


@pytest.mark.parametrize("model", [Limited, Given])
def test_limits_and_keys_are_in_the_schemas(model):
    adapter = TypeAdapter(model)
    given, stored = adapter.json_schema(), adapter.json_schema(mode="serialization")
    with connect("sqlite://"):
        for body in samples(given, {}):
            saved = adapter.validate_python(body)
            saved.save()
            assert problems(stored, response(adapter, saved)) == []


def test_only_keys_and_required_values_are_never_null():
    stored = TypeAdapter(Limited).json_schema(mode="serialization")
    nullable = {name for name, one in stored["properties"].items() if {"type": "null"} in one.get("anyOf", ())}
    assert set(stored["properties"]) - nullable == {"pk", "sk", "theTenant", "needed"}
    given = TypeAdapter(Limited).json_schema()["properties"]
    assert given["theTenant"]["minLength"] == 1
    for name in ("theTenant", "needed"):
        with pytest.raises(ValidationError) as refused:
            Limited.model_validate({"theTenant": "a", name: None})
        assert [problem["loc"] for problem in refused.value.errors()] == [(name,)]


class Person(Model):
    model_config = ModelConfig(table="json-schemas-people")
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    kind = StringAttribute(discriminator=True)
    mail = StringAttribute(required=True, alias="e-mail")
    name = StringAttribute(default="nobody")
    lines = ListAttribute(of=Line, required=True)
    friend: Any = Reference("Person")
    created = StringAttribute(default=AutoGenerate.ISO8601)
    version = VersionAttribute()


class Member(Person):
    since = DateAttribute(required=True)


class OldPerson(Model):
    """The rows of a version of the class without the other attributes."""

    model_config = ModelConfig(table="json-schemas-people")
    id = StringAttribute(partition_key=True)
    mail = StringAttribute(alias="e-mail")
    lines = ListAttribute()


class People(BaseModel):
    people: list[Person]
    next: str | None = None


app = FastAPI()


@app.get("/people/{name}")
async def person(name: str) -> Person | None:
    return await Person.aget(name)


@app.get("/people")
async def people() -> People:
    return People(people=await Person.ascan().aall())


@app.post("/preview")
async def preview(given: Person) -> Person:
    return given


@app.post("/short", response_model_exclude_none=True)
async def short(given: Person) -> Person:
    return given


@pytest.fixture
async def client(store):
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


async def test_responses_of_a_service_fit_its_schema(client):
    schemas = app.openapi()["components"]["schemas"]
    whole = {"$defs": schemas, **schemas["People"]}
    await OldPerson(id="old", mail="o", lines=[]).asave()
    await Person(id="new", mail="n", lines=[Line(sku="a")], friend="old").asave()
    await Person(id="null", mail="n", lines=[], name=None).asave()
    await Member(id="member", mail="m", lines=[], since=date(2024, 1, 31)).asave()
    answer = await client.get("/people")
    assert problems(whole, answer.json()) == []
    found = {one["id"]: one for one in answer.json()["people"]}
    assert found.keys() == {"old", "new", "null", "member"}
    assert (found["old"]["name"], found["old"]["created"], found["old"]["version"]) == (None, None, None)
    assert (found["member"]["kind"], found["new"]["friend"]) == ("Member", "old")


async def test_a_response_without_a_required_value_has_null_and_a_warning(client):
    await OldPerson(id="old", lines=[]).asave()
    with pytest.warns(UserWarning, match=r"^Person\.mail has no value and is null"):
        answer = await client.get("/people/old")
    assert (answer.status_code, answer.json()["id"], answer.json()["e-mail"]) == (200, "old", None)
    assert (await client.get("/people/none")).json() is None
    body = {"e-mail": "a", "lines": []}
    with pytest.warns(UserWarning, match=r"^Person\.id has no value and is null"):
        assert (await client.post("/preview", json=body)).json()["id"] is None
    assert (await client.post("/short", json=body)).json() == {**body, "kind": "Person", "name": "nobody"}
    old: Any = await Person.aget("old")
    with pytest.warns(UserWarning, match=r"^Person\.mail has no value"):
        assert json.loads(TypeAdapter(list[Person]).dump_json([old]))[0]["mail"] is None
    unsaved = Person(mail="a", lines=[])
    with pytest.warns(UserWarning, match=r"^Person\.id has no value"):
        assert json.loads(People(people=[unsaved]).model_dump_json())["people"][0]["id"] is None
    # What is left out is no mistake; the tests run with warnings as errors.
    assert "id" not in json.loads(TypeAdapter(Person).dump_json(unsaved, exclude={"id"}))
    assert json.loads(TypeAdapter(Person).dump_json(unsaved, include={"mail"})) == {"mail": "a"}
    # Dumps that are no responses.
    assert unsaved.model_dump(mode="json")["id"] is None
    assert People(people=[unsaved]).model_dump()["people"][0]["id"] is None
    stored = {"mintkey": "stored"}
    assert json.loads(People(people=[unsaved]).model_dump_json(context=stored))["people"][0]["id"] is None
