"""The base class of all attribute types.

An attribute is a *non-data* descriptor. On the class it builds conditions (`Order.total > 5`). On an instance Python
finds the value in `__dict__` first, so reading it is as fast as reading a plain attribute. Only an absent value reaches
`__get__`, which returns `None`, or generates the value while a `before_save` hook runs.
"""

from __future__ import annotations

import copy
import enum
import functools
import re
import uuid
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, cast, overload

from mintkey import _core
from mintkey.attributes.comparing import Misfit
from mintkey.attributes.validators import NO_LIMITS, Validators
from mintkey.conditions import Condition, Operand, Steps, Tests
from mintkey.errors import CONVERSION_ERRORS, ConfigurationError, InvalidValue, NotLoaded, cause, check_flags, shortened
from mintkey.generators import Auto, AutoGenerate, as_auto, id_range, is_auto_generate

if TYPE_CHECKING:
    from typing_extensions import Self
    from typing_extensions import TypeVar as DefaultingTypeVar

    #: What is read from an attribute type.
    V = DefaultingTypeVar("V", default=Any, covariant=True)
    Read = DefaultingTypeVar("Read", default="T | None", covariant=True)
    Of = DefaultingTypeVar("Of", default=Any)
    M = DefaultingTypeVar("M", default=Any)
else:
    V, Read, Of, M = map(TypeVar, ("V", "Read", "Of", "M"))

T = TypeVar("T")
W = TypeVar("W", contravariant=True)
Value = TypeVar("Value")
Owner = TypeVar("Owner")

#: With their subclasses, such as `bool` and `datetime`.
_IMMUTABLE = (str, int, float, bytes, Decimal, date, time, timedelta, uuid.UUID, enum.Enum, frozenset, type(None))

#: What makes values of one class of attributes different from each other.
_OF_TYPE = ("stored_as", "enum_class", "nested", "model_class", "keeps_none", "_adapted")


class Attr(Generic[W]):
    """The type of attributes in annotations: `total: Attr[float] = NumberAttribute()` is read as `float`.

    The annotation decides. An attribute fits if it can store all values of the type.
    """

    if TYPE_CHECKING:

        @overload
        def __get__(self: Attr[Value | None], instance: None, owner: type[Owner]) -> ModelAttribute[Owner, Value]: ...
        @overload
        def __get__(self, instance: None, owner: type[Owner]) -> ModelAttribute[Owner, W]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> W: ...  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        def __get__(self, instance: object, owner: type) -> object: ...
        def __set__(self, instance: object, value: W) -> None: ...


