"""The memory of instances: they are freed with what they hold, also in circles."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

from mintkey import Model, _core, use_store
from mintkey.attributes import JSONAttribute, StringAttribute
from mintkey.instance_state import State
from mintkey.stores import Store


class Held(Model):
    pk = StringAttribute(partition_key=True)
    data = JSONAttribute()


class Slotted(Held):
    __slots__ = ("extra",)


@pytest.fixture(autouse=True)
def store():
    with Store("sqlite://") as own, use_store(own):
        yield own


def saved(model):
    instance = model(pk="a", data={"n": 1})
    instance.save()
    return instance


def changed(model):
    """An instance whose state has more than the stored item."""
    instance = saved(model)
    instance.data = {"n": 2}
    return instance


def read(model):
    saved(model)
    return model.get("a")


MADE = {"new": lambda model: model(pk="a"), "saved": saved, "changed": changed, "read": read}


@pytest.mark.parametrize("model", [Held, Slotted])
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_an_instance_is_freed_at_once(make, model):
    instance = make(model)
    gone = weakref.ref(instance)
    gc.disable()
    try:
        del instance
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("model", [Held, Slotted])
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_circle_of_instances_is_collected(make, model):
    instance = make(model)
    # Through the values, and through the slots.
    instance.data = [instance]
    object.__setattr__(instance, "_kept", State(fetched={instance.pk}))
    instance._kept.mint_context = instance
    object.__setattr__(instance, "_stored", [instance])
    gone = weakref.ref(instance)
    del instance
    gc.collect()
    assert gone() is None


def test_reads_and_saves_keep_no_reference():
    saved(Held)
    read = Held.get("a")
    assert read is not None
    item = read._stored
    assert item is not None
    del read
    before = sys.getrefcount(item), sys.getrefcount(Held)
    for _ in range(100):
        Held._loaded(item)
        one = Held(pk="b")
        object.__setattr__(one, "_stored", item)
        object.__setattr__(one, "_stored", item)
    del one
    gc.collect()
    assert (sys.getrefcount(item), sys.getrefcount(Held)) == before


def test_the_slots_are_none_until_they_are_set_and_cannot_be_deleted():
    instance = Held(pk="a")
    assert instance._kept is None
    assert instance._stored is None
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del instance._stored
    instance.save()
    assert isinstance(instance._stored, _core.Item)
    with pytest.raises(TypeError, match=r"descriptor '_stored' .*InstanceSlots'"):
        vars(_core.InstanceSlots)["_stored"].__get__(object())
