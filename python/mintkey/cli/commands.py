"""The commands, and how their arguments are parsed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from mintkey._core import VERSION
from mintkey.cli import copying, ids, reading, transfer
from mintkey.cli.endings import Code, UsageError, is_url
from mintkey.cli.expressions import GRAMMAR

#: Characters of URLs that no name of a table has.
_NOT_IN_TABLES = frozenset(":/@")

_SUMMARY = "IDs, and the tables of SQLite, Redis and DynamoDB without your program."


class Command(NamedTuple):
    """One command."""

    name: str
    summary: str
    example: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Code]
    takes_url: bool = True


COMMANDS = [
    Command(
        "ping",
        "Check that the servers of a store answer, and print their versions.",
        "mintkey ping redis://localhost",
        reading.output_arguments,
        reading.ping,
    ),
    Command(
        "tables",
        "List the tables of a store.",
        "mintkey tables redis://localhost",
        reading.output_arguments,
        reading.list_tables,
    ),
    Command(
        "describe",
        "Describe a table: keys, indexes, expiry, the number of rows, and about how many bytes they take as JSON.",
        "mintkey describe sqlite:///shop.db orders",
        reading.describe_arguments,
        reading.describe_one,
    ),
    Command(
        "get",
        "Print one row.",
        "mintkey get sqlite:///shop.db orders CUSTOMER#7 2024-01-31",
        reading.get_arguments,
        reading.get,
    ),
    Command(
        "query",
        "Print the rows of a partition, in the order of the sort key.",
        "mintkey query sqlite:///shop.db orders CUSTOMER#7 --where 'sk begins_with \"2024-\" and total > 99.95'",
        reading.query_arguments,
        reading.query,
    ),
    Command(
        "scan",
        "Print the rows of a table.",
        "mintkey scan sqlite:///shop.db orders --where 'not exists(paid_at)' --limit 20",
        reading.scan_arguments,
        reading.scan,
    ),
    Command(
        "count",
        "Print the number of rows. All rows of the table are read.",
        "mintkey count sqlite:///shop.db orders --where 'status = \"open\"'",
        reading.count_arguments,
        reading.count,
    ),
    Command(
        "export",
        "Write the rows of a table to a file.",
        "mintkey export redis://localhost orders orders.jsonl.gz",
        transfer.export_arguments,
        transfer.export,
    ),
    Command(
        "import",
        "Write the rows of a file into a table, which is created if the file describes it.",
        "mintkey import sqlite:///shop.db orders orders.jsonl.gz --on-conflict skip",
        transfer.import_arguments,
        transfer.import_rows,
    ),
    Command(
        "copy",
        "Copy tables to another store, with rows, indexes, expiry and unique values. Missing tables are created.",
        "mintkey copy sqlite:///shop.db 'redis://localhost?prefix=shop' orders --resume shop-copy.json --verify",
        copying.copy_arguments,
        copying.copy_tables,
        False,
    ),
    Command("new", "Generate IDs and timestamps.", "mintkey new ulid -n 3", ids.new_arguments, ids.new, False),
    Command(
        "inspect",
        "Show what IDs contain.",
        "mintkey inspect 01ARZ3NDEKTSV4RRFFQ69G5FAV",
        ids.inspect_arguments,
        ids.inspect,
        False,
    ),
]


_URL = "env:NAME is the URL in the environment variable NAME. Without URL, the store is that of $MINTKEY_URL."


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are exceptions."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse itself ignores a closed pipe and a full disk.
        print(message, end="", file=file, flush=True)


def parser_of(command: Command) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    parser = _Parser(prog=f"mintkey {command.name}", allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    command.declare(parser)
    words = ["[URL]"] if command.takes_url else []
    parser.usage = " ".join([parser.prog, *words, *map(_word, positionals(parser)), "[options]"])
    parser.description = f"{command.summary} {_URL if command.takes_url else ''}"
    parser.epilog = f"example: {command.example}"
    if any(action.dest == "where" for action in parser._actions):
        indented = "\n".join(f"  {line}" for line in GRAMMAR.strip().splitlines())
        parser.epilog = f"conditions:\n{indented}\n\n{parser.epilog}"
    return parser


def positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments that are no options."""
    return [action for action in parser._actions if not action.option_strings]


def _word(action: argparse.Action) -> str:
    name = str(action.metavar)
    return {"?": f"[{name}]", "*": f"[{name} …]", "+": f"{name} …"}.get(str(action.nargs), name)


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
    """Complete a command line for the shell, if argcomplete is installed."""
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
        word = unknown[0] if unknown else given[0]
        # A URL without its scheme may have a password.
        shown = f": {word}" if _NOT_IN_TABLES.isdisjoint(word) else ""
        raise UsageError(f"no such command{shown} (see mintkey --help)")
    parser = parser_of(command)
    rest = _joined(parser, given[1:])
    url = _url(rest) if command.takes_url else None
    parsed = parser.parse_intermixed_args(rest)
    if command.takes_url:
        if url is None and not os.environ.get("MINTKEY_URL"):
            raise UsageError(f"name a store: mintkey {command.name} URL …, or set MINTKEY_URL")
        parsed.url = url or "env:MINTKEY_URL"
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
        elif not value or value.partition("=")[0] in options:
            joined += [word, value]
        else:
            joined.append(f"{word}={value}" if word.startswith("--") else word + value)
        if word == "--":
            break
    return [*joined, *words]


def _url(rest: list[str]) -> str | None:
    """Take the first argument out of the others if it is a URL.

    Raises:
        UsageError: it is neither a URL nor the name of a table. It may be a URL with a password, and is not shown.
    """
    at = next((at for at, word in enumerate(rest) if not word.startswith("-")), None)
    if at is None:
        return None
    if is_url(rest[at]):
        return rest.pop(at)
    if not _NOT_IN_TABLES.isdisjoint(rest[at]):
        schemes = "sqlite://, redis://, redis-cluster:// or dynamodb://"
        raise UsageError(f"the first argument is neither a URL nor the name of a table: a URL begins with {schemes}")
    return None
