"""Strategies of auto keys: given by name, as a member or with parameters, and what their values look like."""

from __future__ import annotations

import re

import pytest

from mintkey import AutoGenerate, Model, auto
from mintkey.errors import ConfigurationError, InvalidValue
from mintkey.fields import AutoKeyField

CROCKFORD = "[0-7][0-9A-HJKMNP-TV-Z]{25}"


class Order(Model):
    id = AutoKeyField(strategy="ulid")


PARAMETERS = [
    (AutoGenerate.ULID, CROCKFORD, 26),
    (AutoGenerate.UUID4, "[0-9a-f]{32}", 32),
    (auto("ksuid"), "[0-9A-Za-z]{27}", 27),
    (auto(AutoGenerate.NANOID, size=8), "[0-9A-Za-z_-]{8}", 8),
    (auto("nanoid", size=30, alphabet="xyz", prefix="N-"), "N-[xyz]{30}", 32),
    (auto("ulid", prefix="B#"), f"B#{CROCKFORD}", 28),
    (auto("typeid", prefix="user"), f"user_{CROCKFORD.lower()}", 31),
    (auto("cuid2", length=10), "[a-z][0-9a-z]{9}", 10),
    (auto("uuid4"), "[0-9a-f]{32}", 32),
    (auto("uuid4", length=12, prefix="U"), "U[0-9a-f]{12}", 13),
]


@pytest.mark.parametrize(("strategy", "shape", "length"), PARAMETERS, ids=str)
async def test_a_strategy_is_given_with_its_parameters(do, logged, strategy, shape, length):
    class Item(Model):
        id = AutoKeyField(strategy=strategy)

    class Key(AutoKeyField):
        pass

    Key.strategy = strategy
    assert re.fullmatch(shape, Key().get_new_auto_key_value())
    item = Item()
    assert re.fullmatch(shape, item.id)
    assert re.fullmatch(shape, Item.id.get_new_auto_key_value())
    await do.save(item)
    assert await do.get(Item, id=item.id) == item
    assert logged() == []
    name = strategy.value if isinstance(strategy, AutoGenerate) else strategy.strategy.name
    wanted = f"auto key value is length {length + 1}. It should be {length} for strategy '{name}'"
    with pytest.raises(InvalidValue, match=re.escape(f"Item.id: {wanted}")):
        await do.create(Item, id=item.id + "0")
    assert logged() == [("ERROR", wanted)]


async def test_a_short_key_that_is_taken_is_minted_again(do):
    class Short(Model):
        id = AutoKeyField(strategy=auto("nanoid", size=2, alphabet="abcd"))

    assert {(await do.create(Short)).id for _ in range(8)} <= {a + b for a in "abcd" for b in "abcd"}
    assert await do.count(Short) == 8


def test_a_parameter_that_belongs_into_auto():
    with pytest.raises(ConfigurationError, match=r"strategy=auto\('nanoid', size=8\)"):
        AutoKeyField(strategy="nanoid", size=8)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match=r"strategy=auto\('ulid', prefix='A#'\)"):
        AutoKeyField(strategy="ulid", prefix="A#")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="get_new_auto_key_value"):
        AutoKeyField(strategy=auto(lambda: "x"))
    with pytest.raises(ConfigurationError, match="auto_uuid_length=8 and length=9"):
        AutoKeyField(strategy=auto("uuid4", length=9), auto_uuid_length=8)
    for strategy in (AutoGenerate.SNOWFLAKE, auto("epoch")):
        with pytest.raises(
            ConfigurationError, match=r"Invalid strategy '(snowflake|epoch)'\. Valid strategies are: uuid4"
        ):
            AutoKeyField(strategy=strategy)
    with pytest.raises(ConfigurationError, match=r"Wrong\.id: .* pass a strategy as strategy="):

        class Wrong(Model):
            id = AutoKeyField(default=auto("ulid"))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        (AutoKeyField(), "0" * 31 + "g", "is not a valid uuid4: 'g' at position 31 is not a hexadecimal digit"),
        (
            AutoKeyField(auto_uuid_length=5),
            "12-45",
            "is not a valid uuid4: '-' at position 2 is not a hexadecimal digit",
        ),
        (AutoKeyField(strategy="ulid"), "!" * 26, "is not a valid ulid: '!' is"),
        (AutoKeyField(strategy="ulid"), "8" + "Z" * 25, "is not a valid ulid: "),
        (AutoKeyField(strategy="ksuid"), "-" * 27, "is not a valid ksuid: '-' is"),
        (AutoKeyField(strategy="uuid7"), "0" * 36, "is not a valid uuid7: "),
        (AutoKeyField(strategy="nanoid"), " " * 21, "is not a valid nanoid: ' ' is not in the alphabet at position 0"),
        (AutoKeyField(strategy="typeid"), "A" * 26, "is not a valid typeid: "),
        (AutoKeyField(strategy="xid"), "z" * 20, "is not a valid xid: 'z' is"),
        (AutoKeyField(strategy="cuid2"), "1" * 24, "is not a valid cuid2: '1' is"),
        (
            AutoKeyField(strategy=auto("ulid", prefix="A#")),
            "B#" + "0" * 26,
            'is not a valid ulid: it does not begin with "A#"',
        ),
        (
            AutoKeyField(strategy=auto("uuid4", prefix="A#")),
            "B#" + "0" * 32,
            "is not a valid uuid4: it does not begin with 'A#'",
        ),
        (
            AutoKeyField(strategy=auto("nanoid", size=3, alphabet="ab")),
            "abc",
            "is not a valid nanoid: 'c' is not in the alphabet",
        ),
        (AutoKeyField(strategy=auto("typeid", prefix="user")), "uses_" + "0" * 26, "is not a valid typeid: "),
    ],
)
def test_a_value_of_another_form_is_logged_and_invalid(logged, field, value, reason):
    assert type(field).is_valid(field, value) is False
    [(level, message)] = logged()
    assert level == "ERROR"
    assert message.startswith(f"auto key value {value!r} {reason}")


async def test_a_write_of_a_value_of_another_form_is_refused(do):
    with pytest.raises(InvalidValue, match=r"Order\.id: auto key value '!{26}' is not a valid ulid") as raised:
        await do.save(Order(id="!" * 26))
    assert (raised.value.model, raised.value.attribute) == ("Order", "id")
    assert await do.count(Order) == 0


def test_who_makes_the_values_is_told_of_their_length_alone(logged):
    class Named(AutoKeyField):
        auto_uuid_length = 4

        def get_new_auto_key_value(self):
            return "Name"

    assert Named.is_valid(Named(), "Name") is True
    assert Named.is_valid(Named(), "Names") is False
    other = AutoKeyField(auto=False, strategy="ulid", STRATEGY_LENGTHS={"ulid": 3})
    assert AutoKeyField.is_valid(other, "any") is True
