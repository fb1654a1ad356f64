"""Discriminators, collections and the warning: several classes in one table."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

import mintkey
from mintkey import Collection, Index, Model, ModelConfig, Q
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import (
    BatchIncomplete,
    ConditionFailed,
    ConfigurationError,
    InvalidValue,
    ItemGone,
    TransactionCancelled,
    UnreadableItem,
    WrongModel,
)
from mintkey.hooks import after_load


class Person(Model):
    model_config = ModelConfig(table="people")
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    kind = StringAttribute(discriminator=True)
    name = StringAttribute()
    by_name = Index("name", name="name-index", projection="keys")

    @after_load
    def greet(self) -> None:
        self.greeting = type(self).__name__


class Employee(Person):
    salary = NumberAttribute()


class Manager(Employee):
    model_config = ModelConfig(discriminator="boss")
    reports = NumberAttribute()


class Guest(Person):
    pass


class Machine(Model):
    model_config = ModelConfig(table="people")
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)
    kind = StringAttribute(discriminator=True)


@pytest.fixture
async def people(do) -> list[Any]:
    """One item of each class, in the order of their sort keys."""
    found = [
        Person(pk="a", sk="1", name="Ada"),
        Employee(pk="a", sk="2", name="Ben", salary=2),
        Manager(pk="a", sk="3", name="Cy", salary=3, reports=1),
        Guest(pk="a", sk="4", name="Di"),
        Machine(pk="a", sk="5"),
    ]
    for item in found:
        await do.save(item)
    return found


async def test_the_class_is_written_and_read(do, people, raw):
    assert [one.kind for one in people] == ["Person", "Employee", "boss", "Guest", "Machine"]
    rows = await do.all(do.scan(raw(Person, kind=StringAttribute())))
    assert [row.kind for row in sorted(rows, key=lambda row: row.sk)] == [one.kind for one in people]
    for one in people:
        found = await do.get(type(one), pk="a", sk=one.sk)
        assert found == one
        assert type(found) is type(one)
        assert found.changed == frozenset()
        assert found.to_dict()["kind"] == one.kind


@pytest.mark.parametrize(
    ("model", "seen"),
    [(Person, "1234"), (Employee, "23"), (Manager, "3"), (Guest, "4"), (Machine, "5")],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_class_reads_its_own_rows_and_those_of_subclasses(do, people, model, seen):
    expected = [one for one in people if one.sk in seen]
    for result in (do.query(model, pk="a"), do.scan(model), model.query.filter(pk="a"), do.query(model, pk="a")[:9]):
        found = sorted(await do.iterate(result), key=lambda one: one.sk)
        assert found == expected
        assert [type(one) for one in found] == [type(one) for one in expected]
    assert await do.count(model) == len(expected)
    assert await do.count(do.query(model, pk="a")) == len(expected)
    for one in people:
        assert await do.get(model, pk="a", sk=one.sk) == (one if one in expected else None)
    keys = [("a", one.sk) for one in people]
    found = list(model.batch_get(keys)) if do.blocking else [one async for one in model.abatch_get(keys)]
    assert found == [one if one in expected else None for one in people]
    page = await do.page(do.query(model, pk="a"), 2)
    assert page.items == expected[:2]
    (first, *_) = await do.all(do.query(model, pk="a", attributes=["sk"]))
    assert type(first) is type(expected[0])


async def test_indexes_hold_the_class(do, people):
    (found,) = await do.all(Person.by_name.query(name="Cy"))
    assert type(found) is Manager
    assert await do.all(do.query(Employee, index="name-index", name="Ada")) == []
    assert len(await do.all(do.query(Employee, index="by_name", name="Ben"))) == 1
    with pytest.raises(ConfigurationError, match="has no index 'other'; it has: name-index"):
        do.query(Person, index="other", name="Ben")


async def test_attributes_of_subclasses_in_conditions(do, people):
    assert [one.sk for one in await do.all(do.query(Person, Employee.salary >= 2, pk="a"))] == ["2", "3"]
    assert [one.sk for one in await do.all(do.scan(Person, Manager.reports == 1))] == ["3"]
    with pytest.raises(WrongModel, match=r"Guest: .*salary"):
        do.query(Guest, Employee.salary > 1, pk="a")


async def test_hooks_are_those_of_the_class(do, people):
    assert [one.greeting for one in await do.all(do.query(Person, pk="a"))] == [
        "Person",
        "Employee",
        "Manager",
        "Guest",
    ]
    assert (await do.get(Person, pk="a", sk="3")).greeting == "Manager"


async def test_a_loaded_item_is_written_by_its_class(do, people):
    boss = await do.get(Person, pk="a", sk="3")
    boss.reports = 9
    await do.save(boss)
    await do.update(boss, salary=10)
    await do.update_by_key(Manager, ("a", "9"), upsert=True, reports=2)
    assert [(one.reports, one.kind) for one in await do.all(do.query(Manager, pk="a"))] == [(9, "boss"), (2, "boss")]
    with pytest.raises(InvalidValue, match=r"Manager\.kind: .* it cannot be updated"):
        await do.update(boss, kind="Guest")
    assert Manager.from_dict(boss.to_dict()).to_dict() == boss.to_dict()


async def test_a_discriminator_is_that_of_the_class(do, people):
    with pytest.raises(InvalidValue, match=r"Person\.kind: 'boss' differs from 'Person'") as failure:
        Person(pk="a", sk="7", kind="boss")
    assert failure.value.attribute == "kind"
    for person in (Person(pk="a", sk="7", kind="Person"), await do.get(Person, pk="a", sk="3")):
        own = person.kind
        for other in ("Guest", None, 5):
            with pytest.raises(InvalidValue, match=rf"\.kind: .* differs from '{own}'"):
                person.kind = other
        person.kind = own
        await do.save(person)
        assert person.kind == own


async def test_writes_by_key_leave_rows_of_other_classes_alone(do, people):
    employee, guest = ("a", "2"), ("a", "4")
    before = [one.to_dict() for one in await do.all(do.query(Person, pk="a"))]
    calls: list[Any] = [
        lambda: do.update_by_key(Manager, employee, reports=1),
        lambda: do.update_by_key(Manager, employee, upsert=True, reports=1),
        lambda: do.update_by_key(Manager, guest, condition=Manager.sk.exists(), reports=1),
        lambda: do.delete_by_key(Manager, employee),
        lambda: do.delete_by_key(Employee, guest, condition=Employee.sk.exists()),
    ]
    for call in calls:
        with pytest.raises(ConditionFailed, match=r"the row is of another class than (Manager|Employee)") as failure:
            await call()
        assert type(failure.value.item) in {Employee, Guest}
    for add in (
        lambda tx: tx.update_by_key(Manager, employee, reports=1),
        lambda tx: tx.delete_by_key(Manager, employee),
    ):
        with pytest.raises(TransactionCancelled, match="another class than Manager"):
            async with mintkey.transaction() as tx:
                add(tx)
    with pytest.raises(BatchIncomplete) as incomplete:
        await do.batch_delete(Manager, [employee])
    assert isinstance(incomplete.value.failed[0][1], ConditionFailed)
    assert [one.to_dict() for one in await do.all(do.query(Person, pk="a"))] == before
    # Their own rows, and rows that do not exist.
    await do.update_by_key(Employee, ("a", "3"), salary=7)
    await do.update_by_key(Manager, ("a", "9"), Manager.reports.add(1), upsert=True)
    await do.delete_by_key(Manager, ("a", "8"))
    with pytest.raises(ItemGone):
        await do.update_by_key(Manager, ("a", "8"), reports=1)
    assert (await do.get(Manager, pk="a", sk="3")).salary == 7
    await do.delete_by_key(Employee, ("a", "9"))
    await do.delete_by_key(Person, employee)
    assert [one.sk for one in await do.all(do.query(Person, pk="a"))] == ["1", "3", "4"]


async def test_rows_of_a_base_never_get_attributes_of_a_subclass(do, people):
    for call in (
        lambda: do.update_by_key(Person, ("a", "1"), Manager.reports.add(1)),
        lambda: do.update(people[0], Manager.reports.add(1)),
        lambda: do.update(Person.query.filter(pk="a"), Manager.reports.add(1)),
    ):
        with pytest.raises(TypeError, match="Person has no attribute 'reports'"):
            await call()
    assert await do.update(Manager.query.filter(pk="a"), Manager.reports.add(1)) == 1


async def test_rows_without_a_class_belong_to_the_base(do, people, raw):
    other = raw(Person, kind=StringAttribute(), name=StringAttribute())
    await do.save(other(pk="b", sk="1", name="old"))
    (old,) = await do.all(do.query(Person, pk="b"))
    assert (type(old), old.kind, old.is_dirty) == (Person, "Person", False)
    assert await do.all(do.query(Employee, pk="b")) == []
    assert await do.get(Employee, pk="b", sk="1") is None
    await do.save(old)
    assert (await do.get(other, pk="b", sk="1")).kind is None
    old.name = "new"
    await do.save(old)
    assert (await do.get(other, pk="b", sk="1")).kind == "Person"


async def test_an_unknown_class_is_unreadable(do, people, raw):
    other = raw(Person, kind=StringAttribute())
    await do.save(other(pk="a", sk="8", kind="Robot"))
    with pytest.raises(UnreadableItem, match=r"Person\.kind: no class .* the discriminator 'Robot'") as unreadable:
        await do.all(do.query(Person, pk="a"))
    assert unreadable.value.key == {"pk": "a", "sk": "8"}
    with pytest.raises(UnreadableItem):
        await do.get(Person, pk="a", sk="8")
    assert len(await do.all(do.query(Person, pk="a", on_unreadable="skip"))) == 4
    assert len(await do.all(do.query(Employee, pk="a"))) == 2
    await do.batch_delete(Person, [unreadable.value.key])
    assert len(await do.all(do.query(Person, pk="a"))) == 4


def test_values_of_one_family_differ():
    class Base(Model):
        pk = StringAttribute(partition_key=True)
        kind = StringAttribute(discriminator=True)

    class One(Base):
        model_config = ModelConfig(discriminator="one")

    assert One.__mintkey_schema__.table == "Base"
    with pytest.raises(ConfigurationError, match=r"Two\.kind: One has the same value 'one'"):
        type("Two", (Base,), {"model_config": ModelConfig(discriminator="one")})


async def test_a_family_shares_the_table_of_its_base(do):
    class Base(Model):
        pk = StringAttribute(partition_key=True)
        kind = StringAttribute(discriminator=True)

    class Below(Base):
        n = NumberAttribute()

    await do.save(Below(pk="a", n=1))
    await do.save(Base(pk="b"))
    assert {(type(one), one.pk) for one in await do.iterate(do.scan(Base))} == {(Below, "a"), (Base, "b")}


class Animal(Model):
    model_config = ModelConfig(table="zoo")
    pk = StringAttribute(partition_key=True, template="ZOO#{zoo}")
    sk = StringAttribute(sort_key=True, template="ANIMAL#{id}")
    kind = StringAttribute(discriminator=True)
    zoo = StringAttribute()
    id = StringAttribute()


class Bird(Animal):
    sk = StringAttribute(sort_key=True, template="BIRD#{id}#{wings:01d}")
    wings = NumberAttribute()


class Keeper(Model):
    model_config = ModelConfig(table="zoo")
    pk = StringAttribute(partition_key=True, template="ZOO#{zoo}")
    sk = StringAttribute(sort_key=True, template="KEEPER#{id}")
    zoo = StringAttribute()
    id = StringAttribute()


async def test_a_subclass_may_have_other_templates(do):
    animals = [Animal(zoo="z", id="1"), Bird(zoo="z", id="2", wings=2)]
    for item in (*animals, Keeper(zoo="z", id="3")):
        await do.save(item)
    assert await do.iterate(do.query(Animal, zoo="z")) == animals
    assert sorted(await do.iterate(do.scan(Animal)), key=lambda one: one.id) == animals
    assert await do.iterate(do.query(Bird, zoo="z")) == animals[1:]
    assert await do.count(Animal) == 2
    assert await do.get(Bird, zoo="z", id="2", wings=2) == animals[1]
    assert await do.count(Keeper) == 1


# Collections.


class User(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="USER#{email}")
    sk = StringAttribute(sort_key=True, template="PROFILE")
    email = StringAttribute()


class Order(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="USER#{user}")
    sk = StringAttribute(sort_key=True, template="ORDER#{id}")
    user = StringAttribute()
    id = StringAttribute()
    total = NumberAttribute()

    @after_load
    def note(self) -> None:
        self.noted = True


class Line(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="USER#{user}")
    sk = StringAttribute(sort_key=True, template="ORDER#{id}#LINE#{n:02d}")
    user = StringAttribute()
    id = StringAttribute()
    n = NumberAttribute()


class Address(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="USER#{user}")
    sk = StringAttribute(sort_key=True, template="ADDRESS#{label}")
    user = StringAttribute()
    label = StringAttribute()


@pytest.fixture
async def shop(do) -> list[Any]:
    """The items of two users; those of the first one, in order."""
    found: list[Any] = [
        Address(user="a", label="home"),
        Order(user="a", id="1", total=10),
        Line(user="a", id="1", n=1),
        Line(user="a", id="1", n=2),
        Order(user="a", id="2", total=20),
        User(email="a"),
    ]
    for item in [*found, User(email="b"), Order(user="b", id="9")]:
        await do.save(item)
    return found


def collected(do: Any, models: Any, *conditions: Any, **named: Any) -> Any:
    """Query a collection."""
    access: Any = Collection(models)
    return (access.query if do.blocking else access.aquery)(*conditions, **named)


async def test_one_query_reads_several_classes(do, shop):
    every = [User, Order, Line, Address]
    found = await do.all(collected(do, every, pk="USER#a"))
    assert found == shop
    assert [type(one) for one in found] == [type(one) for one in shop]
    assert [one.id for one in found.of(Order)] == ["1", "2"]
    assert found[1].noted
    assert await do.iterate(collected(do, every, pk="USER#a", descending=True)) == shop[::-1]
    assert await do.iterate(collected(do, every, email="a")) == shop
    assert await do.iterate(collected(do, every, user="a")) == shop
    assert await do.iterate(collected(do, every, Q(total=10) | Q(id="2"), pk="USER#a")) == [shop[1], shop[4]]
    # Orders and their lines have other keys with the same part.
    assert await do.iterate(collected(do, every, user="a", id="1")) == shop[1:4]
    assert await do.iterate(collected(do, every, user="a", id="1", n=2)) == shop[3:4]
    assert await do.iterate(collected(do, [User, Order], user="a", id="1")) == shop[1:2]
    assert await do.iterate(collected(do, every, Order.sk.begins_with("ORDER#1"), user="a")) == shop[1:4]
    assert await do.iterate(collected(do, every, Order.total > 10, user="a")) == shop[4:5]
    result = collected(do, every, pk="USER#a", limit=5)
    assert [line.n for line in await do.of(result, Line)] == [1, 2]
    assert await do.of(result, User) == []
    assert await do.count(collected(do, every, pk="USER#a")) == 6
    assert await do.first(collected(do, every, pk="USER#a")) == shop[0]
    assert await do.iterate(result[1:3]) == shop[1:3]
    first = await do.page(collected(do, every, pk="USER#a"), 4)
    assert first.items == shop[:4]
    assert first.items.of(Address) == shop[:1]
    assert (await do.page(collected(do, every, pk="USER#a"), 4, first.cursor)).items == shop[4:]


async def test_rows_of_other_classes_are_left_out(do, shop):
    assert await do.iterate(collected(do, [User, Address], pk="USER#a")) == [shop[0], shop[5]]
    assert await do.count(collected(do, [User, Address], pk="USER#a")) == 2
    assert await do.iterate(collected(do, [User, Address], pk="USER#nobody")) == []


async def test_collections_of_families(do, people):
    found = await do.all(collected(do, [Person, Machine], pk="a"))
    assert [type(one) for one in found] == [type(one) for one in people]
    assert found.of(Employee) == people[1:3]
    assert await do.all(collected(do, [Guest, Manager], pk="a")) == people[2:4]
    found = await do.all(collected(do, [Guest, Person], index="name-index", name="Di"))
    assert [type(one) for one in found] == [Guest]


class Task(Model):
    model_config = ModelConfig(table="board")
    pk = StringAttribute(partition_key=True, template="T#{team}")
    sk = StringAttribute(sort_key=True, template="TASK#{id}")
    team = StringAttribute(alias="t")
    id = StringAttribute()
    rank = NumberAttribute()
    label = StringAttribute()


class Note(Model):
    model_config = ModelConfig(table="board")
    pk = StringAttribute(partition_key=True, template="T#{team}")
    sk = StringAttribute(sort_key=True, template="NOTE#{id}")
    team = StringAttribute()
    id = StringAttribute()
    rank = NumberAttribute(alias="r")
    label = StringAttribute()


async def test_conditions_of_a_collection_never_select_by_another_class(do):
    both: Any = [Task, Note]
    task = await do.create(Task, team="x", id="1", rank=1, label="a")
    notes = [await do.create(Note, team="x", id=str(n), rank=n, label="a") for n in (1, 2)]
    # The partition is the same, under other names.
    assert await do.iterate(collected(do, both, team="x", label="a")) == [*notes, task]
    assert await do.iterate(collected(do, both, Note.id == "1", team="x")) == notes[:1]
    assert await do.iterate(collected(do, both, Task.id == "1", team="x")) == [task]
    assert await do.iterate(collected(do, both, Note.rank == 2, team="x")) == notes[1:]
    # A part of different keys.
    assert await do.iterate(collected(do, both, team="x", id="1")) == [notes[0], task]
    assert await do.iterate(collected(do, [Note], team="x", id="1")) == notes[:1]
    assert await do.iterate(collected(do, [Task], rank=1, team="x", id="1")) == [task]
    conditions: Any
    for conditions, named in (((), {"rank": 1}), ((Note.id == "1", Task.id == "1"), {})):
        with pytest.raises(TypeError, match=r"several meanings, because .* pass a condition of one model"):
            collected(do, both, *conditions, team="x", **named)


async def test_what_a_collection_cannot_do(do):
    await do.create(Note, team="x", id="1", rank=1)
    result = collected(do, [Task, Note], team="x")
    for call in (
        lambda: result.filter(rank=1),
        lambda: result.exclude(Note.rank == 1),
        lambda: result.values("rank"),
        lambda: result.values_list("rank", flat=True),
    ):
        with pytest.raises(TypeError, match="not possible on a collection, whose items are of Task and Note"):
            call()
    with pytest.raises(TypeError, match=r"update\(\) is not possible on a collection"):
        await do.update(result, rank=1)
    assert await do.delete(result) == 1


loaded: list[Any] = []


class Watched(Note):
    model_config = ModelConfig(table="board")

    @after_load
    def report(self) -> None:
        loaded.append(self.id)


async def test_deleting_the_rows_of_a_collection_runs_no_hooks(do):
    await do.create(Watched, team="x", id="1", rank=1)
    loaded.clear()
    assert len(await do.all(collected(do, [Task, Watched], team="x"))) == 1
    assert loaded == ["1"]
    assert await do.delete(collected(do, [Task, Watched], team="x")) == 1
    assert loaded == ["1"]


async def test_a_wrong_shape_in_a_collection_is_unreadable(do, shop, raw):
    other = raw(User)
    await do.save(other(pk="USER#a", sk="ADDRESS#"))
    with pytest.raises(UnreadableItem, match=r"Address\.sk"):
        await do.all(collected(do, [User, Address], pk="USER#a"))
    assert len(await do.all(collected(do, [User, Address], pk="USER#a", on_unreadable="skip"))) == 2


def test_what_is_no_collection(store):
    class Elsewhere(Model):
        model_config = ModelConfig(table="elsewhere")
        pk = StringAttribute(partition_key=True)
        sk = StringAttribute(sort_key=True)

    for models, message in [
        ([], "at least one model"),
        ([User, Elsewhere], "differ in table or key"),
        ([Model], "model classes that have a table"),
        ([7], "model classes that have a table"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            Collection(models)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a list of models, not None"):
        Collection(None)  # type: ignore[arg-type]
    both = Collection([User, Order])
    with pytest.raises(TypeError, match=r"needs a partition key: pk=… or email=… or user=…"):
        both.query(sk="PROFILE")
    with pytest.raises(TypeError, match="User has no attribute 'label'"):
        both.query(label="x")
    with pytest.raises(TypeError, match=r"no model has all of email, user: pass conditions, as in User\.pk == …"):
        both.query(email="a", user="a")
    with pytest.raises(WrongModel, match="label"):
        both.query(Address.label == "x", pk="USER#a")
    combined: Any = (User.email == "x") | cast("Any", Order.total == 1)
    with pytest.raises(WrongModel, match=r"combines attributes of User and Order: pass conditions that are each"):
        both.query(combined, pk="USER#a")
    with pytest.raises(TypeError, match="User has no attribute 'label'"):
        both.query(Q(label="x"), pk="USER#a")
    with pytest.raises(ConfigurationError, match="no model has an index"):
        both.query(index="other", pk="USER#a")
    with pytest.raises(TypeError, match="order of the sort key"):
        both.query(pk="USER#a").order_by("sk")


# The warning.


async def test_classes_that_read_each_others_rows_are_reported(do, caplog):
    def define(name: str, **attributes: Any) -> Any:
        keys = {"pk": StringAttribute(partition_key=True), "sk": StringAttribute(sort_key=True), "x": StringAttribute()}
        return type(name, (Model,), {"model_config": ModelConfig(table="mixed"), **keys, **attributes})

    def sort(template: str) -> Any:
        return StringAttribute(sort_key=True, template=template)

    with caplog.at_level(logging.WARNING, "mintkey.tables"):
        await do.save(define("A", sk=sort("A#{x}"))(pk="p", x="1"))
        await do.save(define("B", sk=sort("B#{x}"))(pk="p", x="1"))
        await do.save(define("C", sk=sort("A#"))(pk="p", x="1"))
        assert caplog.records == []
        nested = define("D", sk=sort("A#{x}#D"))
        await do.save(nested(pk="p", x="1"))
        await do.save(nested(pk="p", x="2"))
        (record,) = caplog.records
        assert "D and tests.behaviour.test_shared_tables.A share the table 'mixed'" in record.getMessage()
        caplog.clear()
        await do.save(define("E")(pk="p", sk="1"))
        assert len(caplog.records) == 4
    caplog.clear()


async def test_discriminators_need_no_templates(do, people, caplog):
    await do.count(Person)
    await do.count(Machine)
    assert [record for record in caplog.records if record.name == "mintkey.tables"] == []


async def test_a_base_class_writes_rows_whose_keys_have_other_templates(do):
    class Device(Model):
        model_config = ModelConfig(table="devices")
        pk = StringAttribute(partition_key=True, template="SITE#{site}")
        sk = StringAttribute(sort_key=True, template="DEVICE#{id}")
        site = StringAttribute()
        id = StringAttribute()
        kind = StringAttribute(discriminator=True)
        n = NumberAttribute(default=0)

    class Sensor(Device):
        sk = StringAttribute(sort_key=True, template="SENSOR#{id}")

    for device in (Device(site="a", id="1"), Sensor(site="a", id="2"), Sensor(site="a", id="3", n=5)):
        await do.save(device)
    assert await do.update(Device.query(site="a"), Device.n.add(1)) == 3
    assert await do.update(Device.query.filter(n=1), n=7) == 2
    assert await do.update(Sensor.query(site="a"), n=8) == 2
    assert [(device.id, device.n) for device in await do.all(Device.query(site="a"))] == [("1", 7), ("2", 8), ("3", 8)]
    assert await do.delete(Device.query(site="a").filter(n=8)) == 2
