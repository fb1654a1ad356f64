"""Rate limits: a maximum rate of reads and writes in DynamoDB's capacity units, on every store.

>>> FixedRate(rcu=100, wcu=25)
FixedRate(rcu=100, wcu=25, burst=None)

A limit is a token bucket with debt. It fills at the rate, up to the burst. A request takes its units when it arrives,
even if the bucket becomes negative, and then waits until the bucket has filled for it and for all requests before it.
So requests are sent in the order of their arrival, a request that is larger than the burst only waits longer, and no
request has to wake another: a wait is a sleep without a lock. The real units of a request are known when it returns;
the difference is then taken from the bucket or returned to it.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from mintkey.errors import ConfigurationError, Throttled, shortened

if TYPE_CHECKING:
    from mintkey import _core

__all__ = ["AdaptiveRate", "FixedRate", "RateLimit"]

#: An adaptive rate: the initial share of the maximum, the factors of throttling and of a raise, the seconds to a raise.
_INITIAL_SHARE, _CUT_FACTOR, _RAISE_FACTOR, _RAISE_INTERVAL = 0.5, 0.8, 1.1, 10.0
#: A waiting request checks again after this many seconds: returned units or a new rate may have shortened the wait.
_RECHECK = 0.5
#: A wait shorter than this many seconds is over: clocks do not measure such times.
_NEGLIGIBLE = 1e-6

# One lock for all limits: a request takes its units from several limits at once, and one fork handler serves them all.
# It is held for a few lines of arithmetic. It is reentrant, because a signal handler may save at any of these lines.
_lock = threading.RLock()
_limits: weakref.WeakSet[RateLimit] = weakref.WeakSet()


async def _async_sleep(seconds: float) -> None:
    import asyncio  # slow to import, and always loaded when this runs

    await asyncio.sleep(seconds)


class Time(NamedTuple):
    """The clock and the sleep functions of a limit. Tests replace them."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep  # noqa: TID251 - the only sleep, and tests replace it
    asleep: Callable[[float], Awaitable[None]] = _async_sleep


class _Reservation:
    """The units that one request has taken from a bucket, and the total taken from the bucket up to this request."""

    __slots__ = ("cuts", "end", "seen", "units")

    def __init__(self, units: float, end: float) -> None:
        self.units = units
        self.end = end
        #: The time of the last check. The time since then counts as waited.
        self.seen: float | None = None
        #: How often the rate had been lowered when the request was admitted.
        self.cuts = 0


class _Bucket:
    """The token bucket of the read or the write units. The caller of each method holds the lock."""

    __slots__ = ("_burst", "_filled_at", "_level", "_taken", "_waiting", "consumed", "cuts", "rate")

    def __init__(self, rate: float | None, burst: float | None, now: float) -> None:
        self.rate = rate
        self._burst = burst
        #: The available units; negative while requests wait, or after a request that took more than it had reserved.
        self._level = self._capacity()
        self._filled_at = now
        #: The sum of all units ever taken, from which a reservation computes the units taken after it.
        self._taken = 0.0
        self._waiting: dict[_Reservation, None] = {}
        self.consumed = 0.0
        self.cuts = 0

    def _capacity(self) -> float:
        return (self.rate or 0.0) if self._burst is None else self._burst

    def fill(self, now: float) -> None:
        """Add the units of the time since the last call."""
        self._level = min(self._capacity(), self._level + (now - self._filled_at) * (self.rate or 0.0))
        self._filled_at = now

    def reserve(self, units: float, now: float) -> _Reservation:
        """Take units, even if they are not available yet; return the reservation."""
        self.fill(now)
        self._taken += units
        self._level -= units
        reservation = _Reservation(units, self._taken)
        self._waiting[reservation] = None
        return reservation

    def seconds_left(self, reservation: _Reservation, now: float) -> float:
        """Return the seconds until a request may be sent."""
        if self.rate is None:
            return 0.0
        self.fill(now)
        behind = self._taken - reservation.end
        return max(0.0, -(self._level + behind) / self.rate)

    def admit(self, reservation: _Reservation) -> None:
        """Mark a request as sent: it no longer waits."""
        self._waiting.pop(reservation, None)
        self.consumed += reservation.units
        reservation.cuts = self.cuts

    def return_units(self, reservation: _Reservation) -> None:
        """Undo a reservation."""
        self._level += reservation.units
        if reservation not in self._waiting:
            self.consumed = max(0.0, self.consumed - reservation.units)
            return
        del self._waiting[reservation]
        self._taken -= reservation.units
        for other in reversed(self._waiting):
            if other.end < reservation.end:
                break
            other.end -= reservation.units

    def settle(self, reservation: _Reservation, units: float) -> None:
        """Charge the difference to the units that the request really took."""
        self._level -= units - reservation.units
        self.consumed = max(0.0, self.consumed + units - reservation.units)

    def release_waiting(self) -> None:
        """Return the units of requests that wait in another process."""
        for reservation in list(self._waiting):
            self.return_units(reservation)


