"""`Model.query`: lookups, what serves them, order, and the logs of what nothing serves."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mintkey import Model, ModelConfig
from mintkey.errors import InvalidValue
from mintkey.fields import (
    AutoFieldMixin,
    AutoKeyField,
    Field,
    IndexedField,
    IntField,
    KeyField,
    SortedField,
    SortedKeyField,
)
from mintkey.hooks import after_load
from mintkey.queries import Result
from mintkey.testing import frozen


class Product(Model):
    id = AutoKeyField(strategy="ulid")
    name = Field()
    country = KeyField()
    shop = IndexedField()
    price = SortedField(type=float)
    weight = SortedField(type=int, partition_by="country", null=True)
    rank = SortedField(type=int, partition_by=("country", "shop"), null=True)
    tags = Field(type=list)


ROWS: list[dict[str, Any]] = [
    {"name": "ash", "country": "DE", "shop": "A", "price": 5.0, "weight": 1, "rank": 3, "tags": ["x"]},
    {"name": "beech", "country": "DE", "shop": "B", "price": 1.5, "weight": 2, "rank": 2},
    {"name": "birch", "country": "DE", "shop": "A", "price": 3.0, "weight": 9, "rank": 1, "tags": ["x", "y"]},
    {"name": "cedar", "country": "FR", "shop": "A", "price": 9.0, "weight": 4, "rank": 1},
    {"name": "fir", "country": "FR", "shop": "B", "price": 7.0},
    {"name": "oak", "price": 2.0},
]


@pytest.fixture
async def rows(do):
    return [await do.create(Product, **row) for row in ROWS]


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, logger="mintkey.queries")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "mintkey.queries"]


def names(items) -> list[str]:
    return [item.name for item in items]


# Lookups.


@pytest.mark.parametrize(
    ("lookup", "found"),
    [
        ({"country": "DE"}, "ash beech birch"),
        ({"country": "DE", "shop": "A"}, "ash birch"),
        ({"price__gt": 5.0}, "cedar fir"),
        ({"price__gte": 5}, "ash cedar fir"),
        ({"price__lt": 3.0}, "beech oak"),
        ({"price__lte": 3.0}, "beech birch oak"),
        ({"price__gte": 2.0, "price__lt": 5.0}, "birch oak"),
        ({"price__between": (2.0, 5.0)}, "ash birch oak"),
        ({"price": 9.0}, "cedar"),
        ({"country__ne": "DE"}, "cedar fir oak"),
        ({"name__in": ["oak", "ash", "nothing"]}, "ash oak"),
        ({"name__startswith": "b"}, "beech birch"),
        ({"name__contains": "r"}, "birch cedar fir"),
        ({"tags__contains": "x"}, "ash birch"),
        ({"country__isnull": True}, "oak"),
        ({"country__isnull": False}, "ash beech birch cedar fir"),
        ({"country": "DE", "weight__gte": 2}, "beech birch"),
        ({"country": "DE", "shop": "A", "rank__lt": 3}, "birch"),
        ({}, "ash beech birch cedar fir oak"),
    ],
)
async def test_lookups(do, rows, lookup, found):
    result = Product.query.filter(**lookup)
    assert sorted(names(await do.all(result))) == found.split()
    assert await do.count(Product.query, **lookup) == len(found.split())
    first = await do.first(Product.query, **lookup)
    assert first.name in found.split()


async def test_filter_takes_conditions_too(do, rows):
    both = Product.query.filter((Product.price > 6) | (Product.name == "oak"), country__isnull=False)
    assert sorted(names(await do.all(both))) == ["cedar", "fir"]


@pytest.mark.parametrize(
    "lookup",
    [{"colour": "red"}, {"colour__gt": 1}, {"price__above": 1}, {"price__": 1}, {"__gt": 1}],
)
def test_a_name_or_lookup_that_does_not_exist(lookup):
    with pytest.raises(TypeError, match="Product"):
        Product.query.filter(**lookup)


@pytest.mark.parametrize("values", ["DE", b"DE", 5, {"DE": 1}], ids=repr)
def test_in_takes_several_values(values):
    with pytest.raises(TypeError, match="Product: country__in= takes a list of values"):
        Product.query.filter(country__in=values)
    assert Product.query.filter(country__in={"DE"}).explain() == Product.query.filter(country__in=("DE",)).explain()


@pytest.mark.parametrize("lookup", ["country", "country__ne", "country__in", "country__startswith"])
async def test_comparing_with_none_names_the_lookup_that_asks_for_absence(do, rows, lookup):
    with pytest.raises(InvalidValue, match=r"Product\.country: .*country__isnull=True") as caught:
        Product.query.filter(**{lookup: None})
    assert (caught.value.model, caught.value.attribute) == ("Product", "country")
    with pytest.raises(InvalidValue, match=r"country__isnull=True"):
        await do.get(Product.query, **{lookup: None})


def test_what_a_text_cannot_contain_is_refused():
    with pytest.raises(InvalidValue, match=r"Product\.name: expected str, got int"):
        Product.query.filter(name__contains=3)
    with pytest.raises(InvalidValue, match=r"Product\.name: expected str, got bytes"):
        Product.name.contains(b"r")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["*", "?", "%", "_", "[a-z]", "D*", "D%", ".*", "DE\0", "de", "None"])
async def test_no_value_is_a_pattern(do, rows, value):
    assert await do.all(Product.query.filter(country=value)) == []
    assert await do.all(Product.query.filter(name__startswith=value)) == []
    assert await do.all(Product.query.filter(name__contains=value)) == []
    assert await do.get(Product, id=value) is None
    assert await do.get(Product.query, id=value) is None


async def test_values_that_look_like_patterns_are_found_as_they_are(do):
    strange = ["*", "a*b", "%", "_", "[x]", "\\", "'", '"', "a\0b", "é"]
    for name in strange:
        await do.create(Product, name=name, country=name, price=1.0)
    for name in strange:
        assert names(await do.all(Product.query.filter(country=name))) == [name]


async def test_absent_and_the_text_none_are_two_things(do):
    text = await do.create(Product, name="text", country="None", price=1.0)
    absent = await do.create(Product, name="absent", price=1.0)
    assert await do.all(Product.query.filter(country="None")) == [text]
    assert await do.all(Product.query.filter(country__isnull=True)) == [absent]


# What is found through which index.


@pytest.mark.parametrize(
    ("lookup", "index"),
    [
        ({"country": "DE"}, "country"),
        ({"shop": "A"}, "shop"),
        ({"price__gte": 1}, "price"),
        ({"price__between": (1, 2)}, "price"),
        ({"price": 1.0}, "price"),
        ({"country": "DE", "weight__gt": 1}, "weight"),
        ({"country": "DE", "shop": "A", "rank__gt": 1}, "rank"),
    ],
)
async def test_an_index_serves(do, rows, logged, lookup, index):
    result = Product.query.filter(**lookup)
    assert f"index {index!r}" in result.explain()
    await do.all(result)
    assert logged() == []


@pytest.mark.parametrize("lookup", [{"name": "ash"}, {"weight__gt": 1}, {"country__ne": "DE"}, {"tags__contains": "x"}])
async def test_a_filter_that_no_index_serves_scans_and_logs_it(do, rows, logged, lookup):
    result = Product.query.filter(**lookup)
    await do.all(result)
    assert "scan of table 'Product'" in result.explain()
    (message,) = logged()
    assert message.startswith("Product: no index can be used for ")


async def test_an_index_that_lacks_items_does_not_serve_what_asks_for_them(do, rows):
    """`weight` may be absent, and such an item is not in its index."""
    await do.create(Product, name="weightless", country="DE", price=1.0)

    class Only(Model):
        model_config = ModelConfig(table="only")
        id = AutoKeyField()
        land = Field()
        weight = SortedField(type=int, partition_by="land", null=True)

    bare = await do.create(Only, land="DE")
    full = await do.create(Only, land="DE", weight=1)
    assert {item.id for item in await do.all(Only.query.filter(land="DE"))} == {bare.id, full.id}
    in_order = await do.all(Only.query.filter(land="DE").order_by("weight"))
    assert [item.id for item in in_order] == [full.id, bare.id]


async def test_an_index_follows_what_is_stored(do):
    product = await do.create(Product, name="a", country="DE", price=1.0)
    stale = await do.get(Product, id=product.id)
    product.country = "FR"
    await do.save(product)
    assert await do.all(Product.query.filter(country="DE")) == []
    stale.price = 2.0
    await do.save(stale)  # knows the old country, and did not change it
    assert await do.all(Product.query.filter(country="DE")) == []
    assert [item.price for item in await do.all(Product.query.filter(country="FR"))] == [2.0]
    await do.update(product, country=None)
    assert await do.all(Product.query.filter(country="FR")) == []
    await do.delete(product)
    assert await do.all(Product.query.filter(price__gte=0)) == []


# Get, all, count, first, create.


async def test_query_get(do, rows):
    assert await do.get(Product.query, id=rows[0].id) == rows[0]
    assert await do.get(Product.query, name="oak") == rows[5]
    assert await do.get(Product.query, name="nothing") is None
    assert await do.get(Product.query, price__gt=8.0) == rows[3]
    with pytest.raises(InvalidValue, match="found several items: use filter"):
        await do.get(Product.query, country="DE")


async def test_filter_and_all_give_the_lazy_result_of_a_query(do, rows):
    assert isinstance(Product.query.filter(country="DE"), Result)
    assert isinstance(Product.query.all(), Result)
    assert isinstance(Product.query(shop="A"), Result)
    everything = Product.query.all()
    assert sorted(names(await do.iterate(everything))) == sorted(row["name"] for row in ROWS)
    page = await do.page(everything, 4)
    rest = await do.page(everything, 4, page.cursor)
    assert len(page.items) == 4
    assert sorted(names([*page.items, *rest.items])) == sorted(row["name"] for row in ROWS)


async def test_create_sets_saves_and_returns(do):
    product = await do.create(Product, name="a", price=1.0)
    assert isinstance(product, Product)
    assert not product.is_dirty
    assert await do.get(Product, id=product.id) == product
    with pytest.raises(TypeError, match="'nmae'"):
        await do.create(Product, nmae="a", price=1.0)


# Order.


async def test_order_by_an_auto_key_is_chronological(do):
    class TimeKey(AutoKeyField):
        pass

    class Ulids(Model):
        id = TimeKey(strategy="ulid")
        n = IntField()

    class Ksuids(Model):
        id = TimeKey(strategy="ksuid")
        n = IntField()

    with frozen("2024-01-01T00:00:00Z", seed=1) as clock:
        for model in (Ulids, Ksuids):
            for n in range(30):
                await do.create(model, n=n)
                if n % 3 == 0:
                    clock.advance(0.4)
    for model in (Ulids, Ksuids):
        assert [item.n for item in await do.all(model.query.order_by("id"))] == list(range(30))
        assert [item.n for item in await do.all(model.query.order_by("-id"))] == list(range(29, -1, -1))
        assert [item.n for item in await do.all(model.query.filter(n__gte=25).order_by("-id"))] == [29, 28, 27, 26, 25]
        assert [item.n for item in await do.iterate(model.query.order_by("-id")[2:5])] == [27, 26, 25]
        assert (await do.first(model.query.order_by("-id"))).n == 29


async def test_a_sorted_field_orders_as_it_reads(do, rows, logged):
    assert names(await do.all(Product.query.order_by("price"))) == ["beech", "oak", "birch", "ash", "fir", "cedar"]
    assert names(await do.all(Product.query.order_by("-price"))) == ["cedar", "fir", "ash", "birch", "oak", "beech"]
    assert names(await do.all(Product.query.filter(price__gt=2).order_by("-price"))) == ["cedar", "fir", "ash", "birch"]
    assert names(await do.all(Product.query.filter(country="DE", weight__gt=0).order_by("weight"))) == [
        "ash",
        "beech",
        "birch",
    ]
    assert logged() == []


async def test_the_index_that_orders_is_taken_where_several_serve(do, logged):
    class Sale(Model):
        id = AutoKeyField()
        country = KeyField()
        total = SortedField(type=int, partition_by="country")

    for total in (3, 1, 2):
        await do.create(Sale, country="DE", total=total)
        await do.create(Sale, country="FR", total=total * 10)
    lookup = Sale.query.filter(country="DE").order_by("-total")
    assert [sale.total for sale in await do.all(lookup)] == [3, 2, 1]
    assert "index 'total'" in lookup.explain()
    assert "in memory" not in lookup.explain()
    assert logged() == []


async def test_an_order_that_no_index_gives_is_sorted_in_memory_and_logged(do, rows, logged):
    assert names(await do.all(Product.query.order_by("name"))) == ["ash", "beech", "birch", "cedar", "fir", "oak"]
    assert logged() == ["Product: no index has the order of 'name'; the items are sorted in memory"]
    assert names(await do.iterate(Product.query.order_by("-name")[:2])) == ["oak", "fir"]
    by_weight = await do.all(Product.query.order_by("weight"))
    assert [item.weight for item in by_weight] == [1, 2, 4, 9, None, None]
    with pytest.raises(TypeError, match="has no order"):
        Product.query.order_by("tags")
    with pytest.raises(TypeError, match="'colour'"):
        Product.query.order_by("colour")


# Composition.


class TimeId(AutoFieldMixin, SortedField):
    pass


async def test_a_sorted_auto_field_keeps_its_index_and_answers_ranges(do, logged):
    class Reading(Model):
        id = AutoKeyField()
        at = TimeId(strategy="ulid")

    made = [await do.create(Reading) for _ in range(6)]
    since = Reading.query.filter(at__gte=made[3].at)
    assert "index 'at'" in since.explain()
    assert {item.id for item in await do.all(since)} == {item.id for item in made[3:]}
    assert await do.all(Reading.query.order_by("at")) == made
    assert await do.all(Reading.query.order_by("-at")) == made[::-1]
    assert logged() == []


async def test_a_sorted_auto_field_within_a_partition(do):
    class Step(Model):
        id = AutoKeyField()
        job = Field()
        at = TimeId(strategy="ksuid", partition_by="job")

    made = [await do.create(Step, job=job) for job in "abab"]
    lookup = Step.query.filter(job="a", at__gt=made[0].at)
    assert "index 'at'" in lookup.explain()
    assert await do.all(lookup) == [made[2]]


async def test_a_sorted_auto_key_answers_ranges(do, logged):
    class SortedId(TimeId, AutoKeyField):
        pass

    class Event(Model):
        id = SortedId(strategy="ulid")

    made = [await do.create(Event) for _ in range(5)]
    since = Event.query.filter(id__gt=made[1].id)
    assert {item.id for item in await do.all(since)} == {item.id for item in made[2:]}
    assert "index 'id'" in since.explain()
    assert logged() == []


async def test_a_sorted_key_field(do):
    class Round(Model):
        player = KeyField()
        number = SortedKeyField(type=int)

    for number in (10, 9, 100):
        await do.create(Round, player="a", number=number)
    assert [item.number for item in await do.all(Round.query.order_by("number"))] == [9, 10, 100]
    assert [item.number for item in await do.all(Round.query.filter(number__gte=10).order_by("-number"))] == [100, 10]
    assert (await do.get(Round, player="a", number=9)).number == 9


async def test_first_reads_no_more_than_it_gives(do):
    loaded: list[int | None] = []

    class Counted(Model):
        id = AutoKeyField()
        n = SortedField(type=int)

        @after_load
        def count_it(self):
            loaded.append(self.n)

    for n in range(200):
        await do.create(Counted, n=n)
    assert (await do.first(Counted.query.order_by("-n"))).n == 199
    assert (await do.first(Counted.query, n__gt=10)).n == 11
    assert loaded == [199, 11]
