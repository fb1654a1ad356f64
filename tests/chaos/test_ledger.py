"""The checker of the chaos tests finds wrong outcomes."""

from __future__ import annotations

import pytest
from tests.chaos.ledger import Kind, Ledger, Outcome, State, Write

ROW = ("Plain", "a")


def ledger_of(*writes: tuple[Kind, int, Outcome]) -> Ledger:
    ledger = Ledger()
    for kind, value, outcome in writes:
        again = value < 0
        number = ledger.begin(Write(*ROW, "save", kind, abs(value), again=again))
        ledger.end(number, outcome)
    return ledger


@pytest.mark.parametrize(
    ("writes", "right", "wrong"),
    [
        ([("put", 1, "applied")], [State(1, 0)], [None, State(2, 0)]),
        ([("put", 1, "not_applied")], [None], [State(1, 0)]),
        ([("put", 1, "unknown")], [None, State(1, 0)], [State(2, 0)]),
        ([("put", 1, "applied"), ("put", 2, "unknown"), ("put", 3, "not_applied")], [State(1, 0), State(2, 0)], [None]),
        ([("put", 1, "applied"), ("add", 5, "unknown"), ("add", 5, "applied")], [State(1, 5), State(1, 10)], []),
        # A negative value stands for a second try of the same write.
        ([("put", 1, "applied"), ("add", 5, "unknown"), ("add", -5, "applied")], [State(1, 5)], [State(1, 10)]),
        ([("put", 1, "unknown"), ("insert", 2, "refused")], [State(1, 0)], [None]),
        ([("put", 1, "unknown"), ("remove", 0, "refused")], [None], [State(1, 0)]),
        ([("put", 1, "unknown"), ("change", 2, "unknown")], [None, State(1, 0), State(2, 0)], []),
        ([("upsert", 4, "applied"), ("delete", 0, "unknown")], [None, State(None, 4)], []),
    ],
)
def test_only_possible_states_pass(writes, right, wrong):
    ledger = ledger_of(*writes)
    for state in right:
        assert ledger.faults({ROW: [state]} if state else {}) == []
    for state in wrong:
        assert len(ledger.faults({ROW: [state]} if state else {})) == 1


@pytest.mark.parametrize(
    "writes",
    [
        [("insert", 1, "refused")],
        [("put", 1, "applied"), ("insert", 2, "applied")],
        [("put", 1, "applied"), ("change", 2, "refused")],
        [("insert", 1, "unknown"), ("insert", -1, "refused")],
    ],
)
def test_outcomes_that_contradict_each_other(writes):
    assert len(ledger_of(*writes).faults({})) == 1


def test_rows_that_nobody_wrote_and_rows_that_are_there_twice():
    ledger = ledger_of(("put", 1, "applied"))
    assert len(ledger.faults({ROW: [State(1, 0)], ("Plain", "b"): [State(1, 0)]})) == 1
    assert len(ledger.faults({ROW: [State(1, 0), State(1, 0)]})) == 1


def test_a_read_settles_what_was_unknown():
    ledger = ledger_of(("put", 1, "unknown"))
    ledger.read(*ROW, State(1, 0))
    assert ledger.faults({ROW: [State(1, 0)]}) == []
    assert len(ledger.faults({})) == 1
    ledger.read(*ROW, None)
    assert len(ledger.faults({})) == 1


def test_a_ledger_passes_through_a_pipe():
    lines: list[str] = []
    source, target = Ledger(lines.append), Ledger()
    number = source.begin(Write(*ROW, "save", "put", 1))
    source.read(*ROW, None)
    source.begin(Write(*ROW, "save", "put", 2))
    source.end(number, "applied")
    for line in lines:
        target.take_line(line)
    assert target.outcomes() == source.outcomes() == {"applied": 1, "unknown": 1}
