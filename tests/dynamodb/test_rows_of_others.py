"""Rows that boto3 and pydynox wrote, with times, UUIDs and nulls in their own forms: read, changed and deleted."""

from __future__ import annotations

import importlib
import sys
import uuid
from datetime import datetime, timezone
from typing import Any

import pytest

from mintkey import Model, ModelConfig
from mintkey.attributes import DatetimeAttribute, NumberAttribute, StringAttribute, UUIDAttribute, VersionAttribute

NOON = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)


class Visit(Model):
    model_config = ModelConfig(table="visits")
    pk = StringAttribute(partition_key=True)
    at = DatetimeAttribute(sort_key=True)
    n = NumberAttribute()
    reference = UUIDAttribute()
    version = VersionAttribute()


class VisitAsPydynox(Model):
    model_config = ModelConfig(table="visits")
    pk = StringAttribute(partition_key=True)
    at = DatetimeAttribute(sort_key=True, stored_as="isoformat")
    n = NumberAttribute()


@pytest.fixture
def visits(store, prefix, service):
    """The table of visits, through boto3."""
    Visit.create_table()
    yield service.Table(f"{prefix}visits")
    Visit.delete_table()


def change_and_delete(table: Any, text: str) -> None:
    visit = Visit.query(pk="a")[0]
    assert (visit.at, visit.is_dirty) == (NOON, False)
    visit.n = 2
    visit.save()
    visit.update(Visit.n.add(1))
    visit.refresh()
    assert visit.n == 3
    (row,) = table.scan()["Items"]
    assert row["at"] == text
    visit.delete()
    assert table.scan()["Items"] == []


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-01T12:00:00Z",
        "2024-01-01T12:00:00+00:00",
        "2024-01-01T14:00:00+02:00",
        "2024-01-01T12:00:00.000000+0000",
    ],
)
def test_rows_of_boto3_keep_the_text_of_their_key(visits, text):
    visits.put_item(Item={"pk": "a", "at": text, "n": 1, "reference": str(uuid.UUID(int=10)).upper(), "version": None})
    assert Visit.query(pk="a")[0].reference == uuid.UUID(int=10)
    change_and_delete(visits, text)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pydynox needs Python 3.11")
def test_rows_of_pydynox_are_found_by_get_and_changed(visits, endpoint, prefix):
    pydynox: Any = importlib.import_module("pydynox")
    attributes: Any = importlib.import_module("pydynox.attributes")
    client = pydynox.DynamoDBClient(region="us-east-1", endpoint_url=endpoint, access_key="key", secret_key="secret")

    class Theirs(pydynox.Model):  # type: ignore[misc]  # it has no types
        model_config = pydynox.ModelConfig(table=f"{prefix}visits", client=client)
        pk = attributes.StringAttribute(partition_key=True)
        at = attributes.DatetimeAttribute(sort_key=True)
        n = attributes.NumberAttribute()

    Theirs(pk="a", at=NOON, n=1).sync_save()
    found: Any = VisitAsPydynox.get(pk="a", at=NOON)
    assert found.n == 1
    found.n = 2
    found.save()
    assert visits.get_item(Key={"pk": "a", "at": NOON.isoformat()})["Item"]["n"] == 2
    fraction = NOON.replace(microsecond=5)
    VisitAsPydynox(pk="b", at=fraction, n=3).save()
    assert visits.get_item(Key={"pk": "b", "at": fraction.isoformat()})["Item"]["n"] == 3
    for row in VisitAsPydynox.query(pk="b"):
        row.delete()
    change_and_delete(visits, "2024-01-01T12:00:00+00:00")
