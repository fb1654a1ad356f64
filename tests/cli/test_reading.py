"""Tables and rows, on every store."""

from __future__ import annotations

import json

import pytest
from tests.cli.conftest import LINES, WHOLE, drop_tables


def rows(text: str) -> list[dict[str, object]]:
    """The rows of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_tables_and_their_description(orders):
    (table,) = rows(orders("tables").out)
    shown = rows(orders("describe", "orders").out)[0]
    assert {**shown, "bytes": table["bytes"]} == table
    # DynamoDB counts them later.
    assert shown["bytes"] == sum(map(len, (line.encode() for line in LINES))) or "dynamodb" in orders.url
    assert (table["name"], table["partition"], table["sort"]) == (
        "orders",
        {"name": "pk", "type": "S"},
        {"name": "sk", "type": "N"},
    )
    assert table["rows"] in {6, None, 0}  # DynamoDB counts them later
    listed = orders("tables", "--output", "table").out
    assert [line.split()[:3] for line in listed.splitlines()][2] == ["orders", "pk", "(string)"]
    described = orders("describe", "orders", "--output", "table").out
    assert "by_status: status (string), total (number); projects all" in described
    assert orders("tables").code == 0


def test_a_ping(orders):
    found = json.loads(orders("ping").out)
    assert found["milliseconds"] > 0
    assert found["servers"]
    table = orders("ping", "--output", "table").out
    assert table.split()[:3] == ["server", "version", "milliseconds"]
    assert all(server["address"] in table for server in found["servers"])


def test_an_empty_store_has_no_tables(orders):
    drop_tables(orders.url)
    assert orders("tables") == ("", "", 0)


def test_a_row_is_printed_exactly(orders):
    ended = orders("get", "orders", "A", "1")
    assert json.loads(ended.out) == json.loads(WHOLE)
    assert '"exact":12345678901234567890.123456789012345678' in ended.out
    table = orders("get", "orders", "A", "1", "--output", "table").out
    assert [line.split()[0] for line in table.splitlines()][:4] == ["attribute", "---------", "pk", "sk"]
    assert "12345678901234567890.123456789012345678" in table


def test_no_row(orders):
    ended = orders("get", "orders", "A", "99")
    assert ended == ("", "mintkey: orders: no row has the key A 99\n", 1)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (["A", "one"], "the key sk is a number, not 'one'"),
        (["A"], "the key is pk (string), sk (number): give 2 values, not 1"),
        (["A", "1", "2"], "the key is pk (string), sk (number): give 2 values, not 3"),
        (["A", "1e999"], "sk"),
    ],
)
def test_keys_are_checked(orders, key, problem):
    ended = orders("get", "orders", *key)
    assert (ended.out, ended.code) == ("", 2)
    assert problem in ended.err
    assert ended.err.count("\n") == 1


def test_keys_are_text_numbers_or_base64(command):
    lines = b'{"id":{"$B":"AP8="},"n":1}\n'
    assert command("import", "blobs", "--partition-key", "id:B", given=lines).code == 0
    assert json.loads(command("get", "blobs", "AP8=").out) == json.loads(lines)
    assert command("get", "blobs", "?").code == 2
    assert command("import", "numbers", "--partition-key", "id:N", given=b'{"id":-1.5}').code == 0
    assert command("get", "numbers", "-1.50").out == '{"id":-1.5}\n'


def test_a_query_is_ordered_and_takes_conditions(orders):
    def found(*arguments: str) -> list[object]:
        ended = orders("query", "orders", *arguments)
        assert (ended.err, ended.code) == ("", 0)
        return [row["sk"] for row in rows(ended.out)]

    assert found("A") == [1, 2, 3, 4, 5]
    assert found("A", "--descending", "--limit", "2") == [5, 4]
    assert found("A", "--where", "sk > 1 and sk <= 4 and total != 30") == [2, 4]
    assert found("A", "-w", "sk between 2 and 3") == [2, 3]
    assert found("A", "-w", "sk = `$cost`") == [1]
    assert found("A", "-w", "sk >= 3 and sk < `total` and size(status) = 4") == [3, 4, 5]
    assert found("A", "-w", 'sk = 9 or status = "open"') == [1]
    assert found("paid", "--index", "by_status", "-w", "total >= 30", "--descending") == [5, 4, 3]
    assert found("nobody") == []


def test_a_query_names_a_partition_and_an_index_that_exist(orders):
    assert "the partition key is pk (string): give 1 value, not 0" in orders("query", "orders").err
    ended = orders("query", "orders", "A", "--index", "by_state")
    hint = "(did you mean 'by_status'?): the indexes are by_status"
    assert (ended.err, ended.code) == (f"mintkey: orders: there is no index 'by_state' {hint}\n", 2)
    assert "there is no index ''" in orders("query", "orders", "A", "-i", "").err


def test_a_scan_takes_conditions_and_a_limit(orders):
    found = {(row["pk"], row["sk"]): row for row in rows(orders("scan", "orders").out)}
    assert found == {(row["pk"], row["sk"]): row for row in map(json.loads, LINES)}
    assert len(orders("scan", "orders", "--limit", "4").lines) == 4
    for where, wanted in (
        ('status = "open" and total < 10', 1),
        ("exists(photo)", 1),
        ("not exists(photo)", 5),
        ('texts contains "é"', 1),
        ('photo = base64("AP8=")', 1),
        ("gone = null", 1),
        ('pk = "A" and sk in (1, 2, 17)', 2),
        ('status begins_with "p"', 4),
        ("`$cost` = 1", 1),
        ("data.`$B`[0] = true", 1),
        ("size(texts) = 2 and size(photo) < 3 and size(data.`$B`) != 1", 1),
        ("`$cost` <= `sk` and `$cost` = `sk` and total > `sk`", 1),
        ("sk < `total` and not total < `sk`", 6),
        ("exact = 12345678901234567890.123456789012345678", 1),
    ):
        assert orders("count", "orders", "--where", where) == (f"{wanted}\n", "", 0)
        assert len(orders("scan", "orders", "--where", where).lines) == wanted


def test_a_table_of_rows_has_the_keys_first_and_no_escape_sequences(orders):
    out = orders("scan", "orders", "-o", "table").out
    heading, ruler, *found = out.splitlines()
    assert heading.split()[:2] == ["pk", "sk"]
    assert set(ruler) == {"-", " "}
    assert len(found) == 6
    assert "\x1b" not in out
    assert "\\x1b[31m" in out


def test_a_table_that_does_not_exist(orders):
    for name in ("describe", "scan", "count", "export"):
        ended = orders(name, "order")
        assert (ended.out, ended.code) == ("", 2)
        assert "did you mean 'orders'?" in ended.err
    # A byte that is not UTF-8.
    assert "table 'orders\\udcff' does not exist" in orders("scan", "orders\udcff").err


def test_the_environment_names_the_store(orders, monkeypatch):
    assert orders("count", "orders", url=False).code == 2
    monkeypatch.setenv("MINTKEY_URL", orders.url)
    assert orders("count", "orders", url=False).out == "6\n"
    assert orders("count", "--where", 'pk = "B"', "orders", url=False).out == "1\n"
