"""Sort in memory by an attribute whose values have several types: rows of other programs, and subclasses."""

from __future__ import annotations

import enum
import logging
from datetime import datetime, timezone
from typing import Any

import pytest

from mintkey import Model, ModelConfig
from mintkey.attributes import (
    BooleanAttribute,
    DatetimeAttribute,
    EnumAttribute,
    ListAttribute,
    NumberAttribute,
    StringAttribute,
)
from mintkey.errors import ConfigurationError


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Thing(Model):
    model_config = ModelConfig(table="things")
    id = StringAttribute(partition_key=True)
    n = NumberAttribute()


def written_as(attribute: Any) -> type[Model]:
    """The model of a program that stores another type."""
    return type(
        "Other",
        (Model,),
        {"model_config": ModelConfig(table="things"), "id": StringAttribute(partition_key=True), "n": attribute},
    )


async def test_values_of_other_types_come_after_those_of_the_attribute(do, store, caplog):
    caplog.set_level(logging.ERROR, "mintkey")
    await do.batch_save(Thing, [Thing(id=str(n), n=n) for n in (3, 1, 2)])
    await do.save(Thing(id="none"))
    for key, attribute, value in (
        ("text", StringAttribute(), "b"),
        ("list", ListAttribute(), [1]),
        ("text 2", StringAttribute(), "a"),
        ("flag", BooleanAttribute(), True),
    ):
        await do.save(written_as(attribute)(id=key, n=value))
    rows = do.scan(Thing).order_by("n", "id")
    ordered = ["1", "2", "3", "text 2", "text", "flag", "list", "none"]
    assert [row.id for row in await do.iterate(rows)] == ordered
    assert [row.id for row in await do.iterate(rows[2:5])] == ordered[2:5]
    assert await do.all(rows.values_list("id", flat=True)) == ordered
    assert (await do.last(do.scan(Thing).filter(n__isnull=False).order_by("n", "id"))).id == "list"
    backwards = do.scan(Thing, on_unreadable="skip").order_by("-n", "id")
    assert [row.id for row in await do.iterate(backwards)] == [
        "flag", "list", "text", "text 2", "3", "2", "1", "none",
    ]  # fmt: skip


class Base(Model):
    model_config = ModelConfig(table="bases")
    id = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True)
    color = StringAttribute()
    at = StringAttribute()


class Narrow(Base):
    color = EnumAttribute(Color)  # type: ignore[assignment]
    at = DatetimeAttribute()  # type: ignore[assignment]


async def test_a_subclass_declares_another_type(do, store):
    await do.save(Base(id="1", color="green", at="2024-06-01"))
    await do.save(Narrow(id="2", color=Color.RED, at=datetime(2024, 1, 1, tzinfo=timezone.utc)))
    await do.save(Narrow(id="3", color=Color.BLUE, at=datetime(2024, 12, 1, tzinfo=timezone.utc)))
    assert [row.id for row in await do.iterate(do.scan(Base).order_by("color"))] == ["3", "1", "2"]
    assert [row.id for row in await do.iterate(do.scan(Base).order_by("-at"))] == ["3", "1", "2"]
    assert await do.all(do.scan(Base).values("color").order_by("at")) == [
        {"color": Color.RED}, {"color": "green"}, {"color": Color.BLUE},
    ]  # fmt: skip
    assert (await do.last(do.scan(Base).order_by("color"))).id == "2"


def test_a_subclass_stores_an_inherited_attribute_under_the_same_name():
    with pytest.raises(ConfigurationError, match=r"Renamed\.color: the base class .* as 'color', .* as 'shade'"):

        class Renamed(Base):
            color = StringAttribute(alias="shade")

    class Elsewhere(Base):
        model_config = ModelConfig(table="elsewhere")
        color = StringAttribute(alias="shade")

    assert Elsewhere.__mintkey_schema__.attributes["color"].stored_name == "shade"
