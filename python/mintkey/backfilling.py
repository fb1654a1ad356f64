"""Backfill: methods of a model that write the defaults of attributes into the rows that lack them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from mintkey.attributes.containers import SetAttribute
from mintkey.errors import (
    BatchIncomplete,
    ConditionFailed,
    InvalidCursor,
    ItemGone,
    UniqueViolation,
    batch_incomplete,
    nearest,
    shortened,
)
from mintkey.methods.tables import TableMixin
from mintkey.monitoring import check_callback
from mintkey.operations import arguments, batches, updates
from mintkey.operations.suspended import CHUNK
from mintkey.results.cursors import Cursors
from mintkey.results.page_cursors import AT_ONCE
from mintkey.stores import store_of

if TYPE_CHECKING:
    from mintkey import _core
    from mintkey.attributes.base import Attribute
    from mintkey.definitions.schema import Schema
    from mintkey.queries import Result
    from mintkey.stores import Operation

__all__ = ["BackfillMixin", "BackfillProgress"]

#: The position of a segment that has not started, and of one that is finished. Cursors are longer.
_BEGIN, _END = "0", "1"


class BackfillProgress(NamedTuple):
    """How far a backfill has come.

    Attributes:
        seen: the number of rows that were read.
        changed: the number of rows that were written.
        after: the position from which `backfill(after=…)` continues; None at the end. No row before it lacks a value.
    """

    seen: int
    changed: int
    after: str | None


class BackfillMixin(TableMixin):
    """The backfill of a model."""

    if TYPE_CHECKING:

        @classmethod
        def scan(cls, *, attributes: Iterable[str] | None = None, segments: int = 1) -> Result[Any]: ...

    @classmethod
    def backfill(
        cls,
        *names: str,
        on_progress: Callable[[BackfillProgress], object] | None = None,
        after: str | None = None,
        segments: int = 1,
    ) -> int:
        """Write the defaults of attributes into the stored items that lack them; return the number of changed items.

        Each item is changed by itself, if it still lacks a value at that moment, so a value that another program writes
        meanwhile is kept. After an interruption, call it again: with the last `after` of the progress it continues from
        there, and without it it reads all items again. A version counts the write, and `on_update` values are
        generated. No hooks run.

        Args:
            names: the attributes; without any, all with a plain default. A named one may have a strategy: each item
                gets a value of its own.
            on_progress: a plain function, called after each page of items with a `BackfillProgress`.
            after: the `after` of an earlier `BackfillProgress` for the same attributes.
            segments: the number of parts of the table that are read concurrently; `after` keeps its own number.

        Raises:
            TypeError: a name is not an attribute with a default, or is a key.
            InvalidCursor: `after` is damaged, or belongs to a backfill of other attributes.
            BatchIncomplete: some items failed; `failed` lists them with their exceptions.
        """
        fill = _Backfill(cls, names, on_progress, after, segments)
        return store_of(cls.__mintkey_schema__).run(fill.run())

    @classmethod
    async def abackfill(
        cls,
        *names: str,
        on_progress: Callable[[BackfillProgress], object] | None = None,
        after: str | None = None,
        segments: int = 1,
    ) -> int:
        """Async version of `backfill()`."""
        fill = _Backfill(cls, names, on_progress, after, segments)
        return await store_of(cls.__mintkey_schema__).arun(fill.run(awaiting=True))


class _Backfill:
    """One backfill, which reads the segments of a table page by page."""

    def __init__(
        self,
        model: type[BackfillMixin],
        names: tuple[str, ...],
        on_progress: Callable[[BackfillProgress], object] | None,
        after: str | None,
        segments: int,
    ) -> None:
        self._schema = schema = model.__mintkey_schema__
        self._model = model
        if on_progress is not None:
            check_callback(on_progress, f"{schema.model}: on_progress= takes a plain function of a BackfillProgress")
        self._on_progress = on_progress
        self._attributes = _attributes(schema, names)
        model.scan(segments=segments)  # checks the number
        self._positions = [_BEGIN] * segments
        if after is not None:
            self._set_after(after, segments)
        # The positions that are reported: nothing before them lacks a value.
        self._reached = [*self._positions]
        read = (*schema.given_keys, *(one.name for one in self._attributes))
        self._rows = model.scan(attributes=read, segments=len(self._positions))
        self._keys = model.scan(attributes=schema.given_keys)
        self._seen = self._changed = 0
        self._failed: list[tuple[Any, BaseException]] = []

    def run(self, *, awaiting: bool = False) -> Operation[int]:
        """Read the rows, and write those that lack a value; return the number of changed rows."""
        while self._attributes and (segments := [n for n, at in enumerate(self._positions) if at != _END][:AT_ONCE]):
            pages: list[_core.Page | BaseException] = yield [self._request(segment) for segment in segments]
            for segment, page in zip(segments, pages, strict=True):
                if isinstance(page, BaseException):
                    raise page
                yield from self._fill(page.items, awaiting=awaiting)
                if not self._failed:
                    self._reached[segment] = self._position(segment, page.next)
                self._positions[segment] = self._position(segment, page.next)
            if self._on_progress is not None:
                self._on_progress(BackfillProgress(self._seen, self._changed, self._after()))
        if self._failed:
            raise self._incomplete()
        return self._changed

    def _incomplete(self, stopped: BaseException | None = None) -> BatchIncomplete:
        model = self._schema.model
        return batch_incomplete(model, "item", self._changed, self._failed, stopped=stopped, model=model)

    def _request(self, segment: int) -> _core.Request:
        """Return the request for the next page of a segment."""
        at = self._positions[segment]
        after = None if at == _BEGIN else self._cursors(segment).decode(at)[1]
        return self._rows._request(CHUNK, after, segment=segment if len(self._positions) > 1 else None)

    def _fill(self, items: list[_core.Item], *, awaiting: bool) -> Operation[None]:
        """Write those of the rows that lack a value."""
        matches = self._rows._page_filter().matches
        own = [item for item in items if matches is None or matches(item)]
        stored = [attribute.stored_name for attribute in self._attributes]
        lacking = [item for item in own if any(item.get(name) is None for name in stored)]
        self._seen += len(own)
        try:
            rows = [self._keys._make_instance(item) for item in lacking]
            yield from batches.write(self._schema, rows, self._fill_row, None, awaiting=awaiting)
        except BatchIncomplete as error:
            self._failed += error.failed
            if error.stopped:
                raise self._incomplete(error.__cause__) from error.__cause__

    def _fill_row(self, row: Any) -> Operation[None]:
        """Write a row, if it still lacks a value."""
        schema = self._schema
        key, known = arguments.key(schema, {name: getattr(row, name) for name in schema.given_keys})
        defaults = [(one, _default(one)) for one in self._attributes]
        filled = [(one, value) for one, value in defaults if value is not None]
        if not filled:
            return
        changes = arguments.changes(
            schema, tuple(one.set_if_absent(value) for one, value in filled), {}, self._model.backfill
        )
        absent = functools.reduce(operator.or_, (one.does_not_exist() for one, _ in filled))
        try:
            # The row may be of a subclass.
            yield from updates.update_by_key(
                row.__mintkey_schema__, key, known, changes, condition=absent, is_checked=True
            )
        except UniqueViolation:
            raise
        except (ItemGone, ConditionFailed):
            return  # since it was read, it was deleted, or got the values
        self._changed += 1

    def _cursors(self, segment: int) -> Cursors:
        names = [attribute.stored_name for attribute in self._attributes]
        text = f"{self._schema.table} backfill {names!r} {segment} of {len(self._positions)}"
        return Cursors(self._schema.model, text, None)

    def _position(self, segment: int, after: bytes | None) -> str:
        return _END if after is None else self._cursors(segment).encode(None, after)

    def _after(self) -> str | None:
        """Return the position from which another backfill continues: before the first row that failed."""
        return None if all(at == _END for at in self._reached) else ".".join(self._reached)

    def _set_after(self, after: str, segments: int) -> None:
        """Begin at the position of an earlier backfill."""
        positions = after.split(".") if isinstance(after, str) else [""]
        self._positions = positions
        try:
            for segment, at in enumerate(positions):
                if at not in (_BEGIN, _END):
                    self._cursors(segment).decode(at)
        except InvalidCursor as error:
            raise InvalidCursor(
                f"{self._schema.model}: after= is damaged, or belongs to a backfill of another table or other "
                "attributes: pass the `after` of a BackfillProgress, with the same attributes, or leave it out",
                model=self._schema.model,
            ) from error
        if segments not in (1, len(positions)):
            raise TypeError(
                f"{self._schema.model}: after= belongs to a backfill with segments={len(positions)}: "
                "leave segments= out"
            )


def _attributes(schema: Schema, names: tuple[str, ...]) -> list[Attribute[Any]]:
    others = {*schema.keys, *schema.given_keys, schema.version}
    if not names:
        attributes = [one for name, one in schema.attributes.items() if one.default is not None and name not in others]
        return [one for one in attributes if not _is_empty(one)]
    known = [
        name
        for name, one in schema.attributes.items()
        if (one.default is not None or name in schema.minted_names) and name not in others
    ]
    for name in names:
        if name not in known:
            hint = "" if name in list(schema.attributes) else nearest(name, schema.attributes)
            raise TypeError(
                f"{schema.model}.backfill() takes the names of attributes that have a default and are not keys, "
                f"not {shortened(name)}{hint}; these are: {', '.join(known) or 'none'}"
            )
    return [one for one in map(schema.attributes.__getitem__, names) if not _is_empty(one)]


def _is_empty(attribute: Attribute[Any]) -> bool:
    """Return whether the default is an empty set, which is not stored."""
    form = getattr(attribute, "_form", attribute)
    return isinstance(form, SetAttribute) and not _default(attribute)


def _default(attribute: Attribute[Any]) -> Any:
    """Return the default for one item."""
    return attribute.initial() if attribute.default is None else attribute.new_default()
