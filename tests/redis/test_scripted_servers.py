"""Redis servers that reply to single commands as a script says: busy, silent, redirecting, slow."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.behaviour.conftest import Do, redis_address
from tests.failures.proxies import Proxy

import mintkey
from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, StoreTimeout, StoreUnavailable

SCRIPTS = {b"EVALSHA", b"EVAL"}
#: A rule's reply to a command that is passed on to the server, but not answered, as all later ones on the connection.
SILENT = b""
#: Far longer than anything here takes.
SOON = 30.0
#: Time for all replies that come, also on a busy machine, in seconds.
LONG = 5


class Row(Model):
    model_config = ModelConfig(table="scripted")

    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


class Scripted(Proxy):
    """A proxy that asks `rule` about each command: None passes it on, bytes are the reply.

    With `slots`, the server seems to be one of a Cluster.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(server)
        self.rule: Callable[[Scripted, list[bytes]], bytes | None] = lambda _, __: None
        self.slots: Callable[[], bytes] | None = None
        #: Whether new connections are accepted and then left alone.
        self.mute = False
        #: Whether a connection ends after the next reply.
        self.is_ending = False

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        if self.mute:
            while client.recv(4096):
                pass
            return
        commands, replies = client.makefile("rb"), server.makefile("rb")
        silent = False
        while command := one_command(commands):
            reply = self._own_reply(command)
            if reply is None or reply == SILENT:
                silent |= reply == SILENT
                server.sendall(as_command(command))
                reply = one_reply(replies)
                if command[0] == b"INFO" and self.slots is not None:
                    reply = reply.replace(b"redis_mode:standalone", b"redis_mode:cluster")
                    reply = bulk(reply.split(b"\r\n", 1)[1][:-2])
            if not silent:
                client.sendall(reply)
            if self.is_ending:
                return

    def _own_reply(self, command: list[bytes]) -> bytes | None:
        if self.slots is not None and command[0] == b"CLUSTER":
            return self.slots()
        if self.slots is not None and command[0] == b"ASKING":
            return b"+OK\r\n"
        return self.rule(self, command)


def one_command(commands: Any) -> list[bytes]:
    """The words of the next command; none at the end."""
    line = commands.readline()
    return [commands.read(int(commands.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))] if line else []


def one_reply(replies: Any) -> bytes:
    """The bytes of the next reply."""
    line: bytes = replies.readline()
    if line[:1] == b"$" and int(line[1:]) >= 0:
        return line + bytes(replies.read(int(line[1:]) + 2))
    if line[:1] == b"*":
        return line + b"".join(one_reply(replies) for _ in range(int(line[1:])))
    return line


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


def as_command(words: list[bytes]) -> bytes:
    return b"*%d\r\n%s" % (len(words), b"".join(map(bulk, words)))


@pytest.fixture(params=[True, False], ids=["blocking", "async"])
def do(request) -> Do:
    return Do(blocking=request.param)


@pytest.fixture
def count() -> Counter[str]:
    return Counter()


def new_proxy() -> Scripted:
    address = urlsplit(redis_address())
    return Scripted((str(address.hostname), int(address.port or 6379)))


@pytest.fixture
def server() -> Iterator[Scripted]:
    """A single server."""
    with new_proxy() as proxy:
        yield proxy


@pytest.fixture
def servers() -> Iterator[tuple[Scripted, Scripted]]:
    """Two servers of a Cluster, with half of the slots each."""
    with new_proxy() as one, new_proxy() as other:

        def slots() -> bytes:
            halves = ((0, 8191, one.port), (8192, 16383, other.port))
            texts = [
                b"*3\r\n:%d\r\n:%d\r\n*2\r\n%s:%d\r\n" % (low, high, bulk(b"127.0.0.1"), port)
                for low, high, port in halves
            ]
            return b"*2\r\n" + b"".join(texts)

        one.slots = other.slots = slots
        yield one, other


@contextmanager
def connected(prefix: Any, *proxies: Scripted, timeout: float = 1) -> Iterator[None]:
    """Connect through proxies, with rows of this test alone. The store knows the servers and its table."""
    scheme = "redis-cluster" if proxies[0].slots else "redis"
    hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)
    with connect(f"{scheme}://{hosts}?prefix={prefix.name}&timeout={timeout}"):
        # In a Cluster, the first write to each group of slots describes the table there. A few rows at a time take far
        # less than the timeout.
        for first in range(0, 500, 20):
            Row.batch_save([Row(pk=f"first {number}", n=0) for number in range(first, first + 20)])
        yield


async def test_a_write_that_is_sent_again_after_a_busy_reply_is_not_said_to_be_not_applied(server, do, count, tmp_path):
    def rule(_: Scripted, command: list[bytes]) -> bytes | None:
        if command[0] not in SCRIPTS:
            return None
        count["writes"] += 1
        return b"-LOADING Redis is loading the dataset in memory\r\n" if count["writes"] == 1 else SILENT

    with connected(tmp_path, server):
        server.rule = rule
        with pytest.raises(StoreTimeout) as caught:
            await do.save(Row(pk="a", n=1))
        server.rule = lambda _, __: None
        assert caught.value.outcome == "unknown"
        assert (await do.get(Row, pk="a")).n == 1


