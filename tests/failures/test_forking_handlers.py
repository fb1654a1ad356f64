"""A signal handler that forks while a blocking call of its thread waits: both processes end in time, with a result.

The parent's call goes on. The child's raises an error of the package, or ends the child where it could do harm.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import StringAttribute

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")]

FORKS = {"python": "os.fork()", "libc": "ctypes.PyDLL(None).fork()"}
#: The first argument is the store's address, the second what to do while the signal comes. With a third, another thread
#: writes already.
PROGRAM = """
import ctypes, os, signal, sys, threading
from mintkey import Model, ModelConfig, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import BatchIncomplete, MintkeyError

class Row(Model):
    model_config = ModelConfig(table="rows")
    pk = StringAttribute(partition_key=True)

def attempt(call):
    try:
        return str(call())
    except BatchIncomplete as error:
        return f"BatchIncomplete/{sorted({reason.outcome for _, reason in error.failed})}"
    except MintkeyError as error:
        return f"{type(error).__name__}/{getattr(error, 'outcome', None)}"

def fork_again():
    # What the handler left behind must not keep a later fork waiting.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

forks = []
def fork_now(*_):
    forks.append(FORK)
    if marker := os.environ.get("MARKER"):
        open(marker, "w").close()

signal.signal(signal.SIGALRM, fork_now)
connect(sys.argv[1])
call = {
    "save": lambda: Row(pk="slow").save(),
    "get": lambda: Row.get(pk="slow"),
    # The second row of a key is sent after the first.
    "batch": lambda: Row.batch_save(Row(pk=f"slow {n % 40}") for n in range(80)),
}[sys.argv[2]]
if len(sys.argv) == 4:
    # Another thread has the connection that writes, so that this one waits in the queue.
    threading.Thread(target=attempt, args=(Row(pk="other").save,), daemon=True).start()
    while not any(
        frame.f_code.co_name == "run" and frame.f_code.co_filename.endswith("stores.py")
        for frame in sys._current_frames().values()
    ):
        threading.Event().wait(0.01)
    threading.Event().wait(0.1)
signal.setitimer(signal.ITIMER_REAL, 0.3)
first = attempt(call)
fork_again()
if forks == [0]:
    os.write(1, f"child: {first}, then {attempt(call)}\\n".encode())
    os._exit(0)
status = os.waitpid(forks[0], 0)[1]
print("parent:", first, "child ended with", os.waitstatus_to_exitcode(status))
"""
#: A condition that SQLite never finishes to look at.
ENDLESS = "(SELECT max(x) FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c)) > 0"


class Row(Model):
    model_config = ModelConfig(table="rows")
    pk = StringAttribute(partition_key=True)


def run(fork: str, url: str, *call: str, **environment: str) -> tuple[list[str], str]:
    """The lines that parent and child wrote, and their complaints."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore::DeprecationWarning"),
            *("-c", PROGRAM.replace("FORK", FORKS[fork]), url, *(call or ["save"])),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", **environment},
    )
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines()), done.stderr


@pytest.fixture
def path(tmp_path) -> Path:
    """A database with the table and nothing in it."""
    with connect(f"sqlite:///{tmp_path}/test.db"):
        Row.create_table()
    return Path(tmp_path / "test.db")


@contextmanager
def silent_server(url: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield url.format(port=silent.getsockname()[1])


@pytest.mark.parametrize("fork", FORKS)
@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:{port}?timeout=1.5",
        "dynamodb://us-east-1?endpoint=http://127.0.0.1:{port}&timeout=1.5",
    ],
    ids=["redis", "dynamodb"],
)
def test_while_a_server_says_nothing(url, fork):
    with silent_server(url) as address:
        lines, complaints = run(fork, address)
    assert [line.split("/")[0] for line in lines] == ["child: StoreUnavailable", "parent: StoreTimeout"]
    assert "then StoreTimeout/" in lines[0]
    assert lines[1].endswith("child ended with 0")
    assert complaints == ""


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:{port}?timeout=1.5",
        "dynamodb://us-east-1?endpoint=http://127.0.0.1:{port}&timeout=1.5",
    ],
    ids=["redis", "dynamodb"],
)
def test_a_batch_while_a_server_says_nothing(url):
    with silent_server(url) as address:
        lines, complaints = run("python", address, "batch")
    # The parent sends the rest of the batch, so the child knows nothing of any row.
    assert lines[0].startswith("child: BatchIncomplete/['unknown'], then BatchIncomplete/")
    assert lines[1].startswith("parent: BatchIncomplete/")
    assert lines[1].endswith("child ended with 0")
    assert complaints == ""


