"""Calls by key: methods of a model that take the key of one item, and no instance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from mintkey.methods.tables import TableMixin
from mintkey.operations import arguments, inserting, item_operations, loading, unique_reads
from mintkey.operations.writing import refuse_async_hooks
from mintkey.pipelines import Pipeline, through
from mintkey.stores import store_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey import _core
    from mintkey.conditions import Condition
    from mintkey.operations.arguments import Key
    from mintkey.operations.loading import Selectable
    from mintkey.stores import Operation, Store


class KeyMixin(TableMixin):
    """The methods of a model that find one item by its key, or by unique values."""

    if TYPE_CHECKING:

        @classmethod
        def _result(cls, old: _core.Item | None, pipeline: Pipeline | None) -> Self | Pipeline | None: ...

    @classmethod
    def exists(cls, *key: Any, consistent: bool | None = None, **named: Any) -> bool:
        """Return whether the item with this key exists. Takes the same arguments as `get()`; runs no hooks."""
        return store_of(cls.__mintkey_schema__).run(cls._existing(key, named, consistent))

    @classmethod
    async def aexists(cls, *key: Any, consistent: bool | None = None, **named: Any) -> bool:
        """Async version of `exists()`."""
        return await store_of(cls.__mintkey_schema__).arun(cls._existing(key, named, consistent))

    @classmethod
    def _existing(cls, parts: tuple[Any, ...], named: dict[str, Any], consistent: bool | None) -> Operation[bool]:
        schema = cls.__mintkey_schema__
        key, further = arguments.key(
            schema, arguments.positional_key(schema, parts, named, KeyMixin.exists), KeyMixin.exists
        )
        must = arguments.equalities(schema, further)
        stored = yield schema.codec.get(key, consistent=arguments.consistency(schema, consistent))
        if stored is None or not all(condition.matches(stored) for condition in must):
            return False
        # A row of another class in the same table is not an item of this one.
        return schema.family is None or schema.family.class_of(stored) is not None

    @classmethod
    def get_by(cls, *, attributes: Iterable[Selectable] | None = None, **values: Any) -> Self | None:
        """Return the item with these unique values, or None: `User.get_by(email="ada@example.com")`.

        The read is consistent: it includes all writes that were acknowledged before the call.

        Args:
            attributes: load only these attributes and the keys. Reading another attribute raises `NotLoaded`. A path
                such as `User.address["city"]` loads a part of a map, which no save writes.
            values: the values of one unique set, by attribute name.

        Raises:
            TypeError: the names are not those of a unique set.
            InvalidValue: a value has the wrong type, or is None.
        """
        schema = cls.__mintkey_schema__
        store = store_of(schema)
        refuse_async_hooks(schema, "after_load")
        found: Self | None = store.run(cls._getting_by(attributes, values))
        return found

    @classmethod
    async def aget_by(cls, *, attributes: Iterable[Selectable] | None = None, **values: Any) -> Self | None:
        """Async version of `get_by()`."""
        found: Self | None = await store_of(cls.__mintkey_schema__).arun(cls._getting_by(attributes, values))
        return found

    @classmethod
    def _getting_by(cls, attributes: Iterable[Selectable] | None, values: dict[str, Any]) -> Operation[Any]:
        schema = cls.__mintkey_schema__
        lookup = unique_reads.by_unique(schema, values, KeyMixin.get_by)
        selected = None if attributes is None else loading.selection(schema, attributes)
        return unique_reads.get(schema, lookup, cls._loaded, attributes=selected)

    @overload
    @classmethod
    def delete_by_key(
        cls,
        key: Key,
        /,
        *,
        condition: Condition[Self] | None = None,
        pipeline: None = None,
        return_old: Literal[False] = False,
    ) -> None: ...
    @overload
    @classmethod
    def delete_by_key(
        cls,
        key: Key,
        /,
        *,
        condition: Condition[Self] | None = None,
        pipeline: Pipeline,
        return_old: Literal[False] = False,
    ) -> Pipeline: ...
    @overload
    @classmethod
    def delete_by_key(
        cls, key: Key, /, *, condition: Condition[Self] | None = None, pipeline: None = None, return_old: bool
    ) -> Self | None: ...
    @classmethod
    def delete_by_key(
        cls,
        key: Key,
        /,
        *,
        condition: Condition[Self] | None = None,
        pipeline: Pipeline | None = None,
        return_old: bool = False,
    ) -> Self | Pipeline | None:
        """Like `delete()`, without an instance: `Order.delete_by_key({"pk": "A", "sk": "B"})`.

        A missing row is not an error, unless `condition` is false without it. No hooks run, and a version is not
        checked.

        Args:
            key: a dict, a tuple of partition key and sort key, or the partition key if the table has no sort key.
            condition: a condition on the stored row.
            pipeline: add the write to this pipeline, and return the pipeline.
            return_old: see `delete()`.

        Raises:
            ConditionFailed: `condition` is false; nothing was deleted.
        """
        store, deleting = cls._deleting_by_key(key, condition, pipeline, return_old)
        return cls._result(store.run(deleting), pipeline)

    @overload
    @classmethod
    async def adelete_by_key(
        cls,
        key: Key,
        /,
        *,
        condition: Condition[Self] | None = None,
        pipeline: None = None,
        return_old: Literal[False] = False,
    ) -> None: ...
    @overload
    @classmethod
    async def adelete_by_key(
        cls,
        key: Key,
        /,
        *,
        condition: Condition[Self] | None = None,
        pipeline: Pipeline,
        return_old: Literal[False] = False,
    ) -> Pipeline: ...
    @overload
    @classmethod
    async def adelete_by_key(
        cls, key: Key, /, *, condition: Condition[Self] | None = None, pipeline: None = None, return_old: bool
    ) -> Self | None: ...
    @classmethod
    async def adelete_by_key(
        cls,
        key: Key,
        /,
        *,
        condition: Condition[Self] | None = None,
        pipeline: Pipeline | None = None,
        return_old: bool = False,
    ) -> Self | Pipeline | None:
        """Async version of `delete_by_key()`."""
        store, deleting = cls._deleting_by_key(key, condition, pipeline, return_old)
        return cls._result(await store.arun(deleting), pipeline)

    @classmethod
    def _deleting_by_key(
        cls, key: Key, condition: Condition[Self] | None, pipeline: Pipeline | None, return_old: bool
    ) -> tuple[Store, Operation[Any]]:
        schema = cls.__mintkey_schema__
        store = store_of(schema)
        arguments.check_return_old(schema, return_old, pipeline)
        given = arguments.named_key(schema, key)
        deleting = item_operations.delete_by_key(schema, given, condition, return_old=return_old)
        if pipeline is not None:
            deleting = through(pipeline, store, schema, given, deleting, "after_delete", skip_hooks=True)
        return store, deleting

    @classmethod
    def get_or_create(cls, *, defaults: Mapping[str, Any] | None = None, **lookup: Any) -> tuple[Self, bool]:
        """Return the item of the lookup and False, or create it and return it and True.

        Of several concurrent calls with one lookup, one creates the item. Hooks run as in `get()` and `create()`.

        Args:
            defaults: further values of a new item. A function is called for its value.
            lookup: the whole key, or the values of a unique set; and optionally other attributes, of which an item
                that lacks one has its `default_on_load`. A new item gets them all.

        Raises:
            TypeError: the lookup contains neither the whole key nor the values of a unique set.
            KeyCollision, UniqueViolation: the item exists, and another attribute of the lookup differs; `item` is the
                stored one.
        """
        schema = cls.__mintkey_schema__
        refuse_async_hooks(schema, "after_load", "before_save", "after_save")
        return store_of(schema).run(cls._getting_or_creating(defaults, lookup))

    @classmethod
    async def aget_or_create(cls, *, defaults: Mapping[str, Any] | None = None, **lookup: Any) -> tuple[Self, bool]:
        """Async version of `get_or_create()`."""
        return await store_of(cls.__mintkey_schema__).arun(cls._getting_or_creating(defaults, lookup))

    @classmethod
    def _getting_or_creating(
        cls, defaults: Mapping[str, Any] | None, values: dict[str, Any]
    ) -> Operation[tuple[Self, bool]]:
        schema = cls.__mintkey_schema__
        lookup = inserting.looked_up(schema, values, KeyMixin.get_or_create)
        key_in = None if isinstance(lookup.by, unique_reads.UniqueLookup) else "in the lookup"
        defaults = inserting.checked_defaults(schema, "defaults", defaults, KeyMixin.get_or_create, key_in=key_in)
        return inserting.get_or_create(schema, cls, lookup, defaults)

    @classmethod
    def update_or_create(
        cls,
        *,
        defaults: Mapping[str, Any] | None = None,
        create_defaults: Mapping[str, Any] | None = None,
        **lookup: Any,
    ) -> tuple[Self, bool]:
        """Set `defaults` on the item of the lookup and return it and False, or create it and return it and True.

        The item is changed as `update()` changes it, under the condition that the lookup still matches. Hooks run as in
        `get()`, `update()` and `create()`; if another writer is faster, they run again.

        Args:
            defaults: the values to set on an existing item. A function is called for its value.
            create_defaults: further values of a new item; without it, `defaults`.
            lookup: see `get_or_create()`.

        Raises:
            TypeError, KeyCollision, UniqueViolation: see `get_or_create()`.
        """
        schema = cls.__mintkey_schema__
        refuse_async_hooks(schema, "after_load", "before_update", "after_update", "before_save", "after_save")
        return store_of(schema).run(cls._updating_or_creating(defaults, create_defaults, lookup))

    @classmethod
    async def aupdate_or_create(
        cls,
        *,
        defaults: Mapping[str, Any] | None = None,
        create_defaults: Mapping[str, Any] | None = None,
        **lookup: Any,
    ) -> tuple[Self, bool]:
        """Async version of `update_or_create()`."""
        return await store_of(cls.__mintkey_schema__).arun(cls._updating_or_creating(defaults, create_defaults, lookup))

    @classmethod
    def _updating_or_creating(
        cls, defaults: Mapping[str, Any] | None, create_defaults: Mapping[str, Any] | None, values: dict[str, Any]
    ) -> Operation[tuple[Self, bool]]:
        schema = cls.__mintkey_schema__
        call = KeyMixin.update_or_create
        lookup = inserting.looked_up(schema, values, call)
        by_unique = isinstance(lookup.by, unique_reads.UniqueLookup)
        key_in = "in create_defaults=" if by_unique else "in the lookup"
        setting = inserting.checked_defaults(schema, "defaults", defaults, call, key_in=key_in)
        creating = inserting.checked_defaults(
            schema, "create_defaults", create_defaults, call, key_in=None if by_unique else key_in
        )
        if setting:
            arguments.changes(schema, (), dict(setting), call)
        return inserting.update_or_create(
            schema, cls, lookup, setting, setting if create_defaults is None else creating
        )
