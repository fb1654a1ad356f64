"""The catalog: the tables of a store, as the store describes them, without the classes of the program.

::

    for info in tables(store):
        print(info.name, info.keys, info.rows)
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from mintkey import _core
from mintkey.errors import CONVERSION_ERRORS, ConfigurationError, TableMissing, cause, shortened
from mintkey.indexes import NAME, NAME_CHARACTERS

if TYPE_CHECKING:
    from mintkey.stores import Operation, Store

__all__ = [
    "IndexInfo",
    "KeyInfo",
    "TableInfo",
    "UniqueInfo",
    "acreate_table_like",
    "adescribe",
    "atables",
    "create_table_like",
    "describe",
    "tables",
]

#: The stored description of a table, the number of rows, whether that is exact, the size in bytes, and the id.
Description: TypeAlias = "tuple[_core.Item, int | None, bool, int | None, str | None]"

_TYPES = {"S": "string", "N": "number", "B": "binary"}
#: The number of tables that a message names.
_NAMED = 10


class KeyInfo(NamedTuple):
    """An attribute that is part of a key.

    Attributes:
        name: its stored name.
        type: `"string"`, `"number"` or `"binary"`.
    """

    name: str
    type: str

    def __str__(self) -> str:
        return f"{self.name} ({self.type})"


class IndexInfo(NamedTuple):
    """An index of a table.

    Attributes:
        name: its name.
        partition: the attributes that a query gives; empty for an index that orders the whole table.
        sort: the attribute that orders the rows, or None.
        projection: `"all"`, `"keys"`, or the names of the attributes that it has besides the keys.
        local: whether it is a local index of DynamoDB.
    """

    name: str
    partition: tuple[KeyInfo, ...]
    sort: KeyInfo | None
    projection: str | tuple[str, ...]
    local: bool


class UniqueInfo(NamedTuple):
    """Values that are unique in a table.

    Attributes:
        name: the name of the declaration.
        attributes: the names of the attributes whose values are unique together.
        scope: which rows it is about, as the catalog says it; empty if it is about all rows.
    """

    name: str
    attributes: tuple[str, ...]
    scope: dict[str, Any]


@dataclass(frozen=True, repr=False)
class TableInfo:
    """A table as the catalog of its store describes it.

    Attributes:
        name: the name of the table, without the prefix of the URL.
        partition: the partition key.
        sort: the sort key, or None.
        ttl: the attribute with the time of expiry, or None.
        indexes: the indexes.
        unique: the unique values.
        colocate: the text of `ModelConfig(colocate=)`, or None. DynamoDB does not keep it.
        rows: the number of rows; None if the store does not know it.
        is_exact: whether `rows` is exact. Otherwise it is an estimate: DynamoDB updates it every six hours, SQLite
            counts at most a million rows, and expired rows may be included.
        bytes: the size of the rows, if the store knows it: only DynamoDB does.
    """

    name: str
    partition: KeyInfo
    sort: KeyInfo | None
    ttl: str | None
    indexes: tuple[IndexInfo, ...]
    unique: tuple[UniqueInfo, ...]
    colocate: str | None
    rows: int | None
    is_exact: bool
    bytes: int | None
    _description: _core.Item = field(compare=False)
    #: A text that no other table has, under any URL; None if the store has none. On Redis it ends with a space and the
    #: id of the server's data, or with the space if the user may not call INFO: a restored table then looks equal.
    _id: str | None = field(compare=False)

    @property
    def keys(self) -> tuple[KeyInfo, ...]:
        """The partition key, and the sort key if there is one."""
        return (self.partition,) if self.sort is None else (self.partition, self.sort)

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain values for JSON, without the number of rows. `from_dict()` reads it."""
        return {"name": self.name, **json.loads(self._description.to_json())}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TableInfo:
        """Return the description that `to_dict()` returned.

        Raises:
            ConfigurationError: it is not the description of a table.
        """
        if not isinstance(values, Mapping):
            raise ConfigurationError(f"a description of a table is a dict, not {shortened(values)}")
        name = values.get("name")
        _check_name(name)
        try:
            item = _core.Item.from_dict({key: value for key, value in values.items() if key != "name"})
        except CONVERSION_ERRORS as error:
            raise ConfigurationError(f"{name}: this is not the description of a table: {cause(error)}") from error
        info = _info(cast("str", name), (item, None, False, None, None))
        if info.sort is not None and info.sort.name == info.partition.name:
            raise ConfigurationError(
                f"{name}: the attribute {info.sort.name!r} is the partition key and the sort key: name two attributes"
            )
        return info

    def located_as(self, there: TableInfo | None) -> TableInfo:
        """Return this description, with the rows where another description of the table has them."""
        if there is None or there.colocate == self.colocate:
            return self
        values = {name: value for name, value in self.to_dict().items() if name != "colocate"}
        return TableInfo.from_dict(values if there.colocate is None else {**values, "colocate": there.colocate})

    def __repr__(self) -> str:
        return f"<TableInfo {self.name}: {', '.join(map(str, self.keys))}>"


