"""Copies of tables between stores, from the catalog alone: exact, resumable, verified."""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
import redis

import mintkey
from mintkey import Store
from mintkey.catalog import TableInfo, codec_of, create_table_like, describe, tables
from mintkey.copying import acopy, compare, copy
from mintkey.errors import ConfigurationError, InvalidValue, StoreUnavailable, TableMissing
from mintkey.monitoring import RequestRecord
from mintkey.rate_limit import FixedRate
from mintkey.raw import RawTable
from mintkey.testing import frozen

NOW = 1_704_067_200
PARCELS: dict[str, Any] = {
    "name": "parcels",
    "partition": {"name": "owner", "type": "S"},
    "sort": {"name": "number", "type": "N"},
    "ttl": "expires",
    "indexes": [
        {
            "name": "by_status",
            "partition": [{"name": "status", "type": "S"}],
            "sort": {"name": "weight", "type": "N"},
            "projection": "all",
            "local": False,
        }
    ],
    "unique": [{"name": "label", "attributes": ["label"]}],
}
PLAIN = {"name": "plain.table", "partition": {"name": "id", "type": "B"}, "indexes": [], "unique": []}

#: A row with each kind of value.
EXACT = {
    "text": "ä\0",
    "big": 10**37,
    "decimal": Decimal("0.1234567890123456789012345678901234567"),
    "null": None,
    "truth": False,
    "texts": {"a", "b"},
    "numbers": {1, Decimal("2.5")},
    "binaries": {b"\0"},
    "list": [1, None, {"$": b"x", "empty": {}}],
}

COPY = """
import os, signal, sys
from mintkey.copying import copy
source, target, state, pages = sys.argv[1:]
left = [int(pages)]
def die(table, rows, total):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
report = copy(source, target, on_conflict="fail", resume=state, progress=die, segments=2)
assert report.is_complete, report
"""


def parcel(number: int, **others: Any) -> dict[str, Any]:
    return {"owner": f"o{number % 7}", "number": number, **others}


@pytest.fixture
def source(tmp_path) -> Iterator[Store]:
    """A file with two tables."""
    with Store(f"sqlite:///{tmp_path}/source.db") as opened:
        for values in (PARCELS, PLAIN):
            create_table_like(opened, TableInfo.from_dict(values))
        yield opened


@pytest.fixture
def target(url) -> Iterator[Store]:
    """An empty store of each kind."""
    with Store(url) as opened:
        yield opened
    with Store(url) as again:
        for info in tables(again):
            again.run(request for request in [codec_of(info).delete_table()])


def fill(store: Store, count: int) -> None:
    """Write rows into both tables."""
    rows = [parcel(n, status=("new", "old")[n % 2], weight=n % 10, label=f"L{n}", at=NOW) for n in range(count)]
    RawTable(store, "parcels").put_many(rows)
    RawTable(store, "plain.table").put_many({"id": n.to_bytes(2, "big"), **EXACT} for n in range(20))


