"""Declarations and arguments that nothing can be made of: each is a typed error at definition, or at the call."""

from __future__ import annotations

import enum
import subprocess
import sys
import textwrap
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from mintkey import Model, ModelConfig, auto, connect, generators
from mintkey.attributes import (
    CompressedAttribute,
    EnumAttribute,
    ExpiresIn,
    ListAttribute,
    NumberAttribute,
    StringAttribute,
    VersionAttribute,
)
from mintkey.errors import ConfigurationError, InvalidId, InvalidValue
from mintkey.fields import AutoKeyField, Field, KeyField, SortedField, TupleField
from mintkey.hooks import before_save
from mintkey.indexes import Index
from mintkey.rate_limit import AdaptiveRate, FixedRate
from mintkey.testing import frozen

HALF = "a\ud800"
HUGE = 10**30
#: Python does not even print it.
LARGEST = 10**5_000


def model(**members: Any) -> type[Model]:
    return type("Made", (Model,), {"pk": StringAttribute(partition_key=True), **members})


@pytest.mark.parametrize("alias", [HALF, 5, b"x"], ids=ascii)
def test_an_alias_is_text_that_utf_8_can_hold(alias):
    for attribute in (StringAttribute, NumberAttribute, Field, KeyField):
        with pytest.raises(ConfigurationError, match=r"Made\.x: alias="):
            model(x=attribute(alias=alias))
    with pytest.raises(ConfigurationError, match=r"Made\.pk: alias="):
        model(pk=StringAttribute(partition_key=True, alias=alias))


@pytest.mark.parametrize("name", [HALF, "a b", "class", "", "x=1, *, y", "1"], ids=ascii)
def test_a_name_is_one_that_python_can_write(name):
    with pytest.raises(ConfigurationError, match="not a valid attribute name"):
        model(**{name: StringAttribute()})


def test_the_name_of_an_index_is_text_that_utf_8_can_hold():
    with pytest.raises(ConfigurationError, match=r"the index name .* is not valid UTF-8"):
        model(x=StringAttribute(), **{HALF: Index(partition_key="x")})
    with pytest.raises(ConfigurationError):
        model(x=Index(partition_key=HALF))
    with pytest.raises(ConfigurationError):
        model(x=SortedField(partition_by=HALF))


@pytest.mark.parametrize("table", [HALF, "x" * 256, "x" * 1_000_000, "", 5])
def test_the_name_of_a_table_is_checked(table):
    with pytest.raises(ConfigurationError, match="table") as caught:
        model(model_config=ModelConfig(table=table))
    assert len(str(caught.value)) < 1_000


def test_the_values_of_an_enum_can_be_stored():
    for value in (HALF, object(), LARGEST, float("nan"), Decimal("1E+999")):
        Wrong: Any = enum.Enum("Wrong", {"GOOD": "good", "BAD": value})  # noqa: N806 - a class
        with pytest.raises(ConfigurationError, match=r"Made\.x: the value of Wrong\.BAD"):
            model(x=EnumAttribute(Wrong))
        with pytest.raises(ConfigurationError, match=r"Made\.x: the value of Wrong\.BAD"):
            model(x=Field(type=Wrong))


@pytest.mark.parametrize(
    "parameters",
    [
        {"min_size": HUGE},
        {"min_size": -1},
        {"min_size": 1.5},
        {"min_size": None},
        {"level": HUGE},
        {"level": 1.5},
        {"level": True},
        {"level": "9"},
        {"threshold": float("nan")},
        {"threshold": "0.5"},
        {"threshold": LARGEST},
        {"algorithm": []},
        {"algorithm": HALF},
    ],
    ids=lambda parameters: ascii(parameters)[:40] if LARGEST not in parameters.values() else "largest",
)
def test_the_parameters_of_compression_are_checked(parameters):
    with pytest.raises(ConfigurationError, match=r"Made\.x"):
        model(x=CompressedAttribute(**parameters))


@pytest.mark.parametrize("size", [HUGE, -HUGE])
def test_the_parameters_of_strategies_are_checked(size):
    for wrong in (
        lambda: auto("nanoid", size=size),
        lambda: auto("cuid2", length=size),
        lambda: auto("uuid4", length=size),
        lambda: AutoKeyField(auto_uuid_length=size),
    ):
        with pytest.raises(ConfigurationError):
            wrong()
    with pytest.raises(ConfigurationError):
        auto("ulid", prefix=HALF)
    with pytest.raises(ConfigurationError):
        model(x=Field(max_length=-1))


