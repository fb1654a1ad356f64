"""One table, several programs: what boto3 and pydynox write is read, and they read what is written here."""

from __future__ import annotations

import enum
import importlib
import sys
import uuid
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr, Key
from boto3.dynamodb.types import Binary
from botocore.exceptions import ClientError

from mintkey import AutoGenerate, Index, Model, ModelConfig
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    CompressedAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    ExpiresIn,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import ConditionFailed, InvalidValue, ItemGone, KeyCollision, VersionConflict


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Thing(Model):
    model_config = ModelConfig(table="things")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = NumberAttribute(sort_key=True)
    text = StringAttribute()
    number = NumberAttribute()
    exact = DecimalAttribute()
    flag = BooleanAttribute()
    data = BinaryAttribute()
    listed = ListAttribute()
    mapped = MapAttribute()
    words = StringSetAttribute()
    numbers = NumberSetAttribute()
    blobs = BinarySetAttribute()
    kind = StringAttribute()
    by_kind = Index(partition_key="kind", sort_key="number")


NESTED = {"a": [1, "x", None, True, {"b": Decimal("1.5")}], "": "empty name"}

# As a model holds the value, and as boto3 does.
VALUES: dict[str, list[tuple[Any, Any]]] = {
    "text": [("", ""), ("é\0\U0001f600", "é\0\U0001f600"), ("x" * 5000, "x" * 5000)],
    "number": [(0, Decimal(0)), (-7, Decimal(-7)), (1.5, Decimal("1.5")), (10**37, Decimal(10**37))],
    "exact": [
        (Decimal("0.1234567890123456789012345678901234567"), Decimal("0.1234567890123456789012345678901234567")),
        (Decimal("1E+37"), Decimal("1E+37")),
        (Decimal("-1E-130"), Decimal("-1E-130")),
    ],
    "flag": [(True, True), (False, False)],
    "data": [(b"", Binary(b"")), (bytes(range(256)), Binary(bytes(range(256))))],
    "listed": [
        ([], []),
        ([1, "x", None, True, [b"b", {"k": {"s"}}]], [Decimal(1), "x", None, True, [b"b", {"k": {"s"}}]]),
    ],
    "mapped": [({}, {}), ({"a": [1, None, {"b": 1.5}]}, {"a": [Decimal(1), None, {"b": Decimal("1.5")}]})],
    "words": [({"a", "", "é"}, {"a", "", "é"})],
    "numbers": [({1, 2.5, -3}, {Decimal(1), Decimal("2.5"), Decimal(-3)})],
    "blobs": [({b"a", b"\0\xff"}, {Binary(b"a"), Binary(b"\0\xff")})],
}
CASES = [pytest.param(name, *pair, id=f"{name}-{at}") for name in VALUES for at, pair in enumerate(VALUES[name])]


@pytest.fixture
def table(store, prefix, service):
    """The model's table, through boto3."""
    Thing.create_table()
    yield service.Table(f"{prefix}things")
    Thing.delete_table()


@pytest.mark.parametrize(("name", "ours", "theirs"), CASES)
def test_what_is_written_here_is_what_boto3_reads(table, name, ours, theirs):
    thing = Thing(sk=1, **{name: ours})
    thing.save()
    item = table.get_item(Key={"pk": thing.pk, "sk": 1})["Item"]
    assert item == {"pk": thing.pk, "sk": Decimal(1), name: theirs}
    assert type(item[name]) is type(theirs)
    Thing.update_by_key({"pk": thing.pk, "sk": 1}, text="changed")
    assert table.get_item(Key={"pk": thing.pk, "sk": 1})["Item"]["text"] == "changed"


@pytest.mark.parametrize(("name", "ours", "theirs"), CASES)
def test_what_boto3_writes_is_what_is_read_here(table, name, ours, theirs):
    table.put_item(Item={"pk": "p", "sk": 1, name: theirs, "unknown": "kept"})
    thing = Thing.get(pk="p", sk=1)
    assert thing is not None
    assert getattr(thing, name) == ours
    assert type(getattr(thing, name)) is type(ours)
    assert not thing.is_dirty
    assert Thing.query(pk="p").first() == thing
    # A change writes what changed: what the class does not know is left alone.
    thing.kind = "new"
    thing.save()
    assert table.get_item(Key={"pk": "p", "sk": 1})["Item"] == {
        "pk": "p",
        "sk": 1,
        name: theirs,
        "unknown": "kept",
        "kind": "new",
    }


