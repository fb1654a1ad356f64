"""Each file of `examples/` as a user runs it: by itself, on each store, judged by what it prints and leaves there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.behaviour.conftest import STORES
from tests.examples import stored

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ULID = r"[0-7][0-9A-HJKMNP-TV-Z]{25}"
KSUID = r"[0-9A-Za-z]{27}"
UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
SECOND = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
MILLISECOND = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Run:
    """What an example printed, and what it left in the store."""

    def __init__(self, name: str, folder: Path, url: str) -> None:
        self.url = url
        done = subprocess.run(
            [sys.executable, "-W", "error", "-X", "utf8", str(EXAMPLES / f"{name}.py")],
            cwd=folder,
            env={**os.environ, "MINTKEY_URL": url},
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        self.text = done.stdout
        # Nothing except the store that the environment names.
        left = {path.name.removesuffix("-wal").removesuffix("-shm") for path in folder.iterdir()}
        assert left == ({"behaviour.db"} if url.startswith("sqlite:") else set())

    def found(self, pattern: str) -> str:
        """What a line of the output says in the pattern's group, or as a whole."""
        match = re.search(f"^{pattern}$", self.text, re.MULTILINE)
        assert match is not None, f"{pattern!r} is nowhere in:\n{self.text}"
        return match.group(1) if match.re.groups else match.group()

    def items(self, table: str) -> list[dict[str, Any]]:
        """The stored items of a table, read past mintkey."""
        return stored.items(self.url, table)


@pytest.fixture(params=STORES)
def run(request, tmp_path):
    url = STORES[request.param](tmp_path)
    return lambda name: Run(name, tmp_path, url)


def milliseconds_of(ulid: str) -> int:
    """The time of a ULID, by the alphabet of its specification."""
    value = 0
    for character in ulid[:10]:
        value = value * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)
    return value


def seconds_of(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp())


def test_each_example_has_a_test():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {name.removeprefix("test_") for name in globals() if name.removeprefix("test_") in names}


def test_basic_order(run):
    out = run("basic_order")
    out.found("before the save: pk=None created_at=None")
    key = out.found(f"after the save:  pk=({ULID}) created_at={SECOND}")
    created = out.found(f"after the save:  pk={key} created_at=({SECOND})")
    out.found(f"second save:     pk={key} created_at={created} updated_at={SECOND}")
    out.found("key and created_at kept: True")
    out.found("same as ours: True")
    assert milliseconds_of(key) // 1000 == seconds_of(created)
    (order,) = out.items("orders")
    assert order["pk"] == key
    assert order["sk"] == "ORDER#DETAILS"
    assert order["created_at"] == created
    assert order["total"] == 149.99


def test_all_strategies(run):
    out = run("all_strategies")
    out.found(r"before the save: \{\}")

    def value(name: str, pattern: str, size: str) -> str:
        return out.found(rf"  {name} +({pattern}) +{size}")

    value("UUID4", UUID4, "36 characters")
    uuid7 = value("UUID7", UUID7, "36 characters")
    ulid = value("ULID", ULID, "26 characters")
    value("KSUID", KSUID, "27 characters")
    value("NANOID", r"[\w-]{21}", "21 characters")
    snowflake = int(value("SNOWFLAKE", r"\d+", "int"))
    value("TYPEID", "specimen_[0-7][0-9a-hjkmnp-tv-z]{25}", "35 characters")
    value("XID", "[0-9a-v]{20}", "20 characters")
    value("CUID2", "[a-z][0-9a-z]{23}", "24 characters")
    epoch = int(value("EPOCH", r"\d+", "int"))
    epoch_ms = int(value("EPOCH_MS", r"\d+", "int"))
    iso8601 = value("ISO8601", SECOND, "20 characters")
    iso8601_ms = value("ISO8601_MS", MILLISECOND, "24 characters")

    assert milliseconds_of(ulid) == epoch_ms
    assert int(uuid7.replace("-", "")[:12], 16) == epoch_ms
    assert (snowflake >> 22) + 1288834974657 == epoch_ms
    instant = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=epoch_ms)
    assert iso8601_ms == instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{epoch_ms % 1000:03d}Z"
    assert seconds_of(iso8601) == epoch == epoch_ms // 1000
    out.found("one clock reading for all: True")
    out.found("read back unchanged: True")
    (specimen,) = out.items("specimens")
    assert specimen["ulid"] == ulid
    assert specimen["snowflake"] == snowflake
    assert len(specimen) == 13


