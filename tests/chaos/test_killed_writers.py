"""Writing programs killed in the middle of batches, pipelines and single writes, while others go on on the same store.

What a program was told before it died holds; what it was not told has happened or has not; every row is whole.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.behaviour.conftest import STORES
from tests.chaos.programs import Program, check_file
from tests.chaos.writers import TABLES, stored_rows

from mintkey import connect

pytestmark = pytest.mark.slow


class Amount(NamedTuple):
    """How many rows a program's largest batch has, how many programs are killed, and after how many writes."""

    biggest: int
    kills: int
    writes: tuple[int, int]


AMOUNTS = {
    "sqlite": Amount(1_300, 5, (1, 5_000)),
    "redis": Amount(1_300, 3, (1, 3_000)),
    "redis-cluster": Amount(1_300, 2, (1, 3_000)),
    "dynamodb": Amount(150, 2, (1, 400)),
}


@pytest.fixture(params=STORES)
def amount(request) -> Amount:
    return AMOUNTS[request.param]


@pytest.fixture
def url(request, tmp_path) -> Iterator[str]:
    name = request.node.callspec.params["amount"]
    address = STORES[name](tmp_path)
    with connect(address):
        for model in TABLES:
            model.create_table()
    yield address
    if name == "sqlite":
        check_file(address)
        return
    with connect(address):
        for model in TABLES:
            model.delete_table()


def test_what_a_killed_program_was_told_is_true(amount, url, seed, times):
    chance = random.Random(seed)
    kinds = ["blocking", "async"]
    started = (
        Program("program", url, f"p{number}", f"{seed} {number}", kinds[number % 2], str(amount.biggest))
        for number in range(amount.kills * times + 1)
    )
    programs: list[Program] = []
    try:
        programs.append(next(started))
        # There are always two of them, so that one continues when the other is killed.
        for program in started:
            programs.append(program)
            program.run(1)
            programs[-2].run(chance.randrange(*amount.writes))
            programs[-2].kill()
        programs[-1].run(chance.randrange(*amount.writes))
    finally:
        for program in programs:
            program.kill()
    with connect(url):
        stored = stored_rows()
    known = {row for program in programs for row in program.ledger.rows()}
    assert stored.keys() <= known
    for program in programs:
        own = {row: stored[row] for row in program.ledger.rows() if row in stored}
        found = program.ledger.faults(own)
        assert not found, f"{len(found)} faults with seed {seed}, {program.ledger.outcomes()}: {found[:5]}"
