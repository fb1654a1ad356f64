"""The base class of all fields, and the mixins of key fields and sorted fields."""

from __future__ import annotations

import builtins
import inspect
import logging
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast, overload

from mintkey import _core
from mintkey.attributes import Attribute, StringAttribute
from mintkey.attributes.base import V
from mintkey.attributes.comparing import Misfit
from mintkey.attributes.options import Default, MaybeField, SortedOptions, SureField, Texts
from mintkey.errors import CONVERSION_ERRORS, InvalidValue, cause, check_flags, shortened
from mintkey.fields.forms import (
    FORMS,
    OPTIONS,
    form_of,
    form_with,
)
from mintkey.generators import Auto

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack
    from typing_extensions import TypeVar as DefaultingTypeVar

    Mixed = DefaultingTypeVar("Mixed", default=Any)
else:
    Mixed = TypeVar("Mixed")

X = TypeVar("X")
Container = TypeVar("Container", "list[Any]", "dict[Any, Any]", "set[Any]", "tuple[Any, ...]")

_log = logging.getLogger("mintkey.fields")
# Without this handler, Python would print errors to stderr if the program has not configured logging.
logging.getLogger("mintkey").addHandler(logging.NullHandler())


def overridden(field: type, method: str) -> bool:
    """Return whether a class outside of this package overrides the method."""
    return any(method in vars(base) for base in field.__mro__ if not base.__module__.startswith("mintkey.fields."))


