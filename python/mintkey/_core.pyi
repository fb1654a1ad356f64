"""The compiled half: signatures of what `crates/python` exports."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar, final

_R = TypeVar("_R")

VERSION: str
MAX_CONDITION_LEVELS: int
"""How deep conditions nest."""
MAX_VALUE_LEVELS: int
"""How deep lists and maps nest."""

# --- ids

@final
class Strategy:
    """What to mint: a strategy with its parameters. Hashable and immutable."""

    def __new__(cls, name: str, /, **parameters: Any) -> Strategy: ...
    @property
    def name(self) -> str:
        """``"ulid"``."""
    @property
    def is_id(self) -> bool:
        """False for timestamps."""
    @property
    def sortable(self) -> bool:
        """Values sort by the time they were minted at."""
    @property
    def output(self) -> str:
        """``"str"`` or ``"int"``."""
    @property
    def length(self) -> int | None:
        """Characters of the text, prefix included; None for integers."""
    @property
    def random_bits(self) -> int:
        """Bits from the generator that tell two ids of one tick apart."""
    @property
    def prefix(self) -> str:
        """The text before the id."""
    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters; ``plus`` in milliseconds."""
    def check(self, value: str | int) -> str | None:
        """None if the value is one of this strategy's, else the reason it is not."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def mint(strategies: tuple[Strategy, ...], at: int | None = None) -> tuple[list[Any], int]: ...
def mint_one(strategy: Strategy, at: int | None = None, /) -> Any: ...
def mint_many(strategy: Strategy, n: int, /) -> list[Any]: ...
def now_ms() -> int: ...
def reseed() -> None: ...
def parse(value: str | int, strategy: Strategy | None = None, /) -> dict[str, Any]: ...
def candidates(text: str, /) -> list[str]: ...
def bounds(strategy: Strategy, start: int, end: int, /) -> tuple[Any, Any]: ...
def from_bytes(strategy: Strategy, data: bytes, /) -> str: ...
def uuid4() -> str: ...
def uuid7() -> str: ...
def ulid() -> str: ...
def ksuid() -> str: ...
def nanoid(size: int | None = None, alphabet: str | None = None) -> str: ...
def snowflake() -> int: ...
def typeid(prefix: str = "") -> str: ...
def xid() -> str: ...
def cuid2(length: int | None = None) -> str: ...
def epoch() -> int: ...
def epoch_ms() -> int: ...
def iso8601() -> str: ...
def iso8601_ms() -> str: ...
def freeze(microseconds: int, seed: bytes | None = None, /) -> int: ...
def thaw(block: int, /) -> bool: ...
def move_clock(block: int, advance: int, set: int | None = None, /) -> int: ...

# --- end of ids

# --- values and items

def checked(kind: str, label: str, value: Any) -> Any:
    """`value` as it is stored, detached from the caller's objects; else `InvalidValue` that names `label`."""

def number_text(value: Any) -> str:
    """The canonical digits of a number."""

def compress(data: bytes, algorithm: str, level: int | None, min_size: int, threshold: float) -> bytes:
    """The stored form of `data`: compressed, unless it is too short or would not shrink enough."""

def decompress(stored: bytes, max_size: int) -> bytes:
    """What `compress` was given; `ValueError` if that is longer than `max_size` bytes."""

def decompressed() -> int:
    """The bytes that this thread has decompressed so far."""

@final
class Item:
    """An item in its stored form: opaque, unchanging, compared by value."""

    @staticmethod
    def from_json(text: str) -> Item:
        """The stored JSON form read back."""
    def to_json(self) -> str:
        """The stored JSON form."""
    def to_dict(self) -> dict[str, Any]:
        """The stored values by stored name."""
    def get(self, name: str) -> Any:
        """The stored value under a stored name, or None."""
    def __eq__(self, other: object, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, tuple[str]]: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

