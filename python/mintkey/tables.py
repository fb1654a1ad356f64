"""Tables: what a model does with the table that it keeps its items in."""

from __future__ import annotations

from typing import ClassVar, cast

from mintkey import operations
from mintkey.schema import NoSchema, Schema
from mintkey.stores import store_of

__all__ = ["Tabled"]


class Tabled:
    """A class whose items lie in a table of a store."""

    __mintkey_schema__: ClassVar[Schema] = cast("Schema", NoSchema())

    @classmethod
    def create_table(cls) -> None:
        """Make the table and its indexes, or add what they lack. SQLite and Redis do so at the first use, too."""
        schema = cls.__mintkey_schema__
        store_of(schema).run(operations.create_table(schema))

    @classmethod
    async def acreate_table(cls) -> None:
        """Like `create_table()`, awaited."""
        schema = cls.__mintkey_schema__
        await store_of(schema).arun(operations.create_table(schema))

    @classmethod
    def table_exists(cls) -> bool:
        """Whether the table is there."""
        schema = cls.__mintkey_schema__
        return store_of(schema).run(operations.table_exists(schema))

    @classmethod
    async def atable_exists(cls) -> bool:
        """Like `table_exists()`, awaited."""
        schema = cls.__mintkey_schema__
        return await store_of(schema).arun(operations.table_exists(schema))

    @classmethod
    def delete_table(cls) -> None:
        """Drop the table with all its items; one that is not there counts as dropped."""
        schema = cls.__mintkey_schema__
        store_of(schema).run(operations.delete_table(schema))

    @classmethod
    async def adelete_table(cls) -> None:
        """Like `delete_table()`, awaited."""
        schema = cls.__mintkey_schema__
        await store_of(schema).arun(operations.delete_table(schema))
