"""Attributes of dates and times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from mintkey.attributes.base import Attribute, Normalized, V, check_form
from mintkey.attributes.iso import EPOCH, as_utc, parse_iso, parse_time, utc_now
from mintkey.attributes.options import Default, Maybe, Sure, Times
from mintkey.attributes.validators import ORDERED
from mintkey.errors import InvalidValue, shortened
from mintkey.generators import Auto

if TYPE_CHECKING:
    from typing_extensions import Unpack

    #: A fixed moment is refused as a default.
    Moment: TypeAlias = Callable[[], datetime] | Auto | Times

#: The names of the forms in which a `DatetimeAttribute` is stored.
StoredDatetime: TypeAlias = Literal["micro", "micro+0000", "micro Z", "seconds", "Z", "isoformat"]
#: The names of the forms in which a `DateAttribute` is stored.
StoredDate: TypeAlias = Literal["extended", "basic"]

_SHORT_YEAR = 999
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
#: The forms of stored text: the format, and the unit that it keeps. `isoformat` leaves out a fraction of zero.
_FORMS: dict[str, tuple[str, timedelta | None]] = {
    "micro": ("%Y-%m-%dT%H:%M:%S.%f+00:00", None),
    "micro+0000": ("%Y-%m-%dT%H:%M:%S.%f+0000", None),
    "micro Z": ("%Y-%m-%dT%H:%M:%S.%fZ", None),
    "seconds": ("%Y-%m-%dT%H:%M:%S+00:00", _SECOND),
    "Z": ("%Y-%m-%dT%H:%M:%SZ", _SECOND),
    "isoformat": ("", None),
}
_DATE_FORMS = ("extended", "basic")


class DatetimeAttribute(Attribute[datetime, V]):
    """A point in time, stored as ISO 8601 text in UTC.

    A naive datetime is UTC. It is read as an aware datetime in UTC, also from other forms of ISO 8601.

    Args:
        stored_as: the form of the text that is written, and with which keys and conditions are compared:

            - `"micro"`, by default: `2024-01-31T12:00:00.000000+00:00`, which sorts by time;
            - `"micro+0000"`: `2024-01-31T12:00:00.000000+0000`, as PynamoDB writes it;
            - `"micro Z"`: `2024-01-31T12:00:00.000000Z`;
            - `"seconds"`: `2024-01-31T12:00:00+00:00`;
            - `"Z"`: `2024-01-31T12:00:00Z`;
            - `"isoformat"`: as `datetime.isoformat()` and pydynox write it: like `"micro"`, but like `"seconds"` if
              there is no fraction of a second.

            `"seconds"` and `"Z"` refuse times with a fraction of a second, and generated times are cut.
    """

    kind = "string"
    reads = "ISO 8601 text"
    key_kind = "string"
    limits = ORDERED

    @overload
    def __init__(
        self: DatetimeAttribute[datetime | None], *, stored_as: StoredDatetime = "micro", **parameters: Unpack[Maybe]
    ) -> None: ...
    @overload
    def __init__(
        self: DatetimeAttribute[datetime], *, stored_as: StoredDatetime = "micro", **parameters: Unpack[Sure[Moment]]
    ) -> None: ...
    def __init__(self, *, stored_as: StoredDatetime = "micro", **parameters: Any) -> None:
        super().__init__(**parameters)
        self.stored_as = stored_as
        # `check_declaration` refuses an unknown form.
        self._format, self.cut = _FORMS.get(stored_as, ("", None)) if isinstance(stored_as, str) else ("", None)

    def check_declaration(self) -> None:
        check_form(self, self.stored_as, _FORMS)
        super().check_declaration()

    def encode(self, value: Any) -> str:
        if not isinstance(value, datetime):
            raise TypeError(f"expected datetime, got {type(value).__name__}")
        value = as_utc(value)
        if not self._format:
            return datetime.isoformat(value)
        if self.cut is not None and value.microsecond:
            raise ValueError(
                f"{shortened(value)} has a fraction of a second, which stored_as={self.stored_as!r} does not keep: "
                "use .replace(microsecond=0)"
            )
        # strftime() does not pad the year on every platform.
        text = datetime.strftime(value, self._format)
        return text if value.year > _SHORT_YEAR else f"{value.year:04}{text[text.index('-') :]}"

    def decode(self, stored: Any) -> datetime:
        return as_utc(parse_iso(stored))

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        to_time = time_from(auto)
        if to_time is None or self.cut is None:
            return to_time
        return lambda minted: to_time(minted).replace(microsecond=0)


class DateAttribute(Attribute[date, V]):
    """A calendar day, stored as ISO 8601 text.

    Args:
        stored_as: the form of the text: `"extended"`, by default (`2024-01-31`), or `"basic"` (`20240131`).
    """

    kind = "string"
    reads = "ISO 8601 text"
    key_kind = "string"
    limits = ORDERED
    cut = timedelta(days=1)

    @overload
    def __init__(
        self: DateAttribute[date | None], *, stored_as: StoredDate = "extended", **parameters: Unpack[Maybe]
    ) -> None: ...
    @overload
    def __init__(
        self: DateAttribute[date],
        *,
        stored_as: StoredDate = "extended",
        **parameters: Unpack[Sure[Default[date] | Times]],
    ) -> None: ...
    def __init__(self, *, stored_as: StoredDate = "extended", **parameters: Any) -> None:
        super().__init__(**parameters)
        self.stored_as = stored_as

    def check_declaration(self) -> None:
        check_form(self, self.stored_as, _DATE_FORMS)
        super().check_declaration()

    def encode(self, value: Any) -> str:
        if isinstance(value, datetime) or not isinstance(value, date):
            raise TypeError(f"expected date, got {type(value).__name__}")
        text = date.isoformat(value)
        return text.replace("-", "") if self.stored_as == "basic" else text

    def decode(self, stored: Any) -> date:
        return parse_iso(stored).date()

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        to_time = time_from(auto)
        return None if to_time is None else lambda minted: to_time(minted).date()


class TimeAttribute(Attribute[time, V]):
    """A time of day without a time zone, stored as ISO 8601 text with six decimals, which sorts by time."""

    kind = "string"
    reads = "ISO 8601 text"
    key_kind = "string"
    limits = ORDERED

    if TYPE_CHECKING:

        @overload
        def __init__(self: TimeAttribute[time | None], **parameters: Unpack[Maybe]) -> None: ...
        @overload
        def __init__(self: TimeAttribute[time], **parameters: Unpack[Sure[Default[time]]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...

    def encode(self, value: Any) -> str:
        if not isinstance(value, time):
            raise TypeError(f"expected time, got {type(value).__name__}")
        if value.tzinfo is not None:
            raise ValueError("a time of day has no time zone: use a datetime for a point in time")
        return time.isoformat(value, "microseconds")

    def decode(self, stored: Any) -> time:
        return parse_time(stored)


class TimedeltaAttribute(Attribute[timedelta, V]):
    """A duration, stored as the exact number of seconds, such as `90` or `0.000001`, which sorts by length."""

    kind = "decimal"
    reads = "numbers of seconds"
    key_kind = "number"
    limits = ORDERED

    if TYPE_CHECKING:

        @overload
        def __init__(self: TimedeltaAttribute[timedelta | None], **parameters: Unpack[Maybe]) -> None: ...
        @overload
        def __init__(self: TimedeltaAttribute[timedelta], **parameters: Unpack[Sure[Default[timedelta]]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...

    def encode(self, value: Any) -> Decimal:
        if not isinstance(value, timedelta):
            raise TypeError(f"expected timedelta, got {type(value).__name__}")
        # Made from text: arithmetic with Decimals rounds as the program's context says.
        return Decimal(f"{value // _MICROSECOND}E-6")

    def decode(self, stored: Any) -> timedelta:
        numerator, denominator = Decimal.as_integer_ratio(stored)
        # Digits below the microsecond are cut, as in times.
        microseconds = abs(numerator) * 1_000_000 // denominator
        try:
            return timedelta(microseconds=microseconds if numerator >= 0 else -microseconds)
        except OverflowError as error:
            raise ValueError("it is longer than the longest timedelta") from error

    @property
    def unverified(self) -> str | None:
        return super().unverified or "the result may be longer than the longest timedelta"


class TTLAttribute(Normalized[datetime, V]):
    """The time of expiry: an aware datetime in UTC of whole seconds, stored as seconds since the Unix epoch.

    Fractions of a second are cut at assignment, so that the loaded value is equal. An expired item is absent from every
    read, count and condition, on every store.
    """

    kind = "number"
    reads = "numbers of seconds since 1970"
    cut = timedelta(seconds=1)
    limits = ORDERED

    if TYPE_CHECKING:

        @overload
        def __init__(self: TTLAttribute[datetime | None], **parameters: Unpack[Maybe]) -> None: ...
        @overload
        def __init__(self: TTLAttribute[datetime], **parameters: Unpack[Sure[Moment]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...

    def normal(self, value: Any) -> Any:
        """Return `value` in UTC, cut to whole seconds. Other types are returned unchanged; the save refuses them."""
        if not isinstance(value, datetime):
            return value
        try:
            return as_utc(value).replace(microsecond=0)
        except ValueError:
            return value

    @property
    def unverified(self) -> str | None:
        return "the result may lie beyond the year 9999"

    def check_declaration(self) -> None:
        if isinstance(self.default, datetime):
            raise self._declaration_error(
                "with a fixed time as default= all items would expire together: use default=lambda: ExpiresIn.hours(24)"
            )
        super().check_declaration()

    def encode(self, value: Any) -> int:
        if not isinstance(value, datetime):
            raise TypeError(f"expected datetime (such as ExpiresIn.hours(24)), got {type(value).__name__}")
        return int((as_utc(value) - EPOCH) // timedelta(seconds=1))

    def decode(self, stored: Any) -> datetime:
        try:
            return EPOCH + timedelta(seconds=int(stored))
        except OverflowError as error:
            raise ValueError("the time is outside the years 1 to 9999") from error

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        to_time = time_from(auto)
        return None if to_time is None else lambda minted: self.normal(to_time(minted))


def time_from(auto: Auto) -> Callable[[Any], datetime] | None:
    """Return the conversion of a generated timestamp to a datetime; None with a prefix."""
    match auto.strategy.name if auto.strategy is not None and not auto.strategy.prefix else None:
        case "epoch":
            return lambda minted: EPOCH + timedelta(seconds=minted)
        case "epoch_us":
            return lambda minted: EPOCH + timedelta(microseconds=minted)
        case "epoch_ms":
            return lambda minted: EPOCH + timedelta(milliseconds=minted)
        case "iso8601" | "iso8601_ms":
            return lambda minted: as_utc(parse_iso(minted))
        case _:
            return None


class ExpiresIn:
    """Times relative to now, for a `TTLAttribute`: aware datetimes in UTC of whole seconds.

    Each method raises `InvalidValue` if the result is not in the years 1 to 9999.

    >>> from mintkey.testing import frozen
    >>> with frozen(time="2024-01-01T00:00:00Z"):
    ...     ExpiresIn.hours(24).isoformat()
    '2024-01-02T00:00:00+00:00'
    """

    @staticmethod
    def seconds(n: float) -> datetime:
        """Return the time `n` seconds from now."""
        return _from_now(seconds=n)

    @staticmethod
    def minutes(n: float) -> datetime:
        """Return the time `n` minutes from now."""
        return _from_now(minutes=n)

    @staticmethod
    def hours(n: float) -> datetime:
        """Return the time `n` hours from now."""
        return _from_now(hours=n)

    @staticmethod
    def days(n: float) -> datetime:
        """Return the time `n` days of 24 hours from now."""
        return _from_now(days=n)

    @staticmethod
    def weeks(n: float) -> datetime:
        """Return the time `n` weeks from now."""
        return _from_now(weeks=n)


def _from_now(**after: float) -> datetime:
    try:
        return (utc_now() + timedelta(**after)).replace(microsecond=0)
    except (OverflowError, ValueError) as error:  # NaN is a ValueError
        ((unit, given),) = after.items()
        raise InvalidValue(f"ExpiresIn.{unit}({shortened(given)}) gives a time outside the years 1 to 9999") from error
