"""Generated values of mapped classes: in hooks, over assigned values, and in place of their constructors' defaults."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from tests.behaviour.transacting import begun

from mintkey import AutoGenerate, ModelConfig, mapped
from mintkey.attributes import ListAttribute, NumberAttribute, StringAttribute, TTLAttribute
from mintkey.errors import KeyCollision
from mintkey.hooks import before_save

ATTRIBUTES: dict[str, Any] = {
    "id": StringAttribute(default=AutoGenerate.ULID),
    "made_at": StringAttribute(default=AutoGenerate.ISO8601),
    "changed_at": StringAttribute(on_update=AutoGenerate.ULID),
    "size": NumberAttribute(default=5),
    "parts": ListAttribute(default=lambda: ["a"]),
    "until": TTLAttribute(),
}
# For type checkers, the decorator returns the class that it was given.
decorate: Any = mapped
HOUR = ModelConfig(ttl=timedelta(hours=1))


@decorate(partition_key="id", sort_key="sk", table="mapped-data", attributes=ATTRIBUTES, config=HOUR)
@dataclasses.dataclass
class Data:
    id: str | None = None
    sk: str | None = None
    made_at: str | None = None
    changed_at: str | None = None
    size: int | None = None
    parts: list[Any] | None = None
    until: datetime | None = None
    note: str = ""

    @before_save
    def build_key(self) -> None:
        if self.sk is None:
            self.sk = f"{self.id}#{self.made_at}"


@decorate(partition_key="id", sort_key="sk", table="mapped-pydantic", attributes=ATTRIBUTES, config=HOUR)
class Pydantic(BaseModel):
    id: str | None = None
    sk: str | None = None
    made_at: str | None = None
    changed_at: str | None = None
    size: int | None = None
    parts: list[Any] | None = None
    until: datetime | None = None
    note: str = ""

    @before_save
    def build_key(self) -> None:
        if self.sk is None:
            self.sk = f"{self.id}#{self.made_at}"


@pytest.mark.parametrize("model", [Data, Pydantic])
async def test_a_hook_reads_generated_values(do, model):
    one = model()
    await do.save(one)
    assert one.id
    assert one.sk == f"{one.id}#{one.made_at}"
    assert await do.get(model, one.id, one.sk) == one
    with pytest.raises(KeyCollision):
        await do.save(model(id=one.id, made_at=one.made_at))
    async with begun(do) as tx:
        other = tx.create(model)
    assert other.sk == f"{other.id}#{other.made_at}"


@pytest.mark.parametrize("model", [Data, Pydantic])
async def test_a_value_that_was_assigned_is_kept_on_update(do, model):
    one = await do.create(model)
    one.note = "b"
    await do.save(one)
    assert one.changed_at
    one.note, one.changed_at = "c", "mine"
    await do.save(one)
    assert one.changed_at == "mine"
    one.note, one.changed_at = "d", None
    await do.save(one)
    assert await do.get(model, one.id, one.sk) == one
    assert one.changed_at is None
    one.note = "e"
    await do.save(one)
    assert one.changed_at not in {None, "mine"}


@pytest.mark.parametrize("model", [Data, Pydantic])
async def test_declared_defaults_are_generated_at_the_first_save(do, model, clock):
    # A server removes expired rows by its own clock, which must not be ahead of this one.
    clock.advance(timedelta(days=36_500))
    until = clock.time + timedelta(hours=1)
    created = await do.create(model)
    upserted = model(id="upserted", sk="1")
    await do.update(upserted, note="x", upsert=True)
    await do.batch_save(model, [model(id="batch", sk="1", parts=[])])
    batched = await do.get(model, "batch", "1")
    assert [(one.size, one.until) for one in (created, upserted, batched)] == [(5, until)] * 3
    assert [one.parts for one in (created, upserted, batched)] == [["a"], ["a"], []]
    clock.advance(timedelta(hours=1))
    assert await do.count(model) == 0


@decorate(partition_key="id", table="mapped-frozen", attributes={"id": ATTRIBUTES["id"]})
@dataclasses.dataclass(frozen=True)
class FrozenData:
    id: str | None = None
    note: str = ""


@decorate(partition_key="id", table="mapped-frozen-pydantic", attributes={"id": ATTRIBUTES["id"]})
class FrozenPydantic(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str | None = None
    note: str = ""


@pytest.mark.parametrize("cls", [FrozenData, FrozenPydantic])
async def test_writes_set_values_on_a_frozen_instance(do, cls):
    one = cls(note="a")
    await do.save(one)
    assert one.id is not None
    await do.update(one, note="b")
    assert one.note == "b"
    assert await do.get(cls, id=one.id) == one
    with pytest.raises((dataclasses.FrozenInstanceError, ValueError)):
        one.note = "c"
