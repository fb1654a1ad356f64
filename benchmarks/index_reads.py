"""What an index read costs the servers of a Redis Cluster, for numbers of primaries that one machine cannot run.

    .venv/bin/python benchmarks/index_reads.py

Starts Clusters of 1 to 8 primaries, and reads by an index of a table in 64 slot groups, and of a table in one slot
group (`colocate=`). It reads the CPU time and the commands of all servers from `INFO`, fits

    time = requests x (time of a request) + commands x (time of a command) + rows x (time of a row)

and computes from it the cost of a read in a Cluster of 64 primaries, and how many reads all servers carry out together
in a second. The time is the CPU time of the main threads: the servers share the processors of this machine, so that
wall time would say nothing. It also measures inserts: of a row with an index entry, and of a row with a unique value,
whose marker is in the slot group of the value, as the entry of an index that is partitioned by its values would be.
"""

from __future__ import annotations

import argparse
import runpy
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute

SERVERS: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "servers" / "redis.py"))
PRIMARIES = (1, 2, 4, 8)
LARGE = (16, 32, 64)
RETURNED = (1, 20, 200)
#: redis-cli creates no smaller Cluster.
SMALLEST = 3
#: The rows of a category.
STORED = 3


class Row(Model):
    """A row of a table that uses all slot groups."""

    model_config = ModelConfig(table="rows")
    id = StringAttribute(partition_key=True)
    category = StringAttribute(index=True)
    n = NumberAttribute()
    text = StringAttribute()


class Colocated(Model):
    """A row of a table that uses one slot group."""

    model_config = ModelConfig(table="colocated", colocate="one")
    id = StringAttribute(partition_key=True)
    category = StringAttribute(index=True)
    n = NumberAttribute()
    text = StringAttribute()


class Marked(Model):
    """A row with a unique value."""

    model_config = ModelConfig(table="marked")
    id = StringAttribute(partition_key=True)
    category = StringAttribute(unique=True)
    n = NumberAttribute()
    text = StringAttribute()


class Cost(NamedTuple):
    """What one read costs all servers together."""

    primaries: int
    rows: int
    microseconds: float
    commands: float
    requests: float


@contextmanager
def cluster(primaries: int) -> Iterator[list[int]]:
    """A Cluster of this many primaries, without replicas; gives the ports."""
    with ExitStack() as members:
        ports = []
        for _ in range(primaries):
            port = SERVERS["free_port"]()
            at = ("127.0.0.1", port)
            folder = tempfile.mkdtemp(prefix="mintkey-redis-")
            options = ("--port", str(port), "--cluster-enabled", "yes")
            members.enter_context(SERVERS["_running"](folder, lambda at=at: socket.create_connection(at, 1), *options))
            ports.append(port)
        if primaries < SMALLEST:
            _assign(ports)
        else:
            SERVERS["form_cluster"]([f"127.0.0.1:{port}" for port in ports], 0)
        SERVERS["wait_until_whole"](ports, 0)
        yield ports


def _assign(ports: list[int]) -> None:
    share = 16_384 // len(ports)
    for number, port in enumerate(ports):
        first, last = number * share, (number + 1) * share - 1
        SERVERS["command"](port, "cluster", "set-config-epoch", str(number + 1))
        SERVERS["command"](port, "cluster", "addslotsrange", str(first), str(last))
        SERVERS["command"](ports[0], "cluster", "meet", "127.0.0.1", str(port))


def used(ports: list[int]) -> tuple[float, int, int]:
    """Return the CPU seconds, the commands and the requests (reads from sockets) of all servers."""
    seconds, commands, requests = 0.0, 0, 0
    for port in ports:
        text = SERVERS["command"](port, "info", "all")
        facts = dict(line.split(":", 1) for line in text.split() if ":" in line)
        seconds += float(facts["used_cpu_user_main_thread"]) + float(facts["used_cpu_sys_main_thread"])
        commands += int(facts["total_commands_processed"])
        requests += int(facts["total_reads_processed"])
    return seconds, commands, requests


def measure(ports: list[int], rows: int, times: int, call: Callable[[int], object]) -> Cost:
    """Call a function many times; return what one call costs the servers."""
    call(-1)
    # What the servers do without requests, and what INFO itself costs, is measured first.
    before = used(ports)
    idle = used(ports)
    for number in range(times):
        call(number)
    after = used(ports)
    seconds, commands, requests = (
        (end - start) - (start - first) for first, start, end in zip(before, idle, after, strict=True)
    )
    return Cost(len(ports), rows, seconds / times * 1e6, commands / times, requests / times)