async def test_a_retry_is_logged_with_its_reason(server, do, count, tmp_path, caplog):
    def rule(_: Scripted, command: list[bytes]) -> bytes | None:
        count["writes"] += command[0] in SCRIPTS
        return b"-LOADING Redis is loading\r\n" if command[0] in SCRIPTS and count["writes"] == 1 else None

    caplog.set_level(logging.DEBUG, "mintkey")
    with connected(tmp_path, server, timeout=SOON):
        caplog.clear()
        server.rule = rule
        await do.save(Row(pk="topsecret", n=1))
    retries = [record.getMessage() for record in caplog.records if "sent again" in record.getMessage()]
    assert retries == ["calls are sent again in 0.02 s: LOADING Redis is loading"]
    assert "topsecret" not in caplog.text


async def test_replies_before_a_server_hangs_count(server, do, count, tmp_path):
    def rule(_: Scripted, command: list[bytes]) -> bytes | None:
        count["writes"] += command[0] in SCRIPTS
        return SILENT if command[0] in SCRIPTS and count["writes"] == 4 else None

    with connected(tmp_path, server, timeout=LONG):
        server.rule = rule
        with pytest.raises(BatchIncomplete) as caught:
            await do.batch_save(Row, [Row(pk=f"{number}", n=1) for number in range(500)])
    assert caught.value.written > 300
    assert {error.outcome for _, error in caught.value.failed} == {"unknown"}  # type: ignore[attr-defined]


async def test_replies_of_other_servers_count_when_one_hangs(servers, do, count, tmp_path):
    def rule(proxy: Scripted, command: list[bytes]) -> bytes | None:
        if command[0] in SCRIPTS:
            count[str(proxy.port)] += 1
            return SILENT if proxy is servers[0] else None
        return None

    with connected(tmp_path, *servers, timeout=LONG):
        for proxy in servers:
            proxy.rule = rule
        with pytest.raises(BatchIncomplete) as caught:
            await do.batch_save(Row, [Row(pk=f"{number}", n=1) for number in range(500)])
    assert 100 < caught.value.written < 400
    assert all(count.values())


async def test_writes_that_go_on_when_the_time_is_over_get_no_replies_of_others(server, do, count, tmp_path):
    def rule(_: Scripted, command: list[bytes]) -> bytes | None:
        count["reads"] += command[0] == b"HGETALL"
        return SILENT if command[0] == b"HGETALL" and count["reads"] > 3 else None

    with connected(tmp_path, server):
        rows = [await do.get(Row, pk=f"first {number}") for number in range(100)]
        server.rule = rule
        pipeline = mintkey.pipeline()
        for row in rows:
            await do.update(row, n=1, pipeline=pipeline)
        with pytest.raises(BatchIncomplete) as caught:
            await do.execute(pipeline)
    server.rule = lambda _, __: None
    # Another store: the proxy stays silent on the connections of the first.
    with connect(f"redis://127.0.0.1:{server.port}?prefix={tmp_path.name}"):
        stored = [await do.get(Row, pk=row.pk) for row in rows]
    outcomes = {row.pk: error.outcome for row, error in caught.value.failed}  # type: ignore[attr-defined]
    possible = {None: [1], "not_applied": [0], "unknown": [0, 1]}
    assert all(row.n in possible[outcomes.get(row.pk)] for row in stored)
    # On a busy machine the time may be over before all of them were sent.
    assert count["reads"] > 3
    # A connection whose server is silent is closed, also under calls whose time is not over.
    assert {type(error) for _, error in caught.value.failed} <= {StoreTimeout, StoreUnavailable}


async def test_endless_redirects_end_with_the_timeout(servers, do, tmp_path):
    def rule(proxy: Scripted, command: list[bytes]) -> bytes | None:
        if command[0] != b"HGETALL" or b"k77" not in command[1]:
            return None
        other = servers[1] if proxy is servers[0] else servers[0]
        # A reply that needs some time, so that many redirects need more than the timeout.
        threading.Event().wait(0.01)
        return b"-MOVED 5 127.0.0.1:%d\r\n" % other.port

    keys = [f"k{number}" for number in range(1000, 1400)]
    with connected(tmp_path, *servers):
        for proxy in servers:
            proxy.rule = rule
        began = time.monotonic()
        with pytest.raises((StoreTimeout, StoreUnavailable)):
            await do.iterate(Row.batch_get([*keys, "k77"]) if do.blocking else Row.abatch_get([*keys, "k77"]))
        assert time.monotonic() - began < SOON


