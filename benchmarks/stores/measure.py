"""Jobs, each done by us and by rivals in turn, and the table of what that took."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table

OURS = "mintkey"


@dataclass(frozen=True)
class Bar:
    """At most so much of what a rival takes."""

    rival: str
    limit: float
    #: The time of the process on all processors; else that on the wall.
    cpu: bool = False
    ours: str = OURS


@dataclass
class Job:
    """What several runs do in turn, each `times` times a round."""

    name: str
    times: int
    runs: dict[str, Callable[[], object]]
    bars: list[Bar]
    #: A share of the rounds asked for, for jobs that take long.
    share: float = 1.0


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    place: str
    job: str
    unit: str
    ours: float
    rival: str
    theirs: float
    ratio: float
    bar: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.bar


@dataclass
class Taken:
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def measured(place: str, job: Job, rounds: int, only: str = "") -> Iterator[Row]:
    """Run a job's rivals interleaved if its name contains `only`; the ratios are medians of those of one round."""
    if only not in job.name:
        return
    taken = {name: Taken() for name in job.runs}
    for run in job.runs.values():
        run()
    for _ in range(max(3, round(rounds * job.share))):
        for name, run in job.runs.items():
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            taken[name].cpu.append((time.process_time() - cpu) / job.times * 1e6)
            taken[name].wall.append((time.perf_counter() - wall) / job.times * 1e6)
    for bar in job.bars:
        mine, theirs = (getattr(taken[name], "cpu" if bar.cpu else "wall") for name in (bar.ours, bar.rival))
        ratio = statistics.median(our / their for our, their in zip(mine, theirs, strict=True))
        yield Row(
            place,
            job.name,
            "µs of processor" if bar.cpu else "µs",
            statistics.median(mine),
            bar.rival,
            statistics.median(theirs),
            ratio,
            bar.limit,
        )


def show(rows: list[Row]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("store", "job", "beside"):
        table.add_column(column)
    for column in ("ours", "theirs", "ratio", "bar"):
        table.add_column(column, justify="right")
    table.add_column("of")
    table.add_column("")
    place = None
    for row in rows:
        if place not in {None, row.place}:
            table.add_section()
        shown = "" if place == row.place else row.place
        place = row.place
        table.add_row(
            shown,
            row.job,
            row.rival,
            f"{row.ours:,.2f}",
            f"{row.theirs:,.2f}",
            f"{row.ratio:.2f}",
            f"{row.bar:g}",
            row.unit,
            "[green]met[/]" if row.met else "[red]missed[/]",
        )
    Console(width=150 if not Console().is_terminal else None).print(table)
