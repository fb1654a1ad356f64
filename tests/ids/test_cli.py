"""The `mintkey` command as a shell sees it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mintkey import _core
from mintkey.cli import ids, main
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
            main(list(arguments))
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
        out, err, code = shell("new", *arguments)
        assert (out, code) == ("", 2)
        assert err.startswith("mintkey: ")
        assert err.count("\n") == 1


def test_new_makes_any_number_in_pieces(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_CHUNK", 7)
    lines = shell("new", "ulid", "-n", "20")[0].splitlines()
    assert len(lines) == 20
    assert lines == sorted(lines)
    for count in (1, 7, 20):
        assert len(json.loads(shell("new", "ulid", "-n", str(count), "--json")[0])) == count


def test_new_ends_with_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        main(["new", "ulid", "-n", "99999999999999999999999"])
    assert ended.value.code == 1


def test_new_writes_snowflakes_as_text_in_json_and_takes_an_epoch(shell: Shell) -> None:
    with frozen("2024-01-01T00:00:00Z"):
        made = json.loads(shell("new", "snowflake", "--epoch", "1577836800000", "--node", "711", "--json")[0])
        assert int(made[0]) >> 22 == 1_704_067_200_000 - 1_577_836_800_000
        assert json.loads(shell("new", "epoch", "--json")[0]) == [1_704_067_200]
    out, _, code = shell("inspect", "-k", "snowflake", "--epoch", "1577836800000", "--json", *made)
    assert code == 0
    assert json.loads(out)[0]["candidates"][0]["time_utc"] == "2024-01-01 00:00:00.000+00:00"


@pytest.mark.parametrize(
    ("plus", "made"),
    [
        ("90", "2024-01-01T00:01:30Z"),
        ("15m", "2024-01-01T00:15:00Z"),
        ("-1.5h", "2023-12-31T22:30:00Z"),
        ("7d", "2024-01-08T00:00:00Z"),
        ("2000ms", "2024-01-01T00:00:02Z"),
    ],
)
def test_new_adds_to_a_timestamp(shell: Shell, plus: str, made: str) -> None:
    with frozen("2024-01-01T00:00:00Z"):
        assert shell("new", "iso8601", "--plus", plus) == (made + "\n", "", 0)


@pytest.mark.parametrize("plus", ["soon", "", "5 m", "999999999999999w", "9999999d"])
def test_what_cannot_be_added_is_refused(shell: Shell, plus: str) -> None:
    out, err, code = shell("new", "iso8601", "--plus", plus)
    assert (out, code) == ("", 2)
    assert err.startswith(("mintkey: --plus ", "mintkey: plus="))


def test_it_tells_its_version(shell: Shell) -> None:
    assert shell("--version") == (f"mintkey {_core.VERSION}\n", "", 0)


def test_inspect_takes_the_parameters_of_a_strategy(shell: Shell) -> None:
    for arguments, bits in (
        (("nanoid", "--size", "12", "V1StGXR8_Z5j"), 72),
        (("nanoid", "--size", "4", "--alphabet", "ab", "abba"), 4),
        (("uuid4", "--length", "8", "550e8400"), 32),
        (("ulid", "--prefix", "ORDER#", "ORDER#01ARZ3NDEKTSV4RRFFQ69G5FAV"), 80),
    ):
        out, err, code = shell("inspect", "--json", "--kind", *arguments)
        assert (err, code) == ("", 0)
        assert json.loads(out)[0]["candidates"][0]["random_bits"] == bits
    out, err, code = shell("inspect", "--prefix", "ORDER#", "ORDER#01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert (out, code) == ("", 2)
    assert err == "mintkey: --prefix is a parameter of a strategy: pass the strategy with --kind\n"
    assert "--kind" in shell("inspect", "ORDER#01ARZ3NDEKTSV4RRFFQ69G5FAV")[1]


def test_ids_that_are_all_random_have_random_bits(shell: Shell) -> None:
    for text, bits in (("V1StGXR8_Z5jdHi6B-myT", 126), ("tz4a98xxat96iws9zmbrgj3a", 123)):
        assert json.loads(shell("inspect", "--json", text)[0])[0]["candidates"][0]["random_bits"] == bits


def test_json_has_plain_names_and_no_number_that_readers_round(shell: Shell) -> None:
    for text in ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "1541815603606036480", "1704067200", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"):
        for facts in json.loads(shell("inspect", "--json", text)[0])[0]["candidates"]:
            assert all(name.isidentifier() for name in facts)
            assert all(abs(value) < 1 << 53 for value in facts.values() if isinstance(value, int))


def test_an_id_is_never_broken_nor_read_as_markup(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = "[bold]" * 10 + "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    out, err, code = shell("inspect", "--kind", "ulid", "--prefix", "[bold]" * 10, text)
    assert (err, code) == ("", 0)
    assert text in out.splitlines()
    assert "[bold]" in out.replace(text, "")


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


def test_inspect_reads_what_new_prints(shell: Shell) -> None:
    for arguments in (("ulid", "-n", "3"), ("snowflake", "-n", "3"), ("epoch_ms",)):
        made, _, _ = shell("new", *arguments, "--json")
        out, err, code = shell("inspect", "--kind", arguments[0], "--json", given=made)
        assert (err, code) == ("", 0)
        assert [entry["text"] for entry in json.loads(out)] == [str(value) for value in json.loads(made)]


def test_it_is_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "mintkey", "new", "ulid"], check=True, capture_output=True, text=True)
    assert parse(done.stdout.strip(), AutoGenerate.ULID).kind is AutoGenerate.ULID


def test_it_needs_no_other_package() -> None:
    program = "import sys; from mintkey.cli import main; sys.argv[1:] = ['inspect', '1704067200']\ntry: main()\n"
    program += "finally: print({'rich', 'typer', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n")


def test_names_are_completed(tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    for line, words in (("mintkey new uu", ["uuid4 ", "uuid7 "]), ("mintkey insp", ["inspect "])):
        told = {
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answers),
            "_ARGCOMPLETE_IFS": "\n",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        subprocess.run([sys.executable, "-m", "mintkey"], env=told, check=True, stdout=subprocess.DEVNULL)
        assert [word.strip() for word in answers.read_text().split("\n")] == [word.strip() for word in words]
