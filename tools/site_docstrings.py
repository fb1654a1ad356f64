"""An extension of Griffe, which reads the docstrings for the reference: examples and literal blocks become Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

# An example as doctest finds it: from its first prompt to the next empty line.
EXAMPLE = re.compile(r"^( *)>>> .*\n?(?:(?! *$).*\n?)*", re.MULTILINE)


def fenced(match: re.Match[str]) -> str:
    """An example inside a fence, which has its indentation."""
    lines = match[0].rstrip("\n").split("\n")
    indent = match[1]
    return "\n".join([f"{indent}```pycon", *lines, f"{indent}```", ""])


def markdown(docstring: str) -> str:
    """A docstring as Markdown."""
    # An indented example is a block of code already, unless its indentation is that of a section.
    return re.sub(r"::$", ":", EXAMPLE.sub(fenced, docstring), flags=re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
