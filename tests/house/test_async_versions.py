"""Each blocking method has an async version: `a` and the same name, the same parameters, the same result."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mintkey

# Public methods of `Model` that do no I/O.
WITHOUT_STORE = {
    *("from_dict", "from_json", "from_stored", "to_dict", "to_json", "to_stored"),
    *("model_dump", "model_validate", "model_validate_json"),
}

AWAITABLE = re.compile(r"^(?:collections\.abc\.|typing\.)?(?:Awaitable|Coroutine)\[(?:Any, Any, )?(.*)\]$")
# Methods of `Model` are annotated with `Self`, those of `Model.query` with a type variable.
MODEL = re.compile(r"\b(?:Self|M)\b")
ASYNC_WORDS = re.compile(r"\bAsync(?=Iterator|Iterable|Generator)")

ASYNC_ITERABLE = re.compile(r" \| AsyncIterable\[.*\]$")


def public_classes() -> Iterator[type]:
    """All classes that the modules of mintkey define."""
    for found in pkgutil.walk_packages(mintkey.__path__, "mintkey."):
        if found.name.rpartition(".")[2].startswith("_"):
            continue
        module = importlib.import_module(found.name)
        for thing in vars(module).values():
            if inspect.isclass(thing) and thing.__module__ == module.__name__:
                yield thing


def methods(owner: type) -> dict[str, Callable[..., Any]]:
    """The public methods of a class, including inherited ones."""
    return {
        name: getattr(owner, name)
        for name in dir(owner)
        if not name.startswith("_") and callable(getattr(owner, name)) and not inspect.isclass(getattr(owner, name))
    }


def pairs() -> list[Any]:
    """Each method with its async version."""
    found = {}
    for owner in public_classes():
        known = methods(owner)
        for name, method in known.items():
            if f"a{name}" in known and not vars(owner).keys().isdisjoint({name, f"a{name}"}):
                found[f"{owner.__name__}.{name}"] = (method, known[f"a{name}"])
    return [pytest.param(*both, id=name) for name, both in sorted(found.items())]


def shape(method: Callable[..., Any]) -> list[tuple[str, Any, Any, Any]]:
    """The parameters of a method. Where one takes an iterable, the other may also take an async iterable."""
    parameters = inspect.signature(method).parameters.values()
    return [(one.name, one.kind, one.default, ASYNC_ITERABLE.sub("", str(one.annotation))) for one in parameters]


def result(method: Callable[..., Any]) -> str:
    """The result type of a method, after awaiting it."""
    told = str(inspect.signature(method).return_annotation)
    return MODEL.sub("Self", ASYNC_WORDS.sub("", AWAITABLE.sub(r"\1", told)))


@pytest.mark.parametrize(("blocking", "awaiting"), pairs())
def test_async_versions_have_the_same_parameters_and_results(blocking, awaiting):
    assert shape(awaiting) == shape(blocking)
    assert result(awaiting) == result(blocking)


def test_async_methods_are_named_after_blocking_ones():
    alone = [
        f"{owner.__name__}.{name}"
        for owner in public_classes()
        for name, method in methods(owner).items()
        if (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method))
        and (not name.startswith("a") or name[1:] not in methods(owner))
    ]
    assert not alone


def test_every_method_of_a_model_that_does_io_has_an_async_version():
    known = methods(mintkey.Model)
    blocking = set(known) - WITHOUT_STORE - {f"a{name}" for name in known}
    assert {name for name in blocking if f"a{name}" not in known} == set()
    assert {"save", "get", "delete", "update", "query"} <= blocking
