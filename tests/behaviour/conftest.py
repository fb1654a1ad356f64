"""One suite for every store, and one body for the blocking and the awaited world.

A test takes `do` and writes `await do.save(order)`: in one run that calls `order.save()`, in the other it awaits
`order.asave()`. No test here names a store; what differs between stores is asked of the fixtures.
"""

from __future__ import annotations

import functools
import os
import runpy
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mintkey import Model, ModelConfig, Store, _core, connect
from mintkey.attributes import Attribute
from mintkey.errors import ConfigurationError
from mintkey.operations import table_operations
from mintkey.testing import FrozenClock, frozen


def sqlite_file(folder: Any) -> str:
    """A fresh database in a file."""
    return f"sqlite:///{folder}/behaviour.db"


#: A machine that is busy with something else makes no test fail.
PATIENCE = "timeout=60"


@functools.cache
def redis_address() -> str:
    """The Redis server that MINTKEY_TEST_REDIS names, or one that runs until the tests end."""
    if named := os.environ.get("MINTKEY_TEST_REDIS"):
        return named
    script = Path(__file__).parents[1] / "servers" / "redis.py"
    return SERVERS.enter_context(runpy.run_path(str(script))["server"]())


def redis_prefix(folder: Any) -> str:
    """A prefix for this folder on a Redis server."""
    return f"{redis_address()}?prefix={uuid.uuid5(RUN, str(folder))}&{PATIENCE}"


@functools.cache
def cluster_address() -> str:
    """The Redis Cluster that MINTKEY_TEST_REDIS_CLUSTER names, or one that runs until the tests end."""
    if named := os.environ.get("MINTKEY_TEST_REDIS_CLUSTER"):
        return named
    script = Path(__file__).parents[1] / "servers" / "redis.py"
    return SERVERS.enter_context(runpy.run_path(str(script))["cluster"]())


def cluster_prefix(folder: Any) -> str:
    """A prefix for this folder on a Redis Cluster."""
    return f"{cluster_address()}?prefix={uuid.uuid5(RUN, str(folder))}&{PATIENCE}"


@functools.cache
def dynamodb_address() -> str:
    """The DynamoDB server that MINTKEY_TEST_DYNAMODB names, or one that runs until the tests end."""
    if named := os.environ.get("MINTKEY_TEST_DYNAMODB"):
        return named
    script = Path(__file__).parents[1] / "servers" / "dynamodb.py"
    return SERVERS.enter_context(runpy.run_path(str(script))["server"]())


def dynamodb_prefix(folder: Any) -> str:
    """A prefix for this folder's tables on a DynamoDB server."""
    prefix = f"{uuid.uuid5(RUN, str(folder))}-"
    return f"dynamodb://us-east-1?endpoint={dynamodb_address()}&table_prefix={prefix}&{PATIENCE}"


RUN = uuid.uuid4()
SERVERS = ExitStack()
STORES: dict[str, Callable[[Any], str]] = {
    "sqlite": sqlite_file,
    "redis": redis_prefix,
    "redis-cluster": cluster_prefix,
    "dynamodb": dynamodb_prefix,
}


def pytest_sessionfinish() -> None:
    """The servers end with the tests."""
    SERVERS.close()


@pytest.fixture(params=STORES)
def url(request, tmp_path) -> str:
    """The address of an empty store."""
    return STORES[request.param](tmp_path)


@pytest.fixture
def store(url) -> Iterator[Store]:
    """An empty store, connected as the default one."""
    with connect(url) as opened:
        if opened.creates_tables:
            yield opened
        else:
            with _tables(opened):
                yield opened


@contextmanager
def _tables(opened: Store) -> Iterator[None]:
    """Have every model's table made when it is first used, and dropped at the end."""
    claim, made = opened.claim, {}
    core: Any = opened._core

    def make(schema: Any) -> None:
        claim(schema)
        if id(schema) not in made and not schema.config.abstract:
            made[id(schema)] = schema
            _core.drive(table_operations.create_table(schema), core, core.execute)

    opened.claim = make  # type: ignore[method-assign]
    yield
    with suppress(ConfigurationError):  # the test closed it
        for schema in made.values():
            for request in table_operations.delete_table(schema):
                core.execute(request)


class Do:
    """Runs the blocking method or its awaited twin: `await do.save(order)`, `await do.all(Order.query(pk="A"))`."""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking

    def __repr__(self) -> str:
        return "blocking" if self.blocking else "async"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def call(target: Any, *positional: Any, **named: Any) -> Any:
            if self.blocking:
                return getattr(target, name)(*positional, **named)
            return await getattr(target, f"a{name}")(*positional, **named)

        return call

    async def iterate(self, result: Any) -> list[Any]:
        """The items as `for` or `async for` gives them."""
        if self.blocking:
            return [item for item in result]  # noqa: C416 - list() would ask for the length, too
        return [item async for item in result]

    def query(self, model: Any, *conditions: Any, **named: Any) -> Any:
        """`Model.query(…)` or `Model.aquery(…)`; nothing is read yet."""
        return (model.query if self.blocking else model.aquery)(*conditions, **named)

    def scan(self, model: Any, *conditions: Any, **named: Any) -> Any:
        """`Model.scan(…)` or `Model.ascan(…)`; nothing is read yet."""
        return (model.scan if self.blocking else model.ascan)(*conditions, **named)


@pytest.fixture(params=["blocking", "async"])
def do(request, store) -> Do:
    """The two worlds, on a fresh store."""
    return Do(blocking=request.param == "blocking")


@pytest.fixture
def raw() -> Callable[..., Any]:
    """Makes a second model of a table, with other attributes than its model: it writes rows as another program does."""

    def make(model: Any, **attributes: Attribute[Any]) -> Any:
        schema = model.__mintkey_schema__
        keys = {
            name: type(schema.attributes[name])(partition_key=name == schema.partition, sort_key=name == schema.sort)
            for name in schema.keys
        }
        return type("Raw", (Model,), {"model_config": ModelConfig(table=schema.table), **keys, **attributes})

    return make


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    """A clock that moves only when told; ids repeat from run to run."""
    with frozen("2024-01-01T00:00:00Z", seed=1) as stopped:
        yield stopped
