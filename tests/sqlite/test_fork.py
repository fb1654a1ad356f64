"""Fork: parent and child go on, each with connections of its own, and nothing that was acknowledged is lost."""

from __future__ import annotations

import pytest

from mintkey import Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute

pytestmark = pytest.mark.slow


class Row(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    who = StringAttribute()


def stored(url: str) -> list[str]:
    with connect(url):
        return sorted(f"{row.who}{row.n}" for row in Row.scan())


FORKS = {"os.fork": "pid = os.fork()", "libc.fork": "pid = ctypes.PyDLL(None).fork()"}
# The child waits until the parent has closed, so that it writes after the parent's last access to the file.
BOTH_GO_ON = """
store = connect(sys.argv[1])
for n in range(10):
    Row(n=n, who="before").save()
closed, tell = os.pipe()
{fork}
if pid == 0:
    try:
        os.close(tell)
        Row(n=0, who="child").save()
        os.read(closed, 1)
        for n in range(1, 100):
            Row(n=n, who="child").save()
        assert Row.count() == 120, Row.count()
        store.close()
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)
for n in range(10):
    Row(n=n, who="parent").save()
store.close()
os.close(tell)
os.close(closed)
_, status = os.waitpid(pid, 0)
assert status == 0, status
"""


@pytest.mark.parametrize("fork", FORKS)
def test_the_parent_closes_and_the_child_goes_on(url, program, fork):
    program(BOTH_GO_ON.format(fork=FORKS[fork]))
    expected = [f"before{n}" for n in range(10)] + [f"child{n}" for n in range(100)] + [f"parent{n}" for n in range(10)]
    assert stored(url) == sorted(expected)


def test_the_same_program_without_opening_anew_loses_rows(path, program):
    """What would happen otherwise: the stdlib's connection, taken over a fork as it is."""
    output = program("""
path = sys.argv[1].removeprefix("sqlite:///")
raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
raw.execute("PRAGMA journal_mode=wal")
raw.execute("CREATE TABLE t (x)")
raw.execute("INSERT INTO t VALUES (0)")
closed, tell = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(tell)
    os.read(closed, 1)
    for n in range(100):
        raw.execute("INSERT INTO t VALUES (?)", (n,))
    os._exit(0)
raw.close()
os.close(tell)
os.waitpid(pid, 0)
again = sqlite3.connect(path)
print(again.execute("SELECT count(*) FROM t").fetchone()[0])
again.close()
""")
    assert int(output) < 101, "SQLite itself no longer has the fault that the test above covers"


def test_the_child_dies_and_the_parent_goes_on(url, program):
    program("""
store = connect(sys.argv[1])
Row(n=0, who="before").save()
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        Row(n=0, who="child").save()
        os.kill(os.getpid(), signal.SIGKILL)
    Row(n=1, who="parent").save()
    os.waitpid(pid, 0)
    Row(n=2, who="parent").save()
store.close()
""")
    assert stored(url).count("child0") == 5
    assert len(stored(url)) == 16


def test_multiprocessing_with_fork(url, program):
    program("""
def work(who):
    for n in range(25):
        Row(n=n, who=str(who)).save()
    return Row.count(who=str(who))

store = connect(sys.argv[1])
Row(n=0, who="before").save()
with multiprocessing.get_context("fork").Pool(4) as pool:
    assert pool.map(work, range(8)) == [25] * 8
    pool.close()
    pool.join()
assert Row.count() == 201, Row.count()
store.close()
""")
    assert len(stored(url)) == 201


def test_a_fork_while_other_threads_write(url, program):
    program("""
store = connect(sys.argv[1])
stop = threading.Event()
wrote = []

def work():
    while not stop.is_set():
        Row(n=1, who="thread").save()
        wrote.append(1)

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
children = []
for number in range(10):
    pid = os.fork()
    if pid == 0:
        try:
            for n in range(5):
                Row(n=n, who="child").save()
            assert Row.count(who="child") >= 5
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
assert Row.count(who="child") == 50, Row.count(who="child")
assert Row.count(who="thread") == len(wrote)
store.close()
""")
    assert stored(url).count("child0") == 10


def test_a_fork_while_tasks_write_and_the_child_uses_a_loop_of_its_own(url, program):
    program("""
store = connect(sys.argv[1])

async def child():
    await asyncio.gather(*(Row(n=n, who="child").asave() for n in range(20)))
    assert await Row.acount(who="child") == 20

async def main():
    tasks = [asyncio.ensure_future(Row(n=n, who="parent").asave()) for n in range(50)]
    await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.events._set_running_loop(None)
            asyncio.set_event_loop(None)
            asyncio.run(child())
            Row(n=99, who="child").save()
            code = 0
        except BaseException as error:
            os.write(2, repr(error).encode())
        os._exit(code)
    await asyncio.gather(*tasks)
    assert os.waitpid(pid, 0)[1] == 0
    assert await Row.acount(who="parent") == 50
    assert await Row.acount(who="child") == 21

asyncio.run(main())
store.close()
""")
    assert len(stored(url)) == 71


def test_a_store_in_memory_is_kept_by_both(program):
    output = program("""
store = connect("sqlite://")
for n in range(3):
    Row(n=n, who="before").save()
pid = os.fork()
Row(n=9, who="child" if pid == 0 else "parent").save()
assert Row.count() == 4
assert Row.count(who="before") == 3
if pid == 0:
    assert Row.count(who="parent") == 0
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert Row.count(who="child") == 0
print("both")
""")
    assert output == "both\n"


def test_a_store_closed_by_the_parent_before_the_fork_is_closed_in_the_child(program):
    program("""
store = connect(sys.argv[1])
Row(n=1).save()
store.close()
pid = os.fork()
if pid == 0:
    try:
        Row(n=2).save()
    except ConfigurationError:
        os._exit(0)
    os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
""")


def test_a_result_that_is_being_read_goes_on_in_both(program):
    output = program("""
for n in range(300):
    Row(pk=f"{n:03}", n=n).save()
reading = iter(Row.scan())
first = [next(reading).n for _ in range(100)]
pid = os.fork()
rest = [row.n for row in reading]
assert sorted(first + rest) == list(range(300)), len(rest)
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print("both")
""")
    assert output == "both\n"
