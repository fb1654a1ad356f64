"""The command on a real terminal: tables, progress, Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.cli.conftest import LINES, drop_tables, fill


class Terminal:
    """A terminal of its own, on which one command runs."""

    def __init__(self) -> None:
        self.keyboard, self.screen = pty.openpty()
        self.shown = ""

    def start(
        self, *arguments: str, stdin: int | None = None, stdout: int | None = None, columns: int = 100
    ) -> subprocess.Popen[bytes]:
        """Start the command. A stream that is not given is the terminal."""

        def take_terminal() -> None:
            fcntl.ioctl(self.screen, termios.TIOCSCTTY, 0)

        process = subprocess.Popen(
            [sys.executable, "-m", "mintkey", *arguments],
            stdin=self.screen if stdin is None else stdin,
            stdout=self.screen if stdout is None else stdout,
            stderr=self.screen,
            env={**os.environ, "COLUMNS": str(columns)},
            start_new_session=True,
            preexec_fn=take_terminal,  # noqa: PLW1509 - the test has one thread
            pass_fds=[self.screen],
        )
        os.close(self.screen)
        return process

    def read_until(self, text: str | None) -> str:
        """Read what is shown until a text has come, or until the command has ended."""
        while text is None or text not in self.shown:
            try:
                shown = os.read(self.keyboard, 10_000)
            except OSError:  # the last process has closed the terminal
                break
            if not shown:
                break
            self.shown += shown.decode()
        return self.shown

    def close(self) -> None:
        """Close the terminal: the command gets SIGHUP."""
        with suppress(OSError):  # it is closed
            os.close(self.keyboard)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.fixture
def filled(url) -> Iterator[str]:
    """The URL of a store with orders."""
    fill(url, LINES)
    yield url
    drop_tables(url)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_rows_are_a_table_on_a_terminal(terminal, filled):
    with terminal.start("query", filled, "orders", "B") as process:
        shown = terminal.read_until(None).splitlines()
    assert process.returncode == 0
    assert shown[0].split()[:2] == ["pk", "sk"]
    assert shown[2].split()[:2] == ["B", "1"]


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_narrow_terminal_shows_a_part_of_the_progress(terminal, filled, tmp_path, columns):
    file = str(tmp_path / "rows.jsonl")
    with terminal.start("export", filled, "orders", file, stdout=subprocess.DEVNULL, columns=columns) as process:
        shown = terminal.read_until(None)
    assert process.returncode == 0
    assert max(map(len, shown.replace("\x1b[K", "").split("\r"))) == columns - 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_progress_is_shown_on_a_terminal_only(terminal, filled, tmp_path):
    file = tmp_path / "rows.jsonl"
    with terminal.start("export", filled, "orders", str(file), stdout=subprocess.DEVNULL) as process:
        shown = terminal.read_until(None)
    assert process.returncode == 0
    assert "export orders" in shown
    assert "6 rows" in shown
    # The line is removed at the end.
    assert shown.endswith("\r\x1b[K")
    quiet = subprocess.run(
        [sys.executable, "-m", "mintkey", "export", filled, "orders", str(file)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert (quiet.stdout, quiet.stderr) == ('{"exported": 6}\n', "")


def test_ctrl_c_says_how_to_go_on(terminal, filled):
    rows = b"".join(b'{"pk":"C","sk":%d}\n' % number for number in range(600))
    with terminal.start("import", filled, "orders", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(rows)
        process.stdin.flush()
        assert "500 rows" in terminal.read_until("500 rows")
        os.write(terminal.keyboard, b"\x03")
        shown = terminal.read_until(None)
    assert process.returncode == 130
    assert "500 rows are written; to continue, run the command again with --on-conflict skip" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_terminal_that_is_closed_ends_the_command(terminal, filled):
    with terminal.start("import", filled, "orders", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"".join(b'{"pk":"C","sk":%d}\n' % number for number in range(600)))
        process.stdin.flush()
        assert "500 rows" in terminal.read_until("500 rows")
        terminal.close()
        assert process.wait(60) == 129


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_rows_that_are_to_be_replaced_are_not_skipped_later(terminal, filled, tmp_path):
    # The six orders are written at once, the others would take a minute.
    rows = "".join(f'{{"id":{number}}}\n' for number in range(1_000))
    new = [sys.executable, "-m", "mintkey", "import", filled, "others", "--partition-key", "id:N"]
    subprocess.run(new, input=rows, text=True, check=True, stdout=subprocess.DEVNULL)
    target = f"sqlite:///{tmp_path}/target.db"
    copy = ("copy", filled, target, "orders", "others", "--on-conflict", "replace", "--rate", "15")
    with terminal.start(*copy) as process:
        assert "6 rows" in terminal.read_until("6 rows")
        os.write(terminal.keyboard, b"\x03")
        shown = terminal.read_until(None)
    assert process.returncode == 130
    assert "6 rows are copied; to continue, run the same command again" in shown


@pytest.mark.parametrize("ended_by", ["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_copy_that_was_interrupted_goes_on(terminal, filled, tmp_path, ended_by):
    others = "".join(f'{{"id":{number}}}\n' for number in range(1_000))
    mintkey = [sys.executable, "-m", "mintkey"]
    new = [*mintkey, "import", filled, "others", "--partition-key", "id:N"]
    subprocess.run(new, input=others, text=True, check=True, stdout=subprocess.DEVNULL)
    state, target = tmp_path / "state.json", f"sqlite:///{tmp_path}/target.db"
    copy = ("copy", filled, target, "orders", "others", "--resume", str(state))
    # The six orders are written at once, the others would take a minute.
    with terminal.start(*copy, "--rate", "15") as process:
        assert "6 rows" in terminal.read_until("6 rows")
        if ended_by == "Ctrl-C":
            os.write(terminal.keyboard, b"\x03")
        else:
            process.terminate()
        shown = terminal.read_until(None)
    assert process.returncode == (130 if ended_by == "Ctrl-C" else 143)
    assert f"6 rows are copied; to continue, run the same command again: {state} keeps the state" in shown
    done = subprocess.run([*mintkey, *copy, "--verify"], check=True, capture_output=True, text=True)
    assert [json.loads(line)["written"] for line in done.stdout.splitlines()] == [6, 1_000]
    assert not state.exists()
