"""References store the key of another item, are read without I/O, and are prefetched in batches."""

from __future__ import annotations

import copy
import json
import pickle
import uuid
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError
from typing_extensions import assert_type

from mintkey import AutoGenerate, Model, ModelConfig, auto
from mintkey.attributes import (
    BinaryAttribute,
    DatetimeAttribute,
    ListAttribute,
    NumberAttribute,
    StringAttribute,
    UUIDAttribute,
)
from mintkey.errors import ConfigurationError, InvalidValue, NotLoaded
from mintkey.fields import KeyField
from mintkey.references import Ref, Reference, aprefetch, prefetch

UTC = timezone.utc


class Customer(Model):
    model_config = ModelConfig(table="customers")
    id = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    name = StringAttribute()


class Branch(Model):
    model_config = ModelConfig(table="branches")
    country = StringAttribute(partition_key=True)
    number = NumberAttribute(sort_key=True)


class Order(Model):
    model_config = ModelConfig(table="orders")
    id = StringAttribute(partition_key=True)
    customer = Reference(Customer, index=True)
    branch = Reference(Branch, required=False)
    parent: Reference[Order] = Reference("Order")
    later: Reference[Later] = Reference("Later")


class Later(Model):
    model_config = ModelConfig(table="later")
    id = UUIDAttribute(partition_key=True)
    order = Reference(Order)


class Counted:
    """Counts the requests to a store."""

    def __init__(self, store: Any) -> None:
        self.core, self.requests = store._core, 0
        # With limits each request is sent by a method of its own.
        store._limits = ()
        store._core = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def execute(self, request: Any) -> Any:
        self.requests += 1
        return self.core.execute(request)

    def submit(self, request: Any, loop: Any) -> Any:
        self.requests += 1
        return self.core.submit(request, loop)


async def prefetched(do: Any, items: Any, *names: str) -> list[Any]:
    return prefetch(items, *names) if do.blocking else await aprefetch(items, *names)


async def test_a_reference_takes_an_instance_or_a_key(do):
    ada = await do.create(Customer, name="Ada")
    branch = await do.create(Branch, country="d:e%", number=Decimal("1.5"))
    for number, given in enumerate((ada, ada.id, {"id": ada.id}, (ada.id,), Order(id="x", customer=ada).customer)):
        for place, where in enumerate((branch, ("d:e%", 1.5), {"country": "d:e%", "number": Decimal("1.5")})):
            order = await do.create(Order, id=f"{number}-{place}", customer=given, branch=where)
            loaded = await do.get(Order, id=order.id)
            assert loaded == order
            assert not loaded.is_dirty
            for one in (order, loaded):
                assert isinstance(one.customer, Ref)
                assert (one.customer.key, one.branch.key) == (ada.id, ("d:e%", 1.5))
                assert await do.get(one.customer) == ada
                assert await do.get(one.branch, consistent=True) == branch
    loaded.customer = None
    await do.save(loaded)
    assert (await do.get(Order, id=loaded.id)).customer is None
    await do.update(loaded, customer=ada)
    assert loaded.customer.key == ada.id
    await do.update_by_key(Order, loaded.id, Order.customer.set("nobody"))
    await do.refresh(loaded)
    assert await do.get(loaded.customer) is None


async def test_the_stored_text_is_the_key(do, raw):
    await do.create(Order, id="a", customer="ada", branch=("d:e%", 7), later=uuid.UUID(int=1))
    stored = raw(Order, customer=StringAttribute(), branch=StringAttribute(), later=StringAttribute())
    assert (await do.get(stored, id="a")).to_dict() == {
        "id": "a",
        "customer": "ada",
        "branch": "d%3Ae%25:7",
        "later": "00000000-0000-0000-0000-000000000001",
    }


