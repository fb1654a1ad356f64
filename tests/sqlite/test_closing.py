"""What a store leaves behind: closed amid writes, dropped without being closed, and at the end of the program."""

from __future__ import annotations

import pytest

from mintkey import Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute


class Row(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    who = StringAttribute()


# Threads write until the store is closed; daemons, because one that hangs must not hold up the end of the program.
BUSY = """
import atexit
busy = threading.Barrier(5)
saved, threads = [], []

def save(name):
    for number in range(10**9):
        Row(pk=f"{name}-{number}").save()
        saved.append(f"{name}-{number}")
        if number == 5:
            busy.wait()

async def asave(name):
    for number in range(10**9):
        await Row(pk=f"{name}-{number}").asave()
        saved.append(f"{name}-{number}")
        if number == 5:
            busy.wait()

def until_closed(work):
    try:
        work()
    except ConfigurationError:
        pass

def start():
    for name in "ab":
        for work in (lambda name=name: save(name), lambda name=name: asyncio.run(asave(name * 2))):
            threads.append(threading.Thread(target=until_closed, args=(work,), daemon=True))
            threads[-1].start()
    busy.wait()

def end():
    for thread in threads:
        thread.join()
    print(*saved, flush=True)
"""

WAYS = {
    "with": "with connect(url):\n    start()\nend()",
    "close": "store = connect(url)\nstart()\nstore.close()\nend()",
    "aclose": "store = connect(url)\nstart()\nasyncio.run(store.aclose())\nend()",
    "at exit": "atexit.register(end)\nstore = connect(url)\natexit.register(store.close)\nstart()",
}


@pytest.mark.parametrize("address", ["file", "memory"])
@pytest.mark.parametrize("way", WAYS)
def test_a_program_that_closes_while_its_threads_write_ends(program, url, way, address):
    """What fails here is the timeout of `program`."""
    where = "sys.argv[1]" if address == "file" else "'sqlite://'"
    output = program(f"url = {where} + '?sync=normal&timeout=60'\n{BUSY}\n{WAYS[way]}")
    if address == "file":
        with connect(url):
            assert set(output.split()) == {row.pk for row in Row.scan()}


def test_a_store_that_is_dropped_leaves_nothing_open(program):
    output = program("""
import gc, time
from pathlib import Path

path = Path(sys.argv[1].removeprefix("sqlite:///"))

def threads():
    return sorted(task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir())

def left():
    found = [str(file.name) for file in path.parent.iterdir() if file != path]
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if str(path.parent) in target:
            found.append(target)
    return found + [name for name in threads() if name.startswith("mintkey")]

async def use():
    await asyncio.gather(*(Row(n=n).asave() for n in range(20)))
    assert len([row async for row in Row.ascan()]) >= 20

for _ in range(3):
    store = connect(sys.argv[1])
    Row(n=0).save()
    assert Row.get(pk="none") is None
    asyncio.run(use())
    assert any("mintkey" in name for name in threads())
    # Another takes its name, and nothing else holds it.
    connect("sqlite://")
    del store
    Row(n=1).save()  # models know the store that they used last
    gc.collect()
    while left():
        time.sleep(0.01)
print("nothing")
""")
    assert output == "nothing\n"
