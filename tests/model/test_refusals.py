"""The list of refused values of each attribute type, with the message of each."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field

from mintkey import Model, ModelConfig, connect, fields
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    CompressedAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
    UUIDAttribute,
)
from mintkey.errors import InvalidValue


class Colour(enum.Enum):
    RED = "red"


class Prefs(BaseModel):
    max_items: int = Field(10, alias="maxItems")
    anything: Any = None


@dataclasses.dataclass
class Point:
    x: float


class Inner(Model):
    model_config = ModelConfig(abstract=True)
    x = NumberAttribute(required=True)


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


AT = datetime(2024, 1, 1, 0, 0, 0, 5, timezone.utc)
REFUSALS: list[tuple[Any, Any, str]] = [
    (StringAttribute(), 5, "expected str, got int"),
    (StringAttribute(), "\ud800", "the text has a lone surrogate, which UTF-8 cannot hold"),
    (NumberAttribute(), "5", "expected int, float or Decimal, got str"),
    (NumberAttribute(), True, "expected int, float or Decimal, got bool"),
    (NumberAttribute(), float("nan"), "NaN and infinity cannot be stored"),
    (NumberAttribute(), 10**126, "a number must be less than 1E+126: store it as a string"),
    (
        NumberAttribute(),
        Decimal("1." + "1" * 38),
        "it has more than 38 significant digits: round it, or store it as a string",
    ),
    (DecimalAttribute(), 1.5, 'expected Decimal or int, got float: write Decimal("…"), so that no digit is guessed'),
    (BooleanAttribute(), 1, "expected bool, got int"),
    (BinaryAttribute(), "a", "expected bytes, got str"),
    (ListAttribute(), "a", "expected list, got str"),
    (ListAttribute(), (1, 2), "a tuple would be read as a list: use a list"),
    (ListAttribute(), [(1, 2)], "in [0]: a tuple would be read as a list: use a list"),
    (ListAttribute(), [set()], "in [0]: an empty set inside a list or map has no type to store it by"),
    (
        ListAttribute(),
        [AT],
        "in [0]: datetime cannot be stored: use str, int, float, Decimal, bool, None, bytes, list, dict or set",
    ),
    (
        ListAttribute(),
        nested(31),
        "lists and maps nest deeper than 31 levels",
    ),
    (MapAttribute(), {1: 2}, "a map's keys are str, got int"),
    (
        MapAttribute(),
        {"a": object},
        "in [a]: type cannot be stored: use str, int, float, Decimal, bool, None, bytes, list, dict or set",
    ),
    (MapAttribute(Inner), {"y": 1}, "Inner has no attribute 'y'. It has: x"),
    (MapAttribute(Inner), {}, "Inner.x: required, but it has no value"),
    (MapAttribute(Inner), 5, "expected Inner or dict, got int"),
    (MapAttribute(Point), {"z": 1}, "Point has no field 'z'"),
    (MapAttribute(Point), 5, "expected Point or dict, got int"),
    (
        MapAttribute(Prefs),
        {"maxItems": "many"},
        "in maxItems: Input should be a valid integer, unable to parse string as an integer",
    ),
    (MapAttribute(list[Point]), [{"x": "far"}], "in [0].x: expected float or int, got str"),
    (StringSetAttribute(), {1}, "expected a set of str, but a member is of another type"),
    (StringSetAttribute(), ["a"], "expected set of str, got list"),
    (NumberSetAttribute(), {"1"}, "expected int, float or Decimal, got str"),
    (BinarySetAttribute(), {"a"}, "expected bytes, got str"),
    (JSONAttribute(), {"a": (1, 2)}, "in a: tuple is not a JSON type: use str, int, float, bool, None, list or dict"),
    (JSONAttribute(), {1: 2}, "the keys of a JSON object are str, got 1"),
    (JSONAttribute(), [float("inf")], "in [0]: inf is not a JSON number: NaN and infinity cannot be stored"),
    (
        JSONAttribute(),
        [Decimal(1)],
        "in [0]: Decimal is not a JSON type: use str, int, float, bool, None, list or dict",
    ),
    (
        JSONAttribute(Prefs),
        Prefs(maxItems=1, anything=AT),
        "would be read as '2024-01-01T00:00:00.000005Z' (str)",
    ),
    (
        JSONAttribute(Point),
        Point(AT),  # type: ignore[arg-type]
        "in x: expected float or int, got datetime",
    ),
    (JSONAttribute(dict[str, Point]), {"a": {}}, "in a: Point.__init__() missing 1 required positional argument: 'x'"),
    (EnumAttribute(Colour), "red", "expected a Colour (RED), got 'red'"),
    (DatetimeAttribute(), "2024-01-01", "expected datetime, got str"),
    (
        DatetimeAttribute(stored_as="Z"),
        AT,
        "which stored_as='Z' does not keep: use .replace(microsecond=0)",
    ),
    (DateAttribute(), AT, "expected date, got datetime"),
    (UUIDAttribute(), "a", "expected uuid.UUID, got str"),
    (TTLAttribute(), 5, "expected datetime (such as ExpiresIn.hours(24)), got int"),
    (CompressedAttribute(), b"a", "expected str, got bytes"),
    (
        CompressedAttribute(max_size=3),
        "long",
        "the text has 4 bytes, and max_size=3: split the text, or raise max_size=",
    ),
    (fields.IntField(), 1.5, "expected int, got float"),
    (fields.FloatField(), Decimal("1.5"), "expected float, got Decimal"),
    (fields.TupleField(), [1], "expected tuple, got list"),
    (fields.SetField(), [1], "expected set, got list"),
    (fields.TimeField(), "12:00", "expected time, got str"),
]


@pytest.mark.parametrize(("attribute", "value", "message"), REFUSALS, ids=range(len(REFUSALS)))
def test_a_refused_value_and_its_message(attribute, value, message):
    order = type("Order", (Model,), {"pk": StringAttribute(partition_key=True), "value": attribute})
    with connect("sqlite://"), pytest.raises(InvalidValue) as caught:
        order(pk="a", value=value).save()
    text = str(caught.value)
    assert text.startswith('Order "a": Order.value: ')
    assert text.endswith(message)
