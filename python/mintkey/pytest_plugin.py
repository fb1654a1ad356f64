"""The pytest plugin: `mintkey_store`, an empty store for each test, and `mintkey_frozen`, a frozen clock.

pytest loads it by itself where mintkey is installed; `-p no:mintkey` leaves it out. Nothing else of mintkey is imported
before a test uses a fixture.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mintkey import _core
    from mintkey.stores import Store
    from mintkey.testing import FrozenClock

_FROZEN_TIME = "2024-01-01T00:00:00Z"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--mintkey-url` and `mintkey_url`."""
    about = "the URL of the server for mintkey_store; each test gets a prefix of its own (default: SQLite in memory)"
    parser.getgroup("mintkey").addoption("--mintkey-url", metavar="URL", help=about)
    parser.addini("mintkey_url", about, default="sqlite://")


@pytest.fixture
def mintkey_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store, which is the default store of all models during the test.

    It is SQLite in memory, or the server of `--mintkey-url` or of `mintkey_url` in the configuration file. On a server
    the tables have a prefix of the test, are created at the first use of a model, and are deleted after the test.
    """
    from mintkey.stores import connect

    url: str = request.config.getoption("--mintkey-url") or request.config.getini("mintkey_url")
    with ExitStack() as at_end:
        of_test = _of_test(url)
        store = at_end.enter_context(connect(of_test))
        if not store.url.startswith("sqlite:"):
            at_end.enter_context(_tables_of_test(store, of_test))
        yield store


@pytest.fixture
def mintkey_frozen() -> Iterator[FrozenClock]:
    """A clock that stands at 2024-01-01T00:00:00Z; the same test generates the same IDs each time."""
    from mintkey.testing import frozen

    with frozen(_FROZEN_TIME, seed=0) as clock:
        yield clock


def _of_test(url: str) -> str:
    """Return a URL with a prefix that no other test has."""
    from uuid import uuid4

    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite":
        if rest.partition("?")[0]:
            raise pytest.UsageError(
                f"mintkey_url={url} names a file, which tests would share: write sqlite:// for a database in memory"
            )
        return url
    address, _, query = rest.partition("?")
    name = "table_prefix" if scheme == "dynamodb" else "prefix"
    parameters = [parameter for parameter in query.split("&") if parameter]
    own = [parameter for parameter in parameters if parameter.startswith(f"{name}=")]
    others = [parameter for parameter in parameters if parameter not in own]
    prefix = own[0] if own else f"{name}="
    return f"{scheme}{separator}{address}?{'&'.join([*others, f'{prefix}test-{uuid4().hex[:12]}-'])}"


@contextmanager
def _tables_of_test(store: Store, url: str) -> Iterator[None]:
    """Create the table of each model at its first use, where the store does not, and delete them at the end."""
    from mintkey.operations import table_operations

    claim = store.claim
    used: dict[int, Any] = {}

    def claiming(schema: Any) -> None:
        claim(schema)
        if id(schema) not in used and not schema.config.abstract:
            used[id(schema)] = schema
            if not store.creates_tables:
                # Not with `Store.run`, which reports blocking calls in an event loop.
                for request in table_operations.create_table(schema):
                    store._core.execute(cast("_core.Request", request))

    store.claim = claiming  # type: ignore[method-assign]
    try:
        yield
    finally:
        _delete_tables(url, used.values())


def _delete_tables(url: str, schemas: Iterable[Any]) -> None:
    """Delete the tables of these models. The test may have closed its store, so another one deletes them."""
    from mintkey.errors import MintkeyError
    from mintkey.operations import table_operations
    from mintkey.stores import Store

    failure = None
    with Store(url) as store:
        for schema in schemas:
            try:
                store.run(table_operations.delete_table(schema))
            except MintkeyError as error:
                # The others can be deleted all the same, unless the server is gone.
                failure = failure or error
    if failure is not None:
        raise failure
