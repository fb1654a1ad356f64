"""IDs and timestamps: strategies, and functions that generate values.

    >>> from mintkey.generators import AutoGenerate, auto, generate_value, ulid
    >>> len(ulid())
    26
    >>> generate_value(auto("nanoid", size=8))  # doctest: +SKIP
    'q5Jb_d0Y'

The plain functions (`ulid`, :func:`uuid7`, …) return the final `str` or `int` and can be used as
`default_factory` in dataclasses, pydantic, SQLAlchemy or Django. They need no store and no other part of this
package.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone
from enum import Enum
from operator import index
from sys import maxsize
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, overload

from mintkey import _core
from mintkey._core import (
    Strategy,
    cuid2,
    epoch,
    epoch_ms,
    iso8601,
    iso8601_ms,
    ksuid,
    mint_many,
    mint_one,
    nanoid,
    snowflake,
    typeid,
    ulid,
    uuid4,
    uuid7,
    xid,
)
from mintkey.errors import ConfigurationError, InvalidId, InvalidValue, shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from typing_extensions import TypeIs

    #: When a strategy runs: at the first save, or when the instance is constructed.
    When = Literal["save", "init"]

__all__ = [
    "Auto",
    "AutoGenerate",
    "ParsedId",
    "auto",
    "bounds",
    "candidates",
    "cuid2",
    "epoch",
    "epoch_ms",
    "generate_many",
    "generate_value",
    "instant",
    "is_auto_generate",
    "iso8601",
    "iso8601_ms",
    "ksuid",
    "ksuid_from_bytes",
    "nanoid",
    "parse",
    "reseed",
    "snowflake",
    "typeid",
    "typeid_from_uuid",
    "ulid",
    "ulid_from_uuid",
    "uuid4",
    "uuid7",
    "xid",
]


class AutoGenerate(Enum):
    """The strategies. Each can be used as `default=` and `on_update=` of an attribute."""

    UUID4 = "uuid4"
    """36 characters, random (RFC 9562, section 5.4)."""
    UUID7 = "uuid7"
    """36 characters, sorted by time in ms (RFC 9562, section 5.7)."""
    ULID = "ulid"
    """26 characters, sorted by time in ms (github.com/ulid/spec)."""
    KSUID = "ksuid"
    """27 characters, sorted by time in s (github.com/segmentio/ksuid)."""
    NANOID = "nanoid"
    """21 characters, random (github.com/ai/nanoid)."""
    SNOWFLAKE = "snowflake"
    """An int of 63 bits, sorted by time in ms: 41 bits of time, 10 of the node, 12 of a counter (Twitter's layout)."""
    TYPEID = "typeid"
    """A type and 26 characters, sorted by time in ms (github.com/jetify-com/typeid)."""
    XID = "xid"
    """20 characters, sorted by time in s (github.com/rs/xid)."""
    CUID2 = "cuid2"
    """24 characters, random, the first is a letter (github.com/paralleldrive/cuid2)."""
    EPOCH = "epoch"
    """Seconds since the Unix epoch, an int."""
    EPOCH_MS = "epoch_ms"
    """Milliseconds since the Unix epoch, an int."""
    ISO8601 = "iso8601"
    """`2024-01-01T00:00:00Z` (ISO 8601, UTC)."""
    ISO8601_MS = "iso8601_ms"
    """`2024-01-01T00:00:00.123Z` (ISO 8601, UTC)."""


_CORE: Final = {member: Strategy(member.value) for member in AutoGenerate}


def _strategy(name: str, parameters: dict[str, Any]) -> Strategy:
    """Construct a strategy from its pickled name and parameters."""
    return Strategy(name, **parameters)


#: The size of the largest integer that a parameter may have; Python cannot even write very large ones in decimal.
_PARAMETER_BITS: Final = 64


def _check_parameters(strategy: str, parameters: dict[str, Any]) -> None:
    """Refuse values that no strategy takes and that may be too large to print."""
    for name, value in parameters.items():
        if isinstance(value, int):
            if value.bit_length() > _PARAMETER_BITS:
                raise ConfigurationError(f"{name}={shortened(value)} is out of range for the strategy {strategy!r}")
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            raise TypeError(f"{name}={shortened(value)} of the strategy {strategy!r} is neither a number nor text")


class Auto:
    """A strategy with its parameters, or a function that generates values; `auto` returns one. Immutable.

    Attributes:
        strategy: the strategy, or `None` if a function generates the value.
        function: the function, or `None`.
        when: `"save"`, or `"init"` for construction.
        plus: the timedelta that the strategy adds to a timestamp, or `None`.
    """

    __slots__ = ("function", "plus", "strategy", "when")

    strategy: Strategy | None
    function: Callable[[], Any] | None
    when: When
    plus: timedelta | None

    def __init__(
        self,
        strategy: Strategy | None,
        function: Callable[[], Any] | None = None,
        when: When = "save",
        plus: timedelta | None = None,
    ) -> None:
        set_once = object.__setattr__
        set_once(self, "strategy", strategy)
        set_once(self, "function", function)
        set_once(self, "when", when)
        set_once(self, "plus", plus)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Auto is immutable: call auto(…, {name}=…) again")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an Auto is immutable: its {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Auto):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self.strategy, self.function, self.when, self.plus)

    def __reduce__(self) -> tuple[type[Auto], tuple[Any, ...]]:
        return (Auto, self._key())

    def __repr__(self) -> str:
        what: object = self.function if self.strategy is None else self.strategy.name
        given = {} if self.strategy is None else dict(self.strategy.parameters)
        if self.plus is not None:
            given["plus"] = self.plus
        if self.when != "save":
            given["when"] = self.when
        return "auto(" + ", ".join([repr(what), *(f"{k}={v!r}" for k, v in given.items())]) + ")"


def _member(strategy: AutoGenerate | str) -> AutoGenerate:
    # Enum's own message would repeat the whole of any other value.
    if isinstance(strategy, (AutoGenerate, str)):
        with suppress(ValueError):
            return AutoGenerate(strategy)
    names = ", ".join(member.value for member in AutoGenerate)
    raise ConfigurationError(f"Invalid strategy {shortened(strategy)}. Valid strategies are: {names}")


#: The largest `plus=` in either direction. From today it leads to a date in the years 1 to 9999.
_FARTHEST: Final = timedelta(days=730_000)


def auto(
    strategy: AutoGenerate | str | Callable[[], Any],
    /,
    *,
    when: When = "save",
    **parameters: Any,
) -> Auto:
    """Return a strategy with parameters, for `default=`, `on_update=` and `generate_value`.

        >>> auto("ulid", prefix="ORDER#")
        auto('ulid', prefix='ORDER#')

    Args:
        strategy: a member of `AutoGenerate`, its name, or a function without arguments.
        when: `"save"`, or `"init"` to generate the value when an instance is constructed.
        **parameters: `prefix` (all strategies that generate text), `length` (UUID4: the number of
            hexadecimal digits, 1-32; CUID2: 2-32), `size` and `alphabet` (NANOID), `node` (0-1023, or a
            range such as `"32-47"`) and `epoch` (ms since 1970; SNOWFLAKE), `plus` (a
            timedelta, at most 730,000 days in either direction; EPOCH, EPOCH_MS, ISO8601, ISO8601_MS).

    Raises:
        TypeError: the strategy does not take a parameter, or a value has the wrong type.
        ConfigurationError: the strategy is unknown, or a value is out of range.
    """
    if when not in ("save", "init"):
        raise ConfigurationError(f"when={shortened(when)} is neither 'save' nor 'init'")
    if not isinstance(strategy, (AutoGenerate, str)):
        if not callable(strategy):
            raise TypeError(
                f"{shortened(strategy)} is not a strategy: pass a member of AutoGenerate, its name, or a function"
            )
        if parameters:
            raise TypeError(f"auto() of a function takes no {', '.join(parameters)}: the function returns the value")
        return Auto(None, strategy, when)
    member = _member(strategy)
    if not parameters:
        return Auto(_CORE[member], None, when)
    plus: timedelta | None = parameters.get("plus")
    if plus is not None:
        if not isinstance(plus, timedelta):
            raise TypeError(f"plus={shortened(plus)} is not a timedelta")
        if abs(plus) > _FARTHEST:
            raise ConfigurationError(
                f"plus={plus!r} is more than {_FARTHEST.days:,} days (about 2,000 years) and leads to no date"
            )
        parameters["plus"] = plus // timedelta(milliseconds=1)
    _check_parameters(member.value, parameters)
    return Auto(Strategy(member.value, **parameters), None, when, plus)


_PLAIN: Final = {member: Auto(strategy) for member, strategy in _CORE.items()}


def as_auto(strategy: AutoGenerate | Auto) -> Auto:
    """Return the `Auto` of a member; an `Auto` is returned unchanged."""
    return strategy if isinstance(strategy, Auto) else _PLAIN[strategy]


def is_auto_generate(value: object) -> TypeIs[AutoGenerate | Auto]:
    """Return whether a value is a strategy: a member of `AutoGenerate` or an `Auto`, not a name.

    >>> is_auto_generate(AutoGenerate.ULID), is_auto_generate("ulid")
    (True, False)
    """
    return isinstance(value, (AutoGenerate, Auto))


#: Returns the instant of the running save in ms since the Unix epoch; set by the save.
instant: ContextVar[Callable[[], int] | None] = ContextVar("mintkey.instant", default=None)


def _resolve(strategy: AutoGenerate | Auto | str) -> Auto:
    return as_auto(strategy) if isinstance(strategy, (AutoGenerate, Auto)) else _PLAIN[_member(strategy)]


@overload
def generate_value(
    strategy: Literal[AutoGenerate.SNOWFLAKE, AutoGenerate.EPOCH, AutoGenerate.EPOCH_MS],
) -> int: ...
@overload
def generate_value(
    strategy: Literal[
        AutoGenerate.UUID4,
        AutoGenerate.UUID7,
        AutoGenerate.ULID,
        AutoGenerate.KSUID,
        AutoGenerate.NANOID,
        AutoGenerate.TYPEID,
        AutoGenerate.XID,
        AutoGenerate.CUID2,
        AutoGenerate.ISO8601,
        AutoGenerate.ISO8601_MS,
    ],
) -> str: ...
@overload
def generate_value(strategy: AutoGenerate | Auto | str) -> Any: ...
def generate_value(strategy: AutoGenerate | Auto | str) -> Any:
    """Generate one value. Use `auto` to pass parameters.

        >>> len(generate_value(AutoGenerate.KSUID)), len(generate_value("uuid4"))
        (27, 36)
        >>> generate_value(auto("typeid", prefix="order"))[:6]
        'order_'

    In a hook of a save, timestamps read the instant of that save, so that all values of one item agree.

    Raises:
        ConfigurationError: the strategy is unknown.
    """
    resolved = _resolve(strategy)
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
    resolved = _resolve(strategy)
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


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


# Names that ParsedId uses for its own attributes.
_Bytes: TypeAlias = bytes
_Datetime: TypeAlias = datetime
_Int: TypeAlias = int


class ParsedId:
    """The contents of an ID or a timestamp; `parse` returns one.

    Attributes:
        kind: the strategy that generates such IDs.
        text: the parsed text; an integer in decimal.
        prefix: the text before the ID; the type of a TypeID.
        bytes: the binary form: 16, 20 (KSUID), 12 (XID) or 8 (integers) bytes, `b""` if the
            strategy has none.
        timestamp_ms: the time of generation in ms since the Unix epoch, or `None`.
        random: the random part as an integer, or `None`.
        random_bits: the size of the random part in bits, or `None`.
        node: the node of a snowflake, or `None`.
        sequence: the sequence of a snowflake, the counter of an XID, or `None`.
        machine: the machine field of an XID, or `None`.
        process: the process field of an XID, or `None`.
    """

    __slots__ = (
        "bytes",
        "kind",
        "machine",
        "node",
        "prefix",
        "process",
        "random",
        "random_bits",
        "sequence",
        "text",
        "timestamp_ms",
    )

    bytes: _Bytes
    kind: AutoGenerate
    machine: _Int | None
    node: _Int | None
    prefix: str
    process: _Int | None
    random: _Int | None
    random_bits: _Int | None
    sequence: _Int | None
    text: str
    timestamp_ms: _Int | None

    def __init__(self, text: str, fields: dict[str, Any]) -> None:
        self.text = text
        self.kind = AutoGenerate(fields["kind"])
        self.timestamp_ms = fields["time_ms"]
        for name in ("bytes", "machine", "node", "prefix", "process", "random", "random_bits", "sequence"):
            setattr(self, name, fields[name])

    @property
    def datetime(self) -> _Datetime | None:
        """The time of generation in UTC; `None` if the ID contains no time.

        Raises:
            OverflowError: the year is after 9999.
        """
        if self.timestamp_ms is None:
            return None
        return _EPOCH + timedelta(milliseconds=self.timestamp_ms)

    @property
    def uuid(self) -> UUID | None:
        """The 16 bytes as a UUID; `None` if the ID has another size."""
        from uuid import UUID

        return UUID(bytes=self.bytes) if len(self.bytes) == 16 else None  # noqa: PLR2004 - the size of a UUID

    @property
    def int(self) -> _Int | None:
        """The bytes as an integer; `None` if there are none."""
        if not self.bytes:
            return None
        signed = self.kind in (AutoGenerate.EPOCH, AutoGenerate.EPOCH_MS)
        return _Int.from_bytes(self.bytes, "big", signed=signed)

    @property
    def canonical(self) -> str:
        """The text in the form of generated IDs: ULIDs in capitals, UUIDs in lower case with hyphens."""
        if self.kind is AutoGenerate.ULID:
            return self.prefix + _core.from_bytes(_CORE[self.kind], self.bytes)
        if self.kind in (AutoGenerate.UUID4, AutoGenerate.UUID7) and self.uuid is not None:
            return f"{self.prefix}{self.uuid}"
        return self.text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ParsedId):
            return NotImplemented
        return (self.kind, self.canonical) == (other.kind, other.canonical)

    def __hash__(self) -> _Int:
        return hash((self.kind, self.canonical))

    def __repr__(self) -> str:
        when = "" if self.timestamp_ms is None else f" of {self.timestamp_ms} ms since 1970"
        return f"<ParsedId {self.kind.value} {self.text!r}{when}>"


