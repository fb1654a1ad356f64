"""Structured values: dataclasses, pydantic models and types of them in maps and in JSON."""

from __future__ import annotations

import copy
import dataclasses
import enum
import pickle
import sys
import threading
import uuid
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    computed_field,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from mintkey import Model, ModelConfig, pipeline
from mintkey.attributes import JSONAttribute, MapAttribute, NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError, InvalidValue

KINDS = [JSONAttribute, MapAttribute]


class Colour(enum.Enum):
    RED = "red"
    RATE = Decimal("0.07")


class Mixed(enum.Enum):
    RATE = Decimal("1.5")
    WHOLE = Decimal(2)
    TEXT = "x"


@dataclasses.dataclass
class Sloppy:
    n: int = None  # type: ignore[assignment]


class Prefs(BaseModel):
    max_items: int = Field(10, alias="maxItems")


class Raw(BaseModel):
    b: bytes = b""
    inner: list[Raw] = []


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    at: datetime
    tags: tuple[str, ...] = ()
    ident: uuid.UUID | None = None
    colour: Colour = Colour.RED

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no properties below other decorators
    @property
    def year(self) -> int:
        return self.at.year


class Shape(TypedDict):
    name: str
    note: str | None


class Cat(BaseModel):
    name: str
    lives: int


class Dog(BaseModel):
    name: str
    good: bool


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


@dataclasses.dataclass
class Profile:
    home: Point
    visited: list[Point] = dataclasses.field(default_factory=list)
    prices: dict[str, Decimal] = dataclasses.field(default_factory=dict)
    mail: str | None = "daily"
    since: datetime | None = None
    day: date | None = None
    hour: time | None = None
    ident: uuid.UUID | None = None
    colour: Colour = Colour.RED
    pair: tuple[int, str] = (1, "a")
    total: int = dataclasses.field(init=False, default=0)
    prefs: Prefs | None = None


def profile() -> Profile:
    made = Profile(
        Point(1.0, 2.5),
        visited=[Point(1.0), Point(0.5)],
        prices={"a": Decimal("1.10")},
        mail=None,
        since=datetime(2024, 1, 31, 12, 0, 0, 5, timezone.utc),
        day=date(2024, 1, 31),
        hour=time(12, 30),
        ident=uuid.UUID(int=5),
        colour=Colour.RATE,
        pair=(2, "b"),
        prefs=Prefs(maxItems=3),
    )
    made.total = 9
    return made


NOW = datetime(2024, 1, 31, 12, 0, 0, 5, timezone.utc)
KEPT: list[tuple[Any, Any]] = [
    (Prefs, Prefs(maxItems=50)),
    (Strict, Strict(at=NOW, tags=("a", "b"), ident=uuid.UUID(int=5))),
    (Tree, Tree(name="a", children=[Tree(name="b", children=[Tree(name="c")])])),
    (Shape, {"name": "a", "note": None}),
    (list[Prefs], [Prefs(maxItems=1), Prefs(maxItems=2)]),
    (dict[str, Prefs], {"a": Prefs(maxItems=1)}),
    (Cat | Dog, Dog(name="Rex", good=True)),
    (list[Cat | Dog], [Dog(name="Rex", good=True), Cat(name="Tom", lives=9)]),
    (dict[str, list[Prefs | None]], {"a": [None, Prefs(maxItems=1)]}),
    (Profile, profile()),
    (list[Profile], [profile()]),
    (dict[str, Point], {"a": Point(1.0)}),
    (tuple[int, ...], (1, 2)),
    (list[Mixed], [Mixed.TEXT, Mixed.RATE, Mixed.WHOLE]),
    (Sloppy, Sloppy()),
    (set[str], {"a", "b"}),
]


def model_of(kind: Any, of: Any) -> Any:
    class Holder(Model):
        pk = StringAttribute(partition_key=True)
        value = kind() if of is None else kind(of)
        n = NumberAttribute()

    return Holder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("of", "value"), KEPT, ids=range(len(KEPT)))
async def test_values_read_back_equal_and_of_the_same_type(do, kind, of, value):
    holder = model_of(kind, of)
    await do.save(holder(pk="a", value=value))
    loaded = await do.get(holder, pk="a")
    assert loaded.value == value
    assert type(loaded.value) is type(value)
    assert not loaded.is_dirty
    loaded.n = 1
    await do.save(loaded)
    await do.update(loaded, value=value)
    assert loaded.value == value
    await do.update_by_key(holder, {"pk": "b"}, value=value, upsert=True)
    await do.batch_save(holder, [holder(pk="c", value=value)])
    assert [one.value == value for one in await do.iterate(do.scan(holder))] == [True] * 3


