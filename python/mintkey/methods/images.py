"""Images: methods of a model that convert items from and to DynamoDB JSON, the form of stream records."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mintkey.errors import CONVERSION_ERRORS, InvalidValue, NotLoaded, cause, shortened
from mintkey.formats.dynamodb_json import stored_item, typed_item
from mintkey.methods.tables import TableMixin

if TYPE_CHECKING:
    from typing_extensions import Self

    from mintkey.instance_state import State


class ImageMixin(TableMixin):
    """The conversions of a model from and to DynamoDB JSON."""

    if TYPE_CHECKING:
        _state: Any

    @classmethod
    def from_stored(cls, image: Mapping[str, Any]) -> Self:
        """Return the loaded instance of a whole item in DynamoDB JSON: `{"pk": {"S": "a"}, "n": {"N": "1"}}`.

        Such are the images of stream records (`record["dynamodb"]["NewImage"]`) and the items of boto3's client.
        Binaries may be bytes or base64. No request is sent, and no hooks run. `save()` of the instance writes its
        changes. The image is read as `get()` reads the row: if parts of a template differ from the key that is built
        from them, both are kept as they are stored.

        Raises:
            InvalidValue: it is not DynamoDB JSON, has no key, or is an item of another class.
            UnreadableItem: a value cannot be read by its attribute.
        """
        schema = cls.__mintkey_schema__
        try:
            item = stored_item(image)
            schema.codec.key_of(item)
        except CONVERSION_ERRORS as error:
            raise InvalidValue(
                f"{schema.model}: {shortened(image)} is not a whole item in DynamoDB JSON, "
                f"such as record['dynamodb']['NewImage']: {cause(error)}",
                model=schema.model,
            ) from error
        instance: Self | None = cls._loaded(item)
        if instance is None:
            raise InvalidValue(
                f"{schema.model}: the image is an item of another class: call from_stored() of that class",
                model=schema.model,
            )
        return instance

    def to_stored(self) -> dict[str, Any]:
        """Return the item in DynamoDB JSON, as `save()` would leave it in the store. Binaries are bytes, as in boto3.

        Values that only a save generates are absent. Attributes that the class does not know are kept.

        Raises:
            InvalidValue: a value cannot be stored, or the key is absent.
            NotLoaded: the instance was loaded with `attributes=`.
        """
        schema, values = self.__mintkey_schema__, self.__dict__
        state: State | None = self._state
        if state is not None and (state.fetched is not None or state.parts):
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
        return typed_item(item, base64.b64decode)
