"""Pipelines: writes of any models that are collected and sent together.

Adding a write runs its operation up to its request: `before_` hooks run, values are generated and checked. Sending the
pipeline runs the rest of the operation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from mintkey.errors import (
    ConfigurationError,
    MintkeyError,
    StoreUnavailable,
    batch_incomplete,
    cause,
    shortened,
)
from mintkey.operations.suspended import CHUNK, STORE_FAILURES, JoinedWrites, SuspendedWrite, failures, resume_all
from mintkey.operations.writing import pending_write_error, refuse_async_hooks

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey import _core
    from mintkey.definitions.schema import Schema
    from mintkey.hooks import HookKind
    from mintkey.stores import Operation, Store

__all__ = ["Pipeline", "pipeline"]


#: The maximum number of writes in one round trip. More would take long and use much memory on both sides.
_MAX_WRITES = 4 * CHUNK


class _Write(NamedTuple):
    """A pending write: its store and its suspended operation."""

    store: Store
    schema: Schema
    suspended: SuspendedWrite
    after: HookKind
    hooked: bool


class Pipeline:
    """Pending writes that are sent together; `mintkey.pipeline()` returns one.

    A pipeline is not a transaction: each write has its own checks, and failures do not roll back other writes. `len()`
    is the number of pending writes.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, _Write] = {}
        self._ended = False

    def __len__(self) -> int:
        return len(self._ready())

    def __bool__(self) -> bool:
        # `if pipeline:` tests whether a pipeline was passed, also an empty one.
        return True

    def __repr__(self) -> str:
        return f"<Pipeline of {len(self)} writes>"

    def execute(self) -> int:
        """Send the pending writes and return their number. The pipeline can be used again.

        Raises:
            BatchIncomplete: some writes failed; `failed` lists them with their exceptions. All others were written.
            ConfigurationError: the pipeline has ended, or a write has an `async def` hook (use `aexecute()`). Nothing
                was sent.
        """
        self._check_open()
        return self._send()

    async def aexecute(self) -> int:
        """Async version of `execute()`."""
        self._check_open()
        return await self._asend()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended = True
        if kind is not None:
            _withdraw(self._waiting.values())
        else:
            self._send()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended = True
        if kind is not None:
            _withdraw(self._waiting.values())
        else:
            await self._asend()

    def _check_open(self) -> None:
        if self._ended:
            raise ConfigurationError(
                "this pipeline ended with its `with` block: call mintkey.pipeline() for another one"
            )

    def _prepare(self, instance: Any, write: _Write) -> Operation[None]:
        """Add a write: run its operation up to its request, and raise what is wrong before that."""
        self._check_open()
        if id(instance) in self._waiting:
            raise pending_write_error(write.schema)
        self._waiting[id(instance)] = write
        try:
            yield from write.suspended.begin()
            if write.suspended.error is not None:
                raise write.suspended.error
            self._check_open()
            if write.suspended.request is not None:
                write.suspended.wait_in(ref(self))
        finally:
            # There was nothing to write, or the pipeline ended while the operation awaited something.
            if write.suspended.request is None or self._ended:
                del self._waiting[id(instance)]
                _withdraw([write])

    def _ready(self) -> list[_Write]:
        return [write for write in self._waiting.values() if write.suspended.request is not None]

    def _take(self) -> list[_Write]:
        ready = self._ready()
        for write in ready:
            del self._waiting[id(write.suspended.item)]
        return ready

    def _send(self) -> int:
        for write in self._ready():
            if write.hooked:
                refuse_async_hooks(write.schema, write.after)
        writes = self._take()
        try:
            for group, all_there in _by_store(writes):
                group[0].store.run(_sending(group, all_there))
        finally:
            _withdraw(writes)
        return _outcome(writes)

    async def _asend(self) -> int:
        writes = self._take()
        try:
            for group, all_there in _by_store(writes):
                await group[0].store.arun(_sending(group, all_there))
        finally:
            _withdraw(writes)
        return _outcome(writes)


def pipeline() -> Pipeline:
    """Return a pipeline, which collects writes and sends them at the end of its `with` block or by `execute()`.

    Pass it as `pipeline=` to `save`, `create`, `update`, `update_by_key` and `delete`, or to their async versions. If
    an exception leaves the block, nothing is sent.

    >>> from mintkey import Model, connect
    >>> from mintkey.fields import AutoKeyField, Field
    >>> _ = connect("sqlite://")
    >>> class Order(Model):
    ...     id = AutoKeyField(strategy="ulid")
    ...     product = Field()
    >>> with pipeline() as together:
    ...     for product in ("Widget", "Gadget"):
    ...         order = Order.create(product=product, pipeline=together)
    ...     len(together), Order.count()
    (2, 0)
    >>> Order.count()
    2
    """
    return Pipeline()


