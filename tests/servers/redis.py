"""Redis servers to test with, on free ports, gone when the tests are.

    python tests/servers/redis.py COMMAND…

runs a command with MINTKEY_TEST_REDIS in its environment, the address of a fresh server. Tests that find none there
start one themselves. Debian's package is installed where the program is missing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 10.0

# Ends the server and removes its folder as soon as this process closes the pipe, however it goes.
WATCH = 'folder=$1; shift; "$@" >"$folder/log" 2>&1 & server=$!; read -r _; kill $server; wait; rm -r "$folder"'


def program(name: str = "redis-server") -> str:
    """Where the program is; it is installed if need be."""
    found = shutil.which(name)
    if found is None and shutil.which("apt-get"):
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        # Run level 1 keeps the package from starting a server of its own.
        quiet = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]
        subprocess.run([*quiet, "update"], check=True, stdout=subprocess.DEVNULL)
        install = [*quiet, "install", "-y", "--no-install-recommends", "redis-server"]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is missing: install Redis 6.2 or later")
    return found


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(*options: str) -> Iterator[str]:
    """A fresh server with these options; gives its address."""
    port = free_port()
    folder = tempfile.mkdtemp(prefix="mintkey-redis-")
    command = [program(), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", *options]
    watcher = subprocess.Popen(["sh", "-c", WATCH, "sh", folder, *command], stdin=subprocess.PIPE)
    try:
        wait_for(port, Path(folder) / "log")
        yield f"redis://127.0.0.1:{port}"
    finally:
        watcher.communicate()


def wait_for(port: int, log: Path) -> None:
    """Waits until a server listens."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.sendall(b"PING\r\n")
            if probe.recv(5) == b"+PONG":
                return
    raise RuntimeError(f"redis-server does not start:\n{log.read_text()}")


if __name__ == "__main__":
    with server() as address:
        ended = subprocess.run(sys.argv[1:], check=False, env={**os.environ, "MINTKEY_TEST_REDIS": address})
    sys.exit(ended.returncode)
