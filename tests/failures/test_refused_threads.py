"""The system refuses new threads, as the pids limit of a container does: typed errors, no hang, usable afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.behaviour.conftest import redis_prefix

# Long enough for a busy machine; a request that nobody answers would wait for ever.
HANG = 60

# The limit counts the threads of a user, and root is exempt: a test run by root becomes another user first.
CHILD = """
import asyncio, contextlib, os, resource, sys

from mintkey import Model, ModelConfig, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import ConfigurationError, StoreUnavailable

class Row(Model):
    model_config = ModelConfig(table="rows")
    pk = StringAttribute(partition_key=True)

class Inner(Row):
    model_config = ModelConfig(table="rows", store="inner")

if os.geteuid() == 0:
    become_another = lambda: os.setresuid(65534, 65534, 65534)
else:
    become_another = lambda: None

@contextlib.contextmanager
def no_more_threads():
    become_another()
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))

async def refused(awaitable):
    try:
        await asyncio.wait_for(awaitable, 30)
    except StoreUnavailable as error:
        assert error.outcome == "not_applied", error
        assert "thread" in str(error), error
        return str(error)
    raise AssertionError("the thread was not refused")

async def main(url):
    with connect(url):
        {body}

asyncio.run(main(sys.argv[1]))
"""

LOOKING_UP = """
        await Row.aget(pk="a")  # the store's thread runs
        with no_more_threads():
            assert "look" in await refused(Row.aget(pk="a"))
            assert "nothing was written" in await refused(Row(pk="a").asave())
        await Row(pk="a").asave()
        await Row.aget(pk="a")
"""

STARTING = """
        with no_more_threads():
            Row(pk="a").save()  # on the calling thread
            await refused(Row.aget(pk="a"))
            await refused(Row(pk="a").asave())
        await Row(pk="a").asave()
        await Row.aget(pk="a")
"""

CREDENTIALS = """
        with no_more_threads():
            Row(pk="a").save()  # credentials of a container, which is named by a host name
"""

CLOSING = """
        import concurrent.futures.thread  # the other user may not read it
        await Row(pk="a").asave()
        with no_more_threads():
            async with connect(url, "inner") as store:
                Inner(pk="b").save()
            await store.aclose()
            try:
                Inner(pk="c").save()
            except ConfigurationError as error:
                assert "closed" in str(error), error
            else:
                raise AssertionError("the store is open")
"""


class Nothing(BaseHTTPRequestHandler):
    """Answers that all is well, and closes the connection: each request needs a new one."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-amz-json-1.0")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        """Answers with credentials, as a container does."""
        keys = json.dumps(
            {
                "AccessKeyId": "key",
                "SecretAccessKey": "secret",
                "Token": "token",
                "Expiration": "2999-01-01T00:00:00Z",
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(keys)))
        self.end_headers()
        self.wfile.write(keys)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


def run(body: str, url: str, variables: dict[str, str] = KEYS) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD.replace("{body}", body.strip()), url],
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG,
        # Another user may not read the files of root's home.
        env={**{name: value for name, value in os.environ.items() if name not in KEYS}, **variables},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_host_name_that_cannot_be_looked_up(port):
    run(LOOKING_UP, f"dynamodb://us-east-1?endpoint=http://localhost:{port}&retries=1&timeout=20")


def test_credentials_that_are_looked_up_by_host_name(port):
    # Not a loopback address, for which containers are not asked.
    url = f"dynamodb://us-east-1?endpoint=http://0.0.0.0:{port}&retries=0&timeout=20"
    run(CREDENTIALS, url, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://localhost:{port}/keys"})


def test_a_store_that_cannot_start_its_thread(port):
    run(STARTING, f"dynamodb://us-east-1?endpoint=http://localhost:{port}&retries=0&timeout=20")


def test_a_redis_store_that_cannot_start_its_thread():
    run(STARTING, redis_prefix("refused threads"))


def test_an_awaited_close_that_cannot_start_a_thread():
    run(CLOSING, "sqlite://")
    run(CLOSING, redis_prefix("refused threads"))


def test_sqlite_in_memory_that_cannot_start_its_thread():
    run(STARTING, "sqlite://")


def test_an_sqlite_file_whose_threads_cannot_start():
    # Not below tmp_path, whose folders only their owner may enter: root becomes another user here.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        run(STARTING, f"sqlite:///{folder}/test.db")
