"""The `mintkey` command as a shell sees it."""

from __future__ import annotations

import io
import json
import sys

import pytest

from mintkey import cli
from mintkey.generators import AutoGenerate, parse
from mintkey.testing import frozen


class Shell:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys = capsys
        self.monkeypatch = monkeypatch
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv("TZ", "UTC")

    def __call__(self, *arguments: str, given: str = "") -> tuple[str, str, object]:
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        out, err = self.capsys.readouterr()
        return out, err, ended.value.code


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(capsys, monkeypatch)


@pytest.mark.parametrize("member", AutoGenerate, ids=lambda member: member.value)
def test_new_prints_one_a_line(shell: Shell, member: AutoGenerate) -> None:
    out, err, code = shell("new", member.value, "-n", "3")
    assert (err, code) == ("", 0)
    lines = out.splitlines()
    assert len(lines) == 3
    assert all(parse(line, member) for line in lines)


def test_new_takes_parameters_and_prints_json(shell: Shell) -> None:
    out, _, code = shell("new", "nanoid", "--size", "5", "--alphabet", "ab", "-n", "2", "--json")
    made = json.loads(out)
    assert code == 0
    assert [len(value) for value in made] == [5, 5]
    assert shell("new", "typeid", "--prefix", "user")[0].startswith("user_")
    assert int(shell("new", "snowflake", "--node", "700-710")[0]) >> 12 & 0x3FF in range(700, 711)


def test_what_cannot_be_made_is_said_without_a_traceback(shell: Shell) -> None:
    for arguments in (("nope",), ("ulid", "--size", "5"), ("nanoid", "--size", "0"), ("typeid", "--prefix", "A")):
        out, _, code = shell("new", *arguments)
        assert out == ""
        assert str(code).startswith("mintkey: ")


def test_inspect_tells_what_an_id_holds(shell: Shell) -> None:
    with frozen("2016-08-01T00:00:00Z"):
        out, _, code = shell("inspect", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert code == 0
    for told in (
        "ulid",
        "2016-07-30 23:54:10.259+00:00",
        "1 day ago",
        "80",
        "01563e3a-b5d3-d676-4c61-efb99302bd5b",
    ):
        assert told in out


def test_inspect_shows_several_candidates(shell: Shell) -> None:
    out, _, _ = shell("inspect", "1704067200")
    for told in ("likely epoch", "or snowflake", "or epoch_ms", "2024-01-01 00:00:00.000+00:00"):
        assert told in out
    out, _, _ = shell("inspect", "--kind", "epoch", "1704067200")
    assert "snowflake" not in out


def test_inspect_reads_standard_input_and_prints_json(shell: Shell) -> None:
    ids = "9m4e2mr0ui3e8a215n4g\n0ujtsYcgvSTl8PAuAdqWYSMnLOv\n"
    for arguments in ((), ("-",)):
        out, _, code = shell("inspect", "--json", *arguments, given=ids)
        told = json.loads(out)
        assert code == 0
        assert [entry["candidates"][0]["kind"] for entry in told] == ["xid", "ksuid"]
        assert told[0]["candidates"][0]["sequence"] == 4_271_561


def test_inspect_goes_on_after_a_text_that_is_none(shell: Shell) -> None:
    out, err, code = shell("inspect", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "9m4e2mr0ui3e8a215n4g")
    assert code == 1
    assert "exceeds 128 bits" in err
    assert "xid" in out


def test_times_to_come_and_beyond_the_calendar(shell: Shell) -> None:
    with frozen("2024-01-01T00:00:00Z"):
        assert "in 1 day" in shell("inspect", "2024-01-02T00:00:00Z")[0]
        assert "now" in shell("inspect", "2024-01-01T00:00:00Z")[0]
        assert "beyond the year 9999" in shell("inspect", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ")[0]


def test_without_typer_it_says_what_to_install(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "typer", None)
    _, _, code = shell("new", "ulid")
    assert 'pip install "mintkey[cli]"' in str(code)


def test_names_are_completed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MINTKEY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "mintkey new uu")
    monkeypatch.setenv("COMP_CWORD", "2")
    out, _, _ = shell()
    assert out.split() == ["uuid4", "uuid7"]
