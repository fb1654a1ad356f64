"""Copies of tables from one store to another, from the catalog alone.

::

    report = copy("sqlite:///shop.db", "redis://localhost?prefix=shop", resume="shop-copy.json", verify=True)
    assert report.is_complete

Rows are copied whole and exactly, a page at a time. The target keeps its indexes, expiry, unique values and `colocate`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from mintkey import _core
from mintkey.catalog import TableInfo, codec_of, create_table_like, describe, find, key_names, missing_file, tables
from mintkey.copies.comparing import Difference, compare_table
from mintkey.copies.segments import Codecs, Copied, Segment, Stores, Table, run_segments
from mintkey.copies.state import CopyState, Failure, TableState
from mintkey.errors import ConfigurationError, InvalidValue, check_flags, shortened
from mintkey.monitoring import check_callback
from mintkey.rate_limit import RateLimit, checked
from mintkey.raw import OnConflict, RawTable, check_on_conflict
from mintkey.stores import Store

if TYPE_CHECKING:
    import os

__all__ = ["CopyReport", "Difference", "Failure", "TableReport", "acompare", "acopy", "compare", "copy"]

R = TypeVar("R")
#: Called after each page, with the name of the table, the number of its rows so far, and the number of all rows as the
#: source knows it.
CopyProgress: TypeAlias = "Callable[[str, int, int | None], object]"

#: The segments of a table in stores that divide it among servers.
_SEGMENTS = 4
_MOST_SEGMENTS = 256
#: Clocks of programs that write rows may differ by this much, in seconds, and time zones by that much.
_CLOCK_SKEW, _TIME_ZONES = 60, 14 * 3600
#: Numbers below these count seconds, milliseconds and microseconds since 1970; greater ones count nanoseconds.
_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6))


class TableReport(NamedTuple):
    """What a copy did with a table.

    Attributes:
        name: the name of the table.
        rows: the number of rows of the source as its catalog knows it; see `TableInfo.rows`.
        exists: whether the target had the table before.
        problem: why the table cannot be copied, in a dry run; otherwise None.
        reduced_indexes: the names of the indexes with several partition attributes of which the target keeps only the
            first, as DynamoDB does. A class that declares the index works with it, and filters by the others. A copy
            from the target to another store has the reduced index.
        written: the number of rows that were written.
        unchanged: the number of rows that the target had already, with equal values.
        skipped: the number of rows that the target had with other values, with `on_conflict="skip"`.
        failed: the number of rows that the target refused.
        failures: their keys and the reasons, of the first 1,000.
        difference: how the tables differ, with `verify=True`; None if they are equal or were not compared.
    """

    name: str
    rows: int | None
    exists: bool
    problem: str | None = None
    reduced_indexes: tuple[str, ...] = ()
    written: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    failures: tuple[Failure, ...] = ()
    difference: Difference | None = None


class CopyReport(NamedTuple):
    """What a copy did.

    Attributes:
        source: the URL of the source, without its password.
        target: the URL of the target.
        tables: one report for each table.
        verified: whether the tables were compared.
    """

    source: str
    target: str
    tables: tuple[TableReport, ...]
    verified: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether no table has a problem, no row was refused, and no difference was found."""
        return not any(one.problem or one.failed or one.difference for one in self.tables)


class _Options(NamedTuple):
    """The arguments of a copy; see `copy`."""

    source: str | Store
    target: str | Store
    tables: Iterable[str] | None
    on_conflict: OnConflict = "fail"
    resume: str | os.PathLike[str] | None = None
    verify: bool = False
    dry_run: bool = False
    segments: int | None = None
    rate: RateLimit | None = None
    progress: CopyProgress | None = None
    changed_since: str | None = None


