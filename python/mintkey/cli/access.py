"""Tables and rows for the commands: keys from words, and all pages of a read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from mintkey import _core
from mintkey.catalog import IndexInfo, KeyInfo, TableInfo, codec_of, missing_file
from mintkey.cli.endings import UsageError, url_of
from mintkey.errors import shortened
from mintkey.raw import pages
from mintkey.stores import Store, single

#: The maximum number of rows of a page.
_PAGE = 1_000


def opened(url: str, *, may_be_new: bool = False) -> Store:
    """Open a store. A file of SQLite has to exist, unless the command writes: a slip in its name would create it.

    Raises:
        UsageError: there is no such file.
    """
    store = Store(url_of(url))
    path = None if may_be_new else missing_file(store)
    if path is not None:
        raise UsageError(f"{store.url}: there is no file {path}")
    return store


def key_value(table: str, key: KeyInfo, word: str) -> Any:
    """Return a word of the command line as a value of a key: text, a number, or bytes in base64.

    Raises:
        UsageError: it does not fit the type.
    """
    try:
        if key.type == "number":
            return _core.checked("number", f"{table}.{key.name}", Decimal(word))
        if key.type == "binary":
            return base64.b64decode(word, validate=True)
    except InvalidOperation as error:
        raise UsageError(f"{table}: the key {key.name} is a number, not {shortened(word)}") from error
    except binascii.Error as error:
        raise UsageError(f"{table}: the key {key.name} is bytes, which are given in base64: {error}") from error
    return word


def _pages(store: Store, read: Callable[[bytes | None], _core.Request]) -> Iterator[_core.Page]:
    return pages(lambda after: store.run(single(read(after))))


def scanned(
    store: Store,
    table: TableInfo,
    where: _core.Condition | None = None,
    *,
    limit: int | None = None,
    consistent: bool = False,
) -> Iterator[list[_core.Item]]:
    """Yield the rows of a table, page by page."""
    codec = codec_of(table)

    def read(after: bytes | None) -> _core.Request:
        size = _PAGE if limit is None else min(_PAGE, limit)
        return codec.scan(limit=size, after=after, filter=where, consistent=consistent)

    return _limited(_pages(store, read), limit)


def queried(
    store: Store,
    table: TableInfo,
    partition: Sequence[Any],
    sort: tuple[Any, ...] | None,
    where: _core.Condition | None,
    *,
    index: IndexInfo | None,
    descending: bool,
    limit: int | None,
    consistent: bool,
) -> Iterator[list[_core.Item]]:
    """Yield the rows of a partition, page by page."""
    codec = codec_of(table)

    def read(after: bytes | None) -> _core.Request:
        return codec.query(
            list(partition),
            index=None if index is None else index.name,
            sort=sort,
            filter=where,
            descending=descending,
            limit=_PAGE if limit is None else min(_PAGE, limit),
            after=after,
            consistent=consistent,
        )

    return _limited(_pages(store, read), limit)


def _limited(pages: Iterator[_core.Page], limit: int | None) -> Iterator[list[_core.Item]]:
    left = limit
    for page in pages:
        items = page.items if left is None else page.items[:left]
        yield items
        if left is not None:
            left -= len(items)
            if left <= 0:
                return


def count_rows(store: Store, table: TableInfo, where: _core.Condition | None) -> int:
    """Return the number of rows for which the condition is true."""
    codec = codec_of(table)
    return sum(page.count for page in _pages(store, lambda after: codec.scan(count=True, after=after, filter=where)))
