"""docs/architecture.md and the list of decisions match the code."""

from __future__ import annotations

import re

import pytest


@pytest.fixture
def page(root):
    return (root / "docs/architecture.md").read_text("utf-8")


def test_the_diagram_shows_the_dependencies_of_the_crates(page, crates):
    picture = page.partition("```mermaid\n")[2].partition("```")[0]
    drawn = {pair for pair in re.findall(r"^ *(\w+) --> (\w+)$", picture, re.MULTILINE) if set(pair) <= crates.keys()}
    packages = {package["name"]: folder for folder, package in crates.items()}
    known = {
        (folder, packages[dependency["name"]])
        for folder, package in crates.items()
        for dependency in package["dependencies"]
        if dependency["name"] in packages and dependency["kind"] is None
    }
    assert drawn == known


def test_every_module_is_described(page, root):
    modules = {path.stem for path in (root / "python" / "mintkey").glob("*.py")} - {"__init__"}
    rows = re.findall(r"^\| (.*?) \|", page.partition("## The Python modules")[2].partition("\n## ")[0], re.MULTILINE)
    assert modules == {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_decision_is_listed(root):
    folder = root / "docs" / "decisions"
    listed = re.findall(r"^\| (\d+) \| \[(.*)\]\((.*)\) \|$", (folder / "README.md").read_text("utf-8"), re.MULTILINE)
    pages = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    assert [(name, f"# {number}. {title}") for number, title, name in listed] == [
        (path.name, path.read_text("utf-8").partition("\n")[0]) for path in pages
    ]


def test_links_of_pages_resolve(root, texts):
    broken = [
        f"{name}: {link}"
        for name, text in texts.items()
        if name.endswith(".md")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
        if not ((root / name).parent / link).exists()
    ]
    assert broken == []
