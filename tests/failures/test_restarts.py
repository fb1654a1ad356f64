"""Servers killed under load and started again on their data: all that was acknowledged is there, nothing is stuck."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.servers.killable import DynamoDB, Redis

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import MintkeyError, StoreTimeout, StoreUnavailable

pytestmark = pytest.mark.slow

WRITERS, TURNS = 4, 3


class Row(Model):
    model_config = ModelConfig(table="rows")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    kind = StringAttribute(index=True)


class Counter(Model):
    model_config = ModelConfig(table="counters")

    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    version = VersionAttribute()


class Writer:
    """Saves rows one after the other, each again until it is acknowledged, and counts in a row of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[Row] = []
        self.acknowledged = 0
        self.counter = Counter(pk=name, n=0)
        self.over = threading.Event()
        self.raised: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.is_set():
                row = Row(n=self.acknowledged, kind=self.name)
                self.rows.append(row)
                self.persist(row.save)
                self.acknowledged += 1
                self.counter.n = self.acknowledged
                self.persist(self.counter.save)
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.raised = error

    def persist(self, save: Callable[[], Any]) -> None:
        while True:
            try:
                return save()
            except MintkeyError as error:
                if not isinstance(error, (StoreUnavailable, StoreTimeout)):
                    raise
                self.over.wait(0.05)


@pytest.mark.parametrize("kind", [DynamoDB, Redis])
def test_a_killed_server(kind, tmp_path):
    with kind(tmp_path) as server, connect(server.url):
        for model in (Row, Counter):
            model.create_table()
        writers = [Writer(f"writer {number}") for number in range(WRITERS)]
        threads = [threading.Thread(target=writer.run) for writer in writers]
        for thread in threads:
            thread.start()
        for turn in range(1, TURNS + 1):
            while min(writer.acknowledged for writer in writers) < turn * 10 and all(
                writer.raised is None for writer in writers
            ):
                threads[0].join(0.01)
            server.kill(random.Random(turn))
            server.start()
        for writer in writers:
            writer.over.set()
        for thread in threads:
            thread.join()
        for writer in writers:
            assert writer.raised is None
            found = sorted(row.n or 0 for row in Row.query(kind=writer.name))
            assert found == list(range(writer.acknowledged))
            counter = Counter.get(pk=writer.name, consistent=True)
            assert counter is not None
            assert (counter.n, counter.version) == (writer.acknowledged, writer.acknowledged)
        assert {row.pk for row in Row.scan()} == {row.pk for writer in writers for row in writer.rows}
