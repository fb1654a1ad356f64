"""The parameters of attributes, as type checkers see them.

The type of a value follows from the declaration: `StringAttribute(required=True)` is read as `str`, and
`StringAttribute()` as `str | None`. So each attribute has two overloads of `__init__`: one takes the parameters of
`Maybe`, the other those of `Sure`. They say by the type of `self` how values are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Iterator
    from typing import Generic, Literal, Protocol, TypeAlias

    from typing_extensions import TypedDict

    from mintkey.generators import Auto, AutoGenerate
    from mintkey.generators.strategies import IntegerStrategy, TextStrategy

    V = TypeVar("V")
    D = TypeVar("D", covariant=True)

    #: What `default=` takes for values of a type, next to the strategies that match.
    Default: TypeAlias = V | Callable[[], V] | Auto
    #: The strategies that generate text, integers, IDs of 16 bytes, and times.
    Texts: TypeAlias = TextStrategy
    Integers: TypeAlias = IntegerStrategy
    Bytes16: TypeAlias = Literal[AutoGenerate.UUID4, AutoGenerate.UUID7, AutoGenerate.ULID, AutoGenerate.TYPEID]
    Times: TypeAlias = Literal[AutoGenerate.EPOCH, AutoGenerate.EPOCH_MS, AutoGenerate.ISO8601, AutoGenerate.ISO8601_MS]

    class ListOf(Protocol[D]):
        """A list of values of a type or of its subtypes, for the plugin for mypy."""

        def __iter__(self) -> Iterator[D]: ...
        def reverse(self) -> None: ...

    class _Unsized(TypedDict, total=False):
        """The same without `max_length=`."""

        on_update: Auto | AutoGenerate | None
        alias: str | None
        unique: bool
        description: str | None
        default_on_load: bool
        min: Any
        max: Any
        min_length: int | None
        pattern: str | re.Pattern[str] | None
        choices: Iterable[Any] | None
        validate: Callable[[Any], object] | None

    class FieldOptions(_Unsized, total=False):
        """The parameters that attributes and fields share, and that do not change the type of the value."""

        max_length: int | None

    class Always(FieldOptions, total=False):
        """The parameters of attributes that do not change the type of the value."""

        index: bool

    class Maybe(Always, total=False):
        """The parameters of an attribute that a complete item may lack."""

        partition_key: Literal[False]
        sort_key: Literal[False]
        required: Literal[False]
        default: None

    class Sure(Always, Generic[D], total=False):
        """The parameters of an attribute that a complete item has: a key, a required one, or one with a default."""

        partition_key: bool
        sort_key: bool
        required: bool
        default: D | None

    class MaybeField(FieldOptions, total=False):
        """The parameters of a field that a complete item may lack."""

        stored_as: str | None
        of: Any
        null: Literal[True] | None
        default: None

    class SureField(FieldOptions, Generic[D], total=False):
        """The parameters of a field that a complete item has."""

        stored_as: str | None
        of: Any
        null: bool | None
        default: D | None

    class AutoOptions(_Unsized, total=False):
        """The parameters of the fields with which `AutoFieldMixin` is combined."""

        partition_by: str | Iterable[str] | None

    class SortedOptions(FieldOptions, total=False):
        """The parameters of the fields with which `SortedFieldMixin` is combined."""

        default: Any
        stored_as: str | None
        of: Any
        auto_now: bool
        auto_now_add: bool

else:
    Always = AutoOptions = Bytes16 = Default = FieldOptions = Integers = Maybe = MaybeField = Any
    SortedOptions = Sure = SureField = Texts = Times = Any
