"""Faults of other packages' ids. Each check is run on this package's, and on the faulty design, which it must see."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from itertools import pairwise

import pytest

from mintkey.generators import auto, generate_value, ksuid, ulid, uuid7
from mintkey.testing import FrozenClock, frozen

Mint = Callable[[], str]

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def as_ulid(ms: int, low: int) -> str:
    """The text of a ULID, for the faulty designs."""
    whole = (ms << 80) | low
    return "".join(CROCKFORD[(whole >> shift) & 31] for shift in range(125, -1, -5))


def ulid_ms(text: str) -> int:
    return sum(CROCKFORD.index(digit) * 32**power for power, digit in enumerate(reversed(text[:10])))


# Duplicates after a fork.

WORKERS = """
import ctypes, os, random, sys
from mintkey.generators import auto, generate_value
from mintkey.testing import frozen

fork = {"os": os.fork, "libc": ctypes.PyDLL(None).fork}[sys.argv[2]]
mints = {
    "uuid4": lambda: generate_value("uuid4"),
    "uuid7": lambda: generate_value("uuid7"),
    "ulid": lambda: generate_value("ulid"),
    "ksuid": lambda: generate_value("ksuid"),
    "nanoid": lambda: generate_value("nanoid"),
    "cuid2": lambda: generate_value("cuid2"),
    "typeid": lambda: generate_value("typeid"),
    "cut uuid4": lambda strategy=auto("uuid4", length=32): generate_value(strategy),
}
if sys.argv[1] == "real":
    mints["snowflake"] = lambda: generate_value("snowflake")
    mints["xid"] = lambda: generate_value("xid")
if sys.argv[1] == "frozen":
    frozen("2024-01-01T00:00:00Z", seed=7).__enter__()
if sys.argv[1] == "faulty":
    # Random state that a child takes over as it is.
    state = random.Random(1)
    mints = {"faulty": lambda: f"{state.getrandbits(128):032x}"}
for mint in mints.values():
    mint()
readers, children = [], []
for _ in range(8):
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        with open(write, "w") as out:
            for name, mint in mints.items():
                out.writelines(f"{name}={mint()}\\n" for _ in range(5000))
        os._exit(0)
    os.close(write)
    readers.append(read)
    children.append(pid)
seen = []
for read in readers:
    with open(read) as told:
        seen += told.read().split("\\n")[:-1]
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
print(len(seen) - len(mints) * 40000, len(seen) - len(set(seen)))
"""


def forked(kind: str, fork: str) -> tuple[int, int]:
    """How many ids are missing, and how many are there twice."""
    done = subprocess.run([sys.executable, "-c", WORKERS, kind, fork], check=True, capture_output=True, text=True)
    missing, twice = map(int, done.stdout.split())
    return missing, twice


@pytest.mark.slow
@pytest.mark.parametrize("fork", ["os", "libc"])
@pytest.mark.parametrize("kind", ["real", "frozen"])
def test_no_duplicates_after_a_fork(kind, fork):
    assert forked(kind, fork) == (0, 0)


@pytest.mark.slow
def test_the_faulty_design_has_duplicates_after_a_fork():
    missing, twice = forked("faulty", "os")
    assert missing == 0
    assert twice == 7 * 5000


# Order within a millisecond.


def check_order(mint: Mint) -> None:
    made = [mint() for _ in range(100_000)]
    assert all(one < other for one, other in pairwise(made))


@pytest.mark.parametrize("mint", [ulid, uuid7, ksuid])
def test_ids_of_one_tick_are_in_order(mint):
    check_order(mint)


def test_the_faulty_design_has_ids_of_one_tick_out_of_order():
    with pytest.raises(AssertionError):
        check_order(lambda: as_ulid(time.time_ns() // 1_000_000, random.getrandbits(80)))


@pytest.mark.slow
@pytest.mark.parametrize("mint", [ulid, uuid7, ksuid])
def test_eight_threads_make_no_duplicate_and_no_inversion(mint):
    made: list[list[str]] = []
    ready = threading.Barrier(8)

    def work() -> None:
        ready.wait()
        made.append([mint() for _ in range(100_000)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sum(one >= other for one, other in pairwise(ids)) for ids in made) == 0
    assert len(set().union(*made)) == 800_000


# A clock that steps back.


def check_step_back(mint: Mint, clock: FrozenClock, span: int) -> None:
    before = [mint() for _ in range(1000)]
    highest = int(clock.time.timestamp() * 1000)
    clock.advance(-span)
    after = [mint() for _ in range(20_000)]
    assert all(one < other for one, other in pairwise(before + after)), "out of order"
    assert ulid_ms(after[-1]) - highest <= 1000, "far ahead of the clock"
    clock.advance(span + 5)
    assert ulid_ms(mint()) == int(clock.time.timestamp() * 1000), "never caught up"


@pytest.mark.parametrize("span", [5, 3600])
def test_ids_go_on_in_order_when_the_clock_steps_back(span):
    with frozen("2024-01-01T00:00:00Z", seed=1) as clock:
        check_step_back(ulid, clock, span)


@pytest.mark.parametrize("span", [5, 3600])
def test_the_faulty_designs_go_back_with_the_clock_or_run_ahead(span):
    last = 0

    def ahead() -> str:
        nonlocal last
        last = max(last + 1, int(clock.time.timestamp() * 1000))
        return as_ulid(last, random.getrandbits(80))

    with frozen("2024-01-01T00:00:00Z") as clock, pytest.raises(AssertionError, match="out of order"):
        check_step_back(lambda: as_ulid(int(clock.time.timestamp() * 1000), random.getrandbits(80)), clock, span)
    with frozen("2024-01-01T00:00:00Z") as clock, pytest.raises(AssertionError, match="far ahead"):
        check_step_back(ahead, clock, span)


# Guessing the next one.


def check_unguessable(mint: Mint) -> None:
    made = [mint() for _ in range(1000)]
    steps = {int(other[10:], 36) - int(one[10:], 36) for one, other in pairwise(made)}
    assert len(steps) > 900


def test_the_next_id_cannot_be_guessed():
    with frozen("2024-01-01T00:00:00Z"):
        check_unguessable(ulid)


def test_the_faulty_design_can_be_guessed():
    low = random.getrandbits(70)

    def counting() -> str:
        nonlocal low
        low += 1
        return as_ulid(1, low)

    with pytest.raises(AssertionError):
        check_unguessable(counting)


def test_a_cut_uuid_is_what_it_says():
    cut = auto("uuid4", length=8)
    assert {len(generate_value(cut)) for _ in range(100)} == {8}
    assert {uuid.UUID(generate_value("uuid4")).version for _ in range(100)} == {4}
