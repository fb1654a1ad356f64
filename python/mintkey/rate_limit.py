"""Rate limits: how fast a program reads and writes, in DynamoDB's capacity units, on every store.

>>> FixedRate(rcu=100, wcu=25)
FixedRate(rcu=100, wcu=25, burst=None)

A limit is a bucket of units that fills at the rate, up to the burst. A request takes its units when it arrives, also
those that are not there yet, and then waits until the bucket has filled for it and for all that came before it. So
requests go in the order of their arrival, one that is larger than the burst goes after a longer wait, and nobody has
to wake anybody: a wait is a sleep, with no lock held. What a request really took is known when it is answered; the
difference is taken from the bucket, or put back, then.
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

#: What an adaptive rate does: where it begins, what throttling leaves of it, what quiet makes of it and how often.
_START, _CUT, _GROWTH, _QUIET = 0.5, 0.8, 1.1, 10.0
#: Who waits looks again after so many seconds: what others gave back, or a new rate, may have brought the turn nearer.
_GLANCE = 0.5
#: A shorter rest of a wait is none: clocks do not tell such times apart.
_NO_TIME = 1e-6

# One for all limits: a request takes its units from several at one moment, and one handler of forks serves all. It is
# held for a few lines of arithmetic. Reentrant, because a signal handler may run between any two of them, and save.
_lock = threading.RLock()
_limits: weakref.WeakSet[RateLimit] = weakref.WeakSet()


async def _asleep(seconds: float) -> None:
    import asyncio  # costs more than all the rest of the import, and is there when this runs

    await asyncio.sleep(seconds)


class Time(NamedTuple):
    """What a limit knows of time; tests give it another."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep  # noqa: TID251 - the one sleep there is, and tests replace it
    asleep: Callable[[float], Awaitable[None]] = _asleep


class _Place:
    """One request's place in a bucket: the units it took, and where they end among all that were taken."""

    __slots__ = ("cuts", "end", "seen", "units")

    def __init__(self, units: float, end: float) -> None:
        self.units = units
        self.end = end
        #: When it was last looked at, so that the time since is time waited.
        self.seen: float | None = None
        #: How often the rate had been cut when its turn came.
        self.cuts = 0


class _Bucket:
    """The units of one kind, read or written. Every method wants the lock held."""

    __slots__ = ("_burst", "_filled_at", "_level", "_taken", "_waiting", "consumed", "cuts", "rate")

    def __init__(self, rate: float | None, burst: float | None, now: float) -> None:
        self.rate = rate
        self._burst = burst
        #: What is there; less than nothing while somebody waits, or took more than anybody could know.
        self._level = self._most()
        self._filled_at = now
        #: All that was ever taken, so that each place knows how much was taken behind it.
        self._taken = 0.0
        self._waiting: dict[_Place, None] = {}
        self.consumed = 0.0
        self.cuts = 0

    def _most(self) -> float:
        return (self.rate or 0.0) if self._burst is None else self._burst

    def fill(self, now: float) -> None:
        """Take note of the time that has passed."""
        self._level = min(self._most(), self._level + (now - self._filled_at) * (self.rate or 0.0))
        self._filled_at = now

    def take(self, units: float, now: float) -> _Place:
        """Take units, whether they are there or not, and a place in the queue."""
        self.fill(now)
        self._taken += units
        self._level -= units
        place = _Place(units, self._taken)
        self._waiting[place] = None
        return place

    def left(self, place: _Place, now: float) -> float:
        """How many seconds it is until a place's turn."""
        if self.rate is None:
            return 0.0
        self.fill(now)
        behind = self._taken - place.end
        return max(0.0, -(self._level + behind) / self.rate)

    def leave(self, place: _Place) -> None:
        """It is this place's turn."""
        self._waiting.pop(place, None)
        self.consumed += place.units
        place.cuts = self.cuts

    def give_back(self, place: _Place) -> None:
        """Undo the taking."""
        self._level += place.units
        if place not in self._waiting:
            self.consumed = max(0.0, self.consumed - place.units)
            return
        del self._waiting[place]
        self._taken -= place.units
        for other in reversed(self._waiting):
            if other.end < place.end:
                break
            other.end -= place.units

    def settle(self, place: _Place, units: float) -> None:
        """The request took so many units in truth."""
        self._level -= units - place.units
        self.consumed = max(0.0, self.consumed + units - place.units)

    def forget_waiting(self) -> None:
        """Give back what those took who wait in another process."""
        for place in list(self._waiting):
            self.give_back(place)


