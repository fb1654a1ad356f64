"""DynamoDB JSON, such as `{"S": "text"}`: the form of stream records and exports, from and to stored items.

The types are those of AttributeValue in the API reference of Amazon DynamoDB.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from mintkey import _core
from mintkey.attributes.comparing import Misfit, at
from mintkey.errors import shortened


class Digits(str):
    """The text of a number in JSON."""

    __slots__ = ()


# The JSON of stored items has plain values. What JSON lacks is an object with one entry whose name begins with one `$`;
# other names that begin with `$` have one more.


def attribute_name(stored: str) -> str:
    """Return the name of an attribute from its name in the JSON of stored items."""
    return stored[1:] if stored.startswith("$$") else stored


def typed_item(item: _core.Item, binary: Callable[[str], Any]) -> dict[str, Any]:
    """Return an item in DynamoDB JSON. `binary` converts the base64 of each binary."""
    import json

    stored = json.loads(item.to_json(), parse_int=Digits, parse_float=Digits)
    return {attribute_name(name): _typed(value, binary) for name, value in stored.items()}


def stored_item(image: Any) -> _core.Item:
    """Return the item of an image in DynamoDB JSON. Binaries are bytes or base64.

    Raises one of `CONVERSION_ERRORS`; `Misfit` leads to the value that is none.
    """
    return _core.Item.from_json(_json_of_entries(image))


def _typed(value: Any, binary: Callable[[str], Any]) -> dict[str, Any]:
    if isinstance(value, Digits):
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, list):
        return {"L": [_typed(one, binary) for one in value]}
    if len(value) == 1:
        ((name, content),) = value.items()
        if name == "$B":
            return {"B": binary(content)}
        if name == "$BS":
            return {"BS": [binary(one) for one in content]}
        if name in {"$SS", "$NS"}:
            return {name[1:]: [str(one) for one in content]}
    return {"M": {attribute_name(name): _typed(one, binary) for name, one in value.items()}}


def _json_of_entries(image: Any) -> str:
    """Return the JSON of a stored item, or of a map, of its entries in DynamoDB JSON."""
    if not isinstance(image, Mapping):
        raise Misfit(f"expected a dict, got {type(image).__name__}")
    entries = []
    for name, value in image.items():
        if not isinstance(name, str):
            raise Misfit(f"the names of attributes are str, got {shortened(name)}")
        text = at(name, _json, value)
        entries.append(f"{_text(f'${name}' if name.startswith('$') else name)}:{text}")
    return f"{{{','.join(entries)}}}"


def _json(value: Any) -> str:
    """Return the JSON of a value in DynamoDB JSON."""
    if not isinstance(value, Mapping) or len(value) != 1:
        raise Misfit(f'expected a value with its type, such as {{"S": "text"}}, got {shortened(value)}')
    ((kind, content),) = value.items()
    convert = _CONVERSIONS.get(kind)
    if convert is None:
        raise Misfit(f"the types are {', '.join(_CONVERSIONS)}, not {shortened(kind)}")
    return convert(content)


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise Misfit(f"expected text, got {shortened(content)}")
    import json

    return json.dumps(content)


def _number(content: Any) -> str:
    if not isinstance(content, str):
        raise Misfit(f"expected a number as text, got {shortened(content)}")
    try:
        number = Decimal(content)
    except ArithmeticError as error:
        raise Misfit(f"{shortened(content)} is not a number") from error
    return _core.number_text(number)


def _base64(content: Any) -> str:
    if isinstance(content, str):
        content = base64.b64decode(content, validate=True)
    # boto3's resources wrap binaries in an object.
    content = getattr(content, "value", content)
    if not isinstance(content, (bytes, bytearray)):
        raise Misfit(f"expected bytes or base64, got {shortened(content)}")
    return f'"{base64.b64encode(content).decode()}"'


def _boolean(content: Any) -> str:
    if not isinstance(content, bool):
        raise Misfit(f"expected True or False, got {shortened(content)}")
    return "true" if content else "false"


def _list_of(convert: Callable[[Any], str], tag: str = "") -> Callable[[Any], str]:
    def listed(content: Any) -> str:
        if not isinstance(content, (list, tuple, set, frozenset)):
            raise Misfit(f"expected a list, got {shortened(content)}")
        if tag and not content:
            raise Misfit("a set has one member or more, got an empty one")
        text = f"[{','.join(at(index, convert, one) for index, one in enumerate(content))}]"
        return f'{{"{tag}":{text}}}' if tag else text

    return listed


_CONVERSIONS: dict[str, Callable[[Any], str]] = {
    "S": _text,
    "N": _number,
    "B": lambda content: f'{{"$B":{_base64(content)}}}',
    "BOOL": _boolean,
    "NULL": lambda _: "null",
    "L": _list_of(_json),
    "M": _json_of_entries,
    "SS": _list_of(_text, "$SS"),
    "NS": _list_of(_number, "$NS"),
    "BS": _list_of(_base64, "$BS"),
}
