"""Attributes of lists, maps and JSON."""

from __future__ import annotations

import enum
import math
import uuid
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mintkey import _core
from mintkey.attributes.base import Attribute, V, is_utf8_text
from mintkey.attributes.comparing import Misfit, check_depth, difference, is_model, with_unknown
from mintkey.attributes.elements import Element, element_named, scalar_attribute
from mintkey.attributes.members import (
    Part,
    allows_none,
    constraints_of,
    element_of,
    is_annotated,
    no_member,
    part_of,
    without_none,
)
from mintkey.attributes.options import Default, Maybe, Sure
from mintkey.attributes.scalars import BooleanAttribute, NumberAttribute, StringAttribute
from mintkey.attributes.structures import DictOf, SequenceOf, Structure, adapted_structure, json_text, structure_of
from mintkey.attributes.validators import MEASURED, refused_part
from mintkey.errors import CONVERSION_ERRORS, UnreadableItem, cause, shortened

if TYPE_CHECKING:
    from types import UnionType

    from typing_extensions import Unpack

E = TypeVar("E")
T = TypeVar("T")

#: The types whose values are JSON, and are read as they were written.
_JSON = (str, int, float, bool, type(None))
#: The maximum nesting of JSON that is written. `deepcopy` and `pickle` recurse for each level; deeper rows are read.
_JSON_LEVELS = 64
#: The maximum nesting of values of a type, in JSON as in maps. pydantic needs kilobytes of the stack for each level.
MAX_LEVELS = 32


