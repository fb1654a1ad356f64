"""The JSON of attributes: `form_of` returns how the values of an attribute are written and read in JSON.

In lists and maps whose elements are not declared, a value that JSON lacks is an object with one entry, whose name
begins with one `$`, such as `{"$B": "AAE="}` for bytes. Other names that begin with `$` have one more there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn
from uuid import UUID

from mintkey import attributes as kinds
from mintkey._core import as_read
from mintkey.attributes.base import Attribute
from mintkey.attributes.comparing import at
from mintkey.attributes.containers import SetAttribute
from mintkey.attributes.iso import as_utc, parse_iso, parse_time
from mintkey.errors import CONVERSION_ERRORS, InvalidValue, cause, shortened

#: The types of the values of JSON.
JSON_TYPES = frozenset({str, int, float, bool, list, dict})

_MICROSECOND = timedelta(microseconds=1)
_DURATION = re.compile(r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,6}))?S)?)?", re.ASCII)


class Form:
    """How the values of an attribute are written in JSON."""

    def __init__(self, attribute: Attribute[Any]) -> None:
        self.attribute: Any = attribute

    def write(self, value: Any) -> Any:
        """Return the JSON of a value. Raises a conversion error for a value of another type."""
        raise NotImplementedError

    def read(self, plain: Any) -> Any:
        """Return the value of its JSON. Raises a conversion error if it does not fit."""
        raise NotImplementedError

    def dump(self, value: Any, dump: Callable[[Any], Any]) -> Any:
        """Return the value of Python for a dump. `dump` is pydantic's conversion."""
        return dump(value)


def _expected(what: str, given: Any) -> TypeError:
    return TypeError(f"expected {what}, got {type(given).__name__}")


class TypedForm(Form):
    """Values of one type, such as text or a datetime."""

    def __init__(self, attribute: Attribute[Any], kind: type) -> None:
        super().__init__(attribute)
        self.kind = kind
        self._subtype: Any = {int: bool, date: datetime}.get(kind, ())
        self._write, self._read = _CONVERSIONS[kind]

    def write(self, value: Any) -> Any:
        if not isinstance(value, self.kind) or isinstance(value, self._subtype):
            raise _expected(self.kind.__name__, value)
        return self._write(value)

    def read(self, plain: Any) -> Any:
        return self._read(plain)


def _only(kind: type) -> Callable[[Any], Any]:
    def checked(plain: Any) -> Any:
        if type(plain) is not kind:
            raise _expected(kind.__name__, plain)
        return plain

    return checked


def _of_text(convert: Callable[[str], Any]) -> Callable[[Any], Any]:
    def converted(plain: Any) -> Any:
        if not isinstance(plain, str):
            raise _expected("text", plain)
        return convert(plain)

    return converted


def _decimal(plain: Any) -> Decimal:
    if isinstance(plain, bool) or not isinstance(plain, (int, float, str, Decimal)):
        raise _expected("a number, or its text", plain)
    try:
        return Decimal(repr(plain) if isinstance(plain, float) else plain)
    except InvalidOperation:
        raise ValueError(f"{shortened(plain)} is not a number") from None


