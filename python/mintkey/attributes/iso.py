"""Points in time in UTC, and reading ISO 8601."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone

from mintkey import _core
from mintkey.errors import shortened

UTC = timezone.utc
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """Return the current time of the clock of IDs and timestamps, which tests can freeze."""
    return EPOCH + timedelta(milliseconds=_core.now_ms())


def as_utc(value: datetime) -> datetime:
    """Return a time in UTC; a naive one is UTC already."""
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{shortened(value)} is outside the years 1 to 9999 in UTC") from error


_ISO = re.compile(
    r"(\d{4})-?(?:W(\d\d)-?(\d)?|(\d\d)-?(\d\d))"
    r"(?:[T ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?(Z|[+-]\d\d(?::?\d\d(?::?\d\d(?:\.\d{6})?)?)?)?)?",
    re.IGNORECASE,
)


def parse_iso(text: str) -> datetime:
    """Parse ISO 8601: extended or basic format, calendar or week dates, with `Z`, an offset or neither.

    Digits below the microsecond are cut. `datetime.fromisoformat` supports these formats only since Python 3.11.
    """
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{shortened(text)} is not an ISO 8601 time")
    year, week, weekday, month, day, hour, minute, second, fraction, zone = found.groups()
    start = (
        date.fromisocalendar(int(year), int(week), int(weekday or 1)) if week else date(int(year), int(month), int(day))
    )
    offset = None
    if zone:
        offset = UTC if zone in "Zz" else timezone(_offset(zone))
    micro = int((fraction or "")[:6].ljust(6, "0"))
    return datetime(
        start.year, start.month, start.day, int(hour or 0), int(minute or 0), int(second or 0), micro, tzinfo=offset
    )


def _offset(zone: str) -> timedelta:
    """Return an offset such as `+01:00`. Python writes old local times with seconds: `+00:53:28`."""
    digits = zone[1:].replace(":", "").replace(".", "").ljust(12, "0")
    size = timedelta(
        hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:6]), microseconds=int(digits[6:])
    )
    return -size if zone[0] == "-" else size


def parse_time(text: str) -> time:
    """Parse a time of day in ISO 8601: extended or basic format, without a time zone."""
    try:
        moment = parse_iso(f"1970-01-01T{text.removeprefix('T')}")
    except ValueError:
        raise ValueError(f"{shortened(text)} is not an ISO 8601 time of day") from None
    if moment.tzinfo is not None:
        raise ValueError(f"{shortened(text)} has a time zone, and a time of day has none: remove it")
    return moment.time()
