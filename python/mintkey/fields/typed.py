"""Fields of one type each."""

from __future__ import annotations

import builtins
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, overload

from mintkey import _core
from mintkey.attributes.base import V
from mintkey.attributes.options import Bytes16, Default, Integers, MaybeField, SureField, Texts, Times
from mintkey.fields.base import Field, FilledField
from mintkey.generators import Auto

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack


#: The time of a save, to the microsecond.
_NOW = Auto(_core.Strategy("epoch_us"))


class StringField(Field[V]):
    """Text."""

    if TYPE_CHECKING:

        @overload
        def __init__(self: StringField[str | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: StringField[str], **parameters: Unpack[SureField[Default[str] | Texts]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class IntField(Field[V]):
    """An integer."""

    type = int

    if TYPE_CHECKING:

        @overload
        def __init__(self: IntField[int | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: IntField[int], **parameters: Unpack[SureField[Default[int] | Integers]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class FloatField(Field[V]):
    """A floating-point number."""

    type = float

    if TYPE_CHECKING:

        @overload
        def __init__(self: FloatField[float | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: FloatField[float], **parameters: Unpack[SureField[Default[float] | Integers]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class DecimalField(Field[V]):
    """A decimal number, exact to 38 digits."""

    type = Decimal

    if TYPE_CHECKING:

        @overload
        def __init__(self: DecimalField[Decimal | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(
            self: DecimalField[Decimal], **parameters: Unpack[SureField[Default[Decimal | int] | Integers]]
        ) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class BooleanField(Field[V]):
    """`True` or `False`."""

    type = bool

    if TYPE_CHECKING:

        @overload
        def __init__(self: BooleanField[bool | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: BooleanField[bool], **parameters: Unpack[SureField[Default[bool]]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class BytesField(Field[V]):
    """Bytes."""

    type = bytes

    if TYPE_CHECKING:

        @overload
        def __init__(self: BytesField[bytes | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: BytesField[bytes], **parameters: Unpack[SureField[Default[bytes] | Bytes16]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class ListField(Field[V]):
    """A list. Changes inside it are detected at save."""

    type = list

    if TYPE_CHECKING:

        @overload
        def __init__(self: ListField[list[Any] | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: ListField[list[Any]], **parameters: Unpack[SureField[Default[list[Any]]]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class TupleField(Field[V]):
    """A tuple."""

    type = tuple

    if TYPE_CHECKING:

        @overload
        def __init__(self: TupleField[tuple[Any, ...] | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(
            self: TupleField[tuple[Any, ...]], **parameters: Unpack[SureField[Default[tuple[Any, ...]]]]
        ) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class DictField(Field[V]):
    """A map with text keys. Changes inside it are detected at save."""

    type = dict

    if TYPE_CHECKING:

        @overload
        def __init__(self: DictField[dict[str, Any] | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(
            self: DictField[dict[str, Any]], **parameters: Unpack[SureField[Default[dict[str, Any]]]]
        ) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class SetField(FilledField["set[Any]"]):
    """A set of text, numbers or bytes. An absent set is read as an empty set."""

    type = set


class UUIDField(Field[V]):
    """A `uuid.UUID`."""

    type = uuid.UUID

    if TYPE_CHECKING:

        @overload
        def __init__(self: UUIDField[uuid.UUID | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(
            self: UUIDField[uuid.UUID], **parameters: Unpack[SureField[Default[uuid.UUID] | Bytes16]]
        ) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class TimeField(Field[V]):
    """A time of day, without time zone."""

    type = time

    if TYPE_CHECKING:

        @overload
        def __init__(self: TimeField[time | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: TimeField[time], **parameters: Unpack[SureField[Default[time]]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class TimedeltaField(Field[V]):
    """A duration."""

    type = timedelta

    if TYPE_CHECKING:

        @overload
        def __init__(self: TimedeltaField[timedelta | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: TimedeltaField[timedelta], **parameters: Unpack[SureField[Default[timedelta]]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class _ClockField(Field[V]):
    """A field that can be set to the time of a save.

    Args:
        auto_now_add: set the time of the first save, unless a value is passed.
        auto_now: set the time of the first save and of each later save that changes something.
    """

    def __init__(
        self,
        type: builtins.type[Any] | None = None,
        null: bool | None = None,
        default: Any = None,
        max_length: int | None = None,
        *,
        auto_now: bool = False,
        auto_now_add: bool = False,
        **parameters: Any,
    ) -> None:
        self.auto_now = auto_now
        self.auto_now_add = auto_now_add
        self._conflicting_default = (auto_now or auto_now_add) and default is not None
        if (auto_now or auto_now_add) and default is None:
            default = _NOW
        if auto_now:
            parameters.setdefault("on_update", _NOW)
        given: Any = {"type": type, "null": null, "default": default, "max_length": max_length, **parameters}
        super().__init__(**given)
        self._flags.update(auto_now=auto_now, auto_now_add=auto_now_add)

    def check_declaration(self) -> None:
        if self._conflicting_default:
            raise self._declaration_error(
                "auto_now= and auto_now_add= set the value, so default= would never be used: remove one of them"
            )
        super().check_declaration()


class DatetimeField(_ClockField[V]):
    """A point in time. It is read as an aware datetime in UTC.

    >>> from mintkey import Model, connect
    >>> from mintkey.testing import frozen
    >>> _ = connect("sqlite://")
    >>> class Note(Model):
    ...     text = Field()
    ...     written = DatetimeField(auto_now_add=True)
    >>> with frozen("2024-01-01T12:00:00Z"):
    ...     Note.create(text="hi").written.isoformat()
    '2024-01-01T12:00:00+00:00'
    """

    type = datetime

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: DatetimeField[datetime | None],
            *,
            auto_now: Literal[False] = False,
            auto_now_add: Literal[False] = False,
            **parameters: Unpack[MaybeField],
        ) -> None: ...
        @overload
        def __init__(
            self: DatetimeField[datetime],
            *,
            auto_now: bool = False,
            auto_now_add: bool = False,
            **parameters: Unpack[SureField[Callable[[], datetime] | Auto | Times]],
        ) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


class DateField(_ClockField[V]):
    """A calendar day. `auto_now` and `auto_now_add` set the day in UTC."""

    type = date

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: DateField[date | None],
            *,
            auto_now: Literal[False] = False,
            auto_now_add: Literal[False] = False,
            **parameters: Unpack[MaybeField],
        ) -> None: ...
        @overload
        def __init__(
            self: DateField[date],
            *,
            auto_now: bool = False,
            auto_now_add: bool = False,
            **parameters: Unpack[SureField[Default[date] | Times]],
        ) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...
