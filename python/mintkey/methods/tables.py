"""Tables: methods of a model that create, check and delete its table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from mintkey.definitions.schema import NoSchema, Schema
from mintkey.operations import table_operations
from mintkey.stores import store_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey import _core


class TableMixin:
    """The table methods of a model."""

    __mintkey_schema__: ClassVar[Schema] = cast("Schema", NoSchema())

    if TYPE_CHECKING:  # defined by `Model`

        @classmethod
        def _loaded(cls, item: _core.Item, fetched: set[str] | None = None) -> Self: ...

    @classmethod
    def create_table(cls, *, drop_unique: Iterable[str | tuple[str, ...]] = (), force: bool = False) -> None:
        """Create the table and its indexes, or add missing indexes. SQLite and Redis also do so on first use.

        Args:
            drop_unique: attributes, and tuples of attributes, whose values are no longer to be unique in the table.
                Attributes that are not unique in the table are ignored. If the class still declares one, its values
                are recorded again.
            force: on DynamoDB, add an index also if it cannot hold the values of some rows. DynamoDB then refuses each
                write of such a row that does not correct or remove the value. SQLite and Redis leave these rows out of
                the index.

        Raises:
            TypeError: neither the class nor the table has an attribute in `drop_unique`.
            InvalidValue: an index that is missing cannot hold the values of some rows; the message lists them. To find
                them, all rows are read.
        """
        schema = cls.__mintkey_schema__
        store_of(schema).run(table_operations.create_table(schema, drop_unique, force=force))

    @classmethod
    async def acreate_table(cls, *, drop_unique: Iterable[str | tuple[str, ...]] = (), force: bool = False) -> None:
        """Async version of `create_table()`."""
        schema = cls.__mintkey_schema__
        await store_of(schema).arun(table_operations.create_table(schema, drop_unique, force=force))

    @classmethod
    def table_exists(cls) -> bool:
        """Return whether the table exists."""
        schema = cls.__mintkey_schema__
        return store_of(schema).run(table_operations.table_exists(schema))

    @classmethod
    async def atable_exists(cls) -> bool:
        """Async version of `table_exists()`."""
        schema = cls.__mintkey_schema__
        return await store_of(schema).arun(table_operations.table_exists(schema))

    @classmethod
    def delete_table(cls) -> None:
        """Delete the table and all its items. A missing table is not an error."""
        schema = cls.__mintkey_schema__
        store_of(schema).run(table_operations.delete_table(schema))

    @classmethod
    async def adelete_table(cls) -> None:
        """Async version of `delete_table()`."""
        schema = cls.__mintkey_schema__
        await store_of(schema).arun(table_operations.delete_table(schema))
