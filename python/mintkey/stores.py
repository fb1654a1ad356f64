"""Stores: connections to a database, and the two drivers that run operations on them.

An operation is a generator. It yields requests to the store (one request, or a list of independent requests) and the
coroutines of `async def` hooks. `Store.run` executes them on the calling thread; `Store.arun` awaits them. Blocking and
async calls differ in nothing else.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar, cast

from mintkey import _core
from mintkey.definitions.discriminators import Footprint, share_ttl
from mintkey.definitions.schema import Schema
from mintkey.errors import ConfigurationError, MintkeyError, check_flags, shortened
from mintkey.monitoring import (
    C,
    ObservedRequest,
    Observer,
    Ping,
    PingedServer,
    RequestCallback,
    log_observers,
    observers_of_all_stores,
    ping_failure,
)
from mintkey.rate_limit import LimitedRequest, RateLimit, checked

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self

__all__ = ["Store", "connect", "use_store"]

R = TypeVar("R")
#: A generator of requests with a result. If it yields a list of requests, it receives a list of replies, in which
#: failures are exceptions that are not raised.
Operation: TypeAlias = Generator["_core.Request | list[_core.Request] | Awaitable[Any]", Any, R]

_DEFAULT = "default"
_DEFAULT_URL = "sqlite:///mintkey.db"

_BLOCKING_CALL = (
    "a blocking call inside a running event loop stops all of its tasks until the store has replied: "
    "use the async version, such as asave(), or `async for`"
)

_reported = False
_named: dict[str, Store] = {}
_naming = threading.Lock()


def _file_of(url: str) -> str | None:
    """Return the path of a SQLite file, which may not exist yet; None of every other store."""
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite":
        return None
    # Modules for paths and URLs are slow to import.
    if "%" in path:
        from urllib.parse import unquote

        path = unquote(path)
    return path if path.startswith("/") else f"{os.getcwd()}/{path}"  # noqa: PTH109


class _Block:
    """A `use_store()` block."""

    __slots__ = ("name", "store")

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.store = store


#: The `use_store()` blocks, the innermost one last.
_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("mintkey_stores", default=())


class Store:
    """An open store; `connect()` returns one.

    A `with` or `async with` block closes it at the end. Connections are opened at the first request. A store can be
    used by several threads and asyncio tasks, and after a fork.
    """

    def __init__(
        self,
        url: str,
        rate_limit: RateLimit | None = None,
        *,
        strict_async: bool = False,
        log_slow: float | None = None,
    ) -> None:
        if not isinstance(url, str):
            raise ConfigurationError(
                f"the URL of a store is text such as 'sqlite:///shop.db', not {type(url).__name__}"
            )
        half = next((index for index, letter in enumerate(url) if "\ud800" <= letter <= "\udfff"), None)
        if half is not None:
            # The rest of the URL is not shown: it may contain a password.
            raise ConfigurationError(
                f"the URL of a store is not valid UTF-8: {url[half]!r} at position {half} is a lone surrogate"
            )
        check_flags("connect()", ConfigurationError, strict_async=strict_async)
        limit = checked(rate_limit)
        self._core = _core.Store(url)
        # Absolute from the start, as in the core: the process may change its working directory.
        self._file = _file_of(self.url)
        self._tables: dict[str, tuple[tuple[str, str], bool]] = {}
        self._shared: dict[str, dict[tuple[str, str], Footprint]] = {}
        #: The classes of each table that were used here.
        self._used: dict[str, weakref.WeakSet[Schema]] = {}
        self._limits: tuple[RateLimit, ...] | None = None if limit is None else (limit,)
        self._stop: threading.Event | None = None
        self._views: dict[RateLimit, Store] = {}
        # Shared with the views.
        self._observers: list[Observer] = log_observers(log_slow)
        self._strict_async = strict_async
        # The store whose name this one took: it gets the name back when a `with` block ends.
        self._name = ""
        self._replaced: weakref.ref[Store] | None = None

    @property
    def url(self) -> str:
        """The URL without its password, with only those parameters that identify the store."""
        return self._core.address

    @property
    def creates_tables(self) -> bool:
        """Whether a missing table is created on first use. Otherwise call `Model.create_table()`."""
        return self._core.creates_tables

    @property
    def ordered_scans(self) -> bool:
        """Whether a scan returns the items in the order of their keys."""
        return self._core.ordered_scans

    @property
    def largest_batch(self) -> int:
        """The most items of a large chunk of a batch; 1 if chunks should be small."""
        # A rate limit counts a chunk at once, and then waits for its units.
        return self._core.largest_batch if self._limits is None else 1

    def __repr__(self) -> str:
        # A debugger may show a store whose URL was refused.
        return f"<Store {self.url}>" if hasattr(self, "_core") else "<Store without a valid URL>"

    def ping(self) -> Ping:
        """Send a request to the server, and return how long it took and what server it is.

        SQLite reads the file. Redis gets a PING, and so does each primary of a Cluster. DynamoDB gets a signed
        `ListTables`; the credentials need no permission for it, because DynamoDB checks their signature first.

        Raises:
            StoreError: the store does not work: the server cannot be reached, does not answer in time, or does not
                accept the credentials. The message says which server, after how long, and why.
        """
        return self.run(self._pinging())

    async def aping(self) -> Ping:
        """Async version of `ping()`."""
        return await self.arun(self._pinging())

    def _pinging(self) -> Operation[Ping]:
        started = perf_counter()
        try:
            servers = yield _core.Request.ping()
        except MintkeyError as error:
            raise ping_failure(self.url, perf_counter() - started, error) from error
        return Ping(self.url, perf_counter() - started, tuple(PingedServer(*server) for server in servers))

    def on_request(self, callback: C) -> C:
        """Call a function with a `RequestRecord` after each request of this store. It can be used as a decorator.

        The function runs on the thread or in the task that made the request, so it has to be quick. If it raises, the
        exception is logged once on `mintkey.requests`, and the request is not affected. Requests that the function
        makes itself are not reported.

        Returns:
            the same function, for `off_request()`.

        Raises:
            TypeError: the object is not a plain function.
        """
        self._observers.append(Observer(callback))
        return callback

    def off_request(self, callback: RequestCallback) -> None:
        """Stop calling a function that was passed to `on_request()`. Others are ignored."""
        for observer in self._observers:
            if observer.callback == callback:
                self._observers.remove(observer)
                return

    def claim(self, schema: Schema) -> None:
        """Register a model's table. Two models can share a table only if both name it with `table=`."""
        named = schema.config.table is not None
        known, known_named = self._tables.setdefault(schema.table, (schema.identity, named))
        if known != schema.identity and not (named and known_named):
            raise ConfigurationError(
                f"{'.'.join(schema.identity)} and {'.'.join(known)} have the same table {schema.table!r} in "
                f"{self.url}, because a table is named after its class by default. Give one of them another name with "
                "table=, or write the same table= in both to share the table",
                model=schema.model,
                store=self.url,
            )
        others = self._shared.setdefault(schema.table, {})
        # A copy: another thread may use another class of the table for the first time.
        for identity, footprint in list(others.items()):
            if identity != schema.identity and not footprint.is_disjoint(schema.footprint):
                _log(
                    "tables",
                    _WARNING,
                    f"{'.'.join(schema.identity)} and {'.'.join(identity)} share the table {schema.table!r}, and "
                    "each reads the rows of the other as its own: give both a StringAttribute(discriminator=True), or "
                    "templates of their keys with different literal beginnings",
                )
        others[schema.identity] = schema.footprint
        # DynamoDB knows the expiry of a table only from its classes. The other stores have it in their catalog.
        with _naming:
            used = self._used.setdefault(schema.table, weakref.WeakSet())
            used.add(schema)
            share_ttl(used)

    def limited(self, limit: RateLimit) -> Store:
        """Return a view of this store with one more rate limit."""
        if self._limits is not None and limit in self._limits:
            return self
        view = self._views.get(limit)
        if view is None:
            view = copy.copy(self)
            view._limits = (*(self._limits or ()), limit)
            # A dict of its own: the view must not refer to the original store.
            view._views = {}
            view = self._views.setdefault(limit, view)
        return view

    def stopped_by(self, stop: threading.Event) -> Store:
        """Return a view of this store in which a wait for a rate limit ends when the event is set."""
        view = copy.copy(self)
        view._stop = stop
        view._views = {}
        return view

    def run(self, operation: Operation[R]) -> R:
        """Run an operation on the calling thread."""
        events = sys.modules.get("_asyncio")
        if events is not None and events._get_running_loop() is not None:
            self._blocks_event_loop(operation)
        observed = self._limits is not None or self._observers or observers_of_all_stores
        return _core.drive(operation, self._execute_observed if observed else self._core, self._answer)

    async def arun(self, operation: Operation[R]) -> R:
        """Run an operation in the current asyncio task."""
        submit = self._core.submit
        observed = self._limits is not None or self._observers or observers_of_all_stores
        event_loop = _core.running_loop()
        try:
            request = next(operation)
            while True:
                try:
                    if type(request) is list:
                        reply = await self._submit_all(request, event_loop)
                    elif type(request) is not _core.Request:
                        reply = await cast("Awaitable[Any]", request)
                    elif observed:
                        reply = await self._submit_observed(request, event_loop)
                    else:
                        submitted = submit(request, event_loop)
                        try:
                            reply = await submitted.future
                        except BaseException:
                            # A cancelled request that has not started is dropped; otherwise it is completed.
                            if submitted.future.cancelled():
                                submitted.withdraw()
                            raise
                except BaseException as error:  # noqa: BLE001 - the operation handles it, also a cancellation
                    request = operation.throw(error)
                else:
                    request = operation.send(reply)
        except StopIteration as done:
            result: R = done.value
            return result

    def _blocks_event_loop(self, operation: Operation[Any]) -> None:
        """Report a blocking call inside a running event loop: once in the log, or each time with `strict_async`."""
        global _reported  # noqa: PLW0603 - once in a process
        if self._strict_async:
            operation.close()
            raise ConfigurationError(
                f"{_BLOCKING_CALL}. This store was connected with strict_async=True", store=self.url
            )
        if not _reported:
            _reported = True
            _log("asyncio", _WARNING, f"{_BLOCKING_CALL}. Connect with strict_async=True to find the call")

    def _restore(self) -> None:
        """Give the name of this store back to the store that had it before."""
        replaced = None if self._replaced is None else self._replaced()
        with _naming:
            if replaced is not None and _named.get(self._name) is self:
                _named[self._name] = replaced

    def _answer(self, asked: list[_core.Request] | Awaitable[Any]) -> Any:
        if type(asked) is list:
            return self._execute_all(asked)
        return _refused(asked)

    def _execute_all(self, requests: list[_core.Request]) -> list[Any]:
        limits = [LimitedRequest(self._limits or (), request, self._stop) for request in requests]
        try:
            for limited in limits:
                limited.wait_for_units()
        except BaseException:
            # Requests that may be sent already are not sent either.
            for limited in limits:
                limited.return_units()
            raise
        observations = [self._observe(request) for request in requests]
        replies = self._core.execute_all(requests)
        for limited, observation, reply in zip(limits, observations, replies, strict=True):
            if isinstance(reply, BaseException):
                limited.failed(reply)
                observation.failed(reply)
            else:
                limited.done(reply)
                observation.done(reply)
        return replies

    async def _submit_all(self, requests: list[_core.Request], event_loop: asyncio.AbstractEventLoop) -> list[Any]:
        import asyncio  # slow to import, and always loaded when this runs

        submitted = (self._submit_observed(request, event_loop) for request in requests)
        # Failures are returned, not raised, so that no request is still in flight when this returns.
        return await asyncio.gather(*submitted, return_exceptions=True)

    def _execute_observed(self, request: _core.Request) -> Any:
        limited = LimitedRequest(self._limits or (), request, self._stop)
        limited.wait_for_units()
        observation = self._observe(request)
        try:
            reply = self._core.execute(request)
        except BaseException as error:
            limited.failed(error)
            observation.failed(error)
            raise
        limited.done(reply)
        observation.done(reply)
        return reply

    def _observe(self, request: _core.Request) -> ObservedRequest:
        return ObservedRequest(self.url, self._observers, request)

    async def _submit_observed(self, request: _core.Request, event_loop: asyncio.AbstractEventLoop) -> Any:
        limited = LimitedRequest(self._limits or (), request, self._stop)
        await limited.await_for_units()
        observation = self._observe(request)
        submitted = self._core.submit(request, event_loop)
        try:
            reply = await submitted.future
        except BaseException as error:
            if submitted.future.cancelled() and submitted.withdraw():
                limited.return_units()
            else:
                limited.failed(error)
                observation.failed(error)
            raise
        limited.done(reply)
        observation.done(reply)
        return reply

    def close(self) -> None:
        """Complete running requests, close connections and end threads. A second call does nothing.

        Ctrl-C ends the wait; running requests are completed anyway. The store keeps its name, so later requests of its
        models raise `ConfigurationError` and do not silently use another store.
        """
        self._core.close()

    async def aclose(self) -> None:
        """Async version of `close()`. Does not block the event loop, unless the system refuses a thread."""
        try:
            closing = _core.running_loop().run_in_executor(None, self.close)
        except RuntimeError:
            self.close()
        else:
            await closing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._restore()
        await self.aclose()


