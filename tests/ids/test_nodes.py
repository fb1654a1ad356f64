"""Snowflake nodes: no two processes share one."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mintkey.generators import Auto, auto, generate_value, parse, reseed
from mintkey.testing import frozen

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
    assert 'ConfigurationError: $MINTKEY_NODE: "many" is not a snowflake node' in str(refused)


# Things that stand where a lock file belongs.


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_directory(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.touch()
    path.symlink_to(target)


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def make_device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


def make_locked_away(path: Path) -> None:
    path.touch(mode=0)


OBSTACLES = [
    pytest.param(make_fifo, id="fifo"),
    pytest.param(make_directory, id="directory"),
    pytest.param(make_link, id="link"),
    pytest.param(make_dangling_link, id="dangling link"),
    pytest.param(make_socket, id="socket"),
    pytest.param(make_device, id="device"),
    pytest.param(make_locked_away, id="file of another user"),
]

# Root may open every file.
MINT_AS_A_USER = """
import os
from mintkey import errors
from mintkey.generators import *
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(parse(generate_value({strategy})).node)
"""


@pytest.fixture
def shared_directory() -> Iterator[Path]:
    """A directory for locks that every user may reach and write to."""
    with tempfile.TemporaryDirectory(prefix="mintkey-nodes-", dir="/tmp") as made:
        Path(made).chmod(0o1777)
        yield Path(made)


def mint_as_a_user(strategy: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MINT_AS_A_USER.format(strategy=strategy)],
        env={**os.environ, "MINTKEY_NODE_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", OBSTACLES)
def test_a_lock_file_that_cannot_be_used_makes_the_next_node_serve(
    shared_directory: Path, make: Callable[[Path], None]
) -> None:
    make(shared_directory / "32.lock")
    done = mint_as_a_user("auto('snowflake', node='32-33')", shared_directory)
    assert done.stdout == "33\n", done.stderr
    refused = mint_as_a_user("auto('snowflake', node=32)", shared_directory)
    message = refused.stderr.strip().split("\n")[-1]
    assert message.startswith("mintkey.errors.ConfigurationError: snowflake node 32 cannot be claimed: ")
    assert str(shared_directory / "32.lock") in message
    assert "$MINTKEY_NODE_DIR" in message


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", "/", "/."])
def test_a_link_to_a_directory_is_not_followed(shared_directory: Path, ending: str) -> None:
    target, link = shared_directory / "target", shared_directory / "link"
    target.mkdir()
    link.symlink_to(target)
    done = mint_as_a_user("'snowflake'", Path(f"{link}{ending}"))
    message = done.stderr.strip().split("\n")[-1]
    assert message.startswith("mintkey.errors.ConfigurationError: ")
    assert f"{link} is a symbolic link" in message
    assert "$MINTKEY_NODE_DIR" in message
    assert list(target.iterdir()) == []


@pytest.mark.slow
def test_a_directory_in_which_everybody_may_remove_locks_is_refused(shared_directory: Path) -> None:
    shared_directory.chmod(0o777)
    message = mint_as_a_user("'snowflake'", shared_directory).stderr.strip().split("\n")[-1]
    assert f"chmod +t {shared_directory}" in message
    assert list(shared_directory.iterdir()) == []


@pytest.mark.slow
def test_users_share_the_directory_that_the_first_one_makes(shared_directory: Path) -> None:
    directory = shared_directory / "nodes"
    first = start("auto('snowflake', node='32-33')", directory)
    assert first.stdout is not None
    assert first.stdout.readline() == "32\n"
    assert directory.stat().st_mode & 0o7777 == 0o1777
    assert mint_as_a_user("auto('snowflake', node='32-33')", directory).stdout == "33\n"
    first.communicate("\n")


# Lock files that are removed.


@pytest.fixture
def own_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for the locks of this test, in this process."""
    monkeypatch.setenv("MINTKEY_NODE_DIR", str(tmp_path / "nodes"))
    reseed()
    yield tmp_path / "nodes"
    reseed()


def remove_file(directory: Path, node: int) -> None:
    (directory / f"{node}.lock").unlink()


def remove_directory(directory: Path, node: int) -> None:
    shutil.rmtree(directory)


