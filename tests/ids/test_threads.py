"""Eight threads at once: no duplicate, no inversion inside a thread, no deadlock."""

from __future__ import annotations

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
