"""Stores and their names in `with` blocks, and blocking calls inside a running event loop."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mintkey import Model, ModelConfig, connect, stores
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError


class Row(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


class Elsewhere(Model):
    model_config = ModelConfig(store="elsewhere")
    pk = StringAttribute(partition_key=True)


def test_the_outer_store_gets_its_name_back():
    with connect("sqlite://") as outer:
        Row(pk="outer").save()
        with connect("sqlite://"), connect("sqlite://", name="elsewhere"):
            assert Row.count() == 0
            Row(pk="inner").save()
            Elsewhere(pk="x").save()
            with connect("sqlite://", name="elsewhere"):
                assert Elsewhere.count() == 0
            assert Elsewhere.count() == 1
            assert [row.pk for row in Row.scan()] == ["inner"]
        assert [row.pk for row in Row.scan()] == ["outer"]
        with pytest.raises(LookupError), connect("sqlite://"):
            raise LookupError
        assert Row.get(pk="outer") is not None
        with connect("sqlite://"):
            last = connect("sqlite://")
        assert Row.count() == 0  # the store that was connected without `with` stays
        last.close()
    assert outer.url == "sqlite://"


async def test_the_outer_store_gets_its_name_back_from_an_awaited_block():
    async with connect("sqlite://"):
        await Row(pk="outer").asave()
        async with connect("sqlite://"):
            assert await Row.acount() == 0
        assert await Row.acount() == 1


def test_a_closed_store_keeps_its_name():
    with connect("sqlite://"):
        inner = connect("sqlite://")
        inner.close()
        with pytest.raises(ConfigurationError, match="closed"):
            Row.count()


def test_a_blocking_call_in_an_event_loop_is_logged_once(caplog, monkeypatch):
    monkeypatch.setattr(stores, "_reported", False)

    async def work() -> None:
        Row(pk="a").save()
        assert [row.pk for row in Row.scan()] == ["a"]
        assert await Row.acount() == 1

    with connect("sqlite://"), caplog.at_level(logging.WARNING):
        Row(pk="b").save()
        Row(pk="b").delete()
        assert caplog.records == []
        asyncio.run(work())
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("mintkey.asyncio", "WARNING")
    assert "asave()" in record.getMessage()


def test_strict_async_refuses_blocking_calls_in_an_event_loop():
    async def work() -> None:
        for use in (
            lambda: Row(pk="a").save(),
            lambda: Row.get(pk="a"),
            lambda: list(Row.scan()),
            Row.count,
            lambda: Row.batch_save([Row(pk="a")]),
        ):
            with pytest.raises(ConfigurationError, match=r"blocking call inside a running event loop.*strict_async"):
                use()
        await Row(pk="a").asave()
        assert [row.pk async for row in Row.scan()] == ["a"]

    with connect("sqlite://", strict_async=True):
        asyncio.run(work())
        assert Row.count() == 1
