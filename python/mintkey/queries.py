"""Queries: lazy results that are read page by page."""

from __future__ import annotations

import dataclasses
import operator
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from mintkey import _core
from mintkey.conditions import Condition
from mintkey.definitions.schema import Schema
from mintkey.errors import ConfigurationError, InvalidValue, UnreadableItem, check_flags, shortened
from mintkey.instance_state import fetched
from mintkey.lookups import every
from mintkey.operations import loading
from mintkey.operations.arguments import consistency, unique_hint
from mintkey.operations.writing import refuse_async_hooks
from mintkey.results import plans
from mintkey.results.chains import MAX_ITEMS, OnUnreadable, Options, check_on_unreadable, checked_integer
from mintkey.results.cursors import Cursors
from mintkey.results.page_cursors import AT_ONCE, PageCursor, PageFilter, SegmentedCursor, TopN
from mintkey.results.row_writes import RowWriteMixin
from mintkey.stores import store_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey.stores import Operation

__all__ = ["OnUnreadable", "Options", "Page", "Result"]

M = TypeVar("M")

#: The maximum of DynamoDB. Other stores have no use for more.
_MAX_SEGMENTS = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """One page of items, and the cursor of the next page: an opaque, URL-safe text; None on the last page."""

    items: list[M]
    cursor: str | None

    def __iter__(self) -> Iterator[M]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


_NO_OPTIONS = Options()


