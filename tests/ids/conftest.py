"""What the tests of ids share: locks of nodes in a directory of this run, so that runs do not meet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mintkey.generators import AutoGenerate

IDS = [
    AutoGenerate.UUID4,
    AutoGenerate.UUID7,
    AutoGenerate.ULID,
    AutoGenerate.KSUID,
    AutoGenerate.NANOID,
    AutoGenerate.SNOWFLAKE,
    AutoGenerate.TYPEID,
    AutoGenerate.XID,
    AutoGenerate.CUID2,
]
TIMESTAMPS = [AutoGenerate.EPOCH, AutoGenerate.EPOCH_MS, AutoGenerate.ISO8601, AutoGenerate.ISO8601_MS]
SORTABLE = [
    AutoGenerate.UUID7,
    AutoGenerate.ULID,
    AutoGenerate.KSUID,
    AutoGenerate.SNOWFLAKE,
    AutoGenerate.TYPEID,
    AutoGenerate.XID,
]


@pytest.fixture(scope="session", autouse=True)
def node_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("nodes")
    before = os.environ.get("MINTKEY_NODE_DIR")
    os.environ["MINTKEY_NODE_DIR"] = str(directory)
    yield directory
    if before is None:
        del os.environ["MINTKEY_NODE_DIR"]
    else:
        os.environ["MINTKEY_NODE_DIR"] = before


@pytest.fixture(params=IDS, ids=lambda member: member.value)
def id_strategy(request: pytest.FixtureRequest) -> AutoGenerate:
    strategy: AutoGenerate = request.param
    return strategy


@pytest.fixture(params=SORTABLE, ids=lambda member: member.value)
def sortable(request: pytest.FixtureRequest) -> AutoGenerate:
    strategy: AutoGenerate = request.param
    return strategy
