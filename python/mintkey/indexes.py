"""Indexes: other orders in which a model's items can be read.

::

    class Order(Model):
        ...
        by_status = Index(partition_key="status", sort_key="created_at")


    Order.by_status.query(status="paid")
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

__all__ = ["Index", "IndexAccess"]


class IndexAccess:
    """What `Order.by_status` is: the queries of a model by one index."""

    __slots__ = ("_model", "name")

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self.name = name

    def query(self, *conditions: Any, **equal: Any) -> Any:
        """The items under a key of the index, like `Model.query(…, index=name)`."""
        return self._model.query(*conditions, index=self.name, **equal)

    def aquery(self, *conditions: Any, **equal: Any) -> Any:
        """Like `query()`, for `async for`."""
        return self._model.aquery(*conditions, index=self.name, **equal)

    def count(self, *conditions: Any, **equal: Any) -> int:
        """How many items there are under a key of the index."""
        found: int = self.query(*conditions, **equal).count()
        return found

    async def acount(self, *conditions: Any, **equal: Any) -> int:
        """Like `count()`, awaited."""
        found: int = await self.query(*conditions, **equal).acount()
        return found

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

    def __get__(self, instance: object | None, owner: type) -> IndexAccess:
        return IndexAccess(owner, self.name)

    def projected(self) -> tuple[str, ...] | None:
        """The attributes beside the keys; None for all."""
        if self.projection == "all":
            return None
        return () if self.projection == "keys" else tuple(self.projection)
