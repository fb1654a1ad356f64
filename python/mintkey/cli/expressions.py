"""The language of `--where`: a condition on the attributes of a row, as text.

    status = "open" and (total > 99.95 or size(tags) > 3) and sold < `held` and not exists(deleted_at)

It is parsed into the same conditions that `Order.total > 99.95` builds, so it has the same meaning on every store.
"""

from __future__ import annotations

import base64
import binascii
import json
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

from mintkey._core import Condition
from mintkey.cli.endings import UsageError
from mintkey.conditions import Path
from mintkey.errors import MintkeyError

GRAMMAR = r"""
condition   test, condition and condition, condition or condition, not condition, (condition)
test        path = value, also != < <= > >=
            path = `path`, also != < <= > >=: another attribute, whose name is always in backticks here
            size(path) = number, also != < <= > >=: UTF-16 code units of text, bytes, otherwise elements
            path between value and value
            path in (value, …)
            path begins_with value
            path contains value
            exists(path), which is false for an attribute that is null
path        name, path.name, path[0]; a name that has other characters, or is a keyword, in backticks: `order-total`
            (a backtick in a name is doubled)
value       "text" or 'text' with the escapes of JSON, 12.50, true, false, base64("AAE="); null after = and !=
"""

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<quoted>`(?:[^`]|``)+`)
    | (?P<word>[^\W\d]\w*)
    | (?P<sign><=|>=|!=|==|<>|[=<>()\[\],.])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMPARISONS: dict[str, Callable[[Any, Any], Condition]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_KEYWORDS = {"and", "or", "not", "in", "between", "begins_with", "contains", "exists", "true", "false", "null"}
_CONSTANTS = {"true": True, "false": False}
_MAX_LEVELS = 30


class Named(NamedTuple):
    """An attribute of which only the stored name is known."""

    name: str
    partition_key: bool = False
    sort_key: bool = False


class _Token(NamedTuple):
    kind: str
    text: str
    column: int

    @property
    def keyword(self) -> str:
        """The keyword in small letters, or the sign; "" for anything else."""
        if self.kind == "sign":
            return self.text
        return self.text.lower() if self.kind == "word" and self.text.lower() in _KEYWORDS else ""


class _Error(Exception):
    def __init__(self, column: int, problem: str) -> None:
        super().__init__(problem)
        self.column = column


def parse_text(quoted: str) -> str:
    """Return the text of a literal in single or double quotes.

    Raises:
        ValueError: an escape is wrong.
    """
    inner = quoted[1:-1]
    if quoted[0] == "'":
        inner = re.sub(r"\\(.)|\"", lambda found: _ESCAPED.get(found[0], found[0]), inner, flags=re.DOTALL)
    text = json.loads(f'"{inner}"', strict=False)
    return str(text)


#: What stands between single quotes, as it stands between double ones.
_ESCAPED = {'"': '\\"', "\\'": "'"}


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            problem = "a text without its closing quote" if text[at] in "\"'`" else f"unexpected {text[at]!r}"
            raise _Error(at + 1, problem)
        if match.lastgroup != "space":
            found.append(_Token(str(match.lastgroup), match[0], at + 1))
        at = match.end()
    return [*found, _Token("end", "the end", len(text) + 1)]


