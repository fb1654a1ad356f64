"""`Store.ping()`: which server answered, or one error that says which server did not, and why."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from tests.behaviour.conftest import cluster_address, redis_address

from mintkey import Store, connect
from mintkey.errors import StoreError, StoreTimeout, StoreUnavailable
from mintkey.monitoring import Ping


async def test_a_server_that_answers(store, do):
    found = await do.ping(store)
    assert found.store == store.url
    assert 0 < found.seconds < 60
    assert found.servers
    assert found.servers == tuple(sorted(found.servers))
    for server in found.servers:
        assert server.address
        if "dynamodb" not in store.url:
            assert server.version
            assert server.version.split(".")[0].isdigit()


async def test_each_primary_of_a_cluster_answers(store, do):
    found = await do.ping(store)
    assert len({server.address for server in found.servers}) == (3 if store.url.startswith("redis-cluster") else 1)


async def test_a_closed_store(store, do):
    store.close()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await do.ping(store)


UNREACHABLE = [
    "redis://127.0.0.1:{port}?timeout=0.5",
    "rediss://127.0.0.1:{port}?timeout=0.5",
    "redis-cluster://127.0.0.1:{port}?timeout=0.5",
    "dynamodb://eu-west-1?endpoint=http://127.0.0.1:{port}&retries=0&timeout=0.5",
]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")


@pytest.fixture(params=["blocking", "async"])
def ping(request) -> Callable[[Store], Awaitable[Ping]]:
    async def blocking(store: Store) -> Ping:
        return store.ping()

    return blocking if request.param == "blocking" else Store.aping


@contextmanager
def listening() -> Iterator[int]:
    """A server that accepts connections and says nothing, as a paused one."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield server.getsockname()[1]


@pytest.mark.parametrize("url", UNREACHABLE)
async def test_a_server_that_is_down(url, ping):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        url = url.replace("timeout=0.5", "timeout=3").format(port=port)
        with connect(url) as store, pytest.raises(StoreUnavailable) as failure:
            await ping(store)
    text = str(failure.value)
    assert f"127.0.0.1:{port}" in text
    assert "the ping failed after " in text
    assert "refused" in text
    assert failure.value.store == store.url
    assert failure.value.outcome == "not_applied"


@pytest.mark.parametrize("url", UNREACHABLE)
async def test_a_server_that_is_paused(url, ping):
    with listening() as port, connect(url.format(port=port)) as store, pytest.raises(StoreError) as failure:
        await ping(store)
    assert f"127.0.0.1:{port}" in str(failure.value)
    assert "the ping failed after " in str(failure.value)
    if "cluster" not in url:
        assert isinstance(failure.value, StoreTimeout)
        assert "longer than 0.5 s" in str(failure.value)


@pytest.mark.parametrize("address", [redis_address, cluster_address])
@pytest.mark.parametrize(
    ("login", "problem"),
    [
        (":wrong-password@", "the URL has a password, but this Redis has none for the default user"),
        ("somebody:wrong-password@", "Redis refuses this user or password"),
    ],
)
async def test_a_password_that_redis_refuses(address, login, problem, ping):
    url = address()
    with connect(url.replace("://", f"://{login}")) as store, pytest.raises(StoreUnavailable) as failure:
        await ping(store)
    assert problem in str(failure.value)
    assert "wrong-password" not in str(failure.value)


@contextmanager
def answering(status: str, body: str) -> Iterator[int]:
    """A server that gives each request this answer."""
    text = f"HTTP/1.1 {status}\r\nx-amzn-requestid: 1\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}"

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _ = server.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(text.encode())

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def refusal(name: str) -> str:
    return json.dumps({"__type": f"com.amazon.coral.service#{name}", "message": "no"})


async def test_dynamodb_with_credentials_without_permission(ping):
    with (
        answering("400 Bad Request", refusal("AccessDeniedException")) as port,
        connect(f"dynamodb://eu-west-1?endpoint=http://127.0.0.1:{port}") as store,
    ):
        assert (await ping(store)).servers[0].version is None


@pytest.mark.parametrize("name", ["UnrecognizedClientException", "InvalidSignatureException", "ThrottlingException"])
async def test_dynamodb_with_wrong_credentials(name, ping):
    with (
        answering("400 Bad Request", refusal(name)) as port,
        connect(f"dynamodb://eu-west-1?endpoint=http://127.0.0.1:{port}&retries=0") as store,
        pytest.raises(StoreError, match=name),
    ):
        await ping(store)


async def test_another_service_at_the_address(ping):
    with (
        answering("200 OK", "{}") as port,
        connect(f"dynamodb://eu-west-1?endpoint=http://127.0.0.1:{port}&retries=0") as store,
        pytest.raises(StoreUnavailable, match="not DynamoDB's"),
    ):
        await ping(store)


async def test_a_file_that_is_no_database(tmp_path, ping):
    (tmp_path / "text.db").write_text("a text of more than a hundred bytes, " * 9)
    with (
        connect(f"sqlite:///{tmp_path}/text.db") as store,
        pytest.raises(StoreUnavailable, match="not an SQLite database"),
    ):
        await ping(store)


async def test_a_folder_that_is_missing(tmp_path, ping):
    with (
        connect(f"sqlite:///{tmp_path}/none/rows.db") as store,
        pytest.raises(StoreUnavailable, match="does not exist"),
    ):
        await ping(store)
