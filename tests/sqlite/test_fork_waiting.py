"""A fork waits for running transactions, and for nothing else."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

HOLDER = """
raw = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"), isolation_level=None)
raw.execute("CREATE TABLE mine (x)")
raw.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
raw.close()
"""
WAITS = """
store = connect(sys.argv[1] + "?timeout=8")
{waiting}
while not {inside}:
    threading.Event().wait(0.01)
threading.Event().wait(0.1)
pid = os.fork()
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print("forked", flush=True)
{end}
print(Row.count(), flush=True)
store.close()
"""
THREAD = {
    "waiting": """
thread = threading.Thread(target=Row(n=1).save)
thread.start()
""",
    "inside": """any(
    frame.f_code.co_name == "run" and frame.f_code.co_filename.endswith("stores.py")
    for frame in sys._current_frames().values()
)""",
    "end": "thread.join()",
}
TASK = {
    "waiting": """
event_loop = asyncio.new_event_loop()
thread = threading.Thread(target=event_loop.run_forever, daemon=True)
thread.start()
saving = asyncio.run_coroutine_threadsafe(Row(n=1).asave(), event_loop)
""",
    "inside": "len(os.listdir('/proc/self/task')) > 2",
    "end": """
saving.result()
event_loop.call_soon_threadsafe(event_loop.stop)
thread.join()
event_loop.close()
""",
}


@pytest.mark.parametrize("who", [THREAD, TASK], ids=["thread", "task"])
def test_a_fork_does_not_wait_for_another_programs_lock(start, who):
    holder = start(HOLDER)
    assert holder.stdout.readline() == "held\n", holder.stderr.read()
    program = start(WAITS.format(**who))
    # The lock is held all the time: a fork that waited for it would end with the timeout of the save.
    assert program.stdout.readline() == "forked\n", program.stderr.read()
    holder.communicate("release\n")
    output, stderr = program.communicate(timeout=60)
    assert output == "1\n", stderr