class RateLimit:
    """The base class of `FixedRate` and `AdaptiveRate`. Stores and models that use the same object share its rate.

    Attributes:
        throttle_count: the number of requests that the store throttled.
        waited: the total seconds that requests have waited.
    """

    def __init__(self, rcu: float | None, wcu: float | None, burst: float | None, clock: Time) -> None:
        self._time = clock
        now = clock.now()
        self._read = _Bucket(rcu, burst, now)
        self._write = _Bucket(wcu, burst, now)
        self.throttle_count = 0
        self.waited = 0.0
        _limits.add(self)

    @property
    def consumed_rcu(self) -> float:
        """The read units consumed since the start, or since `reset()`."""
        return self._read.consumed

    @property
    def consumed_wcu(self) -> float:
        """The write units consumed since the start, or since `reset()`."""
        return self._write.consumed

    @property
    def current_rcu(self) -> float | None:
        """The current read units per second; None means no limit."""
        return self._rate(self._read)

    @property
    def current_wcu(self) -> float | None:
        """The current write units per second; None means no limit."""
        return self._rate(self._write)

    def reset(self) -> None:
        """Set the counters to zero. Taken units are not returned, and an adaptive rate keeps its current rate."""
        with _lock:
            self._read.consumed = self._write.consumed = 0.0
            self.throttle_count = 0
            self.waited = 0.0

    def _rate(self, bucket: _Bucket) -> float | None:
        with _lock:
            self._adapt(bucket, self._time.now())
            return bucket.rate

    def _adapt(self, bucket: _Bucket, now: float) -> None:
        """Update the rate of a bucket."""

    def _lower_rate(self, bucket: _Bucket, now: float) -> None:
        """Lower the rate, because the store throttled a request."""

    def _reserve(self, bucket: _Bucket, units: float) -> _Reservation:
        """Update the rate, then reserve units."""
        now = self._time.now()
        self._adapt(bucket, now)
        return bucket.reserve(units, now)

    def _seconds_left(self, bucket: _Bucket, reservation: _Reservation) -> float:
        """Return the seconds until a request may be sent. At 0 the request counts as sent."""
        with _lock:
            now = self._time.now()
            self._adapt(bucket, now)
            if reservation.seen is not None:
                self.waited += now - reservation.seen
            reservation.seen = now
            left = bucket.seconds_left(reservation, now)
            if left < _NEGLIGIBLE:
                bucket.admit(reservation)
                return 0.0
            return left

    def _throttled(self, bucket: _Bucket, reservation: _Reservation) -> None:
        with _lock:
            self.throttle_count += 1
            # Requests that were sent at one rate and throttled together lower it only once.
            if reservation.cuts == bucket.cuts:
                self._lower_rate(bucket, self._time.now())


