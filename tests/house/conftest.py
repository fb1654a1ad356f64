"""Fixtures that read the files of the repository."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> dict[str, str]:
    """The text of every file that git tracks or would add, by path, without generated files."""
    git = ["git"]
    if not (ROOT / ".git").exists():
        # A source distribution: an empty repository knows which files are ignored.
        empty = tmp_path_factory.mktemp("repository")
        subprocess.run(["git", "init", "--quiet", empty], check=True)
        git += [f"--git-dir={empty}/.git", f"--work-tree={ROOT}"]
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = {}
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        made = name in {"Cargo.lock", "PKG-INFO", "THIRD-PARTY-NOTICES.txt"} or name.startswith("requirements/")
        if made or not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            found[name] = content.decode()
    return found


@pytest.fixture(scope="session")
def crates() -> dict[str, dict[str, Any]]:
    """The metadata of each crate of the workspace, by the name of its folder."""
    told = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--locked", "--format-version", "1"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {Path(package["manifest_path"]).parent.name: package for package in json.loads(told)["packages"]}
