"""DynamoDB Local to test with, on a free port, gone when the tests are.

    python tests/servers/dynamodb.py COMMAND…

runs a command with MINTKEY_TEST_DYNAMODB in its environment, the address of a fresh server in memory. Tests that find
none there start one themselves. The server comes from Maven Central, once, into `target/servers`; Debian's packages
of Java and Maven are installed where the programs are missing.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VERSION = "2.6.1"
MAIN = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
PATIENCE = 120.0
#: A server that runs for minutes only loses time with the best machine code and several threads that collect garbage.
JAVA_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

# Ends the server and removes its folder as soon as this process closes the pipe, however it goes; Ctrl-C goes to all.
WATCH = """
trap : INT TERM
folder=$1; shift
"$@" >"$folder/log" 2>&1 & server=$!
read -r _
kill $server 2>/dev/null; wait
rm -r "$folder"
"""

PROJECT = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>mintkey</groupId><artifactId>servers</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>com.amazonaws</groupId><artifactId>DynamoDBLocal</artifactId><version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def program(name: str, package: str) -> str:
    """Where the program is; it is installed if need be."""
    found = shutil.which(name)
    if found is None and shutil.which("apt-get"):
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        quiet = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
        subprocess.run([*quiet, "update"], check=True, stdout=subprocess.DEVNULL)
        install = [*quiet, "install", "-y", "--no-install-recommends", package]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is missing: install Java 17 or later and Maven")
    return found


def jars() -> Path:
    """The folder of the server's files; they are fetched if need be."""
    servers = Path(__file__).parents[2] / "target" / "servers"
    folder = servers / f"dynamodb-{VERSION}"
    if folder.exists():
        return folder
    servers.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=servers) as fresh:
        (Path(fresh) / "pom.xml").write_text(PROJECT)
        fetch = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"]
        subprocess.run([program("mvn", "maven"), "--quiet", "--batch-mode", *fetch], check=True, cwd=fresh)
        # Whoever is first wins; a folder that is there is complete.
        with suppress(OSError):
            (Path(fresh) / "jars").rename(folder)
    return folder


def free_port() -> int:
    """A port that nobody listens at, below those that the system gives to outgoing connections."""
    while True:
        port = random.randint(10_000, 32_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def command(port: int, *options: str) -> list[str]:
    """The command of a server at this port."""
    java, folder = program("java", "default-jre-headless"), jars()
    classes = (f"-Djava.library.path={folder}", "-cp", f"{folder}/*", MAIN)
    return [java, *JAVA_OPTIONS, *classes, "-port", str(port), "-sharedDb", *options]


@contextmanager
def server(*options: str) -> Iterator[str]:
    """A fresh server with these options, else in memory; gives its address."""
    port = free_port()
    # It leaves a file wherever it works.
    work = tempfile.mkdtemp(prefix="mintkey-dynamodb-")
    own = command(port, *(options or ("-inMemory",)))
    watcher = subprocess.Popen(["sh", "-c", WATCH, "sh", work, *own], cwd=work, stdin=subprocess.PIPE)
    try:
        wait_for(port, Path(work) / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        watcher.communicate()


def wait_for(port: int, log: Path) -> None:
    """Waits until a server answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as probe:
            probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if probe.recv(5) == b"HTTP/":
                return
    raise RuntimeError(f"DynamoDB Local does not start:\n{log.read_text()}")


if __name__ == "__main__":
    with server() as address:
        ended = subprocess.run(sys.argv[1:], check=False, env={**os.environ, "MINTKEY_TEST_DYNAMODB": address})
    sys.exit(ended.returncode)