@final
class Key:
    """A key in its stored form; as text it is as messages show it, `"A"` or `("A", 1)`, long parts cut."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

# --- schemas and requests

@final
class Request:
    """What an operation asks of a store."""

    @property
    def writes(self) -> bool:
        """Whether it changes the store: its units are of writing then, else of reading."""
    def meter(self) -> None:
        """Asks the store to tell the units that it takes, where it counts them itself."""
    @property
    def consumed(self) -> float | None:
        """The capacity units that the store has counted; None where it counts none."""
    @property
    def throttled(self) -> bool:
        """Whether the store turned it away at first because there were too many."""
    @property
    def key(self) -> Key | None:
        """The key of the one item that it writes, if it does."""
    @property
    def units(self) -> float:
        """The capacity units that it takes at least, by what is known before its answer."""
    def units_of(self, answer: Any) -> float:
        """The capacity units that it took, now that this is its answer."""

@final
class Page:
    """A page of a query or scan."""

    @property
    def items(self) -> list[Item]:
        """The items, in order."""
    @property
    def count(self) -> int:
        """How many items there are."""
    @property
    def next(self) -> bytes | None:
        """Where the next page begins; None after the last."""

_Convert: TypeAlias = tuple[Callable[[Any], Any], Callable[[Any], Any]]
_Field: TypeAlias = tuple[str, str, str, bool, _Convert | None, str | None]
_Index: TypeAlias = tuple[str, list[str], str | None, list[str] | None, bool]
_Version: TypeAlias = tuple[str, int | None] | None

@final
class Codec:
    """A model's schema compiled: its instances to stored items and back, and the requests about them."""

    def __new__(
        cls,
        model: str,
        fields: Sequence[_Field],
        *,
        table: str | None = None,
        partition: str | None = None,
        sort: str | None = None,
        ttl: str | None = None,
        indexes: Sequence[_Index] = ...,
    ) -> Codec: ...
    def encode(self, values: dict[str, Any], overrides: dict[str, Any] | None = None, *, partial: bool = False) -> Item:
        """The item of an instance's values, checked."""
    def plain(self, values: dict[str, Any]) -> dict[str, Any]:
        """The plain stored form of an instance's values, for a map that nests it."""
    def decode(self, item: Item) -> dict[str, Any]:
        """An instance's values out of a stored item."""
    def decode_plain(self, stored: dict[str, Any]) -> dict[str, Any]:
        """An instance's values out of the plain stored form of a map."""
    def changed(self, values: dict[str, Any], item: Item | None) -> list[str]:
        """The names of the attributes whose values differ from a stored item."""
    def key(self, values: dict[str, Any]) -> Key:
        """The key in a dict of attribute names to values."""
    def key_of(self, item: Item) -> Key:
        """The key of an item."""
    def key_dict(self, key: Key) -> dict[str, object]:
        """A key as a dict of attribute names to stored values."""
    def matches(self, item: Item, condition: tuple[Any, ...]) -> bool:
        """Whether a condition holds for an item."""
    def create_table(self) -> Request:
        """Makes the table, or adds what it lacks."""
    def table_exists(self) -> Request:
        """Asks whether the table is there."""
    def delete_table(self) -> Request:
        """Drops the table."""
    def get(self, key: Key, *, consistent: bool = False) -> Request:
        """Reads one item."""
    def put(
        self,
        item: Item,
        *,
        row: str,
        version: _Version,
        condition: tuple[Any, ...] | None = None,
        wide: bool = False,
    ) -> Request:
        """Writes a whole item."""
    def patch(
        self,
        old: Item,
        new: Item,
        *,
        removed: list[str],
        ignored: list[str],
        version: _Version,
        condition: tuple[Any, ...] | None = None,
    ) -> tuple[Request, Item, bool] | None:
        """Writes what differs between two items of one key."""
    def update(
        self,
        key: Key,
        values: dict[str, Any],
        *,
        actions: list[tuple[Any, ...]],
        version: _Version,
        condition: tuple[Any, ...] | None = None,
    ) -> Request:
        """Sets and removes attributes and applies `actions`, in the store."""
    def updated(self, item: Item, values: dict[str, Any], actions: list[tuple[Any, ...]]) -> Item:
        """The item that an update makes of another one."""
    def delete(self, key: Key, *, version: _Version, condition: tuple[Any, ...] | None = None) -> Request:
        """Removes an item."""
    def batch_get(self, keys: list[Key], *, consistent: bool = False) -> Request:
        """Reads several items."""
    def batch_write(self, requests: list[Request]) -> Request:
        """Joins requests that write one item each into one."""
    def query(
        self,
        partition: list[Any],
        *,
        index: str | None = None,
        sort: tuple[Any, ...] | None = None,
        filter: tuple[Any, ...] | None = None,
        descending: bool = False,
        limit: int | None = None,
        after: bytes | None = None,
        attributes: list[str] | None = None,
        count: bool = False,
        consistent: bool = False,
    ) -> Request:
        """Reads a page of a partition, or of an index."""
    def scan(
        self,
        *,
        filter: tuple[Any, ...] | None = None,
        descending: bool = False,
        limit: int | None = None,
        after: bytes | None = None,
        attributes: list[str] | None = None,
        count: bool = False,
        consistent: bool = False,
        segment: tuple[int, int] | None = None,
    ) -> Request:
        """Reads a page of the table, or of one of its segments."""

