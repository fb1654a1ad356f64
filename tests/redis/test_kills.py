"""A server that is killed under batches and pipelines: the reported outcome of each row agrees with the stored rows."""

from __future__ import annotations

import asyncio
import functools
import itertools
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.behaviour.conftest import Do
from tests.redis.conftest import servers

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import BatchIncomplete, StoreTimeout, StoreUnavailable

pytestmark = pytest.mark.slow

#: The rows of one batch, the batches of each writer before the server is killed, and the number of kills.
ROWS, BATCHES, TURNS = 200, 2, 3


class Minted(Model):
    model_config = ModelConfig(table="minted")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()


class Given(Model):
    model_config = ModelConfig(table="given")

    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


class Indexed(Model):
    model_config = ModelConfig(table="indexed")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute(index=True)


class Counted(Model):
    model_config = ModelConfig(table="counted")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    version = VersionAttribute()


MODELS = (Minted, Given, Indexed, Counted)
keys = itertools.count()


def given(n: int) -> Given:
    return Given(pk=f"key {next(keys)}", n=n)


class Server:
    """Redis with its data in a folder, each write on the disk before it is acknowledged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = int(servers["free_port"]())
        self.url = f"redis://127.0.0.1:{self.port}?timeout=30"
        self.start()

    def start(self) -> None:
        kept = ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        command = [servers["program"](), "--port", str(self.port), "--bind", "127.0.0.1", *kept]
        log = self.folder / "log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            servers["wait_for"](functools.partial(socket.create_connection, ("127.0.0.1", self.port), 1), log)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    started = Server(tmp_path)
    yield started
    started.kill()


class Writer:
    """Writes one batch after the other until one fails, and remembers what each row must be.

    `reported` has for each row, by model and key: the values of `n` that it may have, None for no row.
    """

    def __init__(self, do: Do, kind: str) -> None:
        self.do = do
        self.kind = kind
        self.batches = 0
        self.unknown = 0
        self.reported: dict[tuple[type[Model], Any], set[Any]] = {}
        self.raised: BaseException | None = None
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            asyncio.run(getattr(self, self.kind)())
        except BaseException as error:  # noqa: BLE001 - raised by the test
            self.raised = error

    async def batch(self, items: list[Any], after: Any, send: Any) -> bool:
        """Send a batch after which each item has `n == after`, or no row if that is None. Return its success."""
        before = [self.reported.get((type(item), item.pk), {None}) for item in items]
        failed: list[tuple[Any, BaseException]] = []
        try:
            await send()
        except BatchIncomplete as error:
            failed = list(error.failed)
        outcomes = {id(item): why for item, why in failed}
        for item, was in zip(items, before, strict=True):
            why = outcomes.get(id(item))
            if why is None:
                possible = {after}
            elif getattr(why, "outcome", None) == "unknown":
                possible = was | {after}
                self.unknown += 1
            else:
                assert isinstance(why, (StoreUnavailable, StoreTimeout)), why
                possible = was
            if item.pk is not None:
                self.reported[type(item), item.pk] = possible
        self.batches += 1
        return not failed

    async def save(self, make: Any) -> list[Any] | None:
        """Save new rows; nothing when the store has failed."""
        items = [make(1) for _ in range(ROWS)]
        arrived = await self.batch(items, 1, lambda: self.do.batch_save(type(items[0]), items))
        return items if arrived else None

    async def save_minted(self) -> None:
        while await self.save(lambda n: Minted(n=n)):
            pass

    async def save_given(self) -> None:
        while await self.save(given):
            pass

    async def save_indexed(self) -> None:
        while await self.save(lambda n: Indexed(n=n)):
            pass

    async def change_counted(self) -> None:
        while items := await self.save(lambda n: Counted(n=n)):
            for n in (2, 3):
                for item in items:
                    item.n = n
                send = functools.partial(self.do.batch_save, Counted, items)
                if not await self.batch(items, n, send):
                    return

    async def delete(self) -> None:
        while items := await self.save(lambda n: Indexed(n=n)):
            if not await self.batch(items, None, functools.partial(self.do.batch_delete, Indexed, items)):
                return

    async def pipe(self) -> None:
        while True:
            pipeline = mintkey.pipeline()
            items: list[Any] = [make(n=1) for make in (Minted, Indexed, Counted) for _ in range(ROWS // 2)]
            items += [given(1) for _ in range(ROWS // 2)]
            for item in items:
                await self.do.save(item, pipeline=pipeline)
            if not await self.batch(items, 1, functools.partial(self.do.execute, pipeline)):
                return
            for item in items:
                item.n = 2
                await self.do.save(item, pipeline=pipeline)
            if not await self.batch(items, 2, functools.partial(self.do.execute, pipeline)):
                return


KINDS = ("save_minted", "save_given", "save_indexed", "change_counted", "delete", "pipe")


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
def test_reports_agree_with_what_is_stored_after_a_kill(server, blocking):
    unknown = 0
    with connect(server.url):
        for model in MODELS:
            model.create_table()
        for _ in range(TURNS):
            writers = [Writer(Do(blocking=blocking), kind) for kind in KINDS]
            for writer in writers:
                writer.thread.start()
            while any(writer.batches < BATCHES and writer.thread.is_alive() for writer in writers):
                writers[0].thread.join(0.01)
            server.kill()
            for writer in writers:
                writer.thread.join()
                assert writer.raised is None
            server.start()
            stored: dict[tuple[type[Model], Any], Any]
            stored = {(model, row.pk): row.n for model in MODELS for row in model.scan()}
            reported = {row: possible for writer in writers for row, possible in writer.reported.items()}
            wrong = {row: (possible, stored.get(row)) for row, possible in reported.items()}
            wrong = {row: (possible, found) for row, (possible, found) in wrong.items() if found not in possible}
            assert not wrong, f"{len(wrong)} of {len(reported)} rows, such as {list(wrong.items())[:3]}"
            unknown += sum(writer.unknown for writer in writers)
    # The server was killed while it had something to do.
    assert unknown > 0
