"""Child processes that mint, however they were forked."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_CLONE = {"x86_64": 56, "aarch64": 220}
#: Whether :func:`bare_clone` works here.
CLONES = platform.system() == "Linux" and platform.machine() in _CLONE


@contextlib.contextmanager
def _nobody_asks_for_the_gil() -> Iterator[None]:
    """Let no thread ask this one for the GIL.

    A bare clone inherits such a request, and then waits until the other thread, which it does not have, takes the GIL.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    # A thread that asks already gets it now.
    threading.Event().wait(2 * interval)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def bare_clone() -> int:
    """Fork by the system call alone, as a program in another language may do: no handler of a fork runs."""
    # The GIL is kept: whether the child gets it back is not what is tried here.
    with _nobody_asks_for_the_gil():
        pid: int = ctypes.PyDLL(None).syscall(_CLONE[platform.machine()], signal.SIGCHLD.value, 0, 0, 0, 0)
    return pid


def mint_in_children(fork: Callable[[], int], children: int, mint: Callable[[], list[object]]) -> list[str]:
    """Mint in children, in the order in which they were forked, then in the parent; return all ids."""
    running = []
    for _ in range(children):
        read, write = os.pipe()
        pid = fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                os.close(read)
                with os.fdopen(write, "w") as out:
                    out.write("\n".join(map(str, mint())))
            os._exit(0)
        os.close(write)
        running.append((pid, read))
    minted = list(map(str, mint()))
    for pid, read in running:
        with os.fdopen(read) as lines:
            minted += lines.read().split("\n")
        os.waitpid(pid, 0)
    return minted
