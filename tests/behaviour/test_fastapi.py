"""Models as bodies and responses of a FastAPI service, on every store."""

from __future__ import annotations

import dataclasses
import json
import uuid
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticSerializationError

from mintkey import AutoGenerate, Model, ModelConfig, Reference
from mintkey.attributes import (
    BinaryAttribute,
    DateAttribute,
    DecimalAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.pydantic import Ulid


class Line(Model):
    model_config = ModelConfig(abstract=True)
    sku = StringAttribute(required=True)
    price = DecimalAttribute(min=0)


class Order(Model):
    model_config = ModelConfig(table="fastapi-orders")
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID, description="The number of the order")
    customer = StringAttribute(required=True, max_length=20)
    total = NumberAttribute(alias="orderTotal", min=0)
    lines = ListAttribute(of=Line)
    first = MapAttribute(Line)
    due = DateAttribute()
    token = UUIDAttribute()
    raw = BinaryAttribute()
    words = StringSetAttribute()
    created = StringAttribute(default=AutoGenerate.ISO8601)
    version = VersionAttribute()

    @property
    def shout(self) -> str:
        return self.customer.upper() if self.customer else ""


class LineOut(BaseModel):
    sku: str


class OrderOut(BaseModel):
    pk: str
    shout: str
    first: LineOut | None
    version: int


app = FastAPI()


@app.post("/orders", status_code=201)
async def create(order: Order) -> Order:
    await order.asave()
    return order


@app.post("/many")
async def create_many(orders: list[Order]) -> list[Order]:
    await Order.abatch_save(orders)
    return orders


@app.get("/orders/{pk}")
async def read(pk: Ulid) -> Order | None:
    return await Order.aget(pk=pk)


class Release(Model):
    model_config = ModelConfig(table="fastapi-releases")
    pk = StringAttribute(partition_key=True, template="APP#{app}")
    sk = StringAttribute(sort_key=True, template="V#{number:03d}")
    app = StringAttribute(required=True)
    number = NumberAttribute(required=True)
    notes = MapAttribute()


class Tag(Model):
    model_config = ModelConfig(table="fastapi-tags")
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    name = StringAttribute(sort_key=True)


@app.post("/releases")
async def release(posted: Release) -> Release:
    await posted.asave()
    return posted


class Account(Model):
    model_config = ModelConfig(table="fastapi-accounts")
    pk = StringAttribute(partition_key=True, template="U#{mail}", alias="key")
    mail = StringAttribute(required=True, alias="e-mail")


@app.post("/accounts")
async def account(posted: Account) -> Account:
    await posted.asave()
    return posted


@dataclasses.dataclass
class Shape:
    area: Decimal
    raw: Any = None


class Note(Model):
    model_config = ModelConfig(table="fastapi-notes")
    name = StringAttribute(partition_key=True)
    pages = ListAttribute(of=MapAttribute(of=int))
    json = JSONAttribute()
    map = MapAttribute()
    free = MapAttribute(dict[str, Any])
    shape = MapAttribute(Shape)
    shapes = JSONAttribute(list[Shape])


@app.post("/notes")
async def note(posted: Note) -> Note:
    await posted.asave()
    return posted


@app.get("/notes/{name}")
async def read_note(name: str) -> Note | None:
    return await Note.aget(name)


HIDDEN: Any = {
    "json": {"secret"},
    "map": {"secret": {"deep"}},
    "free": {"secret"},
    "shape": {"raw"},
    "shapes": {"__all__": {"raw"}},
}


@app.get("/filtered/{name}", response_model_exclude=HIDDEN)
async def read_filtered_note(name: str) -> Note | None:
    return await Note.aget(name)


@app.post("/tags")
async def tag(posted: Tag) -> Tag:
    await posted.asave()
    return posted


@app.put("/orders/{pk}")
async def change(pk: str, order: Order, note: str = "", more: Annotated[Order | None, Body()] = None) -> list[Any]:
    return [pk, note, jsonable_encoder(order), more is None]


@app.get("/as-model/{pk}", response_model=OrderOut)
async def as_model(pk: str) -> Any:
    return await Order.aget(pk=pk)


@app.get("/plain/{pk}")
async def plain(pk: str):
    return await Order.aget(pk=pk)


