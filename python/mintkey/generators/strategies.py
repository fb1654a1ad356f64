"""Strategies and their parameters."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from mintkey._core import Strategy
from mintkey.errors import ConfigurationError, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import TypedDict, TypeIs, Unpack

    class Parameters(TypedDict, total=False):
        """The parameters of the strategies."""

        prefix: str
        length: int
        size: int
        alphabet: str
        node: int | str
        epoch: int
        plus: timedelta

    #: When a strategy runs: at the first save, or when the instance is constructed.
    When = Literal["save", "init"]


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


if TYPE_CHECKING:
    #: The strategies that generate integers, and those that generate text.
    IntegerStrategy: TypeAlias = Literal[AutoGenerate.SNOWFLAKE, AutoGenerate.EPOCH, AutoGenerate.EPOCH_MS]
    TextStrategy: TypeAlias = Literal[
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
    ]

#: The strategies without parameters.
CORE: Final = {member: Strategy(member.value) for member in AutoGenerate}


def _strategy(name: str, parameters: dict[str, Any]) -> Strategy:
    """Construct a strategy from its pickled name and parameters."""
    return Strategy(name, **parameters)


#: The size of the largest integer that a parameter may have; Python cannot even write very large ones in decimal.
PARAMETER_BITS: Final = 64


def check_parameters(strategy: str, parameters: dict[str, Any]) -> None:
    """Refuse values that no strategy takes and that may be too large to print."""
    for name, value in parameters.items():
        if isinstance(value, int):
            if value.bit_length() > PARAMETER_BITS:
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
    **parameters: Unpack[Parameters],
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
        return Auto(CORE[member], None, when)
    given: dict[str, Any] = {**parameters}
    plus: timedelta | None = given.get("plus")
    if plus is not None:
        if not isinstance(plus, timedelta):
            raise TypeError(f"plus={shortened(plus)} is not a timedelta")
        if abs(plus) > _FARTHEST:
            raise ConfigurationError(
                f"plus={plus!r} is out of range: at most {_FARTHEST.days:,} days (about 2,000 years) either way"
            )
        given["plus"] = plus // timedelta(milliseconds=1)
    check_parameters(member.value, given)
    return Auto(Strategy(member.value, **given), None, when, plus)


_PLAIN: Final = {member: Auto(strategy) for member, strategy in CORE.items()}


def as_auto(strategy: AutoGenerate | Auto) -> Auto:
    """Return the `Auto` of a member; an `Auto` is returned unchanged."""
    return strategy if isinstance(strategy, Auto) else _PLAIN[strategy]


def is_auto_generate(value: object) -> TypeIs[AutoGenerate | Auto]:
    """Return whether a value is a strategy: a member of `AutoGenerate` or an `Auto`, not a name.

    >>> is_auto_generate(AutoGenerate.ULID), is_auto_generate("ulid")
    (True, False)
    """
    return isinstance(value, (AutoGenerate, Auto))


def resolve(strategy: AutoGenerate | Auto | str) -> Auto:
    """Return the `Auto` of a member, a name or an `Auto`."""
    return as_auto(strategy) if isinstance(strategy, (AutoGenerate, Auto)) else _PLAIN[_member(strategy)]
