"""A table that grows: many rows with one index, saved in one call, and other writers meanwhile.

Alone: `.venv/bin/python benchmarks/stores/bulk.py --rows 200000 --rounds 3`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from measure import OURS, Bar, Job, Row, measured, show
from models import CREATED

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute

ROWS = 1_000_000
SENSORS = 1_000
#: The longest that 99 of 100 other writers may wait, in µs.
PATIENCE = 150_000
files = itertools.count()


class Reading(Model):
    model_config = ModelConfig(table="readings")
    sensor = StringAttribute(partition_key=True)
    id = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    created_at = StringAttribute()
    value = NumberAttribute(index=True)
    status = StringAttribute()


class Note(Model):
    model_config = ModelConfig(table="notes")
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)


def values(count: int) -> Iterator[tuple[str, int]]:
    """Sensors in turn, and values in random order."""
    chance = random.Random(1)
    for number in range(count):
        yield f"sensor-{number % SENSORS:04}", chance.randrange(1_000_000)


def url(folder: Path) -> str:
    return f"sqlite:///{folder / f'ours{next(files)}.db'}?sync=normal"


def save(where: str, count: int) -> None:
    with connect(where):
        Reading.batch_save(
            Reading(sensor=sensor, created_at=CREATED, value=value, status="open") for sensor, value in values(count)
        )


def execute_many(folder: Path, count: int) -> None:
    """The standard library's driver, with 10,000 rows a transaction."""
    db = sqlite3.connect(folder / f"theirs{next(files)}.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("CREATE TABLE readings (pk TEXT, sk TEXT, item TEXT, value INTEGER, UNIQUE (pk, sk))")
    db.execute("CREATE INDEX by_value ON readings (value, pk, sk)")
    own = {"created_at": CREATED, "status": "open"}
    rows = (
        (
            sensor,
            f"01J{number:023}",
            json.dumps({"sensor": sensor, "id": f"01J{number:023}", "value": value, **own}),
            value,
        )
        for number, (sensor, value) in enumerate(values(count))
    )
    while some := list(itertools.islice(rows, 10_000)):
        db.execute("BEGIN")
        db.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?)", some)
        db.execute("COMMIT")
    db.close()


def waits(over: threading.Event, pause: float = 0.005) -> list[float]:
    """Save again and again until it is over; how long each save took, in µs."""
    taken = []
    while not over.wait(pause):
        began = time.perf_counter()
        Note().save()
        taken.append((time.perf_counter() - began) * 1e6)
    return taken


def p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]


def meanwhile(place: str, folder: Path, count: int) -> Iterator[Row]:
    """How long a writer of this process and one of another process wait while a batch is saved."""
    where = url(folder)
    over, own = threading.Event(), []
    with connect(where):
        Note().save()
        other = subprocess.Popen(
            [sys.executable, __file__, "--wait-in", where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        thread = threading.Thread(target=lambda: own.extend(waits(over)))
        thread.start()
        Reading.batch_save(
            Reading(sensor=sensor, created_at=CREATED, value=value, status="open") for sensor, value in values(count)
        )
        over.set()
        thread.join()
        theirs = json.loads(other.communicate("over")[0])
    for name, taken in {"thread": own, "process": theirs}.items():
        job = f"save() of another {name} meanwhile, p99"
        print(
            f"{job}: {len(taken)} saves, median {statistics.median(taken):,.0f} µs, most {max(taken):,.0f} µs",
            file=sys.stderr,
        )
        yield Row(place, job, "µs", p99(taken), "150 ms", PATIENCE, p99(taken) / PATIENCE, 1.0)


def wait_in(where: str) -> None:
    """The writer of another process: it ends with its input."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    with connect(where):
        print(json.dumps(waits(over)))


def rows(place: str, count: int, rounds: int) -> Iterator[Row]:
    driver = "sqlite3 executemany, 10,000 a commit, json"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        both = {OURS: lambda: save(url(folder), count), driver: lambda: execute_many(folder, count)}
        job = Job(f"batch_save of {count:,} with an index", count, both, [Bar(driver, 1.3)])
        yield from measured(place, job, rounds)
        yield from meanwhile(place, folder, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"how many rows (default {ROWS:,})")
    parser.add_argument("--rounds", type=int, default=3, help="how often, at least 3 (default 3)")
    parser.add_argument("--wait-in", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.wait_in:
        wait_in(asked.wait_in)
    else:
        show(list(rows("SQLite", asked.rows, asked.rounds)))


if __name__ == "__main__":
    main()