class _Parser:
    """A recursive descent over the tokens."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._levels = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    @property
    def _after(self) -> _Token:
        """The token after the next one."""
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def _take(self, *keywords: str) -> _Token | None:
        token = self._next
        if keywords and token.keyword not in keywords:
            return None
        self._at += 1
        return token

    def _demand(self, keyword: str, where: str) -> None:
        if self._take(keyword) is None:
            raise self._unexpected(f"{keyword!r} {where}")

    def _unexpected(self, expected: str) -> _Error:
        token = self._next
        found = token.text if token.kind == "end" else repr(token.text)
        return _Error(token.column, f"expected {expected}, found {found}")

    def whole(self) -> Condition:
        """Parse everything."""
        condition = self._either()
        if self._next.kind != "end":
            raise self._unexpected("'and', 'or' or the end")
        return condition

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Condition.some(parts)

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Condition.every(parts)

    def _one(self) -> Condition:
        self._levels += 1
        if self._levels > _MAX_LEVELS:
            raise _Error(self._next.column, f"at most {_MAX_LEVELS} levels of brackets and 'not'")
        if self._take("not"):
            condition = ~self._one()
        elif self._take("("):
            condition = self._either()
            self._demand(")", "after the condition")
        else:
            condition = self._test()
        self._levels -= 1
        return condition

    def _test(self) -> Condition:
        column = self._next.column
        try:
            if self._take("exists"):
                self._demand("(", "after exists")
                path = self._path()
                self._demand(")", "after the path")
                return path.exists()
            if self._next.text.lower() == "size" and self._after.keyword == "(":
                return self._sized()
            path = self._path()
            token = self._take(*_COMPARISONS, *self._TESTS)
            if token is None:
                raise self._unexpected("a comparison such as '=' or 'in' after the path")
            column = self._next.column
            if token.keyword in _COMPARISONS:
                return self._compared(path, token)
            return self._TESTS[token.keyword](self, path)
        except MintkeyError as error:  # no row can hold such a value
            raise _Error(column, str(error)) from error

    def _sized(self) -> Condition:
        self._take()
        self._demand("(", "after size")
        size = self._path().size()
        self._demand(")", "after the path")
        sign = self._take(*_COMPARISONS)
        if sign is None:
            raise self._unexpected("a comparison such as '=' after size(…)")
        number = self._next
        if number.kind != "number" or not number.text.isdecimal():
            raise self._unexpected("a whole number from 0")
        self._take()
        # Digits that Python refuses to read are more than any size has.
        return _COMPARISONS[sign.keyword](size, int(Decimal(number.text)))

    def _compared(self, path: Path[Any, Any], sign: _Token) -> Condition:
        if self._next.kind == "quoted":
            return _COMPARISONS[sign.keyword](path, self._path())
        if self._next.keyword != "null":
            return _COMPARISONS[sign.keyword](path, self._value())
        if sign.keyword not in {"=", "==", "!=", "<>"}:
            raise _Error(sign.column, f"null has no order, so {sign.text} is not possible")
        self._take()
        is_null: Condition = path.is_type("null")
        return is_null if sign.keyword in {"=", "=="} else ~is_null

    def _between(self, path: Path[Any, Any]) -> Condition:
        low = self._value()
        self._demand("and", "between the two values")
        return path.between(low, self._value())

    def _in(self, path: Path[Any, Any]) -> Condition:
        self._demand("(", "after 'in'")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._demand(")", "after the values")
        return path.is_in(values)

    _TESTS: ClassVar[dict[str, Callable[[_Parser, Path[Any, Any]], Condition]]] = {
        "between": _between,
        "in": _in,
        "begins_with": lambda parser, path: path.begins_with(parser._value()),
        "contains": lambda parser, path: path.contains(parser._value()),
    }

    def _path(self) -> Path[Any, Any]:
        name = self._name("the name of an attribute")
        path: Path[Any, Any] = Path(Named(name), name, (name,), None)
        while True:
            if self._take("."):
                path = path[self._name("a name after '.'")]
            elif self._take("["):
                number = self._next
                if number.kind != "number" or not number.text.isdecimal():
                    raise self._unexpected("an index from 0")
                self._take()
                self._demand("]", "after the index")
                path = path[int(number.text)]
            else:
                return path

    def _name(self, expected: str) -> str:
        token = self._next
        if token.kind == "quoted":
            self._take()
            return token.text[1:-1].replace("``", "`")
        if token.kind != "word" or token.keyword:
            raise self._unexpected(expected)
        self._take()
        return token.text

    def _value(self) -> Any:
        token = self._next
        if token.kind == "number":
            self._take()
            return Decimal(token.text)
        if token.kind == "text":
            self._take()
            return _literal(token)
        if token.keyword in _CONSTANTS:
            self._take()
            return _CONSTANTS[token.keyword]
        if token.text.lower() == "base64":
            return self._bytes()
        if token.keyword == "null":
            raise _Error(token.column, "null can be compared with = and != only")
        if token.kind == "word":
            raise _Error(
                token.column,
                f"expected a value, found {token.text}: write text in quotes, '{token.text}', and the name of another "
                f"attribute after = != < <= > >= in backticks, `{token.text}`",
            )
        raise self._unexpected("a value")

    def _bytes(self) -> bytes:
        self._take()
        self._demand("(", "after base64")
        token = self._next
        if token.kind != "text":
            raise self._unexpected("base64 in quotes")
        self._take()
        self._demand(")", "after the text")
        try:
            return base64.b64decode(_literal(token), validate=True)
        except binascii.Error as error:
            raise _Error(token.column, f"not valid base64: {error}") from error


def _literal(token: _Token) -> str:
    try:
        return parse_text(token.text)
    except ValueError as error:
        raise _Error(token.column, f"an escape in {token.text} is wrong: write \\\\ for a backslash") from error


def parse_condition(text: str) -> Condition:
    """Parse an expression.

    Raises:
        UsageError: it is wrong. The message names the column.
    """
    try:
        return _Parser(_tokens(text)).whole()
    except _Error as error:
        raise UsageError(f"--where: column {error.column}: {error}") from error
