"""A program that takes long to give AWS credentials: forks, signal handlers and Ctrl-C in the meantime.

Each program below has its own process: AWS's libraries read the environment and the files of theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")]

# Long enough for a busy machine; a program that waits for itself would wait for ever.
HANG = 60

# `waiting()` returns when the program of the profile runs, which then waits for `let_go()`.
START = """
import os, pathlib, signal, sys, threading

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import MintkeyError

class Row(Model):
    model_config = ModelConfig(table="rows")
    pk = StringAttribute(partition_key=True)

home = pathlib.Path.home()

def attempt():
    try:
        return str(Row.get(pk="a"))
    except MintkeyError as error:
        return f"{type(error).__name__}/{getattr(error, 'outcome', None)}"

def waiting():
    while not (home / "runs").exists():
        threading.Event().wait(0.01)

def let_go():
    (home / "go").touch()

def in_child(call):
    pid = os.fork()
    if pid == 0:
        # In one piece: several children write to the same pipe.
        os.write(1, f"child: {call()}\\n".encode())
        os._exit(0)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

connect(sys.argv[1])
"""

# The child finds credentials of its own, and so the program of the profile runs again.
FORK = """
results = []
other = threading.Thread(target=lambda: results.append(attempt()))
other.start()
waiting()
pids = [in_child(lambda: (let_go(), attempt())[1]) for _ in range(3)]
print([ended(pid) for pid in pids])
let_go()
other.join()
print("parent:", *results)
"""

FORK_IN_A_HANDLER = """
forks = []

def fork(*_):
    forks.append(os.fork())
    let_go()

signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.3)
first = attempt()
if forks == [0]:
    print("child:", first, "then", attempt(), flush=True)
    os._exit(0)
print(ended(forks[0]))
print("parent:", first)
"""

# The handler cannot wait for the call that it has interrupted.
CALL_IN_A_HANDLER = """
results = []

def call(*_):
    let_go()
    results.append(attempt())

signal.signal(signal.SIGALRM, call)
signal.setitimer(signal.ITIMER_REAL, 0.3)
results.append(attempt())
print(*results)
"""

CTRL_C = """
signal.setitimer(signal.ITIMER_REAL, 0.3)
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    attempt()
except KeyboardInterrupt:
    print("interrupted")
let_go()
print(attempt())
"""


class NoRows(BaseHTTPRequestHandler):
    """A server of DynamoDB without rows."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-amz-json-1.0")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NoRows) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def run(program: str, port: int, home: Path) -> list[str]:
    """The lines that a program writes."""
    keys = json.dumps({"Version": 1, "AccessKeyId": "key", "SecretAccessKey": "hush"})
    (home / ".aws").mkdir()
    command = f"touch ~/runs; until [ -e ~/go ]; do sleep 0.05; done; echo '{keys}'"
    (home / ".aws/config").write_text(f"[default]\ncredential_process = {command}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + program),
            f"dynamodb://us-east-1?endpoint=http://127.0.0.1:{port}&timeout=30",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "HOME": str(home),
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_fork(port, tmp_path):
    lines = run(FORK, port, tmp_path)
    assert sorted(lines) == ["[0, 0, 0]", *["child: None"] * 3, "parent: None"]


def test_a_fork_in_a_signal_handler(port, tmp_path):
    lines = run(FORK_IN_A_HANDLER, port, tmp_path)
    assert lines == ["child: StoreUnavailable/unknown then None", "0", "parent: None"]


def test_a_call_in_a_signal_handler(port, tmp_path):
    assert run(CALL_IN_A_HANDLER, port, tmp_path) == ["None None"]


def test_ctrl_c(port, tmp_path):
    assert run(CTRL_C, port, tmp_path) == ["interrupted", "None"]
