"""What a package contains, and what it says of itself. `make wheels` builds the wheels and tries them."""

from __future__ import annotations

import email
import os
import re
import runpy
import subprocess
import sys
import tarfile
import zipfile
from contextlib import nullcontext
from pathlib import Path, PurePosixPath

import pytest

LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.slow
def test_a_source_distribution_is_the_checkout(root, texts, tmp_path):
    subprocess.run(
        [Path(sys.executable).with_name("maturin"), "sdist", "--out", str(tmp_path)],
        cwd=root,
        env={**os.environ, "CARGO_NET_OFFLINE": "true"},
        check=True,
        capture_output=True,
    )
    (packed,) = tmp_path.iterdir()
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        folder = packed.name.removesuffix(".tar.gz")
        file = archive.extractfile(f"{folder}/PKG-INFO")
        assert file is not None
        head, _, page = file.read().decode().partition("\n\n")
    # What belongs to the host of the repository is left out.
    assert {name for name in texts if not name.startswith(".github/")} - names == set()
    assert {"Cargo.lock", "THIRD-PARTY-NOTICES.txt", "requirements/dev.txt", ".ci/run"} - names == set()
    assert [name for name in names if PurePosixPath(name).suffix in {".so", ".pyc", ".pyd"} or "/target/" in name] == []

    told = email.message_from_string(head)
    assert told["Author"] == "mintkey maintainers"
    assert (told["License-Expression"], told.get_all("License-File")) == ("MIT", ["LICENSE", "THIRD-PARTY-NOTICES.txt"])
    assert page.strip() == (root / "docs/package.md").read_text("utf-8").strip()
    # A package index shows the page alone: a relative link would lead nowhere.
    assert [link for link in LINK.findall(page) if not link.startswith(("https://", "#"))] == []


def test_a_wheel_with_paths_of_this_machine_is_refused(root, tmp_path):
    check = runpy.run_path(str(root / "tools/wheels.py"))["check_contents"]
    wheel = tmp_path / "mintkey.whl"
    needed = ["mintkey/_core.pyi", "mintkey/py.typed"]
    needed += [f"mintkey.dist-info/licenses/{name}" for name in ("LICENSE", "THIRD-PARTY-NOTICES.txt")]
    for path, is_refused in (("crates", False), (root / "crates", True), (Path.home() / ".cargo", True)):
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in needed:
                archive.writestr(name, "")
            archive.writestr("mintkey/_core.so", f"\0panicked at {path}/ids/src/lib.rs\0")
        with pytest.raises(SystemExit, match=r"_core\.so has a path in") if is_refused else nullcontext():
            check(wheel)


def test_the_classifiers_are_the_support_matrix(root):
    classifiers = (root / "pyproject.toml").read_text("utf-8")
    named = {int(minor) for minor in re.findall(r"Python :: 3\.(\d+)\"", classifiers)}
    matrix = (root / "docs/support.md").read_text("utf-8")
    rows = re.findall(r"^\| CPython ((?:3\.\d+(?:, )?)+) \| tried: ", matrix, re.MULTILINE)
    assert named == {int(version.partition(".")[2]) for row in rows for version in row.split(", ")}
    assert ":: Microsoft" not in classifiers
    assert ":: MacOS" not in classifiers
