"""The reference of the command line is the one that the program gives."""

from __future__ import annotations

import runpy


def test_the_page_is_up_to_date(root):
    tool = runpy.run_path(str(root / "tools" / "cli_page.py"))
    assert tool["PAGE"].read_text("utf-8") == tool["page"](), "run tools/cli_page.py"
