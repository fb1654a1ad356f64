"""Changes of structured values: which are written, and what they keep of the stored value."""

from __future__ import annotations

import collections
import dataclasses
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from pydantic import BaseModel, ConfigDict, Field
from tests.behaviour.transacting import begun
from typing_extensions import NotRequired, TypedDict

from mintkey import Model, ModelConfig
from mintkey.attributes import JSONAttribute, ListAttribute, MapAttribute, NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError, InvalidValue

KINDS = [JSONAttribute, MapAttribute]


@dataclasses.dataclass
class Record:
    part: Any = None


class Document(BaseModel):
    part: Any = None


class Choice(BaseModel):
    part: int | bool | list[int | bool] | dict[str, int | bool] = 0


def model_of(kind: Any, of: Any, table: str = "holders") -> Any:
    class Holder(Model):
        model_config = ModelConfig(table=table)
        pk = StringAttribute(partition_key=True)
        value = kind(of)

    return Holder


EQUAL = [(1, True), (True, 1), (0, False), ([1, 0], [1, False]), ({"a": 0}, {"a": False})]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", [Record, Document, Choice])
@pytest.mark.parametrize(("before", "after"), EQUAL, ids=range(len(EQUAL)))
async def test_a_change_to_an_equal_value_of_another_type_is_written(do, kind, of, before, after):
    holder = model_of(kind, of)
    await do.save(holder(pk="a", value=of(part=before)))
    loaded = await do.get(holder, pk="a")
    loaded.value.part = after
    await do.save(loaded)
    assert not loaded.is_dirty
    assert repr((await do.get(holder, pk="a")).value.part) == repr(after)


async def test_a_change_of_an_integer_to_a_float_is_written_to_json(do):
    holder = model_of(JSONAttribute, Record)
    await do.save(holder(pk="a", value=Record([1])))
    loaded = await do.get(holder, pk="a")
    loaded.value = Record([1.0])
    await do.save(loaded)
    assert repr((await do.get(holder, pk="a")).value.part) == "[1.0]"


class Full(BaseModel):
    n: int
    note: str = ""


class Bare(BaseModel):
    n: int


