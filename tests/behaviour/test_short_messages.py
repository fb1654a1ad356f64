"""Messages of errors: short whatever the value is, with model, attribute and key; a value may be long, and personal."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest

from mintkey import AutoGenerate, Index, Model, ModelConfig, pipeline
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
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import BatchIncomplete, ConditionFailed, InvalidValue, KeyCollision, MintkeyError
from mintkey.fields import AutoKeyField, Field

#: What nobody wants to find in a log, 1.2 MB of it.
SECRET = "secret" * 200_000
RAW = SECRET.encode()
#: As much of it as an item can hold.
STORED = "secret" * 20_000


class Colour(enum.Enum):
    RED = "red"


class Vault(Model):
    model_config = ModelConfig(table="vault")
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    text = StringAttribute()
    number = NumberAttribute()
    decimal = DecimalAttribute()
    flag = BooleanAttribute()
    raw = BinaryAttribute()
    things = ListAttribute()
    data = MapAttribute()
    words = StringSetAttribute()
    numbers = NumberSetAttribute()
    json = JSONAttribute()
    colour = EnumAttribute(Colour)
    at = DatetimeAttribute()
    day = DateAttribute()
    ident = UUIDAttribute()
    until = TTLAttribute()
    packed = CompressedAttribute()
    by_text = Index(partition_key="text")


class Holder:
    def __repr__(self) -> str:
        return SECRET


class Angry:
    def __repr__(self) -> str:
        raise ZeroDivisionError


#: Values that an attribute cannot hold.
WRONG: list[tuple[str, Any]] = [
    ("text", RAW),
    ("text", Holder()),
    ("text", Angry()),
    ("number", SECRET),
    ("number", int("9" * 4_000)),
    ("decimal", SECRET),
    ("flag", SECRET),
    ("raw", SECRET),
    ("things", SECRET),
    ("things", [Holder()]),
    ("things", [[{SECRET: Angry()}]]),
    ("data", [SECRET]),
    ("data", {SECRET: Holder()}),
    ("data", {SECRET: {SECRET: {SECRET: {SECRET: Holder()}}}}),
    ("words", [SECRET]),
    ("words", {RAW}),
    ("numbers", {SECRET}),
    ("json", {SECRET: Holder()}),
    ("json", Holder()),
    ("colour", SECRET),
    ("colour", [SECRET] * 1_000),
    ("at", SECRET),
    ("day", SECRET),
    ("ident", SECRET),
    ("until", SECRET),
    ("packed", RAW),
]
IDS = [f"{name}-{type(value).__name__}-{index}" for index, (name, value) in enumerate(WRONG)]

KEY: dict[str, Any] = {"pk": "a", "sk": 1}


def check(error: BaseException, attribute: str | None = None, key: dict[str, Any] | None = None) -> None:
    message = str(error)
    assert len(message) < 1_000
    assert "secret" * 20 not in message
    assert "Vault" in message
    if isinstance(error, MintkeyError):
        assert error.model == "Vault"
    if attribute is not None:
        assert f"Vault.{attribute}" in message
        assert getattr(error, "attribute", None) == attribute
    if key is not None:
        assert f'Vault ("{key["pk"]}", {key["sk"]})' in message
        assert getattr(error, "key", None) == key


async def fails(call: Callable[[], Any], kind: Any = InvalidValue) -> BaseException:
    with pytest.raises(kind) as caught:
        await call()
    error: BaseException = caught.value
    return error


async def attempt(call: Callable[[], Any]) -> None:
    made = call()
    if hasattr(made, "__await__"):
        await made


@pytest.mark.parametrize(("name", "value"), WRONG, ids=IDS)
async def test_a_value_that_cannot_be_stored(do, name, value):
    stored = await do.create(Vault, **KEY)
    attribute = getattr(Vault, name)
    check(await fails(lambda: do.save(Vault(pk="b", sk=2, **{name: value}))), name, {"pk": "b", "sk": 2})
    check(await fails(lambda: do.create(Vault, pk="b", sk=2, **{name: value})), name, {"pk": "b", "sk": 2})
    check(await fails(lambda: do.update(stored, **{name: value})), name, KEY)
    check(await fails(lambda: do.update_by_key(Vault, KEY, **{name: value})), name, KEY)
    check(await fails(lambda: do.update_by_key(Vault, KEY, upsert=True, **{name: value})), name, KEY)
    check(await fails(lambda: do.save(Vault(pk="b", sk=2, **{name: value}), pipeline=pipeline())), name)
    error = await fails(lambda: do.batch_save(Vault, [Vault(pk="b", sk=2, **{name: value})]), BatchIncomplete)
    check(error)
    check(error.failed[0][1], name, {"pk": "b", "sk": 2})  # type: ignore[attr-defined]
    setattr(stored, name, value)
    check(await fails(lambda: do.save(stored)), name, KEY)
    for build in (
        lambda: attribute == value,
        lambda: attribute != value,
        lambda: attribute > value,
        lambda: attribute.is_in([value]),
        lambda: attribute.between(value, value),
        lambda: attribute.set(value),
        lambda: attribute.set_if_absent(value),
        lambda: Vault.query.filter(**{name: value}),
    ):
        with pytest.raises(InvalidValue) as caught:
            build()
        check(caught.value, name)


UNREADABLE = [("json", STORED), ("colour", STORED), ("at", STORED), ("day", STORED), ("ident", STORED)]
UNREADABLE += [("packed", b"\3" + STORED.encode())]  # type: ignore[list-item]


@pytest.mark.parametrize(("name", "value"), UNREADABLE, ids=[name for name, _ in UNREADABLE])
async def test_a_stored_value_that_cannot_be_read(do, raw, name, value):
    stored = BinaryAttribute() if isinstance(value, bytes) else StringAttribute()
    await do.save(raw(Vault, **{name: stored})(**KEY, **{name: value}))
    for call in (
        lambda: do.get(Vault, **KEY),
        lambda: do.all(do.query(Vault, pk="a")),
        lambda: do.page(Vault.scan(), 5),
        lambda: do.refresh(Vault(**KEY)),
        lambda: do.update(Vault(**KEY), number=1),
    ):
        error = await fails(call)
        check(error, name, KEY)
        assert "cannot be read" in str(error)


async def test_long_keys(do):
    for wrong in (SECRET, "\0" * 3_000, RAW):
        for call in (
            lambda: do.save(Vault(pk=wrong, sk=1)),  # noqa: B023 - used at once
            lambda: do.get(Vault, pk=wrong, sk=1),  # noqa: B023
            lambda: do.delete(Vault(pk=wrong, sk=1)),  # noqa: B023
            lambda: do.update_by_key(Vault, {"pk": wrong, "sk": 1}, text="x"),  # noqa: B023
        ):
            check(await fails(call), "pk")
        check(await fails(lambda: do.get(Vault, pk="a", sk=wrong)), "sk")  # noqa: B023
    for long in ("secret" * 300, "\0" * 2_000, "\U0010ffff" * 500):
        await do.create(Vault, pk=long, sk=1)
        for call, kind in (
            (lambda: do.create(Vault, pk=long, sk=1), KeyCollision),  # noqa: B023
            (lambda: do.save(Vault(pk=long, sk=1), condition=Vault.text == "secret" * 300), ConditionFailed),  # noqa: B023
            (lambda: do.save(Vault(pk=long, sk=1, text=5)), InvalidValue),  # noqa: B023
            (lambda: do.save(Vault(pk=long, sk=1, text="secret" * 100_000)), InvalidValue),  # noqa: B023
        ):
            error = await fails(call, kind)
            check(error)
            assert error.key == {"pk": long, "sk": 1}  # type: ignore[attr-defined]


async def test_other_arguments(do):
    stored = await do.create(Vault, **KEY)
    calls: list[Callable[[], Any]] = [
        lambda: do.get(Vault, **{SECRET: 1}),
        lambda: Vault(**{SECRET: 1}),
        lambda: do.update(stored, **{SECRET: 1}),
        lambda: do.query(Vault, pk="a", **{SECRET: 1}),
        lambda: do.query(Vault, pk="a", index=SECRET),
        lambda: do.query(Vault, SECRET, pk="a"),
        lambda: do.scan(Vault, attributes=SECRET),
        lambda: do.scan(Vault, attributes=[SECRET]),
        lambda: do.scan(Vault).order_by(SECRET),
        lambda: do.scan(Vault)[SECRET],
        lambda: Vault.query.filter(**{f"text__{SECRET}": 1}),
        lambda: Vault.query.filter(text__between=SECRET),
        lambda: Vault.query.filter(text__isnull=SECRET),
        lambda: do.page(do.scan(Vault), 1, SECRET),
        lambda: do.page(do.scan(Vault), 1, Holder()),
        lambda: do.save(stored, condition=SECRET),
        lambda: do.save(stored, pipeline=SECRET),
        lambda: do.update(stored, SECRET),
        lambda: do.get(Vault, **KEY, consistent=SECRET),
        lambda: do.update_by_key(Vault, [SECRET] * 5, text="x"),
        lambda: do.batch_save(Vault, SECRET),
        lambda: do.batch_save(Vault, [], on_progress=SECRET),
        lambda: do.extend_ttl(stored, SECRET),
        lambda: Vault.text.is_type(SECRET),  # type: ignore[arg-type]
        lambda: Vault.things.append(SECRET),
        lambda: Vault.words.add_to_set(SECRET),
        lambda: Vault.things.size() > SECRET,  # type: ignore[operator]
        lambda: Vault.data[SECRET][SECRET][SECRET] == Holder(),
        lambda: Vault.data[RAW],  # type: ignore[call-overload]
        lambda: do.update_by_key(Vault, KEY, Vault.data[SECRET].set(1), Vault.data[SECRET].set(2)),
        lambda: do.update_by_key(Vault, KEY, Vault.data[SECRET].set(1)),
        lambda: SECRET in Vault.text,
        lambda: bool(Vault.text == SECRET),
    ]
    for number, call in enumerate(calls):
        message = str(await fails(lambda: attempt(call), (InvalidValue, TypeError, ValueError)))  # noqa: B023
        assert len(message) < 1_000, number
        assert "secret" * 20 not in message, number
        assert "Vault" in message, number
    for several in ([SECRET], [Vault(**KEY), SECRET]):
        error = await fails(lambda: do.batch_save(Vault, several), BatchIncomplete)  # noqa: B023
        check(error)
        check(error.failed[-1][1])  # type: ignore[attr-defined]
        check(await fails(lambda: do.batch_delete(Vault, [[SECRET] * 3]), BatchIncomplete))


async def test_what_hooks_and_types_of_ones_own_say(do):
    class Strict(StringAttribute):
        def encode(self, value: Any) -> Any:
            raise ValueError(f"not {value}")

        def decode(self, stored: Any) -> Any:
            raise ValueError(f"not {stored}")

    class Vault(Model):
        pk = StringAttribute(partition_key=True)
        text = Strict()

    error = await fails(lambda: do.save(Vault(pk="a", text=SECRET)))
    assert len(str(error)) < 1_000
    assert 'Vault "a": Vault.text' in str(error)
    error = await fails(lambda: do.all(do.scan(Vault, Vault.text == SECRET)))
    assert len(str(error)) < 1_000


async def test_a_version_that_is_none(do, raw):
    class Vault(Model):
        model_config = ModelConfig(table="versions")
        pk = StringAttribute(partition_key=True)
        version = VersionAttribute()

    await do.save(raw(Vault, version=StringAttribute())(pk="a", version=STORED))
    loaded = await do.get(Vault, pk="a")
    for call in (lambda: do.save(loaded), lambda: do.update(loaded), lambda: do.delete(loaded)):
        with pytest.raises((InvalidValue, TypeError)) as caught:
            await call()
        assert len(str(caught.value)) < 1_000
    error = await fails(lambda: do.delete(loaded))
    assert (error.attribute, error.key) == ("version", {"pk": "a"})  # type: ignore[attr-defined]


async def test_fields(do):
    class Vault(Model):
        id = AutoKeyField(strategy="ulid")
        text = Field(max_length=5)
        level = Field(type=int)

    class Picky(Field[str]):
        @classmethod
        def is_valid(cls, field: Any, value: Any, null_check: bool = True, **kwargs: Any) -> bool:
            return False

    class Other(Model):
        id = AutoKeyField(strategy=AutoGenerate.ULID)
        text = Picky()

    for model, values in (
        (Vault, {"id": SECRET}),
        (Vault, {"text": SECRET}),
        (Vault, {"level": SECRET}),
        (Other, {"text": SECRET}),
        (Other, {"text": Holder()}),
    ):
        error = await fails(lambda: do.save(model(**values)))  # noqa: B023 - used at once
        assert len(str(error)) < 1_000
        assert "secret" * 20 not in str(error)
        assert f"{model.__name__}.{next(iter(values))}" in str(error)
        if "id" not in values:
            assert error.key is not None  # type: ignore[attr-defined]
