"""Declarations: the attributes, indexes and options of a class and its base classes, and their checks."""

from __future__ import annotations

from datetime import timedelta
from keyword import iskeyword
from typing import Any

from mintkey.attributes import ExpiresIn
from mintkey.attributes.base import Attribute
from mintkey.definitions.derived import COMPOUND_KEY
from mintkey.errors import ConfigurationError, shortened
from mintkey.indexes import NAME, NAME_CHARACTERS, Index
from mintkey.model_config import ModelConfig

#: The end of the message about an attribute that cannot be a key.
KEY_TYPES = "keys and indexed values are text, numbers or bytes: use a StringAttribute, for example"


def refusal(model: str, message: str, attribute: str | None = None) -> ConfigurationError:
    """Return the error for a declaration that is not valid."""
    return ConfigurationError(message, model=model, attribute=attribute)


def check_members(model: type) -> None:
    """Refuse members of the class that look like attributes, but are none."""
    for name, member in vars(model).items():
        label = f"{model.__name__}.{name}"
        if isinstance(member, tuple) and len(member) == 1 and isinstance(member[0], Attribute):
            raise refusal(model.__name__, f"{label}: the comma after it makes it a tuple: remove it", name)
        if isinstance(member, type) and issubclass(member, Attribute) and member.__name__ != name:
            raise refusal(model.__name__, f"{label}: write {member.__name__}(), with parentheses", name)


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


def adopt(model: type, attributes: dict[str, Attribute[Any]]) -> None:
    """Give the class its own copies of the attributes of abstract bases, and of those that depend on the class."""
    for name, attribute in attributes.items():
        config = getattr(vars(attribute._owner).get("__mintkey_schema__"), "config", None)
        is_own = attribute.template is None and not attribute.discriminator
        if is_own and not (isinstance(config, ModelConfig) and config.abstract):
            continue
        if attribute._owner is not model:
            attributes[name] = attribute.copied(model)
            setattr(model, name, attributes[name])


def check_attributes(model: str, attributes: dict[str, Attribute[Any]], reserved: frozenset[str]) -> None:
    """Check the names of the attributes and what they declare; `reserved` names are those of `Model`."""
    stored: dict[str, str] = {}
    for name, attribute in attributes.items():
        label = f"{model}.{name}"
        if not name.isidentifier() or iskeyword(name):
            raise refusal(
                model,
                f"{model}: {shortened(name)} is not a valid attribute name: "
                "use a Python identifier, and pass the name in the store as alias=",
                name,
            )
        if name in reserved or name.startswith("_mk_"):
            raise refusal(
                model,
                f"{label}: the name {name!r} is used by Model itself. "
                f'Write {name}_ = {type(attribute).__name__}(…, alias="{name}"): '
                f"the alias is the name in the store",
                name,
            )
        if attribute.name != name:
            raise refusal(
                model, f"{label}: the same attribute object is also {attribute.name!r}: declare two objects", name
            )
        attribute.check_declaration()
        attribute.check_default()
        other = stored.setdefault(attribute.stored_name, name)
        if other != name:
            raise refusal(
                model,
                f"{label} and {model}.{other} are both stored as {attribute.stored_name!r}: "
                "give one of them another alias",
                name,
            )


def single(model: str, attributes: dict[str, Attribute[Any]], kind: type[Attribute[Any]]) -> str | None:
    """Return the name of the attribute of this class, which a model has once or not at all."""
    names = [name for name, attribute in attributes.items() if isinstance(attribute, kind)]
    if len(names) > 1:
        raise refusal(model, f"{model} has two {kind.__name__}s, {names[0]!r} and {names[1]!r}: keep one", names[1])
    return names[0] if names else None


def table_name(model: str, config: ModelConfig, option: str = "ModelConfig(table=…)") -> str:
    """Return the name of the table, checked. `option` is where users set it, for the message."""
    name = model if config.table is None else config.table
    if not isinstance(name, str):
        raise refusal(model, f"{model}: table= takes text, not {shortened(name)}")
    if config.abstract and config.table is None:
        return name
    if not NAME.fullmatch(name):
        raise refusal(
            model,
            f"{model}: the table name {shortened(name)} does not have {NAME_CHARACTERS}: set another one with {option}",
        )
    return name


def set_default_ttl(model: type, attributes: dict[str, Attribute[Any]], name: str | None, ttl: timedelta) -> None:
    """Give the attribute for the time of expiry the default of `ModelConfig(ttl=…)`, unless it has its own."""
    if name is None:
        raise refusal(
            model.__name__,
            f"{model.__name__}: ModelConfig(ttl=…) needs an attribute for the time of expiry: "
            "declare expires_at = TTLAttribute()",
        )
    attribute = attributes[name]
    if attribute.default is None and attribute.minted is None:
        # The class itself may have been given its attribute by a base class with another ttl.
        own = attributes[name] = attribute.copied(model)
        own.default = lambda: ExpiresIn.seconds(ttl.total_seconds())
        setattr(model, name, own)
