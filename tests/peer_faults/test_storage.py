"""What is stored, what reading it does, and what is said aloud."""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.peer_faults.faulty import seen

from mintkey import Model
from mintkey.attributes import (
    BinaryAttribute,
    ListAttribute,
    NumberAttribute,
    StringAttribute,
    StringSetAttribute,
)

# What is stored, and what reading it does.


class Stored(Model):
    pk = StringAttribute(partition_key=True)
    raw = BinaryAttribute()
    words = StringSetAttribute()


RAN: list[str] = []


class Bomb:
    def __reduce__(self) -> Any:
        return (RAN.append, ("boom",))


def check_reading_runs_no_code(roundtrip: Callable[[bytes], Any]) -> None:
    RAN.clear()
    payload = pickle.dumps(Bomb())
    assert roundtrip(payload) == payload
    assert RAN == []


def through_the_store(raw: bytes) -> Any:
    Stored(pk="a", raw=raw).save()
    return getattr(Stored.get(pk="a"), "raw", None)


def test_reading_runs_no_code():
    check_reading_runs_no_code(through_the_store)


def test_unpickling_is_seen():
    with seen():
        check_reading_runs_no_code(pickle.loads)


def check_sets_stay_sets(roundtrip: Callable[[set[str]], Any]) -> None:
    came_back = roundtrip({"a", "b"})
    assert came_back == {"a", "b"}
    assert isinstance(came_back, set)


def test_sets_stay_sets():
    def through(words: set[str]) -> Any:
        Stored(pk="a", words=words).save()
        assert Stored.count(Stored.words.is_type("string_set")) == 1
        return getattr(Stored.get(pk="a"), "words", None)

    check_sets_stay_sets(through)


def test_sets_written_as_lists_are_seen():
    with seen():
        check_sets_stay_sets(lambda words: json.loads(json.dumps(sorted(words))))


# Noise, panics, and unknown hands on the clutch.

QUIET = """
import asyncio, sys
from mintkey import AutoGenerate, Model, connect
from mintkey.attributes import NumberAttribute, StringAttribute
if sys.argv[1] == "noisy":
    import logging
    logging.getLogger("mintkey").addHandler(logging.StreamHandler())
    logging.getLogger("mintkey").setLevel("INFO")

class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()

with connect("sqlite://"):
    for n in range(10):
        Row(n=n).save()
    asyncio.run(Row(n=1).asave())
    assert Row.query.filter(n__gt=3).count() == 6
    try:
        Row(pk="").save()
    except ValueError:
        pass
"""


def check_quiet(kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", QUIET, kind], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_nothing_is_printed_by_default():
    check_quiet("quiet")


def test_a_handler_by_default_is_seen():
    with seen():
        check_quiet("noisy")


def test_logging_stays_with_its_user():
    logger = logging.getLogger("mintkey")
    assert all(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    assert logger.propagate
    assert logger.level == logging.NOTSET


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        if name in {"__class__", "__reduce_ex__", "__dict__"}:
            return object.__getattribute__(self, name)
        raise RuntimeError(name)


class Liar(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError("no items")

    def __len__(self) -> int:
        return 10**9


class BadStr(str):
    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no encoding")

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Taker(Model):
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    things = ListAttribute()
    words = StringSetAttribute()


HOSTILE: dict[str, Callable[[], Any]] = {
    "hostile": Hostile,
    "liar": Liar,
    "bad str": lambda: BadStr("x"),
    "object": object,
    "generator": lambda: iter(()),
    "ellipsis": lambda: Ellipsis,
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", ["pk", "n", "things", "words"])
def test_no_value_aborts_the_interpreter(make, name):
    values: dict[str, Any] = {"pk": "a", name: make()}
    # Which exception it is does not matter; a panic of the compiled module would not be an `Exception`.
    with contextlib.suppress(Exception):
        Taker(**values).save()
    if name == "things":
        values[name] = [make()]
    with contextlib.suppress(Exception):
        Taker(**values).save()
        Taker.get(pk=values["pk"])
    Taker(pk="after").save()
    assert Taker.get(pk="after") is not None
