"""Programs that write rows with unique values, killed at any moment while others go on.

Every acknowledged row is present, no value has two rows, and no value stays blocked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.behaviour.conftest import STORES
from tests.chaos.ledger import State
from tests.chaos.programs import Program, check_file
from tests.chaos.unique_writers import VALUES, Person, email_of, name_of, state_of

from mintkey import connect

pytestmark = pytest.mark.slow


class Amount(NamedTuple):
    """How many programs are killed, after how many writes, and whether they write transactions of several rows."""

    kills: int
    writes: tuple[int, int]
    transactions: bool


AMOUNTS = {
    "sqlite": Amount(5, (1, 300), transactions=True),
    "redis": Amount(3, (1, 300), transactions=True),
    "redis-cluster": Amount(2, (1, 200), transactions=False),
    "dynamodb": Amount(2, (1, 80), transactions=True),
}


@pytest.fixture(params=AMOUNTS)
def amount(request) -> Amount:
    return AMOUNTS[request.param]


@pytest.fixture
def url(request, tmp_path) -> Iterator[str]:
    name = request.node.callspec.params["amount"]
    address = STORES[name](tmp_path)
    with connect(address):
        Person.create_table()
        yield address
        if name != "sqlite":
            Person.delete_table()
    if name == "sqlite":
        check_file(address)


def stored_people() -> list[Person]:
    return list(Person.scan(consistent=True))


def rows_of(name: str) -> dict[str, Person]:
    """The rows of a program that was killed, by key."""
    before, rows = None, [row for row in stored_people() if row.writer == name]
    # A server may still be at the last request of the program.
    while rows != before:
        before, rows = rows, [row for row in stored_people() if row.writer == name]
    return {str(row.pk): row for row in rows}


def bury(program: Program, name: str) -> None:
    """Check the rows that a killed program left, and delete them."""
    program.kill()
    rows = rows_of(name)
    while True:
        by_email = {label: Person.get_by(email=row.email) for label, row in rows.items()}
        by_name = {label: Person.get_by(city=row.city, name=row.name) for label, row in rows.items()}
        before, rows = rows, rows_of(name)
        # Otherwise the last request of the program has arrived meanwhile.
        if rows == before:
            break
    stored: dict[tuple[str, str], list[State]] = {("Person", label): [state_of(row)] for label, row in rows.items()}
    found = program.ledger.faults(stored)
    assert not found, f"{len(found)} faults, {program.ledger.outcomes()}: {found[:5]}"
    assert by_email == rows
    assert by_name == rows
    # The killed program's rows do not change any more, so a scan that is no snapshot shows a second row of a value.
    for other in stored_people():
        for row in rows.values():
            assert other == row or (other.email != row.email and other.name != row.name), f"{other!r} and {row!r}"
    for row in rows.values():
        row.delete()


def test_killed_programs_leave_each_value_with_one_row(amount, url, seed, times):
    chance = random.Random(seed)
    kinds = ["blocking", "async"]
    transactions = "transactions" if amount.transactions else "-"

    def start(number: int) -> Program:
        arguments = (url, f"p{number}", f"{seed} {number}", kinds[number % 2], transactions)
        return Program("unique_writers", *arguments)

    programs = {"p0": start(0)}
    try:
        # There are always two of them, so that one continues when the other is killed.
        for number in range(1, amount.kills * times + 1):
            before, name = f"p{number - 1}", f"p{number}"
            programs[name] = start(number)
            programs[name].run(1)
            programs[before].run(chance.randrange(*amount.writes))
            bury(programs.pop(before), before)
        name, last = next(iter(programs.items()))
        last.run(chance.randrange(*amount.writes))
        bury(last, name)
    finally:
        for program in programs.values():
            program.kill()
    # All values are free again.
    assert stored_people() == []
    for value in range(VALUES):
        pair = value * VALUES + value
        assert Person.get_by(email=email_of(pair)) is None
        Person.create(pk=f"probe{value}", email=email_of(pair), city="c", name=name_of(pair), value=pair)
        assert Person.get_by(email=email_of(pair), attributes=["pk"]) is not None
