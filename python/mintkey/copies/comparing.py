"""Comparisons of a table in two stores: the numbers and hashes of the rows first, then row by row if they differ."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from mintkey import _core
from mintkey.copies.segments import Codecs, Stores, repeated, send
from mintkey.raw import CHUNK, pages
from mintkey.stores import Store

#: The keys that a comparison names. Further rows are only counted.
_MOST_KEYS = 1000
_HASHES = 1 << 128


class Difference(NamedTuple):
    """How a table differs between two stores. Each list names at most the first 1,000 keys.

    Attributes:
        source_rows: the number of rows of the source.
        target_rows: the number of rows of the target.
        missing: the number of rows that only the source has.
        extra: the number of rows that only the target has.
        different: the number of rows whose values differ.
        missing_keys: their keys, each a dict of names to values.
        extra_keys: their keys.
        different_keys: their keys.
    """

    source_rows: int
    target_rows: int
    missing: int
    extra: int
    different: int
    missing_keys: tuple[dict[str, Any], ...]
    extra_keys: tuple[dict[str, Any], ...]
    different_keys: tuple[dict[str, Any], ...]


def compare_table(codecs: Codecs, stores: Stores, stop: threading.Event) -> Difference | None:
    """Compare a table of two stores. Both are read at the same time, and memory does not grow with the table."""
    with ThreadPoolExecutor(2, "mintkey-compare") as readers:
        sums = [readers.submit(_sum, codec, store, stop) for codec, store in zip(codecs, stores, strict=True)]
        try:
            (source_rows, source_hash), (target_rows, target_hash) = [each.result() for each in sums]
        except BaseException:
            stop.set()
            raise
    if (source_rows, source_hash) == (target_rows, target_hash):
        return None
    codec, _ = codecs
    missing, different, extra = _Keys(codec), _Keys(codec), _Keys(codec)
    for item, there in _pairs(codecs, stores, stop):
        if there is None:
            missing.add(item)
        elif there != item:
            different.add(item)
    for item, there in _pairs(codecs, stores, stop, backwards=True):
        if there is None:
            extra.add(item)
    if not missing.count and not different.count and not extra.count:
        # Rows changed between the two reads, and are equal now.
        return None
    return Difference(
        source_rows,
        target_rows,
        missing.count,
        extra.count,
        different.count,
        tuple(missing.keys),
        tuple(extra.keys),
        tuple(different.keys),
    )


class _Keys:
    """Counts rows, and keeps the first keys."""

    def __init__(self, codec: _core.Codec) -> None:
        self._codec = codec
        self.count = 0
        self.keys: list[dict[str, Any]] = []

    def add(self, item: _core.Item) -> None:
        self.count += 1
        if len(self.keys) < _MOST_KEYS:
            self.keys.append(self._codec.key_dict(self._codec.key_of(item)))


def _pages(codec: _core.Codec, store: Store, stop: threading.Event) -> Iterator[_core.Page]:
    return pages(lambda after: repeated(stop, send, store, codec.scan(limit=CHUNK, after=after, consistent=True)))


def _sum(codec: _core.Codec, store: Store, stop: threading.Event) -> tuple[int, int]:
    """Return the number of rows, and the sum of their hashes, which does not depend on their order."""
    rows = hashes = 0
    for page in _pages(codec, store, stop):
        rows += len(page.items)
        hashes = (hashes + _core.digest(page.items)) % _HASHES
    return rows, hashes


def _pairs(
    codecs: Codecs, stores: Stores, stop: threading.Event, *, backwards: bool = False
) -> Iterator[tuple[_core.Item, _core.Item | None]]:
    """Return each row of the source with that of the target, or `backwards` the other way."""
    sides = list(zip(codecs, stores, strict=True))
    (codec, one), (other_codec, other) = reversed(sides) if backwards else sides
    for page in _pages(codec, one, stop):
        if page.items:
            keys = [codec.key_of(item) for item in page.items]
            request = other_codec.batch_get(keys, consistent=True)
            yield from zip(page.items, repeated(stop, send, other, request), strict=True)
