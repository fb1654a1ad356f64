"""Cursors: opaque texts that name the position of the next page of a query."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from mintkey.errors import InvalidCursor, shortened

#: The bytes of a cursor: a fingerprint of the query, the number of items left under its limit, a position of the store.
_FINGERPRINT, _LEFT = 8, 8
_NO_LIMIT = (1 << 8 * _LEFT) - 1
_START_AGAIN = "start again without cursor="


class Cursors(NamedTuple):
    """The cursors of one query.

    Attributes:
        model: the name of the model.
        query: a text that is the same for equal queries, in every process.
        limit: the maximum number of items of the query.
    """

    model: str
    query: str
    limit: int | None

    def encode(self, left: int | None, after: bytes) -> str:
        """Return the cursor of a position, with the number of items left under the limit."""
        rest = (_NO_LIMIT if left is None else left).to_bytes(_LEFT, "big") + after
        return base64.urlsafe_b64encode(self._fingerprint(rest) + rest).rstrip(b"=").decode()

    def decode(self, cursor: str) -> tuple[int | None, bytes]:
        """Decode a cursor; return the number of items left under the limit, and the position."""
        if cursor == "":
            raise self._invalid("the cursor is empty: leave cursor= out, or pass None, to start with the first page")
        try:
            raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (AttributeError, UnicodeEncodeError, binascii.Error) as error:
            raise self._invalid(f"{shortened(cursor)} is not a cursor: {_START_AGAIN}") from error
        count = int.from_bytes(raw[_FINGERPRINT : _FINGERPRINT + _LEFT], "big")
        left = None if count == _NO_LIMIT else count
        # The fingerprint detects mistakes. It is not a signature: a client can forge it, so `left` is checked too.
        possible = left is None if self.limit is None else left is not None and 0 < left <= self.limit
        if raw[:_FINGERPRINT] != self._fingerprint(raw[_FINGERPRINT:]) or not possible:
            raise self._invalid(
                "the cursor belongs to another query, or is damaged: pass it to the query that returned it, with the "
                f"same conditions, direction and limit, or {_START_AGAIN}"
            )
        return left, raw[_FINGERPRINT + _LEFT :]

    def _fingerprint(self, rest: bytes) -> bytes:
        """Return a hash of the query and of the rest of a cursor, to detect damage and cursors of other queries."""
        from hashlib import blake2b  # loads OpenSSL, which only cursors need

        return blake2b(self.query.encode("utf-8", "surrogatepass") + rest, digest_size=_FINGERPRINT).digest()

    def _invalid(self, reason: str) -> InvalidCursor:
        return InvalidCursor(f"{self.model}: {reason}", model=self.model)
