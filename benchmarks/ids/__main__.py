"""What an id costs, compared with a C extension and with similar packages.

    python benchmarks/ids [--rounds N] [--only ulid,uuid7]

All cases are interleaved in one process; the medians of many short rounds are compared. A rival
that is not installed is left out. Ends with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import repeat, starmap
from pathlib import Path
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from mintkey import generators

BURST = 1_000
FLOOR_BAR = 1.2
THREADS_BAR = 1.1
CUID2_BAR = 20
STRATEGIES = [member.value for member in generators.AutoGenerate]


def floor_module(folder: Path) -> ModuleType:
    """Compile floor.c for this Python."""
    source = Path(__file__).with_name("floor.c")
    target = folder / "floor.so"
    include = sysconfig.get_paths()["include"]
    subprocess.run(["cc", "-O3", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(target)], check=True)
    spec = importlib.util.spec_from_file_location("floor", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rivals() -> tuple[dict[str, dict[str, Callable[[], Any]]], list[str]]:
    """The rivals of each strategy, by name, as far as they are installed; and those that are not."""
    found: dict[str, dict[str, Callable[[], Any]]] = {name: {} for name in STRATEGIES}
    left_out: list[str] = []

    def add(strategy: str, name: str, module: str, make: Callable[[Any], Callable[[], Any]]) -> None:
        try:
            found[strategy][name] = make(importlib.import_module(module))
        except ImportError as missing:
            left_out.append(f"{name} makes no {strategy} here: {missing}")

    add("uuid4", "uuid", "uuid", lambda m: lambda: str(m.uuid4()))
    add("uuid4", "uuid-utils", "uuid_utils", lambda m: lambda: str(m.uuid4()))
    add("uuid7", "uuid-utils", "uuid_utils", lambda m: lambda: str(m.uuid7()))
    add("ulid", "ulid-transform", "ulid_transform", lambda m: m.ulid_now)
    add("ulid", "python-ulid", "ulid", lambda m: lambda: str(m.ULID()))
    add("ksuid", "cyksuid", "cyksuid.v2", lambda m: lambda: str(m.ksuid()))
    add("nanoid", "fastnanoid", "fastnanoid", lambda m: m.generate)
    add("xid", "epyxid", "epyxid", lambda m: lambda: str(m.XID()))
    add("typeid", "typeid-python", "typeid", lambda m: lambda: str(m.TypeID()))
    add("cuid2", "cuid2", "cuid2", lambda m: m.Cuid().generate)
    add("epoch", "time", "time", lambda m: lambda: int(m.time()))
    add("epoch_ms", "time", "time", lambda m: lambda: m.time_ns() // 1_000_000)

    def isoformat(module: Any, spec: str) -> Callable[[], str]:
        now, utc = module.datetime.now, module.timezone.utc
        return lambda: now(utc).isoformat(timespec=spec)

    add("iso8601", "datetime", "datetime", lambda m: isoformat(m, "seconds"))
    add("iso8601_ms", "datetime", "datetime", lambda m: isoformat(m, "milliseconds"))
    add("iso8601_ms", "whenever", "whenever", lambda m: lambda: m.Instant.now().format_iso(unit="millisecond"))
    for strategy in ("uuid4", "ulid", "ksuid", "epoch", "epoch_ms", "iso8601"):
        member = strategy.upper()
        add(
            strategy,
            "pydynox",
            "pydynox.generators",
            partial(of_pydynox, member=member),
        )
    return found, left_out


def of_pydynox(module: Any, member: str) -> Callable[[], Any]:
    """Return what pydynox has for one of its strategies."""
    return partial(module.generate_value, importlib.import_module("pydynox").AutoGenerate[member])


def once(function: Callable[[], Any]) -> float:
    """Nanoseconds of a call, in a burst."""
    calls = starmap(function, repeat((), BURST))
    start = perf_counter_ns()
    deque(calls, maxlen=0)
    return (perf_counter_ns() - start) / BURST


def many(function: Callable[[], Any]) -> float:
    """Nanoseconds of an id of a thousand made at once; the first thousand finds the memory for them."""
    function()
    start = perf_counter_ns()
    function()
    return (perf_counter_ns() - start) / BURST


def threaded(threads: int, count: int) -> float:
    """Nanoseconds of a ULID of so many threads."""
    barrier = threading.Barrier(threads + 1)

    def run() -> None:
        barrier.wait()
        deque(starmap(generators.ulid, repeat((), count // threads)), maxlen=0)
        barrier.wait()

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    barrier.wait()
    start = perf_counter_ns()
    barrier.wait()
    taken = perf_counter_ns() - start
    for thread in running:
        thread.join()
    return taken / count


def measure(cases: list[tuple[Callable[[Callable[[], Any]], float], Callable[[], Any]]], rounds: int) -> list[float]:
    """The medians of all cases, one round of each after the other."""
    taken: list[list[float]] = [[] for _ in cases]
    gc.disable()
    for _ in range(rounds):
        for timings, (timer, function) in zip(taken, cases, strict=True):
            timings.append(timer(function))
    gc.enable()
    return [statistics.median(timings[rounds // 10 :]) for timings in taken]


def main() -> int:
    """Measure, print the table, say which bars are missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--only", help="strategies, separated by commas")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else STRATEGIES

    with tempfile.TemporaryDirectory() as folder:
        floor = floor_module(Path(folder))
    names: list[tuple[str, str]] = []
    cases: list[tuple[Callable[[Callable[[], Any]], float], Callable[[], Any]]] = []
    beside, missed = rivals()
    for strategy in chosen:
        for who, function in (
            ("C", getattr(floor, strategy)),
            ("mintkey", getattr(generators, strategy)),
            *beside[strategy].items(),
        ):
            names.append((strategy, who))
            cases.append((once, function))
    names += [("1000 ulids", "C"), ("1000 ulids", "mintkey")]
    cases += [(many, lambda: floor.ulid_many(BURST)), (many, lambda: generators.generate_many("ulid", BURST))]
    medians = dict(zip(names, measure(cases, options.rounds), strict=True))

    print(f"{'':12}{'C':>8}{'mintkey':>10}{'ratio':>8}   rivals (their time, how often mintkey's)")
    for strategy in [*chosen, "1000 ulids"]:
        least, ours = medians[strategy, "C"], medians[strategy, "mintkey"]
        told = {who: time for (of, who), time in medians.items() if of == strategy and who not in ("C", "mintkey")}
        others = ", ".join(f"{who} {time:.0f} ({time / ours:.1f}x)" for who, time in told.items())
        print(f"{strategy:12}{least:8.1f}{ours:10.1f}{ours / least:8.2f}   {others}")
        if ours > FLOOR_BAR * least:
            missed.append(f"{strategy} takes {ours / least:.2f} times the least that C can do")
        missed += [f"{strategy} is slower than {who}" for who, time in told.items() if ours > time]
    slow = medians.get(("cuid2", "cuid2"))
    if slow is not None and slow < CUID2_BAR * medians["cuid2", "mintkey"]:
        missed.append("cuid2 is less than 20 times as fast as the cuid2 package")

    singles, eights = [], []
    for _ in range(9):
        singles.append(threaded(1, 400_000))
        eights.append(threaded(8, 400_000))
    one, eight = statistics.median(singles), statistics.median(eights)
    print(f"\nulid, ns of an id: 1 thread {one:.1f}, 8 threads {eight:.1f}, ratio {eight / one:.2f}")
    if eight > THREADS_BAR * one:
        missed.append(f"8 threads take {eight / one:.2f} times one thread's time of an id")
    for sentence in missed:
        print(f"MISSED: {sentence}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