#: The levels of `logging`, which is imported only for a message.
_DEBUG, _WARNING = 10, 30


def _log(logger: str, level: int, text: str) -> None:
    """Log a report of a store. Called by the compiled core, after an answer and with the GIL."""
    # A program that has not imported it has enabled no logger for DEBUG.
    if level == _DEBUG and "logging" not in sys.modules:
        return
    import logging

    root = logging.getLogger("mintkey")
    if level == _WARNING and not root.handlers:
        # Python prints errors to stderr if the program has not configured logging, but no warnings.
        root.addHandler(logging.NullHandler())
    logging.getLogger(f"mintkey.{logger}").log(level, "%s", text)


def single(request: _core.Request) -> Operation[Any]:
    """Return the operation that consists of one request."""
    return (yield request)


def _refused(awaitable: Any) -> NoReturn:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
    raise ConfigurationError(
        "a hook returned an awaitable in a blocking call: declare the hook with `async def`, "
        "and use the async version of the call, such as asave()"
    )


def connect(
    url: str,
    name: str = _DEFAULT,
    rate_limit: RateLimit | None = None,
    *,
    strict_async: bool = False,
    log_slow: float | None = None,
) -> Store:
    """Connect the store at `url`, and make it the default store of all models.

    At the end of a `with` block, the store that had the name before gets it back.

    Args:
        url: the store. The guide to each store describes all parameters.

            - `sqlite:///shop.db`, `sqlite:////absolute/shop.db`, or `sqlite://` in memory
            - `redis://user:password@host:6379/0?prefix=shop`, `rediss://…` (TLS), `unix:///run/redis.sock`
            - `redis-cluster://a:7000,b:7001?prefix=shop`, `rediss-cluster://…`
            - `dynamodb://eu-west-1?table_prefix=shop-`, also with `endpoint=` and `profile=`

            All stores take `?timeout=5` (seconds).
        name: a name for `ModelConfig(store=…)`, instead of the default store; replaces a store of that name.
        rate_limit: the maximum rate of reads and writes: a `FixedRate` or an `AdaptiveRate` of `mintkey.rate_limit`.
        strict_async: raise `ConfigurationError` for a blocking call inside a running event loop. Otherwise the first
            one is logged as a warning on `mintkey.asyncio`.
        log_slow: log each request that takes at least this many seconds, as a warning on `mintkey.requests`.

    Raises:
        ConfigurationError: the URL, the rate limit or `log_slow` is invalid. Nothing is opened yet: a missing server
            is reported by the first request.

    >>> with connect("sqlite://") as store:
    ...     store
    <Store sqlite://>
    """
    store = Store(url, rate_limit, strict_async=strict_async, log_slow=log_slow)
    with _naming:
        before = _named.get(name)
        store._name, store._replaced = name, None if before is None else weakref.ref(before)
        _named[name] = store
    return store


