"""An object mapper for key-value databases whose keys and timestamps mint themselves on save."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mintkey.attributes import ExpiresIn as ExpiresIn
    from mintkey.errors import MintkeyError as MintkeyError
    from mintkey.generators import AutoGenerate as AutoGenerate
    from mintkey.generators import auto as auto
    from mintkey.model import Attr as Attr
    from mintkey.model import Model as Model
    from mintkey.model import TypedModel as TypedModel
    from mintkey.schema import ModelConfig as ModelConfig
    from mintkey.stores import Store as Store
    from mintkey.stores import connect as connect

# Each name is imported when it is first used: whoever wants ids alone loads neither models nor stores.
_HOMES = {
    "Attr": "model",
    "AutoGenerate": "generators",
    "ExpiresIn": "attributes",
    "MintkeyError": "errors",
    "Model": "model",
    "ModelConfig": "schema",
    "Store": "stores",
    "TypedModel": "model",
    "auto": "generators",
    "connect": "stores",
}

__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604 - every one of them is a text


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("mintkey._core").VERSION
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"mintkey.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'mintkey' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
