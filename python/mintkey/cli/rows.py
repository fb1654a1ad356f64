"""Rows as lines of JSON, in two formats.

`json` is the encoding that SQLite and Redis store: plain JSON with exact numbers, and `{"$B": …}`, `{"$SS": […]}`,
`{"$NS": […]}`, `{"$BS": […]}` for bytes and sets. `dynamodb` is the format of Amazon's exports and of `aws dynamodb`:
`{"Item": {"total": {"N": "99.95"}}}`. Both are exact.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from mintkey._core import Item
from mintkey.attributes.comparing import Misfit
from mintkey.errors import CONVERSION_ERRORS, InvalidValue, cause, shortened
from mintkey.formats.dynamodb_json import Digits, attribute_name, stored_item, typed_item


class BadLine(ValueError):
    """A line is not a row. The text says why."""


class Format(NamedTuple):
    """A format of rows."""

    write: Callable[[Item], str]
    read: Callable[[str], Item]


def _read_json(line: str) -> Item:
    try:
        item = Item.from_json(line)
    except InvalidValue as error:
        raise BadLine(f"not a row in JSON: {error}: {shortened(line)}") from error
    # No table has such a row: its only attribute would be the key, which is not a map.
    if line.startswith('{"Item":') and item.to_dict().keys() == {"Item"}:
        raise BadLine(f"a row in the JSON of DynamoDB: pass --format dynamodb: {shortened(line)}")
    return item


def _write_dynamodb(item: Item) -> str:
    return json.dumps({"Item": typed_item(item, str)}, ensure_ascii=False, separators=(",", ":"))


def cells(item: Item) -> dict[str, str]:
    """Return the texts of the values of a row for a table: texts as they are, all others as JSON."""
    stored = json.loads(item.to_json(), parse_int=Digits, parse_float=Digits)
    return {
        attribute_name(name): value if isinstance(value, str) else _compact(value) for name, value in stored.items()
    }


def _compact(value: Any) -> str:
    """Return JSON with numbers as they are stored."""
    if isinstance(value, Digits):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_compact(name)}:{_compact(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_compact, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _read_dynamodb(line: str) -> Item:
    try:
        given = json.loads(line, object_pairs_hook=_object)
        if isinstance(given, dict) and given.keys() == {"Item"} and isinstance(given["Item"], dict):
            given = given["Item"]
        return stored_item(given)
    except json.JSONDecodeError as error:
        raise BadLine(f"not JSON: {error.msg}, at column {error.colno}: {shortened(line)}") from error
    except Misfit as error:
        raise BadLine(f"{error}: {shortened(line)}") from error
    except CONVERSION_ERRORS as error:
        raise BadLine(f"not a row in the JSON of DynamoDB: {cause(error)}: {shortened(line)}") from error


def _object(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON. Which of two values is meant would be a guess."""
    found = dict(entries)
    if len(found) < len(entries):
        raise Misfit(f"a name comes twice in {shortened([name for name, _ in entries])}")
    return found


FORMATS = {"json": Format(Item.to_json, _read_json), "dynamodb": Format(_write_dynamodb, _read_dynamodb)}
