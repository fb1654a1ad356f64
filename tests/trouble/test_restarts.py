"""Servers killed under load and started again on their data: all that was acknowledged is there, nothing is stuck."""

from __future__ import annotations

import functools
import runpy
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import MintkeyError, StoreTimeout, StoreUnavailable

pytestmark = pytest.mark.slow

SERVERS = Path(__file__).parents[1] / "servers"
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


def once_it_answers(process: subprocess.Popen[bytes], wait: Callable[[], object]) -> subprocess.Popen[bytes]:
    """The process of a server, once it can be asked; one that never can is ended."""
    try:
        wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


class DynamoDB:
    """DynamoDB Local with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        self.made = runpy.run_path(str(SERVERS / "dynamodb.py"))
        self.folder = folder
        self.port = int(self.made["free_port"]())
        self.url = f"dynamodb://us-east-1?endpoint=http://127.0.0.1:{self.port}&timeout=2&retries=0"

    def start(self) -> subprocess.Popen[bytes]:
        jars, java = self.made["jars"](), self.made["program"]("java", "default-jre-headless")
        log = self.folder / "log"
        command = [java, f"-Djava.library.path={jars}", "-cp", f"{jars}/*", self.made["MAIN"]]
        options = ["-port", str(self.port), "-sharedDb", "-dbPath", str(self.folder)]
        with log.open("wb") as output:
            process = subprocess.Popen([*command, *options], cwd=self.folder, stdout=output, stderr=output)
        return once_it_answers(process, lambda: self.made["wait_for"](self.port, log))


class Redis:
    """Redis with a log of every write."""

    def __init__(self, folder: Path) -> None:
        self.made = runpy.run_path(str(SERVERS / "redis.py"))
        self.folder = folder
        self.port = int(self.made["free_port"]())
        self.url = f"redis://127.0.0.1:{self.port}?timeout=2"

    def start(self) -> subprocess.Popen[bytes]:
        log = self.folder / "log"
        kept = ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with log.open("wb") as output:
            command = [self.made["program"](), "--port", str(self.port), "--bind", "127.0.0.1", *kept]
            process = subprocess.Popen(command, stdout=output, stderr=output)
        reach = functools.partial(socket.create_connection, ("127.0.0.1", self.port), 1)
        return once_it_answers(process, lambda: self.made["wait_for"](reach, log))


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
    server = kind(tmp_path)
    process = server.start()
    try:
        with connect(server.url):
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
                process.kill()
                process.wait()
                process = server.start()
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
    finally:
        process.kill()
        process.wait()
