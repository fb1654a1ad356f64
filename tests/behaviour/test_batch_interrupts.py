"""An interrupt of a batch: no key that was generated overwrites a row, and all items can be saved again."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest
from tests.behaviour.test_batches import Plain

from mintkey import AutoGenerate, Model
from mintkey.attributes import Attribute, StringAttribute
from mintkey.errors import KeyCollision


class Interrupting(Attribute[Any]):
    kind = "number"

    def encode(self, value):
        if value == "stop":
            raise KeyboardInterrupt
        return value


async def test_an_interrupt_leaves_what_was_minted_guarded(do):
    class Held(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        n = Interrupting()

    items = [Held(n=1), Held(n="stop"), Held(n=3)]
    with pytest.raises(KeyboardInterrupt):
        await do.batch_save(Held, items)
    assert await do.count(Held) == 0
    assert [item.pk is None for item in items] == [False, False, True]
    await do.save(Held(pk=items[0].pk, n=100))
    with pytest.raises(KeyCollision):
        await do.save(items[0])
    items[1].n = 2
    assert await do.batch_save(Held, items[1:]) == 2
    assert sorted([item.n for item in await do.all(Held.scan())]) == [2, 3, 100]


class Interrupts:
    """Ctrl-C at the n-th line of the batch's own code."""

    def __init__(self, line=-1):
        self.left = line
        self.lines = 0

    def _line(self, frame, event, _):
        if event == "line":
            self.lines += 1
            if self.lines - 1 == self.left:
                raise KeyboardInterrupt
        return self._line

    def _call(self, frame, event, _):
        return (
            self._line
            if frame.f_code.co_filename.endswith("batches.py") and "tests" not in frame.f_code.co_filename
            else None
        )

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)


def check_after(items):
    """No key of these items overwrites another's row, and all can be saved again."""
    stored = {row.pk: row.n for row in Plain.scan()}
    for item in items:
        assert stored.get(item.pk, item.n) == item.n
    unsent = [item for item in items if item.pk is not None and item.pk not in stored]
    for item in unsent[:2] + unsent[-2:]:
        Plain(pk=item.pk, n=-1).save()
        with pytest.raises(KeyCollision):
            item.save()
        row = Plain.get(pk=item.pk)
        assert row is not None
        assert row.n == -1
        row.delete()
    assert Plain.batch_save(items) == len(items)
    stored = {row.pk: row.n for row in Plain.scan()}
    assert all(stored[item.pk] == item.n for item in items)
    assert len(stored) == Plain.count()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_ctrl_c_at_any_line_of_a_batch_leaves_no_key_that_overwrites(store, seed):
    with Interrupts() as whole:
        Plain.batch_save([Plain(n=n) for n in range(1100)])
    assert whole.lines > 1100
    for line in random.Random(seed).sample(range(whole.lines), 6):
        # Without the rows of earlier turns: each turn reads all rows several times.
        Plain.delete_table()
        Plain.create_table()
        items = [Plain(n=n) for n in range(1100)]
        with pytest.raises(KeyboardInterrupt), Interrupts(line):
            Plain.batch_save(items)
        check_after(items)


class Trap(StringAttribute):
    """A text that interrupts whoever encodes `now`."""

    def encode(self, value):
        if value == "now":
            raise KeyboardInterrupt
        return value


class Trapped(Plain):
    trap = Trap()


async def test_an_interrupt_while_items_are_prepared(do):
    items = [Trapped(n=n, trap="now" if n == 700 else "later") for n in range(1200)]
    with pytest.raises(KeyboardInterrupt):
        await do.batch_save(Trapped, items)
    assert sorted(row.n for row in await do.all(Trapped.scan())) == list(range(500))
    assert [item.n for item in items if not item.is_dirty] == list(range(500))
    items[700].trap = "past"
    assert await do.batch_save(Trapped, items) == 1200
    assert {row.pk: row.n for row in await do.all(Trapped.scan())} == {item.pk: item.n for item in items}
