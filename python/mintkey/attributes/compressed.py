"""The attribute of compressed text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from mintkey import _core
from mintkey.attributes.base import Attribute, V, is_whole
from mintkey.attributes.options import Default, Maybe, Sure, Texts
from mintkey.attributes.validators import TEXT
from mintkey.errors import shortened

if TYPE_CHECKING:
    from typing_extensions import Unpack


Algorithm: TypeAlias = Literal["zstd", "lz4", "gzip"]
_LEVELS = {"zstd": range(1, 23), "gzip": range(1, 10), "lz4": range(0)}
#: The maximum of `max_size=` and `min_size=` in bytes.
_LONGEST_TEXT = (1 << 31) - 1


class CompressedAttribute(Attribute[str, V]):
    """Long text, stored as compressed bytes.

    Args:
        algorithm: `"zstd"` (RFC 8878), `"lz4"` or `"gzip"` (RFC 1952). It can be changed later: all three can be read.
        level: the compression level: 1 to 22 for zstd, 1 to 9 for gzip, none for lz4; None is the default level.
        min_size: texts of fewer bytes (in UTF-8) are stored uncompressed.
        threshold: a text that does not shrink below this fraction of its size is stored uncompressed.
        max_size: the maximum size of a text in bytes (in UTF-8), when it is saved and when it is read. A small stored
            value can contain a very long text.
    """

    kind = "binary"
    stored_types = (bytes, str)
    reads = "compressed binary or text"
    tests = "existence"
    limits = TEXT

    @overload
    def __init__(
        self: CompressedAttribute[str | None],
        algorithm: Algorithm = "zstd",
        level: int | None = None,
        min_size: int = 100,
        threshold: float = 0.9,
        *,
        max_size: int = 16 << 20,
        **parameters: Unpack[Maybe],
    ) -> None: ...
    @overload
    def __init__(
        self: CompressedAttribute[str],
        algorithm: Algorithm = "zstd",
        level: int | None = None,
        min_size: int = 100,
        threshold: float = 0.9,
        *,
        max_size: int = 16 << 20,
        **parameters: Unpack[Sure[Default[str] | Texts]],
    ) -> None: ...
    def __init__(
        self,
        algorithm: Algorithm = "zstd",
        level: int | None = None,
        min_size: int = 100,
        threshold: float = 0.9,
        *,
        max_size: int = 16 << 20,
        **parameters: Any,
    ) -> None:
        super().__init__(**parameters)
        self.max_size = max_size
        self.algorithm = algorithm
        self.level = level
        self.min_size = min_size
        self.threshold = threshold

    def check_declaration(self) -> None:
        super().check_declaration()
        levels = _LEVELS.get(self.algorithm) if isinstance(self.algorithm, str) else None
        problem = None
        if levels is None:
            problem = f"algorithm= takes 'zstd', 'lz4' or 'gzip', not {shortened(self.algorithm)}"
        elif self.level is not None and not (is_whole(self.level) and self.level in levels):
            allowed = f"levels 1 to {levels[-1]}" if levels else "no levels: leave it out"
            problem = f"level={shortened(self.level)}: {self.algorithm} has {allowed}"
        elif not (is_whole(self.min_size) and 0 <= self.min_size <= _LONGEST_TEXT):
            problem = f"min_size= takes 0 to {_LONGEST_TEXT:,} bytes, not {shortened(self.min_size)}"
        elif not (isinstance(self.threshold, (int, float)) and 0 < self.threshold <= 1):
            problem = f"threshold= takes a number above 0 and at most 1, not {shortened(self.threshold)}"
        elif not (is_whole(self.max_size) and 1 <= self.max_size <= _LONGEST_TEXT):
            problem = f"max_size= takes 1 to {_LONGEST_TEXT:,} bytes, not {shortened(self.max_size)}"
        if problem:
            raise self._declaration_error(problem)

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise TypeError(f"expected str, got {type(value).__name__}")
        try:
            data = str.encode(value)
        except UnicodeEncodeError:
            raise ValueError("the text has a lone surrogate, which UTF-8 cannot hold") from None
        if len(data) > self.max_size:
            raise ValueError(
                f"the text has {len(data):,} bytes, and max_size={self.max_size}: split the text, or raise max_size="
            )
        return _core.compress(data, self.algorithm, self.level, self.min_size, self.threshold)

    @property
    def decompresses(self) -> bool:
        return True

    def decode(self, stored: Any) -> str:
        if isinstance(stored, str):
            return _from_pydynox(stored, self.max_size)
        return _core.decompress(stored, self.max_size).decode()


#: The prefix of a compressed text in pydynox (followed by base64), and the first byte of the same data in mintkey.
_PYDYNOX = {"ZSTD": b"\1", "LZ4": b"\2", "GZIP": b"\3"}


def _from_pydynox(stored: str, max_size: int) -> str:
    """Decode a text of pydynox: plain text, or the name of an algorithm and compressed text in base64."""
    algorithm, _, packed = stored.partition(":")
    if algorithm not in _PYDYNOX:
        return stored
    import base64

    return _core.decompress(_PYDYNOX[algorithm] + base64.b64decode(packed, validate=True), max_size).decode()
