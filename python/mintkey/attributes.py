"""Attributes: what a model is declared with.

An attribute is a *non-data* descriptor. On the class it builds conditions (`Order.total > 5`); on an instance
Python finds the value in `__dict__` first and never comes here, so reading costs what a plain attribute costs.
Only an absent value reaches `__get__`, which answers `None`, or mints while a `before_save` hook runs.
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
from mintkey.generators import Auto, AutoGenerate, as_auto, is_auto_generate, parse, span

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
_UNCHANGING = (str, int, float, bool, bytes, Decimal, datetime, date, uuid.UUID, enum.Enum, frozenset, type(None))


class Attribute(Operand, Generic[T]):
    """A named value of a model; the base of every attribute type.

    Args:
        partition_key: the attribute is the table's partition key.
        sort_key: the attribute is the table's sort key.
        default: a plain value (copied for each instance) or a callable, both applied at construction;
            or a strategy (`AutoGenerate.ULID`, `auto(…)`), minted on the first save where the value is absent.
        on_update: a strategy minted on each write that changes a stored item.
        required: refuse to save an item without a value.
        alias: the name in the store, where it differs from the attribute's.
        index: look items up by the value: `query(status="paid")` then reads an index.
        description: a sentence for people and schema tools.
    """

    #: How the compiled core stores the value; see `crates/python/src/codec.rs`.
    kind: str = "any"
    #: What a partition or sort key may be.
    key_kind: Literal["string", "number", "binary"] | None = None
    #: What a minted time is cut to; None: it is kept as it was minted.
    cut: timedelta | None = None

    name: str = ""
    model: str = ""

    # What the fields vocabulary adds; here so that a schema asks every attribute alike.

    #: Whether it is a field: a class made only of fields gets a key of its own.
    is_field: ClassVar[bool] = False
    #: The field is the partition key by itself ("whole"), or alone or together with others ("part").
    field_key: Literal["whole", "part"] | None = None
    #: Whether items are looked up by the value.
    value_indexed: bool = False
    #: The attributes within whose equal values the items are kept in order of this one; None: no order is kept.
    sorted_within: tuple[str, ...] | None = None
    #: Whether `check_write` wants to see each new or changed value.
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
        # Checks wait for the model's `__init_subclass__`: before Python 3.12 an error here becomes a RuntimeError.
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
        """The answer for a value that is not in the instance's `__dict__`."""
        if state.fetched is not None and self.name not in state.fetched:
            raise NotLoaded(
                f"{type(instance).__name__}.{self.name} was not loaded: the query's attributes= left it out. "
                "Name it there, or call refresh()",
                model=type(instance).__name__,
                attribute=self.name,
            )
        if state.saving is not None:
            return state.saving.read(self.name)
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
        """Minted from `start` on and before `end` (a naive time is UTC), by this attribute's `default=` strategy.

        On a sort key it is the key condition of `query()`; else a filter. A value counts as minted at the start of the
        second or millisecond that it tells, of the day in a `DateAttribute`.

        Raises:
            ConfigurationError: the attribute has no strategy that sorts by time.
            InvalidValue: a time is no datetime, or nothing can be minted between the two.
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
            low, high = map(convert, span(auto, start, end, self.cut))
        except CONVERSION_ERRORS as error:
            raise InvalidValue(
                f"{self._label}: minted_between(): {cause(error)}", model=self.model, attribute=self.name
            ) from error
        return self.between(low, high)

    # What a type overrides: the stored form, and which strategies fit.

    def encode(self, value: Any) -> Any:
        """The plain stored form of `value`; raises `ValueError` or `TypeError` saying what is wrong."""
        return value

    def decode(self, stored: Any) -> Any:
        """The value of a plain stored form."""
        return stored

    @property
    def converts(self) -> bool:
        """Whether values pass through `encode` and `decode`, or the compiled core stores them alone."""
        return type(self).encode is not Attribute.encode

    @property
    def decompresses(self) -> bool:
        """Whether a small stored value can become a large one when it is read."""
        return False

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        """What makes a value of this type from what `auto` mints; `None` when it does not fit."""
        return None

    def minted_converter(self, auto: Auto) -> Callable[[Any], Any]:
        """Like `from_minted`, but raises `ConfigurationError` when the strategy does not fit."""
        if auto.strategy is None:
            return unconverted
        converter = self.from_minted(auto)
        if converter is None:
            raise ConfigurationError(f"{self._label}: {self._misfit(auto)}", model=self.model, attribute=self.name)
        return converter

    def _misfit(self, auto: Auto) -> str:
        """Why what `auto` mints does not fit, and the way out."""
        strategy = cast("_core.Strategy", auto.strategy)
        what, kind = f"the strategy {strategy.name!r}", type(self).__name__
        if self.from_minted(as_auto(AutoGenerate(strategy.name))) is not None:
            given = "=, ".join(name for name in ("prefix", "length") if name in strategy.parameters)
            return f"{what} fits a {kind} only without {given}=. Leave it out, or use an attribute that holds text"
        makes = "whole numbers" if strategy.output == "int" else "text"
        return f"{what} makes {makes}, which a {kind} does not hold. Use another strategy or another attribute type"

    def check_declaration(self) -> None:
        """Refuse a declaration that cannot work; called when the model class is defined."""
        if self._misplaced_on_update is not None:
            raise ConfigurationError(
                f"{self._label}: on_update= takes a strategy such as AutoGenerate.ISO8601 or auto(my_callable), "
                f"not {shortened(self._misplaced_on_update)}",
                model=self.model,
                attribute=self.name,
            )
        if self.alias is not None and not is_utf8_text(self.alias):
            raise ConfigurationError(
                f"{self._label}: alias= takes text that UTF-8 can hold, not {shortened(self.alias)}",
                model=self.model,
                attribute=self.name,
            )
        for auto in (self.minted, self.on_update):
            if auto is not None:
                self.minted_converter(auto)
        is_key = self.partition_key or self.sort_key or self.field_key is not None
        if is_key and isinstance(self.default, str) and self.default in {strategy.value for strategy in AutoGenerate}:
            # Every item would have this very text as its key, and each save replace the one before.
            raise ConfigurationError(
                f"{self._label}: default={self.default!r} is a plain text, the same for every item: "
                f"auto({self.default!r}) or AutoGenerate.{self.default.upper()} mints one for each",
                model=self.model,
                attribute=self.name,
            )

    @property
    def mints_at_init(self) -> bool:
        """Whether a missing value is minted at construction."""
        return self.minted is not None and self.minted.when == "init"

    def initial(self) -> Any:
        """A value minted now, for one instance."""
        auto = self.minted
        if auto is None:
            return None
        if auto.strategy is None:
            return None if auto.function is None else auto.function()
        return self.minted_converter(auto)(_core.mint((auto.strategy,))[0][0])

    def another(self, refused: Any) -> Any:
        """A value in place of one that an insert met a row with; None when `refused` has to stay."""
        return self.initial()

    def check_write(self, instance: Any, value: Any, *, changed: bool, pipeline: object) -> None:
        """Hear of a write, maybe into a `pipeline`; refuse a value that is new or `changed` with `InvalidValue`."""

    def implicit_key(self) -> Attribute[Any]:
        """The key of a class that is made of such fields and declares none."""
        raise NotImplementedError

    def new_default(self) -> Any:
        """The plain default for one more instance: called when callable, copied when it could change."""
        default = self.default
        if callable(default):
            return default()
        return default if isinstance(default, _UNCHANGING) else copy.deepcopy(default)


def is_utf8_text(value: object) -> bool:
    """Whether a name can be stored: text without lone surrogates."""
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
    """Text. Keys may hold any text, NUL included, but no lone surrogates."""

    kind = "string"
    key_kind = "string"

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return _text_only(auto)


class NumberAttribute(Attribute[float]):
    """A number, exact to 38 digits: `int`, `float` or `Decimal`.

    Reads back `int` when integral, `float` when its shortest text is the stored number, else `Decimal`.
    NaN, infinity and `bool` are refused.
    """

    kind = "number"
    key_kind = "number"

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return _int_only(auto)


class DecimalAttribute(Attribute[Decimal]):
    """A decimal number, exact to 38 digits; reads back `Decimal` always. Takes `Decimal` and `int`."""

    kind = "decimal"
    key_kind = "number"

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return Decimal if _int_only(auto) else None


class BooleanAttribute(Attribute[bool]):
    """`True` or `False`."""

    kind = "boolean"


def _uuid_from(auto: Auto) -> Callable[[Any], uuid.UUID] | None:
    """What turns a minted id of 16 bytes into a UUID; neither a prefix nor a cut one can be told by it."""
    strategy = auto.strategy
    if strategy is None or strategy.prefix or strategy.parameters.get("length", 32) != 32:  # noqa: PLR2004  all digits
        return None
    name = strategy.name
    if name in {"ulid", "typeid"}:
        return lambda text: uuid.UUID(bytes=parse(text, name).bytes)
    return uuid.UUID if name in {"uuid4", "uuid7"} else None


class BinaryAttribute(Attribute[bytes]):
    """Bytes. UUID4, UUID7, ULID and TYPEID give their 16 bytes."""

    kind = "binary"
    key_kind = "binary"

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        to_uuid = _uuid_from(auto)
        return None if to_uuid is None else lambda text: to_uuid(text).bytes


class ListAttribute(Attribute["list[Any]"]):
    """A list of any stored values; changes inside it are seen at save."""

    kind = "list"

    def __getitem__(self, step: str | int) -> Path:
        return self._inside(step)

    def _element(self, value: Any) -> Any:
        return _core.checked("any", self._label, value)


class MapAttribute(Attribute[Any]):
    """A map with text keys: a plain `dict`, or the instances of a nested class.

    Args:
        nested: an abstract model (`ModelConfig(abstract=True)`) or a dataclass whose instances are the values.
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
                f"{self._label}: MapAttribute nests an abstract model or a dataclass, not {shortened(self.nested)}",
                model=self.model,
                attribute=self.name,
            )
        schema = getattr(self.nested, "__mintkey_schema__", None)
        if schema is not None and schema.saved_strategies:
            late = schema.saved_strategies
            raise ConfigurationError(
                f"{self._label}: {schema.model}.{late[0]} would never be minted, because only whole items are saved. "
                'Mint it at construction, with auto(…, when="init")',
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
    """A set without order; an empty one is stored as nothing, and an absent one reads as an empty set."""

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
            # Kept in the instance, so that what is added to it is saved.
            return instance.__dict__.setdefault(self.name, set()) if state is None else self._absent(instance, state)

    def _element(self, value: Any) -> Any:
        return next(iter(_core.checked(self.kind, self._label, {value})))


class StringSetAttribute(_SetAttribute["set[str]"]):
    """A set of texts."""

    kind = "string_set"


class NumberSetAttribute(_SetAttribute["set[float]"]):
    """A set of numbers."""

    kind = "number_set"


class BinarySetAttribute(_SetAttribute["set[bytes]"]):
    """A set of bytes."""

    kind = "binary_set"


class JSONAttribute(Attribute[Any]):
    """Any JSON value, stored as text.

    Args:
        model_class: a pydantic model or a dataclass whose instances are the values.
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
        # Lone surrogates stay escaped: they are JSON, but no UTF-8.
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
    """A member of `enum_class`, stored by its value, which must be text, a number or bytes.

    It can be a key and be indexed if all values are text, all whole numbers or all bytes.
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
        # What is no Enum class is refused in words by `check_declaration`.
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
                    f"{self._label}: {self.enum_class.__name__}.{member.name} holds what cannot be stored: {error}",
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
    """A point in time, stored as ISO 8601 in UTC with six decimals, which sorts as text.

    A naive datetime is taken as UTC; reads back an aware one in UTC, from any ISO 8601 form.
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
    """A calendar day, stored as ISO 8601: `2024-01-31`."""

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
    """When the item expires: an aware UTC datetime of whole seconds, stored as epoch seconds.

    Fractions are cut when a value is assigned, so that a reload is equal. An expired item is absent for every
    read, count and condition, on every store.
    """

    kind = "number"
    cut = timedelta(seconds=1)

    if not TYPE_CHECKING:

        def __get__(self, instance: Any, owner: type) -> Any:
            # A data descriptor (it truncates), so Python asks here even when there is a value.
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
        """`value` in UTC and cut to whole seconds; what is no datetime is left for the save to refuse."""
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
                f"{self._label}: a fixed time as default= would expire every item at once. "
                "Use default=lambda: ExpiresIn.hours(24)",
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
    """Counts the writes of an item, and refuses a write when somebody else wrote first (`VersionConflict`)."""

    kind = "number"

    def check_declaration(self) -> None:
        super().check_declaration()
        if self.minted or self.on_update or self.default is not None:
            raise ConfigurationError(
                f"{self._label}: a version counts by itself and takes no default= or on_update=",
                model=self.model,
                attribute=self.name,
            )


Algorithm: TypeAlias = Literal["zstd", "lz4", "gzip"]
_LEVELS = {"zstd": range(1, 23), "gzip": range(1, 10), "lz4": range(0)}
#: The bytes of the longest text that a program may ask for.
_LONGEST_TEXT = (1 << 31) - 1


class CompressedAttribute(Attribute[str]):
    """Long text, stored as compressed bytes.

    Args:
        algorithm: `"zstd"`, `"lz4"` or `"gzip"`. Reading knows each of them, so it can be changed later.
        level: the algorithm's own level; None is its usual one. lz4 has none.
        min_size: shorter texts (in UTF-8 bytes) are stored uncompressed.
        threshold: a text that would not shrink below this share of its size is stored uncompressed.
        max_size: the bytes (in UTF-8) that a text may have, when it is saved and when it is read: a small stored value
            can hold a very long text.
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
            problem = f"algorithm {shortened(self.algorithm)} is none of 'zstd', 'lz4', 'gzip'"
        elif self.level is not None and not (_is_whole(self.level) and self.level in levels):
            problem = f"{self.algorithm} has " + (f"levels 1 to {levels[-1]}" if levels else "no levels")
        elif not (_is_whole(self.min_size) and 0 <= self.min_size <= _LONGEST_TEXT):
            problem = f"min_size is a whole number of bytes, 0 to {_LONGEST_TEXT:,}, not {shortened(self.min_size)}"
        elif not (isinstance(self.threshold, (int, float)) and 0 < self.threshold <= 1):
            problem = f"threshold is above 0 and at most 1, not {shortened(self.threshold)}"
        elif not (_is_whole(self.max_size) and 1 <= self.max_size <= _LONGEST_TEXT):
            problem = f"max_size is a whole number of bytes, 1 to {_LONGEST_TEXT:,}, not {shortened(self.max_size)}"
        if problem:
            raise ConfigurationError(f"{self._label}: {problem}", model=self.model, attribute=self.name)

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise TypeError(f"expected str, got {type(value).__name__}")
        data = str.encode(value)
        if len(data) > self.max_size:
            raise ValueError(
                f"the text has {len(data):,} bytes, and max_size={self.max_size}: split it, or give the attribute a "
                "greater max_size="
            )
        return _core.compress(data, self.algorithm, self.level, self.min_size, self.threshold)

    @property
    def decompresses(self) -> bool:
        return True

    def decode(self, stored: Any) -> str:
        if isinstance(stored, str):
            return _from_pydynox(stored, self.max_size)
        return _core.decompress(stored, self.max_size).decode()


#: What pydynox writes before the base64 of a compressed text, and the byte that stands before the same bytes here.
_PYDYNOX = {"ZSTD": b"\1", "LZ4": b"\2", "GZIP": b"\3"}


def _from_pydynox(stored: str, max_size: int) -> str:
    """A long text as pydynox stores it: as it is, or compressed behind the name of the algorithm."""
    algorithm, _, packed = stored.partition(":")
    if algorithm not in _PYDYNOX:
        return stored
    import base64

    return _core.decompress(_PYDYNOX[algorithm] + base64.b64decode(packed, validate=True), max_size).decode()


class ExpiresIn:
    """Times from now, for a `TTLAttribute`: aware UTC datetimes of whole seconds.

    >>> from mintkey.testing import frozen
    >>> with frozen(time="2024-01-01T00:00:00Z"):
    ...     ExpiresIn.hours(24).isoformat()
    '2024-01-02T00:00:00+00:00'
    """

    @staticmethod
    def seconds(n: float) -> datetime:
        """`n` seconds from now."""
        return _from_now(seconds=n)

    @staticmethod
    def minutes(n: float) -> datetime:
        """`n` minutes from now."""
        return _from_now(minutes=n)

    @staticmethod
    def hours(n: float) -> datetime:
        """`n` hours from now."""
        return _from_now(hours=n)

    @staticmethod
    def days(n: float) -> datetime:
        """`n` days of 24 hours from now."""
        return _from_now(days=n)

    @staticmethod
    def weeks(n: float) -> datetime:
        """`n` weeks from now."""
        return _from_now(weeks=n)


_EPOCH = datetime(1970, 1, 1, tzinfo=_UTC)


def utc_now() -> datetime:
    """This moment by the clock that mints, which tests can freeze."""
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
    """Read any form of ISO 8601, extended or basic, by calendar or week, with `Z` or an offset or neither.

    `datetime.fromisoformat` reads them only since Python 3.11. Digits below the microsecond are cut.
    """
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{shortened(text)} is no ISO 8601 time")
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
    """What turns a minted timestamp into a datetime; with a prefix it is no time."""
    match auto.strategy.name if auto.strategy is not None and not auto.strategy.prefix else None:
        case "epoch":
            return lambda minted: _EPOCH + timedelta(seconds=minted)
        case "epoch_ms":
            return lambda minted: _EPOCH + timedelta(milliseconds=minted)
        case "iso8601" | "iso8601_ms":
            return lambda minted: _as_utc(parse_iso(minted))
        case _:
            return None
