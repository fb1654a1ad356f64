"""Limits in whole programs: with the real clock, signals, threads and forks. Each wait here would take hours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PATIENCE = 60

BEGIN = """
import asyncio, os, threading
from mintkey import Model, connect
from mintkey.attributes import StringAttribute
from mintkey.rate_limit import FixedRate, Time

class Note(Model):
    id = StringAttribute(partition_key=True)

limit = FixedRate(wcu=0.0001, burst=1)
connect("sqlite://", rate_limit=limit)
Note(id="first").save()
"""


def run(program: str) -> str:
    """What a program prints that has to end by itself."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + program],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ctrl_c_ends_a_wait_and_gives_its_units_back():
    program = """
import signal
import time

# A shell starts what runs in the background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def sleep(seconds):
    print("waiting", flush=True)
    time.sleep(seconds)

limit._time = Time()._replace(sleep=sleep)
try:
    Note(id="second").save()
except KeyboardInterrupt:
    print(limit.consumed_wcu, len(limit._write._waiting), [note.id for note in Note.scan()])
"""
    with subprocess.Popen([sys.executable, "-c", BEGIN + program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert told.replace("waiting\n", "") == "1.0 0 ['first']\n"


def test_a_thread_that_waits_stops_neither_others_nor_the_end():
    program = """
waiting = threading.Thread(target=lambda: Note(id="second").save(), daemon=True)
waiting.start()
while not limit._write._waiting:
    pass
print([note.id for note in Note.scan()], waiting.is_alive())
"""
    assert run(program) == "['first'] True\n"


def test_a_task_that_waits_can_be_cancelled_and_leaves_nothing():
    program = """
async def main():
    waiting = asyncio.create_task(Note(id="second").asave())
    while not limit._write._waiting:
        await asyncio.sleep(0)
    print([note.id async for note in Note.scan()], waiting.done())
    waiting.cancel()
    try:
        await waiting
    except asyncio.CancelledError:
        print(limit.consumed_wcu, len(limit._write._waiting))

asyncio.run(main())
"""
    assert run(program) == "['first'] False\n1.0 0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_does_not_wait_for_the_waits_of_its_parent():
    program = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside a thread, which is the point here

limit = FixedRate(wcu=1000, burst=1)
connect("sqlite://", rate_limit=limit)
large = threading.Thread(target=lambda: Note.batch_save([Note(id=str(n)) for n in range(500)]), daemon=True)
held = threading.Event()
limit._time = Time()._replace(sleep=lambda seconds: held.wait())
large.start()
while not limit._write._waiting:
    pass
child = os.fork()
if child == 0:
    limit._time = Time(sleep=lambda seconds: os._exit(7 if seconds > 0.1 else 0))
    Note(id="of the child").save()
    os._exit(0)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
limit._time = Time()
held.set()
large.join()
print(Note.count())
"""
    assert run(program) == "0\n500\n"
