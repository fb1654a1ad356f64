"""The ledger: every write with its reported outcome, and the check of both against the rows in the store.

Each row has one writer, so the writes of a row are in order. The check follows them and keeps the set of states that
the row may have. An applied write leaves only its result, a write that was not applied changes nothing, and a write
with an unknown outcome adds its result to the set. The stored row must be one of the set.

A write is applied before its outcome is reported, or never. That holds where servers are killed. It does not hold where
a server lives and is slower than `?timeout=`, so the tests keep that long.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

#: What a write does with a row:
#: - "put" writes it whole, whatever is there; "insert" does so only if no row is there;
#: - "change" sets a value, "add" adds to a number, "remove" deletes: all three only if a row is there;
#: - "upsert" adds to a number, or inserts the row; "delete" deletes, and an absent row is no error.
Kind: TypeAlias = Literal["put", "insert", "change", "add", "remove", "upsert", "delete"]
#: "refused": the store said no, for example because an insert found a row.
Outcome: TypeAlias = Literal["applied", "refused", "not_applied", "unknown"]

#: The outcomes after which the same instance may be written again.
FAILED = frozenset({"not_applied", "unknown"})
NEEDS_A_ROW = {"change", "add", "remove"}
#: So many of the last writes of a row are shown with a fault.
SHOWN = 8


class State(NamedTuple):
    """What a row holds: the last value that was set, and the sum of what was added since the row was put."""

    value: int | None
    added: int


class Write(NamedTuple):
    """A write of one row.

    `path` names the method that carried it. `again` marks a retry of the instance whose last write has an unknown
    outcome: both together are applied once.
    """

    model: str
    label: str
    path: str
    kind: Kind
    value: int = 0
    again: bool = False

    def is_allowed(self, state: State | None) -> bool:
        """Whether the store takes this write for a row in this state."""
        if self.kind in NEEDS_A_ROW:
            return state is not None
        return self.kind != "insert" or state is None

    def result(self, state: State | None) -> State | None:
        """The state of the row after this write."""
        match self.kind:
            case "put" | "insert":
                return State(self.value, 0)
            case "change":
                return State(self.value, 0 if state is None else state.added)
            case "add" | "upsert":
                return State(None, self.value) if state is None else State(state.value, state.added + self.value)
            case "remove" | "delete":
                return None


class _Entry:
    """A write with its outcome, or a read with what it found."""

    def __init__(self, write: Write | None, found: State | None = None) -> None:
        self.write = write
        self.found = found
        #: Stays so when the writer was killed before the write returned.
        self.outcome: Outcome = "unknown"

    def __str__(self) -> str:
        if self.write is None:
            return f"read {self.found}"
        again = " again" if self.write.again else ""
        return f"{self.write.path}: {self.write.kind} {self.write.value}{again} {self.outcome}"


class Ledger:
    """All writes of a run.

    With `send`, each entry is passed on as a line of text; `take_line` puts such lines into the ledger of another
    process.
    """

    def __init__(self, send: Callable[[str], object] | None = None) -> None:
        self._send = send
        self._entries: list[_Entry] = []
        self._rows: dict[tuple[str, str], list[_Entry]] = {}
        self._changed = threading.Condition()
        self._failed = 0
        self._error: BaseException | None = None

    def begin(self, write: Write) -> int:
        """Note a write before it is sent; returns its number, for `end`."""
        with self._changed:
            number = len(self._entries)
            self._append((write.model, write.label), _Entry(write))
            self._pass_on("begin", *write)
            self._changed.notify_all()
        return number

    def end(self, number: int, outcome: Outcome) -> None:
        """Note the outcome of a write."""
        with self._changed:
            self._entries[number].outcome = outcome
            self._failed += outcome in FAILED
            self._changed.notify_all()
            self._pass_on("end", number, outcome)

    def read(self, model: str, label: str, found: State | None) -> None:
        """Note what a read found."""
        with self._changed:
            self._append((model, label), _Entry(None, found))
            self._pass_on("read", model, label, found)

    def _append(self, row: tuple[str, str], entry: _Entry) -> None:
        self._entries.append(entry)
        self._rows.setdefault(row, []).append(entry)

    def _pass_on(self, *words: object) -> None:
        if self._send is not None:
            self._send(json.dumps(words))

    def take_line(self, line: str) -> None:
        """Note what the ledger of another process passed on."""
        match json.loads(line):
            case ["begin", *write]:
                self.begin(Write(*write))
            case ["end", number, outcome]:
                self.end(number, outcome)
            case ["read", model, label, found]:
                self.read(model, label, None if found is None else State(*found))

    def writer_failed(self, error: BaseException) -> None:
        """Raise this error in `wait_for` and `wait_for_failure`: there will be no more writes."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def wait_for(self, more: int) -> None:
        """Wait until so many more writes have begun."""
        wanted = self.writes + more
        self._wait_until(lambda: self.writes >= wanted)

    def wait_for_failure(self) -> None:
        """Wait until one more write has failed."""
        before = self._failed
        self._wait_until(lambda: self._failed > before)

    def _wait_until(self, is_over: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or is_over())
            if self._error is not None:
                raise self._error

    def outcomes(self) -> Counter[Outcome]:
        """How many writes had which outcome."""
        return Counter(entry.outcome for entry in self._entries if entry.write is not None)

    @property
    def writes(self) -> int:
        """How many writes have begun."""
        return len(self._entries)

    def rows(self) -> Collection[tuple[str, str]]:
        """The model and label of each row that was written or read."""
        return self._rows.keys()

    def faults(self, stored: Mapping[tuple[str, str], list[State]]) -> list[str]:
        """What the stored rows, by model and label, contradict; empty when everything was reported rightly."""
        found = [f"{row}: stored, but never written" for row in stored.keys() - self._rows.keys()]
        for row, entries in self._rows.items():
            rows = stored.get(row, [])
            if len(rows) > 1:
                found.append(f"{row}: stored {len(rows)} times. {_shown(entries)}")
                continue
            try:
                possible = _possible(entries)
            except _Contradiction as error:
                found.append(f"{row}: {error}. {_shown(entries)}")
                continue
            state = rows[0] if rows else None
            if state not in possible:
                found.append(f"{row}: stored {state}, possible {possible}. {_shown(entries)}")
        return found


class _Contradiction(Exception):
    """The reported outcomes of a row contradict each other."""


def _possible(entries: Iterable[_Entry]) -> set[State | None]:
    """The states that a row may have after its writes."""
    possible: set[State | None] = {None}
    # The possible states before the first of the tries that count as one write.
    before = possible
    for entry in entries:
        write = entry.write
        if write is None:
            if entry.found not in possible:
                raise _Contradiction(f"read {entry.found}, possible {possible}")
            possible = {entry.found}
            continue
        before = before if write.again else possible
        results = {write.result(state) for state in before if write.is_allowed(state)}
        match entry.outcome:
            case "applied":
                possible = results
            case "refused":
                possible = {state for state in before if not write.is_allowed(state)}
            case "unknown":
                possible = possible | results
        if not possible:
            raise _Contradiction(f"{entry.outcome}, which no possible state allows: {before}")
    return possible


def _shown(entries: list[_Entry]) -> str:
    rest = "… " if len(entries) > SHOWN else ""
    return f"Its writes: {rest}{'; '.join(map(str, entries[-SHOWN:]))}"
