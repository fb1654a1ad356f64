"""How the command ends: exit codes, and errors as one line on standard error without passwords."""

from __future__ import annotations

import enum
import os
import re
import sys
from collections.abc import Iterable

from mintkey.errors import ConfigurationError, InvalidValue, MintkeyError, TableMissing

__all__ = [
    "MEANINGS",
    "Code",
    "Interrupted",
    "UsageError",
    "complain",
    "ending",
    "hide_passwords",
    "is_url",
    "url_of",
    "urls_in",
]

#: An argument that begins with this names the environment variable that has the URL.
_VARIABLE = "env:"
_LOGIN = re.compile(r"(\w://)[^\s/?#]*@")
_LINES = re.compile(r"\s*[\r\n]+\s*")


class Code(enum.IntEnum):
    """The exit codes."""

    DONE = 0
    PARTIAL = 1
    USAGE = 2
    STORE = 3
    INTERRUPTED = 130


#: What the exit codes mean, for the reference page.
MEANINGS = {
    Code.DONE: "everything was done",
    Code.PARTIAL: "a part was not done: a refused row, a line that cannot be read, no such row, a closed pipe",
    Code.USAGE: "the command line is wrong: an option, a URL, a key, an expression, no such table or file",
    Code.STORE: "the store cannot be reached, took too long, or refused the request",
    Code.INTERRUPTED: "Ctrl-C",
}


class UsageError(Exception):
    """The command line is wrong."""


class Interrupted(Exception):
    """Ctrl-C ended a command that had begun. The text says how to continue it."""


def is_url(word: str) -> bool:
    """Return whether an argument names a store. The name of a table never looks like one."""
    return "://" in word or word.startswith(_VARIABLE)


def url_of(word: str) -> str:
    """Return the URL that an argument names: `env:SHOP` is the one in the variable `SHOP`.

    Raises:
        UsageError: the variable has no URL. Its value may be a password, and is not shown.
    """
    if not word.startswith(_VARIABLE):
        return word
    name = word.removeprefix(_VARIABLE)
    url = os.environ.get(name, "")
    if "://" not in url:
        raise UsageError(f"{word}: the environment variable {name} {'has no URL' if url else 'is not set'}")
    return url


def urls_in(given: list[str]) -> list[str]:
    """Return the URLs of the arguments and of the environment: their passwords are never shown."""
    named = [os.environ.get(word.removeprefix(_VARIABLE), "") for word in given if word.startswith(_VARIABLE)]
    return [text for text in [*given, *named, os.environ.get("MINTKEY_URL", "")] if "://" in text]


def hide_passwords(text: str, urls: Iterable[str] = ()) -> str:
    """Return a text for people, without the logins of the URLs in it."""
    for url in urls:
        scheme, _, rest = url.partition("://")
        # A password may contain any character, also "/" and "?".
        if "@" in rest:
            text = text.replace(url, f"{scheme}://…@{rest.rpartition('@')[2]}")
    return _LOGIN.sub(r"\1…@", text)


def complain(text: object, urls: Iterable[str] = ()) -> None:
    """Write one line to standard error."""
    print(f"mintkey: {_LINES.sub(' ', hide_passwords(str(text), urls))}", file=sys.stderr, flush=True)


def ending(error: BaseException, urls: Iterable[str] = ()) -> Code:
    """Report why a command ended early, and return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted", urls)
        return Code.INTERRUPTED
    if isinstance(error, Interrupted):
        complain(f"interrupted: {error}", urls)
        return Code.INTERRUPTED
    if isinstance(error, (UsageError, ConfigurationError, TableMissing, InvalidValue)):
        complain(error, urls)
        return Code.USAGE
    if isinstance(error, MintkeyError):
        complain(error, urls)
        return Code.STORE
    if isinstance(error, OSError) and error.strerror:
        # A file that cannot be opened has a name; a disk that is full has none.
        name = error.filename
        complain(error.strerror if name is None else f"{name or repr(name)}: {error.strerror}", urls)
        return Code.PARTIAL if name is None else Code.USAGE
    complain(f"{type(error).__name__}: {error}", urls)
    return Code.PARTIAL
