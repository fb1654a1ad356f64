"""A tour of the main job on a real store: `python -m mintkey.demo`, or with `--url` on a store of your choice.

What it makes stays there to be looked at, in tables whose names begin with `demo_`; running it again adds to them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import unquote

from mintkey.attributes import ExpiresIn, NumberAttribute, StringAttribute, TTLAttribute
from mintkey.errors import MintkeyError
from mintkey.generators import AutoGenerate, auto, parse
from mintkey.model import Model
from mintkey.schema import ModelConfig
from mintkey.stores import connect
from mintkey.testing import frozen

try:
    from rich.console import Console
    from rich.panel import Panel
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.partition(".")[0] != "rich":
        raise
    raise SystemExit(
        "The demo draws with rich, which is not installed. Install it: pip install 'mintkey[cli]'"
    ) from None

_URL = "sqlite:///mintkey-demo.db"
_MANY = 1_000
_SHOWN = 3
_ULID_TIME = 10


class Order(Model):
    """An order of a shop."""

    model_config = ModelConfig(table="demo_orders")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    product = StringAttribute(required=True)
    total = NumberAttribute(required=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601_MS)


class Event(Model):
    """Something that happened to an account, in order."""

    model_config = ModelConfig(table="demo_events")

    account = StringAttribute(partition_key=True, default=AutoGenerate.UUID4)
    event = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    number = NumberAttribute(required=True)


class Specimen(Model):
    """One id of each kind, all minted by one save."""

    model_config = ModelConfig(table="demo_specimens")

    ulid = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    uuid7 = StringAttribute(default=AutoGenerate.UUID7)
    ksuid = StringAttribute(default=AutoGenerate.KSUID)
    xid = StringAttribute(default=AutoGenerate.XID)
    typeid = StringAttribute(default=auto(AutoGenerate.TYPEID, prefix="demo"))
    snowflake = NumberAttribute(default=AutoGenerate.SNOWFLAKE)
    uuid4 = StringAttribute(default=AutoGenerate.UUID4)
    nanoid = StringAttribute(default=AutoGenerate.NANOID)
    cuid2 = StringAttribute(default=AutoGenerate.CUID2)


class Session(Model):
    """A login that expires by itself."""

    model_config = ModelConfig(table="demo_sessions")

    id = StringAttribute(partition_key=True, default=AutoGenerate.UUID4)
    started_at = NumberAttribute(default=AutoGenerate.EPOCH)
    expires_at = TTLAttribute(default=lambda: ExpiresIn.hours(24))


_MODELS = (Order, Event, Specimen, Session)


def _minted_at(key: str | float | None, kind: AutoGenerate = AutoGenerate.ULID) -> str:
    """The time of day that a key tells."""
    minted = parse(str(key), kind).datetime
    if minted is None:
        return "does not tell"
    whole = kind in {AutoGenerate.KSUID, AutoGenerate.XID}
    return minted.strftime("%H:%M:%S") if whole else minted.strftime("%H:%M:%S.%f")[:-3]


def _key(ulid: str | None) -> Text:
    """A ULID with its time and its random half in two colours."""
    if ulid is None:
        return Text("None", "dim")
    return Text.assemble((ulid[:_ULID_TIME], "bold cyan"), (ulid[_ULID_TIME:], "green"))


def _heading(console: Console, number: int, text: str) -> None:
    console.print()
    console.rule(f"[bold]{number}. {text}", align="left", style="dim")


def _verdict(console: Console, text: str, holds: bool) -> None:
    console.print(f"[green]✓[/] {text}" if holds else f"[bold red]✗ not so: {text}")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _orders_one_by_one(console: Console) -> None:
    _heading(console, 1, "Orders, saved one by one")
    table = Table("product", "key before", "key after the save", "minted at", box=None, header_style="dim")
    orders = []
    for product, total in (("Widget", 19.99), ("Gadget", 49.5), ("Gizmo", 7)):
        order = Order(product=product, total=total)
        before = order.pk
        order.save()
        table.add_row(product, _key(before), _key(order.pk), _minted_at(order.pk))
        orders.append(order)
    console.print(table)
    if console.color_system is not None:
        console.print("[bold cyan]cyan[/]: the time, read out of the key; [green]green[/]: chance")
    kept = orders[0].pk
    orders[0].total = 17.99
    orders[0].save()
    _verdict(console, "a second save keeps the key", orders[0].pk == kept)
    _verdict(console, "what is stored is what was saved", Order.get(pk=kept) == orders[0])


async def _orders_at_once(console: Console) -> None:
    _heading(console, 2, f"{_MANY:,} orders at once, with asyncio")
    orders = [Order(product="Widget", total=number) for number in range(_MANY)]
    with _progress(console) as progress:
        bar = progress.add_task("saving", total=_MANY)

        async def save(order: Order) -> None:
            await order.asave()
            progress.advance(bar)

        begun = time.perf_counter()
        await asyncio.gather(*map(save, orders))
        took = time.perf_counter() - begun
    keys = {order.pk for order in orders}
    console.print(f"{len(orders):,} saves in {took:.2f} s, many of them in one commit")
    _verdict(console, f"{_MANY:,} different keys", len(keys) == _MANY)
    stored = [await Order.aget(pk=order.pk) for order in orders[::100]]
    _verdict(console, "every hundredth looked up by its key: all there", None not in stored)


def _events_in_order(console: Console) -> None:
    _heading(console, 3, f"{_MANY:,} events of one account, appended one after another")
    first = Event(number=0)
    first.save()
    saved = [first]
    with _progress(console) as progress:
        bar = progress.add_task("appending", total=_MANY, completed=1)
        for number in range(1, _MANY):
            event = Event(account=first.account, number=number)
            event.save()
            saved.append(event)
            progress.advance(bar)
    read = Event.query(account=first.account).all()
    table = Table("number", "sort key", "minted at", box=None, header_style="dim")
    for event in read[:_SHOWN]:
        table.add_row(str(event.number), _key(event.event), _minted_at(event.event))
    table.add_row("…", "…", "…")
    for event in read[-_SHOWN:]:
        table.add_row(str(event.number), _key(event.event), _minted_at(event.event))
    console.print(table)
    instants = {parse(str(event.event)).timestamp_ms for event in saved}
    _verdict(
        console,
        f"read back in the order saved: {len(read):,} events of {len(instants):,} different milliseconds",
        [event.event for event in read] == [event.event for event in saved],
    )


def _one_of_each(console: Console) -> None:
    _heading(console, 4, "One id of each kind, from one clock reading")
    specimen = Specimen()
    specimen.save()
    table = Table("strategy", "id", "minted at", box=None, header_style="dim")
    times = set()
    for name, value in specimen.to_dict().items():
        kind = AutoGenerate(name)
        table.add_row(kind.name, _key(value) if name == "ulid" else str(value), _minted_at(value, kind))
        times.add(parse(str(value), kind).timestamp_ms)
    console.print(table)
    console.print("[dim]KSUIDs and XIDs tell the second, the three at the end are chance alone.")
    seconds = {time // 1_000 for time in times if time is not None}
    _verdict(console, "read out of the ids, it is one and the same time", len(seconds) == 1)


def _expiry(console: Console) -> None:
    _heading(console, 5, "A session that expires by itself")
    table = Table("the clock says", "expires in", "the store answers", box=None, header_style="dim")

    def look(session: Session, when: str) -> None:
        found = Session.get(id=session.id)
        table.add_row(when, str(session.expires_in), "None" if found is None else f"a session, id {str(found.id)[:8]}…")

    with frozen(time.time() // 1) as clock:
        session = Session()
        session.save()
        look(session, "now")
        clock.advance(timedelta(hours=23, minutes=59))
        look(session, "23 hours 59 minutes later")
        clock.advance(timedelta(minutes=1))
        look(session, "24 hours later")
        gone = Session.get(id=session.id) is None
    console.print(table)
    console.print("[dim]Only mintkey's own clock was moved, with mintkey.testing.frozen.")
    _verdict(console, "an expired item is absent from its second on, without a cleaner", gone)


def _file_of(url: str) -> str | None:
    """The path of a store that is a file."""
    location, _, _ = url.partition("?")
    path = unquote(location.removeprefix("sqlite:///"))
    return path if location.startswith("sqlite:///") and path else None


def _how_to_look(path: str) -> str:
    """A command that shows what is in the file."""
    select = "SELECT item FROM demo_orders LIMIT 3"
    if shutil.which("sqlite3"):
        return f'sqlite3 {shlex.quote(path)} "{select}"'
    program = f"import sqlite3; print(*sqlite3.connect({path!r}).execute({select!r}), sep=chr(10))"
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"


def _ending(console: Console, url: str) -> None:
    _heading(console, 6, "What there is now")
    table = Table("table", "items", box=None, header_style="dim")
    table.columns[1].justify = "right"
    for model in _MODELS:
        table.add_row(model.__mintkey_schema__.table, f"{model.count():,}")
    console.print(table)
    console.print()
    path = _file_of(url)
    if path is None:
        console.print(Text(f"It is all in the store {url}."))
        return
    size = os.path.getsize(path)  # noqa: PTH202 - the path stays as it was written
    console.print(f"It is all in one file of {size:,} bytes:")
    console.print(Text(f"  {os.path.abspath(path)}", "bold"), soft_wrap=True)  # noqa: PTH100
    console.print("Look into it:")
    console.print(Text(f"  {_how_to_look(path)}", "bold"), soft_wrap=True)


def _tour(console: Console, url: str) -> None:
    with connect(url) as store:
        where = Text(f"the store is {store.url}", "dim")
        console.print(Panel(Text.assemble(("mintkey", "bold"), ": keys that mint themselves\n", where), expand=False))
        for model in _MODELS:
            model.create_table()
        _orders_one_by_one(console)
        asyncio.run(_orders_at_once(console))
        _events_in_order(console)
        _one_of_each(console)
        _expiry(console)
        _ending(console, url)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tour; the exit status is 1 when the store cannot be used, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m mintkey.demo", description="Show mintkey's main job on a store.")
    parser.add_argument("--url", default=_URL, help="the store (default: %(default)s)")
    url: str = parser.parse_args(arguments).url
    console = Console(highlight=False)
    try:
        _tour(console, url)
    except MintkeyError as error:
        Console(stderr=True).print(Text.assemble((f"{type(error).__name__}: ", "red"), str(error)))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
