"""A hook of mkdocs: pages of the documentation site that are made from other files of the repository.

The README is the first page. Links between the repository's files become links between pages, so that the same text can
be read in the repository and on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Files outside of `docs`, with the pages that show them.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "LICENSE": "license.md",
    "examples": "examples.md",
}
LINK = re.compile(r"(?<!!)(\]\()([^)\s]+)(\))")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")


def linked(text: str, source: str, shown: str) -> str:
    """Return a text with links for the site. `source` is its path in the repository, `shown` that in `docs`."""

    def link(match: re.Match[str]) -> str:
        target, sharp, anchor = match[2].partition("#")
        if not target or ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = PAGES.get(path) or path.removeprefix("docs/")
        # A link to any other file stays as it is, and so is reported.
        told = target if page == path else posixpath.relpath(page, posixpath.dirname(shown) or ".")
        return f"{match[1]}{told}{sharp}{anchor}{match[3]}"

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def examples() -> str:
    """The page of the programs in `examples`."""
    told = (
        "# Examples\n\nPrograms of the folder `examples`. Each runs on the store that `$MINTKEY_URL` names. "
        "Its first lines say how to run it.\n"
    )
    folder = ROOT / "examples"
    programs = [path for path in sorted(folder.rglob("*.py")) if path.parent.name != "migrations"]
    shown = (f"\n## {path.relative_to(folder)}\n\n```python\n{path.read_text('utf-8')}```\n" for path in programs)
    return told + "".join(shown)


def content(source: str, page: str) -> str:
    """The text of a page that is made from a file."""
    if source == "examples":
        return examples()
    text = (ROOT / source).read_text("utf-8")
    return f"# Licence\n\n```text\n{text.strip()}\n```\n" if source == "LICENSE" else linked(text, source, page)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=content(source, page)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Change what GitHub and Python-Markdown read in different ways."""
    shown = page.file.src_uri
    if shown not in PAGES.values():
        markdown = linked(markdown, f"docs/{shown}", shown)
    # Inside code in a table, GitHub needs `\|` where Python-Markdown takes `|`.
    return "\n".join(
        CODE.sub(lambda code: code[0].replace("\\|", "|"), line) if line.startswith("|") else line
        for line in markdown.split("\n")
    )
