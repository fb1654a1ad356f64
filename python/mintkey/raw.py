"""Rows as the store has them, without the classes of the program.

::

    orders = RawTable(connect("redis://localhost"), "orders")
    page = orders.scan(limit=100)
    page.rows[0]["total"]

A row is a dict of stored names to plain values. No hooks run, no values are generated, and versions are not checked.
Indexes, expiry and unique values stay correct, because the store itself maintains them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from mintkey import _core
from mintkey.catalog import IndexInfo, TableInfo, codec_of, existing, key_names
from mintkey.errors import (
    CONVERSION_ERRORS,
    InvalidValue,
    KeyCollision,
    StoreError,
    batch_incomplete,
    cause,
    check_flags,
    nearest,
    shortened,
)
from mintkey.operations.suspended import store_failure
from mintkey.results.cursors import Cursors
from mintkey.stores import Store

if TYPE_CHECKING:
    from mintkey.stores import Operation

__all__ = ["PutReport", "RawPage", "RawTable"]

Row: TypeAlias = "dict[str, Any]"
#: A dict of names to values, `(partition, sort)`, or the value of the only key.
RawKey: TypeAlias = "Mapping[str, Any] | tuple[Any, ...] | str | int | float | bytes | Any"
OnConflict: TypeAlias = Literal["fail", "skip", "replace"]

#: The rows of a joined write, and of a page by default.
CHUNK = 1000
_SORT_CONDITIONS = {"==": 1, "<": 1, "<=": 1, ">": 1, ">=": 1, "begins_with": 1, "between": 2}


class RawPage(NamedTuple):
    """A page of rows.

    Attributes:
        rows: the rows.
        cursor: the text that continues after the page with `cursor=`; None after the last page.
    """

    rows: list[Row]
    cursor: str | None


class PutReport(NamedTuple):
    """What `put_many()` did.

    Attributes:
        written: the number of rows that were written.
        skipped: the number of rows whose key existed already, with `on_conflict="skip"`.
    """

    written: int
    skipped: int


class RawTable:
    """The rows of a table, without its class.

    Values are exact: `str`, `int`, `float` or `Decimal` (whichever has the stored digits), `bool`, `None`, `bytes`,
    `list`, `dict`, and sets of `str`, numbers or `bytes`. Expired rows count as absent, as everywhere.

    Args:
        store: an open store, as `connect()` returns it.
        table: the name of the table, or its description. A name is looked up at the first use.
    """

    def __init__(self, store: Store, table: str | TableInfo) -> None:
        if not isinstance(store, Store):
            raise TypeError(f"RawTable takes an open store, as connect(url) returns it, not {shortened(store)}")
        self.name: str = table.name if isinstance(table, TableInfo) else table
        self._store = store
        self._info: TableInfo | None = table if isinstance(table, TableInfo) else None
        self._codec: _core.Codec | None = None if self._info is None else codec_of(self._info)

    def __repr__(self) -> str:
        return (
            f"<RawTable {self.name} of {self._store.url}>" if hasattr(self, "_store") else "<RawTable without a store>"
        )

    def describe(self) -> TableInfo:
        """Return the description of the table, with the number of its rows as it is now."""
        return self._store.run(existing(self._store, self.name))

    async def adescribe(self) -> TableInfo:
        """Async version of `describe()`."""
        return await self._store.arun(existing(self._store, self.name))

    def scan(
        self,
        *,
        limit: int = CHUNK,
        cursor: str | None = None,
        segment: int = 0,
        segments: int = 1,
        consistent: bool = False,
    ) -> RawPage:
        """Return a page of all rows, or of one of several segments that can be read concurrently.

        Args:
            limit: the maximum number of rows. A page of large rows has fewer.
            cursor: the `cursor` of the page before.
            segment: the number of the segment, from 0.
            segments: the number of segments. Each row is in one of them.
            consistent: a strongly consistent read. On SQLite and Redis all are.
        """
        return self._store.run(self._scan(limit, cursor, (segment, segments), consistent))

    async def ascan(
        self,
        *,
        limit: int = CHUNK,
        cursor: str | None = None,
        segment: int = 0,
        segments: int = 1,
        consistent: bool = False,
    ) -> RawPage:
        """Async version of `scan()`."""
        return await self._store.arun(self._scan(limit, cursor, (segment, segments), consistent))

    def query(
        self,
        partition: Any,
        *,
        sort: tuple[Any, ...] | None = None,
        index: str | None = None,
        descending: bool = False,
        limit: int = CHUNK,
        cursor: str | None = None,
        consistent: bool = False,
    ) -> RawPage:
        """Return a page of the rows of a partition, in the order of the sort key.

        Args:
            partition: the value of the partition key; a tuple of values for an index with several, or with none.
            sort: a condition on the sort key: `("==", value)`, also with `<`, `<=`, `>` and `>=`;
                `("begins_with", text)`; `("between", low, high)`.
            index: the name of an index.
            descending: the last row first.
            limit: the maximum number of rows.
            cursor: the `cursor` of the page before.
            consistent: a strongly consistent read.
        """
        given = _QueryArguments(partition, sort, index, descending, consistent)
        return self._store.run(self._query(given, limit, cursor))

    async def aquery(
        self,
        partition: Any,
        *,
        sort: tuple[Any, ...] | None = None,
        index: str | None = None,
        descending: bool = False,
        limit: int = CHUNK,
        cursor: str | None = None,
        consistent: bool = False,
    ) -> RawPage:
        """Async version of `query()`."""
        given = _QueryArguments(partition, sort, index, descending, consistent)
        return await self._store.arun(self._query(given, limit, cursor))

    def get(self, key: RawKey, *, consistent: bool = False) -> Row | None:
        """Return the row with this key, or None.

        Args:
            key: a dict of names to values, `(partition, sort)`, or the value of the only key.
            consistent: a strongly consistent read.
        """
        return self._store.run(self._get(key, consistent))

    async def aget(self, key: RawKey, *, consistent: bool = False) -> Row | None:
        """Async version of `get()`."""
        return await self._store.arun(self._get(key, consistent))

    def count(self) -> int:
        """Return the number of rows. All rows are read."""
        return self._store.run(self._count())

    async def acount(self) -> int:
        """Async version of `count()`."""
        return await self._store.arun(self._count())

    def put_many(self, rows: Iterable[Mapping[str, Any]], on_conflict: OnConflict = "fail") -> PutReport:
        """Write rows whole, in joined requests.

        Args:
            rows: the rows, each a dict with the key.
            on_conflict: what to do with a row whose key exists: `"fail"`, `"skip"`, or `"replace"` the stored row.

        Raises:
            BatchIncomplete: some rows were not written; `failed` lists them with their exceptions.
        """
        return self._store.run(self._put_many(rows, on_conflict))

    async def aput_many(self, rows: Iterable[Mapping[str, Any]], on_conflict: OnConflict = "fail") -> PutReport:
        """Async version of `put_many()`."""
        return await self._store.arun(self._put_many(rows, on_conflict))

    def delete(self, key: RawKey) -> None:
        """Delete the row with this key. A missing row is not an error."""
        self._store.run(self._delete(key))

    async def adelete(self, key: RawKey) -> None:
        """Async version of `delete()`."""
        await self._store.arun(self._delete(key))

    # The operations.

    def _opened(self) -> Operation[tuple[TableInfo, _core.Codec]]:
        if self._info is None or self._codec is None:
            self._info = yield from existing(self._store, self.name)
            self._codec = codec_of(self._info)
        return self._info, self._codec

    def _scan(self, limit: int, cursor: str | None, segment: tuple[int, int], consistent: bool) -> Operation[RawPage]:
        _, codec = yield from self._opened()
        own, segments = segment
        check_flags(self.name, consistent=consistent)
        _check_count(self.name, "segments", segments)
        _check_count(self.name, "limit", limit)
        if not isinstance(own, int) or isinstance(own, bool) or not 0 <= own < segments:
            raise InvalidValue(
                f"{self.name}: segment={shortened(own)} does not exist: the {segments} begin with 0", model=self.name
            )
        cursors = Cursors(self.name, f"scan {segment}", None)
        after = None if cursor is None else cursors.decode(cursor)[1]
        divided = None if segments == 1 else segment
        found: _core.Page = yield codec.scan(limit=limit, after=after, segment=divided, consistent=consistent)
        return _page(found, cursors)

    def _query(self, given: _QueryArguments, limit: int, cursor: str | None) -> Operation[RawPage]:
        info, codec = yield from self._opened()
        check_flags(self.name, descending=given.descending, consistent=given.consistent)
        _check_count(self.name, "limit", limit)
        partition, sort = _checked(info, given)
        cursors = Cursors(self.name, f"query {given!r}", None)
        found: _core.Page = yield codec.query(
            partition,
            index=given.index,
            sort=sort,
            descending=given.descending,
            limit=limit,
            after=None if cursor is None else cursors.decode(cursor)[1],
            consistent=given.consistent,
        )
        return _page(found, cursors)

    def _get(self, key: RawKey, consistent: bool) -> Operation[Row | None]:
        info, codec = yield from self._opened()
        check_flags(self.name, consistent=consistent)
        found: _core.Item | None = yield codec.get(_named(info, codec, key), consistent=consistent)
        return None if found is None else found.to_dict()

    def _count(self) -> Operation[int]:
        _, codec = yield from self._opened()
        count, after = 0, None
        while True:
            page: _core.Page = yield codec.scan(count=True, after=after)
            count, after = count + page.count, page.next
            if after is None:
                return count

    def _delete(self, key: RawKey) -> Operation[None]:
        info, codec = yield from self._opened()
        yield codec.delete(_named(info, codec, key), version=None)

    def _put_many(self, rows: Iterable[Mapping[str, Any]], on_conflict: OnConflict) -> Operation[PutReport]:
        check_on_conflict(on_conflict)
        _, codec = yield from self._opened()
        written = skipped = 0
        failed: list[tuple[Any, BaseException]] = []
        source = _iterator(self.name, rows)
        stopped: StoreError | None = None
        while stopped is None and (chunk := list(itertools.islice(source, CHUNK))):
            kept, items = [], []
            for row in chunk:
                try:
                    items.append(_item(self.name, row))
                    kept.append(row)
                except InvalidValue as error:
                    failed.append((row, error))
            try:
                outcomes = yield from put_items(codec, items, on_conflict)
            except StoreError as error:
                stopped = error
                outcomes = [error] * len(items)
            stopped = stopped or store_failure(self._store, zip(kept, outcomes, strict=True))
            for row, outcome in zip(kept, outcomes, strict=True):
                if outcome is None:
                    written += 1
                elif on_conflict == "skip" and isinstance(outcome, KeyCollision):
                    skipped += 1
                else:
                    failed.append((row, outcome))
        if failed:
            raise batch_incomplete(self.name, "row", written, failed, stopped=stopped, model=self.name)
        return PutReport(written, skipped)


@dataclass(frozen=True)
class _QueryArguments:
    """The arguments of a query that select rows."""

    partition: Any
    sort: tuple[Any, ...] | None
    index: str | None
    descending: bool
    consistent: bool


def pages(read: Callable[[bytes | None], _core.Page]) -> Iterator[_core.Page]:
    """Yield all pages, which `read` returns for their positions."""
    after: bytes | None = None
    while True:
        page = read(after)
        yield page
        after = page.next
        if after is None:
            return


def check_on_conflict(on_conflict: object) -> None:
    """Check an `on_conflict=`."""
    if on_conflict not in {"fail", "skip", "replace"}:
        raise InvalidValue(f'on_conflict= takes "fail", "skip" or "replace", not {shortened(on_conflict)}')


def put_items(
    codec: _core.Codec, items: list[_core.Item], on_conflict: OnConflict
) -> Generator[Any, Any, list[BaseException | None]]:
    """Write items whole in one request; return None or the exception of each."""
    request, refused = codec.put_all(items, "any" if on_conflict == "replace" else "absent")
    outcomes: list[BaseException | None] = []
    if len(refused) < len(items):
        outcomes = list((yield request))
    for index, error in refused:
        outcomes.insert(index, error)
    return outcomes


def _iterator(name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise TypeError(f"{name}: put_many() takes an iterable of dicts, not {shortened(rows)}")
    return iter(rows)


def _item(name: str, row: object) -> _core.Item:
    if not isinstance(row, Mapping):
        raise InvalidValue(f"{name}: a row is a dict of names to values, not {shortened(row)}", model=name)
    try:
        return _core.Item.from_dict(dict(row))
    except CONVERSION_ERRORS as error:
        raise InvalidValue(f"{name}: the row {shortened(row)} cannot be stored: {cause(error)}", model=name) from error


def _page(found: _core.Page, cursors: Cursors) -> RawPage:
    rows = [item.to_dict() for item in found.items]
    return RawPage(rows, None if found.next is None else cursors.encode(None, found.next))


def _check_count(name: str, argument: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1 << 31:
        raise InvalidValue(f"{name}: {argument}= takes a whole number from 1, not {shortened(value)}", model=name)


def _named(info: TableInfo, codec: _core.Codec, key: RawKey) -> _core.Key:
    """Return the key of a dict, of a tuple, or of one value."""
    names = [part.name for part in info.keys]
    if not isinstance(key, Mapping):
        values = key if isinstance(key, tuple) else (key,)
        if len(values) != len(names):
            raise InvalidValue(
                f"{info.name}: the key has {len(names)} parts, {key_names(info)}, not {len(values)}: {shortened(key)}",
                model=info.name,
            )
        key = dict(zip(names, values, strict=True))
    elif set(key) != set(names):
        raise InvalidValue(f"{info.name}: the key is {key_names(info)}, not {shortened(dict(key))}", model=info.name)
    return codec.key(dict(key))


def index_of(info: TableInfo, name: str) -> IndexInfo:
    """Return the index of this name."""
    for index in info.indexes:
        if index.name == name:
            return index
    known = [index.name for index in info.indexes]
    raise InvalidValue(
        f"{info.name}: there is no index {shortened(name)}{nearest(name, known)}: the indexes are "
        f"{', '.join(known) or 'none'}",
        model=info.name,
    )


def _checked(info: TableInfo, given: _QueryArguments) -> tuple[list[Any], tuple[Any, ...] | None]:
    """Return the values of the partition attributes and the condition on the sort key of a query."""
    partition_keys, sort_key = (info.partition,), info.sort
    if given.index is not None:
        index = index_of(info, given.index)
        partition_keys, sort_key = index.partition, index.sort  # type: ignore[assignment]
    values = given.partition if isinstance(given.partition, tuple) else (given.partition,)
    if len(values) != len(partition_keys):
        names = ", ".join(map(str, partition_keys)) or "none"
        raise InvalidValue(
            f"{info.name}: a query takes a value for each attribute of the partition key ({names}), not "
            f"{shortened(given.partition)}",
            model=info.name,
        )
    sort = given.sort
    if sort is not None:
        if sort_key is None:
            raise InvalidValue(f"{info.name}: there is no sort key: leave sort= out", model=info.name)
        operands = (
            _SORT_CONDITIONS.get(sort[0]) if isinstance(sort, tuple) and sort and isinstance(sort[0], str) else None
        )
        if operands is None or len(sort) != 1 + operands:
            raise InvalidValue(
                f"{info.name}: sort= takes a condition such as ('begins_with', text) or ('between', low, high), not "
                f"{shortened(sort)}: the conditions are {', '.join(_SORT_CONDITIONS)}",
                model=info.name,
            )
    return list(values), sort
