"""Faults of the network while writers send batches, pipelines and single writes: each reported outcome is true.

Requests and responses are cut off at any byte or stall; a server or something before it refuses, or responds with an
error or with another page, before or after the request was applied. `make chaos` makes 10,000 faults for each kind of
server.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.chaos.ledger import Ledger
from tests.chaos.writers import PATIENCE, TABLES, new_writers, stored_rows, writing
from tests.failures.proxies import BYTE_FAULTS, HTTP_FAULTS, ByteProxy, HttpProxy, Proxy
from tests.servers import redis
from tests.servers.killable import DynamoDB, Redis, RedisCluster, Server

from mintkey import connect

pytestmark = pytest.mark.slow

#: Faults of each kind of server in a normal run; and for each unit of MINTKEY_CHAOS, which is 20 in `make chaos`.
FAULTS, FAULTS_EACH_TIME = 200, 500
#: A stalled request ends with the timeout, which must be longer than a slow server ever needs. So stalls are rare.
TIMEOUT = "timeout=10"
ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)")


def stalling_rarely(faults: tuple[str, ...]) -> list[str]:
    """The same faults, a stall among a hundred."""
    stalls = [fault for fault in faults if fault.startswith("stall")]
    others = [fault for fault in faults if fault not in stalls]
    return others * (100 * len(stalls) // len(others)) + stalls


class Kind(NamedTuple):
    """A server, what stands before it, what happens there and how often, and the size of the largest batch."""

    server: Callable[[Path], Server]
    proxy: type[Proxy]
    faults: list[str]
    often: float
    biggest: int


KINDS = {
    # Of the requests over HTTP some fail; each other connection ends with a fault.
    "redis": Kind(Redis, ByteProxy, stalling_rarely(BYTE_FAULTS), 1.0, 150),
    "redis-cluster": Kind(RedisCluster, ByteProxy, stalling_rarely(BYTE_FAULTS), 1.0, 150),
    "dynamodb": Kind(DynamoDB, HttpProxy, stalling_rarely(HTTP_FAULTS), 0.4, 60),
}


@contextmanager
def faulty(server: Server, kind: Kind, seed: int) -> Iterator[tuple[str, list[Proxy]]]:
    """Proxies before each process of a server; yields the URL that leads through them."""
    ports = [int(port) for port in ADDRESS.findall(server.url)]
    proxies = [kind.proxy(("127.0.0.1", port), seed + number, kind.often) for number, port in enumerate(ports)]
    for proxy in proxies:
        proxy.faults = kind.faults
        proxy.__enter__()
    through = {port: proxy.port for port, proxy in zip(ports, proxies, strict=True)}
    if isinstance(server, RedisCluster):
        announce(through)
    url = ADDRESS.sub(lambda found: f"127.0.0.1:{through[int(found[1])]}", server.url)
    try:
        yield re.sub(r"(retries=0&)?timeout=\d+", TIMEOUT, url), proxies
    finally:
        for proxy in proxies:
            proxy.__exit__(None, None, None)


def announce(through: dict[int, int]) -> None:
    """Let the servers of a Cluster name the ports of the proxies to their clients, in CLUSTER SLOTS and redirects."""
    for port, proxy in through.items():
        redis.command(port, "config", "set", "cluster-announce-bus-port", str(port + 10_000))
        redis.command(port, "config", "set", "cluster-announce-port", str(proxy))
    wanted = {str(proxy) for proxy in through.values()}
    end = time.monotonic() + PATIENCE
    while not all(wanted <= set(redis.command(port, "cluster", "slots").split()) for port in through):
        assert time.monotonic() < end, "the Cluster does not name the proxies"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_reported_outcome_is_true(kind, tmp_path, seed, times):
    ledger, reachable = Ledger(), threading.Event()
    reachable.set()
    wanted = FAULTS if times == 1 else FAULTS_EACH_TIME * times
    with kind.server(tmp_path) as server:
        with connect(server.url):
            for model in TABLES:
                model.create_table()
        with faulty(server, kind, seed) as (url, proxies):
            with connect(url), writing(new_writers(ledger, seed, reachable, kind.biggest), ledger):
                while sum(map(faults_of, proxies)) < wanted:
                    ledger.wait_for(50)
            made = sum(map(faults_of, proxies))
            for proxy in proxies:
                proxy.calm = True
            with connect(url):
                found = ledger.faults(stored_rows())
    outcomes = ledger.outcomes()
    assert made >= wanted
    assert outcomes["unknown"]
    assert outcomes["not_applied"]
    assert not found, f"{len(found)} faults with seed {seed}, {outcomes}: {found[:5]}"


def faults_of(proxy: Proxy) -> int:
    """The number of faults that a proxy has made."""
    return sum(map(bool, proxy.seen))
