"""IDs and timestamps: strategies, and functions that generate values.

    >>> from mintkey.generators import AutoGenerate, auto, generate_value, ulid
    >>> len(ulid())
    26
    >>> generate_value(auto("nanoid", size=8))  # doctest: +SKIP
    'q5Jb_d0Y'

The plain functions (`ulid`, :func:`uuid7`, …) return the final `str` or `int` and can be used as
`default_factory` in dataclasses, pydantic, SQLAlchemy or Django. They need no store and no other part of this
package.
"""

from __future__ import annotations

from mintkey._core import (
    cuid2,
    epoch,
    epoch_ms,
    iso8601,
    iso8601_ms,
    ksuid,
    nanoid,
    snowflake,
    typeid,
    ulid,
    uuid4,
    uuid7,
    xid,
)
from mintkey.generators.ids import (
    ParsedId,
    bounds,
    candidates,
    ksuid_from_bytes,
    parse,
    typeid_from_uuid,
    ulid_from_uuid,
)
from mintkey.generators.ids import id_range as id_range
from mintkey.generators.strategies import Auto, AutoGenerate, auto, is_auto_generate
from mintkey.generators.strategies import _strategy as _strategy
from mintkey.generators.strategies import as_auto as as_auto
from mintkey.generators.values import generate_many, generate_value, instant, reseed

__all__ = [
    "Auto",
    "AutoGenerate",
    "ParsedId",
    "auto",
    "bounds",
    "candidates",
    "cuid2",
    "epoch",
    "epoch_ms",
    "generate_many",
    "generate_value",
    "instant",
    "is_auto_generate",
    "iso8601",
    "iso8601_ms",
    "ksuid",
    "ksuid_from_bytes",
    "nanoid",
    "parse",
    "reseed",
    "snowflake",
    "typeid",
    "typeid_from_uuid",
    "ulid",
    "ulid_from_uuid",
    "uuid4",
    "uuid7",
    "xid",
]


def _report_step_back(from_ms: int, to_ms: int) -> None:
    """Log once that the clock stepped back. Called by the compiled core."""
    import logging  # slower than all other imports of this module together

    root = logging.getLogger("mintkey")
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    logging.getLogger("mintkey.generators").warning(
        "the clock stepped back by %.3f s, from %s to %s ms since 1970; IDs continue from the highest "
        "reading until the clock has caught up",
        (from_ms - to_ms) / 1000,
        from_ms,
        to_ms,
    )
