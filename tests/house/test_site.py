"""The documentation site: it is built without a warning, is complete, and loads nothing from other hosts."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

#: Modules whose names users import; those of `mintkey` itself come from them.
PUBLIC = [
    *("attributes", "collection", "errors", "fields", "generators", "hooks", "pipelines", "rate_limit", "references"),
    *("stores", "testing", "transactions"),
]


class Loaded(HTMLParser):
    """Collects what a browser loads for a page, and the anchors of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.anchors.add(told.get("id") or "")
        self.addresses += filter(None, [told.get("src"), told.get("href") if tag == "link" else None])


def from_other_hosts(site: Path) -> list[str]:
    """What the pages and style sheets load from other hosts."""
    found = []
    for page in site.rglob("*.html"):
        found += [f"{page.name}: {address}" for address in Loaded(page.read_text("utf-8")).addresses if "//" in address]
    for sheet in site.rglob("*.css"):
        text = sheet.read_text("utf-8")
        found += [f"{sheet.name}: {place}" for place in re.findall(r"(?:url\(|@import)\s*[\"']?(\w+:)?//", text)]
    return found


# One test, because each process that runs tests would build the site.
@pytest.mark.slow
def test_the_site_is_complete_and_loads_nothing_from_other_hosts(root, tmp_path):
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(site)],
        cwd=root,
        env={"NO_MKDOCS_2_WARNING": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    # A link or an anchor that leads nowhere is a warning, and so is a page that is not in the navigation.
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert from_other_hosts(site) == []

    anchors = {anchor for page in (site / "reference").glob("*.html") for anchor in Loaded(page.read_text()).anchors}
    modules = [importlib.import_module(f"mintkey.{name}") for name in PUBLIC]
    named = {name for module in [importlib.import_module("mintkey"), *modules] for name in module.__all__}
    described = {anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith("mintkey.")}
    assert named - described - {"__version__"} == set(), "add them to a page of docs/reference"

    entries = json.loads((site / "search" / "search_index.json").read_text("utf-8"))["docs"]
    found = {entry["location"].partition("#")[0] for entry in entries}
    assert {f"guides/{guide.stem}.html" for guide in (root / "docs" / "guides").glob("*.md")} <= found
    assert "Demo and tests" in {entry["title"] for entry in entries if entry["location"].startswith("index.html")}


def test_each_guide_is_in_the_navigation(root):
    navigation = (root / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2].partition("\nnot_in_nav")[0]
    guides = [guide.name for guide in sorted((root / "docs" / "guides").glob("*.md"))]
    assert [guide for guide in guides if f"- guides/{guide}\n" not in navigation] == []


def test_pictures_are_those_of_their_sources(root):
    mark = runpy.run_path(str(root / "tools" / "pictures.py"))["mark"]
    sources = list((root / "docs" / "pictures").glob("*.dot"))
    assert sources
    stale = [source.name for source in sources if mark(source) not in source.with_suffix(".svg").read_text("utf-8")]
    assert stale == [], "run `make pictures`"


def test_what_other_hosts_would_give_is_found(tmp_path):
    (tmp_path / "page.html").write_text(
        '<script src="https://host/x.js"></script><link href="//host/x.css"><a href="//h">'
    )
    (tmp_path / "sheet.css").write_text(
        "@import 'https://host/x.css'; a { background: url(//host/x.png) } b { c: url(x) }"
    )
    assert len(from_other_hosts(tmp_path)) == 4
