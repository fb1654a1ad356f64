"""Calls that have to wait: a locked database, Ctrl-C, signals with handlers of their own."""

from __future__ import annotations

import pytest

from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import StoreTimeout


class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    who = StringAttribute()


class Account(Model):
    pk = StringAttribute(partition_key=True)
    balance = NumberAttribute(on_update=AutoGenerate.EPOCH_MS)
    note = StringAttribute()
    version = VersionAttribute()


HOLDER = """
raw = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"), isolation_level=None)
raw.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
raw.close()
"""


@pytest.fixture
def locked(url, start):
    """The database, held by another program until the test calls what this gives."""
    with connect(url):
        Row(pk="a", n=1).save()
    holder = start(HOLDER)
    assert holder.stdout.readline() == "held\n"

    def release() -> None:
        holder.communicate("release\n")

    return release


async def test_a_locked_database_is_a_timeout_with_a_known_outcome(url, locked):
    with connect(f"{url}?timeout=0.2"):
        row = Row(n=2)
        for _ in range(2):
            with pytest.raises(StoreTimeout, match="locked") as caught:
                row.save()
            assert isinstance(caught.value, TimeoutError)
            assert caught.value.outcome == "not_applied"
            with pytest.raises(StoreTimeout) as caught:
                await row.asave()
            assert caught.value.outcome == "not_applied"
        kept = row.pk
        assert kept is not None
        assert row.is_dirty
        assert Row.count() == 1
    locked()
    with connect(url):
        row.save()
        assert row.pk == kept
        assert Row.count() == 2


def test_a_timeout_rolls_back_version_and_on_update(url, start):
    with connect(url):
        account = Account(pk="a", note="x")
        account.save()
    holder = start(HOLDER)
    assert holder.stdout.readline() == "held\n"
    with connect(f"{url}?timeout=0.1"):
        account.note = "y"
        before = account.to_dict()
        for call in (account.save, lambda: account.update(note="z"), account.delete):
            with pytest.raises(StoreTimeout):
                call()
            assert account.to_dict() == before
            assert account.changed == {"note"}
    holder.communicate("release\n")
    with connect(url):
        account.save()
        assert account.version == 2
        assert Account.get(pk="a") == account


def test_every_waiting_thread_gets_a_timeout_of_its_own(url, locked):
    from concurrent.futures import ThreadPoolExecutor

    with connect(f"{url}?timeout=0.3"), ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(Row(n=n).save) for n in range(6)]
        errors = [future.exception() for future in waiting]
        assert [type(error) for error in errors] == [StoreTimeout] * 6
    locked()
    with connect(url), ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(Row(n=n).save) for n in range(6)]:
            future.result()
        assert Row.count() == 7


# A thread waits until the main thread is inside the store, then sends the signal.
SIGNALLED = """
RUNNING = {"run", "_execute_all", "close"}

def send(number):
    main = threading.main_thread().ident
    def wait():
        while True:
            frame = sys._current_frames().get(main)
            if frame is not None and frame.f_code.co_filename.endswith("stores.py") and frame.f_code.co_name in RUNNING:
                break
        # A moment more, so that the call has left Python behind.
        threading.Event().wait(0.05)
        signal.pthread_kill(main, number)
    threading.Thread(target=wait).start()

"""


@pytest.mark.slow
@pytest.mark.parametrize("call", ["row.save()", "row.update(n=5)", "row.delete()"])
def test_ctrl_c_ends_a_call_that_waits_for_the_lock(url, locked, start, call):
    program = start(
        SIGNALLED
        + f"""
store = connect(sys.argv[1] + "?timeout=3600")
row = Row.get(pk="a")
row.n = 2
send(signal.SIGINT)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", row.n, sorted(row.changed), flush=True)
sys.stdin.readline()
row.save()
Row(pk="b", n=3).save()
print(Row.count(), Row.get(pk="a").n, flush=True)
store.close()
"""
    )
    assert program.stdout.readline() == "interrupted 2 ['n']\n", program.stderr.read()
    locked()
    output, stderr = program.communicate("continue\n", timeout=60)
    assert output == "2 2\n", stderr


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_of_close(url, locked, start):
    program = start(
        SIGNALLED
        + """
import asyncio
store = connect(sys.argv[1] + "?timeout=3600")
row = Row(pk="b", n=2)
submitted = threading.Event()

async def save():
    saving = asyncio.ensure_future(row.asave())
    for _ in range(5):
        await asyncio.sleep(0)
    submitted.set()
    await saving

task = threading.Thread(target=lambda: asyncio.run(save()))
task.start()
submitted.wait()
send(signal.SIGINT)
try:
    store.close()
except KeyboardInterrupt:
    print("interrupted", flush=True)
task.join()
store.close()
with connect(sys.argv[1]):
    print(row.is_dirty, Row.count(), flush=True)
"""
    )
    assert program.stdout.readline() == "interrupted\n", program.stderr.read()
    locked()
    output, stderr = program.communicate(timeout=60)
    assert output == "False 2\n", stderr


