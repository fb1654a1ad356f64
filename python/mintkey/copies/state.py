"""The state of a copy: how far each segment of each table is, in a file from which the copy continues.

The position of a segment is that of the last page whose rows are all written. The file is replaced as a whole, so it is
never half written. After a kill, the rows that were written since the last save are found equal in the target.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mintkey import _core
from mintkey.copies.files import replacing
from mintkey.errors import ConfigurationError, reason_of_system

_VERSION = 1
#: The seconds between two saves.
_INTERVAL = 0.5
#: The failures of a table that are kept with their keys. Further ones are only counted.
MOST_FAILURES = 1000


class Failure(NamedTuple):
    """A row that the target refused.

    Attributes:
        key: the key of the row: a dict of names to values.
        reason: why it was refused.
    """

    key: dict[str, Any]
    reason: str


class TableState:
    """How far the copy of a table is.

    Attributes:
        segments: for each segment the position after its last written page; None before the first, False at the end.
    """

    def __init__(self, segments: int) -> None:
        self.segments: list[bytes | bool | None] = [None] * segments
        self.written = self.unchanged = self.skipped = self.failed = 0
        self.failures: list[Failure] = []

    @property
    def done(self) -> int:
        """The number of rows of the source that were processed."""
        return self.written + self.unchanged + self.skipped + self.failed

    def refused(self, failures: list[Failure]) -> None:
        """Record rows that the target refused."""
        self.failed += len(failures)
        self.failures += failures[: MOST_FAILURES - len(self.failures)]

    def accepted(self, left: list[Failure], written: int) -> None:
        """Record that the rows that were refused are written now, or are gone, except those that are `left`."""
        self.written += written
        self.failed -= len(self.failures) - len(left)
        self.failures = left

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain values for JSON."""
        return {
            "segments": [base64.b64encode(at).decode() if isinstance(at, bytes) else at for at in self.segments],
            "written": self.written,
            "unchanged": self.unchanged,
            "skipped": self.skipped,
            "failed": self.failed,
            "failures": [[_core.Item.from_dict(key).to_json(), reason] for key, reason in self.failures],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TableState:
        """Return the state that `to_dict()` returned."""
        state = cls(0)
        state.segments = [base64.b64decode(at) if isinstance(at, str) else at for at in values["segments"]]
        state.written, state.unchanged = values["written"], values["unchanged"]
        state.skipped, state.failed = values["skipped"], values["failed"]
        state.failures = [Failure(_core.Item.from_json(key).to_dict(), reason) for key, reason in values["failures"]]
        return state


class CopyState:
    """The state of a copy, and its file.

    Attributes:
        began: the time at which the copy began, in seconds since 1970.
        tables: the state of each table whose copy has started, by name.
    """

    def __init__(self, path: str | os.PathLike[str] | None, identity: dict[str, str], began: float) -> None:
        # As it was given, because it is named in errors.
        self._path = None if path is None else os.fspath(path)
        self._identity = identity
        self._saved = float("-inf")
        self.began = began
        self.tables: dict[str, TableState] = {}
        if self._path is not None:
            self._read(self._path)

    def _read(self, path: str) -> None:
        try:
            text = Path(path).read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            name = path or repr(path)
            raise ConfigurationError(f"the state file {name} cannot be read: {reason_of_system(error)}") from error
        try:
            values = json.loads(text)
            version = values["version"]
            # Another version may have other entries.
            known: dict[str, Any] = values if version == _VERSION else {"copy": {}, "began": 0, "tables": {}}
            identity, began = known["copy"], float(known["began"])
            tables = {name: TableState.from_dict(table) for name, table in known["tables"].items()}
        except Exception as error:
            raise ConfigurationError(
                f"{path} is not the state of a copy: name another file, or delete this one to start again"
            ) from error
        if version != _VERSION:
            raise ConfigurationError(f"{path} was written by another version of mintkey: use that version")
        for name, value in self._identity.items():
            if identity.get(name) != value:
                raise ConfigurationError(
                    f"{path} is the state of another copy: its {name} is {identity.get(name)}, and not "
                    f"{value}: name another file, or delete this one to start again"
                )
        self.began, self.tables = began, tables

    def save(self, clock: Callable[[], float] = time.monotonic, *, always: bool = True) -> None:
        """Write the file. Unless `always`, do so at most every half second."""
        if self._path is None or (not always and clock() - self._saved < _INTERVAL):
            return
        values = {
            "version": _VERSION,
            "copy": self._identity,
            "began": self.began,
            "tables": {name: table.to_dict() for name, table in self.tables.items()},
        }
        try:
            # It may have keys of rows, and another copy with this file waits for its turn.
            with replacing(self._path, mode=0o600, waits=True) as file:
                file.write(json.dumps(values).encode())
        except OSError as error:
            raise ConfigurationError(
                f"the state file {self._path} cannot be written: {reason_of_system(error)}"
            ) from error
        self._saved = clock()

    def remove(self) -> None:
        """Remove the file, because the copy is complete."""
        if self._path is not None:
            Path(self._path).unlink(missing_ok=True)
