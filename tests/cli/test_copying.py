"""Copies between stores."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from tests.cli.conftest import LINES, ORDERS, fill


def summary(ended) -> dict[str, object]:
    """The only line of the output."""
    found: dict[str, object] = json.loads(ended.out)
    return found


def test_tables_are_copied_there_and_back(command, tmp_path):
    source, copied = f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/copied.db"
    fill(source, LINES)

    ended = command("copy", source, command.url, "--dry-run", url=False)
    assert (summary(ended)["exists"], summary(ended)["written"], ended.code) == (False, 0, 0)
    assert command("tables").out == ""

    ended = command("copy", source, command.url, "--verify", url=False)
    assert (ended.err, ended.code) == ("", 0)
    assert summary(ended) == {
        "table": "orders",
        "rows": 6,
        "exists": False,
        "written": 6,
        "unchanged": 0,
        "skipped": 0,
        "failed": 0,
    }
    described = json.loads(command("describe", "orders").out)
    assert {key: described[key] for key in ORDERS} == ORDERS

    assert command("copy", command.url, copied, "orders", "--verify", url=False).code == 0
    shown = [command("scan", at, "orders", url=False).out for at in (source, copied)]
    assert [[json.loads(line) for line in text.splitlines()] for text in shown] == [
        [json.loads(line) for line in shown[0].splitlines()]
    ] * 2


def test_urls_in_variables(command, tmp_path, monkeypatch):
    monkeypatch.setenv("OLD", f"sqlite:///{tmp_path}/source.db")
    monkeypatch.setenv("NEW", command.url)
    fill(f"sqlite:///{tmp_path}/source.db", LINES)
    ended = command("copy", "env:OLD", "env:NEW", "orders", "--verify", url=False)
    assert (ended.err, ended.code) == ("", 0)
    assert command("count", "env:NEW", "orders", url=False) == ("6\n", "", 0)
    assert command("get", "env:NEW", "orders", "B", "1", url=False).code == 0


def test_rows_of_the_target(orders, tmp_path):
    source = f"sqlite:///{tmp_path}/source.db"
    fill(source, ['{"pk":"A","sk":1,"status":"new"}', '{"pk":"new","sk":1}'])

    ended = orders("copy", source, orders.url, url=False)
    assert (ended.out, ended.code) == ("", 2)
    assert "table 'orders' has rows in" in ended.err
    assert "set on_conflict to skip or replace" in ended.err

    ended = orders("copy", source, orders.url, "--on-conflict", "skip", "--verify", url=False)
    assert (summary(ended)["written"], summary(ended)["skipped"], ended.code) == (1, 1, 1)
    assert summary(ended)["difference"] == {"missing": 0, "extra": 5, "different": 1}
    assert 'orders: the row {"pk":"A","sk":1} differs' in ended.err

    assert orders("copy", source, orders.url, "--on-conflict", "replace", url=False).code == 0
    assert json.loads(orders("get", "orders", "A", "1").out)["status"] == "new"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_file_is_not_copied_onto_itself_under_another_name(orders, tmp_path, monkeypatch):
    file = Path(orders.url.removeprefix("sqlite:///"))
    (tmp_path / "symlink.db").symlink_to(file)
    (tmp_path / "hardlink.db").hardlink_to(file)
    (tmp_path / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = file.read_bytes()
    names = [file.name, f"{tmp_path}/folder/{file.name}", f"{tmp_path}//{file.name}", f"{tmp_path}/behaviour%2edb"]
    names += ["symlink.db", "hardlink.db", f"folder/{file.name}?sync=normal"]
    for name in names:
        for source, target in ((orders.url, f"sqlite:///{name}"), (f"sqlite:///{name}", orders.url)):
            for conflict in ("fail", "skip", "replace"):
                ended = orders("copy", source, target, "--on-conflict", conflict, url=False)
                assert (ended.out, ended.code) == ("", 2), name
                assert "are the same store: pass another target" in ended.err
    assert file.read_bytes() == before


@pytest.mark.parametrize("url", ["redis"], indirect=True)
def test_a_full_disk_names_the_file(orders, tmp_path):
    full = "File too large: free space, or name a file on another disk"
    state, file = tmp_path / "state", tmp_path / "rows.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        copied = orders("copy", orders.url, f"sqlite:///{tmp_path}/copied.db", "--resume", str(state), url=False)
        exported = orders("export", "orders", str(file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (copied.err, copied.code) == (f"mintkey: the state file {state} cannot be written: {full}\n", 1)
    assert (exported.err, exported.code) == (f"mintkey: {file}: {full}\n", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_copies_that_cannot_be_made(orders, tmp_path):
    copied = f"sqlite:///{tmp_path}/copied.db"
    for arguments, problem in (
        ([orders.url, orders.url], "are the same store"),
        ([orders.url, copied, "order"], "did you mean 'orders'?"),
        ([orders.url, copied, "--rate", "0"], "argument --rate: '0' is not a positive number"),
        ([f"sqlite:///{tmp_path}/no.db", copied], "there is no file"),
        (
            [orders.url, copied, "--resume", f"{tmp_path}/no/state"],
            f"file {tmp_path}/no/state cannot be written",
        ),
        ([orders.url, copied, "--resume", ""], "the state file '' cannot be read"),
        ([orders.url, copied, "--on-conflict", "skip", "--changed-since", "at"], "changed_since replaces rows"),
        ([orders.url], "the following arguments are required: TARGET (see mintkey copy --help)"),
    ):
        ended = orders("copy", *arguments, url=False)
        assert (ended.out, ended.code) == ("", 2)
        assert problem in ended.err
    empty = orders("copy", "sqlite://", copied, url=False)
    assert (empty.out, empty.err, empty.code) == ("", "mintkey: sqlite:// has no tables: nothing was copied\n", 1)
    shown = orders("copy", orders.url, copied, "-o", "table", url=False).out.splitlines()
    assert shown[0].split() == ["table", "rows", "exists", "written", "unchanged", "skipped", "failed", "equal"]
    assert shown[2].split() == ["orders", "6", "no", "6", "0", "0", "0"]