def copy(
    source: str | Store,
    target: str | Store,
    tables: Iterable[str] | None = None,
    *,
    on_conflict: OnConflict = "fail",
    resume: str | os.PathLike[str] | None = None,
    verify: bool = False,
    dry_run: bool = False,
    segments: int | None = None,
    rate: RateLimit | None = None,
    progress: CopyProgress | None = None,
    changed_since: str | None = None,
) -> CopyReport:
    """Copy tables with their rows, indexes, expiry and unique values from one store to another.

    The classes of the program are not needed. Missing tables are created. Rows that the target refuses are reported,
    and the others are copied. Memory does not grow with the tables.

    Args:
        source: a URL or an open store.
        target: a URL or an open store. Nothing else should write to it.
        tables: the names of the tables; all of the source by default.
        on_conflict: what to do with rows that the target has with other values. `"fail"` refuses a table that has rows
            in the target before anything is written. `"skip"` keeps them, `"replace"` overwrites them. On DynamoDB
            `"replace"` is the fastest, because its batches have no conditions.
        resume: a file for the state of the copy. If it exists, the copy continues from there. It is written while the
            copy runs, so that it is left after an interruption, a failure of a store or a kill; it is removed at the
            end.
        verify: compare the tables afterwards, and report the rows that differ.
        dry_run: write nothing, and report what would be copied and which tables cannot be.
        segments: the number of segments of each table that are copied at once; by default 4 on DynamoDB and a Redis
            Cluster, and 1 elsewhere.
        rate: a limit for the source and the target: a `FixedRate` or an `AdaptiveRate` of `mintkey.rate_limit`.
        progress: a function that is called after each page with the name of the table, the number of its rows so far
            and the number of all rows, or None.
        changed_since: the name of an attribute with the time of the last change. At the end, the rows that have changed
            since the copy began are copied again. Times are ISO 8601 text, or numbers since 1970.

    Raises:
        ConfigurationError: source and target are the same; a table has another key in the target, or has rows there;
            the file of `resume` belongs to another copy.
        TableMissing: the source lacks a table, or it was deleted during the copy.
        StoreError: a store failed, also when the request was repeated. What was copied is in the state file.
    """
    options = _Options(
        source, target, tables, on_conflict, resume, verify, dry_run, segments, rate, progress, changed_since
    )
    return _copy(options, threading.Event())


async def acopy(
    source: str | Store,
    target: str | Store,
    tables: Iterable[str] | None = None,
    *,
    on_conflict: OnConflict = "fail",
    resume: str | os.PathLike[str] | None = None,
    verify: bool = False,
    dry_run: bool = False,
    segments: int | None = None,
    rate: RateLimit | None = None,
    progress: CopyProgress | None = None,
    changed_since: str | None = None,
) -> CopyReport:
    """Async version of `copy()`. It runs on other threads; `progress` is called by the event loop."""
    _check_progress(progress)
    if progress is not None:
        progress = functools.partial(_in_loop, asyncio.get_running_loop(), progress)
    options = _Options(
        source, target, tables, on_conflict, resume, verify, dry_run, segments, rate, progress, changed_since
    )
    return await _on_thread(functools.partial(_copy, options))


def compare(
    source: str | Store, target: str | Store, tables: Iterable[str] | None = None, *, rate: RateLimit | None = None
) -> dict[str, Difference]:
    """Compare tables of two stores; return how each table that is not equal differs, by name.

    Rows are equal if they have the same attributes with the same values. Expired rows count as absent.

    Raises:
        TableMissing: a store lacks a table.
        ConfigurationError: a table has another key in the target.
    """
    return _compare(_Options(source, target, tables, rate=rate), threading.Event())


async def acompare(
    source: str | Store, target: str | Store, tables: Iterable[str] | None = None, *, rate: RateLimit | None = None
) -> dict[str, Difference]:
    """Async version of `compare()`. It runs on other threads."""
    return await _on_thread(functools.partial(_compare, _Options(source, target, tables, rate=rate)))


def _in_loop(
    event_loop: asyncio.AbstractEventLoop, progress: CopyProgress, table: str, rows: int, total: int | None
) -> None:
    event_loop.call_soon_threadsafe(progress, table, rows, total)


async def _on_thread(call: Callable[[threading.Event], R]) -> R:
    """Run a call on a thread. A cancellation stops it, and waits until it has stopped."""
    stop = threading.Event()
    running = asyncio.get_running_loop().run_in_executor(None, call, stop)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        # asyncio would log an exception that nobody has read.
        running.exception()
        raise


