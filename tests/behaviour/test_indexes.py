"""Declared indexes: other orders, what is in them, what they show."""

from __future__ import annotations

import enum

import pytest

from mintkey import AutoGenerate, Index, Model, ModelConfig
from mintkey.attributes import BooleanAttribute, DatetimeAttribute, EnumAttribute, NumberAttribute, StringAttribute
from mintkey.errors import BatchIncomplete, ConfigurationError, InvalidValue, NotLoaded


class Order(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = StringAttribute(sort_key=True)
    status = StringAttribute()
    total = NumberAttribute()
    note = StringAttribute(alias="n")
    customer = StringAttribute(index=True)
    by_status = Index(partition_key="status", sort_key="total")
    by_total = Index("total", projection=["note"])
    keys_by_note = Index("note", "status", projection="keys")
    in_order = Index("pk", "total", local=True)


@pytest.fixture
async def orders(do):
    made = [
        Order(pk=f"p{n % 3}", sk=f"{n}", status="open" if n % 2 else "paid", total=10 - n, note=f"n{n}")
        for n in range(8)
    ]
    made[0].status = None
    made[2].total = None
    made[5].customer = "Ada"
    await do.batch_save(Order, made)
    return made


async def test_an_index_is_read_in_its_order_both_ways(do, orders):
    index = Order.by_status
    query = index.query if do.blocking else index.aquery
    assert [order.sk for order in await do.iterate(query(status="open"))] == ["7", "5", "3", "1"]
    assert [order.sk for order in await do.iterate(query(status="open", descending=True, limit=2))] == ["1", "3"]
    assert [order.sk for order in await do.iterate(query(Order.total >= 5, Order.total < 9, status="open"))] == [
        "5",
        "3",
    ]
    assert [order.sk for order in await do.iterate(query(status="open", total=5))] == ["5"]
    assert await do.count(index, status="open") == 4
    assert "judged" not in query(Order.total > 5, status="open").explain()


async def test_the_keywords_alone_find_the_index(do, orders):
    assert [order.sk for order in await do.iterate(do.query(Order, status="paid"))] == ["6", "4"]
    assert [order.sk for order in await do.iterate(do.query(Order, customer="Ada"))] == ["5"]
    assert "index 'by_status'" in Order.query(status="paid").explain()
    assert "index" not in Order.query(pk="p0", status="paid").explain()
    with pytest.raises(ConfigurationError, match=r"'keys_by_note'.*'customer'|'customer'.*'keys_by_note'"):
        Order.query(note="n1", customer="Ada")
    # A local index shares its partition with the table: it is named once.
    with pytest.raises(TypeError, match=r"key: pk=… or customer=… or status=… or total=… or note=…\."):
        Order.query(sk="1")


async def test_items_without_its_attributes_are_not_in_it(do, orders):
    seen = set()
    for status in ("open", "paid"):
        seen |= {order.sk for order in await do.iterate(do.query(Order, status=status))}
    assert seen == {"1", "3", "4", "5", "6", "7"}
    orders[2].total = 1
    orders[1].status = None
    await do.batch_save(Order, orders[:3])
    assert [order.sk for order in await do.iterate(do.query(Order, status="paid"))] == ["2", "6", "4"]
    assert [order.sk for order in await do.iterate(do.query(Order, status="open"))] == ["7", "5", "3"]


async def test_what_an_index_does_not_show_is_not_loaded(do, orders):
    (order,) = await do.iterate(do.query(Order, total=7, index="by_total"))
    assert (order.pk, order.sk, order.total, order.note) == ("p0", "3", 7, "n3")
    with pytest.raises(NotLoaded, match="status"):
        _ = order.status
    order.note = "changed"
    await do.save(order)
    stored = await do.get(Order, pk="p0", sk="3")
    assert (stored.note, stored.status) == ("changed", "open")
    (order,) = await do.iterate(do.query(Order, note="n4", index="keys_by_note"))
    assert (order.pk, order.sk, order.note, order.status) == ("p1", "4", "n4", "paid")
    with pytest.raises(NotLoaded):
        _ = order.total
    with pytest.raises(ConfigurationError, match="the index 'by_total' does not contain 'status'"):
        Order.query(total=7, index="by_total", attributes=["status"])
    assert (await do.all(Order.query.filter(total=7)))[0].status == "open"


async def test_a_local_index_orders_a_partition(do, orders):
    found = await do.iterate(do.query(Order, pk="p0", index="in_order", consistent=True))
    assert [order.sk for order in found] == ["6", "3", "0"]


async def test_an_index_follows_every_write(do, orders):
    await do.update(orders[1], status="paid")
    await do.delete(orders[4])
    await do.update_by_key(Order, (orders[6].pk, "6"), Order.total.add(100))
    assert [order.sk for order in await do.iterate(do.query(Order, status="paid"))] == ["1", "6"]
    assert [order.sk for order in await do.iterate(do.query(Order, status="open"))] == ["7", "5", "3"]


async def test_an_index_is_built_from_the_rows_that_are_there(do):
    class Before(Model):
        model_config = ModelConfig(table="grown")
        pk = StringAttribute(partition_key=True)
        name = StringAttribute()

    class After(Model):
        model_config = ModelConfig(table="grown")
        pk = StringAttribute(partition_key=True)
        name = StringAttribute()
        by_name = Index("name", "pk")

    await do.batch_save(Before, [Before(pk=str(n), name="odd" if n % 2 else None) for n in range(5)])
    await do.create_table(After)
    assert [item.pk for item in await do.iterate(do.query(After, name="odd"))] == ["1", "3"]
    # Who does not know of the index keeps it up all the same.
    await do.save(Before(pk="7", name="odd"))
    await do.delete(await do.get(Before, pk="1"))
    assert [item.pk for item in await do.iterate(do.query(After, name="odd"))] == ["3", "7"]


class State(enum.Enum):
    OPEN = "open"
    PAID = "paid"


class Rank(enum.IntEnum):
    LOW = 9
    HIGH = 10


class Seal(enum.Enum):
    RED = b"r"
    BLUE = b"b"


async def test_members_of_an_enum_are_keys_and_indexed_by_their_values(do):
    class Case(Model):
        state = EnumAttribute(State, partition_key=True)
        rank = EnumAttribute(Rank, sort_key=True)
        seal = EnumAttribute(Seal, index=True)
        by_rank = Index("rank", "state", projection="keys")

    await do.batch_save(
        Case,
        [
            Case(state=State.OPEN, rank=Rank.HIGH, seal=Seal.RED),
            Case(state=State.OPEN, rank=Rank.LOW, seal=Seal.BLUE),
            Case(state=State.PAID, rank=Rank.HIGH, seal=Seal.RED),
        ],
    )
    assert (await do.get(Case, state=State.OPEN, rank=Rank.LOW)).seal is Seal.BLUE
    assert [case.rank for case in await do.iterate(do.query(Case, state=State.OPEN))] == [Rank.LOW, Rank.HIGH]
    found = await do.iterate(do.query(Case, Case.rank > Rank.LOW, state=State.OPEN))
    assert [(case.rank, case.seal) for case in found] == [(Rank.HIGH, Seal.RED)]
    assert await do.count(Case, seal=Seal.RED) == 2
    query = Case.by_rank.query if do.blocking else Case.by_rank.aquery
    assert [case.state for case in await do.iterate(query(rank=Rank.HIGH))] == [State.OPEN, State.PAID]
    page = await do.page(Case.by_rank.query(rank=Rank.HIGH), 1)
    rest = await do.page(Case.by_rank.query(rank=Rank.HIGH), 5, cursor=page.cursor)
    assert [case.state for case in rest] == [State.PAID]
    await do.update(found[0], seal=Seal.BLUE)
    assert await do.count(Case, seal=Seal.RED) == 1
    assert await do.batch_delete(Case, [(State.OPEN, Rank.HIGH)]) == 1
    assert await do.count(Case.by_rank, rank=Rank.HIGH) == 1
    with pytest.raises(InvalidValue, match=r"Case\.state: expected a State \(OPEN, PAID\), got 'open'"):
        await do.get(Case, state="open", rank=Rank.LOW)


def test_an_enum_of_mixed_values_is_no_key():
    class Mixed(enum.Enum):
        A = "a"
        B = 1

    with pytest.raises(ConfigurationError, match=r"Case\.kind: this EnumAttribute cannot be a key; .*: use a"):

        class Case(Model):
            kind = EnumAttribute(Mixed, partition_key=True)


async def test_a_value_that_an_index_cannot_hold_leaves_the_row_out_of_it(do, store):
    for sk, status in (("1", ""), ("2", "x" * 2049)):
        item = Order(sk=sk, status=status, total=1)
        if store.url.startswith("dynamodb"):
            with pytest.raises(InvalidValue, match=r"Order\.status.*index .*cannot hold"):
                await do.save(item)
            with pytest.raises(BatchIncomplete, match="status"):
                await do.batch_save(Order, [Order(sk=sk, status=status, total=1)])
            await do.save(item := Order(sk=sk, status="short", total=1))
            with pytest.raises(InvalidValue, match=r"Order\.status.*index .*cannot hold"):
                await do.update(item, status=status)
            continue
        await do.save(item)
        await do.update(item, total=2)
        item.total = 3
        await do.save(item)
        assert (await do.get(Order, pk=item.pk, sk=sk)).status == status
        assert await do.all(do.query(Order, status=status)) == []
        assert [found.sk for found in await do.all(Order.query.filter(status=status))] == [sk]
        assert await do.count(Order, Order.status == status, Order.total == 3) == 1
        await do.update(item, status="short")
        assert [found.sk for found in await do.all(do.query(Order, status="short"))] == [sk]
        await do.update(item, status=status)
        assert await do.all(do.query(Order, status="short")) == []
        await do.batch_save(Order, [Order(sk=sk, status=status, total=1)])
        await do.delete(item)
        await do.batch_delete(Order, await do.all(do.scan(Order)))
    assert await do.count(Order, Order.status.size() > 100) == 0


async def test_a_value_that_is_too_long_for_a_sort_key_is_found_as_a_partition_key(do, store):
    class Before(Model):
        model_config = ModelConfig(table="two-roles")
        pk = StringAttribute(partition_key=True)
        city = StringAttribute()
        kind = StringAttribute()
        by_city = Index("city", "kind")

    class After(Model):
        model_config = ModelConfig(table="two-roles")
        pk = StringAttribute(partition_key=True)
        city = StringAttribute()
        kind = StringAttribute(index=True)
        by_city = Index("city", "kind")
        by_key = Index("kind", "pk")

    long, key = "x" * 1500, "k" * 1500
    if store.url.startswith("dynamodb"):
        with pytest.raises(InvalidValue, match=r"After\.kind.*index .*cannot hold"):
            await do.save(After(pk="1", city="Ulm", kind=long))
        return
    await do.save(Before(pk="1", city="Ulm", kind=long))
    await do.save(Before(pk=key, city="Ulm", kind="short"))
    await do.save(After(pk="2", city="Ulm", kind=long))
    await do.save(After(pk="3", city="Ulm", kind="short"))
    for model in (After, Before):
        found = await do.iterate(model.by_city.query(city="Ulm"))
        assert {one.pk for one in found} == {key, "3"}
        assert await do.count(model.by_city, city="Ulm") == 2
    for value, keys in ((long, ["1", "2"]), ("short", ["3", key])):
        assert sorted(one.pk for one in await do.iterate(do.query(After, kind=value, index="kind"))) == keys
        # The key of the table is too long for the sort key of this index.
        assert [one.pk for one in await do.iterate(After.by_key.query(kind=value))] == [
            one for one in keys if one != key
        ]


async def test_an_index_is_added_to_rows_with_values_that_it_cannot_hold(do, store):
    class Old(Model):
        model_config = ModelConfig(table="indexed-later")
        pk = StringAttribute(partition_key=True)
        kind = StringAttribute()
        n = NumberAttribute()

    class New(Model):
        model_config = ModelConfig(table="indexed-later")
        pk = StringAttribute(partition_key=True)
        kind = StringAttribute(index=True)
        n = NumberAttribute()

    if store.url.startswith("dynamodb"):
        pytest.skip("DynamoDB itself refuses writes of such rows")
    await do.batch_save(Old, [Old(pk="empty", kind=""), Old(pk="long", kind="x" * 3000), Old(pk="fits", kind="k")])
    await do.save(New(pk="new", kind="k"))
    assert {item.pk for item in await do.all(do.query(New, kind="k"))} == {"fits", "new"}
    for pk in ("empty", "long"):
        item = await do.get(New, pk=pk)
        item.n = 1
        await do.save(item)
        await do.update(item, New.n.add(1))
        assert await do.all(do.query(New, kind=item.kind)) == []
        assert [found.n for found in await do.all(New.query.filter(kind=item.kind))] == [2]
        await do.delete(item)
    assert await do.count(New) == 2


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (lambda: Index("nothing"), "names 'nothing', which Wrong does not have"),
        (lambda: Index("name", "no sort"), "names 'no sort'"),
        (lambda: Index("name", projection=["no value"]), "names 'no value'"),
        (lambda: Index("name", projection="some"), "projection= takes 'all', 'keys' or a list of names"),
        (lambda: Index("flag"), r"this BooleanAttribute cannot be indexed; .*: use a StringAttribute"),
        (lambda: Index("name", "when", local=True), "a local index needs the table's partition key"),
        (lambda: Index("pk", local=True), r"a local index needs .*, in a table that has a sort key"),
    ],
)
def test_a_wrong_index_is_refused_with_the_class(declared, told):
    with pytest.raises(ConfigurationError, match=told):

        class Wrong(Model):
            pk = StringAttribute(partition_key=True)
            sk = StringAttribute(sort_key=True)
            name = StringAttribute()
            when = DatetimeAttribute()
            flag = BooleanAttribute()
            index_ = declared()


