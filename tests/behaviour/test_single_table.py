"""Several classes in one table: keys from templates, discriminators, and collections."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import (
    DateAttribute,
    DatetimeAttribute,
    DecimalAttribute,
    NumberAttribute,
    StringAttribute,
    UUIDAttribute,
    VersionAttribute,
)
from mintkey.errors import (
    BatchIncomplete,
    InvalidValue,
    KeyCollision,
    UnreadableItem,
)
from mintkey.hooks import before_save
from mintkey.pipelines import pipeline


class User(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="USER#{email}")
    sk = StringAttribute(sort_key=True, template="PROFILE")
    email = StringAttribute()
    name = StringAttribute()
    version = VersionAttribute()


class Order(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="USER#{user}")
    sk = StringAttribute(sort_key=True, template="ORDER#{id}")
    user = StringAttribute()
    id = StringAttribute(default=AutoGenerate.ULID)
    total = NumberAttribute()


class Line(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="ORDER#{order}")
    sk = StringAttribute(sort_key=True, template="LINE#{n:04d}#{product}")
    order = StringAttribute()
    n = NumberAttribute()
    product = StringAttribute()
    price = NumberAttribute()


async def test_a_key_is_built_from_its_parts(do, raw):
    user = User(email="a@b.c", name="Ada")
    assert (user.pk, user.sk) == ("USER#a@b.c", "PROFILE")
    await do.save(user)
    found = await do.get(User, email="a@b.c")
    assert found == user
    assert (
        found.to_dict()
        == user.to_dict()
        == {
            "pk": "USER#a@b.c",
            "sk": "PROFILE",
            "email": "a@b.c",
            "name": "Ada",
            "version": 1,
        }
    )
    assert found.changed == user.changed == frozenset()
    assert User.from_dict(found.to_dict()).to_dict() == found.to_dict()
    stored = await do.all(do.scan(raw(User, email=StringAttribute())))
    assert [(row.pk, row.sk, row.email) for row in stored] == [("USER#a@b.c", "PROFILE", "a@b.c")]


async def test_all_ways_of_writing_build_it(do):
    order = Order(user="a", total=1)
    assert order.sk is None
    await do.save(order)
    assert order.sk == f"ORDER#{order.id}"
    created = await do.create(Order, user="a", id="x", total=2)
    assert created.sk == "ORDER#x"
    await do.batch_save(Order, [Order(user="a", id=f"y{n}", total=n) for n in range(3)])
    with pipeline() as together:
        Order.create(user="a", id="z", total=9, pipeline=together)
        assert len(together) == 1
    found = await do.all(do.query(Order, user="a"))
    assert [one.sk for one in found] == sorted(
        [f"ORDER#{order.id}", "ORDER#x", "ORDER#y0", "ORDER#y1", "ORDER#y2", "ORDER#z"]
    )
    await do.update_by_key(Order, {"user": "a", "id": "new"}, upsert=True, total=5)
    new = await do.get(Order, user="a", id="new")
    assert (new.user, new.id, new.total) == ("a", "new", 5)


async def test_generated_and_supplied_parts(do):
    with pytest.raises(KeyCollision):
        await do.create(Order, user="a", id=(await do.create(Order, user="a")).id)
    # A key of supplied parts overwrites, as a supplied key does.
    await do.save(Order(user="a", id="x", total=1))
    await do.save(Order(user="a", id="x", total=2))
    assert (await do.get(Order, user="a", id="x")).total == 2


async def test_a_stored_key_cannot_change(do):
    order = await do.create(Order, user="a", id="x", total=1)
    order.id = "y"
    for writing in (do.save(order), do.save(order, replace=True), do.update(order, total=3)):
        with pytest.raises(InvalidValue, match=r"Order\.id: the key of a stored item cannot change") as failure:
            await writing
        assert failure.value.attribute == "id"
    with pytest.raises(InvalidValue, match=r"Order\.user: a key cannot be updated"):
        await do.update_by_key(Order, ("a", "x"), user="b")
    with pytest.raises(InvalidValue, match=r"Order\.sk: a key cannot be updated"):
        await do.update_by_key(Order, ("a", "x"), sk="ORDER#b")
    order.id = "x"
    order.total = 4
    assert order.changed == {"total"}
    await do.save(order)
    assert (await do.get(Order, user="a", id="x")).total == 4


async def test_a_given_key_must_fit_its_parts(do):
    await do.save(User(pk="USER#a", email="a"))
    given: dict[str, Any]
    for given, problem in (
        ({"pk": "USER#b", "email": "a"}, r"User\.pk: 'USER#b' contradicts email='a'"),
        ({"sk": "ADDRESS", "email": "a"}, r"User\.sk: 'ADDRESS' differs from 'PROFILE'"),
        ({"pk": "ORDER#a"}, r"User\.pk: 'ORDER#a' does not fit the template 'USER#\{email\}'"),
        ({"pk": "USER#"}, r"User\.pk: 'USER#' does not fit"),
        ({"pk": 5, "email": "a"}, r"User\.pk: 5 does not fit"),
    ):
        with pytest.raises(InvalidValue, match=problem) as failure:
            User(**given)
        name = str(failure.value.attribute)
        for user in (User(email="a"), await do.get(User, email="a")):
            with pytest.raises(InvalidValue, match=rf"User\.{name}: "):
                setattr(user, name, given[name])
            with pytest.raises(InvalidValue, match=rf"User\.{name}: None differs .*instead|leave it out"):
                setattr(user, name, None)
            user.sk = "PROFILE"
            user.pk = "USER#a"
            assert (user.pk, user.email) == ("USER#a", "a")
    assert await do.count(User) == 1


async def test_a_given_key_sets_its_parts(do):
    assert User(pk="USER#q").to_dict() == {"pk": "USER#q", "sk": "PROFILE", "email": "q"}
    user = User(name="Ada")
    user.pk = "USER#r"
    assert user.email == "r"
    await do.save(user)
    user.pk = "USER#r"
    assert not user.is_dirty
    assert (await do.create(User, pk="USER#s")).email == "s"
    assert {one.email for one in await do.all(do.scan(User)) if one == await do.get(User, pk=one.pk)} == {"r", "s"}
    found, created = await do.get_or_create(User, pk="USER#r")
    assert (found.name, created) == ("Ada", False)
    assert await do.get_or_create(User, pk="USER#t") == (await do.get(User, email="t"), True)
    # A part that the key supplies is not generated, and counts as caller-supplied.
    for total in (1, 2):
        await do.save(Order(sk="ORDER#x", user="a", total=total))
    assert [(one.id, one.total) for one in await do.all(do.query(Order, user="a"))] == [("x", 2)]
    line = Line(pk="ORDER#o", sk="LINE#0007#pen")
    assert (line.order, line.n, line.product) == ("o", 7, "pen")
    assert Line(pk="ORDER#o", sk="LINE#0007#pen", n=Decimal(7)).sk == "LINE#0007#pen"
    for item in (user, line, Log(**LOG), await do.create(Log, **LOG)):
        assert type(item).from_dict(item.to_dict()).to_dict() == item.to_dict()


async def test_keys_in_all_calls(do):
    orders = [await do.create(Order, user="a", id=str(n), total=n) for n in range(4)]
    assert await do.get(Order, user="a", id="1") == orders[1]
    assert await do.get(Order, pk="USER#a", sk="ORDER#1") == orders[1]
    assert await do.get(Order, user="a", id="1", total=7) is None
    assert await do.get(Order.query, user="a", id="1") == orders[1]
    await do.update_by_key(Order, ("a", "1"), total=10)
    await do.update_by_key(Order, {"pk": "USER#a", "sk": "ORDER#1"}, Order.total.add(1))
    await do.refresh(orders[1])
    assert orders[1].total == 11
    if do.blocking:
        found = list(Order.batch_get([("a", "2"), ("a", "9"), {"pk": "USER#a", "sk": "ORDER#3"}]))
    else:
        found = [one async for one in Order.abatch_get([("a", "2"), ("a", "9"), {"pk": "USER#a", "sk": "ORDER#3"}])]
    assert found == [orders[2], None, orders[3]]
    await do.delete(orders[0])
    await do.batch_delete(Order, [("a", "2"), orders[3]])
    assert [one.id for one in await do.all(do.scan(Order))] == ["1"]
    with pytest.raises(TypeError, match=r"the key is user=…, id=…: id is missing"):
        await do.get(Order, user="a")
    with pytest.raises(InvalidValue, match=r"Order\.sk: 'LINE#1' does not fit the template"):
        await do.get(Order, pk="USER#a", sk="LINE#1")
    with pytest.raises(InvalidValue, match="contradicts"):
        await do.get(Order, pk="USER#a", user="b", id="1")


async def test_queries_by_parts(do):
    for product in ("pen", "ink", "pad"):
        for n in (1, 2, 30):
            await do.save(Line(order="o", n=n, product=product, price=n))
    await do.save(Line(order="other", n=1, product="pen"))

    def found(result: Any) -> Any:
        return do.all(result)

    assert len(await found(do.query(Line, order="o"))) == 9
    second = do.query(Line, order="o", n=2)
    assert "sk begins_with 'LINE#0002#'" in second.explain()
    assert [line.product for line in await found(second)] == ["ink", "pad", "pen"]
    whole = do.query(Line, order="o", n=2, product="pen")
    assert "sk == 'LINE#0002#pen'" in whole.explain()
    assert [line.price for line in await found(whole)] == [2]
    # A part behind an absent one is a filter.
    assert [line.n for line in await found(do.query(Line, order="o", product="pen"))] == [1, 2, 30]
    assert [line.n for line in await found(do.query(Line, Line.n > 1, order="o", product="pen"))] == [2, 30]
    assert [line.n for line in await found(do.query(Line, Line.sk >= "LINE#0003", order="o", product="pen"))] == [30]
    assert [line.n for line in await found(Line.query.filter(order="o", product="pen", price__gte=2))] == [2, 30]
    assert await do.count(Line, order="o", n=1) == 3
    assert await do.count(Line, product="pen") == 4
    page = await do.page(do.query(Line, order="o"), 4)
    rest = await do.page(do.query(Line, order="o"), 9, page.cursor)
    assert (len(page.items), len(rest.items)) == (4, 5)
    with pytest.raises(TypeError, match=r"needs a partition key: order=…"):
        do.query(Line, n=1)


async def test_classes_do_not_see_each_other(do):
    for email in ("a", "b"):
        await do.save(User(email=email, name=email))
        for n in (1, 2):
            await do.save(Order(user=email, id=str(n), total=n))
            await do.save(Line(order=f"{email}{n}", n=n, product="pen"))
    assert {user.email for user in await do.iterate(do.scan(User))} == {"a", "b"}
    assert {(order.user, order.id) for order in await do.iterate(do.scan(Order))} == {
        (user, n) for user in "ab" for n in "12"
    }
    assert await do.count(User) == 2
    assert await do.count(Order) == 4
    assert await do.count(Line) == 4
    assert await do.count(Order, Order.total > 1) == 2
    assert [order.id for order in await do.all(do.query(Order, user="a"))] == ["1", "2"]
    assert [order.id for order in await do.all(do.query(Order, pk="USER#a"))] == ["1", "2"]
    assert [user.name for user in await do.all(do.query(User, pk="USER#a"))] == ["a"]
    assert await do.all(do.query(User, pk="ORDER#a1")) == []
    assert await do.all(do.query(Line, pk="USER#a")) == []
    assert [line.n for line in await do.all(Line.query.filter(order="a1"))] == [1]
    assert len(await do.all(do.scan(Order, attributes=["total"]))) == 4
    assert await do.count(do.scan(Order, segments=3)) == 4


class Log(Model):
    model_config = ModelConfig(table="logs")
    pk = StringAttribute(partition_key=True, template="{{LOG}}{app}")
    sk = StringAttribute(sort_key=True, template="{at:%Y-%m-%dT%H:%M:%SZ}/{day:%Y%m%d}/{cost:010.2f}/{key}/{exact}!")
    app = NumberAttribute()
    at = DatetimeAttribute()
    day = DateAttribute()
    cost = DecimalAttribute()
    key = UUIDAttribute()
    exact = DatetimeAttribute()


UUID = uuid.UUID("0188c89d-df6b-4f1c-a388-91396ec314bc")
AT = datetime(999, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LOG: dict[str, Any] = {
    "app": 7,
    "at": AT,
    "day": date(2024, 5, 6),
    "cost": Decimal("12.5"),
    "key": UUID,
    "exact": AT.replace(microsecond=1),
}


async def test_parts_of_all_types(do, raw):
    log = await do.create(Log, **LOG)
    assert log.pk == "{LOG}7"
    assert log.sk == f"0999-01-02T03:04:05Z/20240506/0000012.50/{UUID}/0999-01-02T03:04:05.000001+00:00!"
    found = await do.get(Log, **LOG)
    assert found == log
    assert {name: getattr(found, name) for name in LOG} == LOG
    # A program that stores only the key.
    other = raw(Log)
    await do.save(other(pk="{LOG}8", sk=log.sk.replace(str(UUID), UUID.hex.upper())))
    (foreign,) = await do.all(do.query(Log, app=8))
    assert {name: getattr(foreign, name) for name in LOG} == {**LOG, "app": 8}
    assert not foreign.is_dirty
    await do.delete(foreign)
    assert await do.count(other) == 1


async def test_text_has_the_order_of_numbers_and_times(do):
    class Reading(Model):
        pk = StringAttribute(partition_key=True, template="SENSOR#{sensor}")
        sk = StringAttribute(sort_key=True, template="{n:03d}#{at:%Y%m%d%H}")
        sensor = StringAttribute()
        n = NumberAttribute()
        at = DatetimeAttribute()

    moments = [datetime(2024, 1, day, hour, tzinfo=timezone.utc) for day in (2, 11) for hour in (3, 20)]
    rows = [(n, at) for n in (0, 2, 10, 999) for at in moments]
    await do.batch_save(Reading, [Reading(sensor="s", n=n, at=at) for n, at in reversed(rows)])
    assert [(one.n, one.at) for one in await do.all(do.query(Reading, sensor="s"))] == rows
    for n in (-1, 1000, 1.5, Decimal("0.1")):
        with pytest.raises(InvalidValue, match=r"Reading\.n: .*does not fit the format :03d"):
            await do.save(Reading(sensor="s", n=n, at=moments[0]))
        with pytest.raises(InvalidValue, match=r"does not fit the format :03d"):
            await do.get(Reading, sensor="s", n=n, at=moments[0])
    with pytest.raises(InvalidValue, match=r"Reading\.at: .*more than the format"):
        await do.save(Reading(sensor="s", n=1, at=moments[0].replace(minute=1)))


class Pair(Model):
    pk = StringAttribute(partition_key=True, template="P#{a}##{b}#E")
    a = StringAttribute()
    b = StringAttribute()


AWKWARD = ["x", "#", "##", "x#", "#x", "x##", "#E", "E", "x#E", "", "é\0", "{a}"]


async def test_no_two_items_share_a_key(do):
    saved: dict[str, tuple[str, str]] = {}
    for a in AWKWARD:
        for b in AWKWARD:
            pair = Pair(a=a, b=b)
            is_refused = not a or not b or (a + "##").index("##") != len(a) or (b + "#E").index("#E") != len(b)
            if is_refused:
                with pytest.raises(InvalidValue, match=r"Pair\.[ab]: pk is built from it"):
                    await do.save(pair)
                with pytest.raises(InvalidValue, match=r"Pair\.[ab]: pk is built from it"):
                    await do.get(Pair, a=a, b=b)
                continue
            await do.save(pair)
            assert saved.setdefault(pair.pk or "", (a, b)) == (a, b)
            found = await do.get(Pair, a=a, b=b)
            assert (found.a, found.b) == (a, b)
            assert await do.get(Pair, pk=pair.pk) == pair
    assert await do.count(Pair) == len(saved) > 20
    with pytest.raises(BatchIncomplete) as incomplete:
        await do.batch_save(Pair, [Pair(a="ok", b="ok"), Pair(a="##", b="b"), Pair(a=None, b="b")])
    assert [type(error) for _, error in incomplete.value.failed] == [InvalidValue, InvalidValue]


async def test_a_key_of_wrong_shape_is_unreadable(do, raw):
    await do.save(Line(order="o", n=1, product="pen"))
    other = raw(Line)
    wrong = ["LINE#1#pen", "LINE#0001", "LINE#0001#", "LINE#00x1#pen", "LINE#"]
    await do.batch_save(other, [other(pk="ORDER#o", sk=sk) for sk in [*wrong, "SHIP#1"]])
    with pytest.raises(UnreadableItem, match=r"Line\.sk: the stored key 'LINE#' does not fit") as unreadable:
        await do.all(do.query(Line, order="o"))
    assert unreadable.value.key == {"pk": "ORDER#o", "sk": "LINE#"}
    assert unreadable.value.item == {"pk": "ORDER#o", "sk": "LINE#"}
    seen: list[Any] = []
    assert len(await do.all(do.query(Line, order="o", on_unreadable=seen.append))) == 1
    assert len(await do.all(do.scan(Line, on_unreadable="skip"))) == 1
    await do.batch_delete(Line, [error.key for error in seen])
    assert [one.sk for one in await do.all(do.scan(other))] == ["LINE#0001#pen", "SHIP#1"]


class Settings(Model):
    model_config = ModelConfig(table="shop")
    pk = StringAttribute(partition_key=True, template="SETTINGS")
    sk = StringAttribute(sort_key=True, template="SETTINGS")
    theme = StringAttribute()


async def test_a_static_key_needs_no_argument(do):
    assert await do.get(Settings) is None
    await do.save(Settings(theme="dark"))
    assert (await do.get(Settings)).theme == "dark"
    assert [one.theme for one in await do.all(do.query(Settings))] == ["dark"]
    await do.update_by_key(Settings, {}, theme="light")
    await do.update_by_key(Settings, (), theme="light")
    assert (await do.get(Settings)).theme == "light"
    await do.batch_delete(Settings, [{}])
    assert await do.count(Settings) == 0


class Event(Model):
    pk = StringAttribute(partition_key=True, template="EVENT#{name}")
    name = StringAttribute(default=lambda: "made")
    seen = StringAttribute()

    @before_save
    def note(self) -> None:
        self.seen = self.pk


async def test_hooks_read_the_key(do):
    event = Event()
    await do.save(event)
    assert event.seen == "EVENT#made"
    with pytest.raises(KeyCollision):
        await do.save(Event())


async def test_an_instance_with_a_key_of_one_part_more(do):
    order = Order(user="a", id="x", total=1)
    await do.save(order)
    (loaded,) = await do.all(do.query(Order, user="a", attributes=["total"]))
    assert (loaded.pk, loaded.sk, loaded.user, loaded.id) == ("USER#a", "ORDER#x", "a", "x")
    loaded.total = 3
    await do.save(loaded)
    await do.refresh(order)
    assert order.total == 3
    await do.delete(order)
    await do.save(order)
    assert await do.get(Order, user="a", id="x") == order
