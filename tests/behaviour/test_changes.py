"""What counts as a change, what hooks add to one, and which defaults a row gets."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pydantic
import pytest
from typing_extensions import NotRequired, TypedDict

from mintkey import AutoGenerate, Model, ModelConfig, pipeline
from mintkey.attributes import (
    DatetimeAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    TTLAttribute,
)
from mintkey.errors import ConditionFailed, ConfigurationError, InvalidValue, ItemGone, KeyCollision
from mintkey.fields import Field, IntField, KeyField
from mintkey.hooks import before_update


class Form(Model):
    pk = StringAttribute(partition_key=True)
    title = StringAttribute()
    n = NumberAttribute(default=100)
    slug = StringAttribute()
    tags = StringSetAttribute()
    updated_at = StringAttribute(on_update=AutoGenerate.ISO8601_MS)
    seen = DatetimeAttribute(on_update=AutoGenerate.ISO8601_MS)


# Assigning an equal value.


@pytest.mark.parametrize("way", ["save", "update", "pipeline"])
async def test_an_equal_value_is_no_change_and_does_not_stop_on_update(do, clock, way):
    await do.save(Form(pk="a", title="x"))
    form = await do.get(Form, pk="a")
    form.title = "y"
    clock.advance(60)
    await do.save(form)
    first = form.updated_at
    assert first == "2024-01-01T00:01:00.000Z"
    clock.advance(60)
    given = {**form.to_dict(), "title": "z"}
    del given["pk"]
    if way == "update":
        await do.update(form, **given)
    else:
        for name, value in given.items():
            setattr(form, name, value)
        if way == "save":
            await do.save(form)
        else:
            with pipeline() as collected:
                await do.save(form, pipeline=collected)
    stored = await do.get(Form, pk="a")
    assert stored.title == form.title == "z"
    assert stored.updated_at == form.updated_at == "2024-01-01T00:02:00.000Z"
    assert stored.seen == form.seen
    assert stored.seen.minute == 2


async def test_equal_values_alone_write_nothing(do, clock):
    await do.save(Form(pk="a", title="x", updated_at="before"))
    form = await do.get(Form, pk="a")
    form.title, form.updated_at = "x", "before"
    assert not form.is_dirty
    await do.save(form)
    assert (await do.get(Form, pk="a")).updated_at == "before"


async def test_another_assigned_value_is_kept(do, clock):
    await do.save(Form(pk="a", title="x"))
    form = await do.get(Form, pk="a")
    form.title, form.updated_at = "y", "mine"
    await do.save(form)
    await do.update(form, title="z", updated_at="also mine")
    assert (await do.get(Form, pk="a")).updated_at == form.updated_at == "also mine"
    await do.update(form, updated_at="also mine")
    assert (await do.get(Form, pk="a")).updated_at == "also mine"


# Hooks.


class Hooked(Model):
    pk = StringAttribute(partition_key=True)
    title = StringAttribute()
    slug = StringAttribute()
    log = ListAttribute(default=[])
    nested = MapAttribute()
    n = NumberAttribute()

    @before_update
    def add(self) -> None:
        self.slug = f"slug of {self.n}"
        self.log = [*(self.log or ()), "updated"]
        if self.nested is not None:
            self.nested["seen"] = True


async def test_a_hook_may_add_to_an_update(do):
    await do.save(Hooked(pk="a", title="x", n=1, nested={"k": 1}))
    item = await do.get(Hooked, pk="a")
    item.title = "only local"
    await do.update(item, n=5)
    stored = await do.get(Hooked, pk="a")
    assert (stored.slug, stored.log, stored.n, stored.title) == ("slug of 1", ["updated"], 5, "x")
    assert stored.nested == item.nested == {"k": 1, "seen": True}
    assert (item.slug, item.log, item.title, item.changed) == ("slug of 1", ["updated"], "only local", {"title"})
    await do.update(item, slug="given")
    assert (await do.get(Hooked, pk="a")).slug == "given"
    with pipeline() as collected:
        await do.update(item, n=9, pipeline=collected)
    assert (await do.get(Hooked, pk="a")).slug == "slug of 5"
    await do.update(item, n=10, skip_hooks=True)
    assert (await do.get(Hooked, pk="a")).slug == "slug of 5"


async def test_a_hook_cannot_change_a_key(do):
    class Moving(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

        @before_update
        def move(self) -> None:
            self.pk = "elsewhere"

    await do.save(Moving(pk="a"))
    item = await do.get(Moving, pk="a")
    with pytest.raises(InvalidValue, match=r"Moving\.pk"):
        await do.update(item, n=1)
    assert await do.count(Moving, n=1) == 0


# Upserts.


async def test_an_upsert_applies_changes_on_top_of_defaults(do):
    await do.update_by_key(Form, "a", Form.n.add(1), upsert=True)
    assert (await do.get(Form, pk="a")).n == 101
    await do.update_by_key(Form, "a", Form.n.add(1), upsert=True)
    assert (await do.get(Form, pk="a")).n == 102
    await do.update_by_key(Form, "b", upsert=True, n=5)
    assert (await do.get(Form, pk="b")).n == 5


async def test_an_upsert_inserts_what_is_set_on_the_instance(do):
    item = Form(pk="z", slug="hi", tags={"t"})
    await do.update(item, upsert=True, n=1)
    stored = await do.get(Form, pk="z")
    assert (stored.slug, stored.n, stored.tags) == ("hi", 1, {"t"})
    assert item == stored
    assert not item.is_dirty
    other = Form(pk="y", n=5, tags={"t"})
    with pipeline() as collected:
        await do.update(other, Form.n.add(1), Form.tags.add_to_set({"u"}), upsert=True, pipeline=collected)
    stored = await do.get(Form, pk="y")
    assert (stored.n, stored.tags) == (6, {"t", "u"})


class Limited(Model):
    id = KeyField()
    name = Field(max_length=3)
    n = Field(type=int)


async def test_an_upsert_checks_what_is_set_on_the_instance(do):
    with pytest.raises(InvalidValue, match=r"Limited\.name"):
        await do.update(Limited(id="a", name="too long"), upsert=True, n=1)
    assert await do.count(Limited) == 0
    await do.update(Limited(id="a", name="fit"), upsert=True, n=1)
    assert (await do.get(Limited, id="a")).name == "fit"


# Defaults on load.


class Settings(Model):
    model_config = ModelConfig(abstract=True)
    colour = StringAttribute(default="red", default_on_load=True)
    size = NumberAttribute()


class Account(Model):
    model_config = ModelConfig(table="accounts")
    pk = StringAttribute(partition_key=True)
    name = StringAttribute()
    plan = StringAttribute(default="free", default_on_load=True)
    notes = ListAttribute(default=list, default_on_load=True)
    old = StringAttribute(default="only new rows")
    settings = MapAttribute(Settings)


async def test_a_default_on_load_is_set_on_rows_that_lack_it(do, raw):
    other = raw(Account, name=StringAttribute(), settings=MapAttribute())
    await do.batch_save(other, [other(pk=name, name=name, settings={"size": 1}) for name in ("a", "b")])
    item, same = await do.get(Account, pk="a"), (await do.all(do.scan(Account, Account.name == "a")))[0]
    assert item.plan == same.plan == "free"
    assert (item.old, item.settings.colour) == (None, "red")
    assert item.notes == []
    assert item.notes is not same.notes
    assert not item.is_dirty
    assert item.changed == set()
    await do.save(item)
    assert await do.count(Account, Account.plan.exists()) == 0
    item.name = "c"
    await do.save(item)
    assert await do.count(Account, Account.plan == "free") == 1
    await do.update(same, name="d")
    assert same.plan == "free"
    other_row = await do.get(Account, pk="b")
    other_row.notes.append(1)
    assert other_row.changed == {"notes"}
    await do.save(other_row)
    assert (await do.get(Account, pk="b")).notes == [1]
    partly = (await do.all(do.scan(Account, attributes=["name"])))[0]
    assert "plan" not in partly.to_dict()
    item.plan = None
    await do.save(item)
    await do.refresh(item)
    assert item.plan == "free"


def test_a_default_on_load_needs_a_default():
    wrongs: list[dict[str, Any]] = [{}, {"default": AutoGenerate.ULID}]
    for parameters in wrongs:
        with pytest.raises(ConfigurationError, match=r"Wrong\.x: default_on_load=True needs a default="):
            type(
                "Wrong",
                (Model,),
                {
                    "pk": StringAttribute(partition_key=True),
                    "x": StringAttribute(default_on_load=True, **parameters),
                },
            )


# Copies.


class Mutable(Model):
    pk = StringAttribute(partition_key=True)
    tags = StringSetAttribute()
    things = ListAttribute()
    data = MapAttribute()
    doc = JSONAttribute()


async def test_copies_share_no_mutable_value(do):
    item = Mutable(pk="a", tags={"x"}, things=[[1]], data={"k": [1]}, doc={"k": [1]})
    await do.save(item)
    loaded = await do.get(Mutable, pk="a")
    for source in (item, loaded):
        given = source.to_dict()
        others = [
            source.to_dict(),
            Mutable.from_dict(given),
            copy.copy(source),
            copy.deepcopy(source),
            pickle.loads(pickle.dumps(source)),
        ]
        for other in others:
            values = other if isinstance(other, dict) else other.__dict__
            values["tags"].add("y")
            values["things"][0].append(2)
            values["data"]["k"].append(2)
            values["doc"]["k"].append(2)
        assert source.to_dict() == given
        assert not source.is_dirty
        assert copy.copy(source) == source
        assert given == {"pk": "a", "tags": {"x"}, "things": [[1]], "data": {"k": [1]}, "doc": {"k": [1]}}


# Messages.


async def test_an_update_of_an_instance_that_was_never_saved_says_so(do):
    with pytest.raises(ItemGone, match=r"this instance was never saved.*pass upsert=True"):
        await do.update(Form(pk="never"), title="x")
    form = Form(pk="a")
    await do.save(form)
    await do.delete(form)
    with pytest.raises(ItemGone, match=r"\(deleted or expired\)"):
        await do.update(form, title="x")


class Fixed(Model):
    pk = StringAttribute(partition_key=True, default=lambda: "same")
    n = NumberAttribute()


async def test_a_generated_key_that_was_never_saved_touches_no_other_row(do):
    await do.update(Fixed(n=0), n=1, upsert=True)
    with pytest.raises(KeyCollision):
        await do.update(Fixed(n=2), n=5, upsert=True)
    with pytest.raises(ItemGone, match="never saved, and its key is generated"):
        await do.update(Fixed(n=2), n=5)
    for condition in (None, Fixed.n == 1):
        with pytest.raises(ConditionFailed):
            await do.delete(Fixed(n=3), condition=condition)
    assert (await do.get(Fixed, pk="same")).n == 1
    await do.update(Fixed(pk="same"), n=6)
    await do.delete(Fixed(pk="same"))
    await do.delete(Fixed(n=3))
    item = Fixed()
    await do.update(item, n=7, upsert=True)
    await do.update(item, Fixed.n.add(1))
    assert (await do.get(Fixed, pk="same")).n == item.n == 8
    await do.delete(item)
    assert await do.count(Fixed) == 0


class Parts(Model):
    country = KeyField()
    city = KeyField()
    n = NumberAttribute()


async def test_a_changed_part_of_a_compound_key_is_named(do):
    await do.create(Parts, country="DE", city="Ulm", n=1)
    for change in (do.save, lambda item: do.update(item, n=2), lambda item: do.save(item, replace=True)):
        item = await do.get(Parts, country="DE", city="Ulm")
        item.city, item.n = "Bonn", 5
        with pytest.raises(InvalidValue, match=r"Parts\.city: the key of a stored item cannot change") as caught:
            await change(item)
        assert caught.value.attribute == "city"
    assert await do.count(Parts, n=1) == 1


# Changes of a part are checked as a save checks the whole value.


class Piece(pydantic.BaseModel):
    name: str
    n: int = 1


class Checked(pydantic.BaseModel):
    n: int = 1
    ratio: float = 1.0
    positive: int = pydantic.Field(default=1, gt=0)
    code: str = pydantic.Field(default="x", max_length=3)
    numbers: list[int] = []
    few: list[int] = pydantic.Field(default=[], max_length=2)
    by_name: dict[str, int] = {}
    pieces: list[Piece] = []
    pair: tuple[int, str] = (1, "x")
    row: tuple[int, ...] = ()
    either: int | str = 1
    maybe: int | None = None


class Validated(pydantic.BaseModel):
    low: int = 1
    high: int = 2
    inner: Piece = Piece(name="x")

    @pydantic.model_validator(mode="after")
    def check(self) -> Validated:
        assert self.low <= self.high
        return self


class OneChecked(pydantic.BaseModel):
    even: int = 2
    free: int = 1

    @pydantic.field_validator("even")
    @classmethod
    def check(cls, value: int) -> int:
        assert value % 2 == 0
        return value


class Typed(TypedDict):
    n: int
    numbers: NotRequired[list[int]]


T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    value: T
    values: list[T]


class Holder(Model):
    pk = StringAttribute(partition_key=True)
    v = MapAttribute(Checked)
    whole = MapAttribute(Validated)
    one = MapAttribute(OneChecked)
    typed = MapAttribute(Typed)
    box = MapAttribute(Box[int])
    numbers = MapAttribute(list[int])
    plain = MapAttribute()
    seats = IntField()
    text = Field(max_length=3)
    row = Field(type=tuple, max_length=1)
    expires = TTLAttribute()


V = Holder.v
REFUSED: dict[str, Callable[[], Any]] = {
    "float into int": lambda: V["n"].set(1.5),
    "float into int, if absent": lambda: V["n"].set_if_absent(1.5),
    "bool into int": lambda: V["n"].set(True),
    "add float to int": lambda: V["n"].add(0.5),
    "constraint": lambda: V["positive"].set(-5),
    "add under a constraint": lambda: V["positive"].add(-5),
    "length": lambda: V["code"].set("long"),
    "append text": lambda: V["numbers"].append(["x"]),
    "prepend text": lambda: V["numbers"].prepend(["x"]),
    "append null": lambda: V["numbers"].append([None]),
    "element": lambda: V["numbers"][0].set("x"),
    "entry": lambda: V["by_name"]["a"].set(1.5),
    "append a bad dict": lambda: V["pieces"].append([{"n": "x"}]),
    "part of an element": lambda: V["pieces"][0]["n"].set(0.5),
    "whole list": lambda: V["pieces"].set([{"n": 1}]),
    "append beyond the length": lambda: V["few"].append([1]),
    "element beyond the length": lambda: V["few"][5].set(1),
    "append to a pair": lambda: V["pair"].append([1]),
    "append to a tuple": lambda: V["row"].append(["x"]),
    "union": lambda: V["either"].set([1]),
    "validated model": lambda: Holder.whole["low"].set(5),
    "add in a validated model": lambda: Holder.whole["low"].add(5),
    "inside a validated model": lambda: Holder.whole["inner"]["n"].set(5),
    "validated field": lambda: Holder.one["even"].set(3),
    "TypedDict": lambda: Holder.typed["n"].set(0.5),
    "list of a TypedDict": lambda: Holder.typed["numbers"].append([0.5]),
    "generic": lambda: Holder.box["value"].set("x"),
    "list of a generic": lambda: Holder.box["values"].append(["x"]),
    "list": lambda: Holder.numbers.append(["x"]),  # type: ignore[list-item]
    "field of integers": lambda: Holder.seats.add(0.5),  # type: ignore[arg-type]
    "field of text": lambda: Holder.text.set("long"),
    "field of text, if absent": lambda: Holder.text.set_if_absent("long"),
    "field of a tuple": lambda: Holder.row.append([1]),  # type: ignore[arg-type, misc]
    "expiry": lambda: Holder.expires.add(10**12),  # type: ignore[arg-type]
    "null in an attribute": lambda: Holder.plain.set(None),  # type: ignore[arg-type]
    "null in an integer": lambda: V["n"].set(None),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_change_that_would_make_a_row_unreadable_is_refused(case):
    with pytest.raises(InvalidValue, match=r"Holder\."):
        REFUSED[case]()


async def test_a_change_that_fits_is_read(do):
    await do.save(
        Holder(
            pk="a", v=Checked(pieces=[Piece(name="x")], by_name={"a": 1}), whole=Validated(), one=OneChecked(),
            typed={"n": 1, "numbers": []}, box=Box(1, []), numbers=[1], plain={"x": 1}, seats=1, text="x",
        )
    )  # fmt: skip
    changes = (
        V["n"].add(4), V["ratio"].add(0.5), V["positive"].set(7), V["code"].set("abc"), V["numbers"].append([1, 2]),
        V["by_name"]["a"].add(1), V["pieces"][0]["name"].set("y"), V["row"].append([1]), V["either"].set("x"),
        V["maybe"].set(None), Holder.one["free"].add(1), Holder.typed["numbers"].append([3]),
        Holder.box["value"].add(1), Holder.box["values"].append([4]), Holder.numbers.append([2]),
        Holder.plain["x"].set(None), Holder.seats.add(2), Holder.text.set("abc"),
    )  # fmt: skip
    await do.update_by_key(Holder, "a", *changes)
    await do.update_by_key(Holder, "a", V["pieces"].append([{"name": "z"}]), V["few"].set([1, 2]))
    read = await do.get(Holder, pk="a")
    pieces = [Piece(name="y"), Piece(name="z")]
    assert read.v == Checked(
        n=5, ratio=1.5, positive=7, code="abc", numbers=[1, 2], few=[1, 2], by_name={"a": 2}, pieces=pieces, row=(1,),
        either="x",
    )  # fmt: skip
    assert (read.one.free, read.typed, read.box) == (2, {"n": 1, "numbers": [3]}, Box(2, [4]))
    assert (read.numbers, read.plain, read.seats, read.text) == ([1, 2], {"x": None}, 3, "abc")