class FixedRate(RateLimit):
    """A fixed maximum rate in capacity units per second.

    Args:
        rcu: read units per second; None means no limit.
        wcu: write units per second; None means no limit.
        burst: units that may be used at once after an idle time; by default the units of one second.

    Raises:
        ConfigurationError: a parameter is not a positive number.
    """

    def __init__(
        self,
        *,
        rcu: float | None = None,
        wcu: float | None = None,
        burst: float | None = None,
        _time: Time = Time(),  # noqa: B008 - immutable
    ) -> None:
        # Before the checks: a debugger may show an object whose arguments were refused.
        self._given = (rcu, wcu, burst)
        for name, value in (("rcu", rcu), ("wcu", wcu), ("burst", burst)):
            _check(name, value)
        super().__init__(rcu, wcu, burst, _time)

    def __repr__(self) -> str:
        rcu, wcu, burst = self._given
        return f"FixedRate(rcu={rcu}, wcu={wcu}, burst={burst})"


class AdaptiveRate(RateLimit):
    """A rate that adapts to the store: throttling lowers it by 20%, each 10 seconds without throttling raise it by 10%.

    It starts at half of the maximum. Reads and writes have separate rates. The burst is the units of one second.

    Args:
        max_rcu: the maximum of read units per second.
        max_wcu: the maximum of write units per second; None means no limit.
        min_rcu: the minimum of read units per second.
        min_wcu: the minimum of write units per second.

    Raises:
        ConfigurationError: a parameter is not a positive number, or a minimum exceeds its maximum.
    """

    def __init__(
        self,
        *,
        max_rcu: float,
        max_wcu: float | None = None,
        min_rcu: float = 1,
        min_wcu: float = 1,
        _time: Time = Time(),  # noqa: B008 - immutable
    ) -> None:
        self._given = (max_rcu, max_wcu, min_rcu, min_wcu)
        _check("max_wcu", max_wcu)
        for name, value in (("max_rcu", max_rcu), ("min_rcu", min_rcu), ("min_wcu", min_wcu)):
            if value is None:
                raise ConfigurationError(f"{name}= takes a positive number; only max_wcu= may be None")
            _check(name, value)
        for kind, least, most in (("rcu", min_rcu, max_rcu), ("wcu", min_wcu, max_wcu)):
            if most is not None and least > most:
                raise ConfigurationError(f"min_{kind}={least} exceeds max_{kind}={most}: pass a smaller min_{kind}=")
        begin_rcu = max(max_rcu * _INITIAL_SHARE, min_rcu)
        begin_wcu = None if max_wcu is None else max(max_wcu * _INITIAL_SHARE, min_wcu)
        super().__init__(begin_rcu, begin_wcu, None, _time)
        self._bounds = {self._read: (min_rcu, max_rcu), self._write: (min_wcu, max_wcu)}
        #: The time of the last throttling or raise, or else of the first request: idle time before it does not count.
        self._unthrottled_since: dict[_Bucket, float] = {}

    def __repr__(self) -> str:
        max_rcu, max_wcu, min_rcu, min_wcu = self._given
        return f"AdaptiveRate(max_rcu={max_rcu}, max_wcu={max_wcu}, min_rcu={min_rcu}, min_wcu={min_wcu})"

    def _adapt(self, bucket: _Bucket, now: float) -> None:
        most = self._bounds[bucket][1]
        while bucket.rate is not None and most is not None and bucket.rate < most:
            raised_at = self._unthrottled_since.get(bucket, math.inf) + _RAISE_INTERVAL
            if raised_at > now:
                return
            bucket.fill(raised_at)
            bucket.rate = min(most, bucket.rate * _RAISE_FACTOR)
            self._unthrottled_since[bucket] = raised_at

    def _reserve(self, bucket: _Bucket, units: float) -> _Reservation:
        reservation = super()._reserve(bucket, units)
        self._unthrottled_since.setdefault(bucket, self._time.now())
        return reservation

    def _lower_rate(self, bucket: _Bucket, now: float) -> None:
        self._adapt(bucket, now)
        self._unthrottled_since[bucket] = now
        if bucket.rate is not None:
            bucket.fill(now)
            bucket.rate = max(self._bounds[bucket][0], bucket.rate * _CUT_FACTOR)
            bucket.cuts += 1


