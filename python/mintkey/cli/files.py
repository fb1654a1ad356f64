"""Files of exports: `-` is standard input or output. Files whose names end with `.gz` are written compressed.

Compressed files and streams are recognized when they are read.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, cast

from mintkey.cli.endings import UsageError
from mintkey.copies.files import replacing
from mintkey.errors import MintkeyError

if TYPE_CHECKING:
    import io

    from typing_extensions import Self

#: The errors of a compressed file that is cut off or damaged.
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
#: The first byte of a compressed file. No row begins with it.
_COMPRESSED = b"\x1f"
#: The bytes of the longest line that is read: twice the largest item of any store. Otherwise a file without lines would
#: fill the memory.
LONGEST = 256 * 1024 * 1024
#: The bytes of a longer line that are read at once.
_SKIPPED = 64 * 1024


@contextlib.contextmanager
def written_file(name: str) -> Iterator[IO[bytes]]:
    """Open a file to be written. It appears under its name when it is complete.

    Raises:
        UsageError: another command writes the file.
    """
    if name == "-":
        with _named("standard output"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    replaced = _replaced(name)
    with _named(name), contextlib.ExitStack() as opened:
        if replaced is None:
            file: IO[bytes] = opened.enter_context(open(name, "wb"))  # noqa: PTH123 - the name may be a descriptor's
        else:
            try:
                file = opened.enter_context(replacing(replaced))
            except BlockingIOError:
                reason = "another command writes this file: wait until it has ended, or name another file"
                raise UsageError(f"{replaced}.partial: {reason}") from None
        if name.endswith(".gz"):
            # Without a name and a time, equal rows give equal files.
            compressed = opened.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
            file = cast("IO[bytes]", compressed)
        yield file


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Give the errors of a file its name: those of a read or write have none."""
    try:
        yield
    except (*DAMAGED, MintkeyError):  # some of them are errors of the system too
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


def _replaced(name: str) -> str | None:
    """Return the path of the file that is replaced: a link is followed. It may not exist yet.

    None for a pipe, a device, and a descriptor such as `/dev/stdout`: these are written as they are.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116 - as above
            return None
    path = name
    while True:
        folder = os.path.realpath(os.path.dirname(path))  # noqa: PTH120 - as above
        if folder == "/dev" or folder.startswith("/proc/"):
            return None
        if not os.path.islink(path):  # noqa: PTH114 - as above
            return path
        path = os.path.join(folder, os.readlink(path))  # noqa: PTH115, PTH118 - as above


def _size(file: IO[bytes]) -> int | None:
    try:
        status = os.fstat(file.fileno())
    except OSError:  # it is no file of the system
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


class Source:
    """A file that is read line by line.

    Attributes:
        name: its name.
        size: its size in bytes, if it is known.
    """

    def __init__(self, name: str) -> None:
        self.name = "standard input" if name == "-" else name
        file = sys.stdin.buffer if name == "-" else open(name, "rb")  # noqa: PTH123, SIM115
        self._file = cast("io.BufferedReader", file)
        self.size = _size(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not sys.stdin.buffer:
            self._file.close()

    @property
    def position(self) -> int | None:
        """How many bytes of the file have been read."""
        return None if self.size is None else self._file.tell()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that are not empty, with their numbers; nothing for a line that is too long for a row."""
        with _named(self.name):
            # Here, because a pipe may not have any bytes before another program has started.
            packed = self._file.peek(1).startswith(_COMPRESSED)
            lines = cast("IO[bytes]", gzip.GzipFile(fileobj=self._file)) if packed else self._file
            number = 0
            while line := lines.readline(LONGEST):
                number += 1
                if len(line) == LONGEST and not line.endswith(b"\n"):
                    while line and not line.endswith(b"\n"):
                        line = lines.readline(_SKIPPED)
                    yield number, b""
                    continue
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text := text.strip():
                    yield number, text
