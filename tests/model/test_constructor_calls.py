"""A call of a model does what `type.__call__` does, although it makes no dict of the keywords."""

from __future__ import annotations

import abc
import contextlib
import functools
import gc
import sys
import threading
import weakref

import pytest

from mintkey import Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute


class Base(Model):
    model_config = ModelConfig(table="called")
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()


class OwnNew(Base):
    def __new__(cls, *positional, **named):
        instance = super().__new__(cls)
        object.__setattr__(instance, "seen", (positional, named))
        return instance


class NewOfAnother(Base):
    def __new__(cls, **named):
        return [named]


class OwnInit(Base):
    def __init__(self, pk, *, n=1, **more):
        super().__init__(pk=f"<{pk}>", n=n, **more)


class ReturningInit(Base):
    def __init__(self, **values):
        return values  # noqa: PLE0101


class FailingInit(Base):
    def __init__(self, **values):
        raise KeyError(*values)


class StaticInit(Base):
    @staticmethod
    def __init__(**values):
        raise KeyError(*values)


class ClassInit(Base):
    @classmethod
    def __init__(cls, **values):
        raise KeyError(cls, *values)


class Callable:
    def __call__(self, **values):
        raise KeyError(*values)


class ObjectAsInit(Base):
    __init__ = Callable()  # pyright: ignore[reportAssignmentType]


class OwnGetattr(Base):
    def __getattr__(self, name):
        raise AttributeError(f"no {name}")


class OwnGetattribute(Base):
    def __getattribute__(self, name):
        if name == "__init__":
            raise AssertionError("type.__call__ finds `__init__` without it")
        return super().__getattribute__(name)


class Abstract(Base, abc.ABC):
    @abc.abstractmethod
    def missing(self): ...


class Concrete(Abstract):
    def missing(self):
        return None


class Counting(type):
    def __call__(cls, *positional, **named):
        return cls, positional, named


class OwnMetaclass(Base, metaclass=Counting):
    pass


class Plain(type):
    pass


class PlainMetaclass(Base, metaclass=Plain):
    pass


class LaterNew(Base):
    pass


LaterNew.__new__ = OwnNew.__new__  # type: ignore[assignment, method-assign]


class LaterInit(Base):
    pass


LaterInit.__init__ = OwnInit.__init__  # type: ignore[assignment, method-assign]


class LaterCall(type):
    pass


class LaterMetaclass(Base, metaclass=LaterCall):
    pass


setattr(LaterCall, "__call__", Counting.__call__)  # noqa: B010 - type checkers refuse the assignment

MODELS = [
    *(Base, OwnNew, NewOfAnother, OwnInit, ReturningInit, FailingInit, StaticInit, ClassInit, ObjectAsInit, OwnGetattr),
    *(OwnGetattribute, Abstract, Concrete, OwnMetaclass, PlainMetaclass, LaterNew, LaterInit, LaterMetaclass, Model),
]
VALUES = {"pk": "a", "n": 2}
NOTHING: dict[str, int] = {}
CALLS = {
    "none": lambda model: model(),
    "keywords": lambda model: model(pk="a", n=2),
    "by position": lambda model: model("a"),
    "both": lambda model: model("a", n=2),
    "unknown": lambda model: model(pk="a", nn=2),
    "a dict": lambda model: model(**VALUES),
    "an empty dict": lambda model: model(**NOTHING),
    "a tuple": lambda model: model(*("a",)),
    "map": lambda model: next(map(model, "a")),
    "partial": lambda model: functools.partial(model, pk="a")(n=2),
    "sorted": lambda model: sorted(["a"], key=model),
}


def outcome(model, call):
    try:
        made = call(model)
    except Exception as error:  # noqa: BLE001 - compared
        return type(error), str(error)
    return type(made), vars(made) if isinstance(made, Model) else made


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_of_a_model_does_what_type_does(call, model):
    def through_type(*positional, **named):
        return type(model).__call__(model, *positional, **named)

    assert outcome(model, call) == outcome(through_type, call)


def test_the_arguments_of_a_caller_stay_as_they_are():
    class Greedy(Base):
        def __init__(self, **values):
            values.clear()
            super().__init__(pk="a")

    values = {"pk": "b", "n": 3}
    assert Greedy(**values).pk == "a"
    assert values == {"pk": "b", "n": 3}
    # An expression around the call uses what lies before its arguments.
    assert ["x", Base(pk="a", n=1).pk, Base(pk=Base(pk="b").pk).pk, "y"] == ["x", "a", "b", "y"]


@pytest.mark.parametrize("model", [Base, OwnNew, ReturningInit, FailingInit, OwnGetattribute])
def test_calls_keep_no_reference(model):
    value = "a value of its own".upper()

    def call():
        for make in (lambda: model(pk=value), lambda: model(value), lambda: next(map(model, [value]))):
            with contextlib.suppress(KeyError, TypeError):
                make()

    call()
    gc.collect()
    before = sys.getrefcount(value), sys.getrefcount(model)
    for _ in range(50):
        call()
    gc.collect()
    assert (sys.getrefcount(value), sys.getrefcount(model)) == before


def test_an_instance_whose_constructor_fails_is_freed():
    made: list[weakref.ref[Base]] = []

    class Failing(Base):
        def __init__(self, **values):
            made.append(weakref.ref(self))
            raise KeyError

    gc.disable()
    try:
        with pytest.raises(KeyError):
            Failing(pk="a")
        assert made[0]() is None
    finally:
        gc.enable()


def test_constructors_that_construct_others_end_with_an_error():
    class Endless(Base):
        def __init__(self, **values):
            super().__init__(**values, n=Endless(**values))

    with pytest.raises(RecursionError):
        Endless(pk="a")


def test_several_threads_construct_at_once():
    made: list[dict[str, object]] = []

    def construct(name):
        made.extend(vars(Base(pk=name, n=n)) for n in range(500))

    threads = [threading.Thread(target=construct, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((one["pk"], one["n"]) for one in made) == [(name, n) for name in "abcd" for n in range(500)]
