"""A server that sends more than was asked for, or the reply to another request: no row gets another key."""

from __future__ import annotations

import runpy
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.behaviour.conftest import Do, redis_address, redis_prefix
from tests.failures.proxies import Proxy

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import StoreUnavailable

CERTIFICATES = runpy.run_path(str(Path(__file__).parents[1] / "servers" / "redis.py"))["certificates"]


class Row(Model):
    model_config = ModelConfig(table="rows")

    pk = StringAttribute(partition_key=True)
    n = NumberAttribute(index=True)


class SurplusProxy(Proxy):
    """A proxy that adds `surplus` to the next reply, or sends `instead` in place of it. It counts its connections."""

    def __init__(self, server: tuple[str, int], folder: Path | None) -> None:
        super().__init__(server)
        self.context: ssl.SSLContext | None = None
        if folder is not None:
            CERTIFICATES(folder)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.kind = ""
        self.surplus = b""
        self.instead = b""
        self.replies: list[bytes] = []
        self.connections = 0

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        self.connections += 1
        receive, encrypt = self._plain(client) if self.context is None else self._encrypted(client, self.context)
        while request := receive():
            server.sendall(request)
            reply = server.recv(1_000_000)
            self.replies.append(reply)
            if self.instead:
                reply, self.instead = self.instead, b""
            surplus, self.surplus = self.surplus, b""
            if not surplus:
                client.sendall(encrypt(reply))
            elif self.kind == "together":
                client.sendall(encrypt(reply + surplus))
            elif self.kind == "half a reply":
                client.sendall(encrypt(reply + surplus[: len(surplus) // 2]))
            else:
                answer, more = encrypt(reply), encrypt(surplus)
                # A record that is not complete yet.
                client.sendall(answer + (more[: len(more) // 2] if self.kind == "half a record" else more))

    def _plain(self, client: socket.socket) -> tuple[Callable[[], bytes], Callable[[bytes], bytes]]:
        return lambda: client.recv(1_000_000), lambda data: data

    def _encrypted(
        self, client: socket.socket, context: ssl.SSLContext
    ) -> tuple[Callable[[], bytes], Callable[[bytes], bytes]]:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)

        def run(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    client.sendall(outgoing.read())
                    data = client.recv(1_000_000)
                    if not data:
                        return b""
                    incoming.write(data)

        run(tls.do_handshake)
        client.sendall(outgoing.read())

        def encrypt(data: bytes) -> bytes:
            tls.write(data)
            return outgoing.read()

        return lambda: run(lambda: tls.read(1_000_000)), encrypt


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def do(request) -> Do:
    return Do(blocking=request.param)


@pytest.fixture(params=["redis", "rediss"])
def between(request, tmp_path) -> Iterator[SurplusProxy]:
    place = urlsplit(redis_address())
    encrypted = request.param == "rediss"
    with SurplusProxy((str(place.hostname), int(place.port or 6379)), tmp_path if encrypted else None) as proxy:
        url = redis_prefix(tmp_path).replace(f":{place.port}", f":{proxy.port}")
        if encrypted:
            url = url.replace("redis://", "rediss://") + f"&ca={tmp_path / 'ca.pem'}"
        with connect(url):
            yield proxy


async def prepare(do: Do, between: SurplusProxy) -> bytes:
    """Stores two rows. Returns the reply to a request for one of them."""
    for pk, n in (("a", 1), ("b", 2)):
        await do.save(Row(pk=pk, n=n))
    assert (await do.get(Row, pk="b")).n == 2
    return between.replies[-1]


async def batch_get(do: Do, keys: list[str]) -> list[Any]:
    return list(Row.batch_get(keys)) if do.blocking else [row async for row in Row.abatch_get(keys)]


@pytest.mark.parametrize("kind", ["together", "behind", "half a reply", "half a record"])
async def test_surplus_replies_answer_no_request(do, between, kind):
    if kind == "half a record" and between.context is None:
        pytest.skip("no records without TLS")
    reply = await prepare(do, between)
    between.kind = kind
    for surplus in (reply, b"+OK\r\n", b"*0\r\n" * 2, b"$-1\r\n" * 3):
        before = between.connections
        between.surplus = surplus
        assert (await do.get(Row, pk="a")).n == 1
        assert (await do.get(Row, pk="a")).n == 1
        assert await do.get(Row, pk="no row") is None
        assert between.connections == before + 1
    between.surplus = reply
    await do.save(Row(pk="a", n=3))
    await do.save(Row(pk="a", n=4))
    assert [row.n for row in await batch_get(do, ["a", "b"])] == [4, 2]


async def test_connections_are_reused(do, between):
    await prepare(do, between)
    before = between.connections
    for n in range(20):
        await do.save(Row(pk="a", n=n))
        assert (await do.get(Row, pk="a")).n == n
    assert between.connections == before


async def test_a_row_with_another_key_is_an_error(do, between):
    reply = await prepare(do, between)
    await batch_get(do, ["b"])
    batch = between.replies[-1]
    for ask, instead in (
        (lambda: do.get(Row, pk="a"), reply),
        (lambda: batch_get(do, ["a"]), batch),
        (lambda: do.refresh(Row(pk="a", n=0)), reply),
    ):
        between.instead = instead
        with pytest.raises(StoreUnavailable, match="another key") as caught:
            await ask()
        assert caught.value.outcome == "not_applied"
        assert caught.value.model == "Row"
        assert caught.value.key == {"pk": "a"}
        # The connection is not used again: its other replies may be those to other requests, too.
        before = between.connections
        assert (await do.get(Row, pk="a")).n == 1
        assert between.connections == before + 1


async def test_rows_of_another_query_are_an_error(do, between):
    await prepare(do, between)
    for n in (7, 8):
        await do.save(Row(pk=str(n), n=n))
    assert [row.pk for row in await do.all(Row.query(n=7))] == ["7"]
    # The members of the index: the rows are read after them.
    assert len(between.replies) >= 2
    members = between.replies[-2]
    between.instead = members
    with pytest.raises(StoreUnavailable, match="another key") as caught:
        await do.all(Row.query(n=8))
    assert caught.value.outcome == "not_applied"
    assert caught.value.key is None
    assert [row.pk for row in await do.all(Row.query(n=8))] == ["8"]


async def test_a_row_with_another_key_leaves_a_write_unknown(do, between):
    reply = await prepare(do, between)
    between.instead = reply
    with pytest.raises(StoreUnavailable, match="another key") as caught:
        await do.create(Row, pk="c", n=3)
    assert caught.value.outcome == "unknown"
    assert (await do.get(Row, pk="c")).n == 3
    between.instead = reply
    with pytest.raises(StoreUnavailable, match="another key") as caught:
        await do.update_by_key(Row, {"pk": "a"}, Row.n.add(1))
    assert caught.value.outcome == "not_applied"
    assert (await do.get(Row, pk="a")).n == 1


@pytest.mark.parametrize("reply", [b"$999999999999\r\n", b"*99999999999\r\n", b"*1\r\n*99999999\r\n:1\r\n"])
async def test_a_reply_that_is_too_large(do, between, reply):
    await prepare(do, between)
    before = between.connections
    between.instead = reply
    with pytest.raises(StoreUnavailable, match=r"more than 536870912 bytes.*max_reply") as caught:
        await do.get(Row, pk="a")
    assert caught.value.outcome == "not_applied"
    assert str(between.port) in str(caught.value)
    # A write that was sent: the row shows whether it was carried out.
    assert (await do.get(Row, pk="a")).n == 1
    between.instead = reply
    await do.save(Row(pk="a", n=5))
    assert (await do.get(Row, pk="a")).n == 5
    between.instead = reply
    with pytest.raises(StoreUnavailable, match="max_reply") as caught:
        await do.update_by_key(Row, {"pk": "a"}, Row.n.add(1))
    assert caught.value.outcome == "not_applied"
    assert (await do.get(Row, pk="a")).n == 5
    assert between.connections == before + 3
