"""What the command prints: tables for people, and the progress of long work on a terminal."""

from __future__ import annotations

import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

#: The maximum width of a cell if the table is wider than the terminal.
_CELL = 40
_BAR = 24
#: How often the progress is drawn, in seconds.
_OFTEN = 0.1


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person reads the stream."""
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def _visible(text: str) -> str:
    """Return a text without characters that control a terminal."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _width(text: str) -> int:
    """Return the number of columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _cut(text: str, most: int) -> str:
    """Return the start of a text that takes at most this many columns."""
    if _width(text) <= most:
        return text
    while text and _width(text) >= most:
        text = text[: max(0, min(most - 1, len(text) - 1))]
    return f"{text}…"[: max(0, most)]


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], cell: int | None = _CELL) -> None:
    """Print rows under the names of their columns. Cells are cut if the table is wider than the terminal."""
    texts = [[_visible(text) for text in row] for row in [columns, *rows]]
    widths = [max(map(_width, texts_of_column)) for texts_of_column in zip(*texts, strict=True)]
    if cell is not None and sum(widths) + 2 * len(widths) > shutil.get_terminal_size().columns:
        texts = [[_cut(text, cell) for text in row] for row in texts]
        widths = [min(width, cell) for width in widths]
    for at, row in enumerate(texts):
        if at == 0 and not any(row):
            continue
        padded = [text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)]
        print("  ".join(padded).rstrip())
        if at == 0:
            print("  ".join("-" * width for width in widths))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """The progress of long work: one line on standard error, if that is a terminal.

    Args:
        label: what the work is.
        total: how much work there is, if it is known. It need not be counted in rows.
    """

    def __init__(self, label: str, total: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._total = total
        self._clock = clock
        self._shown = is_terminal(sys.stderr)
        #: The time, the rows and the work of the first call: a continued job has begun with some.
        self._first: tuple[float, int, int] | None = None
        self._drawn = float("-inf")
        self.rows = 0

    def to(self, rows: int, done: int | None = None) -> None:
        """Show that so many rows are done, and so much of the total, if that is not counted in rows."""
        self.rows = rows
        now, work = self._clock(), rows if done is None else done
        if self._first is None:
            self._first = now, rows, work
        if self._shown and now - self._drawn >= _OFTEN:
            self._drawn = now
            self._write(f"\r{self._line(self._first, now, work)}\x1b[K")

    def _line(self, first: tuple[float, int, int], now: float, work: int) -> str:
        began, first_rows, first_work = first
        parts = [self._label]
        if self._total:
            part = min(1.0, work / self._total)
            filled = int(part * _BAR)
            parts += [f"[{'#' * filled}{'.' * (_BAR - filled)}]", f"{part:4.0%}"]
        parts.append(f"{self.rows:,} rows")
        if now > began:
            parts.append(f"{(self.rows - first_rows) / (now - began):,.0f}/s")
            if self._total and work > first_work:
                left = (now - began) / (work - first_work) * max(0, self._total - work)
                parts.append(f"{_duration(left)} left")
        return _cut(" ".join(parts), shutil.get_terminal_size().columns - 1)

    def clear(self) -> None:
        """Remove the line, so that other text can be written."""
        if self._shown and self._drawn > float("-inf"):
            self._drawn = float("-inf")
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # the terminal was closed
            self._shown = False
