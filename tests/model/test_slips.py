"""Slips of the pen: each is refused in words, none is dropped."""

from __future__ import annotations

from typing import Any

import pytest

from mintkey import Model, connect, pipeline, transaction, use_store
from mintkey.attributes import BooleanAttribute, NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError, InvalidValue
from mintkey.hooks import before_save


class Order(Model):
    pk = StringAttribute(partition_key=True)
    total = NumberAttribute(required=True)
    notes: list[str]


def test_a_comma_or_missing_parentheses_are_seen_at_definition():
    with pytest.raises(ConfigurationError, match=r"Comma\.total: the comma after it makes it a tuple"):

        class Comma(Model):
            pk = StringAttribute(partition_key=True)
            total = (NumberAttribute(),)

    with pytest.raises(ConfigurationError, match=r"Bare\.total: write NumberAttribute\(\), with parentheses"):

        class Bare(Model):
            pk = StringAttribute(partition_key=True)
            total = NumberAttribute


@pytest.mark.parametrize("name", ["_loaded", "_state", "save", "_creating"])
def test_no_attribute_takes_the_name_of_a_member(name):
    with pytest.raises(ConfigurationError, match=f"the name '{name}' is used by Model itself"):
        type("Taken", (Model,), {"pk": StringAttribute(partition_key=True), name: BooleanAttribute()})


def test_a_hook_that_yields_would_never_run():
    with pytest.raises(ConfigurationError, match="is a generator, which would never run"):

        @before_save
        def hook(self):
            yield

    with pytest.raises(ConfigurationError, match="decorates a method"):
        before_save(property(lambda self: None))  # type: ignore[type-var]


def test_a_required_attribute_cannot_be_removed_by_an_action():
    with pytest.raises(InvalidValue, match=r"Order\.total: required, so an update cannot remove it"):
        Order(pk="a", total=1).update(Order.total.remove())


@pytest.mark.parametrize(
    "url",
    [
        "\ud800",
        "sqlite:///a\ud800.db",
        "redis://:secret\udcff@localhost",
        "redis://localhost?prefix=\ud800",
        "redis-cluster://a\ud800,b",
        "dynamodb://us-east-1\ud800",
    ],
)
def test_a_url_that_utf_8_cannot_hold(url):
    with pytest.raises(ConfigurationError, match=r"'\\ud(800|cff)' at position \d+ is a lone surrogate") as caught:
        connect(url, name="half")
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_text_is_no_flag():
    with connect("sqlite://") as store, use_store(store):
        model: Any = Order
        order = model(pk="a", total=1)
        order.save()
        writes = pipeline()
        for call, name in (
            (lambda: model(pk="a", total=2).save(replace="no"), "replace"),
            (lambda: order.update(total=2, upsert="false"), "upsert"),
            (lambda: model.update_by_key("b", total=2, upsert="false"), "upsert"),
            (lambda: model.update_by_key("b", total=2, upsert=0, pipeline=writes), "upsert"),
        ):
            with pytest.raises(TypeError, match=f"Order: {name}= takes True or False, not"):
                call()
        with pytest.raises(TypeError, match="upsert= takes True or False"), transaction() as tx:
            tx.update_by_key(model, "b", total=2, upsert="false")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="Order: replace= takes True or False"), transaction() as tx:
            tx.save(model(pk="a", total=2), replace="no")  # type: ignore[arg-type]
        assert (len(writes), [(one.pk, one.total) for one in Order.scan()]) == (0, [("a", 1)])
