"""`import mintkey` loads few modules: slow ones are imported when they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mintkey

LATER = {"asyncio", "difflib", "hashlib", "json", "logging", "ssl", "subprocess"}


@pytest.mark.parametrize("statement", ["import mintkey", "from mintkey import Model, connect"])
def test_slow_modules_are_not_loaded_by_the_import(statement):
    told = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = set(told.stdout.split())
    assert "mintkey" in loaded
    assert loaded & LATER == set()


def test_the_command_imports_nothing_before_it_reports_ctrl_c():
    program = "import sys; before = set(sys.modules); import mintkey.cli; print(*set(sys.modules) - before)"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert set(told.stdout.split()) <= {"__future__", "errno", "io", "mintkey", "mintkey.cli", "os"}


#: Runs a module as the command, and raises what Ctrl-C raises when another one is imported.
INTERRUPTED = """
import runpy, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[2]:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
runpy.run_module(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize(("module", "told"), [("mintkey.cli", ""), ("mintkey.cli.endings", "mintkey: interrupted\n")])
def test_ctrl_c_while_modules_are_imported_is_no_traceback(module, told):
    command = [sys.executable, "-c", INTERRUPTED, "mintkey", module]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", told, 130)


def test_type_checkers_can_read_every_name_that_the_package_exports():
    body = ast.parse(Path(mintkey.__file__).read_text(encoding="utf-8")).body
    listed = next(
        part.value for part in body if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "__all__"
    )
    names = ast.literal_eval(listed)
    assert sorted(names) == sorted({*mintkey._MODULE_OF, "__version__"})
    assert all(hasattr(mintkey, name) for name in names)


def test_only_modules_that_users_import_list_their_names():
    package = Path(mintkey.__file__).parent
    private = ["cli", "copies", "definitions", "formats", "methods", "operations", "results"]
    modules = [file for name in private for file in (package / name).glob("[!_]*.py")]
    assert len(modules) > len(private)
    assert [str(file) for file in modules if "__all__" in file.read_text(encoding="utf-8")] == []
