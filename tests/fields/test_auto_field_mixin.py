"""`AutoFieldMixin`: what it mints, how long that is, and what a subclass may override."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

import mintkey
from mintkey import Model, ModelConfig
from mintkey.errors import ConfigurationError, InvalidValue
from mintkey.fields import AutoFieldMixin, AutoKeyField, Field, IntField, KeyField, UniqueKeyField
from mintkey.testing import frozen

SHAPES = {
    "uuid4": r"[0-9a-f]{32}",
    "ulid": r"[0-7][0-9A-HJKMNP-TV-Z]{25}",
    "ksuid": r"[0-9A-Za-z]{27}",
    "uuid7": r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "nanoid": r"[0-9A-Za-z_-]{21}",
    "typeid": r"[0-7][0-9a-hjkmnp-tv-z]{25}",
    "xid": r"[0-9a-v]{20}",
    "cuid2": r"[a-z][0-9a-z]{23}",
}


class Order(Model):
    id = AutoKeyField(strategy="ulid")
    product = Field()


# Names and defaults.


def test_the_defaults():
    field = AutoKeyField()
    assert (field.auto, field.auto_uuid_length, field.auto_id, field.strategy) == (True, 32, "", "uuid4")
    assert (AutoFieldMixin.auto, AutoFieldMixin.auto_uuid_length, AutoFieldMixin.auto_id) == (True, 32, "")
    assert AutoFieldMixin.strategy == "uuid4"


def test_the_strategies_and_their_lengths():
    lengths = AutoFieldMixin.STRATEGY_LENGTHS
    assert list(lengths)[:3] == ["uuid4", "ulid", "ksuid"]
    assert [lengths[name] for name in ("uuid4", "ulid", "ksuid")] == [32, 26, 27]
    assert lengths.keys() == SHAPES.keys()


def test_each_default_is_overridable_by_keyword():
    lengths = {"ulid": 26, "uuid4": 32}
    field = AutoKeyField(auto=False, auto_uuid_length=8, auto_id="orders", strategy="ulid", STRATEGY_LENGTHS=lengths)
    assert (field.auto, field.auto_uuid_length, field.auto_id, field.strategy) == (False, 8, "orders", "ulid")
    assert lengths == field.STRATEGY_LENGTHS
    assert AutoKeyField().STRATEGY_LENGTHS == AutoFieldMixin.STRATEGY_LENGTHS


def test_a_subclass_states_defaults_of_its_own():
    class ShortKey(AutoKeyField):
        auto_uuid_length = 8

    class TimeKey(AutoKeyField):
        strategy = "ksuid"

    class Ticket(Model):
        id = ShortKey()

    class Moment(Model):
        id = TimeKey()

    assert len(Ticket().id) == 8
    assert len(Moment().id) == 27


@pytest.mark.parametrize("strategy", SHAPES)
async def test_each_strategy_mints_its_shape_and_saves(do, strategy):
    class Item(Model):
        id = AutoKeyField(strategy=strategy)

    item = Item()
    assert re.fullmatch(SHAPES[strategy], item.id)
    assert len(item.id) == AutoFieldMixin.STRATEGY_LENGTHS[strategy]
    await do.save(item)
    assert await do.get(Item, id=item.id) == item


def test_an_unknown_strategy():
    with pytest.raises(ValueError, match="Invalid strategy") as raised:
        AutoKeyField(strategy="x")
    assert str(raised.value) == (
        "Invalid strategy 'x'. Valid strategies are: uuid4, ulid, ksuid, uuid7, nanoid, typeid, xid, cuid2"
    )


@pytest.mark.parametrize("strategy", ["ULID", "", "epoch", "snowflake"])
def test_no_other_name_is_a_strategy(strategy):
    with pytest.raises(
        ValueError, match=re.escape(f"Invalid strategy '{strategy}'. Valid strategies are: uuid4, ulid")
    ):
        AutoKeyField(strategy=strategy)


def test_a_subclass_adds_a_strategy_of_its_own():
    class Numbered(AutoKeyField):
        STRATEGY_LENGTHS = {"serial": 6}  # noqa: RUF012 - as a user writes it
        strategy = "serial"

        def get_new_auto_key_value(self):
            return "000001"

    class Invoice(Model):
        number = Numbered()

    assert Invoice().number == "000001"
    with pytest.raises(ValueError, match=r"Invalid strategy 'ulid'\. Valid strategies are: serial"):
        Numbered(strategy="ulid")


@pytest.mark.parametrize("length", [1, 7, 8, 31, 32])
def test_uuid4_is_cut_to_its_length(length):
    field = AutoKeyField(auto_uuid_length=length)
    assert re.fullmatch(f"[0-9a-f]{{{length}}}", field.get_new_auto_key_value())


def test_other_strategies_ignore_the_length():
    assert len(AutoKeyField(strategy="ulid", auto_uuid_length=8).get_new_auto_key_value()) == 26


@pytest.mark.parametrize("length", [0, -1, 33, 1000, 8.0, "8", True])
def test_a_length_that_no_uuid_has(length):
    with pytest.raises(ConfigurationError, match=re.escape(f"auto_uuid_length={length!r}")):
        AutoKeyField(auto_uuid_length=length)


def test_an_id_is_text():
    with pytest.raises(ConfigurationError, match=r"Wrong\.id: the strategy 'uuid4' generates text, and type=int"):

        class Wrong(Model):
            id = AutoKeyField(type=int)  # type: ignore[arg-type]  # that is the mistake

    class AutoInt(AutoFieldMixin, IntField):
        pass

    with pytest.raises(ConfigurationError, match="type=int"):

        class WrongToo(Model):
            id = AutoInt()


def test_a_default_beside_minting_would_never_be_used():
    with pytest.raises(ConfigurationError, match=r"Wrong\.id: with auto=True"):

        class Wrong(Model):
            id = AutoKeyField(default="x")


# Minting at construction.


def test_the_value_exists_from_construction_on_and_each_instance_has_its_own():
    ids = {Order().id for _ in range(1000)}
    assert len(ids) == 1000


def test_an_explicit_none_counts_as_not_given():
    assert len(Order(id=None).id) == 26


async def test_a_given_id_is_kept(do):
    given = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    order = Order(id=given)
    await do.save(order)
    assert order.id == given
    assert (await do.get(Order, id=given)).id == given


async def test_saving_again_and_loading_mint_nothing(do):
    order = Order(product="a")
    first = order.id
    await do.save(order)
    order.product = "b"
    await do.save(order)
    assert order.id == first
    assert (await do.get(Order, id=first)).id == first


def test_nothing_is_kept_in_the_class():
    class Note(Model):
        id = AutoKeyField()

    Note()
    assert Note.id.default is None


async def test_without_auto_nothing_is_minted(do):
    class Note(Model):
        id = AutoKeyField(auto=False)
        text = Field()

    note = Note(text="a")
    assert note.id is None
    assert "id" not in note.to_dict()
    with pytest.raises(InvalidValue, match=r"Note\.id: a key needs a value"):
        await do.save(note)
    note.id = "0" * 32
    await do.save(note)
    assert await do.get(Note, id="0" * 32) == note


def test_without_auto_a_plain_default_applies():
    class Note(Model):
        id = KeyField()
        code = type("Code", (AutoFieldMixin, Field), {})(auto=False, default="d" * 32)

    assert Note(id="a").code == "d" * 32


def test_a_plain_field_mints_with_the_mixin():
    class TraceId(AutoFieldMixin, Field):
        pass

    class Request(Model):
        id = AutoKeyField()
        trace = TraceId(strategy="ksuid")

    assert Request().trace != Request().trace
    assert len(Request().trace) == 27


# Validation.


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        (AutoKeyField(strategy="ulid"), "short", "length 5. It should be 26 for strategy 'ulid'"),
        (AutoKeyField(), "0" * 31, "length 31. It should be 32 for strategy 'uuid4'"),
        (AutoKeyField(auto_uuid_length=8), "0" * 32, "length 32. It should be 8 for strategy 'uuid4'"),
        (AutoKeyField(strategy="ksuid"), "0" * 28, "length 28. It should be 27 for strategy 'ksuid'"),
        (AutoKeyField(auto=False), "x", "length 1. It should be 32 for strategy 'uuid4'"),
    ],
)
def test_a_value_of_another_length_is_logged_and_invalid(logged, field, value, wanted):
    assert type(field).is_valid(field, value) is False
    assert logged() == [("ERROR", f"auto key value is {wanted}")]


def test_a_value_of_the_right_length_is_valid(logged):
    field = AutoKeyField(strategy="ulid")
    assert AutoKeyField.is_valid(field, "0" * 26) is True
    assert logged() == []


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_value_skips_the_check(logged, value):
    assert AutoKeyField.is_valid(AutoKeyField(), value) is True
    assert logged() == []


def test_super_judges_after_the_length(logged):
    field = AutoKeyField(null=False)
    assert AutoKeyField.is_valid(field, None) is False
    assert AutoKeyField.is_valid(field, None, null_check=False) is True
    assert AutoKeyField.is_valid(field, 7) is False
    assert [level for level, _ in logged()] == ["ERROR", "ERROR"]


async def test_a_write_of_such_a_value_is_refused(do, logged):
    order = Order(id="short", product="a")
    with pytest.raises(InvalidValue) as raised:
        await do.save(order)
    assert str(raised.value) == "Order.id: auto key value is length 5. It should be 26 for strategy 'ulid'"
    assert (raised.value.model, raised.value.attribute) == ("Order", "id")
    assert logged() == [("ERROR", "auto key value is length 5. It should be 26 for strategy 'ulid'")]
    assert await do.count(Order) == 0
    assert order.id == "short"
    with pytest.raises(InvalidValue, match="It should be 26"):
        await do.create(Order, id="short")


async def test_every_write_path_refuses_it(do):
    class TraceId(AutoFieldMixin, Field):
        pass

    class Request(Model):
        id = AutoKeyField()
        trace = TraceId(strategy="ksuid")

    request = await do.create(Request)
    good = request.trace
    with pytest.raises(InvalidValue, match=r"Request\.trace: auto key value is length 3\. It should be 27"):
        await do.update(request, trace="bad")
    with pytest.raises(InvalidValue, match="It should be 27"):
        await do.update_by_key(Request, {"id": request.id}, trace="bad")
    request.trace = "bad"
    with pytest.raises(InvalidValue, match="It should be 27"):
        await do.save(request)
    with pytest.raises(InvalidValue, match="It should be 27"):
        await do.save(request, replace=True)
    assert (await do.get(Request, id=request.id)).trace == good


async def test_only_new_or_changed_values_are_checked_and_reads_never(do, logged):
    class Trace(AutoFieldMixin, Field):
        pass

    class Before(Model):
        model_config = ModelConfig(table="traces")
        id = KeyField()
        trace = Trace(auto_uuid_length=8)
        text = Field()

    class After(Model):
        model_config = ModelConfig(table="traces")
        id = KeyField()
        trace = Trace(auto_uuid_length=16)
        text = Field()

    await do.create(Before, id="a", trace="12345678")
    old = await do.get(After, id="a")
    assert old.trace == "12345678"
    assert await do.all(After.query.filter(trace="12345678")) == [old]
    old.text = "changed"
    await do.save(old)
    assert (await do.get(After, id="a")).text == "changed"
    assert logged() == []
    old.trace = "87654321"
    with pytest.raises(InvalidValue, match="It should be 16"):
        await do.save(old)


def test_the_library_is_quiet_by_default(tmp_path):
    program = "from mintkey.fields import AutoKeyField as A; A.is_valid(A(), 'x'); A.is_valid(A(null=False), None)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")


# What a subclass overrides.


async def test_get_new_auto_key_value_is_called_at_construction(do):
    class Serial(AutoKeyField):
        STRATEGY_LENGTHS = {"uuid4": 32}  # noqa: RUF012 - as a user writes it
        auto_uuid_length = 6
        made = 0

        def get_new_auto_key_value(self):
            Serial.made += 1
            return f"S-{Serial.made:04}"

    class Invoice(Model):
        number = Serial()

    assert [Invoice().number, Invoice().number] == ["S-0001", "S-0002"]
    assert (await do.create(Invoice)).number == "S-0003"
    assert Invoice(number="S-9999").number == "S-9999"
    assert Serial.made == 3
    Invoice.number.set_auto_key_value()
    assert Invoice.number.default == "S-0004"


async def test_is_valid_is_called_for_new_and_changed_values(do):
    asked: list[Any] = []

    class Even(IntField):
        @classmethod
        def is_valid(cls, field, value, null_check=True, **kwargs):
            asked.append(value)
            return super().is_valid(field, value, null_check=null_check, **kwargs) and value % 2 == 0

    class Pair(Model):
        id = KeyField()
        n = Even()
        text = Field()

    pair = await do.create(Pair, id="a", n=2)
    assert asked == [2]
    pair.text = "unrelated"
    await do.save(pair)
    assert await do.get(Pair, id="a") == pair
    assert asked == [2]
    pair.n = 3
    with pytest.raises(InvalidValue, match=r"Pair\.n: Even\.is_valid\(\) returned False for 3"):
        await do.save(pair)
    assert asked == [2, 3]
    assert (await do.get(Pair, id="a")).n == 2
    await do.update(pair, n=4)
    assert asked == [2, 3, 4]


async def test_an_override_of_is_valid_may_allow_another_length(do):
    class Loose(AutoKeyField):
        @classmethod
        def is_valid(cls, field, value, null_check=True, **kwargs):
            return True

    class Note(Model):
        id = Loose()

    await do.create(Note, id="anything")
    assert (await do.get(Note, id="anything")).id == "anything"


async def test_on_save_hears_of_each_write(do):
    heard: list[Any] = []

    class Watched(AutoFieldMixin, UniqueKeyField):
        @classmethod
        def on_save(cls, model_instance, field_name, field_value, pipeline=None, **kwargs):
            heard.append((model_instance, field_name, field_value, pipeline))
            return super().on_save(model_instance, field_name, field_value, pipeline=pipeline, **kwargs)

    class Note(Model):
        id = Watched()
        text = Field()

    note = await do.create(Note, text="a")
    await do.save(note)  # has nothing to write
    await do.save(note, condition=Note.text == "a")  # only looks
    assert [(name, value, pipeline) for _, name, value, pipeline in heard] == [("id", note.id, None)]
    assert heard[0][0] is note
    note.text = "b"
    await do.save(note)
    assert len(heard) == 2


async def test_on_save_hears_of_the_pipeline(do):
    heard: list[Any] = []

    class Watched(Field):
        @classmethod
        def on_save(cls, model_instance, field_name, field_value, pipeline=None, **kwargs):
            heard.append((field_value, pipeline))
            return super().on_save(model_instance, field_name, field_value, pipeline=pipeline, **kwargs)

    class Note(Model):
        id = AutoKeyField()
        text = Watched()

    pipeline = mintkey.pipeline()
    note = await do.create(Note, text="a", pipeline=pipeline)
    assert heard == [("a", pipeline)]
    await do.execute(pipeline)
    note.text = "b"
    await do.save(note, pipeline=pipeline)
    await do.execute(pipeline)
    await do.update(note, text="c", pipeline=pipeline)
    await do.execute(pipeline)
    note.text = "d"
    await do.save(note)
    assert heard == [("a", pipeline), ("b", pipeline), ("c", pipeline), ("d", None)]
    assert (await do.get(Note, id=note.id)).text == "d"


async def test_an_error_in_on_save_reaches_the_caller_and_nothing_is_written(do):
    class Guarded(Field):
        @classmethod
        def on_save(cls, model_instance, field_name, field_value, pipeline=None, **kwargs):
            raise PermissionError(field_name)

    class Note(Model):
        id = AutoKeyField()
        text = Guarded()

    note = Note(text="a")
    with pytest.raises(PermissionError, match="text"):
        await do.save(note)
    assert await do.count(Note) == 0


@pytest.mark.parametrize("pipeline", [None, [], ["a write"], object()])
def test_on_save_gives_the_pipeline_back(pipeline):
    assert AutoFieldMixin.on_save(Order(), "id", "x", pipeline=pipeline) is pipeline
    assert AutoKeyField.on_save(Order(), "id", "x", pipeline) is pipeline
    assert AutoKeyField.on_save(Order(), "id", "x") is None


@pytest.mark.parametrize("method", ["is_valid", "on_save", "get_new_auto_key_value"])
def test_an_override_cannot_be_async(method):
    async def override(*_, **__):
        return True

    field = type("Odd", (AutoKeyField,), {method: override if method.startswith("get") else classmethod(override)})
    with pytest.raises(ConfigurationError, match=rf"Wrong\.id: {method}\(\) .* cannot be `async def`"):

        class Wrong(Model):
            id = field()


def test_minting_repeats_under_a_frozen_clock():
    def three() -> list[str]:
        with frozen("2024-01-01T00:00:00Z", seed=1):
            return [Order().id for _ in range(3)]

    assert three() == three()
