"""The base class of all models.

Each method runs one operation with one driver of a store. A method whose name begins with `a` is the async version of
the method without it, with the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, TypeVar, overload

from mintkey import _core
from mintkey.attributes import Attribute
from mintkey.attributes.base import own_copy
from mintkey.backfilling import BackfillMixin
from mintkey.conditions import Condition
from mintkey.definitions.constructor import constructor
from mintkey.definitions.discriminators import loader
from mintkey.definitions.schema import Schema
from mintkey.errors import ConfigurationError, InvalidValue, UnreadableItem, safe_repr, shortened
from mintkey.instance_state import LazyState, State, all_values, moment, pickled, set_slot, unpickled
from mintkey.lookups import Q
from mintkey.methods.batched import BatchMixin
from mintkey.methods.changing import WriteMixin
from mintkey.methods.expiring import ExpiryMixin
from mintkey.methods.images import ImageMixin
from mintkey.methods.keyed import KeyMixin
from mintkey.methods.query_access import QueryAccess, QueryAccessor
from mintkey.methods.serializing import JsonMixin, to_dict
from mintkey.methods.tables import TableMixin
from mintkey.model_config import ModelConfig
from mintkey.operations import arguments, item_operations, loading, saves
from mintkey.operations.writing import refuse_async_hooks
from mintkey.pipelines import Pipeline, through
from mintkey.queries import OnUnreadable, Options, Result
from mintkey.results import plans
from mintkey.results.page_cursors import check_default_order
from mintkey.stores import store_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey.operations.loading import Selectable
    from mintkey.stores import Operation, Store

__all__ = ["ConstructedModel", "Model"]

M = TypeVar("M")
P = ParamSpec("P")


class Model(WriteMixin, BatchMixin, ExpiryMixin, BackfillMixin, KeyMixin, ImageMixin, JsonMixin, _core.InstanceSlots):
    """The base class of models. A subclass declares attributes or fields; its instances are the items of a table.

    >>> from mintkey import AutoGenerate, Model, ModelConfig, connect
    >>> from mintkey.attributes import NumberAttribute, StringAttribute
    >>> _ = connect("sqlite://")
    >>> class Order(Model):
    ...     model_config = ModelConfig(table="orders")
    ...     pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    ...     sk = StringAttribute(sort_key=True)
    ...     total = NumberAttribute()
    >>> order = Order(sk="ORDER#DETAILS", total=99.99)
    >>> order.pk is None
    True
    >>> order.save()
    >>> len(order.pk)
    26
    >>> Order.get(pk=order.pk, sk=order.sk) == order
    True
    """

    model_config: ClassVar[ModelConfig] = ModelConfig(abstract=True)
    query: ClassVar[QueryAccessor] = QueryAccessor()
    #: Async version of `query`: returns the same lazy results, for `async for`.
    aquery: ClassVar[QueryAccessor] = QueryAccessor()

    __slots__ = ()
    # The state of an instance, which is made from its slots when it is needed.
    _state: LazyState | State | None = LazyState()

    if TYPE_CHECKING:  # the hidden key of a class with fields only
        _auto_key: Attribute[str]

    def __init__(self, **values: Any) -> None:
        # Subclasses have a generated constructor. This one runs if a subclass defines `__init__` and calls `super()`.
        init = getattr(type(self), "__mintkey_init__", None)
        if init is None:
            raise TypeError("Model itself has no attributes: define a subclass")
        init(self, **values)

    def __init_subclass__(cls, **parameters: Any) -> None:
        super().__init_subclass__(**parameters)
        inherited = ModelConfig()
        for base in reversed(cls.__mro__[1:]):
            own = vars(base).get("model_config")
            if isinstance(own, ModelConfig):
                inherited = own.over(inherited)
        own = vars(cls).get("model_config", ModelConfig())
        if not isinstance(own, ModelConfig):
            raise ConfigurationError(
                f"{cls.__name__}.model_config must be a ModelConfig(…), not {shortened(own)}", model=cls.__name__
            )
        reserved = arguments.reserved(Model, WriteMixin, BatchMixin, ExpiryMixin, TableMixin, QueryAccess)
        schema = Schema(cls, own.over(inherited), reserved)
        cls.__mintkey_schema__ = schema
        if schema.family is not None:
            cls._loaded = classmethod(loader(Model.__dict__["_loaded"].__func__))  # type: ignore[method-assign,assignment]
        check_default_order(schema)
        later = {*vars(BackfillMixin), *vars(KeyMixin), *vars(ImageMixin), *vars(JsonMixin)}
        for name in sorted(schema.attributes.keys() & later):
            import logging

            # A method that came later than the others must not break a model with such an attribute.
            logging.getLogger("mintkey").warning("%s.%s hides the method Model.%s()", cls.__name__, name, name)
        init = constructor(cls, schema)
        cls.__mintkey_init__ = init  # type: ignore[attr-defined]
        first = next(vars(base) for base in cls.__mro__ if "__init__" in vars(base))
        if first["__init__"] in {Model.__init__, first.get("__mintkey_init__")}:
            cls.__init__ = init  # type: ignore[method-assign]
        _core.call_init_directly(cls)

    @classmethod
    def _loaded(cls, item: _core.Item, fetched: set[str] | None = None) -> Self:
        """Return an instance of a stored item, without generated values, defaults or a constructor call."""
        schema = cls.__mintkey_schema__
        try:
            instance = schema.codec.load(cls, item)
        except UnreadableItem as error:
            raise schema.located(error, item) from error.__cause__
        if schema.completes:
            schema.complete(instance.__dict__, item, fetched)
        if fetched is not None:
            set_slot(instance, "_kept", State(item, fetched))
            set_slot(instance, "_stored", None)
        return instance

    # Values.

    def _assign(self, name: str, value: Any) -> None:
        schema = self.__mintkey_schema__
        if name in schema.attributes:
            derived = schema.attributes[name].derived
            if derived is not None:
                for part, its_value in derived.assign(name, value, self).items():
                    self._assign(part, its_value)
                return
            state = self._state
            if state is not None:
                if state.mint_context is not None:
                    state.mint_context.unminted.discard(name)
                state.touched[name] = moment()
            if value is None:
                self.__dict__.pop(name, None)
                return
        object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # with `__setattr__`, type checkers would accept every misspelt name
        __setattr__ = _assign

    def __delattr__(self, name: str) -> None:
        if name in self.__mintkey_schema__.attributes:
            self._assign(name, None)
        else:
            object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        # `inspect.getmembers()` reads each name, and an attribute that was not loaded cannot be read.
        state = self._state
        return [name for name in super().__dir__() if state is None or not state.is_unknown(name)]

    def __repr__(self) -> str:
        shown = (f"{name}={safe_repr(value)}" for name, value in self._shown().items())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Model) or type(self) is not type(other):
            return NotImplemented
        codec = self.__mintkey_schema__.codec
        if not self.__mintkey_schema__.config.abstract:
            mine = None if self._state is None else self._state.loaded
            theirs = None if other._state is None else other._state.loaded
            if mine is None or theirs is None or codec.key_of(mine) != codec.key_of(theirs):
                return False
        try:
            return codec.encode(self.__dict__, partial=True) == codec.encode(other.__dict__, partial=True)
        except InvalidValue:
            # A value that cannot be stored has no encoded value to compare.
            return self._shown() == other._shown()

    def __hash__(self) -> int:
        state = self._state
        if self.__mintkey_schema__.config.abstract:
            raise TypeError(
                f"{type(self).__name__} is not hashable: nested instances are compared by values, which may change"
            )
        if state is None or state.loaded is None:
            raise TypeError(f"an unsaved {type(self).__name__} is not hashable: its key may change before it is saved")
        return hash((type(self), self.__mintkey_schema__.codec.key_of(state.loaded)))

    def __getstate__(self) -> dict[str, Any]:
        return {**all_values(self), **pickled(self)}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(unpickled(self, values))

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        attributes = self.__mintkey_schema__.attributes
        values = unpickled(copied, self.__getstate__()).items()
        copied.__dict__.update({name: own_copy(value) if name in attributes else value for name, value in values})
        return copied

    def to_dict(
        self,
        mode: Literal["python", "json"] = "python",
        *,
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
    ) -> dict[str, Any]:
        """Return copies of the values by attribute name, without absent ones.

        Args:
            mode: `"json"` for values of JSON: datetimes and UUIDs as text, bytes as base64, sets as lists.
            include: the names of the only attributes to return.
            exclude: the names of attributes to leave out.
        """
        return to_dict(self, mode, include, exclude)

    def _shown(self) -> dict[str, Any]:
        values, schema = self.__dict__, self.__mintkey_schema__
        if schema.derived is not None:
            values = {**values, **schema.derived.visible(self)}
        return {
            name: value
            for name in schema.shown
            if (value := values.get(name)) is not None and (name not in schema.sets or value != set())
        }

    @classmethod
    def _constructed(cls, values: dict[str, Any]) -> Self:
        """Return a new instance of values by attribute name."""
        return cls(**values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return a new instance with copies of these values.

        In classes with a discriminator, it is an instance of the class that the values name.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"{cls.__name__}.from_dict() takes a dict of values by name, not {shortened(values)}")
        found: Any = cls
        if cls.__mintkey_schema__.family is not None:
            from mintkey.formats.json_values import class_of

            found = class_of(cls, values)
        return found(**{name: own_copy(value) for name, value in values.items()})  # type: ignore[no-any-return]

    @property
    def changed(self) -> frozenset[str]:
        """The names of the attributes that differ from the stored item, also inside lists and maps."""
        state, schema, values = self._state, self.__mintkey_schema__, self.__dict__
        loaded = None if state is None else state.loaded
        cleared = frozenset() if state is None else state.cleared(values, schema.sets)
        names = cleared.union(schema.codec.changed(values, loaded))
        defaults = schema.unsaved_defaults(values, loaded)
        if schema.derived is not None:
            names = schema.derived.changes(names - defaults, values, state, defaults)
        return names - defaults

    @property
    def is_dirty(self) -> bool:
        """Whether `save()` would write something."""
        return self._state is None or self._state.loaded is None or bool(self.changed)

    @property
    def unminted(self) -> frozenset[str]:
        """The names of the attributes that have a strategy and no value.

        While a `before_save` hook runs: the names that had no value when the save began and have not been assigned
        since. Reading such an attribute generates its value, but does not remove its name from this set.
        """
        state = self._state
        if state is not None and state.mint_context is not None:
            return frozenset(state.mint_context.unminted)
        return frozenset(name for name in self.__mintkey_schema__.minted_names if self.__dict__.get(name) is None)

    # Writing.

    @overload
    def save(
        self,
        condition: Condition[Self] | None = None,
        replace: bool = False,
        *,
        skip_hooks: bool = False,
        pipeline: None = None,
    ) -> None: ...
    @overload
    def save(
        self,
        condition: Condition[Self] | None = None,
        replace: bool = False,
        *,
        skip_hooks: bool = False,
        pipeline: Pipeline,
    ) -> Pipeline: ...
    def save(
        self,
        condition: Condition[Self] | None = None,
        replace: bool = False,
        *,
        skip_hooks: bool = False,
        pipeline: Pipeline | None = None,
    ) -> Pipeline | None:
        """Write the item: the whole item if it is new, otherwise only the changes.

        Args:
            condition: a condition on the stored row.
            replace: write the whole item over any existing row.
            skip_hooks: run no hooks. Values are generated anyway.
            pipeline: add the write to this pipeline, and return the pipeline.

        Raises:
            ConditionFailed: `condition` is false; nothing was written.
            KeyCollision: the item is new, its key was generated, and a row with this key exists.
            ItemGone: the item was loaded, and its row no longer exists.
            VersionConflict: another writer changed the row first.
            InvalidValue: a value cannot be stored.
        """
        schema = self.__mintkey_schema__
        store = store_of(schema)
        if schema.hooks.any_asynchronous and not skip_hooks:
            refuse_async_hooks(schema, "before_save", "after_save")
        saving = saves.save(
            schema, self, condition=condition, replace=replace, skip_hooks=skip_hooks, pipeline=pipeline
        )
        if pipeline is not None:
            saving = through(pipeline, store, schema, self, saving, "after_save", skip_hooks=skip_hooks)
        store.run(saving)
        return pipeline

    @overload
    async def asave(
        self,
        condition: Condition[Self] | None = None,
        replace: bool = False,
        *,
        skip_hooks: bool = False,
        pipeline: None = None,
    ) -> None: ...
    @overload
    async def asave(
        self,
        condition: Condition[Self] | None = None,
        replace: bool = False,
        *,
        skip_hooks: bool = False,
        pipeline: Pipeline,
    ) -> Pipeline: ...
    async def asave(
        self,
        condition: Condition[Self] | None = None,
        replace: bool = False,
        *,
        skip_hooks: bool = False,
        pipeline: Pipeline | None = None,
    ) -> Pipeline | None:
        """Async version of `save()`."""
        schema = self.__mintkey_schema__
        store = store_of(schema)
        saving = saves.save(
            schema, self, condition=condition, replace=replace, skip_hooks=skip_hooks, pipeline=pipeline
        )
        if pipeline is not None:
            saving = through(pipeline, store, schema, self, saving, "after_save", skip_hooks=skip_hooks)
        await store.arun(saving)
        return pipeline

    @classmethod
    def create(cls, *, skip_hooks: bool = False, pipeline: Pipeline | None = None, **values: Any) -> Self:
        """Construct and save a new item. Raises `KeyCollision` if its row exists."""
        if not skip_hooks:
            refuse_async_hooks(cls.__mintkey_schema__, "before_save", "after_save")
        store, instance, creating = cls._creating(values, skip_hooks, pipeline)
        store.run(creating)
        return instance

    @classmethod
    async def acreate(cls, *, skip_hooks: bool = False, pipeline: Pipeline | None = None, **values: Any) -> Self:
        """Async version of `create()`."""
        store, instance, creating = cls._creating(values, skip_hooks, pipeline)
        await store.arun(creating)
        return instance

    @classmethod
    def _creating(
        cls, values: dict[str, Any], skip_hooks: bool, pipeline: Pipeline | None
    ) -> tuple[Store, Self, Operation[None]]:
        schema = cls.__mintkey_schema__
        store = store_of(schema)
        instance = cls._constructed(values)
        creating = saves.save(schema, instance, skip_hooks=skip_hooks, insert=True, constructed=True, pipeline=pipeline)
        if pipeline is not None:
            creating = through(pipeline, store, schema, instance, creating, "after_save", skip_hooks=skip_hooks)
        return store, instance, creating

    # Reading.

    @classmethod
    def get(
        cls,
        *key: Any,
        attributes: Iterable[Selectable] | None = None,
        consistent: bool | None = None,
        **named: Any,
    ) -> Self | None:
        """Return the item with this key, or None: `Order.get("A", "B")` or `Order.get(pk="A", sk="B")`.

        Args:
            key: the values of the whole key, in the order partition key, sort key; or the key as a dict or a tuple.
            attributes: load only these attributes, the keys and those that are compared. Reading another attribute
                raises `NotLoaded`. A path such as `User.address["city"]` loads a part of a map, which no save writes.
            consistent: include all writes that were acknowledged before the call. By default as the model's
                `ModelConfig(consistent=…)` says.
            named: the values of the key by name. Other attributes must have the passed values too.
        """
        schema = cls.__mintkey_schema__
        store = store_of(schema)
        if schema.hooks.any_asynchronous:
            refuse_async_hooks(schema, "after_load")
        found: Self | None = store.run(_getting(cls, key, named, attributes, consistent))
        return found

    @classmethod
    async def aget(
        cls,
        *key: Any,
        attributes: Iterable[Selectable] | None = None,
        consistent: bool | None = None,
        **named: Any,
    ) -> Self | None:
        """Async version of `get()`."""
        store = store_of(cls.__mintkey_schema__)
        found: Self | None = await store.arun(_getting(cls, key, named, attributes, consistent))
        return found

    def refresh(self, *, consistent: bool = True) -> None:
        """Read the row again and discard local changes. Raises `ItemGone` if the row no longer exists."""
        schema = self.__mintkey_schema__
        store = store_of(schema)
        refuse_async_hooks(schema, "after_load")
        store.run(item_operations.refresh(schema, self, consistent=consistent))

    async def arefresh(self, *, consistent: bool = True) -> None:
        """Async version of `refresh()`."""
        schema = self.__mintkey_schema__
        await store_of(schema).arun(item_operations.refresh(schema, self, consistent=consistent))

    @classmethod
    def scan(
        cls,
        *conditions: Condition[Self] | Q,
        limit: int | None = None,
        attributes: Iterable[Selectable] | None = None,
        consistent: bool | None = None,
        segments: int = 1,
        on_unreadable: OnUnreadable = "raise",
    ) -> Result[Self]:
        """Return all items that match the conditions. Reads every item of the table, in `segments` concurrent parts.

        See `query()` for the other parameters.
        """
        schema = cls.__mintkey_schema__
        how = plans.scan_plan(plans.gather(schema, conditions, {}))
        options = Options(
            limit=limit, attributes=attributes, consistent=consistent, segments=segments, on_unreadable=on_unreadable
        )
        return Result(schema, cls._loaded, how, options)

    @classmethod
    def ascan(
        cls,
        *conditions: Condition[Self] | Q,
        limit: int | None = None,
        attributes: Iterable[Selectable] | None = None,
        consistent: bool | None = None,
        segments: int = 1,
        on_unreadable: OnUnreadable = "raise",
    ) -> Result[Self]:
        """Async version of `scan()`, for `async for`."""
        return cls.scan(
            *conditions,
            limit=limit,
            attributes=attributes,
            consistent=consistent,
            segments=segments,
            on_unreadable=on_unreadable,
        )

    @classmethod
    def count(cls, *conditions: Condition[Self] | Q, segments: int = 1, **equal: Any) -> int:
        """Return the number of items that match the conditions and keywords; without any, of the whole table."""
        return cls._counted(conditions, equal, segments).count()

    @classmethod
    async def acount(cls, *conditions: Condition[Self] | Q, segments: int = 1, **equal: Any) -> int:
        """Async version of `count()`."""
        return await cls._counted(conditions, equal, segments).acount()

    @classmethod
    def _counted(cls, conditions: Iterable[Condition[Self] | Q], equal: dict[str, Any], segments: int) -> Result[Self]:
        schema = cls.__mintkey_schema__
        how = plans.plan_or_scan(schema, plans.gather(schema, conditions, equal, cls.count))
        return Result(schema, cls._loaded, how, Options(segments=segments))


def _getting(
    model: type[Model],
    parts: tuple[Any, ...],
    named: dict[str, Any],
    attributes: Iterable[Selectable] | None,
    consistent: bool | None,
) -> Operation[Any]:
    """Return the operation of `get()`."""
    schema = model.__mintkey_schema__
    if parts:
        named = arguments.positional_key(schema, parts, named, _GET)
    key, further = arguments.key(schema, named, _GET)
    must = arguments.equalities(schema, further) if further else ()
    selected = None if attributes is None else loading.with_names(loading.selection(schema, attributes), further)
    return item_operations.get(schema, key, model._loaded, must, consistent, selected)


#: The method that messages of `get()` and `aget()` name.
_GET = Model.get


if TYPE_CHECKING:

    class ConstructedModel(Model):
        """A model whose `create()` has the parameters of the constructor."""

        @overload  # type: ignore[override]
        @classmethod
        def create(cls: Callable[P, M], *args: P.args, **values: P.kwargs) -> M: ...
        @overload
        @classmethod
        def create(cls, *, skip_hooks: bool, pipeline: Pipeline | None = None, **values: Any) -> Self: ...
        @overload
        @classmethod
        def create(cls, *, skip_hooks: bool = False, pipeline: Pipeline | None, **values: Any) -> Self: ...
        @classmethod  # type: ignore[misc]
        def create(cls, **values: Any) -> Any: ...
        @overload  # type: ignore[override]
        @classmethod
        async def acreate(cls: Callable[P, M], *args: P.args, **values: P.kwargs) -> M: ...
        @overload
        @classmethod
        async def acreate(cls, *, skip_hooks: bool, pipeline: Pipeline | None = None, **values: Any) -> Self: ...
        @overload
        @classmethod
        async def acreate(cls, *, skip_hooks: bool = False, pipeline: Pipeline | None, **values: Any) -> Self: ...
        @classmethod  # type: ignore[misc]
        async def acreate(cls, **values: Any) -> Any: ...

else:
    ConstructedModel = Model
