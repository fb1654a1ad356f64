"""Dependencies run one way, in Python and in Rust, and the binding is the only crate that knows Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

# Which crates of this workspace a crate may depend on. A store crate depends on the contract and on what stores share.
ABOVE_ALL = "python"
KNOWN = {"ids": set[str](), "store": set[str](), "runtime": {"mintkey-store"}}
KNOWN_TO_STORES = {"mintkey-store", "mintkey-runtime"}


@pytest.fixture
def package(root, tmp_path) -> Path:
    """A copy of the Python package, in which an empty module stands for the compiled one.

    The linter reads sources only: it would take an import of `mintkey._core` for one of `mintkey` itself.
    """
    shutil.copy(root / "pyproject.toml", tmp_path)
    copied = tmp_path / "mintkey"
    shutil.copytree(root / "python" / "mintkey", copied, ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    (copied / "_core.py").touch()
    return copied


def lint_imports(package: Path) -> subprocess.CompletedProcess[str]:
    """Run the contract of pyproject.toml."""
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=package.parent,
        env={"PYTHONPATH": str(package.parent), "PYTHONUTF8": "1"},
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_python_modules_import_only_what_lies_below_them(package):
    done = lint_imports(package)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("errors.py", "import mintkey.conditions", "mintkey.errors is not allowed to import mintkey.conditions"),
        ("errors.py", "from mintkey import hooks", "mintkey.errors is not allowed to import mintkey.hooks"),
        ("_core.py", "from mintkey.errors import InvalidId", "mintkey._core is not allowed to import mintkey.errors"),
        ("without_a_layer.py", "", "without_a_layer"),
    ],
)
def test_the_contract_notices(package, module, line, complaint):
    with (package / module).open("a", encoding="utf-8") as broken:
        broken.write(f"\n{line}\n")

    done = lint_imports(package)

    assert done.returncode == 1
    assert complaint in done.stdout


def test_crates_name_only_what_lies_below_them(crates):
    names = {package["name"] for package in crates.values()}
    for folder, package in crates.items():
        if folder == ABOVE_ALL:
            continue
        # The tests of a store use the test kit, which names only the contract.
        used = {dependency["name"] for dependency in package["dependencies"] if dependency["kind"] != "dev"}
        known = used & names
        assert known <= KNOWN.get(folder, KNOWN_TO_STORES), f"crates/{folder} depends on {known}"


def test_only_the_binding_knows_python(root, crates):
    reached = {folder: tree(root, package["name"]) for folder, package in crates.items()}
    assert {folder for folder, packages in reached.items() if "pyo3-ffi" in packages} == {ABOVE_ALL}


def tree(root: Path, package: str) -> set[str]:
    """The names of all packages that `package` is built from, for building and for its tests."""
    done = subprocess.run(
        ["cargo", "tree", "--locked", "--package", package, "--edges", "all", "--prefix", "none", "--format", "{p}"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return {line.split()[0] for line in done.stdout.splitlines() if line}
