"""Time for rate limits that passes when a test says so, and a store that answers as a test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.behaviour.conftest import Do

from mintkey import Model, ModelConfig, Store, connect
from mintkey.attributes import StringAttribute
from mintkey.rate_limit import Time

#: Long enough for any machine; what a failing test waits before it says so.
PATIENCE = 60


class Hurried:
    """Whoever sleeps finds the time gone by at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept = 0.0

    @property
    def time(self) -> Time:
        return Time(lambda: self.now, self.sleep, self.asleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


class Told:
    """Time stands still until the test lets it pass, for threads that it started and for tasks."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._changed = threading.Condition()
        #: How many threads neither sleep nor have ended, and until when the others sleep.
        self._busy = 0
        self._sleepers: list[tuple[float]] = []
        self._tasks: list[tuple[float, asyncio.Future[None]]] = []

    @property
    def time(self) -> Time:
        return Time(lambda: self.now, self.sleep, self.asleep)

    def start(self, work: Callable[[], object]) -> None:
        """Let a thread do something, and wait until it sleeps or has ended."""

        def working() -> None:
            try:
                work()
            finally:
                self._count(-1)

        self._count(1)
        threading.Thread(target=working, daemon=True).start()
        self._wait_until_quiet()

    def _count(self, more: int) -> None:
        with self._changed:
            self._busy += more
            self._changed.notify_all()

    def _wait_until_quiet(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._busy == 0, PATIENCE)

    def sleep(self, seconds: float) -> None:
        with self._changed:
            until = (self.now + seconds,)
            self._sleepers.append(until)
            self._busy -= 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not any(one is until for one in self._sleepers), PATIENCE)

    async def asleep(self, seconds: float) -> None:
        done = asyncio.get_running_loop().create_future()
        self._tasks.append((self.now + seconds, done))
        await done

    def advance(self, seconds: float) -> None:
        """Let time pass, with a stop whenever a thread wakes, until all sleep again or have ended."""
        end = self.now + seconds
        while self.now < end:
            self._step(end)

    async def aadvance(self, seconds: float) -> None:
        """Let time pass for tasks, too."""
        end = self.now + seconds
        while self.now < end:
            self._step(end)
            await let_run()

    def _step(self, end: float) -> None:
        with self._changed:
            self._tasks = [(at, done) for at, done in self._tasks if not done.done()]
            self.now = min([end, *(at for (at,) in self._sleepers), *(at for at, _ in self._tasks)])
            for at, done in self._tasks:
                if at <= self.now:
                    done.set_result(None)
            sleeping = [one for one in self._sleepers if one[0] > self.now]
            self._busy += len(self._sleepers) - len(sleeping)
            self._sleepers = sleeping
            self._changed.notify_all()
        self._wait_until_quiet()


async def let_run() -> None:
    """Give every task the turns that it needs to come to its next wait."""
    for _ in range(50):
        await asyncio.sleep(0)


class Answered:
    """What `submit` gives when the answer is there already."""

    def __init__(self, event_loop: asyncio.AbstractEventLoop, answer: Callable[[], Any]) -> None:
        self.future: asyncio.Future[Any] = event_loop.create_future()
        try:
            self.future.set_result(answer())
        except Exception as error:  # noqa: BLE001 - it is told whoever awaits the answer
            self.future.set_exception(error)


class Pending:
    """What `submit` gives for a request that nobody begins."""

    def __init__(self, event_loop: asyncio.AbstractEventLoop, *, begun: bool) -> None:
        self.future: asyncio.Future[Any] = event_loop.create_future()
        self._begun = begun

    def withdraw(self) -> bool:
        return not self._begun


class Scripted:
    """Stands for the compiled store: every request gets the next of the answers, the last one again and again."""

    address = "scripted://"

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.requests: list[Any] = []

    def execute(self, request: Any) -> Any:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    __call__ = execute

    def submit(self, request: Any, event_loop: asyncio.AbstractEventLoop) -> Any:
        return Answered(event_loop, lambda: self.execute(request))


class Note(Model):
    """A model whose items have the size that a test wants."""

    model_config = ModelConfig(table="notes")

    id = StringAttribute(partition_key=True)
    text = StringAttribute()


@pytest.fixture
def hurried() -> Hurried:
    return Hurried()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(params=["blocking", "async"])
def do(request) -> Do:
    """The two worlds."""
    return Do(blocking=request.param == "blocking")


@pytest.fixture
def scripted() -> Iterator[Callable[..., tuple[Store, Scripted]]]:
    """`scripted(limit, *answers)` connects a store that answers so."""
    opened = []

    def start(limit: Any, *answers: Any) -> tuple[Store, Scripted]:
        store = connect("sqlite://", rate_limit=limit)
        opened.append((store, store._core))
        engine = Scripted(*answers)
        store._core = engine  # type: ignore[assignment]
        return store, engine

    yield start
    for store, core in opened:
        store._core = core
        store.close()
