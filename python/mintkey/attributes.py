"""Attributes: the declarations of the values of a model.

An attribute is a *non-data* descriptor. On the class it builds conditions (`Order.total > 5`). On an instance Python
finds the value in `__dict__` first, so reading it is as fast as reading a plain attribute. Only an absent value reaches
`__get__`, which returns `None`, or generates the value while a `before_save` hook runs.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, cast, overload

from mintkey import _core
from mintkey.conditions import Condition, Operand, Path, Steps
from mintkey.errors import CONVERSION_ERRORS, ConfigurationError, InvalidValue, NotLoaded, cause, shortened
from mintkey.generators import Auto, AutoGenerate, as_auto, id_range, is_auto_generate, parse

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Attribute",
    "BinaryAttribute",
    "BinarySetAttribute",
    "BooleanAttribute",
    "CompressedAttribute",
    "DateAttribute",
    "DatetimeAttribute",
    "DecimalAttribute",
    "EnumAttribute",
    "ExpiresIn",
    "JSONAttribute",
    "ListAttribute",
    "MapAttribute",
    "NumberAttribute",
    "NumberSetAttribute",
    "StringAttribute",
    "StringSetAttribute",
    "TTLAttribute",
    "UUIDAttribute",
    "VersionAttribute",
]

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)

_UTC = timezone.utc
_IMMUTABLE = (str, int, float, bool, bytes, Decimal, datetime, date, uuid.UUID, enum.Enum, frozenset, type(None))


class Attribute(Operand, Generic[T]):
    """A named value of a model. The base class of all attribute types.

    Args:
        partition_key: the attribute is the table's partition key.
        sort_key: the attribute is the table's sort key.
        default: a plain value (copied for each instance) or a callable, which apply at construction; or a strategy
            (`AutoGenerate.ULID`, `auto(…)`), which generates an absent value at the first save.
        on_update: a strategy that generates a new value on each write that changes a stored item.
        required: refuse to save an item without a value.
        alias: the name in the store, if it differs from the attribute's name.
        index: create an index on the attribute, for queries such as `query(status="paid")`.
        description: a description for people and schema tools.

    Raises:
        ConfigurationError: a parameter is invalid. It is raised when the class is defined.
    """

    #: The encoding of the value in the compiled core; see `crates/python/src/values/convert.rs`.
    kind: str = "any"
    #: The type as a key; None if the attribute cannot be a key.
    key_kind: Literal["string", "number", "binary"] | None = None
    #: The unit to which a generated time is cut; None to keep it unchanged.
    cut: timedelta | None = None

    name: str = ""
    model: str = ""

    # Properties of fields. They are declared here, so that a schema can read them from every attribute.

    #: Whether it is a field. A class of fields without a key gets a hidden key.
    is_field: ClassVar[bool] = False
    #: "whole" for a field that is the partition key, "part" for one that can be a part of a compound key.
    field_key: Literal["whole", "part"] | None = None
    #: Whether the attribute has an index.
    value_indexed: bool = False
    #: The partition attributes of a sorted index on this attribute; None for no sorted index.
    sorted_within: tuple[str, ...] | None = None
    #: Whether `check_write` must be called for each new or changed value.
    checks_writes: bool = False

    def __init__(
        self,
        *,
        partition_key: bool = False,
        sort_key: bool = False,
        default: Any = None,
        on_update: Any = None,
        required: bool = False,
        alias: str | None = None,
        index: bool = False,
        description: str | None = None,
    ) -> None:
        if index:
            self.value_indexed = True
        self.partition_key = partition_key
        self.sort_key = sort_key
        self.minted: Auto | None = as_auto(default) if is_auto_generate(default) else None
        self.default: Any = None if self.minted else default
        self.on_update: Auto | None = as_auto(on_update) if is_auto_generate(on_update) else None
        self._misplaced_on_update = on_update if on_update is not None and self.on_update is None else None
        self.required = required
        self.alias = alias
        self.description = description

    def __set_name__(self, owner: type, name: str) -> None:
        # Checks are made in the model's `__init_subclass__`: Python before 3.12 turns errors here into RuntimeError.
        self.name = name
        self.model = owner.__name__

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> T | None: ...
        def __get__(self, instance: object | None, owner: type) -> Self | T | None: ...
        def __set__(self, instance: object, value: T | None) -> None: ...

    else:

        def __get__(self, instance: Any, owner: type) -> Any:
            if instance is None:
                return self
            state = instance._state
            return None if state is None else self._absent(instance, state)

    def _absent(self, instance: Any, state: Any) -> Any:
        """Return the value of an attribute that is not in the instance's `__dict__`."""
        if state.fetched is not None and self.name not in state.fetched:
            raise NotLoaded(
                f"{type(instance).__name__}.{self.name} was not loaded: add it to attributes= of the query, "
                "or call refresh()",
                model=type(instance).__name__,
                attribute=self.name,
            )
        if state.mint_context is not None:
            return state.mint_context.read(self.name)
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._label}>"

    @property
    def _label(self) -> str:
        return f"{self.model}.{self.name}"

    @property
    def stored_name(self) -> str:
        """The attribute's name in the store."""
        return self.alias or self.name

    @property
    def _steps(self) -> Steps:
        return (self.stored_name,)

    def _operand(self, value: Any) -> Any:
        stored = value
        if self.converts:
            try:
                stored = self.encode(value)
            except CONVERSION_ERRORS as error:
                raise InvalidValue(f"{self._label}: {cause(error)}", model=self.model, attribute=self.name) from error
        return _core.checked(self.kind, self._label, stored)

    @property
    def _kind(self) -> str:
        return self.kind

    def minted_between(self, start: datetime, end: datetime) -> Condition:
        """True if the `default=` strategy generated the value from `start` (included) to `end` (excluded).

        A naive datetime is UTC. On a sort key it is the key condition of `query()`, otherwise a filter. A value counts
        as generated at the start of the second or millisecond that it contains; in a `DateAttribute`, of the day.

        Raises:
            ConfigurationError: the attribute has no strategy that sorts by time.
            InvalidValue: a time is not a datetime, or no value can be generated in the time range.
        """
        auto = self.minted
        if auto is None or auto.strategy is None or not (auto.strategy.sortable or not auto.strategy.is_id):
            raise ConfigurationError(
                f"{self._label}: minted_between() needs a default= strategy that sorts by time, "
                "such as AutoGenerate.ULID",
                model=self.model,
                attribute=self.name,
            )
        convert = self.minted_converter(auto)
        try:
            low, high = map(convert, id_range(auto, start, end, self.cut))
        except CONVERSION_ERRORS as error:
            raise InvalidValue(
                f"{self._label}: minted_between(): {cause(error)}", model=self.model, attribute=self.name
            ) from error
        return self.between(low, high)

    # Overridden by attribute types: the encoding, and the strategies that match.

    def encode(self, value: Any) -> Any:
        """Return the encoded value. Raises `ValueError` or `TypeError` with the reason if it is invalid."""
        return value

    def decode(self, stored: Any) -> Any:
        """Return the value of an encoded value."""
        return stored

    @property
    def converts(self) -> bool:
        """Whether values are converted by `encode` and `decode`, and not only by the compiled core."""
        return type(self).encode is not Attribute.encode

    @property
    def decompresses(self) -> bool:
        """Whether a small stored value can become much larger when it is read."""
        return False

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        """Return the conversion of generated values to this type, or None if the strategy does not match."""
        return None

    def minted_converter(self, auto: Auto) -> Callable[[Any], Any]:
        """Like `from_minted`, but raises `ConfigurationError` if the strategy does not match."""
        if auto.strategy is None:
            return unconverted
        converter = self.from_minted(auto)
        if converter is None:
            raise ConfigurationError(f"{self._label}: {self._misfit(auto)}", model=self.model, attribute=self.name)
        return converter

    def _misfit(self, auto: Auto) -> str:
        """Return why a strategy does not match, and what to do instead."""
        strategy = cast("_core.Strategy", auto.strategy)
        what, kind = f"the strategy {strategy.name!r}", type(self).__name__
        if self.from_minted(as_auto(AutoGenerate(strategy.name))) is not None:
            given = "=, ".join(name for name in ("prefix", "length") if name in strategy.parameters)
            return f"{what} works with a {kind} only without {given}=: leave it out, or use a StringAttribute"
        output = "integers" if strategy.output == "int" else "text"
        return f"{what} generates {output}, which a {kind} cannot store: use another strategy or attribute type"

    def check_declaration(self) -> None:
        """Raise `ConfigurationError` for an invalid declaration. Called when the model class is defined."""
        if self._misplaced_on_update is not None:
            raise ConfigurationError(
                f"{self._label}: on_update= takes a strategy such as AutoGenerate.ISO8601 or auto(my_callable), "
                f"not {shortened(self._misplaced_on_update)}",
                model=self.model,
                attribute=self.name,
            )
        if self.alias is not None and not is_utf8_text(self.alias):
            raise ConfigurationError(
                f"{self._label}: alias= takes valid UTF-8 text, not {shortened(self.alias)}",
                model=self.model,
                attribute=self.name,
            )
        for auto in (self.minted, self.on_update):
            if auto is not None:
                self.minted_converter(auto)
        is_key = self.partition_key or self.sort_key or self.field_key is not None
        if is_key and isinstance(self.default, str) and self.default in {strategy.value for strategy in AutoGenerate}:
            # Every item would have this text as its key, and each save would overwrite the previous item.
            raise ConfigurationError(
                f"{self._label}: default={self.default!r} is plain text, the same for every item: "
                f"use auto({self.default!r}) or AutoGenerate.{self.default.upper()} to generate a value for each item",
                model=self.model,
                attribute=self.name,
            )

    @property
    def mints_at_init(self) -> bool:
        """Whether an absent value is generated at construction."""
        return self.minted is not None and self.minted.when == "init"

    def initial(self) -> Any:
        """Generate a value for one instance."""
        auto = self.minted
        if auto is None:
            return None
        if auto.strategy is None:
            return None if auto.function is None else auto.function()
        return self.minted_converter(auto)(_core.mint((auto.strategy,))[0][0])

    def another(self, refused: Any) -> Any:
        """Return another key after a collision; None if `refused` must not be replaced."""
        return self.initial()

    def check_write(self, instance: Any, value: Any, *, changed: bool, pipeline: object) -> None:
        """Called before a write or its adding to a `pipeline`. May refuse a `changed` value with `InvalidValue`."""

    def implicit_key(self) -> Attribute[Any]:
        """Return the hidden key of a class of fields without a key."""
        raise NotImplementedError

    def new_default(self) -> Any:
        """Return the plain default for one instance: a callable is called, a mutable value is copied."""
        default = self.default
        if callable(default):
            return default()
        return default if isinstance(default, _IMMUTABLE) else copy.deepcopy(default)


