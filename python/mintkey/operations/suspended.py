"""Suspended writes: operations that wait until their writes are sent together with others.

Batches, pipelines and transactions hold them. Each operation receives the reply to its own write, and may yield
another one, after a collision of a short key for example.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from mintkey import _core
from mintkey.errors import MintkeyError, StoreError, StoreTimeout, StoreUnavailable, raised_by_signal_handler

if TYPE_CHECKING:
    from weakref import ReferenceType

    from mintkey.definitions.schema import Schema
    from mintkey.instance_state import State
    from mintkey.stores import Operation, Store

#: The maximum number of writes in one joined request.
CHUNK = 500
#: After one of these, no further writes are sent to the store.
STORE_FAILURES = (StoreUnavailable, StoreTimeout)


class SuspendedWrite:
    """The operation of one item, up to its next request.

    Attributes:
        item: the instance, or the key.
        request: the write that the operation waits for; None before it has started and after its end.
        error: the exception that ended the operation.
        ended: whether the operation ended without an exception.
    """

    __slots__ = ("_operation", "_pending", "ended", "error", "item", "request")

    _operation: Generator[Any, Any, Any]

    def __init__(self, item: Any, operation: Generator[Any, Any, Any] | None = None) -> None:
        self.item = item
        self.request: _core.Request | None = None
        self.error: BaseException | None = None
        self.ended = False
        if operation is not None:
            self._operation = operation
        self._pending: State | None = None

    def begin(self, shared: BaseException | None = None) -> Iterable[Any]:
        """Advance to the first request; yield what the operation awaits. `shared`: see `resume`."""
        return self._advance(self._operation.send, None, shared)

    def resume(self, reply: Any, shared: BaseException | None = None) -> Iterable[Any]:
        """Pass the reply or the failure of the request, and advance to the next request or to the end.

        `shared` is the failure of all writes that were sent together. It may be an interrupt, which the sender raises
        when all operations have received it.
        """
        self._set_pipeline(None)
        call = self._operation.throw if isinstance(reply, BaseException) else self._operation.send
        return self._advance(call, reply, shared)

    def _advance(self, call: Callable[[Any], Any], value: Any, shared: BaseException | None) -> Operation[None]:
        """Advance to the next request or to the end; yield what the operation awaits."""
        while True:
            try:
                yielded = call(value)
            except StopIteration:
                self.request, self.ended = None, True
                return
            except BaseException as error:  # noqa: BLE001 - one that is not of the item is raised
                self.request, self.error = None, error
                if error is shared:
                    return
                interrupt = raised_by_signal_handler(error) if isinstance(error, Exception) else error
                if interrupt is not None:
                    raise interrupt  # noqa: B904 - the error itself, or its cause
                # The other writes continue after a failed one, whatever its hooks raise.
                return
            if type(yielded) is _core.Request:
                self.request = yielded
                return
            try:
                value = yield yielded
                call = self._operation.send
            except BaseException as error:  # noqa: BLE001 - the failure of a hook, which its operation handles
                value, call = error, self._operation.throw

    def settle(self, reply: Any, interrupt: BaseException) -> None:
        """Pass the reply or the failure of the request after an interrupt: what comes next is interrupted, too."""
        self._set_pipeline(None)
        call = self._operation.throw if isinstance(reply, BaseException) else self._operation.send
        try:
            yielded = call(reply)
            if inspect.iscoroutine(yielded):
                yielded.close()
            is_write = type(yielded) is _core.Request
            self._operation.throw(MintkeyError("not sent, because of an interrupt") if is_write else interrupt)
        except StopIteration:
            self.request, self.ended = None, True
        except BaseException as error:  # noqa: BLE001 - the caller raises the interrupt
            self.request, self.error = None, error

    def withdraw(self, error: MintkeyError) -> None:
        """Cancel the write. The instance is in the same state as after a failed save."""
        if self.request is None:
            return
        self.request, self.error = None, error
        self._set_pipeline(None)
        try:
            self._operation.throw(error)
        except MintkeyError:
            return

    def wait_in(self, pipeline: ReferenceType[Any]) -> None:
        """Record in the instance the pipeline that will send the write. An update by key has no instance."""
        self._pending = getattr(self.item, "_state", None)
        self._set_pipeline(pipeline)

    def _set_pipeline(self, pipeline: ReferenceType[Any] | None) -> None:
        if self._pending is not None:
            self._pending.pipeline = pipeline


class JoinedWrites:
    """The writes of one request: several of one model, or one update, whose reply is a row."""

    __slots__ = ("_joined", "_schema", "writes")

    def __init__(self, schema: Schema, writes: list[SuspendedWrite], *, joined: bool = True) -> None:
        self.writes = writes
        self._schema = schema
        self._joined = joined

    def request(self) -> _core.Request:
        """Return the request."""
        requests = [write.request for write in self.writes if write.request is not None]
        return self._schema.codec.batch_write(requests) if self._joined else requests[0]

    def replies(self, reply: Any) -> Iterable[Any]:
        """Return the reply to each write, from the reply to the request or its failure."""
        if isinstance(reply, BaseException):
            return [reply] * len(self.writes)
        replies: list[Any] = reply if self._joined else [reply]
        return replies


def resume_all(answered: Iterable[tuple[JoinedWrites, Any]]) -> Operation[None]:
    """Pass to each write of requests its reply, or the failure of its request. See `resume_each`."""
    return resume_each(
        (write, own, reply if isinstance(reply, BaseException) else None)
        for joined, reply in answered
        for write, own in zip(joined.writes, joined.replies(reply), strict=True)
    )


def resume_each(replies: Iterable[tuple[SuspendedWrite, Any, BaseException | None]]) -> Operation[None]:
    """Pass to each write its reply or failure, and the failure of all writes that were sent together.

    If a hook is interrupted, the remaining writes get their replies all the same: they were sent, so their instances
    must record what became of them.
    """
    interrupt: BaseException | None = None
    for write, own, shared in replies:
        if interrupt is None:
            try:
                yield from write.resume(own, shared)
            except BaseException as error:  # noqa: BLE001 - raised below
                interrupt = error
        if interrupt is not None and write.request is not None:
            # It has not received its reply.
            write.settle(own, interrupt)
    if interrupt is not None:
        raise interrupt


def finish(schema: Schema, writes: list[SuspendedWrite]) -> Operation[None]:
    """Run operations of one model to their ends, with joined requests."""
    while waiting := [write for write in writes if write.request is not None]:
        joined = JoinedWrites(schema, waiting)
        try:
            reply = yield joined.request()
        except BaseException as error:
            # Each operation records what it sent.
            yield from resume_all([(joined, error)])
            raise
        yield from resume_all([(joined, reply)])


def store_failure(store: Store, outcomes: Iterable[tuple[Any, object]]) -> StoreError | None:
    """Return the first failure after which this store gets no further writes. A hook may report another store's."""
    errors = (error for _, error in outcomes if isinstance(error, STORE_FAILURES))
    return next((error for error in errors if error.store == store.url), None)


def failures(writes: Iterable[SuspendedWrite], stopped: BaseException | None = None) -> list[tuple[Any, BaseException]]:
    """Return the items whose writes failed, with the exceptions; `stopped` for those that never started."""
    unfinished = ((write.item, write.error or stopped) for write in writes if not write.ended)
    return [(item, error) for item, error in unfinished if error is not None]
