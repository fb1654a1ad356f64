"""Redis servers for this folder, and plain clients that read them without the code under test."""

from __future__ import annotations

import os
import runpy
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.behaviour.conftest import Do

SCRIPT = Path(__file__).parents[1] / "servers" / "redis.py"

Start = Callable[..., AbstractContextManager[str]]

#: What the script that starts servers defines.
servers: dict[str, Any] = runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="session")
def start() -> Start:
    """Starts a server with options, in a block: `with start("--maxmemory", "3mb") as address`."""
    started: Start = servers["server"]
    return started


@pytest.fixture(scope="session")
def server(start) -> Iterator[str]:
    """A server of its own, so that counted commands are those of the test."""
    with start() as address:
        yield address


@pytest.fixture(scope="session")
def secure() -> Iterator[str]:
    """The server with TLS and password that MINTKEY_TEST_REDIS_TLS names, or one that runs until the tests end."""
    with ExitStack() as running:
        named = os.environ.get("MINTKEY_TEST_REDIS_TLS")
        yield named or running.enter_context(servers["secure"]())


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A Cluster of its own, for tests that read all keys: other tests leave many."""
    with servers["cluster"]() as address:
        yield address


@pytest.fixture
def prefix() -> str:
    """The prefix of a test's keys."""
    return str(uuid.uuid4())


@pytest.fixture
def url(server, prefix) -> str:
    """The address of an empty store."""
    return f"{server}?prefix={prefix}"


@pytest.fixture(params=["blocking", "async"])
def do(request) -> Do:
    """Blocking and async calls."""
    return Do(blocking=request.param == "blocking")


@pytest.fixture
def raw(server) -> Iterator[Any]:
    """A plain client of the server."""
    with redis.Redis.from_url(server) as client:
        yield client
