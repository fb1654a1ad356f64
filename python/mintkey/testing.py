"""For tests: a frozen clock, and IDs that repeat from run to run.

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
from mintkey.attributes.iso import parse_iso
from mintkey.errors import InvalidValue, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FrozenClock", "frozen"]

_F = TypeVar("_F", bound="Callable[..., Any]")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
#: Larger seeds are hashed in hexadecimal.
_DECIMAL_BITS = 1024
#: The longest time range between two dates in the years 1 to 9999, approximately.
_LONGEST = timedelta(days=3_652_058)


def _in_microseconds(name: str, duration: timedelta | float) -> int:
    """Return a time range in microseconds."""
    if isinstance(duration, bool) or not isinstance(duration, (timedelta, int, float)):
        raise TypeError(f"{name}={shortened(duration)} is neither a timedelta nor seconds")
    try:
        delta = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
    except (OverflowError, ValueError):  # NaN is a ValueError
        delta = timedelta.max
    if abs(delta) > _LONGEST:
        raise InvalidValue(f"{name}={shortened(duration)} gives a time outside the years 1 to 9999")
    return delta // _MICROSECOND


def _microseconds(time: datetime | str | float) -> int:
    """Return a time in microseconds since the Unix epoch. A naive datetime is UTC."""
    if isinstance(time, str):
        time = parse_iso(time)
    if isinstance(time, datetime):
        aware = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
        return (aware - _EPOCH) // _MICROSECOND
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        raise TypeError(f"time={shortened(time)} is neither a datetime nor ISO 8601 text nor seconds since 1970")
    return _in_microseconds("time", time)


class FrozenClock:
    """The clock of a `frozen` block. It moves only by `advance()` and `set()`."""

    __slots__ = ("_block",)

    def __init__(self, block: int) -> None:
        self._block = block

    def advance(self, by: float | timedelta) -> None:
        """Move the clock by seconds or a timedelta. A negative value steps the clock back.

        Raises:
            TypeError: `by` is neither a number nor a timedelta.
            InvalidValue: no date in the years 1 to 9999 is that far from another.
            ValueError: the block has ended.
        """
        move_clock(self._block, _in_microseconds("by", by))

    def set(self, time: datetime | str | float) -> None:
        """Set the clock to a datetime (a naive one is UTC), ISO 8601 text or seconds since the Unix epoch.

        Raises:
            TypeError: `time` has another type.
            ValueError: the block has ended, or the text or the number is not a valid time.
        """
        move_clock(self._block, 0, _microseconds(time))

    @property
    def time(self) -> datetime:
        """The current time of the clock, in UTC."""
        return _EPOCH + timedelta(microseconds=move_clock(self._block, 0))


def _seed_bytes(seed: int | str | bytes) -> bytes:
    from hashlib import sha256  # loaded only for blocks with a seed

    if isinstance(seed, bool) or not isinstance(seed, (int, str, bytes)):
        raise TypeError(f"seed={shortened(seed)} is not an int, str or bytes")
    # `repr` keeps 1 and "1" apart. Python does not write very large integers in decimal.
    text = f"{seed:#x}" if isinstance(seed, int) and seed.bit_length() > _DECIMAL_BITS else repr(seed)
    return sha256(text.encode()).digest()


class frozen:  # noqa: N801  used like a function
    """Freeze the clock of IDs, timestamps and expiry for the whole process.

    It is a context manager (use `async with` around `await`, or `with`) and a decorator of functions and
    coroutine functions. It does not decorate generators, because the clock would stay frozen between their values, nor
    classes. Blocks can be nested: the innermost block sets the clock, and the outer clock continues at its own time.
    IDs of one block are in order among themselves only.

    Args:
        time: the time of the clock: a datetime (a naive one is UTC), ISO 8601 text, or seconds since
            the Unix epoch; by default the current time.
        seed: makes random values repeat: the same seed and the same calls generate the same IDs. The random values
            of a forked child depend on the seed and the number of the fork.

    Raises:
        TypeError: a time or a seed has none of these types, or the decorated object is not a function.
        ValueError: a text or a number is not a valid time.
        ConfigurationError: in the block, if all SNOWFLAKE or XID values of the frozen time are used. Outside of a
            block such a call waits for the clock.
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

    def __exit__(self, *_: object) -> None:
        thaw(self._blocks.pop())

    async def __aenter__(self) -> FrozenClock:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def __call__(self, function: _F, /) -> _F:
        if isinstance(function, type):
            raise TypeError(f"frozen() does not decorate the class {function.__name__}: decorate its methods")
        if not callable(function):
            raise TypeError(f"frozen() decorates functions, not {shortened(function)}: put @classmethod above it")
        # An object with `__call__` can be decorated like a function.
        bodies = (function, type(function).__call__)
        if any(isgeneratorfunction(body) or isasyncgenfunction(body) for body in bodies):
            raise TypeError(
                f"frozen() does not decorate the generator {shortened(function)}: the clock would stay frozen between "
                "its values. Write `with frozen(…):` in its body"
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
