"""The threads of a copy: each segment of a table is read page by page, and written while the next page is read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias, TypeVar

from mintkey import _core
from mintkey.copies.state import Failure
from mintkey.errors import (
    KeyCollision,
    MintkeyError,
    StoreError,
    TableMissing,
    TransactionCancelled,
    UniqueViolation,
    cause,
)
from mintkey.rate_limit import Stopped
from mintkey.raw import CHUNK, OnConflict, put_items
from mintkey.stores import Store, single

R = TypeVar("R")
#: The schemas of a table in the source and in the target, which may have its rows in other slot groups.
Codecs = tuple[_core.Codec, _core.Codec]
#: The source and the target.
Stores = tuple[Store, Store]
#: A row that the target refused, and the exception.
_Refused: TypeAlias = "tuple[_core.Item, BaseException]"

#: How often a request is sent again after the store failed or throttled it, and the first and the longest delay in
#: seconds. The store itself has repeated what it may repeat.
_ATTEMPTS, _DELAY, _LONGEST_DELAY = 6, 0.1, 2.0
#: The reports of pages that wait for the calling thread.
_WAITING = 64


class Copied(NamedTuple):
    """What became of a page.

    Attributes:
        segment: its segment.
        after: the position after the page; False after the last page.
        written: the number of rows that were written.
        unchanged: the number of rows that the target had already, with equal values.
        skipped: the number of rows that the target had with other values, with `on_conflict="skip"`.
        failures: the rows that the target refused.
    """

    segment: Segment
    after: bytes | bool
    written: int
    unchanged: int
    skipped: int
    failures: list[Failure]


class Segment(NamedTuple):
    """A segment of a table, from a position on."""

    table: Table
    number: int
    segments: int
    after: bytes | None


class Table:
    """Reads and writes the pages of one table.

    Args:
        selects: the rows that are copied; None for all.
    """

    def __init__(
        self,
        name: str,
        codecs: Codecs,
        stores: Stores,
        on_conflict: OnConflict,
        selects: Callable[[_core.Item], bool] | None = None,
    ) -> None:
        self.name = name
        self._codec, self._target_codec = codecs
        self._source, self._target = stores
        self._on_conflict: OnConflict = on_conflict
        self._selects = selects

    def read(self, segment: Segment, after: bytes | None, stop: threading.Event) -> _core.Page:
        """Read a page of a segment."""
        divided = None if segment.segments == 1 else (segment.number, segment.segments)
        request = self._codec.scan(limit=CHUNK, after=after, segment=divided, consistent=True)
        page: _core.Page = repeated(stop, send, self._source, request)
        return page

    def write(self, segment: Segment, page: _core.Page, stop: threading.Event) -> Copied:
        """Write a page."""
        items = page.items if self._selects is None else [item for item in page.items if self._selects(item)]
        refused = self._write(items, stop)
        collided = [item for item, outcome in refused if isinstance(outcome, KeyCollision)]
        failures = [
            self._failure(item, cause(outcome)) for item, outcome in refused if not isinstance(outcome, KeyCollision)
        ]
        different = self._different(collided, stop)
        skips = self._on_conflict == "skip"
        if not skips:
            failures += [self._failure(item, "the target has another row with this key") for item in different]
        return Copied(
            segment,
            False if page.next is None else page.next,
            len(items) - len(refused),
            len(collided) - len(different),
            len(different) if skips else 0,
            failures,
        )

    def _write(self, items: list[_core.Item], stop: threading.Event) -> list[_Refused]:
        """Write rows; return those that the target refused."""
        refused: list[_Refused] = []
        for delay in _delays():
            outcomes = repeated(stop, self._put, items)
            if not any(outcomes):
                break
            again = []
            for item, outcome in zip(items, outcomes, strict=True):
                if isinstance(outcome, StoreError) and delay is not None:
                    again.append(item)
                elif isinstance(outcome, (StoreError, TableMissing)):
                    raise outcome
                elif outcome is not None:
                    refused.append((item, outcome))
            items = again
            if not items:
                break
            _pause(stop, delay)
        return refused

    def write_again(self, failures: list[Failure], stop: threading.Event) -> tuple[list[Failure], int]:
        """Write rows again that the target has refused, from the source as it is now.

        Return those that it refuses again, and the number of those that were written.

        Rows of the target that had the unique values of others may have been replaced meanwhile. Rows that exchange
        unique values are written in one transaction, where the target has one.
        """
        keys = [self._codec.key(failure.key) for failure in failures]
        request = self._codec.batch_get(keys, consistent=True)
        stored: list[_core.Item | None] = repeated(stop, send, self._source, request)
        found = items = [item for item in stored if item is not None]
        while True:
            refused = self._write(items, stop)
            if len(refused) in {0, len(items)}:
                break
            items = [item for item, _ in refused]
        left = {self._codec.key_of(item): (item, outcome) for item, outcome in refused}
        for key in list(left):
            if key in left:
                for exchanged in self._exchange(key, left, stop):
                    del left[exchanged]
        still = [self._failure(item, cause(outcome)) for item, outcome in left.values()]
        return still, len(found) - len(still)

    def _exchange(self, key: _core.Key, left: dict[_core.Key, _Refused], stop: threading.Event) -> list[_core.Key]:
        """Write a row and the rows that have its unique values together; return their keys, none if that fails.

        No other rows than those that were refused are written: the rest of the target is as the copy wants it.
        """
        together = {key: left[key]}
        outcomes: list[BaseException | None] = [left[key][1]]
        while True:
            holders = [self._codec.key(named) for outcome in outcomes for named in _holders(outcome)]
            added = {holder: left[holder] for holder in holders if holder in left and holder not in together}
            if not added:
                return []
            together.update(added)
            puts = [self._target_codec.put(item, row="any", version=None) for item, _ in together.values()]
            try:
                repeated(stop, send, self._target, _core.Request.transaction(puts))
            except TransactionCancelled as cancelled:
                outcomes = list(cancelled.reasons)
            except StoreError:
                raise
            except MintkeyError:
                # A Redis Cluster has no transactions of rows in several slots, and each store has a limit.
                return []
            else:
                return list(together)

    def _put(self, items: list[_core.Item]) -> list[BaseException | None]:
        return self._target.run(put_items(self._target_codec, items, self._on_conflict))

    def _failure(self, item: _core.Item, reason: str) -> Failure:
        return Failure(self._codec.key_dict(self._codec.key_of(item)), reason)

    def _different(self, items: list[_core.Item], stop: threading.Event) -> list[_core.Item]:
        """Return those of the items that the target has with other values."""
        if not items:
            return []
        keys = [self._codec.key_of(item) for item in items]
        request = self._target_codec.batch_get(keys, consistent=True)
        stored: list[_core.Item | None] = repeated(stop, send, self._target, request)
        return [item for item, there in zip(items, stored, strict=True) if item != there]


def _holders(outcome: BaseException | None) -> list[dict[str, object]]:
    """Return the keys of the rows that have the unique values of a refused row."""
    if not isinstance(outcome, UniqueViolation):
        return []
    return [key for _, _, keys in outcome._violations for key in keys]


def send(store: Store, request: _core.Request) -> Any:
    """Send a request and return the reply."""
    return store.run(single(request))


def _delays() -> Iterable[float | None]:
    """Return the delays after each attempt; None after the last one."""
    return [*(min(_DELAY * 2**number, _LONGEST_DELAY) for number in range(_ATTEMPTS - 1)), None]


def _pause(stop: threading.Event, delay: float | None) -> None:
    if stop.wait(delay):
        raise Stopped


def repeated(stop: threading.Event, call: Callable[..., R], *arguments: Any) -> R:
    """Return the result of a call, which is repeated if the store fails."""
    for delay in _delays():
        if stop.is_set():
            raise Stopped
        try:
            return call(*arguments)
        except StoreError:
            if delay is None:
                raise
            _pause(stop, delay)
    raise AssertionError("the last attempt returns or raises")


def run_segments(
    segments: list[Segment], at_once: int, stop: threading.Event, copied: Callable[[Copied], object]
) -> None:
    """Copy segments, so many at once. `copied` is called on this thread after each page.

    If a segment fails, or `copied` raises, or this thread is interrupted, all segments stop after their running page,
    which is reported too.
    """
    reports: queue.Queue[Copied | BaseException | None] = queue.Queue(_WAITING)

    def run(segment: Segment) -> None:
        try:
            for page in _pages(segment, readers, stop):
                reports.put(segment.table.write(segment, page, stop))
        except Stopped:
            reports.put(None)
        except BaseException as error:  # noqa: BLE001 - raised on the calling thread
            stop.set()
            reports.put(error)
        else:
            reports.put(None)

    with (
        ThreadPoolExecutor(at_once, "mintkey-read") as readers,
        ThreadPoolExecutor(at_once, "mintkey-write") as writers,
    ):
        for segment in segments:
            writers.submit(run, segment)
        _collect(len(segments), reports, stop, copied)
    if stop.is_set():
        # Otherwise the caller would take the copy for complete.
        raise Stopped


def _collect(
    running: int,
    reports: queue.Queue[Copied | BaseException | None],
    stop: threading.Event,
    copied: Callable[[Copied], object],
) -> None:
    """Wait for all segments; raise the first failure after that."""
    failure: BaseException | None = None
    while running:
        try:
            report = reports.get()
            if isinstance(report, Copied):
                copied(report)
            else:
                running -= 1
                failure = failure or report
        except BaseException as error:  # noqa: BLE001 - raised when no segment runs any more
            stop.set()
            failure = failure or error
    if failure is not None:
        raise failure


def _pages(segment: Segment, readers: ThreadPoolExecutor, stop: threading.Event) -> Iterable[_core.Page]:
    """Return the pages of a segment; the next one is read while a page is written."""
    read = segment.table.read
    page = read(segment, segment.after, stop)
    while True:
        ahead = None if page.next is None else readers.submit(read, segment, page.next, stop)
        yield page
        if ahead is None:
            return
        page = ahead.result()