def _duration_text(value: timedelta) -> str:
    microseconds = abs(value // _MICROSECOND)
    seconds, rest = divmod(microseconds, 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    text = (f"{days}D" if days else "") + (f"T{seconds}{fraction}S" if seconds or rest or not days else "")
    return f"{'-' if value < timedelta(0) else ''}P{text}"


def _duration(plain: Any) -> timedelta:
    if isinstance(plain, (int, float)) and not isinstance(plain, bool):
        return timedelta(seconds=plain)
    if not isinstance(plain, str):
        raise _expected("text", plain)
    found = _DURATION.fullmatch(plain)
    if found is None or plain.endswith(("P", "T")):
        raise ValueError(f"{shortened(plain)} is not an ISO 8601 duration, such as PT90S")
    sign, days, hours, minutes, seconds, fraction = found.groups()
    value = timedelta(
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=int(seconds or 0),
        microseconds=int((fraction or "").ljust(6, "0")),
    )
    return -value if sign else value


_CONVERSIONS: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    str: (str.__str__, _only(str)),
    bool: (bool, _only(bool)),
    int: (int, _only(int)),
    Decimal: (Decimal.__str__, _decimal),
    UUID: (UUID.__str__, _of_text(UUID)),
    date: (date.isoformat, _of_text(lambda text: parse_iso(text).date())),
    time: (time.isoformat, _of_text(parse_time)),
    timedelta: (_duration_text, _duration),
}


class DatetimeForm(Form):
    """Points in time, as ISO 8601 text in UTC."""

    def write(self, value: Any) -> Any:
        if not isinstance(value, datetime):
            raise _expected("datetime", value)
        return as_utc(value).isoformat().replace("+00:00", "Z")

    def read(self, plain: Any) -> Any:
        return as_utc(_of_text(parse_iso)(plain))


class NumberForm(Form):
    """Numbers: JSON numbers, and text for a Decimal that is not a float."""

    def write(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
            raise _expected("a number", value)
        read = value if isinstance(value, int) else as_read(value)
        if isinstance(read, Decimal):
            return Decimal.__str__(read)
        return value if isinstance(value, float) else read

    def read(self, plain: Any) -> Any:
        if isinstance(plain, bool):
            raise _expected("a number", plain)
        return self.attribute.decode(as_read(_decimal(plain)) if isinstance(plain, str) else plain)


def _bytes(plain: Any) -> bytes:
    if not isinstance(plain, str):
        raise _expected("base64", plain)
    return base64.b64decode(plain, validate=True)


class BytesForm(Form):
    """Bytes, as base64."""

    def write(self, value: Any) -> Any:
        if not isinstance(value, (bytes, bytearray)):
            raise _expected("bytes", value)
        return base64.b64encode(value).decode()

    def read(self, plain: Any) -> Any:
        return _bytes(plain)


class EnumForm(Form):
    """Members of an Enum class, as their values: Decimals as text, bytes as base64."""

    def __init__(self, attribute: kinds.EnumAttribute[Any]) -> None:
        super().__init__(attribute)
        kind: Any = attribute.enum_class
        self.enum_class = kind
        #: The JSON of all members.
        self.values = [_member_json(member.value) for member in kind]
        members = list(kind)
        self._members = {(type(one), one): member for one, member in zip(self.values, members, strict=True)}
        if len(self._members) < len(self.values):
            raise TypeError(f"members of {self.enum_class.__name__} have the same JSON")

    @property
    def is_plain(self) -> bool:
        """Whether the values of all members are text or integers."""
        return all(type(member.value) in {str, int} for member in self.enum_class)

    def write(self, value: Any) -> Any:
        return _member_json(self.attribute.encode(value))

    def read(self, plain: Any) -> Any:
        member = self._members.get((type(plain), plain)) if isinstance(plain, (str, int, float)) else None
        if member is not None:
            return member
        try:
            # The class may know more values: combinations of flags, or those of its `_missing_` method.
            return self.enum_class(plain)
        except ValueError:
            raise ValueError(f"expected one of {shortened(self.values)}, got {shortened(plain)}") from None


def _member_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal.__str__(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


class UntypedForm(Form):
    """Lists and maps whose elements are not declared."""

    def write(self, value: Any) -> Any:
        return _tagged(self.attribute._checked(value))

    def dump(self, value: Any, dump: Callable[[Any], Any]) -> Any:
        """Return a value of Python that `read` takes for this one, not for JSON: names like `$B` have one more `$`."""
        return _with_escaped_names(value)

    def read(self, plain: Any) -> Any:
        return self.attribute.decode(untagged(plain))


class StoredForm(UntypedForm):
    """Values that an attribute type of another module converts: the encoded ones."""

    def dump(self, value: Any, dump: Callable[[Any], Any]) -> Any:
        return self.write(value) if type(value) in JSON_TYPES else value


class OwnForm(Form):
    """Values of an attribute type with its own methods `to_plain` and `from_plain`."""

    def write(self, value: Any) -> Any:
        return self.attribute.to_plain(value)

    def read(self, plain: Any) -> Any:
        return self.attribute.from_plain(plain)


def _tagged(value: Any) -> Any:
    """Return the JSON of a plain value, in which values that JSON lacks are tagged."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, dict):
        return {_escaped_name(name, value): at(name, _tagged, item) for name, item in value.items()}
    if isinstance(value, list):
        return [at(index, _tagged, item) for index, item in enumerate(value)]
    if isinstance(value, (bytes, bytearray)):
        return {"$B": base64.b64encode(value).decode()}
    if isinstance(value, (set, frozenset)):
        return {"$S": sorted((_tagged(one) for one in value), key=repr)}
    if isinstance(value, (int, float, Decimal)):
        read = as_read(value)
        return {"$N": Decimal.__str__(read)} if isinstance(read, Decimal) else read
    raise _expected("text, a number, a boolean, bytes, None, a list, a dict or a set", value)


def _with_escaped_names(value: Any) -> Any:
    """Return a dumped value in which no name is taken for that of a tagged value."""
    if type(value) in {list, tuple}:
        return type(value)(_with_escaped_names(one) for one in value)
    if not isinstance(value, dict):
        return value
    return {
        _escaped_name(name, value) if isinstance(name, str) else name: _with_escaped_names(one)
        for name, one in value.items()
    }


def _escaped_name(name: Any, value: dict[Any, Any]) -> str:
    """Return a name of a dict, with one more `$` if it would be taken for a tag or for an escaped name."""
    if not isinstance(name, str):
        raise _expected("a name of type str", name)
    return f"${name}" if name.startswith("$$") or (len(value) == 1 and name in _TAGS) else name


def _set(plain: Any, read: Callable[[Any], Any]) -> set[Any]:
    if not isinstance(plain, list):
        raise _expected("a list", plain)

    def member(plain: Any) -> Any:
        value = read(plain)
        if isinstance(value, (list, dict, set)):
            raise _expected("text, a number or bytes", value)
        return value

    return {at(index, member, one) for index, one in enumerate(plain)}


_TAGS: dict[str, Callable[[Any], Any]] = {
    "$B": _bytes,
    "$N": _of_text(_decimal),
    "$S": lambda plain: _set(plain, untagged),
}


def untagged(plain: Any) -> Any:
    """Return the plain value that `_tagged()` wrote, or that a dump with escaped names stands for."""
    if type(plain) in {list, tuple}:
        return type(plain)(at(index, untagged, item) for index, item in enumerate(plain))
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1:
        ((tag, content),) = plain.items()
        if tag in _TAGS:
            return at(tag, _TAGS[tag], content)
    return {
        name[1:] if isinstance(name, str) and name.startswith("$$") else name: at(name, untagged, item)
        for name, item in plain.items()
    }


#: The attribute of the elements of each kind of set.
_ELEMENTS: dict[str, Callable[[], Attribute[Any]]] = {
    "string_set": kinds.StringAttribute,
    "number_set": kinds.NumberAttribute,
    "binary_set": kinds.BinaryAttribute,
}


def _order(written: Any) -> tuple[bool, float, str]:
    """Return the position of a written element: numbers by value, then the others by their text."""
    return (False, written, "") if isinstance(written, (int, float)) else (True, 0, repr(written))


class SetForm(Form):
    """Sets, as lists."""

    def __init__(self, attribute: Attribute[Any]) -> None:
        super().__init__(attribute)
        element = _ELEMENTS.get(attribute.kind)
        #: The form of the elements; None for a set of text, numbers or bytes.
        self.element = None if element is None else form_of(element())

    def write(self, value: Any) -> Any:
        if not isinstance(value, (set, frozenset)):
            raise _expected("set", value)
        write = _tagged if self.element is None else self.element.write
        return sorted((write(one) for one in value), key=_order)

    def read(self, plain: Any) -> Any:
        if isinstance(plain, (set, frozenset)):
            return plain
        return _set(plain, untagged if self.element is None else self.element.read)


class ListForm(Form):
    """Lists of elements that an attribute declares."""

    def __init__(self, attribute: Attribute[Any], element: Attribute[Any]) -> None:
        super().__init__(attribute)
        self.element = form_of(element)

    def _write_element(self, value: Any) -> Any:
        return None if value is None and self.element.attribute.keeps_none else self.element.write(value)

    def _read_element(self, plain: Any) -> Any:
        return None if plain is None and self.element.attribute.keeps_none else self.element.read(plain)

    def write(self, value: Any) -> Any:
        if not isinstance(value, list):
            raise _expected("list", value)
        return [at(index, self._write_element, one) for index, one in enumerate(value)]

    def read(self, plain: Any) -> Any:
        if not isinstance(plain, list):
            raise _expected("a list", plain)
        return [at(index, self._read_element, one) for index, one in enumerate(plain)]


class MapForm(ListForm):
    """Maps of values that an attribute declares."""

    def write(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise _expected("dict", value)
        return {name: at(name, self._write_element, one) for name, one in value.items()}

    def read(self, plain: Any) -> Any:
        if not isinstance(plain, dict):
            raise _expected("an object", plain)
        return {name: at(name, self._read_element, one) for name, one in plain.items()}


class NestedForm(Form):
    """Instances of an abstract model, as objects of their attributes."""

    def write(self, value: Any) -> Any:
        nested = self.attribute.fitted(value)
        if not isinstance(nested, self.attribute.nested):
            raise _expected(self.attribute.nested.__name__, value)
        return written(nested)

    def read(self, plain: Any) -> Any:
        if isinstance(plain, self.attribute.nested):
            return plain
        model = self.attribute.nested
        return model(**read_values(model.__mintkey_schema__, plain))


class StructuredForm(Form):
    """Values of a dataclass, a pydantic model or another type, as they are encoded."""

    def __init__(self, attribute: Any, hint: Any) -> None:
        super().__init__(attribute)
        self.hint = hint
        #: What `structured_dumps` keeps.
        self.adapted: Any = None
        self._is_text = isinstance(attribute, kinds.JSONAttribute)

    def write(self, value: Any) -> Any:
        encoded = self.attribute.encode(value)
        return json.loads(encoded) if self._is_text else _tagged(encoded)

    def dump(self, value: Any, dump: Callable[[Any], Any]) -> Any:
        return dump(value) if self._is_text else _with_escaped_names(dump(value))

    def read(self, plain: Any) -> Any:
        return self.attribute.decode(json.dumps(plain) if self._is_text else untagged(plain))

    def undumped(self, given: Any) -> Any:
        """Return the values of a dump, or of JSON, in which no value is tagged."""
        if not self._is_text:
            with contextlib.suppress(*CONVERSION_ERRORS):
                return untagged(given)
        return given


class JsonForm(Form):
    """JSON values, as they are."""

    def write(self, value: Any) -> Any:
        return json.loads(self.attribute.encode(value))

    def read(self, plain: Any) -> Any:
        self.attribute.encode(plain)
        return plain


def _of_document(attribute: Any) -> Form:
    element = attribute._elements
    if isinstance(attribute, kinds.ListAttribute):
        return UntypedForm(attribute) if element is None else ListForm(attribute, element.attribute)
    if attribute._schema is not None:
        return NestedForm(attribute)
    if element is not None:
        return MapForm(attribute, element.attribute)
    return UntypedForm(attribute) if attribute.nested is None else StructuredForm(attribute, attribute.nested)


def _of_json(attribute: Any) -> Form:
    hint = attribute.model_class
    return JsonForm(attribute) if hint is None else StructuredForm(attribute, hint)


def _typed(kind: type) -> Callable[[Any], Form]:
    return lambda attribute: TypedForm(attribute, kind)


_FORMS: dict[type, Callable[[Any], Form]] = {
    kinds.StringAttribute: _typed(str),
    kinds.CompressedAttribute: _typed(str),
    kinds.NumberAttribute: NumberForm,
    kinds.IntegerAttribute: _typed(int),
    kinds.VersionAttribute: _typed(int),
    kinds.DecimalAttribute: _typed(Decimal),
    kinds.BooleanAttribute: _typed(bool),
    kinds.BinaryAttribute: BytesForm,
    kinds.UUIDAttribute: _typed(UUID),
    kinds.EnumAttribute: EnumForm,
    kinds.DatetimeAttribute: DatetimeForm,
    kinds.TTLAttribute: DatetimeForm,
    kinds.DateAttribute: _typed(date),
    kinds.TimeAttribute: _typed(time),
    kinds.TimedeltaAttribute: _typed(timedelta),
    kinds.ListAttribute: _of_document,
    kinds.MapAttribute: _of_document,
    kinds.JSONAttribute: _of_json,
    SetAttribute: SetForm,
}


def form_of(attribute: Attribute[Any]) -> Form:
    """Return how the values of an attribute are written in JSON."""
    for base in type(attribute).__mro__:
        own = vars(base)
        if "to_plain" in own:
            return OwnForm(attribute)
        if base.__module__.startswith("mintkey."):
            break
        if "encode" in own or "decode" in own:
            return StoredForm(attribute)
    # A field stores its values as an attribute does.
    attribute = getattr(attribute, "_form", attribute)
    return next((_FORMS[base](attribute) for base in type(attribute).__mro__ if base in _FORMS), StoredForm(attribute))


# Whole items.


def forms(schema: Any) -> dict[str, Form]:
    """Return the forms of all attributes of a model, by name."""
    if schema.forms is None:
        schema.forms = {name: form_of(schema.attributes[name]) for name in schema.shown}
    known: dict[str, Form] = schema.forms
    return known


def written(instance: Any, names: Collection[str] | None = None) -> dict[str, Any]:
    """Return the JSON of the values of an instance, by attribute name, without absent ones."""
    schema = instance.__mintkey_schema__
    known, plain = forms(schema), {}
    for name, value in instance._shown().items():
        if names is None or name in names:
            try:
                plain[name] = known[name].write(value)
            except CONVERSION_ERRORS as error:
                _refuse(schema, name, error)
    return plain


def class_of(cls: Any, plain: Any) -> Any:
    """Return the class that the discriminator in the values of an item names, or else the class itself."""
    family = cls.__mintkey_schema__.family
    if family is None or not isinstance(plain, Mapping):
        return cls
    value = plain.get(family._attribute.name, plain.get(family._attribute.stored_name))
    return family.members().get(value, cls) if isinstance(value, str) else cls


def read_values(schema: Any, plain: Any) -> dict[str, Any]:
    """Return the values of the JSON of an item, by attribute name. It may have aliases instead of names."""
    if not isinstance(plain, dict):
        raise InvalidValue(f"{schema.model}: expected a JSON object, got {type(plain).__name__}", model=schema.model)
    known, values = forms(schema), {}
    names = {schema.attributes[name].stored_name: name for name in schema.shown} | {name: name for name in schema.shown}
    for given, content in plain.items():
        name = names.get(given)
        if name is None:
            raise InvalidValue(str(schema.unexpected([given])), model=schema.model)
        if name in values:
            raise InvalidValue(
                f"{schema.model}.{name}: the JSON has two values, also as {given!r}: remove one",
                model=schema.model,
                attribute=name,
            )
        try:
            values[name] = None if content is None else known[name].read(content)
        except CONVERSION_ERRORS as error:
            _refuse(schema, name, error)
    return values


def _refuse(schema: Any, name: str, error: Exception) -> NoReturn:
    if isinstance(error, InvalidValue) and (error.model, error.attribute) == (schema.model, name):
        raise error  # it names the attribute
    raise InvalidValue(f"{schema.model}.{name}: {cause(error)}", model=schema.model, attribute=name) from error
