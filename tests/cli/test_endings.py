"""Exit codes, and errors as one line without passwords."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import LINES, Command, counted, fill


@pytest.fixture
def shell(capsys, monkeypatch) -> Command:
    """The command, without a store."""
    monkeypatch.delenv("MINTKEY_URL", raising=False)
    return Command("", capsys, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nothing"], "no such command: nothing (see mintkey --help)"),
        (["--nothing"], "no such command: --nothing (see mintkey --help)"),
        (["scan"], "the following arguments are required: TABLE (see mintkey scan --help)"),
        (["scan", "orders"], "name a store: mintkey scan URL …, or set MINTKEY_URL"),
        (["scan", "sqlite://", "a", "--limit", "0"], "argument -n/--limit: '0' is not a number from 1"),
        (["scan", "sqlite://", "a", "--bogus"], "unrecognized arguments: --bogus"),
        (["scan", "sqlite://", "a", "--where", "x ="], "--where: column 4: expected a value, found the end"),
        (["count", "sqlite://", "nope"], "table 'nope' does not exist in sqlite://: it has no tables"),
        (["tables", "oracle://x"], "oracle"),
        (["new", "ulid", "--count", "0"], "--count 0: give a number from 1"),
    ],
)
def test_usage(shell, arguments, problem):
    out, err, code = shell(*arguments, url=False)
    assert (out, code) == ("", 2)
    assert problem in err
    assert err.startswith("mintkey: ")
    assert err.count("\n") == 1


def test_help_names_all_commands_and_conditions(shell):
    out, err, code = shell("--help", url=False)
    assert (err, code) == ("", 0)
    for name in (
        "ping",
        "tables",
        "describe",
        "get",
        "query",
        "scan",
        "count",
        "export",
        "import",
        "copy",
        "new",
        "inspect",
    ):
        assert f"\n  {name} " in out
        assert shell(name, "--help", url=False).code == 0
    assert "begins_with" in shell("scan", "--help", url=False).out


@pytest.mark.parametrize("secret", ["hush", "hu/sh", "hu?sh", "hu@sh"])
def test_no_message_shows_a_password(shell, monkeypatch, secret):
    url = f"redis://ada:{secret}@127.0.0.1:1/0?timeout=0.2"
    bare = url.partition("://")[2]
    for arguments in (
        ["tables", url],
        ["tables", url, url],
        ["get", url],
        [url],
        ["tables", f"--x={url}"],
        ["copy", "sqlite://", "sqlite://", "--resume", url],
        ["copy", bare, "sqlite://"],
        ["scan", bare, "orders"],
        [bare],
    ):
        _, err, code = shell(*arguments, url=False)
        assert code in {2, 3}
        assert "hu" not in err
    monkeypatch.setenv("MINTKEY_URL", url)
    assert "hu" not in shell("scan", "orders", url=False).err


@pytest.mark.parametrize("secret", ["hush", "hu/sh", "hu?sh", "hu@sh"])
def test_no_message_shows_a_password_of_a_variable(shell, monkeypatch, secret):
    monkeypatch.setenv("SHOP_URL", f"redis://ada:{secret}@127.0.0.1:1/0?timeout=0.2")
    for arguments in (["tables"], ["scan", "orders"], ["copy", "env:SHOP_URL"], ["copy", "sqlite://"]):
        _, err, code = shell(arguments[0], "env:SHOP_URL", *arguments[1:], url=False)
        assert code in {2, 3}
        assert "hu" not in err
    # The password alone in place of the URL.
    for name in ("SHOP_URL", "MINTKEY_URL"):
        monkeypatch.setenv(name, secret)
        ended = shell("tables", f"env:{name}", url=False)
        assert ended == ("", f"mintkey: env:{name}: the environment variable {name} has no URL\n", 2)
    assert "hu" not in shell("tables", url=False).err
    monkeypatch.delenv("SHOP_URL")
    ended = shell("tables", "env:SHOP_URL", url=False)
    assert ended == ("", "mintkey: env:SHOP_URL: the environment variable SHOP_URL is not set\n", 2)


def test_a_store_that_cannot_be_reached(shell):
    for name in ("ping", "tables"):
        out, err, code = shell(name, "redis://127.0.0.1:1/0?timeout=0.2", url=False)
        assert (out, code) == ("", 3)
        assert "127.0.0.1:1" in err
        assert err.startswith("mintkey: cannot connect") or name == "ping"
        assert err.count("\n") == 1


def test_a_slip_in_the_name_of_a_file_creates_no_database(shell, tmp_path):
    for arguments in (["tables"], ["scan", "orders"], ["export", "orders", "-"]):
        _, err, code = shell(arguments[0], f"sqlite:///{tmp_path}/no%20such.db", *arguments[1:], url=False)
        assert f"there is no file {tmp_path}/no such.db" in err
        assert code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("arguments", [["new", "ulid"], ["--version"], ["copy", "--help"]])
def test_a_full_disk_is_one_line(arguments):
    with Path("/dev/full").open("wb") as full_device:
        done = subprocess.run(
            [sys.executable, "-m", "mintkey", *arguments],
            stdout=full_device,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    full = "No space left on device: free space, or name a file on another disk"
    assert (done.stderr, done.returncode) == (f"mintkey: standard output: {full}\n", 1)


@pytest.mark.parametrize(
    ("command", "ending", "shown"),
    [
        ("new ulid", ">&-", ("", "mintkey: standard output is closed\n", 1)),
        ("import sqlite:// things", "<&-", (counted(failed=1), "mintkey: standard input: there are no lines\n", 1)),
        ("inspect", "<&-", ("", "", 0)),
        ("nothing", "2>&-", ("", "", 2)),
    ],
)
def test_closed_standard_streams(command, ending, shown):
    line = f"{sys.executable} -m mintkey {command} {ending}"
    done = subprocess.run(line, shell=True, check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_errors_that_nobody_reads_change_no_exit_code():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "mintkey", "nothing"], stderr=full, check=False)
    assert done.returncode == 2


#: Sends itself a signal when all rows are read, and the file is not complete yet.
SIGNALLED = """
import signal, sys
from mintkey.cli import main, transfer
number, ignored, *arguments = sys.argv[1:]
all_rows = transfer.scanned
def scanned(*given):
    yield from all_rows(*given)
    signal.raise_signal(int(number))
    signal.raise_signal(int(number))
