"""Reading ids back, strictly; spans of time as spans of ids."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintkey.errors import InvalidId
from mintkey.generators import (
    AutoGenerate,
    auto,
    bounds,
    candidates,
    generate_many,
    generate_value,
    ksuid_from_bytes,
    parse,
    typeid_from_uuid,
    ulid_from_uuid,
)
from mintkey.testing import frozen

UTC = timezone.utc


def test_an_id_tells_its_time(sortable: AutoGenerate) -> None:
    with frozen("2024-05-06T07:08:09.123Z"):
        value = generate_value(sortable)
    second = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    expected = second if sortable.value in ("ksuid", "xid") else second + timedelta(milliseconds=123)
    for given_kind in (None, sortable, sortable.value):
        parsed = parse(value, given_kind)
        assert parsed.kind is sortable
        assert parsed.datetime == expected


def test_parts() -> None:
    ulid = parse("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert ulid.uuid == UUID("01563e3a-b5d3-d676-4c61-efb99302bd5b")
    assert ulid.bytes == ulid.uuid.bytes
    assert ulid.int == ulid.uuid.int
    assert ulid.random_bits == 80
    assert ulid.random == ulid.int & (1 << 80) - 1
    xid = parse("9m4e2mr0ui3e8a215n4g")
    assert (xid.machine, xid.process, xid.sequence) == (0x60F486, 0xE428, 4_271_561)
    snowflake = parse(1541815603606036480)
    assert (snowflake.kind, snowflake.node, snowflake.sequence) == (AutoGenerate.SNOWFLAKE, 378, 0)
    typeid = parse("order_01h455vb4pex5vsknk084sn02q")
    assert (typeid.prefix, typeid.uuid) == ("order", UUID("01890a5d-ac96-774b-bcce-b302099a8057"))
    nanoid = parse("V1StGXR8_Z5jdHi6B-myT")
    assert (nanoid.datetime, nanoid.uuid, nanoid.int, nanoid.bytes) == (None, None, None, b"")
    assert parse(-5, "epoch").int == -5
    assert repr(ulid) == "<ParsedId ulid '01ARZ3NDEKTSV4RRFFQ69G5FAV' of 1469922850259 ms since 1970>"
    assert ulid == parse("01ARZ3NDEKTSV4RRFFQ69G5FAV", "ulid")
    assert len({ulid, parse("01ARZ3NDEKTSV4RRFFQ69G5FAV")}) == 1


def test_a_uuid_object_and_its_forms() -> None:
    uuid = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    for form in (uuid, str(uuid), str(uuid).upper(), uuid.hex):
        assert parse(form).uuid == uuid


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", None, "is not a valid ulid: '8' exceeds 128 bits .* at position 0"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAU", None, "'U' is not in Crockford's base 32 at position 25"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FA", "ulid", "it is 25 characters long, not 26"),
        ("aWgEPTl1tmebfsQzFP4bxwgy80W", None, "exceeds 160 bits .* at position 26"),
        ("550e8400-e29b-11d4-a716-446655440000", None, "UUID of version 1, not 4"),
        ("550e8400e-29b-41d4-a716-446655440000", "uuid4", "found 'e' in place of '-' at position 8"),
        ("9m4e2mr0ui3e8a215n4h", None, "padding bits .* at position 19"),
        ("Order_01h455vb4pex5vsknk084sn02q", None, "lower-case letters, .* at position 0"),
        ("order_01h455vb4pex5vsknk084sn02U", None, "'U' is not in .* at position 31"),
        ("ORDER#8ZZZZZZZZZZZZZZZZZZZZZZZZZ", auto("ulid", prefix="ORDER#"), "at position 6"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", auto("ulid", prefix="ORDER#"), 'does not begin with "ORDER#"'),
        ("2024-02-30T00:00:00Z", "iso8601", "there is no day 30 at position 8"),
        ("x", None, r"does not have the form of an id or a timestamp; pass the strategy .* auto\("),
        ("9223372036854775808", None, "is not a valid snowflake: it exceeds 63 bits"),
        ("2024-01-01", None, "is not a valid iso8601: it is 10 characters long, not 20"),
        ("ORDER#01ARZ3NDEKTSV4RRFFQ69G5FAV", None, r"its prefix: parse\(…, auto\(\"ulid\", prefix='ORDER#'\)\)"),
        ("é/9m4e2mr0ui3e8a215n4g", None, r"auto\(\"xid\", prefix='é/'\)"),
        ("", None, "does not have the form of an id"),
        ("", "ulid", "it is 0 characters long, not 26"),
        ("\ud800" * 26, None, "does not have the form of an id"),
        ("é" * 26, "ulid", "'é' is not ASCII at position 0"),
        (-1, "snowflake", "negative"),
        (1 << 63, "snowflake", "exceeds 63 bits"),
        (5, "ulid", "text, not an integer"),
    ],
)
def test_what_is_none_is_refused_with_position_and_reason(text: str | int, kind: object, message: str) -> None:
    with pytest.raises(InvalidId, match=message):
        parse(text, kind)  # type: ignore[arg-type]


def test_what_is_no_text_is_a_type_error() -> None:
    wrongs: tuple[Any, ...] = (None, 1.5, b"01ARZ3NDEKTSV4RRFFQ69G5FAV", True, [], Decimal(1704067200))
    for wrong in wrongs:
        with pytest.raises(TypeError, match=r"an (ID|id) is a str"):
            parse(wrong)
        with pytest.raises(TypeError, match="takes text"):
            candidates(wrong)


def test_what_is_no_strategy_is_told_which_there_are() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    wrongs: tuple[Any, ...] = (5, None, [], "nope", b"ulid")
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"Invalid strategy .*: uuid4, uuid7, ulid"):
            generate_value(wrong)
        with pytest.raises(ValueError, match="Invalid strategy"):
            generate_many(wrong, 1)
        with pytest.raises(ValueError, match="Invalid strategy"):
            bounds(wrong, start, start + timedelta(1))
        if wrong is not None:
            with pytest.raises(ValueError, match="Invalid strategy"):
                parse("x", wrong)


def test_candidates() -> None:
    assert [found.kind.value for found in candidates("1704067200")] == ["epoch", "snowflake", "epoch_ms"]
    assert [found.kind.value for found in candidates("01h455vb4pex5vsknk084sn02q")] == ["typeid", "ulid"]
    assert [found.kind.value for found in candidates("01arz3ndektsv4rrffq69g5fav")] == ["ulid", "typeid"]
    assert candidates("nothing of the kind") == []


def test_conversions_go_both_ways() -> None:
    for value in generate_many("ulid", 100):
        uuid = parse(value).uuid
        assert uuid is not None
        assert ulid_from_uuid(uuid) == ulid_from_uuid(str(uuid)) == ulid_from_uuid(uuid.bytes) == value
    for value in generate_many("uuid7", 100):
        typeid = typeid_from_uuid(value, "user")
        assert str(parse(typeid).uuid) == value
        assert sorted([typeid_from_uuid(value), typeid[5:]]) == [typeid[5:]] * 2
    for value in generate_many("ksuid", 100):
        assert ksuid_from_bytes(parse(value).bytes) == value
    for wrong in (b"", bytes(15), bytes(17), bytes(19), bytes(21)):
        with pytest.raises(InvalidId):
            ulid_from_uuid(wrong)
        with pytest.raises(InvalidId):
            ksuid_from_bytes(wrong)
    with pytest.raises(ValueError, match="badly formed"):
        ulid_from_uuid("nonsense")


def test_a_span_of_time_is_a_span_of_ids(sortable: AutoGenerate) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    end = start + timedelta(seconds=10)
    low, high = bounds(sortable, start, end)
    with frozen(start - timedelta(seconds=5)) as clock:
        for second in range(-5, 15):
            value = generate_value(sortable)
            assert (low <= value <= high) == (0 <= second < 10)
            clock.advance(1)
    assert bounds(sortable.value, start.replace(tzinfo=None), end) == (low, high)
    assert parse(low, sortable).datetime == start


@given(
    st.integers(1_420_000_000_000_000, 2_840_000_000_000_000).map(lambda us: timedelta(microseconds=us)),
    st.timedeltas(timedelta(seconds=2), timedelta(days=1)),
)
def test_neighbouring_spans_share_nothing_and_leave_nothing_out(since_1970: timedelta, span: timedelta) -> None:
    start = datetime(1970, 1, 1, tzinfo=UTC) + since_1970
    for strategy in ("ulid", "uuid7", "ksuid", "snowflake", "xid", "typeid", "epoch", "iso8601_ms"):
        _, before = bounds(strategy, start, start + span)
        after, _ = bounds(strategy, start + span, start + 2 * span)
        assert before < after
        told = [parse(value, strategy).timestamp_ms for value in (before, after)]
        tick = 1000 if strategy in ("ksuid", "xid", "epoch") else 1
        assert told[1] - told[0] == tick  # type: ignore[operator]


def test_bounds_keep_the_prefix() -> None:
    low, high = bounds(
        auto("ulid", prefix="ORDER#"), datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    )
    assert low == "ORDER#01HK153X000000000000000000"
    assert high.startswith("ORDER#01HK3QGKZ")


@pytest.mark.parametrize("strategy", ["uuid4", "nanoid", "cuid2", "nope"])
def test_what_does_not_sort_has_no_bounds(strategy: str) -> None:
    with pytest.raises(ValueError, match=r"sort by time|Invalid strategy"):
        bounds(strategy, datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC))


def test_a_span_without_a_tick_is_refused() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for strategy, end in (
        ("ulid", start),
        ("ulid", start - timedelta(days=1)),
        ("ksuid", start + timedelta(milliseconds=0)),
    ):
        with pytest.raises(ValueError, match=r"no .* can be generated in this time range"):
            bounds(strategy, start, end)
    with pytest.raises(ValueError, match="contains no start of a second"):
        bounds("ksuid", start + timedelta(milliseconds=100), start + timedelta(milliseconds=900))
    with pytest.raises(ValueError, match="function"):
        bounds(auto(list), start, start + timedelta(days=1))
    for wrong in ("2024-01-01", None, 0, start.date()):
        with pytest.raises(TypeError, match=r"start=.* is not a datetime"):
            bounds("ulid", wrong, start)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"end=.* is not a datetime"):
            bounds("ulid", start, wrong)  # type: ignore[arg-type]


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    for kind in (None, *AutoGenerate):
        with contextlib.suppress(InvalidId):
            assert parse(text, kind).text == text


@pytest.mark.parametrize(
    ("one", "other", "canonical"),
    [
        ("01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        (
            "0188C89DDF6B7F1CA38891396EC314BC",
            "0188c89d-df6b-7f1c-a388-91396ec314bc",
            "0188c89d-df6b-7f1c-a388-91396ec314bc",
        ),
        (
            "9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D",
            "9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d",
            "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
        ),
    ],
)
def test_ids_in_other_case_or_with_other_hyphens_are_equal(one, other, canonical):
    assert parse(one) == parse(other)
    assert hash(parse(one)) == hash(parse(other))
    assert parse(one).canonical == parse(other).canonical == canonical
    assert parse(one).text == one