def parse(value: str | int | UUID, kind: AutoGenerate | Auto | str | None = None) -> ParsedId:
    """Parse an ID or a timestamp strictly.

        >>> parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").datetime
        datetime.datetime(2016, 7, 30, 23, 54, 10, 259000, tzinfo=datetime.timezone.utc)

    Args:
        value: the text (a UUID with or without hyphens), an integer, or a UUID object.
        kind: the strategy, with its parameters if it has any (`auto("ulid", prefix="A#")`). By default the
            format is detected. Formats overlap: `candidates` returns all that match.

    Raises:
        InvalidId: the value is malformed; the message names the position and the reason.
        TypeError: the value is neither text, nor an integer, nor a UUID.
        ConfigurationError: the strategy is unknown.
    """
    if not isinstance(value, (str, int)):
        from uuid import UUID

        if not isinstance(value, UUID):
            raise TypeError(f"an ID is a str, an int or a UUID, not {shortened(value)}")
        value = str(value)
    elif isinstance(value, int) and value.bit_length() > _PARAMETER_BITS:
        raise InvalidId(f"{shortened(value)} is not an ID: integer IDs have at most 63 bits")
    core = None if kind is None else _resolve(kind).strategy
    return ParsedId(str(value), _core.parse(value, core))


def candidates(text: str) -> list[ParsedId]:
    """Parse a text as each strategy whose format it matches, the most likely first.

    >>> [found.kind.value for found in candidates("1541815603606036480")]
    ['snowflake', 'epoch_ms']
    """
    if not isinstance(text, str):
        raise TypeError(f"candidates() takes text, not {shortened(text)}")
    names = _core.candidates(text)
    return [parse(text, name) for name in names]


