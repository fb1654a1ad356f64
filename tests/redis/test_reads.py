"""The rows that a read requests: those that it returns, and one more that shows whether another page follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute

ROWS = 5_000


class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    kind = StringAttribute(index=True)


class Counted:
    """A store, and how many rows its servers have read."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.in_cluster = parts.scheme.endswith("-cluster")
        hosts = parts.netloc.rpartition("@")[2].split(",")
        places = [host.rpartition(":") for host in hosts]
        self.servers = [redis.Redis(host, int(port)) for host, _, port in places]
        if self.in_cluster:
            nodes = redis.RedisCluster(places[0][0], int(places[0][2])).get_nodes()
            self.servers = [redis.Redis(node.host, node.port) for node in nodes]

    def rows_read(self) -> int:
        told: list[Any] = [server.info("commandstats") for server in self.servers]
        return sum(int(one.get("cmdstat_hgetall", {}).get("calls", 0)) for one in told)


@pytest.fixture(params=["server", "cluster"])
def counted(request, prefix) -> Iterator[Counted]:
    address = request.getfixturevalue(request.param)
    counted = Counted(address)
    with connect(f"{address}?prefix={prefix}&timeout=60"):
        Row.batch_save(Row(n=n, kind="even" if n % 2 == 0 else "odd") for n in range(ROWS))
        yield counted
        Row.delete_table()


@pytest.mark.parametrize(
    ("read", "many"),
    [
        (lambda: list(Row.scan()), ROWS),
        (lambda: Row.scan().page(3_000).items, 3_000),
        (lambda: list(Row.scan(limit=1_500)), 1_500),
        (lambda: list(Row.query(kind="even", index="kind")), ROWS // 2),
        (lambda: [Row.scan().first()], 1),
    ],
    ids=["scan", "page", "limit", "index", "first"],
)
def test_a_row_is_read_once(counted, read, many):
    before = counted.rows_read()
    assert len(read()) == many
    extra = counted.rows_read() - before - many
    # Each page reads one more row, and each slot group of a Cluster its catalog entry.
    assert 0 <= extra <= 20 + 64 * counted.in_cluster


async def test_a_row_is_read_once_awaited(counted):
    before = counted.rows_read()
    assert len([row async for row in Row.ascan()]) == ROWS
    assert 0 <= counted.rows_read() - before - ROWS <= 20 + 64 * counted.in_cluster
