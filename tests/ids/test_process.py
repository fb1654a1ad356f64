"""What minting costs a process: imports, system calls, memory; and where it may run."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(code: str, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )


def test_the_generators_need_no_store_and_no_models() -> None:
    done = run("""
        import sys
        import mintkey.generators
        print([name for name in sys.modules if name.startswith("mintkey")])
        print([name for name in ("asyncio", "inspect", "logging", "json", "dataclasses") if name in sys.modules])
    """)
    ours, heavy = done.stdout.split("\n")[:2]
    known = {"mintkey", "mintkey._core", "mintkey.errors", "mintkey.generators"}
    known |= {f"mintkey.generators.{name}" for name in ("ids", "strategies", "values")}
    assert set(ast.literal_eval(ours)) == known, done.stderr
    assert heavy == "[]", "these alone take longer to import than all the rest"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace counts the system calls")
def test_a_hundred_thousand_ids_make_few_system_calls_and_only_for_randomness(tmp_path: Path) -> None:
    """The marks are writes to descriptor 1; between two of them there is nothing but their own."""
    code = """
        import os
        from mintkey import generators as g
        functions = [g.uuid4, g.uuid7, g.ulid, g.ksuid, g.nanoid, g.typeid, g.xid, g.cuid2,
                     g.epoch, g.epoch_ms, g.iso8601, g.iso8601_ms]
        for function in functions:
            function()
        for function in functions:
            os.write(1, b"begin " + function.__name__.encode())
            for _ in range(100_000):
                function()
            os.write(1, b"end")
    """
    trace = tmp_path / "trace"
    done = run(code, "strace", "-o", str(trace), "-e", "signal=none")
    if "ptrace" in done.stderr.lower():
        pytest.skip("this system lets nobody trace")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().split("\n")
    begins = [at for at, line in enumerate(lines) if line.startswith('write(1, "begin')]
    assert len(begins) == 12
    for at in begins:
        # The clock may be read through a system call where the kernel offers nothing better.
        between = []
        for line in lines[at + 1 :]:
            if line.startswith('write(1, "end"'):
                break
            between.append(line)
        assert all(line.startswith("getrandom(") for line in between), lines[at]
        assert len(between) <= 1_000, lines[at]


@pytest.mark.slow
def test_ids_leave_no_memory_behind() -> None:
    done = run("""
        import resource
        from mintkey.generators import AutoGenerate, generate_many, generate_value
        def mint():
            for member in AutoGenerate:
                generate_many(member, 20_000)
                for _ in range(5_000):
                    generate_value(member)
        mint()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(5):
            mint()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """)
    assert int(done.stdout) < 2_000, done.stderr


def test_a_subinterpreter_is_refused_clearly() -> None:
    done = run("""
        import mintkey.generators
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            import _interpreters as interpreters
        other = interpreters.create()
        code = "try: import mintkey.generators\\nexcept ImportError as refusal: print('refused:', refusal, flush=True)"
        interpreters.run_string(other, code)
    """)
    assert re.match(r"refused: .*subinterpreter", done.stdout), done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="this Python always has its GIL")
def test_the_import_does_not_turn_the_gil_on() -> None:
    """On a build without the GIL a module that does not declare itself safe turns it on again, and warns."""
    told = run(
        "import sys; before = sys._is_gil_enabled(); import mintkey.generators; print(before, sys._is_gil_enabled())"
    )
    before, after = told.stdout.split()
    assert before == after
    assert told.stderr == ""
