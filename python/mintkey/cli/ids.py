"""`mintkey new` and `mintkey inspect`: IDs, without a store."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from mintkey._core import now_ms
from mintkey.cli.endings import Code, UsageError, complain
from mintkey.cli.output import print_table
from mintkey.errors import ConfigurationError, InvalidId
from mintkey.generators import Auto, AutoGenerate, ParsedId, auto, candidates, generate_many, parse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

NAMES = [member.value for member in AutoGenerate]
_CHUNK = 10_000
_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
#: The labels of properties in a table, if they differ from their names in JSON.
_LABELS = {"time_utc": "time (UTC)", "time_local": "time (local)", "random_bits": "random bits"}


def _given(ids: list[str]) -> Iterator[str]:
    """Yield the arguments. Without arguments, or for ``-``, yield the words of standard input."""
    for text in ids or ["-"]:
        if text == "-":
            yield from _words(sys.stdin.read())
        else:
            yield text


def _words(text: str) -> list[str]:
    """Return the words of a text, or the members of a JSON array, which `mintkey new --json` prints."""
    if text.lstrip().startswith("["):
        try:
            return [str(member) for member in json.loads(text)]
        except ValueError:  # IDs may begin with a bracket
            pass
    return text.split()


def _chunks(strategy: Auto, count: int) -> Iterator[list[Any]]:
    """Yield values in chunks, so that any number of them takes no more memory than one chunk."""
    while count > 0:
        values = generate_many(strategy, min(count, _CHUNK))
        count -= len(values)
        yield values


def _duration(text: str) -> timedelta:
    """Parse a duration such as ``90``, ``15m`` or ``-1.5h``.

    Raises:
        UsageError: the text is not a duration.
    """
    found = re.fullmatch(r"([+-]?\d{1,15}(?:\.\d+)?)(ms|[smhdw]?)", text, re.ASCII)
    if found is None:
        raise UsageError(f"--plus {text}: give seconds, or a number with ms, s, m, h, d or w, such as 15m or -1.5h")
    number, unit = found.groups()
    try:
        return timedelta(seconds=float(number) * _UNITS[unit])
    except OverflowError:
        raise UsageError(f"--plus {text} gives no valid date") from None


def _strategy(name: str, **options: Any) -> Auto:
    try:
        return auto(name, **{option: value for option, value in options.items() if value is not None})
    except (ConfigurationError, TypeError, ValueError) as refusal:
        raise UsageError(str(refusal)) from refusal


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


def _print_readings(text: str, readings: Iterable[dict[str, Any]]) -> None:
    columns = list(readings)
    names = list(dict.fromkeys(name for facts in columns for name in facts))
    heading = [f"{'likely' if at == 0 else 'or'} {facts['kind']}" for at, facts in enumerate(columns)]
    print(text if text.isprintable() else ascii(text))
    print_table(
        ["", *(heading if len(columns) > 1 else [""])],
        ([_LABELS.get(name, name), *(str(facts.get(name, "")) for facts in columns)] for name in names),
        None,
    )


def new_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `new`."""
    parser.add_argument("strategy", metavar="STRATEGY", choices=NAMES, help=f"One of {', '.join(NAMES)}.")
    parser.add_argument("-n", "--count", type=int, default=1, help="The number of values; by default 1.")
    parser.add_argument("--json", action="store_true", help="Print a JSON array; snowflakes as text.")
    _parameters(parser)
    parser.add_argument("--node", help="Node of a snowflake, or a range such as 32-47.")
    parser.add_argument("--plus", help="Duration to add to a timestamp: 90, 15m, -1.5h, 7d.")


def _parameters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prefix", help="Text before each ID; the type of a typeid.")
    parser.add_argument("--length", type=int, help="Characters of a uuid4 or cuid2.")
    parser.add_argument("--size", type=int, help="Characters of a nanoid.")
    parser.add_argument("--alphabet", help="The alphabet of a nanoid.")
    parser.add_argument("--epoch", type=int, help="The epoch of a snowflake, in ms since 1970.")


def new(given: argparse.Namespace) -> Code:
    """Generate IDs: mintkey new ulid -n 5."""
    if given.count < 1:
        raise UsageError(f"--count {given.count}: give a number from 1")
    options = {name: getattr(given, name) for name in ("prefix", "length", "size", "alphabet", "node", "epoch")}
    strategy = _strategy(given.strategy, **options, plus=None if given.plus is None else _duration(given.plus))
    ahead = "[\n"
    for piece in _chunks(strategy, given.count):
        if given.json:
            texts = [f"  {json.dumps(str(value) if given.strategy == 'snowflake' else value)}" for value in piece]
            print(ahead, ",\n".join(texts), sep="", end="")
            ahead = ",\n"
        else:
            print("\n".join(map(str, piece)))
    if given.json:
        print("\n]")
    return Code.DONE


def inspect_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `inspect`."""
    parser.add_argument(
        "ids",
        metavar="ID",
        nargs="*",
        default=[],
        help="IDs. Without IDs, or with -, they are read from standard input: words, or a JSON array.",
    )
    parser.add_argument(
        "-k", "--kind", metavar="STRATEGY", choices=NAMES, help="The strategy, if the format is ambiguous."
    )
    parser.add_argument("--json", action="store_true", help="Print a JSON array.")
    _parameters(parser)


def inspect(given: argparse.Namespace) -> Code:
    """Show the contents of IDs: kind, time, age, random bits, other encodings."""
    options = {name: getattr(given, name) for name in ("prefix", "length", "size", "alphabet", "epoch")}
    if given.kind is None and (named := [f"--{name}" for name, value in options.items() if value is not None]):
        raise UsageError(f"{', '.join(named)} is a parameter of a strategy: pass the strategy with --kind")
    read_as = None if given.kind is None else _strategy(given.kind, **options)
    failed = False
    results: list[dict[str, Any]] = []
    for text in _given(given.ids):
        try:
            readings = _readings(text, read_as)
        except InvalidId as refusal:
            failed = True
            complain(refusal)
            continue
        if given.json:
            results.append({"text": text, "candidates": readings})
        else:
            _print_readings(text, readings)
    if given.json:
        print(json.dumps(results, indent=2))
    if failed and read_as is None:
        complain("select a strategy with --kind, and its parameters with --prefix, --size and so on")
    return Code.PARTIAL if failed else Code.DONE
