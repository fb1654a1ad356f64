"""Batches: many operations of one kind, sent a chunk at a time.

A batch runs the very operation that `save()` or `delete()` runs, once for each item, and joins the writes that the
operations of a chunk ask for into one request. So minting, hooks, guards and versions mean the same in a batch, and
an operation that asks again (a short key that collided) is simply in the next request.

A chunk of new instances in whose save nothing but the values has a say is prepared in one step, as `save()` prepares
one such instance. An operation is begun only for those with which something goes wrong.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mintkey import _core, arguments, operations
from mintkey.errors import BatchIncomplete, MintkeyError, StoreTimeout, StoreUnavailable, cause, shortened
from mintkey.stores import Begin

if TYPE_CHECKING:
    from mintkey.schema import Schema
    from mintkey.stores import Operation

__all__ = ["Progress", "sized"]

M = TypeVar("M")

#: Called after each chunk, on the caller's thread, with the number of items done and of all, if that is known.
Progress: TypeAlias = "Callable[[int, int | None], object]"

#: Makes the joined request of instances in one step, unless one of them needs a save of its own, such as one that is
#: among the others, which are on their way. The last list takes what it made: the request, each instance's item or what
#: went wrong, what was minted for each, and an interrupt that came meanwhile.
Prepare: TypeAlias = "Callable[[list[Any], list[Any], list[Any]], object]"

#: How many items one request joins.
CHUNK = 500


def sized(items: object) -> int | None:
    """How many items there are, if they can tell without being read: a query cannot."""
    try:
        return len(items) if isinstance(items, Collection) else None
    except (TypeError, ValueError, OverflowError):  # what it told is no length
        return None


class _Running:
    """The operation on one item, as far as it has come."""

    __slots__ = ("ended", "error", "item", "operation", "request")

    def __init__(self, item: Any, operation: Generator[Any, Any, Any]) -> None:
        self.item = item
        self.operation = operation
        self.request: _core.Request | None = None
        self.error: BaseException | None = None
        self.ended = False

    def failure(self, stopped: BaseException | None) -> BaseException | None:
        """Why it did not come to its end, which may be that all was `stopped` before it began."""
        return None if self.ended else self.error or stopped

    def begin(self, told: BaseException | None = None) -> Operation[None]:
        """Advance to the first request."""
        return self.go_on(lambda: next(self.operation), told)

    def go_on(self, step: Callable[[], Any], told: BaseException | None = None) -> Operation[None]:
        """Advance to the next request or the end; what the operation awaits is passed on.

        `told` is a failure of the whole request that the operation hears of, which may be an interrupt.
        """
        while True:
            try:
                asked = step()
            except StopIteration:
                self.request, self.ended = None, True
                return
            except BaseException as error:
                self.request, self.error = None, error
                if error is told or isinstance(error, Exception):
                    # A batch goes on after a failed item, whatever its hooks raise.
                    return
                raise
            if type(asked) is _core.Request:
                self.request = asked
                return
            try:
                answer = yield asked
            except BaseException as error:  # noqa: BLE001 - the hook's own failure, which its operation passes on
                failure = error
                step = lambda: self.operation.throw(failure)  # noqa: E731, B023 - used at once
            else:
                step = lambda: self.operation.send(answer)  # noqa: E731, B023 - used at once


def _run(schema: Schema, running: list[_Running]) -> Operation[None]:
    """Run operations to their ends, their writes joined."""
    for one in running:
        yield from one.begin()
    yield from _finish(schema, running)


def _finish(schema: Schema, running: list[_Running]) -> Operation[None]:
    """Run operations that have asked for something to their ends."""
    while waiting := [one for one in running if one.request is not None]:
        joined = schema.codec.batch_write([one.request for one in waiting if one.request is not None])
        try:
            outcomes = yield joined
        except BaseException as error:
            failure = error
            for one in waiting:
                # Each learns of it, and remembers what it sent; an interrupt itself goes on from here.
                yield from one.go_on(lambda: one.operation.throw(failure), failure)  # noqa: B023 - used at once
            raise
        for one, outcome in zip(waiting, outcomes, strict=True):
            if outcome is None:
                yield from one.go_on(lambda: one.operation.send(None))  # noqa: B023 - used at once
            else:
                yield from one.go_on(lambda: one.operation.throw(outcome))  # noqa: B023 - used at once


class _Chunk:
    """Items that are written together, as far as they have come.

    Attributes:
        prepared: what was prepared in one step, see `Prepare`; empty when each needs an operation of its own.
        begun: the joined request, if it can be on its way while the next chunk is prepared.
        sent: whether the joined request may have been sent.
        outcomes: what the store said of each write of the joined request.
        running: the operations that were begun.
    """

    __slots__ = ("begun", "items", "outcomes", "prepared", "running", "sent")

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.prepared: list[Any] = []
        self.begun: _core.Begun | None = None
        self.sent = False
        self.outcomes: list[BaseException | None] | None = None
        self.running: list[_Running] = []


def _put_plainly(schema: Schema, chunk: _Chunk) -> Operation[None]:
    """Save a chunk of new instances that were prepared in one step."""
    request, items, names, failure = chunk.prepared
    trace = None
    outcomes: Iterator[BaseException | None] = iter(())
    if failure is not None:
        # An interrupt: nothing has been sent.
        items = [failure] * len(items)
    elif request is not None:
        try:
            chunk.sent = True
            chunk.outcomes = told = yield request if chunk.begun is None else chunk.begun
            outcomes = iter(told)
        except BaseException as error:  # noqa: BLE001 - raised again when all have heard of it
            failure, trace = error, error.__traceback__
            outcomes = itertools.repeat(error)
    for instance, item, minted in zip(chunk.items, items, names, strict=False):
        if type(item) is _core.Item:
            met = next(outcomes)
            if met is None:
                values = instance.__dict__
                values["_stored"] = item
                if "_state" in values:
                    operations.settle_late(values, item)
                continue
        else:
            met = None
        one = _Running(instance, operations.failed_plain_save(schema, instance, minted, item, met))
        chunk.running.append(one)
        yield from one.begin(failure)
    if failure is not None:
        # Each that heard of it has left a trace.
        raise failure.with_traceback(trace)
    yield from _finish(schema, chunk.running)


def _leave(schema: Schema, chunk: _Chunk | None) -> None:
    """Note in the instances of a chunk that nobody goes on with what is known of them, where it is not noted yet."""
    if chunk is None or not chunk.prepared:
        return
    _, items, names, _ = chunk.prepared
    outcomes = iter(()) if chunk.outcomes is None else iter(chunk.outcomes)
    for instance, item, minted in zip(chunk.items, items, names, strict=False):
        written = type(item) is _core.Item
        met = next(outcomes, item) if written else item
        if not operations.is_untouched(instance.__dict__):
            continue
        if met is None:
            instance.__dict__["_stored"] = item
        else:
            sent = item if written and chunk.sent and chunk.outcomes is None else None
            operations.note_minted(schema, instance, minted, sent)


class _Chunks:
    """The chunks of a batch, in order; the next one is made while one is on its way, where that gains something."""

    def __init__(self, schema: Schema, source: Iterator[Any] | AsyncIterator[Any], prepare: Prepare | None) -> None:
        self.source = source
        self.prepare = prepare
        # What the source assigns to an item that is on its way would have to be noted.
        self.overlap = not schema.on_update
        self.now: _Chunk | None = None
        self.ahead: _Chunk | None = None
        #: Why there is no next one, when the source failed, or an interrupt came, while one was on its way.
        self.failure: BaseException | None = None

    def next(self) -> Operation[_Chunk | None]:
        """The next chunk, on its way already if it can be; None at the end."""
        if self.failure is not None:
            raise self.failure
        self.now, self.ahead = self.ahead, None
        if self.now is None:
            items = yield from _next_chunk(self.source)
            if not items:
                return None
            self.now = _Chunk(items)
        chunk = self.now
        if not chunk.prepared:
            yield from self._prepare(chunk, [])
        if chunk.begun is not None:
            try:
                chunk.sent = True
                chunk.begun.send()
                items = yield from _next_chunk(self.source)
                if items:
                    self.ahead = _Chunk(items)
                    yield from self._prepare(self.ahead, chunk.items)
            except BaseException as error:  # noqa: BLE001 - raised again when this chunk is done
                self.failure = error
            else:
                if self.ahead is not None and self.ahead.prepared:
                    self.failure = self.ahead.prepared[-1]
            if self.failure is not None and not isinstance(self.failure, Exception):
                chunk.begun.hurry()
        return chunk

    def _prepare(self, chunk: _Chunk, on_its_way: list[Any]) -> Operation[None]:
        if self.prepare is None:
            return
        # What is on its way is not known to be stored yet, and would be taken for new.
        self.prepare(chunk.items, on_its_way, chunk.prepared)
        # One that is not full is the last: nothing is left to be made meanwhile.
        if self.overlap and len(chunk.items) == CHUNK and chunk.prepared and chunk.prepared[0] is not None:
            chunk.begun = yield Begin(chunk.prepared[0])


def iterator(schema: Schema, items: Iterable[M] | AsyncIterable[M]) -> Iterator[M]:
    """What a batch reads; one key is refused, of which the characters or the names would be taken for keys."""
    if isinstance(items, (str, bytes, Mapping)):
        way_out = f": for one key write [{shortened(items)}]"
    elif isinstance(items, Iterable):
        return iter(items)
    else:
        way_out = ": await the twin that begins with `a`" if isinstance(items, AsyncIterable) else ""
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
    """Run an operation on each item; give the number written, or raise `BatchIncomplete` at the end.

    `prepare` makes the writes of a whole chunk in one step, if it can. `awaiting` says that what iterates in both ways,
    such as a query, shall be awaited.
    """
    if on_progress is not None and (not callable(on_progress) or inspect.iscoroutinefunction(on_progress)):
        raise TypeError(
            f"{schema.model}: on_progress= takes a plain function, called with the number of items done and of all, "
            f"not {shortened(on_progress)}"
        )
    source = items.__aiter__() if awaiting and isinstance(items, AsyncIterable) else iterator(schema, items)
    chunks = _Chunks(schema, source, prepare)
    try:
        return (yield from _write(schema, chunks, sized(items), operation, on_progress))
    except BaseException as error:
        _leave(schema, chunks.now)
        _leave(schema, chunks.ahead)
        failure = chunks.failure
        if failure is not None and failure is not error:
            # It is not lost because the store failed as well.
            if not isinstance(failure, Exception):
                raise failure from None
            told = error.__cause__ or error
            told.__context__ = told.__context__ or failure
        raise


def _write(
    schema: Schema,
    chunks: _Chunks,
    total: int | None,
    operation: Callable[[M], Generator[Any, Any, Any]],
    on_progress: Progress | None,
) -> Operation[int]:
    done = written = 0
    failed: list[tuple[Any, BaseException]] = []
    while (chunk := (yield from chunks.next())) is not None:
        running = chunk.running
        stopped: MintkeyError | None = None
        try:
            if chunk.prepared:
                yield from _put_plainly(schema, chunk)
            else:
                running += (_Running(item, operation(item)) for item in chunk.items)
                for wave in _waves(running):
                    yield from _run(schema, wave)
        except (StoreUnavailable, StoreTimeout) as error:
            stopped = error
        failures = [(one.item, why) for one in running if (why := one.failure(stopped)) is not None]
        failed.extend(failures)
        written += len(chunk.items) - len(failures)
        done += len(chunk.items)
        if stopped is not None:
            if chunks.ahead is not None:
                # They are in the iterable no more.
                failed.extend((item, _not_sent(schema, stopped)) for item in chunks.ahead.items)
            raise _incomplete(schema, written, failed, stopped=True) from stopped
        if on_progress is not None:
            on_progress(done, total)
    if failed:
        raise _incomplete(schema, written, failed, stopped=False) from failed[0][1]
    return written


def _not_sent(schema: Schema, stopped: MintkeyError) -> StoreUnavailable:
    return StoreUnavailable(
        f"not sent, because the store failed with the items before: {cause(stopped)}",
        model=schema.model,
        store=stopped.store,
    )


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

    def saving(item: Any) -> Operation[None]:
        if type(item) is not model:
            return _refuse_stranger(schema, item)
        return operations.save(schema, item, skip_hooks=skip_hooks)

    plain = schema.unhooked_save if skip_hooks else schema.plain_save
    if awaiting and schema.on_update:
        # Something has to note what other tasks assign before the answer comes.
        plain = None
    prepare = None if plain is None else functools.partial(plain.many, model)
    return write(schema, items, saving, on_progress, prepare=prepare, awaiting=awaiting)


def _refuse_stranger(schema: Schema, item: object) -> Operation[None]:
    """What is run for an item that is no instance of the model: it fails as others do, and stops none of them."""
    yield from ()
    raise TypeError(f"{schema.model}.batch_save() saves {schema.model}s, not {shortened(item)}")


def _waves(running: list[_Running]) -> Iterator[list[_Running]]:
    """The operations of a chunk, those on an instance that comes again after those on its first coming."""
    while running:
        seen: set[int] = set()
        now: list[_Running] = []
        again: list[_Running] = []
        for one in running:
            (again if id(one.item) in seen else now).append(one)
            seen.add(id(one.item))
        yield now
        running = again


def _next_chunk(source: Iterator[M] | AsyncIterator[M]) -> Operation[list[M]]:
    if not isinstance(source, AsyncIterator):
        return list(itertools.islice(source, CHUNK))
    chunk: list[M] = []
    while len(chunk) < CHUNK:
        try:
            chunk.append((yield source.__anext__()))
        except StopAsyncIteration:
            break
    return chunk


def _incomplete(
    schema: Schema, written: int, failed: list[tuple[Any, BaseException]], *, stopped: bool
) -> BatchIncomplete:
    rest = "; the store failed, so what came after was not tried" if stopped else ""
    unknown = sum(getattr(why, "outcome", None) == "unknown" for _, why in failed)
    fate = f"failed, and whether {unknown} of them were written is unknown" if unknown else "were not written"
    return BatchIncomplete(
        f"{schema.model}: {len(failed)} of {written + len(failed)} items {fate} "
        f"(the first: {cause(failed[0][1]) if failed else 'none'}){rest}. See `failed` for each item and its reason",
        written=written,
        failed=tuple(failed),
        stopped=stopped,
        model=schema.model,
    )


def read(schema: Schema, keys: Iterable[arguments.Key], *, consistent: bool) -> Operation[list[_core.Item | None]]:
    """Read a chunk of keys: a stored item or None for each, in order."""
    named = [arguments.key(schema, arguments.named_key(schema, key))[0] for key in keys]
    if type(consistent) is not bool:
        raise arguments.not_a_flag(schema, "consistent", consistent)
    stored: list[_core.Item | None] = yield schema.codec.batch_get(named, consistent=consistent)
    return stored


async def chunks(schema: Schema, items: Iterable[M] | AsyncIterable[M]) -> AsyncIterator[list[M]]:
    """The items of an iterable of either world, a chunk at a time."""
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
