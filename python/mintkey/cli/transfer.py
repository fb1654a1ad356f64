"""The commands that move rows through files: `export` and `import`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from mintkey._core import Item
from mintkey.catalog import TableInfo, codec_of, create_table_like, describe, find
from mintkey.cli.access import opened, scanned
from mintkey.cli.endings import Code, Interrupted, UsageError, complain
from mintkey.cli.files import DAMAGED, LONGEST, Source, written_file
from mintkey.cli.output import Progress, is_terminal
from mintkey.cli.reading import condition_of, table_argument, where_argument
from mintkey.cli.rows import FORMATS, BadLine
from mintkey.errors import ConfigurationError, KeyCollision, StoreError
from mintkey.raw import put_items
from mintkey.stores import Store

#: The maximum number of rows, and of bytes, that are written together.
_CHUNK, _CHUNK_BYTES = 500, 4_000_000
#: The names of the first and the last line. No row has them: a `$` at the start of a name is doubled in a row.
_TABLE, _END = "$table", "$end"
_TYPES = {"S": "string", "N": "number", "B": "binary"}


def _file_arguments(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help=text)
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default="json",
        help="json: one row of plain JSON per line; bytes and sets tagged. dynamodb: the format of Amazon's exports.",
    )


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `export`."""
    table_argument(parser)
    _file_arguments(parser, "A file, compressed if its name ends with .gz; - is standard output.")
    where_argument(parser)


def export(given: argparse.Namespace) -> Code:
    """Write the rows of a table to a file."""
    where = condition_of(given)
    write, has_ends = FORMATS[given.format].write, given.format == "json"
    with opened(given.url) as store:
        table = describe(store, given.table)
        progress = Progress(f"export {table.name}", None if where is not None else table.rows)
        try:
            with written_file(given.file) as file:
                if has_ends:
                    file.write(_line({_TABLE: table.to_dict()}))
                for items in scanned(store, table, where):
                    file.write("".join(f"{write(item)}\n" for item in items).encode())
                    progress.to(progress.rows + len(items))
                if has_ends:
                    file.write(_line({_END: {"rows": progress.rows}}))
        except KeyboardInterrupt as interrupt:
            progress.clear()
            kept = "the output is not complete" if given.file == "-" else f"{given.file} was not written"
            raise Interrupted(interrupt, f"{kept}; run the command again") from None
        progress.clear()
    if given.file != "-":
        _print_summary(sys.stdout, exported=progress.rows)
    return Code.DONE


