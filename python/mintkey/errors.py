"""All exceptions of mintkey.

Each exception derives from `MintkeyError` and from the built-in exception of the same kind, so a caller can catch
either::

    MintkeyError
    ├── ConfigurationError (ValueError)      a declaration, a URL or a setting is wrong
    ├── InvalidId (ValueError)               a text is not a well-formed ID
    ├── InvalidValue (ValueError)            a value cannot be stored, or an argument is out of range
    │   ├── InvalidCursor                    a cursor is damaged, or belongs to another query
    │   ├── ItemTooLarge                     an item exceeds the size limit of the store
    │   ├── UnreadableItem                   a stored value cannot be read by its attribute
    │   └── WrongModel (TypeError)           a condition or a change is on an attribute of another model
    ├── ItemGone (LookupError)               the row no longer exists
    ├── NotLoaded (LookupError)              an attribute that the query did not load was read
    ├── TableMissing (LookupError)           the table does not exist
    ├── ConditionFailed                      the condition of a write is false
    │   ├── KeyCollision                     an insert found a row with the same key
    │   ├── UniqueViolation                  another item has the same unique value
    │   └── VersionConflict                  another writer changed the row first
    ├── BatchIncomplete                      some items of a batch failed
    │   └── BatchStoreError (StoreError)     the store failed for at least one of them
    ├── TransactionCancelled                 a transaction wrote nothing
    ├── StoreError                           the store could not carry out the request: try again later
    │   ├── StoreUnavailable (ConnectionError)   the store cannot be reached or cannot work
    │   ├── StoreTimeout (TimeoutError)      the store took longer than `?timeout=`
    │   └── Throttled                        the store rejected a request because of its rate
    ├── UnsupportedOperation (NotImplementedError)   the store does not support the operation
    └── InternalError (SystemError)          a bug in mintkey
"""

from __future__ import annotations

import errno
import reprlib
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "BatchIncomplete",
    "BatchStoreError",
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
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
    "TableMissing",
    "Throttled",
    "TransactionCancelled",
    "UniqueViolation",
    "UnreadableItem",
    "UnsupportedOperation",
    "VersionConflict",
    "WrongModel",
]


class MintkeyError(Exception):
    """The base class of all exceptions of this package. Attributes that do not apply are None.

    Attributes:
        model: the name of the model class.
        attribute: the name of the attribute.
        key: the key of the item: a dict of attribute names to stored values.
        store: the URL of the store, without its password.
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

    def _reword(self, message: str) -> None:
        """Replace the message, where more is known than where the error occurred."""
        self.args = (message,)


class ConfigurationError(MintkeyError, ValueError):
    """A model, an attribute, a URL or a setting is wrong."""


class InvalidId(MintkeyError, ValueError):
    """A text or an integer is not a well-formed ID."""


class InvalidValue(MintkeyError, ValueError):
    """A value cannot be stored (wrong type, missing, out of range, a changed key), or an argument is out of range."""


class InvalidCursor(InvalidValue):
    """A page cursor is damaged, or belongs to another query. Start again without `cursor=`."""


class ItemTooLarge(InvalidValue):
    """An item exceeds the size limit of the store. The message names the largest attributes."""


class UnreadableItem(InvalidValue):
    """A stored value cannot be read by its attribute: another program wrote it, or the class has changed.

    `scan()` and `query()` skip or report such items with `on_unreadable=`. Deleting and overwriting by key work.

    Attributes:
        key: a dict of attribute names to values, or to stored values that cannot be read. All methods that take
            a key, such as `batch_delete()` and `update_by_key()`, take it.
        item: the stored item: a dict of stored names to stored values.
        written: whether the write of this call was done. It returns a row that cannot be read: that of
            `return_old=True`, or the result of an update.
    """

    def __init__(self, message: str, *, item: dict[str, object] | None = None, **where: Any) -> None:
        super().__init__(message, **where)
        self.item = item
        self.written = False


class WrongModel(InvalidValue, TypeError):
    """A condition or a change is on an attribute of another model. Use an attribute of the model or of its bases."""


class ItemGone(MintkeyError, LookupError):
    """The row to update or refresh no longer exists: it was deleted or has expired."""


class NotLoaded(MintkeyError, LookupError):
    """An attribute was read that the query did not load. Add it to `attributes=`, or call `refresh()`."""


class TableMissing(MintkeyError, LookupError):
    """The table does not exist in the store. Call `Model.create_table()`."""


class ConditionFailed(MintkeyError):
    """The condition of a write is false for the stored row. Nothing was written.

    Attributes:
        item: the stored row as an instance of the model, as the write found it; None if there is no row. No hooks ran.
            Reading it raises `UnreadableItem`, whose `item` has the stored values, if the model cannot read the row.
    """

    # Set by the compiled core, and by the operation of the write.
    _stored: Any = None
    _owner: Any = None

    @property
    def item(self) -> Any:
        """The stored row as a new instance of the model, or None.

        Raises:
            UnreadableItem: the model cannot read the row. `item` of this error has the stored values.
        """
        return None if self._stored is None or self._owner is None else self._owner._loaded(self._stored)


class KeyCollision(ConditionFailed):
    """An insert found a row with the same key. Nothing was overwritten."""


_Violation: TypeAlias = "tuple[tuple[str, ...], tuple[Any, ...], list[dict[str, object]]]"


class UniqueViolation(ConditionFailed):
    """Another item has a unique value of the item. Nothing was written; the item can be saved with another value.

    It is also raised when values become unique, by `create_table()` or the first use of the table, and several items
    have the same value. Then the table is left as it was.

    Attributes:
        attribute: the name of the attribute, or a tuple of names for values that are unique together.
    """

    attribute: str | tuple[str, ...] | None  # type: ignore[assignment]
    # The stored names, the stored values and the keys of the items that have them, of each conflict. The compiled core
    # sets them.
    _violations: Sequence[_Violation] = ()
    # The same with names and values of the model. The operation of the write sets them.
    _named: Sequence[_Violation] = ()

    @property
    def value(self) -> Any:
        """The value that another item has, or a tuple for values that are unique together."""
        return _one_or_all(self._conflicts[0][1]) if self._conflicts else None

    @property
    def holder(self) -> dict[str, object] | None:
        """The stored key of the item that has the value, as in `key`; None if values cannot become unique."""
        holders = self._conflicts[0][2] if self._conflicts else []
        return holders[0] if len(holders) == 1 else None

    @property
    def duplicates(self) -> list[tuple[Any, list[dict[str, object]]]]:
        """Pairs of a value and the keys of all items that have it, if values cannot become unique."""
        return [(_one_or_all(values), keys) for _, values, keys in self._conflicts if len(keys) > 1]

    @property
    def _conflicts(self) -> Sequence[_Violation]:
        return self._named or self._violations


def _one_or_all(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else values


class VersionConflict(ConditionFailed):
    """The stored version differs from the loaded one: another writer changed the row first. Nothing was written."""


class BatchIncomplete(MintkeyError):
    """Some items of a batch or writes of a pipeline failed. All others were written.

    Attributes:
        written: the number of items that were written.
        failed: pairs of an item (or key) and its exception, in order. The item was not written, unless the `outcome`
            of the exception is `"unknown"`, or an `after_` hook raised it.
        stopped: whether the batch ended early because the store failed. Later items were not tried.
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


