"""Arguments: checks keys and changes of callers against the schema, and adds the key to error messages."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mintkey import _core
from mintkey.conditions import Action, Condition, not_a_condition
from mintkey.definitions.key_plans import IMPLICIT_KEY
from mintkey.definitions.schema import StoredKey
from mintkey.errors import InvalidValue, MintkeyError, NotLoaded, check_flags, shortened

if TYPE_CHECKING:
    from mintkey.definitions.schema import Schema

R = TypeVar("R")

# Keywords that methods of a model take now or will take. Attributes cannot have these names.
_KEYWORDS = frozenset(
    {"index", "condition", "upsert", "limit", "descending", "attributes", "consistent", "segments", "pipeline"}
    | {"skip_hooks", "replace", "self", "cls"}
)

#: A key of an item: a dict, a tuple of its parts, or the value of its only part.
Key: TypeAlias = "Mapping[str, Any] | Sequence[Any] | str | float | bytes"


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """The checked arguments of an update: values to set (None removes) and actions."""

    values: dict[str, Any]
    actions: tuple[Action, ...]
    names: frozenset[str]


def changes(
    schema: Schema, actions: tuple[Action, ...], values: dict[str, Any], call: Callable[..., object] | None = None
) -> Changes:
    """Check the arguments of an update. `call` is the method that the caller used."""
    unknown = [name for name in values if name not in schema.attributes]
    if "return_old" in unknown:
        raise TypeError(
            f"{schema.model}: return_old= belongs to update() and delete() of one item. A transaction or a result "
            "returns no old rows: read them before"
        )
    if unknown:
        raise schema.unexpected(unknown, call)
    roots = []
    for action in actions:
        if not isinstance(action, Action):
            raise TypeError(
                f"{schema.model}: expected an action such as {schema.model}.n.add(1), got {shortened(action)}"
            )
        schema.check_roots(action.roots())
        root = action.root.name
        if root not in schema.attributes:
            # A subclass has it, but its attribute is not in the rows of this class.
            raise schema.unexpected([root], call)
        if action.name == "remove" and action.is_whole and schema.attributes[root].required:
            raise InvalidValue(
                f"{schema.model}.{root}: required, so an update cannot remove it: pass another value",
                model=schema.model,
                attribute=root,
            )
        roots.append(root)
    names = frozenset({*values, *roots})
    for name in names:
        if name in schema.keys or name in schema.given_keys:
            raise InvalidValue(
                f"{schema.model}.{name}: a key cannot be updated: save a new {schema.model} with the new key, "
                "then delete() this one",
                model=schema.model,
                attribute=name,
            )
        if schema.derived is not None and name in schema.derived.names:
            raise schema.derived.refusal(name)
        if name == schema.version:
            raise InvalidValue(
                f"{schema.model}.{name}: the version is counted automatically and cannot be set: leave it out",
                model=schema.model,
                attribute=name,
            )
    if not names:
        raise TypeError(f"{schema.model}: an update needs at least one value or action")
    return Changes(values, actions, names)


def key(
    schema: Schema, values: Mapping[str, Any], call: Callable[..., object] | None = None
) -> tuple[_core.Key, dict[str, Any]]:
    """Return the key in `values`, and the other equalities, which only `get` (the `call`) takes."""
    if type(values) is dict and values.keys() == schema.plain_key:
        return schema.codec.key(values), {}
    if isinstance(values, StoredKey) and values.table == schema.table:
        return values.stored, {}
    unknown = [name for name in values if name not in schema.attributes]
    if unknown:
        raise schema.unexpected(unknown, call)
    values = with_parts(schema, values)
    missing = [name for name in schema.given_keys if name not in values]
    if missing:
        wanted = ", ".join(f"{name}=…" for name in schema.given_keys)
        hint = unique_hint(schema, values)
        way_out = f"; {hint}" if hint else ""
        raise TypeError(f"{schema.model}: the key is {wanted}: {', '.join(missing)} is missing{way_out}")
    further = {name: value for name, value in values.items() if name not in schema.given_keys}
    if further and call is None:
        raise TypeError(
            f"{schema.model}: {', '.join(further)} is not part of the key, which is {', '.join(schema.given_keys)}"
        )
    return schema.codec.key(schema.with_key(dict(values))), further


def unique_hint(schema: Schema, names: Collection[str]) -> str:
    """Return the advice to read by a unique set whose attributes are all among the names; empty if there is none."""
    for plan in schema.unique:
        if set(names) >= set(plan.attributes):
            return f"get_by({', '.join(f'{name}=…' for name in plan.attributes)}) reads one item by unique values"
    return ""


def named_key(schema: Schema, key: object) -> dict[str, Any]:
    """Convert a key (a dict, a tuple in the order of the parts, or the value of the only part) to a dict."""
    if isinstance(key, (tuple, list)):
        # A subclass may report a wrong length, or have elements without end.
        parts = tuple(islice(key, len(schema.given_keys) + 1))
    elif isinstance(key, Mapping):
        return key if isinstance(key, StoredKey) else with_parts(schema, key)
    else:
        parts = (key,)
    if len(parts) != len(schema.given_keys):
        wanted = ", ".join(schema.given_keys)
        raise TypeError(f"{schema.model}: a key is a dict or a tuple of {wanted}, not {shortened(key)}")
    return dict(zip(schema.given_keys, parts, strict=True))


def with_parts(schema: Schema, key: Mapping[str, Any]) -> dict[str, Any]:
    """Return a key as a dict, in which the parts of templates replace the texts that are built from them."""
    return dict(key) if schema.derived is None else schema.derived.key_values(key)


def positional_key(
    schema: Schema, parts: tuple[Any, ...], named: dict[str, Any], call: Callable[..., object]
) -> dict[str, Any]:
    """Return the keywords of a `call` that takes the key by position, too, with that key."""
    if not parts:
        return named
    if len(parts) == 1 and isinstance(parts[0], (Mapping, tuple, list)):
        key = named_key(schema, parts[0])
    elif len(parts) == len(schema.given_keys):
        key = dict(zip(schema.given_keys, parts, strict=True))
    else:
        raise TypeError(
            f"{schema.model}.{call.__name__}() takes the whole key, {', '.join(schema.given_keys)}, by position or by "
            f"name, and got {len(parts)} of {len(schema.given_keys)} values by position"
        )
    # The dict of a stored key is kept as it is, because it finds the row by its stored bytes.
    if not named:
        return key
    twice = key.keys() & named.keys()
    if twice:
        raise TypeError(f"{schema.model}.{call.__name__}() got {', '.join(sorted(twice))} by position and by name")
    return {**key, **named}


def equalities(schema: Schema, values: Mapping[str, Any]) -> list[Condition]:
    """Return the conditions that attributes have these values."""
    return [schema.attributes[name] == value for name, value in values.items()]


def consistency(schema: Schema, given: object) -> bool:
    """Return the value of `consistent=`; None stands for the default of the model."""
    if given is None:
        return bool(schema.config.consistent)
    check_flags(schema.model, consistent=given)
    return bool(given)


def check_condition(schema: Schema, condition: object) -> None:
    """Raise `TypeError` if the argument is not a condition. Called before any hook runs."""
    if condition is not None and not isinstance(condition, Condition):
        raise not_a_condition(schema.model, condition)
    if isinstance(condition, Condition):
        schema.check_roots(condition.roots())


def with_key_in_errors(
    schema: Schema, values: dict[str, Any], operation: Generator[Any, Any, R]
) -> Generator[Any, Any, R]:
    """Wrap an operation so that its errors name the key of the item with these values."""
    try:
        return (yield from operation)
    except (InvalidValue, NotLoaded) as error:
        add_key_to_error(schema, values, error)
        raise


def add_key_to_error(schema: Schema, values: dict[str, Any], error: MintkeyError) -> None:
    """Add the key of the item with these values to an error without a key."""
    if error.key is not None or error.model not in {None, schema.model} or error.attribute in schema.given_keys:
        return
    try:
        key = schema.codec.key(schema.with_key(values))
    except Exception:  # noqa: BLE001 - the key itself may be invalid
        return
    error.model = schema.model
    error.key = schema.codec.key_dict(key)
    error._reword(f"{schema.model} {key}: {error}")


def check_return_old(schema: Schema, return_old: object, pipeline: object) -> None:
    """Raise `TypeError` if `return_old=` is no bool, or if the write is not sent now."""
    check_flags(schema.model, return_old=return_old)
    if return_old and pipeline is not None:
        raise TypeError(
            f"{schema.model}: return_old=True needs the reply to this write, which a pipeline sends later: leave out "
            "pipeline=, or read the row before with get()"
        )


@functools.cache
def reserved(*models: type) -> frozenset[str]:
    """Return the names that attributes cannot have: public members of a model, and keywords of its methods.

    `models` are the base classes of a model, and last the class of its `query`, whose member names are allowed.
    """
    *own, query = models
    names = {name for model in own for name in vars(model)} - {IMPLICIT_KEY}
    for member in (member for model in (*own, query) for member in vars(model).values()):
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function):
            parameters = inspect.signature(function).parameters.values()
            if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                names.update(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)
    return frozenset(names | _KEYWORDS)
