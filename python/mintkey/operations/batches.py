"""Batches: many operations of one kind, sent in chunks.

A batch runs the operation of `save()` or `delete()` for each item, and joins the writes of a chunk into one request. So
generated values, hooks, checks and versions work as in single calls. An operation that needs another request (after a
collision of a short key) takes part in the next joined request.

A chunk of new instances without hooks and field checks is prepared in one step by the compiled core. An operation is
started only for the items that fail.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mintkey import _core
from mintkey.errors import StoreError, batch_incomplete, check_flags, shortened
from mintkey.instance_state import is_untouched
from mintkey.monitoring import check_callback
from mintkey.operations import arguments, saves
from mintkey.operations.suspended import CHUNK, SuspendedWrite, failures, finish, store_failure
from mintkey.stores import store_of

if TYPE_CHECKING:
    from mintkey.definitions.schema import Schema
    from mintkey.instance_state import Selected
    from mintkey.stores import Operation

M = TypeVar("M")

#: The seconds that a chunk of more than `CHUNK` items may take: fewer in an event loop, which it blocks for a part of
#: that time.
_SECONDS = 0.1
_AWAITED_SECONDS = 0.02

#: Called after each chunk, on the caller's thread, with the number of processed items and the total (None if unknown).
Progress: TypeAlias = "Callable[[int, int | None], object]"

#: Prepares the joined request of instances in one step, unless one of them needs its own operation. It fills the second
#: list with the request, the item or exception of each instance, the generated values of each, and an interrupt that
#: arrived meanwhile.
Prepare: TypeAlias = "Callable[[list[Any], list[Any]], object]"


def sized(items: object) -> int | None:
    """Return the number of items if it is known without reading them. A query does not know it."""
    try:
        return len(items) if isinstance(items, Collection) else None
    except (TypeError, ValueError, OverflowError):  # `len()` returned something that is not a length
        return None


class _Size:
    """The number of items of the next chunk.

    A store that commits is faster with large chunks, as long as a chunk does not take long: other writers wait for it.
    """

    __slots__ = ("_began", "_largest", "_seconds", "items")

    def __init__(self, largest: int, seconds: float) -> None:
        self.items = CHUNK
        self._largest = largest
        self._seconds = seconds
        self._began = time.perf_counter()

    def adapt(self) -> None:
        """Set the size by the time that the last chunk took, from its first item on."""
        now = time.perf_counter()
        fitting = self.items * self._seconds / max(now - self._began, 1e-6)
        self._began = now
        self.items = max(int(min(fitting, 2 * self.items, self._largest)) // CHUNK, 1) * CHUNK


class _Chunk:
    """Items that are written together, and the state of their writes.

    Attributes:
        prepared: the result of `Prepare`; empty if each item needs its own operation.
        sent: whether the joined request may have been sent.
        outcomes: the store's reply to each write of the joined request.
        suspended: the operations that were started.
    """

    __slots__ = ("items", "outcomes", "prepared", "sent", "suspended")

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.prepared: list[Any] = []
        self.sent = False
        self.outcomes: list[BaseException | None] | None = None
        self.suspended: list[SuspendedWrite] = []


def _save_prepared(schema: Schema, chunk: _Chunk) -> Operation[None]:
    """Save a chunk of instances that was prepared in one step."""
    request, items, names, failure = chunk.prepared
    trace = None
    outcomes: Iterator[BaseException | None] = iter(())
    if failure is not None:
        # An interrupt arrived before anything was sent.
        items = [failure] * len(items)
    elif request is not None:
        try:
            chunk.sent = True
            chunk.outcomes = replies = yield request
            outcomes = iter(replies)
        except BaseException as error:  # noqa: BLE001 - raised again after all operations have received it
            failure, trace = error, error.__traceback__
            outcomes = itertools.repeat(error)
    for instance, item, minted in zip(chunk.items, items, names, strict=False):
        if type(item) is _core.Item:
            outcome = next(outcomes)
            if outcome is None:
                saves.mark_stored(schema, instance, item)
                continue
        else:
            outcome = None
        write = SuspendedWrite(instance, saves.failed_save(schema, instance, minted, item, outcome))
        chunk.suspended.append(write)
        yield from write.begin(failure)
    if failure is not None:
        # Each operation that received it has extended its traceback.
        raise failure.with_traceback(trace)
    yield from finish(schema, chunk.suspended)


def _record_abandoned(schema: Schema, chunk: _Chunk | None) -> None:
    """Record in the instances of an abandoned chunk what is known of their writes."""
    if chunk is None or not chunk.prepared:
        return
    _, items, names, _ = chunk.prepared
    outcomes = iter(()) if chunk.outcomes is None else iter(chunk.outcomes)
    for instance, item, minted in zip(chunk.items, items, names, strict=False):
        written = type(item) is _core.Item
        outcome = next(outcomes, item) if written else item
        if not is_untouched(instance):
            continue
        if outcome is None:
            saves.mark_stored(schema, instance, item)
        else:
            is_unknown = chunk.outcomes is None or getattr(outcome, "outcome", None) == "unknown"
            sent = item if written and chunk.sent and is_unknown else None
            saves.record_generated_keys(schema, instance, minted, sent)


def iterator(schema: Schema, items: Iterable[M] | AsyncIterable[M]) -> Iterator[M]:
    """Return an iterator of the items. Text, bytes and dicts are refused: they are one key, not several."""
    if isinstance(items, (str, bytes, Mapping)):
        way_out = f": for one key pass [{shortened(items)}]"
    elif isinstance(items, Iterable):
        return iter(items)
    else:
        way_out = ": use the async version of the method" if isinstance(items, AsyncIterable) else ""
    raise TypeError(f"{schema.model}: a batch takes an iterable of items, not {shortened(items)}{way_out}")


def write(
    schema: Schema,
    items: Iterable[M] | AsyncIterable[M],
    operation: Callable[[M], Generator[Any, Any, Any]],
    on_progress: Progress | None,
    *,
    prepare: Prepare | None = None,
    awaiting: bool = False,
) -> Operation[int]:
    """Run an operation on each item; return the number of written items, or raise `BatchIncomplete` at the end.

    `prepare` prepares the writes of a chunk in one step if it can. `awaiting` selects `async for` for iterables that
    support both `for` and `async for`, such as a query.
    """
    if on_progress is not None:
        check_callback(on_progress, f"{schema.model}: on_progress= takes a plain function of (done, total)")
    source = items.__aiter__() if awaiting and isinstance(items, AsyncIterable) else iterator(schema, items)
    total = sized(items)
    done = written = 0
    failed: list[tuple[Any, BaseException]] = []
    store = store_of(schema)
    size = _Size(store.largest_batch, _AWAITED_SECONDS if awaiting else _SECONDS)
    chunk: _Chunk | None = None
    stopped: StoreError | None = None
    source_failure: list[BaseException] = []
    try:
        while stopped is None and not source_failure:
            chunk_items = yield from _next_chunk(source, size.items, source_failure)
            if not chunk_items:
                break
            chunk = _Chunk(chunk_items)
            try:
                yield from _write_chunk(schema, chunk, operation, prepare)
            except StoreError as error:
                stopped = error
            not_written = failures(chunk.suspended, stopped)
            stopped = stopped or store_failure(store, not_written)
            failed.extend(not_written)
            written += len(chunk_items) - len(not_written)
            before, done = done, done + len(chunk_items)
            if on_progress is not None and stopped is None:
                for processed in (*range(before + CHUNK, done, CHUNK), done):
                    on_progress(processed, total)
            size.adapt()
    except BaseException:
        _record_abandoned(schema, chunk)
        raise
    if source_failure and (stopped is None or not isinstance(source_failure[0], Exception)):
        raise source_failure.pop()
    if stopped is not None or failed:
        raise batch_incomplete(schema.model, "item", written, failed, stopped=stopped, model=schema.model)
    return written


def _write_chunk(
    schema: Schema,
    chunk: _Chunk,
    operation: Callable[[M], Generator[Any, Any, Any]],
    prepare: Prepare | None,
) -> Operation[None]:
    if prepare is not None:
        prepare(chunk.items, chunk.prepared)
    if chunk.prepared:
        yield from _save_prepared(schema, chunk)
        return
    chunk.suspended += (SuspendedWrite(item, operation(item)) for item in chunk.items)
    for wave in _waves(chunk.suspended):
        for write in wave:
            yield from write.begin()
        yield from finish(schema, wave)


def save(
    schema: Schema,
    model: type,
    items: Iterable[M] | AsyncIterable[M],
    on_progress: Progress | None,
    *,
    skip_hooks: bool,
    awaiting: bool = False,
) -> Operation[int]:
    """Save instances of a model."""
    check_flags(schema.model, skip_hooks=skip_hooks)

    def saving(item: Any) -> Operation[None]:
        if type(item) is not model:
            return _refuse_other_type(schema, item)
        return saves.save(schema, item, skip_hooks=skip_hooks)

    direct = schema.saves_unhooked_directly if skip_hooks else schema.saves_directly
    # The check of a field may use other instances of the chunk. Assignments that other tasks make before the reply
    # arrives must be recorded.
    direct = direct and not schema.checked and not (awaiting and schema.on_update)
    prepare = functools.partial(schema.new_save.many, model) if direct else None
    return write(schema, items, saving, on_progress, prepare=prepare, awaiting=awaiting)


def _refuse_other_type(schema: Schema, item: object) -> Operation[None]:
    """Fail as the operation of an item that is not an instance of the model."""
    yield from ()
    other = getattr(type(item), "__mintkey_schema__", None)
    way_out = "" if other is None else f": use {type(item).__name__}.batch_save(), or a pipeline for several classes"
    raise TypeError(f"{schema.model}.batch_save() saves items of {schema.model}, not {shortened(item)}{way_out}")


def _waves(writes: list[SuspendedWrite]) -> Iterator[list[SuspendedWrite]]:
    """Split the operations of a chunk, so that no group contains an instance twice."""
    while writes:
        seen: set[int] = set()
        now: list[SuspendedWrite] = []
        again: list[SuspendedWrite] = []
        for write in writes:
            (again if id(write.item) in seen else now).append(write)
            seen.add(id(write.item))
        yield now
        writes = again


def _next_chunk(source: Iterator[M] | AsyncIterator[M], size: int, failure: list[BaseException]) -> Operation[list[M]]:
    """Read a chunk.

    If the source fails after `CHUNK` items or more, return the items before in multiples of `CHUNK`, and add the
    exception to `failure`.
    """
    chunk: list[M] = []
    try:
        if not isinstance(source, AsyncIterator):
            chunk.extend(itertools.islice(source, size))
        while isinstance(source, AsyncIterator) and len(chunk) < size:
            chunk.append((yield source.__anext__()))
    except StopAsyncIteration:
        pass
    except BaseException as error:
        if len(chunk) < CHUNK or (isinstance(source, AsyncIterator) and not isinstance(error, Exception)):
            raise
        failure.append(error)
        del chunk[len(chunk) // CHUNK * CHUNK :]
    return chunk


def read(
    schema: Schema,
    keys: Iterable[arguments.Key],
    *,
    consistent: bool | None,
    attributes: tuple[Selected, ...] | None = None,
) -> Operation[list[_core.Item | None]]:
    """Read a chunk of keys; return the stored item or None for each, in order, with these attributes (None: all)."""
    named = [arguments.key(schema, arguments.named_key(schema, key))[0] for key in keys]
    consistent = arguments.consistency(schema, consistent)
    stored: list[_core.Item | None] = yield schema.codec.batch_get(
        named, consistent=consistent, attributes=None if attributes is None else list(attributes)
    )
    return stored


async def chunks(schema: Schema, items: Iterable[M] | AsyncIterable[M]) -> AsyncIterator[list[M]]:
    """Yield the items of an iterable or async iterable in chunks."""
    if not isinstance(items, AsyncIterable):
        source = iterator(schema, items)
        while chunk := list(itertools.islice(source, CHUNK)):
            yield chunk
        return
    chunk = []
    async for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
