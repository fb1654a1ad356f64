"""A copy of a table from SQLite to Redis, compared with a scan and a `batch_save()` of the same rows.

Alone: `.venv/bin/python benchmarks/stores/copying.py --rows 200000 --rounds 3`. The Redis server runs meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis
from measure import OURS, Bar, Job, Row, measured, show

from mintkey import Model, ModelConfig, connect, copy
from mintkey.attributes import NumberAttribute, StringAttribute

ROWS = 1_000_000


class Old(Model):
    model_config = ModelConfig(table="readings", store="old")
    id = StringAttribute(partition_key=True)
    value = NumberAttribute()
    status = StringAttribute()


class New(Model):
    model_config = ModelConfig(table="readings", store="new")
    id = StringAttribute(partition_key=True)
    value = NumberAttribute()
    status = StringAttribute()


def empty(target: str) -> None:
    with redis.Redis.from_url(target) as server:
        server.flushall(asynchronous=True)


def by_copy(source: str, target: str) -> None:
    empty(target)
    assert copy(source, target).is_complete


def by_models(source: str, target: str) -> None:
    """Read instances from one store, and save them to the other."""
    empty(target)
    with connect(source, "old"), connect(target, "new"):
        New.batch_save(New(id=row.id, value=row.value, status=row.status) for row in Old.scan())


def rows(target: str, count: int, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        source = f"sqlite:///{Path(name) / 'source.db'}?sync=normal"
        with connect(source, "old"):
            Old.batch_save(Old(id=f"reading-{n:07}", value=n, status="open") for n in range(count))
        plain = "scan() and batch_save()"
        both = {OURS: lambda: by_copy(source, target), plain: lambda: by_models(source, target)}
        job = Job(f"copy of {count:,} rows", count, both, [Bar(plain, 1.3)])
        yield from measured("SQLite to Redis", job, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"how many rows (default {ROWS:,})")
    parser.add_argument("--rounds", type=int, default=3, help="how often, at least 3 (default 3)")
    asked = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[2]))
    from tests.servers import redis as servers

    with servers.server() as target:
        show(list(rows(target, asked.rows, asked.rounds)))


if __name__ == "__main__":
    main()
