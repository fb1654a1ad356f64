"""The logs of stores: connections and requests at the level DEBUG, and slow requests as warnings."""

from __future__ import annotations

import logging
import math
import subprocess
import sys

import pytest
from tests.failures.test_connection_logs import connections

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import ConditionFailed, ConfigurationError


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


async def test_each_connection_that_is_opened_is_logged(url, do, caplog):
    caplog.set_level(logging.DEBUG, "mintkey")
    with connect(url) as store:
        assert connections(caplog) == []
        await do.create_table(Order)
        for number in range(20):
            await do.save(Order(pk=f"topsecret-{number}", secret="topsecret"))
        opened = connections(caplog)
        servers = {server.address for server in (await do.ping(store)).servers}
        await do.delete_table(Order)
    if store.url.startswith("sqlite"):
        # Reports of SQLite are those of the whole process.
        assert f"opened {store.url}" in opened
    else:
        addresses = [line.partition("connected to ")[2] for line in opened]
        assert addresses
        assert all(any(address in server for server in servers) for address in addresses)
    if "cluster" in store.url:
        assert len(set(opened)) > 1


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "1", True])
def test_what_is_no_number_of_seconds(seconds):
    with pytest.raises(ConfigurationError, match="log_slow= takes a number of seconds"):
        connect("sqlite://", log_slow=seconds)


def test_a_program_without_logs_does_not_load_them():
    program = "import sys, mintkey; mintkey.connect('sqlite://').ping(); assert 'logging' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
