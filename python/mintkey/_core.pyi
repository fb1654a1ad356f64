"""The compiled half: signatures of what `crates/python` exports."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, Generic, Literal, NoReturn, TypeAlias, final

from typing_extensions import Self, TypeVar

_R = TypeVar("_R")
_M = TypeVar("_M")
_Instance = TypeVar("_Instance", bound=InstanceSlots)
_Model = TypeVar("_Model", contravariant=True, default=Any)

VERSION: str
MAX_INDEXED: int
"""The maximum size of an indexed value in bytes."""
MAX_VALUE_LEVELS: int
"""The maximum nesting of lists and maps."""

# --- ids

@final
class Strategy:
    """A strategy with its parameters. Hashable and immutable."""

    def __new__(cls, name: str, /, **parameters: Any) -> Strategy: ...
    @property
    def name(self) -> str:
        """``"ulid"``."""
    @property
    def is_id(self) -> bool:
        """False for timestamps."""
    @property
    def sortable(self) -> bool:
        """Whether values sort by the time of their generation."""
    @property
    def output(self) -> str:
        """``"str"`` or ``"int"``."""
    @property
    def length(self) -> int | None:
        """The length of the text in characters, including the prefix; None for integers."""
    @property
    def random_bits(self) -> int:
        """The number of random bits that distinguish two IDs of one tick."""
    @property
    def prefix(self) -> str:
        """The text before the ID."""
    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters; ``plus`` in milliseconds."""
    def check(self, value: str | int) -> str | None:
        """Return None if the value matches this strategy, otherwise the reason why not."""
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

def checked(kind: str, label: str | None, value: Any, part: Literal["partition", "sort"] | None = None) -> Any:
    """Return a copy of `value` in its stored type. Raises `InvalidValue` that names `label`, if there is one.

    With a `part`, the value must fit into this part of a key.
    """

def as_read(value: Any) -> Any:
    """Return a plain value as it is read after it was stored: a number is an int, a float or a Decimal.

    Raises `InvalidValue` without a label.
    """

def number_text(value: Any) -> str:
    """Return the canonical digits of a number."""

def compress(data: bytes, algorithm: str, level: int | None, min_size: int, threshold: float) -> bytes:
    """Return `data` compressed, or uncompressed if it is too short or does not shrink enough."""

def decompress(stored: bytes, max_size: int) -> bytes:
    """Return the decompressed data. Raises `ValueError` if it has more than `max_size` bytes."""

def decompressed() -> int:
    """Return the number of bytes that this thread has decompressed so far."""

@final
class Item:
    """A stored item: opaque, immutable, compared by value."""

    @staticmethod
    def from_json(text: str) -> Item:
        """Return the item of a JSON text."""
    @staticmethod
    def from_dict(values: dict[str, Any]) -> Item:
        """Return the item of stored values by stored name. Raises `TypeError` if a value cannot be stored."""
    def to_json(self) -> str:
        """Return the item as JSON text."""
    def to_dict(self) -> dict[str, Any]:
        """Return the stored values by stored name."""
    def get(self, name: str) -> Any:
        """Return the stored value of a stored name, or None."""
    def __eq__(self, other: object, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, tuple[str]]: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

def digest(items: list[Item], /) -> int:
    """Return the sum of the hashes of items, modulo 2**128: the same for equal items in any order, in this process."""

