"""Indexes that are not built yet, seen by a plain client: who builds them, who does not, and where a build goes on."""

from __future__ import annotations

from typing import Any

import pytest

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import StringAttribute

ROWS = 200


class Old(Model):
    model_config = ModelConfig(table="built")

    pk = StringAttribute(partition_key=True)
    status = StringAttribute()
    city = StringAttribute()


class New(Model):
    model_config = ModelConfig(table="built")

    pk = StringAttribute(partition_key=True)
    status = StringAttribute(index=True)
    city = StringAttribute()


class Newest(Model):
    model_config = ModelConfig(table="built")

    pk = StringAttribute(partition_key=True)
    status = StringAttribute(index=True)
    city = StringAttribute(index=True)


class Table:
    """The table, as a plain client sees it."""

    def __init__(self, client: Any, prefix: str) -> None:
        self.client, self.name = client, f"{prefix}/@built"

    def field(self, name: str) -> str:
        """A field of the catalog entry."""
        return (self.client.hget(self.name, name) or b"").decode()

    def size(self, index: str) -> int:
        """The number of members of an index."""
        return int(self.client.zcard(f"{self.name}:index:{index}"))

    def pretend_built(self, member: str) -> None:
        """Leave the entry as a build does that was killed after this row."""
        self.client.hset(self.name, "built", member)


@pytest.fixture
def table(url, raw, prefix) -> Any:
    with connect(url):
        Old.batch_save([Old(pk=f"{n:04}", status="open", city="Rome") for n in range(ROWS)])
        yield Table(raw, prefix)


async def test_only_reads_by_the_index_build_it(do, table):
    await do.save(New(pk="new", status="open"))
    await do.update_by_key(New, "0000", status="paid")
    await do.batch_save(New, [New(pk="another", status="open")])
    assert await do.get(New, "0001") is not None
    assert await do.count(New) == ROWS + 2
    # Older programs keep it up to date, too.
    await do.update_by_key(Old, "0001", status="paid")
    await do.delete_by_key(Old, "another")
    assert (table.field("unbuilt"), table.size("status")) == ("status", 3)
    assert len(await do.all(do.scan(New, New.status == "paid"))) == 2
    assert table.size("status") == 3
    assert [row.pk for row in await do.all(do.query(New, status="paid"))] == ["0000", "0001"]
    assert (table.field("unbuilt"), table.field("built"), table.size("status")) == ("", "", ROWS + 1)


async def test_a_build_goes_on_where_another_was_killed(do, table):
    await do.save(New(pk="new", status="open"))
    table.pretend_built(f"{ROWS - 50:04}")
    await do.create_table(New)
    # The rows before would be in the index if it had been a build.
    assert (table.field("unbuilt"), table.size("status")) == ("", 50)


async def test_a_further_index_begins_at_the_first_row(do, table):
    await do.save(New(pk="new", status="open"))
    table.pretend_built(f"{ROWS - 50:04}")
    await do.create_table(Newest)
    assert (table.field("unbuilt"), table.size("status"), table.size("city")) == ("", ROWS + 1, ROWS)


async def test_rows_without_a_value_for_the_index_are_left_out(do, table):
    # One row has no value, and one has a value of another type.
    await do.update_by_key(Old, "0000", status=None)
    table.client.hset(f"{table.name.replace('@', '')}:0001", "status", "7")
    await do.create_table(New)
    assert table.size("status") == ROWS - 2
