"""Exports and imports, on every store."""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3

import pytest
from tests.cli.conftest import ORDERS, WHOLE, counted

NEW = ["--partition-key", "pk:S", "--sort-key", "sk:N"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_an_export_is_imported_with_its_table(orders, tmp_path, name):
    file = str(tmp_path / name)
    assert orders("export", "orders", file) == ('{"exported": 6}\n', "", 0)
    assert not (tmp_path / f"{name}.partial").exists()
    assert orders("import", "copied", file) == (counted(6), "", 0)
    assert orders("scan", "copied").lines == orders("scan", "orders").lines
    described = json.loads(orders("describe", "copied").out)
    assert {key: described[key] for key in ORDERS} == {**ORDERS, "name": "copied"}


def test_every_value_survives_both_formats(orders, tmp_path):
    for form in ("json", "dynamodb"):
        out = orders("export", "orders", "--format", form, "--where", "exists(photo)").out
        assert orders("import", form, "--format", form, *NEW, given=out.encode()).code == 0
        assert json.loads(orders("get", form, "A", "1").out) == json.loads(WHOLE)
        assert '"exact":12345678901234567890.123456789012345678' in orders("get", form, "A", "1").out


def test_the_format_of_dynamodb(orders):
    out = orders("export", "orders", "-", "--format", "dynamodb", "-w", "exists(photo)").out
    assert json.loads(out)["Item"] == {
        "pk": {"S": "A"},
        "sk": {"N": "1"},
        "status": {"S": "open"},
        "total": {"N": "99.95"},
        "exact": {"N": "12345678901234567890.123456789012345678"},
        "gone": {"NULL": True},
        "photo": {"B": "AP8="},
        "texts": {"SS": ["a", "é"]},
        "numbers": {"NS": ["-1.5", "2"]},
        "blobs": {"BS": ["AA=="]},
        "$cost": {"N": "1"},
        "data": {"M": {"$B": {"L": [{"BOOL": True}, {"M": {"x": {"N": "1E+100"}}}]}, "list": {"L": []}}},
    }
    bare = json.dumps(json.loads(out)["Item"]).encode()
    assert orders("import", "bare", "--format", "dynamodb", *NEW, given=bare).out == counted(1)
    assert json.loads(orders("get", "bare", "A", "1").out) == json.loads(WHOLE)


def test_rows_that_exist(orders):
    given = ('{"pk":"A","sk":1,"n":1}\n\n{"pk":"C","sk":1}\n' * 2).encode()
    ended = orders("import", "orders", given=given)
    assert (ended.out, ended.code) == (counted(1, failed=3), 1)
    assert ended.err.splitlines() == [
        "mintkey: standard input, line 1: a row with the key 'A', 1 exists: see --on-conflict",
        "mintkey: standard input, line 4: a row with the key 'A', 1 exists: see --on-conflict",
        "mintkey: standard input, line 6: a row with the key 'C', 1 exists: see --on-conflict",
    ]
    assert orders("import", "orders", "--on-conflict", "skip", given=given) == (counted(skipped=4), "", 0)
    assert json.loads(orders("get", "orders", "A", "1").out) == json.loads(WHOLE)
    assert orders("import", "orders", "--on-conflict", "replace", given=given) == (counted(4), "", 0)
    assert json.loads(orders("get", "orders", "A", "1").out) == {"pk": "A", "sk": 1, "n": 1}
    assert orders("count", "orders").out == "7\n"


def test_bad_lines_are_reported_and_the_rest_goes_on(orders):
    lines = [
        '\ufeff{"pk":"C","sk":1}',
        '{"pk":"C"}',
        "{nothing",
        '{"pk":1,"sk":1}',
        '{"pk":"C","sk":2,"n":1e200}',
        '{"pk":"C","sk":3,"s":{"$SS":[]}}',
        '{"pk":"C","sk":4}',
    ]
    given = "\n".join(lines).encode() + b'\n{"pk":"\xff","sk":1}\n'
    ended = orders("import", "orders", given=given)
    assert ended.code == 1
    assert {int(line.partition("line ")[2].partition(":")[0]) for line in ended.err.splitlines()} >= {2, 3, 4, 5, 8}
    assert orders("query", "orders", "C", "-w", "sk in (1, 4)").out.count("\n") == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{nothing", "key must be a string, at column 2: '{nothing'"),
        ('{"id":"A"} x', "trailing characters, at column 12: "),
        ("[1]", "invalid type: sequence, expected an item, at column 0: '[1]'"),
        ('{"id":"A","n":NaN}', "expected value, at column 15: "),
        ('{"id":"A","n":1e200}', "a number out of range, at column 19: "),
        ('{"id":"A","id":"B"}', "a name comes twice, at column 19: "),
        ('{"id":"A","b":{"$B":"?"}}', "not valid base64, at column 23: "),
        ('{"id":"A","$b":1}', "a $ at the start of a name is doubled; only $B, $SS, $NS and $BS, alone in an object, "),
        ('{"id":"\\ud800"}', "unexpected end of hex escape, at column "),
    ],
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_line_that_is_no_row_is_named_with_the_reason(command, tmp_path, line, problem):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id":"0"}\n' + line)
    ended = command("import", "things", str(file), "--partition-key", "id:S")
    assert (ended.out, ended.code) == (counted(1, failed=1), 1)
    assert ended.err.startswith(f"mintkey: {file}, line 2: not a row in JSON: {problem}")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_store_that_refuses_a_described_table_ends_the_import(orders, tmp_path):
    exported = orders("export", "orders").out.encode()
    layout = 'UPDATE "mintkey:catalog" SET layout = layout'
    with contextlib.closing(sqlite3.connect(orders.url.removeprefix("sqlite:///"), isolation_level=None)) as database:
        database.execute(f"{layout} + 99")
        ended = orders("import", "orders", given=exported)
        database.execute(f"{layout} - 99")
    assert (ended.out, ended.code, ended.err.count("\n")) == ("", 2, 1)
    assert ended.err.startswith('mintkey: table "orders" was written by a newer mintkey')


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--partition-key", "id"], "--partition-key id: give a name and a type"),
        (["--partition-key", "id:X"], "--partition-key id:X: give a name and a type"),
        (["--sort-key", "at:S"], "--sort-key at:S: a table has a partition key too"),
        (["--partition-key", "id:S", "--sort-key", "id:N"], "'id' is the partition key and the sort key"),
    ],
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_wrong_keys_are_refused_before_a_line_is_read(command, options, problem):
    ended = command("import", "things", *options, given=b"no row")
    assert (ended.out, ended.code, ended.err.count("\n")) == ("", 2, 1)
    assert problem in ended.err
    assert command("tables").out == ""


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_export_of_an_empty_table(command):
    """Amazon's exports have empty files too."""
    options = ["--format", "dynamodb", "--partition-key", "id:S"]
    assert command("import", "things", *options, given=b"") == (counted(), "", 0)
    assert command("export", "things", "--format", "dynamodb") == ("", "", 0)
    assert command("import", "things", "--format", "dynamodb", given=gzip.compress(b"")) == (counted(), "", 0)
    assert command("import", "others", "--format", "dynamodb", given=b"").code == 2


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_file_in_the_other_format(orders):
    exported = orders("export", "orders", "--format", "dynamodb").out.encode()
    ended = orders("import", "orders", given=exported)
    assert (ended.out, ended.code) == (counted(failed=6), 1)
    # One of the six has a name that begins with $, which is no name of a row in this format.
    assert ended.err.count(": a row in the JSON of DynamoDB: pass --format dynamodb: ") == 5
    ended = orders("import", "orders", "--format", "dynamodb", given=orders("export", "orders").out.encode())
    assert (ended.out, ended.code) == (counted(failed=8), 1)
    # A row that has other attributes too.
    row = b'{"Item":{"id":{"S":"A"}},"pk":"A","sk":99}'
    assert orders("import", "orders", given=row) == (counted(1), "", 0)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_file_of_an_export_that_cannot_be_opened_is_named(orders, tmp_path):
    for name in (f"{tmp_path}/no/orders.jsonl", f"{tmp_path}"):
        ended = orders("export", "orders", name)
        assert (ended.out, ended.code) == ("", 2)
        assert ended.err.startswith(f"mintkey: {name}: ")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[]", "expected a dict, got list: '[]'"),
        ('{"a":{"S":"x"}', "not JSON: Expecting ',' delimiter, at column 15: "),
        ('{"a":{"S":"x"},"a":{"S":"y"}}', "a name comes twice in ['a', 'a']: "),
        ('{"Item":{"a":{"S":1}}}', "in a: expected text, got 1"),
        (
            '{"a":{"M":{"b":{"L":[{"S":"x"},3]}}}}',
            'in a.b[1]: expected a value with its type, such as {"S": "text"}, got 3',
        ),
        ('{"a":{"N":"NaN"}}', "in a: NaN and infinity cannot be stored"),
        ('{"a":{"Q":"x"}}', "in a: the types are S, N, B, BOOL, NULL, L, M, SS, NS, BS, not 'Q'"),
        ('{"a":{"SS":[]}}', "in a: a set has one member or more, got an empty one"),
        ('{"a":{"B":"?"}}', "in a: Only base64 data is allowed"),
        ('{"a":{"S":"\\ud800"}}', "not a row in the JSON of DynamoDB"),
    ],
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_values_that_are_none_of_dynamodb(command, line, problem):
    ended = command("import", "things", "--format", "dynamodb", "--partition-key", "a:S", given=line.encode())
    assert (ended.out, ended.code) == (counted(failed=1), 1)
    assert f"line 1: {problem}" in ended.err
