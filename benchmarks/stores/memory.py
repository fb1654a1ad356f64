"""How much memory a long result takes compared with a short one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from measure import Row
from models import fill

from mintkey import connect


def streamed(place: str, url: str, few: int, many: int) -> Row:
    """Stream `few` and `many` items, each in a process of its own."""
    with connect(url):
        fill(many)
    peaks = []
    for items in (few, many):
        script = str(Path(__file__).with_name("stream.py"))
        told = subprocess.run([sys.executable, script, url, str(items)], check=True, capture_output=True, text=True)
        peaks.append(int(told.stdout) / 1024)
    short, long = peaks
    return Row(place, f"memory, {many:,} items streamed", "MiB", long, f"{few:,} items", short, long / short, 1.1)
