"""What conditions mean: DynamoDB's own judgement, beside that of the evaluator that the other stores run.

Each condition is asked three times, of the same items: through this store, which sends it as an expression; through
boto3, which makes an expression of its own; and of the evaluator, which sees the stored items and no server.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from boto3.dynamodb.conditions import Attr, Key, NotEquals
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mintkey import Model, ModelConfig
from mintkey.attributes import MapAttribute, NumberAttribute, StringAttribute
from mintkey.errors import ConditionFailed


class Row(Model):
    model_config = ModelConfig(table="rows")

    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    data = MapAttribute()
    touched = NumberAttribute()


class Question(NamedTuple):
    """One condition, as it is written here and as boto3 writes it."""

    ours: Any
    theirs: Any


texts = st.sampled_from(["", "a", "ab", "b", "é", "aé", "e\u0301", "\U0001f600", "\0", "10", "None"])
numbers = st.sampled_from([0, 1, 2, 3, -1, 10, Decimal("0.5"), Decimal("1.50"), Decimal(10) ** 20])
blobs = st.sampled_from([b"", b"a", b"ab", b"\0", b"\xff", b"\x80a"])
scalars = texts | numbers | blobs | st.booleans()
sets = st.sets(texts, min_size=1, max_size=3) | st.sets(numbers, min_size=1, max_size=3) | st.sets(blobs, min_size=1)
leaves = scalars | sets
values = st.recursive(
    leaves | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "é"]), inner, max_size=2),
    max_leaves=4,
)
items = st.dictionaries(st.sampled_from(["a", "b", "l"]), values, max_size=3)
operands = values.filter(lambda value: value is not None)
paths = st.sampled_from([("a",), ("b",), ("l",), ("l", 0), ("l", 1), ("a", "x"), ("l", 0, "x"), ("b", "y", 0), ("no",)])
sizes = st.integers(0, 5)
TYPES = {
    "string": "S", "number": "N", "binary": "B", "boolean": "BOOL", "null": "NULL", "list": "L", "map": "M",
    "string_set": "SS", "number_set": "NS", "binary_set": "BS",
}  # fmt: skip
COMPARED = [("eq", operator.eq), ("ne", operator.ne)]
ORDERED = [("lt", operator.lt), ("lte", operator.le), ("gt", operator.gt), ("gte", operator.ge)]


def ours(path: tuple[Any, ...]) -> Any:
    place: Any = Row.data
    for step in path:
        place = place[step]
    return place


def theirs(path: tuple[Any, ...]) -> Any:
    return Attr("data" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path))


def asked(method: str, theirs_method: str | None = None) -> Callable[..., Question]:
    """A question that both spell as a method."""

    def build(path: tuple[Any, ...], *operands: Any) -> Question:
        return Question(
            getattr(ours(path), method)(*operands), getattr(theirs(path), theirs_method or method)(*operands)
        )

    return build


def compared(path: tuple[Any, ...], how: tuple[str, Any], value: Any) -> Question:
    return Question(how[1](ours(path), value), getattr(theirs(path), how[0])(value))


def sized(path: tuple[Any, ...], how: tuple[str, Any], value: int) -> Question:
    size = theirs(path).size()
    return Question(
        how[1](ours(path).size(), value), NotEquals(size, value) if how[0] == "ne" else getattr(size, how[0])(value)
    )


def typed(path: tuple[Any, ...], name: str) -> Question:
    return Question(ours(path).is_type(name), theirs(path).attribute_type(TYPES[name]))


kinds: list[st.SearchStrategy[Any]] = [texts, numbers, blobs]
bounds = st.one_of(*(st.lists(kind, min_size=2, max_size=2).map(sorted) for kind in kinds))
tests = st.one_of(
    st.builds(compared, paths, st.sampled_from(COMPARED), operands),
    st.builds(compared, paths, st.sampled_from(ORDERED), texts | numbers | blobs),
    st.builds(lambda path, pair: asked("between")(path, *pair), paths, bounds),
    st.builds(asked("is_in"), paths, st.lists(operands, min_size=1, max_size=3)),
    st.builds(asked("begins_with"), paths, texts | blobs),
    st.builds(asked("contains"), paths, scalars | st.lists(scalars, max_size=2)),
    st.builds(asked("exists"), paths),
    st.builds(asked("does_not_exist", "not_exists"), paths),
    st.builds(typed, paths, st.sampled_from(sorted(TYPES))),
    st.builds(sized, paths, st.sampled_from(COMPARED + ORDERED), sizes),
)
questions = st.recursive(
    tests,
    lambda inner: (
        st.builds(lambda one, other: Question(one.ours & other.ours, one.theirs & other.theirs), inner, inner)
        | st.builds(lambda one, other: Question(one.ours | other.ours, one.theirs | other.theirs), inner, inner)
        | st.builds(lambda one: Question(~one.ours, ~one.theirs), inner)
    ),
    max_leaves=4,
)


@pytest.fixture
def table(store, prefix, service):
    Row.create_table()
    yield service.Table(f"{prefix}rows")
    Row.delete_table()


# The tables are the same for all examples; each example has a partition.
@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(found=st.lists(items, min_size=2, max_size=8), wanted=st.lists(questions, min_size=1, max_size=5))
def test_three_judges_agree(table, found, wanted):
    pk = str(uuid.uuid4())
    Row.batch_save(Row(pk=pk, sk=number, data=data) for number, data in enumerate(found))
    rows = Row.query(pk=pk, consistent=True).all()
    assert [row.sk for row in rows] == list(range(len(found)))
    codec: Any = Row.__mintkey_schema__.codec
    stored = [codec.encode(vars(row)) for row in rows]
    for question in wanted:
        judged = [number for number, item in enumerate(stored) if question.ours.matches(item)]
        here = [row.sk for row in Row.query(question.ours, pk=pk, consistent=True)]
        page = table.query(
            KeyConditionExpression=Key("pk").eq(pk), FilterExpression=question.theirs, ConsistentRead=True
        )
        there = [int(item["sk"]) for item in page["Items"]]
        assert (judged, here) == (there, there), question.ours
        assert Row.query(question.ours, pk=pk, consistent=True).count() == len(there)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=items, question=questions)
def test_a_write_asks_the_same_question(table, data, question):
    row = Row(pk=str(uuid.uuid4()), sk=1, data=data)
    row.save()
    codec: Any = Row.__mintkey_schema__.codec
    holds = question.ours.matches(codec.encode(vars(row)))
    try:
        row.update(touched=1, condition=question.ours)
    except ConditionFailed:
        assert not holds, question.ours
    else:
        assert holds, question.ours


SIZES = [
    "",
    "a",
    "é",
    "aé",
    "\U0001f600",
    "e\u0301",
    "日本",
    b"",
    b"\xff\x00",
    [],
    [1, 2],
    {},
    {"x": 1},
    pytest.param({"s", "t"}, id="two texts"),
    {1},
]


@pytest.mark.parametrize("value", SIZES, ids=repr)
def test_sizes(table, value):
    table.put_item(Item={"pk": "p", "sk": 1, "data": {"a": value}})
    # The server counts text in the units of UTF-16.
    expected = len(value.encode("utf-16-le")) // 2 if isinstance(value, str) else len(value)
    for size in range(8):
        found = table.query(KeyConditionExpression=Key("pk").eq("p"), FilterExpression=Attr("data.a").size().eq(size))
        assert found["Count"] == (size == expected)
        assert Row.query(Row.data["a"].size() == size, pk="p").count() == (size == expected)


KINDS: list[Any] = ["a", 1, b"a", True, False, None, [1], {"x": 1}, {"a"}, {1}, {b"a"}]


@pytest.mark.parametrize("held", KINDS, ids=repr)
def test_values_of_other_types_are_different_and_have_no_order(table, held):
    table.put_item(Item={"pk": "p", "sk": 1, "data": {"a": held}})

    def found(question: Any) -> int:
        page = table.query(KeyConditionExpression=Key("pk").eq("p"), FilterExpression=question)
        return int(page["Count"])

    for value in KINDS:
        if value is None:
            continue
        same = type(held) is type(value) and held == value
        assert Row.query(Row.data["a"] == value, pk="p").count() == found(Attr("data.a").eq(value)) == same
        assert Row.query(Row.data["a"] != value, pk="p").count() == found(Attr("data.a").ne(value)) == (not same)
        if type(value) in {str, bytes, int}:
            assert Row.query(Row.data["a"] <= value, pk="p").count() == found(Attr("data.a").lte(value)) == same