@pytest.mark.parametrize("fork", FORKS)
def test_a_response_after_the_fork_is_the_parents(fork, tmp_path):
    forked = tmp_path / "forked"
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=answer_once, args=(server, forked), daemon=True)
        answering.start()
        url = f"dynamodb://us-east-1?endpoint=http://127.0.0.1:{server.getsockname()[1]}&timeout=5"
        lines, complaints = run(fork, url, "get", MARKER=str(forked))
        answering.join(60)
    assert lines[0].startswith("child: StoreUnavailable/")
    assert lines[1] == "parent: Row(pk='slow') child ended with 0"
    assert complaints == ""


def answer_once(server: socket.socket, forked: Path) -> None:
    """Respond to one request when its process has forked. Others get no connection."""
    client, _ = server.accept()
    server.close()
    client.recv(65536)
    while not forked.exists():
        threading.Event().wait(0.01)
    body = b'{"Item":{"pk":{"S":"slow"}}}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: %d\r\n\r\n" % len(body)
    client.sendall(head + body)
    # The parent closes its end at last.
    client.recv(1)
    client.close()


@pytest.mark.parametrize("fork", FORKS)
def test_while_sqlite_waits_for_a_lock(path, fork):
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        lines, complaints = run(fork, f"sqlite:///{path}?timeout=1.5")
    assert lines == [
        "child: StoreUnavailable/unknown, then StoreUnavailable/not_applied",
        "parent: StoreTimeout/not_applied child ended with 0",
    ]
    assert complaints == ""


@pytest.mark.parametrize("fork", FORKS)
def test_while_another_thread_writes_to_sqlite(path, fork):
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        lines, complaints = run(fork, f"sqlite:///{path}?timeout=3", "save", "beside another")
    # Nothing of SQLite was in use at the fork, so the child can use the store.
    assert lines == [
        "child: StoreUnavailable/unknown, then StoreTimeout/not_applied",
        "parent: StoreTimeout/not_applied child ended with 0",
    ]
    assert complaints == ""


@pytest.mark.parametrize("fork", FORKS)
def test_in_the_middle_of_a_write_to_sqlite(path, fork):
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(f"CREATE TRIGGER slow BEFORE INSERT ON rows BEGIN SELECT {ENDLESS}; END")
    lines, complaints = run(fork, f"sqlite:///{path}?timeout=1.5")
    # To roll back in the child, or to continue there, would change the log that the parent writes.
    assert lines == [f"parent: StoreTimeout/not_applied child ended with {-signal.SIGABRT}"]
    assert "a signal handler forked in the middle of a write to SQLite" in complaints
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TRIGGER slow")
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with connect(f"sqlite:///{path}"):
        Row(pk="slow").save()
        assert Row.count() == 1


@pytest.mark.parametrize("fork", FORKS)
def test_in_the_middle_of_a_read_from_sqlite(path, fork):
    with connect(f"sqlite:///{path}"):
        Row(pk="slow").save()
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(
            f"ALTER TABLE rows RENAME TO kept; CREATE VIEW rows AS SELECT * FROM kept, (SELECT 1) WHERE {ENDLESS};"
        )
    lines, complaints = run(fork, f"sqlite:///{path}?timeout=1.5", "get")
    assert lines == [
        "child: StoreUnavailable/unknown, then StoreUnavailable/not_applied",
        "parent: StoreTimeout/not_applied child ended with 0",
    ]
    assert complaints == ""