@contextmanager
def use_store(store: Store | str, name: str = _DEFAULT) -> Iterator[Store]:
    """Use another store in a `with` block: for a tenant, a web request or a test.

    The block concerns the calling thread or asyncio task, and the tasks that it starts; other threads and tasks keep
    their store. Blocks can be nested. The store is not closed at the end. A lazy result reads from the store that is
    used when it is iterated; a pipeline writes to the store that was used when the write was added.

    Do not `yield` to a loop inside a block: in Python, a generator or async generator and the code that iterates it
    have one context, so the store also applies to the body of the loop. Read the rows in the block and yield them
    after it, or put the block around the loop. Fixtures, FastAPI's dependencies and `@contextmanager` functions are
    meant to work so.

    Args:
        store: a connected store, or its name.
        name: the name that means this store in the block, if it is not that of the default store. Models with
            `ModelConfig(store=name)` use it then. A model with `ModelConfig(store=<a Store>)` keeps its store.

    Raises:
        TypeError: the object is not a store.
        ConfigurationError: no store of this name is connected, or the block ended in another thread or task than it
            began in.

    >>> with connect("sqlite://", name="tenant") as tenant, use_store(tenant) as used:
    ...     used is tenant
    True
    """
    if isinstance(store, str):
        store = store_named(store)
    elif not isinstance(store, Store):
        raise TypeError(f"use_store() takes a connected store or its name, not {shortened(store)}")
    own = _Block(name, store)
    token = _blocks.set((*_blocks.get(), own))
    try:
        yield store
    finally:
        blocks = _blocks.get()
        try:
            _blocks.reset(token)
        except ValueError as error:
            raise ConfigurationError(
                "a use_store() block ended in another thread or task than it began in, so the store did not apply to "
                "what ran in between: begin and end it in the same one, for example in an `async def` dependency of "
                "FastAPI",
                store=store.url,
            ) from error
        # Blocks of two generators may end in another order than they began.
        _blocks.set(tuple(block for block in blocks if block is not own))


