"""Queries: the lazy result that reads page by page, and what `Order.query` is."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import operator
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from mintkey import _core, loading, operations, plans
from mintkey.arguments import not_a_flag
from mintkey.conditions import Condition, Every
from mintkey.errors import ConfigurationError, InvalidCursor, InvalidValue, shortened
from mintkey.passes import AT_ONCE, Divided, Heap, Order, Pass
from mintkey.schema import Schema
from mintkey.stores import store_of

if TYPE_CHECKING:
    from mintkey.stores import Operation

__all__ = ["Page", "QueryAccess", "QueryAccessor", "Result"]

M = TypeVar("M")

#: A cursor is a fingerprint of its query, the number of items left under its limit, and a position of the store.
_FINGERPRINT, _LEFT = 8, 8
_NO_LIMIT = (1 << 8 * _LEFT) - 1
_START_AGAIN = "start again without cursor="
#: More items than any table holds.
_MOST_ITEMS = (1 << 63) - 1
#: DynamoDB divides a scan into no more, and no other store has a use for more.
_MOST_SEGMENTS = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """Some items, and the cursor of the next page: an opaque, URL-safe text, None after the last."""

    items: list[M]
    cursor: str | None

    def __iter__(self) -> Iterator[M]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Result(Generic[M]):
    """The items of a query or scan: lazy, read page by page, iterable with `for` and with `async for`.

    `len()` reads and keeps all items, `bool()` reads one, `[i]` the first `i + 1`; a slice is another lazy result.
    Iterating keeps nothing, so a million items take no more memory than a page.
    """

    def __init__(
        self,
        schema: Schema,
        make: Callable[[_core.Item, set[str] | None], M],
        how: plans.Plan,
        *,
        descending: bool = False,
        limit: int | None = None,
        attributes: Iterable[str] | None = None,
        consistent: bool = False,
        order: Order | None = None,
        offset: int = 0,
        segments: int = 1,
    ) -> None:
        for name, flag in (("descending", descending), ("consistent", consistent)):
            if type(flag) is not bool:
                raise not_a_flag(schema, name, flag)
        self._schema = schema
        self._make = make
        self._plan = how
        self._descending = descending
        self._limit = _whole(limit, "limit", least=0, most=_MOST_ITEMS)
        self._shown = schema.fetched_by(how.index)
        self._attributes = None if attributes is None else self._checked_attributes(attributes)
        self._consistent = consistent
        self._order = order
        self._offset = offset
        self._segments = cast("int", _whole(segments, "segments", least=1, most=_MOST_SEGMENTS))
        if self._segments > 1 and how.partition is not None:
            raise TypeError(f"{schema.model}: segments= divides a scan, and this is a {self.explain()}; leave it out")
        self._kept: list[M] | None = None

    def _checked_attributes(self, attributes: Iterable[str]) -> tuple[str, ...]:
        if isinstance(attributes, str):
            raise TypeError(
                f"{self._schema.model}: attributes= takes a list of names, not the one text {shortened(attributes)}"
            )
        asked = list(attributes) if isinstance(attributes, Iterable) else [attributes]
        if not all(isinstance(name, str) for name in asked):
            raise TypeError(f"{self._schema.model}: attributes= takes a list of names, not {shortened(attributes)}")
        # Without its version an item could not be written again.
        version = () if self._schema.version is None else (self._schema.version,)
        shown = version if self._shown is None or self._shown.issuperset(version) else ()
        names = dict.fromkeys((*self._schema.given_keys, *shown, *asked))
        unknown = [name for name in names if name not in self._schema.attributes]
        if unknown:
            raise self._schema.unexpected(unknown)
        hidden = [name for name in names if self._shown is not None and name not in self._shown]
        if hidden:
            raise ConfigurationError(
                f"{self._schema.model}: the index {self._plan.index!r} does not hold {hidden[0]!r}; "
                "add it to the index's projection=, or leave it out of attributes=",
                model=self._schema.model,
                attribute=hidden[0],
            )
        return tuple(names)

    def _but(self, **changes: Any) -> Result[M]:
        """This result with something changed, unread."""
        parts: dict[str, Any] = {
            "descending": self._descending,
            "limit": self._limit,
            "attributes": self._attributes,
            "consistent": self._consistent,
            "order": self._order,
            "offset": self._offset,
            "segments": self._segments,
            **changes,
        }
        return Result(self._schema, self._make, self._plan, **parts)

    # Reading pages.

    def _request(
        self, size: int, after: bytes | None, *, count: bool = False, segment: int | None = None
    ) -> _core.Request:
        how, codec = self._plan, self._schema.codec
        attributes = None if self._attributes is None or count else list(self._attributes)
        if how.partition is None:
            return codec.scan(
                filter=how.filter(),
                limit=None if count else size,
                after=after,
                attributes=attributes,
                count=count,
                descending=self._descending,
                consistent=self._consistent,
                segment=None if segment is None else (segment, self._segments),
            )
        return codec.query(
            list(how.partition),
            index=how.index,
            sort=how.sort,
            filter=how.filter(),
            descending=self._descending,
            limit=None if count else size,
            after=after,
            attributes=attributes,
            count=count,
            consistent=self._consistent,
        )

    def _read(self, size: int, after: bytes | None) -> Operation[tuple[list[_core.Item], bytes | None]]:
        """One page of stored items, and where the next one begins."""
        page = yield self._request(size, after)
        return page.items, page.next

    def _read_together(
        self, size: int, places: list[tuple[int, bytes | None]]
    ) -> Operation[tuple[list[_core.Item], list[bytes | None]]]:
        """A page of each of these segments, and where the next ones begin."""
        pages = yield [self._request(size, after, segment=segment) for segment, after in places]
        return [item for page in _all_well(pages) for item in page.items], [page.next for page in pages]

    def _instance(self, item: _core.Item) -> M:
        fetched = self._shown if self._attributes is None else self._attributes
        return self._make(item, None if fetched is None else set(fetched))

    def _load(self, items: list[_core.Item | None]) -> Operation[tuple[list[M], list[_core.Item | None]]]:
        """The instances of stored items, and the items that are left to load."""
        return cast(
            "Operation[tuple[list[M], list[_core.Item | None]]]", loading.load(self._schema, items, self._instance)
        )

    def _pass(self) -> Pass:
        """A pass over all of it."""
        if self._segments > 1:
            return Divided(self._read_together, self._segments, self._limit, self._offset)
        return Pass(self._read, self._limit, self._offset)

    def __iter__(self) -> Iterator[M]:
        if self._kept is not None:
            return iter(self._kept)
        operations.refuse_async_hooks(self._schema, "after_load")
        return self._ordered() if self._order is not None else self._stream()

    def _stream(self) -> Iterator[M]:
        if self._kept is not None:
            # `list(result)` asks for the length, which reads and keeps everything, before it asks for the first item.
            yield from self._kept
            return
        store = store_of(self._schema)
        reading = self._pass()
        while reading.more:
            items = store.run(reading.page())
            while items:
                instances, items = store.run(self._load(items))
                yield from instances
                del instances  # before the next ones are made

    def __aiter__(self) -> AsyncIterator[M]:
        return _Awaited(self)

    # An order that no index gives.

    def _ordered(self) -> Iterator[M]:
        if self._kept is not None:
            yield from self._kept
            return
        heap = self._heap()
        for instance in self._unordered()._stream():
            heap.add(instance)
        yield from heap.sorted(self._offset)

    async def _aordered(self) -> list[M]:
        heap = self._heap()
        async for instance in self._unordered():
            heap.add(instance)
        return heap.sorted(self._offset)

    def _unordered(self) -> Result[M]:
        return self._but(order=None, limit=None, offset=0)

    def _heap(self) -> Heap[M]:
        order = cast("Order", self._order)
        plans.log().info("%s: no index orders by %r; the items are sorted in memory", self._schema.model, order.name)
        most = None if self._limit is None else self._limit + self._offset
        return Heap(self._schema, order, most)

    # What people ask of a result.

    def first(self) -> M | None:
        """The first item, or None; reads one."""
        return next(iter(self._but(limit=1 if self._limit is None else min(self._limit, 1))), None)

    async def afirst(self) -> M | None:
        """Like `first()`, awaited."""
        return await anext(aiter(self._but(limit=1 if self._limit is None else min(self._limit, 1))), None)

    def all(self) -> list[M]:
        """All items in a list."""
        return list(iter(self))

    async def aall(self) -> list[M]:
        """Like `all()`, awaited."""
        return [instance async for instance in self]

    def page(self, size: int, cursor: str | None = None) -> Page[M]:
        """Up to `size` items from the cursor of the page before on.

        Raises:
            InvalidCursor: the cursor is damaged, or belongs to another query.
        """
        operations.refuse_async_hooks(self._schema, "after_load")
        return store_of(self._schema).run(self._one_page(size, cursor))

    async def apage(self, size: int, cursor: str | None = None) -> Page[M]:
        """Like `page()`, awaited."""
        return await store_of(self._schema).arun(self._one_page(size, cursor))

    def _one_page(self, size: int, cursor: str | None) -> Operation[Page[M]]:
        size = cast("int", _whole(size, "size", least=1, most=_MOST_ITEMS))
        if self._order is not None:
            raise TypeError(f"a result sorted in memory by {self._order.name!r} has no pages; take a slice of it")
        if self._segments > 1:
            raise TypeError(
                f"{self._schema.model}: a scan in {self._segments} segments stands at as many places, which no cursor "
                "can hold; iterate over it, or read pages without segments="
            )
        left, skip, after = self._limit, self._offset, None
        if cursor is not None:
            (left, after), skip = self._opened(cursor), 0
        wanted = size if left is None else min(size, left)
        while True:
            reading = Pass(self._read, wanted, skip, after)
            items: list[_core.Item | None] = []
            while reading.more:
                items.extend((yield from reading.page()))
            instances = cast("list[M]", loading.made(self._schema, items, self._instance))
            if len(instances) == len(items):
                break
            # Long texts have filled the memory of a page: it is read again, shorter, for the place where it ends.
            wanted = len(instances)
        yield from loading.run_load_hooks(self._schema, instances)
        left = None if left is None else left - len(instances)
        return Page(instances, None if reading.after is None or left == 0 else self._cursor(left, reading.after))

    def _fingerprint(self, rest: bytes) -> bytes:
        """Of this query and of the rest of a cursor, so that neither another query nor a damaged cursor passes."""
        how = self._plan
        asked = (how.index, how.partition, how.sort, how.filter(), self._descending, self._limit, self._offset)
        text = f"{self._schema.table} {_settled(asked)!r}"
        from hashlib import blake2b  # loads the system's library, for cursors alone

        return blake2b(text.encode("utf-8", "surrogatepass") + rest, digest_size=_FINGERPRINT).digest()

    def _cursor(self, left: int | None, after: bytes) -> str:
        rest = (_NO_LIMIT if left is None else left).to_bytes(_LEFT, "big") + after
        return base64.urlsafe_b64encode(self._fingerprint(rest) + rest).rstrip(b"=").decode()

    def _opened(self, cursor: str) -> tuple[int | None, bytes]:
        """How many items are left to read, and where."""
        if cursor == "":
            raise self._invalid_cursor("the cursor is empty; leave cursor= away, or pass None, to begin at the start")
        try:
            raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (AttributeError, UnicodeEncodeError, binascii.Error) as error:
            raise self._invalid_cursor(f"{shortened(cursor)} is not a cursor; {_START_AGAIN}") from error
        count = int.from_bytes(raw[_FINGERPRINT : _FINGERPRINT + _LEFT], "big")
        left = None if count == _NO_LIMIT else count
        # The fingerprint finds mistakes. It is no signature: a client can compute it, so what is left is checked too.
        possible = left is None if self._limit is None else left is not None and 0 < left <= self._limit
        if raw[:_FINGERPRINT] != self._fingerprint(raw[_FINGERPRINT:]) or not possible:
            raise self._invalid_cursor(
                "this cursor belongs to another query, or is damaged; pass it to the query that it came from, with the "
                f"same conditions, direction and limit, or {_START_AGAIN}"
            )
        return left, raw[_FINGERPRINT + _LEFT :]

    def _invalid_cursor(self, reason: str) -> InvalidCursor:
        return InvalidCursor(f"{self._schema.model}: {reason}", model=self._schema.model)

    def count(self) -> int:
        """How many items there are, without loading them."""
        return store_of(self._schema).run(self._counting())

    async def acount(self) -> int:
        """Like `count()`, awaited."""
        return await store_of(self._schema).arun(self._counting())

    def _counting(self) -> Operation[int]:
        total = 0
        after: bytes | None = None
        while self._segments == 1:
            page = yield self._request(0, after, count=True)
            total += page.count
            after = page.next
            if after is None:
                break
        else:
            total = yield from self._counting_together()
        total = max(0, int(total) - self._offset)
        return total if self._limit is None else min(total, self._limit)

    def _counting_together(self) -> Operation[int]:
        total = 0

        def count(_: int, places: list[tuple[int, bytes | None]]) -> Operation[tuple[list[Any], list[bytes | None]]]:
            nonlocal total
            pages = yield [self._request(0, after, count=True, segment=segment) for segment, after in places]
            total += sum(page.count for page in _all_well(pages))
            return [], [page.next for page in pages]

        counting = Divided(count, self._segments, None, 0)
        while counting.more:
            yield from counting.page()
        return total

    def order_by(self, name: str) -> Result[M]:
        """The same items in the order of an attribute, `"-name"` for the reverse.

        A sort key, or an index that serves the lookup, gives the order as it reads; else the items are sorted in
        memory (with a limit, no more of them are kept), which is logged. Items without the attribute come last.
        """
        if not isinstance(name, str):
            raise TypeError(
                f"{self._schema.model}: order_by() takes the name of an attribute, with '-' before it for the reverse, "
                f"not {shortened(name)}"
            )
        descending = name.startswith("-")
        name = name.removeprefix("-")
        schema = self._schema
        if name not in schema.attributes:
            raise schema.unexpected([name])
        how = self._plan
        if how.asked is not None and how.sorted_by != name:
            other = plans.best_plan(schema, how.asked, name)
            if other is not None and other.sorted_by == name:
                how = other
        natural = how.sorted_by
        if how.partition is None and self._segments == 1 and store_of(schema).ordered_scans:
            natural = schema.partition
        if natural == name:
            return Result(
                schema,
                self._make,
                how,
                descending=descending,
                limit=self._limit,
                attributes=self._attributes,
                consistent=self._consistent,
                offset=self._offset,
            )
        if schema.attributes[name].key_kind is None:
            raise TypeError(f"{schema.model}.{name}: a {type(schema.attributes[name]).__name__} has no order")
        return self._but(order=Order(name, descending), descending=False)

    def explain(self) -> str:
        """How the items are found: by which table or index and key condition, and what is judged item by item."""
        how = self._plan
        if how.partition is None:
            parts = [f"scan of table {self._schema.table!r}"]
            if self._segments > 1:
                parts.append(f"in {self._segments} segments, up to {AT_ONCE} at once")
        else:
            where = f"index {how.index!r} of table" if how.index else "table"
            parts = [f"query of {where} {self._schema.table!r}"]
            if how.partition:
                parts.append(f"partition {', '.join(map(shortened, how.partition))}")
            if how.sort:
                parts.append(_told(str(how.sorted_by), how.sort))
        if how.rest:
            parts.append(f"judged item by item: {Every(how.rest)!r}")
        if self._order is not None:
            parts.append(f"sorted in memory by {self._order.name!r}")
        return "; ".join(parts)

    def _keep(self) -> list[M]:
        if self._kept is None:
            self._kept = list(self._ordered() if self._order is not None else self._stream())
        return self._kept

    def __len__(self) -> int:
        operations.refuse_async_hooks(self._schema, "after_load")
        return len(self._keep())

    def __bool__(self) -> bool:
        return bool(self._kept) if self._kept is not None else self.first() is not None

    @overload
    def __getitem__(self, at: int) -> M: ...
    @overload
    def __getitem__(self, at: slice) -> Result[M]: ...
    def __getitem__(self, at: int | slice) -> M | Result[M]:
        if isinstance(at, slice):
            return self._slice(*(None if part is None else self._place(part) for part in (at.start, at.stop, at.step)))
        at = self._place(at)
        if at < 0:
            raise InvalidValue(f"{self._schema.model}: a result has no negative indexes: use descending=True instead")
        if self._kept is not None:
            return self._kept[at]
        if self._limit is None or at < self._limit:
            for instance in self._but(offset=self._offset + at, limit=1):
                return instance
        raise IndexError(f"{self._schema.model}: the result has no item {shortened(at)}")

    def _place(self, at: object) -> int:
        try:
            return operator.index(at)  # type: ignore[arg-type]  # else it is told
        except TypeError:
            raise TypeError(
                f"{self._schema.model}: a result is indexed by a whole number, or sliced by two, not by {shortened(at)}"
            ) from None

    def _slice(self, start: int | None, stop: int | None, step: int | None) -> Result[M]:
        start = start or 0
        if start < 0 or (stop is not None and stop < 0) or step not in {None, 1}:
            raise InvalidValue(f"{self._schema.model}: a slice of a result has no negative index and no step")
        limit = self._limit
        if limit is not None:
            limit = max(0, limit - start)
        if stop is not None:
            wanted = min(max(0, stop - start), _MOST_ITEMS)
            limit = wanted if limit is None else min(limit, wanted)
        return self._but(offset=self._offset + start, limit=limit)

    def __repr__(self) -> str:
        return f"<Result of {self._schema.model}: {self.explain()}>"


def _told(name: str, sort: tuple[Any, ...]) -> str:
    """A key condition for people."""
    if sort[0] != "range":
        return f"{name} {sort[0]} {', '.join(map(shortened, sort[1:]))}"
    bounds = ((">", *sort[1:3]), ("<", *sort[3:5]))
    told = (f"{name} {sign}{'=' * closed} {shortened(value)}" for sign, value, closed in bounds if value is not None)
    return " and ".join(told)


class _Awaited(Generic[M]):
    """A pass over a result with `async for`. No generator, because one that is left half-way wants closing."""

    __slots__ = ("_buffer", "_items", "_reading", "_result")

    def __init__(self, result: Result[M]) -> None:
        self._result = result
        self._reading: Pass | None = None
        self._items: list[_core.Item | None] = []
        self._buffer: deque[M] | None = None if result._kept is None else deque(result._kept)

    def __aiter__(self) -> _Awaited[M]:
        return self

    async def __anext__(self) -> M:
        result = self._result
        if self._buffer is None:
            self._buffer = deque()
            if result._order is not None:
                self._buffer.extend(await result._aordered())
            else:
                self._reading = result._pass()
        store = store_of(result._schema)
        while not self._buffer:
            if not self._items:
                if self._reading is None or not self._reading.more:
                    raise StopAsyncIteration
                self._items = await store.arun(self._reading.page())
            instances, self._items = await store.arun(result._load(self._items))
            self._buffer.extend(instances)
        return self._buffer.popleft()


def _settled(asked: Any) -> Any:
    """`asked` with its sets in order, so that it prints alike in every process."""
    if isinstance(asked, (set, frozenset)):
        return sorted(map(repr, asked))
    if isinstance(asked, (tuple, list)):
        return [_settled(part) for part in asked]
    return {name: _settled(part) for name, part in asked.items()} if isinstance(asked, dict) else asked


def _whole(number: int | None, name: str, *, least: int, most: int) -> int | None:
    if number is None and least == 0:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise InvalidValue(f"{name}= takes a whole number of at least {least}, not {shortened(number)}")
    if number > most:
        raise InvalidValue(f"{name}= takes a whole number of at most {most:,}, not {shortened(number)}")
    return number


def _all_well(pages: list[_core.Page | BaseException]) -> Iterator[_core.Page]:
    """Pages that were read together; the first failure among them is raised before any is given."""
    for page in pages:
        if isinstance(page, BaseException):
            raise page
    return iter(pages)  # type: ignore[arg-type]  # no failure is left


class QueryAccess(Generic[M]):
    """What `Order.query` is: a query when it is called, and the methods that Django and Redis mappers have."""

    __slots__ = ("_model",)

    def __init__(self, model: type[M]) -> None:
        self._model: Any = model

    def __call__(
        self,
        *conditions: Condition,
        index: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        attributes: Iterable[str] | None = None,
        consistent: bool = False,
        **equal: Any,
    ) -> Result[M]:
        """The items of a partition, in the order of the sort key.

        Args:
            conditions: conditions that must all hold.
            index: the name of the index to read by, where several fit.
            descending: in the reverse order.
            limit: at most so many items.
            attributes: load only these attributes (keys always); another one raises `NotLoaded` when it is read.
            consistent: see every write that was acknowledged before.
            equal: equalities by attribute name; one of them on the partition key of the table or of an index.

        Raises:
            TypeError: no partition key is given (`scan()` reads whole tables), or a name is no attribute.
            ConfigurationError: two indexes fit.
        """
        schema = self._model.__mintkey_schema__
        gathered = plans.gather(schema, conditions, equal, self)
        how = plans.plan(schema, gathered, index)
        if how is None:
            keys = (schema.parts or (cast("str", schema.partition),), *(i.partition for i in schema.indexes))
            needed = " or ".join(f"{'+'.join(names)}=…" for names in dict.fromkeys(keys) if names)
            raise TypeError(
                f"{schema.model}.query() needs a partition key: {needed}. "
                f"To read the whole table, use {schema.model}.scan()"
            )
        return Result(
            schema,
            self._model._loaded,
            how,
            descending=descending,
            limit=limit,
            attributes=attributes,
            consistent=consistent,
        )

    def filter(self, *conditions: Condition, **lookups: Any) -> Result[M]:
        """The items for which all lookups hold: `filter(country="DE", age__gte=18)`.

        Lookups: `__gt __gte __lt __lte __ne __in __between __startswith __contains __isnull`. An index is used where
        one serves; else the table is read, which is logged. Values are never patterns.
        """
        schema = self._model.__mintkey_schema__
        gathered = [*plans.gather(schema, conditions, {}), *plans.lookups(schema, lookups)]
        return Result(schema, self._model._loaded, plans.plan_or_scan(schema, gathered))

    def all(self) -> Result[M]:
        """All items of the table."""
        return self.filter()

    def order_by(self, name: str) -> Result[M]:
        """All items in the order of an attribute; `"-name"` for the reverse."""
        return self.filter().order_by(name)

    def get(self, **lookups: Any) -> M | None:
        """The one item for which all lookups hold, or None; `InvalidValue` when there are several."""
        if self._names_key(lookups):
            found: M | None = self._model.get(**lookups)
            return found
        return self._only(self.filter(**lookups)[:2].all(), lookups)

    async def aget(self, **lookups: Any) -> M | None:
        """Like `get()`, awaited."""
        if self._names_key(lookups):
            found: M | None = await self._model.aget(**lookups)
            return found
        return self._only(await self.filter(**lookups)[:2].aall(), lookups)

    def _names_key(self, lookups: Mapping[str, Any]) -> bool:
        schema = self._model.__mintkey_schema__
        return all(name in lookups for name in schema.given_keys) and all(name in schema.attributes for name in lookups)

    def _only(self, found: list[M], lookups: Mapping[str, Any]) -> M | None:
        if len(found) > 1:
            raise InvalidValue(
                f"{self._model.__name__}.query.get({', '.join(lookups)}) found several items; use filter()",
                model=self._model.__name__,
            )
        return found[0] if found else None

    def count(self, **lookups: Any) -> int:
        """How many items there are for which all lookups hold."""
        return self.filter(**lookups).count()

    async def acount(self, **lookups: Any) -> int:
        """Like `count()`, awaited."""
        return await self.filter(**lookups).acount()

    def first(self, **lookups: Any) -> M | None:
        """An item for which all lookups hold, or None; reads one."""
        return self.filter(**lookups).first()

    async def afirst(self, **lookups: Any) -> M | None:
        """Like `first()`, awaited."""
        return await self.filter(**lookups).afirst()


class QueryAccessor:
    """Gives each model its `QueryAccess`."""

    def __get__(self, instance: object | None, owner: type[M]) -> QueryAccess[M]:
        return QueryAccess(owner)
