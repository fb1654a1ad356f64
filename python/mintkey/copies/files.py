"""Files that take the place of others when they are complete, so that nobody reads half of a file.

The new file is `NAME.partial` until then. One that is left of a process that was killed is used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def replacing(path: str, *, mode: int = 0o666, waits: bool = False) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of another one at the end, with its permissions.

    Args:
        path: the path of the file that is replaced. It may not exist yet.
        mode: the permissions of a file that did not exist.
        waits: wait until no other program writes the file.

    Raises:
        BlockingIOError: another program writes the file.
    """
    partial = f"{path}.partial"
    lock = _locked(partial, mode, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        # Another descriptor, because the lock lasts until the file has its name.
        with open(os.dup(lock), "wb") as file:  # noqa: PTH123 - it is open
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(lock, stat.S_IMODE(os.stat(path).st_mode))  # noqa: PTH116 - paths are text here
            yield file
            file.flush()
            os.fsync(lock)
        os.replace(partial, path)  # noqa: PTH105 - as above
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)  # noqa: PTH108 - as above
        raise
    finally:
        os.close(lock)


def _locked(path: str, mode: int, operation: int) -> int:
    """Open and lock an empty file. A file that is left of a process that was killed is emptied."""
    while True:
        file = os.open(path, os.O_WRONLY | os.O_CREAT, mode)
        try:
            try:
                fcntl.flock(file, operation)
            except BlockingIOError:
                raise
            except OSError:  # a file system without locks
                pass
            with contextlib.suppress(FileNotFoundError):
                # Otherwise the program that had the lock has renamed or removed the file meanwhile.
                if os.path.samestat(os.fstat(file), os.stat(path)):  # noqa: PTH116 - as above
                    os.ftruncate(file, 0)
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