@pytest.mark.parametrize("kind", KINDS)
async def test_types_inside_are_kept(do, kind):
    holder = model_of(kind, Profile)
    await do.save(holder(pk="a", value=profile()))
    read = (await do.get(holder, pk="a")).value
    assert [type(part) for part in (read.home, read.home.x, read.since, read.day, read.hour, read.ident)] == [
        Point,
        float,
        datetime,
        date,
        time,
        uuid.UUID,
    ]
    assert (read.mail, read.total, type(read.prices["a"]), read.colour, read.pair) == (
        None,
        9,
        Decimal,
        Colour.RATE,
        (2, "b"),
    )


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    max_items: int = Field(10, alias="maxItems")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int = 1


class Renaming(BaseModel):
    n: int = 1

    @model_validator(mode="before")
    @classmethod
    def rename(cls, values: Any) -> Any:
        return {"n": values["old"]} if "old" in values else values


class Choosing(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)
    n: int = Field(1, validation_alias=AliasChoices("n", "m", AliasPath("p", 0)))


class Outer(BaseModel):
    one: Prefs | None = None
    many: list[Prefs] = []
    named: dict[str, Prefs] = {}


FITTING: list[tuple[Any, Any, Any]] = [
    (ByName, {"max_items": 4}, ByName(maxItems=4)),
    (Open, {"n": 2, "more": [1]}, Open.model_validate({"n": 2, "more": [1]})),
    (Renaming, {"old": 4}, Renaming(n=4)),
    (Choosing, {"m": 4}, Choosing(n=4)),
    (Choosing, {"p": [4]}, Choosing(n=4)),
    (Outer, {"many": [{"maxItems": 4}]}, Outer(many=[Prefs(maxItems=4)])),
    (Prefs, {"maxItems": 4}, Prefs(maxItems=4)),
    (Point, {"x": 1.5}, Point(1.5)),
    (Profile, {"home": {"x": 1.5}, "mail": None}, Profile(Point(1.5), mail=None)),
    (list[Prefs], [{"maxItems": 4}, Prefs(maxItems=5)], [Prefs(maxItems=4), Prefs(maxItems=5)]),
    (dict[str, Point], {"a": {"x": 1.5}}, {"a": Point(1.5)}),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("of", "given", "fitted"), FITTING, ids=range(len(FITTING)))
async def test_a_dict_that_fits_becomes_an_instance_at_save(do, kind, of, given, fitted):
    holder = model_of(kind, of)
    item = holder(pk="a", value=given)
    await do.save(item)
    assert item.value == fitted
    assert (await do.get(holder, pk="a")).value == fitted


class Lossy(BaseModel):
    shown: int = Field(1, serialization_alias="a", validation_alias="b")


