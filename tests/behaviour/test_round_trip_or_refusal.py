"""Every value that a save accepts is read back equal and of the same type, from every path, or it is refused.

Documented conversions: numbers are read as `int`, `float` or `Decimal` by their value; a naive datetime is UTC; a set
may be given as a frozenset, and bytes as a bytearray.
"""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic import Field as PydanticField

from mintkey import Model, ModelConfig, connect, pipeline
from mintkey.attributes import (
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    CompressedAttribute,
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    EnumAttribute,
    IntegerAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
    TimeAttribute,
    TimedeltaAttribute,
    TTLAttribute,
    UUIDAttribute,
)
from mintkey.errors import BatchIncomplete, InvalidValue
from mintkey.fields import Field
from mintkey.fields.forms import FORMS


class Colour(enum.Enum):
    RED = "red"
    RATE = Decimal("0.07")
    RAW = b"\0"


class Prefs(BaseModel):
    name: str | None = PydanticField(None, alias="theName")
    count: int = 1
    at: datetime | None = None
    price: Decimal | None = None
    tags: tuple[str, ...] = ()
    anything: Any = None


@dataclasses.dataclass
class Point:
    x: float
    at: datetime | None = None
    ident: uuid.UUID | None = None
    price: Decimal | None = None
    raw: Any = None
    mail: str | None = "daily"
    prefs: Prefs | None = None
    others: list[Point] = dataclasses.field(default_factory=list)
    made: int = dataclasses.field(init=False, default=0)


class Inner(Model):
    model_config = ModelConfig(abstract=True)
    at = DatetimeAttribute()
    point = MapAttribute(Point)
    prefs = JSONAttribute(Prefs)
    words = StringSetAttribute()


KINDS: dict[str, Callable[[], Any]] = {
    "text": StringAttribute,
    "number": NumberAttribute,
    "decimal": DecimalAttribute,
    "boolean": BooleanAttribute,
    "bytes": BinaryAttribute,
    "list": ListAttribute,
    "map": MapAttribute,
    "words": StringSetAttribute,
    "numbers": NumberSetAttribute,
    "blobs": BinarySetAttribute,
    "json": JSONAttribute,
    "enum": lambda: EnumAttribute(Colour),
    "datetime": DatetimeAttribute,
    "seconds": lambda: DatetimeAttribute(stored_as="Z"),
    "isoformat": lambda: DatetimeAttribute(stored_as="isoformat"),
    "date": DateAttribute,
    "uuid": UUIDAttribute,
    "upper": lambda: UUIDAttribute(stored_as="upper hex"),
    "compressed": CompressedAttribute,
    "ttl": TTLAttribute,
    "nested": lambda: MapAttribute(Inner),
    "map of a dataclass": lambda: MapAttribute(Point),
    "JSON of a dataclass": lambda: JSONAttribute(Point),
    "map of a model": lambda: MapAttribute(Prefs),
    "JSON of a model": lambda: JSONAttribute(Prefs),
    "JSON of a list": lambda: JSONAttribute(list[Prefs | Point]),
    "map of a dict": lambda: MapAttribute(dict[str, Prefs]),
    "integer": IntegerAttribute,
    "time": TimeAttribute,
    "timedelta": TimedeltaAttribute,
    "list of times": lambda: ListAttribute(of=DatetimeAttribute(stored_as="isoformat")),
    "list of decimals": lambda: ListAttribute(of=Decimal),
    "list of points": lambda: ListAttribute(of=Point),
    "list of models": lambda: ListAttribute(of=Prefs),
    "list of lists": lambda: ListAttribute(of=ListAttribute(of=TimedeltaAttribute())),
    "map of sets": lambda: MapAttribute(of=StringSetAttribute()),
    "map of nested": lambda: MapAttribute(of=Inner),
    "map of optional enums": lambda: MapAttribute(of=Colour | None),
    **{f"field of {kind.__name__}": partial(Field, type=kind) for kind in FORMS},
}

