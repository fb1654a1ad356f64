"""Attributes of sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mintkey.attributes.base import Attribute
from mintkey.attributes.validators import MEASURED

if TYPE_CHECKING:
    from decimal import Decimal

    from typing_extensions import TypeVar as DefaultingTypeVar

    S = DefaultingTypeVar("S", bound="set[int] | set[float] | set[Decimal]", default="set[float]")
else:
    S = TypeVar("S")

T = TypeVar("T")


class SetAttribute(Attribute[T, T]):
    """A set. An empty set is not stored, and an absent one is read as an empty set."""

    limits = MEASURED
    empty_is_absent = True

    def _absent(self, instance: Any, state: Any) -> Any:
        super()._absent(instance, state)
        return instance.__dict__.setdefault(self.name, set())

    if TYPE_CHECKING:

        def __set__(self, instance: object, value: T | None) -> None: ...

    else:

        def __get__(self, instance: Any, owner: type) -> Any:
            if instance is None:
                return self
            state = instance._state
            # The empty set is kept in the instance, so that members added to it are saved.
            return instance.__dict__.setdefault(self.name, set()) if state is None else self._absent(instance, state)


class StringSetAttribute(SetAttribute["set[str]"]):
    """A set of text values."""

    kind = "string_set"


class NumberSetAttribute(SetAttribute[S]):
    """A set of numbers: for type checkers of `float`, or what an annotation says, as in `NumberAttribute`."""

    kind = "number_set"


class BinarySetAttribute(SetAttribute["set[bytes]"]):
    """A set of bytes."""

    kind = "binary_set"
