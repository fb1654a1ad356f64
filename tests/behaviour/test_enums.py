"""Members of enums are stored by value, and read back as the same members."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mintkey import Model, connect
from mintkey.attributes import EnumAttribute, StringAttribute
from mintkey.errors import ConfigurationError
from mintkey.fields import Field


class Rate(enum.Enum):
    LOW = Decimal("0.07")
    HIGH = Decimal("12345678901234567890.123456789")
    ROUND = Decimal("1.00")


class Ratio(enum.Enum):
    THIRD = 1 / 3
    ONE = 1.0
    TINY = 5e-100


class Mixed(enum.Enum):
    TEXT = "1"
    NUMBER = 1
    RAW = b"1"
    REAL = 1.5
    EXACT = Decimal("2.50")


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Word(str, enum.Enum):
    A = "a"


class Level(enum.IntEnum):
    LOW = 1


MEMBERS: list[Any] = [*Rate, *Ratio, *Mixed, Right.READ, Right.READ | Right.WRITE, *Word, *Level]


@pytest.mark.parametrize("member", MEMBERS, ids=str)
async def test_members_read_back_as_themselves(do, member):
    class Holder(Model):
        pk = StringAttribute(partition_key=True)
        value = EnumAttribute(type(member))
        field = Field(type=type(member))

    await do.save(Holder(pk="a", value=member, field=member))
    loaded = await do.get(Holder, pk="a")
    assert loaded.value is member
    assert loaded.field is member
    assert await do.count(Holder, Holder.value == member) == 1
    await do.update(loaded, value=member)
    assert loaded.value is member


async def test_numbers_of_several_types_can_be_a_key(do):
    class Rated(Model):
        pk = EnumAttribute(Rate, partition_key=True)

    for member in Rate:
        await do.save(Rated(pk=member))
    assert [(await do.get(Rated, pk=member)).pk for member in Rate] == list(Rate)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"A": True, "B": False}, "A is True"),
    ({"A": None}, "A is None"),
    ({"A": (1, 2)}, "A is"),
    ({"A": [1]}, "A is"),
    ({"A": float("nan")}, "cannot be stored"),
    ({"A": float("inf")}, "cannot be stored"),
    ({"A": Decimal("NaN")}, "cannot be stored"),
    ({"A": 10**126}, "cannot be stored"),
    ({"A": "\ud800"}, "cannot be stored"),
    ({"A": Decimal("0.1"), "B": 0.1}, "A and .*B|B and .*A"),
    ({"A": 1j}, "A is"),
    ({"A": frozenset({1})}, "A is"),
]


@pytest.mark.parametrize(("members", "told"), REFUSED, ids=[str(members) for members, _ in REFUSED])
@pytest.mark.parametrize("kind", [EnumAttribute, lambda of: Field(type=of)], ids=["attribute", "field"])
def test_members_that_cannot_be_stored_or_collide_are_refused_at_definition(kind, members, told):
    of = enum.Enum("Of", members)  # type: ignore[misc]  # made of data
    with pytest.raises(ConfigurationError, match=f"Wrong.value: .*{told}"):

        class Wrong(Model):
            pk = StringAttribute(partition_key=True)
            value = kind(of)


decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=7)
values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(10**37), 10**37),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    decimals,
    st.binary(),
    st.booleans(),
    st.tuples(st.integers()),
)


@given(members=st.lists(values, min_size=1, max_size=6))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_enum_is_read_back_or_refused_at_definition(members):
    of = enum.Enum("Of", [(f"M{index}", value) for index, value in enumerate(members)])  # type: ignore[misc]
    with connect("sqlite://"):
        try:

            class Holder(Model):
                pk = StringAttribute(partition_key=True)
                value = EnumAttribute(of)

        except ConfigurationError:
            return
        for member in of:
            Holder(pk="a", value=member).save()
            loaded: Any = Holder.get(pk="a")
            assert loaded.value is member
