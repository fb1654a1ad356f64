"""Servers killed while writers send batches, pipelines and single writes: each reported outcome is true."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.behaviour.conftest import Do
from tests.chaos.ledger import Ledger
from tests.chaos.writers import MODELS, PATIENCE, Writer, stored_rows
from tests.servers.killable import DynamoDB, Redis, RedisCluster, Server

from mintkey import connect

pytestmark = pytest.mark.slow

WRITERS = 4


class Kind(NamedTuple):
    """A server, how many rows its largest batch has, how often it is killed, and after how many writes."""

    server: Callable[[Path], Server]
    biggest: int
    kills: int
    writes: tuple[int, int]


KINDS = {
    "redis": Kind(Redis, 1_300, 8, (300, 5_000)),
    "redis-cluster": Kind(RedisCluster, 1_300, 2, (300, 5_000)),
    "dynamodb": Kind(DynamoDB, 150, 2, (50, 300)),
}


@contextmanager
def writing(writers: list[Writer], ledger: Ledger) -> Iterator[None]:
    """Let writers write, each blocking one in a thread of its own, all awaiting ones in one event loop."""
    over = threading.Event()
    raised: list[BaseException] = []

    async def together(some: list[Writer]) -> None:
        await asyncio.gather(*(writer.run(lambda: over.is_set() or bool(raised)) for writer in some))

    def work(some: list[Writer]) -> None:
        try:
            asyncio.run(together(some))
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)
            ledger.writers_ended()

    shares = [[writer] for writer in writers if writer.do.blocking]
    shares.append([writer for writer in writers if not writer.do.blocking])
    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "a writer hangs"
    if raised:
        raise raised[0]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_reported_outcome_is_true(kind, tmp_path, seed, times):
    chance = random.Random(seed)
    ledger, reachable = Ledger(), threading.Event()
    reachable.set()
    with kind.server(tmp_path) as server:
        writers = [
            Writer(
                f"w{number}",
                Do(blocking=number % 2 == 0),
                ledger,
                random.Random(f"{seed} {number}"),
                reachable,
                kind.biggest,
            )
            for number in range(WRITERS)
        ]
        with connect(server.url):
            for model in MODELS:
                model.create_table()
            with writing(writers, ledger):
                for _ in range(kind.kills * times):
                    ledger.wait_for(chance.randrange(*kind.writes))
                    reachable.clear()
                    server.kill(chance)
                    ledger.wait_for_failure()
                    server.start()
                    reachable.set()
            found = ledger.faults(stored_rows())
    outcomes = ledger.outcomes()
    assert outcomes["unknown"], "no write was interrupted"
    assert not found, f"{len(found)} faults with seed {seed}, {outcomes}: {found[:5]}"
