"""One program on all stores at once: each step gives the same answer, or the same error, everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.behaviour.conftest import STORES

from mintkey import Index, Model, ModelConfig, connect
from mintkey.attributes import (
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
    VersionAttribute,
)
from mintkey.errors import MintkeyError

Step = Callable[[Any], Any]


def model_on(store: Any) -> Any:
    """The same model, on this store."""

    class Thing(Model):
        model_config = ModelConfig(table="things", store=store)

        pk = StringAttribute(partition_key=True)
        sk = NumberAttribute(sort_key=True)
        n = NumberAttribute()
        text = StringAttribute()
        listed = ListAttribute()
        data = MapAttribute()
        words = StringSetAttribute()
        version = VersionAttribute()
        by_text = Index(partition_key="text", sort_key="n")

    return Thing


# One model more, on no store at all, to build conditions and actions of: those know names and types alone.
T = model_on("nowhere")

keys = st.tuples(st.sampled_from(["a", "é", "%"]), st.sampled_from([0, 1, Decimal("1.5")]))
numbers = st.sampled_from([0, 1, -3, 7, Decimal("0.1"), Decimal(10) ** 30])
texts = st.sampled_from(["", "a", "ab", "é", "\0"])
indexed = st.sampled_from(["a", "ab", "é", "\0"])
anything = st.recursive(
    numbers | texts | st.none() | st.booleans() | st.just(b"b") | st.just({"s"}),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=3,
)
rows = st.fixed_dictionaries(
    {},
    optional={
        "n": numbers,
        "text": indexed,
        "listed": st.lists(anything, max_size=3),
        "data": st.dictionaries(st.sampled_from(["x", "y"]), anything, max_size=2),
        "words": st.sets(texts, min_size=1, max_size=2),
    },
)
anywhere = st.sampled_from([T.data["x"], T.data["y"], T.data["x"]["y"], T.listed[0], T.listed[1], T.data["x"][0]])
given_values = anything.filter(lambda value: value is not None)
tests = st.one_of(
    st.builds(lambda value: T.n == value, numbers),
    st.builds(lambda value: T.n != value, numbers),
    st.builds(lambda value: T.n < value, numbers),
    st.builds(lambda *bounds: T.n.between(*sorted(bounds)), numbers, numbers),
    st.builds(T.text.begins_with, texts),
    st.builds(T.text.contains, texts),
    st.builds(T.words.contains, texts),
    st.builds(lambda value: T.words.size() > value, st.integers(0, 2)),
    st.builds(lambda value: T.text.size() != value, st.integers(0, 2)),
    st.builds(lambda place, value: place == value, anywhere, given_values),
    st.builds(lambda place, value: place != value, anywhere, given_values),
    st.builds(lambda place, value: place >= value, anywhere, numbers | texts),
    st.builds(lambda place: place.exists(), anywhere),
    st.builds(lambda place, kind: place.is_type(kind), anywhere, st.sampled_from(["string", "map", "null"])),
    st.builds(T.text.does_not_exist),
    st.builds(T.n.is_in, st.lists(numbers, min_size=1, max_size=3)),
)
conditions = st.recursive(
    tests,
    lambda inner: (
        st.builds(lambda one, other: one & other, inner, inner)
        | st.builds(lambda one, other: one | other, inner, inner)
        | st.builds(lambda one: ~one, inner)
    ),
    max_leaves=3,
)
actions = st.one_of(
    st.builds(T.n.add, numbers),
    st.builds(T.text.set_if_absent, indexed),
    st.builds(T.listed.append, st.lists(anything, max_size=2)),
    st.builds(T.listed.prepend, st.lists(anything, max_size=2)),
    st.builds(T.words.add_to_set, st.sets(texts, min_size=1, max_size=2)),
    st.builds(T.words.delete_from_set, st.sets(texts, min_size=1, max_size=2)),
    st.builds(lambda place, value: place.set(value), anywhere, given_values),
    st.builds(lambda place: place.remove(), anywhere),
    st.builds(lambda place, value: place.add(value), anywhere, numbers),
    st.builds(lambda place, values: place.append(values), anywhere, st.lists(anything, max_size=2)),
    st.builds(lambda place, value: place.set_if_absent(value), anywhere, given_values),
)


def named(key: tuple[str, Any]) -> dict[str, Any]:
    return {"pk": key[0], "sk": key[1]}


def put(key: Any, row: Any, condition: Any) -> Step:
    return lambda model: model(**named(key), **row).save(condition=condition)


def create(key: Any, row: Any) -> Step:
    return lambda model: model.create(**named(key), **row).version


def change(key: Any, row: Any, condition: Any) -> Step:
    def step(model: Any) -> Any:
        thing = model.get(**named(key))
        if thing is None:
            return None
        for name, value in row.items():
            setattr(thing, name, value)
        thing.save(condition=condition)
        return thing.to_dict()

    return step


def update(key: Any, some: Any, row: Any, condition: Any, upsert: bool) -> Step:
    def step(model: Any) -> Any:
        return model.update_by_key(named(key), *some, condition=condition, upsert=upsert, **row)

    return step


def delete(key: Any, condition: Any) -> Step:
    def step(model: Any) -> Any:
        thing = model.get(**named(key))
        return None if thing is None else thing.delete(condition=condition)

    return step


def query(pk: str, some: Any, descending: bool, limit: Any) -> Step:
    return lambda model: [x.to_dict() for x in model.query(*some, pk=pk, descending=descending, limit=limit)]


def bounded(pk: str, low: Any, high: Any) -> Step:
    return lambda model: [x.sk for x in model.query(T.sk >= low, T.sk < high, pk=pk)]


def by_text(text: str, some: Any) -> Step:
    # Among equal keys of an index there is no order.
    return lambda model: sorted((x.n, x.pk, x.sk) for x in model.query(*some, text=text, index="by_text"))


def scan(some: Any) -> Step:
    return lambda model: sorted(((x.pk, x.sk) for x in model.scan(*some)), key=repr)


maybe = st.none() | conditions
some = st.lists(conditions, max_size=2)
steps = st.one_of(
    st.builds(put, keys, rows, maybe),
    st.builds(put, keys, rows, st.none()),
    st.builds(create, keys, rows),
    st.builds(change, keys, rows, maybe),
    st.builds(update, keys, st.lists(actions, max_size=2), rows, maybe, st.booleans()),
    st.builds(update, keys, st.lists(actions, min_size=1, max_size=1), st.just({}), st.none(), st.just(True)),
    st.builds(delete, keys, maybe),
    st.builds(query, st.sampled_from(["a", "é"]), some, st.booleans(), st.none() | st.integers(0, 3)),
    st.builds(bounded, st.sampled_from(["a", "é"]), numbers, numbers),
    st.builds(by_text, indexed, some),
    st.builds(scan, some),
    st.builds(lambda some: lambda model: model.count(*some), some),
)


def told(answer: Any) -> Any:
    """An answer such that `1` and `True`, and a list and a set, are different."""
    if isinstance(answer, dict):
        return {name: told(value) for name, value in answer.items()}
    if isinstance(answer, (list, tuple)):
        return [told(value) for value in answer]
    if isinstance(answer, (set, frozenset)):
        return ("set", sorted(map(repr, answer)))
    return (type(answer).__name__, answer)


def outcome(step: Step, model: Any) -> Any:
    """The answer of a step, or the kind of its error."""
    try:
        return told(step(model))
    except (MintkeyError, TypeError) as error:
        return type(error)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Iterator[list[Any]]:
    """The model on each store."""
    with ExitStack() as opened:
        folder = tmp_path_factory.mktemp("stores")
        yield [model_on(opened.enter_context(connect(STORES[name](folder), name=f"beside {name}"))) for name in STORES]


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(program=st.lists(steps, min_size=3, max_size=12))
def test_all_stores_give_the_same_answers(models, program):
    for model in models:
        model.create_table()
        model.batch_delete(model.scan())
    for number, step in enumerate(program):
        answers = [outcome(step, model) for model in models]
        assert all(answer == answers[0] for answer in answers), (number, dict(zip(STORES, answers, strict=True)))
    left = [sorted((told(thing.to_dict()) for thing in model.scan()), key=repr) for model in models]
    assert all(rows == left[0] for rows in left)
