"""Declarations and arguments that nothing can be made of: each is a typed error at definition, or at the call."""

from __future__ import annotations

import enum
import subprocess
import sys
import textwrap
from decimal import Decimal
from typing import Any

import pytest

from mintkey import Model, ModelConfig, auto, connect
from mintkey.attributes import (
    CompressedAttribute,
    EnumAttribute,
    ExpiresIn,
    NumberAttribute,
    StringAttribute,
    VersionAttribute,
)
from mintkey.errors import ConfigurationError, InvalidValue
from mintkey.fields import AutoKeyField, Field, KeyField, SortedField
from mintkey.indexes import Index

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
    with pytest.raises(ConfigurationError, match="no name of an attribute"):
        model(**{name: StringAttribute()})


def test_the_name_of_an_index_is_text_that_utf_8_can_hold():
    with pytest.raises(ConfigurationError, match="no name of an index"):
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
        with pytest.raises(ConfigurationError, match=r"Made\.x: Wrong\.BAD"):
            model(x=EnumAttribute(Wrong))
        with pytest.raises(ConfigurationError, match=r"Made\.x: Wrong\.BAD"):
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
        for _ in range(31):
            deep = [deep]
        Order(pk="a", things=deep).save()
        print(Order.get(pk="a").things == deep)
        try:
            Order(pk="a", things=[deep]).save()
        except ValueError as error:
            print(type(error).__name__)
    """)
    assert told.split() == ["True", "InvalidValue"]
