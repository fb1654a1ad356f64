"""Indexes whose keys are parts of the templates of the table's key."""

from __future__ import annotations

import pytest

from mintkey import Collection, Index, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError


class Line(Model):
    model_config = ModelConfig(table="lines")
    pk = StringAttribute(partition_key=True, template="USER#{user}")
    sk = StringAttribute(sort_key=True, template="LINE#{status}#{n:04d}")
    user = StringAttribute()
    status = StringAttribute()
    n = NumberAttribute()
    city = StringAttribute()
    by_status = Index("status", "n")
    by_city = Index("city", "status")
    by_user = Index("user", "n")


@pytest.fixture
async def lines(do, store) -> None:
    for user, status, n, city in (("ada", "open", 1, "Ulm"), ("ada", "paid", 2, "Ulm"), ("bob", "open", 3, "Bonn")):
        await do.save(Line(user=user, status=status, n=n, city=city))


async def test_a_query_by_the_part_alone_uses_the_index(do, lines):
    for rows in (
        do.query(Line, status="open"),
        do.query(Line, index="by_status", status="open"),
        Line.by_status.query(status="open"),
        Collection([Line]).query(status="open", index="by_status"),
        Line.query.filter(status="open").order_by("n"),
    ):
        assert [(line.user, line.n) for line in await do.iterate(rows)] == [("ada", 1), ("bob", 3)]
    assert [line.n for line in await do.iterate(do.query(Line, Line.n > 1, status="open"))] == [3]
    assert await do.count(Line, status="open") == 2


async def test_the_key_of_the_table_is_preferred(do, lines):
    rows = do.query(Line, user="ada", status="open")
    assert rows.explain() == "query of table 'lines'; partition 'USER#ada'; sk begins_with 'LINE#open#'"
    assert [line.n for line in await do.iterate(rows)] == [1]
    assert [line.n for line in await do.iterate(do.query(Line, user="ada", index="by_user", status="open"))] == [1]
    assert [line.n for line in await do.iterate(do.query(Line, user="ada", index="by_user"))] == [1, 2]


async def test_parts_that_are_no_key_of_the_index_filter_its_rows(do, lines):
    for rows in (
        do.query(Line, index="by_city", city="Ulm", status="open"),
        Line.by_city.query(city="Ulm", status="open", n=1),
        do.query(Line, index="by_city", city="Ulm", user="ada", n=1),
    ):
        assert [(line.user, line.n) for line in await do.iterate(rows)] == [("ada", 1)]
    assert await do.iterate(do.query(Line, index="by_city", city="Ulm", user="bob")) == []
    assert await do.iterate(do.query(Line, index="by_status", status="open", n=3, user="ada")) == []


async def test_two_indexes_that_match_are_named(do, lines):
    with pytest.raises(ConfigurationError, match=r"'by_status', 'by_city' all match: pass index="):
        do.query(Line, status="open", city="Ulm")