def test_a_wrong_strategy_or_text_makes_a_short_message():
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    for wrong in (
        lambda: generators.generate_value(deep),  # type: ignore[call-overload]
        lambda: generators.generate_many(deep, 1),  # type: ignore[arg-type]
        lambda: generators.parse("x", deep),  # type: ignore[arg-type]
        lambda: generators.typeid("X" * 100_000),
        lambda: auto("typeid", prefix="X" * 100_000),
        lambda: auto("snowflake", node="9" * 100_000),
    ):
        with pytest.raises(ConfigurationError) as caught:
            wrong()
        assert len(str(caught.value)) < 400
    with pytest.raises(TypeError) as mistaken:
        auto("snowflake", node=b"x" * 100_000)  # type: ignore[arg-type]
    assert len(str(mistaken.value)) < 400


class LongTuple(tuple):  # type: ignore[type-arg]
    """Reports more elements than memory could hold."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1 << 62


def test_a_tuple_that_reports_a_wrong_length_is_refused():
    made = model(x=TupleField())
    with connect("sqlite://"), pytest.raises(InvalidValue, match="changed during save"):
        made(pk="a", x=LongTuple((1, 2))).save()


@pytest.mark.parametrize("unit", ["seconds", "minutes", "hours", "days", "weeks"])
def test_a_time_to_live_stays_within_the_years(unit):
    for wrong in (HUGE, -HUGE, LARGEST, float("inf"), float("nan")):
        with pytest.raises(InvalidValue, match=rf"ExpiresIn\.{unit}"):
            getattr(ExpiresIn, unit)(wrong)


def test_a_version_is_a_count():
    class Counted(Model):
        pk = StringAttribute(partition_key=True)
        version = VersionAttribute()

    with connect("sqlite://"):
        for wrong in (HUGE, LARGEST, 1 << 62):
            with pytest.raises(InvalidValue, match=r"Counted\.version"):
                Counted(pk="a", version=wrong).save()
        assert Counted.count() == 0


class Huge(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    things = ListAttribute()


TOO_LARGE: dict[str, tuple[type[Exception], Callable[[Any], Any]]] = {
    "auto size": (ConfigurationError, lambda huge: auto("nanoid", size=huge)),
    "auto length": (ConfigurationError, lambda huge: auto("cuid2", length=huge)),
    "auto digits": (ConfigurationError, lambda huge: auto("uuid4", length=huge)),
    "auto node": (ConfigurationError, lambda huge: auto("snowflake", node=huge)),
    "auto epoch": (ConfigurationError, lambda huge: auto("snowflake", epoch=huge)),
    "auto prefix": (ConfigurationError, lambda huge: auto("ulid", prefix=huge)),
    "auto alphabet": (ConfigurationError, lambda huge: auto("nanoid", alphabet=huge)),
    "auto size in a list": (TypeError, lambda huge: auto("nanoid", size=[huge])),  # type: ignore[arg-type]
    "auto plus": (TypeError, lambda huge: auto("epoch", plus=huge)),
    "auto when": (ConfigurationError, lambda huge: auto("ulid", when=huge)),
    "auto": (TypeError, auto),
    "generate_value": (ConfigurationError, generators.generate_value),
    "generate_many n": (InvalidValue, lambda huge: generators.generate_many("ulid", huge)),
    "generate_many": (ConfigurationError, lambda huge: generators.generate_many(huge, 1)),
    "parse": (InvalidId, generators.parse),
    "parse as": (InvalidId, lambda huge: generators.parse(huge, "epoch_ms")),
    "parse kind": (ConfigurationError, lambda huge: generators.parse("x", huge)),
    "candidates": (TypeError, generators.candidates),
    "bounds": (TypeError, lambda huge: generators.bounds("ulid", huge, huge)),
    "bounds of": (ConfigurationError, lambda huge: generators.bounds(huge, huge, huge)),
    "ulid_from_uuid": (TypeError, generators.ulid_from_uuid),
    "typeid_from_uuid": (TypeError, generators.typeid_from_uuid),
    "typeid_from_uuid prefix": (ConfigurationError, lambda huge: generators.typeid_from_uuid(bytes(16), huge)),
    "key strategy": (ConfigurationError, lambda huge: AutoKeyField(strategy=huge)),
    "key length": (ConfigurationError, lambda huge: AutoKeyField(auto_uuid_length=huge)),
    "key type": (ConfigurationError, lambda huge: model(x=AutoKeyField(type=huge))),
    "field type": (ConfigurationError, lambda huge: model(x=Field(type=huge))),
    "index partition_key": (ConfigurationError, Index),
    "index sort_key": (ConfigurationError, lambda huge: Index("x", huge)),
    "index projection": (ConfigurationError, lambda huge: Index("x", projection=huge)),
    "max_size": (ConfigurationError, lambda huge: model(x=CompressedAttribute(max_size=huge))),
    "table": (ConfigurationError, lambda huge: model(model_config=ModelConfig(table=huge))),
    "rcu": (ConfigurationError, lambda huge: FixedRate(rcu=huge)),
    "burst": (ConfigurationError, lambda huge: FixedRate(burst=huge)),
    "max_rcu": (ConfigurationError, lambda huge: AdaptiveRate(max_rcu=huge)),
    "min_rcu": (ConfigurationError, lambda huge: AdaptiveRate(max_rcu=1, min_rcu=huge)),
    "store": (ConfigurationError, connect),
    "hook": (ConfigurationError, before_save),
    "time": (InvalidValue, lambda huge: frozen(time=huge)),
    "limit": (InvalidValue, lambda huge: Huge.query(pk="a", limit=huge)),
    "scan limit": (InvalidValue, lambda huge: Huge.scan(limit=huge)),
    "segments": (InvalidValue, lambda huge: Huge.scan(segments=huge)),
    "count segments": (InvalidValue, lambda huge: Huge.count(segments=huge)),
    "page": (InvalidValue, lambda huge: Huge.scan().page(huge)),
    "cursor": (InvalidValue, lambda huge: Huge.scan().page(1, huge)),
    "consistent": (TypeError, lambda huge: Huge.get(pk="a", consistent=huge)),
    "condition": (InvalidValue, lambda huge: Huge.n == huge),
    "size": (InvalidValue, lambda huge: Huge.things.size() > huge),
    "add": (InvalidValue, Huge.n.add),
    "save": (InvalidValue, lambda huge: Huge(pk="a", n=huge).save()),
    "save in a list": (InvalidValue, lambda huge: Huge(pk="a", things=[huge]).save()),
    "update": (InvalidValue, lambda huge: Huge.update_by_key("a", n=huge)),
    "key": (InvalidValue, lambda huge: Huge.get(pk=huge)),
    "keys": (TypeError, lambda huge: list(Huge.batch_get(huge))),
}


@pytest.mark.parametrize("huge", [LARGEST, -LARGEST], ids=["positive", "negative"])
@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_number_too_large_to_print_is_a_typed_error(name, huge):
    kind, call = TOO_LARGE[name]
    with connect("sqlite://"), pytest.raises(kind) as caught:
        call(huge)
    assert len(str(caught.value)) < 1_000


def test_numbers_too_large_to_print_where_no_store_is_asked():
    assert "an int of 16,610 bits" in repr(Huge(pk="a", n=LARGEST))
    with connect("sqlite://"):
        with pytest.raises(IndexError, match="an int of 16,610 bits"):
            Huge.scan()[LARGEST]
        with pytest.raises(InvalidValue):
            Huge.scan()[-LARGEST]
        assert Huge.scan()[:LARGEST].all() == []
    with frozen(seed=LARGEST):
        first = generators.uuid4()
    with frozen(seed=LARGEST):
        assert generators.uuid4() == first
    with frozen(seed=-LARGEST):
        assert generators.uuid4() != first


def in_a_small_thread(body: str) -> str:
    """What a program prints that runs in a thread with 256 KiB of stack."""
    program = f"""
        import threading
        from mintkey import Model, connect
        from mintkey.attributes import ListAttribute, NumberAttribute, StringAttribute

        class Order(Model):
            pk = StringAttribute(partition_key=True)
            n = NumberAttribute()
            things = ListAttribute()

        def work():
{textwrap.indent(textwrap.dedent(body), " " * 12)}

        with connect("sqlite://"):
            threading.stack_size(256 * 1024)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_deep_conditions_end_no_thread_with_a_small_stack():
    told = in_a_small_thread("""
        Order(pk="a", n=1).save()
        for step in (lambda c: ~c, lambda c: (c & (Order.n == 1)) | (Order.n == 2)):
            condition = Order.n == 1
            try:
                for _ in range(900):
                    condition = step(condition)
            except ValueError as error:
                print(type(error).__name__)
            Order.scan(condition).all()
            repr(condition)
    """)
    assert told.split() == ["InvalidValue", "InvalidValue"]


def test_deep_values_end_no_thread_with_a_small_stack():
    told = in_a_small_thread("""
        deep = []
        for _ in range(30):
            deep = [deep]
        Order(pk="a", things=deep).save()
        print(Order.get(pk="a").things == deep)
        try:
            Order(pk="a", things=[deep]).save()
        except ValueError as error:
            print(type(error).__name__)
    """)
    assert told.split() == ["True", "InvalidValue"]
