"""The commands, and how their arguments are parsed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from mintkey._core import VERSION
from mintkey.cli import ids
from mintkey.cli.endings import Code, UsageError

__all__ = ["COMMANDS", "Command", "command_of", "complete", "parser_of", "urls_in"]

_SUMMARY = "IDs, and the tables of SQLite, Redis and DynamoDB without your program."


class Command(NamedTuple):
    """One command."""

    name: str
    summary: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Code]
    takes_url: bool = True


COMMANDS = [
    Command("new", "Generate IDs and timestamps.", ids.new_arguments, ids.new, takes_url=False),
    Command("inspect", "Show what IDs contain.", ids.inspect_arguments, ids.inspect, takes_url=False),
]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are exceptions."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser_of(command: Command) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    parser = _Parser(prog=f"mintkey {command.name}", description=command.summary, allow_abbrev=False)
    command.declare(parser)
    if command.takes_url:
        parser.usage = parser.format_usage().removeprefix("usage: ").replace(parser.prog, f"{parser.prog} [URL]", 1)
    return parser


def _main_parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {command.name:10}{command.summary}" for command in COMMANDS)
    parser = _Parser(
        prog="mintkey",
        usage="mintkey COMMAND [arguments]",
        description=f"{_SUMMARY}\n\ncommands:\n{lines}\n\nmintkey COMMAND --help shows the arguments of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mintkey {VERSION}")
    return parser


def complete() -> None:
    """Answer the shell's question how a line can go on, if argcomplete is installed."""
    try:
        import argcomplete
    except ModuleNotFoundError:
        return
    parser = _main_parser()
    commands = parser.add_subparsers()
    for command in COMMANDS:
        command.declare(commands.add_parser(command.name, help=command.summary))
    argcomplete.autocomplete(parser)


def command_of(given: list[str]) -> tuple[Command, argparse.Namespace]:
    """Parse the arguments of the process.

    Raises:
        UsageError: they are wrong.
    """
    command = next((command for command in COMMANDS if given[:1] == [command.name]), None)
    if command is None:
        parser = _main_parser()
        _, unknown = parser.parse_known_args(given or ["--help"])
        raise UsageError(f"no such command: {unknown[0] if unknown else given[0]} (see mintkey --help)")
    parser = parser_of(command)
    rest = _joined(parser, given[1:])
    url = _url(rest) if command.takes_url else None
    parsed = parser.parse_intermixed_args(rest)
    if command.takes_url:
        parsed.url = url or os.environ.get("MINTKEY_URL")
        if parsed.url is None:
            raise UsageError(f"name a store: mintkey {command.name} URL …, or set MINTKEY_URL")
    return command, parsed


def _joined(parser: argparse.ArgumentParser, rest: list[str]) -> list[str]:
    """Join options and their values, because argparse takes a value such as `-1.5h` for an option."""
    options: dict[str, Any] = parser._option_string_actions
    joined: list[str] = []
    words = iter(rest)
    for word in words:
        option = options.get(word)
        value = next(words, None) if option is not None and option.nargs is None else None
        if value is None:
            joined.append(word)
        elif value.partition("=")[0] in options:
            joined += [word, value]
        else:
            joined.append(f"{word}={value}" if word.startswith("--") else word + value)
        if word == "--":
            break
    return [*joined, *words]


def _url(rest: list[str]) -> str | None:
    """Take the first argument out of the others if it is a URL. The name of a table never looks like one."""
    at = next((at for at, word in enumerate(rest) if not word.startswith("-")), None)
    return None if at is None or "://" not in rest[at] else rest.pop(at)


def urls_in(given: list[str]) -> list[str]:
    """Return the URLs among the arguments, and the one of the environment: their passwords are never shown."""
    return [text for text in [*given, os.environ.get("MINTKEY_URL", "")] if "://" in text]