class Attribute(Attr[T | None], Operand[M, Of], Generic[T, Read, Of, M]):
    """A named value of a model. The base class of all attribute types.

    For type checkers it has four parameters: the type of its values; the type that is read, which may include None; and
    the type of operands and the model, which are known of `Order.total`.

    Args:
        partition_key: the attribute is the table's partition key.
        sort_key: the attribute is the table's sort key.
        default: a plain value (copied for each instance) or a callable, which apply at construction; or a strategy
            (`AutoGenerate.ULID`, `auto(…)`), which generates an absent value at the first save.
        on_update: a strategy that generates a new value on each write that changes a stored item.
        required: refuse to save an item without a value.
        alias: the name in the store, if it differs from the attribute's name.
        index: create an index on the attribute, for queries such as `query(status="paid")`.
        unique: no two items have the same value. A write of a second one raises `UniqueViolation`.
        description: a description for people and schema tools.
        default_on_load: set the plain default also on loaded items that lack the attribute.
        min: the least value that can be written. Values that are read are never validated.
        max: the greatest value.
        min_length: the minimum number of characters, bytes or elements.
        max_length: the maximum number of characters, bytes or elements.
        pattern: a regular expression that must match the whole text.
        choices: the only values that can be written.
        validate: a function that is called with each value. It refuses the value by raising a `ValueError` or returning
            False.

    Raises:
        ConfigurationError: a parameter is invalid. It is raised when the class is defined.
    """

    #: The encoding of the value in the compiled core; see `crates/python/src/values/convert.rs`.
    kind: str = "any"
    #: The type as a key; None if the attribute cannot be a key.
    key_kind: Literal["string", "number", "binary"] | None = None
    #: The types of stored values that `decode` is called for; None for those of the kind.
    stored_types: tuple[type, ...] | None = None
    #: What they are, for messages; None for a description of the kind.
    reads: str | None = None
    #: The conditions that the encoding allows.
    tests: Tests = "all"
    #: Why no change of this part of a value can be verified when it is built; None if it can.
    guard: str | None = None
    #: Whether a null is a value here, and not absence.
    keeps_none: bool = False
    #: Whether an empty set is not stored.
    empty_is_absent: bool = False
    #: The unit to which a generated time is cut; None to keep it unchanged.
    cut: timedelta | None = None

    name: str = ""
    model: str = ""
    _owner: type | None = None

    # Properties of fields. They are declared here, so that a schema can read them from every attribute.

    #: Whether it is a field. A class of fields without a key gets a hidden key.
    is_field: ClassVar[bool] = False
    #: "whole" for a field that is the partition key, "part" for one that can be a part of a compound key.
    field_key: Literal["whole", "part"] | None = None
    #: Whether the attribute has an index.
    value_indexed: bool = False
    #: Whether no two items have the same value.
    unique: bool = False
    #: The partition attributes of a sorted index on this attribute; None for no sorted index.
    sorted_within: tuple[str, ...] | None = None
    #: Whether the declaration says that the value may be absent.
    nullable: bool = False
    #: Whether `check_write` must be called for each new or changed value.
    checks_writes: bool = False
    #: The limits that have a meaning for the values.
    limits: frozenset[str] = NO_LIMITS
    #: The template that builds the value from other attributes.
    template: str | None = None
    #: Whether the value says of which class an item is.
    discriminator: bool = False
    #: The derived attributes of the model, if this is one of them: instances do not hold its value.
    derived: Any = None

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
        unique: bool = False,
        description: str | None = None,
        default_on_load: bool = False,
        min: Any = None,
        max: Any = None,
        min_length: int | None = None,
        max_length: int | None = None,
        pattern: str | re.Pattern[str] | None = None,
        choices: Iterable[Any] | None = None,
        validate: Callable[[Any], object] | None = None,
    ) -> None:
        validators = Validators(
            min=min,
            max=max,
            min_length=min_length,
            max_length=max_length,
            pattern=pattern,
            choices=choices,
            validate=validate,
        )
        self.validators = validators if validators.given else None
        if validators.given:
            self.checks_writes = True
        if index:
            self.value_indexed = True
        self._flags: dict[str, object] = {
            "partition_key": partition_key,
            "sort_key": sort_key,
            "required": required,
            "index": index,
            "unique": unique,
            "default_on_load": default_on_load,
        }
        if self.kind == "any" and type(self).encode is Attribute.encode:
            self.empty_is_absent = True
        self.unique = unique
        self.partition_key = partition_key
        self.sort_key = sort_key
        self.minted: Auto | None = as_auto(default) if is_auto_generate(default) else None
        self.default: Any = None if self.minted else default
        self.on_update: Auto | None = as_auto(on_update) if is_auto_generate(on_update) else None
        self._misplaced_on_update = on_update if on_update is not None and self.on_update is None else None
        self.required = required
        self.default_on_load = default_on_load
        self.alias = alias
        self.description = description

    def __set_name__(self, owner: type, name: str) -> None:
        # Checks are made in the model's `__init_subclass__`: Python before 3.12 turns errors here into RuntimeError.
        self.name = name
        self.model = owner.__name__
        self._owner = owner

    def copied(self, owner: type) -> Self:
        """Return a copy for another class."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        copied.__set_name__(owner, self.name)
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A condition that was pickled belongs to the same class again.
        return super().__reduce_ex__(protocol) if self._owner is None else (getattr, (self._owner, self.name))

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def __get__(
            self: Attribute[Any, Value | None, Any, Any], instance: None, owner: type[Owner]
        ) -> ModelAttribute[Owner, Value]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Read: ...
        def __get__(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, instance: object, owner: type
        ) -> object: ...
        def __set__(self, instance: object, value: Read) -> None: ...  # type: ignore[misc, override]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleMethodOverride]

    else:

        def __get__(self, instance: Any, owner: type) -> Any:
            if instance is None:
                return self
            if self.derived is not None:
                return self.derived.read(self.name, instance)
            state = instance._state
            return None if state is None else self._absent(instance, state)

    def _absent(self, instance: Any, state: Any) -> Any:
        """Return the value of an attribute that is not in the instance's `__dict__`."""
        if state.is_unknown(self.name):
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

    def _declaration_error(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self._label}: {problem}", model=self.model, attribute=self.name)

    @property
    def stored_name(self) -> str:
        """The attribute's name in the store."""
        return self.alias or self.name

    @property
    def _steps(self) -> Steps:
        return (self.stored_name,)

    def member(self, label: str, step: object) -> Attribute[Any] | None:
        """Return the attribute that declares a part of the value; None inside of plain lists and maps.

        Raises `TypeError` for a part that values of this type do not have.
        """
        raise TypeError(
            f"{label}: values of a {type(self).__name__} have no parts in the store: "
            "use a ListAttribute or a MapAttribute"
        )

    @property
    def described(self) -> str:
        """The kind of the values, for messages."""
        return type(self).__name__

    def has_type_of(self, other: Attribute[Any]) -> bool:
        """Return whether another attribute has the same values, in the same encoding."""
        other = getattr(other, "_form", other)
        ours, theirs = vars(self), vars(other)
        return type(self) is type(other) and all(ours.get(name) == theirs.get(name) for name in _OF_TYPE)

    @property
    def unverified(self) -> str | None:
        """Why the result of a change that the store computes might not be a value of this type; None if it is one."""
        return None if self.validators is None else self.validators.unverified

    def element(self, label: str) -> Attribute[Any] | None:
        """Return the attribute that declares the elements of a list; None for a plain list, and for other types."""
        return None

    def verify(self, value: Any) -> None:
        """Raise an error for a value of a change that `encode` takes and that could not be saved or read."""
        problem = self.problem(value) if self.checks_writes and value is not None else None
        if problem is not None:
            raise problem

    def minted_between(self, start: datetime, end: datetime) -> Condition[M]:
        """True if the `default=` strategy generated the value from `start` (included) to `end` (excluded).

        A naive datetime is UTC. On a sort key it is the key condition of `query()`, otherwise a filter. A value counts
        as generated at the start of the second or millisecond that it contains; in a `DateAttribute`, of the day.

        Raises:
            ConfigurationError: the attribute has no strategy that sorts by time.
            InvalidValue: a time is not a datetime, or no value can be generated in the time range.
        """
        auto = self.minted
        if auto is None or auto.strategy is None or not (auto.strategy.sortable or not auto.strategy.is_id):
            raise self._declaration_error(
                "minted_between() needs a default= strategy that sorts by time, such as AutoGenerate.ULID"
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

    def _checked(self, value: Any, label: str | None = None, part: Literal["partition", "sort"] | None = None) -> Any:
        """Return the encoded value in its stored type. Raises an error for a value that a save would refuse."""
        encoded = self.encode(value)
        # The core takes a tuple for a list, because attributes of tuples encode their values as tuples.
        is_loose = self.kind == "list" and isinstance(encoded, tuple) and not self.converts
        return _core.checked("any" if is_loose else self.kind, label, encoded, part)

    def decode(self, stored: Any) -> Any:
        """Return the value of an encoded value. It is called for the `stored_types`."""
        return stored

    @property
    def converts(self) -> bool:
        """Whether values are converted by `encode` and `decode`, and not only by the compiled core."""
        return type(self).encode is not Attribute.encode

    @property
    def fits(self) -> bool:
        """Whether `fitted` and `merged` must be called: the values may be instances of a class."""
        return False

    def fitted(self, value: Any) -> Any:
        """Return the value with instances in place of the dicts that stand for them."""
        return value

    def merged(self, stored: Any, new: Any) -> Any:
        """Return the encoded value `new` with the entries of the `stored` one that its class does not know."""
        return new

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
            raise self._declaration_error(self._misfit(auto))
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
        refused = functools.partial(ConfigurationError, model=self.model, attribute=self.name)
        check_flags(self._label, refused, **self._flags)
        if self._misplaced_on_update is not None:
            raise self._declaration_error(
                f"on_update= takes a strategy such as AutoGenerate.ISO8601 or auto(my_callable), "
                f"not {shortened(self._misplaced_on_update)}"
            )
        if self.default_on_load and self.default is None:
            raise self._declaration_error(
                "default_on_load=True needs a default= that is a value or a function, not a strategy"
            )
        if self.alias is not None and not is_utf8_text(self.alias):
            raise self._declaration_error(f"alias= takes valid UTF-8 text, not {shortened(self.alias)}")
        for auto in (self.minted, self.on_update):
            if auto is not None:
                self.minted_converter(auto)
        if isinstance(self.default, datetime):
            raise self._declaration_error(
                f"default={shortened(self.default)} is one moment for all items: "
                "generate the time of each save with default=AutoGenerate.ISO8601_MS, "
                "or write a fixed moment as a function: default=lambda: datetime(…)"
            )
        is_key = self.partition_key or self.sort_key or self.field_key is not None
        if is_key and isinstance(self.default, str) and self.default in {strategy.value for strategy in AutoGenerate}:
            # Every item would have this text as its key, and each save would overwrite the previous item.
            raise self._declaration_error(
                f"default={self.default!r} is plain text, the same for every item: "
                f"use auto({self.default!r}) or AutoGenerate.{self.default.upper()} to generate a value for each item"
            )
        if self.validators is not None:
            self.validators.check_declaration(self)

    def check_default(self) -> None:
        """Raise `ConfigurationError` for a plain default that cannot be stored. Called after `check_declaration`."""
        if not self.has_constant_default:
            return
        try:
            default = self.new_default()
            # Fields report such a default at the save. Compressing or encrypting one takes long, or a key.
            if not self.is_field and self.tests != "existence":
                self._checked(default, self._label)
            problem = self.refusal(default)
            if problem is not None:
                raise problem
        except CONVERSION_ERRORS as error:
            raise self._declaration_error(
                f"default={shortened(self.default)} cannot be stored: {cause(error)}"
            ) from error

    @property
    def has_constant_default(self) -> bool:
        """Whether all items get the same default."""
        return self.default is not None and not callable(self.default)

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

    def retry_key(self, refused: Any) -> Any:
        """Return another key after a collision; None if `refused` must not be replaced."""
        return self.initial()

    def refusal(self, value: Any) -> Misfit | None:
        """Return why the validators refuse a value that `encode` takes, or None."""
        problem = None if self.validators is None else self.validators.problem(self, value)
        return None if problem is None else Misfit(problem)

    def problem(self, value: Any) -> Misfit | None:
        """Return why a value that `encode` takes must not be written, or None."""
        return self.refusal(value)

    def check_write(self, instance: Any, value: Any, *, changed: bool, pipeline: object) -> None:
        """Called before a write or its adding to a `pipeline`. May refuse a `changed` value with `InvalidValue`."""
        problem = self.problem(value) if changed and value is not None else None
        if problem is not None:
            raise InvalidValue(f"{self._label}: {problem}", model=self.model, attribute=self.name)

    def _unchanged_since(self, row: _core.Item) -> Condition:
        """Return the condition that the encoded value is that of a row, which no store has to understand."""
        seen = row.get(self.stored_name)
        return self.does_not_exist() if seen is None else Condition(self, self._label, self._steps, "==", (seen,))

    def implicit_key(self) -> Attribute[Any]:
        """Return the hidden key of a class of fields without a key."""
        raise NotImplementedError

    def new_default(self) -> Any:
        """Return the plain default for one instance: a callable is called, a mutable value is copied."""
        default = self.default
        return default() if callable(default) else own_copy(default)


if TYPE_CHECKING:

    class ModelAttribute(Attribute[Value, Any, Value, Owner], Generic[Owner, Value]):
        """An attribute of a model, as `Order.total` is one of `Order`."""

else:
    ModelAttribute = Attribute


class Normalized(Attribute[T, V]):
    """An attribute whose values are converted at assignment."""

    def normal(self, value: Any) -> Any:
        """Return a value as it is kept in an instance. Other types are returned unchanged; the save refuses them."""
        raise NotImplementedError

    if not TYPE_CHECKING:

        def __get__(self, instance: Any, owner: type) -> Any:
            # This is a data descriptor (`__set__` converts), so Python calls it also if there is a value.
            if instance is None:
                return self
            value = instance.__dict__.get(self.name)
            if value is not None:
                return value
            state = instance._state
            return None if state is None else self._absent(instance, state)

        def __set__(self, instance: Any, value: Any) -> None:
            instance.__dict__[self.name] = self.normal(value)


def own_copy(value: Any) -> Any:
    """Return a copy of a mutable value, which shares nothing with it."""
    return value if isinstance(value, _IMMUTABLE) else copy.deepcopy(value)


def check_form(attribute: Attribute[Any], given: object, forms: Iterable[str]) -> None:
    """Raise `ConfigurationError` if `stored_as=` is not one of the forms."""
    if given not in tuple(forms):
        raise attribute._declaration_error(f"stored_as= takes {', '.join(map(repr, forms))}, not {shortened(given)}")


def is_utf8_text(value: object) -> bool:
    """Return whether a value is text without lone surrogates."""
    try:
        return isinstance(value, str) and str.encode(value) is not None
    except UnicodeEncodeError:
        return False


def is_whole(value: object) -> bool:
    """Return whether a value is an integer, and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def unconverted(value: Any) -> Any:
    """Return a generated value as it is."""
    return value


def text_only(auto: Auto) -> Callable[[Any], Any] | None:
    """Return the conversion of generated text; None if the strategy generates integers."""
    return unconverted if auto.strategy is not None and auto.strategy.output == "str" else None


def int_only(auto: Auto) -> Callable[[Any], Any] | None:
    """Return the conversion of generated integers; None if the strategy generates text."""
    return unconverted if auto.strategy is not None and auto.strategy.output == "int" else None
