"""Forked processes: nothing is minted twice, whoever forks, also within one tick."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.ids.children import mint_in_children

from mintkey.generators import AutoGenerate, generate_many, generate_value, parse, ulid
from mintkey.testing import frozen

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def libc_fork() -> int:
    pid: int = ctypes.CDLL(None).fork()
    return pid


FORKS = [pytest.param(os.fork, id="os.fork"), pytest.param(libc_fork, id="libc.fork")]


@contextlib.contextmanager
def running_clock() -> Iterator[None]:
    yield


@pytest.mark.slow
@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize(
    "clock",
    [
        pytest.param(running_clock, id="running"),
        pytest.param(lambda: frozen("2024-01-01"), id="frozen"),
        pytest.param(lambda: frozen("2024-01-01", seed=1), id="seeded"),
    ],
)
def test_eight_workers_of_five_thousand(
    id_strategy: AutoGenerate, fork: Callable[[], int], clock: Callable[[], contextlib.AbstractContextManager[object]]
) -> None:
    with clock():
        generate_value(id_strategy)
        minted = mint_in_children(fork, 8, lambda: generate_many(id_strategy, 5_000))
    assert len(minted) == 9 * 5_000
    assert len(set(minted)) == len(minted)


def test_a_grandchild_is_another_process_too(id_strategy: AutoGenerate) -> None:
    read, write = os.pipe()
    with frozen("2024-01-01", seed=2):
        minted = [str(generate_value(id_strategy))]
        if (child := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                if (grandchild := os.fork()) != 0:
                    os.waitpid(grandchild, 0)
                os.write(write, f"{generate_value(id_strategy)}\n".encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        with os.fdopen(read) as lines:
            minted += lines.read().split()
    assert len(set(minted)) == 3


def test_a_seeded_child_repeats_too() -> None:
    def mint_in_a_child() -> list[str]:
        with frozen("2024-01-01", seed=3):
            return mint_in_children(os.fork, 2, lambda: generate_many("ulid", 5))

    assert mint_in_a_child() == mint_in_a_child()


def mint_and_send(strategy: AutoGenerate) -> list[object]:
    return generate_many(strategy, 2_000)


@pytest.mark.slow
def test_multiprocessing(id_strategy: AutoGenerate) -> None:
    generate_value(id_strategy)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        minted = [value for ids in pool.map(mint_and_send, [id_strategy] * 8) for value in ids]
    assert len(set(minted)) == 8 * 2_000


@pytest.mark.slow
def test_a_fork_while_other_threads_mint_leaves_no_lock_behind() -> None:
    """(By `os.fork`, which holds the GIL: without it a child of other running threads never gets the GIL back.)"""
    stop = threading.Event()

    def mint() -> None:
        while not stop.is_set():
            generate_many("ulid", 1_000)

    threads = [threading.Thread(target=mint) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if len(ulid()) == 26 else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_the_parent_goes_on_in_order() -> None:
    before = ulid()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert before < ulid()


@pytest.mark.skipif(sys.platform != "linux", reason="the process bits are compared with the pid")
def test_the_process_part_of_an_xid_is_the_childs() -> None:
    mine = parse(generate_value("xid")).process
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(parse(generate_value("xid")).process).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as told:
        assert int(told.read()) == pid & 0xFFFF
    assert mine == os.getpid() & 0xFFFF