if ignored == "ignored":
    signal.signal(int(number), signal.SIG_IGN)
transfer.scanned = scanned
main(arguments)
"""


def signalled(number: int, ignored: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an export that gets a signal."""
    command = [sys.executable, "-c", SIGNALLED, str(int(number)), ignored, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [
        (signal.SIGTERM, 143, "rows.jsonl.gz"),
        (signal.SIGHUP, 129, "rows.jsonl"),
        (signal.SIGINT, 130, "rows.jsonl.gz"),
    ],
)
def test_a_signal_leaves_no_half_of_a_file(tmp_path, number, code, name):
    url, file = f"sqlite:///{tmp_path}/shop.db", tmp_path / name
    fill(url, LINES)
    file.write_text("old")
    done = signalled(number, "", "export", url, "orders", str(file))
    assert (done.stdout, done.returncode) == ("", code)
    assert done.stderr == f"mintkey: interrupted: {file} was not written; run the command again\n"
    assert file.read_text() == "old"
    assert not list(tmp_path.glob("*.partial"))


def test_a_signal_that_is_ignored_does_not_end_the_command(tmp_path):
    url, file = f"sqlite:///{tmp_path}/shop.db", tmp_path / "rows.jsonl"
    fill(url, LINES)
    # As nohup does.
    done = signalled(signal.SIGHUP, "ignored", "export", url, "orders", str(file))
    assert (done.stdout, done.stderr, done.returncode) == ('{"exported": 6}\n', "", 0)
    assert len(file.read_text().splitlines()) == len(LINES) + 2


def test_output_is_utf_8_in_every_locale():
    for encoding in ("ascii", "latin-1"):
        done = subprocess.run(
            [sys.executable, "-m", "mintkey", "new", "ulid", "--prefix", "é😀"],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            stdout=subprocess.PIPE,
            check=True,
        )
        assert done.stdout.decode().startswith("é😀")


def test_a_reader_that_ends_is_no_error():
    command = f"{sys.executable} -m mintkey new ulid -n 100000 | head -n 1"
    done = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
    assert (len(done.stdout.split()), done.stderr) == (1, "")
