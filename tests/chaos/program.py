"""A program that writes until it is killed, and prints its ledger meanwhile.

    python -m tests.chaos.program URL NAME SEED blocking|async BIGGEST

An awaiting program has several writers.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading

from tests.behaviour.conftest import Do
from tests.chaos.ledger import Ledger
from tests.chaos.writers import Writer

from mintkey import connect


def send(line: str) -> None:
    """Print a line whole: a killed program has told of what it began."""
    os.write(1, f"{line}\n".encode())


async def main(name: str, seed: str, kind: str, biggest: str) -> None:
    """Write until the program is killed."""
    ledger, reachable = Ledger(send), threading.Event()
    reachable.set()
    do = Do(blocking=kind == "blocking")
    writers = [
        Writer(f"{name}.{number}", do, ledger, random.Random(f"{seed} {number}"), reachable, int(biggest))
        for number in range(1 if do.blocking else 3)
    ]
    await asyncio.gather(*(writer.run(lambda: False) for writer in writers))


if __name__ == "__main__":
    with connect(sys.argv[1]):
        asyncio.run(main(*sys.argv[2:]))
