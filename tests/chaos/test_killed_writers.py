"""Writing programs killed in the middle of batches, pipelines and single writes, while others go on on the same store.

What a program was told before it died holds; what it was not told has happened or has not; every row is whole.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.behaviour.conftest import STORES
from tests.chaos.ledger import Ledger
from tests.chaos.writers import PATIENCE, TABLES, stored_rows

from mintkey import connect

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SQLITE_SAYS = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone())"


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


class Program:
    """A program that writes until it is killed, and what it said."""

    def __init__(self, url: str, name: str, seed: str, kind: str, biggest: int) -> None:
        command = [sys.executable, "-m", "tests.chaos.program", url, name, seed, kind, str(biggest)]
        self.ledger = Ledger()
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._said, self._complaints = self.process.stdout, self.process.stderr

    def run(self, writes: int) -> None:
        """Let it write so many rows."""
        while self.ledger.writes < writes:
            line = self._said.readline()
            assert line.endswith("\n"), self._complaints.read()
            self.ledger.take_line(line)

    def kill(self) -> None:
        """Kill it, and take what it said until then; a second time does nothing."""
        if self.process.returncode is not None:
            return
        self.process.kill()
        with self._said, self._complaints:
            for line in self._said:
                # The last line may be half a one.
                if line.endswith("\n"):
                    self.ledger.take_line(line)
            assert self._complaints.read() == ""
        self.process.wait(PATIENCE)


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
        command = [sys.executable, "-c", SQLITE_SAYS, address.removeprefix("sqlite:///")]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        assert told.stdout == "ok\n"
        return
    with connect(address):
        for model in TABLES:
            model.delete_table()


def test_what_a_killed_program_was_told_is_true(amount, url, seed, times):
    chance = random.Random(seed)
    kinds = ["blocking", "async"]
    started = (
        Program(url, f"p{number}", f"{seed} {number}", kinds[number % 2], amount.biggest)
        for number in range(amount.kills * times + 1)
    )
    programs: list[Program] = []
    try:
        programs.append(next(started))
        # There are always two of them, so that one goes on when the other is killed.
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
