"""Write the public names of the packages that the migration guides are about, as data for a test.

    python tools/peer_names.py FILE

A test compares the file with the installed packages, and each name with the rows of its guide. After an update of a
package, run this again and give the new names a row.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclasses.dataclass(frozen=True)
class Peer:
    """What is public in a package.

    Attributes:
        modules: modules whose public names count: those of `__all__`, or all that the module defines.
        members: classes whose public attributes count, as `module:Class`.
        parameters: functions and classes whose parameters count, as `module:function`.
        options: classes whose annotated names are options of a model.
        second: prefix of names that are the other version (blocking or async) of a name without it.
        more: names that cannot be found by importing.
    """

    modules: tuple[str, ...]
    members: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    second: str | None = None
    more: Callable[[], Iterable[str]] = tuple


def of_boto3() -> Iterator[str]:
    """The operations, waiters and parameters of boto3 that are made from the description of the service."""
    session = importlib.import_module("boto3").session.Session("key", "secret", region_name="us-east-1")
    client, resource = session.client("dynamodb"), session.resource("dynamodb")
    model = client.meta.service_model
    for name in model.operation_names:
        yield f"client.{importlib.import_module('botocore').xform_name(name)}"
    for operation in ("PutItem", "GetItem", "UpdateItem", "DeleteItem", "Query", "Scan", "BatchGetItem"):
        yield from (f"{operation}({name})" for name in model.operation_model(operation).input_shape.members)
    for operation in ("TransactWriteItems", "TransactGetItems", "CreateTable"):
        yield from (f"{operation}({name})" for name in model.operation_model(operation).input_shape.members)
    yield from (f"waiter.{name}" for name in client.waiter_names)
    yield from (f"client.{name}" for name in ("get_paginator", "get_waiter", "exceptions", "meta"))
    yield from (f"exceptions.{name}" for name in dir(client.exceptions) if name.endswith(("Exception", "Exceeded")))
    for owner, found in (("resource", resource), ("Table", resource.Table("any"))):
        yield from (f"{owner}.{name}" for name in dir(type(found)) if not name.startswith("_"))


def of_redis_om() -> Iterator[str]:
    """The options of a redis-om model, in `class Meta`."""
    base = importlib.import_module("redis_om.model.model").BaseMeta
    yield from (f"Meta.{name}" for name in base.__annotations__)


def of_popoto() -> Iterator[str]:
    """The options of a popoto model, in `class Meta`, and those of its fields."""
    package = importlib.import_module("popoto")
    options = vars(importlib.import_module("popoto.models.base").ModelOptions("Any"))
    users = ("abstract", "unique_together", "index_together", "order_by", "ttl", "indexes", "backend")
    yield from (f"Meta.{name}" for name in users if name in options)
    yield from (f"Field({name})" for name in package.Field().field_defaults)


PEERS = {
    "pynamodb": Peer(
        modules=tuple(
            f"pynamodb.{name}"
            for name in (
                *("models", "attributes", "indexes", "transactions", "connection", "pagination", "exceptions"),
                *("expressions.condition", "expressions.update"),
            )
        ),
        members=(
            "pynamodb.models:Model",
            "pynamodb.models:BatchWrite",
            "pynamodb.attributes:Attribute",
            "pynamodb.attributes:MapAttribute",
            "pynamodb.attributes:DiscriminatorAttribute",
            "pynamodb.indexes:Index",
            "pynamodb.transactions:TransactGet",
            "pynamodb.transactions:TransactWrite",
            "pynamodb.pagination:ResultIterator",
            "pynamodb.connection:TableConnection",
        ),
        parameters=(
            "pynamodb.attributes:Attribute",
            "pynamodb.models:Model.get",
            "pynamodb.models:Model.query",
            "pynamodb.models:Model.scan",
            "pynamodb.models:Model.save",
            "pynamodb.models:Model.create_table",
        ),
        options=("pynamodb.models:MetaProtocol",),
        more=lambda: ("signals.pre_dynamodb_send", "signals.post_dynamodb_send", "settings.retry_configuration"),
    ),
    "boto3": Peer(
        modules=(),
        members=("boto3.dynamodb.conditions:Attr", "boto3.dynamodb.conditions:Key"),
        more=lambda: (
            *of_boto3(),
            *("types.TypeSerializer", "types.TypeDeserializer", "types.Binary", "conditions.Attr", "conditions.Key"),
        ),
    ),
    "pydynox": Peer(
        modules=(
            "pydynox",
            *(
                f"pydynox.{name}"
                for name in ("attributes", "hooks", "indexes", "conditions", "exceptions", "rate_limit", "lock")
            ),
            *("pydynox.integrations", "pydynox.testing", "pydynox.diagnostics", "pydynox.atomic", "pydynox.generators"),
            *(f"pydynox.integrations.{name}" for name in ("dataclass", "opentelemetry", "pydantic")),
            *("pydynox.query",),
        ),
        members=(
            "pydynox:DynamoDBClient",
            "pydynox:Model",
            "pydynox:Transaction",
            "pydynox:BatchWriter",
            "pydynox:Collection",
            "pydynox:CollectionResult",
            "pydynox:AutoGenerate",
            "pydynox.attributes:Attribute",
            "pydynox.attributes:StringAttribute",
            "pydynox.attributes:ExpiresIn",
            "pydynox.indexes:GlobalSecondaryIndex",
        ),
        parameters=(
            "pydynox:ModelConfig",
            "pydynox.attributes:Attribute",
            "pydynox.attributes:StringAttribute",
            "pydynox:Model.query",
            "pydynox:Model.get",
            "pydynox:Model.save",
            "pydynox:Model.update",
            "pydynox.indexes:GlobalSecondaryIndex",
        ),
        second="sync_",
    ),
    "popoto": Peer(
        modules=("popoto", "popoto.counters", "popoto.testing"),
        members=(
            "popoto:Model",
            "popoto:Field",
            "popoto.models.query:Query",
            "popoto.models.query:QueryBuilder",
            "popoto.batch:Batch",
            "popoto:Relationship",
        ),
        second="async_",
        more=of_popoto,
    ),
    "redis-om": Peer(
        modules=("redis_om", "redis_om.redisvl", "redis_om.model.migrations.data"),
        members=("redis_om:HashModel", "redis_om:JsonModel", "redis_om:FindQuery", "redis_om:Migrator"),
        parameters=("redis_om:Field",),
        more=of_redis_om,
    ),
}


def loaded(place: str) -> Any:
    """The module, class or function at a place such as `package.module:Class.method`."""
    module, _, path = place.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split(".") if path else ():
        found = getattr(found, name)
    return found


def names_of_module(module: ModuleType) -> list[str]:
    """The public names of a module."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith(module.__name__)
    ]


