"""The programs of the README and the guides, which `make types` checks, contain every example for this package."""

from __future__ import annotations

import runpy
import textwrap

import pytest

OTHERS = tuple(f"# {package}" for package in ("boto3", "popoto", "pydynox", "pynamodb", "redis-om"))


@pytest.fixture(scope="module")
def programs(root, tmp_path_factory) -> dict[str, str]:
    """The programs by the names of their pages."""
    folder = tmp_path_factory.mktemp("guides")
    runpy.run_path(str(root / "tools" / "guide_programs.py"))["main"](folder)
    return {path.stem.removesuffix("_page"): path.read_text("utf-8") for path in folder.iterdir()}


def examples(text: str) -> list[str]:
    """The Python examples of a page, except those for the package that it migrates from."""
    fenced = [block.partition("\n") for block in text.split("```")[1::2]]
    found = [source for language, _, source in fenced if language in {"py", "python"}]
    return [source for source in found if not source.startswith(OTHERS)]


def test_each_example_is_in_the_program_of_its_page(root, programs):
    pages = [root / "README.md", *(root / "docs" / "guides").glob("*.md")]
    assert len(pages) == len(programs)
    for page in pages:
        program = programs[page.stem.replace("-", "_")]
        compile(program, page.name, "exec")
        for source in examples(page.read_text("utf-8")):
            assert any(textwrap.indent(source, "    " * depth) in program for depth in range(1, 10)), source
