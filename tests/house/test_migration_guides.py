"""Each public name of a package has a row in the guide for those who migrate from it."""

from __future__ import annotations

import functools
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

NAMES = Path(__file__).with_name("peer_names.json")
PEERS: dict[str, dict[str, Any]] = json.loads(NAMES.read_text("utf-8"))
ROW = re.compile(r"^\| (?P<theirs>.+?) (?<!\\)\| (?P<ours>.+) \|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")


def rows(text: str) -> list[tuple[str, str]]:
    """The rows of the tables of a guide, as what is theirs and what is ours."""
    found = [(row["theirs"], row["ours"]) for row in ROW.finditer(text)]
    assert found
    return [row for row in found if CODE.search(row[0])]


@functools.cache
def words(guide: Path) -> frozenset[str]:
    """The words of the code in the first column."""
    told = rows(guide.read_text("utf-8"))
    return frozenset(word for theirs, _ in told for code in CODE.findall(theirs) for word in re.findall(r"\w+", code))


def own_name(name: str) -> str:
    """The last part of a name: `save` of `Model.save`, `limit` of `Model.query(limit)`."""
    return name.rstrip(")").replace("(", ".").rpartition(".")[2]


@pytest.mark.parametrize("package", PEERS)
def test_each_public_name_has_a_row(package, root):
    told = words(root / "docs" / "guides" / f"from-{package}.md")
    assert [name for name in PEERS[package]["names"] if own_name(name) not in told] == []


@pytest.mark.parametrize("package", PEERS)
def test_each_row_says_what_to_do(package, root):
    text = (root / "docs" / "guides" / f"from-{package}.md").read_text("utf-8")
    for theirs, ours in rows(text):
        # A feature that is missing has a reason, or a way to do without it.
        assert not re.fullmatch(r"not here[.:;]?", ours.strip()), theirs


@pytest.mark.parametrize("package", PEERS)
def test_a_guide_names_the_version_that_it_was_written_for(package, root):
    told = " ".join((root / "docs" / "guides" / f"from-{package}.md").read_text("utf-8").split())
    assert f"{package.lower()} {PEERS[package]['version']}" in told.lower()


def test_the_readme_compares_these_versions(root):
    told = " ".join((root / "README.md").read_text("utf-8").split())
    for package in ("pydynox", "PynamoDB", "popoto", "redis-om"):
        assert f"{package} {PEERS[package.lower()]['version']}" in told, "check the table of similar packages"


@pytest.mark.slow
def test_the_names_are_those_of_the_installed_packages(root):
    now = runpy.run_path(str(root / "tools" / "peer_names.py"))["installed"]()
    assert now
    # Some packages cannot be installed on every version of Python.
    assert {package: now[package] for package in PEERS if package in now} == {
        package: PEERS[package] for package in PEERS if package in now
    }, "run `python tools/peer_names.py tests/house/peer_names.json`, and give new names a row"