def _line(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _print_summary(stream: Any, **numbers: int) -> None:
    """Print what was done: a sentence on a terminal, otherwise JSON."""
    if is_terminal(stream):
        print(", ".join(f"{number:,} {name}" for name, number in numbers.items()), file=stream)
    else:
        print(json.dumps(numbers), file=stream)


def conflict_argument(parser: argparse.ArgumentParser, text: str) -> None:
    """Declare `--on-conflict`, with the text of its help."""
    parser.add_argument("--on-conflict", choices=["fail", "skip", "replace"], default="fail", help=text)


def import_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `import`."""
    table_argument(parser)
    _file_arguments(parser, "A file, which may be compressed by gzip; - is standard input.")
    conflict_argument(
        parser,
        "What to do with a row whose key exists. fail: report it (the default). skip: leave the stored row. replace: "
        "replace it.",
    )
    for part in ("partition", "sort"):
        parser.add_argument(
            f"--{part}-key", metavar="NAME:TYPE", help=f"The {part} key of a new table; the type is S, N or B."
        )


def import_rows(given: argparse.Namespace) -> Code:
    """Write the rows of a file into a table."""
    with opened(given.url, may_be_new=True) as store, Source(given.file) as source:
        importing = _Import(store, given, source)
        try:
            importing.run()
        except KeyboardInterrupt as interrupt:
            importing.progress.clear()
            raise Interrupted(interrupt, f"{importing.done}; {how_to_continue(given)}") from None
        except StoreError:
            importing.progress.clear()
            if importing.written:
                complain(f"{importing.done} before the store failed; {how_to_continue(given)}")
            raise
        finally:
            importing.progress.clear()
    _print_summary(sys.stdout, written=importing.written, skipped=importing.skipped, failed=importing.failed)
    return Code.PARTIAL if importing.failed else Code.DONE


def how_to_continue(given: argparse.Namespace) -> str:
    """Return how to continue a command that was interrupted. With `skip`, rows would not be replaced any more."""
    command = "the command again with --on-conflict skip" if given.on_conflict == "fail" else "the same command again"
    return f"to continue, run {command}"


class _Import:
    """One import. A row or line that is refused is reported with the number of its line."""

    def __init__(self, store: Store, given: argparse.Namespace, source: Source) -> None:
        self._store = store
        self._given = given
        self._source = source
        self._read = FORMATS[given.format].read
        self._declared = _declared(given)
        self._has_lines = self._has_table = self._has_end = False
        self._table: TableInfo | None = None
        self.progress = Progress(f"import {given.table}", source.size)
        self.written = self.skipped = self.failed = 0

    @property
    def done(self) -> str:
        """How much is done, in words."""
        return f"{self.written:,} rows are written"

    def run(self) -> None:
        """Import everything."""
        chunk: list[tuple[int, Item]] = []
        size = 0
        for number, text in self._lines():
            try:
                item = self._item(text)
            except BadLine as error:
                self._refuse(number, error)
                continue
            if item is None:
                continue
            chunk.append((number, item))
            size += len(text)
            if len(chunk) >= _CHUNK or size >= _CHUNK_BYTES:
                self._write(chunk)
                chunk, size = [], 0
        self._write(chunk)
        if not self._has_lines and self._given.format == "json":
            self._refuse(None, "there are no lines")
        elif not self._has_lines:
            # The export of an empty table.
            self._opened()
        elif self._has_table and not self._has_end:
            self._refuse(None, "the last line of the export is missing: it was cut off")

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        try:
            for number, text in self._source:
                self._has_lines = True
                yield number, text
        except DAMAGED as error:
            self._refuse(None, f"the compressed file is damaged or cut off: {error}")

    def _item(self, text: bytes) -> Item | None:
        """Return the row of a line; None for a line about the table."""
        if not text:
            raise BadLine(f"a line of more than {LONGEST:,} bytes is not a row")
        if text.startswith((b'{"$table"', b'{"$end"')) and self._given.format == "json":
            self._note(text)
            return None
        try:
            return self._read(text.decode())
        except UnicodeDecodeError as error:
            raise BadLine(f"not UTF-8, at byte {error.start + 1}") from error

    def _note(self, text: bytes) -> None:
        try:
            values = json.loads(text)
            self._has_end = _TABLE not in values
            described = None if self._has_end else TableInfo.from_dict({**values[_TABLE], "name": self._given.table})
        except (ValueError, TypeError) as error:
            raise BadLine(f"not the description of a table: {error}") from error
        if described is not None:
            self._has_table = True
            if self._table is None and self._store.run(find(self._given.table)) is None:
                self._create(described)

    def _create(self, table: TableInfo) -> TableInfo:
        create_table_like(self._store, table)
        self._table = table
        return table

    def _opened(self) -> TableInfo:
        """Return the table. It is created if it does not exist and its keys are known."""
        if self._table is None:
            self._table = self._store.run(find(self._given.table))
        if self._table is not None:
            return self._table
        if self._declared is None:
            raise UsageError(
                f"{self._given.table}: there is no such table, and the file does not describe it: create it with "
                "--partition-key NAME:TYPE, and --sort-key if it has one"
            )
        return self._create(self._declared)

    def _write(self, chunk: list[tuple[int, Item]]) -> None:
        if chunk:
            codec = codec_of(self._opened())
            outcomes = self._store.run(put_items(codec, [item for _, item in chunk], self._given.on_conflict))
            for (number, _), outcome in zip(chunk, outcomes, strict=True):
                if outcome is None:
                    self.written += 1
                elif isinstance(outcome, KeyCollision) and self._given.on_conflict == "skip":
                    self.skipped += 1
                elif isinstance(outcome, StoreError):
                    raise outcome
                elif isinstance(outcome, KeyCollision):
                    key = ", ".join(map(repr, (outcome.key or {}).values()))
                    self._refuse(number, f"a row with the key {key} exists: see --on-conflict")
                else:
                    self._refuse(number, outcome)
        self.progress.to(self.written + self.skipped, self._source.position)

    def _refuse(self, number: int | None, reason: object) -> None:
        self.failed += 1
        self.progress.clear()
        where = self._source.name if number is None else f"{self._source.name}, line {number}"
        complain(f"{where}: {reason}")


def _declared(given: argparse.Namespace) -> TableInfo | None:
    """Return the description of a table with the keys of the options; None without them."""
    if given.partition_key is None:
        if given.sort_key is not None:
            raise UsageError(f"--sort-key {given.sort_key}: a table has a partition key too: give --partition-key")
        return None
    values: dict[str, Any] = {"name": given.table, "indexes": [], "unique": []}
    for part in ("partition", "sort"):
        text = getattr(given, f"{part}_key")
        if text is not None:
            name, colon, type_ = text.rpartition(":")
            if not colon or not name or type_ not in _TYPES:
                raise UsageError(f"--{part}-key {text}: give a name and a type, such as id:S, id:N or id:B")
            values[part] = {"name": name, "type": type_}
    try:
        return TableInfo.from_dict(values)
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
