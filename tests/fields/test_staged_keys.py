"""Staged keys: `set_auto_key_value()` sets the key of the next instance."""

from __future__ import annotations

import os
import re
import threading

import pytest
from tests.fields.test_auto_field_mixin import SHAPES

from mintkey import Model
from mintkey.errors import KeyCollision
from mintkey.fields import AutoKeyField


def test_a_staged_value_is_the_default_until_one_instance_takes_it():
    class Note(Model):
        id = AutoKeyField()

    Note.id.set_auto_key_value()
    staged = Note.id.default
    assert re.fullmatch(SHAPES["uuid4"], staged)
    assert Note().id == staged
    assert Note.id.default is None
    assert Note().id != staged


def test_a_second_call_replaces_it():
    class Note(Model):
        id = AutoKeyField()

    Note.id.set_auto_key_value()
    first = Note.id.default
    Note.id.set_auto_key_value()
    second = Note.id.default
    assert first != second
    assert Note().id == second
    assert Note().id not in {first, second}


async def test_an_instance_given_its_own_id_leaves_it(do):
    class Note(Model):
        id = AutoKeyField()

    Note.id.set_auto_key_value()
    staged = Note.id.default
    given = await do.create(Note, id="a" * 32)
    loaded = await do.get(Note, id="a" * 32)
    assert (given.id, loaded.id) == ("a" * 32, "a" * 32)
    assert Note.id.default == staged
    assert Note().id == staged


def test_without_auto_it_stages_only_when_forced():
    class Note(Model):
        id = AutoKeyField(auto=False, default="d" * 32)

    Note.id.set_auto_key_value()
    assert Note.id.default == "d" * 32
    Note.id.set_auto_key_value(force=True)
    staged = Note.id.default
    assert staged != "d" * 32
    assert Note().id == staged
    assert Note.id.default == "d" * 32
    assert Note().id == "d" * 32


def test_exactly_one_of_many_threads_takes_it():
    class Note(Model):
        id = AutoKeyField()

    threads, rounds = 8, 50
    gate = threading.Barrier(threads)
    staged: list[str] = []
    ids: list[str] = []

    def construct(first: bool) -> None:
        for _ in range(rounds):
            if first:
                Note.id.set_auto_key_value()
                staged.append(Note.id.default)
            gate.wait()
            ids.append(Note().id)
            gate.wait()

    workers = [threading.Thread(target=construct, args=(n == 0,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(staged) == rounds
    assert [ids.count(one) for one in staged] == [1] * rounds
    assert len(set(ids)) == threads * rounds


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_take_what_its_parent_staged():
    class Note(Model):
        id = AutoKeyField()

    Note.id.set_auto_key_value()
    staged = Note.id.default
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, f"{Note.id.default} {Note().id}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        default, first = told.read().split()
    assert os.waitpid(child, 0)[1] == 0
    assert default == "None"
    assert first != staged
    assert Note().id == staged


async def test_a_staged_value_that_collides_is_not_replaced_in_silence(do):
    class Ticket(Model):
        id = AutoKeyField(auto_uuid_length=1)

    Ticket.id.set_auto_key_value()
    staged = Ticket.id.default
    await do.create(Ticket, id=staged)
    with pytest.raises(KeyCollision):
        await do.create(Ticket)
