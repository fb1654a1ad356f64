"""A server with faults while many write: closed connections, late replies, flushed scripts, a killed process.

A writer saves the same instance again after an unknown outcome. However often that happens, each row must exist once,
with its index entries, and no acknowledged row may be missing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.redis.conftest import servers

from mintkey import Model, connect
from mintkey.errors import StoreTimeout, StoreUnavailable
from mintkey.fields import AutoKeyField, Field, IndexedField

pytestmark = pytest.mark.slow

WRITERS, ROWS = 4, 150


class Entry(Model):
    id = AutoKeyField(strategy="ulid")
    n = Field(type=int)
    kind = IndexedField()


def save_until_known(entry: Entry, troubles: list[BaseException]) -> None:
    """Save, and save again after each failure."""
    while True:
        try:
            entry.save()
        except (StoreUnavailable, StoreTimeout) as error:
            troubles.append(error)
        else:
            return


async def asave_until_known(entry: Entry, troubles: list[BaseException]) -> None:
    """The async version."""
    while True:
        try:
            await entry.asave()
        except (StoreUnavailable, StoreTimeout) as error:
            troubles.append(error)
        else:
            return


def write_many(awaited: bool) -> tuple[list[Entry], list[BaseException]]:
    """Save rows from threads, or from tasks on one event loop; return them, and the failures."""
    entries = [Entry(n=n, kind=f"kind {n % 3}") for n in range(WRITERS * ROWS)]
    troubles: list[BaseException] = []
    if awaited:

        async def write() -> None:
            async def one(number: int) -> None:
                for entry in entries[number::WRITERS]:
                    await asave_until_known(entry, troubles)

            await asyncio.gather(*(one(number) for number in range(WRITERS)))

        asyncio.run(write())
        return entries, troubles

    def work(number: int) -> None:
        for entry in entries[number::WRITERS]:
            save_until_known(entry, troubles)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return entries, troubles


@contextmanager
def meanwhile(disturb: Callable[[], object]) -> Iterator[None]:
    """Repeat something in another thread until the block ends."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            disturb()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def check(entries: list[Entry], raw: Any) -> None:
    """Each row exists once, with its index entries: read with the store, and with a plain client."""
    expected = {entry.id: entry.n for entry in entries}
    assert {found.id: found.n for found in Entry.scan()} == expected
    assert Entry.count() == len(entries)
    by_kind = {found.id: found.n for kind in range(3) for found in Entry.query(kind=f"kind {kind}")}
    assert by_kind == expected
    assert raw.zcard("@Entry:rows") == raw.zcard("@Entry:index:kind") == len(entries)
    assert len(list(raw.scan_iter("Entry:*"))) == len(entries)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of this file only, which a test may put to sleep."""
    with servers["server"](*servers["debuggable"]()) as address:
        yield address


@pytest.fixture
def raw(server) -> Iterator[Any]:
    """A plain client of that server, which is empty."""
    with redis.Redis.from_url(server) as client:
        client.flushall()
        yield client


@pytest.mark.parametrize("awaited", [False, True])
def test_connections_that_are_cut(server, raw, awaited):
    with connect(server):
        with meanwhile(lambda: raw.client_kill_filter(_type="normal", skipme=True)):
            entries, troubles = write_many(awaited)
        check(entries, raw)
    assert all(isinstance(trouble, StoreUnavailable) for trouble in troubles)


@pytest.mark.parametrize("awaited", [False, True])
def test_a_server_that_stalls(server, raw, awaited):
    with connect(server):
        Entry.count()
    with connect(f"{server}?timeout=0.1"):
        naps = iter(range(5))
        with meanwhile(lambda: raw.execute_command("DEBUG", "SLEEP", "0.25") if next(naps, None) is not None else None):
            entries, troubles = write_many(awaited)
    with connect(server):
        check(entries, raw)
    assert troubles
    assert {trouble.outcome for trouble in troubles} <= {"unknown", "not_applied"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("awaited", [False, True])
def test_scripts_that_are_forgotten(server, raw, awaited):
    with connect(server):
        with meanwhile(raw.script_flush):
            entries, troubles = write_many(awaited)
        check(entries, raw)
    assert not troubles


class Process:
    """A server that can be killed, and started again with its data on disk."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.port = servers["free_port"]()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [servers["program"](), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        safe = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *safe], stdout=log, stderr=log)
        servers["wait_for"](lambda: socket.create_connection(("127.0.0.1", self.port), 1), self.folder / "log")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.mark.parametrize("awaited", [False, True])
def test_a_server_that_is_killed_and_comes_back(awaited):
    with tempfile.TemporaryDirectory(prefix="mintkey-redis-") as folder:
        process = Process(folder)
        try:
            with connect(process.url), redis.Redis.from_url(process.url) as raw:
                Entry.count()
                kills = iter(range(4))

                def restart() -> None:
                    if next(kills, None) is not None:
                        # Not before it has more rows that it could lose.
                        more = raw.zcard("@Entry:rows") + 10
                        while raw.zcard("@Entry:rows") < min(more, WRITERS * ROWS):
                            pass
                        process.kill()
                        process.start()
                        raw.connection_pool.disconnect()

                with meanwhile(restart):
                    entries, troubles = write_many(awaited)
                check(entries, raw)
            assert troubles
        finally:
            process.kill()
