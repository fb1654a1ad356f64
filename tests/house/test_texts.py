"""The texts of the repository: the pages, versions and paths that they name, and the length of files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import PurePosixPath

WEB_ADDRESS = re.compile(r"\w+://\S+")
PAGE = re.compile(r"(?<![\w*{}])[\w./-]*\w\.md\b")
SECTION = re.compile(r"\bsections? \d", re.IGNORECASE)
PUBLIC_DOCUMENT = re.compile(r"\b(RFC|ISO|PEP|spec)\b|://", re.IGNORECASE)
# An absolute path in a home directory or a checkout.
MACHINE = re.compile(r"(?<![\w./$}*-])/(?:home|root|Users|work)/\w")
# mkdocs reports pages that are missing.
NAMES_PAGES_OF_THE_SITE = {"mkdocs.yml", "tools/cli_page.py", "tools/site_pages.py"}

# Longer files are hard to understand.
LONGEST_FILE = 600
LONGER_FOR_A_REASON: dict[str, str] = {}
#: The same of the statements of a function.
LONGEST_FUNCTION = 60

RELEASE = re.compile(r"^## \[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d{2}-\d{2}$")


def lines(texts):
    """Every line of every file, with its position."""
    for name, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            yield f"{name}:{number}", name, line


def test_every_page_that_is_named_exists(texts):
    missing = []
    for place, name, line in lines(texts):
        if name in NAMES_PAGES_OF_THE_SITE:
            continue
        for page in PAGE.findall(WEB_ADDRESS.sub("", line)):
            beside = (PurePosixPath(name).parent / page).as_posix()
            if {page.removeprefix("./"), normal(beside)}.isdisjoint(texts):
                missing.append(f"{place} names {page}")
    assert not missing


def normal(path: str) -> str:
    """Resolve `.` and `..` in a path."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def test_a_section_is_named_with_its_public_document(texts):
    bare = [place for place, _, line in lines(texts) if SECTION.search(line) and not PUBLIC_DOCUMENT.search(line)]
    assert not bare


def test_no_file_names_a_path_of_one_machine(texts):
    assert not [place for place, _, line in lines(texts) if MACHINE.search(WEB_ADDRESS.sub("", line))]


def test_files_are_short_or_have_a_reason(texts):
    sources = {name: text for name, text in texts.items() if name.endswith((".py", ".pyi", ".rs"))}
    assert sources
    long = {name for name, text in sources.items() if text.count("\n") > LONGEST_FILE}
    assert long - set(LONGER_FOR_A_REASON) == set()


def test_functions_of_the_package_are_short(texts):
    sources = {name: text for name, text in texts.items() if re.match(r"python/mintkey/.*\.py$", name)}
    assert len(sources) > 50
    lengths = {f"{name}: {own}": length for name, text in sources.items() for own, length in functions(text)}
    assert [label for label, length in lengths.items() if length > LONGEST_FUNCTION] == []


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Each function, and the lines of its statements without the docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            statements = node.body[ast.get_docstring(node) is not None :]
            yield node.name, node.end_lineno - statements[0].lineno + 1 if statements and node.end_lineno else 0


def test_the_changelog_knows_the_version(texts, crates):
    (written,) = {package["version"] for package in crates.values()}
    current = tuple(map(int, written.split(".")))
    headings = [line for line in texts["CHANGELOG.md"].splitlines() if line.startswith("## ")]
    has_unreleased = headings[0] == "## [Unreleased]"
    released = []
    for heading in headings[has_unreleased:]:
        match = RELEASE.match(heading)
        assert match, f"{heading!r} is no release: write `## [1.2.3] - 2026-01-31`"
        released.append(tuple(map(int, match.groups())))
    assert released == sorted(set(released), reverse=True)
    # The version is raised with its section, or before, while the changes stand under "Unreleased".
    assert current == released[0] or (has_unreleased and current > released[0])


def test_the_installed_package_has_the_workspace_version(crates):
    assert {package["version"] for package in crates.values()} == {version("mintkey")}


def test_every_decision_is_numbered_and_listed(texts):
    pages = sorted(name for name in texts if re.match(r"docs/decisions/\d", name))
    # Pages take a number when they are started, and may be finished in another order, so there may be gaps.
    numbers = [int(PurePosixPath(name).name[:4]) for name in pages]
    assert numbers == sorted(set(numbers))
    index = texts["docs/decisions/README.md"]
    assert [name for name in pages if f"]({PurePosixPath(name).name})" not in index] == []
