"""What a store reports about itself: the reply to a ping, a record of each request, and its logs."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from mintkey.errors import (
    ConfigurationError,
    MintkeyError,
    StoreError,
    StoreUnavailable,
    raised_by_signal_handler,
    shortened,
)

if TYPE_CHECKING:
    from mintkey import _core

__all__ = ["Ping", "PingedServer", "RequestRecord"]


class PingedServer(NamedTuple):
    """A server that has answered a ping.

    Attributes:
        address: its address, without a password.
        version: the version of Redis, Valkey or SQLite; None if the server does not report it (DynamoDB, or a Redis
            user who may not call INFO).
    """

    address: str
    version: str | None


class Ping(NamedTuple):
    """The result of `Store.ping()`.

    Attributes:
        store: the URL of the store, without its password.
        seconds: how long it took, with connecting.
        servers: the servers that have answered: each primary of a Redis Cluster, one of any other store.
    """

    store: str
    seconds: float
    servers: tuple[PingedServer, ...]


class RequestRecord(NamedTuple):
    """One request to a store, as the callbacks of `Store.on_request()` get it. It contains no values and no keys.

    Attributes:
        store: the URL of the store, without its password.
        operation: `"get"`, `"get_by"`, `"put"`, `"update"`, `"delete"`, `"query"`, `"scan"`, `"batch_get"`,
            `"batch_write"`, `"transaction"`, `"transact_get"`, `"create_table"`, `"table_exists"`,
            `"delete_table"`, `"drop_unique"`, `"list_tables"`, `"describe_table"` or `"ping"`. A save is a `"put"`
            or an `"update"`; each page of a query is a request.
        tables: the names of the tables, without the store's prefix. A transaction may have several, a ping has none.
        duration: seconds from sending the request to its reply. Waiting for a rate limit does not count.
        attempts: how often it was sent, or the part of it that was sent most often.
        error: the exception of the request, or the first one of a batch; None if nothing failed.
        capacity: the capacity units that DynamoDB has counted; None on other stores.
        rows: the number of items that it read or wrote.
        size: the number of reads or writes that a batch or a transaction was to do; None for other requests.
    """

    store: str
    operation: str
    tables: tuple[str, ...]
    duration: float
    attempts: int
    error: BaseException | None
    capacity: float | None
    rows: int
    size: int | None

    @property
    def table(self) -> str | None:
        """The name of the table; None if there is none, or more than one."""
        return self.tables[0] if len(self.tables) == 1 else None

    @property
    def outcome(self) -> str:
        """`"ok"`, or the name of the exception's class, such as `"ConditionFailed"`."""
        return "ok" if self.error is None else type(self.error).__name__


RequestCallback: TypeAlias = Callable[[RequestRecord], object]
C = TypeVar("C", bound=RequestCallback)

#: Whether a callback runs, or a task that it has started: their requests are not reported, or there would be no end.
_reporting: ContextVar[bool] = ContextVar("mintkey_reporting", default=False)


class Observer:
    """A callback of a store."""

    __slots__ = ("_has_failed", "callback")

    def __init__(self, callback: RequestCallback) -> None:
        check_callback(callback, "on_request() takes a plain function of one RequestRecord")
        self.callback = callback
        self._has_failed = False

    def report(self, record: RequestRecord) -> None:
        """Call the callback. A request does not fail because of it."""
        try:
            self.callback(record)
        except Exception as error:
            if raised_by_signal_handler(error) is not None:
                raise
            if not self._has_failed:
                self._has_failed = True
                _log_failure(self.callback, error)


def check_callback(callback: object, takes: str) -> None:
    """Raise `TypeError` for a callback that is not a plain function. `takes` says which function is expected."""
    if not callable(callback):
        raise TypeError(f"{takes}, not {shortened(callback)}")
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__):
        raise TypeError(f"{takes}, not the async function {shortened(callback)}, which would not be awaited")


#: The observers of all stores, also of those that are connected later.
observers_of_all_stores: list[Observer] = []


class ObservedRequest:
    """One request that is observed: call `done` or `failed`."""

    __slots__ = ("_observers", "_request", "_started", "_url")

    def __init__(self, url: str, observers: Sequence[Observer], request: _core.Request) -> None:
        self._observers = () if _reporting.get() else (*observers_of_all_stores, *observers)
        if self._observers:
            request.meter()
            self._url = url
            self._request = request
            self._started = perf_counter()

    def done(self, reply: Any) -> None:
        """Report the reply."""
        if self._observers:
            failures = reply if self._request.operation == "batch_write" else ()
            error = next((error for error in failures if error is not None), None)
            self._report(error, self._request.rows(reply))

    def failed(self, error: BaseException) -> None:
        """Report a failure."""
        if self._observers:
            self._report(error, 0)

    def _report(self, error: BaseException | None, rows: int) -> None:
        request = self._request
        # Of requests that are sent together, each has its own time.
        seconds = request.seconds
        record = RequestRecord(
            store=self._url,
            operation=request.operation,
            tables=tuple(request.tables),
            duration=perf_counter() - self._started if seconds is None else seconds,
            attempts=request.attempts,
            error=error,
            capacity=request.consumed,
            rows=rows,
            size=request.size,
        )
        token = _reporting.set(True)
        try:
            for observer in self._observers:
                observer.report(record)
        finally:
            _reporting.reset(token)


def _log_failure(callback: RequestCallback, error: Exception) -> None:
    import logging

    logging.getLogger("mintkey.requests").error(
        "the on_request callback %s failed; further failures of it are not logged",
        shortened(callback),
        exc_info=error,
    )


def log_observers(log_slow: float | None) -> list[Observer]:
    """Return the observer that logs the requests of a store, if they are to be logged.

    The level of the logger is read here, once for each store, so that a request costs nothing if it is not logged.
    """
    if log_slow is not None and (
        isinstance(log_slow, bool)
        or not isinstance(log_slow, (int, float))
        or not math.isfinite(log_slow)
        or log_slow < 0
    ):
        raise ConfigurationError(f"log_slow= takes a number of seconds, such as 0.5, not {shortened(log_slow)}")
    # A program that has not imported it has enabled no logger.
    if log_slow is None and "logging" not in sys.modules:
        return []
    import logging

    logger = logging.getLogger("mintkey.requests")
    if log_slow is None and not logger.isEnabledFor(logging.DEBUG):
        return []

    def log_request(record: RequestRecord) -> None:
        is_slow = log_slow is not None and record.duration >= log_slow
        logger.log(
            logging.WARNING if is_slow else logging.DEBUG,
            "%s%s %s: %s, rows: %d, %.1f ms, attempts: %d, %s",
            "slow request: " if is_slow else "",
            record.operation,
            ", ".join(record.tables) or "-",
            record.outcome,
            record.rows,
            record.duration * 1000,
            record.attempts,
            record.store,
        )

    return [Observer(log_request)]


def ping_failure(url: str, seconds: float, error: MintkeyError) -> StoreError:
    """Return the error of a ping: wrong credentials too are a failure of the store here."""
    kind = type(error) if isinstance(error, StoreError) else StoreUnavailable
    return kind(f"{url}: the ping failed after {seconds:.3f} s: {error}", store=url)