@app.get("/any/{pk}")
async def anything(pk: str) -> Any:
    return await Order.aget(pk=pk)


@app.get("/page/{pk}")
async def page(pk: str) -> dict[str, Any]:
    return {"orders": [await Order.aget(pk=pk)], "next": None}


@app.get("/short/{pk}", response_model_include={"customer", "total"}, response_model_by_alias=False)
async def short(pk: str) -> Order | None:
    return await Order.aget(pk=pk)


@pytest.fixture
async def client(store):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as opened:
        yield opened


POSTED: dict[str, Any] = {
    "customer": "ada",
    "orderTotal": 5.5,
    "lines": [{"sku": "a", "price": "1.1"}, {"sku": "b"}],
    "first": {"sku": "a", "price": 1.1},
    "due": "2024-01-31",
    "token": "0190163d-8694-739b-aea5-966c26f8ad91",
    "raw": "AAH/",
    "words": ["b", "a"],
}


async def test_bodies_and_responses(client):
    answer = await client.post("/orders", json={**POSTED, "pk": "mine", "version": 9})
    assert answer.status_code == 201
    order = answer.json()
    assert len(order["pk"]) == 26
    assert order["version"] == 1
    stored: Any = await Order.aget(pk=order["pk"])
    assert (stored.due, stored.token) == (date(2024, 1, 31), uuid.UUID(POSTED["token"]))
    assert (stored.raw, stored.words) == (b"\0\1\xff", {"a", "b"})
    assert [line.price for line in stored.lines] == [Decimal("1.1"), None]
    assert order == {
        **POSTED,
        "lines": [{"sku": "a", "price": "1.1"}, {"sku": "b", "price": None}],
        "first": {"sku": "a", "price": "1.1"},
        "words": ["a", "b"],
        "pk": stored.pk,
        "created": stored.created,
        "version": 1,
    }
    assert (await client.get(f"/orders/{stored.pk.lower()}")).json() == order
    assert Order.from_json((await client.get(f"/orders/{stored.pk}")).content).to_dict() == stored.to_dict()
    assert (await client.get(f"/short/{stored.pk}")).json() == {"customer": "ada", "total": 5.5}
    assert (await client.get(f"/as-model/{stored.pk}")).json() == {
        "pk": stored.pk,
        "shout": "ADA",
        "first": {"sku": "a"},
        "version": 1,
    }
    many = await client.post("/many", json=[POSTED, {"customer": "bob"}])
    assert [one["customer"] for one in many.json()] == ["ada", "bob"]
    assert await Order.acount() == 3


async def test_wrong_bodies_name_the_attribute(client):
    wrong = {
        "orderTotal": -1,
        "lines": [{"price": 1}],
        "due": "soon",
        "token": "none",
        "raw": "~",
        "customr": "ada",
    }
    answer = await client.post("/orders", json=wrong)
    assert answer.status_code == 422
    assert {tuple(one["loc"]) for one in answer.json()["detail"]} == {
        ("body", "customer"),
        ("body", "orderTotal"),
        ("body", "lines", 0, "sku"),
        ("body", "due"),
        ("body", "token"),
        ("body", "raw"),
        ("body", "customr"),
    }
    assert (await client.post("/orders", json=[])).status_code == 422
    assert (await client.post("/many", json=[{"customer": "ada"}, {}])).json()["detail"][0]["loc"] == [
        "body",
        1,
        "customer",
    ]
    assert (await client.get("/orders/not-an-id")).status_code == 422
    assert await Order.acount() == 0