def is_utf8_text(value: object) -> bool:
    """Return whether a value is text without lone surrogates."""
    try:
        return isinstance(value, str) and str.encode(value) is not None
    except UnicodeEncodeError:
        return False


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def unconverted(value: Any) -> Any:
    return value


def _text_only(auto: Auto) -> Callable[[Any], Any] | None:
    return unconverted if auto.strategy is not None and auto.strategy.output == "str" else None


def _int_only(auto: Auto) -> Callable[[Any], Any] | None:
    return unconverted if auto.strategy is not None and auto.strategy.output == "int" else None


class StringAttribute(Attribute[str]):
    """Text in UTF-8. Lone surrogates are refused; NUL is allowed, also in keys."""

    kind = "string"
    key_kind = "string"

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return _text_only(auto)


class NumberAttribute(Attribute[float]):
    """A number, exact to 38 digits: `int`, `float` or `Decimal`.

    It is read as `int` if the number is whole, as `float` if the `repr()` of that float is the stored number, and
    otherwise as `Decimal`. NaN, infinity and `bool` are refused.
    """

    kind = "number"
    key_kind = "number"

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return _int_only(auto)


class DecimalAttribute(Attribute[Decimal]):
    """A decimal number, exact to 38 digits. Takes `Decimal` and `int`; it is read as `Decimal`."""

    kind = "decimal"
    key_kind = "number"

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return Decimal if _int_only(auto) else None