@final
class PlainSave:
    """Saves new instances of a model in which nothing but the values has a say: minted, checked, put in one step."""

    def __new__(
        cls,
        codec: Codec,
        mints: Sequence[tuple[str, Strategy, Callable[[Any], Any] | None, bool, bool]],
        insert_only: bool,
    ) -> PlainSave: ...
    def one(
        self, values: dict[str, Any], insert: bool, /
    ) -> tuple[Request | None, Item | BaseException, tuple[str, ...]]:
        """The request, the item or what went wrong, and the names that were minted."""
    def many(self, model: type, instances: list[Any], others: list[Any], made: list[Any], /) -> None:
        """The same for a chunk, the requests joined, told in `made`; nothing when one needs a save of its own."""

# --- stores

@final
class Begun:
    """A request that was made ready, or sent, and has not been waited for."""

    def send(self) -> None:
        """Sends it, with the GIL released, and does not wait for the answer."""
    def hurry(self) -> None:
        """Lets `finish` wait for a moment only."""
    def finish(self) -> Any:
        """Waits for the answer, once, with the GIL released."""

@final
class Flight:
    """A submitted request whose answer is awaited."""

    @property
    def future(self) -> asyncio.Future[Any]:
        """The future of the answer."""
    def withdraw(self) -> bool:
        """Takes the request back; True if it was never begun."""

@final
class Store:
    """An open store."""

    def __new__(cls, url: str) -> Store: ...
    @property
    def address(self) -> str:
        """The URL without its password."""
    @property
    def engine(self) -> str:
        """The engine's name."""
    @property
    def creates_tables(self) -> bool:
        """Whether a missing table is made at its first use."""
    @property
    def ordered_scans(self) -> bool:
        """Whether a scan comes in the order of the keys."""
    def execute(self, request: Request) -> Any:
        """Carries a request out on this thread, with the GIL released."""
    def execute_all(self, requests: list[Request]) -> list[Any | BaseException]:
        """Carries several reads out on this thread, with the GIL released; their answers in order."""
    def begin(self, request: Request) -> Begun | None:
        """Makes a request ready to be sent from this thread, and waited for later; None where it has to be executed."""
    def submit(self, request: Request, event_loop: asyncio.AbstractEventLoop) -> Flight:
        """Starts a request; its answer comes to the future of what is returned."""
    def close(self) -> None:
        """Closes connections and ends threads, after what is running."""

def drive(
    operation: Generator[Any, Any, _R], execute: Store | Callable[[Request], Any], others: Callable[[Any], Any]
) -> _R:
    """Drives an operation to its end: `execute` is the store or called with each request, `others` with all else."""

def running_loop() -> asyncio.AbstractEventLoop:
    """`asyncio.get_running_loop()`, without importing asyncio before it is needed."""

def before_fork() -> None:
    """Called by `os.register_at_fork` before a fork."""

def after_fork() -> None:
    """Called by `os.register_at_fork` in parent and child after a fork."""
