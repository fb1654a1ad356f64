"""Debug logs of connections, of attempts that failed and of retries: with the server and the cause, without values."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from tests.behaviour.conftest import Do, dynamodb_address, dynamodb_prefix, redis_address, redis_prefix, sqlite_file
from tests.failures.proxies import ByteProxy, HttpProxy, Proxy

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import StoreUnavailable


class Order(Model):
    model_config = ModelConfig(table="logged_orders")
    pk = StringAttribute(partition_key=True)
    secret = StringAttribute()


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def do(request) -> Do:
    return Do(blocking=request.param)


def connections(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages about connections so far. They are forgotten then."""
    assert "topsecret" not in caplog.text
    found = [record for record in caplog.records if record.name == "mintkey.stores"]
    assert {record.levelno for record in found} <= {logging.DEBUG}
    caplog.clear()
    return [record.getMessage() for record in found]


def server_of(url: str) -> tuple[str, int]:
    place = urlsplit(url)
    return str(place.hostname), int(place.port or 80)


@pytest.fixture(params=["redis", "dynamodb"])
def between(request, tmp_path) -> Iterator[Proxy]:
    """A proxy before a server, with the URL of a store behind it."""
    if request.param == "redis":
        proxy: Proxy = ByteProxy(server_of(redis_address()))
        proxy.url = redis_prefix(tmp_path).replace(redis_address(), f"redis://127.0.0.1:{proxy.port}")
    else:
        proxy = HttpProxy(server_of(dynamodb_address()))
        proxy.url = dynamodb_prefix(tmp_path).replace(dynamodb_address(), f"http://127.0.0.1:{proxy.port}")
    with proxy:
        yield proxy


async def test_a_connection_that_the_server_has_closed(between, do, caplog):
    caplog.set_level(logging.DEBUG, "mintkey")
    with connect(between.url):
        await do.create_table(Order)
        assert any(line.endswith(f"127.0.0.1:{between.port}") for line in connections(caplog))
        await do.get(Order, pk="topsecret")
        assert connections(caplog) == []
        between.end_connections()
        await do.get(Order, pk="topsecret")
        again = connections(caplog)
        await do.delete_table(Order)
    [connected] = [line for line in again if "connected to" in line]
    assert connected.endswith(f"127.0.0.1:{between.port}")
    assert all("broke (" in line for line in again if line != connected)


async def test_attempts_that_dynamodb_refuses(tmp_path, do, caplog):
    caplog.set_level(logging.DEBUG, "mintkey")
    with HttpProxy(server_of(dynamodb_address())) as between:
        address = f"http://127.0.0.1:{between.port}"
        with connect(dynamodb_prefix(tmp_path).replace(dynamodb_address(), address)):
            await do.create_table(Order)
            connections(caplog)
            between.only = ["throttle", "error before"]
            await do.get(Order, pk="topsecret")
            assert connections(caplog) == [
                f"{address}: GetItem failed: status 400 ThrottlingException",
                f"{address}: GetItem failed: status 500 InternalServerError",
            ]
            between.only = ["unprocessed"]
            await do.batch_save(Order, [Order(pk=f"topsecret-{number}") for number in range(25)])
            assert connections(caplog) == [
                f'{address}: a part of the batch on table "logged_orders" is sent again: it was not processed'
            ]
            await do.delete_table(Order)


@pytest.mark.parametrize(
    "url",
    [
        "redis://ada:topsecret@127.0.0.1:{port}",
        "redis-cluster://ada:topsecret@127.0.0.1:{port}",
        "dynamodb://eu-west-1?endpoint=http://127.0.0.1:{port}&retries=2",
    ],
)
async def test_a_refused_connection(url, do, caplog, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    caplog.set_level(logging.DEBUG, "mintkey")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        with connect(url.format(port=reserved.getsockname()[1])) as store:
            with pytest.raises(StoreUnavailable):
                await do.ping(store)
            failed = connections(caplog)
    assert len(failed) >= (3 if "dynamodb" in url else 1)
    assert all(address in line and "refused" in line for line in failed)


async def test_a_password_that_is_refused(do, caplog):
    caplog.set_level(logging.DEBUG, "mintkey")
    host, port = server_of(redis_address())
    with connect(f"redis://:topsecret@{host}:{port}") as store, pytest.raises(StoreUnavailable):
        await do.ping(store)
    [failed] = connections(caplog)
    assert failed.startswith(f"connecting to {host}:{port} failed: ")
    assert "the URL has a password" in failed


async def test_a_folder_that_is_missing(tmp_path, do, caplog):
    caplog.set_level(logging.DEBUG, "mintkey")
    with connect(f"sqlite:///{tmp_path}/volume/shop.db") as store, pytest.raises(StoreUnavailable):
        await do.ping(store)
    # Reports of SQLite are those of the whole process.
    [failed] = [line for line in connections(caplog) if store.url in line]
    assert failed.startswith(f"opening {store.url} failed: ")
    assert "does not exist" in failed


def test_a_forked_child_logs_its_own_connections(tmp_path):
    program = f"""if True:
        import logging, os, sys
        logging.basicConfig(level=logging.DEBUG, format="%(name)s %(message)s", stream=sys.stdout)
        from mintkey import connect
        for url in {[redis_prefix(tmp_path), sqlite_file(tmp_path)]!r}:
            with connect(url) as store:
                store.ping()
                sys.stdout.flush()
                child = os.fork()
                store.ping()
                sys.stdout.flush()
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)
    """
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("mintkey.stores ")]
    # Each process closes its connections at a fork, and opens them again.
    assert len(lines) == 6
    assert len(set(lines)) == 2
