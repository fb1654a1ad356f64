"""Build the packages, and try each in an empty environment: a source distribution, and a wheel for each Python.

    python tools/wheels.py FOLDER

The Pythons are this one and all of python3.10 to python3.15 that are found. On Linux the wheels run with glibc 2.28 and
later. Cargo may build with fewer jobs: CARGO_BUILD_JOBS=1.
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


def run(*command: str | Path, folder: Path = ROOT) -> str:
    print("+", *command, flush=True)
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    # maturin finds zig and the Python of this environment.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
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
    """Refuse a wheel that lacks the licences, the stubs or the marker of its types."""
    names = [name.partition("/")[2] for name in zipfile.ZipFile(wheel).namelist()]
    for needed in ("licenses/LICENSE", "licenses/THIRD-PARTY-NOTICES.txt", "_core.pyi", "py.typed"):
        if needed not in names:
            sys.exit(f"{wheel.name} has no {needed}")


def try_wheel(wheel: Path, python: str) -> None:
    """Install a wheel in an empty environment; run an example, and with the extra `cli` the command and the demo."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(python, "-m", "venv", folder / "empty")
        own = folder / "empty" / "bin" / "python"
        install = (own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*install, wheel)
        print(run(own, ROOT / "examples" / "basic_order.py", folder=folder))
        run(*install, f"{wheel}[cli]")
        print(run(own.with_name("mintkey"), "new", "ulid", folder=folder))
        print(run(own, "-m", "mintkey.demo", folder=folder))


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    run("maturin", "sdist", "--out", folder)
    for python in pythons():
        known = set(folder.glob("*.whl"))
        run("maturin", "build", "--release", "--locked", *OLD_GLIBC, "--interpreter", python, "--out", folder)
        (wheel,) = set(folder.glob("*.whl")) - known
        check_contents(wheel)
        try_wheel(wheel, python)
    for made in sorted(folder.iterdir()):
        print(made, f"{made.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