def all_rows(store: Store, name: str) -> list[str]:
    """All rows of a table, in an order of their own."""
    table, cursor, found = RawTable(store, name), None, []
    while True:
        page = table.scan(cursor=cursor)
        found += [repr(sorted(row.items())) for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            return sorted(found)


def test_tables_are_equal_in_every_store_and_back_again(source, target, tmp_path):
    fill(source, 60)
    RawTable(source, "parcels").put_many([parcel(100, expires=1), parcel(101, expires=2**40)])
    seen = []
    report = copy(source.url, target, verify=True, progress=lambda *page: seen.append(page))
    assert report.is_complete
    assert report.verified
    assert [(one.name, one.exists, one.written, one.failed) for one in report.tables] == [
        ("parcels", False, 61, 0),
        ("plain.table", False, 20, 0),
    ]
    assert seen[-1] == ("plain.table", 20, 20)
    back = f"sqlite:///{tmp_path}/back.db"
    assert mintkey.copy(target, back, verify=True, segments=2).is_complete
    with Store(back) as again:
        assert not compare(source, again)
        for name in ("parcels", "plain.table"):
            assert all_rows(source, name) == all_rows(target, name) == all_rows(again, name)
        for own, other in zip(tables(source), tables(again), strict=True):
            assert own.to_dict() == other.to_dict()
    # Indexes and unique values are those of the target's own writes.
    page = RawTable(target, "parcels").query("new", index="by_status", sort=("==", 4))
    assert sorted(row["number"] for row in page.rows) == [4, 14, 24, 34, 44, 54]
    with pytest.raises(mintkey.MintkeyError, match="L3"):
        RawTable(target, "parcels").put_many([parcel(200, label="L3")])


async def test_the_async_version_does_the_same_and_stops_when_it_is_cancelled(source, tmp_path):
    import asyncio

    fill(source, 20)
    other = f"sqlite:///{tmp_path}/other.db"
    seen: list[Any] = []
    report = await acopy(source, other, verify=True, progress=lambda *page: seen.append(page))
    await asyncio.sleep(0)
    assert report.is_complete
    assert sum(one.written for one in report.tables) == 40
    assert len(seen) == 2
    running = asyncio.ensure_future(acopy(source, f"sqlite:///{tmp_path}/third.db"))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancelled_copy_that_waits_for_a_rate_limit_leaves_its_state(source, tmp_path):
    import asyncio

    fill(source, 30)
    state, other = tmp_path / "state.json", f"sqlite:///{tmp_path}/other.db"
    event_loop, has_read = asyncio.get_running_loop(), asyncio.Event()
    problems: list[Any] = []
    event_loop.set_exception_handler(lambda loop, context: problems.append(context))

    @source.on_request
    def note(record: RequestRecord) -> None:
        if record.operation == "scan":
            event_loop.call_soon_threadsafe(has_read.set)

    running = asyncio.ensure_future(acopy(source, other, resume=state, rate=FixedRate(rcu=1000, wcu=1)))
    await has_read.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert state.exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mintkey-write")]
    assert not problems
    assert (await acopy(source, other, resume=state, verify=True)).is_complete
    assert not state.exists()


def test_a_dry_run_writes_nothing(source, target):
    fill(source, 5)
    report = copy(source, target, dry_run=True)
    assert [(one.name, one.rows, one.exists, one.written) for one in report.tables] == [
        ("parcels", 5, False, 0),
        ("plain.table", 20, False, 0),
    ]
    assert report.is_complete
    assert tables(target) == []


def test_a_file_that_does_not_exist(source, tmp_path):
    fill(source, 5)
    other = f"sqlite:///{tmp_path}/other.db"
    assert [one.exists for one in copy(source, other, dry_run=True).tables] == [False, False]
    for call in (functools.partial(copy, other, source), functools.partial(compare, source, other)):
        with pytest.raises(ConfigurationError, match=r"there is no file .*/other\.db"):
            call()
    with pytest.raises(StoreUnavailable, match=r"the folder .* does not exist"):
        copy(source, f"sqlite:///{tmp_path}/no/other.db", dry_run=True)
    assert not (tmp_path / "other.db").exists()


def test_relative_paths_mean_the_folder_in_which_the_store_was_opened(source, tmp_path, monkeypatch):
    fill(source, 5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with Store("sqlite:///source.db") as opened:
        monkeypatch.chdir(tmp_path / "folder")
        assert copy(opened, "sqlite:///source.db").is_complete
    assert (tmp_path / "folder" / "source.db").exists()
    # Also of a copy that continues in another folder.
    state = tmp_path / "state.json"

    def stop(table: str, rows: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(source, "sqlite:///other.db", resume=state, progress=stop)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"is the state of another copy: its target is .*/folder/other\.db"):
        copy(source, "sqlite:///other.db", resume=state)
    assert copy(source, "sqlite:///folder/other.db", resume=state, verify=True).is_complete


def test_conflicts_are_refused_before_anything_is_written_or_skipped_or_replaced(source, target):
    fill(source, 5)
    create_table_like(target, describe(source, "parcels"))
    there = RawTable(target, "parcels")
    there.put_many([parcel(1, mine=True), parcel(2, status="new", weight=2, label="L2", at=NOW), parcel(9)])
    with pytest.raises(ConfigurationError, match=r"table 'parcels' has rows in .*: delete them, or set on_conflict"):
        copy(source, target)
    assert [info.name for info in tables(target)] == ["parcels"]
    (problem,) = [one.problem for one in copy(source, target, dry_run=True).tables if one.problem]
    assert "has rows" in problem
    kept = copy(source, target, ["parcels"], on_conflict="skip").tables[0]
    assert (kept.written, kept.unchanged, kept.skipped, kept.failed) == (3, 1, 1, 0)
    assert there.get(("o1", 1)) == parcel(1, mine=True)
    replaced = copy(source, target, ["parcels"], on_conflict="replace", verify=True).tables[0]
    assert (replaced.written, replaced.skipped, replaced.failed) == (5, 0, 0)
    assert replaced.difference is not None
    assert (replaced.difference.extra, replaced.difference.extra_keys) == (1, ({"owner": "o2", "number": 9},))
    assert there.get(("o1", 1)) != parcel(1, mine=True)


def test_differences_are_named(source, target):
    fill(source, 30)
    copy(source, target)
    there = RawTable(target, "parcels")
    there.delete(("o3", 3))
    there.put_many([parcel(4, status="new", weight=4.5, label="L4", at=NOW)], on_conflict="replace")
    there.put_many([parcel(40)])
    (difference,) = compare(source, target).values()
    assert (difference.source_rows, difference.target_rows) == (30, 30)
    assert difference.missing_keys == ({"owner": "o3", "number": 3},)
    assert difference.different_keys == ({"owner": "o4", "number": 4},)
    assert difference.extra_keys == ({"owner": "o5", "number": 40},)


def test_rows_that_the_target_refuses_are_reported_and_the_others_are_copied(source, target):
    create_table_like(target, describe(source, "parcels"))
    RawTable(target, "parcels").put_many([parcel(50, label="L3")])
    fill(source, 10)
    report = copy(source, target, on_conflict="skip")
    assert not report.is_complete
    parcels = report.tables[0]
    assert (parcels.written, parcels.failed) == (9, 1)
    ((key, reason),) = parcels.failures
    assert key == {"owner": "o3", "number": 3}
    assert "label" in reason
    assert RawTable(target, "parcels").count() == 10


def test_rows_that_exchange_unique_values_are_replaced(source, target, url):
    before = {1: "A", 2: "B", 3: "C", 4: "D", 5: "E", 6: "X", 7: "Y", 8: "Z", 99: "Q"}
    # Two rows exchange a value, three in a row move up, three in a circle. Q is the value of a row that is not copied.
    after = {1: "B", 2: "A", 3: "D", 4: "E", 5: "F", 6: "Y", 7: "Z", 8: "X", 10: "Q", 11: "C"}
    create_table_like(target, describe(source, "parcels"))
    RawTable(target, "parcels").put_many(parcel(number, label=label) for number, label in before.items())
    RawTable(source, "parcels").put_many(parcel(number, label=label, at=NOW) for number, label in after.items())
    report = copy(source, target, ["parcels"], on_conflict="replace").tables[0]
    refused = {failure.key["number"] for failure in report.failures}
    # A Redis Cluster has no transactions of these rows.
    circles = {1, 2, 6, 7, 8} if url.startswith("redis-cluster") else set()
    assert {10} <= refused <= {10} | circles
    assert (report.written, report.failed) == (len(after) - len(refused), len(refused))
    there = {row["number"]: row["label"] for row in RawTable(target, "parcels").scan().rows}
    assert there == {**before, **{number: label for number, label in after.items() if number not in refused}}
    RawTable(target, "parcels").delete(("o1", 99))
    again = copy(source, target, ["parcels"], on_conflict="replace", verify=True).tables[0]
    assert {failure.key["number"] for failure in again.failures} == refused - {10}
    for failure in again.failures:
        RawTable(target, "parcels").delete(failure.key)
    assert not copy(source, target, ["parcels"], on_conflict="replace").tables[0].failures


def test_a_value_that_moves_during_the_copy_is_copied_at_its_end(source, target):
    fill(source, 1500)

    def exchange(table: str, rows: int, total: int | None) -> None:
        if table == "parcels" and rows <= 1000:
            RawTable(source, "parcels").put_many([parcel(0, label="new", at=NOW + 50)], on_conflict="replace")
            RawTable(source, "parcels").put_many([parcel(1301, label="L0", at=NOW + 50)], on_conflict="replace")

    with frozen(NOW):
        report = copy(source, target, changed_since="at", verify=True, progress=exchange)
    assert report.is_complete, report
    assert report.tables[0].written == 1500


def test_an_index_of_which_dynamodb_keeps_a_part_is_named(source, target, tmp_path):
    attributes = [{"name": name, "type": "S"} for name in ("status", "place")]
    index = {**PARCELS["indexes"][0], "name": "by_place", "partition": attributes}
    whole = {**PARCELS["indexes"][0], "name": "by_weight", "partition": []}
    parcels = TableInfo.from_dict({**PARCELS, "indexes": [index, whole]})
    back = f"sqlite:///{tmp_path}/back.db"
    with Store(f"sqlite:///{tmp_path}/indexed.db") as indexed, Store(back) as again:
        create_table_like(indexed, parcels)
        RawTable(indexed, "parcels").put_many([parcel(n, status="new", place="ab"[n % 2], weight=n) for n in range(6)])
        reduced = ("by_place",) if target.url.startswith("dynamodb") else ()
        for dry_run in (True, False):
            assert copy(indexed, target, dry_run=dry_run).tables[0].reduced_indexes == reduced
        # A table that has the whole index keeps it.
        create_table_like(again, parcels)
        assert copy(target, again, verify=True).is_complete
        assert not compare(target, again)
        assert describe(again, "parcels").to_dict() == parcels.to_dict()
        found = RawTable(again, "parcels").query(("new", "a"), index="by_place").rows
        assert [row["number"] for row in found] == [0, 2, 4]
        found = RawTable(again, "parcels").query((), index="by_weight").rows
        assert [row["number"] for row in found] == [0, 1, 2, 3, 4, 5]


def test_rows_that_only_dynamodb_refuses_are_reported(source, target, tmp_path):
    wide = Store(f"sqlite:///{tmp_path}/wide.db?max_item=1000000")
    with wide:
        create_table_like(wide, describe(source, "parcels"))
        rows = [parcel(1), parcel(2, text="x" * 450_000), parcel(3), parcel(4, status=5)]
        RawTable(wide, "parcels").put_many(rows)
        parcels = copy(wide, target, ["parcels"], verify=True).tables[0]
    refused = {number for failure in parcels.failures for number in [failure.key["number"]]}
    assert refused == ({2, 4} if target.url.startswith("dynamodb") else {2})
    assert (parcels.written, parcels.failed) == (4 - len(refused), len(refused))
    assert parcels.difference is not None
    assert {key["number"] for key in parcels.difference.missing_keys} == refused


def test_a_table_with_another_key_is_refused_with_both_keys(source, target):
    other = {**PARCELS, "sort": {"name": "number", "type": "S"}, "indexes": [], "unique": []}
    create_table_like(target, TableInfo.from_dict(other))
    for call in (copy, compare):
        with pytest.raises(
            ConfigurationError, match=r"'parcels' has the key .*number \(number\) in .*number \(string\)"
        ):
            call(source, target, ["parcels"])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"ttl": "at"}, "has the expiry expires in .* and at in"),
        (
            {"indexes": [{**PARCELS["indexes"][0], "sort": {"name": "at", "type": "N"}}]},
            r"'by_status' of status \(string\) ordered by weight \(number\) in .* ordered by at \(number\) in",
        ),
        ({"unique": [{"name": "label", "attributes": ["at"]}]}, "the unique value 'label' of label in .* and at in"),
    ],
)
def test_a_table_that_declares_something_otherwise_is_refused_before_anything_is_written(
    source, target, changed, problem
):
    fill(source, 5)
    create_table_like(target, TableInfo.from_dict({**PARCELS, **changed}))
    dry = copy(source, target, dry_run=True)
    assert not dry.is_complete
    assert re.search(problem, str(dry.tables[0].problem))
    with pytest.raises(ConfigurationError, match=problem):
        copy(source, target)
    assert [info.name for info in tables(target)] == ["parcels"]
    with pytest.raises(ConfigurationError, match="parcels") as caught:
        create_table_like(target, describe(source, "parcels"))
    assert "Scope" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis", "redis-cluster", "dynamodb"], indirect=True)
