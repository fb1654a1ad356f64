"""The most memory that a process takes which streams a query: `python stream.py URL ITEMS`, in KiB.

A process of its own for each number of items, because memory that was taken once is not given back.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from models import Order

from mintkey import connect


def peak() -> int:
    """The most memory in KiB so far, of this program alone."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 1024 if sys.platform == "darwin" else most


def main() -> None:
    url, items = sys.argv[1], int(sys.argv[2])
    with connect(url):
        seen = sum(1 for _ in Order.query(pk="P", limit=items))
    if seen != items:
        raise SystemExit(f"only {seen} items of {items}")
    print(peak())


if __name__ == "__main__":
    main()