@pytest.mark.parametrize(
    ("path", "body", "location", "message"),
    [
        ("/releases", '{"app": "a", "number": 1000}', ["number"], "1000 does not fit the format :03d"),
        ("/releases", '{"app": "a", "number": 1.5}', ["number"], "1.5 does not fit the format :03d"),
        ("/releases", '{"app": "", "number": 1}', ["app"], "empty"),
        ("/releases", f'{{"app": "{"a" * 2050}", "number": 1}}', ["pk"], "a partition key of 2054 bytes is too long"),
        ("/releases", '{"app": "a", "number": NaN}', ["number"], "NaN and infinity cannot be stored"),
        ("/releases", '{"app": "a", "number": 1, "notes": {"a": NaN}}', ["notes"], "NaN and infinity cannot be stored"),
        ("/accounts", '{"e-mail": ""}', ["e-mail"], "empty"),
        ("/accounts", '{"mail": ""}', ["mail"], "empty"),
        ("/accounts", f'{{"e-mail": "{"a" * 2050}"}}', ["key"], "a partition key of 2052 bytes is too long"),
        ("/tags", '{"name": ""}', ["name"], "a sort key must not be empty"),
        ("/tags", f'{{"name": "{"a" * 1025}"}}', ["name"], "a sort key of 1025 bytes is too long"),
    ],
)
async def test_keys_that_cannot_be_saved_are_refused_in_the_body(client, path, body, location, message):
    answer = await client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["body", *location]
    assert message in problem["msg"]