async def test_a_surplus_reply_after_signing_in_is_no_reply_to_the_first_call(server, do, count, tmp_path):
    def rule(_: Scripted, command: list[bytes]) -> bytes | None:
        if command[0] == b"INFO":
            count["connections"] += 1
            return bulk(b"redis_version:7.0.0\r\nredis_mode:standalone\r\n") + b"+OK\r\n"
        return b"-OOM command not allowed when used memory > 'maxmemory'.\r\n" if command[0] in SCRIPTS else None

    with connected(tmp_path, server):
        server.rule = rule
        server.end_connections()
        with pytest.raises(StoreUnavailable) as caught:
            await do.save(Row(pk="b", n=2))
        server.rule = lambda _, __: None
        assert caught.value.outcome == "not_applied"
        assert await do.get(Row, pk="b") is None


@pytest.mark.parametrize("keys", [["k"], [f"k{number}" for number in range(100)]], ids=["one key", "many keys"])
def test_ctrl_c_while_servers_of_a_cluster_are_connected_to(servers, tmp_path, keys):
    for proxy in servers:
        proxy.mute = True
    with new_proxy() as third:
        third.slots = servers[0].slots
        for _ in range(5):
            with connect(f"redis-cluster://127.0.0.1:{third.port}?prefix={tmp_path.name}&timeout=60"):
                timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
                timer.start()
                began = time.monotonic()
                try:
                    list(Row.batch_get(keys))
                except KeyboardInterrupt:
                    assert time.monotonic() - began < SOON
                    return
                except StoreUnavailable:
                    # The third server did not reply within a second: the call has ended before the signal.
                    with suppress(KeyboardInterrupt):
                        timer.join()
                        threading.Event().wait(SOON)
    raise AssertionError("no call was interrupted")


FORKING = """
import os, signal, sys, threading
from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
class Row(Model):
    model_config = ModelConfig(table="scripted")
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
parent = os.getpid()
signal.signal(signal.SIGUSR1, lambda *_: os.fork())
for n in range(3):
    if n == 2:
        threading.Timer(0.5, os.kill, (parent, signal.SIGUSR1)).start()
    try:
        # A store that does not know its table yet.
        with connect(sys.argv[1]):
            Row.batch_save([Row(pk=f"k{number}", n=n) for number in range(300)])
    except Exception as error:
        print(type(error).__name__, file=sys.stderr)
    if os.getpid() != parent:
        os._exit(0)
    print("saved", flush=True)
    sys.stdin.readline()
os.wait()
"""


def test_a_fork_while_a_server_is_connected_to_leaves_the_other_connections_to_the_parent(servers, tmp_path, count):
    """The child must not send the parent's calls: it would send them a second time."""
    one, other = servers
    written: list[bytes] = []
    wanted = 0

    def rule(proxy: Scripted, command: list[bytes]) -> bytes | None:
        if command[0] == b"HGETALL" and proxy is one:
            count["reads"] += 1
            # It has replied to all that is read before the writes: now it must be connected to again.
            proxy.mute = proxy.is_ending = wanted == count["reads"]
        if wanted and command[0] == b"HGETALL" and proxy is other:
            threading.Event().wait(0.003)
        if wanted and command[0] in SCRIPTS and proxy is other:
            written.append(command[3])
        return None

    one.rule = other.rule = rule
    url = f"redis-cluster://127.0.0.1:{other.port}?prefix={tmp_path.name}&timeout=4"
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        for n in range(3):
            assert program.stdout.readline() == "saved\n"
            if n == 1:
                wanted = count["reads"]
            count.clear()
            program.stdin.write("\n")
            program.stdin.flush()
    repeated = [key for key, times in Counter(written).items() if times > 1]
    assert wanted
    assert not repeated


class Trickling(Proxy):
    """A proxy that passes replies on byte by byte when `slow` is set."""

    slow = threading.Event()

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        self._start(self._replies, client, server)
        while data := client.recv(65_536):
            server.sendall(data)

    def _replies(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if not self.slow.is_set():
                    client.sendall(data)
                    continue
                for byte in data:
                    client.sendall(bytes([byte]))
                    threading.Event().wait(0.05)


@pytest.mark.slow
async def test_a_record_of_tls_that_comes_byte_by_byte_ends_with_the_timeout(do, secure, tmp_path):
    address = urlsplit(secure)
    with Trickling((str(address.hostname), int(address.port or 0))) as proxy:
        url = secure.replace(f":{address.port}", f":{proxy.port}")
        with connect(f"{url}&prefix={tmp_path.name}&timeout=1"):
            await do.save(Row(pk="a" * 300, n=1))
            await do.get(Row, pk="a" * 300)
            proxy.slow.set()
            began = time.monotonic()
            try:
                with pytest.raises(StoreTimeout):
                    await do.get(Row, pk="a" * 300)
            finally:
                proxy.slow.clear()
            assert time.monotonic() - began < SOON
