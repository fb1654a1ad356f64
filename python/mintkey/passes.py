"""Passes: one walk over what a query or scan finds, page by page, and the order that no index gives."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from mintkey import _core
    from mintkey.schema import Schema
    from mintkey.stores import Operation

__all__ = ["AT_ONCE", "Divided", "Heap", "Order", "Pass"]

M = TypeVar("M")

#: How many items the first page of a pass holds, and how many the largest: few for who stops early.
_FIRST_PAGE, _LARGEST_PAGE = 64, 1024
#: How many segments are read at once: each holds a page in memory.
AT_ONCE = 8


class Pass:
    """One pass over the stored items of a result: what is left to skip and to read, and where it stands.

    `read` is an operation that gives up to so many items from a place on, and the place behind them.
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
        self._size = min(self._size * 2, _LARGEST_PAGE)
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


class Divided(Pass):
    """One pass over a scan in segments: a page of each in one go, of as many as memory may hold pages of.

    `read` is an operation that gives up to so many items of each of these segments, and the places behind them.
    """

    __slots__ = ("_begun", "_unbegun")

    def __init__(self, read: Callable[[int, Any], Any], segments: int, limit: int | None, offset: int) -> None:
        super().__init__(read, limit, offset)
        self._unbegun = range(segments)
        self._begun: list[tuple[int, bytes | None]] = []

    def _next(self, wanted: int) -> Operation[list[_core.Item | None]]:
        room = AT_ONCE - len(self._begun)
        self._begun += [(segment, None) for segment in self._unbegun[:room]]
        self._unbegun = self._unbegun[room:]
        items, places = yield from self._read(wanted, self._begun)
        reached = zip(self._begun, places, strict=True)
        self._begun = [(segment, after) for (segment, _), after in reached if after is not None]
        return cast("list[_core.Item | None]", items)

    def _is_open(self) -> bool:
        return bool(self._begun) or bool(self._unbegun)


class Order(NamedTuple):
    """An order asked for, where the plan itself does not give it: by one attribute, in memory."""

    name: str
    descending: bool


class Heap(Generic[M]):
    """Items in the order of one attribute; with a limit, never more of them than that."""

    def __init__(self, schema: Schema, order: Order, most: int | None) -> None:
        self._attribute = schema.attributes[order.name]
        self._order = order
        self._most = most
        self._with: list[_Ranked[M]] = []
        self._without: list[M] = []
        self._seen = 0

    def add(self, instance: M) -> None:
        """Take one more item."""
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
        """The items in order."""
        ordered = [ranked.instance for ranked in sorted(self._with, reverse=True)]
        return (ordered + self._without)[offset : self._most]


class _Ranked(Generic[M]):
    """An item with its place; the *last* in order compares as the least, so that a heap drops it first."""

    __slots__ = ("_descending", "_seen", "_value", "instance")

    def __init__(self, value: Any, seen: int, instance: M, descending: bool) -> None:
        # Python orders text by code points, which is the order of UTF-8 bytes that every store keeps.
        self._value = value
        self._seen = seen
        self._descending = descending
        self.instance = instance

    def __lt__(self, other: _Ranked[M]) -> bool:
        if self._value == other._value:
            return self._seen > other._seen
        return bool(self._value < other._value if self._descending else self._value > other._value)