def test_a_table_is_not_copied_onto_itself_under_another_address(target, url):
    if "-cluster" in url:
        servers, mark, parameters = url.removeprefix("redis-cluster://").partition("?")
        renamed = f"redis-cluster://{','.join(reversed(servers.split(',')))}{mark}{parameters}"
    else:
        renamed = url.replace("127.0.0.1", "localhost")
    create_table_like(target, TableInfo.from_dict(PARCELS))
    RawTable(target, "parcels").put_many(parcel(n, label=f"L{n}") for n in range(5))
    before = all_rows(target, "parcels")
    with Store(renamed) as other:
        assert other.url != target.url
        calls: list[Any] = [compare, functools.partial(copy, dry_run=True)]
        calls += [functools.partial(copy, on_conflict=conflict) for conflict in ("fail", "skip", "replace")]
        for call in calls:
            for stores in ((target, other), (other, target)):
                with pytest.raises(ConfigurationError, match="are the same store: pass another target"):
                    call(*stores)
    assert all_rows(target, "parcels") == before
    # Another prefix on the same servers is another store.
    with Store(url.replace("prefix=", "prefix=other-")) as other:
        try:
            assert copy(target, other, verify=True).is_complete
        finally:
            other.run(request for request in [codec_of(describe(target, "parcels")).delete_table()])


