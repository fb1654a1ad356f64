"""Reading ids: parsing, time ranges, conversions from other forms."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mintkey import _core
from mintkey._core import Strategy
from mintkey.errors import InvalidId, shortened
from mintkey.generators.strategies import CORE, PARAMETER_BITS, Auto, AutoGenerate, check_parameters, resolve

if TYPE_CHECKING:
    from uuid import UUID

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
            return self.prefix + _core.from_bytes(CORE[self.kind], self.bytes)
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
    elif isinstance(value, int) and value.bit_length() > PARAMETER_BITS:
        raise InvalidId(f"{shortened(value)} is not an ID: integer IDs have at most 63 bits")
    core = None if kind is None else resolve(kind).strategy
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
    return id_range(resolve(strategy), start, end)


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
    return _core.from_bytes(CORE[AutoGenerate.ULID], _bytes_of(uuid))


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
    check_parameters("typeid", {"prefix": prefix})
    core = Strategy("typeid", prefix=prefix) if prefix else CORE[AutoGenerate.TYPEID]
    return _core.from_bytes(core, _bytes_of(uuid))


def ksuid_from_bytes(data: bytes) -> str:
    """Encode 20 bytes as a KSUID. `parse(ksuid).bytes` is the inverse.

        >>> ksuid_from_bytes(bytes(20))
        '000000000000000000000000000'

    Raises:
        InvalidId: there are not 20 bytes.
    """
    return _core.from_bytes(CORE[AutoGenerate.KSUID], data)