@final
class Key:
    """A stored key. Its text is the form of messages, `"A"` or `("A", 1)`, with long parts cut."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Condition(Generic[_Model]):
    """A condition on an item of a model. Combine conditions with `&`, `|` and `~`."""

    def __new__(
        cls,
        root: Any,
        label: str,
        steps: tuple[str | int, ...],
        name: str,
        operands: tuple[Any, ...],
        json: bool = False,
    ) -> Self: ...
    @staticmethod
    def every(conditions: Sequence[Condition[_M]]) -> Condition[_M]:
        """Return the condition that all of these are true."""
    @staticmethod
    def some(conditions: Sequence[Condition[_M]]) -> Condition[_M]:
        """Return the condition that at least one of these is true."""
    @property
    def name(self) -> str | None:
        """The name of a test, such as `"=="`; None for a combination."""
    @property
    def attribute(self) -> Any:
        """The attribute of a test of a whole attribute against values; None for other tests and for combinations."""
    @property
    def operands(self) -> tuple[Any, ...]:
        """The encoded operands of a test."""
    @property
    def is_false(self) -> bool:
        """Whether no item can match."""
    @property
    def is_local(self) -> bool:
        """Whether DynamoDB cannot evaluate the condition."""
    def conjuncts(self) -> list[Self]:
        """Return the conditions that are joined by AND at the top level."""
    def roots(self) -> list[Any]:
        """Return the attributes in the condition."""
    def matches(self, item: Item) -> bool:
        """Return whether the condition is true for an item."""
    def fingerprint(self) -> str:
        """Return a text that is the same for equal conditions, in every process."""
    def __and__(self: Condition[_M], other: Condition[_M], /) -> Condition[_M]: ...
    def __or__(self: Condition[_M], other: Condition[_M], /) -> Condition[_M]: ...
    def __rand__(self: Condition[_M], value: Condition[_M], /) -> Condition[_M]: ...
    def __ror__(self: Condition[_M], value: Condition[_M], /) -> Condition[_M]: ...
    def __invert__(self) -> Self: ...
    def __bool__(self) -> NoReturn: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Action(Generic[_Model]):
    """A change of an item of a model that the store computes, such as `Order.n.add(1)`, for `update()`."""

    def __new__(
        cls, root: Any, label: str, steps: tuple[str | int, ...], name: str, operands: tuple[Any, ...]
    ) -> Self: ...
    def roots(self) -> list[Any]:
        """Return the attribute that it changes, and the one whose value it reads."""
    @property
    def root(self) -> Any:
        """The attribute that it changes, or a part of."""
    @property
    def name(self) -> str:
        """The kind of change, such as `"add"`."""
    @property
    def is_whole(self) -> bool:
        """Whether it changes the attribute as a whole."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

# --- schemas and requests

@final
class Request:
    """A request of an operation to a store."""

    @property
    def writes(self) -> bool:
        """Whether the request writes. Its capacity units are write units then, otherwise read units."""
    @property
    def operation(self) -> str:
        """The name of the operation, such as `"put"`."""
    @property
    def tables(self) -> list[str]:
        """The names of the tables, each once; none for a ping."""
    @property
    def attempts(self) -> int:
        """How often the request, or a part of it, was sent."""
    @property
    def size(self) -> int | None:
        """The number of reads or writes of a batch or transaction; None for other requests."""
    def rows(self, answer: Any) -> int:
        """Return the number of items that a request with this reply has read or written."""
    @staticmethod
    def ping() -> Request:
        """Send a ping to the servers. The reply is a list of their addresses and versions."""
    def meter(self) -> None:
        """Request the consumed capacity units, from a store that counts them."""
    @staticmethod
    def list_tables() -> Request:
        """List the names of the tables of the store, in order."""
    @staticmethod
    def describe_table(name: str) -> Request:
        """Describe a table, or None: description, number of rows, whether that is exact, size in bytes, id."""
    @staticmethod
    def transaction(requests: list[Request]) -> Request:
        """Join requests that write or check one item each into a transaction."""
    @staticmethod
    def transaction_get(requests: list[Request]) -> Request:
        """Join requests that read one item each into a transaction."""
    @property
    def consumed(self) -> float | None:
        """The capacity units that the store has counted; None if it does not count them."""
    @property
    def seconds(self) -> float | None:
        """The seconds until its reply was there, of a metered request that was executed together with others."""
    @property
    def throttled(self) -> bool:
        """Whether the store throttled an attempt of this request."""
    @property
    def key(self) -> Key | None:
        """The key of the item that the request writes; None for other requests."""
    @property
    def units(self) -> float:
        """The minimum of capacity units, as far as it is known before the reply."""
    def units_of(self, answer: Any) -> float:
        """Return the capacity units of a request with this reply."""

@final
class Page:
    """A page of a query or scan."""

    @property
    def items(self) -> list[Item]:
        """The items, in order."""
    @property
    def count(self) -> int:
        """The number of items."""
    @property
    def next(self) -> bytes | None:
        """The position of the next page; None after the last page."""

_Convert: TypeAlias = tuple[Callable[[Any], Any], Callable[[Any], Any]]
_Structure: TypeAlias = tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]
_Field: TypeAlias = tuple[str, str, str, bool, _Convert | None, str | None, _Structure | None]
_Index: TypeAlias = tuple[str, list[str], str | None, list[str] | None, bool]
#: What is read: an attribute, or a part of a map, as the attribute and the stored names of the steps into it.
_Selected: TypeAlias = str | tuple[str, tuple[str, ...]]
_Unique: TypeAlias = tuple[str, list[str], list[tuple[str, str, bool]], tuple[str, list[str], bool] | None]
_Version: TypeAlias = tuple[str, int | None] | None

