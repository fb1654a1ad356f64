"""Items in DynamoDB JSON, the form of stream records: `from_stored()` and `to_stored()`, with every store."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mintkey import Model, ModelConfig
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    VersionAttribute,
)
from mintkey.errors import InvalidValue, NotLoaded, UnreadableItem
from mintkey.fields import KeyField


class Every(Model):
    model_config = ModelConfig(table="images")
    pk = StringAttribute(partition_key=True)
    text = StringAttribute(alias="$t")
    number = NumberAttribute()
    exact = DecimalAttribute()
    flag = BooleanAttribute()
    raw = BinaryAttribute()
    things = ListAttribute()
    data = MapAttribute()
    json = JSONAttribute()
    at = DatetimeAttribute()
    words = StringSetAttribute()
    numbers = NumberSetAttribute()
    blobs = BinarySetAttribute()
    version = VersionAttribute()


IMAGE: dict[str, Any] = {
    "pk": {"S": "a"},
    "$t": {"S": 'é\0"\\'},
    "number": {"N": "1.5"},
    "exact": {"N": "0.12345678901234567890123456789012345678"},
    "flag": {"BOOL": False},
    "raw": {"B": b"\0\xff"},
    "things": {
        "L": [{"N": "1"}, {"NULL": True}, {"M": {"$B": {"S": "x"}, "b": {"B": b"y"}}}, {"SS": ["s"]}, {"L": []}]
    },
    "data": {"M": {"$SS": {"L": []}, "": {"N": "-7"}, "$": {"BOOL": True}}},
    "json": {"S": '{"a":[1,null]}'},
    "at": {"S": "2024-01-01T00:00:00.000000+00:00"},
    "words": {"SS": ["a", "b"]},
    "numbers": {"NS": ["1", "2.5"]},
    "blobs": {"BS": [b"\1"]},
    "version": {"N": "3"},
    "unknown": {"S": "kept"},
}


def test_an_image_becomes_a_loaded_instance_and_back():
    item = Every.from_stored(IMAGE)
    assert item.to_dict() == {
        "pk": "a",
        "text": 'é\0"\\',
        "number": 1.5,
        "exact": Decimal("0.12345678901234567890123456789012345678"),
        "flag": False,
        "raw": b"\0\xff",
        "things": [1, None, {"$B": "x", "b": b"y"}, {"s"}, []],
        "data": {"$SS": [], "": -7, "$": True},
        "json": {"a": [1, None]},
        "at": datetime(2024, 1, 1, tzinfo=timezone.utc),
        "words": {"a", "b"},
        "numbers": {1, 2.5},
        "blobs": {b"\1"},
        "version": 3,
    }
    assert not item.is_dirty
    assert item.to_stored() == IMAGE
    item.text = None
    item.number = 2
    changed = {**IMAGE, "number": {"N": "2"}}
    del changed["$t"]
    assert item.to_stored() == changed
    assert Every.from_stored(changed) == item


def test_an_image_of_a_stream_record_has_base64():
    record = json.dumps(IMAGE, default=lambda raw: base64.b64encode(raw).decode())
    assert Every.from_stored(json.loads(record)) == Every.from_stored(IMAGE)


async def test_the_instance_can_be_saved_updated_and_refreshed(do):
    await do.create(Every, pk="a", number=1, words={"x"})
    stored = await do.get(Every, pk="a")
    item = Every.from_stored(stored.to_stored())
    assert item == stored
    item.number = 2
    await do.save(item)
    await do.update(item, text="t")
    assert (await do.get(Every, pk="a")).to_dict() == {
        "pk": "a",
        "number": 2,
        "words": {"x"},
        "text": "t",
        "version": 3,
    }
    await do.refresh(item)
    await do.delete(item)
    assert await do.count(Every) == 0


async def test_a_new_instance_has_an_image_of_what_a_save_writes(do):
    class Seat(Model):
        hall = KeyField()
        number = KeyField(type=int)

    new = Every(pk="a", number=Decimal("1.10"), raw=b"x", words=set())
    assert new.to_stored() == {"pk": {"S": "a"}, "number": {"N": "1.1"}, "raw": {"B": b"x"}}
    seat = Seat(hall="A:", number=7)
    assert seat.to_stored() == {"_key": {"S": "A%3A:7"}, "hall": {"S": "A:"}, "number": {"N": "7"}}
    await do.save(seat)
    assert Seat.from_stored(seat.to_stored()) == await do.get(Seat, hall="A:", number=7)
    with pytest.raises(InvalidValue, match=r"Every\.pk"):
        Every(number=1).to_stored()
    with pytest.raises(InvalidValue, match=r"Every\.number"):
        Every(pk="a", number="x").to_stored()


async def test_a_partly_loaded_instance_has_no_image(do):
    await do.create(Every, pk="a", number=1)
    (item,) = await do.iterate(do.scan(Every, attributes=["number"]))
    with pytest.raises(NotLoaded, match=r"to_stored\(\) needs all attributes"):
        item.to_stored()


WRONG: dict[str, tuple[Any, str]] = {
    "no dict": ([], "expected a dict, got list"),
    "a record": ({"dynamodb": {"NewImage": IMAGE}}, "in dynamodb: the types are S, N"),
    "plain values": ({"pk": "a"}, "in pk: expected a value with its type"),
    "two types": ({"pk": {"S": "a", "N": "1"}}, "in pk: expected a value with its type"),
    "no key": ({"text": {"S": "a"}}, "pk"),
    "a key of another type": ({"pk": {"N": "1"}}, "pk"),
    "a number": ({"pk": {"S": "a"}, "number": {"N": 1}}, "in number: expected a number as text"),
    "NaN": ({"pk": {"S": "a"}, "number": {"N": "NaN"}}, "in number: "),
    "no number": ({"pk": {"S": "a"}, "number": {"N": "x"}}, "in number: "),
    "an empty set": ({"pk": {"S": "a"}, "tags": {"SS": []}}, "in tags: a set has one member or more"),
    "a text": ({"pk": {"S": 5}}, "in pk: expected text, got 5"),
    "a surrogate": ({"pk": {"S": "\ud800"}}, "DynamoDB JSON"),
    "no base64": ({"pk": {"S": "a"}, "raw": {"B": "?"}}, "in raw: "),
    "a path": ({"pk": {"S": "a"}, "data": {"M": {"x": {"L": [{"S": "a"}, {"Z": 1}]}}}}, r"in data\.x\[1\]: the types"),
    "a flag": ({"pk": {"S": "a"}, "flag": {"BOOL": 1}}, "in flag: expected True or False"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_image_is_refused(case):
    image, reason = WRONG[case]
    with pytest.raises(InvalidValue, match=rf"Every: .*{reason}") as caught:
        Every.from_stored(image)
    assert caught.value.model == "Every"


def test_a_value_that_its_attribute_cannot_read_is_reported():
    with pytest.raises(UnreadableItem, match=r"Every\.at"):
        Every.from_stored({"pk": {"S": "a"}, "at": {"S": "noon"}})


def test_an_image_of_another_class_is_refused():
    class Animal(Model):
        id = StringAttribute(partition_key=True)
        kind = StringAttribute(discriminator=True)

    class Cat(Animal):
        pass

    class Dog(Animal):
        pass

    cat = Cat(id="1").to_stored()
    assert cat == {"id": {"S": "1"}, "kind": {"S": "Cat"}}
    assert type(Animal.from_stored(cat)) is Cat
    with pytest.raises(InvalidValue, match="Dog: the image is an item of another class"):
        Dog.from_stored(cat)


plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.text(st.characters(exclude_categories=["Cs"])),
        st.binary(max_size=3), st.sampled_from([1.5, 1e-30, Decimal("0.12345678901234567890123")]),
        st.sets(st.text("ab$", max_size=2), min_size=1),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("$B", max_size=3), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


@given(things=st.lists(plain, max_size=3), data=st.dictionaries(st.text("$SNB", max_size=3), plain, max_size=3))
@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_value_survives_both_ways(things, data):
    item = Every(pk="a", things=things, data=data)
    image = item.to_stored()
    loaded = Every.from_stored(image)
    assert loaded.to_stored() == image
    assert (loaded.things, loaded.data) == (things, data)