@pytest.mark.parametrize("url", ["redis"], indirect=True)
def test_a_user_without_info_copies_no_table_onto_itself(source, target, url):
    fill(source, 5)
    assert copy(source, target).is_complete
    user = uuid.uuid4().hex
    with redis.Redis.from_url(url.partition("?")[0]) as raw:
        raw.execute_command("ACL", "SETUSER", user, "on", ">password", "~*", "+@all", "-info")
        try:
            with Store(url.replace("redis://", f"redis://{user}:password@")) as other:
                for stores in ((target, other), (other, target), (other, other)):
                    with pytest.raises(ConfigurationError, match="are the same store: pass another target"):
                        copy(*stores, on_conflict="replace")
                assert compare(source, other) == {}
        finally:
            raw.execute_command("ACL", "DELUSER", user)


def test_two_copies_may_have_one_state_file(source, tmp_path):
    fill(source, 200)
    target, state = f"sqlite:///{tmp_path}/target.db?timeout=60", tmp_path / "state.json"
    both = threading.Barrier(2)

    def run(_number: int) -> bool:
        both.wait()
        return copy(f"{source.url}?timeout=60", target, on_conflict="skip", resume=state, verify=True).is_complete

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(run, range(2))) == [True, True]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("state")] == []


def test_wrong_arguments(source, tmp_path):
    other = f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(ConfigurationError, match="the same store"):
        copy(source, source.url)
    with pytest.raises(TableMissing, match="did you mean 'parcels'"):
        copy(source, other, ["parcel"])
    with pytest.raises(TypeError, match="names of tables"):
        copy(source, other, "parcels")
    with pytest.raises(InvalidValue, match="segments="):
        copy(source, other, segments=0)
    with pytest.raises(InvalidValue, match="on_conflict="):
        copy(source, other, on_conflict="ignore")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="changed_since replaces"):
        copy(source, other, on_conflict="skip", changed_since="at")
    with pytest.raises(TypeError, match="progress="):
        copy(source, other, progress=1)  # type: ignore[arg-type]
    state = tmp_path / "state.json"
    state.write_text("{}")
    with pytest.raises(ConfigurationError, match="is not the state of a copy"):
        copy(source, other, resume=state)
    state.write_text('{"version": 99}')
    with pytest.raises(ConfigurationError, match="was written by another version of mintkey"):
        copy(source, other, resume=state)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        copy(source, other, resume=tmp_path / "missing" / "state.json")


