"""docs/architecture.md and the list of decisions match the code."""

from __future__ import annotations

import re

import pytest

NAMES = re.compile(r"`([\w./]+(?:\.rs|/))`")


@pytest.fixture
def page(root):
    return (root / "docs/architecture.md").read_text("utf-8")


def test_the_diagram_shows_the_dependencies_of_the_crates(root, crates):
    picture = (root / "docs/pictures/architecture.dot").read_text("utf-8")
    arrows = re.findall(r'^ *"?([\w-]+)"? -> "?([\w-]+)"?$', picture, re.MULTILINE)
    drawn = {pair for pair in arrows if set(pair) <= crates.keys()}
    packages = {package["name"]: folder for folder, package in crates.items()}
    known = {
        (folder, packages[dependency["name"]])
        for folder, package in crates.items()
        for dependency in package["dependencies"]
        if dependency["name"] in packages and dependency["kind"] is None
    }
    assert drawn == known


def test_every_module_is_described(page, root):
    package = root / "python" / "mintkey"
    for folder in [package, *(path.parent for path in package.glob("*/__init__.py"))]:
        table = page.partition(f"### `{folder.relative_to(root).as_posix()}`\n")[2].partition("\n#")[0]
        rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
        modules |= {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
        assert sorted(name for row in rows for name in re.findall(r"`([\w./]+)`", row)) == sorted(modules)


def test_every_folder_of_tests_is_described(page, root):
    table = page.partition("\n## The tests\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    folders = {f"{path.parent.name}/" for path in (root / "tests").glob("*/*.py")} - {"behaviour/"}
    assert sorted(name for row in rows for name in re.findall(r"`([\w/]+)`", row)) == sorted(folders)


def test_every_file_of_a_crate_is_described(page, root, crates):
    for crate in crates:
        sources = root / "crates" / crate / "src"
        table = page.partition(f"### `crates/{crate}/src`\n")[2].partition("\n#")[0]
        rows = [row.strip("|").split("|", 1) for row in table.splitlines() if row.startswith("| `")]
        described = [name for row, _ in rows for name in NAMES.findall(row)]
        assert sorted(described) == sorted(path.name + "/" * path.is_dir() for path in sources.iterdir())
        for row, contents in rows:
            folders = [name for name in NAMES.findall(row) if name.endswith("/")]
            inside = [name for name in NAMES.findall(contents) if "crates/" not in name]
            assert [name for name in inside if not any((sources / f / name).exists() for f in folders)] == []


@pytest.mark.slow
def test_every_file_and_function_that_is_named_exists(page, root):
    missing = [path for path in re.findall(r"`((?:crates|python|tests)/[^`]*)`", page) if not (root / path).exists()]
    assert missing == []
    named = [
        (path, name)
        for path, names in re.findall(r"`([\w/.-]+\.(?:rs|py))`:\s((?:`[\w:.]+`(?:, |\sand )?)+)", page)
        for name in re.findall(r"`([\w:.]+)`", names)
    ]
    assert len(named) > 100
    assert [(path, name) for path, name in named if not defines((root / path).read_text("utf-8"), name)] == []
    sources = [path.read_text("utf-8") for path in (root / "crates").rglob("src/**/*.rs")]
    functions = set(re.findall(r"`(\w+::\w+)`", page))
    assert [name for name in functions if not any(defines(source, name) for source in sources)] == []


def defines(code: str, name: str) -> bool:
    """Whether a file defines a function, type or constant: `Type::function` of Rust, `Class.method` of Python."""
    owner, _, last = name.replace("::", ".").rpartition(".")
    defined = re.search(rf"\b(?:fn|struct|enum|trait|const|def|class) {last}\b", code)
    return defined is not None and (not owner or re.search(rf"\b(?:impl|trait|class)\b.*\b{owner}\b", code) is not None)


def test_every_decision_is_listed(root):
    folder = root / "docs" / "decisions"
    listed = re.findall(r"^\| (\d+) \| \[(.*)\]\((.*)\) \|$", (folder / "README.md").read_text("utf-8"), re.MULTILINE)
    pages = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    assert [(name, f"# {number}. {title}") for number, title, name in listed] == [
        (path.name, path.read_text("utf-8").partition("\n")[0]) for path in pages
    ]


def test_files_that_decisions_name_exist(root, texts):
    missing = [
        f"{page.name}: {name}"
        for page in (root / "docs" / "decisions").glob("*.md")
        for name in re.findall(
            r"`([\w./-]+\.(?:rs|py|toml|txt)|(?:crates|python|tests)/[\w./-]+)`", page.read_text("utf-8")
        )
        if not (root / name).exists() and not any(f"/{path}".endswith(f"/{name}") for path in texts)
    ]
    assert missing == []


def test_links_of_pages_resolve(root, texts):
    broken = [
        f"{name}: {link}"
        for name, text in texts.items()
        if name.endswith(".md")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
        if not ((root / name).parent / link).exists()
    ]
    assert broken == []
