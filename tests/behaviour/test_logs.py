"""The logs of stores: connected stores, requests at the level DEBUG, and slow requests as warnings."""

from __future__ import annotations

import logging
import math
import subprocess
import sys

import pytest

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import ConditionFailed, ConfigurationError, StoreUnavailable


class Order(Model):
    model_config = ModelConfig(table="logged_orders")
    pk = StringAttribute(partition_key=True)
    secret = StringAttribute()


async def test_requests_are_logged_if_the_level_is_debug(url, do, caplog):
    caplog.set_level(logging.DEBUG, "mintkey")
    with connect(url) as store:
        await do.create_table(Order)
        caplog.clear()
        await do.save(Order(pk="topsecret-key", secret="topsecret"))
        with pytest.raises(ConditionFailed):
            await do.save(Order(pk="topsecret-key", secret="topsecret"), condition=Order.secret == "no")
        await do.ping(store)
        await do.delete_table(Order)
    saved, refused, ping, _ = [record for record in caplog.records if record.name == "mintkey.requests"]
    assert {record.levelno for record in (saved, refused, ping)} == {logging.DEBUG}
    assert saved.getMessage().startswith("put logged_orders: ok, rows: 1, ")
    assert saved.getMessage().endswith(f" ms, attempts: 1, {store.url}")
    assert refused.getMessage().startswith("put logged_orders: ConditionFailed, rows: 0, ")
    assert ping.getMessage().startswith("ping -: ok, ")
    assert "topsecret" not in caplog.text


async def test_slow_requests_are_warnings(url, do, caplog):
    caplog.set_level(logging.WARNING, "mintkey")
    with connect(url, log_slow=0) as store:
        await do.ping(store)
    with connect(url, log_slow=1_000) as store:
        await do.ping(store)
    with connect(url) as store:
        await do.ping(store)
    [slow] = caplog.records
    assert (slow.name, slow.levelno) == ("mintkey.requests", logging.WARNING)
    assert slow.getMessage().startswith("slow request: ping -: ok, rows: 0, ")


def test_connected_stores_retries_and_no_passwords(caplog, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    caplog.set_level(logging.DEBUG, "mintkey")
    with connect("redis://ada:topsecret@h:6379/3?prefix=x"):
        pass
    with (
        connect("dynamodb://eu-west-1?endpoint=http://127.0.0.1:1&retries=2") as store,
        pytest.raises(StoreUnavailable),
    ):
        store.ping()
    connected, other, ping = caplog.records
    assert (connected.name, connected.getMessage()) == ("mintkey.stores", "connected: redis://h:6379/3?prefix=x")
    assert other.name == "mintkey.stores"
    assert "ping -: StoreUnavailable, rows: 0, " in ping.getMessage()
    assert ", attempts: 3, dynamodb://eu-west-1" in ping.getMessage()
    assert "topsecret" not in caplog.text


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "1", True])
def test_what_is_no_number_of_seconds(seconds):
    with pytest.raises(ConfigurationError, match="log_slow= takes a number of seconds"):
        connect("sqlite://", log_slow=seconds)


def test_a_program_without_logs_does_not_load_them():
    program = "import sys, mintkey; mintkey.connect('sqlite://').ping(); assert 'logging' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
