"""Every example in a docstring or on a page does what it says, in a process and a folder of its own.

Pages run on every store: the address of an SQLite database in a `connect()` is changed to another one. A page about
one store runs on that one.

A block of a page that is not meant to run (it needs a server, say) is fenced as `py`, not as `python`. A block fenced
as `text` right below one of Python is what that prints: pages run under a clock that stands still, and of ids the form
and the time are compared, not what chance gave them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.behaviour.conftest import STORES

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)

ADDRESS = re.compile(r'\bconnect\("sqlite:[^"]*"')

# Pages that make every table they use, and so are programs for every store as they stand, but for the address.
WITH_TABLES = {"README.md", "docs/package.md", "docs/guides/getting-started.md"}

RUN_DOCSTRINGS = """
import doctest, importlib, sys
flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
failed, tried = doctest.testmod(importlib.import_module(sys.argv[1]), optionflags=flags)
sys.exit(failed > 0 or tried == 0)
"""

# A page is one program, from its first block to its last, and may await.
RUN_PAGE = """
import ast, asyncio, sys
from mintkey.testing import frozen
if sys.argv[3:]:
    # On DynamoDB, create the tables for pages that do not call create_table() themselves.
    from mintkey import Store
    from mintkey.operations import table_operations
    claim = Store.claim
    def make(store, schema):
        claim(store, schema)
        if not store.creates_tables and not schema.config.abstract:
            for request in table_operations.create_table(schema):
                store._core.execute(request)
    Store.claim = make
program = compile(sys.stdin.read(), sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
with frozen(sys.argv[2]):
    pending = eval(program, {"__name__": "__main__"})
    if pending is not None:
        asyncio.run(pending)
"""
END_OF_BLOCK = "\0\n"
YEAR = "2024"
#: DynamoDB deletes items that expired by its own clock within five years. Pages that save such items run there in an
#: earlier leap year.
EXPIRING = {"docs/guides/models.md", "docs/guides/testing.md"}
EARLIER_YEAR = "2020"

# What an id is compared by.
FORMS = [
    (re.compile(r"\b(01[0-9A-HJKMNP-TV-Z]{8})[0-9A-HJKMNP-TV-Z]{16}\b"), r"<ulid \1>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b"), "<uuid4>"),
    (re.compile(r"\b([0-9a-f]{8}-[0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b"), r"<uuid7 \1>"),
    (re.compile(r"\b[0-9A-Za-z]{27}\b"), "<ksuid>"),
]


def without_chance(text: str) -> str:
    for form, told in FORMS:
        text = form.sub(told, text)
    return text


def without_time(text: str) -> str:
    return re.sub(r"<(ulid|uuid7) [^>]*>", r"<\1>", without_chance(text)).replace(EARLIER_YEAR, YEAR)


def modules_with_examples() -> list[str]:
    """The modules of mintkey with examples in docstrings."""
    sources = sorted((ROOT / "python" / "mintkey").rglob("*.py"))
    names = [path.relative_to(ROOT / "python").with_suffix("") for path in sources if ">>>" in path.read_text("utf-8")]
    return [".".join(name.parts).removesuffix(".__init__") for name in names]


def pages_with_examples() -> list[str]:
    """The pages with Python examples."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(page.relative_to(ROOT)) for page in pages if BLOCK.search(page.read_text("utf-8"))]


def run(
    program: str, *arguments: str, folder: Path, given: str = "", url: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program in an empty folder. The default store is at `url`, or a file in the folder."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "utf8", "-c", program, *arguments],
        cwd=folder,
        env={} if url is None else {"MINTKEY_URL": url},
        input=given,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("module", modules_with_examples())
def test_docstrings(module, tmp_path):
    done = run(RUN_DOCSTRINGS, module, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


#: The pages that `make check` runs, too. The others repeat for readers what other tests prove.
QUICK = {"README.md", "docs/guides/getting-started.md"}


def runs() -> list[Any]:
    """Each page with each store that it runs on."""
    return [
        pytest.param(page, store, id=f"{page}-{store}", marks=[] if page in QUICK else [pytest.mark.slow])
        for page in pages_with_examples()
        for store in STORES
        if Path(page).stem not in STORES or Path(page).stem == store
    ]


@pytest.mark.parametrize(("page", "store"), runs())
def test_pages(page, store, tmp_path):
    blocks = [block.groups() for block in BLOCK.finditer((ROOT / page).read_text("utf-8"))]
    given = "".join(f"{source}print('\\0')\n" for source, _ in blocks)
    url = None if store == "sqlite" else STORES[store](tmp_path)
    if url is not None:
        given = ADDRESS.sub(lambda _: f"connect({url!r}", given)
    expiring = store == "dynamodb" and page in EXPIRING
    year, compared = (EARLIER_YEAR, without_time) if expiring else (YEAR, without_chance)
    made = [] if page in WITH_TABLES else ["make the tables"]
    start = f"{year}-01-01T00:00:00Z"
    done = run(RUN_PAGE, page, start, *made, folder=tmp_path, given=given.replace(YEAR, year), url=url)
    assert done.returncode == 0, done.stdout + done.stderr
    *outputs, rest = done.stdout.split(END_OF_BLOCK)
    assert rest == ""
    for (source, promised), printed in zip(blocks, outputs, strict=True):
        if promised is not None:
            assert compared(printed) == compared(promised), f"not what is printed by\n{source}"