def test_ctrl_c_leaves_a_state_from_which_the_copy_goes_on(source, target, tmp_path):
    fill(source, 1500)
    state = tmp_path / "state.json"
    with pytest.raises(KeyboardInterrupt):
        copy(source, target, resume=state, progress=lambda *_: signal.raise_signal(signal.SIGINT))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mintkey-write")]
    with pytest.raises(ConfigurationError, match="state of another copy: its on_conflict is fail, and not skip"):
        copy(source, target, resume=state, on_conflict="skip")
    report = copy(source, target, resume=state, verify=True)
    assert report.is_complete
    assert [one.written + one.unchanged for one in report.tables] == [1500, 20]
    assert not state.exists()


def test_a_copy_does_not_go_on_in_a_target_that_lost_the_table(source, target, tmp_path):
    fill(source, 5)
    state = tmp_path / "state.json"
    with pytest.raises(KeyboardInterrupt):
        copy(source, target, resume=state, progress=lambda *_: signal.raise_signal(signal.SIGINT))
    begun = json.loads(state.read_text())["tables"]
    for info in tables(target):
        target.run(request for request in [codec_of(info).delete_table()])
    with pytest.raises(ConfigurationError, match=r"does not exist in .*, but the state file says that \d+ of its rows"):
        copy(source, target, resume=state)
    assert json.loads(state.read_text())["tables"] == begun
    assert tables(target) == []
    state.unlink()
    assert copy(source, target, resume=state, verify=True).is_complete


