"""Programs that write until a test kills them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.chaos.ledger import Ledger
from tests.chaos.writers import PATIENCE

ROOT = Path(__file__).parents[2]
SQLITE_SAYS = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone())"


class Program:
    """A program that writes until it is killed, and what it said: a module of this folder with its arguments."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"tests.chaos.{module}", *arguments]
        self.ledger = Ledger()
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._said, self._complaints = self.process.stdout, self.process.stderr

    def run(self, writes: int) -> None:
        """Let it write so many rows."""
        while self.ledger.writes < writes:
            line = self._said.readline()
            assert line.endswith("\n"), self._complaints.read()
            self.ledger.take_line(line)

    def kill(self) -> None:
        """Kill it, and take what it said until then; a second time does nothing."""
        if self.process.returncode is not None:
            return
        self.process.kill()
        with self._said, self._complaints:
            for line in self._said:
                # The last line may be half a one.
                if line.endswith("\n"):
                    self.ledger.take_line(line)
            assert self._complaints.read() == ""
        self.process.wait(PATIENCE)


def check_file(address: str) -> None:
    """Check a database file in another process."""
    command = [sys.executable, "-c", SQLITE_SAYS, address.removeprefix("sqlite:///")]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout == "ok\n"
