"""Chains of results: the same rows as the same steps on a list of dicts, and what is refused."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mintkey import Model, ModelConfig, Q
from mintkey.attributes import (
    BinaryAttribute,
    CompressedAttribute,
    JSONAttribute,
    ListAttribute,
    NumberAttribute,
    StringAttribute,
    VersionAttribute,
)
from mintkey.errors import (
    BatchIncomplete,
    InvalidCursor,
    InvalidValue,
    WrongModel,
)
from mintkey.fields import AutoKeyField, Field, SortedField
from mintkey.hooks import after_load, before_delete, before_update

RAN: list[str] = []


class Person(Model):
    town = StringAttribute(partition_key=True)
    id = NumberAttribute(sort_key=True)
    name = StringAttribute(alias="n")
    age = NumberAttribute()
    team = StringAttribute(index=True)
    version = VersionAttribute()

    @after_load
    @before_update
    @before_delete
    def ran(self) -> None:
        RAN.append(f"{self.id}")


ROWS: list[dict[str, Any]] = [
    {"town": "Ulm", "id": 1, "name": "Ada", "age": 36, "team": "red"},
    {"town": "Ulm", "id": 2, "name": "adam", "age": 20, "team": "blue"},
    {"town": "Ulm", "id": 3, "name": "GRACE", "team": "red"},
    {"town": "Ulm", "id": 4, "age": 20},
    {"town": "Bonn", "id": 1, "name": "STRASSE", "age": 36, "team": "blue"},
    {"town": "Bonn", "id": 2, "name": "Straße", "age": 5, "team": "red"},
    {"town": "Bonn", "id": 3, "name": "a%_*", "age": 77},
]
COLUMNS = ("town", "id", "name", "age", "team")


@pytest.fixture
async def people(do):
    await do.batch_save(Person, [Person(**row) for row in ROWS])
    RAN.clear()


def keys(rows) -> list[tuple[Any, Any]]:
    return [(row.town, row.id) for row in rows]


def found(*ids: int) -> list[tuple[Any, Any]]:
    """The keys of rows by their positions in `ROWS`."""
    return [(ROWS[at]["town"], ROWS[at]["id"]) for at in ids]


# Against a list of dicts.

TESTS = {
    None: lambda mine, wanted: mine == wanted,
    "gt": lambda mine, wanted: mine > wanted,
    "lte": lambda mine, wanted: mine <= wanted,
    "in": lambda mine, wanted: mine in wanted,
    "startswith": lambda mine, wanted: mine.startswith(wanted),
    "contains": lambda mine, wanted: wanted in mine,
    "endswith": lambda mine, wanted: mine.endswith(wanted),
    "iexact": lambda mine, wanted: mine.casefold() == wanted.casefold(),
    "icontains": lambda mine, wanted: wanted.casefold() in mine.casefold(),
    "istartswith": lambda mine, wanted: mine.casefold().startswith(wanted.casefold()),
    "iendswith": lambda mine, wanted: mine.casefold().endswith(wanted.casefold()),
}


def matches(row: dict[str, Any], lookup: str, wanted: Any) -> bool:
    """Whether a row matches a lookup."""
    name, _, test = lookup.partition("__")
    mine = row.get(name)
    if test == "isnull":
        return (mine is None) is wanted
    if mine is None:
        return test == "ne"
    return mine != wanted if test == "ne" else bool(TESTS[test or None](mine, wanted))


words = st.sampled_from(["a", "A", "ada", "ss", "ß", "E", "straße", "red", "%", "dam"])
numbers = st.sampled_from([1, 2, 3, 5, 20, 36])
text_lookups = st.sampled_from(
    ["startswith", "contains", "endswith", "iexact", "icontains", "istartswith", "iendswith"]
)
lookups = st.one_of(
    st.tuples(st.tuples(st.sampled_from(["name", "team"]), text_lookups).map("__".join), words),
    st.tuples(st.sampled_from(["age", "id", "age__gt", "age__lte", "age__ne", "id__gt"]), numbers),
    st.tuples(st.just("id__in"), st.lists(numbers, max_size=3)),
    st.tuples(st.sampled_from(["team", "town", "team__ne"]), st.sampled_from(["red", "blue", "Ulm", "Bonn"])),
    st.tuples(st.sampled_from(["name__isnull", "age__isnull"]), st.booleans()),
)
# A tree of ("lookup", name, value), ("not", tree), ("and", tree, tree) and ("or", tree, tree).
trees: st.SearchStrategy[tuple[Any, ...]] = st.recursive(
    lookups.map(lambda one: ("lookup", *one)),
    lambda inner: st.one_of(st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or"]), inner, inner)),
    max_leaves=4,
)


def as_q(tree: tuple[Any, ...]) -> Q:
    kind, *parts = tree
    if kind == "lookup":
        return Q(**{parts[0]: parts[1]})
    if kind == "not":
        return ~as_q(parts[0])
    left, right = map(as_q, parts)
    return left & right if kind == "and" else left | right


def holds(tree: tuple[Any, ...], row: dict[str, Any]) -> bool:
    kind, *parts = tree
    if kind == "lookup":
        return matches(row, *parts)
    if kind == "not":
        return not holds(parts[0], row)
    return (all if kind == "and" else any)(holds(part, row) for part in parts)


def in_order(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """The rows in this order; rows without a value come last."""
    for name in reversed(names):
        column = name.removeprefix("-")
        rows = [
            *sorted((r for r in rows if r.get(column) is not None), key=lambda r: r[column], reverse=name[0] == "-"),
            *(r for r in rows if r.get(column) is None),
        ]
    return rows


def tuples(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row.get(name) for name in COLUMNS) for row in rows]


steps = st.lists(st.tuples(st.sampled_from(["filter", "exclude"]), trees), max_size=3)
orders = st.lists(
    st.sampled_from(["name", "-name", "age", "-age", "team", "-team"]), max_size=2, unique_by=lambda n: n[-3:]
)


async def test_chains_are_the_same_steps_on_a_list(do, people):
    settled = settings(
        max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    examples: list[Any] = []

    @settled
    @given(steps, orders, st.integers(0, 8), st.booleans())
    def collect(chain: Any, order: Any, limit: int, whole: bool) -> None:
        examples.append((chain, order, limit, whole))

    collect()
    for chain, order, limit, whole in examples:
        result, rows = Person.query.all() if whole else do.query(Person, town="Ulm"), list(ROWS)
        if not whole:
            rows = [row for row in rows if row["town"] == "Ulm"]
        for call, tree in chain:
            result = getattr(result, call)(as_q(tree))
            rows = [row for row in rows if holds(tree, row) is (call == "filter")]
        told = f"{chain} {order} {limit}"
        assert await do.count(result) == len(rows), told
        assert await do.exists(result) is bool(rows), told
        assert sorted(await do.iterate(result.values_list(*COLUMNS)), key=repr) == sorted(tuples(rows), key=repr), told
        total = [*order, "town", "id"]
        ordered = in_order(rows, total)
        result = result.order_by(*total)
        assert await do.iterate(result.values_list(*COLUMNS)) == tuples(ordered), told
        assert await do.iterate(result.limit(limit).values_list(*COLUMNS)) == tuples(ordered[:limit]), told
        assert await do.iterate(result[2:5].values_list(*COLUMNS)) == tuples(ordered[2:5]), told
        first, last = await do.first(result.values_list("id")), await do.last(result.values_list("id"))
        assert (first, last) == ((None, None) if not ordered else ((ordered[0]["id"],), (ordered[-1]["id"],))), told


async def test_pages_of_a_filter_that_the_client_evaluates(do, people):
    result = Person.query.filter(name__icontains="a", town="Ulm")
    whole = keys(await do.iterate(result))
    assert whole == found(0, 1, 2)
    for size in (1, 2, 3, 4):
        for offset, limit in ((0, None), (1, None), (0, 2), (1, 2)):
            part = result[offset : None if limit is None else offset + limit]
            expected = whole[offset : None if limit is None else offset + limit]
            got, cursor = [], None
            while True:
                page = await do.page(part, size, cursor)
                assert len(page.items) <= size
                got += keys(page.items)
                cursor = page.cursor
                if cursor is None:
                    break
                assert len(page.items) == size
            assert got == expected, (size, offset, limit)
            assert await do.count(part) == len(expected)
    cursor = (await do.page(result, 1)).cursor
    with pytest.raises(InvalidCursor):
        await do.page(Person.query.filter(name__icontains="b", town="Ulm"), 1, cursor)


async def test_many_rows_and_few_matches(do):
    await do.batch_save(Person, [Person(town="X", id=n, name=f"name {n}") for n in range(300)])
    result = do.query(Person, Q(name__endswith="99"), town="X")
    assert [row.id for row in await do.iterate(result)] == [99, 199, 299]
    assert [row.id for row in (await do.page(result, 2)).items] == [99, 199]
    assert [row.id for row in await do.iterate(result[1:2])] == [199]
    assert (await do.last(result)).id == 299
    assert await do.count(result) == 3
    for segments in (1, 4):
        scan = do.scan(Person, Q(name__iendswith="99"), segments=segments)
        assert sorted(row.id for row in await do.iterate(scan)) == [99, 199, 299]
        assert await do.count(scan) == 3
        assert len(await do.iterate(scan.limit(2))) == 2
        assert await do.count(scan.exclude(id=99)) == 2
    assert (await do.first(result)).id == 99


# Q.


async def test_q_goes_with_conditions(do, people):
    both = (Person.age > 30) & Q(name__istartswith="a")
    either = (Person.age > 70) | Q(name="Ada") | (Person.id == 4)
    assert keys(await do.iterate(do.query(Person, both, town="Ulm"))) == found(0)
    assert sorted(keys(await do.iterate(Person.query.filter(either)))) == sorted(found(0, 3, 6))
    assert await do.count(Person, Q(age__gt=30) & (Person.town == "Bonn")) == 2
    assert await do.count(Person.query.filter(Q())) == 7
    assert await do.count(Person.query.filter(~Q())) == 7
    assert await do.count(Person.query.exclude()) == 7
    assert await do.count(Person.query.filter(Q() | Q(age=36))) == 2
    assert await do.count(Person.query.filter(Q(Person.age == 36, town="Ulm"))) == 1
    assert await do.count(Person.query.exclude(age=36, town="Ulm")) == 6
    assert await do.count(Person.query.exclude(age__gt=0)) == 1


def test_what_a_q_refuses():
    with pytest.raises(TypeError, match="has no truth value"):
        bool(Q(age=1))
    with pytest.raises(TypeError, match="Q takes conditions, other Qs and lookups"):
        Q("age > 1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Q(age=1) & "x"  # type: ignore[operator]
    with pytest.raises(TypeError):
        Q(age=1) | 5  # type: ignore[operator]
    with pytest.raises(TypeError, match="no attribute 'aeg'"):
        Person.query.filter(Q(aeg=1))
    with pytest.raises(WrongModel):
        Person.query.filter(Q(Other.age == 1))
    with pytest.raises(InvalidValue, match="None means absent"):
        Person.query.filter(Q(age=None))
    deep = Q(age=1)
    for _ in range(15):
        deep = ~(deep & Q(age=2))
    with pytest.raises(InvalidValue, match="at most 32 levels"):
        ~(~(deep & Q(age=2)) & Q(age=2))
    many = Q(age=0)
    for age in range(200):
        many |= Q(age=age)
    assert Person.query.filter(many).explain()
    assert repr(Q(age__gt=1, name="x") & ~Q(Person.age == 2)) == "Q(age__gt=1, name='x', ~Q((Person.age == 2)))"
    assert repr(Q(age=1) | Q(age=2)) == "Q(age=1) | Q(age=2)"


class Other(Model):
    pk = StringAttribute(partition_key=True)
    age = NumberAttribute()
    blob = BinaryAttribute()
    packed = CompressedAttribute()
    words = ListAttribute()
    doc = JSONAttribute()


async def test_text_lookups_know_their_types(do):
    await do.save(Other(pk="a", blob=b"\x01\xff", age=5))
    assert await do.count(Other.query.filter(blob__endswith=b"\xff")) == 1
    assert await do.count(Other.query.filter(blob__endswith=b"\x01")) == 0
    for lookup, told in (
        ({"age__endswith": "5"}, r"Other\.age: the lookup __endswith works on string or binary attributes"),
        ({"blob__icontains": b"x"}, "the lookup __icontains works on string attributes"),
        ({"words__iexact": "x"}, "the lookup __iexact works on string attributes"),
        ({"packed__endswith": "x"}, "__endswith is not possible on a CompressedAttribute"),
        ({"pk__iexact": 5}, r"Other\.pk: expected str, got int"),
        ({"pk__endswith": None}, "None means absent"),
    ):
        with pytest.raises(InvalidValue, match=told):
            Other.query.filter(**lookup)
    with pytest.raises(TypeError, match=r"the lookups are .*__isnull, __endswith, __iexact"):
        Other.query.filter(pk__regex="x")


# Chains.


async def test_a_chain_uses_keys_and_indexes(do, people):
    by_key = Person.query.filter(age__gt=10).filter(town="Ulm").filter(id__lte=2)
    assert by_key.explain() == "query of table 'Person'; partition 'Ulm'; id <= 2; filter: (Person.age > 10)"
    assert keys(await do.iterate(by_key)) == found(0, 1)
    by_index = Person.query.exclude(age=20).filter(team="red")
    assert "index 'team'" in by_index.explain()
    assert sorted(keys(await do.iterate(by_index))) == sorted(found(0, 2, 5))
    kept = do.query(Person, town="Ulm").filter(team="red").order_by("-id")
    assert kept.explain().startswith("query of table 'Person'; partition 'Ulm'; filter:")
    assert keys(await do.iterate(kept)) == found(2, 0)
    assert keys(await do.iterate(kept.filter(age__gt=1))) == found(0)


def test_explain_says_what_runs_where():
    result = Person.query.filter(Q(name__icontains="a") | Q(age=1), town="Ulm", id__gt=1, age__lte=5).order_by(
        "name", "-age"
    )
    assert result.explain() == (
        "query of table 'Person'; partition 'Ulm'; id > 1; filter: (Person.age <= 5); "
        "evaluated by the client: (Person.name__icontains('a') | (Person.age == 1)); "
        "sorted in memory by 'name' and 'age'"
    )


async def test_order_by_several_attributes(do, people):
    assert keys(await do.iterate(Person.query.order_by("age", "-name"))) == [
        *found(5, 1, 3, 4, 0, 6),
        *found(2),
    ]
    assert keys(await do.iterate(Person.query.filter(age__gt=5).order_by("-age", "name")[1:4])) == found(0, 4, 1)
    assert keys(await do.iterate(do.query(Person, town="Ulm").order_by("-id").order_by())) == found(0, 1, 2, 3)
    later = do.query(Person, town="Ulm").order_by("-id").exclude(age=36)
    assert keys(await do.iterate(later)) == found(3, 2, 1)
    later = Person.query.order_by("age", "id").filter(town="Ulm")
    assert keys(await do.iterate(later)) == found(1, 3, 0, 2)
    some = do.query(Person, town="Ulm", attributes=["team"]).order_by("name")
    assert [row.team for row in await do.iterate(some)] == ["red", "red", "blue", None]


async def test_last(do, people):
    assert (await do.last(do.query(Person, town="Ulm"))).id == 4
    assert (await do.last(do.query(Person, town="Ulm", descending=True))).id == 1
    assert (await do.last(do.query(Person, town="Ulm").order_by("-id"))).id == 1
    assert (await do.last(do.query(Person, town="Ulm").order_by("age"))).id == 3
    assert await do.last(do.query(Person, town="nowhere")) is None
    assert await do.last(Person.query.all()) is not None
    assert (await do.last(do.query(Person, town="Ulm").values("name"))) == {"name": None}


async def test_exists(do, people):
    assert await do.exists(do.query(Person, town="Ulm"))
    assert not await do.exists(do.query(Person, town="nowhere"))
    assert await do.exists(Person.query, name__iexact="ADA")
    assert not await do.exists(Person.query, name__iexact="AD")
    assert await do.exists(do.query(Person, town="Ulm")[3:])
    assert not await do.exists(do.query(Person, town="Ulm")[4:])
    assert not await do.exists(do.query(Person, town="Ulm").limit(0))
    assert RAN == []


async def test_values(do, people):
    rows = do.query(Person, town="Ulm")
    assert await do.iterate(rows.values("name", "age")) == [
        {name: row.get(name) for name in ("name", "age")} for row in ROWS[:4]
    ]
    assert (await do.first(rows.values())) == {**ROWS[0], "version": 1}
    assert await do.all(rows.values_list("id", "team")) == [(1, "red"), (2, "blue"), (3, "red"), (4, None)]
    assert await do.all(rows.values_list("id", flat=True)) == [1, 2, 3, 4]
    assert (await do.page(rows.values("id"), 2)).items == [{"id": 1}, {"id": 2}]
    assert await do.all(rows.values("id").filter(team="red").order_by("-name")) == [{"id": 3}, {"id": 1}]
    assert await do.count(rows.values("id")) == 4
    assert RAN == []
    for call in (
        lambda: rows.values("nmae"),
        lambda: rows.values_list(5),
        lambda: rows.values_list("id", "age", flat=True),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError, match=r"values\(\) and values_list\(\) take names of attributes, not .*age"):
        rows.values(Person.age)


def test_values_of_blocking_results(store):
    Person(town="Ulm", id=1, name="Ada").save()
    rows = Person.query(town="Ulm").values("name")
    assert list(rows) == [{"name": "Ada"}]
    assert (len(rows), rows[0], rows[:1].all(), bool(rows)) == (1, {"name": "Ada"}, [{"name": "Ada"}], True)


async def test_what_a_limit_and_a_slice_refuse(do, people):
    for result in (
        do.query(Person, town="Ulm", limit=2),
        Person.query.all()[:2],
        Person.query.all()[2:],
        Person.query.all().limit(2),
    ):
        refused = r"\(\) is not possible on a slice, or on a result with a limit"
        for call in (result.filter, result.exclude):
            with pytest.raises(TypeError, match=refused):
                call(age=1)
        for call in (do.last, do.delete, functools.partial(do.update, age=1)):
            with pytest.raises(TypeError, match=refused):
                await call(result)
    for wrong in (-1, 1.5, "1", True, None):
        with pytest.raises(InvalidValue, match="limit"):
            Person.query.all().limit(wrong)  # type: ignore[arg-type]
    assert await do.count(Person) == 7
    assert await do.count(Person.query.all().limit(3).limit(5)) == 3


# Update and delete.


async def test_update_all_rows_of_a_result(do, people):
    assert await do.update(do.query(Person, town="Ulm").filter(age__gt=10), Person.age.add(1), team="green") == 3
    assert [row.age for row in await do.iterate(do.query(Person, town="Ulm"))] == [37, 21, None, 21]
    assert (await do.get(Person, "Ulm", 1)).version == 2
    assert await do.update(Person.query.filter(team="green"), team=None) == 3
    assert await do.update(Person.query.filter(team="green"), team="x") == 0
    assert await do.update(Person.query.filter(name__icontains="STRASSE"), name="street") == 2
    assert [row.name for row in await do.iterate(do.query(Person, town="Bonn"))] == ["street", "street", "a%_*"]
    assert await do.update(Person.query.all(), age=1) == 7
    with pytest.raises(TypeError, match="needs at least one value or action"):
        await do.update(Person.query.all())
    with pytest.raises(InvalidValue, match="a key cannot be updated"):
        await do.update(Person.query.all(), id=5)
    with pytest.raises(TypeError, match=r"update\(\) is not possible on values\(\)"):
        await do.update(Person.query.all().values("id"), age=1)


async def test_delete_all_rows_of_a_result(do, people):
    RAN.clear()
    assert await do.delete(Person.query.filter(name__istartswith="a", town="Ulm")) == 2
    assert keys(await do.iterate(do.query(Person, town="Ulm"))) == found(2, 3)
    RAN.clear()
    assert await do.delete(Person.query.filter(team="red")) == 2
    assert await do.delete(Person.query.filter(team="red")) == 0
    assert await do.delete(Person.query.all()) == 3
    assert await do.count(Person) == 0
    assert RAN == []


async def test_a_result_does_not_keep_items_that_it_writes(do, people):
    found = Person.query.filter(town="Ulm").order_by()
    before = await do.all(found)
    if do.blocking:
        assert len(found) == len(before)
    assert await do.update(found, age=99) == len(before) > 0
    assert {one.age for one in await do.all(found)} == {99}
    assert await do.delete(found) == len(before)
    assert await do.all(found) == []
    if do.blocking:
        assert len(found) == 0


async def test_a_row_that_moves_in_the_index_is_updated_once(do):
    class Score(Model):
        id = AutoKeyField()
        game = Field(type=str)
        points = SortedField(type=int, partition_by="game")

    for points in range(150):
        await do.create(Score, game="g", points=points)
    result = Score.query.filter(game="g", points__gte=0)
    assert "index 'points'" in result.explain()
    assert await do.update(result, Score.points.add(1000)) == 150
    assert sorted(await do.iterate(Score.query.all().values_list("points", flat=True))) == list(range(1000, 1150))


class Task(Model):
    pk = StringAttribute(partition_key=True)
    state = StringAttribute()
    n = NumberAttribute()


@pytest.mark.parametrize("lookup", [{"state": "open"}, {"state__iexact": "OPEN"}])
async def test_a_row_that_changes_meanwhile_is_written_only_if_it_still_matches(do, monkeypatch, lookup):
    for pk in "abcd":
        await do.save(Task(pk=pk, state="open", n=0))
    from mintkey.results import row_writes

    write = row_writes.RowWriteMixin._write_row
    meanwhile: dict[str, dict[str, Any]] = {"a": {"state": "done"}, "b": {"state": "Open"}, "c": {"n": 5}}

    def late(self: Any, row: Any, writing: Any) -> Any:
        # Another writer changes the row after it was read.
        if row.pk in meanwhile:
            yield from _update(row.pk, meanwhile[row.pk])
        return (yield from write(self, row, writing))

    monkeypatch.setattr(row_writes.RowWriteMixin, "_write_row", late)
    changed = await do.update(Task.query.filter(**lookup), Task.n.add(100))
    states = {task.pk: (task.state, task.n) for task in await do.iterate(do.scan(Task))}
    again = "state__iexact" in lookup
    assert states == {
        "a": ("done", 0),
        "b": ("Open", 100 if again else 0),
        "c": ("open", 105),
        "d": ("open", 100),
    }
    assert changed == (3 if again else 2)
    meanwhile = {"c": {"state": "done"}}
    deleted = await do.delete(Task.query.filter(**lookup))
    assert sorted(task.pk for task in await do.iterate(do.scan(Task))) == (["a", "c"] if again else ["a", "b", "c"])
    assert deleted == (2 if again else 1)


def _update(pk: str, values: dict[str, Any]) -> Any:
    from mintkey.operations import arguments, updates

    schema = Task.__mintkey_schema__
    key, known = arguments.key(schema, {"pk": pk})
    return updates.update_by_key(schema, key, known, arguments.changes(schema, (), values))


async def test_filters_that_dynamodb_does_not_take_in_writes(do):
    for pk in "abc":
        await do.save(Other(pk=pk, age=ord(pk), doc={"x": 1, "y": [pk]}))
    many = Other.query.filter(age__in=range(98, 300))
    assert "on DynamoDB evaluated by the client" in many.explain()
    assert await do.update(many, Other.age.add(1)) == 2
    assert await do.update(Other.query.filter(Other.doc == {"y": ["a"], "x": 1}), age=5) == 1
    assert await do.delete(Other.query.filter(doc={"y": ["b"], "x": 1})) == 1
    assert sorted(await do.all(Other.query.all().values_list("pk", "age"))) == [("a", 5), ("c", 100)]


async def test_a_failing_row_stops_no_other(do):
    class Tagged(Model):
        model_config = ModelConfig(table="tagged")
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute()

    class Raw(Model):
        model_config = ModelConfig(table="tagged")
        pk = StringAttribute(partition_key=True)
        n = StringAttribute()

    await do.save(Tagged(pk="a", n=1))
    await do.save(Raw(pk="b", n="x"))
    await do.save(Tagged(pk="c", n=1))
    with pytest.raises(BatchIncomplete) as caught:
        await do.update(Tagged.query.all(), Tagged.n.add(1))
    assert caught.value.written == 2
    assert [row.pk for row, _ in caught.value.failed] == ["b"]
