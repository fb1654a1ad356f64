"""Servers that a test kills and starts again on their data."""

from __future__ import annotations

import functools
import random
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.servers import dynamodb, redis
from typing_extensions import Self

#: Every write is on disk before it is acknowledged.
LOGGED = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


class Server(ABC):
    """A server whose data outlives it. `url` is the store's address; a block that enters it has it running."""

    url: str

    @abstractmethod
    def start(self) -> None:
        """Start what does not run; returns when it answers."""

    @abstractmethod
    def kill(self, chance: random.Random) -> None:
        """Kill a process of the server, without warning."""

    @abstractmethod
    def stop(self) -> None:
        """End all processes."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _Process:
    """A process that is started again and again with the same command."""

    def __init__(self, command: list[str], folder: Path, wait: Callable[[Path], object]) -> None:
        self.command = command
        self.folder = folder
        self.wait = wait
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.running is None:
            self.folder.mkdir(exist_ok=True)
            log = self.folder / "log"
            with log.open("wb") as output:
                self.running = subprocess.Popen(self.command, cwd=self.folder, stdout=output, stderr=output)
            self.wait(log)

    def kill(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.wait()
            self.running = None


class DynamoDB(Server):
    """DynamoDB Local with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        port = dynamodb.free_port()
        command = dynamodb.command(port, "-dbPath", str(folder))
        self.process = _Process(command, folder, lambda log: dynamodb.wait_for(port, log))
        self.url = f"dynamodb://us-east-1?endpoint=http://127.0.0.1:{port}&retries=0&timeout=30"

    def start(self) -> None:
        self.process.start()

    def kill(self, chance: random.Random) -> None:
        self.process.kill()

    def stop(self) -> None:
        self.process.kill()


class Redis(Server):
    """Redis with a log of every write."""

    def __init__(self, folder: Path) -> None:
        self.process, port = _redis(folder)
        self.url = f"redis://127.0.0.1:{port}?timeout=30"

    def start(self) -> None:
        self.process.start()

    def kill(self, chance: random.Random) -> None:
        self.process.kill()

    def stop(self) -> None:
        self.process.kill()


class RedisCluster(Server):
    """Three primaries of a Redis Cluster, each with a log of every write, and no replica.

    A replica that takes over may lack the last acknowledged writes, so there is nothing to check then.
    """

    def __init__(self, folder: Path) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "15000")
        members = [_redis(folder / str(number), *options) for number in range(3)]
        self.processes = [process for process, _ in members]
        self.ports = [port for _, port in members]
        self.nodes = [f"127.0.0.1:{port}" for port in self.ports]
        # Requests wait for a primary that is gone until this time is over.
        self.url = f"redis-cluster://{','.join(self.nodes)}?timeout=4"
        self.formed = False

    def start(self) -> None:
        for process in self.processes:
            process.start()
        if not self.formed:
            redis.form_cluster(self.nodes, replicas=0)
            self.formed = True
        # A primary that was started again takes no writes for its first two seconds.
        redis.wait_until_whole(self.ports, replicas=0)

    def kill(self, chance: random.Random) -> None:
        chance.choice(self.processes).kill()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()


def _redis(folder: Path, *options: str) -> tuple[_Process, int]:
    port = redis.free_port()
    command = [redis.program(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), *LOGGED, *options]
    reach = functools.partial(socket.create_connection, ("127.0.0.1", port), 1)
    return _Process(command, folder, lambda log: redis.wait_for(reach, log)), port