class RateLimit:
    """What `FixedRate` and `AdaptiveRate` have in common. One may serve several stores and models, which then share it.

    Attributes:
        throttle_count: how many requests the store turned away because there were too many.
        waited: the seconds that requests have waited for their turns, all added up.
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
        """The units read since the beginning, or since `reset()`."""
        return self._read.consumed

    @property
    def consumed_wcu(self) -> float:
        """The units written since the beginning, or since `reset()`."""
        return self._write.consumed

    @property
    def current_rcu(self) -> float | None:
        """The units that may be read in a second now; None is without limit."""
        return self._rate(self._read)

    @property
    def current_wcu(self) -> float | None:
        """The units that may be written in a second now; None is without limit."""
        return self._rate(self._write)

    def reset(self) -> None:
        """Count from zero again. What was taken stays taken, and an adaptive rate keeps what it has learned."""
        with _lock:
            self._read.consumed = self._write.consumed = 0.0
            self.throttle_count = 0
            self.waited = 0.0

    def _rate(self, bucket: _Bucket) -> float | None:
        with _lock:
            self._adapt(bucket, self._time.now())
            return bucket.rate

    def _adapt(self, bucket: _Bucket, now: float) -> None:
        """Bring a bucket's rate up to date."""

    def _slow_down(self, bucket: _Bucket, now: float) -> None:
        """The store turned a request away."""

    def _take(self, bucket: _Bucket, units: float) -> _Place:
        """Take units and a place in the queue."""
        now = self._time.now()
        self._adapt(bucket, now)
        return bucket.take(units, now)

    def _left(self, bucket: _Bucket, place: _Place) -> float:
        """How many seconds it is until a place's turn; when there is nothing left, the place leaves the queue."""
        with _lock:
            now = self._time.now()
            self._adapt(bucket, now)
            if place.seen is not None:
                self.waited += now - place.seen
            place.seen = now
            left = bucket.left(place, now)
            if left < _NO_TIME:
                bucket.leave(place)
                return 0.0
            return left

    def _throttled(self, bucket: _Bucket, place: _Place) -> None:
        with _lock:
            self.throttle_count += 1
            # A crowd that was sent at one rate and turned away together says once that it was too high.
            if place.cuts == bucket.cuts:
                self._slow_down(bucket, self._time.now())


class FixedRate(RateLimit):
    """So many units a second, and no more.

    Args:
        rcu: units to read in a second; None is without limit.
        wcu: units to write in a second; None is without limit.
        burst: units that may be taken at once after a time of rest; by default those of one second.

    Raises:
        ConfigurationError: one of them is no positive number.
    """

    def __init__(
        self,
        *,
        rcu: float | None = None,
        wcu: float | None = None,
        burst: float | None = None,
        _time: Time = Time(),  # noqa: B008 - unchanging
    ) -> None:
        for name, value in (("rcu", rcu), ("wcu", wcu), ("burst", burst)):
            _check(name, value)
        super().__init__(rcu, wcu, burst, _time)
        self._given = (rcu, wcu, burst)

    def __repr__(self) -> str:
        rcu, wcu, burst = self._given
        return f"FixedRate(rcu={rcu}, wcu={wcu}, burst={burst})"


