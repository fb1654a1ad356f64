"""The `mintkey` command: generates and inspects IDs.

    $ mintkey new ulid -n 3
    $ mintkey inspect 01ARZ3NDEKTSV4RRFFQ69G5FAV

It requires the extra `cli` (typer and rich): ``pip install "mintkey[cli]"``.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    import typer
else:
    try:
        import typer
    except ModuleNotFoundError:  # main() reports it
        typer = None

from mintkey._core import VERSION, now_ms
from mintkey.errors import InvalidId, MintkeyError
from mintkey.generators import Auto, AutoGenerate, ParsedId, auto, candidates, generate_many, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["main"]

NAMES = [member.value for member in AutoGenerate]
_CHUNK = 10_000
_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
#: The labels of properties in a table, if they differ from their names in JSON.
_LABELS = {"time_utc": "time (UTC)", "time_local": "time (local)", "random_bits": "random bits"}


def _complete(incomplete: str) -> list[str]:
    return [name for name in NAMES if name.startswith(incomplete)]


def _given(ids: list[str]) -> Iterator[str]:
    """Yield the arguments. Without arguments, or for ``-``, yield the words of standard input."""
    for text in ids or ["-"]:
        if text == "-":
            yield from sys.stdin.read().split()
        else:
            yield text


def _chunks(strategy: Auto, count: int) -> Iterator[list[Any]]:
    """Yield values in chunks, so that any number of them takes no more memory than one chunk."""
    while count > 0:
        values = generate_many(strategy, min(count, _CHUNK))
        count -= len(values)
        yield values


def _duration(text: str) -> timedelta:
    """Parse a duration such as ``90``, ``15m`` or ``-1.5h``.

    Raises:
        ValueError: the text is not a duration.
    """
    found = re.fullmatch(r"([+-]?\d{1,15}(?:\.\d+)?)(ms|[smhdw]?)", text, re.ASCII)
    if found is None:
        raise ValueError(f"--plus {text}: give seconds, or a number with ms, s, m, h, d or w, such as 15m or -1.5h")
    number, unit = found.groups()
    try:
        return timedelta(seconds=float(number) * _UNITS[unit])
    except OverflowError:
        raise ValueError(f"--plus {text} leads to no date") from None


def _strategy(name: str, **options: Any) -> Auto:
    return auto(name, **{option: value for option, value in options.items() if value is not None})


def _age(duration: timedelta) -> str:
    """Return a duration in its largest unit and the next one: ``3 days 4 hours ago``."""
    seconds = abs(int(duration.total_seconds()))
    units = (("year", 31_556_952), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
    parts = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
        elif parts:
            break
    text = " ".join(parts[:2])
    if not text:
        return "now"
    return f"in {text}" if duration < timedelta(0) else f"{text} ago"


def _properties(found: ParsedId, read_as: Auto) -> dict[str, Any]:
    """Return the properties of an ID in the order of the output."""
    facts: dict[str, Any] = {"kind": found.kind.value}
    if found.prefix:
        facts["prefix"] = found.prefix
    if found.timestamp_ms is not None:
        try:
            moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=found.timestamp_ms)
        except OverflowError:
            facts["time"] = f"{found.timestamp_ms} ms since 1970, beyond the year 9999"
        else:
            facts["time_utc"] = moment.isoformat(sep=" ", timespec="milliseconds")
            facts["time_local"] = moment.astimezone().isoformat(sep=" ", timespec="milliseconds")
            facts["age"] = _age(timedelta(milliseconds=now_ms() - found.timestamp_ms))
    if found.random_bits is not None:
        facts["random_bits"] = found.random_bits
    elif read_as.strategy is not None and not read_as.strategy.sortable:
        # All of the ID is random.
        facts["random_bits"] = read_as.strategy.random_bits
    facts |= {
        name: getattr(found, name)
        for name in ("node", "sequence", "machine", "process")
        if getattr(found, name) is not None
    }
    if found.uuid is not None:
        facts["uuid"] = str(found.uuid)
    if found.int is not None:
        # As text, because many JSON parsers round integers of more than 53 bits.
        facts["int"] = str(found.int)
    if found.bytes:
        facts["bytes"] = found.bytes.hex()
    return facts


def _readings(text: str, read_as: Auto | None) -> list[dict[str, Any]]:
    """Parse a text with the given strategy, or with all strategies that match.

    Raises:
        InvalidId: no strategy matches.
    """
    if read_as is not None:
        return [_properties(parse(text, read_as), read_as)]
    return [_properties(found, auto(found.kind)) for found in candidates(text) or [parse(text)]]


def _print_tables(text: str, readings: Iterable[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(readings)
    names = list(dict.fromkeys(name for facts in columns for name in facts))
    table = Table(show_header=len(columns) > 1)
    table.add_column("", style="dim", no_wrap=True)
    for at, facts in enumerate(columns):
        table.add_column(f"{'likely' if at == 0 else 'or'} {facts['kind']}", overflow="fold")
    for name in names:
        table.add_row(_LABELS.get(name, name), *(Text(str(facts.get(name, ""))) for facts in columns))
    console = Console()
    # The title of a table would be wrapped at the width of the table.
    console.print(Text(text, style="bold cyan"), soft_wrap=True)
    console.print(table)


def new(
    strategy: Annotated[str, typer.Argument(help=", ".join(NAMES), autocompletion=_complete)],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array; snowflakes as text.")] = False,
    prefix: Annotated[str | None, typer.Option(help="Text before each ID; the type of a typeid.")] = None,
    length: Annotated[int | None, typer.Option(help="Characters of a uuid4 or cuid2.")] = None,
    size: Annotated[int | None, typer.Option(help="Characters of a nanoid.")] = None,
    alphabet: Annotated[str | None, typer.Option(help="The alphabet of a nanoid.")] = None,
    node: Annotated[str | None, typer.Option(help="Node of a snowflake, or a range such as 32-47.")] = None,
    epoch: Annotated[int | None, typer.Option(help="The epoch of a snowflake, in ms since 1970.")] = None,
    plus: Annotated[str | None, typer.Option(help="Duration to add to a timestamp: 90, 15m, -1.5h, 7d.")] = None,
) -> None:
    """Generate IDs: mintkey new ulid -n 5."""
    options = {"prefix": prefix, "length": length, "size": size, "alphabet": alphabet, "node": node, "epoch": epoch}
    minted = _strategy(strategy, **options, plus=None if plus is None else _duration(plus))
    ahead = "[\n"
    for piece in _chunks(minted, count):
        if as_json:
            texts = [f"  {json.dumps(str(value) if strategy == 'snowflake' else value)}" for value in piece]
            print(ahead, ",\n".join(texts), sep="", end="")
            ahead = ",\n"
        else:
            print("\n".join(map(str, piece)))
    if as_json:
        print("\n]")


def inspect(
    ids: Annotated[list[str] | None, typer.Argument(help="IDs; without any, or for -, read standard input.")] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", "-k", help="The strategy, if the format is ambiguous.", autocompletion=_complete),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    prefix: Annotated[str | None, typer.Option(help="Text before each ID; the type of a typeid.")] = None,
    length: Annotated[int | None, typer.Option(help="Characters of a uuid4 or cuid2.")] = None,
    size: Annotated[int | None, typer.Option(help="Characters of a nanoid.")] = None,
    alphabet: Annotated[str | None, typer.Option(help="The alphabet of a nanoid.")] = None,
    epoch: Annotated[int | None, typer.Option(help="The epoch of a snowflake, in ms since 1970.")] = None,
) -> None:
    """Show the contents of IDs: kind, time, age, random bits, other encodings."""
    options = {"prefix": prefix, "length": length, "size": size, "alphabet": alphabet, "epoch": epoch}
    if kind is None and (given := [f"--{name}" for name, value in options.items() if value is not None]):
        raise ValueError(f"{', '.join(given)} is a parameter of a strategy: pass the strategy with --kind")
    read_as = None if kind is None else _strategy(kind, **options)
    failed = False
    results: list[dict[str, Any]] = []
    for text in _given(ids or []):
        try:
            readings = _readings(text, read_as)
        except InvalidId as refusal:
            failed = True
            print(f"mintkey: {refusal}", file=sys.stderr)
            continue
        if as_json:
            results.append({"text": text, "candidates": readings})
        else:
            _print_tables(text, readings)
    if as_json:
        print(json.dumps(results, indent=2))
    if failed:
        if read_as is None:
            print(
                "mintkey: select a strategy with --kind, and its parameters with --prefix, --size and so on",
                file=sys.stderr,
            )
        raise typer.Exit(1)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"mintkey {VERSION}")
        raise typer.Exit


def _common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Generate and inspect IDs and timestamps."""


def _app() -> typer.Typer:
    """Return the command."""
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_common)
    app.command()(new)
    app.command()(inspect)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command. Without typer, print how to install it."""
    if typer is None:
        sys.exit('mintkey: the command needs typer and rich, which are not installed: pip install "mintkey[cli]"')
    try:
        _app()(arguments, prog_name="mintkey")
    except (MintkeyError, TypeError, ValueError) as refusal:
        sys.exit(f"mintkey: {refusal}")
    except BrokenPipeError:
        # The reader of our output has ended.
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
