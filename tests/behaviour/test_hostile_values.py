"""Values whose own methods lie, raise, or change what is saved: they are refused by a typed error, or stored whole."""

from __future__ import annotations

import functools
import operator
import pickle
from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest

from mintkey import Model, ModelConfig, pipeline
from mintkey.attributes import (
    CompressedAttribute,
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    NumberSetAttribute,
    StringAttribute,
    StringSetAttribute,
)
from mintkey.errors import BatchIncomplete, ConditionFailed, InternalError, InvalidValue


class Thing(Model):
    pk = StringAttribute(partition_key=True)
    text = StringAttribute()
    number = NumberAttribute()
    things = ListAttribute()
    data = MapAttribute()
    words = StringSetAttribute()
    numbers = NumberSetAttribute()
    json = JSONAttribute()
    packed = CompressedAttribute()


class LongList(list):  # type: ignore[type-arg]
    """Reports more elements than memory could hold."""

    def __len__(self) -> int:
        return 1 << 62


class ShortList(list):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 0


class EndlessList(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        while True:
            yield 1


class LongTuple(tuple):  # type: ignore[type-arg]
    __slots__ = ()

    def __len__(self) -> int:
        return 1 << 62


class LongDict(dict):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 1 << 62


class LongSet(set):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 1 << 62


class EmptySet(set):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 0


class Negative(list):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return -1  # noqa: PLE0303 - that is what is tried


class Alike(str):
    """Different keys of one text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class Changing(list):  # type: ignore[type-arg]
    """Calls something while its elements are read."""

    def __init__(self, change: Callable[[], object]) -> None:
        super().__init__([1])
        self.change = change

    def __iter__(self) -> Any:
        self.change()
        return super().__iter__()


class LyingInt(int):
    """Reports other digits than it has."""

    def __format__(self, spec: str) -> str:
        return "7"

    def __str__(self) -> str:
        return "7"

    def bit_length(self) -> int:
        return 1

    def __int__(self) -> int:
        return 7

    def __index__(self) -> int:
        return 7


class LyingDecimal(Decimal):
    """Reports other digits than it has."""

    def __str__(self) -> str:
        return "7"

    def __format__(self, *_: object) -> str:
        return "7"


def grows() -> Any:
    data: dict[str, Any] = {"a": 1, "b": None, "c": 3}
    data["b"] = Changing(lambda: data.update(d=4))
    return data


def shrinks() -> Any:
    data: dict[str, Any] = {"a": 1, "b": None, "c": 3}
    data["b"] = Changing(data.clear)
    return data


def swaps() -> Any:
    data: dict[str, Any] = {"a": None}

    def swap() -> None:
        del data["a"]
        data["x"] = 1

    data["a"] = Changing(swap)
    return data


def inner() -> Any:
    return [{"deep": grows()}]


def list_grows() -> Any:
    things: list[Any] = [None, 1]
    things[0] = Changing(lambda: things.append(1))
    return things


REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("things", lambda: LongList([1, 2])),
    ("things", lambda: ShortList([1, 2])),
    ("things", lambda: EndlessList([1, 2])),
    ("things", lambda: Negative([1, 2])),
    ("things", lambda: LongTuple((1, 2))),
    ("things", lambda: [[LongList([1, 2])]]),
    ("things", list_grows),
    ("things", inner),
    ("data", lambda: LongDict(a=1)),
    ("data", lambda: {"a": LongDict(a=1)}),
    ("data", lambda: {Alike("k"): 1, Alike("k"): 2}),
    ("data", grows),
    ("data", shrinks),
    ("data", swaps),
    ("words", lambda: LongSet({"a"})),
    ("words", lambda: EmptySet({"a"})),
]


async def ways_in(do, name: str, make: Callable[[], Any]) -> None:
    """Every way of a value into the store refuses it, and leaves the store as it was."""
    attribute = getattr(Thing, name)
    stored = await do.get(Thing, pk="kept")
    calls = [
        lambda: do.save(Thing(pk="new", **{name: make()})),
        lambda: do.create(Thing, pk="new", **{name: make()}),
        lambda: do.update(stored, **{name: make()}),
        lambda: do.update_by_key(Thing, {"pk": "kept"}, **{name: make()}),
        lambda: do.update_by_key(Thing, {"pk": "new"}, upsert=True, **{name: make()}),
        lambda: do.update(stored, attribute.set(make())),
        lambda: do.update(stored, attribute.set_if_absent(make())),
        lambda: do.update(stored, Thing.data["x"].set(make())),
        lambda: do.update(stored, Thing.things.append([make()])),
        lambda: do.save(Thing(pk="kept"), condition=attribute == make()),
        lambda: do.save(Thing(pk="kept"), condition=Thing.data["x"] != make()),
        lambda: do.save(Thing(pk="kept"), condition=Thing.data["x"].is_in([make()])),
        lambda: do.save(Thing(pk="kept"), condition=Thing.things.contains(make())),
        lambda: do.all(do.scan(Thing, attribute == make())),
        lambda: do.save(Thing(pk="new", **{name: make()}), pipeline=pipeline()),
    ]
    for call in calls:
        with pytest.raises(InvalidValue):
            await call()
    with pytest.raises(BatchIncomplete) as incomplete:
        await do.batch_save(Thing, [Thing(pk="new", **{name: make()}), Thing(pk="fine")])
    ((_, error),) = incomplete.value.failed
    assert isinstance(error, InvalidValue)
    assert error.attribute == name
    changed = await do.get(Thing, pk="kept")
    setattr(changed, name, make())
    assert name in changed.changed
    assert changed.is_dirty
    setattr(changed, name, make())
    with pytest.raises(InvalidValue, match=name):
        await do.save(changed)
    assert {item.pk for item in await do.all(do.scan(Thing))} == {"kept", "fine"}
    assert (await do.get(Thing, pk="kept")).to_dict() == {"pk": "kept", "text": "kept"}


@pytest.mark.parametrize(("name", "make"), REFUSED, ids=[f"{name}-{index}" for index, (name, _) in enumerate(REFUSED)])
async def test_a_container_that_lies_or_changes_is_refused_on_every_way(do, name, make):
    await do.save(Thing(pk="kept", text="kept"))
    await ways_in(do, name, make)


@pytest.mark.parametrize(
    "number", [LyingInt(5), LyingInt(10**30), LyingDecimal("1.5"), LyingDecimal("-1e30")], ids=repr
)
async def test_numbers_are_stored_by_their_value_whatever_their_methods_return(do, number):
    thing = Thing(pk="a", things=[number], data={"a": number}, numbers={number})
    await do.save(thing)
    loaded = await do.get(Thing, pk="a")
    exact = int.__add__(number, 0) if isinstance(number, int) else Decimal.__add__(number, Decimal(0))
    assert (loaded.things, loaded.data, loaded.numbers) == ([exact], {"a": exact}, {exact})


async def test_what_changed_is_said(do):
    with pytest.raises(InvalidValue, match=r"Thing\.data.*dict changed during save"):
        await do.save(Thing(pk="a", data=grows()))
    with pytest.raises(InvalidValue, match=r"Thing\.things.*LongList changed during save"):
        await do.save(Thing(pk="a", things=LongList([1])))


class Bad(Exception):
    """Somebody else's exception."""


class Raising(list):  # type: ignore[type-arg]
    def __init__(self, error: BaseException) -> None:
        super().__init__([1])
        self.error = error

    def __iter__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("name", ["things", "data"])
async def test_a_panic_is_an_exception_like_others(do, name):
    """What a mistake in the Rust code raises reaches `except Exception`, and a batch goes on."""
    kinds = [kind for kind in BaseException.__subclasses__() if kind.__name__ == "PanicException"]
    wrapped = {"things": lambda inner: inner, "data": lambda inner: {"a": inner}}[name]
    seen = 0
    for kind in kinds:
        # Another package with a Rust core has a class of its own, which is passed on as any exception.
        with pytest.raises((InternalError, kind)) as caught:
            await do.save(Thing(pk="a", **{name: wrapped(Raising(kind("as a mistake would")))}))
        if not isinstance(caught.value, InternalError):
            continue
        seen += 1
        assert caught.value.outcome == "unknown"
        assert "report" in str(caught.value)
        bad = Thing(pk="a", **{name: wrapped(Raising(kind("again")))})
        with pytest.raises(BatchIncomplete) as incomplete:
            await do.batch_save(Thing, [bad, Thing(pk="b")])
        assert isinstance(incomplete.value.failed[0][1], InternalError)
    assert seen == 1
    assert [item.pk for item in await do.all(do.scan(Thing))] == ["b"]


async def test_an_exception_of_the_value_itself_is_passed_on(do):
    with pytest.raises(Bad):
        await do.save(Thing(pk="a", things=Raising(Bad("mine"))))
    with pytest.raises(InvalidValue, match="no such thing") as caught:
        await do.save(Thing(pk="a", things=Raising(ValueError("no such thing"))))
    assert isinstance(caught.value.__cause__, ValueError)


class Shouting(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "other"

    def encode(self, *_: Any) -> Any:
        return "no bytes"

    def replace(self, *_: Any) -> Any:
        raise Bad

    def __eq__(self, other: object) -> bool:
        raise Bad

    __hash__ = str.__hash__


async def test_a_text_of_a_class_of_its_own_is_its_characters(do):
    await do.save(Thing(pk=Shouting("key"), text=Shouting("text"), packed=Shouting("packed")))
    loaded = await do.get(Thing, pk="key")
    assert (loaded.text, loaded.packed) == ("text", "packed")
    assert await do.count(Thing, Thing.text == Shouting("text")) == 1


async def test_a_condition_keeps_the_value_it_was_built_with(do):
    await do.save(Thing(pk="a", things=[1]))
    wanted: list[Any] = [1]
    condition, change = Thing.things == wanted, Thing.things.append(wanted)
    wanted.append(LongList())
    assert await do.count(Thing, condition) == 1
    await do.update_by_key(Thing, {"pk": "a"}, change)
    assert (await do.get(Thing, pk="a")).things == [1, 1]


class Hinting:
    """Not a container, and reports more elements than memory could hold."""

    def __iter__(self) -> Any:
        return iter([1, 2])

    def __length_hint__(self) -> int:
        return 1 << 62


class LongFrozenSet(frozenset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 1 << 62


class HugeSet(set):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 10**30


class NegativeSet(set):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return -1  # noqa: PLE0303 - that is what is tried


@pytest.mark.parametrize(
    "values", [LongSet({1, 2}), LongFrozenSet({1, 2}), HugeSet({1, 2}), NegativeSet({1, 2}), Hinting()]
)
async def test_values_are_read_whatever_length_is_reported(do, values):
    await do.save(Thing(pk="a", number=2, things=[0]))
    await do.update_by_key(Thing, {"pk": "a"}, Thing.things.append(values))
    await do.update_by_key(Thing, {"pk": "a"}, Thing.things.prepend(values))
    assert (await do.get(Thing, pk="a")).things == [1, 2, 0, 1, 2]
    await do.update_by_key(Thing, {"pk": "a"}, Thing.numbers.add_to_set(values))
    assert (await do.get(Thing, pk="a")).numbers == {1, 2}
    assert await do.count(Thing, Thing.number.is_in(values)) == 1


def test_is_in_reads_no_more_values_than_it_takes():
    with pytest.raises(InvalidValue, match="at most 100,000 values"):
        Thing.number.is_in(EndlessList())
    for values in (LongList([1, 2]), Negative([1, 2])):
        assert repr(Thing.number.is_in(values)) == repr(Thing.number.is_in(1, 2))


# Depth.


def nested(levels: int) -> Any:
    deep: list[Any] = []
    for _ in range(levels):
        deep = [deep]
    return deep


def taken_apart(deep: Any) -> None:
    """The interpreter's own recursion is no part of a test."""
    while deep:
        deep = deep.pop()


def deepest(step: Callable[[Any], Any], start: Any) -> Any:
    """What 20,000 steps come to before they are refused."""
    reached = [start]

    def climb() -> None:
        for _ in range(20_000):
            reached.append(step(reached[-1]))

    with pytest.raises(InvalidValue, match=r"at most 3[12] (levels|steps)"):
        climb()
    return reached[-1]


async def test_deep_conditions_are_refused(do):
    await do.save(Thing(pk="a", number=1))
    inverted = deepest(lambda condition: ~condition, Thing.number == 1)
    mixed = deepest(lambda condition: (condition & (Thing.number == 1)) | (Thing.number == 2), Thing.number == 1)
    # What was built up to there works in every way.
    even = functools.reduce(lambda condition, _: ~condition, range(30), Thing.number == 1)
    for deep, found in ((inverted, 0), (even, 1), (mixed, 1)):
        for same in (deep, deepcopy(deep), pickle.loads(pickle.dumps(deep))):
            assert repr(same)
            assert await do.count(Thing, same) == found
            assert await do.count(Thing, same, number=1) == found
            if found:
                await do.save(Thing(pk="a", number=1), condition=same)
            else:
                with pytest.raises(ConditionFailed):
                    await do.save(Thing(pk="a", number=1), condition=same)


async def test_long_chains_of_conditions_work(do):
    await do.batch_save(Thing, [Thing(pk="a", number=1), Thing(pk="b", number=5_000)])
    unlike = functools.reduce(operator.and_, [Thing.number != n for n in range(2, 3_000)])
    assert {item.pk for item in await do.all(do.scan(Thing, unlike))} == {"a", "b"}
    one_of = functools.reduce(operator.or_, [Thing.number == n for n in range(2_000, 5_001)])
    assert [item.pk for item in await do.all(do.scan(Thing, one_of))] == ["b"]
    assert await do.count(Thing, ~one_of, unlike) == 1


@pytest.mark.parametrize("levels", [31, 1_000, 100_000])
async def test_deep_values_are_refused_on_every_way(do, levels):
    await do.save(Thing(pk="kept", text="kept"))
    for deep in (nested(levels), {"a": nested(levels)}):
        name = "things" if isinstance(deep, list) else "data"
        attribute = getattr(Thing, name)
        for call in (
            lambda: do.save(Thing(pk="a", **{name: deep})),  # noqa: B023 - used at once
            lambda: do.update_by_key(Thing, {"pk": "kept"}, **{name: deep}),  # noqa: B023
            lambda: do.update_by_key(Thing, {"pk": "kept"}, attribute.set(deep)),  # noqa: B023
            lambda: do.update_by_key(Thing, {"pk": "kept"}, Thing.data["a"].set(deep)),  # noqa: B023
            lambda: do.all(do.scan(Thing, attribute == deep)),  # noqa: B023
            lambda: do.all(do.scan(Thing, Thing.data["a"] == deep)),  # noqa: B023
        ):
            with pytest.raises(InvalidValue, match="levels"):
                await call()
        taken_apart(deep if isinstance(deep, list) else deep.pop("a"))


@pytest.mark.parametrize("shape", ["list", "dict"])
async def test_deep_json_is_refused_or_read_back(do, shape):
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep] if shape == "list" else {"a": deep}
    item = Thing(pk="a", json=deep)
    for call in (
        lambda: do.save(item),
        lambda: do.all(do.scan(Thing, Thing.json == deep)),
        lambda: do.update_by_key(Thing, {"pk": "kept"}, json=deep),
    ):
        with pytest.raises(InvalidValue, match=r"Thing\.json"):
            await call()
    with pytest.raises(BatchIncomplete) as incomplete:
        await do.batch_save(Thing, [item, Thing(pk="b")])
    assert isinstance(incomplete.value.failed[0][1], InvalidValue)
    item.json = None
    while isinstance(deep, (list, dict)):
        deep = deep.pop() if isinstance(deep, list) else deep.pop("a")
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidValue, match=r"Thing\.json"):
        await do.save(Thing(pk="a", json=circle))


async def test_deep_json_of_another_program_is_an_error_that_names_it(do):
    class Text(Model):
        model_config = ModelConfig(table="texts")
        pk = StringAttribute(partition_key=True)
        json = StringAttribute()

    class Deep(Model):
        model_config = ModelConfig(table="texts")
        pk = StringAttribute(partition_key=True)
        json = JSONAttribute()

    await do.save(Text(pk="a", json="[" * 100_000 + "]" * 100_000))
    for call in (lambda: do.get(Deep, pk="a"), lambda: do.all(do.scan(Deep))):
        with pytest.raises(InvalidValue, match=r"Deep\.json"):
            await call()
    loaded = await do.get(Text, pk="a")
    loaded.json = "[1]"
    await do.save(loaded)
    assert (await do.get(Deep, pk="a")).json == [1]


async def test_paths_end_where_values_do(do):
    await do.save(Thing(pk="a", data={"a": 1}))
    for step, start in (("a", Thing.data), (0, Thing.things)):
        path = deepest(lambda path: path[step], start)  # noqa: B023 - used at once
        assert await do.count(Thing, path.exists()) == 0
    with pytest.raises(InvalidValue, match="maximum index"):
        Thing.things[10**30]


# Surrogates and huge numbers.

HALF = "a\ud800"


async def test_half_characters_are_refused_everywhere(do):
    await do.save(Thing(pk="kept", text="kept"))
    calls: list[Callable[[], Any]] = [
        lambda: do.save(Thing(pk=HALF)),
        lambda: do.get(Thing, pk=HALF),
        lambda: do.all(do.query(Thing, pk=HALF)),
        lambda: do.update_by_key(Thing, {"pk": HALF}, text="x"),
        lambda: do.save(Thing(pk="a", text=HALF)),
        lambda: do.save(Thing(pk="a", packed=HALF)),
        lambda: do.save(Thing(pk="a", data={HALF: 1})),
        lambda: do.save(Thing(pk="a", json=[HALF])),
        lambda: do.save(Thing(pk="a", json={HALF: 1})),
        lambda: do.save(Thing(pk="a", json="\ud83d\ude00")),
        lambda: do.save(Thing(pk="a", words={HALF})),
        lambda: do.all(do.scan(Thing, Thing.text == HALF)),
        lambda: do.all(do.scan(Thing, Thing.packed == HALF)),
        lambda: do.all(do.scan(Thing, Thing.text.begins_with(HALF))),
        lambda: do.all(do.scan(Thing, Thing.text.contains(HALF))),
        lambda: do.all(do.scan(Thing, Thing.words.contains(HALF))),
        lambda: do.all(do.scan(Thing, Thing.text.is_in(HALF))),
        lambda: do.all(do.scan(Thing, Thing.data[HALF] == 1)),
        lambda: do.all(do.scan(Thing, Thing.data["a"] == HALF)),
        lambda: do.all(do.scan(Thing, Thing.text.is_type(HALF))),  # type: ignore[arg-type]
        lambda: do.update_by_key(Thing, {"pk": "kept"}, Thing.data[HALF].set(1)),
        lambda: do.update_by_key(Thing, {"pk": "kept"}, Thing.words.add_to_set({HALF})),
        lambda: do.page(Thing.scan(), 1, HALF),
    ]
    for call in calls:
        with pytest.raises(InvalidValue):
            await call()
    for wrong in ({HALF: 1}, {"pk": "a", HALF: 1}):
        with pytest.raises(TypeError, match="no attribute"):
            await do.get(Thing, **wrong)
        with pytest.raises(TypeError, match="no attribute"):
            Thing(**wrong)
    with pytest.raises(TypeError, match="no attribute"):
        do.scan(Thing, attributes=[HALF])


HUGE = 10**30


async def test_huge_numbers_are_refused_or_mean_what_they_say(do):
    await do.batch_save(Thing, [Thing(pk=pk, things=[1]) for pk in "abc"])
    assert await do.count(Thing, Thing.things.size() < HUGE) == 3
    assert await do.count(Thing, Thing.things.size() > -HUGE) == 3
    with pytest.raises(InvalidValue):
        await do.count(Thing, Thing.things.size() < 10**200)
    for wrong in (HUGE, 10**5_000, -1, 1.5, True):
        with pytest.raises(InvalidValue, match="limit="):
            do.scan(Thing, limit=wrong)
        with pytest.raises(InvalidValue, match="size="):
            await do.page(Thing.scan(), wrong)
        with pytest.raises(InvalidValue, match="segments="):
            do.scan(Thing, segments=wrong)
    largest = 2**63 - 1
    page = await do.page(Thing.scan(limit=largest), 2)
    rest = await do.page(Thing.scan(limit=largest), largest, page.cursor)
    assert len(page) + len(rest) == 3
    assert len(await do.all(Thing.scan()[:HUGE])) == 3
    assert await do.all(Thing.scan()[HUGE:]) == []
    page = await do.page(Thing.scan()[:HUGE], 2)
    assert len(await do.page(Thing.scan()[:HUGE], 2, page.cursor)) == 1


@pytest.mark.parametrize("kind", [LongTuple, LongList, ShortList])
async def test_keys_and_names_of_attributes_have_the_elements_that_they_give(do, kind):
    await do.create(Thing, pk="a")
    assert [item.pk for item in await got(do, kind(["a"]))] == ["a"]
    assert [item.pk for item in await do.iterate(do.query(Thing, pk="a", attributes=kind(["pk"])))] == ["a"]


async def test_a_key_without_an_end_is_refused(do):
    with pytest.raises(TypeError, match="a key is a dict or a tuple"):
        await got(do, EndlessList())


async def got(do: Any, key: Any) -> list[Any]:
    if do.blocking:
        return list(Thing.batch_get([key]))
    return [item async for item in Thing.abatch_get([key])]
