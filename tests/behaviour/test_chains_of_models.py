"""Chains of results of a model with a configuration, a projected index, templates or a discriminator."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mintkey import Index, Model, ModelConfig, Q
from mintkey.attributes import DatetimeAttribute, ListAttribute, NumberAttribute, StringAttribute, TTLAttribute
from mintkey.errors import ConfigurationError, KeyCollision, NotLoaded, UnreadableItem
from mintkey.hooks import before_update
from mintkey.testing import frozen

RAN: list[str] = []


# The configuration of a model.


class Post(Model):
    model_config = ModelConfig(table="posts", order_by=("-stars", "id"))
    blog = StringAttribute(partition_key=True)
    id = NumberAttribute(sort_key=True)
    stars = NumberAttribute()
    kind = StringAttribute()
    by_kind = Index(partition_key="kind", sort_key="id")


async def test_the_default_order_of_a_model(do):
    await do.batch_save(Post, [Post(blog="b", id=n, stars=stars, kind="k") for n, stars in enumerate((1, 3, 3, 2))])
    assert [post.id for post in await do.iterate(Post.by_kind.query(kind="k"))] == [0, 1, 2, 3]
    for result in (do.query(Post, blog="b"), Post.query.all(), Post.query.filter(stars__gt=0)):
        assert [post.id for post in await do.iterate(result)] == [1, 2, 3, 0]
        assert (await do.first(result)).id == 1
        assert (await do.last(result)).id == 0
        assert [post.id for post in await do.iterate(result.exclude(id=2))] == [1, 3, 0]
        assert [post.id for post in await do.iterate(result.order_by("id"))] == [0, 1, 2, 3]
    assert [post.id for post in await do.iterate(do.query(Post, blog="b", descending=True))] == [3, 2, 1, 0]
    assert [post.id for post in await do.iterate(do.query(Post, blog="b", limit=2))] == [1, 2]
    assert len((await do.page(do.query(Post, blog="b").order_by(), 3)).items) == 3
    with pytest.raises(TypeError, match=r"sorted in memory by 'stars' and 'id' has no pages.*order_by\(\) without"):
        await do.page(do.query(Post, blog="b"), 3)
    assert "sorted" not in do.scan(Post).explain()


@pytest.mark.parametrize("wrong", ["colour", ["-colour"], "tags", [], 5, [5]])
def test_a_wrong_default_order_is_refused_at_definition(wrong):
    with pytest.raises(ConfigurationError, match=r"Wrong: ModelConfig\(order_by="):

        class Wrong(Model):
            model_config = ModelConfig(order_by=wrong)
            pk = StringAttribute(partition_key=True)
            tags = ListAttribute()


async def test_the_default_ttl_of_a_model(do):
    from datetime import timedelta

    class Timed(Model):
        model_config = ModelConfig(abstract=True, ttl=timedelta(hours=2))
        pk = StringAttribute(partition_key=True)
        expires_at = TTLAttribute()

    class Session(Timed):
        pass

    class Short(Timed):
        model_config = ModelConfig(ttl=timedelta(minutes=1))

    # DynamoDB itself deletes items that expired by its own clock.
    with frozen("2100-01-01T00:00:00Z") as clock:
        session, short = Session(pk="a"), Short(pk="a")
        await do.save(session)
        await do.save(short)
        assert (session.expires_in, short.expires_in) == (timedelta(hours=2), timedelta(minutes=1))
        own = Session(pk="b", expires_at=None)
        await do.save(own)
        assert own.expires_in is None
        clock.advance(3600)
        assert await do.exists(Session, "a")
        assert not await do.exists(Short, "a")
        clock.advance(3600)
        assert not await do.exists(Session, "a")
        assert await do.exists(Session, "b")
    with pytest.raises(ConfigurationError, match=r"ModelConfig\(ttl=…\) needs an attribute.*TTLAttribute"):

        class Without(Model):
            model_config = ModelConfig(ttl=timedelta(hours=1))
            pk = StringAttribute(partition_key=True)

    for wrong in (5, timedelta(), timedelta(-1)):
        with pytest.raises(ConfigurationError, match="ttl= takes a positive timedelta"):
            ModelConfig(ttl=wrong)  # type: ignore[arg-type]


async def test_a_client_filter_and_a_projected_index(do):
    class Slim(Model):
        pk = StringAttribute(partition_key=True)
        team = StringAttribute()
        name = StringAttribute()
        by_team = Index(partition_key="team", projection="keys")

    await do.save(Slim(pk="abc", team="red", name="x"))
    assert [row.pk for row in await do.iterate(Slim.by_team.query(Q(pk__iendswith="C"), team="red"))] == ["abc"]
    assert await do.all(Slim.by_team.query(team="red").values()) == [{"pk": "abc", "team": "red"}]
    with pytest.raises(ConfigurationError, match=re.escape("does not contain 'name'")):
        Slim.by_team.query(team="red").filter(name__iexact="x")
    (row,) = await do.iterate(do.query(Slim, Q(name__iexact="X"), pk="abc", attributes=["pk"]))
    with pytest.raises(NotLoaded):
        row.team  # noqa: B018


# Together with templates and discriminators.


class Line(Model):
    model_config = ModelConfig(table="chained_lines")
    pk = StringAttribute(partition_key=True, template="ORDER#{order}")
    sk = StringAttribute(sort_key=True, template="LINE#{n:03d}")
    order = StringAttribute()
    n = NumberAttribute()
    text = StringAttribute()


async def test_chains_of_keys_that_are_built_from_templates(do):
    for n in range(5):
        item, created = await do.get_or_create(Line, order="a", n=n, defaults={"text": f"Line {n}"})
        assert (created, item.sk) == (True, f"LINE#00{n}")
    assert (await do.get_or_create(Line, order="a", n=1))[1] is False
    assert (await do.update_or_create(Line, order="a", n=4, defaults={"text": "last"}))[0].text == "last"
    with pytest.raises(TypeError, match="needs the whole key in its lookup, order=…, n=…, and n is missing"):
        await do.get_or_create(Line, order="a")
    with pytest.raises(TypeError, match="'pk' is a part of the key"):
        await do.get_or_create(Line, order="a", n=1, defaults={"pk": "x"})
    assert (await do.get(Line, "a", 1)).text == "Line 1"
    assert (await do.exists(Line, "a", 1), await do.exists(Line, "a", 9)) == (True, False)
    lines = do.query(Line, order="a")
    assert "sk == 'LINE#002'" in lines.filter(n=2).explain()
    assert "partition 'ORDER#a'" in Line.query.filter(text__icontains="LINE").filter(order="a").explain()
    assert await do.all(lines.exclude(text__istartswith="line").values_list("n", flat=True)) == [4]
    assert (await do.last(lines)).n == 4
    assert await do.update(lines.filter(text__iexact="LINE 0"), text="first") == 1
    assert await do.update(lines, text="all") == 5
    await do.delete_by_key(Line, ("a", 0))
    assert await do.delete(lines.filter(n__gt=3)) == 1
    assert await do.all(lines.values("n")) == [{"n": n} for n in (1, 2, 3)]


class Pet(Model):
    model_config = ModelConfig(table="chained_pets")
    name = StringAttribute(partition_key=True)
    kind = StringAttribute(discriminator=True)
    age = NumberAttribute()


class Dog(Pet):
    barks = NumberAttribute()

    @before_update
    def updating(self) -> None:
        RAN.append("dog")


class Cat(Pet):
    sleeps = NumberAttribute()


async def test_chains_of_classes_with_a_discriminator(do):
    await do.save(Dog(name="rex", age=3, barks=5))
    await do.save(Cat(name="tom", age=3, sleeps=20))
    await do.save(Pet(name="nemo", age=1))
    assert await do.all(Dog.query.filter(age__gt=0).order_by("-age").values_list("name", flat=True)) == ["rex"]
    assert [type(pet) for pet in await do.iterate(Pet.query.all().order_by("age", "-name"))] == [Pet, Cat, Dog]
    assert [await do.exists(model, "tom") for model in (Pet, Cat, Dog)] == [True, True, False]
    with pytest.raises(KeyCollision, match=r'Dog "tom": a row with this key in table .* is of another class'):
        await do.get_or_create(Dog, name="tom")
    RAN.clear()
    dog, created = await do.update_or_create(Pet, name="rex", defaults={"age": 4})
    assert (type(dog), dog.age, dog.barks, created, RAN) == (Dog, 4, 5, False, ["dog"])
    assert await do.update(Dog.query.all(), barks=6) == 1
    assert await do.update(Pet.query.filter(Q(name__iendswith="M") | Q(age=1)), age=9) == 2
    assert await do.delete(Dog.query.all()) == 1
    assert sorted(await do.all(Pet.query.all().values_list("name", "age"))) == [("nemo", 9), ("tom", 9)]


# Items that cannot be read.


class Reading(Model):
    model_config = ModelConfig(table="chained_readings")
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute(sort_key=True)
    name = StringAttribute()
    at = DatetimeAttribute()


async def test_chains_go_past_items_that_cannot_be_read(do, raw):
    other = raw(Reading, name=StringAttribute(), at=StringAttribute())
    for n in range(6):
        await do.save(Reading(pk="a", n=n, name=f"N{n % 2}"))
    await do.save(other(pk="a", n=2, name="N0", at="never"))
    skipped: list[Any] = []
    rows = do.query(Reading, pk="a", on_unreadable=skipped.append).filter(name__iexact="n0")
    assert [row.n for row in await do.iterate(rows)] == [0, 4]
    assert [row.n for row in await do.iterate(rows.limit(2))] == [0, 4]
    assert [row.n for row in await do.iterate(rows.order_by("-name", "-n"))] == [4, 0]
    page = await do.page(rows, 1)
    assert [row.n for row in page.items] == [0]
    assert [row.n for row in (await do.page(rows, 2, page.cursor)).items] == [4]
    key = skipped[0].key
    assert {error.key["n"] for error in skipped} == {2}
    # Counting and exists() do not load the items. Writes leave such a row alone.
    assert await do.count(rows) == 3
    assert await do.exists(rows.filter(n=2))
    assert await do.exists(Reading, key)
    assert await do.update(rows.filter(n=2), name="n2") == 0
    with pytest.raises(UnreadableItem):
        await do.get(Reading, key)
    await do.delete_by_key(Reading, key)
    assert not await do.exists(Reading, "a", 2)
    assert await do.delete(rows) == 2
