"""Images: methods of a model that convert items from and to DynamoDB JSON, the form of stream records."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mintkey import _core
from mintkey.attributes.comparing import Misfit, at
from mintkey.errors import CONVERSION_ERRORS, InvalidValue, NotLoaded, cause, shortened
from mintkey.tables import Tabled

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey.instance_state import State

__all__ = ["Imaged"]


class Imaged(Tabled):
    """The conversions of a model from and to DynamoDB JSON."""

    if TYPE_CHECKING:
        _state: Any

        @classmethod
        def _loaded(cls, item: _core.Item, fetched: set[str] | None = None) -> Self: ...

    @classmethod
    def from_stored(cls, image: Mapping[str, Any]) -> Self:
        """Return the loaded instance of a whole item in DynamoDB JSON: `{"pk": {"S": "a"}, "n": {"N": "1"}}`.

        Such are the images of stream records (`record["dynamodb"]["NewImage"]`) and the items of boto3's client.
        Binaries may be bytes or base64. No request is sent, and no hooks run. `save()` of the instance writes its
        changes.

        Raises:
            InvalidValue: it is not DynamoDB JSON, has no key, or is an item of another class.
            UnreadableItem: a value cannot be read by its attribute.
        """
        schema = cls.__mintkey_schema__
        try:
            item = _core.Item.from_json(_json_of_entries(image))
            schema.codec.key_of(item)
        except CONVERSION_ERRORS as error:
            raise InvalidValue(
                f"{schema.model}: {shortened(image)} is not a whole item in DynamoDB JSON, "
                f"such as record['dynamodb']['NewImage']: {cause(error)}",
                model=schema.model,
            ) from error
        instance: Self | None = cls._loaded(item)
        if instance is None:
            raise InvalidValue(f"{schema.model}: the image is an item of another class", model=schema.model)
        return instance

    def to_stored(self) -> dict[str, Any]:
        """Return the item in DynamoDB JSON, as `save()` would leave it in the store. Binaries are bytes, as in boto3.

        Values that only a save generates are absent. Attributes that the class does not know are kept.

        Raises:
            InvalidValue: a value cannot be stored, or the key is absent.
            NotLoaded: the instance was loaded with `attributes=`.
        """
        import json

        schema, values = self.__mintkey_schema__, self.__dict__
        state: State | None = self._state
        if state is not None and state.fetched is not None:
            raise NotLoaded(
                f"{schema.model}: to_stored() needs all attributes, and this instance was loaded with only some: "
                "call refresh() first",
                model=schema.model,
            )
        loaded = None if state is None else state.loaded
        item = schema.codec.encode(values, schema.overrides(values, loaded, state), loaded=loaded)
        if loaded is not None:
            patch = schema.codec.patch(loaded, item, removed=[], ignored=[], version=None)
            item = loaded if patch is None else patch[1]
        stored = json.loads(item.to_json(), parse_int=_Digits, parse_float=_Digits)
        return {_name(name): _image(value) for name, value in stored.items()}


class _Digits(str):
    """The text of a number in JSON."""

    __slots__ = ()


# The JSON of stored items has plain values. What JSON lacks is an object with one entry whose name begins with one `$`;
# other names that begin with `$` have one more.


def _name(name: str) -> str:
    return name[1:] if name.startswith("$$") else name


def _image(value: Any) -> dict[str, Any]:
    """Return a value of the JSON of stored items in DynamoDB JSON."""
    if isinstance(value, _Digits):
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, list):
        return {"L": [_image(one) for one in value]}
    if len(value) == 1:
        ((name, content),) = value.items()
        if name == "$B":
            return {"B": base64.b64decode(content)}
        if name == "$BS":
            return {"BS": [base64.b64decode(one) for one in content]}
        if name in {"$SS", "$NS"}:
            return {name[1:]: [str(one) for one in content]}
    return {"M": {_name(name): _image(one) for name, one in value.items()}}


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
    return _core.number_text(Decimal(content))


def _base64(content: Any) -> str:
    if isinstance(content, str):
        content = base64.b64decode(content, validate=True)
    # boto3's resources wrap binaries in an object.
    content = getattr(content, "value", content)
    if not isinstance(content, (bytes, bytearray)):
        raise Misfit(f"expected bytes or base64, got {shortened(content)}")
    return f'"{base64.b64encode(content).decode()}"'


def _truth(content: Any) -> str:
    if not isinstance(content, bool):
        raise Misfit(f"expected True or False, got {shortened(content)}")
    return "true" if content else "false"


def _list_of(convert: Callable[[Any], str], tag: str = "") -> Callable[[Any], str]:
    def listed(content: Any) -> str:
        if not isinstance(content, (list, tuple, set, frozenset)):
            raise Misfit(f"expected a list, got {shortened(content)}")
        text = f"[{','.join(at(index, convert, one) for index, one in enumerate(content))}]"
        return f'{{"{tag}":{text}}}' if tag else text

    return listed


_CONVERSIONS: dict[str, Callable[[Any], str]] = {
    "S": _text,
    "N": _number,
    "B": lambda content: f'{{"$B":{_base64(content)}}}',
    "BOOL": _truth,
    "NULL": lambda _: "null",
    "L": _list_of(_json),
    "M": _json_of_entries,
    "SS": _list_of(_text, "$SS"),
    "NS": _list_of(_number, "$NS"),
    "BS": _list_of(_base64, "$BS"),
}
