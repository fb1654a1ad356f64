"""Reading stored values: the check of the stored type that comes before every decoder.

Rows of other programs and of older classes can have a value of any type. A decoder is called only for those that it
declares, so it neither reports errors of Python's own functions nor takes `True` for 1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

NUMBERS = (int, float, Decimal)

#: The names of the types in which values are read from a store.
_NAMES = {
    str: "text",
    **dict.fromkeys(NUMBERS, "a number"),
    bool: "a boolean",
    bytes: "binary",
    list: "a list",
    dict: "a map",
    set: "a set",
    type(None): "null",
}
#: The types and the description of what each kind of attribute reads. A kind that is not here reads all types.
_READ: dict[str, tuple[Collection[type], str]] = {
    "string": ((str,), "text"),
    "number": (NUMBERS, "numbers"),
    "decimal": (NUMBERS, "numbers"),
    "boolean": ((bool,), "booleans"),
    "binary": ((bytes,), "binary"),
    "list": ((list, set), "lists"),
    "map": ((dict,), "maps"),
}


def check_type(stored: Any, types: Collection[type], reader: str, reads: str) -> None:
    """Raise `TypeError` if a stored value has none of these types. The message says what the `reader` `reads`."""
    if type(stored) not in types:
        found = _NAMES.get(type(stored), type(stored).__name__)
        raise TypeError(f"it is stored as {found}, and {reader} reads {reads}")


def reader(attribute: Any) -> Callable[[Any], Any]:
    """Return the function that checks the type of a stored value of an `Attribute`, and then decodes it."""
    decode: Callable[[Any], Any] = attribute.decode
    label: str = attribute.described
    types, reads = _READ.get(attribute.kind, (None, ""))
    types, reads = attribute.stored_types or types, attribute.reads or reads
    if types is None or not type(attribute).decode.__module__.startswith("mintkey."):
        return decode  # a decoder of the program decides itself

    def read(stored: Any) -> Any:
        if type(stored) not in types:
            check_type(stored, types, label, reads)
        return decode(stored)

    return read