class TransactionCancelled(MintkeyError):
    """A transaction wrote nothing, because of at least one of its items.

    Attributes:
        reasons: for each item, in the order of the calls, the exception that a single write would have raised; None for
            an item that was not refused. `model` and `key` are those of the first refused item.
    """

    def __init__(self, message: str, *, reasons: Sequence[MintkeyError | None] = (), **where: Any) -> None:
        super().__init__(message, **where)
        self.reasons = list(reasons)


class StoreError(MintkeyError):
    """The store could not carry out the request, for a reason outside of the program. A web service answers 503.

    Attributes:
        outcome: `"not_applied"` if nothing was written, and `"unknown"` if the write may have been applied. After an
            unknown outcome, the next `save()` of the same instance accepts the row that the failed save may have
            written.
    """

    outcome: Literal["not_applied", "unknown"] = "not_applied"


class BatchStoreError(StoreError, BatchIncomplete):
    """A `BatchIncomplete` in which the store failed for at least one item. Writing the failed items again may succeed.

    It is caught by `except StoreError` and by `except BatchIncomplete`, and it is caused by the first `StoreError` of
    `failed`. Other items of `failed` may have other exceptions, which the next attempt reports as `BatchIncomplete`.

    Attributes:
        outcome: `"unknown"` if that of at least one failed item is unknown.
    """


class StoreUnavailable(StoreError, ConnectionError):
    """The store cannot be reached or cannot work.

    A missing folder of a SQLite file counts too: its volume may be mounted later, and then the same store works.
    """


class StoreTimeout(StoreError, TimeoutError):
    """The store took longer than the URL's `?timeout=` (seconds)."""


class Throttled(StoreError):
    """The store rejected a request because there were too many. Nothing was written.

    Call again later, or limit the rate with `connect(url, rate_limit=…)`.
    """


class UnsupportedOperation(MintkeyError, NotImplementedError):
    """The store does not support the operation. The message says why and what to do instead."""


class InternalError(MintkeyError, SystemError):
    """A bug in mintkey: please report it.

    `outcome` is `"unknown"`: the write may have been applied.
    """

    outcome: Literal["unknown"] = "unknown"


