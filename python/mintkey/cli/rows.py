"""Rows as lines of JSON, in two formats.

`json` is the encoding that SQLite and Redis store: plain JSON with exact numbers, and `{"$B": …}`, `{"$SS": […]}`,
`{"$NS": […]}`, `{"$BS": […]}` for bytes and sets. `dynamodb` is the format of Amazon's exports and of `aws dynamodb`:
`{"Item": {"total": {"N": "99.95"}}}`. Both are exact.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from mintkey._core import Item, number_text
from mintkey.errors import InvalidValue, shortened

__all__ = ["FORMATS", "BadLine", "Format", "cells"]

_COLUMN = re.compile(r"\(at line 1, column (\d+) of its text\)")


class BadLine(ValueError):
    """A line is not a row. The text says why."""


class Format(NamedTuple):
    """A format of rows."""

    write: Callable[[Item], str]
    read: Callable[[str], Item]


def _read_json(line: str) -> Item:
    try:
        return Item.from_json(line)
    except InvalidValue as error:
        found = _COLUMN.search(str(error))
        raise BadLine(f"not a row in JSON{f', at column {found[1]}' if found else ''}: {shortened(line)}") from error


class _Number(str):
    """The digits of a number."""

    __slots__ = ()


_SETS = {"$SS", "$NS", "$BS"}


def _write_dynamodb(item: Item) -> str:
    stored = json.loads(item.to_json(), parse_int=_Number, parse_float=_Number)
    typed = {_own_name(name): _typed(value) for name, value in stored.items()}
    return json.dumps({"Item": typed}, ensure_ascii=False, separators=(",", ":"))


def cells(item: Item) -> dict[str, str]:
    """Return the texts of the values of a row for a table: texts as they are, all others as JSON."""
    stored = json.loads(item.to_json(), parse_int=_Number, parse_float=_Number)
    return {_own_name(name): value if isinstance(value, str) else _compact(value) for name, value in stored.items()}


def _compact(value: Any) -> str:
    """Return JSON with numbers as they are stored."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(name)}:{_compact(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_compact, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _own_name(name: str) -> str:
    """Return the name of an attribute: a leading `$` is doubled in the stored JSON."""
    return name.removeprefix("$")


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, _Number):
        # Its text may have an exponent without a sign, which DynamoDB reads too.
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, list):
        return {"L": [_typed(member) for member in value]}
    tag = next(iter(value), "")
    if tag == "$B":
        return {"B": value[tag]}
    if tag in _SETS:
        return {tag[1:]: [str(member) for member in value[tag]]}
    return {"M": {_own_name(name): _typed(member) for name, member in value.items()}}


def _read_dynamodb(line: str) -> Item:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not JSON: {error}") from error
    if isinstance(given, dict) and given.keys() == {"Item"} and isinstance(given["Item"], dict):
        given = given["Item"]
    if not isinstance(given, dict):
        raise BadLine(f"not a row in the JSON of DynamoDB: {shortened(line)}")
    text = _map_text(given, "")
    try:
        return Item.from_json(text)
    except (InvalidValue, UnicodeError) as error:
        raise BadLine(f"not a row in the JSON of DynamoDB: {shortened(line)}") from error


def _map_text(members: Mapping[str, Any], at: str) -> str:
    parts = []
    for name, value in members.items():
        written = f"${name}" if name.startswith("$") else name
        parts.append(f"{_quoted(written)}:{_text(value, f'{at}.{name}' if at else name)}")
    return "{" + ",".join(parts) + "}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _text(typed: Any, at: str) -> str:
    """Return the stored JSON of a value of DynamoDB."""
    if not isinstance(typed, dict) or len(typed) != 1:
        raise BadLine(f'{at}: expected a value such as {{"S": "text"}}, got {shortened(typed)}')
    ((tag, value),) = typed.items()
    writer = _WRITERS.get(tag)
    if writer is None:
        raise BadLine(f"{at}: {shortened(tag)} is not a type of DynamoDB")
    try:
        return writer(value, at)
    except BadLine:
        raise
    except (TypeError, ValueError, AttributeError, InvalidOperation, RecursionError) as error:
        raise BadLine(f"{at}: {shortened(value)} is not a value of the type {tag}") from error


def _string(value: Any, _at: str) -> str:
    if not isinstance(value, str):
        raise TypeError
    return _quoted(value)


def _number(value: Any, _at: str) -> str:
    if not isinstance(value, str):
        raise TypeError
    return number_text(Decimal(value))


def _binary(value: Any, _at: str) -> str:
    return _quoted(base64.b64encode(base64.b64decode(value, validate=True)).decode())


def _boolean(value: Any, _at: str) -> str:
    if not isinstance(value, bool):
        raise TypeError
    return "true" if value else "false"


def _set_of(tag: str, member: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
    def text(values: Any, at: str) -> str:
        if not isinstance(values, list) or not values:
            raise TypeError
        return f'{{"{tag}":[{",".join(member(value, at) for value in values)}]}}'

    return text


def _list(values: Any, at: str) -> str:
    if not isinstance(values, list):
        raise TypeError
    return f"[{','.join(_text(value, f'{at}[{index}]') for index, value in enumerate(values))}]"


_WRITERS: dict[str, Callable[[Any, str], str]] = {
    "S": _string,
    "N": _number,
    "B": lambda value, at: f'{{"$B":{_binary(value, at)}}}',
    "BOOL": _boolean,
    "NULL": lambda _value, _at: "null",
    "L": _list,
    "M": _map_text,
    "SS": _set_of("$SS", _string),
    "NS": _set_of("$NS", _number),
    "BS": _set_of("$BS", _binary),
}

FORMATS = {"json": Format(Item.to_json, _read_json), "dynamodb": Format(_write_dynamodb, _read_dynamodb)}