class Field(Attribute[Any, V]):
    """A named value of a model.

    >>> from mintkey import Model
    >>> class Person(Model):
    ...     name = Field(null=False, max_length=100)
    ...     age = Field(type=int)
    ...     tags = Field(type=list, default=[])
    >>> Person(name="Ada", age=36).tags
    []

    Args:
        type: the type of the values: `str`, `int`, `float`, `bool`, `bytes`, `list`, `tuple`, `dict`, `set`, `Decimal`,
            `datetime`, `date`, `time`, `uuid.UUID` or an `Enum` class.
        null: whether an item may be saved without a value.
        default: a plain value (copied for each instance) or a callable, applied at construction; or a strategy.
        max_length: the maximum number of characters, bytes or elements.
        on_update: a strategy that generates a new value on each write that changes a stored item.
        alias: the name in the store, if it differs from the field's name.
        stored_as: the form of the text of a `datetime`, `date` or `uuid.UUID` in the store, as in their attributes.
        of: what the elements of a `list`, or the values of a `dict`, are: an attribute or a type.
        unique: no two items have the same value. A write of a second one raises `UniqueViolation`.
        description: a description for people and schema tools.
        default_on_load: set the plain default also on loaded items that lack the field.
        min: the least value that can be written. Values that are read are never validated.
        max: the greatest value.
        min_length: the minimum number of characters, bytes or elements.
        pattern: a regular expression that must match the whole text.
        choices: the only values that can be written.
        validate: a function that is called with each value. It refuses the value by raising a `ValueError` or returning
            False.

    A subclass may set `type`, `null` and `max_length` in its body, and override `is_valid` and `on_save`. An invalid
    declaration raises `ConfigurationError` when the model class is defined.
    """

    is_field = True
    #: The hidden key of a class of fields without a key. The module of key fields sets it.
    _hidden_key: ClassVar[type[Attribute[Any]]]

    type: Any = str
    null: bool = True
    max_length: int | None = None

    @overload
    def __init__(
        self: Field[Container | None], type: builtins.type[Container], **parameters: Unpack[MaybeField]
    ) -> None: ...
    @overload
    def __init__(
        self: Field[Container], type: builtins.type[Container], **parameters: Unpack[SureField[Default[Container]]]
    ) -> None: ...
    @overload
    def __init__(self: Field[X | None], type: builtins.type[X], **parameters: Unpack[MaybeField]) -> None: ...
    @overload
    def __init__(self: Field[str | None], **parameters: Unpack[MaybeField]) -> None: ...
    @overload
    def __init__(self: Field[X], type: builtins.type[X], **parameters: Unpack[SureField[Any]]) -> None: ...
    @overload
    def __init__(self: Field[str], **parameters: Unpack[SureField[Default[str] | Texts]]) -> None: ...
    @overload
    def __init__(self, **parameters: Unpack[SureField[Any]]) -> None: ...  # a subclass with a type of its own
    def __init__(
        self,
        type: builtins.type[Any] | None = None,
        null: bool | None = None,
        default: Any = None,
        max_length: int | None = None,
        *,
        on_update: Any = None,
        alias: str | None = None,
        stored_as: str | None = None,
        of: Any = None,
        unique: bool | None = None,
        description: str | None = None,
        default_on_load: bool = False,
        min: Any = None,
        max: Any = None,
        min_length: int | None = None,
        pattern: str | re.Pattern[str] | None = None,
        choices: Iterable[Any] | None = None,
        validate: Callable[[Any], object] | None = None,
    ) -> None:
        if type is not None:
            self.type = type
        if null is not None:
            self.null = null
        #: Whether `null=True` was passed: a key is never absent.
        self.nullable = null is True
        if max_length is not None:
            self.max_length = max_length
        super().__init__(
            default=default,
            on_update=on_update,
            required=not self.null,
            alias=alias,
            unique=self.unique if unique is None else unique,
            description=description,
            default_on_load=default_on_load,
            min=min,
            max=max,
            min_length=min_length,
            max_length=self.max_length,
            pattern=pattern,
            choices=choices,
            validate=validate,
        )
        self._flags["null"] = self.null
        form = form_of(self.type)
        self._known = form is not None
        self._form: Attribute[Any] = form or StringAttribute()
        self._misplaced = ""
        for option, given in (("stored_as", stored_as), ("of", of)):
            if given is not None:
                made = form_with(self.type, option, given)
                self._form, self._misplaced = (self._form, option) if made is None else (made, self._misplaced)
        self.kind = self._form.kind
        self.empty_is_absent = self._form.empty_is_absent
        self.stored_types = self._form.stored_types
        self.reads = self._form.reads
        self.key_kind = self._form.key_kind
        self.tests = self._form.tests
        self.cut = self._form.cut
        self.limits = self._form.limits
        self._validates = overridden(builtins.type(self), "is_valid")
        self._observes_saves = overridden(builtins.type(self), "on_save")
        self.checks_writes |= self._validates or self._observes_saves or self._form.checks_writes

    def copied(self, owner: builtins.type) -> Self:
        copied = super().copied(owner)
        copied._form = self._form.copied(owner)
        return copied

    def __set_name__(self, owner: builtins.type[Any], name: str) -> None:
        super().__set_name__(owner, name)
        self._form.__set_name__(owner, name)

    if not TYPE_CHECKING:

        def __get__(self, instance: Any, owner: builtins.type) -> Any:
            return self if instance is None else self._form.__get__(instance, owner)

    def check_declaration(self) -> None:
        if not self._known:
            raise self._declaration_error(
                f"type={shortened(self.type)} is not a type that a field can store: "
                f"use {', '.join(kind.__name__ for kind in FORMS)} or an Enum class"
            )
        if self._misplaced:
            takers = ", ".join(kind.__name__ for kind in OPTIONS[self._misplaced])
            raise self._declaration_error(
                f"{self._misplaced}= is for the types {takers}, and this field has the type {self.type.__name__}"
            )
        self._form.check_declaration()
        role = "part of a key" if self.field_key else "indexed" if self.value_indexed else None
        role = role or (None if self.sorted_within is None else "sorted")
        if role is not None and self.key_kind is None:
            raise self._declaration_error(
                f"values of type {self.type.__name__} cannot be {role}: "
                "use str, int, float, Decimal, bytes, datetime, date, time or uuid.UUID"
            )
        for method in ("is_valid", "on_save", "get_new_auto_key_value"):
            if inspect.iscoroutinefunction(getattr(self, method, None)):
                raise self._declaration_error(f"{method}() is also called by blocking calls, and cannot be `async def`")
        super().check_declaration()

    # Values are encoded by the attribute of the type.

    def encode(self, value: Any) -> Any:
        return self._form.encode(value)

    def decode(self, stored: Any) -> Any:
        return self._form.decode(stored)

    @property
    def converts(self) -> bool:
        own = type(self)
        return self._form.converts or own.encode is not Field.encode or own.decode is not Field.decode

    def has_type_of(self, other: Attribute[Any]) -> bool:
        return self._form.has_type_of(other)

    def from_minted(self, auto: Auto) -> Callable[[Any], Any] | None:
        return self._form.from_minted(auto)

    @property
    def fits(self) -> bool:
        return self._form.fits

    def fitted(self, value: Any) -> Any:
        return self._form.fitted(value)

    def merged(self, stored: Any, new: Any) -> Any:
        return self._form.merged(stored, new)

    @property
    def decompresses(self) -> bool:
        return self._form.decompresses

    def element(self, label: str) -> Attribute[Any] | None:
        return self._form.element(label)

    def refusal(self, value: Any) -> Misfit | None:
        return super().refusal(value) or self._form.refusal(value)

    def member(self, label: str, step: object) -> Attribute[Any] | None:
        if self.type not in {list, tuple, dict}:
            raise TypeError(f"{label}: {self._label} has the type {self.type.__name__}, which has no elements")
        return self._form.member(label, step)

    @property
    def unverified(self) -> str | None:
        if self._validates:
            return f"{type(self).__name__}.is_valid() checks whole values"
        return super().unverified or self._form.unverified

    # Validation, and notification of writes.

    @classmethod
    def is_valid(cls, field: Field[Any], value: Any, null_check: bool = True, **kwargs: Any) -> bool:  # noqa: ARG003 - a subclass may want it
        """Return whether a value can be saved. The reason why not is logged at ERROR on `mintkey.fields`.

        Args:
            field: the field.
            value: the value.
            null_check: whether `None` is checked against `null=`. If False, `None` is valid.
            kwargs: for subclasses.
        """
        check_flags(field._label, null_check=null_check)
        problem = field._problem(value, null_check)
        if problem is not None:
            _log.error("%s", problem)
        return problem is None

    def _problem(self, value: Any, null_check: bool) -> str | None:
        """Return why a value cannot be saved, or None."""
        if value is None:
            return f"{self._label}: a value is required (null=False)" if null_check and not self.null else None
        try:
            _core.checked(self.kind, self._label, self.encode(value))
        except InvalidValue as error:
            return str(error)
        except CONVERSION_ERRORS as error:
            return f"{self._label}: {cause(error)}"
        refused = self.refusal(value)
        return None if refused is None else f"{self._label}: {refused}"

    @classmethod
    def on_save(  # the parameters are for subclasses
        cls,
        model_instance: Any,  # noqa: ARG003
        field_name: str,  # noqa: ARG003
        field_value: Any,  # noqa: ARG003
        pipeline: Any = None,
        **kwargs: Any,  # noqa: ARG003
    ) -> Any:
        """Called before an instance is written. Returns the pipeline.

        Args:
            model_instance: the instance.
            field_name: the name of the field.
            field_value: the value; None if it is absent.
            pipeline: the pipeline that will send the write, or None.
            kwargs: for subclasses.
        """
        return pipeline

    def problem(self, value: Any) -> Misfit | None:
        refused = super().problem(value)
        if not self._validates and refused is None:
            return None
        field = type(self)
        try:
            if field.is_valid(self, value):
                return None
        except CONVERSION_ERRORS as error:
            return Misfit(f"{field.__name__}.is_valid() refuses {shortened(value)}: {cause(error)}")
        # The value was encoded before, so only a validator or a subclass can be the reason.
        return refused or Misfit(f"{field.__name__}.is_valid() returned False for {shortened(value)}")

    def check_write(self, instance: Any, value: Any, *, changed: bool, pipeline: object) -> None:
        super().check_write(instance, value, changed=changed, pipeline=pipeline)
        if self._observes_saves and instance is not None:
            type(self).on_save(instance, self.name, value, pipeline=pipeline)

    def implicit_key(self) -> Attribute[Any]:
        return self._hidden_key()