def _copy(options: _Options, stop: threading.Event) -> CopyReport:
    _check(options)
    with ExitStack() as opened:
        stores = source, target = _stores(options, opened, stop)
        infos = _tables(source, options.tables)
        identity = {"source": _address(source), "target": _address(target), "on_conflict": options.on_conflict}
        state = CopyState(options.resume, identity, _core.now_ms() / 1000)
        found = [_examined(info, stores, options.on_conflict, state) for info in infos]
        if options.dry_run:
            return CopyReport(source.url, target.url, tuple(found))
        problems = [one.problem for one in found if one.problem is not None]
        if problems:
            raise ConfigurationError("; ".join(problems), store=target.url)
        infos = [_fitting(info, stores) for info in infos]
        copier = _Copier(infos, stores, options, state, stop)
        # Before the target is changed: a file that cannot be written leaves it as it was, and after a kill it names the
        # tables that are being copied.
        state.save()
        for info in infos:
            create_table_like(target, info)
        copier.run()
        for info in infos:
            # One that was deleted meanwhile is read as an empty table, except on DynamoDB.
            describe(source, info.name)
        reports = [copier.report(info, one) for info, one in zip(infos, found, strict=True)]
        state.remove()
        return CopyReport(source.url, target.url, tuple(reports), options.verify)


class _Copier:
    """The copy of tables that both stores have."""

    def __init__(
        self, infos: list[TableInfo], stores: Stores, options: _Options, state: CopyState, stop: threading.Event
    ) -> None:
        self._infos = {info.name: info for info in infos}
        self._codecs = {info.name: _codecs(info, stores) for info in infos}
        self._stores = stores
        self._options = options
        self._state = state
        self._stop = stop
        self._at_once = options.segments or _segments(stores[0])
        for info in infos:
            state.tables.setdefault(info.name, TableState(self._at_once))

    def run(self) -> None:
        """Copy all rows, then those that have changed meanwhile."""
        try:
            segments = [segment for name in self._infos for segment in self._left(name)]
            run_segments(segments, self._at_once, self._stop, self._copied)
            if self._options.changed_since is not None:
                self._copy_changed(self._options.changed_since)
            if self._options.on_conflict == "replace" or self._options.changed_since is not None:
                self._copy_refused()
        except BaseException:
            # If this fails too, the file of an earlier position is left, and the reason is still the first error.
            with suppress(ConfigurationError):
                self._state.save()
            raise
        self._state.save()

    def report(self, info: TableInfo, found: TableReport) -> TableReport:
        """Return the report of a table, compared if this is asked for."""
        state = self._state.tables[info.name]
        difference = None
        if self._options.verify:
            difference = compare_table(self._codecs[info.name], self._stores, self._stop)
        return found._replace(
            written=state.written,
            unchanged=state.unchanged,
            skipped=state.skipped,
            failed=state.failed,
            failures=tuple(state.failures),
            difference=difference,
        )

    def _left(self, name: str) -> list[Segment]:
        """Return the segments of a table that are not copied yet."""
        table = Table(name, self._codecs[name], self._stores, self._options.on_conflict)
        positions = self._state.tables[name].segments
        return [
            Segment(table, number, len(positions), at if isinstance(at, bytes) else None)
            for number, at in enumerate(positions)
            if at is not False
        ]

    def _copied(self, copied: Copied) -> None:
        name = copied.segment.table.name
        state = self._state.tables[name]
        state.written += copied.written
        state.unchanged += copied.unchanged
        state.skipped += copied.skipped
        state.refused(copied.failures)
        state.segments[copied.segment.number] = copied.after
        self._state.save(always=False)
        if self._options.progress is not None:
            self._options.progress(name, state.done, self._infos[name].rows)

    def _copy_changed(self, attribute: str) -> None:
        """Copy the rows again that have changed since the copy began."""
        changed = _ChangedSince(attribute, self._state.began)
        segments = [
            Segment(Table(name, self._codecs[name], self._stores, "replace", changed), number, self._at_once, None)
            for name in self._infos
            for number in range(self._at_once)
        ]
        run_segments(segments, self._at_once, self._stop, self._copied_again)

    def _copy_refused(self) -> None:
        """Copy the rows again that the target refused: the rows that had their unique values may be replaced now."""
        for name, codec in self._codecs.items():
            state = self._state.tables[name]
            if state.failures:
                table = Table(name, codec, self._stores, "replace")
                state.accepted(*table.write_again(state.failures, self._stop))

    def _copied_again(self, copied: Copied) -> None:
        state = self._state.tables[copied.segment.table.name]
        known = {repr(failure.key) for failure in state.failures}
        state.refused([failure for failure in copied.failures if repr(failure.key) not in known])