class AdaptiveRate(RateLimit):
    """A rate that finds its level: it falls by a fifth when the store throttles, and rises by a tenth in quiet times.

    It begins at half of the greatest rate. Every 10 seconds without throttling raise it. Reading and writing have each
    their own rate, and the bucket of each holds what one second brings.

    Args:
        max_rcu: the most units to read in a second.
        max_wcu: the most units to write in a second; None is without limit.
        min_rcu: the rate of reading does not fall below it.
        min_wcu: the rate of writing does not fall below it.

    Raises:
        ConfigurationError: one of them is no positive number, or a least rate is above the greatest.
    """

    def __init__(
        self,
        *,
        max_rcu: float,
        max_wcu: float | None = None,
        min_rcu: float = 1,
        min_wcu: float = 1,
        _time: Time = Time(),  # noqa: B008 - unchanging
    ) -> None:
        _check("max_wcu", max_wcu)
        for name, value in (("max_rcu", max_rcu), ("min_rcu", min_rcu), ("min_wcu", min_wcu)):
            if value is None:
                raise ConfigurationError(f"{name}= takes a positive number; only max_wcu= may be None")
            _check(name, value)
        for kind, least, most in (("rcu", min_rcu, max_rcu), ("wcu", min_wcu, max_wcu)):
            if most is not None and least > most:
                raise ConfigurationError(f"min_{kind}={least} is above max_{kind}={most}: give a smaller min_{kind}=")
        begin_rcu = max(max_rcu * _START, min_rcu)
        begin_wcu = None if max_wcu is None else max(max_wcu * _START, min_wcu)
        super().__init__(begin_rcu, begin_wcu, None, _time)
        self._bounds = {self._read: (min_rcu, max_rcu), self._write: (min_wcu, max_wcu)}
        #: Since when nothing was throttled; quiet before the first request says nothing.
        self._quiet_since: dict[_Bucket, float] = {}

    def __repr__(self) -> str:
        (min_rcu, max_rcu), (min_wcu, max_wcu) = self._bounds.values()
        return f"AdaptiveRate(max_rcu={max_rcu}, max_wcu={max_wcu}, min_rcu={min_rcu}, min_wcu={min_wcu})"

    def _adapt(self, bucket: _Bucket, now: float) -> None:
        most = self._bounds[bucket][1]
        while bucket.rate is not None and most is not None and bucket.rate < most:
            raised_at = self._quiet_since.get(bucket, math.inf) + _QUIET
            if raised_at > now:
                return
            bucket.fill(raised_at)
            bucket.rate = min(most, bucket.rate * _GROWTH)
            self._quiet_since[bucket] = raised_at

    def _take(self, bucket: _Bucket, units: float) -> _Place:
        place = super()._take(bucket, units)
        self._quiet_since.setdefault(bucket, self._time.now())
        return place

    def _slow_down(self, bucket: _Bucket, now: float) -> None:
        self._adapt(bucket, now)
        self._quiet_since[bucket] = now
        if bucket.rate is not None:
            bucket.fill(now)
            bucket.rate = max(self._bounds[bucket][0], bucket.rate * _CUT)
            bucket.cuts += 1


def _check(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{name}= takes a number of capacity units, not {shortened(value)}")
    try:
        fits = value > 0 and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        fits = False
    if not fits:
        raise ConfigurationError(f"{name}= takes a positive number of capacity units, not {shortened(value)}")


class Turn:
    """One request's way through its limits: `come` or `acome`, then `done`, `failed` or `give_back`.

    Its units are taken from all limits at once, here, so that its place in each queue is that of its arrival.
    """

    __slots__ = ("_places", "_request")

    def __init__(self, limits: Iterable[RateLimit], request: _core.Request) -> None:
        units = request.units
        self._request = request
        self._places: list[tuple[RateLimit, _Bucket, _Place]] = []
        if not units:
            return
        request.meter()
        writes = request.writes
        with _lock:
            for limit in limits:
                bucket = limit._write if writes else limit._read
                self._places.append((limit, bucket, limit._take(bucket, units)))

    def come(self) -> None:
        """Wait until it is this request's turn; when that is cut short, the units go back."""
        try:
            for limit, bucket, place in self._places:
                while left := limit._left(bucket, place):
                    limit._time.sleep(min(left, _GLANCE))
        except BaseException:
            self.give_back()
            raise

    async def acome(self) -> None:
        """Like `come()`, awaited."""
        try:
            for limit, bucket, place in self._places:
                while left := limit._left(bucket, place):
                    await limit._time.asleep(min(left, _GLANCE))
        except BaseException:
            self.give_back()
            raise

    def give_back(self) -> None:
        """The request was never sent; saying so twice is saying so once."""
        with _lock:
            for _, bucket, place in self._places:
                bucket.give_back(place)
            self._places = []

    def done(self, answer: Any) -> None:
        """The request was answered."""
        if not self._places:
            return
        counted = self._request.consumed
        units = self._request.units_of(answer) if counted is None else counted
        with _lock:
            for _, bucket, place in self._places:
                bucket.settle(place, units)
        if type(answer) is list and any(isinstance(outcome, Throttled) for outcome in answer):
            self._throttled()
        else:
            self._listen()

    def failed(self, error: BaseException) -> None:
        """The request failed; what it took is spent."""
        if isinstance(error, Throttled):
            self._throttled()
        else:
            self._listen()

    def _listen(self) -> None:
        # The store may have turned it away at first, waited, and sent it again.
        if self._request.throttled:
            self._throttled()

    def _throttled(self) -> None:
        """The store turned the request away, or a part of it."""
        for limit, bucket, place in self._places:
            limit._throttled(bucket, place)


def checked(limit: object) -> RateLimit | None:
    """`limit`, if it is one, or None."""
    if limit is None or isinstance(limit, RateLimit):
        return limit
    raise ConfigurationError(
        f"rate_limit= takes a FixedRate or an AdaptiveRate from mintkey.rate_limit, not {shortened(limit)}"
    )


def _in_child() -> None:
    try:
        for limit in _limits:
            limit._read.forget_waiting()
            limit._write.forget_waiting()
    finally:
        _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)
