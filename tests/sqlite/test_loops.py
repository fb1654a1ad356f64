"""Several event loops on one store, each in its own thread."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
# Threads change places so often that every bad moment comes.
sys.setswitchinterval(1e-6)
store = connect(sys.argv[1] + "?sync=normal")

async def burst():
    await asyncio.gather(*(Row(n=n).asave() for n in range(5)))

def loops():
    for _ in range(150):
        asyncio.run(burst())

threads = [threading.Thread(target=loops) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(Row.count(), flush=True)
store.close()
"""


def test_loops_in_many_threads_never_wait_for_each_other_in_a_circle(start):
    output, stderr = start(PROGRAM).communicate(timeout=240)
    assert output == "6000\n", stderr
