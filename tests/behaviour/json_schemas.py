"""A small validator of JSON schemas: the keywords that pydantic and the schemas of models use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, Any] = {
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "string": str,
    "array": list,
    "object": dict,
}
#: Keywords that allow any value.
_NOTES = {
    "$defs",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "description",
    "discriminator",
    "format",
    "readOnly",
    "title",
}


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    """Return why a value is not valid; nothing if it is."""
    return list(_problems(schema, value, schema.get("$defs", {}), "$"))


def _problems(schema: Any, value: Any, defs: dict[str, Any], path: str) -> Iterator[str]:
    if isinstance(schema, bool):
        if not schema:
            yield f"{path}: nothing is allowed"
        return
    for keyword, content in schema.items():
        if keyword == "$ref":
            yield from _problems(defs[content.rpartition("/")[2]], value, defs, path)
        elif keyword in {"anyOf", "oneOf"}:
            found = [list(_problems(one, value, defs, path)) for one in content]
            if all(found):
                yield f"{path}: none of {found}"
        elif keyword not in _NOTES:
            yield from (f"{path}: {one}" for one in _broken(keyword, content, value))
    if isinstance(value, dict):
        named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, part in value.items():
            yield from _problems(named.get(name, others), part, defs, f"{path}.{name}")
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        for index, part in enumerate(value):
            inner = first[index] if index < len(first) else schema.get("items", True)
            yield from _problems(inner, part, defs, f"{path}[{index}]")


def _broken(keyword: str, content: Any, value: Any) -> Iterator[str]:
    """Yield the problems of one keyword that is about the value itself."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if keyword == "type":
        if not isinstance(value, _TYPES[content]) or (isinstance(value, bool) and content in {"integer", "number"}):
            yield f"{value!r} is not of type {content}"
    elif keyword == "enum":
        if not any(type(one) is type(value) and one == value for one in content):
            yield f"{value!r} is not one of {content}"
    elif keyword == "const":
        if content != value:
            yield f"{value!r} is not {content!r}"
    elif keyword == "pattern":
        if isinstance(value, str) and not re.search(content, value):
            yield f"{value!r} does not match {content}"
    elif keyword == "required":
        if isinstance(value, dict) and not set(content) <= value.keys():
            yield f"{set(content) - value.keys()} are missing"
    elif keyword in {"minLength", "minItems", "minProperties", "maxLength", "maxItems", "maxProperties"}:
        kind = {"Length": str, "Items": list, "Properties": dict}[keyword[3:]]
        if isinstance(value, kind):
            length = len(value)
            if length < content if keyword.startswith("min") else length > content:
                yield f"{value!r} has a length of {length}: {keyword} {content}"
    elif keyword == "uniqueItems":
        if isinstance(value, list) and any(one in value[:index] for index, one in enumerate(value)):
            yield f"{value!r} has equal items"
    elif keyword in {"minimum", "maximum"}:
        if is_number and (value < content if keyword == "minimum" else value > content):
            yield f"{value!r}: {keyword} {content}"
    elif keyword not in {"properties", "additionalProperties", "items", "prefixItems"}:
        raise NotImplementedError(keyword)


_FORMATS = {
    "date": "2024-01-31",
    "date-time": "2024-01-31T12:00:00Z",
    "duration": "PT90S",
    "time": "12:00:00",
    "uuid": "0190163d-8694-739b-aea5-966c26f8ad91",
}


def samples(schema: Any, defs: dict[str, Any]) -> Iterator[Any]:
    """Yield values that a schema allows, among them the shortest and the smallest."""
    if "$ref" in schema:
        yield from samples(defs[schema["$ref"].rpartition("/")[2]], defs)
    elif "enum" in schema:
        yield from schema["enum"]
    elif "anyOf" in schema:
        is_number = any(one.get("type") == "number" for one in schema["anyOf"])
        for one in schema["anyOf"]:
            if is_number and one.get("type") == "string":
                yield "1.5"  # pydantic's schema of a Decimal does not say which texts
                continue
            yield from samples({**one, **{name: limit for name, limit in schema.items() if name != "anyOf"}}, defs)
    else:
        yield from _SAMPLES[schema.get("type")](schema, defs)


def _texts(schema: Any, defs: dict[str, Any]) -> Iterator[str]:
    if "contentEncoding" in schema:
        yield from ("", "AAE=")[bool(schema.get("minLength")) :]
    elif "format" in schema:
        yield _FORMATS.get(schema["format"], "a")
    elif "pattern" in schema:
        yield from (text for text in ("1", "-1.5", "abc") if re.search(schema["pattern"], text))
    else:
        least = schema.get("minLength", 0)
        yield from ("é" * least, "a" * schema.get("maxLength", least + 1))


def _numbers(schema: Any, defs: dict[str, Any]) -> Iterator[float]:
    numbers = (0, -1, 1.5, 10**15, schema.get("minimum", 0), schema.get("maximum", 0))
    yield from (one for one in numbers if not problems(schema, one))


def _arrays(schema: Any, defs: dict[str, Any]) -> Iterator[list[Any]]:
    if "prefixItems" in schema:
        yield [next(samples(one, defs)) for one in schema["prefixItems"]]
        return
    if not schema.get("minItems"):
        yield []
    yield from ([one] * schema.get("minItems", 1) for one in samples(schema.get("items", {}), defs))


def _objects(schema: Any, defs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    named = schema.get("properties", {})
    least = {name: next(samples(named[name], defs)) for name in schema.get("required", ())}
    yield least
    for name, inner in named.items():
        yield from ({**least, name: one} for one in samples(inner, defs))
    if not named and schema.get("additionalProperties") is not False:
        others = schema.get("additionalProperties", True)
        yield from ({"name": one} for one in samples({} if others is True else others, defs))


_SAMPLES: dict[Any, Any] = {
    "string": _texts,
    "number": _numbers,
    "integer": _numbers,
    "array": _arrays,
    "object": _objects,
    "boolean": lambda schema, defs: iter((True, False)),
    "null": lambda schema, defs: iter((None,)),
    None: lambda schema, defs: iter((None, 1, "a", [1], {"a": None})),
}
