"""Exceptions: each is of this package and of the built-in kind that fits, and carries what it is about."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from mintkey import Collection, MintkeyError, Model, connect, errors
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute
from mintkey.rate_limit import AdaptiveRate, FixedRate
from mintkey.raw import RawTable

BUILT_IN = {
    "ConfigurationError": ValueError,
    "InvalidId": ValueError,
    "InvalidValue": ValueError,
    "ItemTooLarge": ValueError,
    "ItemGone": LookupError,
    "NotLoaded": LookupError,
    "TableMissing": LookupError,
    "StoreUnavailable": ConnectionError,
    "StoreTimeout": TimeoutError,
    "UnsupportedOperation": NotImplementedError,
}
CONDITIONS = ["KeyCollision", "VersionConflict"]


def test_every_exception_is_of_this_package():
    classes = [one for one in vars(errors).values() if inspect.isclass(one) and one.__module__ == "mintkey.errors"]
    assert {one.__name__ for one in classes} == set(errors.__all__)
    assert all(issubclass(one, MintkeyError) for one in classes)


@pytest.mark.parametrize("name", BUILT_IN)
def test_it_is_of_the_built_in_kind_too(name):
    assert issubclass(getattr(errors, name), BUILT_IN[name])


@pytest.mark.parametrize("name", CONDITIONS)
def test_refused_writes_are_failed_conditions(name):
    assert issubclass(getattr(errors, name), errors.ConditionFailed)


def test_the_tree_at_the_top_is_the_real_one():
    tree = errors.__doc__ or ""
    for name in errors.__all__:
        assert name in tree
    lines = [line for line in tree.splitlines() if "──" in line]
    for line in lines:
        name = line.split("── ")[1].split()[0]
        built_in = line.partition("(")[2].partition(")")[0] if "(" in line[:60] else ""
        if built_in and built_in.isidentifier():
            assert built_in in {base.__name__ for base in getattr(errors, name).__mro__}


class Account(Model):
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    balance = NumberAttribute()
    version = VersionAttribute()


def refused() -> dict[str, MintkeyError]:
    """One exception of each kind that the store raises for a row."""
    found: dict[str, MintkeyError] = {}
    with connect("sqlite://"):
        first = Account.create(pk="a", sk=1, balance=1)
        stale = Account.get(pk="a", sk=1)
        assert stale is not None
        first.update(balance=2)
        gone = Account.create(pk="b", sk=1)
        Account.get(pk="b", sk=1).delete()  # type: ignore[union-attr]
        for name, call in {
            "KeyCollision": lambda: Account.create(pk="a", sk=1),
            "VersionConflict": lambda: stale.update(balance=3),
            "ConditionFailed": lambda: first.save(condition=Account.balance == 99),
            "ItemGone": gone.refresh,
        }.items():
            with pytest.raises(MintkeyError) as caught:
                call()
            found[name] = caught.value
    return found


def test_it_carries_model_and_key_and_says_them():
    for name, error in refused().items():
        assert type(error).__name__ == name or (name == "KeyCollision" and isinstance(error, errors.ConditionFailed))
        assert error.model == "Account"
        assert error.key in ({"pk": "a", "sk": 1}, {"pk": "b", "sk": 1})
        assert "Account" in str(error)
        assert '("a", 1)' in str(error) or '("b", 1)' in str(error)


def test_it_can_be_copied_and_pickled():
    for error in [*refused().values(), errors.StoreTimeout("late", model="Account", store="sqlite://")]:
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert type(twin) is type(error)
            assert str(twin) == str(error)
            assert (twin.model, twin.key, twin.store) == (error.model, error.key, error.store)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: connect("nothing://:topsecret@here"),
        lambda: connect("redis://:topsecret@here?nothing=1"),
        lambda: FixedRate(wcu=-1),
        lambda: AdaptiveRate(max_rcu=1, min_rcu=2),
        lambda: Collection([int]),
        lambda: RawTable("sqlite://", "orders"),  # type: ignore[arg-type]
    ],
    ids=["scheme", "parameter", "FixedRate", "AdaptiveRate", "Collection", "RawTable"],
)
def test_a_debugger_can_show_an_object_whose_arguments_were_refused(refused):
    with pytest.raises((MintkeyError, TypeError)) as caught:
        refused()
    trace = caught.value.__traceback__
    shown = []
    while trace is not None:
        shown += [repr(value) for name, value in trace.tb_frame.f_locals.items() if name == "self"]
        trace = trace.tb_next
    assert shown
    assert "topsecret" not in "".join(shown)
