"""Templates: keys that are built from other attributes, such as `"USER#{email}"`.

Two items with different parts never have the same key. So a part that contains the literal text after it is refused,
and a value that its format does not keep exactly.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from mintkey import _core
from mintkey.attributes.base import Attribute, is_utf8_text
from mintkey.attributes.scalars import VersionAttribute
from mintkey.attributes.times import DateAttribute, DatetimeAttribute
from mintkey.errors import CONVERSION_ERRORS, ConfigurationError, InvalidValue, nearest, shortened

_NUMBER_FORMAT = re.compile(r"0([1-9]\d?)(?:d|\.([1-9]\d?)f)")
#: The directives of a time in the order of their sizes, with the number of digits of each.
_DIRECTIVES = {"%Y": 4, "%m": 2, "%d": 2, "%H": 2, "%M": 2, "%S": 2, "%f": 6}
_UNITS = ("year", "month", "day", "hour", "minute", "second", "microsecond")
_TIME_FORMAT = re.compile(r"%.|[^%]")
#: The longest number of digits that all stores keep.
_MAX_DIGITS = 38


def key_text(stored: Any) -> str:
    """Return an encoded key part as text: the text, the canonical digits of a number, or bytes in hexadecimal."""
    if isinstance(stored, str):
        return stored
    return stored.hex() if isinstance(stored, bytes) else _core.number_text(stored)


def key_value(attribute: Attribute[Any], text: str) -> Any:
    """Return the value of the text of a key part: the reverse of `key_text`."""
    if attribute.key_kind == "string":
        return attribute.decode(text)
    if attribute.key_kind == "binary":
        return attribute.decode(bytes.fromhex(text))
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{shortened(text)} is not a number") from None
    return attribute.decode(number if attribute.kind == "decimal" else _core.as_read(number))


class Part(NamedTuple):
    """A part of a template: its attribute, the literal text after it, and its conversion to text and back."""

    attribute: Any  # an `Attribute`, which type checkers take for a descriptor
    literal: str
    text: Callable[[Any], str]
    value: Callable[[str], Any]
    is_exact: bool
    """Whether only one text stands for each value. Text of other programs may spell a UUID or a time in another way."""

    @property
    def name(self) -> str:
        """The name of the attribute."""
        name: str = self.attribute.name
        return name


class Template:
    """A template of an attribute: literal texts and parts by turns, with a literal between any two parts.

    Attributes:
        name: the name of the attribute that is built.
        parts: the names of the attributes that it is built from, in order.
        prefix: the literal text before the first part.
        literal_length: the number of literal characters.
        is_static: whether it has no parts, so that all items have the same text.
        text: the template as it was declared.
    """

    is_visible = True

    def __init__(
        self, built: Attribute[Any], template: str, attributes: Mapping[str, Attribute[Any]], *, ordered: bool
    ) -> None:
        self.name = built.name
        self.model = built.model
        self.attribute = built
        self.text = template
        self.prefix, self._parts = self._parsed(attributes, ordered=ordered)
        self.parts = tuple(part.name for part in self._parts)
        self.is_static = not self._parts
        self.literal_length = len(self.prefix) + sum(len(part.literal) for part in self._parts)

    # The declaration.

    def _error(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.model}.{self.name}: template={shortened(self.text)}: {reason}",
            model=self.model,
            attribute=self.name,
        )

    def _parsed(self, attributes: Mapping[str, Attribute[Any]], *, ordered: bool) -> tuple[str, tuple[Part, ...]]:
        if not is_utf8_text(self.text) or not self.text:
            raise self._error("a template is text that is not empty")
        try:
            fields = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise self._error(f"{error}: write a literal brace twice, as {{{{ or }}}}") from error
        # A doubled brace ends a literal, so several literals may follow each other.
        literals, names = [""], []
        for literal, name, spec, conversion in fields:
            literals[-1] += literal
            if name is None:
                continue
            if conversion:
                raise self._error(f"{{{name}!{conversion}}}: conversions are not supported: remove !{conversion}")
            names.append((name, spec or ""))
            literals.append("")
        if len({name for name, _ in names}) < len(names):
            raise self._error("a part is named twice: write each part once")
        parts = []
        for position, ((name, spec), literal) in enumerate(zip(names, literals[1:], strict=True), 1):
            if not literal and position < len(names):
                raise self._error(f"write a literal text between {{{name}}} and {{{names[position][0]}}}")
            attribute = attributes.get(name)
            if attribute is None:
                raise self._error(f"{self.model} has no attribute {shortened(name)}{nearest(name, attributes)}")
            to_text, to_value = self._conversion(attribute, spec, ordered=ordered)
            is_exact = bool(spec) or attribute.key_kind != "string"
            parts.append(Part(attribute, literal, to_text, to_value, is_exact))
        return literals[0], tuple(parts)

    def _conversion(
        self, attribute: Attribute[Any], spec: str, *, ordered: bool
    ) -> tuple[Callable[[Any], str], Callable[[str], Any]]:
        """Return the functions that convert an encoded value to text, and text to a value."""
        name = attribute.name
        if attribute.key_kind is None or isinstance(attribute, VersionAttribute) or attribute.name == self.name:
            raise self._error(f"{{{name}}}: this {type(attribute).__name__} cannot be a part of a key")
        if getattr(attribute, "template", None) is not None:
            raise self._error(f"{{{name}}} is built from a template itself: name its parts")
        if attribute.discriminator:
            raise self._error(
                f"{{{name}}} is the discriminator, which cannot be a part: declare {self.name} in each class, with a "
                "template that begins with the name of the class"
            )
        if isinstance(attribute, (DatetimeAttribute, DateAttribute)) and spec:
            return self._time_conversion(attribute, spec)
        if attribute.key_kind == "number":
            return self._number_conversion(attribute, spec, ordered=ordered)
        if spec:
            raise self._error(f"{{{name}:{spec}}}: only numbers, dates and times take a format: remove :{spec}")
        return key_text, lambda text: key_value(attribute, text)

    def _number_conversion(
        self, attribute: Attribute[Any], spec: str, *, ordered: bool
    ) -> tuple[Callable[[Any], str], Callable[[str], Any]]:
        name = attribute.name

        def value(text: str) -> Any:
            return key_value(attribute, text)

        if not spec and not ordered:
            return key_text, value
        shape = _NUMBER_FORMAT.fullmatch(spec)
        if shape is None or int(shape[1]) > _MAX_DIGITS or (shape[2] and int(shape[2]) > int(shape[1]) - 2):
            raise self._error(
                f"{{{name}}}: a number takes a format that keeps its order as text: "
                f"{{{name}:08d}} for 8 digits, or {{{name}:012.2f}} for 9 digits, a point and 2 digits"
            )
        width, places = int(shape[1]), int(shape[2] or 0)

        def text(stored: Any) -> str:
            number = Decimal(_core.number_text(stored))
            digits = format(number, f"0{width}.{places}f")
            if len(digits) > width or digits.startswith("-") or Decimal(digits) != number:
                raise ValueError(f"{shortened(stored)} does not fit the format :{spec}")
            return digits

        return text, value

    def _time_conversion(
        self, attribute: Attribute[Any], spec: str
    ) -> tuple[Callable[[Any], str], Callable[[str], Any]]:
        name, order = attribute.name, list(_DIRECTIVES)
        tokens = _TIME_FORMAT.findall(spec)
        directives = [token for token in tokens if token.startswith("%")]
        days = isinstance(attribute, DateAttribute)
        largest_first = directives == order[: len(directives)]
        if not directives or not largest_first or (days and len(directives) > order.index("%d") + 1):
            allowed = "%Y%m%d" if days else "%Y-%m-%dT%H:%M:%SZ"
            raise self._error(
                f"{{{name}:{spec}}}: a format of times begins with the year and leaves out nothing in between, so that "
                f"the text has the order of time: {{{name}:{allowed}}}, for example"
            )
        pattern = re.compile(
            "".join(
                f"([0-9]{{{_DIRECTIVES[token]}}})" if token in _DIRECTIVES else re.escape(token) for token in tokens
            )
        )

        def value(text: str) -> Any:
            found = pattern.fullmatch(text)
            if found is None:
                raise ValueError(text)
            numbers = dict(zip(_UNITS, map(int, found.groups()), strict=False))
            moment = datetime(**{"month": 1, "day": 1, **numbers}, tzinfo=timezone.utc)
            return moment.date() if days else moment

        def text(stored: Any) -> str:
            moment = attribute.decode(stored)
            written = "".join(
                moment.strftime(token).zfill(_DIRECTIVES[token]) if token in _DIRECTIVES else token for token in tokens
            )
            if value(written) != moment:
                raise ValueError(f"{shortened(moment)} has more than the format :{spec} keeps: use a finer format")
            return written

        return text, value

    # Values.

    def built(self, stored: Mapping[str, Any]) -> str:
        """Return the text of encoded parts. Raises `InvalidValue` for a part that does not fit."""
        return self.prefix + "".join(
            self._part_text(part, stored.get(part.name)) + part.literal for part in self._parts
        )

    def beginning(self, stored: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Return the longest beginning of the text that the encoded parts determine, and the names of these parts."""
        text, used = self.prefix, []
        for part in self._parts:
            if part.name not in stored:
                break
            text += self._part_text(part, stored[part.name]) + part.literal
            used.append(part.name)
        return text, tuple(used)

    def _part_text(self, part: Part, stored: Any) -> str:
        reason = None
        text = ""
        try:
            text = "" if stored is None else part.text(stored)
        except CONVERSION_ERRORS as error:
            reason = str(error)
        if reason is None and not text:
            reason = "it has no value" if stored is None else "a part of a key cannot be empty"
        elif reason is None and part.literal and (text + part.literal).find(part.literal) != len(text):
            reason = (
                f"{shortened(text)} cannot be separated from {part.literal!r}, which follows it in the template, so "
                "two items could have the same key: use another value, or another separator in the template"
            )
        if reason is None:
            return text
        raise InvalidValue(
            f"{part.attribute.model}.{part.name}: {self.name} is built from it ({self.text!r}), and {reason}",
            model=self.model,
            attribute=part.name,
        )

    def parsed(self, text: Any) -> dict[str, Any] | None:
        """Return the values of the parts of a text; None if it does not fit the template."""
        if not isinstance(text, str) or not text.startswith(self.prefix):
            return None
        values: dict[str, Any] = {}
        start = len(self.prefix)
        for part in self._parts:
            end = text.find(part.literal, start) if part.literal else len(text)
            piece = text[start:end] if start < end else ""
            if not piece:
                return None
            try:
                values[part.name] = part.value(piece)
                if part.is_exact and part.text(part.attribute._operand(values[part.name])) != piece:
                    return None
            except CONVERSION_ERRORS:
                return None
            start = end + len(part.literal)
        return values if start == len(text) else None