class Result(RowWriteMixin[M]):
    """The lazy result of a query or scan: iterate over it with `for` or `async for`; it is read page by page.

    `len()` reads and keeps all items, `bool()` reads one item, `[i]` reads `i + 1` items, and a slice is another lazy
    result. Iterating keeps no items, so a million items take no more memory than one page.
    """

    def __init__(
        self,
        schema: Schema,
        make: Callable[[_core.Item, set[str] | None], M],
        how: plans.Plan,
        options: Options = _NO_OPTIONS,
    ) -> None:
        check_flags(schema.model, descending=options.descending)
        consistency(schema, options.consistent)
        check_on_unreadable(schema, options.on_unreadable)
        checked_integer(schema, options.limit, "limit", least=0, most=MAX_ITEMS)
        checked_integer(schema, options.segments, "segments", least=1, most=_MAX_SEGMENTS)
        self._schema = schema
        self._make: Callable[[_core.Item, set[str] | None], Any] = make
        self._shape: Callable[[Any], Any] | None = None
        self._hooked = True
        self._set_plan(how, options)
        if options.segments > 1 and how.partition is not None:
            raise TypeError(
                f"{schema.model}: segments= applies to scans only, and this is a {self.explain()}: leave segments= out"
            )

    def _set_plan(self, how: plans.Plan, options: Options) -> None:
        self._plan = how
        self._projected = self._schema.fetched_by(how.index)
        self._client_filters = how.client_filters
        needed = sorted({root.name for test in self._client_filters for root in test.roots()})
        self._check_projection(needed)
        if options.attributes is not None:
            names = loading.selection(self._schema, options.attributes, self._projected)
            self._check_projection(map(loading.root, names))
            sorting = [order.name for order in options.order]
            options = options._replace(attributes=tuple(dict.fromkeys((*names, *needed, *sorting))))
        self._options = options
        self._all_items: list[M] | None = None

    def _check_projection(self, names: Iterable[str]) -> None:
        """Refuse attributes that the index does not contain."""
        if self._projected is None:
            return
        hidden = [name for name in names if name not in self._projected]
        if hidden:
            raise ConfigurationError(
                f"{self._schema.model}: the index {self._plan.index!r} does not contain {hidden[0]!r}: "
                "add it to projection= of the index, or leave it out of attributes= and of the filter",
                model=self._schema.model,
                attribute=hidden[0],
            )

    def _copied(self, how: plans.Plan, options: Options) -> Self:
        """Return a result of another plan and other options; nothing is read."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        copied._set_plan(how, options)
        return copied

    def _with_options(self, **changes: Any) -> Self:
        """Return a copy of this result with other options; nothing is read."""
        return self._copied(self._plan, self._options._replace(**changes))

    def _unhooked(self, attributes: Iterable[Any] | None) -> Self:
        """Return a result of the same rows in any order, with these attributes and the keys; it runs no hooks."""
        rows = self._with_options(attributes=attributes, order=())
        rows._hooked = False
        return rows

    # Read pages.

    def _request(
        self, size: int, after: bytes | None, *, count: bool = False, segment: int | None = None
    ) -> _core.Request:
        how, codec, options = self._plan, self._schema.codec, self._options
        attributes = None if options.attributes is None or count else list(options.attributes)
        if how.partition is None:
            return codec.scan(
                filter=how.filter(),
                limit=None if count else size,
                after=after,
                attributes=attributes,
                count=count,
                descending=options.descending,
                consistent=self._is_consistent(),
                segment=None if segment is None else (segment, options.segments),
            )
        return codec.query(
            list(how.partition),
            index=how.index,
            sort=how.sort,
            filter=how.filter(),
            descending=options.descending,
            limit=None if count else size,
            after=after,
            attributes=attributes,
            count=count,
            consistent=self._is_consistent(),
        )

    def _is_consistent(self) -> bool:
        """Whether reads are consistent. The default of the model applies where every store has consistent reads."""
        index = self._schema.index(self._plan.index)
        if self._options.consistent is None and index is not None and not index.local:
            return False
        return consistency(self._schema, self._options.consistent)

    def _read(self, size: int, after: bytes | None) -> Operation[tuple[list[_core.Item], bytes | None]]:
        """Read one page of stored items; return them and the position of the next page."""
        page = yield self._request(size, after)
        return page.items, page.next

    def _read_segments(
        self, size: int, positions: list[tuple[int, bytes | None]]
    ) -> Operation[tuple[list[_core.Item], list[bytes | None]]]:
        """Read one page of each segment; return the items and the positions of the next pages."""
        pages = yield [self._request(size, after, segment=segment) for segment, after in positions]
        items = [item for page in _raise_first_failure(pages) for item in page.items]
        return items, [page.next for page in pages]

    def _readable(self, items: list[_core.Item]) -> list[_core.Item]:
        """Leave out the items that cannot be read, if the caller skips them."""
        if self._options.on_unreadable == "raise":
            return items
        return [item for item in items if self._is_readable(item)]

    def _is_readable(self, item: _core.Item) -> bool:
        try:
            self._make_instance(item)
        except UnreadableItem as error:
            if callable(self._options.on_unreadable):
                self._options.on_unreadable(error)
            return False
        return True

    def _make_instance(self, item: _core.Item) -> Any:
        names = self._projected if self._options.attributes is None else self._options.attributes
        return self._make(item, None if names is None else fetched(names))

    def _run_load_hooks(self, instances: Iterable[Any]) -> Operation[None]:
        return loading.run_load_hooks(self._schema, instances)

    def _load(self, items: list[_core.Item | None]) -> Operation[tuple[list[Any], list[_core.Item | None]]]:
        """Load stored items; return the instances and the items that are left to load."""
        instances = loading.loaded(self._schema, items, self._make_instance)
        if self._hooked:
            yield from self._run_load_hooks(instances)
        return instances, items[len(instances) :]

    def _refuse_async_hooks(self) -> None:
        if self._hooked:
            refuse_async_hooks(self._schema, "after_load")

    def _shaped(self, instances: Iterable[Any]) -> list[M]:
        """Return what the caller gets for instances: the instances, or their values."""
        return list(instances) if self._shape is None else [self._shape(instance) for instance in instances]

    def _page_filter(self, *, load: bool = True, exact: bool = False) -> PageFilter:
        """Return what the client leaves out. Items that are not loaded need not be readable."""
        filters = self._client_filters
        matches = (lambda item: all(test.matches(item) for test in filters)) if filters else None
        return PageFilter(matches, self._readable if load else list, exact)

    def _page_cursor(self, *, load: bool = True) -> PageCursor:
        """Return a page cursor over the whole result."""
        options, page_filter = self._options, self._page_filter(load=load)
        limit = 0 if self._plan.is_empty else options.limit
        if options.segments > 1:
            return SegmentedCursor(self._read_segments, page_filter, options.segments, limit, options.offset)
        return PageCursor(self._read, page_filter, limit, options.offset)

    def __iter__(self) -> Iterator[M]:
        if self._all_items is not None:
            return iter(self._all_items)
        self._refuse_async_hooks()
        return self._stream()

    def _stream(self) -> Iterator[M]:
        if self._all_items is not None:
            # `list(result)` calls `len()`, which reads and keeps all items, before it reads the first item.
            yield from self._all_items
        elif self._options.order:
            sorter = self._sorter()
            for instance in self._unordered()._instances():
                sorter.add(instance)
            yield from self._shaped(sorter.sorted(self._options.offset))
        elif self._shape is None:
            yield from self._instances()
        else:
            yield from map(self._shape, self._instances())

    def _instances(self) -> Iterator[Any]:
        self._refuse_async_hooks()
        store = store_of(self._schema)
        reading = self._page_cursor()
        while reading.more:
            items = store.run(reading.page())
            while items:
                instances, items = store.run(self._load(items))
                yield from instances
                del instances  # free them before the next ones are loaded

    def __aiter__(self) -> AsyncIterator[M]:
        return _AsyncIterator(self, shaped=True)

    def _ainstances(self) -> AsyncIterator[Any]:
        return _AsyncIterator(self, shaped=False)

    # Sort in memory.

    async def _asorted(self) -> list[Any]:
        sorter = self._sorter()
        async for instance in self._unordered()._ainstances():
            sorter.add(instance)
        return sorter.sorted(self._options.offset)

    def _unordered(self) -> Self:
        return self._with_options(order=(), limit=None, offset=0)

    def _sorter(self) -> TopN[Any]:
        order = self._options.order
        names = " and ".join(repr(one.name) for one in order)
        plans.log().info("%s: no index has the order of %s; the items are sorted in memory", self._schema.model, names)
        most = None if self._options.limit is None else self._options.limit + self._options.offset
        return TopN(order, most)

    # Return values instead of instances.

    def values(self, *names: str) -> Result[dict[str, Any]]:
        """Return the same items as dicts of these attributes, without names of all; None stands for an absent value.

        No other attributes are loaded, and no hooks run.
        """
        wanted = self._wanted(names)
        return self._of_values(wanted, lambda instance: {name: getattr(instance, name) for name in wanted})

    @overload
    def values_list(self, *names: str, flat: Literal[False] = False) -> Result[tuple[Any, ...]]: ...
    @overload
    def values_list(self, *names: str, flat: Literal[True]) -> Result[Any]: ...
    def values_list(self, *names: str, flat: bool = False) -> Result[Any]:
        """Return the same items as tuples of these attributes; with `flat=True` as the values of the only one."""
        check_flags(self._schema.model, flat=flat)
        wanted = self._wanted(names)
        if not flat:
            return self._of_values(wanted, lambda instance: tuple(getattr(instance, name) for name in wanted))
        if len(names) != 1:
            raise TypeError(f"{self._schema.model}: values_list(flat=True) takes the name of one attribute")
        return self._of_values(wanted, operator.attrgetter(wanted[0]))

    def _wanted(self, names: tuple[str, ...]) -> tuple[str, ...]:
        loading.check_value_names(self._schema, names)
        # Checked here, so that the names of the keys, which are always loaded, are not added.
        self._check_projection(loading.attribute_names(self._schema, names, self._projected))
        loaded = self._schema.shown if self._projected is None else sorted(self._projected & {*self._schema.shown})
        return names or tuple(loaded)

    def _of_values(self, names: tuple[str, ...], shape: Callable[[Any], Any]) -> Result[Any]:
        result: Result[Any] = self._with_options(attributes=names)
        result._shape, result._hooked = shape, False
        return result

    # Public methods.

    def first(self) -> M | None:
        """Return the first item, or None. Reads one item."""
        return next(iter(self.limit(1)), None)

    async def afirst(self) -> M | None:
        """Async version of `first()`."""
        return await anext(aiter(self.limit(1)), None)

    def all(self) -> list[M]:
        """Return all items as a list."""
        return list(iter(self))

    async def aall(self) -> list[M]:
        """Async version of `all()`."""
        return [instance async for instance in self]

    def page(self, size: int, cursor: str | None = None) -> Page[M]:
        """Return a page of at most `size` items, which starts at the `cursor` of the previous page.

        Raises:
            InvalidCursor: the cursor is damaged, or belongs to another query.
            InvalidValue: `size` is not a positive integer.
        """
        self._refuse_async_hooks()
        return store_of(self._schema).run(self._read_page(size, cursor))

    async def apage(self, size: int, cursor: str | None = None) -> Page[M]:
        """Async version of `page()`."""
        return await store_of(self._schema).arun(self._read_page(size, cursor))

    def _read_page(self, size: int, cursor: str | None) -> Operation[Page[M]]:
        size = cast("int", checked_integer(self._schema, size, "size", least=1, most=MAX_ITEMS))
        options = self._options
        if options.order:
            names = " and ".join(repr(one.name) for one in options.order)
            raise TypeError(
                f"{self._schema.model}: a result sorted in memory by {names} has no pages: use a slice, or order_by() "
                "without names"
            )
        if options.segments > 1:
            raise TypeError(
                f"{self._schema.model}: a scan in {options.segments} segments has no pages, because a cursor is a "
                "single position: iterate over it, or read pages without segments="
            )
        left, skip, after = options.limit, options.offset, None
        if cursor is not None:
            (left, after), skip = self._cursors().decode(cursor), 0
        wanted = 0 if self._plan.is_empty else size if left is None else min(size, left)
        while True:
            reading = PageCursor(self._read, self._page_filter(exact=True), wanted, skip, after)
            items: list[_core.Item | None] = []
            while reading.more:
                items.extend((yield from reading.page()))
            instances = loading.loaded(self._schema, items, self._make_instance)
            if len(instances) == len(items):
                break
            # Long texts reached the memory limit of a page. Read a shorter page to get the position of its end.
            wanted = len(instances)
        if self._hooked:
            yield from self._run_load_hooks(instances)
        left = None if left is None else left - len(instances)
        ended = reading.after is None or left == 0
        return Page(
            self._shaped(instances), None if ended else self._cursors().encode(left, cast("bytes", reading.after))
        )

    def _cursors(self) -> Cursors:
        how, options, filtered = self._plan, self._options, self._plan.filter()
        query = (how.index, how.partition, how.sort, None if filtered is None else filtered.fingerprint())
        client = tuple(test.fingerprint() for test in self._client_filters)
        text = f"{self._schema.table} {(*query, *client, options.descending, options.limit, options.offset)!r}"
        return Cursors(self._schema.model, text, options.limit)

    def count(self) -> int:
        """Return the number of items, without loading them."""
        return store_of(self._schema).run(self._count())

    async def acount(self) -> int:
        """Async version of `count()`."""
        return await store_of(self._schema).arun(self._count())

    def _count(self) -> Operation[int]:
        if self._plan.is_empty:
            return 0
        if self._client_filters:
            return (yield from self._count_matches())
        total = 0
        after: bytes | None = None
        while self._options.segments == 1:
            page = yield self._request(0, after, count=True)
            total += page.count
            after = page.next
            if after is None:
                break
        else:
            total = yield from self._count_segments()
        total, limit = max(0, int(total) - self._options.offset), self._options.limit
        return total if limit is None else min(total, limit)

    def _count_matches(self) -> Operation[int]:
        """Count the items that the client's filters match."""
        total = 0
        reading = self._with_options(attributes=(), order=())._page_cursor(load=False)
        while reading.more:
            total += len((yield from reading.page()))
        return total

    def _count_segments(self) -> Operation[int]:
        total = 0

        def count(_: int, positions: list[tuple[int, bytes | None]]) -> Operation[tuple[list[Any], list[bytes | None]]]:
            nonlocal total
            pages = yield [self._request(0, after, count=True, segment=segment) for segment, after in positions]
            total += sum(page.count for page in _raise_first_failure(pages))
            return [], [page.next for page in pages]

        counting = SegmentedCursor(count, self._page_filter(load=False), self._options.segments, None, 0)
        while counting.more:
            yield from counting.page()
        return total

    def explain(self) -> str:
        """Return a description of the query plan: the table or index, the key condition and the filters."""
        how = self._plan
        if how.partition is None:
            parts = [f"scan of table {self._schema.table!r}"]
            if self._options.segments > 1:
                parts.append(f"in {self._options.segments} segments, up to {AT_ONCE} at once")
            equal = {test.attribute.name for test in how.rest if test.attribute is not None and test.name == "=="}
            hint = unique_hint(self._schema, equal)
            if hint:
                parts.append(hint)
        else:
            where = f"index {how.index!r} of table" if how.index else "table"
            parts = [f"query of {where} {self._schema.table!r}"]
            if how.partition:
                parts.append(f"partition {', '.join(map(shortened, how.partition))}")
            if how.sort:
                parts.append(_key_condition_text(str(how.sorted_by), how.sort))
        filtered = how.filter()
        if filtered is not None:
            parts.append(f"filter: {filtered!r}")
            local = [test for test in how.rest if isinstance(test, Condition) and test.is_local]
            if local:
                parts.append(f"on DynamoDB evaluated by the client: {every(local)!r}")
        if self._client_filters:
            parts.append(f"evaluated by the client: {every(self._client_filters)!r}")
        if self._options.order:
            parts.append(f"sorted in memory by {' and '.join(repr(one.name) for one in self._options.order)}")
        return "; ".join(parts)

    def _read_all(self) -> list[M]:
        if self._all_items is None:
            self._all_items = list(self._stream())
        return self._all_items

    def __len__(self) -> int:
        self._refuse_async_hooks()
        return len(self._read_all())

    def __bool__(self) -> bool:
        return bool(self._all_items) if self._all_items is not None else self.first() is not None

    @overload
    def __getitem__(self, at: int) -> M: ...
    @overload
    def __getitem__(self, at: slice) -> Result[M]: ...
    def __getitem__(self, at: int | slice) -> M | Result[M]:
        if isinstance(at, slice):
            return self._slice(
                *(None if part is None else self._integer_index(part) for part in (at.start, at.stop, at.step))
            )
        at = self._integer_index(at)
        if at < 0:
            raise InvalidValue(f"{self._schema.model}: a result has no negative indexes: use descending=True instead")
        if self._all_items is not None:
            return self._all_items[at]
        if self._options.limit is None or at < self._options.limit:
            for instance in self._with_options(offset=self._options.offset + at, limit=1):
                return instance
        raise IndexError(f"{self._schema.model}: the result has no item {shortened(at)}")

    def _integer_index(self, at: object) -> int:
        try:
            return operator.index(at)  # type: ignore[arg-type]  # a wrong type raises
        except TypeError:
            raise TypeError(
                f"{self._schema.model}: the index of a result is an integer or a slice of integers, not {shortened(at)}"
            ) from None

    def _slice(self, start: int | None, stop: int | None, step: int | None) -> Result[M]:
        start = start or 0
        if start < 0 or (stop is not None and stop < 0) or step not in {None, 1}:
            raise InvalidValue(
                f"{self._schema.model}: a slice of a result has no negative index and no step: use "
                "indexes from 0, and order_by() for another order"
            )
        limit = self._options.limit
        if limit is not None:
            limit = max(0, limit - start)
        if stop is not None:
            wanted = min(max(0, stop - start), MAX_ITEMS)
            limit = wanted if limit is None else min(limit, wanted)
        return self._with_options(offset=self._options.offset + start, limit=limit)

    def __repr__(self) -> str:
        return f"<Result of {self._schema.model}: {self.explain()}>"


