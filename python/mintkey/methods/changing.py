"""Changes: methods of a model that change or delete one row in the store, by an instance or by a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from mintkey import _core
from mintkey.errors import UnreadableItem, check_flags
from mintkey.methods.tables import TableMixin
from mintkey.operations import arguments, item_operations, updates
from mintkey.operations.writing import mark_written, refuse_async_hooks
from mintkey.pipelines import Pipeline, through
from mintkey.stores import store_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey.conditions import Action, Condition
    from mintkey.operations.arguments import Key
    from mintkey.stores import Operation, Store


class WriteMixin(TableMixin):
    """The methods of a model that update and delete one row."""

    @overload
    def update(
        self,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        skip_hooks: bool = False,
        pipeline: None = None,
        return_old: Literal[False] = False,
        **values: Any,
    ) -> None: ...
    @overload
    def update(
        self,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        skip_hooks: bool = False,
        pipeline: Pipeline,
        return_old: Literal[False] = False,
        **values: Any,
    ) -> Pipeline: ...
    @overload
    def update(
        self,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        skip_hooks: bool = False,
        pipeline: None = None,
        return_old: bool,
        **values: Any,
    ) -> Self | None: ...
    def update(
        self,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        skip_hooks: bool = False,
        pipeline: Pipeline | None = None,
        return_old: bool = False,
        **values: Any,
    ) -> Self | Pipeline | None:
        """Change attributes in the store without reading first: `order.update(Order.n.add(1), status="paid")`.

        The stored result is set on the instance. Local changes of other attributes are kept.

        Args:
            actions: changes that the store computes, such as `Order.tags.append(["x"])`.
            condition: a condition on the stored row.
            upsert: if the row is missing, insert it with the key, defaults, generated values and these changes.
            skip_hooks: run no hooks.
            pipeline: add the write to this pipeline, and return the pipeline.
            return_old: return the row as it was before the update, as a new instance; None if this update inserted it.
                The store returns it together with the write. No `after_load` hooks run.
            values: attributes to set; None removes an attribute.

        Raises:
            ItemGone: the row does not exist, and `upsert` is false.
            ConditionFailed, VersionConflict, InvalidValue: see `save()`.
            UnreadableItem: with `written=True`, the row was updated, but it has a value that cannot be read.
        """
        if not skip_hooks:
            refuse_async_hooks(self.__mintkey_schema__, "before_update", "after_update")
        store, updating = self._updating(actions, values, condition, upsert, skip_hooks, pipeline, return_old)
        return self._result(store.run(updating), pipeline)

    @overload
    async def aupdate(
        self,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        skip_hooks: bool = False,
        pipeline: None = None,
        return_old: Literal[False] = False,
        **values: Any,
    ) -> None: ...
    @overload
    async def aupdate(
        self,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        skip_hooks: bool = False,
        pipeline: Pipeline,
        return_old: Literal[False] = False,
        **values: Any,
    ) -> Pipeline: ...
    @overload
    async def aupdate(
        self,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        skip_hooks: bool = False,
        pipeline: None = None,
        return_old: bool,
        **values: Any,
    ) -> Self | None: ...
    async def aupdate(
        self,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        skip_hooks: bool = False,
        pipeline: Pipeline | None = None,
        return_old: bool = False,
        **values: Any,
    ) -> Self | Pipeline | None:
        """Async version of `update()`."""
        store, updating = self._updating(actions, values, condition, upsert, skip_hooks, pipeline, return_old)
        return self._result(await store.arun(updating), pipeline)

    def _updating(
        self,
        actions: tuple[Action[Self], ...],
        values: dict[str, Any],
        condition: Condition[Self] | None,
        upsert: bool,
        skip_hooks: bool,
        pipeline: Pipeline | None,
        return_old: bool,
    ) -> tuple[Store, Operation[Any]]:
        schema = self.__mintkey_schema__
        store = store_of(schema)
        arguments.check_return_old(schema, return_old, pipeline)
        changes = arguments.changes(schema, actions, values, self.update)
        updating = updates.update(
            schema,
            self,
            changes,
            condition=condition,
            upsert=upsert,
            skip_hooks=skip_hooks,
            pipeline=pipeline,
            return_old=return_old,
        )
        if pipeline is not None:
            updating = through(pipeline, store, schema, self, updating, "after_update", skip_hooks=skip_hooks)
        return store, updating

    @classmethod
    def _result(cls, old: _core.Item | None, pipeline: Pipeline | None) -> Self | Pipeline | None:
        """Return the result of a write: the pipeline, or the old row as an instance."""
        if pipeline is not None:
            return pipeline
        try:
            return None if old is None else cls._loaded(old)
        except UnreadableItem as error:
            mark_written(error, "The write was done, and `item` of this error is the row before it")
            raise

    @overload
    @classmethod
    def update_by_key(
        cls,
        key: Key,
        /,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        pipeline: None = None,
        return_old: Literal[False] = False,
        **values: Any,
    ) -> None: ...
    @overload
    @classmethod
    def update_by_key(
        cls,
        key: Key,
        /,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        pipeline: Pipeline,
        return_old: Literal[False] = False,
        **values: Any,
    ) -> Pipeline: ...
    @overload
    @classmethod
    def update_by_key(
        cls,
        key: Key,
        /,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        pipeline: None = None,
        return_old: bool,
        **values: Any,
    ) -> Self | None: ...
    @classmethod
    def update_by_key(
        cls,
        key: Key,
        /,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        pipeline: Pipeline | None = None,
        return_old: bool = False,
        **values: Any,
    ) -> Self | Pipeline | None:
        """Like `update()`, without an instance: `Order.update_by_key({"pk": "A", "sk": "B"}, total=5)`.

        No hooks run. A version is incremented without a check.
        """
        store, updating = cls._updating_by_key(key, actions, values, condition, upsert, pipeline, return_old)
        return cls._result(store.run(updating), pipeline)

    @overload
    @classmethod
    async def aupdate_by_key(
        cls,
        key: Key,
        /,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        pipeline: None = None,
        return_old: Literal[False] = False,
        **values: Any,
    ) -> None: ...
    @overload
    @classmethod
    async def aupdate_by_key(
        cls,
        key: Key,
        /,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        pipeline: Pipeline,
        return_old: Literal[False] = False,
        **values: Any,
    ) -> Pipeline: ...
    @overload
    @classmethod
    async def aupdate_by_key(
        cls,
        key: Key,
        /,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        pipeline: None = None,
        return_old: bool,
        **values: Any,
    ) -> Self | None: ...
    @classmethod
    async def aupdate_by_key(
        cls,
        key: Key,
        /,
        *actions: Action[Self],
        condition: Condition[Self] | None = None,
        upsert: bool = False,
        pipeline: Pipeline | None = None,
        return_old: bool = False,
        **values: Any,
    ) -> Self | Pipeline | None:
        """Async version of `update_by_key()`."""
        store, updating = cls._updating_by_key(key, actions, values, condition, upsert, pipeline, return_old)
        return cls._result(await store.arun(updating), pipeline)

    @classmethod
    def _updating_by_key(
        cls,
        key: Key,
        actions: tuple[Action[Self], ...],
        values: dict[str, Any],
        condition: Condition[Self] | None,
        upsert: bool,
        pipeline: Pipeline | None,
        return_old: bool,
    ) -> tuple[Store, Operation[Any]]:
        schema = cls.__mintkey_schema__
        store = store_of(schema)
        arguments.check_return_old(schema, return_old, pipeline)
        given = arguments.named_key(schema, key)
        known = dict(given)
        named, _ = arguments.key(schema, given)
        changes = arguments.changes(schema, actions, values, cls.update_by_key)
        updating = updates.update_by_key(
            schema, named, known, changes, condition=condition, upsert=upsert, return_old=return_old
        )
        if pipeline is not None:
            updating = through(pipeline, store, schema, known, updating, "after_update", skip_hooks=True)
        return store, updating

    @overload
    def delete(
        self,
        condition: Condition[Self] | None = None,
        *,
        skip_hooks: bool = False,
        pipeline: None = None,
        return_old: Literal[False] = False,
    ) -> None: ...
    @overload
    def delete(
        self,
        condition: Condition[Self] | None = None,
        *,
        skip_hooks: bool = False,
        pipeline: Pipeline,
        return_old: Literal[False] = False,
    ) -> Pipeline: ...
    @overload
    def delete(
        self,
        condition: Condition[Self] | None = None,
        *,
        skip_hooks: bool = False,
        pipeline: None = None,
        return_old: bool,
    ) -> Self | None: ...
    def delete(
        self,
        condition: Condition[Self] | None = None,
        *,
        skip_hooks: bool = False,
        pipeline: Pipeline | None = None,
        return_old: bool = False,
    ) -> Self | Pipeline | None:
        """Delete the row. A missing row is not an error, unless the model has a version (`VersionConflict`).

        Afterwards the instance keeps its values and counts as new.

        Args:
            condition: a condition on the stored row.
            skip_hooks: run no hooks.
            pipeline: add the write to this pipeline, and return the pipeline.
            return_old: return the deleted row as a new instance; None if there was none. The store returns it together
                with the write, so of several concurrent calls one gets the row. No `after_load` hooks run.

        Raises:
            ConditionFailed, VersionConflict: see `save()`.
            UnreadableItem: `return_old` is true, and the deleted row cannot be read. `item` of the error has its
                stored values.
        """
        if not skip_hooks:
            refuse_async_hooks(self.__mintkey_schema__, "before_delete", "after_delete")
        store, deleting = self._deleting(condition, skip_hooks, pipeline, return_old)
        return self._result(store.run(deleting), pipeline)

    @overload
    async def adelete(
        self,
        condition: Condition[Self] | None = None,
        *,
        skip_hooks: bool = False,
        pipeline: None = None,
        return_old: Literal[False] = False,
    ) -> None: ...
    @overload
    async def adelete(
        self,
        condition: Condition[Self] | None = None,
        *,
        skip_hooks: bool = False,
        pipeline: Pipeline,
        return_old: Literal[False] = False,
    ) -> Pipeline: ...
    @overload
    async def adelete(
        self,
        condition: Condition[Self] | None = None,
        *,
        skip_hooks: bool = False,
        pipeline: None = None,
        return_old: bool,
    ) -> Self | None: ...
    async def adelete(
        self,
        condition: Condition[Self] | None = None,
        *,
        skip_hooks: bool = False,
        pipeline: Pipeline | None = None,
        return_old: bool = False,
    ) -> Self | Pipeline | None:
        """Async version of `delete()`."""
        store, deleting = self._deleting(condition, skip_hooks, pipeline, return_old)
        return self._result(await store.arun(deleting), pipeline)

    def _deleting(
        self, condition: Condition[Self] | None, skip_hooks: bool, pipeline: Pipeline | None, return_old: bool
    ) -> tuple[Store, Operation[Any]]:
        schema = self.__mintkey_schema__
        store = store_of(schema)
        check_flags(schema.model, skip_hooks=skip_hooks)
        arguments.check_return_old(schema, return_old, pipeline)
        deleting = item_operations.delete(
            schema, self, condition=condition, skip_hooks=skip_hooks, return_old=return_old
        )
        if pipeline is not None:
            deleting = through(pipeline, store, schema, self, deleting, "after_delete", skip_hooks=skip_hooks)
        return store, deleting
