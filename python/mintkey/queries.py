"""Queries: lazy results that are read page by page."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import inspect
import operator
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast, overload

from mintkey import _core, loading, plans
from mintkey.arguments import not_a_flag
from mintkey.conditions import Condition
from mintkey.errors import ConfigurationError, InvalidCursor, InvalidValue, UnreadableItem, shortened
from mintkey.passes import AT_ONCE, Order, Pass, SegmentedPass, TopN
from mintkey.schema import Schema
from mintkey.stores import store_of
from mintkey.writing import refuse_async_hooks

if TYPE_CHECKING:
    from mintkey.stores import Operation

__all__ = ["OnUnreadable", "Options", "Page", "Result"]

M = TypeVar("M")
#: What to do with an item that cannot be read: raise the error, skip the item, or call a function with the error.
OnUnreadable: TypeAlias = Literal["raise", "skip"] | Callable[[UnreadableItem], object]

#: The bytes of a cursor: a fingerprint of the query, the number of items left under its limit, a position of the store.
_FINGERPRINT, _LEFT = 8, 8
_NO_LIMIT = (1 << 8 * _LEFT) - 1
_START_AGAIN = "start again without cursor="
#: More items than any table has.
_MAX_ITEMS = (1 << 63) - 1
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


class Options(NamedTuple):
    """The options of a result, as the caller has passed them.

    Attributes:
        order: the order of a result that is sorted in memory.
        offset: the number of items that a slice leaves out.
    """

    descending: bool = False
    limit: int | None = None
    attributes: Iterable[str] | None = None
    consistent: bool = False
    segments: int = 1
    order: Order | None = None
    offset: int = 0
    on_unreadable: OnUnreadable = "raise"


_NO_OPTIONS = Options()


class Result(Generic[M]):
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
        for name, flag in (("descending", options.descending), ("consistent", options.consistent)):
            if type(flag) is not bool:
                raise not_a_flag(schema, name, flag)
        if options.on_unreadable not in ("raise", "skip") and not callable(options.on_unreadable):
            raise TypeError(
                f"{schema.model}: on_unreadable= takes 'raise', 'skip' or a function, "
                f"not {shortened(options.on_unreadable)}"
            )
        given = options.on_unreadable
        if inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(type(given).__call__):
            raise TypeError(
                f"{schema.model}: on_unreadable= takes a plain function, and {shortened(options.on_unreadable)} is an "
                "async one, which a blocking call cannot run: collect the errors in a plain function"
            )
        _checked_integer(options.limit, "limit", least=0, most=_MAX_ITEMS)
        _checked_integer(options.segments, "segments", least=1, most=_MAX_SEGMENTS)
        self._schema = schema
        self._make = make
        self._plan = how
        self._projected = schema.fetched_by(how.index)
        if options.attributes is not None:
            options = options._replace(attributes=self._attribute_names(options.attributes))
        self._options = options
        if options.segments > 1 and how.partition is not None:
            raise TypeError(
                f"{schema.model}: segments= applies to scans only, and this is a {self.explain()}: leave segments= out"
            )
        self._all_items: list[M] | None = None

    def _attribute_names(self, attributes: Iterable[str]) -> tuple[str, ...]:
        if isinstance(attributes, str):
            raise TypeError(
                f"{self._schema.model}: attributes= takes a list of names, not the text {shortened(attributes)}"
            )
        requested = list(chain(attributes)) if isinstance(attributes, Iterable) else [attributes]
        if not all(isinstance(name, str) for name in requested):
            raise TypeError(f"{self._schema.model}: attributes= takes a list of names, not {shortened(attributes)}")
        # An item cannot be written again without its version.
        version = () if self._schema.version is None else (self._schema.version,)
        shown = version if self._projected is None or self._projected.issuperset(version) else ()
        names = dict.fromkeys((*self._schema.always_loaded, *shown, *requested))
        unknown = [name for name in names if name not in self._schema.attributes]
        if unknown:
            raise self._schema.unexpected(unknown)
        hidden = [name for name in names if self._projected is not None and name not in self._projected]
        if hidden:
            raise ConfigurationError(
                f"{self._schema.model}: the index {self._plan.index!r} does not contain {hidden[0]!r}: "
                "add it to projection= of the index, or leave it out of attributes=",
                model=self._schema.model,
                attribute=hidden[0],
            )
        return tuple(names)

    def _with_options(self, **changes: Any) -> Result[M]:
        """Return a copy of this result with other options; nothing is read."""
        copied: Result[M] = object.__new__(type(self))
        copied.__dict__.update(self.__dict__, _options=self._options._replace(**changes), _all_items=None)
        return copied

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
                consistent=options.consistent,
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
            consistent=options.consistent,
        )

    def _read(self, size: int, after: bytes | None) -> Operation[tuple[list[_core.Item], bytes | None]]:
        """Read one page of stored items; return them and the position of the next page."""
        page = yield self._request(size, after)
        return self._readable(page.items), page.next

    def _read_segments(
        self, size: int, positions: list[tuple[int, bytes | None]]
    ) -> Operation[tuple[list[_core.Item], list[bytes | None]]]:
        """Read one page of each segment; return the items and the positions of the next pages."""
        pages = yield [self._request(size, after, segment=segment) for segment, after in positions]
        items = [item for page in _raise_first_failure(pages) for item in page.items]
        return self._readable(items), [page.next for page in pages]

    def _readable(self, items: list[_core.Item]) -> list[_core.Item]:
        """Leave out the items that cannot be read, if the caller goes past them."""
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

    def _make_instance(self, item: _core.Item) -> M:
        fetched = self._projected if self._options.attributes is None else self._options.attributes
        return self._make(item, None if fetched is None else set(fetched))

    def _load(self, items: list[_core.Item | None]) -> Operation[tuple[list[M], list[_core.Item | None]]]:
        """Load stored items; return the instances and the items that are left to load."""
        return cast(
            "Operation[tuple[list[M], list[_core.Item | None]]]", loading.load(self._schema, items, self._make_instance)
        )

    def _page_cursor(self) -> Pass:
        """Return a page cursor over the whole result."""
        options = self._options
        limit = 0 if self._plan.is_empty else options.limit
        if options.segments > 1:
            return SegmentedPass(self._read_segments, options.segments, limit, options.offset)
        return Pass(self._read, limit, options.offset)

    def __iter__(self) -> Iterator[M]:
        if self._all_items is not None:
            return iter(self._all_items)
        refuse_async_hooks(self._schema, "after_load")
        return self._sorted() if self._options.order is not None else self._stream()

    def _stream(self) -> Iterator[M]:
        if self._all_items is not None:
            # `list(result)` calls `len()`, which reads and keeps all items, before it reads the first item.
            yield from self._all_items
            return
        store = store_of(self._schema)
        reading = self._page_cursor()
        while reading.more:
            items = store.run(reading.page())
            while items:
                instances, items = store.run(self._load(items))
                yield from instances
                del instances  # free them before the next ones are loaded

    def __aiter__(self) -> AsyncIterator[M]:
        return _AsyncIterator(self)

    # Sort in memory.

    def _sorted(self) -> Iterator[M]:
        if self._all_items is not None:
            yield from self._all_items
            return
        sorter = self._sorter()
        for instance in self._unordered()._stream():
            sorter.add(instance)
        yield from sorter.sorted(self._options.offset)

    async def _asorted(self) -> list[M]:
        sorter = self._sorter()
        async for instance in self._unordered():
            sorter.add(instance)
        return sorter.sorted(self._options.offset)

    def _unordered(self) -> Result[M]:
        return self._with_options(order=None, limit=None, offset=0)

    def _sorter(self) -> TopN[M]:
        order = cast("Order", self._options.order)
        plans.log().info(
            "%s: no index has the order of %r; the items are sorted in memory", self._schema.model, order.name
        )
        most = None if self._options.limit is None else self._options.limit + self._options.offset
        return TopN(self._schema, order, most)

    # Public methods.

    def first(self) -> M | None:
        """Return the first item, or None. Reads one item."""
        return next(iter(self._first()), None)

    async def afirst(self) -> M | None:
        """Async version of `first()`."""
        return await anext(aiter(self._first()), None)

    def _first(self) -> Result[M]:
        limit = self._options.limit
        return self._with_options(limit=1 if limit is None else min(limit, 1))

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
        refuse_async_hooks(self._schema, "after_load")
        return store_of(self._schema).run(self._read_page(size, cursor))

    async def apage(self, size: int, cursor: str | None = None) -> Page[M]:
        """Async version of `page()`."""
        return await store_of(self._schema).arun(self._read_page(size, cursor))

    def _read_page(self, size: int, cursor: str | None) -> Operation[Page[M]]:
        size = cast("int", _checked_integer(size, "size", least=1, most=_MAX_ITEMS))
        options = self._options
        if options.order is not None:
            raise TypeError(
                f"{self._schema.model}: a result sorted in memory by {options.order.name!r} has no pages: use a slice"
            )
        if options.segments > 1:
            raise TypeError(
                f"{self._schema.model}: a scan in {options.segments} segments has no pages, because a cursor is a "
                "single position: iterate over it, or read pages without segments="
            )
        left, skip, after = options.limit, options.offset, None
        if cursor is not None:
            (left, after), skip = self._decode_cursor(cursor), 0
        wanted = 0 if self._plan.is_empty else size if left is None else min(size, left)
        while True:
            reading = Pass(self._read, wanted, skip, after)
            items: list[_core.Item | None] = []
            while reading.more:
                items.extend((yield from reading.page()))
            instances = cast("list[M]", loading.loaded(self._schema, items, self._make_instance))
            if len(instances) == len(items):
                break
            # Long texts reached the memory limit of a page. Read a shorter page to get the position of its end.
            wanted = len(instances)
        yield from loading.run_load_hooks(self._schema, instances)
        left = None if left is None else left - len(instances)
        return Page(instances, None if reading.after is None or left == 0 else self._encode_cursor(left, reading.after))

    def _fingerprint(self, rest: bytes) -> bytes:
        """Return a hash of this query and of the rest of a cursor, to detect damage and cursors of other queries."""
        how, options, filtered = self._plan, self._options, self._plan.filter()
        query = (how.index, how.partition, how.sort, None if filtered is None else filtered.fingerprint())
        text = f"{self._schema.table} {(*query, options.descending, options.limit, options.offset)!r}"
        from hashlib import blake2b  # loads OpenSSL, which only cursors need

        return blake2b(text.encode("utf-8", "surrogatepass") + rest, digest_size=_FINGERPRINT).digest()

    def _encode_cursor(self, left: int | None, after: bytes) -> str:
        rest = (_NO_LIMIT if left is None else left).to_bytes(_LEFT, "big") + after
        return base64.urlsafe_b64encode(self._fingerprint(rest) + rest).rstrip(b"=").decode()

    def _decode_cursor(self, cursor: str) -> tuple[int | None, bytes]:
        """Decode a cursor; return the number of items left under the limit, and the position."""
        if cursor == "":
            raise self._invalid_cursor(
                "the cursor is empty: leave cursor= out, or pass None, to start with the first page"
            )
        try:
            raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (AttributeError, UnicodeEncodeError, binascii.Error) as error:
            raise self._invalid_cursor(f"{shortened(cursor)} is not a cursor: {_START_AGAIN}") from error
        count = int.from_bytes(raw[_FINGERPRINT : _FINGERPRINT + _LEFT], "big")
        left = None if count == _NO_LIMIT else count
        # The fingerprint detects mistakes. It is not a signature: a client can forge it, so `left` is checked too.
        limit = self._options.limit
        possible = left is None if limit is None else left is not None and 0 < left <= limit
        if raw[:_FINGERPRINT] != self._fingerprint(raw[_FINGERPRINT:]) or not possible:
            raise self._invalid_cursor(
                "the cursor belongs to another query, or is damaged: pass it to the query that returned it, with the "
                f"same conditions, direction and limit, or {_START_AGAIN}"
            )
        return left, raw[_FINGERPRINT + _LEFT :]

    def _invalid_cursor(self, reason: str) -> InvalidCursor:
        return InvalidCursor(f"{self._schema.model}: {reason}", model=self._schema.model)

    def count(self) -> int:
        """Return the number of items, without loading them."""
        return store_of(self._schema).run(self._count())

    async def acount(self) -> int:
        """Async version of `count()`."""
        return await store_of(self._schema).arun(self._count())

    def _count(self) -> Operation[int]:
        if self._plan.is_empty:
            return 0
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

    def _count_segments(self) -> Operation[int]:
        total = 0

        def count(_: int, positions: list[tuple[int, bytes | None]]) -> Operation[tuple[list[Any], list[bytes | None]]]:
            nonlocal total
            pages = yield [self._request(0, after, count=True, segment=segment) for segment, after in positions]
            total += sum(page.count for page in _raise_first_failure(pages))
            return [], [page.next for page in pages]

        counting = SegmentedPass(count, self._options.segments, None, 0)
        while counting.more:
            yield from counting.page()
        return total

    def order_by(self, name: str) -> Result[M]:
        """Return the same items in the order of an attribute; `"-name"` reverses the order.

        If the sort key or a matching index has this order, the items are read in it. Otherwise they are sorted in
        memory (with a limit, only that many are kept), and this is logged at INFO. Items without a value come last.

        Raises:
            TypeError: the attribute does not exist, or values of its type have no order.
        """
        if not isinstance(name, str):
            raise TypeError(
                f"{self._schema.model}: order_by() takes the name of an attribute, or '-' and the name, "
                f"not {shortened(name)}"
            )
        descending = name.startswith("-")
        name = name.removeprefix("-")
        schema = self._schema
        if name not in schema.attributes:
            raise schema.unexpected([name])
        how = self._plan
        if how.all_conditions is not None and how.sorted_by != name:
            other = plans.best_plan(schema, how.all_conditions, name)
            if other is not None and other.sorted_by == name:
                how = other
        natural = how.sorted_by
        if how.partition is None and self._options.segments == 1 and store_of(schema).ordered_scans:
            natural = schema.partition
        if natural == name:
            options = self._options._replace(descending=descending, order=None, segments=1)
            return Result(schema, self._make, how, options)
        if schema.attributes[name].key_kind is None:
            raise TypeError(f"{schema.model}.{name}: a {type(schema.attributes[name]).__name__} has no order")
        return self._with_options(order=Order(name, descending), descending=False)

    def explain(self) -> str:
        """Return a description of the query plan: the table or index, the key condition and the filter."""
        how = self._plan
        if how.partition is None:
            parts = [f"scan of table {self._schema.table!r}"]
            if self._options.segments > 1:
                parts.append(f"in {self._options.segments} segments, up to {AT_ONCE} at once")
        else:
            where = f"index {how.index!r} of table" if how.index else "table"
            parts = [f"query of {where} {self._schema.table!r}"]
            if how.partition:
                parts.append(f"partition {', '.join(map(shortened, how.partition))}")
            if how.sort:
                parts.append(_key_condition_text(str(how.sorted_by), how.sort))
        if how.rest:
            parts.append(f"filter: {Condition.every(how.rest)!r}")
            local = [condition for condition in how.rest if condition.is_local]
            if local:
                parts.append(f"on DynamoDB evaluated by the client: {Condition.every(local)!r}")
        if self._options.order is not None:
            parts.append(f"sorted in memory by {self._options.order.name!r}")
        return "; ".join(parts)

    def _read_all(self) -> list[M]:
        if self._all_items is None:
            self._all_items = list(self._sorted() if self._options.order is not None else self._stream())
        return self._all_items

    def __len__(self) -> int:
        refuse_async_hooks(self._schema, "after_load")
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
            raise InvalidValue(f"{self._schema.model}: a slice of a result has no negative index and no step")
        limit = self._options.limit
        if limit is not None:
            limit = max(0, limit - start)
        if stop is not None:
            wanted = min(max(0, stop - start), _MAX_ITEMS)
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

    __slots__ = ("_buffer", "_items", "_reading", "_result")

    def __init__(self, result: Result[M]) -> None:
        self._result = result
        self._reading: Pass | None = None
        self._items: list[_core.Item | None] = []
        self._buffer: deque[M] | None = None if result._all_items is None else deque(result._all_items)

    def __aiter__(self) -> _AsyncIterator[M]:
        return self

    async def __anext__(self) -> M:
        result = self._result
        if self._buffer is None:
            self._buffer = deque()
            if result._options.order is not None:
                self._buffer.extend(await result._asorted())
            else:
                self._reading = result._page_cursor()
        store = store_of(result._schema)
        while not self._buffer:
            if not self._items:
                if self._reading is None or not self._reading.more:
                    raise StopAsyncIteration
                self._items = await store.arun(self._reading.page())
            instances, self._items = await store.arun(result._load(self._items))
            self._buffer.extend(instances)
        return self._buffer.popleft()


def _checked_integer(number: int | None, name: str, *, least: int, most: int) -> int | None:
    if number is None and least == 0:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise InvalidValue(f"{name}= takes an integer of at least {least}, not {shortened(number)}")
    if number > most:
        raise InvalidValue(f"{name}= takes an integer of at most {most:,}, not {shortened(number)}")
    return number


def _raise_first_failure(pages: list[_core.Page | BaseException]) -> Iterator[_core.Page]:
    """Return pages that were read concurrently, or raise the first failure among them."""
    for page in pages:
        if isinstance(page, BaseException):
            raise page
    return iter(pages)  # type: ignore[arg-type]  # no failure is left
