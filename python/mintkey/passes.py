"""Passes: reading the results of a query or scan page by page, and sorting in memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from mintkey import _core
    from mintkey.schema import Schema
    from mintkey.stores import Operation

__all__ = ["AT_ONCE", "Order", "Pass", "SegmentedPass", "TopN"]

M = TypeVar("M")

#: The sizes of the first and of the largest page. The first is small, because the caller may stop early.
_FIRST_PAGE, _MAX_PAGE = 64, 1024
#: The maximum number of segments that are read concurrently. Each holds a page in memory.
AT_ONCE = 8


class Pass:
    """A page cursor: reads the stored items of a result page by page.

    `read` is an operation that takes a number of items and a position, and returns at most that many items from the
    position, with the next position (None at the end).
    """

    __slots__ = ("_left", "_read", "_size", "_skip", "after", "more")

    def __init__(
        self, read: Callable[[int, Any], Any], limit: int | None, offset: int, after: bytes | None = None
    ) -> None:
        self._read = read
        self._left = limit
        self._skip = offset
        self._size = _FIRST_PAGE
        self.after = after
        self.more = limit is None or limit > 0

    def page(self) -> Operation[list[_core.Item | None]]:
        """Read the next page."""
        wanted = self._size if self._left is None else min(self._size, self._left + self._skip)
        items = yield from self._next(wanted)
        self._size = min(self._size * 2, _MAX_PAGE)
        skipped = min(self._skip, len(items))
        self._skip -= skipped
        items = items[skipped:]
        if self._left is not None:
            del items[self._left :]
            self._left -= len(items)
        self.more = self._is_open() and (self._left is None or self._left > 0)
        return items

    def _next(self, wanted: int) -> Operation[list[_core.Item | None]]:
        items, self.after = yield from self._read(wanted, self.after)
        return cast("list[_core.Item | None]", items)

    def _is_open(self) -> bool:
        return self.after is not None


class SegmentedPass(Pass):
    """A page cursor of a parallel scan: reads a page of each of up to `AT_ONCE` segments at once.

    `read` is an operation that takes a number of items and segments with their positions, and returns at most that many
    items of each segment, with their next positions.
    """

    __slots__ = ("_started", "_unstarted")

    def __init__(self, read: Callable[[int, Any], Any], segments: int, limit: int | None, offset: int) -> None:
        super().__init__(read, limit, offset)
        self._unstarted = range(segments)
        self._started: list[tuple[int, bytes | None]] = []

    def _next(self, wanted: int) -> Operation[list[_core.Item | None]]:
        room = AT_ONCE - len(self._started)
        self._started += [(segment, None) for segment in self._unstarted[:room]]
        self._unstarted = self._unstarted[room:]
        items, positions = yield from self._read(wanted, self._started)
        reached = zip(self._started, positions, strict=True)
        self._started = [(segment, after) for (segment, _), after in reached if after is not None]
        return cast("list[_core.Item | None]", items)

    def _is_open(self) -> bool:
        return bool(self._started) or bool(self._unstarted)


class Order(NamedTuple):
    """An order by one attribute that no index has, so that the items are sorted in memory."""

    name: str
    descending: bool


class TopN(Generic[M]):
    """Sorts items by one attribute. With a limit it keeps only that many items (top n)."""

    def __init__(self, schema: Schema, order: Order, most: int | None) -> None:
        self._attribute = schema.attributes[order.name]
        self._order = order
        self._most = most
        self._with: list[_Ranked[M]] = []
        self._without: list[M] = []
        self._seen = 0

    def add(self, instance: M) -> None:
        """Add one item."""
        value = getattr(instance, self._order.name)
        if value is None:
            if self._most is None or len(self._without) < self._most:
                self._without.append(instance)
            return
        self._seen += 1
        ranked = _Ranked(self._attribute._operand(value), self._seen, instance, self._order.descending)
        if self._most is None:
            self._with.append(ranked)
        elif len(self._with) < self._most:
            heapq.heappush(self._with, ranked)
        elif self._most:
            heapq.heappushpop(self._with, ranked)

    def sorted(self, offset: int) -> list[M]:
        """Return the items in order."""
        ordered = [ranked.instance for ranked in sorted(self._with, reverse=True)]
        return (ordered + self._without)[offset : self._most]


class _Ranked(Generic[M]):
    """An item with its sort value. The *last* item compares as the smallest, so that a heap drops it first."""

    __slots__ = ("_descending", "_seen", "_value", "instance")

    def __init__(self, value: Any, seen: int, instance: M, descending: bool) -> None:
        # Python sorts text by code points, which is the order of the UTF-8 bytes that all stores use.
        self._value = value
        self._seen = seen
        self._descending = descending
        self.instance = instance

    def __lt__(self, other: _Ranked[M]) -> bool:
        if self._value == other._value:
            return self._seen > other._seen
        return bool(self._value < other._value if self._descending else self._value > other._value)
