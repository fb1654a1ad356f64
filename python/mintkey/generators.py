"""Ids and timestamps: strategies as values, and functions that mint.

    >>> from mintkey.generators import AutoGenerate, auto, generate_value, ulid
    >>> len(ulid())
    26
    >>> generate_value(auto("nanoid", size=8))  # doctest: +SKIP
    'q5Jb_d0Y'

The plain functions (:func:`ulid`, :func:`uuid7`, …) return the final ``str`` or ``int`` and serve as
``default_factory`` wherever one is taken. They need no store and no other part of this package.
"""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime, timedelta, timezone
from enum import Enum
from operator import index
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

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from typing_extensions import TypeIs

    #: What :func:`auto` and ``default=`` take for a strategy.
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
    """The strategies; each is usable as ``default=`` and ``on_update=`` of an attribute."""

    UUID4 = "uuid4"
    """36 characters, random (RFC 9562, 5.4)."""
    UUID7 = "uuid7"
    """36 characters, sorted by time, ms (RFC 9562, 5.7)."""
    ULID = "ulid"
    """26 characters, sorted by time, ms (github.com/ulid/spec)."""
    KSUID = "ksuid"
    """27 characters, sorted by time, s (github.com/segmentio/ksuid)."""
    NANOID = "nanoid"
    """21 characters, random (github.com/ai/nanoid)."""
    SNOWFLAKE = "snowflake"
    """An int of 63 bits, sorted by time, ms; holds a node."""
    TYPEID = "typeid"
    """A type and 26 characters, sorted by time, ms (github.com/jetify-com/typeid)."""
    XID = "xid"
    """20 characters, sorted by time, s (github.com/rs/xid)."""
    CUID2 = "cuid2"
    """24 characters, random, a letter first (github.com/paralleldrive/cuid2)."""
    EPOCH = "epoch"
    """Seconds since the Unix epoch, an int."""
    EPOCH_MS = "epoch_ms"
    """Milliseconds since the Unix epoch, an int."""
    ISO8601 = "iso8601"
    """``2024-01-01T00:00:00Z``."""
    ISO8601_MS = "iso8601_ms"
    """``2024-01-01T00:00:00.123Z``."""


_CORE: Final = {member: Strategy(member.value) for member in AutoGenerate}


def _strategy(name: str, parameters: dict[str, Any]) -> Strategy:
    """Make a strategy again from what it was pickled to."""
    return Strategy(name, **parameters)


