"""How the command ends: exit codes, and errors as one line on standard error without passwords."""

from __future__ import annotations

import enum
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from mintkey.errors import DISK_FULL, ConfigurationError, InvalidValue, MintkeyError, TableMissing, reason_of_system

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
    HUNG_UP = 128 + signal.SIGHUP
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


#: What the exit codes mean, for the reference page.
MEANINGS = {
    Code.DONE: "everything was done",
    Code.PARTIAL: "a part was not done: a refused row, an unreadable line, no such row, a closed pipe, a full disk",
    Code.USAGE: "the command line is wrong: an option, a URL, a key, an expression, no such table or file",
    Code.STORE: "the store cannot be reached, took too long, or refused the request",
    Code.HUNG_UP: "SIGHUP: the terminal was closed",
    Code.INTERRUPTED: "Ctrl-C, SIGINT",
    Code.TERMINATED: "SIGTERM",
}


class UsageError(Exception):
    """The command line is wrong."""


class Signalled(KeyboardInterrupt):
    """SIGTERM or SIGHUP ended the command, as Ctrl-C does.

    Attributes:
        code: the exit code.
    """

    def __init__(self, number: int) -> None:
        self.code = Code(128 + number)


class Interrupted(Exception):
    """Ctrl-C or another signal ended a command that had begun. The text says how to continue it.

    Attributes:
        code: the exit code.
    """

    def __init__(self, interrupt: KeyboardInterrupt, text: str) -> None:
        super().__init__(text)
        self.code = _code_of(interrupt)


def _code_of(interrupt: KeyboardInterrupt) -> Code:
    return interrupt.code if isinstance(interrupt, Signalled) else Code.INTERRUPTED


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, so that no half of a file is left.

    A signal that is ignored stays ignored: `nohup` ignores SIGHUP. Only the first one interrupts: the end of a session
    sends several.
    """

    def interrupt(number: int, _frame: object) -> NoReturn:
        for one in taken:
            signal.signal(one, signal.SIG_IGN)
        raise Signalled(number)

    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGHUP) if is_main else ()
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in taken:
            signal.signal(number, interrupt)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


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
    """Write one line to standard error. If nobody reads it, as after SIGHUP, the command continues."""
    with suppress(OSError):
        print(f"mintkey: {_LINES.sub(' ', hide_passwords(str(text), urls))}", file=sys.stderr, flush=True)


def ending(error: BaseException, urls: Iterable[str] = ()) -> Code:
    """Report why a command ended early, and return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted", urls)
        return _code_of(error)
    if isinstance(error, Interrupted):
        complain(f"interrupted: {error}", urls)
        return error.code
    if isinstance(error, (UsageError, ConfigurationError, TableMissing, InvalidValue)):
        complain(error, urls)
        # The file of the state of a copy.
        is_full = isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_FULL
        return Code.PARTIAL if is_full else Code.USAGE
    if isinstance(error, MintkeyError):
        complain(error, urls)
        return Code.STORE
    if isinstance(error, OSError) and error.strerror:
        # Of the files without a name, only the output of this command can be full.
        is_full = error.errno in DISK_FULL
        name = "standard output" if error.filename is None and is_full else error.filename
        reason = reason_of_system(error)
        complain(reason if name is None else f"{name or repr(name)}: {reason}", urls)
        return Code.PARTIAL if name is None or is_full else Code.USAGE
    complain(f"{type(error).__name__}: {error}", urls)
    return Code.PARTIAL