REMOVALS = [pytest.param(remove_file, id="file"), pytest.param(remove_directory, id="directory")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no addresses of sockets that leave no file")
@pytest.mark.parametrize("remove", REMOVALS)
def test_a_node_whose_lock_file_was_removed_goes_to_no_other_process(
    tmp_path: Path, remove: Callable[[Path, int], None]
) -> None:
    directory = tmp_path / "nodes"
    first = start("auto('snowflake', node='40-41')", directory)
    assert first.stdout is not None
    assert first.stdout.readline() == "40\n"
    remove(directory, 40)
    assert nodes_of([start("auto('snowflake', node='40-41')", directory)]) == [41]
    (refused,) = nodes_of([start("auto('snowflake', node=40)", directory)])
    assert "snowflake node 40 is held by another process" in str(refused)
    first.communicate("\n")


def mint_node(strategy: Auto) -> int | None:
    return parse(generate_value(strategy)).node


@pytest.mark.slow
@pytest.mark.parametrize("remove", REMOVALS)
def test_a_process_leaves_a_node_whose_lock_was_removed_and_taken(
    own_nodes: Path, remove: Callable[[Path, int], None]
) -> None:
    """The test takes the lock as a process does that sees the directory alone, such as one of another container."""
    strategy = auto("snowflake", node="50-51")
    with frozen("2024-01-01") as clock:
        minted = [generate_value(strategy)]
        assert mint_node(strategy) == 50
        remove(own_nodes, 50)
        own_nodes.mkdir(exist_ok=True)
        with (own_nodes / "50.lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            clock.advance(1)
            minted.append(generate_value(strategy))
            assert mint_node(strategy) == 51
    assert minted == sorted(minted)


@pytest.mark.slow
@pytest.mark.parametrize("remove", REMOVALS)
def test_a_process_claims_its_node_again_when_the_lock_was_removed(
    own_nodes: Path, remove: Callable[[Path, int], None]
) -> None:
    strategy = auto("snowflake", node=60)
    with frozen("2024-01-01") as clock:
        minted = [generate_value(strategy) for _ in range(2)]
        remove(own_nodes, 60)
        clock.advance(1)
        minted += [generate_value(strategy) for _ in range(2)]
        assert len(set(minted)) == 4
        assert minted == sorted(minted)
        with (own_nodes / "60.lock").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Threads.


@pytest.mark.slow
def test_threads_that_need_the_same_node_at_once_share_it(tmp_path: Path) -> None:
    code = """
import threading
from mintkey.generators import *
strategy, ids = auto("snowflake", node=5), []
barrier = threading.Barrier(16)
def mint():
    barrier.wait()
    ids.append(generate_value(strategy))
threads = [threading.Thread(target=mint) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(set(ids)), {parse(id).node for id in ids})
"""
    environment = {**os.environ, "MINTKEY_NODE_DIR": str(tmp_path / "nodes")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "16 {5}\n", done.stderr


SLOW_CLAIM = """
import os, threading, time
from mintkey.generators import *
claiming = threading.Thread(target=snowflake)
last, longest, children = time.monotonic(), 0, []
claiming.start()
while claiming.is_alive():
    ulid()
    now = time.monotonic()
    last, longest = now, max(longest, now - last)
    if not children:
        children.append(os.fork())
        if children == [0]:
            os._exit(0 if snowflake() else 1)
print(longest < 1, os.waitpid(children[0], 0)[1], flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace slows the system calls")
@pytest.mark.parametrize("call", ["openat", "flock"])
def test_a_claim_that_blocks_keeps_no_other_thread_from_minting(tmp_path: Path, call: str) -> None:
    """Neither the GIL nor the lock of ids is held while the file system takes its time; a child claims for itself."""
    directory = tmp_path / "nodes"
    slow = ["strace", "-f", "-o", os.devnull, "-e", f"inject={call}:delay_enter=2000000"]
    for path in (directory, directory / "5.lock", directory / "6.lock"):
        slow += ["-P", str(path)]
    done = subprocess.run(
        [*slow, sys.executable, "-c", SLOW_CLAIM],
        env={**os.environ, "MINTKEY_NODE_DIR": str(directory), "MINTKEY_NODE": "5-6"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if "ptrace" in done.stderr.lower():
        pytest.skip("this system lets nobody trace")
    assert done.stdout == "True 0\n", done.stderr