def read(model: Any, rows: int) -> Callable[[int], object]:
    """A read of this many rows by the index."""

    def reading(_: int) -> None:
        assert len(list(model.query(category=f"category {rows}", limit=rows))) == rows

    return reading


def insert(model: Any) -> Callable[[int], object]:
    """An insert of a row."""
    return lambda number: model(id=f"new {number}", category=f"new {number}", n=number, text="x" * 100).save()


def fitted(costs: list[Cost]) -> tuple[float, float, float]:
    """Return the microseconds of a request, of a command and of a row, by least squares."""
    lines = [((cost.requests, cost.commands, float(cost.rows)), cost.microseconds) for cost in costs]
    size = 3
    # Errors are weighted by the measured value: all sizes of reads count the same.
    matrix = [[sum(x[i] * x[j] / y**2 for x, y in lines) for j in range(size)] for i in range(size)]
    right = [sum(x[i] / y for x, y in lines) for i in range(size)]
    for i in range(size):
        pivot = matrix[i][i]
        matrix[i] = [value / pivot for value in matrix[i]]
        right[i] /= pivot
        for j in range(size):
            if j != i:
                factor = matrix[j][i]
                matrix[j] = [a - factor * b for a, b in zip(matrix[j], matrix[i], strict=True)]
                right[j] -= factor * right[i]
    return right[0], right[1], right[2]


def line(number: float, of: list[tuple[float, float]]) -> float:
    """Return the value at a number, on the straight line that fits pairs of numbers and values best."""
    count, mean_x, mean_y = len(of), sum(x for x, _ in of) / len(of), sum(y for _, y in of) / len(of)
    assert count > 1
    slope = sum((x - mean_x) * (y - mean_y) for x, y in of) / sum((x - mean_x) ** 2 for x, _ in of)
    return mean_y + slope * (number - mean_x)


def main() -> None:
    """Measure, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2000)
    times = parser.parse_args().times
    reads: dict[Any, list[Cost]] = {Row: [], Colocated: []}
    print("operation         primaries  rows   us/call  commands  requests")
    for primaries in PRIMARIES:
        with cluster(primaries) as ports, connect(f"redis-cluster://127.0.0.1:{ports[0]}"):
            for model, found in reads.items():
                for rows in RETURNED:
                    items = range(rows * STORED)
                    model.batch_save(
                        model(id=f"{rows} {n}", category=f"category {rows}", n=n, text="x" * 100) for n in items
                    )
                for rows in RETURNED:
                    found.append(measure(ports, rows, max(times // rows, times // 8), read(model, rows)))
                    show(f"read {model.__name__}", found[-1])
            for model in (Row, Marked):
                show(f"insert {model.__name__}", measure(ports, 1, times, insert(model)))
    report(reads[Row], fitted(reads[Row] + reads[Colocated]), reads[Colocated])


def show(operation: str, cost: Cost) -> None:
    """Print a measurement."""
    print(
        f"{operation:17} {cost.primaries:9} {cost.rows:5} {cost.microseconds:9.0f} {cost.commands:9.1f} "
        f"{cost.requests:9.1f}",
        flush=True,
    )


def report(costs: list[Cost], times: tuple[float, float, float], single: list[Cost]) -> None:
    """Print the fitted times, and what follows for larger Clusters."""
    request, command, row = times
    print(f"\nfitted: {request:.1f} us for each request, {command:.2f} us for each command, {row:.2f} us for each row")
    print("\nprimaries  rows  64 slot groups: us  reads/s   partitioned by value: us  reads/s")
    for primaries in (*PRIMARIES, *LARGE):
        for rows in RETURNED:
            own = [cost for cost in costs if cost.rows == rows]
            commands = sum(cost.commands for cost in own) / len(own)
            requests = line(primaries, [(cost.primaries, cost.requests) for cost in own])
            everywhere = requests * request + commands * command + rows * row
            # The entries are on one server, and the rows on those that have them.
            entries = sum(cost.commands for cost in single if cost.rows == rows) / len(PRIMARIES)
            once = (1 + min(primaries, rows)) * request + entries * command + rows * row
            print(
                f"{primaries:9} {rows:5} {everywhere:19.0f} {primaries * 1e6 / everywhere:8.0f} "
                f"{once:25.0f} {primaries * 1e6 / once:8.0f}"
            )


if __name__ == "__main__":
    main()
