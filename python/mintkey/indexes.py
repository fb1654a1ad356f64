"""Indexes: queries of a model by other attributes than its key.

::

    class Order(Model):
        ...
        by_status = Index(partition_key="status", sort_key="created_at")


    Order.by_status.query(status="paid")
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from mintkey.conditions import Condition
from mintkey.errors import ConfigurationError, check_flags, shortened

if TYPE_CHECKING:
    from mintkey.lookups import Q
    from mintkey.queries import OnUnreadable, Result

__all__ = ["Index", "IndexAccess"]

M = TypeVar("M")

#: The names of tables and indexes that DynamoDB takes.
NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
NAME_CHARACTERS = "3 to 255 characters of A-Z a-z 0-9 _ . -"


class IndexAccess(Generic[M]):
    """The value of `Order.by_status`: queries of a model by one index."""

    __slots__ = ("_model", "name")

    def __init__(self, model: type[M], name: str) -> None:
        self._model: Any = model
        self.name = name

    def query(
        self,
        *conditions: Condition[M] | Q,
        descending: bool = False,
        limit: int | None = None,
        attributes: Iterable[str] | None = None,
        consistent: bool | None = None,
        on_unreadable: OnUnreadable = "raise",
        **equal: Any,
    ) -> Result[M]:
        """Return the items with one key of the index. Same parameters as `Model.query(…, index=name)`."""
        found: Result[M] = self._model.query(
            *conditions,
            index=self.name,
            descending=descending,
            limit=limit,
            attributes=attributes,
            consistent=consistent,
            on_unreadable=on_unreadable,
            **equal,
        )
        return found

    #: Async version of `query()`: returns the same lazy result, for `async for`.
    aquery = query

    def count(self, *conditions: Condition[M] | Q, consistent: bool | None = None, **equal: Any) -> int:
        """Return the number of items with one key of the index."""
        return self.query(*conditions, consistent=consistent, **equal).count()

    async def acount(self, *conditions: Condition[M] | Q, consistent: bool | None = None, **equal: Any) -> int:
        """Async version of `count()`."""
        return await self.query(*conditions, consistent=consistent, **equal).acount()

    def __repr__(self) -> str:
        return f"<Index {self._model.__name__}.{self.name}>"


class Index:
    """An index of a model. It does not contain items that have no value for one of its key attributes.

    Args:
        partition_key: the name of the attribute that queries compare for equality.
        sort_key: the name of the attribute that orders the items. The order among equal values is unspecified.
        projection: the attributes that the index contains: `"all"`, only the `"keys"`, or the keys and these names.
        local: the index has the partition key of the table. On DynamoDB (a local secondary index), only such an index
            supports consistent reads, and it is created together with the table.
        name: the name of the index in the store, if it differs from the attribute's name.

    Raises:
        ConfigurationError: a name is not text, or `projection=` is not a list. Names that the model does not have are
            reported when the class is defined.
    """

    def __init__(
        self,
        partition_key: str,
        sort_key: str | None = None,
        projection: Literal["all", "keys"] | Iterable[str] = "all",
        *,
        local: bool = False,
        name: str | None = None,
    ) -> None:
        check_flags("Index", ConfigurationError, local=local)
        if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
            raise ConfigurationError(f"Index: name= takes text of {NAME_CHARACTERS}, not {shortened(name)}")
        for parameter, value in (("partition_key", partition_key), ("sort_key", sort_key)):
            if not isinstance(value, str) and not (value is None and parameter == "sort_key"):
                raise ConfigurationError(f"Index: {parameter}= takes the name of an attribute, not {shortened(value)}")
        if not isinstance(projection, Iterable):
            raise ConfigurationError(f"Index: projection= takes 'all', 'keys' or names, not {shortened(projection)}")
        self.partition_key = partition_key
        self.sort_key = sort_key
        self.projection = projection if isinstance(projection, str) else tuple(projection)
        self.local = local
        self.name = name or ""
        #: The name of the class attribute.
        self.attribute_name = ""

    def __repr__(self) -> str:
        keys = (self.partition_key, self.sort_key)
        return f"Index({', '.join(repr(key) for key in keys if key is not None)})"

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute_name = name
        self.name = self.name or name

    def __get__(self, instance: object | None, owner: type[M]) -> IndexAccess[M]:
        return IndexAccess(owner, self.name)

    def projected(self) -> tuple[str, ...] | None:
        """Return the projected attributes except the keys; None for all."""
        if self.projection == "all":
            return None
        return () if self.projection == "keys" else tuple(self.projection)
