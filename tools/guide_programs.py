"""Write the Python examples of the README and the guides as one program for each page, for the type checkers.

    python tools/guide_programs.py FOLDER

Blocks fenced as `python` and as `py` are written, except those for the package that a page migrates from.

A page may await, so its program is an async function. It may also define a name twice: the block that does so begins a
function inside the first one, which contains the rest of the page.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(?:python|py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def own_blocks(page: Path) -> list[tuple[int, str]]:
    """The blocks of a page that are written for this package, each with the number of its first line."""
    text = page.read_text("utf-8")
    # A block of docs/guides/from-popoto.md begins with `# popoto` or `# mintkey`.
    other = re.compile(rf"# {page.stem.removeprefix('from-')}\b")
    blocks = [(text.count("\n", 0, block.start(1)) + 1, block[1]) for block in BLOCK.finditer(text)]
    return [(line, source) for line, source in blocks if not other.match(source)]


def defined(source: str) -> set[str]:
    """The names of the classes and functions that a block defines."""
    return {node.name for node in ast.parse(source).body if isinstance(node, DEFINITIONS)}


def program(page: Path) -> str:
    """The program of a page."""
    text = ["from __future__ import annotations\n", "async def page() -> None:"]
    depth = 1
    names: set[str] = set()
    for line, source in own_blocks(page):
        new = defined(source)
        if names & new:
            text.append(textwrap.indent("async def rest_of_page() -> None:", "    " * depth))
            depth += 1
            names = set()
        names |= new
        text.append(textwrap.indent(f"# {page.relative_to(ROOT).as_posix()}:{line}\n{source}", "    " * depth))
    return "\n".join(text) + "\n" + "    " * depth + "pass\n"


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for page in [ROOT / "README.md", *(ROOT / "docs" / "guides").glob("*.md")]:
        # The name of a page may be that of a package.
        (folder / f"{page.stem.replace('-', '_')}_page.py").write_text(program(page), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
