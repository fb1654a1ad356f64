"""What mypy and pyright see of typical mistakes, and which types they know."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MISTAKES = HERE / "mistakes.py"
EXPECTED = HERE / "expected.py"
#: How many mistakes both type checkers must see.
AT_LEAST = 36


def marked(*marks: str) -> set[int]:
    """The numbers of the lines of mistakes.py with one of these marks."""
    lines = enumerate(MISTAKES.read_text("utf-8").splitlines(), start=1)
    return {number for number, line in lines if any(f"  # {mark}: " in line for mark in marks)}


def mypy_errors(page: Path) -> set[int]:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    found = re.findall(r"^(.+?):(\d+): error: ", done.stdout, re.MULTILINE)
    assert {Path(name).name for name, _ in found} <= {page.name}, done.stdout
    return {int(number) for _, number in found}


def pyright_errors(page: Path) -> set[int]:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in told if one["severity"] == "error"}


def test_there_are_40_mistakes_and_76_types():
    assert len(marked("both", "plugin", "neither")) == 40
    assert len(re.findall(r"^ +assert_type\(", EXPECTED.read_text("utf-8"), re.MULTILINE)) == 76
    assert len(marked("both")) >= AT_LEAST


@pytest.mark.parametrize("errors", [mypy_errors, pyright_errors])
def test_mistakes_are_errors_and_nothing_else_is_one(errors):
    assert errors(MISTAKES) == marked("both")


@pytest.mark.parametrize("errors", [mypy_errors, pyright_errors])
def test_types_are_known(errors):
    assert errors(EXPECTED) == set()
