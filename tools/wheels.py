"""Build the packages, and try each in an empty environment: a source distribution, and a wheel for each Python.

    python tools/wheels.py FOLDER

The Pythons are this one and all of python3.10 to python3.15 that are found. On Linux the wheels run with glibc 2.28 and
later. A wheel contains no paths of this machine. Cargo may build with fewer jobs: CARGO_BUILD_JOBS=1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = 10, 15
OLD_GLIBC = ["--zig", "--compatibility", "manylinux_2_28"] if sys.platform == "linux" else []


def own_paths() -> dict[Path, str]:
    """Return the folders of this machine that compilers write into programs, and the name that each gets instead."""
    home = Path.home()
    return {home: "home", Path(os.environ.get("CARGO_HOME", home / ".cargo")): "cargo", ROOT: "mintkey"}


def without_own_paths() -> str:
    """Return the options of the Rust compiler, as Cargo takes them from CARGO_ENCODED_RUSTFLAGS."""
    renamed = [f"--remap-path-prefix={path}={name}" for path, name in own_paths().items()]
    return "\x1f".join([*os.environ.get("RUSTFLAGS", "").split(), *renamed])


def run(*command: str | Path, folder: Path = ROOT, variables: dict[str, str] | None = None) -> str:
    print("+", *command, flush=True)
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    # maturin finds zig and the Python of this environment.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment |= variables or {}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def pythons() -> list[str]:
    """Each Python that a wheel is built for."""
    found = {sys.version_info[1]: sys.executable}
    for minor in range(OLDEST, NEWEST + 1):
        path = shutil.which(f"python3.{minor}")
        # A launcher may be there without its Python.
        if path is not None and not subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode:
            found.setdefault(minor, path)
    return [found[minor] for minor in sorted(found)]


def check_contents(wheel: Path) -> None:
    """Refuse a wheel that lacks licences, stubs or the marker of its types, or that has paths of this machine."""
    with zipfile.ZipFile(wheel) as archive:
        contents = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    for needed in ("licenses/LICENSE", "licenses/THIRD-PARTY-NOTICES.txt", "_core.pyi", "py.typed"):
        if needed not in contents:
            sys.exit(f"{wheel.name} has no {needed}")
    for name, content in contents.items():
        for path in own_paths():
            if f"{path}/".encode() in content:
                sys.exit(f"{wheel.name}: {name} has a path in {path}")


def try_package(package: Path, python: str, variables: dict[str, str] | None = None) -> None:
    """Install a package in an empty environment; run an example, the command, and with the extra `cli` the demo."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(python, "-m", "venv", folder / "empty")
        own = folder / "empty" / "bin" / "python"
        install = (own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*install, package, variables=variables)
        print(run(own, ROOT / "examples" / "basic_order.py", folder=folder))
        print(run(own.with_name("mintkey"), "new", "ulid", folder=folder))
        if package.suffix == ".whl":  # a source distribution would be built again
            run(*install, f"{package}[cli]")
            print(run(own, "-m", "mintkey.demo", folder=folder))


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    run("maturin", "sdist", "--out", folder)
    (source,) = folder.iterdir()
    # As a user installs it, but with the compiled crates of `make build`. Not with mintkey's own: Cargo compares times,
    # and the files of a source distribution are old.
    own_crates = [f"--package=mintkey-{path.name}" for path in (ROOT / "crates").iterdir()]
    run("cargo", "clean", "--release", *own_crates)
    try_package(source, sys.executable, {"CARGO_TARGET_DIR": str(ROOT / "target")})
    for python in pythons():
        known = set(folder.glob("*.whl"))
        options: list[str | Path] = [*OLD_GLIBC, "--interpreter", python, "--out", folder]
        variables = {"CARGO_ENCODED_RUSTFLAGS": without_own_paths()}
        run("maturin", "build", "--release", "--locked", *options, variables=variables)
        (wheel,) = set(folder.glob("*.whl")) - known
        check_contents(wheel)
        try_package(wheel, python)
    for made in sorted(folder.iterdir()):
        print(made, f"{made.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