class BooleanAttribute(Attribute[bool]):
    """`True` or `False`."""

    kind = "boolean"


def _uuid_from(auto: Auto) -> Callable[[Any], uuid.UUID] | None:
    """Return the conversion of a generated ID of 16 bytes to a UUID; None with a prefix or for a cut UUID."""
    strategy = auto.strategy
    if strategy is None or strategy.prefix or strategy.parameters.get("length", 32) != 32:  # noqa: PLR2004 - all digits of a UUID
        return None
    name = strategy.name
    if name in {"ulid", "typeid"}:
        return lambda text: uuid.UUID(bytes=parse(text, name).bytes)
    return uuid.UUID if name in {"uuid4", "uuid7"} else None


class BinaryAttribute(Attribute[bytes]):
    """Bytes. The strategies UUID4, UUID7, ULID and TYPEID store their 16 bytes."""

    kind = "binary"
    key_kind = "binary"

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        to_uuid = _uuid_from(auto)
        return None if to_uuid is None else lambda text: to_uuid(text).bytes


class ListAttribute(Attribute["list[Any]"]):
    """A list. Changes inside it are detected at save."""

    kind = "list"

    def __getitem__(self, step: str | int) -> Path:
        return self._inside(step)

    def _element(self, value: Any) -> Any:
        return _core.checked("any", self._label, value)


