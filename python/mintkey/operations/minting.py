"""Minting: generating the values of one save, all from one clock reading."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mintkey import _core
from mintkey.definitions.schema import Mint, Schema


class MintContext:
    """One save while its hooks run. The first read of an attribute without a value generates all such values."""

    __slots__ = ("_minted", "at", "exposed", "schema", "unminted", "values")

    def __init__(self, schema: Schema, values: dict[str, Any], *, new: bool) -> None:
        self.schema = schema
        self.values = values
        self.unminted = {name for name in schema.minted_names if values.get(name) is None}
        #: Whether a hook has read a generated value. Generating it again could contradict values built from it.
        self.exposed = False
        self._minted: dict[str, Any] | None = None if new else {}
        self.at: int | None = None

    def read(self, name: str) -> Any:
        """Return the value of an absent attribute that a hook reads."""
        if name not in self.schema.minted_names or self._minted == {}:
            return None
        self.expose()
        return self.values.get(name)

    def expose(self) -> None:
        """Generate the missing values, which hooks may read."""
        self.exposed = True
        self.mint()

    def instant(self) -> int:
        """Return the instant of this save in ms since 1970. The first call generates the missing values."""
        if self.at is None:
            self.mint()
        if self.at is None:
            self.at = _core.now_ms()
        return self.at

    def mint(self) -> dict[str, Any]:
        """Generate the missing values from one clock reading; return all values generated in this save."""
        values = self.values
        if self._minted is None:
            minted: dict[str, Any] = {}
            self._minted = minted
            at = self.schema.new_save.mint(values, minted)
            self.at = self.at if at is None else at
            mint_others(self.schema, self.schema.minted, values, minted)
        else:
            # A hook removed a generated value: it gets the same value again, because one save has one instant.
            for name, value in self._minted.items():
                if values.get(name) is None:
                    values[name] = value
        return self._minted


def mint_others(schema: Schema, mints: Iterable[Mint], values: dict[str, Any], minted: dict[str, Any]) -> None:
    """Generate what the core does not: the values of functions, and what should have been generated at construction."""
    for mint in mints:
        if values.get(mint.name) is None:
            value = schema.attributes[mint.name].initial()
            if value is not None:
                minted[mint.name] = values[mint.name] = value


def minted_now(mints: Iterable[Mint], at: int | None) -> dict[str, Any]:
    """Generate the values of `on_update` strategies from one clock reading, timestamps from `at` (ms) if given."""
    mints = tuple(mints)
    strategies = tuple(mint.auto.strategy for mint in mints if mint.auto.strategy is not None)
    minted: dict[str, Any] = {}
    if strategies:
        fresh, _ = _core.mint(strategies, at)
        for mint, value in zip((mint for mint in mints if mint.auto.strategy is not None), fresh, strict=True):
            minted[mint.name] = mint.convert(value)
    for mint in mints:
        if mint.auto.function is not None:
            minted[mint.name] = mint.auto.function()
    return minted
