"""Writes that clobber, resurrect or lose what another one did."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from tests.peer_faults.faulty import seen

from mintkey import Model
from mintkey.attributes import (
    ListAttribute,
    NumberAttribute,
    StringAttribute,
    VersionAttribute,
)
from mintkey.errors import ItemGone, VersionConflict
from mintkey.fields import AutoKeyField, IntField, KeyField

# A version bumped before the write: the rejected save clobbers the winner when it is tried again.


class Account(Model):
    pk = StringAttribute(partition_key=True)
    balance = NumberAttribute()
    version = VersionAttribute()


class BumpsFirst:
    """The faulty design, over a dict."""

    rows: dict[str, tuple[int, Any]] = {}  # noqa: RUF012

    def __init__(self, pk: str, balance: int) -> None:
        self.pk, self.balance, self.version = pk, balance, 0

    @classmethod
    def get(cls, pk: str) -> BumpsFirst:
        version, balance = cls.rows[pk]
        found = cls(pk, balance)
        found.version = version
        return found

    def save(self) -> None:
        self.version += 1
        if self.pk in self.rows and self.rows[self.pk][0] != self.version - 1:
            raise VersionConflict("too late")
        self.rows[self.pk] = (self.version, self.balance)


def check_the_winner_stays(model: Any) -> None:
    model(pk="a", balance=1).save()
    winner, loser = model.get(pk="a"), model.get(pk="a")
    winner.balance = 2
    winner.save()
    loser.balance = 3
    for _ in range(3):
        try:
            loser.save()
        except VersionConflict:
            continue
    assert model.get(pk="a").balance == 2


def test_a_rejected_save_stays_rejected():
    check_the_winner_stays(Account)


def test_a_version_bumped_before_the_write_is_seen():
    with seen():
        check_the_winner_stays(BumpsFirst)


# A partial save that resurrects a deleted row; changes inside a list that are lost.


class Basket(Model):
    pk = StringAttribute(partition_key=True)
    note = StringAttribute()
    things = ListAttribute()


class Overwrites:
    """The faulty design, over a dict: it writes what was assigned, whether or not there is a row."""

    rows: dict[str, dict[str, Any]] = {}  # noqa: RUF012
    assigned: dict[str, Any]

    def __init__(self, **values: Any) -> None:
        object.__setattr__(self, "assigned", dict(values))
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        self.assigned[name] = value
        object.__setattr__(self, name, value)

    def save(self) -> None:
        stored = self.rows.setdefault(self.pk, {})  # type: ignore[attr-defined]
        stored.update(json.loads(json.dumps(self.assigned)))
        self.assigned.clear()

    def delete(self) -> None:
        self.rows.pop(self.pk, None)  # type: ignore[attr-defined]

    @classmethod
    def get(cls, pk: str) -> Any:
        if pk not in cls.rows:
            return None
        found = cls(**json.loads(json.dumps(cls.rows[pk])))
        found.assigned.clear()
        return found


def check_deleted_stays_deleted(model: Any) -> None:
    model(pk="a", note="x", things=[]).save()
    one, other = model.get(pk="a"), model.get(pk="a")
    other.delete()
    one.note = "y"
    with contextlib.suppress(ItemGone):
        one.save()
    assert model.get(pk="a") is None


def check_changes_inside_a_list_are_saved(model: Any) -> None:
    model(pk="b", note="x", things=[1]).save()
    one = model.get(pk="b")
    one.things.append(2)
    one.save()
    assert model.get(pk="b").things == [1, 2]


@pytest.mark.parametrize("check", [check_deleted_stays_deleted, check_changes_inside_a_list_are_saved])
def test_partial_saves(check):
    check(Basket)


@pytest.mark.parametrize("check", [check_deleted_stays_deleted, check_changes_inside_a_list_are_saved])
def test_partial_saves_of_what_was_assigned_are_seen(check):
    with seen():
        check(Overwrites)


# An index computed from what one client remembers: it goes stale, and points at rows that moved on.


class Person(Model):
    name = AutoKeyField(strategy="ulid")
    country = KeyField(null=True)
    age = IntField(null=True)


def test_an_index_follows_the_stored_row():
    Person.create(country="DE")
    (one,), (other,) = Person.query.filter(country="DE").all(), Person.query.filter(country="DE").all()
    one.country = "FR"
    one.save()
    other.age = 3
    other.save()
    assert Person.query.filter(country="DE").all() == []
    assert [person.age for person in Person.query.filter(country="FR")] == [3]
    other.delete()
    assert Person.query.filter(country="FR").count() == 0
    assert Person.query.filter(country="DE").count() == 0