def test_an_index_that_is_not_there_is_named():
    with pytest.raises(ConfigurationError, match="Order has no index 'by_nothing'; it has"):
        Order.query(status="open", index="by_nothing")
    with pytest.raises(TypeError, match=r"the index 'by_status' needs status=…"):
        Order.by_status.query(total=5)


def test_subclasses_inherit_and_remove_indexes():
    class Base(Model):
        pk = StringAttribute(partition_key=True)
        name = StringAttribute()
        by_name = Index("name")

    class Child(Base):
        other = StringAttribute()
        by_other = Index("other")

    class Without(Base):
        by_name = None  # type: ignore[assignment]

    assert [plan.name for plan in Child.__mintkey_schema__.indexes] == ["by_name", "by_other"]
    assert Without.__mintkey_schema__.indexes == ()
    assert repr(Child.by_name) == "<Index Child.by_name>"


async def test_an_item_that_moves_between_two_pages_is_read_twice_or_not_at_all(do, orders):
    """The guide to indexes says so, and what to do: a query of the table keeps the position of each item."""
    query = Order.by_status.query if do.blocking else Order.by_status.aquery
    page = await do.page(query(status="open"), 2)
    assert [order.sk for order in page] == ["7", "5"]
    await do.update(next(iter(page)), total=20)
    await do.update(next(order for order in orders if order.sk == "1"), total=1)
    rest = await do.page(query(status="open"), 10, cursor=page.cursor)
    assert [order.sk for order in rest] == ["3", "7"]

    page = await do.page(do.query(Order, pk="p1"), 1)
    assert [order.sk for order in page] == ["1"]
    await do.update(next(iter(page)), total=99)
    rest = await do.page(do.query(Order, pk="p1"), 10, cursor=page.cursor)
    assert [order.sk for order in rest] == ["4", "7"]