def test_conditions_meet_rows_that_boto3_wrote(table):
    table.put_item(Item={"pk": "p", "sk": 1, "number": 5, "words": {"a"}, "listed": [1, 2], "kind": "k"})
    with pytest.raises(KeyCollision):
        Thing.create(pk="p", sk=1)
    thing = Thing.get(pk="p", sk=1)
    assert thing is not None
    with pytest.raises(ConditionFailed):
        thing.update(Thing.number.add(1), condition=Thing.number > 5)
    thing.update(
        Thing.number.add(1),
        Thing.words.add_to_set({"b"}),
        Thing.listed.append([3]),
        condition=Thing.words.contains("a"),
    )
    item = table.get_item(Key={"pk": "p", "sk": 1})["Item"]
    assert (item["number"], item["words"], item["listed"]) == (6, {"a", "b"}, [1, 2, 3])
    table.update_item(
        Key={"pk": "p", "sk": 1},
        UpdateExpression="SET #n = #n + :one",
        ConditionExpression=Attr("number").eq(6),
        ExpressionAttributeNames={"#n": "number"},
        ExpressionAttributeValues={":one": 1},
    )
    thing.refresh()
    assert thing.number == 7
    table.delete_item(Key={"pk": "p", "sk": 1})
    thing.text = "gone"
    with pytest.raises(ItemGone):
        thing.save()
    assert "Item" not in table.get_item(Key={"pk": "p", "sk": 1})


def test_indexes_serve_both(table):
    table.put_item(Item={"pk": "p", "sk": 1, "kind": "k", "number": 2})
    Thing(pk="p", sk=2, kind="k", number=1).save()
    assert [thing.sk for thing in Thing.by_kind.query(kind="k")] == [2, 1]
    found = table.query(IndexName="by_kind", KeyConditionExpression=Key("kind").eq("k") & Key("number").gt(1))
    assert [item["sk"] for item in found["Items"]] == [1]


def test_a_condition_of_boto3_meets_rows_that_are_written_here(table):
    Thing(pk="p", sk=1, number=1.5).save()
    with pytest.raises(ClientError, match="conditional request failed"):
        table.put_item(Item={"pk": "p", "sk": 1}, ConditionExpression=Attr("pk").not_exists())
    table.put_item(Item={"pk": "p", "sk": 1}, ConditionExpression=Attr("number").eq(Decimal("1.5")))


class Forms(Model):
    """The types with a stored form of their own."""

    model_config = ModelConfig(table="forms")

    pk = StringAttribute(partition_key=True)
    at = DatetimeAttribute()
    colour = EnumAttribute(Colour)
    document = JSONAttribute()
    until = TTLAttribute()
    reference = UUIDAttribute()
    body = CompressedAttribute()
    version = VersionAttribute()