def _check(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{name}= takes a number of capacity units, not {shortened(value)}")
    try:
        fits = value > 0 and math.isfinite(value)
    except OverflowError:  # an integer larger than any float
        fits = False
    if not fits:
        raise ConfigurationError(f"{name}= takes a positive number of capacity units, not {shortened(value)}")


class Stopped(Exception):
    """Ends a thread of a copy that is stopped, also while it waits for a rate limit."""


def _raise_if_stopped(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped


class LimitedRequest:
    """One request under its limits: `wait_for_units` or `await_for_units`, then `done`, `failed` or `return_units`.

    The constructor reserves the units of all limits at once, so requests are sent in the order of their arrival.
    """

    __slots__ = ("_request", "_reservations", "_stop")

    def __init__(
        self, limits: Iterable[RateLimit], request: _core.Request, stop: threading.Event | None = None
    ) -> None:
        units = request.units
        self._stop = stop
        self._request = request
        self._reservations: list[tuple[RateLimit, _Bucket, _Reservation]] = []
        if not units:
            return
        request.meter()
        writes = request.writes
        with _lock:
            for limit in limits:
                bucket = limit._write if writes else limit._read
                self._reservations.append((limit, bucket, limit._reserve(bucket, units)))

    def wait_for_units(self) -> None:
        """Wait until the request may be sent. If the wait is interrupted, return the units.

        Raises `Stopped` soon after `stop` is set.
        """
        try:
            for limit, bucket, reservation in self._reservations:
                while left := limit._seconds_left(bucket, reservation):
                    _raise_if_stopped(self._stop)
                    limit._time.sleep(min(left, _RECHECK))
        except BaseException:
            self.return_units()
            raise

    async def await_for_units(self) -> None:
        """Async version of `wait_for_units()`."""
        try:
            for limit, bucket, reservation in self._reservations:
                while left := limit._seconds_left(bucket, reservation):
                    _raise_if_stopped(self._stop)
                    await limit._time.asleep(min(left, _RECHECK))
        except BaseException:
            self.return_units()
            raise

    def return_units(self) -> None:
        """Return the units of a request that was not sent. A second call does nothing."""
        with _lock:
            for _, bucket, reservation in self._reservations:
                bucket.return_units(reservation)
            self._reservations = []

    def done(self, answer: Any) -> None:
        """Charge the real units of a request that returned."""
        if not self._reservations:
            return
        counted = self._request.consumed
        units = self._request.units_of(answer) if counted is None else counted
        with _lock:
            for _, bucket, reservation in self._reservations:
                bucket.settle(reservation, units)
        if type(answer) is list and any(isinstance(outcome, Throttled) for outcome in answer):
            self._throttled()
        else:
            self._report_retries()

    def failed(self, error: BaseException) -> None:
        """Keep the reserved units of a request that failed as spent."""
        if isinstance(error, Throttled):
            self._throttled()
        else:
            self._report_retries()

    def _report_retries(self) -> None:
        # The store may have throttled the request and retried it internally.
        if self._request.throttled:
            self._throttled()

    def _throttled(self) -> None:
        """Report to all limits that the store throttled the request, or a part of it."""
        for limit, bucket, reservation in self._reservations:
            limit._throttled(bucket, reservation)


def checked(limit: object) -> RateLimit | None:
    """Return `limit` if it is a rate limit or None; raise `ConfigurationError` otherwise."""
    if limit is None or isinstance(limit, RateLimit):
        return limit
    raise ConfigurationError(
        f"rate_limit= takes a FixedRate or an AdaptiveRate from mintkey.rate_limit, not {shortened(limit)}"
    )


def _in_child() -> None:
    try:
        for limit in _limits:
            limit._read.release_waiting()
            limit._write.release_waiting()
    finally:
        _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)