def test_given_values(run):
    out = run("given_values")
    out.found("key and time given:    pk=DOC#1998-0042 created_at=904608000")
    checksum = out.found(r"the rest was minted:   checksum=([\w-]{21})")
    out.found("0 and '' count as given: created_at=0 checksum=''")
    blank = out.found(f"the key was minted:    pk=({UUID4})")
    absent = out.found(rf"None counts as absent: pk=({UUID4}) created_at=\d{{10,}}")
    stored = {item["pk"]: item for item in out.items("documents")}
    assert stored.keys() == {"DOC#1998-0042", blank, absent}
    assert stored["DOC#1998-0042"] == {"pk": "DOC#1998-0042", "created_at": 904608000, "checksum": checksum}
    assert stored[blank] == {"pk": blank, "created_at": 0, "checksum": ""}


def test_concurrent_saves(run):
    out = run("concurrent_saves")
    out.found("tasks:          1000")
    out.found("different keys: 1000")
    out.found("rows stored:    1000")
    out.found("every number is there: True")
    items = out.items("jobs")
    assert sorted(item["number"] for item in items) == list(range(1000))
    assert len({item["id"] for item in items}) == 1000
    assert all(re.fullmatch(ULID, str(item["id"])) for item in items)


def test_audit_log(run):
    out = run("audit_log")
    assert out.text.count("before the save: sk=None created_at=None") == 3
    for second, action in ((0, "login"), (1, "upload"), (1, "logout")):
        at = f"2024-01-01T12:00:0{second}Z"
        out.found(f"after the save:  sk=LOG#{at}#{ULID} created_at={at}")
        out.found(f"  LOG#{at}#{ULID}  {action}")
    assert re.findall(r"^  LOG#\S+  (\w+)$", out.text, re.MULTILINE) == ["login", "upload", "logout"]
    out.found("entries kept: 3")
    items = out.items("audit_log")
    assert [item["sk"] for item in items] == [f"LOG#{item['created_at']}#{item['id']}" for item in items]
    assert sorted(str(item["action"]) for item in items) == ["login", "logout", "upload"]


def test_values_in_hooks(run):
    out = run("values_in_hooks")
    out.found("without a weight: tracking=None")
    tracking = out.found(f"with a weight:    tracking=(TRACK-{KSUID})")
    out.found("weighed again, same number: True")
    at = out.found(f"created at ({MILLISECOND}), weighed at .*")
    out.found(f"created at {at}, weighed at {at}")
    weights = {item["tracking"]: item["weight"] for item in out.items("parcels")}
    assert weights[tracking] == 2.6
    assert sorted(map(str, weights.values())) == ["1", "2.6"]


def test_event_sourcing(run):
    out = run("event_sourcing")
    out.found("events saved: 1000")
    out.found("events read: 1000")
    out.found("in the order saved: True")
    # Two are deposited for each that is withdrawn: 0 + 1 - 2 + 3 + 4 - 5 …
    amounts = [(-1 if number % 3 == 2 else 1) * number for number in range(1000)]
    out.found(f"balance after all of them: {sum(amounts)}")
    out.found(r"the latest three: \[999, 998, 997\]")
    out.found("what came after the 990th: 10")
    items = sorted(out.items("account_events"), key=lambda item: str(item["event"]))
    assert [item["amount"] for item in items] == list(range(1000))
    assert len({item["account"] for item in items}) == 1
    assert int(out.found(r"different milliseconds: (\d+)")) == len({str(item["event"])[:10] for item in items})


def test_sessions(run):
    out = run("sessions")
    key = out.found(f"key:        ({UUID4})")
    out.found("started at: 1704067200")
    out.found("expires in: 1 day, 0:00:00")
    out.found("after 23 hours: expires_in=1:00:00 found=True")
    out.found("extended, an hour later: expires_in=1:00:00 expired=False")
    out.found("another hour later: expires_in=None expired=True")
    out.found("the store's answer: None")
    # Its time is over: a server may have removed it.
    left = out.items("sessions")
    assert left in ([], [{"id": key, "started_at": 1704067200, "user": "ada", "expires_at": 1704067200 + 25 * 3600}])


def test_fields_vocabulary(run):
    out = run("fields_vocabulary")
    article = out.found("Article, before the save: id=([0-9a-f]{32})")
    out.found(f"Article, after the save:  id={article}")
    order = out.found(f"Order:    id=({ULID})")
    out.found(f"Event:    id=({KSUID})")
    entry = out.found("LogEntry: _auto_key=([0-9a-f]{32})")
    out.found(f"by key:   Order\\(id='{ULID}', product='Gadget'\\)")
    out.found(r"latest first: \['Gizmo', 'Gadget', 'Widget'\]")
    out.found(r"of these, with a G: \['Gadget', 'Gizmo'\]")
    assert [item["id"] for item in out.items("Article")] == [article]
    assert [item["_auto_key"] for item in out.items("LogEntry")] == [entry]
    assert order in {item["id"] for item in out.items("Order")}


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_runs_again_on_what_it_left(run, name):
    def lines(text: str) -> int:
        return len(text.splitlines())

    assert lines(run(name).text) == lines(run(name).text)
