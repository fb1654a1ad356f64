"""Programs that transfer money, killed at any moment while others go on: each transfer is done whole or not at all."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.behaviour.conftest import STORES
from tests.chaos.programs import Program, check_file
from tests.chaos.transfers import ACCOUNTS, START, Account, total

from mintkey import connect

pytestmark = pytest.mark.slow

#: How many programs are killed in a short run, and after how many transfers.
KILLS = {"sqlite": 2, "redis": 1, "redis-cluster": 1, "dynamodb": 1}
TRANSFERS = (1, 40)
#: In a long run.
MANY_KILLS = 50


@pytest.fixture(params=KILLS)
def url(request, tmp_path) -> Iterator[str]:
    address = STORES[request.param](tmp_path)
    with connect(address):
        Account.create_table()
        for name in ACCOUNTS:
            Account.create(bank="b", name=name, balance=START)
        yield address
        if request.param != "sqlite":
            Account.delete_table()
    if request.param == "sqlite":
        check_file(address)


def test_the_sum_never_changes(request, url, seed, times):
    kills = KILLS[request.node.callspec.params["url"]] if times == 1 else max(MANY_KILLS, times)
    chance, ended = random.Random(seed), threading.Event()

    def watch() -> int:
        looks = 0
        while not ended.is_set():
            assert total() == START * len(ACCOUNTS)
            looks += 1
        return looks

    def start(number: int) -> Program:
        kind = "async" if number % 2 else "blocking"
        return Program("transfers", url, f"p{number}", f"{seed} {number}", kind)

    programs = [start(0)]
    with ThreadPoolExecutor(1) as threads:
        watching = threads.submit(watch)
        try:
            # There are always two of them, so that one continues when the other is killed.
            for number in range(1, kills + 1):
                programs.append(start(number))
                programs[-1].run(1)
                programs[-2].run(chance.randrange(*TRANSFERS))
                programs[-2].kill()
            programs[-1].run(chance.randrange(*TRANSFERS))
        finally:
            for program in programs:
                program.kill()
            ended.set()
        assert watching.result() > 0
    assert total() == START * len(ACCOUNTS)
