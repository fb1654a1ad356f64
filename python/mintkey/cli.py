"""The `mintkey` command: make ids, and look into them.

    $ mintkey new ulid -n 3
    $ mintkey inspect 01ARZ3NDEKTSV4RRFFQ69G5FAV

It needs the extra `cli` (typer and rich): ``pip install "mintkey[cli]"``.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    import typer
else:
    try:
        import typer
    except ModuleNotFoundError:  # said by main(), in words
        typer = None

from mintkey._core import now_ms
from mintkey.errors import InvalidId, MintkeyError
from mintkey.generators import AutoGenerate, ParsedId, auto, candidates, generate_many, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["main"]

NAMES = [member.value for member in AutoGenerate]


def _complete(incomplete: str) -> list[str]:
    return [name for name in NAMES if name.startswith(incomplete)]


def _given(ids: list[str]) -> Iterator[str]:
    """Yield the arguments; for none, or for ``-``, the words of standard input."""
    for text in ids or ["-"]:
        if text == "-":
            yield from sys.stdin.read().split()
        else:
            yield text


def _age(span: timedelta) -> str:
    """Tell a span in its greatest unit, and the next if there is any: ``3 days 4 hours ago``."""
    seconds = abs(int(span.total_seconds()))
    units = (("year", 31_556_952), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
    parts = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
        elif parts:
            break
    told = " ".join(parts[:2])
    if not told:
        return "now"
    return f"in {told}" if span < timedelta(0) else f"{told} ago"


def _facts(found: ParsedId) -> dict[str, Any]:
    """Return what is known of an id, in the order in which people look for it."""
    facts: dict[str, Any] = {"kind": found.kind.value}
    if found.prefix:
        facts["prefix"] = found.prefix
    if found.timestamp_ms is not None:
        try:
            moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=found.timestamp_ms)
        except OverflowError:
            facts["time"] = f"{found.timestamp_ms} ms since 1970, beyond the year 9999"
        else:
            facts["time (UTC)"] = moment.isoformat(sep=" ", timespec="milliseconds")
            facts["time (local)"] = moment.astimezone().isoformat(sep=" ", timespec="milliseconds")
            facts["age"] = _age(timedelta(milliseconds=now_ms() - found.timestamp_ms))
    if found.random_bits is not None:
        facts["random bits"] = found.random_bits
    facts |= {
        name: getattr(found, name)
        for name in ("node", "sequence", "machine", "process")
        if getattr(found, name) is not None
    }
    if found.uuid is not None:
        facts["uuid"] = str(found.uuid)
    if found.int is not None:
        facts["int"] = found.int
    if found.bytes:
        facts["bytes"] = found.bytes.hex()
    return facts


def _readings(text: str, kind: str | None) -> list[ParsedId]:
    """Read a text as the kind that is given, or as all that it could be.

    Raises:
        InvalidId: it is none.
    """
    if kind is not None:
        return [parse(text, kind)]
    return candidates(text) or [parse(text)]


def _print_tables(text: str, readings: Iterable[ParsedId]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = [_facts(found) for found in readings]
    names = list(dict.fromkeys(name for facts in columns for name in facts))
    table = Table(title=text, title_justify="left", title_style="bold cyan", show_header=len(columns) > 1)
    table.add_column("", style="dim", no_wrap=True)
    for at, facts in enumerate(columns):
        table.add_column(f"{'likely' if at == 0 else 'or'} {facts['kind']}", overflow="fold")
    for name in names:
        table.add_row(name, *(str(facts.get(name, "")) for facts in columns))
    Console().print(table)


def new(
    strategy: Annotated[str, typer.Argument(help=", ".join(NAMES), autocompletion=_complete)],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    prefix: Annotated[str | None, typer.Option(help="Text before each; the type of a typeid.")] = None,
    length: Annotated[int | None, typer.Option(help="Characters of a uuid4 or cuid2.")] = None,
    size: Annotated[int | None, typer.Option(help="Characters of a nanoid.")] = None,
    alphabet: Annotated[str | None, typer.Option(help="Characters that a nanoid is made of.")] = None,
    node: Annotated[str | None, typer.Option(help="Node of a snowflake, or a range such as 32-47.")] = None,
) -> None:
    """Make ids: mintkey new ulid -n 5."""
    options = {"prefix": prefix, "length": length, "size": size, "alphabet": alphabet, "node": node}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    made = generate_many(auto(strategy, **given), count)
    print(json.dumps(made, indent=2) if as_json else "\n".join(map(str, made)))


def inspect(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids; none or - reads standard input.")] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", "-k", help="What they are, if not told by form.", autocompletion=_complete),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Tell what ids hold: kind, time, age, random bits, other forms."""
    failed = False
    told: list[dict[str, Any]] = []
    for text in _given(ids or []):
        try:
            readings = _readings(text, kind)
        except InvalidId as refusal:
            failed = True
            print(f"mintkey: {refusal}", file=sys.stderr)
            continue
        if as_json:
            told.append({"text": text, "candidates": [_facts(found) for found in readings]})
        else:
            _print_tables(text, readings)
    if as_json:
        print(json.dumps(told, indent=2))
    if failed:
        raise typer.Exit(1)


def _app() -> typer.Typer:
    """Build the command."""
    app = typer.Typer(
        help="Make ids and timestamps, and look into them.", no_args_is_help=True, pretty_exceptions_enable=False
    )
    app.command()(new)
    app.command()(inspect)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command; without typer, say how to get it."""
    if typer is None:
        sys.exit('mintkey: the command needs typer and rich, which are not installed; pip install "mintkey[cli]"')
    try:
        _app()(arguments, prog_name="mintkey")
    except (MintkeyError, TypeError, ValueError) as refusal:
        sys.exit(f"mintkey: {refusal}")
    except BrokenPipeError:
        # Who reads us has seen enough.
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
