"""Attributes of maps and of JSON."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from mintkey.attributes.base import Attribute
from mintkey.conditions import Path
from mintkey.errors import ConfigurationError, shortened


class MapAttribute(Attribute[Any]):
    """A map with text keys: a `dict`, or an instance of a nested class.

    Args:
        nested: an abstract model (`ModelConfig(abstract=True)`) or a dataclass; values are its instances.
    """

    kind = "map"

    def __init__(self, nested: type | None = None, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.nested = nested

    def check_declaration(self) -> None:
        super().check_declaration()
        if self.nested is not None and not (
            dataclasses.is_dataclass(self.nested) or hasattr(self.nested, "__mintkey_schema__")
        ):
            raise ConfigurationError(
                f"{self._label}: MapAttribute takes an abstract model or a dataclass, not {shortened(self.nested)}",
                model=self.model,
                attribute=self.name,
            )
        schema = getattr(self.nested, "__mintkey_schema__", None)
        if schema is not None and schema.saved_strategies:
            late = schema.saved_strategies
            raise ConfigurationError(
                f"{self._label}: {schema.model}.{late[0]} would never be generated, because only whole items are "
                'saved: generate it at construction with auto(…, when="init")',
                model=self.model,
                attribute=self.name,
            )

    def __getitem__(self, step: str | int) -> Path:
        return self._inside(step)

    @property
    def converts(self) -> bool:
        return self.nested is not None

    @property
    def decompresses(self) -> bool:
        schema = getattr(self.nested, "__mintkey_schema__", None)
        return schema is not None and schema.decompresses

    def encode(self, value: Any) -> Any:
        nested = self.nested
        if nested is None:
            return value
        if isinstance(value, dict):
            value = nested(**value)
        if not isinstance(value, nested):
            raise TypeError(f"expected {nested.__name__} or dict, got {type(value).__name__}")
        schema = getattr(nested, "__mintkey_schema__", None)
        if schema is not None:
            return schema.codec.plain(value.__dict__)
        fields = dataclasses.fields(cast("Any", value))
        return {field.name: item for field in fields if (item := getattr(value, field.name)) is not None}

    def decode(self, stored: Any) -> Any:
        nested = self.nested
        if nested is None or not isinstance(stored, dict):
            return stored
        schema = getattr(nested, "__mintkey_schema__", None)
        if schema is not None:
            return schema.nested_instance(nested, stored)
        known = {field.name for field in dataclasses.fields(nested)}
        return nested(**{name: value for name, value in stored.items() if name in known})


class JSONAttribute(Attribute[Any]):
    """Any JSON value (RFC 8259), stored as text.

    Args:
        model_class: a pydantic model or a dataclass; values are its instances.
    """

    kind = "string"

    def __init__(self, model_class: type | None = None, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.model_class = model_class

    def encode(self, value: Any) -> str:
        model_class = self.model_class
        if model_class is not None and isinstance(value, model_class):
            dump = getattr(value, "model_dump", None)
            value = dump(mode="json") if dump is not None else dataclasses.asdict(cast("Any", value))
        # Lone surrogates stay escaped: they are valid in JSON, but not in UTF-8.
        import json

        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    def decode(self, stored: Any) -> Any:
        import json

        value = json.loads(stored)
        model_class = self.model_class
        if model_class is None or value is None:
            return value
        validate = getattr(model_class, "model_validate", None)
        return validate(value) if validate is not None else model_class(**value)