moments = st.datetimes(timezones=st.sampled_from([None, timezone.utc]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=5),
    st.binary(max_size=5),
    moments,
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.sampled_from(Colour),
)
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(st.integers(), inner, max_size=2),
    ),
    max_leaves=4,
)
sets = st.one_of(*(st.sets(one, max_size=3) for one in (st.text(max_size=3), st.integers(), st.binary(max_size=3))))
optional_text = st.one_of(st.none(), st.text(max_size=3))
models = st.builds(
    lambda name, count, at, price, tags, anything: Prefs.model_construct(
        name=name, count=count, at=at, price=price, tags=tags, anything=anything
    ),
    optional_text,
    st.one_of(st.integers(), st.just("many")),
    st.one_of(st.none(), moments),
    st.one_of(st.none(), st.decimals()),
    st.lists(st.text(max_size=3), max_size=2).map(tuple),
    plain,
)
points = st.builds(
    Point,
    st.one_of(st.floats(), st.integers(), st.text(max_size=2)),
    at=st.one_of(st.none(), moments),
    ident=st.one_of(st.none(), st.uuids(), st.text(max_size=3)),
    price=st.one_of(st.none(), st.decimals()),
    raw=plain,
    mail=optional_text,
    prefs=st.one_of(st.none(), models),
)
dicts = st.fixed_dictionaries(
    {}, optional={"x": scalars, "theName": scalars, "count": scalars, "at": scalars, "words": sets, "point": points}
)
values = st.one_of(
    plain,
    sets,
    models,
    points,
    dicts,
    st.lists(st.one_of(models, points), max_size=2),
    st.dictionaries(st.text(max_size=2), models, max_size=2),
    st.builds(Inner, at=moments, point=points, prefs=models, words=st.sets(st.text(max_size=2))),
)
#: Values that fit an attribute type more often than by chance.
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "datetime": moments,
    "seconds": moments.map(lambda moment: moment.replace(microsecond=0)),
    "isoformat": moments,
    "ttl": moments,
    "map of a dataclass": points,
    "JSON of a dataclass": points,
    "map of a model": models,
    "JSON of a model": models,
    "JSON of a list": st.lists(st.one_of(models, points), max_size=3),
    "map of a dict": st.dictionaries(st.text(max_size=2), models, max_size=2),
    "timedelta": st.timedeltas(),
    "list of times": st.lists(moments, max_size=3),
    "list of decimals": st.lists(st.one_of(st.decimals(), st.integers()), max_size=3),
    "list of points": st.lists(points, max_size=2),
    "list of models": st.lists(models, max_size=2),
    "list of lists": st.lists(st.lists(st.timedeltas(), max_size=2), max_size=2),
    "map of sets": st.dictionaries(st.text(max_size=2), st.sets(st.text(max_size=2), max_size=2), max_size=2),
    "map of nested": st.dictionaries(st.text(max_size=2), st.builds(Inner, at=moments, point=points), max_size=2),
    "map of optional enums": st.dictionaries(
        st.text(max_size=2), st.one_of(st.none(), st.sampled_from(Colour)), max_size=3
    ),
}


def same(written: Any, read: Any) -> bool:
    """Whether two values are equal and of the same type, apart from the documented conversions."""
    if isinstance(written, bool) or isinstance(read, bool):
        return written is read
    if isinstance(written, (int, float, Decimal)) and not isinstance(written, enum.Enum):
        exact = Decimal(repr(written)) if isinstance(written, float) else written
        return isinstance(read, (int, float, Decimal)) and exact == (
            Decimal(repr(read)) if isinstance(read, float) else read
        )
    if isinstance(written, datetime) and isinstance(read, datetime):
        return written == read or (written.tzinfo is None and written.replace(tzinfo=timezone.utc) == read)
    if type(written) is not type(read):
        return False
    if isinstance(written, dict):
        return written.keys() == read.keys() and all(same(written[name], read[name]) for name in written)
    if isinstance(written, (list, tuple)):
        return len(written) == len(read) and all(map(same, written, read))
    if isinstance(written, (BaseModel, Inner)) or dataclasses.is_dataclass(written):
        return all(same(getattr(written, name), getattr(read, name)) for name in vars(written))
    return bool(written == read)


