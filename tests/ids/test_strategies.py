"""Strategies as values: shapes, parameters, and what is refused."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mintkey import _core, generators
from mintkey.errors import ConfigurationError
from mintkey.generators import (
    Auto,
    AutoGenerate,
    as_auto,
    auto,
    generate_many,
    generate_value,
    instant,
    is_auto_generate,
)
from mintkey.testing import frozen

FORMS = {
    AutoGenerate.UUID4: r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    AutoGenerate.UUID7: r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    AutoGenerate.ULID: r"[0-7][0-9A-HJKMNP-TV-Z]{25}",
    AutoGenerate.KSUID: r"[0-9A-Za-z]{27}",
    AutoGenerate.NANOID: r"[0-9A-Za-z_-]{21}",
    AutoGenerate.SNOWFLAKE: r"[0-9]{19}",
    AutoGenerate.TYPEID: r"[0-7][0-9a-hjkmnp-tv-z]{25}",
    AutoGenerate.XID: r"[0-9a-v]{20}",
    AutoGenerate.CUID2: r"[a-z][0-9a-z]{23}",
    AutoGenerate.EPOCH: r"[0-9]{10}",
    AutoGenerate.EPOCH_MS: r"[0-9]{13}",
    AutoGenerate.ISO8601: r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    AutoGenerate.ISO8601_MS: r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
}


@pytest.mark.parametrize("member", AutoGenerate, ids=lambda member: member.value)
def test_member_name_function_and_auto_give_the_same_form(member: AutoGenerate) -> None:
    function = getattr(generators, member.value)
    for value in (generate_value(member), generate_value(member.value), generate_value(auto(member)), function()):
        assert re.fullmatch(FORMS[member], str(value))
        core = as_auto(member).strategy
        assert core is not None
        assert type(value).__name__ == core.output
        assert core.length in (None, len(str(value)))
        assert core.check(value) is None
    assert len(generate_many(member, 300)) == 300


def test_ids_do_not_repeat(id_strategy: AutoGenerate) -> None:
    ids = generate_many(id_strategy, 20_000) + [generate_value(id_strategy) for _ in range(20_000)]
    assert len(set(ids)) == 40_000


@pytest.mark.parametrize(
    ("made", "form"),
    [
        (auto("uuid4", length=8), r"[0-9a-f]{8}"),
        (auto("uuid4", length=32), r"[0-9a-f]{12}4[0-9a-f]{19}"),
        (auto(AutoGenerate.NANOID, size=12, alphabet="abc"), r"[abc]{12}"),
        (auto("nanoid", size=255), r"[0-9A-Za-z_-]{255}"),
        (auto("cuid2", length=32), r"[a-z][0-9a-z]{31}"),
        (auto("cuid2", length=2), r"[a-z][0-9a-z]"),
        (auto("ulid", prefix="ORDER#"), r"ORDER#[0-7][0-9A-HJKMNP-TV-Z]{25}"),
        (auto("ulid", prefix="Bücher/"), r"Bücher/[0-7][0-9A-HJKMNP-TV-Z]{25}"),
        (auto("uuid4", prefix="u-"), r"u-.{36}"),
        (auto("uuid7", prefix="u-"), r"u-.{36}"),
        (auto("ksuid", prefix="k_"), r"k_[0-9A-Za-z]{27}"),
        (auto("xid", prefix="x."), r"x\.[0-9a-v]{20}"),
        (auto("typeid", prefix="order_item"), r"order_item_[0-7][0-9a-hjkmnp-tv-z]{25}"),
        (auto("iso8601", prefix="LOG#"), r"LOG#\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    ],
    ids=repr,
)
def test_parameters_shape_the_text(made: Auto, form: str) -> None:
    values = [generate_value(made), *generate_many(made, 3)]
    core = made.strategy
    assert core is not None
    for value in values:
        assert re.fullmatch(form, value)
        assert core.length == len(value)
        assert core.check(value) is None
        assert core.check("?" + value) is not None
        assert core.check(value + "0") is not None


def test_snowflake_takes_a_node_and_an_epoch() -> None:
    with frozen("2024-01-01T00:00:00Z", seed=1):
        epoch = 1_577_836_800_000
        value = generate_value(auto("snowflake", node=513, epoch=epoch))
        assert value >> 22 == 1_704_067_200_000 - epoch
        assert value >> 12 & 0x3FF == 513
        assert generate_value(auto("snowflake", node="600-610")) >> 12 & 0x3FF == 600


@pytest.mark.parametrize(
    ("strategy", "parameters"),
    [
        ("ulid", {"size": 5}),
        ("ulid", {"length": 5}),
        ("nanoid", {"length": 5}),
        ("snowflake", {"prefix": "a"}),
        ("epoch", {"prefix": "a"}),
        ("epoch", {"plus": 5}),
        ("uuid7", {"colour": "red"}),
        ("nanoid", {"size": "5"}),
        (len, {"prefix": "a"}),
        (5, {}),
    ],
)
def test_a_parameter_that_a_strategy_does_not_take_is_a_type_error(strategy: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        auto(strategy, **parameters)


@pytest.mark.parametrize(
    ("strategy", "parameters"),
    [
        ("nope", {}),
        ("ULID", {}),
        ("ulid", {"when": "later"}),
        ("uuid4", {"length": 0}),
        ("uuid4", {"length": 33}),
        ("nanoid", {"size": 0}),
        ("nanoid", {"alphabet": "aa"}),
        ("cuid2", {"length": 1}),
        ("typeid", {"prefix": "Order"}),
        ("snowflake", {"node": 1024}),
        ("snowflake", {"node": "9-3"}),
    ],
)
def test_a_value_out_of_range_is_a_value_error(strategy: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        auto(strategy, **parameters)


@pytest.mark.parametrize(
    ("strategy", "parameters", "error"),
    [
        ("nanoid", {"size": 1.5}, TypeError),
        ("nanoid", {"size": True}, TypeError),
        ("nanoid", {"size": 10**30}, ConfigurationError),
        ("nanoid", {"alphabet": b"ab"}, TypeError),
        ("uuid4", {"length": None}, TypeError),
        ("ulid", {"prefix": 5}, TypeError),
        ("ulid", {"prefix": "\ud800"}, ConfigurationError),
        ("snowflake", {"epoch": 10**20}, ConfigurationError),
        ("snowflake", {"node": 1.5}, TypeError),
        ("iso8601", {"plus": timedelta(days=999_999_999)}, ValueError),
        ("epoch", {"plus": timedelta(days=-730_001)}, ValueError),
    ],
)
def test_a_wrong_parameter_is_named(strategy: str, parameters: dict[str, Any], error: type[Exception]) -> None:
    (name,) = parameters
    with pytest.raises(error, match=f"^{name}="):
        auto(strategy, **parameters)


def test_how_many_is_a_whole_number() -> None:
    for wrong in ("5", 1.5, None):
        with pytest.raises(TypeError, match=r"n=.* is not an integer"):
            generators.generate_many("ulid", wrong)  # type: ignore[arg-type]


def test_the_farthest_times_can_be_written() -> None:
    for days in (-730_000, 730_000):
        strategy = auto("iso8601", plus=timedelta(days=days))
        with frozen("2024-01-01T00:00:00Z"):
            moment = generators.parse(generate_value(strategy)).datetime
        assert moment == datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(days=days)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Invalid strategy 'x'. Valid strategies are: uuid4, uuid7, ulid"):
        generate_value("x")


def test_plain_functions_take_their_parameters() -> None:
    assert len(generators.nanoid(8)) == 8
    assert set(generators.nanoid(alphabet="ab")) <= {"a", "b"}
    assert len(generators.cuid2(length=10)) == 10
    assert generators.typeid("order").startswith("order_")
    assert generators.typeid(prefix="a_b").startswith("a_b_")
    for wrong in (
        lambda: generators.nanoid(0),
        lambda: generators.cuid2(1),
        lambda: generators.typeid("Order"),
    ):
        with pytest.raises(ConfigurationError):
            wrong()
    with pytest.raises(TypeError):
        generators.nanoid(colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        generators.ulid("A#")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "parameters", "error"),
    [
        ("nanoid", {"size": 10**5_000}, ConfigurationError),
        ("nanoid", {"size": -(2**63) - 1}, ConfigurationError),
        ("nanoid", {"size": "8" * 5_000}, TypeError),
        ("nanoid", {"alphabet": "a\ud800"}, ConfigurationError),
        ("nanoid", {"alphabet": b"ab"}, TypeError),
        ("cuid2", {"length": 10**5_000}, ConfigurationError),
        ("cuid2", {"length": 2.5}, TypeError),
        ("typeid", {"prefix": "\ud800"}, ConfigurationError),
        ("typeid", {"prefix": 5}, TypeError),
    ],
    ids=itertools.count(),
)
def test_a_wrong_parameter_of_a_function_is_named(
    name: str, parameters: dict[str, Any], error: type[Exception]
) -> None:
    ((parameter, value),) = parameters.items()
    call = getattr(generators, name)
    calls = (
        [lambda: call(**parameters)] if parameter == "alphabet" else [lambda: call(value), lambda: call(**parameters)]
    )
    for wrong in calls:
        with pytest.raises(error, match=f"^{parameter}=") as caught:
            wrong()
        assert type(caught.value) is error
        assert len(str(caught.value)) < 200


def test_only_members_and_autos_are_strategies() -> None:
    assert is_auto_generate(AutoGenerate.ULID)
    assert is_auto_generate(auto("ulid"))
    assert is_auto_generate(auto(list))
    for other in ("ulid", None, 5, len, AutoGenerate, Auto):
        assert not is_auto_generate(other)


def test_autos_are_values() -> None:
    made = auto("nanoid", size=8, when="init")
    same = auto(AutoGenerate.NANOID, when="init", size=8)
    assert made == same
    assert hash(made) == hash(same)
    assert made != auto("nanoid", size=9, when="init")
    assert made != auto("nanoid", size=8)
    assert auto("ulid") == as_auto(AutoGenerate.ULID)
    assert repr(auto("ulid", prefix="A#", when="init")) == "auto('ulid', prefix='A#', when='init')"
    assert pickle.loads(pickle.dumps(made)) == made
    snowflake = auto("snowflake", node="3-5", epoch=5)
    assert pickle.loads(pickle.dumps(snowflake)) == snowflake
    assert copy.deepcopy(made) == made
    with pytest.raises(AttributeError):
        made.when = "save"
    with pytest.raises(AttributeError):
        del made.when


def test_a_function_gives_its_value() -> None:
    made = auto(lambda: 7, when="init")
    assert made.function is not None
    assert made.strategy is None
    assert generate_value(made) == 7
    assert generate_many(made, 2) == [7, 7]


def test_plus_shifts_a_timestamp() -> None:
    with frozen("2024-01-01T00:00:00.5Z"):
        day = timedelta(hours=24)
        assert generate_value(auto("epoch", plus=day)) == 1_704_067_200 + 86_400
        assert generate_value(auto("epoch_ms", plus=-day)) == 1_704_067_200_500 - 86_400_000
        assert generate_value(auto("iso8601", plus=timedelta(milliseconds=500))) == "2024-01-01T00:00:01Z"
        assert generate_value(auto("iso8601_ms", plus=day)) == "2024-01-02T00:00:00.500Z"


def test_timestamps_tell_the_instant_of_a_save_and_ids_the_clock() -> None:
    token = instant.set(lambda: 1_000)
    try:
        assert generate_value(AutoGenerate.EPOCH) == 1
        assert generate_value("iso8601_ms") == "1970-01-01T00:00:01.000Z"
        assert generators.parse(generate_value("ulid")).timestamp_ms != 1_000
    finally:
        instant.reset(token)


def test_one_step_has_one_clock_reading() -> None:
    strategies = tuple(as_auto(member).strategy for member in AutoGenerate)
    values, reading = _core.mint(strategies)  # type: ignore[arg-type]
    assert len(values) == len(strategies)
    for member, value in zip(AutoGenerate, values, strict=True):
        told = generators.parse(value, member).timestamp_ms
        if told is not None:
            tick = 1000 if member.value in ("ksuid", "xid", "epoch", "iso8601") else 1
            # Ids may have been held by tests that stepped the clock; timestamps never are.
            assert told >= reading // tick * tick or member not in (AutoGenerate.EPOCH, AutoGenerate.ISO8601)
    epoch = as_auto(AutoGenerate.EPOCH_MS).strategy
    assert epoch is not None
    assert _core.mint((epoch,), 5)[0] == [5]


def test_many_of_none_and_of_a_negative_number() -> None:
    assert generate_many("ulid", 0) == []
    with pytest.raises(ValueError, match="negative"):
        generate_many("ulid", -1)


def test_a_failing_function_does_not_hold_the_engine() -> None:
    def fail() -> str:
        raise LookupError("no")

    with pytest.raises(LookupError):
        generate_value(auto(fail))
    assert generate_value("ulid")
