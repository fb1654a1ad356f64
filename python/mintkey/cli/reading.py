"""The commands that read: `tables`, `describe`, `get`, `query`, `scan`, `count` and `ping`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mintkey._core import Condition, Item
from mintkey.catalog import IndexInfo, KeyInfo, TableInfo, describe, tables
from mintkey.cli.access import count_rows, key_value, opened, queried, scanned
from mintkey.cli.endings import Code, UsageError, complain
from mintkey.cli.expressions import parse_condition
from mintkey.cli.output import is_terminal, print_table
from mintkey.cli.rows import cells
from mintkey.raw import RawTable, index_of
from mintkey.results.plans import sort_condition
from mintkey.stores import Store

#: The rows of which a table is made at once.
_BLOCK = 1_000
#: The rows from which the size of a table is estimated.
_SAMPLE = 100


def output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--output`."""
    parser.add_argument(
        "-o",
        "--output",
        choices=["json", "table"],
        help="JSON lines, or a table for people. Without it: a table on a terminal, otherwise JSON lines.",
    )


def table_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the name of a table."""
    parser.add_argument("table", metavar="TABLE", help="The name of the table, without the prefix of the URL.")


def where_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--where`."""
    parser.add_argument("-w", "--where", metavar="CONDITION", help="Only rows for which the condition is true.")


def positive(text: str) -> int:
    """Return a number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def as_json(given: argparse.Namespace) -> bool:
    """Return whether the output is JSON lines."""
    return bool(given.output == "json" or (given.output is None and not is_terminal(sys.stdout)))


def condition_of(given: argparse.Namespace) -> Condition | None:
    """Return the condition of `--where`."""
    return None if given.where is None else parse_condition(given.where)


def _print_json(values: dict[str, Any]) -> None:
    print(json.dumps(values, ensure_ascii=False, separators=(",", ":")))


def _facts(table: TableInfo) -> dict[str, Any]:
    return {**table.to_dict(), "rows": table.rows, "rows_are_exact": table.is_exact, "bytes": table.bytes}


def _rows(table: TableInfo) -> str:
    return "" if table.rows is None else f"{table.rows:,}" if table.is_exact else f"about {table.rows:,}"


def list_tables(given: argparse.Namespace) -> Code:
    """List the tables of a store."""
    with opened(given.url) as store:
        found = tables(store)
    if as_json(given):
        for table in found:
            _print_json(_facts(table))
    else:
        print_table(
            ["table", "partition key", "sort key", "indexes", "rows"],
            [
                [table.name, str(table.partition), str(table.sort or ""), str(len(table.indexes)), _rows(table)]
                for table in found
            ],
        )
    return Code.DONE


def describe_one(given: argparse.Namespace) -> Code:
    """Describe a table."""
    with opened(given.url) as store:
        table = describe(store, given.table)
        bytes_ = table.bytes if table.bytes is not None else _estimated_bytes(store, table)
    if as_json(given):
        _print_json({**_facts(table), "bytes": bytes_})
        return Code.DONE
    size = "" if bytes_ is None else f"about {bytes_:,}"
    print_table(
        ["", ""],
        [
            ["table", table.name],
            ["partition key", str(table.partition)],
            ["sort key", str(table.sort or "")],
            ["expiry", table.ttl or ""],
            ["rows", _rows(table)],
            ["bytes", size],
            *([] if table.colocate is None else [["colocate", table.colocate]]),
            *(["index", _index_text(index)] for index in table.indexes),
            *(["unique", f"{unique.name}: {', '.join(unique.attributes)}"] for unique in table.unique),
        ],
        None,
    )
    return Code.DONE


def _estimated_bytes(store: Store, table: TableInfo) -> int | None:
    """Return the size of the rows as JSON, as far as the first rows show it."""
    if table.rows is None:
        return None
    sizes = [len(item.to_json().encode()) for items in scanned(store, table, limit=_SAMPLE) for item in items]
    return round(sum(sizes) / len(sizes) * table.rows) if sizes else 0


def ping(given: argparse.Namespace) -> Code:
    """Send a ping to the servers of a store."""
    with opened(given.url) as store:
        found = store.ping()
    milliseconds = round(found.seconds * 1_000, 1)
    if as_json(given):
        servers = [{"address": server.address, "version": server.version} for server in found.servers]
        _print_json({"store": found.store, "milliseconds": milliseconds, "servers": servers})
        return Code.DONE
    print_table(
        ["server", "version", "milliseconds"],
        [[server.address, server.version or "", f"{milliseconds}"] for server in found.servers],
    )
    return Code.DONE


def describe_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `describe`."""
    table_argument(parser)
    output_arguments(parser)


def _index_text(index: IndexInfo) -> str:
    keys = ", ".join(map(str, [*index.partition, *([] if index.sort is None else [index.sort])]))
    shown = index.projection if isinstance(index.projection, str) else ", ".join(index.projection)
    return f"{index.name}: {keys}; projects {shown}{'; local' if index.local else ''}"


