"""The migration guides: their programs, old and new, run on a real server.

A block begins with a comment that names the package it is written for; those of one package are one program, which may
await. A block of text is what the block above prints, and the one above that if nothing stands between.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import NamedTuple

import pytest

from mintkey import Index, Model, connect
from mintkey.attributes import StringAttribute

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"
FENCE = re.compile(r"^```(py|text)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
ADDRESS = "redis://localhost:6379/0"
END_OF_BLOCK = "\0\n"

RUN = """
import ast, asyncio, sys
program = compile(sys.stdin.read(), sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
pending = eval(program)
if pending is not None:
    asyncio.run(pending)
"""

PROGRAMS = [(guide, package) for guide in ("popoto", "redis-om") for package in (guide, "mintkey")]


class Block(NamedTuple):
    """A block of a program, and its expected output."""

    package: str
    source: str
    promised: str | None


def blocks(guide: str) -> list[Block]:
    """All blocks of a guide."""
    text = (GUIDES / f"from-{guide}.md").read_text("utf-8")
    fences = [(match[1], match[2], match.start(), match.end()) for match in FENCE.finditer(text)]
    found: list[Block] = []
    for (kind, source, _, end), following in itertools.zip_longest(fences, fences[1:]):
        if kind == "text":
            continue
        package = re.match(r"# ([\w-]+)", source)
        assert package, f"a block that does not say what it is written for:\n{source}"
        promised = following[1] if following and following[0] == "text" and following[2] == end + 1 else None
        if promised and found and found[-1].promised is None and found[-1].package != package[1]:
            found[-1] = found[-1]._replace(promised=promised)
        found.append(Block(package[1], source, promised))
    return found


@pytest.mark.parametrize(("guide", "package"), PROGRAMS)
def test_both_programs_print_what_the_guide_says(guide, package, start):
    if package == "redis-om" and sys.version_info >= (3, 15):
        pytest.skip("redis-om cannot be installed on this Python yet")
    own = [block for block in blocks(guide) if block.package == package]
    assert own
    given = "".join(f"{block.source}\nprint('\\0')\n" for block in own)
    with start() as address:
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", RUN, f"from-{guide}.md"],
            env={**os.environ, "REDIS_URL": address, "REDIS_OM_URL": address},
            input=given.replace(ADDRESS, address),
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
    assert done.returncode == 0, done.stdout + done.stderr
    *outputs, rest = done.stdout.split(END_OF_BLOCK)
    assert rest == ""
    for block, printed in zip(own, outputs, strict=True):
        assert printed == (block.promised or ""), f"not what is printed by\n{block.source}"


LOOK = re.compile(r"^redis-cli (?!-c |CONFIG)(.*)$", re.MULTILINE)


def test_what_redis_cli_is_shown_to_find_is_there(url, prefix):
    class Order(Model):
        id = StringAttribute(partition_key=True)
        status = StringAttribute()
        by_status = Index(partition_key="status")

    with connect(url):
        Order(id="01ARZ3NDEKTSV4RRFFQ69G5FAV", status="paid").save()
        Order(id="another", status="open").save()
    address = urllib.parse.urlsplit(url)
    at = ["redis-cli", "-h", str(address.hostname), "-p", str(address.port)]
    looks = LOOK.findall((ROOT / "docs/guides/redis.md").read_text("utf-8"))
    printed = []
    for look in looks:
        command = [*at, *shlex.split(look.replace("shop/", f"{prefix}/"))]
        printed.append(subprocess.run(command, check=True, capture_output=True).stdout.decode(errors="replace").strip())
    assert len(printed) == len({*printed}) == 6
    row, life, count, rows, entries, description = printed
    assert row.splitlines()[:4] == ["id", '"01ARZ3NDEKTSV4RRFFQ69G5FAV"', "status", '"paid"']
    assert life == "-1"
    assert count == "2"
    assert rows.splitlines() == ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "another"]
    assert "01ARZ3NDEKTSV4RRFFQ69G5FAV" in entries
    assert "another" not in entries
    assert "by_status" in description


@pytest.mark.parametrize("guide", ["popoto", "redis-om"])
def test_each_old_program_has_its_new_one(guide):
    found = blocks(guide)
    assert {block.package for block in found} == {guide, "mintkey"}
    for old, new in itertools.pairwise(found):
        if old.package == guide:
            assert new.package == "mintkey"