async def test_queries_and_conditions_take_an_instance_or_a_key(do):
    ada, bob = Customer(id="ada"), Customer(id="bob")
    await do.batch_save(Order, [Order(id=f"{n}", customer=(ada, bob)[n % 2], branch=("de", n)) for n in range(6)])
    for given in (ada, "ada", Ref(Order.customer, "ada")):
        found = do.query(Order, customer=given)
        assert "index 'customer'" in found.explain()
        assert sorted(order.id for order in await do.iterate(found)) == ["0", "2", "4"]
        assert await do.count(Order, Order.customer == given) == 3
        assert await do.count(Order, Order.customer != given) == 3
    assert await do.count(Order, Order.customer.is_in(ada, "bob", "eve")) == 6
    assert await do.count(Order, Order.branch == ("de", 3)) == 1
    assert await do.count(Order, Order.branch.is_in([("de", 3), Branch(country="de", number=4)])) == 2
    assert await do.count(Order, Order.parent.exists()) == 0
    await do.update_by_key(Order, "0", customer=bob, condition=Order.customer == ada)
    assert (await do.get(Order, id="0")).customer == Order(id="x", customer=bob).customer
    for wrong in (
        lambda: Order.customer == 5,
        lambda: Order.customer == ("a", "b"),
        lambda: Order.customer == Branch(country="de", number=1),
        lambda: Order.customer == Order(id="x", parent="y").parent,
        lambda: Order.customer == Customer(),
        lambda: Order.customer < ada,
    ):
        with pytest.raises(InvalidValue, match=r"Order\.customer"):
            wrong()


async def test_prefetch_of_a_thousand_reads_in_batches(do, store):
    await do.batch_save(Customer, (Customer(id=f"c{n}", name=f"{n}") for n in range(0, 1000, 2)))
    orders = [Order(id=f"{n}", customer=f"c{n}") for n in range(1000)]
    orders += [Order(id="none"), Order(id="again", customer="c0")]
    counted = Counted(store)
    assert await prefetched(do, orders, "customer") == orders
    assert 0 < counted.requests <= 2 + 1000 // 100
    counted.requests = 0
    for number, order in enumerate(orders[:1000]):
        found = await do.get(order.customer)
        assert found is None if number % 2 else found.name == f"{number}"
    assert await do.get(orders[-1].customer) is await do.get(orders[0].customer)
    assert await prefetched(do, orders, "customer", "parent") == orders
    assert counted.requests == 0


async def test_prefetch_of_several_references_and_models(do, store):
    ada, branch = await do.create(Customer, id="ada"), await do.create(Branch, country="de", number=1)
    first = await do.create(Order, id="1", customer=ada, branch=branch)
    await do.create(Order, id="2", parent="1", customer="ada", branch=("de", 2))
    later = await do.create(Later, id=uuid.UUID(int=1), order="1")
    counted = Counted(store)
    orders = await prefetched(do, do.scan(Order), "customer", "branch", "parent")
    orders.sort(key=lambda order: order.id)
    # `batch_get()` yields None for a missing item.
    assert await prefetched(do, [None, orders[0]], "customer") == [None, orders[0]]
    loaded = await do.get(Later, id=later.id)
    await prefetched(do, [loaded], "order")
    before = counted.requests
    assert [await do.get(order.customer) for order in orders] == [ada, ada]
    assert [await do.get(order.branch) for order in orders] == [branch, None]
    assert await do.get(orders[1].parent) == await do.get(loaded.order) == first
    assert counted.requests == before
    # Reading the attribute is no I/O; `refresh()` forgets what was prefetched.
    await do.refresh(orders[0])
    before = counted.requests
    assert orders[0].customer.key == "ada"
    assert counted.requests == before
    assert await do.get(orders[0].customer) == ada
    assert counted.requests == before + 1
    with pytest.raises(TypeError, match="Order has no Reference 'id'"):
        await prefetched(do, orders, "id")
    with pytest.raises(TypeError, match="needs the name of a reference"):
        await prefetched(do, orders)
    with pytest.raises(TypeError, match="takes several items"):
        await prefetched(do, orders[0], "customer")


async def test_a_partly_loaded_item_is_not_prefetched_in_secret(do):
    await do.create(Order, id="1", customer="ada")
    (order,) = await do.iterate(do.scan(Order, attributes=["id"]))
    with pytest.raises(NotLoaded, match=r"Order\.customer"):
        await prefetched(do, [order], "customer")
    assert await prefetched(do, [], "customer") == []


async def test_a_referenced_item_needs_a_key(do):
    new = Customer(name="new")
    order = Order(id="1", customer=new)
    with pytest.raises(
        InvalidValue, match=r"Order\.customer: this Customer has no id yet: save\(\) it first"
    ) as caught:
        await do.save(order)
    assert (caught.value.model, caught.value.attribute) == ("Order", "customer")
    await do.save(new)
    await do.save(order)
    assert (await do.get(Order, id="1")).customer.key == new.id

    class Early(Model):
        id = StringAttribute(partition_key=True, default=auto("ulid", when="init"))

    class Note(Model):
        id = StringAttribute(partition_key=True)
        about = Reference(Early)

    early = Early()
    note = await do.create(Note, id="1", about=early)
    assert note.about.get() is early  # no I/O
    loaded = await do.get(Note, id="1")
    assert await do.get(loaded.about) is None
    await do.save(early)
    assert await do.get(loaded.about) == early