@pytest.mark.slow
def test_ctrl_c_ends_a_pipeline_that_waits_for_the_lock(url, locked, start):
    program = start(
        SIGNALLED
        + """
store = connect(sys.argv[1] + "?timeout=3600")
row = Row.get(pk="a")
pipeline = mintkey.pipeline()
row.update(n=2, pipeline=pipeline)
for n in range(1200):
    Row.update_by_key(f"{n}", n=n, upsert=True, pipeline=pipeline)
send(signal.SIGINT)
try:
    pipeline.execute()
except KeyboardInterrupt:
    print("interrupted", row.n, flush=True)
sys.stdin.readline()
print(Row.count(), Row.get(pk="a").n, flush=True)
for n in range(1200):
    Row.update_by_key(f"{n}", n=n, upsert=True, pipeline=pipeline)
print(pipeline.execute(), Row.count(), flush=True)
store.close()
"""
    )
    assert program.stdout.readline() == "interrupted 1\n", program.stderr.read()
    locked()
    output, stderr = program.communicate("continue\n", timeout=60)
    assert output == "1 1\n1200 1201\n", stderr


@pytest.mark.slow
def test_ctrl_c_ends_a_long_read(url, program):
    output = program(
        SIGNALLED
        + """
store = connect(sys.argv[1] + "?timeout=3600")
Row(pk="first", n=1).save()
store.close()
raw = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"), isolation_level=None)
raw.execute('''INSERT INTO "^row" (pk, item)
    WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 400000)
    SELECT 'k' || x, '{"pk":"k' || x || '","n":' || x || '}' FROM c''')
raw.close()
store = connect(sys.argv[1] + "?timeout=3600")
interrupted = 0
for _ in range(3):
    send(signal.SIGINT)
    try:
        while True:
            Row.count(Row.n < 0)
    except KeyboardInterrupt:
        interrupted += 1
print(interrupted, Row.get(pk="first").n)
Row(pk="after", n=2).save()
print(Row.get(pk="after").n)
store.close()
"""
    )
    assert output == "3 1\n2\n"


@pytest.mark.slow
def test_a_signal_with_a_handler_interrupts_nothing_but_itself(url, locked, start):
    program = start(
        SIGNALLED
        + """
store = connect(sys.argv[1] + "?timeout=3600")
handled = []
def handler(number, frame):
    handled.append(number)
    print("handled", flush=True)
signal.signal(signal.SIGUSR1, handler)
Row.get(pk="a")
send(signal.SIGUSR1)
Row(pk="b", n=2).save()
print("saved", len(handled), Row.count(), flush=True)
store.close()
"""
    )
    assert program.stdout.readline() == "handled\n", program.stderr.read()
    locked()
    output, stderr = program.communicate(timeout=60)
    assert output == "saved 1 2\n", stderr


@pytest.mark.slow
def test_ctrl_c_in_one_thread_harms_no_other_writer(url, start):
    """The main thread is interrupted again and again while others write; each acknowledged row is there."""
    program = start(
        SIGNALLED
        + """
store = connect(sys.argv[1] + "?timeout=3600")
stop = threading.Event()
acknowledged = []

def work():
    while not stop.is_set():
        row = Row(n=1)
        row.save()
        acknowledged.append(row.pk)

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(20):
    row = Row(n=2)
    send(signal.SIGINT)
    try:
        while True:
            row = Row(n=2)
            row.save()
            acknowledged.append(row.pk)
    except KeyboardInterrupt:
        # Whatever became of it, the next save of the same instance ends with one row of it.
        row.save()
        # The interrupt may have come when the row was in the list already.
        if row.pk not in acknowledged:
            acknowledged.append(row.pk)
stop.set()
for thread in threads:
    thread.join()
stored = {row.pk for row in Row.scan()}
print(len(set(acknowledged) - stored), len(stored - set(acknowledged)), len(acknowledged) == len(set(acknowledged)))
store.close()
"""
    )
    output, stderr = program.communicate(timeout=100)
    assert program.returncode == 0, stderr
    missing, unknown, once = output.split()
    assert (missing, once) == ("0", "True")
    assert int(unknown) == 0


@pytest.mark.slow
def test_a_signal_handler_may_use_the_store(program):
    """In the middle of a write of the same thread it is either done or refused, and never a deadlock."""
    output = program("""
store = connect(sys.argv[1])
acknowledged = []

def handler(number, frame):
    row = Row(n=-1)
    try:
        row.save()
    except StoreUnavailable as error:
        assert error.outcome == "not_applied"
    else:
        acknowledged.append(row.pk)

signal.signal(signal.SIGALRM, handler)
for n in range(300):
    row = Row(n=n)
    # One signal for each save, at a different moment every time.
    signal.setitimer(signal.ITIMER_REAL, 0.00001 * (1 + n % 50))
    row.save()
    acknowledged.append(row.pk)
signal.setitimer(signal.ITIMER_REAL, 0)
print({row.pk for row in Row.scan()} == set(acknowledged), Row.count(Row.n >= 0))
store.close()
""")
    assert output == "True 300\n"
