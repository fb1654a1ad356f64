"""Indexes: other orders in which a model's items can be read.

::

    class Order(Model):
        ...
        by_status = Index(partition_key="status", sort_key="created_at")


    Order.by_status.query(status="paid")
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from mintkey.conditions import Condition

if TYPE_CHECKING:
    from mintkey.queries import Result

__all__ = ["Index", "IndexAccess"]

M = TypeVar("M")


class IndexAccess(Generic[M]):
    """What `Order.by_status` is: the queries of a model by one index."""

    __slots__ = ("_model", "name")

    def __init__(self, model: type[M], name: str) -> None:
        self._model: Any = model
        self.name = name

    def query(
        self,
        *conditions: Condition,
        descending: bool = False,
        limit: int | None = None,
        attributes: Iterable[str] | None = None,
        consistent: bool = False,
        **equal: Any,
    ) -> Result[M]:
        """The items under a key of the index, like `Model.query(…, index=name)`, whose arguments are told there."""
        found: Result[M] = self._model.query(
            *conditions,
            index=self.name,
            descending=descending,
            limit=limit,
            attributes=attributes,
            consistent=consistent,
            **equal,
        )
        return found

    def aquery(
        self,
        *conditions: Condition,
        descending: bool = False,
        limit: int | None = None,
        attributes: Iterable[str] | None = None,
        consistent: bool = False,
        **equal: Any,
    ) -> Result[M]:
        """Like `query()`, for `async for`."""
        found: Result[M] = self._model.aquery(
            *conditions,
            index=self.name,
            descending=descending,
            limit=limit,
            attributes=attributes,
            consistent=consistent,
            **equal,
        )
        return found

    def count(self, *conditions: Condition, consistent: bool = False, **equal: Any) -> int:
        """How many items there are under a key of the index."""
        return self.query(*conditions, consistent=consistent, **equal).count()

    async def acount(self, *conditions: Condition, consistent: bool = False, **equal: Any) -> int:
        """Like `count()`, awaited."""
        return await self.query(*conditions, consistent=consistent, **equal).acount()

    def __repr__(self) -> str:
        return f"<Index {self._model.__name__}.{self.name}>"


class Index:
    """An index of a model. Items without one of its attributes are not in it.

    Args:
        partition_key: the attribute that is looked up for equality.
        sort_key: the attribute that orders the items; among equal ones the order is unspecified.
        projection: what a read by the index gives: `"all"`, the `"keys"` alone, or these attributes and the keys.
        local: shares the table's partition key; on DynamoDB the only kind that reads consistently, and one that is
            made together with the table.
    """

    def __init__(
        self,
        partition_key: str,
        sort_key: str | None = None,
        projection: Literal["all", "keys"] | Iterable[str] = "all",
        *,
        local: bool = False,
    ) -> None:
        self.partition_key = partition_key
        self.sort_key = sort_key
        self.projection = projection if isinstance(projection, str) else tuple(projection)
        self.local = local
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object | None, owner: type[M]) -> IndexAccess[M]:
        return IndexAccess(owner, self.name)

    def projected(self) -> tuple[str, ...] | None:
        """The attributes beside the keys; None for all."""
        if self.projection == "all":
            return None
        return () if self.projection == "keys" else tuple(self.projection)
