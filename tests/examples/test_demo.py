"""`python -m mintkey.demo` as a person runs it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from tests.behaviour.conftest import STORES

pytestmark = pytest.mark.slow


@pytest.fixture
def demo(tmp_path):
    """Runs the demo in an empty folder, on 80 columns."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-X", "utf8", "-m", "mintkey.demo", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "80", **environment},
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )

    return run


def count(text: str, table: str) -> int:
    match = re.search(rf"^ {table} +([\d,]+)", text, re.MULTILINE)
    assert match is not None, text
    return int(match.group(1).replace(",", ""))


def test_twice_on_one_file(demo, tmp_path):
    first = demo()
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stderr == ""
    assert "✗" not in first.stdout
    assert first.stdout.count("✓") == 7
    assert count(first.stdout, "demo_orders") == 1003
    assert count(first.stdout, "demo_events") == 1000
    assert str(tmp_path / "mintkey-demo.db") in first.stdout

    second = demo()
    assert second.returncode == 0, second.stdout + second.stderr
    assert "✗" not in second.stdout
    assert count(second.stdout, "demo_orders") == 2006
    assert count(second.stdout, "demo_events") == 2000


@pytest.mark.parametrize("store", STORES)
def test_on_every_store(demo, tmp_path, store):
    done = demo("--url", STORES[store](tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert done.stdout.count("✓") == 7


def test_fits_a_terminal(demo, tmp_path):
    shown = demo().stdout
    told = shown.index(str(tmp_path))
    assert max(map(len, shown[:told].splitlines())) <= 80


@pytest.mark.parametrize("with_program", [True, False], ids=["sqlite3", "python"])
def test_says_how_to_look_into_the_file(demo, tmp_path, with_program):
    if with_program and shutil.which("sqlite3") is None:
        # The command is then the other one, which the other case runs.
        assert "sqlite3 mintkey-demo.db" not in demo().stdout
        return
    environment = {} if with_program else {"PATH": ""}
    command = shlex.split(demo(**environment).stdout.rpartition("Inspect it:")[2])
    assert (command[0] == "sqlite3") == with_program
    looked = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert looked.stdout.count('"product"') == 3


def test_another_store(demo, tmp_path):
    done = demo("--url", "sqlite:///an%20[odd]%20name.db?sync=normal")
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(tmp_path / "an [odd] name.db") in done.stdout
    assert not (tmp_path / "mintkey-demo.db").exists()
    in_memory = demo("--url", "sqlite://")
    assert in_memory.returncode == 0, in_memory.stdout + in_memory.stderr
    assert "All data is in the store sqlite://." in in_memory.stdout


def test_a_store_that_is_none(demo):
    done = demo("--url", "gopher://hole")
    assert done.returncode == 1
    assert "ConfigurationError" in done.stderr
    assert "gopher" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_rich(tmp_path):
    hide = "import sys; sys.modules['rich'] = None; import runpy; runpy.run_module('mintkey.demo', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", hide], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "pip install 'mintkey[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
