"""Keys that are shared, cut or taken: rows that overwrite one another."""

from __future__ import annotations

import pickle
import random
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from tests.peer_faults.faulty import seen, together

from mintkey import Model, auto
from mintkey.attributes import (
    NumberAttribute,
    StringAttribute,
)
from mintkey.errors import ConditionFailed, InvalidValue, ItemGone, KeyCollision
from mintkey.testing import frozen

# A class-level default that threads share: half of the rows were lost.


class Session(Model):
    pk = StringAttribute(partition_key=True, default=auto("uuid4", length=32, when="init"))
    n = NumberAttribute()


def check_each_instance_has_its_own_key(make: Callable[[int], Session]) -> None:
    def work(number: int) -> None:
        for n in range(50):
            make(number * 50 + n).save()

    together(4, work)
    assert Session.count() == 200
    assert {item.n for item in Session.scan()} == set(range(200))


def test_each_instance_has_its_own_key():
    check_each_instance_has_its_own_key(lambda n: Session(n=n))


def test_a_default_staged_on_the_class_is_seen():
    class Staged:
        key = ""

    meet = threading.Barrier(4)

    def make(n: int) -> Session:
        Staged.key = uuid.uuid4().hex
        meet.wait()
        return Session.from_dict({"pk": Staged.key, "n": n})

    with seen():
        check_each_instance_has_its_own_key(make)


# Cut UUIDs that collide silently: 35 of 2,000 rows.


class Short(Model):
    pk = StringAttribute(partition_key=True, default=auto("uuid4", length=4))
    n = NumberAttribute()


def check_no_row_is_lost(save: Callable[[int], Any]) -> None:
    for n in range(2000):
        save(n)
    assert Short.count() == 2000


def test_short_keys_lose_no_row():
    with frozen("2024-01-01T00:00:00Z", seed=3):
        check_no_row_is_lost(lambda n: Short(n=n).save())


def test_short_keys_that_overwrite_are_seen():
    dice = random.Random(3)
    with seen():
        check_no_row_is_lost(lambda n: Short(pk=f"{dice.getrandbits(16):04x}", n=n).save())


# A reused or empty id overwrites another row.


def test_a_reused_minted_key_overwrites_nothing():
    first = Session(n=1)
    first.save()
    copied = pickle.loads(pickle.dumps(Session(n=2)))
    copied.pk = first.pk
    with pytest.raises(KeyCollision):
        Session.create(pk=first.pk, n=3)
    with pytest.raises(InvalidValue):
        Session(pk="", n=4).save()
    with pytest.raises(InvalidValue):
        Short(pk="").save()
    stored = Session.get(pk=first.pk)
    assert stored is not None
    assert stored.n == 1


# Check, then act: 669 rows where 50 were allowed.


class Seat(Model):
    pk = StringAttribute(partition_key=True)
    who = NumberAttribute()


def check_one_wins(insert: Callable[[str, int], bool]) -> None:
    won: list[str] = []

    def work(number: int) -> None:
        won.extend(f"{seat}" for seat in range(50) if insert(str(seat), number))

    together(4, work)
    assert sorted(won, key=int) == [str(seat) for seat in range(50)]


def test_of_many_inserts_one_wins():
    def insert(seat: str, who: int) -> bool:
        try:
            Seat.create(pk=seat, who=who)
        except KeyCollision:
            return False
        return True

    check_one_wins(insert)


def test_looking_before_writing_is_seen():
    meet = threading.Barrier(4)

    def insert(seat: str, who: int) -> bool:
        there = Seat.get(pk=seat) is not None
        meet.wait()
        if not there:
            Seat(pk=seat, who=who).save()
        return not there

    with seen():
        check_one_wins(insert)


def test_a_condition_that_fails_says_what_kind_of_failure_it_is():
    Seat.create(pk="a")
    for call, kind in (
        (lambda: Seat.create(pk="a"), KeyCollision),
        (lambda: Seat(pk="a").save(condition=Seat.who == 1), ConditionFailed),
        (lambda: Seat.update_by_key({"pk": "b"}, who=1), ItemGone),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert type(caught.value) is kind
        assert "Seat" in str(caught.value)
