"""Writes of a result: methods that change or delete all its rows.

The rows are read first. Then each is written by itself, under the condition that it still matches the filter.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mintkey import _core
from mintkey.conditions import Action, Condition
from mintkey.errors import BatchIncomplete, ConditionFailed, ItemGone, UniqueViolation
from mintkey.lookups import Test
from mintkey.operations import arguments, batches, updates
from mintkey.results.chains import ChainMixin
from mintkey.stores import store_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from typing_extensions import Self

    from mintkey.definitions.schema import Schema
    from mintkey.stores import Operation

M = TypeVar("M")

#: Writes one row: takes an instance of it, its key, and the condition.
_Write: TypeAlias = "Callable[[Any, _core.Key, Condition | None], Operation[Any]]"


class RowWriteMixin(ChainMixin[M]):
    """The part of a result that writes its rows."""

    if TYPE_CHECKING:
        _shape: Callable[[Any], Any] | None
        _all_items: list[M] | None

        def __iter__(self) -> Iterator[M]: ...
        def __aiter__(self) -> AsyncIterator[M]: ...
        def _unhooked(self, attributes: Iterable[Any] | None) -> Self: ...

    def update(self, *actions: Action[M], **values: Any) -> int:
        """Change all rows of this result, and return their number: `Order.query.filter(n__gt=5).update(status="big")`.

        Not atomic as a whole: each row is changed by itself, if it still matches the filter at that moment. No hooks
        run; a version is incremented without a check. With `on_unreadable="skip"` or a function, rows that cannot be
        read are left as they are.

        Args:
            actions: changes that the store computes, such as `Order.tags.append(["x"])`.
            values: attributes to set; None removes an attribute.

        Raises:
            TypeError: the result has a limit, is a slice, or consists of `values()`.
            BatchIncomplete: some rows could not be changed; `failed` lists them with their exceptions.
        """
        rows, update = self._rows("update"), self._updater(actions, values)
        # A changed row may move forward in an index, and would be read again.
        source = rows if self._plan.index is None else list(rows._instances())
        return store_of(self._schema).run(self._writing(source, update))

    async def aupdate(self, *actions: Action[M], **values: Any) -> int:
        """Async version of `update()`."""
        rows, update = self._rows("update"), self._updater(actions, values)
        source = rows if self._plan.index is None else [row async for row in rows._ainstances()]
        return await store_of(self._schema).arun(self._writing(source, update, awaiting=True))

    def delete(self) -> int:
        """Delete all rows of this result, and return their number.

        Not atomic as a whole: each row is deleted by itself, if it still matches the filter at that moment. No hooks
        run, and no version is checked: `Model.batch_delete(result)` runs hooks and checks versions. With
        `on_unreadable="skip"` or a function, rows that cannot be read are left as they are.

        Raises:
            TypeError: the result has a limit, is a slice, or consists of `values()`.
            BatchIncomplete: some rows could not be deleted; `failed` lists them with their exceptions.
        """
        return store_of(self._schema).run(self._writing(self._rows("delete"), self._delete_row))

    async def adelete(self) -> int:
        """Async version of `delete()`."""
        return await store_of(self._schema).arun(self._writing(self._rows("delete"), self._delete_row, awaiting=True))

    def _rows(self, call: str) -> Self:
        """Return a result of the rows to write, with the attributes that `_condition` needs."""
        self._refuse_limited(call)
        if self._shape is not None:
            raise TypeError(f"{self._schema.model}: {call}() is not possible on values(): call it on the rows")
        # Items that were kept may change now.
        self._all_items = None
        tested = [root.name for test in self._client_tests() for root in test.roots()]
        if self._options.on_unreadable == "raise":
            # Only these are read, so a row with other values that cannot be read is written, too.
            return self._unhooked(tested)
        selected = self._options.attributes
        return self._unhooked(None if selected is None else (*selected, *tested))

    def _updater(self, actions: tuple[Action, ...], values: dict[str, Any]) -> _Write:
        changes = arguments.changes(self._schema, actions, values)
        updates.check_values(self._schema, changes)

        def update(row: Any, key: _core.Key, condition: Condition | None) -> Operation[Any]:
            # The row may be of a subclass.
            schema: Schema = row.__mintkey_schema__
            known = {name: getattr(row, name) for name in schema.given_keys}
            return updates.update_by_key(schema, key, known, changes, condition=condition, is_checked=True)

        return update

    def _delete_row(self, _: Any, key: _core.Key, condition: Condition | None) -> Operation[None]:
        # Another writer may have deleted the row, which is not counted then.
        exists = self._schema.attributes[self._schema.keys[0]].exists()
        yield self._schema.codec.delete(
            key, version=None, condition=exists if condition is None else exists & condition
        )

    def _writing(
        self, rows: Iterable[Any] | AsyncIterable[Any], write: _Write, *, awaiting: bool = False
    ) -> Operation[int]:
        """Write the rows one by one; return the number of those that still matched."""
        written = 0

        def writing(row: Any) -> Operation[None]:
            nonlocal written
            # Other rows are written meanwhile, so the number is read afterwards.
            is_written = yield from self._write_row(row, write)
            written += is_written

        try:
            yield from batches.write(self._schema, rows, writing, None, awaiting=awaiting)
        except BatchIncomplete as error:
            error.written = written
            raise
        return written

    def _write_row(self, row: Any, write: _Write) -> Operation[bool]:
        """Write a row if it still matches; return whether it did."""
        stored = row._state.loaded
        key = self._schema.codec.key_of(stored)
        for tries_left in reversed(range(updates.MAX_TRIES)):
            try:
                yield from write(row, key, self._condition(stored))
            except ItemGone:
                return False
            except UniqueViolation:
                raise
            except ConditionFailed as error:
                stored = error._stored
                if stored is None or not all(test.matches(stored) for test in self._plan.volatile):
                    return False
                # It still matches, with other values than those that the client has evaluated.
                if not tries_left:
                    raise
            else:
                return True
        return False

    def _client_tests(self) -> list[Test]:
        """Return the tests that not every store can evaluate as the condition of a write."""
        return [test for test in self._plan.volatile if not isinstance(test, Condition) or test.is_local]

    def _condition(self, stored: _core.Item) -> Condition | None:
        """Return the condition of a write: the filter is true, and what the client evaluated has not changed."""
        client = self._client_tests()
        conditions: list[Condition] = [
            test for test in self._plan.volatile if isinstance(test, Condition) and not test.is_local
        ]
        roots = {root.name: root for test in client for root in test.roots()}
        conditions += (root._unchanged_since(stored) for root in roots.values())
        if len(conditions) <= 1:
            return conditions[0] if conditions else None
        return Condition.every(conditions)
