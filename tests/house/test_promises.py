"""docs/promises.md names tests for each promise of the README and the guides. These tests must exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

PAGE = "docs/promises.md"
ROW = re.compile(r"^\| (?P<promise>.+?) \((?P<links>\[.*\))\) \| (?P<tests>.+) \|$")
TEST = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")
NODE = re.compile(r"(?P<path>tests/\w+/test_\w+\.py|crates/\w+/(?:tests|src)/[\w/]+\.rs)::(?P<name>\w+)")


@pytest.fixture(scope="module")
def rows(root) -> list[re.Match[str]]:
    """The rows of all tables of the page, without their headings."""
    lines = [line for line in (root / PAGE).read_text("utf-8").splitlines() if line.startswith("|")]
    told = [line for line in lines if line != "| promise | tests |" and not line.startswith("|---")]
    found = [ROW.match(line) for line in told]
    assert [line for line, match in zip(told, found, strict=True) if match is None] == []
    return [match for match in found if match is not None]


@functools.cache
def defined_tests(path: Path) -> frozenset[str]:
    """The names of the tests in a Python or a Rust file."""
    if not path.is_file():
        return frozenset()
    text = path.read_text("utf-8")
    if path.suffix == ".rs":
        return frozenset(re.findall(r"\bfn (\w+)\(", text))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in ast.parse(text).body if isinstance(node, functions)}
    return frozenset(name for name in names if name.startswith("test_"))


def missing(root: Path, nodes: list[str]) -> list[str]:
    """The node paths without a test."""
    matches = [(node, NODE.fullmatch(node)) for node in nodes]
    return [
        node for node, match in matches if match is None or match["name"] not in defined_tests(root / match["path"])
    ]


def sections(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_promise_names_tests_that_exist(root, rows):
    assert rows
    nodes = {row["promise"]: TEST.findall(row["tests"]) for row in rows}
    assert [promise for promise, named in nodes.items() if not named] == []
    assert missing(root, [node for named in nodes.values() for node in named]) == []


def test_no_promise_is_repeated(rows):
    promises = [row["promise"] for row in rows]
    assert sorted(promises) == sorted(set(promises))


def test_each_guide_makes_a_promise(root, rows):
    named = {(root / "docs" / target).resolve() for row in rows for target, _ in LINK.findall(row["links"])}
    guides = {path.resolve() for path in (root / "docs" / "guides").glob("*.md")}
    assert sorted((guides | {root / "README.md"}) - named) == []


def test_links_resolve(root, rows):
    broken = [
        f"{target}#{anchor}"
        for row in rows
        for target, anchor in LINK.findall(row["links"])
        if not (root / "docs" / target).is_file() or (anchor and anchor not in sections(root / "docs" / target))
    ]
    assert broken == []


@pytest.mark.parametrize(
    "node",
    [
        "tests/house/test_promises.py::test_that_was_renamed",
        "tests/house/test_renamed.py::test_no_promise_is_repeated",
        "tests/house/test_promises.py::missing",
        "tests/house/test_promises.py",
        "crates/ids/tests/vectors.rs::renamed",
        "crates/ids/tests/renamed.rs::rfc_9562",
    ],
)
def test_a_test_that_does_not_exist_is_found(root, node):
    assert missing(root, [node, "tests/house/test_promises.py::test_no_promise_is_repeated"]) == [node]
    assert missing(root, ["crates/ids/tests/vectors.rs::rfc_9562"]) == []
