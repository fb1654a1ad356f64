"""Two copies of one process: a bare clone, and a process that is resumed twice from one snapshot."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tests.ids.children import CLONES, bare_clone, mint_in_children

from mintkey import generators
from mintkey.generators import AutoGenerate, generate_many, generate_value, reseed
from mintkey.testing import frozen

pytestmark = pytest.mark.skipif(not CLONES, reason="the system call is known for Linux on two processors only")

COUNT = 200
RANDOM = [
    AutoGenerate.UUID4,
    AutoGenerate.UUID7,
    AutoGenerate.ULID,
    AutoGenerate.KSUID,
    AutoGenerate.NANOID,
    AutoGenerate.TYPEID,
    AutoGenerate.CUID2,
]

Blocks = Callable[[], contextlib.AbstractContextManager[object]]
CLOCKS = [
    pytest.param(contextlib.nullcontext, id="running"),
    pytest.param(lambda: frozen("2024-01-01"), id="frozen"),
]


def keep_all_pages() -> None:
    """Let a clone find every page as it is, also those that the kernel wipes in a child."""
    keep_on_fork = 19
    first = last = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            first, last = (int(address, 16) for address in found.groups())
        elif line.startswith("VmFlags:") and "wf" in line.split():
            pages = ctypes.c_void_p(first), ctypes.c_size_t(last - first)
            assert ctypes.CDLL(None).madvise(*pages, keep_on_fork) == 0


def snapshot() -> int:
    """Copy this process as a snapshot of its machine does: nothing in the copy tells that it is one."""
    keep_all_pages()
    return bare_clone()


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("children", [1, 3])
def test_a_bare_clone_mints_ids_of_its_own(id_strategy: AutoGenerate, clock: Blocks, children: int) -> None:
    function = getattr(generators, id_strategy.value)
    with clock():
        generate_value(id_strategy)
        minted = mint_in_children(bare_clone, children, lambda: [function() for _ in range(COUNT)])
        minted += mint_in_children(bare_clone, children, lambda: generate_many(id_strategy, COUNT))
    assert len(minted) == 2 * (children + 1) * COUNT
    assert len(set(minted)) == len(minted)


def test_a_bare_clone_in_a_seeded_block_goes_on_with_another_stream(id_strategy: AutoGenerate) -> None:
    def mint() -> list[str]:
        with frozen("2024-01-01", seed=5):
            return mint_in_children(bare_clone, 1, lambda: generate_many(id_strategy, COUNT))

    minted = mint()
    assert len(set(minted)) == 2 * COUNT
    assert mint() == minted


def test_a_seeded_block_that_begins_in_a_bare_clone_repeats() -> None:
    def mint() -> list[object]:
        with frozen("2024-01-01", seed=6):
            return generate_many("ulid", 5)

    minted = mint_in_children(bare_clone, 1, mint)
    assert minted[:5] == minted[5:]


def test_a_clone_of_a_bare_clone_is_another_process_too(id_strategy: AutoGenerate) -> None:
    generate_value(id_strategy)

    def mint() -> list[object]:
        return [*mint_in_children(bare_clone, 1, lambda: generate_many(id_strategy, COUNT))]

    minted = mint_in_children(bare_clone, 1, mint)
    assert len(minted) == 4 * COUNT
    assert len(set(minted)) == len(minted)


@pytest.mark.parametrize("clock", CLOCKS)
def test_resumed_snapshots_share_no_id_after_reseed(id_strategy: AutoGenerate, clock: Blocks) -> None:
    with clock():
        before = str(generate_value(id_strategy))

        def mint() -> list[object]:
            reseed()
            return generate_many(id_strategy, COUNT)

        minted = mint_in_children(snapshot, 1, mint)
    assert len(set(minted)) == 2 * COUNT
    assert before not in minted


@pytest.mark.parametrize("strategy", RANDOM)
def test_resumed_snapshots_differ_after_the_words_drawn_ahead(strategy: AutoGenerate) -> None:
    """Without `reseed()` they share what was drawn before the snapshot, and nothing after it."""
    with frozen("2024-01-01"):
        generate_value(strategy)
        minted = mint_in_children(snapshot, 1, lambda: generate_many(strategy, 2_000))
    one, other = minted[:2_000], minted[2_000:]
    assert one[0] == other[0], "the snapshot is none"
    assert set(one[600:]).isdisjoint(other[600:])


def test_order_goes_on_after_reseed(sortable: AutoGenerate) -> None:
    minted = []
    with frozen("2024-01-01") as clock:
        for _ in range(3):
            minted += [generate_value(sortable), generate_value(sortable)]
            reseed()
            minted += generate_many(sortable, 3)
            clock.advance(1)
    assert all(one < other for one, other in pairwise(minted))


def test_reseed_leaves_a_seeded_block_as_it_is(id_strategy: AutoGenerate) -> None:
    def mint(between: Callable[[], None]) -> list[object]:
        with frozen("2024-01-01", seed=7):
            ids = [generate_value(id_strategy)]
            between()
            return [*ids, generate_value(id_strategy)]

    assert mint(reseed) == mint(lambda: None)