if TYPE_CHECKING:

    class FilledField(Field[Mixed]):
        """A field of which a complete item always has a value."""

        def __init__(self, type: builtins.type[Mixed] | None = None, **parameters: Unpack[SureField[Any]]) -> None: ...

else:
    FilledField = Field


class KeyFieldMixin(FilledField[Mixed]):
    """Makes a field the key, or a part of it.

    A single key field is the partition key; several form one compound key. Next to an `AutoKeyField` or a
    `UniqueKeyField`, which is the whole key, it is an indexed value.
    """

    field_key: Literal["whole", "part"] | None = "part"
    value_indexed = True


class SortedFieldMixin(FilledField[Mixed]):
    """Adds a sorted index on the field, for ranges and `order_by`.

    Args:
        partition_by: the name of one or several fields that partition the index. Lookups must include them.
    """

    null = False
    partition_by: tuple[str, ...] = ()

    def __init__(
        self,
        type: builtins.type[Mixed] | None = None,
        partition_by: str | Iterable[str] | None = None,
        null: bool | None = None,
        **parameters: Unpack[SortedOptions],
    ) -> None:
        named: Any = parameters
        super().__init__(type=cast("Any", type), null=null, **named)
        names = self.partition_by if partition_by is None else partition_by
        self.partition_by = (names,) if isinstance(names, str) else tuple(names)
        self.sorted_within = self.partition_by

    def check_declaration(self) -> None:
        super().check_declaration()
        for name in self.partition_by:
            if not isinstance(name, str):
                raise self._declaration_error(f"partition_by= takes names of fields, not {shortened(name)}")
        if self.name in self.partition_by or len(set(self.partition_by)) < len(self.partition_by):
            raise self._declaration_error(
                f"partition_by={shortened(self.partition_by)} must name other fields, each once"
            )