def _key_condition_text(name: str, sort: tuple[Any, ...]) -> str:
    """Return a key condition as readable text."""
    if sort[0] != "range":
        return f"{name} {sort[0]} {', '.join(map(shortened, sort[1:]))}"
    bounds = ((">", *sort[1:3]), ("<", *sort[3:5]))
    parts = (f"{name} {sign}{'=' * closed} {shortened(value)}" for sign, value, closed in bounds if value is not None)
    return " and ".join(parts)


class _AsyncIterator(Generic[M]):
    """Iterates with `async for`. Unlike an async generator, it need not be closed if a loop ends early."""

    __slots__ = ("_buffer", "_items", "_reading", "_result", "_shaped")

    def __init__(self, result: Result[M], *, shaped: bool) -> None:
        self._result = result
        self._shaped = result._shaped if shaped else list
        self._reading: PageCursor | None = None
        self._items: list[_core.Item | None] = []
        self._buffer: deque[M] | None = None if result._all_items is None else deque(result._all_items)

    def __aiter__(self) -> _AsyncIterator[M]:
        return self

    async def __anext__(self) -> M:
        result = self._result
        if self._buffer is None:
            self._buffer = deque()
            if result._options.order:
                self._buffer.extend(self._shaped(await result._asorted()))
            else:
                self._reading = result._page_cursor()
        store = store_of(result._schema)
        while not self._buffer:
            if not self._items:
                if self._reading is None or not self._reading.more:
                    raise StopAsyncIteration
                self._items = await store.arun(self._reading.page())
            instances, self._items = await store.arun(result._load(self._items))
            self._buffer.extend(self._shaped(instances))
        return self._buffer.popleft()


def _raise_first_failure(pages: list[_core.Page | BaseException]) -> Iterator[_core.Page]:
    """Return pages that were read concurrently, or raise the first failure among them."""
    for page in pages:
        if isinstance(page, BaseException):
            raise page
    return iter(pages)  # type: ignore[arg-type]  # no failure is left
