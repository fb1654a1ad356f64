"""Writers of rows with unique values, which all programs want. Each writer notes in a ledger what it writes.

    python -m tests.chaos.unique_writers URL NAME SEED blocking|async transactions|-

The program prints its ledger until it is killed. An awaiting program has several writers.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from tests.behaviour.conftest import Do
from tests.chaos.ledger import Kind, Ledger, Outcome, State, Write

import mintkey
from mintkey import Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import (
    BatchIncomplete,
    ConditionFailed,
    ItemGone,
    TransactionCancelled,
    UniqueViolation,
    UnsupportedOperation,
)

#: How many values there are, for all rows of all programs.
VALUES = 24
#: The rows of each writer.
ROWS = 4


class Person(Model):
    """A row with a unique attribute, and with two attributes that are unique together."""

    model_config = ModelConfig(table="chaos_people", unique=[("city", "name")])

    pk = StringAttribute(partition_key=True)
    email = StringAttribute(unique=True)
    city = StringAttribute()
    name = StringAttribute()
    value = NumberAttribute()
    writer = StringAttribute()


def email_of(value: int) -> str:
    """The email of a row with this value."""
    return f"e{value % VALUES}"


def name_of(value: int) -> str:
    """The name of a row with this value."""
    return f"n{value // VALUES}"


def attributes_of(value: int) -> dict[str, Any]:
    """All attributes of a row with this value, except its key and its writer."""
    return {"value": value, "email": email_of(value), "city": "c", "name": name_of(value)}


def value_of(row: Person) -> int:
    """The value that all attributes of a row come from."""
    assert row.value is not None
    return int(row.value)


def state_of(row: Person) -> State:
    """What a row holds; a row that is half written is a failure."""
    value = value_of(row)
    assert {name: getattr(row, name) for name in attributes_of(value)} == attributes_of(value), f"{row!r}"
    return State(value, 0)


class UniqueWriter:
    """Writes rows of its own, with values that other writers want too."""

    def __init__(self, name: str, do: Do, ledger: Ledger, chance: random.Random, *, transactions: bool) -> None:
        self.name = name
        self.program = name.split(".", maxsplit=1)[0]
        self.do = do
        self.ledger = ledger
        self.chance = chance
        self.steps = [self.create, self.put, self.change, self.update, self.delete, self.batch, self.look]
        if transactions:
            self.steps.append(self.swap)

    async def run(self) -> None:
        """Write until the program is killed."""
        while True:
            await self.chance.choice(self.steps)()

    # Steps.

    async def create(self) -> None:
        """A new row."""
        row = self._row()
        await self._write(row, "create", "insert", lambda: self.do.create(Person, **row.to_dict()))

    async def put(self) -> None:
        """A new row in the place of any other."""
        row = self._row()
        await self._write(row, "save", "put", lambda: self.do.save(row))

    async def change(self) -> None:
        """A stored row with other values."""
        if (row := await self._stored()) is not None:
            self._assign(row)
            await self._write(row, "save", "change", lambda: self.do.save(row))

    async def update(self) -> None:
        """The same in the store."""
        if (row := await self._stored()) is not None:
            values = attributes_of(self._value())
            new = Person(pk=row.pk, **values)
            await self._write(new, "update", "change", lambda: self.do.update(row, **values))

    async def delete(self) -> None:
        """Delete a row, which may be absent."""
        row = self._row()
        await self._write(row, "delete", "delete", lambda: self.do.delete(row))

    async def batch(self) -> None:
        """Several new rows, each in the place of any other."""
        rows = [self._row(label) for label in self.chance.sample(self._labels(), 3)]
        numbers = [self.ledger.begin(self._note(row, "batch_save", "put")) for row in rows]
        failed: dict[int, Exception] = {}
        try:
            await self.do.batch_save(Person, rows)
        except BatchIncomplete as error:
            failed = {id(item): why for item, why in error.failed if isinstance(why, Exception)}
        for number, row in zip(numbers, rows, strict=True):
            self.ledger.end(number, outcome_of(failed[id(row)]) if id(row) in failed else "applied")

    async def swap(self) -> None:
        """Two rows exchange their values in a transaction, or each gets another value."""
        rows = [await self._stored(label) for label in self.chance.sample(self._labels(), 2)]
        if (one := rows[0]) is None or (other := rows[1]) is None:
            return
        for row, value in (one, value_of(other)), (other, value_of(one)):
            self._assign(row, value if self.chance.random() < 0.8 else None)
        numbers = [self.ledger.begin(self._note(row, "swap", "change")) for row in (one, other)]
        outcome: Outcome = "applied"
        try:
            await self._save_both(one, other)
        except (TransactionCancelled, UnsupportedOperation):
            outcome = "not_applied"
        for number in numbers:
            self.ledger.end(number, outcome)

    async def _save_both(self, *rows: Person) -> None:
        if self.do.blocking:
            with mintkey.transaction() as tx:
                for row in rows:
                    tx.save(row)
            return
        async with mintkey.transaction() as tx:
            for row in rows:
                tx.save(row)

    async def look(self) -> None:
        """The row that has a value has it."""
        value = self._value()
        row = await self.do.get_by(Person, email=email_of(value))
        assert row is None or row.email == email_of(value)
        row = await self.do.get_by(Person, city="c", name=name_of(value))
        assert row is None or row.name == name_of(value)

    # Parts of steps.

    def _labels(self) -> list[str]:
        return [f"{self.name}:{number}" for number in range(ROWS)]

    def _value(self) -> int:
        return self.chance.randrange(VALUES * VALUES)

    def _row(self, label: str | None = None) -> Person:
        label = self.chance.choice(self._labels()) if label is None else label
        return Person(pk=label, writer=self.program, **attributes_of(self._value()))

    def _assign(self, row: Person, value: int | None = None) -> None:
        for name, new in attributes_of(self._value() if value is None else value).items():
            setattr(row, name, new)

    async def _stored(self, label: str | None = None) -> Person | None:
        label = self.chance.choice(self._labels()) if label is None else label
        row: Person | None = await self.do.get(Person, pk=label, consistent=True)
        self.ledger.read("Person", label, None if row is None else state_of(row))
        return row

    @staticmethod
    def _note(row: Person, path: str, kind: Kind) -> Write:
        return Write("Person", str(row.pk), path, kind, value_of(row))

    async def _write(self, row: Person, path: str, kind: Kind, call: Callable[[], Awaitable[Any]]) -> None:
        number = self.ledger.begin(self._note(row, path, kind))
        outcome: Outcome = "applied"
        try:
            await call()
        except Exception as error:  # noqa: BLE001 - any other error is raised again
            outcome = outcome_of(error)
        self.ledger.end(number, outcome)


def outcome_of(error: Exception) -> Outcome:
    """What a failed write reported; an error of another kind is a failure of the test."""
    if isinstance(error, UniqueViolation):
        # Whatever the state of the row was.
        return "not_applied"
    if isinstance(error, (ConditionFailed, ItemGone)):
        return "refused"
    raise error


async def main(name: str, seed: str, kind: str, transactions: str) -> None:
    """Write until the program is killed."""
    do = Do(blocking=kind == "blocking")
    ledger = Ledger(lambda line: os.write(1, f"{line}\n".encode()))
    names = [f"{name}.{number}" for number in range(1 if do.blocking else 3)]
    writers = [
        UniqueWriter(own, do, ledger, random.Random(f"{seed} {own}"), transactions=transactions == "transactions")
        for own in names
    ]
    await asyncio.gather(*(writer.run() for writer in writers))


if __name__ == "__main__":
    with connect(sys.argv[1]):
        asyncio.run(main(*sys.argv[2:]))