def get_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `get`."""
    table_argument(parser)
    parser.add_argument(
        "key", metavar="KEY", nargs="+", help="The partition key, then the sort key if the table has one."
    )
    _consistent(parser)
    output_arguments(parser)


def _consistent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--consistent", action="store_true", help="A strongly consistent read on DynamoDB.")


def _values(table: str, keys: Sequence[KeyInfo], words: Sequence[str], what: str) -> tuple[Any, ...]:
    """Return words as the values of keys."""
    if len(words) != len(keys):
        named = ", ".join(map(str, keys)) or "nothing"
        raise UsageError(
            f"{table}: {what} is {named}: give {len(keys)} value{'s' * (len(keys) != 1)}, not {len(words)}"
        )
    return tuple(key_value(table, key, word) for key, word in zip(keys, words, strict=True))


def get(given: argparse.Namespace) -> Code:
    """Print one row."""
    with opened(given.url) as store:
        table = describe(store, given.table)
        key = _values(table.name, table.keys, given.key, "the key")
        row = RawTable(store, table).get(key, consistent=given.consistent)
    if row is None:
        complain(f"{table.name}: no row has the key {' '.join(given.key)}")
        return Code.PARTIAL
    item = Item.from_dict(row)
    if as_json(given):
        print(item.to_json())
    else:
        texts = cells(item)
        names = dict.fromkeys([*(part.name for part in table.keys), *texts])
        print_table(["attribute", "value"], [[name, texts[name]] for name in names], None)
    return Code.DONE


def _limits(parser: argparse.ArgumentParser) -> None:
    where_argument(parser)
    parser.add_argument("-n", "--limit", type=positive, help="The maximum number of rows.")
    _consistent(parser)
    output_arguments(parser)


def query_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `query`."""
    table_argument(parser)
    parser.add_argument(
        "partition",
        metavar="PARTITION",
        nargs="*",
        default=[],
        help="The value of the partition key, or the values of the partition attributes of the index.",
    )
    parser.add_argument("-i", "--index", help="The name of an index.")
    parser.add_argument("--descending", action="store_true", help="In descending order of the sort key.")
    _limits(parser)


def query(given: argparse.Namespace) -> Code:
    """Print the rows of a partition."""
    where = condition_of(given)
    with opened(given.url) as store:
        table = describe(store, given.table)
        index = None if given.index is None else index_of(table, given.index)
        partition = (table.partition,) if index is None else index.partition
        sort_key = table.sort if index is None else index.sort
        values = _values(table.name, partition, given.partition, "the partition key")
        sort, rest = None, where
        if sort_key is not None and where is not None:
            sort, rest = _split(sort_key, where)
        pages = queried(
            store,
            table,
            values,
            sort,
            rest,
            index=index,
            descending=given.descending,
            limit=given.limit,
            consistent=given.consistent,
        )
        return _print_rows(given, table, pages)


def _split(sort_key: KeyInfo, where: Condition) -> tuple[tuple[Any, ...] | None, Condition | None]:
    """Divide a condition into that on the sort key, which selects what is read, and the rest."""
    parts = where.conjuncts()
    sort, used = sort_condition(sort_key.name, parts)
    rest = [part for part in parts if not any(part is one for one in used)]
    return sort, Condition.every(rest) if rest else None


def scan_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `scan`."""
    table_argument(parser)
    _limits(parser)


def scan(given: argparse.Namespace) -> Code:
    """Print the rows of a table."""
    where = condition_of(given)
    with opened(given.url) as store:
        table = describe(store, given.table)
        pages = scanned(store, table, where, limit=given.limit, consistent=given.consistent)
        return _print_rows(given, table, pages)


def _print_rows(given: argparse.Namespace, table: TableInfo, pages: Iterable[list[Item]]) -> Code:
    if as_json(given):
        for items in pages:
            # The reader of a pipe sees each page at once.
            print(*(item.to_json() for item in items), sep="\n", end="\n" if items else "", flush=True)
        return Code.DONE
    names = [key.name for key in table.keys]
    for block in _blocks(pages):
        rows = [cells(item) for item in block]
        columns = list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
        print_table(columns, [[row.get(name, "") for name in columns] for row in rows])
    return Code.DONE


def _blocks(pages: Iterable[list[Item]]) -> Iterator[list[Item]]:
    block: list[Item] = []
    for items in pages:
        block += items
        if len(block) >= _BLOCK:
            yield block
            block = []
    if block:
        yield block


def count_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `count`."""
    table_argument(parser)
    where_argument(parser)


def count(given: argparse.Namespace) -> Code:
    """Print the number of rows."""
    where = condition_of(given)
    with opened(given.url) as store:
        print(count_rows(store, describe(store, given.table), where))
    return Code.DONE