def holder_of(kind: str) -> Any:
    class Holder(Model):
        model_config = ModelConfig(table=f"holder-{list(KINDS).index(kind)}")
        pk = StringAttribute(partition_key=True)
        value = KINDS[kind]()
        n = NumberAttribute()

    return Holder


def read_paths(holder: Any, pk: str) -> list[Any]:
    loaded = holder.get(pk=pk)
    again = holder.get(pk=pk)
    again.refresh()
    (queried,) = holder.query(pk=pk)
    (batched,) = holder.batch_get([{"pk": pk}])
    scanned = [one for one in holder.scan() if one.pk == pk]
    return [loaded, again, queried, batched, *scanned]


def write_paths(holder: Any, value: Any) -> dict[str, Callable[[], Any]]:
    """Each writes the row of its name, and returns the value that it has written."""

    def save() -> Any:
        item = holder(pk="save", value=value)
        item.save()
        return item.value

    def create() -> Any:
        return holder.create(pk="create", value=value).value

    def change() -> Any:
        item = holder.create(pk="change")
        item.value = value
        item.save()
        return item.value

    def update() -> Any:
        item = holder.create(pk="update")
        item.update(value=value)
        return item.value

    def upsert() -> Any:
        holder.update_by_key({"pk": "upsert"}, value=value, upsert=True)
        return holder.get(pk="upsert").value

    def batch() -> Any:
        item = holder(pk="batch", value=value)
        try:
            holder.batch_save([item])
        except BatchIncomplete as error:
            raise error.failed[0][1] from error
        return item.value

    def joined() -> Any:
        item = holder(pk="joined", value=value)
        try:
            with pipeline() as sent:
                item.save(pipeline=sent)
        except BatchIncomplete as error:
            raise error.failed[0][1] from error
        return item.value

    return {one.__name__: one for one in (save, create, change, update, upsert, batch, joined)}


def check(holder: Any, value: Any, paths: list[str]) -> None:
    accepted = {}
    for name in paths:
        try:
            accepted[name] = write_paths(holder, value)[name]()
        except InvalidValue:
            row = holder.get(pk=name)
            assert row is None or row.value in (None, set())
    assert len(accepted) in {0, len(paths)}, "the paths differ"
    for name, written in accepted.items():
        for loaded in read_paths(holder, name):
            assert same(written, loaded.value), (name, written, loaded.value)
            assert not loaded.is_dirty
        if not isinstance(value, (dict, list)) and value is not None:
            assert same(value, written)


def quiet(value: Any) -> Any:
    """A time of whole seconds at which the row has not expired."""
    return value.replace(year=3004, microsecond=0) if isinstance(value, datetime) else value


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_type_and_path(kind):
    with connect("sqlite://"):
        holder = holder_of(kind)

        @given(value=values | LIKELY.get(kind, values))
        @settings(deadline=None, max_examples=50, derandomize=True, suppress_health_check=list(HealthCheck))
        def run(value: Any) -> None:
            value = quiet(value) if kind == "ttl" else value
            for row in holder.scan():
                row.delete()
            check(holder, value, list(write_paths(holder, value)))

        run()


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_values_on_every_store(store, kind):
    holder = holder_of(kind)

    @given(value=values | LIKELY.get(kind, values))
    @settings(deadline=None, max_examples=4, derandomize=True, suppress_health_check=list(HealthCheck))
    def run(value: Any) -> None:
        value = quiet(value) if kind == "ttl" else value
        for row in holder.scan():
            row.delete()
        check(holder, value, ["save", "update", "batch"])

    run()
