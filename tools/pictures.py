"""Draw the pictures of the documentation: docs/pictures/*.svg from the *.dot next to them.

    python tools/pictures.py

It needs `dot` of Graphviz (on Debian: apt install graphviz). Each picture names the digest of its source, so that a
test finds pictures that are out of date without drawing them.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"


def mark(source: Path) -> str:
    """The comment by which a picture names its source."""
    return f"<!-- {source.name} {hashlib.sha256(source.read_bytes()).hexdigest()} -->"


def draw(source: Path) -> str:
    """The picture of a source."""
    drawn = subprocess.run(
        ["dot", "-Tsvg", str(source)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # The version of Graphviz and its names of objects say nothing to a reader.
    drawn = re.sub(r"<!--.*?-->\n?", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<title>.*?</title>\n?", "", drawn)
    head, svg, rest = drawn.partition("<svg")
    return f"{head.partition('<!DOCTYPE')[0]}{mark(source)}\n{svg}{rest}"


if __name__ == "__main__":
    for found in sorted(PICTURES.glob("*.dot")):
        found.with_suffix(".svg").write_text(draw(found), "utf-8")
