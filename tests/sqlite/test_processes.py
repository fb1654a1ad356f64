"""Several threads and processes on one file: acknowledged rows survive, whichever process dies."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import KeyCollision, VersionConflict


class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    who = StringAttribute()


class Account(Model):
    pk = StringAttribute(partition_key=True)
    balance = NumberAttribute()
    version = VersionAttribute()


def together(*bodies) -> None:
    """Runs functions at once, each in a thread; what one raises is raised here."""
    ready = threading.Barrier(len(bodies))
    raised: list[BaseException] = []

    def run(body) -> None:
        ready.wait()
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("address", ["file", "memory"])
def test_many_threads_write_and_read(url, address):
    with connect(url if address == "file" else "sqlite://"):

        def work() -> None:
            for number in range(100):
                row = Row(n=number)
                row.save()
                assert Row.get(pk=row.pk) == row

        together(*[work] * 8)
        assert Row.count() == 800
        assert Counter(row.n for row in Row.scan()) == dict.fromkeys(range(100), 8)


def test_the_first_writes_of_many_threads_make_one_table(url):
    with connect(url):
        together(*(lambda n=n: Row(pk=str(n)).save() for n in range(8)))
        assert Row.count() == 8


def test_of_many_inserts_of_one_key_one_wins(store):
    won: list[int] = []

    def work(number: int) -> None:
        try:
            Row.create(pk="same", n=number)
        except KeyCollision:
            return
        won.append(number)

    together(*(lambda n=n: work(n) for n in range(8)))
    stored = Row.get(pk="same")
    assert stored is not None
    assert won == [stored.n]


def add_one(times: int) -> None:
    """Reads, adds one and saves, until each has succeeded."""
    done = 0
    while done < times:
        account = Account.get(pk="a")
        assert account is not None
        account.balance = (account.balance or 0) + 1
        try:
            account.save()
        except VersionConflict:
            continue
        done += 1


def test_versions_lose_no_update_between_threads(store):
    Account(pk="a", balance=0).save()
    together(*[lambda: add_one(25)] * 4)
    account = Account.get(pk="a")
    assert account is not None
    assert (account.balance, account.version) == (100, 101)


@pytest.mark.slow
def test_versions_lose_no_update_between_processes(store, start):
    Account(pk="a", balance=0).save()
    body = """
class Account(Model):
    pk = StringAttribute(partition_key=True)
    balance = NumberAttribute()
    version = VersionAttribute()

done = 0
while done < 50:
    account = Account.get(pk="a")
    account.balance += 1
    try:
        account.save()
    except VersionConflict:
        continue
    done += 1
"""
    programs = [start(body) for _ in range(3)]
    add_one(50)
    for program in programs:
        _, stderr = program.communicate(timeout=60)
        assert program.returncode == 0, stderr
    account = Account.get(pk="a")
    assert account is not None
    assert (account.balance, account.version) == (200, 201)


@pytest.mark.slow
def test_several_processes_write_at_once(store, start):
    body = """
async def main():
    for number in range(20):
        await asyncio.gather(*(Row(n=number, who=sys.argv[2]).asave() for _ in range(10)))

for number in range(100):
    Row(n=number, who=sys.argv[2]).save()
asyncio.run(main())
connect(sys.argv[1]).close()
"""
    programs = [start(body, who) for who in range(4)]
    for program in programs:
        _, stderr = program.communicate(timeout=60)
        assert program.returncode == 0, stderr
        assert stderr == ""
    assert Counter(row.who for row in Row.scan()) == {str(who): 300 for who in range(4)}


WRITER = """
print("ready", flush=True)
number = 0
while True:
    row = Row(n=number, who=sys.argv[2])
    row.save()
    print(row.pk, number, flush=True)
    number += 1
"""
ASYNC_WRITER = """
async def write(number):
    row = Row(n=number, who=sys.argv[2])
    await row.asave()
    print(row.pk, number, flush=True)

async def main():
    print("ready", flush=True)
    for start in range(0, 10**9, 16):
        await asyncio.gather(*map(write, range(start, start + 16)))

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("body", "times"), [(WRITER, 14), (ASYNC_WRITER, 6)], ids=["blocking", "async"])
def test_every_acknowledged_row_survives_kill_minus_nine(url, start, body, times):
    acknowledged: dict[str, int] = {}
    for attempt in range(times):
        program = start(body, attempt)
        assert program.stdout.readline() == "ready\n", program.stderr.read()
        # At a different moment each time, in the middle of the writing.
        for _ in range(1 + 7 * attempt):
            key, number = program.stdout.readline().split()
            acknowledged[key] = int(number)
        program.kill()
        for line in program.stdout.read().splitlines(keepends=True):
            # The last line may be incomplete: the program prints word by word.
            if line.endswith("\n") and len(words := line.split()) == 2:
                acknowledged.setdefault(words[0], int(words[1]))
        program.wait()
        with connect(url):
            stored = {row.pk: row.n for row in Row.scan()}
        missing = acknowledged.keys() - stored.keys()
        assert not missing
        assert all(stored[key] == number for key, number in acknowledged.items())


def test_a_reader_does_not_wait_for_a_writer_of_another_process(store, start):
    Row(pk="a", n=1).save()
    holder = start("""
raw = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"), isolation_level=None)
raw.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
raw.close()
""")
    assert holder.stdout.readline() == "held\n"
    assert Row.get(pk="a") is not None
    assert Row.count() == 1
    assert [row.n for row in Row.scan()] == [1]


def test_nothing_is_left_open_or_running_after_close(program):
    output = program("""
def open_files():
    found = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink("/proc/self/fd/" + entry))
        except FileNotFoundError:
            pass
    return [name for name in found if "test.db" in name or "eventfd" in name]

def threads():
    return len(os.listdir("/proc/self/task"))

def wait_for(condition):
    for _ in range(5_000):
        if condition():
            break
        threading.Event().wait(0.001)

async def work():
    await asyncio.gather(*(Row(n=n).asave() for n in range(64)))
    await asyncio.gather(*(Row.acount() for n in range(16)))

before = threads()
store = connect(sys.argv[1])
Row(n=1).save()
asyncio.run(work())
# The thread that woke the event loop may release the descriptor a moment later.
wait_for(lambda: not any("eventfd" in name for name in open_files()))
assert [name for name in open_files() if "eventfd" in name] == [], open_files()
Row.count()
store.close()
# A thread reports its end a moment before the system removes it.
wait_for(lambda: threads() == before)
print(open_files(), threads() - before)
""")
    assert output == "[] 0\n"


def test_a_store_that_is_never_closed_ends_quietly(program):
    program("""
Row(n=1).save()
async def work():
    await asyncio.gather(*(Row(n=n).asave() for n in range(64)))
asyncio.run(work())
""")


def test_no_blocking_call_starts_a_thread(program):
    output = program("""
def threads():
    return len(os.listdir("/proc/self/task"))
before = threads()
for n in range(10):
    row = Row(n=n)
    row.save()
    Row.get(pk=row.pk)
    list(Row.scan())
print(threads() - before)
""")
    assert output == "0\n"
