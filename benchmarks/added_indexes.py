"""How long one writer waits while an index or unique values are added to a table with rows.

`.venv/bin/python benchmarks/added_indexes.py redis://localhost:6379/0?prefix=bench --rows 1000000`, or with the URL of
an SQLite file that does not exist yet, and a `?timeout=` of some minutes. The writer is a process of its own. Its class
has neither of the two.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute


class Order(Model):
    model_config = ModelConfig(table="live_orders")
    id = StringAttribute(partition_key=True)
    status = StringAttribute()
    email = StringAttribute()
    note = StringAttribute()
    total = NumberAttribute()


class Indexed(Order):
    model_config = ModelConfig(table="live_orders")
    status = StringAttribute(index=True)


class Unique(Indexed):
    model_config = ModelConfig(table="live_orders")
    email = StringAttribute(unique=True)


def orders(rows: int) -> Iterator[Order]:
    for number in range(rows):
        yield order(f"A{number:08}", number)


def order(key: str, number: int) -> Order:
    return Order(id=key, status=f"s{number % 100}", email=f"{key}@example.com", note="n" * 100, total=number)


def write(url: str) -> None:
    """Save rows until the standard input ends; print the time that each save took, in ms."""
    connect(url)
    order("W", 0).save()
    print("ready", flush=True)
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    waits: list[float] = []
    while not ended.is_set():
        row = order(f"W{len(waits):08}", len(waits))
        began = time.perf_counter()
        row.save()
        waits.append((time.perf_counter() - began) * 1000)
    print(*waits)


def measure(label: str, url: str, change: Callable[[], object]) -> None:
    command = [sys.executable, __file__, url, "--write"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        began, worked = time.perf_counter(), time.process_time()
        change()
        took, worked = time.perf_counter() - began, time.process_time() - worked
        said, _ = writer.communicate("")
    waits = sorted(map(float, said.split()))
    print(f"{label}: {took:.1f} s, processor time of this process {worked:.1f} s", flush=True)
    print(
        f"    {len(waits)} saves of a writer meanwhile: median {statistics.median(waits):.2f} ms, "
        f"99 % {waits[int(len(waits) * 0.99)]:.1f} ms, longest {waits[-1]:.1f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        write(given.url)
        return
    connect(given.url)
    began = time.perf_counter()
    Order.batch_save(orders(given.rows))
    print(f"{given.rows} rows saved in {time.perf_counter() - began:.1f} s", flush=True)
    measure("nothing else", given.url, lambda: threading.Event().wait(5))
    measure("index", given.url, Indexed.create_table)
    counted = Indexed.query(status="s7").count()
    assert counted == Indexed.scan(Indexed.status == "s7").count()
    measure("unique values", given.url, Unique.create_table)
    Order.delete_table()


if __name__ == "__main__":
    main()
