"""Fields with an index."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, overload

from mintkey.attributes.base import V
from mintkey.attributes.options import Default, MaybeField, SortedOptions, SureField, Texts
from mintkey.fields.base import Field, KeyFieldMixin, SortedFieldMixin

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar
    from typing_extensions import Unpack

    Sorted = DefaultingTypeVar("Sorted", default=float)
else:
    Sorted = TypeVar("Sorted")

X = TypeVar("X")


class IndexedField(Field[V]):
    """A field with an index."""

    value_indexed = True

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: IndexedField[X | None], type: builtins.type[X], **parameters: Unpack[MaybeField]
        ) -> None: ...
        @overload
        def __init__(self: IndexedField[str | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: IndexedField[X], type: builtins.type[X], **parameters: Unpack[SureField[Any]]) -> None: ...
        @overload
        def __init__(self: IndexedField[str], **parameters: Unpack[SureField[Default[str] | Texts]]) -> None: ...
        def __init__(self, type: Any = None, **parameters: Any) -> None: ...


class UniqueField(IndexedField[V]):
    """A field with an index whose values are unique: no two items have the same one (`UniqueViolation`)."""

    unique = True

    if TYPE_CHECKING:

        @overload
        def __init__(self: UniqueField[X | None], type: builtins.type[X], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: UniqueField[str | None], **parameters: Unpack[MaybeField]) -> None: ...
        @overload
        def __init__(self: UniqueField[X], type: builtins.type[X], **parameters: Unpack[SureField[Any]]) -> None: ...
        @overload
        def __init__(self: UniqueField[str], **parameters: Unpack[SureField[Default[str] | Texts]]) -> None: ...
        def __init__(self, type: Any = None, **parameters: Any) -> None: ...


class SortedField(SortedFieldMixin[Sorted]):
    """A field with a sorted index; by default a `float`."""

    type = float
    _numbers_by_default: ClassVar[bool] = True

    if TYPE_CHECKING:  # without null=True there is always a value

        @overload
        def __init__(
            self,
            type: builtins.type[Sorted] | None = None,
            partition_by: str | Iterable[str] | None = None,
            null: Literal[False] | None = None,
            **parameters: Unpack[SortedOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: SortedField[X | None],
            type: builtins.type[X],
            partition_by: str | Iterable[str] | None = None,
            *,
            null: Literal[True],
            **parameters: Unpack[SortedOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: SortedField[float | None],
            *,
            partition_by: str | Iterable[str] | None = None,
            null: Literal[True],
            **parameters: Unpack[SortedOptions],
        ) -> None: ...
        def __init__(self, *parameters: Any, **named: Any) -> None: ...


class SortedKeyField(KeyFieldMixin[Sorted], SortedField[Sorted]):
    """A part of the key that also has a sorted index."""
