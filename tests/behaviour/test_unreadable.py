"""Rows that an attribute cannot read: the error says which, reads go past them, and they can be deleted."""

from __future__ import annotations

import enum
import uuid
from datetime import datetime
from typing import Any

import pytest

from mintkey import Model, ModelConfig
from mintkey.attributes import (
    DatetimeAttribute,
    EnumAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    UUIDAttribute,
)
from mintkey.errors import InvalidValue, UnreadableItem
from mintkey.indexes import Index


class Colour(enum.Enum):
    RED = "red"


class Inner(Model):
    model_config = ModelConfig(abstract=True)
    at = DatetimeAttribute()


class Ticket(Model):
    model_config = ModelConfig(table="tickets")
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    colour = EnumAttribute(Colour, alias="c")
    at = DatetimeAttribute()
    inner = MapAttribute(Inner)
    kind = StringAttribute()
    by_kind = Index("kind", "sk")


@pytest.fixture
async def rows(do, raw):
    """Ten rows, of which those with an odd sort key cannot be read."""
    other = raw(Ticket, c=StringAttribute(), kind=StringAttribute())
    await do.batch_save(
        other, [other(pk="p", sk=number, c="gone" if number % 2 else "red", kind="k") for number in range(10)]
    )
    return other


async def test_the_error_names_the_row(do, rows, store):
    for read in (
        lambda: do.get(Ticket, pk="p", sk=1),
        lambda: do.all(do.scan(Ticket)),
        lambda: do.all(do.query(Ticket, Ticket.sk == 1, pk="p")),
        lambda: do.page(do.scan(Ticket), 10),
        lambda: do.first(do.query(Ticket, Ticket.sk > 0, pk="p")),
        lambda: do.refresh(Ticket(pk="p", sk=1)),
        lambda: do.update(Ticket(pk="p", sk=1), kind="k"),
    ):
        with pytest.raises(UnreadableItem, match=r'Ticket \("p", \d\): Ticket\.colour: .*gone') as caught:
            await read()
        error = caught.value
        assert isinstance(error, InvalidValue)
        assert (error.model, error.attribute, error.store) == ("Ticket", "colour", store.url)
        assert error.key is not None
        assert error.key["pk"] == "p"
        assert error.item == {"pk": "p", "sk": error.key["sk"], "c": "gone", "kind": "k"}


async def test_reads_go_past_unreadable_rows(do, rows):
    even = [0, 2, 4, 6, 8]
    met: list[UnreadableItem] = []
    for found in (
        do.scan(Ticket, on_unreadable="skip"),
        do.query(Ticket, pk="p", on_unreadable="skip"),
        do.query(Ticket, kind="k", on_unreadable="skip"),
        do.scan(Ticket, on_unreadable="skip", segments=3),
        do.scan(Ticket, on_unreadable=met.append),
        (Ticket.by_kind.query if do.blocking else Ticket.by_kind.aquery)(kind="k", on_unreadable="skip"),
    ):
        assert sorted(item.sk for item in await do.iterate(found)) == even
        assert sorted(item.sk for item in await do.all(found)) == even
    assert {error.item["sk"] for error in met if error.item} == {1, 3, 5, 7, 9}
    query = do.query(Ticket, Ticket.sk > 0, pk="p", on_unreadable="skip")
    assert (await do.first(query)).sk == 2
    assert [item.sk for item in await do.all(query[1:3])] == [4, 6]
    assert [item.sk for item in await do.all(query.order_by("-sk"))] == [8, 6, 4, 2]
    page = await do.page(query, 2)
    assert [item.sk for item in page] == [2, 4]
    rest = await do.page(query, 9, page.cursor)
    assert [item.sk for item in rest] == [6, 8]


