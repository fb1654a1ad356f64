"""The command on every store, in this process, as a subprocess, and on a terminal."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from tests.behaviour.conftest import url

from mintkey import Store
from mintkey._core import Item
from mintkey.catalog import TableInfo, codec_of, create_table_like, tables
from mintkey.cli import main
from mintkey.raw import put_items

__all__ = ["url"]

# Under `nohup` this process ignores SIGHUP, and the commands that it starts would do so, too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ORDERS: dict[str, Any] = {
    "name": "orders",
    "partition": {"name": "pk", "type": "S"},
    "sort": {"name": "sk", "type": "N"},
    "indexes": [
        {
            "name": "by_status",
            "partition": [{"name": "status", "type": "S"}],
            "sort": {"name": "total", "type": "N"},
            "projection": "all",
            "local": False,
        }
    ],
    "unique": [],
}
#: A row with everything that JSON lacks.
WHOLE = (
    '{"pk":"A","sk":1,"status":"open","total":99.95,"exact":12345678901234567890.123456789012345678,"gone":null,'
    '"photo":{"$B":"AP8="},"texts":{"$SS":["a","é"]},"numbers":{"$NS":[-1.5,2]},"blobs":{"$BS":["AA=="]},"$$cost":1,'
    '"data":{"$$B":[true,{"x":1E+100}],"list":[]}}'
)
LINES = [
    WHOLE,
    *(f'{{"pk":"A","sk":{number},"status":"paid","total":{number * 10}}}' for number in range(2, 6)),
    '{"pk":"B","sk":1,"status":"open","total":7,"escape":"\\u001b[31m"}',
]


def counted(written: int = 0, skipped: int = 0, failed: int = 0) -> str:
    """The summary of an import."""
    return json.dumps({"written": written, "skipped": skipped, "failed": failed}) + "\n"


class Ended(NamedTuple):
    """What a command did."""

    out: str
    err: str
    code: object

    @property
    def lines(self) -> list[str]:
        """The lines of the output, in the order of their text."""
        return sorted(self.out.splitlines())


class Command:
    """Runs the command in this process, on a store."""

    def __init__(self, url: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, name: str, *arguments: str, given: bytes = b"", url: bool = True) -> Ended:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(given))))
        with pytest.raises(SystemExit) as ended:
            main([name, *([self.url] if url else []), *arguments])
        out, err = self._capsys.readouterr()
        return Ended(out, err, ended.value.code)


@pytest.fixture
def command(url, capsys, monkeypatch) -> Iterator[Command]:
    """The command, on an empty store."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MINTKEY_URL", raising=False)
    yield Command(url, capsys, monkeypatch)
    drop_tables(url)


@pytest.fixture
def orders(command) -> Command:
    """The command, on a store with six orders."""
    fill(command.url, LINES)
    return command


def fill(url: str, lines: list[str]) -> None:
    """Create the table of orders, with these rows."""
    table = TableInfo.from_dict(ORDERS)
    with Store(url) as store:
        create_table_like(store, table)
        assert set(store.run(put_items(codec_of(table), [Item.from_json(line) for line in lines], "fail"))) <= {None}


def drop_tables(url: str) -> None:
    """Delete all tables of a store."""
    with Store(url) as store:
        for table in tables(store):
            store._core.execute(codec_of(table).delete_table())