def tables(store: Store) -> list[TableInfo]:
    """Return the descriptions of all tables of a store, in the order of their names.

    A prefix in the URL selects the tables: `?prefix=` on Redis, `?table_prefix=` on DynamoDB. DynamoDB also lists the
    tables of other programs. On Redis, a table of a version that kept no list is listed after `create_table()`.
    """
    return store.run(_tables())


async def atables(store: Store) -> list[TableInfo]:
    """Async version of `tables()`."""
    return await store.arun(_tables())


def describe(store: Store, name: str) -> TableInfo:
    """Return the description of a table.

    Raises:
        TableMissing: there is no table of this name.
    """
    return store.run(existing(store, name))


async def adescribe(store: Store, name: str) -> TableInfo:
    """Async version of `describe()`."""
    return await store.arun(existing(store, name))


def create_table_like(store: Store, info: TableInfo) -> None:
    """Create a table with the keys, indexes, expiry and unique values of a table of this or another store.

    A table that exists gets the indexes and unique values that it lacks, and keeps its `colocate`. DynamoDB keeps only
    the first partition attribute of an index.

    Raises:
        ConfigurationError: the table exists with another key, expiry, or index of the same name.
    """
    store.run(_create(store, info))


async def acreate_table_like(store: Store, info: TableInfo) -> None:
    """Async version of `create_table_like()`."""
    await store.arun(_create(store, info))


def find(name: str) -> Operation[TableInfo | None]:
    """Return the description of a table, or None."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a table is text, not {shortened(name)}")
    try:
        request = _core.Request.describe_table(name)
    except UnicodeEncodeError:  # a lone surrogate, as arguments of the command line have in another locale
        return None
    found: Description | None = yield request
    return None if found is None else _info(name, found)


def _tables() -> Operation[list[TableInfo]]:
    names: list[str] = yield _core.Request.list_tables()
    found = []
    for name in names:
        info = yield from find(name)
        # It was deleted meanwhile.
        if info is not None:
            found.append(info)
    return found


def existing(store: Store, name: str) -> Operation[TableInfo]:
    """Return the description of a table that must exist."""
    info = yield from find(name)
    if info is not None:
        return info
    names: list[str] = yield _core.Request.list_tables()
    near = difflib.get_close_matches(name, names, 1, 0.7)
    listed = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    hint = f"did you mean {near[0]!r}?" if near else f"its tables are {listed}" if names else "it has no tables"
    raise TableMissing(f"table {shortened(name)} does not exist in {store.url}: {hint}", store=store.url)


def _create(store: Store, info: TableInfo) -> Operation[None]:
    there = yield from find(info.name)
    if there is not None and there.keys != info.keys:
        raise ConfigurationError(
            f"table {info.name!r} exists in {store.url} with the key {key_names(there)}, not with {key_names(info)}: "
            "delete that table, or use another store or prefix",
            store=store.url,
        )
    yield codec_of(info.located_as(there)).create_table()


def missing_file(store: Store) -> Path | None:
    """Return the path of a file of SQLite that does not exist although its folder does; None of every other store."""
    path = None if store._file is None else Path(store._file)
    return path if path is not None and not path.exists() and path.parent.is_dir() else None


def key_names(info: TableInfo) -> str:
    """Return the key of a table for a message."""
    return ", ".join(map(str, info.keys))


def codec_of(info: TableInfo) -> _core.Codec:
    """Return the compiled schema of a table."""
    return _core.Codec.of_table(info.name, info._description)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigurationError(f"the table name {shortened(name)} does not have {NAME_CHARACTERS}")


def _info(name: str, found: Description) -> TableInfo:
    item, rows, is_exact, size, table_id = found
    values = item.to_dict()
    try:
        # The core checks the description.
        _core.Codec.of_table(name, item)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    return TableInfo(
        name=name,
        partition=_key(values["partition"]),
        sort=_optional_key(values),
        ttl=values.get("ttl"),
        indexes=tuple(map(_index, values["indexes"])),
        unique=tuple(map(_unique, values["unique"])),
        colocate=values.get("colocate"),
        rows=rows,
        is_exact=is_exact,
        bytes=size,
        _description=item,
        _id=table_id,
    )


def _key(values: dict[str, Any]) -> KeyInfo:
    return KeyInfo(values["name"], _TYPES[values["type"]])


def _optional_key(values: dict[str, Any]) -> KeyInfo | None:
    return _key(values["sort"]) if "sort" in values else None


def _index(values: dict[str, Any]) -> IndexInfo:
    projection = values["projection"]
    return IndexInfo(
        name=values["name"],
        partition=tuple(map(_key, values["partition"])),
        sort=_optional_key(values),
        projection=projection if isinstance(projection, str) else tuple(projection),
        local=values["local"],
    )


def _unique(values: dict[str, Any]) -> UniqueInfo:
    scope = {name: value for name, value in values.items() if name not in {"name", "attributes"}}
    return UniqueInfo(values["name"], tuple(values["attributes"]), scope)