class _ChangedSince:
    """Selects the rows that have changed since a time, as an attribute says, and the rows without the attribute."""

    def __init__(self, attribute: str, since: float) -> None:
        self._attribute = attribute
        self._since = Decimal(int(since) - _CLOCK_SKEW)
        self._text = self._iso(0)
        self._any_zone = self._iso(_TIME_ZONES)

    def _iso(self, earlier: int) -> str:
        return datetime.fromtimestamp(int(self._since) - earlier, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")

    def __call__(self, item: _core.Item) -> bool:
        value = item.get(self._attribute)
        if isinstance(value, str):
            return value >= (self._text if value.endswith(("Z", "+00:00")) else self._any_zone)
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            unit = next((unit for limit, unit in _UNITS if value < limit), 10**9)
            return value >= self._since * unit
        return True


def _compare(options: _Options, stop: threading.Event) -> dict[str, Difference]:
    with ExitStack() as opened:
        source, target = _stores(options, opened, stop)
        _check_file(target)
        differences = {}
        for info in _tables(source, options.tables):
            there = describe(target, info.name)
            _check_other(info, there, (source, target))
            if there.keys != info.keys:
                raise ConfigurationError(_other_key(info, there, (source, target)), store=target.url)
            fitting = _fitting(info, (source, target))
            codecs = (codec_of(fitting), codec_of(fitting.located_as(there)))
            difference = compare_table(codecs, (source, target), stop)
            if difference is not None:
                differences[info.name] = difference
        return differences


def _check(options: _Options) -> None:
    check_on_conflict(options.on_conflict)
    check_flags("copy()", verify=options.verify, dry_run=options.dry_run)
    _check_progress(options.progress)
    segments = options.segments
    if segments is not None and (type(segments) is not int or not 1 <= segments <= _MOST_SEGMENTS):
        raise InvalidValue(f"segments= takes a whole number from 1 to {_MOST_SEGMENTS}, not {shortened(segments)}")
    if options.changed_since is not None and options.on_conflict == "skip":
        raise ConfigurationError(
            "changed_since replaces rows of the target, and skip on conflict keeps them: use only one of them"
        )


def _check_progress(progress: object) -> None:
    if progress is not None:
        check_callback(progress, "progress= takes a plain function of (table, rows, total)")


def _stores(options: _Options, opened: ExitStack, stop: threading.Event) -> Stores:
    """Open the source and the target. Those that are opened here are closed at the end."""
    rate = checked(options.rate)
    source, target = (
        store if isinstance(store, Store) else opened.enter_context(Store(store))
        for store in (options.source, options.target)
    )
    if _is_same(source, target):
        raise _same((source, target))
    _check_file(source)
    if rate is not None:
        source, target = source.limited(rate), target.limited(rate)
    return source.stopped_by(stop), target.stopped_by(stop)


def _address(store: Store) -> str:
    """Return the URL of a store for the state file, with an absolute path: the copy may continue in another folder."""
    return store.url if store._file is None else f"sqlite:///{store._file}"


def _is_same(source: Store, target: Store) -> bool:
    """Return whether two stores are one: one file under any of its names, one database in memory, or equal URLs."""
    if source._file is not None and target._file is not None:
        with suppress(OSError):  # the target may not exist yet
            return Path(source._file).samefile(target._file)
        return source._file == target._file
    return source.url == target.url and (source.url != "sqlite://" or source._core is target._core)


def _same(stores: Stores, *, is_certain: bool = True) -> ConfigurationError:
    source, target = stores
    text = f"the source {source.url} and the target {target.url} are the same store: pass another target"
    if not is_certain:
        text += ". If one was restored from a backup of the other, permit INFO to their users, which tells them apart"
    return ConfigurationError(text, store=source.url)


def _check_file(store: Store) -> None:
    """Refuse a store whose file does not exist: a slip in its name would make an empty file, which has no tables."""
    path = missing_file(store)
    if path is not None:
        raise ConfigurationError(f"{store.url}: there is no file {path}", store=store.url)


def _tables(source: Store, names: Iterable[str] | None) -> list[TableInfo]:
    if names is None:
        return tables(source)
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f"tables= takes names of tables, such as ['orders'], not {shortened(names)}")
    return [describe(source, name) for name in dict.fromkeys(names)]


