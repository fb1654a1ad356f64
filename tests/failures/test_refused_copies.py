"""Copies to a target that refuses from the second page on: they stop, keep their state, and continue from there."""

from __future__ import annotations

import asyncio
import json
import resource
import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from tests.behaviour.conftest import PATIENCE, dynamodb_address, dynamodb_prefix
from tests.failures.proxies import HttpProxy

from mintkey import Store
from mintkey.catalog import TableInfo, codec_of, create_table_like, tables
from mintkey.cli import main
from mintkey.copies import segments
from mintkey.copies import state as copy_state
from mintkey.copying import acopy, copy
from mintkey.errors import StoreError, StoreUnavailable, Throttled
from mintkey.monitoring import RequestRecord
from mintkey.raw import RawTable

#: Few rows are on the second page, because each of them is refused several times.
ROWS = 1050
TABLE = {"name": "rows", "partition": {"name": "pk", "type": "S"}, "indexes": [], "unique": []}

#: The URL of a target, how it begins to refuse, and how it ends that.
Target = tuple[str, Callable[[], object], Callable[[], object]]


@pytest.fixture
def source(tmp_path, monkeypatch) -> Iterator[Store]:
    """A store with rows for more than one page; a copy repeats refused requests without delay."""
    monkeypatch.setattr(segments, "_DELAY", 0.0)
    with Store(f"sqlite:///{tmp_path}/source.db") as store:
        create_table_like(store, TableInfo.from_dict(TABLE))
        RawTable(store, "rows").put_many({"pk": f"k{n}", "text": "x" * 200} for n in range(ROWS))
        yield store


@contextmanager
def full_disk(folder: Path) -> Iterator[Target]:
    """A file that cannot become longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit() -> None:
        longest = max(file.stat().st_size for file in folder.glob("target.db*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (longest, before[1]))

    def lift() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    try:
        yield f"sqlite:///{folder}/target.db", limit, lift
    finally:
        lift()


@contextmanager
def redis_server(*settings: tuple[str, ...]) -> Iterator[Target]:
    """A Redis server that gets these commands, and the same without their effect."""
    script = Path(__file__).parents[1] / "servers" / "redis.py"
    with runpy.run_path(str(script))["server"]() as url, redis.Redis.from_url(url) as raw:

        def refuse() -> None:
            for setting in settings:
                raw.execute_command(*setting)

        def relent() -> None:
            raw.execute_command("CONFIG", "SET", "maxmemory", "0")
            raw.execute_command("REPLICAOF", "NO", "ONE")

        yield f"{url}?timeout=10", refuse, relent


@contextmanager
def dynamodb(folder: Path, fault: str) -> Iterator[Target]:
    """DynamoDB Local behind a proxy that refuses all requests."""
    address = urlsplit(dynamodb_address())
    with HttpProxy((str(address.hostname), int(address.port or 80))) as proxy:
        direct = dynamodb_prefix(folder)
        url = direct.replace(f":{address.port}", f":{proxy.port}").replace(PATIENCE, "timeout=20&retries=0")
        yield url, lambda: proxy.only.extend([fault] * 100_000), proxy.only.clear
        with Store(direct) as store:
            for info in tables(store):
                store.run(request for request in [codec_of(info).delete_table()])


NOBODY = ("REPLICAOF", "127.0.0.1", "1")
TARGETS: dict[str, tuple[Callable[[Path], Any], type[StoreError], str]] = {
    "disk full": (full_disk, StoreUnavailable, "target.db"),
    "maxmemory": (lambda _: redis_server(("CONFIG", "SET", "maxmemory", "1")), StoreUnavailable, "maxmemory"),
    "replica": (lambda _: redis_server(NOBODY), StoreUnavailable, "replica"),
    "throttled": (lambda folder: dynamodb(folder, "throttle"), Throttled, "fewer requests"),
    "no capacity": (lambda folder: dynamodb(folder, "capacity"), Throttled, "fewer requests"),
}


@contextmanager
def refusing(url: str, refuse: Callable[[], object]) -> Iterator[Store]:
    """The target, which refuses after the first page is written."""
    with Store(url) as target:

        @target.on_request
        def note(record: RequestRecord) -> None:
            if record.operation == "batch_write":
                target.off_request(note)
                refuse()

        yield target


@pytest.mark.parametrize("on_conflict", ["fail", "replace"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_copy_stops_and_continues_without_loss(source, tmp_path, name, on_conflict):
    made, error, reason = TARGETS[name]
    state = tmp_path / "state.json"
    with made(tmp_path) as (url, refuse, relent):
        given: dict[str, Any] = {"on_conflict": on_conflict, "resume": state, "verify": True}
        with refusing(url, refuse) as target, pytest.raises(error, match=reason):
            copy(source, target, **given)
        begun = json.loads(state.read_text("utf-8"))["tables"]["rows"]
        assert (begun["written"], begun["failed"]) == (1000, 0)
        relent()
        report = asyncio.run(acopy(source, url, **given))
        assert report.is_complete, report
        assert report.tables[0].written + report.tables[0].unchanged == ROWS
        assert not state.exists()


def test_a_batch_of_which_dynamodb_leaves_rows_out_is_completed(source, tmp_path):
    with dynamodb(tmp_path, "unprocessed") as (url, leave_out, _):
        leave_out()
        report = copy(source, url, on_conflict="replace", verify=True)
        assert report.is_complete, report
        assert report.tables[0].written == ROWS


def test_a_list_of_tables_that_is_throttled_names_no_table(tmp_path):
    with dynamodb(tmp_path, "throttle") as (url, refuse, _):
        refuse()
        with Store(url) as store, pytest.raises(Throttled, match=r"fewer requests \(.*\); try again later"):
            tables(store)


def test_the_command_says_how_to_continue(source, tmp_path, capsys):
    made, _, reason = TARGETS["maxmemory"]
    state = tmp_path / "state.json"

    def run(url: str) -> tuple[str, str, object]:
        with pytest.raises(SystemExit) as ended:
            main(["copy", source.url, url, "--resume", str(state), "--verify"])
        return (*capsys.readouterr(), ended.value.code)

    with made(tmp_path) as (url, refuse, relent):
        with Store(url) as target:
            create_table_like(target, TableInfo.from_dict(TABLE))
        refuse()
        out, err, code = run(url)
        assert (out, code) == ("", 3)
        assert reason in err.splitlines()[-1]
        assert state.exists()
        relent()
        out, err, code = run(url)
        assert (json.loads(out)["written"], err, code) == (ROWS, "", 0)
        assert not state.exists()


def test_a_state_that_cannot_be_written_does_not_hide_why_the_copy_stopped(source, tmp_path, monkeypatch):
    # So that the state is written at the start and at the end only.
    monkeypatch.setattr(copy_state, "_INTERVAL", float("inf"))
    made, error, reason = TARGETS["maxmemory"]
    folder = tmp_path / "state"
    folder.mkdir()
    with made(tmp_path) as (url, refuse, _):

        def lose_the_state() -> None:
            refuse()
            shutil.rmtree(folder)
            folder.write_text("no folder")

        with refusing(url, lose_the_state) as target, pytest.raises(error, match=reason):
            copy(source, target, resume=folder / "state.json")