def test_a_table_that_is_deleted_during_the_copy_is_missing(target, tmp_path):
    create_table_like(target, TableInfo.from_dict(PLAIN))
    RawTable(target, "plain.table").put_many({"id": n.to_bytes(2, "big")} for n in range(20))

    def delete(*_: object) -> None:
        target.run(request for request in [codec_of(TableInfo.from_dict(PLAIN)).delete_table()])

    with pytest.raises(TableMissing, match=r"plain\.table"):
        copy(target, f"sqlite:///{tmp_path}/copied.db", progress=delete)


def test_a_target_that_fails_half_way_leaves_a_state(source, tmp_path):
    fill(source, 2500)
    state = tmp_path / "state.json"
    url = f"sqlite:///{tmp_path}/other.db"
    closing = Store(url)
    with pytest.raises(mintkey.MintkeyError, match="closed"):
        copy(source, closing, resume=state, progress=lambda *_: closing.close())
    with Store(url) as again:
        assert 0 < RawTable(again, "parcels").count() < 2500
        assert copy(source, again, resume=state, verify=True).is_complete


def test_a_copier_that_is_killed_several_times_copies_each_row_once(source, target, url, tmp_path):
    # So that both segments have several pages; DynamoDB Local is slow.
    count = 1500 if url.startswith("dynamodb") else 4500
    fill(source, count)
    state = tmp_path / "state.json"
    (tmp_path / "state.json.partial").write_text("a half" * 10_000)
    kills = 0
    for pages in (1, 3, 2, 100):
        arguments = [source.url, url, str(state), str(pages)]
        done = subprocess.run([sys.executable, "-c", COPY, *arguments], check=False, capture_output=True, text=True)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert state.exists()
        kills += 1
    assert done.returncode == 0
    assert kills >= 2
    # Nothing is left of the files of killed processes.
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("state")] == []
    assert compare(source, target) == {}
    assert RawTable(target, "parcels").count() == count


@pytest.mark.parametrize("form", ["2024-01-01T00:00:{:02d}Z", "2024-01-01T05:00:{:02d}.5+05:00", None])
def test_rows_that_change_meanwhile_are_copied_again_or_reported(source, tmp_path, clock, form):
    def row(seconds: int) -> dict[str, Any]:
        return parcel(1, at=NOW + seconds if form is None else form.format(seconds))

    RawTable(source, "parcels").put_many([row(0), parcel(2, at=0 if form is None else "2000")])

    def change(table: str, rows: int, total: int | None) -> None:
        RawTable(source, "parcels").put_many([row(5)], on_conflict="replace")

    first = copy(source, f"sqlite:///{tmp_path}/one.db", ["parcels"], verify=True, progress=change)
    difference = first.tables[0].difference
    assert difference is not None
    assert difference.different_keys == ({"owner": "o1", "number": 1},)
    RawTable(source, "parcels").put_many([row(0)], on_conflict="replace")
    second = copy(source, f"sqlite:///{tmp_path}/two.db", ["parcels"], verify=True, progress=change, changed_since="at")
    assert second.is_complete
    assert second.tables[0].written == 2


def test_a_rate_limits_both_stores(source, tmp_path):
    fill(source, 5)
    with pytest.raises(ConfigurationError, match="rate"):
        copy(source, f"sqlite:///{tmp_path}/other.db", rate=5)  # type: ignore[arg-type]
    limit = FixedRate(rcu=100_000, wcu=100_000)
    assert copy(source, f"sqlite:///{tmp_path}/other.db", rate=limit).is_complete
    assert (tmp_path / "other.db").exists()