async def test_writes_of_a_result_leave_unreadable_rows_as_they_are(do, rows):
    met: list[UnreadableItem] = []
    results = [
        do.query(Ticket, pk="p", on_unreadable="skip"),
        do.query(Ticket, kind="k", on_unreadable=met.append),
        do.scan(Ticket, on_unreadable="skip", attributes=["colour"]),
        # Only the client can evaluate this one.
        do.query(Ticket, pk="p", on_unreadable="skip").filter(kind__iexact="K"),
    ]
    for number, result in enumerate(results):
        assert await do.update(result, Ticket.at.set(datetime(2024, 1, number + 1))) == 5  # noqa: DTZ001
    assert len(met) == 5
    stored = await do.all(do.scan(rows))
    assert {item.sk: item.c for item in stored} == {sk: "gone" if sk % 2 else "red" for sk in range(10)}
    assert await do.count(Ticket, Ticket.at.exists()) == 5
    for result in results:
        assert await do.delete(result) == (5 if result is results[0] else 0)
    assert sorted(item.sk for item in await do.all(do.scan(rows))) == [1, 3, 5, 7, 9]
    # Without the option, only the keys are read.
    assert await do.update(do.query(Ticket, pk="p"), colour=Colour.RED) == 5
    assert len(await do.all(do.scan(Ticket))) == 5


async def test_a_function_may_end_the_read(do, rows):
    def refuse(error: UnreadableItem) -> Any:
        raise LookupError(error.attribute)

    with pytest.raises(LookupError, match="colour"):
        await do.all(do.scan(Ticket, on_unreadable=refuse))
    wrongs: list[Any] = ["ignore", None, []]
    for wrong in wrongs:
        with pytest.raises(TypeError, match=r"Ticket: on_unreadable="):
            do.scan(Ticket, on_unreadable=wrong)


async def test_an_async_function_cannot_take_unreadable_rows():
    async def note(error: UnreadableItem) -> None: ...

    class Noter:
        async def __call__(self, error: UnreadableItem) -> None: ...

    for wrong in (note, Noter()):
        with pytest.raises(TypeError, match=r"Ticket: on_unreadable= takes .* plain function, not the async function"):
            Ticket.scan(on_unreadable=wrong)


async def test_an_unreadable_row_can_be_deleted_and_overwritten(do, rows):
    await do.batch_delete(Ticket, [("p", 1)])
    await do.delete(Ticket(pk="p", sk=3))
    await do.save(Ticket(pk="p", sk=5, colour=Colour.RED))
    await do.update_by_key(Ticket, ("p", 7), colour=Colour.RED)
    await do.update_by_key(Ticket, ("p", 9), Ticket.colour.remove())
    assert [item.sk for item in await do.all(do.query(Ticket, pk="p"))] == [0, 2, 4, 5, 6, 7, 8, 9]


async def test_an_unreadable_part_of_a_nested_class_names_the_row(do, raw):
    other = raw(Ticket, inner=MapAttribute())
    await do.save(other(pk="p", sk=1, inner={"at": "yesterday"}))
    with pytest.raises(UnreadableItem, match=r"Ticket\.inner") as caught:
        await do.get(Ticket, pk="p", sk=1)
    assert caught.value.key == {"pk": "p", "sk": 1}
    assert await do.all(do.scan(Ticket, on_unreadable="skip")) == []
    await do.save(Ticket(pk="p", sk=1, inner=Inner(at=datetime(2024, 1, 1))))  # noqa: DTZ001


class Keyed(Model):
    model_config = ModelConfig(table="keyed")
    pk = UUIDAttribute(partition_key=True, alias="p")
    at = DatetimeAttribute()


@pytest.mark.parametrize("stored", [str(uuid.UUID(int=10)), uuid.UUID(int=10).hex.upper(), "no UUID"])
async def test_the_key_of_an_unreadable_row_finds_it(do, raw, stored):
    other = raw(Keyed, pk=StringAttribute(partition_key=True, alias="p"), at=StringAttribute())
    await do.save(other(pk=stored, at="yesterday"))

    async def key() -> Any:
        met: list[UnreadableItem] = []
        assert await do.all(do.scan(Keyed, on_unreadable=met.append)) == []
        (error,) = met
        assert error.key == {"pk": stored if " " in stored else uuid.UUID(int=10)}
        return error.key

    if " " not in stored:
        await do.update_by_key(Keyed, await key(), at=datetime(2024, 1, 1))  # noqa: DTZ001
        assert (await do.all(do.scan(Keyed)))[0].pk == uuid.UUID(int=10)
        await do.save(other(pk=stored, at="yesterday"), replace=True)
    await do.batch_delete(Keyed, [await key()])
    assert await do.count(Keyed) == 0
