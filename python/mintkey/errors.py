"""Every exception that mintkey raises.

Each one derives from `MintkeyError` and from the built-in class that fits, so both habits work::

    MintkeyError
    ├── ConfigurationError (ValueError)      a model, an attribute or a URL is declared wrongly
    ├── InvalidId (ValueError)               a text is no well-formed id
    ├── InvalidValue (ValueError)            a value cannot be stored
    │   ├── InvalidCursor                    a cursor is damaged, or belongs to another query
    │   └── ItemTooLarge                     an item is over the size that a store takes
    ├── ItemGone (LookupError)               the row to change is not there any more
    ├── NotLoaded (LookupError)              an attribute that a projection left out was read
    ├── TableMissing (LookupError)           the table was never created
    ├── ConditionFailed                      a condition on a write did not hold
    │   ├── KeyCollision                     an insert met a row with its key
    │   └── VersionConflict                  somebody else wrote the row first
    ├── BatchIncomplete                      some items of a batch failed
    ├── StoreUnavailable (ConnectionError)   the store cannot be reached or cannot work
    ├── StoreTimeout (TimeoutError)          the store took longer than `?timeout=`
    ├── Throttled                            the store asks for fewer requests
    ├── UnsupportedOperation (NotImplementedError)   this store cannot do that
    └── InternalError (SystemError)          a mistake in mintkey itself
"""

from __future__ import annotations

import reprlib
from typing import Any, Literal

__all__ = [
    "BatchIncomplete",
    "ConditionFailed",
    "ConfigurationError",
    "InternalError",
    "InvalidCursor",
    "InvalidId",
    "InvalidValue",
    "ItemGone",
    "ItemTooLarge",
    "KeyCollision",
    "MintkeyError",
    "NotLoaded",
    "StoreTimeout",
    "StoreUnavailable",
    "TableMissing",
    "Throttled",
    "UnsupportedOperation",
    "VersionConflict",
]


class MintkeyError(Exception):
    """The base of every exception of this package.

    Attributes:
        model: the name of the model class, where one is concerned.
        attribute: the name of the attribute, where one is concerned.
        key: the item's key as it is stored, a dict of stored names to stored values, where one is concerned.
        store: the store's URL without its password, where one is concerned.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        attribute: str | None = None,
        key: dict[str, object] | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.attribute = attribute
        self.key = key
        self.store = store


class ConfigurationError(MintkeyError, ValueError):
    """A model, an attribute, a URL or a setting is declared wrongly."""


class InvalidId(MintkeyError, ValueError):
    """A text is no well-formed id of its kind."""


class InvalidValue(MintkeyError, ValueError):
    """A value cannot be stored: wrong type, missing, out of range, or a key that may not change."""


class InvalidCursor(InvalidValue):
    """A page cursor is damaged, or belongs to another query: start again without `cursor=`."""


class ItemTooLarge(InvalidValue):
    """An item is over the size that a store takes; the message names its largest attributes."""


class ItemGone(MintkeyError, LookupError):
    """The row that was to be changed or read again is not there any more."""


class NotLoaded(MintkeyError, LookupError):
    """An attribute was read that the query's `attributes=` left out."""


class TableMissing(MintkeyError, LookupError):
    """The table does not exist in the store; `Model.create_table()` makes it."""


class ConditionFailed(MintkeyError):
    """The condition of a write did not hold; nothing was written."""


class KeyCollision(ConditionFailed):
    """An insert met a row that has its key already; nothing was overwritten."""


class VersionConflict(ConditionFailed):
    """The stored version is not the one that was loaded: somebody else wrote first."""


