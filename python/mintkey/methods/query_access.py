"""The object behind `Order.query`: call it to query a partition, or use the methods of Django and Redis mappers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from mintkey.conditions import Condition
from mintkey.errors import InvalidValue
from mintkey.lookups import Q, keyword_tests
from mintkey.operations import arguments
from mintkey.operations.unique_reads import get, unique_in, unique_names
from mintkey.operations.writing import refuse_async_hooks
from mintkey.queries import OnUnreadable, Options, Result
from mintkey.results import plans
from mintkey.stores import store_of

if TYPE_CHECKING:
    from mintkey.operations.loading import Selectable
    from mintkey.stores import Operation

M = TypeVar("M")


class QueryAccess(Generic[M]):
    """The value of `Order.query`: call it to query a partition, or use the methods of Django and Redis mappers."""

    __slots__ = ("_model",)

    def __init__(self, model: type[M]) -> None:
        self._model: Any = model

    def __repr__(self) -> str:
        return f"<{self._model.__name__}.query>"

    def __call__(
        self,
        *conditions: Condition[M] | Q,
        index: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        attributes: Iterable[Selectable] | None = None,
        consistent: bool | None = None,
        on_unreadable: OnUnreadable = "raise",
        **equal: Any,
    ) -> Result[M]:
        """Return the items of one partition, in the order of the model's `order_by`, or else of the sort key.

        Args:
            conditions: conditions that must all be true.
            index: the name of an index, if several match.
            descending: return the items in the reverse order of the sort key.
            limit: the maximum number of items.
            attributes: load only these attributes and the keys. Reading another attribute raises `NotLoaded`. A path
                such as `User.address["city"]` loads a part of a map, which no save writes.
            consistent: include all writes that were acknowledged before the call. By default as the model's
                `ModelConfig(consistent=…)` says.
            on_unreadable: raise `UnreadableItem` for an item that cannot be read, `"skip"` it, or call a function with
                the error and continue.
            equal: `==` conditions by attribute name; one must be on the partition key of the table or of an index.

        Raises:
            TypeError: no partition key is passed (use `scan()` to read the whole table), or a name is unknown.
            ConfigurationError: two indexes match.
            InvalidValue: a value has the wrong type, or `limit` is not a positive integer or 0.
        """
        schema = self._model.__mintkey_schema__
        gathered = plans.gather(schema, conditions, equal, self)
        how = plans.plan(schema, gathered, index)
        if how is None:
            keys = ((cast("str", schema.partition),), *(index.partition for index in schema.indexes))
            parts = [tuple(part for name in names for part in schema.named_by(name)) for names in keys]
            unique = unique_names(schema)
            needed = " or ".join(f"{'+'.join(names)}=…" for names in dict.fromkeys(parts) if names)
            raise TypeError(
                f"{schema.model}.query() needs a partition key: {needed}. "
                f"To read the whole table, use {schema.model}.scan()"
                + (f"; to read one item by unique values, {schema.model}.get_by({unique})" if unique else "")
            )
        options = Options(
            descending=descending,
            limit=limit,
            attributes=attributes,
            consistent=consistent,
            on_unreadable=on_unreadable,
        )
        result = Result(schema, self._model._loaded, how, options)
        # Who names an index, or a direction, asks for the order of the sort key.
        return result if descending is True or index is not None else result._in_default_order()

    def filter(self, *conditions: Condition[M] | Q, **lookups: Any) -> Result[M]:
        """Return the items that match all lookups: `filter(country="DE", age__gte=18)`.

        Lookups: `__gt __gte __lt __lte __ne __in __between __startswith __contains __isnull`; and evaluated by the
        client: `__endswith __iexact __icontains __istartswith __iendswith`. If no key or index can be used, the whole
        table is read, and this is logged at INFO. Values are never patterns.

        Raises:
            TypeError: an attribute or a lookup does not exist.
            InvalidValue: a value has the wrong type, or is None.
        """
        schema = self._model.__mintkey_schema__
        gathered = [*plans.gather(schema, conditions, {}), *keyword_tests(schema, lookups)]
        return Result(schema, self._model._loaded, plans.plan_or_scan(schema, gathered))._in_default_order()

    def exclude(self, *conditions: Condition[M] | Q, **lookups: Any) -> Result[M]:
        """Return the items that do not match all these conditions and lookups; see `filter()`."""
        return self.filter(~Q(*conditions, **lookups))

    def all(self) -> Result[M]:
        """Return all items of the table."""
        return self.filter()

    def order_by(self, *names: str) -> Result[M]:
        """Return all items in the order of attributes; `"-name"` reverses the order of one."""
        return self.filter().order_by(*names)

    def get(self, *key: Any, **lookups: Any) -> M | None:
        """Return the only item that matches all lookups, or None. Several matches raise `InvalidValue`.

        The whole key can also be passed by position, as in `Model.get()`.
        """
        lookups = self._with_key(key, lookups)
        if self._names_key(lookups):
            found: M | None = self._model.get(**lookups)
            return found
        reading = self._reading_by_unique(lookups)
        if reading is not None:
            refuse_async_hooks(self._model.__mintkey_schema__, "after_load")
            return store_of(self._model.__mintkey_schema__).run(reading)
        return self._only(self._two(lookups).all(), lookups)

    async def aget(self, *key: Any, **lookups: Any) -> M | None:
        """Async version of `get()`."""
        lookups = self._with_key(key, lookups)
        if self._names_key(lookups):
            found: M | None = await self._model.aget(**lookups)
            return found
        reading = self._reading_by_unique(lookups)
        if reading is not None:
            return await store_of(self._model.__mintkey_schema__).arun(reading)
        return self._only(await self._two(lookups).aall(), lookups)

    def _with_key(self, key: tuple[Any, ...], lookups: dict[str, Any]) -> dict[str, Any]:
        return arguments.positional_key(self._model.__mintkey_schema__, key, lookups, self.get)

    def _two(self, lookups: dict[str, Any]) -> Result[M]:
        return self.filter(**lookups).order_by()[:2]

    def _names_key(self, lookups: Mapping[str, Any]) -> bool:
        schema = self._model.__mintkey_schema__
        return all(name in lookups for name in schema.given_keys) and all(name in schema.attributes for name in lookups)

    def _reading_by_unique(self, lookups: Mapping[str, Any]) -> Operation[M | None] | None:
        """Return the read of the item by unique values; None if the lookups contain none, or more than equalities."""
        schema = self._model.__mintkey_schema__
        unique = unique_in(schema, lookups) if all(name in schema.attributes for name in lookups) else None
        if unique is None or None in lookups.values():
            return None
        further = {name: value for name, value in lookups.items() if name not in unique.plan.attributes}
        return get(schema, unique, self._model._loaded, arguments.equalities(schema, further))

    def _only(self, found: list[M], lookups: Mapping[str, Any]) -> M | None:
        if len(found) > 1:
            raise InvalidValue(
                f"{self._model.__name__}.query.get({', '.join(lookups)}) found several items: use filter()",
                model=self._model.__name__,
            )
        return found[0] if found else None

    def count(self, **lookups: Any) -> int:
        """Return the number of items that match all lookups."""
        return self.filter(**lookups).count()

    async def acount(self, **lookups: Any) -> int:
        """Async version of `count()`."""
        return await self.filter(**lookups).acount()

    def first(self, **lookups: Any) -> M | None:
        """Return an item that matches all lookups, or None. Reads one item."""
        return self.filter(**lookups).first()

    async def afirst(self, **lookups: Any) -> M | None:
        """Async version of `first()`."""
        return await self.filter(**lookups).afirst()

    def exists(self, **lookups: Any) -> bool:
        """Return whether an item matches all lookups."""
        return self.filter(**lookups).exists()

    async def aexists(self, **lookups: Any) -> bool:
        """Async version of `exists()`."""
        return await self.filter(**lookups).aexists()


class QueryAccessor:
    """A descriptor that returns the `QueryAccess` of a model."""

    def __get__(self, instance: object | None, owner: type[M]) -> QueryAccess[M]:
        return QueryAccess(owner)