class Growing(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def grow(cls, n: int) -> int:
        return n + 1


class Counting(BaseModel):
    n: int

    @model_validator(mode="after")
    def count(self) -> Counting:
        self.n += 1
        return self


class Hidden(BaseModel):
    password: SecretStr


class Loose(BaseModel):
    anything: Any = None


class First(BaseModel):
    x: int = 1


class Second(BaseModel):
    x: int = 1


class Wider(First):
    y: int = 2


def spoilt() -> First:
    made = First()
    made.__dict__["x"] = "many"
    return made


def changed(instance: Any, **values: Any) -> Any:
    """Return an instance whose fields were assigned without a check."""
    for name, value in values.items():
        setattr(instance, name, value)
    return instance


UNFIT: list[tuple[Any, Any, str]] = [
    (Prefs, {"maxItems": "many"}, "maxItems"),
    (Prefs, 5, ""),
    (Prefs, {"max_items": 50}, "max_items"),
    (Prefs, {"maxItemz": 60}, "maxItemz"),
    (ByName, {"max_items": 4, "maxItems": 5}, "max_items"),
    (Renaming, {"other": 4}, "other"),
    (Outer, {"one": {"max_items": 4}}, "one.max_items"),
    (Outer, {"many": [{"maxItems": 4}, {"maxItemz": 4}]}, r"many\[1\].maxItemz"),
    (Outer, {"named": {"a": {"maxItemz": 4}}}, "named.a.maxItemz"),
    (list[Prefs], [{"max_items": 4}], r"\[0\].max_items"),
    (dict[str, Prefs], {"a": {"max_items": 4}}, "a.max_items"),
    (Prefs | None, {"max_items": 4}, "max_items"),
    (Point, changed(Point(1.0), x="far"), "x"),
    (list[Point], [Point(1.0), changed(Point(1.0), y=None)], r"\[1\].y"),
    (Profile, changed(profile(), home=Point("far")), "home.x"),  # type: ignore[arg-type]
    (Profile, changed(profile(), prices={"a": "1"}), "prices.a"),
    (Profile, changed(profile(), pair=(1, 2)), r"pair\[1\]"),
    (list[Prefs], [Prefs(maxItems=1), {"maxItems": "many"}], r"\[1\].maxItems"),
    (Point, {"z": 1}, "z"),
    (Point, {}, "x"),
    (Profile, {"home": {"x": "far"}}, "home.x"),
    (Profile, Profile(home={"x": 1.0}), "home"),  # type: ignore[arg-type]
    (Shape, {"name": "a"}, "note"),
    (Lossy, Lossy.model_validate({"b": 5}), "shown"),
    (Growing, Growing(n=1), "n"),
    (Counting, Counting(n=1), "n"),
    (Hidden, Hidden(password=SecretStr("x")), "password"),
    (Loose, Loose(anything=NOW), "anything"),
    (Loose, Loose(anything=(1, 2)), "anything"),
    (First | Second, Second(x=5), "Second"),
    (First, Wider(), "Wider"),
    (First, spoilt(), "x"),
    (Strict, {"at": "2024-01-31"}, "at"),
    (list[int], ["1"], r"\[0\]"),
    (Point, Point(float("nan")), ""),
    (Raw, Raw(inner=[Raw(), Raw(b=b"\xff")]), r"inner\[1\]\.b: pydantic stores bytes as UTF-8"),
    (set[int], {"a"}, ""),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("of", "value", "path"), UNFIT, ids=range(len(UNFIT)))
async def test_what_would_not_read_back_is_refused_with_its_path(do, kind, of, value, path):
    holder = model_of(kind, of)
    with pytest.raises(InvalidValue, match=rf"Holder\.value: .*{path}") as caught:
        await do.save(holder(pk="a", value=value))
    assert caught.value.attribute == "value"
    stored = await do.create(holder, pk="a")
    with pytest.raises(InvalidValue):
        await do.update(stored, value=value)
    with pytest.raises(InvalidValue):
        await do.update_by_key(holder, {"pk": "a"}, value=value)
    assert (await do.get(holder, pk="a")).value is None


async def test_a_validator_does_not_run_on_the_instance_that_is_saved(do):
    class Once(BaseModel):
        n: int
        _seen: int = PrivateAttr(0)

        @model_validator(mode="after")
        def note(self) -> Once:
            self._seen += 1
            return self

    holder = model_of(JSONAttribute, Once)
    value = Once(n=1)
    await do.save(holder(pk="a", value=value))
    assert value._seen == 1


@pytest.mark.parametrize("kind", KINDS)
def test_types_that_cannot_be_stored_are_refused_at_definition(kind):
    @dataclasses.dataclass
    class Passing:
        given: dataclasses.InitVar[int]

    for of in (object(), threading.Lock, "Prefs", Passing):
        with pytest.raises(ConfigurationError, match=rf"Wrong\.value: {kind.__name__} takes"):

            class Wrong(Model):
                pk = StringAttribute(partition_key=True)
                value = kind(of)


@pytest.mark.parametrize("kind", KINDS)
async def test_rows_of_an_older_class_are_read_and_keep_what_is_not_known(do, kind):
    @dataclasses.dataclass
    class Old:
        street: str
        city: str
        note: str | None = None

    @dataclasses.dataclass
    class New:
        street: str
        country: str | None = None
        plan: str = "free"

    class Home(Model):
        model_config = ModelConfig(table="homes")
        pk = StringAttribute(partition_key=True)
        value = kind(Old)
        many = kind(list[Old])

    class HomeNow(Model):
        model_config = ModelConfig(table="homes")
        pk = StringAttribute(partition_key=True)
        value = kind(New)
        many = kind(list[New])

    await do.save(Home(pk="a", value=Old("Main", "Ulm"), many=[Old("A", "Bonn"), Old("B", "Rom")]))
    loaded = await do.get(HomeNow, pk="a")
    assert loaded.value == New("Main")
    assert not loaded.is_dirty
    loaded.value.street = "High"
    loaded.many[1].street = "C"
    await do.save(loaded)
    assert loaded.value == New("High")
    before = await do.get(Home, pk="a")
    assert before.value == Old("High", "Ulm")
    assert before.many == [Old("A", "Bonn"), Old("C", "Rom")]


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str


async def test_a_removed_field_of_a_forbidding_model_is_ignored_and_kept(do):
    class Before(BaseModel):
        name: str
        gone: int = 1

    before, now, plain = (model_of(JSONAttribute, of) for of in (Before, Forbidding, None))
    await do.save(before(pk="a", value=Before(name="x", gone=7)))
    loaded = await do.get(now, pk="a")
    assert loaded.value == Forbidding(name="x")
    loaded.value = Forbidding(name="y")
    await do.save(loaded)
    assert (await do.get(plain, pk="a")).value == {"name": "y", "gone": 7}


async def test_rows_that_hold_the_names_of_fields_instead_of_aliases_are_read(do):
    plain, now = model_of(JSONAttribute, None), model_of(JSONAttribute, Prefs)
    await do.save(plain(pk="a", value={"max_items": 50}))
    assert (await do.get(now, pk="a")).value == Prefs(maxItems=50)


class Inner(Model):
    model_config = ModelConfig(abstract=True)
    prefs = JSONAttribute(Prefs)
    point = MapAttribute(Point)
    name = StringAttribute()


async def test_structured_values_inside_a_nested_model(do):
    holder = model_of(MapAttribute, Inner)
    await do.save(holder(pk="a", value={"prefs": {"maxItems": 4}, "point": {"x": 1.5}}))
    loaded = await do.get(holder, pk="a")
    assert (loaded.value.prefs, loaded.value.point) == (Prefs(maxItems=4), Point(1.5))
    with pytest.raises(InvalidValue, match="maxItems"):
        await do.save(holder(pk="b", value={"prefs": {"maxItems": "many"}}))


async def test_a_nested_model_keeps_what_it_does_not_know(do):
    plain, now = model_of(MapAttribute, None), model_of(MapAttribute, Inner)
    await do.save(plain(pk="a", value={"name": "x", "other": {"a": [1]}}))
    loaded = await do.get(now, pk="a")
    assert not loaded.is_dirty
    loaded.value.name = "y"
    await do.save(loaded)
    assert (await do.get(plain, pk="a")).value == {"name": "y", "other": {"a": [1]}}


def test_pipelines_verify_structured_values(store):
    holder = model_of(JSONAttribute, Prefs)
    with pipeline() as sent:
        holder(pk="a", value={"maxItems": 4}).save(pipeline=sent)
    assert holder.get(pk="a").value == Prefs(maxItems=4)
    with pytest.raises(InvalidValue, match="maxItems"), pipeline() as sent:
        holder(pk="b", value={"maxItems": "many"}).save(pipeline=sent)


@pytest.mark.parametrize("kind", KINDS)
def test_deep_values_are_refused_on_a_small_stack(store, kind):
    @dataclasses.dataclass
    class Node:
        inner: Node | None = None

    node, tree, inside = Node(), Tree(name="x"), Tree(name="x")
    for level in range(900):
        node, tree = Node(node), Tree.model_construct(name="x", children=[tree])
        inside = tree if level == 12 else inside
    text = '{"name":"x","children":[' * 90 + "]}" * 90
    seen: list[str] = []

    def save() -> None:
        holder = model_of(kind, Tree)
        holder(pk="a", value=inside).save()
        assert holder.get(pk="a").value == inside
        for of, value in ((Node, node), (Tree, tree)):
            try:
                model_of(kind, of)(pk="a", value=value).save()
            except InvalidValue as error:
                seen.append(str(error))
        if kind is JSONAttribute:
            model_of(StringAttribute, None)(pk="b", value=text).save()
            with pytest.raises(InvalidValue, match="nests deeper than"):
                holder.get(pk="b")

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=save)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert len(seen) == 2
    assert all("nests deeper than" in text for text in seen)


def test_the_deepest_json_works_from_a_deep_stack(store):
    """In a thread with a stack of 256 KiB, below 700 calls of Python. Before Python 3.11 they take of it too."""
    deepest: Any = 1
    for level in range(64):
        deepest = [deepest] if level % 2 else {"a": deepest}
    holder = model_of(JSONAttribute, None)
    plain = model_of(StringAttribute, None)
    done: list[Any] = []

    def below(calls: int) -> None:
        if calls:
            below(calls - 1)
            return
        with pytest.raises(InvalidValue, match="nests deeper than 64 levels"):
            holder(pk="b", value=[deepest]).save()
        holder(pk="a", value=deepest).save()
        loaded = holder.get(pk="a")
        loaded.to_dict()
        copied = [copy.copy(loaded), copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded.to_dict()))["value"]]
        done.append([copied[0].value == deepest, copied[1].value == deepest, copied[2] == deepest])
        plain(pk="c", value="[" * 200 + "]" * 200).save()
        deep = holder.get(pk="c")
        deep.n = 1
        deep.save()
        done.append(plain.get(pk="c").value == "[" * 200 + "]" * 200)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=below, args=(700 if sys.version_info >= (3, 11) else 100,))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert done == [[True] * 3, True]
