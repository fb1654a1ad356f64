"""Expiry: methods of a model with a `TTLAttribute`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mintkey.attributes.iso import utc_now
from mintkey.errors import shortened
from mintkey.methods.tables import TableMixin


class ExpiryMixin(TableMixin):
    """The expiry of the items of a model."""

    if TYPE_CHECKING:

        def update(self, *, skip_hooks: bool = False, **values: Any) -> object: ...
        async def aupdate(self, *, skip_hooks: bool = False, **values: Any) -> object: ...

    def _ttl_name(self, member: str) -> str:
        name = self.__mintkey_schema__.ttl
        if name is None:
            raise AttributeError(
                f"{type(self).__name__}.{member}: the model has no TTLAttribute: declare expires_at = TTLAttribute()"
            )
        return name

    @property
    def is_expired(self) -> bool:
        """Whether the item has expired; False without a value of the `TTLAttribute`."""
        until: datetime | None = getattr(self, self._ttl_name("is_expired"))
        return until is not None and until <= utc_now()

    @property
    def expires_in(self) -> timedelta | None:
        """The time until the item expires; None if it has expired or never expires."""
        until: datetime | None = getattr(self, self._ttl_name("expires_in"))
        if until is None or until <= utc_now():
            return None
        return until - utc_now()

    def _extension(self, until: datetime) -> dict[str, Any]:
        name = self._ttl_name("extend_ttl")
        if not isinstance(until, datetime):
            raise TypeError(
                f"{type(self).__name__}.extend_ttl() takes a datetime, not {shortened(until)}: "
                f"use update({name}=None) to remove the expiry"
            )
        return {name: until}

    def extend_ttl(self, until: datetime) -> None:
        """Set the expiry in the instance and the store. Raises `ItemGone` if the row no longer exists."""
        self.update(skip_hooks=True, **self._extension(until))

    async def aextend_ttl(self, until: datetime) -> None:
        """Async version of `extend_ttl()`."""
        await self.aupdate(skip_hooks=True, **self._extension(until))
