"""Validators refuse values on every write path, with the same errors for attributes and fields, and never at a read."""

from __future__ import annotations

import enum
import itertools
import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from mintkey import Model, ModelConfig, auto, pipeline, transaction
from mintkey.attributes import (
    BinaryAttribute,
    BooleanAttribute,
    CompressedAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import BatchIncomplete, ConfigurationError, InvalidValue
from mintkey.fields import DateField, Field, IntField, KeyField, ListField, SetField

UTC = timezone.utc
BORN = date(1900, 1, 1)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def even(number: int) -> bool:
    return number % 2 == 0


def no_shouting(text: str) -> None:
    if text.isupper():
        raise ValueError("write in lower case")


class Attributed(Model):
    model_config = ModelConfig(table="attributed")
    id = StringAttribute(partition_key=True, min_length=1, max_length=8)
    n = NumberAttribute(min=0, max=100, validate=even)
    code = StringAttribute(min_length=2, max_length=4, pattern="[a-z]+")
    status = StringAttribute(choices=["new", "paid"])
    text = StringAttribute(validate=no_shouting)
    born = DateAttribute(min=BORN)
    things = ListAttribute(max_length=2)
    tags = StringSetAttribute(min_length=2)
    level = NumberAttribute(choices=(Decimal("0.1"), 2))
    colour = EnumAttribute(Colour, choices=[Colour.RED])


class Fielded(Model):
    model_config = ModelConfig(table="fielded")
    id = KeyField(min_length=1, max_length=8)
    n = IntField(min=0, max=100, validate=even)
    code = Field(min_length=2, max_length=4, pattern=re.compile("[a-z]+"))
    status = Field(choices=["new", "paid"])
    text = Field(validate=no_shouting)
    born = DateField(min=BORN)
    things = ListField(max_length=2)
    tags = SetField(min_length=2)
    level = Field(type=float, choices=(0.1, 2))
    colour = Field(type=Colour, choices=[Colour.RED])


GOOD: dict[str, Any] = {
    "n": 100,
    "code": "abcd",
    "status": "paid",
    "text": "ok",
    "born": BORN,
    "things": [1, 2],
    "tags": {"a", "b"},
    "level": 0.1,
    "colour": Colour.RED,
}
REFUSED: dict[str, tuple[str, Any, str]] = {
    "below": ("n", -2, "-2 is less than min=0"),
    "above": ("n", 102, "102 is more than max=100"),
    "false": ("n", 7, "validate=even refuses 7"),
    "short": ("code", "a", "the value has the length 1, and min_length=2: 'a'"),
    "long": ("code", "abcde", "the value has the length 5, and max_length=4: 'abcde'"),
    "unmatched": ("code", "ab1", "'ab1' does not match pattern='[a-z]+'"),
    "a match of a part": ("code", "ab\n", "'ab\\n' does not match pattern='[a-z]+'"),
    "no choice": ("status", "lost", "'lost' is not one of choices=['new', 'paid']"),
    "raised": ("text", "HELP", "validate= refuses 'HELP': write in lower case"),
    "too early": ("born", date(1899, 12, 31), "datetime.date(1899, 12, 31) is less than min=1900-01-01"),
    "too many": ("things", [1, 2, 3], "the value has the length 3, and max_length=2: [1, 2, 3]"),
    "too few": ("tags", {"a"}, "the value has the length 1, and min_length=2: {'a'}"),
    "another number": ("level", 0.3, "0.3 is not one of choices="),
    "another member": ("colour", Colour.BLUE, "<Colour.BLUE: 'blue'> is not one of choices="),
}


@pytest.fixture(params=[Attributed, Fielded], ids=["attributes", "fields"])
def model(request) -> Any:
    return request.param


@pytest.mark.parametrize("case", REFUSED)
async def test_every_write_path_refuses_the_value(do, model, case):
    name, wrong, reason = REFUSED[case]
    label = f"{model.__name__}.{name}: {reason}"

    async def refused(call: Any) -> None:
        with pytest.raises((InvalidValue, BatchIncomplete)) as caught:
            await call
        error = caught.value.failed[0][1] if isinstance(caught.value, BatchIncomplete) else caught.value
        assert isinstance(error, InvalidValue)
        assert label in str(error)
        assert (error.model, error.attribute) == (model.__name__, name)

    await do.create(model, id="a", **GOOD)
    stored = await do.get(model, id="a")
    assert {other: getattr(stored, other) for other in GOOD} == GOOD

    await refused(do.save(model(id="b", **{name: wrong})))
    await refused(do.create(model, id="b", **{name: wrong}))
    await refused(do.batch_save(model, [model(id="b", **{name: wrong})]))
    await refused(do.save(model(id="b", **{name: wrong}), pipeline=pipeline()))
    await refused(do.update(model(id="b"), upsert=True, **{name: wrong}))
    await refused(do.update(model(id="b", **{name: wrong}), upsert=True, **{"n" if name != "n" else "text": GOOD["n"]}))
    await refused(do.update(stored, **{name: wrong}))
    await refused(do.update_by_key(model, {"id": "a"}, **{name: wrong}))
    await refused(do.update_by_key(model, {"id": "b"}, upsert=True, **{name: wrong}))
    await refused(do.get_or_create(model, id="b", defaults={name: wrong}))
    await refused(do.update_or_create(model, id="a", defaults={name: wrong}))
    await refused(do.update(do.query(model, id="a"), **{name: wrong}))
    setattr(stored, name, wrong)
    await refused(do.save(stored))
    await refused(do.save(stored, replace=True))
    with pytest.raises(InvalidValue, match=re.escape(label)):
        getattr(model, name).set(wrong)
    with pytest.raises(InvalidValue, match=re.escape(label)):
        getattr(model, name).set_if_absent(wrong)
    assert [one.to_dict() for one in await do.iterate(do.scan(model))] == [{"id": "a", **GOOD}]


def test_is_valid_of_a_field():
    for make, good, wrong in (
        (lambda: IntField(min=0), 0, -1),
        (lambda: Field(pattern="a+"), "aa", "ab"),
        (lambda: Field(choices=["a"]), "a", "b"),
        (lambda: Field(validate=no_shouting), "a", "A"),
    ):
        for field in (make(), type("Item", (Model,), {"id": KeyField(), "value": make()}).value):  # type: ignore[attr-defined]
            assert type(field).is_valid(field, good) is True
            assert type(field).is_valid(field, wrong) is False


async def test_a_transaction_refuses_the_value(do, store, model):
    name, wrong, reason = REFUSED["above"]
    stored = await do.create(model, id="a", n=2)
    writes: list[Any] = [
        lambda tx: tx.save(model(id="b", n=wrong)),
        lambda tx: tx.create(model, id="b", n=wrong),
        lambda tx: tx.update(stored, n=wrong),
        lambda tx: tx.update_by_key(model, "a", n=wrong),
    ]

    async def commit(write: Any) -> None:
        if do.blocking:
            with transaction() as tx:
                write(tx)
        else:
            async with transaction() as tx:
                write(tx)

    for write in writes:
        with pytest.raises(InvalidValue, match=rf"{model.__name__}\.{name}: {reason}"):
            await commit(write)
    assert [one.to_dict() for one in await do.iterate(do.scan(model))] == [{"id": "a", "n": 2}]


async def test_a_wrong_type_is_reported_as_such(do, model):
    await do.create(model, id="a")
    for name, wrong in (("n", "x"), ("code", 5), ("born", "today"), ("tags", 5), ("text", b"x"), ("colour", "red")):
        with pytest.raises(InvalidValue, match=rf"{name}: expected"):
            await do.update_by_key(model, "a", **{name: wrong})
        with pytest.raises(InvalidValue, match=rf"{name}: expected"):
            await do.create(model, id="b", **{name: wrong})


async def test_what_the_store_computes_cannot_be_validated_and_is_refused(do, model):
    await do.create(model, id="a", **GOOD)
    for change in (lambda: model.n.add(-2), lambda: model.things.append([3]), lambda: model.things[0].set(3)):
        with pytest.raises(InvalidValue, match="cannot be verified, because"):
            change()
    await do.update_by_key(model, "a", model.n.remove())
    assert (await do.get(model, id="a")).n is None


async def test_rows_are_read_and_kept_whatever_the_validators_say(do, model):
    class Raw(Model):
        model_config = ModelConfig(table=model.__mintkey_schema__.table)
        id = StringAttribute(partition_key=True)
        n = NumberAttribute()
        code = StringAttribute()
        status = StringAttribute()

    await do.create(Raw, id="a", n=-1, code="far too long", status="lost")
    loaded = await do.get(model, id="a")
    assert (loaded.n, loaded.code, loaded.status) == (-1, "far too long", "lost")
    loaded.text = "changed"
    await do.save(loaded)  # untouched values are not checked again
    assert (await do.get(model, id="a")).text == "changed"
    assert await do.count(model, model.n < 0, model.status == "lost", model.code == "far too long") == 1
    loaded.n = -3
    with pytest.raises(InvalidValue, match="-3 is less than min=0"):
        await do.save(loaded)
    loaded.n = None
    loaded.status = "new"
    await do.save(loaded)
    assert (await do.get(model, id="a")).status == "new"


async def test_generated_values_and_defaults_are_validated(do):
    made = iter([6, 7, 8, 9, 12])

    class Made(Model):
        id = StringAttribute(partition_key=True)
        n = NumberAttribute(default=lambda: next(made), validate=even)
        seen = NumberAttribute(default=auto(lambda: 3, when="save"), on_update=auto(lambda: next(made)), max=10)

    item = await do.create(Made, id="a")
    assert (item.n, item.seen) == (6, 3)
    with pytest.raises(InvalidValue, match="validate=even refuses 7"):
        await do.create(Made, id="b")
    await do.update(item, n=4)
    assert item.seen == 8
    with pytest.raises(InvalidValue, match="validate=even refuses 9"):
        await do.update_by_key(Made, "c", upsert=True, seen=1)
    item.n = 2
    with pytest.raises(InvalidValue, match=r"Made\.seen: 12 is more than max=10"):
        await do.save(item)
    assert (await do.get(Made, id="a")).to_dict() == {"id": "a", "n": 4, "seen": 8}
    assert await do.count(Made) == 1


async def test_a_key_is_validated_when_it_is_written(do, model):
    for write in (
        lambda: do.create(model, id="too-long-"),
        lambda: do.save(model(id="too-long-")),
        lambda: do.update_by_key(model, "too-long-", upsert=True, n=2),
    ):
        with pytest.raises(InvalidValue, match=rf"{model.__name__}\.id: the value has the length 9"):
            await write()
    assert await do.get(model, id="too-long-") is None
    await do.batch_delete(model, ["too-long-"])


class Inner(Model):
    model_config = ModelConfig(abstract=True)
    street = StringAttribute(max_length=3)
    zip = Field(pattern=r"\d+", alias="z")


class Outer(Model):
    model_config = ModelConfig(table="outer")
    id = StringAttribute(partition_key=True)
    inner = MapAttribute(Inner)


async def test_a_nested_class_is_validated(do):
    for values in ({"street": "long"}, {"zip": "x"}):
        (name,) = values
        for inner in (values, Inner(**values)):
            for write in (
                lambda inner=inner: do.create(Outer, id="a", inner=inner),
                lambda inner=inner: do.update_by_key(Outer, "a", inner=inner, upsert=True),
            ):
                with pytest.raises(InvalidValue, match=rf"Outer\.inner: in {name}: "):
                    await write()
    with pytest.raises(InvalidValue, match=r"Outer\.inner\['street'\]|Inner\.street"):
        Outer.inner["street"].set("long")
    assert await do.count(Outer) == 0
    await do.create(Outer, id="a", inner={"street": "abc", "zip": "1"})
    await do.update_by_key(Outer, "a", Outer.inner["street"].set("x"))
    assert (await do.get(Outer, id="a")).inner == Inner(street="x", zip="1")


async def test_values_compare_as_they_are_stored(do):
    class Compared(Model):
        id = StringAttribute(partition_key=True)
        low = NumberAttribute(min=0.1, max=Decimal("0.1"))
        at = DatetimeAttribute(min=datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
        until = TTLAttribute(max=datetime(3000, 1, 1, tzinfo=UTC))
        flag = JSONAttribute(choices=[1, "a", {"b": [1.5]}])
        packed = CompressedAttribute(choices=["x"], pattern=".")
        raw = BinaryAttribute(max_length=1)
        yes = BooleanAttribute(choices=[True])

    await do.create(
        Compared, id="a", low=Decimal("0.1"), at=datetime(2024, 1, 1), until=datetime(3000, 1, 1), flag=1,  # noqa: DTZ001
        packed="x", raw=b"a", yes=True,
    )  # fmt: skip
    await do.create(Compared, id="b", low=0.1, flag={"b": [1.5]})
    for name, wrong in (
        ("at", datetime(2023, 12, 31, 23, 59, tzinfo=UTC)),
        ("until", datetime(3000, 1, 1, 0, 0, 1)),  # noqa: DTZ001
        ("flag", True),
        ("flag", {"b": [True]}),
        ("packed", "y"),
        ("raw", b"ab"),
        ("yes", False),
    ):
        with pytest.raises(InvalidValue, match=rf"Compared\.{name}: "):
            await do.create(Compared, id="c", **{name: wrong})
    assert await do.count(Compared) == 2


# The function of `validate=`.


def asserts(value: str) -> str:
    assert value == "good", "not good"
    return value


def strips(value: str) -> str:
    return value.strip()


def fails(value: str) -> bool:
    raise KeyError(value)


def test_a_function_refuses_by_false_or_an_error_and_changes_nothing(store):
    class Checked(Model):
        id = StringAttribute(partition_key=True)
        a = StringAttribute(validate=asserts)
        s = StringAttribute(validate=strips)
        f = StringAttribute(validate=fails)
        u = Field(validate=str.isupper)

    Checked(id="1", a="good", s="x", u="A").save()
    for values, reason in (
        ({"a": "bad"}, "Checked.a: validate= refuses 'bad': not good"),
        ({"s": " x"}, "Checked.s: validate=strips returned 'x' for ' x', and validators do not change values"),
        ({"u": "a"}, "Checked.u: validate=isupper refuses 'a'"),
    ):
        with pytest.raises(InvalidValue, match=re.escape(reason)):
            Checked(id="2", **values).save()
    with pytest.raises(KeyError):
        Checked(id="2", f="x").save()
    assert Checked.count() == 1


async def afunction(value: Any) -> bool:
    return bool(value)


NONSENSE: dict[str, tuple[Any, str]] = {
    "min on text": (lambda: StringAttribute(min=1), "have no minimum or maximum, so min= does not apply"),
    "max on a flag": (lambda: BooleanAttribute(max=True), "max= does not apply"),
    "max on a UUID": (lambda: UUIDAttribute(max=5), "max= does not apply"),
    "pattern on a number": (lambda: NumberAttribute(pattern="1"), "are not text, so pattern= does not apply"),
    "length of a number": (lambda: DecimalAttribute(min_length=1), "have no length, so min_length= does not apply"),
    "length of a class": (lambda: MapAttribute(Inner, max_length=1), "max_length= does not apply"),
    "min over max": (lambda: NumberAttribute(min=2, max=1), "min=2 exceeds max=1"),
    "lengths": (lambda: StringAttribute(min_length=3, max_length=2), "min_length=3 exceeds max_length=2"),
    "min of another type": (lambda: NumberAttribute(min="1"), "min='1' is not a value of this attribute"),
    "NaN": (lambda: NumberAttribute(max=float("nan")), "max=nan is not a value of this attribute"),
    "a length of another type": (lambda: StringAttribute(max_length=1.5), "max_length= takes an integer"),  # type: ignore[call-overload]
    "no expression": (lambda: StringAttribute(pattern="("), "is not a regular expression"),
    "another pattern": (lambda: StringAttribute(pattern=re.compile(b"x")), "pattern of bytes"),  # type: ignore[arg-type]
    "pattern of another type": (lambda: StringAttribute(pattern=5), "is not a regular expression"),  # type: ignore[call-overload]
    "choices as text": (lambda: StringAttribute(choices="ab"), "choices= takes a list of values, not 'ab'"),
    "choices of another type": (lambda: StringAttribute(choices=[1]), "choices= has .*not a value"),
    "choices as pairs": (lambda: StringAttribute(choices=[("a", "A")]), "choices= has .*not a value"),
    "choices without end": (lambda: NumberAttribute(choices=itertools.count()), "choices= takes at most 10,000"),
    "no choices": (lambda: StringAttribute(choices=[]), "choices= is empty"),
    "no function": (lambda: StringAttribute(validate=5), "validate= takes a function"),  # type: ignore[call-overload]
    "an async function": (lambda: StringAttribute(validate=afunction), "cannot be `async def`"),
    "default above": (lambda: NumberAttribute(max=1, default=2), "default=2 cannot be stored: 2 is more than max=1"),
    "default of a field": (lambda: IntField(max=1, default=2), "default=2 cannot be stored: 2 is more than max=1"),
    "default not matching": (lambda: Field(pattern="a", default="b"), "default='b' cannot be stored"),
    "a version": (lambda: VersionAttribute(validate=even), "takes no default=, on_update= or validators"),
    "field: min on text": (lambda: Field(min=1), "min= does not apply"),
    "field: pattern on a number": (lambda: IntField(pattern="1"), "pattern= does not apply"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_a_validator_without_meaning_is_refused_at_definition(case):
    make, reason = NONSENSE[case]
    with pytest.raises(ConfigurationError, match=rf"Wrong\.value: .*{reason}") as caught:
        type("Wrong", (Model,), {"id": StringAttribute(partition_key=True), "value": make()})
    assert (caught.value.model, caught.value.attribute) == ("Wrong", "value")
