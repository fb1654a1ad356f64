"""Redis servers to test with, on free ports, gone when the tests are: plain, with password and TLS, a Cluster.

    python tests/servers/redis.py COMMAND…

runs a command with MINTKEY_TEST_REDIS in its environment, the address of a fresh plain server. Tests that find none
there start what they need themselves. Debian's package is installed where the program is missing.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PATIENCE = 60.0
PASSWORD = "s3cret"
PRIMARIES, REPLICAS = 3, 1

# Ends the server and removes its folder as soon as this process closes the pipe, however it goes; Ctrl-C goes to all.
WATCH = """
trap : INT TERM
folder=$1; shift
"$@" >"$folder/log" 2>&1 & server=$!
read -r _
kill $server 2>/dev/null; wait
rm -r "$folder"
"""

# Safe against kill -9, and slow to think that a neighbour is gone who is only kept waiting: no replica takes over.
MEMBER = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", "15000"),
    *("--appendonly", "yes", "--appendfsync", "always"),
    *("--repl-diskless-sync-delay", "0"),
)


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
    """A port that nobody listens at, as is the one above by 10,000, where the members of a Cluster talk.

    Both are below the ports that the system gives to outgoing connections, one of which could take it meanwhile.
    """
    while True:
        port = random.randint(10_000, 22_000)
        with suppress(OSError), socket.socket() as probe, socket.socket() as above:
            probe.bind(("127.0.0.1", port))
            above.bind(("127.0.0.1", port + 10_000))
            return port


@contextmanager
def _running(folder: str, connect: Callable[[], socket.socket], *options: str) -> Iterator[None]:
    """A server that works in this folder, which goes with it."""
    command = [program(), "--bind", "127.0.0.1", "--dir", folder, "--save", "", *options]
    watcher = subprocess.Popen(["sh", "-c", WATCH, "sh", folder, *command], stdin=subprocess.PIPE)
    try:
        wait_for(connect, Path(folder) / "log")
        yield
    finally:
        watcher.communicate()


def wait_for(connect: Callable[[], socket.socket], log: Path) -> None:
    """Waits until a server answers; that it asks for a password is an answer, too."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(OSError), connect() as probe:
            probe.sendall(b"PING\r\n")
            if probe.recv(5) in {b"+PONG", b"-NOAU"}:
                return
    raise RuntimeError(f"redis-server does not start:\n{log.read_text()}")


@contextmanager
def server(*options: str) -> Iterator[str]:
    """A fresh server with these options; gives its address."""
    port = free_port()
    folder = tempfile.mkdtemp(prefix="mintkey-redis-")
    with _running(folder, lambda: socket.create_connection(("127.0.0.1", port), 1), "--port", str(port), *options):
        yield f"redis://127.0.0.1:{port}"


def debuggable() -> list[str]:
    """The options with which a server takes DEBUG: before 7.0 it does so without any."""
    told = subprocess.run([program(), "--version"], check=True, capture_output=True, text=True).stdout
    version = re.search(r"v=(\d+)", told)
    return ["--enable-debug-command", "yes"] if version and int(version[1]) >= 7 else []


@contextmanager
def secure(*options: str) -> Iterator[str]:
    """A fresh server that speaks TLS only and asks for a password; gives its address, with the CA to trust.

    Beside the CA's `ca.pem` lie a certificate and a key that it vouches for, `client.pem` and `client.key`.
    """
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="mintkey-redis-"))
    certificates(folder)
    encrypted = [
        *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "optional"),
        *("--tls-ca-cert-file", str(folder / "ca.pem")),
        *("--tls-cert-file", str(folder / "server.pem"), "--tls-key-file", str(folder / "server.key")),
        *("--requirepass", PASSWORD),
    ]
    trust = ssl.create_default_context(cafile=str(folder / "ca.pem"))

    def connect() -> socket.socket:
        return trust.wrap_socket(socket.create_connection(("127.0.0.1", port), 1), server_hostname="127.0.0.1")

    with _running(str(folder), connect, *encrypted, *options):
        yield f"rediss://:{PASSWORD}@127.0.0.1:{port}?ca={folder / 'ca.pem'}"


def certificates(folder: Path) -> None:
    """An authority made on the spot, and what it vouches for: a server and a client."""

    def openssl(*words: str) -> None:
        done = subprocess.run(["openssl", *words], cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"openssl {words[0]}: {done.stderr}")

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    vouching = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl("req", "-x509", *new_key, "-days", "2", "-subj", "/CN=test", "-keyout", "ca.key", "-out", "ca.pem")
    (folder / "names").write_text("basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", *new_key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", *vouching, "-extfile", "names", "-out", f"{name}.pem")


@contextmanager
def cluster() -> Iterator[str]:
    """A fresh Cluster of three primaries with a replica each; gives the address that names them all."""
    with ExitStack() as members:
        ports: list[int] = []
        for _ in range(PRIMARIES * (1 + REPLICAS)):
            port = free_port()
            folder = tempfile.mkdtemp(prefix="mintkey-redis-")
            at = ("127.0.0.1", port)
            connect = lambda at=at: socket.create_connection(at, 1)  # noqa: E731
            members.enter_context(_running(folder, connect, "--port", str(port), *MEMBER))
            ports.append(port)
        nodes = [f"127.0.0.1:{port}" for port in ports]
        form_cluster(nodes, REPLICAS)
        wait_until_whole(ports, REPLICAS)
        yield f"redis-cluster://{','.join(nodes)}"


def form_cluster(nodes: list[str], replicas: int) -> None:
    """Make a Cluster of servers that run."""
    create = ["--cluster", "create", *nodes, "--cluster-replicas", str(replicas), "--cluster-yes"]
    done = subprocess.run([program("redis-cli"), *create], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the Cluster does not form:\n{done.stdout}{done.stderr}")


def wait_until_whole(ports: list[int], replicas: int) -> None:
    """Waits until every member sees the whole Cluster, and every replica has what its primary has."""
    end = time.monotonic() + 3 * PATIENCE
    waiting = list(ports)
    while waiting and time.monotonic() < end:
        waiting = [port for port in waiting if not _whole(port, replicas)]
    if waiting:
        raise RuntimeError(f"the Cluster is not whole: {command(waiting[0], 'cluster', 'nodes')}")


def _whole(port: int, replicas: int) -> bool:
    if "cluster_state:ok" not in command(port, "cluster", "info"):
        return False
    role = command(port, "role").split()
    return "connected" in role if role[0] == "slave" else replicas == 0 or len(role) > len(("master", "offset"))


def command(port: int, *words: str) -> str:
    command = [program("redis-cli"), "-p", str(port), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    with server() as address:
        ended = subprocess.run(sys.argv[1:], check=False, env={**os.environ, "MINTKEY_TEST_REDIS": address})
    sys.exit(ended.returncode)
