"""The embedded store compared with the standard library's driver, models with attrs, the import with pydynox's."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import bulk
from measure import OURS, Bar, Job, Row, measured
from memory import streamed
from models import (
    Account,
    Order,
    Plain,
    UniqueAccount,
    at_once,
    batch,
    construct,
    fill,
    get,
    item,
    mint,
    read,
    save,
    sign_up,
    transactions,
)

from mintkey import ModelConfig, connect

PLACE = "SQLite"
ROWS = 10_000
MANY_ROWS = 200_000
BATCH = 10_000
#: The rows that a round writes one by one: so many that it has several checkpoints of either file. With 1,000, two of
#: three rounds had a checkpoint of ours, and each had two or three of the driver's, so a median was no mean.
WRITES = 5_000


numbers = itertools.count()


def fresh(letter: str, count: int) -> list[str]:
    """Keys that nobody has, and that rise as minted ones do."""
    return [f"{letter}{number:025}" for number in itertools.islice(numbers, count)]


class Raw:
    """The standard library's driver, doing the least for the same rows."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute("CREATE TABLE orders (pk TEXT, sk TEXT, item TEXT, UNIQUE (pk, sk))")

    def save(self, keys: list[str]) -> None:
        for key in keys:
            self.db.execute("BEGIN")
            self.db.execute("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", (key, "x", json.dumps(item(key))))
            self.db.execute("COMMIT")

    def get(self, keys: list[str]) -> None:
        for key in keys:
            json.loads(self.db.execute("SELECT item FROM orders WHERE pk = ? AND sk = ?", (key, "x")).fetchone()[0])

    def many(self, rows: Iterator[tuple[str, str, str]]) -> None:
        self.db.execute("BEGIN")
        self.db.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", rows)
        self.db.execute("COMMIT")

    def transactions(self, count: int) -> None:
        for _ in range(count):
            self.db.execute("BEGIN")
            for key in fresh("R", 10):
                self.db.execute("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", (key, "x", json.dumps(item(key))))
            self.db.execute("COMMIT")

    def fill(self) -> None:
        self.many(("P", f"{i:06}", json.dumps(item("P", f"{i:06}", i))) for i in range(ROWS))

    def batch(self) -> None:
        self.many((key, "x", json.dumps(item(key))) for key in fresh("R", BATCH))

    def read(self) -> None:
        for (text,) in self.db.execute("SELECT item FROM orders WHERE pk = 'P' ORDER BY sk"):
            json.loads(text)


def importing(statement: str) -> Callable[[], object]:
    # As where it is installed: both packages compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return lambda: subprocess.run([sys.executable, "-c", statement], check=True, env=environment)


def quick(folder: Path) -> Iterator[Job]:
    """Jobs on a file with sync=normal."""
    raw = Raw(folder / "raw.db")
    raw.fill()
    fill(ROWS)
    keys = [f"K{i}" for i in range(1000)]
    driver = "sqlite3, a commit each, json"
    theirs = {driver: lambda: raw.save(fresh("R", WRITES))}
    save(keys)
    raw.save(keys)
    yield Job("save(), key given", WRITES, {OURS: lambda: save(fresh("K", WRITES)), **theirs}, [Bar(driver, 1.0)])
    yield Job("save(), key minted", WRITES, {OURS: lambda: mint(WRITES), **theirs}, [Bar(driver, 1.0)])
    unique, without = "with a unique value", "save() without"
    both = {
        unique: lambda: sign_up(UniqueAccount, fresh("K", WRITES)),
        without: lambda: sign_up(Account, fresh("K", WRITES)),
    }
    yield Job("save() with a unique value", WRITES, both, [Bar(without, 1.3, ours=unique)])
    driver = "sqlite3, json"
    yield Job("get()", len(keys), {OURS: lambda: get(keys), driver: lambda: raw.get(keys)}, [Bar(driver, 1.2)])
    driver = "sqlite3, a commit for 10, json"
    both = {OURS: lambda: transactions(fresh("K", WRITES), 10), driver: lambda: raw.transactions(WRITES // 10)}
    yield Job("transaction of 10 puts", WRITES // 10, both, [Bar(driver, 1.2)])
    driver = "sqlite3 executemany, json"
    yield Job("batch_save of 10,000", BATCH, {OURS: lambda: batch(BATCH), driver: raw.batch}, [Bar(driver, 1.5)])
    driver = "sqlite3, rows to dicts"
    yield Job("query of 10,000", ROWS, {OURS: read, driver: raw.read}, [Bar(driver, 1.3)])
    both = {OURS: lambda: construct(Order, 5000), "attrs": lambda: construct(Plain, 5000)}
    yield Job("construct, 5 attributes", 5000, both, [Bar("attrs", 1.4)])
    both = {OURS: importing("from mintkey import Model, connect"), "pydynox": importing("import pydynox")}
    yield Job("import", 1, both, [Bar("pydynox", 0.7)])


def observed(url: str) -> Iterator[Job]:
    """Reads of stores that differ in their callbacks only."""
    without, removed, watched = "no callback ever", "callback removed", "with a callback"
    keys = [f"K{i}" for i in range(1000)]
    runs: dict[str, Callable[[], object]] = {}
    for name in (without, removed, watched):
        store = connect(url, name=name)
        if name != without:
            callback = store.on_request(lambda _: None)
        if name == removed:
            store.off_request(callback)

        class Observed(Order):
            model_config = ModelConfig(table="orders", store=store)

        runs[name] = lambda model=Observed: [model.get(pk=key, sk="x") for key in keys]  # type: ignore[misc]
    for name, limit in ((removed, 1.1), (watched, 2)):
        yield Job(f"get(), {name}", len(keys), runs, [Bar(without, limit, cpu=True, ours=name)])


def safe() -> Job:
    """The one job on a file with sync=full."""
    both = {OURS: lambda: asyncio.run(at_once(64, 1)), "64 save() in turn": lambda: mint(64)}
    return Job("64 tasks, asave(), sync=full", 64, both, [Bar("64 save() in turn", 0.2)])


def rows(rounds: int, only: str = "") -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder / 'ours.db'}?sync=normal"
        with connect(url):
            for job in quick(folder):
                yield from measured(PLACE, job, rounds, only)
            for job in observed(url):
                yield from measured(PLACE, job, rounds, only)
        with connect(f"sqlite:///{folder / 'full.db'}"):
            yield from measured(PLACE, safe(), rounds, only)
        if only:
            return
        yield from bulk.rows(PLACE, bulk.ROWS, 3)
        yield streamed(PLACE, f"sqlite:///{folder / 'many.db'}?sync=normal", ROWS, MANY_ROWS)
