"""Connecting to a server that keeps still: limits and Ctrl-C hold, and other requests go on."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.behaviour.conftest import Do, redis_address

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import MintkeyError, StoreTimeout, StoreUnavailable


class Row(Model):
    model_config = ModelConfig(table="rows")

    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def do(request) -> Do:
    return Do(blocking=request.param)


@pytest.fixture
def full(tmp_path) -> Iterator[tuple[Path, socket.socket, list[socket.socket]]]:
    """A Unix socket that takes no more connections, and the ones that wait to be accepted."""
    path = tmp_path / "s"
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        waiting = []
        while True:
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
            waiting.append(client)
        yield path, listener, waiting


async def test_a_full_unix_socket_ends_with_the_timeout(do, full):
    path, _, _ = full
    with connect(f"unix://{path}?timeout=0.3"):
        for ask in (lambda: do.get(Row, pk="a"), lambda: do.save(Row(pk="a", n=1))):
            with pytest.raises(StoreTimeout) as caught:
                await ask()
            assert caught.value.outcome == "not_applied"
            assert str(path) in str(caught.value)


async def test_a_full_unix_socket_is_connected_to_when_it_has_room(do, full):
    path, listener, waiting = full

    def accept() -> None:
        for _ in waiting:
            listener.accept()[0].close()
        client = listener.accept()[0]
        client.recv(1000)
        client.sendall(b"-ERR it answers\r\n")
        client.close()

    with connect(f"unix://{path}?timeout=60"):
        thread = threading.Thread(target=accept)
        thread.start()
        with pytest.raises(StoreUnavailable, match="it answers"):
            await do.get(Row, pk="a")
        thread.join()


def test_ctrl_c_ends_connecting_to_a_full_unix_socket(full):
    path, _, _ = full

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with connect(f"unix://{path}?timeout=600"):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                Row.get(pk="a")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def test_a_withdrawn_call_is_not_sent_later(tmp_path):
    """A write that timed out while its connection was opened is not carried out after that."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        signed_in = threading.Event()

        def serve() -> None:
            client = listener.accept()[0]
            client.settimeout(30)
            heard.append(client.recv(1000))
            signed_in.wait(30)
            try:
                client.sendall(b"$0\r\n\r\n")
                while data := client.recv(100_000):
                    heard.append(data)
            except OSError:
                pass
            client.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with connect(f"redis://127.0.0.1:{port}?timeout=0.3"):
            with pytest.raises(StoreTimeout) as caught:
                await Row(pk="a", n=1).asave()
            assert caught.value.outcome == "not_applied"
            signed_in.set()
        thread.join(30)
    assert b"rows" not in b"".join(heard)


async def test_all_calls_that_share_a_silent_connection_time_out():
    """Also the later calls, which are on the connection when the timeout of the first ones closes it."""
    calls = (
        lambda: Row.aget(pk="a"),
        lambda: Row(pk="a", n=1).asave(),
        lambda: Row.aupdate_by_key("a", Row.n.add(1)),
        Row.acount,
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        connect(f"redis://127.0.0.1:{silent.getsockname()[1]}?timeout=0.6"),
    ):
        first = [asyncio.ensure_future(call()) for call in calls]
        await asyncio.wait(first, timeout=0.4)
        errors: list[Any] = await asyncio.gather(*first, *(call() for call in calls), return_exceptions=True)
    assert [type(error) for error in errors] == [StoreTimeout] * 8
    assert {error.outcome for error in errors} == {"not_applied"}


@pytest.mark.parametrize("step", ["connecting", "signing in"])
async def test_requests_to_other_servers_go_on(step):
    """A Cluster whose second server does not answer keeps no request to the first one waiting."""
    with ExitStack() as opened:
        still = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        if step == "connecting":
            for _ in range(4):
                client = opened.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(still.getsockname())
        first = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        ports = (first.getsockname()[1], still.getsockname()[1])
        threading.Thread(target=serve_half, args=(first, ports), daemon=True).start()
        opened.callback(first.shutdown, socket.SHUT_RDWR)
        opened.enter_context(connect(f"redis-cluster://127.0.0.1:{ports[0]}?timeout=3"))
        blocked = [asyncio.ensure_future(Row.aget(pk=str(number))) for number in range(20)]
        # Requests for slots of the first server have an answer while the others wait.
        for answered in islice(asyncio.as_completed(blocked), 5):
            with pytest.raises(MintkeyError, match="it answers"):
                await answered
        for one in blocked:
            one.cancel()
        await asyncio.gather(*blocked, return_exceptions=True)


def serve_half(listener: socket.socket, ports: tuple[int, int]) -> None:
    """The server with the lower half of the slots, which answers each other command with an error."""
    slots = b"*2\r\n" + b"".join(
        b"*3\r\n:%d\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % (low, high, port)
        for low, high, port in ((0, 8191, ports[0]), (8192, 16383, ports[1]))
    )
    while True:
        try:
            client = listener.accept()[0]
        except OSError:
            return
        threading.Thread(target=serve_client, args=(client, slots), daemon=True).start()


def serve_client(client: socket.socket, slots: bytes) -> None:
    with client, suppress(OSError):
        while data := client.recv(100_000):
            if b"INFO" in data:
                client.sendall(b"$0\r\n\r\n")
            elif b"CLUSTER" in data:
                client.sendall(slots)
            else:
                client.sendall(b"-ERR it answers\r\n" * (data.count(b"\r\nHGET") + data.count(b"\r\nEVAL")))


async def test_a_host_name_is_looked_up_by_async_calls():
    url = redis_address().replace("127.0.0.1", "localhost")
    with connect(f"{url}?prefix=named"):
        await Row.adelete_table()
        await Row(pk="a", n=1).asave()
        found = await Row.aget(pk="a")
        assert found is not None
        await Row.adelete_table()
