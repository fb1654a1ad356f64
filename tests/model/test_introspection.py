"""The tools of Python that look at all members of a module, a class or an object."""

from __future__ import annotations

import copy
import inspect
import io
import pydoc

import pytest

import mintkey
from mintkey import Index, Model, ModelConfig, connect, use_store
from mintkey.attributes import MapAttribute, NumberAttribute, StringAttribute, StringSetAttribute, TTLAttribute
from mintkey.errors import ConfigurationError
from mintkey.fields import Field, KeyField, SortedField


class Order(Model):
    """An order of a shop."""

    pk = StringAttribute(partition_key=True)
    total = NumberAttribute(description="the total")
    tags = StringSetAttribute()
    until = TTLAttribute()
    data = MapAttribute()
    by_total = Index("total")


class Entry(Model):
    id = KeyField()
    name = Field()
    rank = SortedField(type=int)


class Nested(Model):
    model_config = ModelConfig(abstract=True)
    city = StringAttribute()


PLAIN = pydoc._PlainTextDoc()  # type: ignore[attr-defined]
ORDER = Order(pk="a", total=1)


@pytest.mark.parametrize("thing", [mintkey, Model, Order, Entry, Nested, ORDER, Order.pk, Order.query, Order.by_total])
def test_members_can_be_listed_and_documented(thing):
    assert inspect.getmembers(thing)
    assert pydoc.render_doc(thing, renderer=PLAIN)
    assert pydoc.html.document(thing, "thing") if inspect.isclass(thing) or inspect.ismodule(thing) else True
    written = io.StringIO()
    pydoc.Helper(output=written)(thing)
    assert written.getvalue()


def test_members_that_were_not_loaded_are_not_listed():
    with connect("sqlite://") as store, use_store(store):
        Order(pk="a", total=1, data={"x": 1}).save()
        part = Order.get("a", attributes=["total"])
    assert {"pk", "total"} == {name for name, _ in inspect.getmembers(part)} & {"pk", "total", "tags", "until", "data"}
    assert part is not None
    part.data = {}
    assert dict(inspect.getmembers(part))["data"] == {}
    assert pydoc.render_doc(part, renderer=PLAIN)


def test_the_documentation_of_a_model_names_its_attributes():
    text = pydoc.render_doc(Order, renderer=PLAIN)
    assert "An order of a shop." in text
    assert "total" in text
    assert inspect.getdoc(Order) == "An order of a shop."
    assert [name for name in inspect.signature(Order).parameters][:2] == ["pk", "total"]  # noqa: C416
    assert inspect.classify_class_attrs(Order)


@pytest.mark.parametrize("thing", [Order, Order.pk, Order.total > 1, Order.total.add(1), Order.data["x"], ORDER])
def test_copies(thing):
    for copied in (copy.copy(thing), copy.deepcopy(thing)):
        assert type(copied) is type(thing)
        assert repr(copied) == repr(thing)


def test_a_class_without_attributes_has_no_schema():
    assert not hasattr(Model, "__mintkey_schema__")
    with pytest.raises(ConfigurationError, match="Model itself has no attributes"):
        Model.scan()


def test_declarations_have_short_reprs():
    assert repr(Order.query) == "<Order.query>"
    assert repr(Index("total", sort_key="until")) == "Index('total', 'until')"
    assert repr(ModelConfig(table="orders", abstract=True)) == "ModelConfig(table='orders', abstract=True)"
    assert repr(ModelConfig()) == "ModelConfig()"


def test_the_package_lists_its_public_names_only():
    assert {name for name in dir(mintkey) if not name.startswith("__")} == set(mintkey.__all__) - {"__version__"}
