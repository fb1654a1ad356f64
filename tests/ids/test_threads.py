"""Eight threads at once: no duplicate, no inversion inside a thread, no deadlock."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from mintkey import _core, generators
from mintkey.generators import AutoGenerate, as_auto, generate_many
from mintkey.testing import frozen


@pytest.mark.slow
def test_eight_threads_of_a_hundred_thousand(id_strategy: AutoGenerate) -> None:
    function = getattr(generators, id_strategy.value)
    minted: list[list[object]] = [[] for _ in range(8)]
    # A snowflake gives 3,072 ids a millisecond on average, so these are minted in one lump.
    barrier = threading.Barrier(8)

    def run(ids: list[object]) -> None:
        barrier.wait()
        ids += generate_many(id_strategy, 50_000)
        ids += [function() for _ in range(50_000)]

    threads = [threading.Thread(target=run, args=(ids,)) for ids in minted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({value for ids in minted for value in ids}) == 800_000
    core = as_auto(id_strategy).strategy
    assert core is not None
    if core.sortable:
        assert all(ids == sorted(ids) for ids in minted)  # type: ignore[type-var]


def test_a_step_is_one_for_all_its_strategies() -> None:
    """While one thread moves the clock, what is minted in one step still agrees."""
    strategies = tuple(as_auto(member).strategy for member in (AutoGenerate.EPOCH_MS, AutoGenerate.ULID))
    disagreeing = []
    with frozen("2024-01-01") as clock:
        stop = threading.Event()

        def tick() -> None:
            while not stop.is_set():
                clock.advance(0.001)

        ticking = threading.Thread(target=tick)
        ticking.start()
        for _ in range(20_000):
            (ms, ulid), reading = _core.mint(strategies)  # type: ignore[arg-type]
            if not ms == reading == generators.parse(ulid, "ulid").timestamp_ms:
                disagreeing.append((ms, ulid, reading))
        stop.set()
        ticking.join()
    assert disagreeing == []


UNSET = """
import gc, os
from mintkey.generators import generate_many

count = 12_345
unset, readings = [], 0

class Environment(dict):
    # Read by the first snowflake of a process, in the middle of generate_many(): other threads may run here, too.
    def get(self, name, default=None):
        global readings
        readings += 1
        lists = [found for found in gc.get_objects() if type(found) is list and len(found) == count]
        # An unset item refers to nothing.
        unset.extend(count - len(gc.get_referents(found)) for found in lists)
        return super().get(name, default)

os.environ = Environment(os.environ)
ids = generate_many("snowflake", count)
assert gc.is_tracked(ids) and len(set(ids)) == count and readings
print(unset)
"""


def test_a_list_is_visible_to_other_threads_only_when_it_is_full() -> None:
    done = subprocess.run([sys.executable, "-c", UNSET], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