WRONG: list[Any] = [5, b"x", "", ("a", "b"), {"name": "x"}, {}, [], Branch(country="de", number=1), Customer, object()]


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
async def test_what_is_no_key_is_refused_at_the_save(do, value):
    order = Order(id="1", customer=value)
    for write in (
        lambda: do.save(order),
        lambda: do.create(Order, id="1", customer=value),
        lambda: do.update_by_key(Order, "1", customer=value, upsert=True),
    ):
        with pytest.raises((InvalidValue, TypeError), match=r"customer|Customer"):
            await write()
    assert await do.count(Order) == 0
    assert repr(order)


async def test_each_kind_of_key_is_decoded(do):
    class Two(Model):
        raw = BinaryAttribute(partition_key=True)
        at = DatetimeAttribute(sort_key=True)

    class Compound(Model):
        hall = KeyField()
        number = KeyField(type=int)

    class Single(Model):
        n = NumberAttribute(partition_key=True)

    class Built(Model):
        pk = StringAttribute(partition_key=True, template="USER#{email}")
        email = StringAttribute(required=True)

    class Holder(Model):
        id = StringAttribute(partition_key=True)
        two = Reference(Two)
        compound = Reference(Compound)
        single = Reference(Single)
        built = Reference(Built)

    at = datetime(2024, 1, 1, 12, 30, tzinfo=UTC)
    targets = {
        "two": await do.create(Two, raw=b"\0:\xff", at=at),
        "compound": await do.create(Compound, hall="a:b%3A", number=7),
        "single": await do.create(Single, n=Decimal("0.1234567890123456789012")),
        "built": await do.create(Built, email="a@b.c"),
    }
    keys = {
        "two": (b"\0:\xff", at),
        "compound": ("a:b%3A", 7),
        "single": Decimal("0.1234567890123456789012"),
        "built": "a@b.c",
    }
    for id_, given in (("instances", targets), ("keys", keys)):
        await do.create(Holder, id=id_, **given)
        loaded = await do.get(Holder, id=id_)
        for name, target in targets.items():
            assert getattr(loaded, name).key == keys[name], name
            assert await do.get(getattr(loaded, name)) == target, name
        await prefetched(do, [loaded], *targets)
        assert [getattr(loaded, name).get() for name in targets] == list(targets.values())


async def test_a_row_keeps_the_other_form_of_its_key(do):
    class Text(Model):
        model_config = ModelConfig(table="later")
        id = StringAttribute(partition_key=True)

    text = str(uuid.UUID(int=2**127 - 1)).upper()
    await do.save(Text(id=text))
    (later,) = await do.iterate(do.scan(Later))
    order = await do.create(Order, id="1", later=later)
    loaded = await do.get(Order, id="1")
    assert await do.get(loaded.later) == later
    assert loaded.later.key == later.id
    assert order.later == loaded.later


async def test_a_stored_text_that_is_no_key_is_reported(do, raw):
    stored = raw(Order, branch=StringAttribute(), later=StringAttribute())
    await do.create(Order, id="0")  # the table has its index from the start
    await do.create(stored, id="1", branch="no colon", later="no UUID")
    loaded = await do.get(Order, id="1")
    assert not loaded.is_dirty
    with pytest.raises(InvalidValue, match=r"Order\.branch: 'no colon' is not a key of Branch"):
        await do.get(loaded.branch)
    with pytest.raises(InvalidValue, match=r"Order\.later: 'no UUID' is not a key of Later"):
        _ = loaded.later.key
    assert await do.get(loaded.later) is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"customer": ""}, "must not be empty"),
        ({"customer": "x" * 2049}, "too long"),
        ({"customer": "\ud800"}, "lone surrogate"),
        ({"branch": ":5"}, "must not be empty"),
        ({"branch": {"country": "", "number": 5}}, "must not be empty"),
        ({"branch": "de:x"}, "'x' is not a number"),
        ({"branch": "de"}, "expected the texts of country, number, joined by ':'"),
    ],
)
def test_json_has_only_keys_that_an_item_can_have(given, reason):
    body = {"id": "1", **given}
    (name,) = given
    with pytest.raises(InvalidValue, match=rf"Order\.{name}: .* is not a key of .*{reason}"):
        Order.from_json(json.dumps(body))
    with pytest.raises(ValidationError, match=reason) as raised:
        Order.model_validate(body)
    assert [problem["loc"] for problem in raised.value.errors()] == [(name,)]