def store_named(name: str) -> Store:
    """Return the store of this name. The default store is connected on first use."""
    for block in reversed(_blocks.get()):
        if block.name == name:
            return block.store
    store = _named.get(name)
    if store is not None:
        return store
    if "://" in name:
        # The URL is not shown: it may contain a password.
        raise ConfigurationError(
            "ModelConfig(store=…) and use_store() take a connected store or its name, not a URL: call "
            "store = connect(url, name=…) first"
        )
    if name != _DEFAULT:
        raise ConfigurationError(
            f"no store with the name {name!r} is connected: call connect(url, name={name!r}) first"
        )
    with _naming:
        if name not in _named:
            _named[name] = Store(os.environ.get("MINTKEY_URL") or _DEFAULT_URL)
        return _named[name]


def store_of(schema: Schema) -> Store:
    """Return the store of a model, with the rate limits of both the store and the model."""
    config = schema.config
    where = _DEFAULT if config.store is None else config.store
    if isinstance(where, str):
        # Without a function call in the usual case: each operation comes here.
        store = None if _blocks.get() else _named.get(where)
        if store is None:
            store = store_named(where)
    elif isinstance(where, Store):
        store = where
    else:
        raise ConfigurationError(f"{schema.model}: store= takes a connected store or its name, not {shortened(where)}")
    if schema.claimed_in is not store:
        store.claim(schema)
        schema.claimed_in = store
    limit = config.rate_limit
    return store if limit is None else store.limited(limit)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_core.before_fork, after_in_parent=_core.after_fork, after_in_child=_core.after_fork)
