"""Snowflake nodes: no two processes share one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MINT = "from mintkey.generators import *; print(parse(generate_value({strategy})).node, flush=True); input()"


def start(strategy: str, directory: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a process that mints a snowflake, prints its node and holds it until it is given a line."""
    return subprocess.Popen(
        [sys.executable, "-c", MINT.format(strategy=strategy)],
        env={**os.environ, "MINTKEY_NODE_DIR": str(directory), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def nodes_of(processes: list[subprocess.Popen[str]]) -> list[int | str]:
    """Return the node of each, or the last line of its error, and end them all."""
    told: list[int | str] = []
    for process in processes:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        told.append(int(line) if line else "")
    for at, process in enumerate(processes):
        _, errors = process.communicate("\n")
        if told[at] == "":
            told[at] = errors.strip().split("\n")[-1]
    return told


@pytest.mark.slow
def test_processes_claim_different_nodes(tmp_path: Path) -> None:
    nodes = nodes_of([start("'snowflake'", tmp_path) for _ in range(4)])
    assert len(set(nodes)) == 4


@pytest.mark.slow
def test_a_range_in_the_environment_is_shared_out(tmp_path: Path) -> None:
    nodes = nodes_of([start("'snowflake'", tmp_path, MINTKEY_NODE="32-33") for _ in range(3)])
    assert {32, 33} < set(nodes)
    (refused,) = set(nodes) - {32, 33}
    assert "ConfigurationError: all snowflake nodes 32-33 are held by other processes" in str(refused)


@pytest.mark.slow
def test_a_number_that_is_held_is_a_configuration_error(tmp_path: Path) -> None:
    nodes = nodes_of([start("auto('snowflake', node=7)", tmp_path) for _ in range(2)])
    assert 7 in nodes
    (refused,) = set(nodes) - {7}
    assert "ConfigurationError: snowflake node 7 is held by another process" in str(refused)
    assert nodes_of([start("auto('snowflake', node=7)", tmp_path)]) == [7], "a process that ended gave it back"


@pytest.mark.slow
def test_a_wrong_environment_is_told(tmp_path: Path) -> None:
    (refused,) = nodes_of([start("'snowflake'", tmp_path, MINTKEY_NODE="many")])
    assert 'ConfigurationError: $MINTKEY_NODE: "many" is no snowflake node' in str(refused)
