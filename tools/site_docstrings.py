"""An extension of Griffe, which reads the docstrings for the reference: examples and literal blocks become Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

# An example as doctest finds it: from its first prompt to the next empty line. One that is indented is code already.
EXAMPLE = re.compile(r"^>>> .*\n?(?:(?! *$).*\n?)*", re.MULTILINE)


def markdown(docstring: str) -> str:
    """A docstring as Markdown."""
    fenced = EXAMPLE.sub(lambda example: f"```pycon\n{example[0].rstrip()}\n```\n", docstring)
    return re.sub(r"::$", ":", fenced, flags=re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
