"""Every flag of the public API takes True or False only: text such as "no" counts as true in Python."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import mintkey
from mintkey import Collection, Index, Model, ModelConfig, Store, TypedModel, connect, use_store
from mintkey.attributes import Attribute, StringAttribute
from mintkey.backfilling import BackfillMixin
from mintkey.errors import ConfigurationError
from mintkey.fields import AutoKeyField, Field
from mintkey.raw import RawTable
from mintkey.references import Reference

#: Programs, and what other programs import.
PROGRAMS = {"mintkey.__main__", "mintkey.mypy", "mintkey.pytest_plugin"}
#: What only the package constructs, as it does call `check_write()` of attributes.
NOT_CALLED = {"Condition", "CopyReport", "Options", "TableInfo"}
FORMS: tuple[Any, ...] = (None, 0, 1, "", "no", [])


class Order(Model):
    pk = StringAttribute(partition_key=True)
    total = StringAttribute(index=True)
    other: Any = Reference("Order")
    by_total = Index("total")


def flags_of(function: Any) -> dict[str, bool]:
    """Return the flags that a function takes, and whether None is one of their values."""
    return {
        parameter.name: str(parameter.annotation).endswith("None")
        for parameter in inspect.signature(function).parameters.values()
        if parameter.annotation in {"bool", "bool | None"} or isinstance(parameter.default, bool)
    }


def public_functions() -> Iterator[tuple[Any, str, Any]]:
    """Yield the functions, methods and constructors of the public API with their class and name."""
    listed = [found.name for found in pkgutil.walk_packages(mintkey.__path__, "mintkey.") if found.name not in PROGRAMS]
    for module in map(importlib.import_module, ["mintkey", *listed]):
        for name in getattr(module, "__all__", ()):
            found = getattr(module, name)
            if inspect.isfunction(found):
                yield None, name, found
            if not inspect.isclass(found) or issubclass(found, Exception) or found is TypedModel:
                continue
            yield found, name, found
            for base in found.__mro__:
                for member, given in vars(base).items():
                    method = getattr(given, "__func__", given)
                    if not member.startswith("_") and inspect.isfunction(method):
                        yield found, f"{name}.{member}", method


def consumed(given: Any) -> None:
    """Run what a call returned."""
    if isinstance(given, AsyncIterator):
        given = anext(given)
    if isinstance(given, Awaitable):
        asyncio.run(asyncio.wait_for(given, 60))
    elif isinstance(given, Iterator):
        list(given)


#: What the methods need next to a flag.
OF_CLASSES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "batch_delete": (([],), {}),
    "batch_get": ((["a"],), {}),
    "batch_save": (([],), {}),
    "create": ((), {"pk": "new"}),
    "create_table": ((), {}),
    "delete_by_key": (("a",), {}),
    "exists": (("a",), {}),
    "get": (("a",), {}),
    "model_validate": (({"pk": "a"},), {}),
    "model_validate_json": (('{"pk":"a"}',), {}),
    "scan": ((), {}),
    "update_by_key": (("a",), {"total": "2"}),
}
OF_INSTANCES: dict[str, dict[str, Any]] = {
    "delete": {},
    "model_dump": {},
    "refresh": {},
    "save": {},
    "update": {"total": "2"},
}
OF_TRANSACTIONS: dict[str, Callable[[Any], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "save": lambda order: ((order,), {}),
    "create": lambda order: ((Order,), {"pk": "new"}),
    "update": lambda order: ((order,), {"total": "2"}),
    "update_by_key": lambda order: ((Order, "a"), {"total": "2"}),
    "delete": lambda order: ((order,), {}),
}
OF_RAW_TABLES = {"scan": (), "query": ("a",), "get": ("a",)}
OTHERS: dict[str, Callable[..., Any]] = {
    "Collection.query": lambda **flags: Collection([Order]).query(pk="a", **flags),
    "Collection.aquery": lambda **flags: Collection([Order]).aquery(pk="a", **flags),
    "Index": functools.partial(Index, "total"),
    "IndexAccess.acount": lambda **flags: Order.by_total.acount(total="1", **flags),
    "IndexAccess.aquery": lambda **flags: Order.by_total.aquery(total="1", **flags),
    "IndexAccess.count": lambda **flags: Order.by_total.count(total="1", **flags),
    "IndexAccess.query": lambda **flags: Order.by_total.query(total="1", **flags),
    "ModelConfig": ModelConfig,
    "Ref.aget": Order(pk="r", other="e").other.aget,
    "Ref.get": Order(pk="r", other="e").other.get,
    "CollectionResult.values_list": lambda **flags: Collection([Order]).query(pk="a").values_list("pk", **flags),
    "Result.values_list": lambda **flags: Order.query(pk="a").values_list("total", **flags),
    "Store": functools.partial(Store, "sqlite://"),
    "acopy": functools.partial(mintkey.acopy, "sqlite://", "sqlite://"),
    "aprefetch": lambda **flags: mintkey.aprefetch([Order(pk="r", other="e")], "other", **flags),
    "connect": functools.partial(connect, "sqlite://", name="flags"),
    "copy": functools.partial(mintkey.copy, "sqlite://", "sqlite://"),
    "prefetch": lambda **flags: mintkey.prefetch([Order(pk="r", other="e")], "other", **flags),
}


def calling(owner: Any, name: str) -> Callable[..., object] | None:
    """Return a call of a public function that takes a flag; None if there is no call of it here."""
    method = name.rpartition(".")[2]
    plain = method[1:] if method.startswith("a") and method not in OF_CLASSES else method
    if name in OTHERS:
        return OTHERS[name]
    if owner in {Model, BackfillMixin} and plain in OF_CLASSES:
        given, named = OF_CLASSES[plain]
        return functools.partial(getattr(Order, method), *given, **named)
    if owner is Model and plain in OF_INSTANCES:
        return functools.partial(getattr(Order(pk="a"), method), **OF_INSTANCES[plain])
    if owner is mintkey.Transaction and method in OF_TRANSACTIONS:
        return functools.partial(adding, method)
    if owner is RawTable and plain in OF_RAW_TABLES:
        return functools.partial(getattr(RawTable(store_of_test(), "Order"), method), *OF_RAW_TABLES[plain])
    if method == "is_valid":
        return lambda **flags: Field.is_valid(Field(), "a", **flags)
    if method == "set_auto_key_value":
        return AutoKeyField().set_auto_key_value
    if name == getattr(owner, "__name__", "") and issubclass(owner, Attribute):
        return functools.partial(declare, owner)
    return None


def store_of_test() -> Store:
    return mintkey.stores.store_of(Order.__mintkey_schema__)


def adding(method: str, **flags: Any) -> None:
    with mintkey.transaction() as tx:
        given, named = OF_TRANSACTIONS[method](Order(pk="a"))
        getattr(tx, method)(*given, **named, **flags)


def declare(kind: Any, **flags: Any) -> None:
    type("Declaring", (Model,), {"pk": StringAttribute(partition_key=True), "x": kind(**flags)})


def test_no_flag_takes_anything_but_a_bool():
    without, accepted, count = set(), [], 0
    with connect("sqlite://") as store, use_store(store):
        Order(pk="a", total="1").save()
        for owner, name, function in public_functions():
            for flag, takes_none in flags_of(function).items():
                call = calling(owner, name)
                if call is None:
                    without.add(name)
                    continue
                for form in FORMS[takes_none:]:
                    count += 1
                    try:
                        consumed(call(**{flag: form}))
                    except (TypeError, ConfigurationError) as error:
                        if f"{flag}= takes True or False, not {form!r}" in str(error):
                            continue
                    accepted.append(f"{name}({flag}={form!r})")
        assert [(one.pk, one.total) for one in Order.scan()] == [("a", "1")]
    assert {name for name in without if not name.endswith(".check_write")} == NOT_CALLED
    assert accepted == []
    assert count > 1000