class MapAttribute(Attribute[Any]):
    """A map with text keys: a `dict`, or an instance of a nested class.

    Args:
        nested: an abstract model (`ModelConfig(abstract=True)`) or a dataclass; values are its instances.
    """

    kind = "map"

    def __init__(self, nested: type | None = None, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.nested = nested

    def check_declaration(self) -> None:
        super().check_declaration()
        if self.nested is not None and not (
            dataclasses.is_dataclass(self.nested) or hasattr(self.nested, "__mintkey_schema__")
        ):
            raise ConfigurationError(
                f"{self._label}: MapAttribute takes an abstract model or a dataclass, not {shortened(self.nested)}",
                model=self.model,
                attribute=self.name,
            )
        schema = getattr(self.nested, "__mintkey_schema__", None)
        if schema is not None and schema.saved_strategies:
            late = schema.saved_strategies
            raise ConfigurationError(
                f"{self._label}: {schema.model}.{late[0]} would never be generated, because only whole items are "
                'saved: generate it at construction with auto(…, when="init")',
                model=self.model,
                attribute=self.name,
            )

    def __getitem__(self, step: str | int) -> Path:
        return self._inside(step)

    @property
    def converts(self) -> bool:
        return self.nested is not None

    @property
    def decompresses(self) -> bool:
        schema = getattr(self.nested, "__mintkey_schema__", None)
        return schema is not None and schema.decompresses

    def encode(self, value: Any) -> Any:
        nested = self.nested
        if nested is None:
            return value
        if isinstance(value, dict):
            value = nested(**value)
        if not isinstance(value, nested):
            raise TypeError(f"expected {nested.__name__} or dict, got {type(value).__name__}")
        schema = getattr(nested, "__mintkey_schema__", None)
        if schema is not None:
            return schema.codec.plain(value.__dict__)
        fields = dataclasses.fields(cast("Any", value))
        return {field.name: item for field in fields if (item := getattr(value, field.name)) is not None}

    def decode(self, stored: Any) -> Any:
        nested = self.nested
        if nested is None or not isinstance(stored, dict):
            return stored
        schema = getattr(nested, "__mintkey_schema__", None)
        if schema is not None:
            return schema.nested_instance(nested, stored)
        known = {field.name for field in dataclasses.fields(nested)}
        return nested(**{name: value for name, value in stored.items() if name in known})


class _SetAttribute(Attribute[T]):
    """A set. An empty set is not stored, and an absent one is read as an empty set."""

    def _absent(self, instance: Any, state: Any) -> Any:
        super()._absent(instance, state)
        return instance.__dict__.setdefault(self.name, set())

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> T: ...
        def __get__(self, instance: object | None, owner: type) -> Self | T: ...

    else:

        def __get__(self, instance: Any, owner: type) -> Any:
            if instance is None:
                return self
            state = instance._state
            # The empty set is kept in the instance, so that members added to it are saved.
            return instance.__dict__.setdefault(self.name, set()) if state is None else self._absent(instance, state)

    def _element(self, value: Any) -> Any:
        return next(iter(_core.checked(self.kind, self._label, {value})))


class StringSetAttribute(_SetAttribute["set[str]"]):
    """A set of text values."""

    kind = "string_set"


class NumberSetAttribute(_SetAttribute["set[float]"]):
    """A set of numbers."""

    kind = "number_set"


class BinarySetAttribute(_SetAttribute["set[bytes]"]):
    """A set of bytes."""

    kind = "binary_set"


class JSONAttribute(Attribute[Any]):
    """Any JSON value (RFC 8259), stored as text.

    Args:
        model_class: a pydantic model or a dataclass; values are its instances.
    """

    kind = "string"

    def __init__(self, model_class: type | None = None, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.model_class = model_class

    def encode(self, value: Any) -> str:
        model_class = self.model_class
        if model_class is not None and isinstance(value, model_class):
            dump = getattr(value, "model_dump", None)
            value = dump(mode="json") if dump is not None else dataclasses.asdict(cast("Any", value))
        # Lone surrogates stay escaped: they are valid in JSON, but not in UTF-8.
        import json

        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    def decode(self, stored: Any) -> Any:
        import json

        value = json.loads(stored)
        model_class = self.model_class
        if model_class is None or value is None:
            return value
        validate = getattr(model_class, "model_validate", None)
        return validate(value) if validate is not None else model_class(**value)


class EnumAttribute(Attribute[E]):
    """A member of `enum_class`. It is stored as the value of the member: text, a number or bytes.

    It can be a key or indexed if the values are all text, all integers or all bytes.
    """

    kind = "any"
    _KEY_KINDS: ClassVar[dict[type, Literal["string", "number", "binary"]]] = {
        str: "string",
        int: "number",
        bytes: "binary",
    }

    def __init__(self, enum_class: type[E], **parameters: Any) -> None:
        super().__init__(**parameters)
        self.enum_class = enum_class
        # `check_declaration` refuses an `enum_class` that is not an Enum class.
        kinds = {type(member.value) for member in enum_class} if isinstance(enum_class, enum.EnumMeta) else set()
        if len(kinds) == 1:
            self.key_kind = self._KEY_KINDS.get(kinds.pop())

    def check_declaration(self) -> None:
        super().check_declaration()
        if not (isinstance(self.enum_class, type) and issubclass(self.enum_class, enum.Enum)):
            raise ConfigurationError(
                f"{self._label}: EnumAttribute takes an Enum class, not {shortened(self.enum_class)}",
                model=self.model,
                attribute=self.name,
            )
        for member in self.enum_class:
            try:
                _core.checked(self.kind, self._label, member.value)
            except InvalidValue as error:
                raise ConfigurationError(
                    f"{self._label}: the value of {self.enum_class.__name__}.{member.name} cannot be stored: {error}",
                    model=self.model,
                    attribute=self.name,
                ) from error

    def encode(self, value: Any) -> Any:
        if not isinstance(value, self.enum_class):
            members = ", ".join(member.name for member in self.enum_class)
            raise TypeError(f"expected a {self.enum_class.__name__} ({members}), got {shortened(value)}")
        return value.value

    def decode(self, stored: Any) -> E:
        try:
            return self.enum_class(stored)
        except ValueError:
            raise ValueError(f"{self.enum_class.__name__} has no member of this value") from None


class DatetimeAttribute(Attribute[datetime]):
    """A point in time. It is stored as ISO 8601 text in UTC with six decimals, which sorts by time.

    A naive datetime is UTC. It is read as an aware datetime in UTC, also from other forms of ISO 8601.
    """

    kind = "string"
    key_kind = "string"

    def encode(self, value: Any) -> str:
        if not isinstance(value, datetime):
            raise TypeError(f"expected datetime, got {type(value).__name__}")
        return _as_utc(value).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00").rjust(32, "0")

    def decode(self, stored: Any) -> datetime:
        return _as_utc(parse_iso(stored))

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return _time_from(auto)


class DateAttribute(Attribute[date]):
    """A calendar day, stored as ISO 8601 text: `2024-01-31`."""

    kind = "string"
    key_kind = "string"
    cut = timedelta(days=1)

    def encode(self, value: Any) -> str:
        if isinstance(value, datetime) or not isinstance(value, date):
            raise TypeError(f"expected date, got {type(value).__name__}")
        return value.isoformat()

    def decode(self, stored: Any) -> date:
        return parse_iso(stored).date()

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        to_time = _time_from(auto)
        return None if to_time is None else lambda minted: to_time(minted).date()


class UUIDAttribute(Attribute[uuid.UUID]):
    """A `uuid.UUID`, stored as its 36 characters."""

    kind = "string"
    key_kind = "string"

    def encode(self, value: Any) -> str:
        if not isinstance(value, uuid.UUID):
            raise TypeError(f"expected uuid.UUID, got {type(value).__name__}")
        return str(value)

    def decode(self, stored: Any) -> uuid.UUID:
        return uuid.UUID(stored)

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return _uuid_from(auto)


class TTLAttribute(Attribute[datetime]):
    """The time of expiry: an aware datetime in UTC of whole seconds, stored as seconds since the Unix epoch.

    Fractions of a second are cut at assignment, so that the loaded value is equal. An expired item is absent from every
    read, count and condition, on every store.
    """

    kind = "number"
    cut = timedelta(seconds=1)

    if not TYPE_CHECKING:

        def __get__(self, instance: Any, owner: type) -> Any:
            # This is a data descriptor (`__set__` truncates), so Python calls it also if there is a value.
            if instance is None:
                return self
            value = instance.__dict__.get(self.name)
            if value is not None:
                return value
            state = instance._state
            return None if state is None else self._absent(instance, state)

        def __set__(self, instance: Any, value: Any) -> None:
            instance.__dict__[self.name] = self.normal(value)

    def normal(self, value: Any) -> Any:
        """Return `value` in UTC, cut to whole seconds. Other types are returned unchanged; the save refuses them."""
        if not isinstance(value, datetime):
            return value
        try:
            return _as_utc(value).replace(microsecond=0)
        except ValueError:
            return value

    def check_declaration(self) -> None:
        super().check_declaration()
        if isinstance(self.default, datetime):
            raise ConfigurationError(
                f"{self._label}: with a fixed time as default= all items would expire together: "
                "use default=lambda: ExpiresIn.hours(24)",
                model=self.model,
                attribute=self.name,
            )

    def encode(self, value: Any) -> int:
        if not isinstance(value, datetime):
            raise TypeError(f"expected datetime (such as ExpiresIn.hours(24)), got {type(value).__name__}")
        return int((_as_utc(value) - _EPOCH) // timedelta(seconds=1))

    def decode(self, stored: Any) -> datetime:
        return _EPOCH + timedelta(seconds=int(stored))

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        to_time = _time_from(auto)
        return None if to_time is None else lambda minted: self.normal(to_time(minted))


class VersionAttribute(Attribute[int]):
    """Counts the writes of an item, for optimistic locking: a write of a changed row raises `VersionConflict`."""

    kind = "number"

    def check_declaration(self) -> None:
        super().check_declaration()
        if self.minted or self.on_update or self.default is not None:
            raise ConfigurationError(
                f"{self._label}: a version is counted automatically and takes no default= or on_update=",
                model=self.model,
                attribute=self.name,
            )


Algorithm: TypeAlias = Literal["zstd", "lz4", "gzip"]
_LEVELS = {"zstd": range(1, 23), "gzip": range(1, 10), "lz4": range(0)}
#: The maximum of `max_size=` and `min_size=` in bytes.
_LONGEST_TEXT = (1 << 31) - 1


class CompressedAttribute(Attribute[str]):
    """Long text, stored as compressed bytes.

    Args:
        algorithm: `"zstd"` (RFC 8878), `"lz4"` or `"gzip"` (RFC 1952). It can be changed later: all three can be read.
        level: the compression level: 1 to 22 for zstd, 1 to 9 for gzip, none for lz4; None is the default level.
        min_size: texts of fewer bytes (in UTF-8) are stored uncompressed.
        threshold: a text that does not shrink below this fraction of its size is stored uncompressed.
        max_size: the maximum size of a text in bytes (in UTF-8), when it is saved and when it is read. A small stored
            value can contain a very long text.
    """

    kind = "binary"

    def __init__(
        self,
        algorithm: Algorithm = "zstd",
        level: int | None = None,
        min_size: int = 100,
        threshold: float = 0.9,
        *,
        max_size: int = 16 << 20,
        **parameters: Any,
    ) -> None:
        super().__init__(**parameters)
        self.max_size = max_size
        self.algorithm = algorithm
        self.level = level
        self.min_size = min_size
        self.threshold = threshold

    def check_declaration(self) -> None:
        super().check_declaration()
        levels = _LEVELS.get(self.algorithm) if isinstance(self.algorithm, str) else None
        problem = None
        if levels is None:
            problem = f"algorithm= takes 'zstd', 'lz4' or 'gzip', not {shortened(self.algorithm)}"
        elif self.level is not None and not (_is_whole(self.level) and self.level in levels):
            problem = f"{self.algorithm} has " + (f"levels 1 to {levels[-1]}" if levels else "no levels")
        elif not (_is_whole(self.min_size) and 0 <= self.min_size <= _LONGEST_TEXT):
            problem = f"min_size= takes 0 to {_LONGEST_TEXT:,} bytes, not {shortened(self.min_size)}"
        elif not (isinstance(self.threshold, (int, float)) and 0 < self.threshold <= 1):
            problem = f"threshold= takes a number above 0 and at most 1, not {shortened(self.threshold)}"
        elif not (_is_whole(self.max_size) and 1 <= self.max_size <= _LONGEST_TEXT):
            problem = f"max_size= takes 1 to {_LONGEST_TEXT:,} bytes, not {shortened(self.max_size)}"
        if problem:
            raise ConfigurationError(f"{self._label}: {problem}", model=self.model, attribute=self.name)

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise TypeError(f"expected str, got {type(value).__name__}")
        data = str.encode(value)
        if len(data) > self.max_size:
            raise ValueError(
                f"the text has {len(data):,} bytes, and max_size={self.max_size}: split the text, or raise max_size="
            )
        return _core.compress(data, self.algorithm, self.level, self.min_size, self.threshold)

    @property
    def decompresses(self) -> bool:
        return True

    def decode(self, stored: Any) -> str:
        if isinstance(stored, str):
            return _from_pydynox(stored, self.max_size)
        return _core.decompress(stored, self.max_size).decode()


#: The prefix of a compressed text in pydynox (followed by base64), and the first byte of the same data in mintkey.
_PYDYNOX = {"ZSTD": b"\1", "LZ4": b"\2", "GZIP": b"\3"}


def _from_pydynox(stored: str, max_size: int) -> str:
    """Decode a text of pydynox: plain text, or the name of an algorithm and compressed text in base64."""
    algorithm, _, packed = stored.partition(":")
    if algorithm not in _PYDYNOX:
        return stored
    import base64

    return _core.decompress(_PYDYNOX[algorithm] + base64.b64decode(packed, validate=True), max_size).decode()


class ExpiresIn:
    """Times relative to now, for a `TTLAttribute`: aware datetimes in UTC of whole seconds.

    Each method raises `InvalidValue` if the result is not in the years 1 to 9999.

    >>> from mintkey.testing import frozen
    >>> with frozen(time="2024-01-01T00:00:00Z"):
    ...     ExpiresIn.hours(24).isoformat()
    '2024-01-02T00:00:00+00:00'
    """

    @staticmethod
    def seconds(n: float) -> datetime:
        """Return the time `n` seconds from now."""
        return _from_now(seconds=n)

    @staticmethod
    def minutes(n: float) -> datetime:
        """Return the time `n` minutes from now."""
        return _from_now(minutes=n)

    @staticmethod
    def hours(n: float) -> datetime:
        """Return the time `n` hours from now."""
        return _from_now(hours=n)

    @staticmethod
    def days(n: float) -> datetime:
        """Return the time `n` days of 24 hours from now."""
        return _from_now(days=n)

    @staticmethod
    def weeks(n: float) -> datetime:
        """Return the time `n` weeks from now."""
        return _from_now(weeks=n)


_EPOCH = datetime(1970, 1, 1, tzinfo=_UTC)


def utc_now() -> datetime:
    """Return the current time of the clock of IDs and timestamps, which tests can freeze."""
    return _EPOCH + timedelta(milliseconds=_core.now_ms())


def _from_now(**after: float) -> datetime:
    try:
        return (utc_now() + timedelta(**after)).replace(microsecond=0)
    except (OverflowError, ValueError) as error:  # NaN is a ValueError
        ((unit, given),) = after.items()
        raise InvalidValue(f"ExpiresIn.{unit}({shortened(given)}) leads beyond the years 1 to 9999") from error


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        return value.replace(tzinfo=_UTC)
    try:
        return value.astimezone(_UTC)
    except OverflowError as error:
        raise ValueError(f"{shortened(value)} is outside the years 1 to 9999 in UTC") from error


_ISO = re.compile(
    r"(\d{4})-?(?:W(\d\d)-?(\d)?|(\d\d)-?(\d\d))"
    r"(?:[T ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.IGNORECASE,
)


def parse_iso(text: str) -> datetime:
    """Parse ISO 8601: extended or basic format, calendar or week dates, with `Z`, an offset or neither.

    Digits below the microsecond are cut. `datetime.fromisoformat` supports these formats only since Python 3.11.
    """
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{shortened(text)} is not an ISO 8601 time")
    year, week, weekday, month, day, hour, minute, second, fraction, zone = found.groups()
    start = (
        date.fromisocalendar(int(year), int(week), int(weekday or 1)) if week else date(int(year), int(month), int(day))
    )
    offset = None
    if zone:
        sign = -1 if zone[0] == "-" else 1
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = _UTC if zone in "Zz" else timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))
    micro = int((fraction or "")[:6].ljust(6, "0"))
    return datetime(
        start.year, start.month, start.day, int(hour or 0), int(minute or 0), int(second or 0), micro, tzinfo=offset
    )


def _time_from(auto: Auto) -> Callable[[Any], datetime] | None:
    """Return the conversion of a generated timestamp to a datetime; None with a prefix."""
    match auto.strategy.name if auto.strategy is not None and not auto.strategy.prefix else None:
        case "epoch":
            return lambda minted: _EPOCH + timedelta(seconds=minted)
        case "epoch_ms":
            return lambda minted: _EPOCH + timedelta(milliseconds=minted)
        case "iso8601" | "iso8601_ms":
            return lambda minted: _as_utc(parse_iso(minted))
        case _:
            return None
