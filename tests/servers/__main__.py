"""The servers that the tests work with, together.

    python tests/servers run COMMAND…    runs a command beside fresh ones, ended with it
    python tests/servers start           leaves them running, and prints what the tests want to see in the environment
    python tests/servers stop            ends those

Tests take the servers that the environment names; nothing is started in place of one that it names already.
"""

from __future__ import annotations

import fcntl
import os
import runpy
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

HERE = Path(__file__).parent
STARTED = HERE.parents[1] / "target" / "servers" / "started"

SERVERS = {
    "MINTKEY_TEST_REDIS": ("redis.py", "server"),
    "MINTKEY_TEST_REDIS_TLS": ("redis.py", "secure"),
    "MINTKEY_TEST_REDIS_CLUSTER": ("redis.py", "cluster"),
    "MINTKEY_TEST_DYNAMODB": ("dynamodb.py", "server"),
}


def addresses(servers: ExitStack) -> dict[str, str]:
    """Start what the environment does not name; gives the addresses of all."""
    known = {}
    for name, (file, kind) in SERVERS.items():
        known[name] = os.environ.get(name) or servers.enter_context(runpy.run_path(str(HERE / file))[kind]())
    return known


def run(command: list[str]) -> int:
    """Run a command beside the servers."""
    # A shell ignores Ctrl-C in what it starts in the background, and the tests of Ctrl-C would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with ExitStack() as servers:
        return subprocess.run(command, check=False, env={**os.environ, **addresses(servers)}).returncode


def start() -> int:
    """Leave servers running beside this terminal; those that run already stay."""
    STARTED.parent.mkdir(parents=True, exist_ok=True)
    if not _is_held():
        log = STARTED.with_suffix(".log")
        told, tell = os.pipe()
        keeper = [sys.executable, str(HERE), "keep", str(tell)]
        with log.open("wb") as output:
            subprocess.Popen(keeper, start_new_session=True, pass_fds=[tell], stdout=output, stderr=output)
        os.close(tell)
        if not os.read(told, 1):
            sys.exit(log.read_text())
    sys.stdout.write(STARTED.read_text().partition("\n")[2])
    return 0


def keep(tell: int) -> int:
    """Start the servers, say so in a file that stays locked as long as they run, and end them on a signal."""
    # The servers end on this signal, too, so it must not be blocked: they would inherit that.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with STARTED.open("a+") as file, ExitStack() as servers:
        fcntl.flock(file, fcntl.LOCK_EX)
        servers.callback(STARTED.unlink)
        lines = [f"export {name}={shlex.quote(address)}" for name, address in addresses(servers).items()]
        file.truncate(0)
        file.write("\n".join([str(os.getpid()), *lines, ""]))
        file.flush()
        os.write(tell, b"!")
        signal.pause()
    return 0


def stop() -> int:
    """End what `start` left running; gives back control when all are gone."""
    if not _is_held():
        sys.stderr.write("no servers are running\n")
        return 0
    with STARTED.open() as file:
        os.kill(int(file.readline()), signal.SIGTERM)
        fcntl.flock(file, fcntl.LOCK_SH)
    return 0


def _is_held() -> bool:
    with suppress(FileNotFoundError), STARTED.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", *command] if command:
            sys.exit(run(command))
        case ["start"]:
            sys.exit(start())
        case ["keep", tell]:
            sys.exit(keep(int(tell)))
        case ["stop"]:
            sys.exit(stop())
    sys.exit(__doc__)