class InstanceSlots:
    """The base of `Model`: two slots beside the values, which are None until they are set."""

    _kept: Any
    """The state of the instance, once more than the item has to be recorded."""
    _stored: Item | None
    """The item as the instance last read or wrote it."""

def call_init_directly(model: type) -> None:
    """Let calls of a model pass their arguments to `__init__` without a dict of them. Subclasses do not inherit it."""

@final
class Codec:
    """The compiled schema of a model: encodes and decodes items, and builds requests."""

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
        unique: Sequence[_Unique] = ...,
        colocate: str | None = None,
    ) -> Codec: ...
    @staticmethod
    def of_table(name: str, description: Item) -> Codec:
        """Return the schema of a table without a class. Its attributes are its keys."""
    def share_ttl(self, name: str) -> None:
        """Take over the expiry that another class of the table declares under this stored name."""
    def encode(
        self,
        values: dict[str, Any],
        overrides: dict[str, Any] | None = None,
        *,
        partial: bool = False,
        loaded: Item | None = None,
    ) -> Item:
        """Check and encode the values of an instance. Keys that mean the same as those of `loaded` keep their text."""
    def plain(self, values: dict[str, Any]) -> dict[str, Any]:
        """Encode the values of a nested instance as a plain dict."""
    def decode(self, item: Item) -> dict[str, Any]:
        """Decode the values of an instance."""
    def load(self, model: type[_Instance], item: Item) -> _Instance:
        """Make an instance of a stored item, without a call of its constructor."""
    def decode_plain(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Decode the values of a nested instance."""
    def changed(self, values: dict[str, Any], item: Item | None) -> list[str]:
        """Return the names of the attributes whose values differ from a stored item."""
    def key(self, values: dict[str, Any]) -> Key:
        """Return the key in a dict of attribute names to values."""
    def key_of(self, item: Item) -> Key:
        """Return the key of an item."""
    def key_dict(self, key: Key) -> dict[str, object]:
        """Return a key as a dict of attribute names to stored values."""
    def drop_unique(self, names: list[str]) -> Request:
        """Return the request that drops the unique values with these names."""
    def create_table(self) -> Request:
        """Create the table, or add missing indexes."""
    def refusing_indexes(self) -> Request:
        """Ask for the names of the indexes that the table lacks and that would refuse rows."""
    def table_exists(self) -> Request:
        """Check whether the table exists."""
    def delete_table(self) -> Request:
        """Delete the table."""
    def get(self, key: Key, *, consistent: bool = False, attributes: Sequence[_Selected] | None = None) -> Request:
        """Read one item: with `attributes` only these and the key."""
    def get_unique(self, name: str, values: Sequence[Any], *, attributes: Sequence[_Selected] | None = None) -> Request:
        """Read the item with these encoded unique values."""
    def put(
        self,
        item: Item,
        *,
        row: str,
        version: _Version,
        condition: Condition | None = None,
        collision_free: bool = False,
    ) -> Request:
        """Write a whole item."""
    def patch(
        self,
        old: Item,
        new: Item,
        *,
        removed: list[str],
        ignored: list[str],
        version: _Version,
        condition: Condition | None = None,
        guard: Condition | None = None,
    ) -> tuple[Request, Item, bool] | None:
        """Write the differences between two items with the same key. A `guard` takes the place of the condition."""
    def update(
        self,
        key: Key,
        values: dict[str, Any],
        *,
        actions: list[Action],
        version: _Version,
        condition: Condition | None = None,
        return_old: bool = False,
    ) -> Request:
        """Set and remove attributes and apply `actions` in the store. The reply is the new item, or the old one."""
    def updated(self, item: Item, values: dict[str, Any], actions: list[Action]) -> Item:
        """Return the result of an update of an item."""
    def delete(
        self, key: Key, *, version: _Version, condition: Condition | None = None, return_old: bool = False
    ) -> Request:
        """Delete an item. The reply is the deleted one if `return_old`."""
    def check(self, key: Key, condition: Condition) -> Request:
        """Write nothing, and fail unless the condition is true of an item: a part of a transaction."""
    def batch_get(
        self,
        keys: list[Key],
        *,
        consistent: bool = False,
        attributes: Sequence[_Selected] | None = None,
    ) -> Request:
        """Read several items: with `attributes` only these and the key."""
    def batch_write(self, requests: list[Request]) -> Request:
        """Join requests that write one item each into one request."""
    def put_all(self, items: list[Item], row: str) -> tuple[Request, list[tuple[int, BaseException]]]:
        """Write several whole items; also return index and exception of each item that is not in the request."""
    def query(
        self,
        partition: list[Any],
        *,
        index: str | None = None,
        sort: tuple[Any, ...] | None = None,
        filter: Condition | None = None,
        descending: bool = False,
        limit: int | None = None,
        after: bytes | None = None,
        attributes: Sequence[_Selected] | None = None,
        count: bool = False,
        consistent: bool = False,
    ) -> Request:
        """Read a page of a partition or an index."""
    def scan(
        self,
        *,
        filter: Condition | None = None,
        descending: bool = False,
        limit: int | None = None,
        after: bytes | None = None,
        attributes: Sequence[_Selected] | None = None,
        count: bool = False,
        consistent: bool = False,
        segment: tuple[int, int] | None = None,
    ) -> Request:
        """Read a page of the table or of one of its segments."""

@final
class NewSave:
    """Prepares saves of new instances: generates values, checks them, decides about the guard, builds the request."""

    def __new__(
        cls,
        codec: Codec,
        mints: Sequence[tuple[str, Strategy | None, Callable[[Any], Any] | None, bool, bool]],
        *,
        insert_only: bool,
        version: str | None = None,
        overrides: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        check: Callable[[Any, object], None] | None = None,
    ) -> NewSave: ...
    def mint(self, values: dict[str, Any], minted: dict[str, Any], keys: bool = False, /) -> int | None:
        """Generate missing values, also into `minted`; return the clock reading in ms, or None if none is missing.

        With `keys`, generate only the parts of the key.
        """
    def one(
        self,
        instance: Any,
        insert: bool,
        minted: Sequence[str] | None = None,
        made: dict[str, Any] | None = None,
        condition: Condition | None = None,
        pipeline: object = None,
        /,
    ) -> tuple[Request | None, Any, tuple[str, ...]]:
        """Return the request with its item, or None with an exception, and the names of the generated values.

        If the names of the generated values are passed, no value is missing. `made` are the key parts that were
        generated or set by a hook.
        """
    def many(self, model: type, instances: list[Any], prepared: list[Any], /) -> None:
        """Do the same for a chunk and fill `prepared`; do nothing if an instance needs its own operation."""

# --- stores

@final
class InFlightRequest:
    """A submitted request whose reply is awaited."""

    @property
    def future(self) -> asyncio.Future[Any]:
        """The future of the reply."""
    def withdraw(self) -> bool:
        """Withdraw the request; return True if it had not started."""

@final
class Store:
    """An open store."""

    def __new__(cls, url: str) -> Store: ...
    @property
    def address(self) -> str:
        """The URL without its password."""
    @property
    def engine(self) -> str:
        """The name of the store's engine."""
    @property
    def creates_tables(self) -> bool:
        """Whether a missing table is created on first use."""
    @property
    def ordered_scans(self) -> bool:
        """Whether a scan returns the items in the order of their keys."""
    @property
    def largest_batch(self) -> int:
        """The most writes of one request of a batch."""
    def execute(self, request: Request) -> Any:
        """Execute a request on this thread, with the GIL released."""
    def execute_all(self, requests: list[Request]) -> list[Any | BaseException]:
        """Execute several requests on this thread, with the GIL released; return their replies in order."""
    def submit(self, request: Request, event_loop: asyncio.AbstractEventLoop) -> InFlightRequest:
        """Start a request; its reply is set on the future of the returned object."""
    def close(self) -> None:
        """Complete running requests, close connections and end threads."""

def drive(
    operation: Generator[Any, Any, _R], execute: Store | Callable[[Request], Any], others: Callable[[Any], Any]
) -> _R:
    """Run an operation: `execute` is the store, or is called with each request; `others` with everything else."""

def running_loop() -> asyncio.AbstractEventLoop:
    """`asyncio.get_running_loop()`, without importing asyncio before it is needed."""

def before_fork() -> None:
    """Called by `os.register_at_fork` before a fork."""

def after_fork() -> None:
    """Called by `os.register_at_fork` in parent and child after a fork."""
