"""Generating values."""

from __future__ import annotations

from contextvars import ContextVar
from operator import index
from sys import maxsize
from typing import TYPE_CHECKING, Any, cast, overload

from mintkey import _core
from mintkey._core import mint_many, mint_one
from mintkey.errors import InvalidValue, shortened
from mintkey.generators.strategies import Auto, AutoGenerate, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from mintkey._core import Strategy
    from mintkey.generators.strategies import IntegerStrategy, TextStrategy

#: Returns the instant of the running save in ms since the Unix epoch; set by the save.
instant: ContextVar[Callable[[], int] | None] = ContextVar("mintkey.instant", default=None)


@overload
def generate_value(strategy: IntegerStrategy) -> int: ...
@overload
def generate_value(strategy: TextStrategy) -> str: ...
@overload
def generate_value(strategy: AutoGenerate | Auto | str) -> Any: ...
def generate_value(strategy: AutoGenerate | Auto | str) -> Any:
    """Generate one value. Use `auto` to pass parameters.

        >>> len(generate_value(AutoGenerate.KSUID)), len(generate_value("uuid4"))
        (27, 36)
        >>> from mintkey.generators import auto
        >>> generate_value(auto("typeid", prefix="order"))[:6]
        'order_'

    In a hook of a save, timestamps read the instant of that save, so that all values of one item agree.

    Raises:
        ConfigurationError: the strategy is unknown.
    """
    resolved = resolve(strategy)
    if resolved.function is not None:
        return resolved.function()
    core = cast("Strategy", resolved.strategy)
    if not core.is_id and (read := instant.get()) is not None:
        return mint_one(core, read())
    return mint_one(core)


def generate_many(strategy: AutoGenerate | Auto | str, n: int) -> list[Any]:
    """Generate `n` values, in ascending order if the strategy sorts by time. Use `auto` to pass parameters.

        >>> ids = generate_many("ulid", 1000)
        >>> ids == sorted(ids)
        True

    Raises:
        TypeError: `n` is not an integer.
        InvalidValue: `n` is negative or larger than any list.
        ConfigurationError: the strategy is unknown.
    """
    try:
        n = index(n)
    except TypeError:
        raise TypeError(f"n={shortened(n)} is not an integer") from None
    if not 0 <= n <= maxsize:
        raise InvalidValue(f"n={shortened(n)} is " + ("negative" if n < 0 else "larger than any list"))
    resolved = resolve(strategy)
    if resolved.function is not None:
        return [resolved.function() for _ in range(n)]
    return mint_many(cast("Strategy", resolved.strategy), n)


def reseed() -> None:
    """Make the next IDs differ from those of every copy of this process.

    Call it after a machine, a container or a function was resumed from a snapshot (AWS Lambda SnapStart, CRIU, a
    virtual machine). Until then two copies generate the same IDs. A fork needs no call.

    It draws new random state and a new XID machine field, and releases the snowflake node. The next snowflake claims
    a node from the current value of `$MINTKEY_NODE`. IDs stay in order: they continue in the next tick, so a KSUID
    or an XID may be one second ahead of the clock. It does not change a `mintkey.testing.frozen` block with a seed.

    >>> reseed()
    """
    _core.reseed()
