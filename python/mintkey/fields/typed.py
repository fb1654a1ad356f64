"""Fields of one type each."""

from __future__ import annotations

import builtins
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from mintkey import _core
from mintkey.fields.base import Field
from mintkey.generators import Auto

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar

    T = DefaultingTypeVar("T", default=Any)
else:
    T = TypeVar("T")


#: The time of a save, to the microsecond.
_NOW = Auto(_core.Strategy("epoch_us"))


class StringField(Field[str]):
    """Text."""


class IntField(Field[int]):
    """An integer."""

    type = int


class FloatField(Field[float]):
    """A floating-point number."""

    type = float


class DecimalField(Field[Decimal]):
    """A decimal number, exact to 38 digits."""

    type = Decimal


class BooleanField(Field[bool]):
    """`True` or `False`."""

    type = bool


class BytesField(Field[bytes]):
    """Bytes."""

    type = bytes


class ListField(Field["list[Any]"]):
    """A list. Changes inside it are detected at save."""

    type = list


class TupleField(Field["tuple[Any, ...]"]):
    """A tuple."""

    type = tuple


class DictField(Field["dict[str, Any]"]):
    """A map with text keys. Changes inside it are detected at save."""

    type = dict


class SetField(Field["set[Any]"]):
    """A set of text, numbers or bytes. An absent set is read as an empty set."""

    type = set


class UUIDField(Field[uuid.UUID]):
    """A `uuid.UUID`."""

    type = uuid.UUID


class TimeField(Field[time]):
    """A time of day, without time zone."""

    type = time


class TimedeltaField(Field[timedelta]):
    """A duration."""

    type = timedelta


class _ClockField(Field[T]):
    """A field that can be set to the time of a save.

    Args:
        auto_now_add: set the time of the first save, unless a value is passed.
        auto_now: set the time of the first save and of each later save that changes something.
    """

    def __init__(
        self,
        type: builtins.type[T] | None = None,
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
        super().__init__(type=type, null=null, default=default, max_length=max_length, **parameters)

    def check_declaration(self) -> None:
        if self._conflicting_default:
            raise self._refuse(
                "auto_now= and auto_now_add= set the value, so default= would never be used: remove one of them"
            )
        super().check_declaration()


class DatetimeField(_ClockField[datetime]):
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


class DateField(_ClockField[date]):
    """A calendar day. `auto_now` and `auto_now_add` set the day in UTC."""

    type = date