def _microseconds(name: str, time: datetime) -> int:
    if not isinstance(time, datetime):
        raise TypeError(f"{name}={shortened(time)} is not a datetime: use datetime.fromisoformat() for text")
    aware = time if time.utcoffset() is not None else time.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def bounds(strategy: AutoGenerate | Auto | str, start: datetime, end: datetime) -> tuple[Any, Any]:
    """Convert a time range to a range of IDs: the lowest and the highest ID that can be generated in it.

        >>> from datetime import datetime
        >>> bounds("ulid", datetime(2024, 1, 1), datetime(2024, 1, 2))
        ('01HK153X000000000000000000', '01HK3QGKZZZZZZZZZZZZZZZZZZ')

    Args:
        strategy: a strategy that sorts by time, with its prefix if it has one.
        start: the start of the range, inclusive (a naive datetime is UTC). An ID belongs to the start of its tick,
            which is a second for KSUID, XID, EPOCH and ISO8601 and a millisecond for the others.
        end: the end of the range, exclusive.

    Raises:
        TypeError: a time is not a datetime.
        ValueError: the strategy is unknown or does not sort by time, or the range contains no tick.
    """
    return id_range(_resolve(strategy), start, end)


def id_range(auto: Auto, start: datetime, end: datetime, cut: timedelta | None = None) -> tuple[Any, Any]:
    """Return the bounds of values that are generated and then cut to whole units, such as days."""
    if auto.strategy is None:
        raise ValueError("values of a function have no known order: use a strategy that sorts by time")
    first, after = _microseconds("start", start), _microseconds("end", end)
    if cut is not None:
        # A unit starts where the time plus `plus=` is a multiple of the unit.
        unit, plus = (time // timedelta(microseconds=1) for time in (cut, auto.plus or timedelta()))
        first, after = (-(-(time + plus) // unit) * unit - plus for time in (first, after))
        if first >= after:
            name = "day" if cut == timedelta(days=1) else "second"
            raise ValueError(f"no {name} starts between {start} and {end}, and stored values are whole {name}s")
    return _core.bounds(auto.strategy, first, after)


def _bytes_of(value: UUID | str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        from uuid import UUID

        value = UUID(value)
    found: object = getattr(value, "bytes", None)
    if not isinstance(found, bytes):
        raise TypeError(f"expected a UUID, its text or its bytes, not {shortened(value)}")
    return found


def ulid_from_uuid(uuid: UUID | str | bytes) -> str:
    """Encode the 128 bits of a UUID as a ULID. `parse(ulid).uuid` is the inverse.

        >>> ulid_from_uuid("01563e3a-b5d3-d676-4c61-efb99302bd5b")
        '01ARZ3NDEKTSV4RRFFQ69G5FAV'

    Raises:
        TypeError: the argument is neither a UUID, nor text, nor bytes.
        ValueError: the text is not a UUID.
        InvalidId: there are not 16 bytes.
    """
    return _core.from_bytes(_CORE[AutoGenerate.ULID], _bytes_of(uuid))


def typeid_from_uuid(uuid: UUID | str | bytes, prefix: str = "") -> str:
    """Encode a UUID as a TypeID. `parse(typeid).uuid` is the inverse.

        >>> typeid_from_uuid("01889c89-df6b-7f1c-a388-91396ec314bc", "order")
        'order_01h2e8kqvbfwea724h75qc655w'

    Raises:
        ConfigurationError: the prefix is not a valid type.
        TypeError: the first argument is neither a UUID, nor text, nor bytes.
        ValueError: the text is not a UUID.
        InvalidId: there are not 16 bytes.
    """
    _check_parameters("typeid", {"prefix": prefix})
    core = Strategy("typeid", prefix=prefix) if prefix else _CORE[AutoGenerate.TYPEID]
    return _core.from_bytes(core, _bytes_of(uuid))


def ksuid_from_bytes(data: bytes) -> str:
    """Encode 20 bytes as a KSUID. `parse(ksuid).bytes` is the inverse.

        >>> ksuid_from_bytes(bytes(20))
        '000000000000000000000000000'

    Raises:
        InvalidId: there are not 20 bytes.
    """
    return _core.from_bytes(_CORE[AutoGenerate.KSUID], data)


def _report_step_back(from_ms: int, to_ms: int) -> None:
    """Log once that the clock stepped back. Called by the compiled core."""
    import logging  # slower than all other imports of this module together

    root = logging.getLogger("mintkey")
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    logging.getLogger("mintkey.generators").warning(
        "the clock stepped back by %.3f s, from %s to %s ms since 1970; IDs continue from the highest "
        "reading until the clock has caught up",
        (from_ms - to_ms) / 1000,
        from_ms,
        to_ms,
    )
