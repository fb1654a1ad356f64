"""Instances before any store is there: construction, equality, what is shown, what is refused."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import pytest

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import ListAttribute, NumberAttribute, StringAttribute, StringSetAttribute
from mintkey.errors import ConfigurationError, InvalidValue


class Order(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    sk = StringAttribute(sort_key=True)
    total = NumberAttribute()
    status = StringAttribute(default="new")
    lines = ListAttribute(default=list)
    tags = StringSetAttribute()


@pytest.mark.parametrize(("wrong", "near"), [("totl", "total"), ("Status", "status"), ("PK", None), ("x", None)])
def test_an_unknown_name_is_refused_with_the_nearest(wrong, near):
    with pytest.raises(TypeError, match=rf"Order.*{wrong}") as caught:
        Order(sk="1", **{wrong: 1})
    assert (near is None) or f"did you mean '{near}'" in str(caught.value)
    with pytest.raises(TypeError, match=wrong):
        Order.from_dict({"sk": "1", wrong: 1})


def test_values_have_no_positions():
    with pytest.raises(TypeError):
        Order("1")  # type: ignore[call-arg]


def test_model_itself_makes_no_instances():
    with pytest.raises(TypeError, match="define a subclass"):
        Model()


def test_absent_values_are_none_and_not_kept():
    order = Order(sk="1", total=None)
    assert order.pk is None
    assert order.total is None
    assert set(order.__dict__) == {"sk", "status", "lines"}
    assert order.to_dict() == {"sk": "1", "status": "new", "lines": []}


def test_plain_defaults_are_given_unless_a_value_or_none_is():
    assert Order(sk="1").status == "new"
    assert Order(sk="1", status="old").status == "old"
    assert Order(sk="1", status=None).status is None
    one, two = Order(sk="1"), Order(sk="2")
    assert one.lines is not two.lines


def test_values_are_not_checked_at_construction_or_assignment():
    order = Order(sk=5, total="x")
    order.tags = "x"  # type: ignore[assignment]
    assert order.to_dict() == {"sk": 5, "total": "x", "status": "new", "lines": [], "tags": "x"}


def test_two_unsaved_objects_are_equal_only_if_they_are_the_same():
    one, two = Order(pk="a", sk="1"), Order(pk="a", sk="1")
    assert one == one  # noqa: PLR0124
    assert one != two
    assert [two, one].index(one) == 1


def test_an_unsaved_object_has_no_hash():
    with pytest.raises(TypeError, match="unsaved"):
        {Order(pk="a", sk="1")}


def test_repr_names_class_and_values_and_mints_nothing():
    order = Order(sk="1", total=2.5)
    assert repr(order) == "Order(sk='1', total=2.5, status='new', lines=[])"
    assert order.pk is None


def test_what_is_dirty_and_changed_before_the_first_save():
    order = Order(sk="1")
    assert order.is_dirty
    assert order.changed == {"sk", "status", "lines"}
    assert order.unminted == {"pk"}


def test_setting_none_and_deleting_are_the_same():
    order = Order(sk="1", total=5)
    order.total = None
    assert "total" not in order.__dict__
    order.total = 6
    del order.total
    assert order.total is None
    del order.total
    assert order.total is None


def test_other_attributes_are_plain_python():
    order: Any = Order(sk="1")
    order.remark = "for the program alone"
    assert "remark" not in order.to_dict()
    del order.remark


def test_a_set_without_a_value_is_an_empty_set_of_its_own():
    one, two = Order(sk="1"), Order(sk="2")
    one.tags |= {"x"}
    assert one.tags == {"x"}
    assert two.tags == set()
    assert "tags" not in two.to_dict()
    one.tags = None
    assert one.tags == set()


def test_unsaved_objects_are_copied_and_pickled():
    order = Order(sk="1", lines=[1])
    for twin in (copy.deepcopy(order), pickle.loads(pickle.dumps(order))):
        assert twin.to_dict() == order.to_dict()
        assert twin.is_dirty
        assert twin.lines is not order.lines


def test_a_class_may_have_an_init_of_its_own():
    class Own(Model):
        pk = StringAttribute(partition_key=True)
        n = NumberAttribute(default=3)

        def __init__(self, pk: str, **values) -> None:
            super().__init__(pk=pk.upper(), **values)
            self.extra = 1

    class Further(Own):
        m = NumberAttribute(default=4)

    assert Own("a").to_dict() == {"pk": "A", "n": 3}
    assert Further("a", m=5).to_dict() == {"pk": "A", "n": 3, "m": 5}
    with pytest.raises(TypeError, match="x"):
        Own("a", x=1)


def test_properties_methods_and_class_attributes_of_a_model_are_its_own():
    class Rich(Model):
        pk = StringAttribute(partition_key=True)
        LIMIT = 5

        @property
        def loud(self) -> str:
            return (self.pk or "").upper()

    assert Rich(pk="a").loud == "A"
    assert Rich(pk="a").to_dict() == {"pk": "a"}
    assert Rich.LIMIT == 5


def test_conditions_are_built_from_the_class_and_have_no_truth_value():
    condition = (Order.total > 5) & ~(Order.status == "x") | Order.tags.contains("a")
    assert "Order.total > 5" in repr(condition)
    for use in (bool, lambda one: one and one, lambda one: not one):
        with pytest.raises(TypeError, match=r"& \| ~"):
            use(condition)
    with pytest.raises(TypeError, match=r"& \| ~"):
        Order.total in [1, Order.total]  # noqa: B015


@pytest.mark.parametrize(
    "build",
    [
        lambda: Order.total == None,  # noqa: E711
        lambda: Order.total != None,  # noqa: E711
        lambda: Order.total < None,  # type: ignore[operator]
        lambda: Order.total.between(None, 1),  # type: ignore[arg-type]
        lambda: Order.total.is_in([1, None]),  # type: ignore[list-item]
        lambda: Order.status.begins_with(None),  # type: ignore[arg-type]
        lambda: Order.status.contains(None),  # type: ignore[arg-type]
        lambda: Order.lines[0] == None,  # noqa: E711
    ],
    ids=range(8),
)
def test_a_condition_with_none_names_does_not_exist(build):
    with pytest.raises(InvalidValue, match="does_not_exist"):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Order.total == "5",
        lambda: Order.total > True,
        lambda: Order.total > math.inf,
        lambda: Order.total < 10**38 + 1,
        lambda: Order.status == 5,
        lambda: Order.status > b"x",  # type: ignore[operator]
        lambda: Order.status == "\ud800",
        lambda: Order.status.begins_with(5),  # type: ignore[arg-type]
        lambda: Order.tags.contains(5),  # type: ignore[call-overload]
        lambda: Order.tags == {1},
        lambda: Order.lines == {"a": 1},
        lambda: Order.status.size() > "x",  # type: ignore[operator]
        lambda: Order.status.size() > 1.5,  # type: ignore[operator]
        lambda: Order.status.is_type("text"),  # type: ignore[arg-type]
        lambda: Order.total.is_in(["1"]),  # type: ignore[list-item]
        lambda: Order.total.between("1", "2"),  # type: ignore[arg-type]
    ],
    ids=range(16),
)
def test_a_condition_with_a_wrong_value_is_refused_when_it_is_built(build):
    with pytest.raises(InvalidValue, match="Order"):
        build()


def test_paths_have_steps():
    for step in (-1, 1.5, None, True, b"x"):
        with pytest.raises(TypeError):
            Order.lines[step]  # type: ignore[index]
    with pytest.raises(TypeError):
        Order.status["x"]


def test_a_model_of_a_store_that_is_not_connected():
    class Elsewhere(Model):
        model_config = ModelConfig(store="never-connected")
        pk = StringAttribute(partition_key=True)

    item = Elsewhere(pk="a")
    with pytest.raises(ConfigurationError, match=r"never-connected.*connect"):
        item.save()
    with pytest.raises(ConfigurationError, match="never-connected"):
        Elsewhere.get(pk="a")
    assert item.is_dirty


def test_an_attribute_is_neither_iterated_nor_searched_in_python():
    class Listed(Model):
        pk = StringAttribute(partition_key=True)
        items_ = ListAttribute()

    for operand in (Listed.items_, Listed.items_["a"], Listed.pk):
        with pytest.raises(TypeError, match="cannot be iterated"):
            list(operand)
        with pytest.raises(TypeError, match=r"use Listed\..*\.contains\(5\)"):
            _ = 5 in operand


def test_an_instance_holds_only_its_values():
    with connect("sqlite://"):
        order = Order(pk="a", sk="1", total=1)
        order.save()
        loaded: Any = Order.get(pk="a", sk="1")
        assert vars(order) == vars(loaded) == {"pk": "a", "sk": "1", "total": 1, "status": "new", "lines": []}
        loaded.total = 2
        assert json.loads(json.dumps(loaded, default=vars))["total"] == 2
        again = pickle.loads(pickle.dumps(loaded))
        again.save()
        assert (again == loaded, again.changed) == (True, frozenset())
        # A pickle of version 0.1 holds the item next to the values.
        old = Order.__new__(Order)
        old.__setstate__({**vars(loaded), "_stored": again._state.loaded})
        assert (vars(old), old.changed) == (vars(loaded), frozenset())


class Cached(Model):
    __slots__ = ("_Cached__price", "cache", "unset")
    pk = StringAttribute(partition_key=True)


class CachedTwice(Cached):
    __slots__ = ("further",)


def test_values_in_slots_are_copied_and_pickled():
    connect("sqlite://")
    models: list[tuple[Any, dict[str, Any]]] = [(Cached, {"cache": [1]})]
    models += [(CachedTwice, {"cache": [1], "further": [2], "_Cached__price": 3})]
    for model, slots in models:
        item = model(pk="a")
        for name, value in slots.items():
            setattr(item, name, value)
        item.plain = [4]
        for saved in (False, True):
            if saved:
                item.save()
            for copied in (copy.copy(item), copy.deepcopy(item), pickle.loads(pickle.dumps(item))):
                assert {name: getattr(copied, name) for name in slots} == slots
                assert (copied.plain, copied.to_dict()) == ([4], {"pk": "a"})
                assert not hasattr(copied, "unset")
                assert copied.is_dirty is not saved
        assert copy.copy(item).cache is item.cache
        assert copy.deepcopy(item).cache is not item.cache
        loaded = model.get("a")
        assert not hasattr(loaded, "cache")
        assert copy.copy(loaded) == loaded


@pytest.mark.parametrize("values", [None, 5, "sk", ["sk"], object()])
def test_from_dict_takes_a_dict(values):
    with pytest.raises(TypeError, match=r"Order.from_dict\(\) takes a dict of values by name, not "):
        Order.from_dict(values)


@pytest.mark.parametrize("mode", ["xml", 5, [], {}])
def test_to_dict_has_two_modes(mode):
    with pytest.raises(TypeError, match='Order: mode= takes "python" or "json", not '):
        Order(sk="1").to_dict(mode)
