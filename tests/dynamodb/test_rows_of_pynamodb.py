"""A table of PynamoDB: each package reads and changes the rows of the other, with each type of attribute."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pynamodb.attributes as theirs
import pytest
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex
from pynamodb.models import Model as TheirModel

from mintkey import Index, Model, ModelConfig
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    DatetimeAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
    VersionAttribute,
)

NOON = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
LATER = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=1)
PLAIN = {
    "kind": "a",
    "number": 5,
    "fraction": 0.5,
    "flag": True,
    "raw": b"\0\xff",
    "tags": {"x", "y"},
    "numbers": {1, 2},
    "raws": {b"a", b"b"},
    "document": {"a": [1, None]},
    "until": LATER,
    "parts": [{"a": 1}, "b"],
    "options": {"a": {"b": 1}},
}


@dataclasses.dataclass
class Address:
    street: str
    city: str | None = None


class TheirAddress(theirs.MapAttribute[Any, Any]):
    street = theirs.UnicodeAttribute()
    city = theirs.UnicodeAttribute(null=True)


class Ours(Model):
    model_config = ModelConfig(table="theirs")

    pk = StringAttribute(partition_key=True)
    at = DatetimeAttribute(sort_key=True, stored_as="micro+0000")
    kind = StringAttribute()
    number = NumberAttribute()
    fraction = NumberAttribute()
    flag = BooleanAttribute()
    raw = BinaryAttribute()
    tags = StringSetAttribute()
    numbers = NumberSetAttribute()
    raws = BinarySetAttribute()
    document = JSONAttribute()
    until = TTLAttribute()
    parts = ListAttribute()
    options = MapAttribute()
    address = MapAttribute(Address)
    version = VersionAttribute()
    by_kind = Index(name="kind-index", partition_key="kind", sort_key="number")


@pytest.fixture
def model(store, endpoint, prefix) -> Iterator[Any]:
    """The model of PynamoDB, with its table."""

    class KindIndex(GlobalSecondaryIndex[Any]):
        class Meta:
            index_name = "kind-index"
            projection = AllProjection()

        kind = theirs.UnicodeAttribute(hash_key=True)
        number = theirs.NumberAttribute(range_key=True)

    class Theirs(TheirModel):
        class Meta:
            table_name = f"{prefix}theirs"
            region = "us-east-1"
            host = endpoint
            aws_access_key_id = "key"
            aws_secret_access_key = "secret"
            billing_mode = "PAY_PER_REQUEST"

        pk = theirs.UnicodeAttribute(hash_key=True)
        at = theirs.UTCDateTimeAttribute(range_key=True)
        kind = theirs.UnicodeAttribute()
        number = theirs.NumberAttribute()
        fraction = theirs.NumberAttribute()
        flag = theirs.BooleanAttribute()
        raw = theirs.BinaryAttribute(legacy_encoding=False)
        tags = theirs.UnicodeSetAttribute()
        numbers = theirs.NumberSetAttribute()
        raws = theirs.BinarySetAttribute(legacy_encoding=False)
        document = theirs.JSONAttribute()
        until = theirs.TTLAttribute()
        parts = theirs.ListAttribute[Any]()
        options = theirs.MapAttribute[Any, Any]()
        address = TheirAddress()
        version = theirs.VersionAttribute()
        by_kind = KindIndex()

    Theirs.create_table(wait=True)
    yield Theirs
    Theirs.delete_table()


def test_their_rows_are_read_changed_and_read_by_them_again(model):
    model("a", NOON, address=TheirAddress(street="Main St 1"), **PLAIN).save()
    Ours.create_table()  # finds their table and their index
    (row,) = Ours.by_kind.query(kind="a")
    assert {name: getattr(row, name) for name in PLAIN} == PLAIN
    assert (row.pk, row.at, row.address, row.version, row.is_dirty) == ("a", NOON, Address("Main St 1"), 1, False)
    row.number = 6
    row.save()
    row.update(Ours.address["city"].set("Ulm"), Ours.tags.add_to_set({"z"}))
    found = model.get("a", NOON)
    assert (found.number, found.address.city, found.tags, found.version) == (6, "Ulm", {"x", "y", "z"}, 3)
    found.number = 7
    found.save()
    row.refresh()
    assert (row.number, row.version) == (7, 4)


def test_our_rows_are_read_by_them(model):
    Ours(pk="b", at=NOON, address=Address("Main St 1", "Ulm"), **PLAIN).save()
    (found,) = model.by_kind.query("a")
    assert {name: getattr(found, name) for name in PLAIN} | {"options": found.options.as_dict()} == PLAIN
    assert (found.at, found.address.city, found.version) == (NOON, "Ulm", 1)
    found.delete()
    assert Ours.get("b", NOON) is None
