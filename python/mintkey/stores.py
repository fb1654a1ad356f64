"""Stores: where items are kept, and the two drivers that run operations on them.

An operation is a generator that yields requests to the store, one or a list of reads at once (and coroutines of
`async def` hooks). `Store.run` carries them out on the calling thread, `Store.arun` awaits them; nothing else differs
between the two worlds.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Awaitable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar, cast

from mintkey import _core
from mintkey.errors import ConfigurationError, shortened
from mintkey.rate_limit import RateLimit, Turn, checked
from mintkey.schema import Schema

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self

__all__ = ["Store", "connect"]

R = TypeVar("R")
#: What asks for things one after another, and gives something at its end. Several requests that do not depend on each
#: other may be asked for at once: then a failure is an answer among the others, not raised.
Operation: TypeAlias = Generator["_core.Request | list[_core.Request] | Begin | _core.Begun | Awaitable[Any]", Any, R]

_DEFAULT = "default"
_DEFAULT_URL = "sqlite:///mintkey.db"

_named: dict[str, Store] = {}
_naming = threading.Lock()


class Begin:
    """Asks to make a request ready, which the operation sends, and asks the answer of when it has done something else.

    Answered with None where nothing would be gained: then the request itself is to be asked for.
    """

    __slots__ = ("request",)

    def __init__(self, request: _core.Request) -> None:
        self.request = request


class Store:
    """An open store; `connect()` makes one.

    Use it in a `with` or `async with` block to close it at the end. Connections open at the first request, and are
    safe to use from several threads, from asyncio tasks, and after a fork.
    """

    def __init__(self, url: str, rate_limit: RateLimit | None = None) -> None:
        if not isinstance(url, str):
            raise ConfigurationError(f"a store's URL is text, not {type(url).__name__}")
        half = next((place for place, letter in enumerate(url) if "\ud800" <= letter <= "\udfff"), None)
        if half is not None:
            # Without the rest, which may hold a password.
            raise ConfigurationError(
                f"a store's URL is text that UTF-8 can hold, and {url[half]!r} at position {half} is half a character"
            )
        limit = checked(rate_limit)
        self._core = _core.Store(url)
        self._tables: dict[str, tuple[tuple[str, str], bool]] = {}
        self._limits: tuple[RateLimit, ...] | None = None if limit is None else (limit,)
        self._views: dict[RateLimit, Store] = {}

    @property
    def url(self) -> str:
        """The store's address without its password, and of the parameters those that say which store it is."""
        return self._core.address

    @property
    def creates_tables(self) -> bool:
        """Whether a missing table is made at its first use; else `Model.create_table()` has to be called."""
        return self._core.creates_tables

    @property
    def ordered_scans(self) -> bool:
        """Whether a scan comes in the order of the keys."""
        return self._core.ordered_scans

    def __repr__(self) -> str:
        return f"<Store {self.url}>"

    def claim(self, schema: Schema) -> None:
        """Note that a model uses its table here; two models may share one only if both name it with `table=`."""
        named = schema.config.table is not None
        known, known_named = self._tables.setdefault(schema.table, (schema.identity, named))
        if known != schema.identity and not (named and known_named):
            raise ConfigurationError(
                f"{'.'.join(schema.identity)} and {'.'.join(known)} would both keep their items in the table "
                f"{schema.table!r} of {self.url}, because it is named after the class. "
                "Give one of them ModelConfig(table=…), or both the same one to share it",
                model=schema.model,
                store=self.url,
            )

    def limited(self, limit: RateLimit) -> Store:
        """This store under one limit more: a view, which shares all else."""
        if self._limits is not None and limit in self._limits:
            return self
        view = self._views.get(limit)
        if view is None:
            view = copy.copy(self)
            view._limits = (*(self._limits or ()), limit)
            # Its own, so that a view does not keep the store that it is of.
            view._views = {}
            view = self._views.setdefault(limit, view)
        return view

    def run(self, operation: Operation[R]) -> R:
        """Drive an operation on this thread."""
        execute = self._core if self._limits is None else self._execute_in_turn
        return _core.drive(operation, execute, self._answer)

    async def arun(self, operation: Operation[R]) -> R:
        """Drive an operation as part of an asyncio task."""
        submit = self._core.submit
        limited = self._limits is not None
        event_loop = _core.running_loop()
        try:
            request = next(operation)
            while True:
                try:
                    if type(request) is list:
                        reply = await self._submit_all(request, event_loop)
                    elif type(request) is Begin:
                        # An event loop has other things to do meanwhile.
                        reply = None
                    elif type(request) is not _core.Request:
                        reply = await cast("Awaitable[Any]", request)
                    elif limited:
                        reply = await self._submit_in_turn(request, event_loop)
                    else:
                        flight = submit(request, event_loop)
                        try:
                            reply = await flight.future
                        except BaseException:
                            # Cancelled and not begun: it never happens. Begun: it is finished in the background.
                            if flight.future.cancelled():
                                flight.withdraw()
                            raise
                except BaseException as error:  # noqa: BLE001 - the operation decides, cancellation included
                    request = operation.throw(error)
                else:
                    request = operation.send(reply)
        except StopIteration as done:
            result: R = done.value
            return result

    def _answer(self, asked: list[_core.Request] | Begin | _core.Begun | Awaitable[Any]) -> Any:
        if type(asked) is list:
            return self._execute_all(asked)
        if type(asked) is Begin:
            # Under a limit it may have to wait for its turn.
            return None if self._limits else self._core.begin(asked.request)
        if type(asked) is _core.Begun:
            return asked.finish()
        return _refused(asked)

    def _execute_all(self, requests: list[_core.Request]) -> list[Any]:
        turns = [Turn(self._limits or (), request) for request in requests]
        try:
            for turn in turns:
                turn.wait()
        except BaseException:
            # Requests that may be sent already are not sent either.
            for turn in turns:
                turn.return_units()
            raise
        replies = self._core.execute_all(requests)
        for turn, reply in zip(turns, replies, strict=True):
            if isinstance(reply, BaseException):
                turn.failed(reply)
            else:
                turn.done(reply)
        return replies

    async def _submit_all(self, requests: list[_core.Request], event_loop: asyncio.AbstractEventLoop) -> list[Any]:
        import asyncio  # costs more than all the rest of the import, and is there when this runs

        submitted = (self._submit_in_turn(request, event_loop) for request in requests)
        # Failures are answers here, so that all have ended and none is left behind.
        return await asyncio.gather(*submitted, return_exceptions=True)

    def _execute_in_turn(self, request: _core.Request) -> Any:
        turn = Turn(self._limits or (), request)
        turn.wait()
        try:
            reply = self._core.execute(request)
        except BaseException as error:
            turn.failed(error)
            raise
        turn.done(reply)
        return reply

    async def _submit_in_turn(self, request: _core.Request, event_loop: asyncio.AbstractEventLoop) -> Any:
        turn = Turn(self._limits or (), request)
        await turn.wait_async()
        flight = self._core.submit(request, event_loop)
        try:
            reply = await flight.future
        except BaseException as error:
            if flight.future.cancelled() and flight.withdraw():
                turn.return_units()
            else:
                turn.failed(error)
            raise
        turn.done(reply)
        return reply

    def close(self) -> None:
        """Finish what is running, close connections and end threads. Closing twice is closing once.

        Ctrl-C ends the wait; what was running is finished all the same. The store keeps its name: what is asked of it
        later is a `ConfigurationError`, not a silent change of place.
        """
        self._core.close()

    async def aclose(self) -> None:
        """Like `close()`, without holding up the event loop."""
        await _core.running_loop().run_in_executor(None, self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _log(engine: str, is_error: bool, text: str) -> None:
    """Log what the engine of a store reports; called by the binding."""
    import logging

    root = logging.getLogger("mintkey")
    if not is_error and not root.handlers:
        # A program that has not configured logging sees errors only.
        root.addHandler(logging.NullHandler())
    logging.getLogger(f"mintkey.{engine}").log(logging.ERROR if is_error else logging.WARNING, "%s", text)


def _refused(awaitable: Any) -> NoReturn:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
    raise ConfigurationError(
        "a hook gave back something to await in a blocking call: declare the hook with `async def` "
        "and call the twin that begins with `a`, such as asave()"
    )


def connect(url: str, name: str = _DEFAULT, rate_limit: RateLimit | None = None) -> Store:
    """Open the store at `url` and make it the one that models without a store of their own use.

    Args:
        url: where items are kept; what else it may say is in the guide to each store.

            - `sqlite:///shop.db`, `sqlite:////absolute/shop.db`, or `sqlite://` in memory
            - `redis://user:password@host:6379/0?prefix=shop`, `rediss://…` (TLS), `unix:///run/redis.sock`
            - `redis-cluster://a:7000,b:7001?prefix=shop`, `rediss-cluster://…`
            - `dynamodb://eu-west-1?table_prefix=shop-`, also with `endpoint=` and `profile=`

            All take `?timeout=5` (seconds).
        name: what `ModelConfig(store=…)` calls it; connecting a name again replaces the store of that name.
        rate_limit: how fast the store is read and written: a `FixedRate` or an `AdaptiveRate` of `mintkey.rate_limit`.

    Raises:
        ConfigurationError: the URL is wrong, or the limit is none. Nothing is opened yet, so a missing server shows at
            the first request.

    >>> with connect("sqlite://") as store:
    ...     store
    <Store sqlite://>
    """
    store = Store(url, rate_limit)
    with _naming:
        _named[name] = store
    return store


def store_named(name: str) -> Store:
    """The connected store of this name; the default one is connected at first need."""
    store = _named.get(name)
    if store is not None:
        return store
    if "://" in name:
        # Not shown: a URL may hold a password.
        raise ConfigurationError(
            "ModelConfig(store=…) takes a store or its name, not a URL: store = connect(url, name=…) first"
        )
    if name != _DEFAULT:
        raise ConfigurationError(f"no store is connected under the name {name!r}: connect(url, name={name!r}) first")
    with _naming:
        if name not in _named:
            _named[name] = Store(os.environ.get("MINTKEY_URL") or _DEFAULT_URL)
        return _named[name]


def store_of(schema: Schema) -> Store:
    """The store that holds a model's table, under the model's own rate limit beside the store's."""
    where = schema.config.store
    if where is None:
        store = _named.get(_DEFAULT) or store_named(_DEFAULT)
    elif isinstance(where, Store):
        store = where
    elif isinstance(where, str):
        store = store_named(where)
    else:
        raise ConfigurationError(f"{schema.model}: store= is a connected store or its name, not {shortened(where)}")
    if schema.claimed_in is not store:
        store.claim(schema)
        schema.claimed_in = store
    limit = schema.config.rate_limit
    return store if limit is None else store.limited(limit)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_core.before_fork, after_in_parent=_core.after_fork, after_in_child=_core.after_fork)
