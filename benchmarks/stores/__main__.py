"""Models and stores compared with similar packages: interleaved in one process, medians, ratios and bars in one table.

    make bench                                              # all stores
    .venv/bin/python benchmarks/stores sqlite --rounds 15
    .venv/bin/python benchmarks/stores redis --only transaction

Absolute figures move with the machine, ratios hold. The servers are those of the tests. Ends with 1 when a bar is
missed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from measure import Row, show

STORES = ("sqlite", "redis", "dynamodb")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", metavar="STORE", help=f"which of {', '.join(STORES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=9, help="how often each job is done (default 9)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the jobs whose names contain this text")
    asked = parser.parse_args()
    for store in asked.stores:
        if store not in STORES:
            parser.error(f"there is no store {store!r}")
    sys.path.append(str(Path(__file__).parents[2]))
    rows: list[Row] = []
    for store in asked.stores or STORES:
        print(f"{store} …", file=sys.stderr)
        rows.extend(importlib.import_module(f"with_{store}").rows(asked.rounds, asked.only))
    show(rows)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