def _check_other(info: TableInfo, there: TableInfo | None, stores: Stores) -> None:
    """Refuse to copy a table onto itself: the URLs may name one server differently."""
    if there is None or there._id is None or info._id is None:
        return
    (table, space, data), (other_table, _, other_data) = info._id.partition(" "), there._id.partition(" ")
    if table == other_table and (data == other_data or not data or not other_data):
        raise _same(stores, is_certain=not space or bool(data and other_data))


def _codecs(info: TableInfo, stores: Stores) -> Codecs:
    """Return the compiled schemas of a table that both stores have."""
    _, target = stores
    return codec_of(info), codec_of(info.located_as(_there(info.name, target)))


def _there(name: str, target: Store) -> TableInfo | None:
    """Return the description of a table of the target, without making the file of the target."""
    return None if missing_file(target) else target.run(find(name))


def _examined(info: TableInfo, stores: Stores, on_conflict: OnConflict, state: CopyState) -> TableReport:
    """Return what is to be done with a table, and why it cannot be."""
    _, target = stores
    there = _there(info.name, target)
    _check_other(info, there, stores)
    report = TableReport(info.name, info.rows, there is not None)
    if target.url.startswith("dynamodb:"):
        several = tuple(index.name for index in info.indexes if len(index.partition) > 1)
        report = report._replace(reduced_indexes=several)
    if there is None:
        begun = state.tables.get(info.name)
        if begun is not None and begun.done:
            problem = (
                f"table {info.name!r} does not exist in {target.url}, but the state file says that {begun.done} of its "
                "rows are copied: delete the state file to copy them again"
            )
            return report._replace(problem=problem)
        return report
    if there.keys != info.keys:
        return report._replace(problem=_other_key(info, there, stores))
    contradiction = _contradiction(info, there, stores)
    if contradiction is not None:
        return report._replace(problem=contradiction)
    if on_conflict == "fail" and info.name not in state.tables and RawTable(target, there).scan(limit=1).rows:
        problem = f"table {info.name!r} has rows in {target.url}: delete them, or set on_conflict to skip or replace"
        return report._replace(problem=problem)
    return report


def _fitting(info: TableInfo, stores: Stores) -> TableInfo:
    """Return the description of a table without the indexes of which the target has more attributes than DynamoDB."""
    source, target = stores
    there = _there(info.name, target) if source.url.startswith("dynamodb:") else None
    if there is None:
        return info
    fuller = {
        (index.name, index.partition[0], index.sort): index.name for index in there.indexes if len(index.partition) > 1
    }
    kept = {index.name for index in info.indexes if (index.name, *index.partition[:1], index.sort) not in fuller}
    values = info.to_dict()
    fitting = TableInfo.from_dict({**values, "indexes": [one for one in values["indexes"] if one["name"] in kept]})
    return dataclasses.replace(fitting, rows=info.rows, is_exact=info.is_exact, bytes=info.bytes)


def _contradiction(info: TableInfo, there: TableInfo, stores: Stores) -> str | None:
    """Return what the target declares otherwise under the same name; None if it can add what it lacks."""
    # DynamoDB keeps only the first partition attribute of an index.
    kept = 1 if any(store.url.startswith("dynamodb:") for store in stores) else None
    declared = _declared(there, kept)
    for what, text in _declared(info, kept).items():
        if declared.get(what, text) != text:
            return _two_of((what, text, declared[what]), info, stores)
    return None


def _declared(info: TableInfo, kept: int | None) -> dict[str, str]:
    """Return what a table declares besides its key, in words: two tables may not differ in it."""
    declared = {} if info.ttl is None else {"expiry": info.ttl}
    for index in info.indexes:
        keys = ", ".join(map(str, index.partition[:kept]))
        declared[f"index {index.name!r} of"] = keys if index.sort is None else f"{keys} ordered by {index.sort}"
    return declared | {f"unique value {one.name!r} of": ", ".join(one.attributes) for one in info.unique}


def _other_key(info: TableInfo, there: TableInfo, stores: Stores) -> str:
    return _two_of(("key", key_names(info), key_names(there)), info, stores)


def _two_of(differing: tuple[str, str, str], info: TableInfo, stores: Stores) -> str:
    source, target = stores
    what, own, other = differing
    return (
        f"table {info.name!r} has the {what} {own} in {source.url} and {other} in {target.url}: delete one of them, or "
        "use another prefix"
    )


def _segments(source: Store) -> int:
    divided = not source.ordered_scans or "-cluster" in source.url.partition(":")[0]
    return _SEGMENTS if divided else 1
