"""For tests: a clock that stands still, and ids that repeat.

>>> from mintkey.generators import iso8601, ulid
>>> with frozen("2024-01-01T00:00:00Z", seed=1) as clock:
...     iso8601()
...     clock.advance(90)
...     iso8601()
'2024-01-01T00:00:00Z'
'2024-01-01T00:01:30Z'
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any, TypeVar

from mintkey._core import freeze, move_clock, now_ms, thaw
from mintkey.attributes import parse_iso
from mintkey.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["FrozenClock", "frozen"]

_F = TypeVar("_F", bound="Callable[..., Any]")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
#: About as many days as there are from the year 1 to 9999.
_LONGEST = timedelta(days=3_652_058)


def _span(name: str, span: timedelta | float) -> int:
    """Return a span in microseconds."""
    if isinstance(span, bool) or not isinstance(span, (timedelta, int, float)):
        raise TypeError(f"{name}={shortened(span)} is neither a timedelta nor seconds")
    try:
        made = span if isinstance(span, timedelta) else timedelta(seconds=span)
    except (OverflowError, ValueError):  # NaN is a ValueError
        made = timedelta.max
    if abs(made) > _LONGEST:
        raise ValueError(f"{name}={shortened(span)} leads beyond the years 1 to 9999")
    return made // _MICROSECOND


def _microseconds(time: datetime | str | float) -> int:
    """Return a time in microseconds since the Unix epoch; a naive one is taken as UTC."""
    if isinstance(time, str):
        time = parse_iso(time)
    if isinstance(time, datetime):
        aware = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
        return (aware - _EPOCH) // _MICROSECOND
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        raise TypeError(f"time={shortened(time)} is neither a datetime nor ISO 8601 text nor seconds since 1970")
    return _span("time", time)


class FrozenClock:
    """The clock of a :class:`frozen` block; it moves only when told."""

    __slots__ = ("_block",)

    def __init__(self, block: int) -> None:
        self._block = block

    def advance(self, by: float | timedelta) -> None:
        """Let time pass: seconds or a timedelta. A negative span steps the clock back.

        Raises:
            TypeError: it is neither of them.
            ValueError: the block has ended, or the span is longer than any between two dates.
        """
        move_clock(self._block, _span("by", by))

    def set(self, time: datetime | str | float) -> None:
        """Set the clock: a datetime (naive is UTC), ISO 8601 text or seconds since the Unix epoch.

        Raises:
            TypeError: it is none of them.
            ValueError: the block has ended, or the text or the number is no time.
        """
        move_clock(self._block, 0, _microseconds(time))

    @property
    def time(self) -> datetime:
        """Where the clock stands, in UTC."""
        return _EPOCH + timedelta(microseconds=move_clock(self._block, 0))


def _seed_bytes(seed: int | str | bytes) -> bytes:
    from hashlib import sha256  # only blocks with a seed pay for it

    if isinstance(seed, bool) or not isinstance(seed, (int, str, bytes)):
        raise TypeError(f"seed={shortened(seed)} is no int, str or bytes, and may not repeat")
    # The type is part of what is hashed, so that 1 and "1" differ.
    return sha256(repr(seed).encode()).digest()


class frozen:  # noqa: N801  used like a function
    """Stop the clock that mints ids and timestamps and expires items, for the whole process.

    A context manager (also around ``await``) and a decorator of functions, sync or async, but not of
    generators, which would leave the clock stopped between their values, nor of classes. Blocks nest:
    the innermost one rules; when it ends, the outer clock stands where it stood. Ids made in a block
    are ordered among themselves only.

    Args:
        time: where the clock stands: a datetime (naive is UTC), ISO 8601 text, or seconds since
            the Unix epoch; now, by default.
        seed: makes randomness repeat: the same seed and the same calls give the same ids.
            A forked child goes on with a stream of its own, derived from the seed and the number
            of the fork.

    Raises:
        TypeError: a time or a seed that is none of these, or something to decorate that is no function.
        ValueError: a text or a number that is no time.
        ConfigurationError: within the block, when SNOWFLAKE or XID run out of values instead of
            waiting for a clock that stands still.
    """

    __slots__ = ("_blocks", "_seed", "_time")

    def __init__(
        self,
        time: datetime | str | float | None = None,
        *,
        seed: int | str | bytes | None = None,
    ) -> None:
        self._time = None if time is None else _microseconds(time)
        self._seed = None if seed is None else _seed_bytes(seed)
        self._blocks: list[int] = []

    def __enter__(self) -> FrozenClock:
        time = now_ms() * 1000 if self._time is None else self._time
        block = freeze(time, self._seed)
        self._blocks.append(block)
        return FrozenClock(block)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        thaw(self._blocks.pop())

    async def __aenter__(self) -> FrozenClock:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: _F, /) -> _F:
        if isinstance(function, type):
            raise TypeError(f"frozen() does not decorate the class {function.__name__}: decorate its methods")
        if not callable(function):
            raise TypeError(f"frozen() decorates functions, not {function!r}; @classmethod goes above it")
        # An object may be called like a function.
        bodies = (function, type(function).__call__)
        if any(isgeneratorfunction(body) or isasyncgenfunction(body) for body in bodies):
            raise TypeError(
                f"frozen() does not decorate the generator {function!r}, which would leave the clock stopped between "
                "its values: write `with frozen(…):` inside it"
            )
        if any(map(iscoroutinefunction, bodies)):

            @wraps(function)
            async def awaiting(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return awaiting  # type: ignore[return-value]

        @wraps(function)
        def calling(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return calling  # type: ignore[return-value]
