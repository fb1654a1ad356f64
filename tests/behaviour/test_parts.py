"""Reads of parts of maps: `attributes=[User.address["city"]]`. A part is never written as the whole map."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from tests.behaviour.transacting import begun

from mintkey import Index, Model, ModelConfig
from mintkey.attributes import (
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    StringAttribute,
    VersionAttribute,
)
from mintkey.errors import ConfigurationError, InvalidValue, NotLoaded, WrongModel
from mintkey.hooks import before_update


class Street(Model):
    model_config = ModelConfig(abstract=True)
    name = StringAttribute(required=True)
    number = NumberAttribute()


class User(Model):
    id = StringAttribute(partition_key=True)
    team = StringAttribute(index=True)
    email = StringAttribute(unique=True)
    address: Any = MapAttribute(alias="addr")
    scores: Any = MapAttribute(of=NumberAttribute(), default=dict)
    tags: Any = ListAttribute()
    street: Any = MapAttribute(Street)
    note = StringAttribute()
    settings: Any = JSONAttribute()
    by_note = Index("note", projection=["scores"])


ADDRESS = {"city": "Paris", "zip": "75001", "geo": {"lat": 48, "lon": 2, "dots.in": "name"}}


def user(name: str = "ada", **others: Any) -> User:
    values = {"address": ADDRESS, "scores": {"a": 1, "b": 2}, "note": "n", "email": name, "team": "x"}
    return User(id=name, **(values | others))


WAYS = ("query", "index", "scan", "filtered", "unique", "get", "compared", "batch")


async def read(do: Any, how: str, *attributes: Any) -> Any:
    """Read the user Ada in one of the ways that take `attributes=`."""
    chosen = list(attributes)
    if how == "query":
        return await do.first(do.query(User, id="ada", attributes=chosen))
    if how == "index":
        return await do.first(do.query(User, team="x", attributes=chosen))
    if how == "scan":
        return await do.first(do.scan(User, attributes=chosen))
    if how == "filtered":
        return await do.first(do.scan(User, User.address["zip"] == "75001", attributes=chosen))
    if how == "unique":
        return await do.get_by(User, email="ada", attributes=chosen)
    if how == "get":
        return await do.get(User, "ada", attributes=chosen)
    if how == "compared":
        return await do.get(User, id="ada", note="n", attributes=chosen)
    keys = ["ada"]
    got = User.batch_get(keys, attributes=chosen) if do.blocking else User.abatch_get(keys, attributes=chosen)
    return (await do.iterate(got))[0]


@pytest.fixture
async def part(do) -> Any:
    await do.save(user())
    return await read(do, "query", User.address["city"], User.address["geo"]["lat"])


async def test_only_the_parts_are_loaded(do):
    await do.save(user())
    for how in WAYS:
        found = await read(do, how, User.address["city"], User.address["geo"]["dots.in"], User.scores["b"], "note")
        assert found.address == {"city": "Paris", "geo": {"dots.in": "name"}}, how
        assert (found.scores, found.note, found.id) == ({"b": 2}, "n", "ada"), how
        assert not found.is_dirty
        for name in ("street", "tags"):
            with pytest.raises(NotLoaded):
                getattr(found, name)


async def test_parts_that_are_absent_and_parts_of_wholes(do):
    await do.save(user())
    for how in WAYS:
        found = await read(do, how, User.address["nothing"], User.scores["c"])
        assert found.address is None, how
        assert not found.is_dirty
        found = await read(do, how, User.address["geo"]["lat"], User.address, User.note)
        assert (found.address, found.note) == (ADDRESS, "n"), how
        inner = User.address["city"]["deeper"]
        found = await read(do, how, User.address["geo"]["lat"], User.address["geo"], inner)
        assert found.address == {"geo": ADDRESS["geo"]}, how
    found = await read(do, "query", User.address["city"], User.address)
    found.address["city"] = "Lyon"
    await do.save(found)
    assert (await do.get(User, id="ada")).address == {**ADDRESS, "city": "Lyon"}


async def change_inside(item: Any) -> None:
    item.address["city"] = "Lyon"


async def assign(item: Any) -> None:
    item.address = {"city": "Lyon"}


async def clear(item: Any) -> None:
    item.address = None


@pytest.mark.parametrize("change", [change_inside, assign, clear])
async def test_a_save_never_writes_a_part_as_the_whole(do, part, change):
    await change(part)
    part.note = "new"
    for write in (
        lambda: do.save(part),
        lambda: do.save(copy.deepcopy(part)),
        lambda: do.save(pickle.loads(pickle.dumps(part))),
        lambda: do.save(part, replace=True),
        lambda: transacted(do, part),
    ):
        with pytest.raises(NotLoaded, match=r"address was loaded in part|replace=True"):
            await write()
    assert (await do.get(User, id="ada")).address == ADDRESS


async def transacted(do: Any, item: Any) -> None:
    async with begun(do) as tx:
        tx.save(item)


async def test_other_attributes_of_a_part_can_be_saved(do, part):
    part.note = "new"
    await do.save(part)
    stored = await do.get(User, id="ada")
    assert (stored.note, stored.address, stored.scores) == ("new", ADDRESS, {"a": 1, "b": 2})
    assert part.address == {"city": "Paris", "geo": {"lat": 48}}


async def test_an_update_changes_the_part_in_the_store(do, part):
    await do.update(part, User.address["city"].set("Lyon"))
    whole = {**ADDRESS, "city": "Lyon"}
    # The update returns the row.
    assert part.address == whole
    part.address["zip"] = "69001"
    await do.save(part)
    assert (await do.get(User, id="ada")).address == {**whole, "zip": "69001"}


async def test_an_update_replaces_the_whole_only_if_asked(do, part):
    part.address["city"] = "Lyon"
    await do.update(part, note="new")
    assert (await do.get(User, id="ada")).address == ADDRESS
    # The change inside is kept, and still cannot be saved.
    with pytest.raises(NotLoaded, match="loaded in part"):
        await do.save(part)
    await do.update(part, address={"city": "Nice"})
    assert (await do.get(User, id="ada")).address == {"city": "Nice"}
    part.address["zip"] = "06000"
    await do.save(part)
    assert (await do.get(User, id="ada")).address == {"city": "Nice", "zip": "06000"}


async def test_an_upsert_does_not_insert_the_part(do, part):
    await do.delete_by_key(User, "ada")
    await do.update(part, note="new", upsert=True)
    assert (await do.get(User, id="ada")).address is None


async def test_a_save_after_a_delete_does_not_insert_the_part(do, part):
    await do.delete(part)
    await do.save(part)
    assert (await do.get(User, id="ada")).address is None


async def test_a_refresh_loads_the_whole(do, part):
    await do.refresh(part)
    part.address["city"] = "Lyon"
    await do.save(part)
    assert (await do.get(User, id="ada")).address == {**ADDRESS, "city": "Lyon"}


async def test_an_image_of_a_part_is_refused(do, part):
    with pytest.raises(NotLoaded):
        part.to_stored()


class Hooked(Model):
    id = StringAttribute(partition_key=True)
    data: Any = MapAttribute()
    note = StringAttribute()
    version = VersionAttribute()

    @before_update
    def change(self) -> None:
        if self.note == "hooked":
            self.data["a"] = 9


async def test_hooks_and_versions(do):
    await do.create(Hooked, id="a", data={"a": 1, "b": 2}, note="hooked")
    found = await do.first(do.query(Hooked, id="a", attributes=[Hooked.data["a"], Hooked.note]))
    with pytest.raises(NotLoaded, match=r"Hooked\.data was loaded in part"):
        await do.update(found, note="x")
    found = await do.first(do.query(Hooked, id="a", attributes=[Hooked.data["a"]]))
    found.note = "new"
    await do.save(found)
    stored = await do.get(Hooked, id="a")
    assert (stored.data, stored.note, stored.version) == ({"a": 1, "b": 2}, "new", 2)


async def test_chains_keep_the_parts(do):
    for number in range(6):
        await do.save(user(f"u{number}", scores={"a": number, "b": 0}))
    result = do.query(User, team="x", attributes=[User.scores["a"]]).filter(User.scores["a"] > 1).limit(3)
    found = await do.iterate(result)
    assert [set(item.scores) for item in found] == [{"a"}] * 3
    page = await do.page(User.query(team="x", attributes=[User.scores["a"]]), 4)
    rest = await do.page(User.query(team="x", attributes=[User.scores["a"]]), 4, page.cursor)
    assert sorted(item.scores["a"] for item in [*page.items, *rest.items]) == list(range(6))
    assert await do.count(do.query(User, team="x", attributes=[User.scores["a"]])) == 6


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (lambda: User.tags[0], "an element of a list cannot be loaded alone"),
        (lambda: User.address["geo"][0], "an element of a list cannot be loaded alone"),
        (lambda: User.street["name"], "a part of a .*Street.* cannot be loaded.*pass the whole attribute, 'street'"),
    ],
    ids=["list", "list in a map", "class"],
)
def test_parts_that_are_no_maps_are_refused(path, message):
    with pytest.raises(InvalidValue, match=message):
        User.query(id="ada", attributes=[path()])


def test_paths_of_other_models_and_other_arguments_are_refused():
    with pytest.raises(WrongModel, match="another model"):
        User.query(id="ada", attributes=[Hooked.data["a"]])
    with pytest.raises(ConfigurationError, match="does not contain 'address'"):
        User.query(note="n", index="by_note", attributes=[User.address["city"]])
    for wrong in (User.note, User.address["city"], "note", 7, [7]):
        with pytest.raises(TypeError):
            User.query(id="ada", attributes=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        User.query(id="ada").values(User.address["city"])


async def test_an_index_with_a_projection(do):
    await do.save(user())
    found = await do.first(do.query(User, note="n", index="by_note", attributes=[User.scores["b"]]))
    assert found.scores == {"b": 2}