class _Document(Attribute[T, V]):
    """Plain values, or the values of a type, which may be a class."""

    def __init__(self, of: Any, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._structure: Structure | None = None
        self._unfit: str | None = None
        if of is not None:
            try:
                self._structure = structure_of(of)
            except TypeError as error:  # `check_declaration` reports it, with the name of the attribute
                self._unfit = cause(error)

    def check_declaration(self) -> None:
        super().check_declaration()
        if self._unfit is not None:
            raise self._declaration_error(f"{type(self).__name__} takes {self._takes}. {self._unfit}")

    _takes = "a pydantic model, a dataclass, a TypedDict, or lists, dicts and unions of them"

    def _plain(self, structure: Structure, value: Any) -> tuple[Any, Any]:
        """Return a value with instances in place of dicts, and its plain value, which is read as an equal value."""
        check_depth(value, MAX_LEVELS)
        fitted = structure.fitted(value)
        plain = structure.encode(fitted)
        problem = difference(fitted, structure.decode(self._stored_and_read(plain)))
        if problem is not None:
            raise problem
        return fitted, plain

    def _verified(self, stored: Any, known: Any, new: Any, read: Any, written: Any) -> Any:
        """Return `with_unknown`, or the plain value `new` if the result would be read as another value."""
        merged = with_unknown(stored, known, new, read, written)
        try:
            return new if difference(written, self._merged_value(merged)) else merged
        except CONVERSION_ERRORS:
            return new

    def _merged_value(self, plain: Any) -> Any:
        return self.decode(plain)

    def new_default(self) -> Any:
        value = super().new_default()
        if value is None or not self.fits:
            return value
        try:
            return self.fitted(value)
        except CONVERSION_ERRORS:
            return value  # the save refuses it

    def _stored_and_read(self, plain: Any) -> Any:
        """Return a plain value as it is read after it was stored."""
        raise NotImplementedError

    def refusal(self, value: Any) -> Misfit | None:
        return super().refusal(self.fitted(value) if self.validators is not None and self.fits else value)

    @property
    def fits(self) -> bool:
        return self._structure is not None

    def fitted(self, value: Any) -> Any:
        return value if self._structure is None else self._plain(self._structure, value)[0]


class _Collection(_Document[T, V]):
    """Values that are stored as lists and maps. An attribute or a type may declare their elements."""

    def __init__(self, of: Any, elements: Any, **parameters: Any) -> None:
        super().__init__(of, **parameters)
        self._elements: Element | None = None
        if elements is not None:
            try:
                self._elements = Element(_element_attribute(elements))
            except TypeError as error:  # `check_declaration` reports it, with the name of the attribute
                self._unfit = cause(error)
        if self._elements is not None:
            self._structure = SequenceOf(list, self._elements) if self.kind == "list" else DictOf(self._elements)
            self.checks_writes = self.checks_writes or self._elements.attribute.checks_writes

    def check_declaration(self) -> None:
        if self._elements is not None:
            self._elements.check_declaration(self)
        super().check_declaration()

    def has_type_of(self, other: Attribute[Any]) -> bool:
        ours, theirs = self._elements, getattr(getattr(other, "_form", other), "_elements", None)
        if ours is None or theirs is None:
            return ours is theirs and super().has_type_of(other)
        one = ours.attribute
        return super().has_type_of(other) and not one.validators and one.has_type_of(theirs.attribute)

    @property
    def converts(self) -> bool:
        return self._structure is not None

    @property
    def decompresses(self) -> bool:
        return self._elements is not None and self._elements.attribute.decompresses

    @property
    def fits(self) -> bool:
        return super().fits if self._elements is None else self._elements.attribute.fits

    def fitted(self, value: Any) -> Any:
        if self._elements is None or self._structure is None:
            return super().fitted(value)
        return self._structure.fitted(value)

    def encode(self, value: Any) -> Any:
        if self._structure is None:
            return value
        if self._elements is None:
            return self._plain(self._structure, value)[1]
        return self._structure.encode(self._structure.fitted(value))

    def decode(self, stored: Any) -> Any:
        return stored if self._structure is None else self._structure.decode(stored)

    def _stored_and_read(self, plain: Any) -> Any:
        # Without a label, which the caller adds.
        return _core.checked(self.kind, None, plain) if isinstance(plain, (dict, list)) else _core.as_read(plain)

    def merged(self, stored: Any, new: Any) -> Any:
        read = self.decode(stored)
        return self._verified(stored, self.encode(read), new, read, self.decode(new))

    def refusal(self, value: Any) -> Misfit | None:
        problem = super().refusal(value)
        if problem is not None or self._elements is None or not self._elements.attribute.checks_writes:
            return problem
        attribute = self._elements.attribute
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return refused_part((step, attribute, part) for step, part in parts)


class ListAttribute(_Collection[Any, V]):
    """A list. Changes inside it are detected at save.

    Args:
        of: what the elements are: an attribute, such as `DatetimeAttribute()`, or a type, such as `int` or a class.
    """

    kind = "list"
    limits = MEASURED

    @overload
    def __init__(
        self: ListAttribute[list[E] | None], *, of: Attribute[Any, E | None] | type[E], **parameters: Unpack[Maybe]
    ) -> None: ...
    @overload
    def __init__(
        self: ListAttribute[list[E]],
        *,
        of: Attribute[Any, E | None] | type[E],
        **parameters: Unpack[Sure[Default[list[E]]]],
    ) -> None: ...
    @overload
    def __init__(
        self: ListAttribute[list[Any] | None], *, of: UnionType | None = None, **parameters: Unpack[Maybe]
    ) -> None: ...
    @overload
    def __init__(
        self: ListAttribute[list[Any]], *, of: UnionType | None = None, **parameters: Unpack[Sure[Default[list[Any]]]]
    ) -> None: ...
    def __init__(self, *, of: Any = None, **parameters: Any) -> None:
        super().__init__(None, of, **parameters)

    def member(self, label: str, step: object) -> Attribute[Any] | None:
        if self._elements is not None and not isinstance(step, int):
            raise TypeError(f"{label}: an element of a list is found by its index")
        return self.element(label)

    def element(self, label: str) -> Attribute[Any] | None:
        return None if self._elements is None else self._elements.attribute


class MapAttribute(_Collection[Any, V]):
    """A map with text keys: a `dict`, or an instance of a nested class.

    Args:
        nested: an abstract model (`ModelConfig(abstract=True)`), a dataclass, a pydantic model, a TypedDict, or a list,
            dict or union of them. Values are its instances. A dict that fits becomes an instance when it is saved.
        of: what the values of the entries are: an attribute, such as `DatetimeAttribute()`, or a type, such as `int` or
            a class.
    """

    kind = "map"
    _takes = f"an abstract model, {_Document._takes[2:]}"

    @overload
    def __init__(self: MapAttribute[T | None], nested: type[T], **parameters: Unpack[Maybe]) -> None: ...
    @overload
    def __init__(
        self: MapAttribute[T], nested: type[T], **parameters: Unpack[Sure[Default[T] | Mapping[str, Any]]]
    ) -> None: ...
    @overload
    def __init__(
        self: MapAttribute[dict[str, E] | None], *, of: Attribute[Any, E | None] | type[E], **parameters: Unpack[Maybe]
    ) -> None: ...
    @overload
    def __init__(
        self: MapAttribute[dict[str, E]],
        *,
        of: Attribute[Any, E | None] | type[E],
        **parameters: Unpack[Sure[Default[dict[str, E]]]],
    ) -> None: ...
    @overload
    def __init__(
        self: MapAttribute[dict[str, Any] | None], *, of: UnionType | None = None, **parameters: Unpack[Maybe]
    ) -> None: ...
    @overload
    def __init__(
        self: MapAttribute[dict[str, Any]],
        *,
        of: UnionType | None = None,
        **parameters: Unpack[Sure[Default[dict[str, Any]]]],
    ) -> None: ...
    @overload
    def __init__(self: MapAttribute[Any], nested: Any, **parameters: Unpack[Sure[Any]]) -> None: ...
    def __init__(self, nested: Any = None, *, of: Any = None, **parameters: Any) -> None:
        self._schema = nested.__mintkey_schema__ if is_model(nested) else None
        self._adapted = False
        super().__init__(None if self._schema is not None else nested, of, **parameters)
        self.nested = nested
        if nested is not None and of is not None:
            self._unfit = "Pass either the class of the whole map, or of= for the values of its entries"
        if self._structure is not None:
            self.kind = self._structure.kind
        if nested is None:
            self.limits = MEASURED
        if self._schema is not None and self._schema.checked:
            self.checks_writes = True

    def check_declaration(self) -> None:
        if self._structure is not None and self._structure.is_scalar:
            self._unfit = f"{shortened(self.nested)} is neither a map nor a list"
        super().check_declaration()
        if self._schema is not None and self._schema.saved_strategies:
            late = self._schema.saved_strategies
            raise self._declaration_error(
                f"{self._schema.model}.{late[0]} would never be generated, because only whole items are "
                'saved: generate it at construction with auto(…, when="init")'
            )
        if self._schema is not None:
            names = [f".{name}" for name, attribute in self._schema.attributes.items() if attribute.unique]
            names += [".model_config"] if self._schema.config.unique else []
            for name in names:
                raise self._declaration_error(
                    f"{self._schema.model} declares unique values, and only those of whole items can be "
                    f"unique: remove unique= from {self._schema.model}{name}"
                )

    def member(self, label: str, step: object) -> Attribute[Any] | None:
        if self._schema is not None:
            found = self._schema.attributes.get(step) if isinstance(step, str) else None
            if found is None:
                raise TypeError(f"{label}: {no_member(self._schema.model, step, self._schema.shown)}")
            return found  # type: ignore[no-any-return]
        if self._elements is not None:
            if not isinstance(step, str):
                raise TypeError(f"{label}: an entry of a map is found by its key")
            return element_named(self._elements.attribute, step)
        return None if self.nested is None else _attribute_of(part_of(self.nested, label, step, adapted=self._adapted))

    def element(self, label: str) -> Attribute[Any] | None:
        of = None if self._schema is not None or self.nested is None else element_of(self.nested)
        return None if of is None else self.member(label, 0)

    @property
    def unverified(self) -> str | None:
        given = super().unverified
        return given if given or self._schema is not None or self.nested is None else constraints_of(self.nested)

    def refusal(self, value: Any) -> Misfit | None:
        problem = super().refusal(value)
        if problem is not None or self._schema is None:
            return problem
        values = self.fitted(value).__dict__
        given = ((attribute, values.get(attribute.name)) for attribute in self._schema.checked)
        return refused_part((attribute.name, attribute, part) for attribute, part in given)

    @property
    def converts(self) -> bool:
        return self._schema is not None or super().converts

    @property
    def decompresses(self) -> bool:
        return self._schema.decompresses if self._schema is not None else super().decompresses

    @property
    def fits(self) -> bool:
        return self._schema is not None or super().fits

    def fitted(self, value: Any) -> Any:
        if self._schema is not None:
            return self.nested(**value) if isinstance(value, dict) else value
        return super().fitted(value)

    def encode(self, value: Any) -> Any:
        if self._schema is None:
            return super().encode(value)
        value = self.fitted(value)
        if not isinstance(value, self.nested):
            raise TypeError(f"expected {self.nested.__name__} or dict, got {type(value).__name__}")
        if type(value) is not self.nested:
            name = self.nested.__name__
            raise TypeError(f"expected {name}, got its subclass {type(value).__name__}, which is read as {name}")
        return self._schema.codec.plain(value.__dict__)

    def decode(self, stored: Any) -> Any:
        if self._schema is not None:
            try:
                return self._schema.nested_instance(self.nested, stored)
            except UnreadableItem as error:
                # The caller names the item, and the path the attribute of the nested class.
                reason = error.__cause__
                if isinstance(reason, Misfit):
                    raise Misfit(reason.reason, (error.attribute, *reason.path)) from reason
                raise Misfit(cause(reason), (error.attribute,)) from reason
        return super().decode(stored)


class _Part(MapAttribute):
    """A part of a structured value."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.hint, required=part.required)
        self._adapted = part.adapted
        if part.adapted and self._schema is None:
            self._structure = adapted_structure(part.hint)
            self.kind = self._structure.kind
        hint = without_none(part.hint)
        if hint is Decimal and part.adapted:
            # It is stored as text, and equal numbers may be other texts.
            self.tests = "existence"
        elif not (isinstance(hint, type) and (hint in _ORDERED or issubclass(hint, enum.Enum))):
            self.tests = "unordered"

    @property
    def described(self) -> str:
        return f"{shortened(self.nested)} stored by pydantic"


class _Unknown(Attribute[Any]):
    """A part of which any value is stored as it is."""

    empty_is_absent = True

    def member(self, label: str, step: object) -> Attribute[Any] | None:
        return None


class _Scalar(Attribute[Any]):
    """A part of a structured value that is stored as an attribute stores it. Changes are checked as in a save."""

    structure: Structure
    constraints: str | None = None
    nested: Any = None

    @property
    def unverified(self) -> str | None:
        return self.constraints

    def verify(self, value: Any) -> None:
        self.structure.fitted(value)


class _Text(_Scalar, StringAttribute):
    """Text."""


class _Number(_Scalar, NumberAttribute):
    """A number."""


class _Boolean(_Scalar, BooleanAttribute):
    """A boolean."""


#: The types that are stored as attributes store them, by pydantic too.
_SCALARS: dict[Any, type[_Scalar]] = {
    str: _Text,
    int: _Number,
    float: _Number,
    bool: _Boolean,
}
#: Further types whose stored values have the order of the values.
_ORDERED = (date, Decimal, uuid.UUID)


def _attribute_of(part: Part | None) -> Attribute[Any] | None:
    """Return an attribute that declares a part."""
    if part is None:
        return None
    hint, constraints = without_none(part.hint), constraints_of(part.hint)
    scalar = _SCALARS.get(hint) if isinstance(hint, type) else None
    attribute: Attribute[Any]
    if scalar is not None:
        attribute = scalar(required=part.required)
        structure = adapted_structure if part.adapted and constraints else structure_of
        attribute.structure = structure(part.hint if constraints else hint)
        attribute.constraints, attribute.nested = constraints, part.hint
    elif hint in (Any, object):
        attribute = _Unknown(required=part.required)
    else:
        attribute = _Part(part)
    attribute.__set_name__(_Part, part.name)
    attribute.guard = part.guard
    attribute.keeps_none = allows_none(part.hint)
    return attribute


def _element_attribute(of: Any) -> Attribute[Any]:
    """Return the attribute that `of=` declares. Raises `TypeError` if it declares none."""
    if isinstance(of, Attribute):
        return of
    if isinstance(of, type) and issubclass(of, Attribute):
        raise TypeError(f"Write of={of.__name__}(), with parentheses")
    if is_annotated(of):
        raise TypeError("Annotated is not checked in of=: write an attribute, such as of=StringAttribute(min_length=1)")
    hint = without_none(of)
    attribute = scalar_attribute(hint)
    if attribute is None:
        attribute = (
            _Unknown()
            if hint in (Any, object)
            else ListAttribute()
            if hint is list
            else MapAttribute(None if hint is dict else hint)
        )
    attribute.keeps_none = allows_none(of)
    return attribute


class JSONAttribute(_Document[Any, V]):
    """Any JSON value (RFC 8259), stored as text.

    Args:
        model_class: a pydantic model, a dataclass, a TypedDict, or a list, dict or union of them. Values are its
            instances. A dict that fits becomes an instance when it is saved.
    """

    kind = "string"
    reads = "JSON as text"
    tests = "equality"

    @overload
    def __init__(self: JSONAttribute[E | None], model_class: type[E], **parameters: Unpack[Maybe]) -> None: ...
    @overload
    def __init__(
        self: JSONAttribute[E], model_class: type[E], **parameters: Unpack[Sure[Default[E] | Mapping[str, Any]]]
    ) -> None: ...
    @overload
    def __init__(
        self: JSONAttribute[Any | None], model_class: UnionType | None = None, **parameters: Unpack[Maybe]
    ) -> None: ...
    @overload
    def __init__(
        self: JSONAttribute[Any], model_class: UnionType | None = None, **parameters: Unpack[Sure[Any]]
    ) -> None: ...
    def __init__(self, model_class: Any = None, **parameters: Any) -> None:
        super().__init__(model_class, **parameters)
        self.model_class = model_class

    def encode(self, value: Any) -> str:
        if self._structure is None:
            _check_json(value, _JSON)
            return json_text(value)
        return json_text(self._plain(self._structure, value)[1])

    def decode(self, stored: Any) -> Any:
        import json

        try:
            plain = json.loads(stored)
        except json.JSONDecodeError as error:
            raise ValueError(f"it is not JSON: {error}") from error
        if self._structure is None or plain is None:
            return plain
        check_depth(plain, MAX_LEVELS)
        return self._structure.decode(plain)

    def _stored_and_read(self, plain: Any) -> Any:
        import json

        _check_json(plain, (*_JSON, Decimal))
        return json.loads(json_text(plain))

    def merged(self, stored: Any, new: Any) -> Any:
        import json

        read = self.decode(stored)
        known = json.loads(self.encode(read))
        return json_text(self._verified(json.loads(stored), known, json.loads(new), read, self.decode(new)))

    def _merged_value(self, plain: Any) -> Any:
        return self.decode(json_text(plain))


def _check_json(value: Any, allowed: tuple[type, ...]) -> None:
    """Raise `Misfit` for a value that JSON would change, such as a tuple, which is read as a list."""
    parts: list[tuple[Any, tuple[Any, ...]]] = [(value, ())]
    while parts:
        part, path = parts.pop()
        if len(path) > _JSON_LEVELS:
            raise Misfit(f"the value nests deeper than {_JSON_LEVELS} levels", path)
        if isinstance(part, dict):
            for name, item in dict.items(part):
                if not isinstance(name, str):
                    raise Misfit(f"the keys of a JSON object are str, got {shortened(name)}", path)
                _check_text(name, path)
                parts.append((item, (*path, name)))
        elif isinstance(part, str):
            _check_text(part, path)
        elif isinstance(part, list):
            parts.extend((item, (*path, index)) for index, item in enumerate(part))
        elif isinstance(part, float) and not math.isfinite(part):
            raise Misfit(f"{part!r} is not a JSON number: NaN and infinity cannot be stored", path)
        elif not isinstance(part, allowed):
            raise Misfit(
                f"{type(part).__name__} is not a JSON type: use str, int, float, bool, None, list or dict", path
            )


def _check_text(text: str, path: tuple[Any, ...]) -> None:
    if not str.isascii(text) and not is_utf8_text(text):
        raise Misfit("the text has a lone surrogate, which UTF-8 cannot hold", path)