AT = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
LATER = datetime(2124, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.fixture
def forms(store, prefix, service):
    Forms.create_table()
    yield service.Table(f"{prefix}forms")
    Forms.delete_table()


def test_stored_forms_are_what_the_guide_says(forms):
    reference = uuid.uuid4()
    Forms(pk="p", at=AT, colour=Colour.RED, document={"a": [1]}, until=LATER, reference=reference, body="short").save()
    item = forms.get_item(Key={"pk": "p"})["Item"]
    assert item.pop("document") in {'{"a":[1]}', '{"a": [1]}'}
    assert type(item.pop("body")) is Binary
    assert item == {
        "pk": "p",
        "at": "2024-01-02T03:04:05.678901+00:00",
        "colour": "red",
        "until": int(LATER.timestamp()),
        "reference": str(reference),
        "version": 1,
    }


pydynox_runs = pytest.mark.skipif(sys.version_info < (3, 11), reason="pydynox wants Python 3.11")


@pytest.fixture
def theirs(endpoint, prefix):
    """The same two models in pydynox."""
    pydynox: Any = importlib.import_module("pydynox")
    attributes: Any = importlib.import_module("pydynox.attributes")
    client = pydynox.DynamoDBClient(region="us-east-1", endpoint_url=endpoint, access_key="key", secret_key="secret")

    class Their:
        class Thing(pydynox.Model):  # type: ignore[misc]
            model_config = pydynox.ModelConfig(table=f"{prefix}things", client=client)
            pk = attributes.StringAttribute(partition_key=True, default=pydynox.AutoGenerate.ULID)
            sk = attributes.NumberAttribute(sort_key=True)
            text = attributes.StringAttribute()
            number = attributes.NumberAttribute()
            exact = attributes.DecimalAttribute()
            flag = attributes.BooleanAttribute()
            data = attributes.BinaryAttribute()
            listed = attributes.ListAttribute()
            mapped = attributes.MapAttribute()
            words = attributes.StringSetAttribute()
            numbers = attributes.NumberSetAttribute()
            kind = attributes.StringAttribute()

        class Forms(pydynox.Model):  # type: ignore[misc]
            model_config = pydynox.ModelConfig(table=f"{prefix}forms", client=client)
            pk = attributes.StringAttribute(partition_key=True)
            at = attributes.DatetimeAttribute()
            colour = attributes.EnumAttribute(Colour)
            document = attributes.JSONAttribute()
            until = attributes.TTLAttribute()
            body = attributes.CompressedAttribute()
            version = attributes.VersionAttribute()

    return Their


SHARED: dict[str, list[Any]] = {
    "text": ["é\0\U0001f600", "x"],
    "number": [0, -7, 1.5],
    "exact": [Decimal("0.1"), Decimal("12345.678")],
    "flag": [True, False],
    "data": [bytes(range(256))],
    "listed": [[], [1, "x", None, True, ["y", {"k": "v"}]]],
    "mapped": [{}, {"a": [1, None, {"b": 1.5}]}],
    "words": [{"a", "é"}],
    "numbers": [{1, 2, -3}],
}
PAIRS = [pytest.param(name, value, id=f"{name}-{at}") for name in SHARED for at, value in enumerate(SHARED[name])]


@pydynox_runs
@pytest.mark.parametrize(("name", "value"), PAIRS)
def test_pydynox_and_this_read_each_other(table, theirs, name, value):
    theirs.Thing(pk="theirs", sk=1, **{name: value}).sync_save()
    ours = Thing.get(pk="theirs", sk=1)
    assert ours is not None
    assert getattr(ours, name) == value
    assert not ours.is_dirty
    Thing(pk="ours", sk=1, **{name: value}).save()
    read = theirs.Thing.sync_get(pk="ours", sk=1)
    assert getattr(read, name) == value


@pydynox_runs
def test_pydynox_and_this_change_each_others_rows(table, theirs):
    row = theirs.Thing(pk="p", sk=1, number=1, words={"a"})
    row.sync_save()
    with pytest.raises(KeyCollision):
        Thing.create(pk="p", sk=1)
    Thing.update_by_key({"pk": "p", "sk": 1}, Thing.number.add(1), condition=Thing.words.contains("a"))
    again = theirs.Thing.sync_get(pk="p", sk=1)
    assert again.number == 2
    again.sync_update(atomic=[theirs.Thing.number.add(1)])
    thing = Thing.get(pk="p", sk=1)
    assert thing is not None
    assert thing.number == 3
    thing.delete()
    assert theirs.Thing.sync_get(pk="p", sk=1) is None


@pydynox_runs
@pytest.mark.parametrize("algorithm", ["Zstd", "Lz4", "Gzip"])
def test_texts_that_pydynox_compressed_are_read(forms, theirs, algorithm):
    pydynox: Any = importlib.import_module("pydynox")
    for text in ("short", "x" * 1000, "long é " * 200):
        core = pydynox.pydynox_core
        stored = core.compress_string(text, getattr(core.CompressionAlgorithm, algorithm), None, 100, 0.9)
        forms.put_item(Item={"pk": "p", "body": stored})
        read = Forms.get(pk="p")
        assert read is not None
        assert read.body == text
        assert not read.is_dirty
    forms.put_item(Item={"pk": "p", "body": "ZSTD:no base64"})
    with pytest.raises(InvalidValue, match=r"Forms\.body"):
        Forms.get(pk="p")


@pydynox_runs
def test_sets_that_pydynox_listed_become_sets_when_they_change(table, theirs):
    theirs.Thing(pk="p", sk=1, words={"a"}, numbers={1, 2.5}).sync_save()
    thing = Thing.get(pk="p", sk=1)
    assert thing is not None
    assert (thing.words, thing.numbers, thing.is_dirty) == ({"a"}, {1, 2.5}, False)
    thing.words.add("b")
    assert thing.changed == {"words"}
    thing.save()
    assert table.get_item(Key={"pk": "p", "sk": 1})["Item"]["words"] == {"a", "b"}


@pydynox_runs
def test_pydynox_and_this_share_stored_forms(forms, theirs):
    long = "long " * 100
    theirs.Forms(pk="theirs", at=AT, colour=Colour.RED, document={"a": [1]}, until=LATER, body=long).sync_save()
    ours = Forms.get(pk="theirs")
    assert ours is not None
    assert (ours.at, ours.colour, ours.document, ours.until) == (AT, Colour.RED, {"a": [1]}, LATER)
    assert (ours.body, ours.version, ours.is_dirty) == (long, 1, False)
    # One version guards both.
    stale = theirs.Forms.sync_get(pk="theirs")
    ours.colour = Colour.BLUE
    ours.save()
    stale.colour = Colour.RED
    with pytest.raises(Exception, match=r"(?i)condition"):
        stale.sync_save()
    fresh = theirs.Forms.sync_get(pk="theirs")
    assert (fresh.colour, fresh.version) == (Colour.BLUE, 2)
    fresh.at = LATER
    fresh.sync_save()
    ours.colour = Colour.RED
    with pytest.raises(VersionConflict):
        ours.save()
    Forms(pk="ours", at=AT, colour=Colour.RED, document={"a": [1]}, until=ExpiresIn.hours(1)).save()
    read = theirs.Forms.sync_get(pk="ours")
    assert (read.at, read.colour, read.document, read.version) == (AT, Colour.RED, {"a": [1]}, 1)