class Auto:
    """A strategy or a function with the moment it runs at; :func:`auto` makes them.

    Attributes:
        strategy: what to mint, or ``None`` where a function gives the value.
        function: the function, or ``None``.
        when: ``"save"``, or ``"init"`` for construction.
        plus: what is added to a timestamp. The strategy adds it itself.
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
        raise AttributeError(f"an Auto does not change; make another one with auto(…, {name}=…)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an Auto does not change; it keeps its {name}")

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
    try:
        return AutoGenerate(strategy)
    except ValueError:
        names = ", ".join(member.value for member in AutoGenerate)
        raise ValueError(f"Invalid strategy {strategy!r}. Valid strategies are: {names}") from None


#: What may be added to a time. It leaves today within the years 1 to 9999.
_FARTHEST: Final = timedelta(days=730_000)


def auto(
    strategy: AutoGenerate | str | Callable[[], Any],
    /,
    *,
    when: When = "save",
    **parameters: Any,
) -> Auto:
    """Give a strategy parameters.

        >>> auto("ulid", prefix="ORDER#")
        auto('ulid', prefix='ORDER#')

    Args:
        strategy: a member of :class:`AutoGenerate`, its name, or a function without arguments.
        when: ``"save"``, or ``"init"`` to mint when an instance is constructed.
        **parameters: ``prefix`` (all that give text), ``length`` (UUID4: that many hexadecimal
            digits, 1-32; CUID2: 2-32), ``size`` and ``alphabet`` (NANOID), ``node`` (0-1023, or a
            range such as ``"32-47"``) and ``epoch`` (ms since 1970; SNOWFLAKE), ``plus`` (a
            timedelta, at most 730,000 days either way; EPOCH, EPOCH_MS, ISO8601, ISO8601_MS).

    Raises:
        TypeError: a parameter that this strategy does not take.
        ValueError: an unknown strategy, or a value out of its range.
    """
    if when not in ("save", "init"):
        raise ValueError(f"when={when!r} is neither 'save' nor 'init'")
    if not isinstance(strategy, (AutoGenerate, str)):
        if not callable(strategy):
            raise TypeError(f"{strategy!r} is no strategy: give a member, its name or a function")
        if parameters:
            raise TypeError(f"a function takes no {', '.join(parameters)}: it gives the value alone")
        return Auto(None, strategy, when)
    member = _member(strategy)
    if not parameters:
        return Auto(_CORE[member], None, when)
    plus: timedelta | None = parameters.get("plus")
    if plus is not None:
        if not isinstance(plus, timedelta):
            raise TypeError(f"plus={plus!r} is no timedelta")
        if abs(plus) > _FARTHEST:
            raise ValueError(f"plus={plus!r} is over {_FARTHEST.days:,} days, about 2,000 years, and leads to no date")
        parameters["plus"] = plus // timedelta(milliseconds=1)
    return Auto(Strategy(member.value, **parameters), None, when, plus)


_PLAIN: Final = {member: Auto(strategy) for member, strategy in _CORE.items()}


def as_auto(strategy: AutoGenerate | Auto) -> Auto:
    """Return a member as what :func:`auto` makes of it; an :class:`Auto` as it is."""
    return strategy if isinstance(strategy, Auto) else _PLAIN[strategy]


def is_auto_generate(value: object) -> TypeIs[AutoGenerate | Auto]:
    """Tell whether a value is a strategy: a member or what :func:`auto` made, never its name.

    >>> is_auto_generate(AutoGenerate.ULID), is_auto_generate("ulid")
    (True, False)
    """
    return isinstance(value, (AutoGenerate, Auto))


#: Gives the instant of the save that is running, in ms since the Unix epoch; set by the save.
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
    """Mint one value; :func:`auto` gives the strategy parameters.

        >>> len(generate_value(AutoGenerate.KSUID)), len(generate_value("uuid4"))
        (27, 36)
        >>> generate_value(auto("typeid", prefix="order"))[:6]
        'order_'

    Within a save (in its hooks) a timestamp tells that save's instant, so that everything in one
    item agrees.

    Raises:
        ValueError: an unknown strategy.
    """
    made = _resolve(strategy)
    if made.function is not None:
        return made.function()
    core = cast("Strategy", made.strategy)
    if not core.is_id and (read := instant.get()) is not None:
        return mint_one(core, read())
    return mint_one(core)


def generate_many(strategy: AutoGenerate | Auto | str, n: int) -> list[Any]:
    """Mint ``n`` values at once, in order where the strategy has one; :func:`auto` gives it parameters.

        >>> ids = generate_many("ulid", 1000)
        >>> ids == sorted(ids)
        True

    Raises:
        TypeError: an ``n`` that is no whole number.
        ValueError: an unknown strategy, or a negative ``n``.
    """
    try:
        n = index(n)
    except TypeError:
        raise TypeError(f"n={n!r} is no whole number") from None
    if n < 0:
        raise ValueError(f"n={n} is negative")
    made = _resolve(strategy)
    if made.function is not None:
        return [made.function() for _ in range(n)]
    return mint_many(cast("Strategy", made.strategy), n)


def reseed() -> None:
    """Make the next ids differ from those of every copy of this process.

    Call it when a machine, a container or a function has been resumed from a snapshot (AWS Lambda SnapStart, CRIU, a
    virtual machine): until then two copies generate the same ids. A fork needs no call.

    It draws new randomness and a new machine for XIDs, and gives the node of snowflakes back; the next snowflake
    claims one, from ``$MINTKEY_NODE`` as it is then. Ids stay in order: they go on in the next tick, so a KSUID or an
    XID may be one second ahead of the clock. A block of ``mintkey.testing.frozen`` with a seed is left as it is.

    >>> reseed()
    """
    _core.reseed()


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


# Names that ParsedId uses for its own attributes.
_Bytes: TypeAlias = bytes
_Datetime: TypeAlias = datetime
_Int: TypeAlias = int


class ParsedId:
    """What an id or a timestamp holds; :func:`parse` makes them.

    Attributes:
        kind: the strategy it is of.
        text: the text as it was given; an integer in decimal.
        prefix: the text before the id; a TypeID's type.
        bytes: its binary form: 16, 20 (KSUID), 12 (XID) or 8 (integers) bytes, ``b""`` where a
            strategy has none.
        timestamp_ms: when it was minted, in ms since the Unix epoch, or ``None``.
        random: the random part as an integer, or ``None``.
        random_bits: how many bits that part has, or ``None``.
        node: a snowflake's node, or ``None``.
        sequence: a snowflake's sequence, an XID's counter, or ``None``.
        machine: an XID's machine, or ``None``.
        process: an XID's process, or ``None``.
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
        """When it was minted, in UTC; ``None`` where it does not tell.

        Raises:
            OverflowError: the year is beyond 9999.
        """
        if self.timestamp_ms is None:
            return None
        return _EPOCH + timedelta(milliseconds=self.timestamp_ms)

    @property
    def uuid(self) -> UUID | None:
        """Its 16 bytes as a UUID; ``None`` where it has another size."""
        from uuid import UUID

        return UUID(bytes=self.bytes) if len(self.bytes) == 16 else None  # noqa: PLR2004  a UUID's size

    @property
    def int(self) -> _Int | None:
        """Its bytes as an integer; ``None`` where it has none."""
        if not self.bytes:
            return None
        signed = self.kind in (AutoGenerate.EPOCH, AutoGenerate.EPOCH_MS)
        return _Int.from_bytes(self.bytes, "big", signed=signed)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ParsedId):
            return NotImplemented
        return (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> _Int:
        return hash((self.kind, self.text))

    def __repr__(self) -> str:
        when = "" if self.timestamp_ms is None else f" of {self.timestamp_ms} ms since 1970"
        return f"<ParsedId {self.kind.value} {self.text!r}{when}>"


def parse(value: str | int | UUID, kind: AutoGenerate | Auto | str | None = None) -> ParsedId:
    """Read an id or a timestamp, strictly.

        >>> parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").datetime
        datetime.datetime(2016, 7, 30, 23, 54, 10, 259000, tzinfo=datetime.timezone.utc)

    Args:
        value: the text (a UUID with or without hyphens), an integer, or a UUID object.
        kind: the strategy, with its parameters where it has some (``auto("ulid", prefix="A#")``);
            by default the form decides. Forms overlap: :func:`candidates` tells all that fit.

    Raises:
        InvalidId: it is none; the message names the position and the reason.
        TypeError: it is neither text, nor an integer, nor a UUID.
        ValueError: an unknown strategy.
    """
    if not isinstance(value, (str, int)):
        from uuid import UUID

        if not isinstance(value, UUID):
            raise TypeError(f"an id is a str, an int or a UUID, not {value!r}")
        value = str(value)
    core = None if kind is None else _resolve(kind).strategy
    return ParsedId(str(value), _core.parse(value, core))


def candidates(text: str) -> list[ParsedId]:
    """Read a text as each strategy whose form it has, likeliest first.

    >>> [found.kind.value for found in candidates("1541815603606036480")]
    ['snowflake', 'epoch_ms']
    """
    if not isinstance(text, str):
        raise TypeError(f"candidates() reads a text, not {text!r}")
    names = _core.candidates(text)
    return [parse(text, name) for name in names]


def _microseconds(name: str, time: datetime) -> int:
    if not isinstance(time, datetime):
        raise TypeError(f"{name}={time!r} is no datetime; datetime.fromisoformat() makes one of a text")
    aware = time if time.utcoffset() is not None else time.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def bounds(strategy: AutoGenerate | Auto | str, start: datetime, end: datetime) -> tuple[Any, Any]:
    """Turn a span of time into a span of ids: the least and the greatest minted in it.

        >>> from datetime import datetime
        >>> bounds("ulid", datetime(2024, 1, 1), datetime(2024, 1, 2))
        ('01HK153X000000000000000000', '01HK3QGKZZZZZZZZZZZZZZZZZZ')

    Args:
        strategy: one that sorts by time, with its prefix if it has one.
        start: the first instant (naive is UTC). An id belongs to the start of its tick, which is a
            second for KSUID, XID, EPOCH and ISO8601 and a millisecond for the others.
        end: the first instant after the span, which is not part of it.

    Raises:
        TypeError: a time that is no datetime.
        ValueError: an unknown strategy or one that does not sort, or a span without any tick.
    """
    return span(_resolve(strategy), start, end)


def span(made: Auto, start: datetime, end: datetime, cut: timedelta | None = None) -> tuple[Any, Any]:
    """Tell the bounds of what is minted and then cut to whole units: a value belongs to the start of its unit."""
    if made.strategy is None:
        raise ValueError("what a function gives has no order that is known")
    first, after = _microseconds("start", start), _microseconds("end", end)
    if cut is not None:
        # The units begin where the time with what is added to it is whole.
        unit, plus = (time // timedelta(microseconds=1) for time in (cut, made.plus or timedelta()))
        first, after = (-(-(time + plus) // unit) * unit - plus for time in (first, after))
        if first >= after:
            name = "day" if cut == timedelta(days=1) else "second"
            raise ValueError(f"no {name} begins between {start} and {end}, and what is stored tells whole {name}s only")
    return _core.bounds(made.strategy, first, after)


def _bytes_of(value: UUID | str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        from uuid import UUID

        value = UUID(value)
    return value.bytes


def ulid_from_uuid(uuid: UUID | str | bytes) -> str:
    """Write the 128 bits of a UUID as a ULID; ``parse(ulid).uuid`` is the way back.

        >>> ulid_from_uuid("01563e3a-b5d3-d676-4c61-efb99302bd5b")
        '01ARZ3NDEKTSV4RRFFQ69G5FAV'

    Raises:
        ValueError: a text that is no UUID.
        InvalidId: bytes that are not 16.
    """
    return _core.from_bytes(_CORE[AutoGenerate.ULID], _bytes_of(uuid))


def typeid_from_uuid(uuid: UUID | str | bytes, prefix: str = "") -> str:
    """Write a UUID as a TypeID; ``parse(typeid).uuid`` is the way back.

        >>> typeid_from_uuid("01889c89-df6b-7f1c-a388-91396ec314bc", "order")
        'order_01h2e8kqvbfwea724h75qc655w'

    Raises:
        ConfigurationError: a prefix that is no type.
        ValueError: a text that is no UUID.
        InvalidId: bytes that are not 16.
    """
    core = Strategy("typeid", prefix=prefix) if prefix else _CORE[AutoGenerate.TYPEID]
    return _core.from_bytes(core, _bytes_of(uuid))


def ksuid_from_bytes(data: bytes) -> str:
    """Write 20 bytes as a KSUID; ``parse(ksuid).bytes`` is the way back.

        >>> ksuid_from_bytes(bytes(20))
        '000000000000000000000000000'

    Raises:
        InvalidId: not 20 bytes.
    """
    return _core.from_bytes(_CORE[AutoGenerate.KSUID], data)


def _report_step_back(from_ms: int, to_ms: int) -> None:
    """Log once that the clock stepped back; called by the engine."""
    import logging  # costs more than all other imports here

    root = logging.getLogger("mintkey")
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    logging.getLogger("mintkey.generators").warning(
        "the clock stepped back by %.3f s, from %s to %s ms since 1970; ids stay at the highest "
        "reading until the clock has caught up",
        (from_ms - to_ms) / 1000,
        from_ms,
        to_ms,
    )
