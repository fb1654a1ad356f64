"""Page cursors: reading the results of a query or scan page by page, and sorting in memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from contextlib import suppress
from numbers import Number
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from mintkey import _core
from mintkey.errors import ConfigurationError, InvalidValue, shortened

if TYPE_CHECKING:
    from mintkey.definitions.schema import Schema
    from mintkey.stores import Operation

M = TypeVar("M")

#: The sizes of the first and of the largest page. The first is small, because the caller may stop early.
_FIRST_PAGE, _MAX_PAGE = 64, 1024
#: The maximum number of segments that are read concurrently. Each holds a page in memory.
AT_ONCE = 8


class PageFilter(NamedTuple):
    """What the client leaves out of a page of stored items.

    Attributes:
        matches: the filter of the client; None if the store evaluates the whole filter.
        readable: leaves out the items that cannot be read, if the caller skips them.
        exact: whether `after` of the page cursor must be the position of the last item that it gave.
    """

    matches: Callable[[_core.Item], bool] | None
    readable: Callable[[list[_core.Item]], list[_core.Item]]
    exact: bool = False


class PageCursor:
    """A page cursor: reads the stored items of a result page by page.

    `read` is an operation that takes a number of items and a position, and returns at most that many items from the
    position, with the next position (None at the end).
    """

    __slots__ = ("_left", "_page_filter", "_read", "_size", "_skip", "after", "more")

    def __init__(
        self,
        read: Callable[[int, Any], Any],
        page_filter: PageFilter,
        limit: int | None,
        offset: int,
        after: bytes | None = None,
    ) -> None:
        self._read = read
        self._page_filter = page_filter
        self._left = limit
        self._skip = offset
        self._size = _FIRST_PAGE
        self.after = after
        self.more = limit is None or limit > 0

    def page(self) -> Operation[list[_core.Item | None]]:
        """Read the next page."""
        most = None if self._left is None else self._left + self._skip
        found = self._page_filter.readable((yield from self._next(most)))
        items = cast("list[_core.Item | None]", found)
        self._size = min(self._size * 2, _MAX_PAGE)
        skipped = min(self._skip, len(items))
        self._skip -= skipped
        items = items[skipped:]
        if self._left is not None:
            del items[self._left :]
            self._left -= len(items)
        self.more = self._is_open() and (self._left is None or self._left > 0)
        return items

    def _next(self, most: int | None) -> Operation[list[_core.Item]]:
        """Read a page and return the items that match, of which at most `most` are needed."""
        matches = self._page_filter.matches
        wanted = self._wanted(most)
        while True:
            items, after = yield from self._read(wanted, self.after)
            if matches is None:
                break
            at = [index for index, item in enumerate(items) if matches(item)]
            if not self._page_filter.exact or most is None or len(at) <= most:
                items = [items[index] for index in at]
                break
            # The position of the last needed item is known only at the end of a page.
            wanted = at[most - 1] + 1
        self.after = after
        return cast("list[_core.Item]", items)

    def _wanted(self, most: int | None) -> int:
        """Return the number of items to read. With a filter it is not known how many of them match."""
        return self._size if most is None or self._page_filter.matches is not None else min(self._size, most)

    def _is_open(self) -> bool:
        return self.after is not None


class SegmentedCursor(PageCursor):
    """A page cursor of a parallel scan: reads a page of each of up to `AT_ONCE` segments at once.

    `read` is an operation that takes a number of items and segments with their positions, and returns at most that many
    items of each segment, with their next positions.
    """

    __slots__ = ("_started", "_unstarted")

    def __init__(
        self, read: Callable[[int, Any], Any], page_filter: PageFilter, segments: int, limit: int | None, offset: int
    ) -> None:
        super().__init__(read, page_filter, limit, offset)
        self._unstarted = range(segments)
        self._started: list[tuple[int, bytes | None]] = []

    def _next(self, most: int | None) -> Operation[list[_core.Item]]:
        matches, wanted = self._page_filter.matches, self._wanted(most)
        room = AT_ONCE - len(self._started)
        self._started += [(segment, None) for segment in self._unstarted[:room]]
        self._unstarted = self._unstarted[room:]
        items, positions = yield from self._read(wanted, self._started)
        reached = zip(self._started, positions, strict=True)
        self._started = [(segment, after) for (segment, _), after in reached if after is not None]
        return [item for item in items if matches is None or matches(item)]

    def _is_open(self) -> bool:
        return bool(self._started) or bool(self._unstarted)


class Order(NamedTuple):
    """One attribute of an order, and its direction."""

    name: str
    descending: bool


def orders(schema: Schema, names: Iterable[str]) -> tuple[Order, ...]:
    """Return the order of names such as `"total"` and `"-total"`."""
    found: dict[str, Order] = {}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"{schema.model}: order_by() takes the name of an attribute, or '-' and the name, not {shortened(name)}"
            )
        order = Order(name.removeprefix("-"), name.startswith("-"))
        if order.name not in schema.attributes:
            raise schema.unexpected([order.name])
        # A second mention of an attribute orders nothing.
        found.setdefault(order.name, order)
    return tuple(found.values())


def check_sortable(schema: Schema, order: Iterable[Order]) -> None:
    """Raise `TypeError` if values of an attribute have no order."""
    for name, _ in order:
        if schema.attributes[name].key_kind is None:
            raise TypeError(
                f"{schema.model}.{name}: a {type(schema.attributes[name]).__name__} has no order: order by text, "
                "numbers, bytes, dates or times"
            )


def check_default_order(schema: Schema) -> None:
    """Check the order of a model's configuration."""
    names = schema.config.order_by
    if names is None or schema.config.abstract:
        return
    try:
        if not isinstance(names, (str, list, tuple)) or not names:
            raise TypeError(f"expected names of attributes, got {shortened(names)}")  # noqa: TRY301 - the same remedy
        check_sortable(schema, orders(schema, (names,) if isinstance(names, str) else names))
    except TypeError as error:
        raise ConfigurationError(
            f"{schema.model}: ModelConfig(order_by={shortened(names)}): {error}", model=schema.model
        ) from error


