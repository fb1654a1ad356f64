"""Servers killed while writers send batches, pipelines and single writes: each reported outcome is true."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.chaos.ledger import Ledger
from tests.chaos.writers import TABLES, new_writers, stored_rows, writing
from tests.servers.killable import DynamoDB, Redis, RedisCluster, Server

from mintkey import connect

pytestmark = pytest.mark.slow


class Kind(NamedTuple):
    """A server, how many rows its largest batch has, how often it is killed, and after how many writes.

    `keeps_transactions`: whether a killed server keeps the transactions that it has acknowledged.
    """

    server: Callable[[Path], Server]
    biggest: int
    kills: int
    writes: tuple[int, int]
    keeps_transactions: bool = True


#: The server is killed up to so many times as often, until a write was interrupted.
MOST = 10

KINDS = {
    "redis": Kind(Redis, 1_300, 8, (300, 5_000)),
    "redis-cluster": Kind(RedisCluster, 1_300, 2, (300, 5_000)),
    # DynamoDB Local acknowledges a transaction before it has written it to the disk.
    "dynamodb": Kind(DynamoDB, 150, 2, (50, 300), keeps_transactions=False),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_reported_outcome_is_true(kind, tmp_path, seed, times):
    chance = random.Random(seed)
    ledger, reachable = Ledger(), threading.Event()
    reachable.set()
    with kind.server(tmp_path) as server:
        writers = new_writers(ledger, seed, reachable, kind.biggest)
        for writer in writers:
            writer.transactions = kind.keeps_transactions
        with connect(server.url):
            for model in TABLES:
                model.create_table()
            with writing(writers, ledger):
                kills = 0
                # A server that is back in time leaves nothing unknown.
                while kills < kind.kills * times or not ledger.outcomes()["unknown"]:
                    kills += 1
                    assert kills < MOST * kind.kills * times, "no write was interrupted"
                    ledger.wait_for(chance.randrange(*kind.writes))
                    reachable.clear()
                    server.kill(chance)
                    ledger.wait_for_failure()
                    server.start()
                    reachable.set()
            found = ledger.faults(stored_rows())
    outcomes = ledger.outcomes()
    assert not found, f"{len(found)} faults with seed {seed}, {outcomes}: {found[:5]}"
