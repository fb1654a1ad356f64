"""Attributes of one value each: text, numbers, booleans, bytes, UUIDs, enums, versions."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

from mintkey import _core
from mintkey.attributes.base import Attribute, V, check_form, int_only, is_whole, text_only
from mintkey.attributes.options import Bytes16, Default, Integers, Maybe, Sure, Texts
from mintkey.attributes.reading import NUMBERS
from mintkey.attributes.validators import MEASURED, ORDERED, TEXT
from mintkey.errors import InvalidValue, shortened
from mintkey.generators import Auto, parse

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from mintkey.attributes.base import ModelAttribute

    Owner = TypeVar("Owner")

E = TypeVar("E", bound=enum.Enum)


class StringAttribute(Attribute[str, V]):
    """Text in UTF-8. Lone surrogates are refused; NUL is allowed, also in keys.

    Args:
        template: build the value from other attributes: `"USER#{email}"`. A number takes a format, `"{n:08d}"`, and so
            may a date or time, `"{at:%Y-%m-%d}"`. Write a literal brace twice.
        discriminator: the value says of which class an item is, where classes share a table. It is written with the
            class name, or the name in `ModelConfig(discriminator=…)`.
    """

    kind = "string"
    key_kind = "string"
    limits = TEXT

    @overload
    def __init__(
        self: StringAttribute[str | None],
        *,
        template: str | None = None,
        discriminator: bool = False,
        **parameters: Unpack[Maybe],
    ) -> None: ...
    @overload
    def __init__(
        self: StringAttribute[str],
        *,
        template: str | None = None,
        discriminator: bool = False,
        **parameters: Unpack[Sure[Default[str] | Texts]],
    ) -> None: ...
    def __init__(self, *, template: str | None = None, discriminator: bool = False, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.template = template
        self.discriminator = discriminator
        self._flags["discriminator"] = discriminator

    def check_declaration(self) -> None:
        super().check_declaration()
        if self.template is None and not self.discriminator:
            return
        cause = "the value comes from the class" if self.discriminator else "the value is built from the template"
        given = {
            "template=": self.discriminator and self.template is not None,
            "default=": self.default is not None or self.minted is not None,
            "on_update=": self.on_update is not None,
            "required=": self.required,
            "unique=": self.discriminator and self.unique,
            "partition_key=": self.discriminator and self.partition_key,
            "sort_key=": self.discriminator and self.sort_key,
            "the validators": self.validators is not None,
        }
        for parameter in (name for name, is_given in given.items() if is_given):
            raise self._declaration_error(f"{cause}: remove {parameter}")

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return text_only(auto)


class NumberAttribute(Attribute[float | Decimal, V]):
    """A number, exact to 38 digits: `int`, `float` or `Decimal`.

    For type checkers it is a `float`, or what an annotation says: `seats: Attr[int] = NumberAttribute()`.

    It is read as `int` if the number is whole, as `float` if the `repr()` of that float is the stored number, and
    otherwise as `Decimal`. NaN, infinity and `bool` are refused.
    """

    kind = "number"
    key_kind = "number"
    limits = ORDERED

    if TYPE_CHECKING:

        @overload
        def __init__(self: NumberAttribute[float | None], **parameters: Unpack[Maybe]) -> None: ...
        @overload
        def __init__(
            self: NumberAttribute[float], **parameters: Unpack[Sure[Default[float | Decimal] | Integers]]
        ) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return int_only(auto)


class IntegerAttribute(Attribute[int, V]):
    """A whole number, exact to 38 digits. `bool` and floats are refused, also `1.0`."""

    kind = "number"
    key_kind = "number"
    reads = "whole numbers"
    limits = ORDERED

    if TYPE_CHECKING:

        @overload
        def __init__(self: IntegerAttribute[int | None], **parameters: Unpack[Maybe]) -> None: ...
        @overload
        def __init__(self: IntegerAttribute[int], **parameters: Unpack[Sure[Default[int] | Integers]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...

    def encode(self, value: Any) -> int:
        if not is_whole(value):
            raise TypeError(f"expected int, got {type(value).__name__}")
        return value  # type: ignore[no-any-return]

    def decode(self, stored: Any) -> int:
        if not is_whole(stored):
            raise ValueError(f"{shortened(stored)} is not a whole number")
        return stored  # type: ignore[no-any-return]

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return int_only(auto)


class DecimalAttribute(Attribute[Decimal, V]):
    """A decimal number, exact to 38 digits. Takes `Decimal` and `int`; it is read as `Decimal`."""

    kind = "decimal"
    key_kind = "number"
    limits = ORDERED

    if TYPE_CHECKING:  # it is compared with integers, too

        @overload
        def __init__(self: DecimalAttribute[Decimal | None], **parameters: Unpack[Maybe]) -> None: ...
        @overload
        def __init__(
            self: DecimalAttribute[Decimal], **parameters: Unpack[Sure[Default[Decimal | int] | Integers]]
        ) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...

        @overload  # type: ignore[override]
        def __get__(self, instance: None, owner: type[Owner]) -> ModelAttribute[Owner, Decimal | int]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> V: ...
        def __get__(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, instance: object, owner: type
        ) -> object: ...

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return Decimal if int_only(auto) else None


class BooleanAttribute(Attribute[bool, V]):
    """`True` or `False`."""

    kind = "boolean"

    if TYPE_CHECKING:

        @overload
        def __init__(self: BooleanAttribute[bool | None], **parameters: Unpack[Maybe]) -> None: ...
        @overload
        def __init__(self: BooleanAttribute[bool], **parameters: Unpack[Sure[Default[bool]]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...


def uuid_from(auto: Auto) -> Callable[[Any], uuid.UUID] | None:
    """Return the conversion of a generated ID of 16 bytes to a UUID; None with a prefix or for a cut UUID."""
    strategy = auto.strategy
    if strategy is None or strategy.prefix or strategy.parameters.get("length", 32) != 32:  # noqa: PLR2004 - all digits of a UUID
        return None
    name = strategy.name
    if name in {"ulid", "typeid"}:
        return lambda text: uuid.UUID(bytes=parse(text, name).bytes)
    return uuid.UUID if name in {"uuid4", "uuid7"} else None


class BinaryAttribute(Attribute[bytes, V]):
    """Bytes. The strategies UUID4, UUID7, ULID and TYPEID store their 16 bytes."""

    kind = "binary"
    key_kind = "binary"
    limits = MEASURED

    if TYPE_CHECKING:

        @overload
        def __init__(self: BinaryAttribute[bytes | None], **parameters: Unpack[Maybe]) -> None: ...
        @overload
        def __init__(self: BinaryAttribute[bytes], **parameters: Unpack[Sure[Default[bytes] | Bytes16]]) -> None: ...
        def __init__(self, **parameters: Any) -> None: ...

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        to_uuid = uuid_from(auto)
        return None if to_uuid is None else lambda text: to_uuid(text).bytes


#: The names of the forms in which a `UUIDAttribute` is stored.
StoredUUID: TypeAlias = Literal["hyphens", "hex", "upper", "upper hex"]
_UUID_FORMS: dict[str, Callable[[uuid.UUID], str]] = {
    "hyphens": uuid.UUID.__str__,
    "hex": lambda value: uuid.UUID.__str__(value).replace("-", ""),
    "upper": lambda value: uuid.UUID.__str__(value).upper(),
    "upper hex": lambda value: uuid.UUID.__str__(value).replace("-", "").upper(),
}


class UUIDAttribute(Attribute[uuid.UUID, V]):
    """A `uuid.UUID`, stored as text. All forms of text can be read.

    Args:
        stored_as: the form of the text that is written, and with which keys and conditions are compared: `"hyphens"`,
            by default, for 36 characters; `"hex"` for 32 without hyphens; `"upper"` and `"upper hex"` for the same in
            capitals.
    """

    kind = "string"
    key_kind = "string"
    reads = "the text of UUIDs"

    @overload
    def __init__(
        self: UUIDAttribute[uuid.UUID | None], *, stored_as: StoredUUID = "hyphens", **parameters: Unpack[Maybe]
    ) -> None: ...
    @overload
    def __init__(
        self: UUIDAttribute[uuid.UUID],
        *,
        stored_as: StoredUUID = "hyphens",
        **parameters: Unpack[Sure[Default[uuid.UUID] | Bytes16]],
    ) -> None: ...
    def __init__(self, *, stored_as: StoredUUID = "hyphens", **parameters: Any) -> None:
        super().__init__(**parameters)
        self.stored_as = stored_as

    def check_declaration(self) -> None:
        check_form(self, self.stored_as, _UUID_FORMS)
        super().check_declaration()

    def encode(self, value: Any) -> str:
        if not isinstance(value, uuid.UUID):
            raise TypeError(f"expected uuid.UUID, got {type(value).__name__}")
        return _UUID_FORMS[self.stored_as](value)

    def decode(self, stored: Any) -> uuid.UUID:
        return uuid.UUID(stored)

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return uuid_from(auto)


#: The types that values of enum members may have, and the key kind of each.
_MEMBER_KINDS: dict[type, Literal["string", "number", "binary"]] = {
    str: "string",
    int: "number",
    float: "number",
    Decimal: "number",
    bytes: "binary",
}


class EnumAttribute(Attribute[Any, V]):
    """A member of `enum_class`. It is stored as the value of the member: text, a number or bytes.

    Numbers are `int`, `float` or exact `Decimal`. No two members may be stored as the same value. It can be a key or
    indexed if the values are all text, all numbers or all bytes.
    """

    kind = "any"
    stored_types = (str, *NUMBERS, bytes)
    reads = "the values of members, which are text, numbers or binary"

    @overload
    def __init__(self: EnumAttribute[E | None], enum_class: type[E], **parameters: Unpack[Maybe]) -> None: ...
    @overload
    def __init__(self: EnumAttribute[E], enum_class: type[E], **parameters: Unpack[Sure[Default[E]]]) -> None: ...
    def __init__(self, enum_class: type[enum.Enum], **parameters: Any) -> None:
        super().__init__(**parameters)
        self.enum_class = enum_class
        #: The member of each stored value. It is filled by `check_declaration`.
        self._by_value: dict[Any, Any] = {}
        # `check_declaration` refuses an `enum_class` that is not an Enum class.
        values = [member.value for member in enum_class] if isinstance(enum_class, enum.EnumMeta) else []
        kinds: set[Literal["string", "number", "binary"] | None] = {_MEMBER_KINDS.get(type(value)) for value in values}
        if len(kinds) == 1:
            self.key_kind = kinds.pop()

    def check_declaration(self) -> None:
        super().check_declaration()
        if not (isinstance(self.enum_class, type) and issubclass(self.enum_class, enum.Enum)):
            raise self._declaration_error(f"EnumAttribute takes an Enum class, not {shortened(self.enum_class)}")
        members: dict[Any, Any] = {}
        for member in self.enum_class:
            label = f"{self.enum_class.__name__}.{member.name}"
            if type(member.value) not in _MEMBER_KINDS:
                raise self._declaration_error(
                    f"the value of {label} is {shortened(member.value)}, and the values of members are "
                    "str, int, float, Decimal or bytes"
                )
            try:
                stored = _core.as_read(member.value)
            except InvalidValue as error:
                raise self._declaration_error(f"the value of {label} cannot be stored: {error}") from error
            other = members.setdefault(stored, member)
            if other is not member:
                raise self._declaration_error(
                    f"{label} and {self.enum_class.__name__}.{other.name} are both stored as {shortened(stored)}: "
                    "give one of them another value"
                )
        self._by_value = members

    def encode(self, value: Any) -> Any:
        if not isinstance(value, self.enum_class):
            members = ", ".join(member.name for member in self.enum_class)
            raise TypeError(f"expected a {self.enum_class.__name__} ({members}), got {shortened(value)}")
        return value.value

    def decode(self, stored: Any) -> Any:
        member = self._by_value.get(stored)
        if member is not None:
            return member
        try:
            # The class may know more values: combinations of flags, or those of its `_missing_` method.
            return self.enum_class(stored)
        except ValueError:
            raise ValueError(f"{self.enum_class.__name__} has no member of this value") from None


class VersionAttribute(Attribute[int, "int | None"]):
    """Counts the writes of an item, for optimistic locking: a write of a changed row raises `VersionConflict`."""

    kind = "number"

    def check_declaration(self) -> None:
        super().check_declaration()
        if self.minted or self.on_update or self.default is not None or self.validators is not None:
            raise self._declaration_error(
                "a version is counted automatically and takes no default=, on_update= or validators"
            )
