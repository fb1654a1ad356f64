"""Transactions: writes of several items that are done all or not at all, and reads of several items at one moment.

A transaction runs the same operations as single writes. At the end of its block it runs each operation up to its
request, joins the requests into one, and passes each operation the reply to its own request.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from mintkey import _core
from mintkey.conditions import Action, Condition, not_a_condition
from mintkey.errors import (
    ConfigurationError,
    InvalidValue,
    MintkeyError,
    TransactionCancelled,
    cause,
    check_flags,
    shortened,
)
from mintkey.instance_state import State, moment, state_of
from mintkey.model import Model
from mintkey.operations import arguments, item_operations, saves, updates
from mintkey.operations.suspended import SuspendedWrite, resume_each
from mintkey.operations.writing import refuse_async_hooks, run_hooks
from mintkey.stores import store_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey.definitions.schema import Schema
    from mintkey.hooks import HookKind
    from mintkey.operations.arguments import Key
    from mintkey.stores import Operation, Store

__all__ = ["Transaction", "atransact_get", "transact_get", "transaction"]

M = TypeVar("M", bound=Model)
P = ParamSpec("P")

_SAVE_HOOKS: tuple[HookKind, HookKind] = ("before_save", "after_save")


class _OneStore:
    """The store of all models of a transaction.

    Attributes:
        store: the store, with the rate limits of all models; None before the first model.
    """

    __slots__ = ("_first", "store")

    def __init__(self) -> None:
        self.store: Store | None = None
        self._first = ""

    def add(self, schema: Schema) -> None:
        """Add a model; raise `ConfigurationError` if it is in another store than the models before it."""
        own = store_of(schema)
        if self.store is None:
            self.store, self._first = own, schema.model
        elif own._core is not self.store._core:
            raise ConfigurationError(
                f"all items of a transaction must be in one store: {self._first} is in {self.store.url} and "
                f"{schema.model} in {own.url}: use one transaction for each store",
                model=schema.model,
                store=own.url,
            )
        elif schema.config.rate_limit is not None:
            self.store = self.store.limited(schema.config.rate_limit)


class _Save(SuspendedWrite):
    """The save of an instance. If the core prepares it in one step, it gets an operation only when that fails."""

    __slots__ = ("_minted", "_options", "_prepared", "_schema", "_sent")

    def __init__(
        self,
        schema: Schema,
        item: Model,
        condition: Condition | None,
        replace: bool,
        skip_hooks: bool,
        insert: bool,
    ) -> None:
        super().__init__(item)
        self._schema = schema
        self._options = condition, replace, skip_hooks, insert
        # The item that the core has prepared, until its reply.
        self._prepared: _core.Item | None = None

    # Everything happens at the commit, because the instance may be changed or saved until then.
    def begin(self, shared: BaseException | None = None) -> Iterable[Any]:
        schema, instance = self._schema, self.item
        condition, replace, skip_hooks, insert = self._options
        direct = schema.saves_unhooked_directly if skip_hooks else schema.saves_directly
        state: State | None = instance._kept
        is_new = instance._stored is None if state is None else state.is_unwritten
        if not direct or condition is not None or not is_new:
            self._operation = saves.save(
                schema,
                instance,
                condition=condition,
                replace=replace,
                skip_hooks=skip_hooks,
                insert=insert,
                in_transaction=True,
            )
            return super().begin(shared)
        if state is None and schema.on_update:
            # Only an instance with a state records the assignments that are made before the reply arrives.
            state = state_of(instance)
        if state is None:
            self._sent = 0
            self.request, prepared, self._minted = schema.new_save.one(instance, insert)
        else:
            self._sent = moment()
            self.request, prepared, self._minted = schema.new_save.one(instance, insert, None, state.generated_keys)
        if self.request is None:
            return self._failed(prepared, None, shared)
        self._prepared = prepared
        return ()

    def resume(self, reply: Any, shared: BaseException | None = None) -> Iterable[Any]:
        prepared = self._prepared
        if prepared is None:
            return super().resume(reply, shared)
        if isinstance(reply, BaseException):
            return self._failed(prepared, reply, shared)
        self._succeed(prepared)
        return ()

    def settle(self, reply: Any, interrupt: BaseException) -> None:
        prepared = self._prepared
        if prepared is None:
            super().settle(reply, interrupt)
        elif isinstance(reply, BaseException):
            self._operation = self._failing(prepared, reply)
            super().settle(None, interrupt)
        else:
            self._succeed(prepared)

    def withdraw(self, error: MintkeyError) -> None:
        if self._prepared is None:
            super().withdraw(error)
            return
        self.request, self.error, self._prepared = None, error, None
        saves.record_generated_keys(self._schema, self.item, self._minted)

    def _succeed(self, prepared: _core.Item) -> None:
        saves.mark_stored(self._schema, self.item, prepared, self._sent)
        self.request, self.ended, self._prepared = None, True, None

    def _failed(
        self, prepared: _core.Item | BaseException, error: BaseException | None, shared: BaseException | None
    ) -> Iterable[Any]:
        self._operation = self._failing(prepared, error)
        return super().begin(shared)

    def _failing(self, prepared: _core.Item | BaseException, error: BaseException | None) -> Operation[None]:
        self._prepared = None
        *_, insert = self._options
        return saves.failed_save(self._schema, self.item, self._minted, prepared, error, insert=insert)


class Transaction:
    """Writes that are done all or not at all; `mintkey.transaction()` returns one.

    The end of its `with` or `async with` block commits it. An exception that leaves the block discards it. `len()` is
    the number of items.
    """

    def __init__(self) -> None:
        self._writes: list[SuspendedWrite] = []
        # The writes whose hooks run after the commit.
        self._hooked: list[tuple[Schema, SuspendedWrite, HookKind]] = []
        # The writes hold the instances, so no other object gets their ids.
        self._instances: set[int] = set()
        self._one_store = _OneStore()
        self._entered = self._is_open = self._blocking = False

    def __len__(self) -> int:
        return len(self._writes)

    def __bool__(self) -> bool:
        # `if tx:` tests whether there is a transaction, also an empty one.
        return True

    def __repr__(self) -> str:
        return f"<Transaction of {len(self)} items>"

    def __enter__(self) -> Self:
        self._enter(blocking=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_open = False
        if kind is None and self._one_store.store is not None:
            self._one_store.store.run(self._commit())

    async def __aenter__(self) -> Self:
        self._enter(blocking=False)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_open = False
        if kind is None and self._one_store.store is not None:
            await self._one_store.store.arun(self._commit())

    # The items.

    def save(
        self, item: M, condition: Condition[M] | None = None, replace: bool = False, *, skip_hooks: bool = False
    ) -> None:
        """Add what `item.save()` does. A missing key is generated now, other values at the commit."""
        schema = self._schema_of(item)
        if replace is not False or skip_hooks is not False:
            check_flags(schema.model, replace=replace, skip_hooks=skip_hooks)
        write = _Save(schema, item, condition, replace, skip_hooks, False)
        self._add(schema, write, condition, () if skip_hooks else _SAVE_HOOKS)
        saves.generate_keys(schema, item)

    @overload
    def create(self, model: Callable[P, M], /, *args: P.args, **values: P.kwargs) -> M: ...
    @overload
    def create(self, model: type[M], /, *, skip_hooks: bool, **values: Any) -> M: ...
    def create(  # type: ignore[misc]
        self, model: Any, /, *, skip_hooks: bool = False, **values: Any
    ) -> Any:
        """Add what `Model.create()` does, and return the new instance. A missing key is generated now."""
        self._schema_of_model(model)
        item = model._constructed(values)
        schema = self._schema_of(item)
        check_flags(schema.model, skip_hooks=skip_hooks)
        write = _Save(schema, item, None, False, skip_hooks, True)
        self._add(schema, write, None, () if skip_hooks else _SAVE_HOOKS)
        saves.generate_keys(schema, item)
        return item

    def update(
        self,
        item: M,
        /,
        *actions: Action[M],
        condition: Condition[M] | None = None,
        upsert: bool = False,
        skip_hooks: bool = False,
        **values: Any,
    ) -> None:
        """Add what `item.update()` does."""
        schema = self._schema_of(item)
        changes = arguments.changes(schema, actions, values, self.update)
        updating = updates.update(
            schema,
            item,
            changes,
            condition=condition,
            upsert=upsert,
            skip_hooks=skip_hooks,
            in_transaction=True,
        )
        hooks: tuple[HookKind, ...] = () if skip_hooks else ("before_update", "after_update")
        self._add(schema, SuspendedWrite(item, updating), condition, hooks)

    def update_by_key(
        self,
        model: type[M],
        key: Key,
        /,
        *actions: Action[M],
        condition: Condition[M] | None = None,
        upsert: bool = False,
        **values: Any,
    ) -> None:
        """Add what `Model.update_by_key()` does."""
        schema = self._schema_of_model(model)
        known = arguments.named_key(schema, key)
        named, _ = arguments.key(schema, known)
        changes = arguments.changes(schema, actions, values, self.update_by_key)
        updating = updates.update_by_key(schema, named, dict(known), changes, condition=condition, upsert=upsert)
        self._add(schema, SuspendedWrite(key, updating), condition)

    def delete(self, item: M, condition: Condition[M] | None = None, *, skip_hooks: bool = False) -> None:
        """Add what `item.delete()` does."""
        schema = self._schema_of(item)
        check_flags(schema.model, skip_hooks=skip_hooks)
        deleting = item_operations.delete(schema, item, condition=condition, skip_hooks=skip_hooks, in_transaction=True)
        hooks: tuple[HookKind, ...] = () if skip_hooks else ("before_delete", "after_delete")
        self._add(schema, SuspendedWrite(item, deleting), condition, hooks)

    def delete_by_key(self, model: type[M], key: Key, /, condition: Condition[M] | None = None) -> None:
        """Add what `Model.delete_by_key()` does."""
        schema = self._schema_of_model(model)
        named, _ = arguments.key(schema, arguments.named_key(schema, key))
        self._add(schema, SuspendedWrite(key, item_operations.delete_row(schema, named, condition)), condition)

    def check(self, model: type[M], key: Key, /, condition: Condition[M]) -> None:
        """Add a condition on the row with this key, which is not written. A missing row has no attributes."""
        schema = self._schema_of_model(model)
        if not isinstance(condition, Condition):
            raise not_a_condition(schema.model, condition)
        named, _ = arguments.key(schema, arguments.named_key(schema, key))
        self._add(schema, SuspendedWrite(key, item_operations.check_row(schema, named, condition)), condition)

    def _add(
        self,
        schema: Schema,
        write: SuspendedWrite,
        condition: Condition | None,
        hooks: tuple[HookKind, ...] = (),
    ) -> None:
        """Add the write of an instance or a key, with the kinds of its hooks before and after the commit."""
        if condition is not None:
            arguments.check_condition(schema, condition)
        if self._blocking and hooks and schema.hooks.any_asynchronous:
            refuse_async_hooks(schema, *hooks, instead="`async with mintkey.transaction()`")
        self._one_store.add(schema)
        if hooks and schema.hooks.of[hooks[1]]:
            self._hooked.append((schema, write, hooks[1]))
        self._writes.append(write)
        self._instances.add(id(write.item))

    def _schema_of(self, item: object) -> Schema:
        """Return the schema of an instance that may be added."""
        if not self._is_open:
            raise self._not_open()
        schema: Schema | None = getattr(item, "__mintkey_schema__", None)
        if schema is None or isinstance(item, type):
            raise TypeError(f"a transaction takes instances of models, not {shortened(item)}")
        if id(item) in self._instances:
            raise InvalidValue(
                f"{schema.model}: this instance is in the transaction already, which takes one write for each item",
                model=schema.model,
            )
        return schema

    def _schema_of_model(self, model: object) -> Schema:
        if not self._is_open:
            raise self._not_open()
        return _schema_of_model(model)

    def _enter(self, *, blocking: bool) -> None:
        if self._entered:
            raise ConfigurationError("this transaction was used before: call mintkey.transaction() for another one")
        self._entered = self._is_open = True
        self._blocking = blocking

    def _not_open(self) -> ConfigurationError:
        if self._entered:
            return ConfigurationError(
                "this transaction ended with its `with` block: call mintkey.transaction() for another one"
            )
        return ConfigurationError(
            "this transaction was not begun: use it as `with mintkey.transaction() as tx:`, or `async with`"
        )

    # The commit.

    def _commit(self) -> Operation[None]:
        try:
            for write in self._writes:
                yield from write.begin()
                if write.error is not None:
                    raise write.error
            yield from self._send()
        finally:
            for write in self._waiting():
                write.withdraw(MintkeyError("not written: the transaction failed"))
        failed = next((write.error for write in self._writes if write.error is not None), None)
        for schema, write, after in self._hooked:
            if not write.ended:
                continue
            try:
                yield from run_hooks(schema, write.item, after)
            except Exception as error:  # noqa: BLE001 - the hooks of the other items run all the same
                failed = failed or error
        if failed is not None:
            raise failed

    def _send(self) -> Operation[None]:
        """Send the requests until all are done; raise `TransactionCancelled` if that is not possible."""
        while waiting := self._waiting():
            refused: TransactionCancelled | None = None
            replies: list[Any] = []
            try:
                replies = yield _core.Request.transaction(_requests(waiting))
            except TransactionCancelled as error:
                refused = error
            except BaseException as error:
                if not isinstance(error, MintkeyError) or getattr(error, "outcome", None) == "unknown":
                    # Each operation records what it sent.
                    yield from resume_each((write, error, error) for write in waiting)
                raise
            if refused is None:
                yield from resume_each(zip(waiting, replies, itertools.repeat(None)))
                break
            # An operation may continue with another request: an upsert after a missing row, a save whose row was
            # written by an earlier attempt.
            pairs = zip(waiting, refused.reasons, strict=False)
            reasons = [(write, reason) for write, reason in pairs if reason is not None]
            yield from resume_each((write, reason, None) for write, reason in reasons)
            if not reasons or any(write.error is not None for write, _ in reasons):
                raise self._cancelled(refused) from None
        # Updates read their results if the store does not return them.
        while waiting := self._waiting():
            try:
                results = yield _requests(waiting)
            except BaseException as error:
                yield from resume_each((write, error, error) for write in waiting)
                raise
            yield from resume_each((write, result, None) for write, result in zip(waiting, results, strict=True))

    def _waiting(self) -> list[SuspendedWrite]:
        return [write for write in self._writes if write.request is not None]

    def _cancelled(self, refused: TransactionCancelled) -> TransactionCancelled:
        """Return the error for a transaction with the reasons of all its items."""
        reasons = [cast("MintkeyError | None", write.error) for write in self._writes]
        failed = [(number, reason) for number, reason in enumerate(reasons, 1) if reason is not None]
        if not failed:
            return refused
        number, first = failed[0]
        others = f" (and {len(failed) - 1} more, see `reasons`)" if len(failed) > 1 else ""
        return TransactionCancelled(
            f"the transaction was cancelled, and nothing was written, because of item {number} of {len(reasons)}"
            f"{others}: {cause(first)}",
            reasons=reasons,
            model=getattr(first, "model", None),
            attribute=getattr(first, "attribute", None),
            key=getattr(first, "key", None),
            store=refused.store,
        )


def _requests(writes: list[SuspendedWrite]) -> list[_core.Request]:
    return [write.request for write in writes if write.request is not None]


def transaction() -> Transaction:
    """Return a transaction, which collects writes and does all or none of them at the end of its `with` block.

    All items belong to models of one store, and each item has one write or check. The limits are 100 items and 4 MB.

    Raises:
        TransactionCancelled: nothing was written; `reasons` has an exception or None for each item, in the order of the
            calls. The end of the block raises it.

    >>> import mintkey
    >>> from mintkey import Model, connect
    >>> from mintkey.attributes import NumberAttribute, StringAttribute
    >>> _ = connect("sqlite://")
    >>> class Account(Model):
    ...     name = StringAttribute(partition_key=True)
    ...     balance = NumberAttribute()
    >>> ada, grace = Account.create(name="ada", balance=5), Account.create(name="grace", balance=0)
    >>> with mintkey.transaction() as tx:
    ...     tx.update(ada, Account.balance.add(-5), condition=Account.balance >= 5)
    ...     tx.update(grace, Account.balance.add(5))
    >>> ada.balance, grace.balance
    (0, 5)
    """
    return Transaction()


def transact_get(keys: Iterable[tuple[type[M], Key]]) -> list[M | None]:
    """Read up to 100 items of models in one store, all as they were at one moment.

    Returns an instance or None for each pair of a model and a key, in order.
    """
    store, reading = _reading(keys, blocking=True)
    return [] if store is None else store.run(reading)


async def atransact_get(keys: Iterable[tuple[type[M], Key]]) -> list[M | None]:
    """Async version of `transact_get()`."""
    store, reading = _reading(keys, blocking=False)
    return [] if store is None else await store.arun(reading)


def _reading(keys: Iterable[tuple[type[M], Key]], *, blocking: bool) -> tuple[Store | None, Operation[list[M | None]]]:
    """Return the store, None without any keys, and the operation that reads the items."""
    one_store = _OneStore()
    requests: list[_core.Request] = []
    indexes: dict[tuple[str, _core.Key], int] = {}
    wanted: list[tuple[type[M], int]] = []
    if not isinstance(keys, Iterable):
        raise TypeError(f"transact_get() takes a list of pairs of a model and a key, not {shortened(keys)}")
    for pair in keys:
        if not isinstance(pair, tuple) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise TypeError(f"transact_get() takes pairs of a model and a key, not {shortened(pair)}")
        model, given = pair
        schema = _schema_of_model(model)
        if blocking:
            refuse_async_hooks(schema, "after_load", instead="atransact_get()")
        key, _ = arguments.key(schema, arguments.named_key(schema, given))
        one_store.add(schema)
        # The same item twice is read once.
        index = indexes.setdefault((schema.table, key), len(requests))
        if index == len(requests):
            requests.append(schema.codec.get(key))
        wanted.append((model, index))
    return one_store.store, _read(requests, wanted)


def _read(requests: list[_core.Request], wanted: list[tuple[type[M], int]]) -> Operation[list[M | None]]:
    items: list[_core.Item | None] = yield _core.Request.transaction_get(requests)
    found: list[M | None] = []
    for model, index in wanted:
        item = items[index]
        instance: M | None = None if item is None else model._loaded(item)
        if instance is not None:
            # It may be of a subclass.
            yield from run_hooks(instance.__mintkey_schema__, instance, "after_load")
        found.append(instance)
    return found


def _schema_of_model(model: object) -> Schema:
    if isinstance(model, type) and hasattr(model, "__mintkey_schema__"):
        return cast("Schema", model.__mintkey_schema__)
    raise TypeError(f"expected a model, got {shortened(model)}")
