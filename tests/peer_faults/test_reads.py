"""Values that are taken for patterns or for one another; reads that see too much or too little."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.peer_faults.faulty import seen

from mintkey import AutoGenerate, Model
from mintkey.attributes import (
    ExpiresIn,
    NumberAttribute,
    StringAttribute,
    TTLAttribute,
)
from mintkey.errors import InvalidValue
from mintkey.hooks import after_load, before_save
from mintkey.testing import frozen

# Values that are taken for patterns, or for one another.


class Tenant(Model):
    pk = StringAttribute(partition_key=True)
    sk = StringAttribute(sort_key=True)


def test_no_value_is_a_pattern():
    Tenant(pk="other", sk="secret").save()
    for pattern in ("*", "%", "_____", "?????", "[a-z]*", "oth*", ".*", "", "' OR 1=1 --", '"'):
        for get in (lambda p=pattern: Tenant.get(pk=p, sk="secret"), lambda p=pattern: Tenant.get(pk="other", sk=p)):
            try:
                assert get() is None
            except InvalidValue:
                assert not pattern
        if pattern:
            assert Tenant.query(pk=pattern).all() == []
            assert Tenant.query(Tenant.sk.begins_with(pattern), pk="other").all() == []
            assert Tenant.count(Tenant.sk.contains(pattern)) == 0


def test_none_and_its_text_are_two_things():
    Tenant(pk="None", sk="null").save()
    absents: list[dict[str, Any]] = [{"pk": None, "sk": "null"}, {"pk": "None", "sk": None}]
    for absent in absents:
        with pytest.raises(InvalidValue):
            Tenant(**absent).save()
        with pytest.raises(InvalidValue):
            Tenant.get(**absent)
    assert Tenant.count() == 1


def test_parts_of_keys_do_not_run_into_each_other():
    for pk, sk in (("x:y", "z"), ("x", "y:z"), ("x:", "y:z"), ("x", ":y:z"), ("x\0", "y"), ("x", "\0y")):
        Tenant(pk=pk, sk=sk).save()
    assert Tenant.count() == 6
    assert [(row.pk, row.sk) for row in Tenant.query(pk="x:y")] == [("x:y", "z")]


# Expiry that leaves phantoms.


class Lease(Model):
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)
    until = TTLAttribute(default=lambda: ExpiresIn.minutes(1))


def test_expired_items_leave_no_phantoms():
    with frozen("2024-01-01T00:00:00Z") as clock:
        for n in range(5):
            Lease(pk="a", sk=n).save()
        clock.advance(60)
        assert Lease.count() == Lease.count(pk="a") == Lease.query(pk="a").count() == 0
        assert Lease.query(pk="a").first() is None
        assert not Lease.query(pk="a")
        assert len(Lease.query(pk="a")) == 0
        assert Lease.query(pk="a").page(5).items == []
        assert Lease.create(pk="a", sk=1).sk == 1
        assert [lease.sk for lease in Lease.scan()] == [1]


# `.first()` that reads everything.


READ: list[Any] = []


class Big(Model):
    pk = StringAttribute(partition_key=True)
    sk = NumberAttribute(sort_key=True)

    @after_load
    def note(self) -> None:
        READ.append(self.sk)


def check_reads_one(first: Callable[[Any], Any]) -> None:
    async def fill() -> None:
        await asyncio.gather(*(Big(pk="a", sk=n).asave() for n in range(2000)))

    asyncio.run(fill())
    READ.clear()
    assert first(Big.query(pk="a")).sk == 0
    assert len(READ) == 1


def test_first_reads_one():
    check_reads_one(lambda result: result.first())
    check_reads_one(lambda result: result[0])


def test_first_of_all_is_seen():
    with seen():
        check_reads_one(lambda result: result.all()[0])


# "LOG#None".


def check_log_key(read: Callable[[Any], Any]) -> None:
    class Log(Model):
        pk = StringAttribute(partition_key=True)
        sk = StringAttribute(sort_key=True)
        created_at = StringAttribute(default=AutoGenerate.ISO8601)

        @before_save
        def build(self) -> None:
            self.sk = f"LOG#{read(self)}"

    with frozen("2024-01-01T00:00:00Z"):
        log = Log(pk="a")
        log.save()
    assert log.sk == "LOG#2024-01-01T00:00:00Z"


def test_a_hook_sees_the_minted_time():
    check_log_key(lambda log: log.created_at)


def test_minting_after_the_hooks_is_seen():
    with seen():
        check_log_key(lambda log: log.__dict__.get("created_at"))