#: The numbers before and after, and the note that each element has then. The notes before are "a", "b", "c", ...
LISTS: list[tuple[list[int], list[int], str]] = [
    ([1, 2], [2, 2], "ab"),
    ([1, 2], [7, 8], "--"),
    ([1, 2], [2, 3], "--"),
    ([1], [2], "a"),
    ([1, 2, 3], [1, 9, 3], "abc"),
    ([1, 2], [1, 2, 5], "ab-"),
    ([1, 2], [5, 1, 2], "-ab"),
    ([1, 2, 3], [2, 3], "bc"),
    ([1, 2, 3, 4], [2, 4], "bd"),
    ([1, 2, 3], [3, 2, 1], "cba"),
    ([1, 1, 2], [1, 2], "-c"),
    ([1, 1], [1, 1, 5], "ab-"),
    ([1], [1, 1], "--"),
    ([1, 1, 2], [1, 2, 5], "---"),
    ([1, 2, 3], [1, 5], "--"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("before", "after", "notes"), LISTS, ids=range(len(LISTS)))
async def test_unknown_fields_stay_only_with_the_element_that_had_them(do, kind, before, after, notes):
    full, bare = model_of(kind, list[Full]), model_of(kind, list[Bare])
    await do.save(full(pk="a", value=[Full(n=n, note="abcde"[index]) for index, n in enumerate(before)]))
    loaded = await do.get(bare, pk="a")
    loaded.value = [Bare(n=n) for n in after]
    await do.save(loaded)
    read = (await do.get(full, pk="a")).value
    assert [one.n for one in read] == after
    assert "".join(one.note or "-" for one in read) == notes


@pytest.mark.parametrize("kind", KINDS)
async def test_updates_by_keyword_keep_what_the_class_does_not_know(do, kind):
    full, bare = model_of(kind, Full), model_of(kind, Bare)
    await do.save(full(pk="a", value=Full(n=1, note="kept")))

    async def stored() -> tuple[int, str]:
        value = (await do.get(full, pk="a")).value
        return value.n, value.note

    loaded = await do.get(bare, pk="a")
    await do.update(loaded, value=Bare(n=2))
    assert (await stored(), loaded.value) == ((2, "kept"), Bare(n=2))
    assert not loaded.is_dirty
    await do.update_by_key(bare, "a", value=Bare(n=3))
    assert await stored() == (3, "kept")
    await do.update(bare(pk="a"), value=Bare(n=4), upsert=True)
    assert await stored() == (4, "kept")
    assert await do.update(bare.scan(), value=Bare(n=5)) == 1
    assert await stored() == (5, "kept")
    async with begun(do) as tx:
        tx.update_by_key(bare, "a", value=Bare(n=6))
    assert await stored() == (6, "kept")
    old = await do.update_by_key(bare, "a", value=Bare(n=7), return_old=True)
    assert (await stored(), old.value) == ((7, "kept"), Bare(n=6))
    await do.update_by_key(full, "a", value=None)
    await do.update_by_key(bare, "a", value=Bare(n=8))
    assert await stored() == (8, "")
    await do.update_by_key(bare, "b", value=Bare(n=1), upsert=True)
    assert (await do.get(bare, "b")).value == Bare(n=1)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    size: str = "small"


class BareCat(BaseModel):
    kind: Literal["cat"] = "cat"


class BareDog(BaseModel):
    kind: Literal["dog"] = "dog"


class OpenDog(BaseModel):
    model_config = ConfigDict(extra="allow")
    kind: Literal["dog"] = "dog"


class CatDict(TypedDict):
    kind: Literal["cat"]
    size: NotRequired[str]


class BareCatDict(TypedDict):
    kind: Literal["cat"]


class DogDict(TypedDict):
    kind: Literal["dog"]
    size: NotRequired[int]


UNIONS: list[tuple[Any, Any, Any, Any]] = [
    (Cat, BareCat | BareDog, Cat(size="big"), BareDog()),
    (Cat, BareCat | OpenDog, Cat(size="big"), OpenDog()),
    (CatDict, BareCatDict | DogDict, {"kind": "cat", "size": "big"}, {"kind": "dog"}),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("full", "union", "before", "after"), UNIONS, ids=range(len(UNIONS)))
async def test_another_member_of_a_union_gets_no_unknown_fields(do, kind, full, union, before, after):
    old, now, plain = model_of(kind, full), model_of(kind, union), model_of(kind, None)
    lists = model_of(kind, list[full], table="lists")  # type: ignore[valid-type]
    many = model_of(kind, list[union], table="lists")  # type: ignore[valid-type]
    await do.save(old(pk="a", value=before))
    await do.save(lists(pk="a", value=[before]))
    loaded, several = await do.get(now, pk="a"), await do.get(many, pk="a")
    loaded.value, several.value = after, [after]
    await do.save(loaded)
    await do.save(several)
    assert (await do.get(now, pk="a")).value == after
    assert (await do.get(many, pk="a")).value == [after]
    assert (await do.get(plain, pk="a")).value == {"kind": "dog"}


@pytest.mark.parametrize("kind", KINDS)
async def test_defaults_of_structured_values_are_instances(do, kind):
    class Older(Model):
        model_config = ModelConfig(table="defaults")
        pk = StringAttribute(partition_key=True)

    class Newer(Model):
        model_config = ModelConfig(table="defaults")
        pk = StringAttribute(partition_key=True)
        value = kind(Bare, default={"n": 5}, default_on_load=True)
        made = kind(list[Bare], default=lambda: [{"n": 6}], default_on_load=True)
        note = StringAttribute()

    await do.save(Older(pk="a"))
    loaded, fresh = await do.get(Newer, pk="a"), Newer(pk="b")
    assert (loaded.value, loaded.made) == (fresh.value, fresh.made) == (Bare(n=5), [Bare(n=6)])
    inserted = Newer(pk="c")
    await do.update(inserted, note="x", upsert=True)
    assert (inserted.value, inserted.made) == (Bare(n=5), [Bare(n=6)])


@pytest.mark.parametrize(
    ("kind", "default"), [(lambda **k: JSONAttribute(Bare, **k), {"n": "x"}), (NumberAttribute, "x")]
)
def test_a_default_of_a_wrong_type_is_refused_at_definition(kind, default):
    with pytest.raises(ConfigurationError, match=r"Wrong\.value: default=.* cannot be stored"):

        class Wrong(Model):
            pk = StringAttribute(partition_key=True)
            value = kind(default=default)


class Pair(NamedTuple):
    one: int
    two: str = "x"


@pytest.mark.parametrize("of", [Pair, Sequence[int], collections.deque[int], tuple[int, str], set[int]], ids=str)
def test_other_sequences_than_lists_take_no_elements(of):
    holder = model_of(MapAttribute, of)
    for change in (holder.value.append, holder.value.prepend):
        with pytest.raises(InvalidValue, match=r"Holder\.value\.(ap|pre)pend\(\)"):
            change([1])


Positive: Any = Annotated[int, Field(gt=0)]


@pytest.mark.parametrize("of", [list[Positive], list[Positive | None], dict[str, Positive]], ids=str)
def test_constraints_of_elements_hold_for_changes_of_one_element(of):
    path: Any = model_of(MapAttribute, of).value
    is_dict = typing.get_origin(of) is dict
    changes = [path["a"].set] if is_dict else [path[0].set, lambda one: path.append([1, one])]
    for change in changes:
        change(1)
        with pytest.raises(InvalidValue, match="greater than 0"):
            change(0)


@pytest.mark.parametrize("of", [Positive, Positive | None, Annotated[list[int], Field(max_length=1)]], ids=str)
def test_elements_with_constraints_that_would_not_be_checked_are_refused(of):
    for kind in (ListAttribute, MapAttribute):
        with pytest.raises(ConfigurationError, match=r"Holder\.value: .*Annotated is not checked in of="):
            model_of(lambda hint, kind=kind: kind(of=hint), of)
