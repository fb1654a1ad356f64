"""The command `copy`: tables of one store to another, with their rows, indexes, expiry and unique values."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mintkey._core import Item
from mintkey.catalog import describe, tables
from mintkey.cli.access import opened
from mintkey.cli.endings import Code, Interrupted, complain
from mintkey.cli.output import Progress, print_table
from mintkey.cli.reading import as_json, output_arguments
from mintkey.cli.transfer import conflict_argument, how_to_continue
from mintkey.copying import CopyReport, TableReport, copy
from mintkey.errors import StoreError
from mintkey.rate_limit import FixedRate
from mintkey.stores import Store

_COUNTS = ["written", "unchanged", "skipped", "failed"]
#: The rows of a difference that are named.
_SHOWN = 20


def copy_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `copy`."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="The URL of the store that is read. env:NAME is the URL in the environment variable NAME.",
    )
    parser.add_argument("target", metavar="TARGET", help="The URL of the store that is written; also as env:NAME.")
    parser.add_argument(
        "tables",
        metavar="TABLE",
        nargs="*",
        default=[],
        help="Names of tables. Without names: all tables of the source.",
    )
    conflict_argument(
        parser,
        "What to do with rows that the target has with other values. fail: copy no table that has rows in the target "
        "(the default). skip: leave the stored rows. replace: replace them.",
    )
    parser.add_argument(
        "--resume",
        metavar="FILE",
        help="A file for the state of the copy. If it exists, the copy continues from there.",
    )
    parser.add_argument("--verify", action="store_true", help="Compare the tables at the end.")
    parser.add_argument("--dry-run", action="store_true", help="Write nothing; print what would be copied.")
    parser.add_argument(
        "--changed-since",
        metavar="ATTRIBUTE",
        help="At the end, copy the rows that changed meanwhile: this attribute has the time of the last change.",
    )
    parser.add_argument("--rate", type=_rate, metavar="UNITS", help="The maximum number of capacity units per second.")
    output_arguments(parser)


def copy_tables(given: argparse.Namespace) -> Code:
    """Copy tables."""
    with opened(given.source) as source, opened(given.target, may_be_new=True) as target:
        progress = _progress(source, given.tables)
        rows: dict[str, int] = {}

        def show(name: str, done: int, _total: int | None) -> None:
            rows[name] = done
            progress.to(sum(rows.values()))

        try:
            report = copy(
                source,
                target,
                given.tables or None,
                on_conflict=given.on_conflict,
                resume=given.resume,
                verify=given.verify,
                dry_run=given.dry_run,
                rate=given.rate,
                changed_since=given.changed_since,
                progress=show,
            )
        except KeyboardInterrupt as interrupt:
            progress.clear()
            text = f"{progress.rows:,} rows are copied; {_how_to_continue(given)}"
            raise Interrupted(interrupt, text) from None
        except StoreError:
            progress.clear()
            if progress.rows:
                complain(f"{progress.rows:,} rows were copied before a store failed; {_how_to_continue(given)}")
            raise
        progress.clear()
    _print(given, report)
    return Code.DONE if report.is_complete and report.tables else Code.PARTIAL


def _how_to_continue(given: argparse.Namespace) -> str:
    if given.resume is not None:
        return f"to continue, run the same command again: {given.resume} keeps the state"
    return how_to_continue(given)


def _rate(text: str) -> FixedRate:
    try:
        return FixedRate(rcu=float(text), wcu=float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number") from error


def _progress(source: Store, names: list[str]) -> Progress:
    found = [describe(source, name) for name in names] if names else tables(source)
    known = [table.rows for table in found if table.rows is not None]
    return Progress("copy", sum(known) if len(known) == len(found) else None)


def _print(given: argparse.Namespace, report: CopyReport) -> None:
    if not report.tables:
        complain(f"{report.source} has no tables: nothing was copied")
        return
    for table in report.tables:
        _complain(table)
    if as_json(given):
        for table in report.tables:
            print(json.dumps(_facts(table), ensure_ascii=False))
        return
    print_table(
        ["table", "rows", "exists", *_COUNTS, "equal"],
        [
            [
                table.name,
                "" if table.rows is None else f"{table.rows:,}",
                "yes" if table.exists else "no",
                *(f"{getattr(table, name):,}" for name in _COUNTS),
                "" if not report.verified else "yes" if table.difference is None else "no",
            ]
            for table in report.tables
        ],
    )


def _complain(table: TableReport) -> None:
    """Report what is wrong with the copy of a table."""
    if table.problem is not None:
        complain(table.problem)
    for index in table.reduced_indexes:
        complain(f"{table.name}: DynamoDB keeps only the first partition attribute of the index {index!r}")
    for failure in table.failures:
        complain(f"{table.name}: the row {_text(failure.key)} was refused: {failure.reason}")
    if len(table.failures) < table.failed:
        complain(f"{table.name}: and {table.failed - len(table.failures):,} more rows")
    found = table.difference
    if found is not None:
        for what, keys in (
            ("is missing in the target", found.missing_keys),
            ("is only in the target", found.extra_keys),
            ("differs", found.different_keys),
        ):
            for key in keys[:_SHOWN]:
                complain(f"{table.name}: the row {_text(key)} {what}")
        complain(
            f"{table.name}: the tables differ: {found.missing:,} rows are missing, {found.extra:,} are only in the "
            f"target, {found.different:,} differ"
        )


def _text(key: dict[str, Any]) -> str:
    return Item.from_dict(key).to_json()


def _facts(table: TableReport) -> dict[str, Any]:
    facts: dict[str, Any] = {"table": table.name, "rows": table.rows, "exists": table.exists}
    facts |= {name: getattr(table, name) for name in _COUNTS}
    if table.problem is not None:
        facts["problem"] = table.problem
    if table.reduced_indexes:
        facts["reduced_indexes"] = list(table.reduced_indexes)
    if table.difference is not None:
        facts["difference"] = {name: getattr(table.difference, name) for name in ("missing", "extra", "different")}
    return facts