class TopN(Generic[M]):
    """Sorts items by attributes. With a limit it keeps only that many items (top n)."""

    def __init__(self, order: tuple[Order, ...], most: int | None) -> None:
        self._order = order
        self._most = most
        self._kept: list[_Ranked[M]] = []
        self._seen = 0

    def add(self, instance: M) -> None:
        """Add one item."""
        self._seen += 1
        ranked = _Ranked([_rank(instance, one) for one in self._order], self._seen, instance)
        if self._most is None:
            self._kept.append(ranked)
        elif len(self._kept) < self._most:
            heapq.heappush(self._kept, ranked)
        elif self._most:
            heapq.heappushpop(self._kept, ranked)

    def sorted(self, offset: int) -> list[M]:
        """Return the items in order."""
        ordered = [ranked.instance for ranked in sorted(self._kept, reverse=True)]
        return ordered[offset : self._most]


class Last(Generic[M]):
    """Keeps the item that is the last one in the order by attributes."""

    def __init__(self, order: tuple[Order, ...]) -> None:
        self._sorter: TopN[M] = TopN(order, None)

    def add(self, instance: M) -> None:
        """Add one item."""
        sorter = self._sorter
        sorter.add(instance)
        # The last item compares as the smallest.
        sorter._kept = [min(sorter._kept)]

    def last(self) -> M | None:
        """Return the last item, or None."""
        return next(iter(self._sorter.sorted(0)), None)


def _rank(instance: Any, order: Order) -> _Rank:
    """Return the sort value of an instance: the position of the type, and the encoded value."""
    value = getattr(instance, order.name)
    if value is None:
        return _Rank(None, order.descending)
    # A subclass may declare the attribute with another type. A value of another stored type is read as it is stored.
    with suppress(InvalidValue):
        value = type(instance).__mintkey_schema__.attributes[order.name]._operand(value)
    types = (Number, str, bytes)
    at = next((at for at, one in enumerate(types) if isinstance(value, one) and value.__class__ is not bool), None)
    # Python sorts text by code points, which is the order of the UTF-8 bytes that all stores use.
    return _Rank((len(types),) if at is None else (at, value), order.descending)


class _Rank:
    """A sort value with its direction. Absent values come last in both directions."""

    __slots__ = ("_descending", "value")

    def __init__(self, value: Any, descending: bool) -> None:
        self.value = value
        self._descending = descending

    def is_before(self, other: _Rank) -> bool:
        """Return whether this value comes before another one, to which it is not equal."""
        if self.value is None or other.value is None:
            return other.value is None
        return bool(self.value > other.value if self._descending else self.value < other.value)


class _Ranked(Generic[M]):
    """An item with its sort values. The *last* item compares as the smallest, so that a heap drops it first."""

    __slots__ = ("_ranks", "_seen", "instance")

    def __init__(self, ranks: list[_Rank], seen: int, instance: M) -> None:
        self._ranks = ranks
        self._seen = seen
        self.instance = instance

    def __lt__(self, other: _Ranked[M]) -> bool:
        for mine, theirs in zip(self._ranks, other._ranks, strict=True):
            if mine.value != theirs.value:
                return theirs.is_before(mine)
        return self._seen > other._seen