@pytest.mark.parametrize(
    ("body", "location"),
    [
        (r'{"name": "\ud800"}', ["name"]),
        (r'{"name": {"\ud800": 1}}', ["name"]),
        (r'{"name": "a", "\ud800": 1}', []),
        ('{"name": "a", "pages": [{"a": NaN}]}', ["pages", 0, "a"]),
        (r'{"name": "a", "pages": [{"\ud800": 1}]}', ["pages", 0]),
        ('{"name": "a", "pages": [NaN]}', ["pages", 0]),
        (r'{"name": "a", "pages": ["\ud800"]}', ["pages", 0]),
        (r'{"name": "a", "json": ["\ud800"]}', ["json", 0]),
        ('{"name": "a", "map": {"": 1}}', ["map"]),
        (r'"\ud800"', []),
        ("[NaN]", []),
    ],
)
async def test_wrong_bodies_that_json_cannot_hold_are_answered(client, body, location):
    answer = await client.post("/notes", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["body", *location]


@pytest.mark.parametrize(
    "names",
    [{"$ref": "#/x"}, {"$B": "text"}, {"$N": "1", "a": 1}, {"a": {"$$": 1}}, {"a": [{"$S": ["x"]}]}],
)
async def test_a_response_is_read_as_the_same_item(client, names):
    note = Note(name="a", json=names, map=names, free=names, shape=Shape(Decimal("1." + "1" * 30), [b"a", {1}, names]))
    await note.asave()
    answer = await client.get("/notes/a")
    again = await client.post("/notes", json=answer.json())
    assert (again.status_code, again.json()) == (200, answer.json())
    read: Any = await Note.aget("a")
    assert read.to_dict() == note.to_dict()
    assert read.free == names


async def test_parts_of_values_that_are_excluded_are_not_in_the_response(client):
    secret = {"secret": "hidden", "open": 1}
    shape = Shape(Decimal("1.5"), "hidden")
    note = Note(name="a", json=secret, map={"secret": {"deep": "hidden"}}, free=secret, shape=shape, shapes=[shape])
    await note.asave()
    shown = {
        "json": {"open": 1},
        "map": {"secret": {}},
        "free": {"open": 1},
        "shape": {"area": "1.5"},
        "shapes": [{"area": "1.5"}],
    }
    assert (await client.get("/filtered/a")).json() == {"name": "a", "pages": None, **shown}
    only: Any = {
        "json": {"open"},
        "map": {"secret": {"other"}},
        "free": {"open"},
        "shape": {"area"},
        "shapes": {0: {"area"}},
    }
    for filters in ({"exclude": {**HIDDEN, "name": True, "pages": True}}, {"include": only}):
        assert note.model_dump(mode="json", **filters) == shown
        assert "hidden" not in str(note.model_dump(**filters))


async def test_names_with_a_dollar_sign_are_kept_in_responses(client):
    body = {"name": "a", "map": {"$ref": 1, "$id": 2}, "free": {"$ref": 1}}
    answer = await client.post("/notes", json=body)
    assert {name: answer.json()[name] for name in body} == body


async def test_an_instance_without_a_declared_type_is_written_like_one_with_it(client):
    order = await Order.acreate(customer="ada", total=5.5, raw=b"\xff", lines=[Line(sku="a", price=Decimal("1.5"))])
    expected = (await client.get(f"/orders/{order.pk}")).json()
    assert (expected["orderTotal"], expected["raw"]) == (5.5, "/w==")
    assert (await client.get(f"/any/{order.pk}")).json() == expected
    assert (await client.get(f"/page/{order.pk}")).json() == {"orders": [expected], "next": None}
    either: TypeAdapter[Any] = TypeAdapter(Order | Tag)
    assert json.loads(either.dump_json(order, by_alias=True)) == expected
    for unsaved in (Order(customer="bob"), Tag(name="a")):
        for adapter in (either, TypeAdapter(Any)):
            with pytest.raises(PydanticSerializationError, match=r"\.pk has no value"):
                adapter.dump_json(unsaved)


async def test_encoded_instances(client):
    order = await Order.acreate(customer="ada", total=5.5, lines=[Line(sku="a")], due=date(2024, 1, 31), words={"a"})
    expected = {**order.to_dict(mode="json"), "first": None, "token": None, "raw": None}
    expected["lines"] = [{"sku": "a", "price": None}]
    assert jsonable_encoder(order) == expected
    assert jsonable_encoder({"orders": [order]}) == {"orders": [expected]}
    assert (await client.get(f"/plain/{order.pk}")).json() == expected
    answer = await client.put("/orders/a?note=x", json={"order": {"customer": "bob"}})
    assert answer.json()[:2] == ["a", "x"]
    assert answer.json()[2]["customer"] == "bob"


def test_encoded_references(store):
    class Customer(Model):
        id = StringAttribute(partition_key=True)

    class Visit(Model):
        id = StringAttribute(partition_key=True)
        customer = Reference(Customer)

    visit = Visit.create(id="1", customer="ada")
    assert jsonable_encoder(visit) == {"id": "1", "customer": {"key": "ada"}}
    assert TypeAdapter(Visit).dump_json(visit) == b'{"id":"1","customer":"ada"}'
    assert TypeAdapter(Any).dump_json({"visits": [visit]}) == b'{"visits":[{"id":"1","customer":"ada"}]}'
    assert TypeAdapter(Any).dump_python([visit.customer]) == [visit.customer]
    assert Visit.model_validate(visit.model_dump()).customer == visit.customer
    assert TypeAdapter(Visit).validate_python({"id": "1", "customer": "ada"}).customer == visit.customer


def test_the_openapi_document_has_input_and_output_schemas():
    schemas = app.openapi()["components"]["schemas"]
    assert {"Order-Input", "Order-Output", "Line-Input", "Line-Output"} <= set(schemas)
    given, stored = schemas["Order-Input"], schemas["Order-Output"]
    assert given["required"] == ["customer"]
    assert {"pk", "created", "version"} <= set(stored["required"])
    assert given["properties"]["pk"]["readOnly"] is True
    paths = app.openapi()["paths"]
    body = paths["/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    answer = paths["/many"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Order-Input"}
    assert answer["items"] == {"$ref": "#/components/schemas/Order-Output"}
    assert paths["/orders/{pk}"]["get"]["parameters"][0]["schema"]["format"] == "ulid"


class Animal(Model):
    id = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True, alias="type")
    name = StringAttribute()


class Dog(Animal):
    model_config = ModelConfig(discriminator="dog")
    tail = NumberAttribute()


@app.post("/animals")
async def save_animals(animals: list[Dog | Animal]) -> list[Dog | Animal]:
    return animals


@app.post("/animal")
async def save_animal(animal: Animal) -> Animal:
    return animal


async def test_a_body_of_several_classes_is_read_by_its_discriminators(client):
    body = [
        {"id": "1", "type": "Animal", "name": "tom"},
        {"id": "2", "kind": "dog"},
        {"id": "3"},
        {"id": "4", "kind": "Animal"},
    ]
    answer = await client.post("/animals", json=body)
    assert [one["type"] for one in answer.json()] == ["Animal", "dog", "dog", "Animal"]
    assert (await client.post("/animals", json=answer.json()[1:3])).json() == answer.json()[1:3]
    for path, wrong in (("/animals", [{"id": "1", "type": "cat"}]), ("/animal", {"id": "1", "type": "dog"})):
        answer = await client.post(path, json=wrong)
        problem = answer.json()["detail"][-1]
        assert (answer.status_code, problem["loc"][-1]) == (422, "type")
        assert "is not the discriminator of Animal, which is 'Animal'" in problem["msg"]
