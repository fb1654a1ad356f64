"""The SQLite store from outside: its files, other programs, other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mintkey import Store, connect

#: Warnings are errors, except Python's warning about any fork of a process with threads.
WARNINGS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")

#: What every program of these tests begins with; `sys.argv[1]` is the store's URL.
PREAMBLE = """
import asyncio, ctypes, logging, multiprocessing, os, signal, sqlite3, sys, threading
import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import *

# `-X dev` reports each callback of an event loop that takes 100 ms. On a busy machine any callback may.
logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing %s took"))

# A shell starts what runs in the background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    who = StringAttribute()

"""


@pytest.fixture
def path(tmp_path) -> Path:
    """Where the database is to be."""
    found: Path = tmp_path / "test.db"
    return found


@pytest.fixture
def url(path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def store(url) -> Iterator[Store]:
    with connect(url) as opened:
        yield opened


@pytest.fixture
def start(url) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a program of its own; all that still run at the end are killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(body: str, *arguments: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", *WARNINGS, "-c", PREAMBLE + body, url, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MINTKEY_URL": url},
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def program(start) -> Callable[..., str]:
    """Runs a program to its end and gives what it printed; it must end well."""

    def run(body: str, *arguments: Any) -> str:
        process = start(body, *arguments)
        output, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert stderr == ""
        return str(output)

    return run
