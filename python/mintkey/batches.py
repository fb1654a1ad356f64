"""Batches: many operations of one kind, sent a chunk at a time.

A batch runs the very operation that `save()` or `delete()` runs, once for each item, and joins the writes that the
operations of a chunk ask for into one request. So minting, hooks, guards and versions mean the same in a batch, and
an operation that asks again (a short key that collided) is simply in the next request.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mintkey import _core, operations
from mintkey.errors import BatchIncomplete, MintkeyError, StoreTimeout, StoreUnavailable

if TYPE_CHECKING:
    from mintkey.schema import Schema
    from mintkey.stores import Operation

__all__ = ["Progress", "sized"]

M = TypeVar("M")

#: Called after each chunk, on the caller's thread, with the number of items done and of all, if that is known.
Progress: TypeAlias = "Callable[[int, int | None], object]"

#: How many items one request joins.
CHUNK = 500


def sized(items: object) -> int | None:
    """How many items there are, if they can tell without being read: a query cannot."""
    return len(items) if isinstance(items, Collection) else None


class _Running:
    """The operation on one item, as far as it has come."""

    __slots__ = ("error", "item", "operation", "request")

    def __init__(self, item: Any, operation: Generator[Any, Any, Any]) -> None:
        self.item = item
        self.operation = operation
        self.request: _core.Request | None = None
        self.error: BaseException | None = None

    def go_on(self, step: Callable[[], Any]) -> Operation[None]:
        """Advance to the next request or the end; what the operation awaits is passed on."""
        while True:
            try:
                asked = step()
            except StopIteration:
                self.request = None
                return
            except Exception as error:  # noqa: BLE001 - a batch goes on after a failed item, whatever its hooks raise
                self.request, self.error = None, error
                return
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


def _chunk(schema: Schema, running: list[_Running]) -> Operation[None]:
    """Run the operations of a chunk to their ends, their writes joined."""
    for one in running:
        yield from one.go_on(lambda: next(one.operation))  # noqa: B023 - used at once
    while waiting := [one for one in running if one.request is not None]:
        joined = schema.codec.batch_write([one.request for one in waiting if one.request is not None])
        try:
            outcomes = yield joined
        except BaseException as error:
            failure = error
            for one in waiting:
                # Each learns of it, and remembers what it sent; an interrupt itself goes on from here.
                yield from one.go_on(lambda: _thrown(one, failure))  # noqa: B023 - used at once
            raise
        for one, outcome in zip(waiting, outcomes, strict=True):
            if outcome is None:
                yield from one.go_on(lambda: one.operation.send(None))  # noqa: B023 - used at once
            else:
                yield from one.go_on(lambda: one.operation.throw(outcome))  # noqa: B023 - used at once


def _thrown(one: _Running, error: BaseException) -> Any:
    try:
        return one.operation.throw(error)
    except BaseException as raised:
        if raised is error:
            one.error = error
            raise StopIteration from None
        raise


def write(
    schema: Schema,
    items: Iterable[M] | AsyncIterable[M],
    operation: Callable[[M], Generator[Any, Any, Any]],
    on_progress: Progress | None,
    *,
    awaiting: bool = False,
) -> Operation[int]:
    """Run an operation on each item; give the number written, or raise `BatchIncomplete` at the end.

    `awaiting` says that what iterates in both ways, such as a query, shall be awaited.
    """
    total = sized(items)
    done = written = 0
    failed: list[tuple[Any, BaseException]] = []
    source: Iterator[M] | AsyncIterator[M]
    if awaiting and isinstance(items, AsyncIterable):
        source = items.__aiter__()
    elif isinstance(items, Iterable):
        source = iter(items)
    else:
        way_out = ": await the twin that begins with `a`" if isinstance(items, AsyncIterable) else ""
        raise TypeError(f"{schema.model}: a batch takes an iterable of items, not {items!r}{way_out}")
    while True:
        chunk = yield from _next_chunk(source)
        if not chunk:
            break
        running = [_Running(item, operation(item)) for item in chunk]
        stopped: MintkeyError | None = None
        try:
            for wave in _waves(running):
                yield from _chunk(schema, wave)
        except (StoreUnavailable, StoreTimeout) as error:
            stopped = error
        failures = [(one.item, one.error) for one in running if one.error is not None]
        failed.extend(failures)
        written += len(running) - len(failures)
        done += len(running)
        if stopped is not None:
            raise _incomplete(schema, written, failed, stopped=True) from stopped
        if on_progress is not None:
            on_progress(done, total)
    if failed:
        raise _incomplete(schema, written, failed, stopped=False) from failed[0][1]
    return written


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
    return BatchIncomplete(
        f"{schema.model}: {len(failed)} of {written + len(failed)} items were not written "
        f"(the first: {failed[0][1] if failed else 'none'}){rest}. See `failed` for each item and its reason",
        written=written,
        failed=tuple(failed),
        stopped=stopped,
        model=schema.model,
    )


def read(
    schema: Schema, keys: list[_core.Key], make: Callable[[_core.Item], M], *, consistent: bool
) -> Operation[list[M | None]]:
    """Read a chunk of keys: an instance or None for each, in order."""
    stored = yield schema.codec.batch_get(keys, consistent=consistent)
    found: list[M | None] = []
    for item in stored:
        if item is None:
            found.append(None)
            continue
        instance = make(item)
        yield from operations.run_hooks(schema, instance, "after_load")
        found.append(instance)
    return found


async def awaited(items: Iterable[M] | AsyncIterable[M]) -> AsyncIterator[M]:
    """The items of an iterable of either world."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
