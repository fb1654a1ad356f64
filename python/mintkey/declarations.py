"""Declarations: the attributes and indexes of a class and its base classes."""

from __future__ import annotations

from typing import Any

from mintkey.attributes.base import Attribute
from mintkey.derived import COMPOUND_KEY
from mintkey.indexes import Index

__all__ = ["collect", "collect_indexes", "hidden"]


def hidden(model: type, attribute: Attribute[Any], name: str) -> Attribute[Any]:
    """Add a hidden attribute to a class."""
    attribute.__set_name__(model, name)
    setattr(model, name, attribute)
    return attribute


def collect(model: type) -> dict[str, Attribute[Any]]:
    """Return the attributes in the order of declaration, base class first. A subclass may replace or remove one."""
    attributes: dict[str, Attribute[Any]] = {}
    for base in reversed(model.__mro__):
        for name, member in vars(base).items():
            if isinstance(member, Attribute):
                if name != COMPOUND_KEY:
                    attributes[name] = member
            elif name in attributes and not name.startswith("__"):
                del attributes[name]
    return attributes


def collect_indexes(model: type) -> tuple[Index, ...]:
    """Return the declared indexes, base class first. A subclass may replace or remove one."""
    found: dict[str, Index] = {}
    for base in reversed(model.__mro__):
        for name, member in vars(base).items():
            if isinstance(member, Index):
                found[name] = member
            else:
                found.pop(name, None)
    return tuple(found.values())