def through(
    pipeline: Pipeline,
    store: Store,
    schema: Schema,
    instance: Any,
    writing: Operation[Any],
    after: HookKind,
    *,
    skip_hooks: bool,
) -> Operation[Any]:
    """Return the operation that adds a write to a pipeline."""
    if not isinstance(pipeline, Pipeline):
        raise TypeError(
            f"{schema.model}: pipeline= takes a pipeline from mintkey.pipeline(), not {shortened(pipeline)}"
        )
    write = _Write(store, schema, SuspendedWrite(instance, writing), after, not skip_hooks)
    return pipeline._prepare(instance, write)


def _by_store(writes: list[_Write]) -> Iterator[tuple[list[_Write], list[_Write]]]:
    """Group writes: yield each group that is sent together, and all writes to the same store."""
    own: dict[int, list[_Write]] = {}
    for write in writes:
        own.setdefault(id(write.store._core), []).append(write)
    for all_there in own.values():
        for group in list(_by_limit(all_there)):
            yield group, all_there


def _by_limit(writes: list[_Write]) -> Iterator[list[_Write]]:
    """Group the writes of a store by their rate limits. Groups are sent one after the other.

    If a row of one group appears in another, the groups end there, so that the writes of a row keep their order.
    """
    groups: dict[int, list[_Write]] = {}
    seen_in: dict[tuple[str, _core.Key | None], int] = {}
    for write in writes:
        limited = id(write.store)
        row = _row(write)
        if seen_in.setdefault(row, limited) != limited:
            yield from groups.values()
            groups, seen_in = {}, {row: limited}
        groups.setdefault(limited, []).append(write)
    yield from groups.values()


def _row(write: _Write) -> tuple[str, _core.Key | None]:
    request = write.suspended.request
    return write.schema.table, None if request is None else request.key


def _sending(writes: list[_Write], all_there: list[_Write]) -> Operation[None]:
    """Send writes in as few round trips as possible. If the store fails, send nothing more to it."""
    while waiting := [write for write in writes if write.suspended.request is not None]:
        groups = _next_round_trip(waiting)
        requests = [group.request() for group in groups]
        try:
            replies = (yield requests) if len(requests) > 1 else [(yield requests[0])]
        except BaseException as error:  # noqa: BLE001 - raised again after all writes have received it
            replies = [error] * len(groups)
        yield from resume_all(zip(groups, replies, strict=True))
        for reply in replies:
            if isinstance(reply, BaseException) and not isinstance(reply, MintkeyError):
                # An interrupt: Ctrl-C, or what a signal handler raises.
                raise reply
        for outcome in itertools.chain.from_iterable(map(JoinedWrites.replies, groups, replies)):
            if isinstance(outcome, STORE_FAILURES):
                return _withdraw(
                    all_there, StoreUnavailable(f"not sent, because the store failed earlier: {cause(outcome)}")
                )
    return None


def _next_round_trip(waiting: list[_Write]) -> list[JoinedWrites]:
    """Return the requests of the next round trip.

    They are in flight at the same time, so two of them never write the same row: a write of a row that another request
    contains waits for the next round trip, and so do later writes of that row.
    """
    groups: list[JoinedWrites] = []
    filling: dict[int, JoinedWrites] = {}
    seen_in: dict[tuple[str, _core.Key | None], JoinedWrites | None] = {}
    for write in waiting[:_MAX_WRITES]:
        row = _row(write)
        model = id(write.schema)
        joined = write.after != "after_update"
        group = filling.get(model) if joined else None
        if group is not None and len(group.writes) == CHUNK:
            group = None
        if row in seen_in and (group is None or seen_in[row] is not group):
            seen_in[row] = None
            continue
        if group is None:
            group = JoinedWrites(write.schema, [], joined=joined)
            groups.append(group)
            if joined:
                filling[model] = group
        group.writes.append(write.suspended)
        seen_in[row] = group
    return groups


def _withdraw(writes: Iterable[_Write], error: MintkeyError | None = None) -> None:
    """Cancel pending writes."""
    error = error or MintkeyError("not sent: an exception left the block of the pipeline")
    for write in list(writes):
        write.suspended.withdraw(error)


def _outcome(writes: list[_Write]) -> int:
    failed = failures(write.suspended for write in writes)
    written = len(writes) - len(failed)
    if failed:
        models = {write.schema.model for write in writes}
        raise batch_incomplete(
            "a pipeline",
            "write",
            written,
            failed,
            stopped=next((error for _, error in failed if isinstance(error, STORE_FAILURES)), None),
            model=models.pop() if len(models) == 1 else None,
        )
    return written