class BatchIncomplete(MintkeyError):
    """Some items of a batch failed; all others were written.

    Attributes:
        written: how many items were written.
        failed: pairs of an item (or key) and the exception that says why, in order. An item was not written unless the
            `outcome` of its exception is `"unknown"`.
        stopped: whether the batch ended there, because the store itself failed; what came after was not tried.
    """

    def __init__(
        self,
        message: str,
        *,
        written: int = 0,
        failed: tuple[tuple[Any, BaseException], ...] = (),
        stopped: bool = False,
        model: str | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__(message, model=model, store=store)
        self.written = written
        self.failed = failed
        self.stopped = stopped


class StoreUnavailable(MintkeyError, ConnectionError):
    """The store cannot be reached or cannot do its work.

    `outcome` is `"not_applied"` when nothing was written for certain, and `"unknown"` when the write may
    have arrived; the next `save()` of the same instance then takes the row for its own if it is there.
    """

    outcome: Literal["not_applied", "unknown"] = "not_applied"


class StoreTimeout(MintkeyError, TimeoutError):
    """The store took longer than the URL's `?timeout=` (seconds).

    `outcome` is `"not_applied"` when nothing was written for certain, and `"unknown"` when the write may
    have arrived.
    """

    outcome: Literal["not_applied", "unknown"] = "not_applied"


class Throttled(MintkeyError):
    """The store turned a request away because there are too many; nothing was written.

    Try again later, or keep below its limits with `connect(url, rate_limit=…)`.
    """


class UnsupportedOperation(MintkeyError, NotImplementedError):
    """This store cannot do what was asked; the message says what, why and the way out."""


class InternalError(MintkeyError, SystemError):
    """A mistake in mintkey itself, which had no answer to what happened: please report it.

    `outcome` is `"unknown"`: a write that failed so may have arrived.
    """

    outcome: Literal["unknown"] = "unknown"


#: What raising means that a value cannot be converted, where a value or an attribute type says so by an exception.
CONVERSION_ERRORS = (TypeError, ValueError, ArithmeticError, RuntimeError)

#: The characters of a value that a message shows; of the text of another exception; of one of this package.
_SHOWN, _SHOWN_CAUSE, _SHOWN_ERROR = 80, 200, 400
#: Python refuses to write longer integers in decimal.
_SHOWN_BITS = 1024
_elements = reprlib.Repr()
_elements.maxlevel = 3
_elements.maxlist = _elements.maxtuple = _elements.maxdict = _elements.maxset = _elements.maxfrozenset = 8
_elements.maxstring = _elements.maxother = _SHOWN


def shortened(value: object) -> str:
    """`repr(value)` for a message: at most 80 characters of it, and the length of what was cut.

    A value may be long, deep or personal, and its `repr` may raise.
    """
    try:
        # By the methods of the built-in types: those of a subclass may do anything.
        if isinstance(value, str):
            return _start(repr(str.__getitem__(value, slice(_SHOWN))), str.__len__(value), "characters")
        if isinstance(value, bytes):
            return _start(repr(bytes.__getitem__(value, slice(_SHOWN))), bytes.__len__(value), "bytes")
        if isinstance(value, int) and int.bit_length(value) > _SHOWN_BITS:
            return f"<an int of {int.bit_length(value):,} bits>"
        text = _elements.repr(value)
        if len(text) <= _SHOWN:
            return text
        length_told = f" ({len(value):,} elements)" if isinstance(value, (list, tuple, dict, set, frozenset)) else ""
        return f"{text[:_SHOWN]}…{length_told}"
    except Exception:  # noqa: BLE001 - whatever the value's own methods raise
        return f"<{type(value).__name__}>"


def _start(text: str, length: int, unit: str) -> str:
    # Escapes may make it longer than what they stand for.
    return text if length <= _SHOWN and len(text) <= 2 * _SHOWN else f"{text[: _SHOWN + 1]}… ({length:,} {unit})"


def cause(error: object) -> str:
    """What caused an error, for its message: the start of its text, which may repeat a whole value."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - whatever a foreign exception does
        return f"<{type(error).__name__}>"
    most = _SHOWN_ERROR if isinstance(error, MintkeyError) else _SHOWN_CAUSE
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