async def test_references_are_values(do):
    order = Order(id="1", customer="ada")
    same, other = Order(id="2", customer=Customer(id="ada")), Order(id="3", customer="bob")
    assert order.customer == same.customer != other.customer
    assert order.customer != "ada"
    assert len({order.customer, same.customer, other.customer}) == 2
    assert Order(id="1", parent="ada").parent != order.customer
    assert repr(order.customer) == "Ref(Customer, 'ada')"
    assert copy.deepcopy(order).customer == order.customer
    assert order.to_dict() == {"id": "1", "customer": order.customer}
    assert Order.from_dict(order.to_dict()).customer == order.customer
    await do.save(order)
    again = pickle.loads(pickle.dumps(await do.get(Order, id="1")))
    assert again.customer == order.customer
    assert again == order


async def test_a_list_of_references(do):
    class Team(Model):
        id = StringAttribute(partition_key=True)
        members = ListAttribute(of=Reference(Customer))

    ada = await do.create(Customer, id="ada")
    await do.create(Team, id="1", members=[ada, "bob"])
    await do.update_by_key(Team, "1", Team.members.append([Customer(id="eve")]))  # type: ignore[list-item]
    loaded = await do.get(Team, id="1")
    assert [member.key for member in loaded.members] == ["ada", "bob", "eve"]
    assert await do.get(loaded.members[0]) == ada
    assert await do.count(Team, Team.members.contains(ada)) == 1


async def test_a_reference_can_be_a_key_and_have_a_default(do):
    class Membership(Model):
        customer = Reference(Customer, partition_key=True)
        branch = Reference(Branch, sort_key=True)
        by: Reference[Any] = Reference("Membership", default=("eve", ("de", 1)))

    ada = await do.create(Customer, id="ada")
    for number in (1, 2):
        await do.create(Membership, customer=ada, branch=("de", number))
    found = await do.get(Membership, customer="ada", branch=Branch(country="de", number=2))
    assert found.customer.key == "ada"
    assert [part.key for part in found.by.key] == ["eve", ("de", 1)]
    assert await do.get(found.by) is None
    found.by = found
    assert await do.get(found.by) is found
    assert [one.branch.key for one in await do.iterate(do.query(Membership, customer=ada))] == [("de", 1), ("de", 2)]
    with pytest.raises(ConfigurationError, match=r"Wrong\.other: default="):
        type("Wrong", (Model,), {"id": StringAttribute(partition_key=True), "other": Reference(Customer, default=5)})


def test_a_reference_names_a_model():
    wrongs: list[Any] = [5, None, str, Model, type("Abstract", (Model,), {"model_config": ModelConfig(abstract=True)})]
    for wrong in wrongs:
        with pytest.raises(ConfigurationError, match=r"Wrong\.other: a Reference takes a model with a table"):
            type("Wrong", (Model,), {"id": StringAttribute(partition_key=True), "other": Reference(wrong)})

    class Missing(Model):
        id = StringAttribute(partition_key=True)
        other: Reference[Any] = Reference("Nowhere")

    with pytest.raises(ConfigurationError, match=r"Missing\.other: no model has the name 'Nowhere'"):
        Missing(id="1", other="x")

    class Local(Model):
        id = StringAttribute(partition_key=True)
        other: Reference[Any] = Reference("Local")
        full: Reference[Any] = Reference(f"{__name__}.Customer")

    assert Local.other.target is Local
    assert Local.full.target is Customer


def test_type_checkers_know_the_model():
    order = Order(id="1", customer="ada", parent="2")
    assert_type(order.customer, "Ref[Customer] | None")
    assert_type(order.parent, "Ref[Order] | None")
    if order.customer is not None:
        assert_type(order.customer.model, "type[Customer]")
        assert order.customer.model is Customer
    order.customer = Customer(id="bob")
    order.customer = ("bob",)