def batch_incomplete(
    subject: str,
    unit: str,
    written: int,
    failed: Sequence[tuple[Any, BaseException]],
    *,
    stopped: BaseException | None = None,
    model: str | None = None,
) -> BatchIncomplete:
    """Return the exception of a batch or pipeline: some of its items failed, or the failure `stopped` ended it."""
    errors = [error for _, error in failed]
    failure = stopped or next((error for error in errors if isinstance(error, StoreError)), None)
    first = errors[0] if errors else failure
    shown = f"the first: {cause(first)}"
    if failure is not None and failure is not first:
        shown += f"; of the store: {cause(failure)}"
    unknown = sum(getattr(error, "outcome", None) == "unknown" for error in errors)
    result = f"failed, and whether {unknown} of them were written is unknown" if unknown else "failed"
    rest = f"; the store failed, so later {unit}s were not tried" if stopped else ""
    error = (BatchIncomplete if failure is None else BatchStoreError)(
        f"{subject}: {len(failed)} of {written + len(failed)} {unit}s {result} ({shown}){rest}. "
        f"`failed` lists each {unit} with its exception",
        written=written,
        failed=tuple(failed),
        stopped=stopped is not None,
        model=model,
        store=getattr(failure, "store", None),
    )
    error.__cause__ = failure or first
    if isinstance(error, BatchStoreError) and unknown:
        error.outcome = "unknown"
    return error


#: The exceptions by which an attribute type or a value reports that the value cannot be converted.
CONVERSION_ERRORS = (TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError)

#: The maximum length in a message: of a value, of the text of another exception, of one of this package.
_SHOWN, _SHOWN_CAUSE, _SHOWN_ERROR = 80, 200, 400
#: Python refuses to write longer integers in decimal.
_SHOWN_BITS = 1024
_elements = reprlib.Repr()
_elements.maxlevel = 3
_elements.maxlist = _elements.maxtuple = _elements.maxdict = _elements.maxset = _elements.maxfrozenset = 8
_elements.maxstring = _elements.maxother = _SHOWN


def check_flags(owner: str, error: Callable[[str], Exception] = TypeError, /, **flags: object) -> None:
    """Raise an error for a flag that is not a bool: text such as "false" counts as true in Python."""
    for name, value in flags.items():
        if type(value) is not bool:
            raise error(f"{owner}: {name}= takes True or False, not {shortened(value)}")


def shortened(value: object) -> str:
    """Return at most 80 characters of `repr(value)` for a message, and the length of the value if it was cut.

    A value may be long, deeply nested or personal, and its `repr` may raise.
    """
    try:
        # Call the methods of the built-in types: a subclass may override them with anything.
        if isinstance(value, str):
            return _start(repr(str.__getitem__(value, slice(_SHOWN))), str.__len__(value), "characters")
        if isinstance(value, bytes):
            return _start(repr(bytes.__getitem__(value, slice(_SHOWN))), bytes.__len__(value), "bytes")
        if isinstance(value, int) and int.bit_length(value) > _SHOWN_BITS:
            return f"<an int of {int.bit_length(value):,} bits>"
        text = _elements.repr(value)
        if len(text) <= _SHOWN:
            return text
        length = f" ({len(value):,} elements)" if isinstance(value, (list, tuple, dict, set, frozenset)) else ""
        return f"{text[:_SHOWN]}…{length}"
    except Exception:  # noqa: BLE001 - the value's own methods may raise anything
        return f"<{type(value).__name__}>"


def needs(user: str, package: str, extra: str) -> str:
    """Return the message for a package that is not installed. The extra of mintkey installs it."""
    return f"{user} needs the package {package}: pip install 'mintkey[{extra}]'"


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the question whether the most similar of the known names was meant, for a message; empty if none is."""
    import difflib  # loaded only for errors

    near = difflib.get_close_matches(name, list(known), 1, 0.7) if isinstance(name, str) else []
    return f" (did you mean {near[0]!r}?)" if near else ""


def safe_repr(value: object) -> str:
    """Return `repr(value)`, or a short description of a value whose `repr` raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - the value's own method, or an integer that Python does not write in decimal
        return shortened(value)


def _start(text: str, length: int, unit: str) -> str:
    # An escape sequence is longer than the character that it represents.
    return text if length <= _SHOWN and len(text) <= 2 * _SHOWN else f"{text[: _SHOWN + 1]}… ({length:,} {unit})"


def cause(error: object) -> str:
    """Return the start of an exception's text for the message of another one. The text may contain a whole value."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception of other code may raise anything
        return f"<{type(error).__name__}>"
    most = _SHOWN_ERROR if isinstance(error, MintkeyError) else _SHOWN_CAUSE
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


#: The errors of a file that cannot become longer.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def reason_of_system(error: OSError) -> str:
    """Return why the system refuses to read or write a file, and what to do about a full disk."""
    reason = error.strerror or str(error)
    return f"{reason}: free space, or name a file on another disk" if error.errno in DISK_FULL else reason


def raised_by_signal_handler(error: BaseException) -> BaseException | None:
    """Return the exception that a signal handler has raised: this one, or what caused it; None if there is none.

    It is meant for the caller and not for one item or row: a time limit of Celery is such an exception.
    """
    import signal  # loaded only for errors

    codes = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    seen: BaseException | None = error
    while seen is not None:
        trace = seen.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in codes:
                return seen
            trace = trace.tb_next
        seen = seen.__cause__
    return None


def _code(handler: Any) -> object:
    """Return the code of a function, a method, a `functools.partial` or an object that can be called."""
    while hasattr(handler, "func"):
        handler = handler.func
    if not hasattr(handler, "__code__") and callable(handler):
        handler = type(handler).__call__
    return getattr(handler, "__code__", None)
