"""Every example in a docstring or on a page does what it says, in a process and a folder of its own.

A block of a page that is not meant to run (it needs a server, say) is fenced as `py`, not as `python`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

RUN_DOCSTRINGS = """
import doctest, importlib, sys
flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
failed, tried = doctest.testmod(importlib.import_module(sys.argv[1]), optionflags=flags)
sys.exit(failed > 0 or tried == 0)
"""

# A page is one program, from its first block to its last, and may await.
RUN_PAGE = """
import ast, asyncio, sys
program = compile(sys.stdin.read(), sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
pending = eval(program, {"__name__": "__main__"})
if pending is not None:
    asyncio.run(pending)
"""


def modules_with_examples() -> list[str]:
    """The modules of mintkey that show examples."""
    sources = sorted((ROOT / "python" / "mintkey").rglob("*.py"))
    names = [path.relative_to(ROOT / "python").with_suffix("") for path in sources if ">>>" in path.read_text("utf-8")]
    return [".".join(name.parts).removesuffix(".__init__") for name in names]


def pages_with_examples() -> list[str]:
    """The pages that show Python."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(page.relative_to(ROOT)) for page in pages if BLOCK.search(page.read_text("utf-8"))]


def run(program: str, argument: str, folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program in an empty folder; the default store is a file in there."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "utf8", "-c", program, argument],
        cwd=folder,
        env={},
        input=given,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("module", modules_with_examples())
def test_docstrings(module, tmp_path):
    done = run(RUN_DOCSTRINGS, module, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", pages_with_examples())
def test_pages(page, tmp_path):
    blocks = BLOCK.findall((ROOT / page).read_text("utf-8"))
    done = run(RUN_PAGE, page, tmp_path, "\n".join(blocks))
    assert done.returncode == 0, done.stdout + done.stderr
