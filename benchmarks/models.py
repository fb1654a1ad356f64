"""Models and the embedded store beside what they build on: ratios, rivals interleaved in one process and run.

    make bench                      # or: .venv/bin/python benchmarks/models.py --rounds 15

Each case is timed in turn, ours and the rival's, round by round; the table shows the medians and the median of the
ratios of one round. Absolute figures move with the machine, ratios hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute

CREATED = "2024-01-01T00:00:00Z"
ROWS = 10_000


class Order(Model):
    model_config = ModelConfig(table="orders")
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = StringAttribute(sort_key=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    total = NumberAttribute()
    status = StringAttribute()


@attrs.define(kw_only=True, slots=False)
class Plain:
    pk: str | None = None
    sk: str | None = None
    created_at: str | None = None
    total: float | None = None
    status: str | None = None


@dataclass
class Case:
    """One job: ours and the rival's, each doing it `times` times."""

    name: str
    rival: str
    bar: str
    times: int
    ours: Callable[[], Any]
    theirs: Callable[[], Any]


def item(key: str, sort: str = "x", total: float = 5.5) -> dict[str, Any]:
    return {"pk": key, "sk": sort, "created_at": CREATED, "total": total, "status": "open"}


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

    def fill(self) -> None:
        rows = (("P", f"{i:06}", json.dumps(item("P", f"{i:06}", i))) for i in range(ROWS))
        self.db.execute("BEGIN")
        self.db.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", rows)
        self.db.execute("COMMIT")

    def read(self) -> None:
        for (text,) in self.db.execute("SELECT item FROM orders WHERE pk = 'P' ORDER BY sk"):
            json.loads(text)


def save(keys: list[str]) -> None:
    for key in keys:
        Order(**item(key)).save()


def mint(count: int) -> None:
    for _ in range(count):
        Order(sk="x", total=5.5, status="open").save()


def get(keys: list[str]) -> None:
    for key in keys:
        Order.get(pk=key, sk="x")


def read() -> None:
    for _ in Order.query(pk="P"):
        pass


async def gather(count: int) -> None:
    await asyncio.gather(*(Order(sk=str(i), total=i).asave() for i in range(count)))


def construct(model: type, count: int) -> None:
    for _ in range(count):
        model(pk="P", sk="x", created_at=CREATED, total=5.5, status="open")


def importing(what: str) -> Callable[[], Any]:
    return lambda: subprocess.run([sys.executable, "-c", what], check=True)


def cases(folder: Path) -> list[Case]:
    raw = Raw(folder / "raw.db")
    keys = [f"K{i}" for i in range(1000)]
    raw.fill()
    asyncio.run(gather_all())
    store = "sqlite3, one statement + commit, json"
    found = [
        Case("save(), key given", store, "1.2", len(keys), lambda: save(keys), lambda: raw.save(keys)),
        Case("save(), key minted", store, "1.2", len(keys), lambda: mint(len(keys)), lambda: raw.save(keys)),
        Case("get()", store, "1.2", len(keys), lambda: get(keys), lambda: raw.get(keys)),
        Case("query of 10,000", "sqlite3, rows to dicts", "1.3", ROWS, read, raw.read),
        Case(
            "construct, 5 attributes",
            "attrs",
            "2",
            5000,
            lambda: construct(Order, 5000),
            lambda: construct(Plain, 5000),
        ),
    ]
    if subprocess.run([sys.executable, "-c", "import pydynox"], check=False, capture_output=True).returncode == 0:
        ours = "from mintkey import Model, connect"
        found.append(Case("import", "pydynox", "0.7", 1, importing(ours), importing("import pydynox")))
    return found


async def gather_all() -> None:
    for start in range(0, ROWS, 500):
        rows = (Order(**item("P", f"{i:06}", i)) for i in range(start, start + 500))
        await asyncio.gather(*(row.asave() for row in rows))


def timed(job: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    job()
    return (time.perf_counter() - start) / times * 1e6


def concurrent(folder: Path, rounds: int) -> None:
    """64 tasks at once beside 64 saves one after another, each commit on the disk."""
    ratios = []
    with connect(f"sqlite:///{folder / 'full.db'}"):
        Order(sk="first").save()
        for _ in range(rounds):
            one_by_one = timed(lambda: mint(64), 1)
            ratios.append(timed(lambda: asyncio.run(gather(64)), 1) / one_by_one)
    print(
        f"{'64 asave() at once, sync=full':32} {'64 save() in turn':40} {'':19} "
        f"{statistics.median(ratios):6.2f}  (bar 0.2)"
    )


def memory() -> None:
    """The peak of Python's memory while reading 10,000 items, and a page of them."""
    peaks = []
    for limit in (ROWS // 2, ROWS):
        tracemalloc.start()
        for _ in Order.query(pk="P", limit=limit):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    print(
        f"{'memory, 10,000 items streamed':32} {'5,000 items':40} {'':>9} {'':>9} {peaks[1] / peaks[0]:6.2f}  (bar 1.1)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="how often each case is timed (default 9)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with connect(f"sqlite:///{folder / 'ours.db'}?sync=normal"):
            print(f"{'job':32} {'beside':40} {'ours µs':>9} {'theirs µs':>9} {'ratio':>6}")
            for case in cases(folder):
                ours, theirs = [], []
                for _ in range(rounds):
                    ours.append(timed(case.ours, case.times))
                    theirs.append(timed(case.theirs, case.times))
                ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
                print(
                    f"{case.name:32} {case.rival:40} {statistics.median(ours):9.2f} "
                    f"{statistics.median(theirs):9.2f} {ratio:6.2f}  (bar {case.bar})"
                )
            memory()
        concurrent(folder, rounds)


if __name__ == "__main__":
    main()