def names_of_class(cls: type) -> list[str]:
    """The public attributes of a class and of its bases in the same package."""
    package = cls.__module__.partition(".")[0]
    owners = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == package]
    return [name for owner in owners for name in vars(owner) if not name.startswith("_")]


def names_of(peer: Peer) -> list[str]:
    """All public names of an installed package."""
    found = set(peer.more())
    for module in peer.modules:
        found.update(names_of_module(loaded(module)))
    for place in peer.members:
        found.update(f"{place.rpartition(':')[2]}.{name}" for name in names_of_class(loaded(place)))
    for place in peer.parameters:
        parameters = inspect.signature(loaded(place)).parameters.values()
        told = [parameter.name for parameter in parameters if parameter.kind not in {2, 4}]
        found.update(f"{place.rpartition(':')[2]}({name})" for name in told if name not in {"self", "cls"})
    for place in peer.options:
        found.update(f"Meta.{name}" for name in loaded(place).__annotations__)
    found = {name for name in found if not name.rpartition(".")[2].startswith("__")}
    if peer.second is not None:
        found = {name for name in found if not (peer.second in name and name.replace(peer.second, "", 1) in found)}
    return sorted(found)


def installed() -> dict[str, dict[str, Any]]:
    """The names of each package that is installed, with its version."""
    told: dict[str, dict[str, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package, peer in PEERS.items():
            try:
                number = version(package)
            except PackageNotFoundError:
                continue
            told[package] = {"version": number, "source": f"{package} {number} on PyPI", "names": names_of(peer)}
    return told


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(installed(), indent=1) + "\n", "utf-8")
