"""Dataclasses and pydantic models with the methods of `Model`, on every store."""

from __future__ import annotations

import copy
import dataclasses
import enum
import gc
import pickle
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    computed_field,
    field_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass

from mintkey import AutoGenerate, Index, Model, ModelConfig, Reference, mapped, pipeline, transact_get, transaction
from mintkey.attributes import JSONAttribute, MapAttribute, NumberAttribute, StringAttribute, VersionAttribute
from mintkey.errors import ConfigurationError, ItemGone, KeyCollision, NotLoaded, UnreadableItem, VersionConflict
from mintkey.fields import AutoKeyField, UniqueKeyField
from mintkey.hooks import before_save


class Address(BaseModel):
    city: str
    zip: str | None = None


# For type checkers, the decorator returns the class that it was given.
user: Any = mapped(
    partition_key="id",
    table="mapped-users",
    attributes={
        "id": StringAttribute(default=AutoGenerate.ULID),
        "version": VersionAttribute(),
        "by_kind": Index("kind", "age"),
    },
)


@user
class User(BaseModel):
    model_config = ConfigDict(validate_assignment=True)
    id: str | None = None
    name: Annotated[str, Field(min_length=2)]
    age: int = 5
    nick: str | None = "none"
    tags: set[str] = Field(default_factory=set)
    kind: Literal["a", "b"] = "a"
    home: Address | None = None
    homes: list[Address] = []
    born: date | None = None
    price: Decimal = Decimal("1.5")
    more: dict[str, Any] = {}
    version: int | None = None
    _calls: int = PrivateAttr(default=4)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"{self.name} ({self.age})"


@mapped(partition_key="pk", sort_key="sk", table="mapped-events", index=["level"])
@dataclasses.dataclass(frozen=True)
class Event:
    pk: str
    sk: int
    at: datetime
    level: int = 1
    cause: Event | None = None
    path: tuple[int, ...] = (1,)
    words: frozenset[str] = frozenset()
    length: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.path))


class Strange:
    pass


NOON = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
users: Any = User
events: Any = Event


async def test_a_pydantic_model_is_saved_read_changed_and_deleted(do):
    ada: Any = users(
        name="ada", home={"city": "Berlin"}, homes=[{"city": "Rome"}], born="1815-12-10", more={"a": [1, None]}
    )
    assert ada.id is None
    await do.save(ada)
    assert (len(str(ada.id)), ada.version) == (26, 1)
    found = await do.get(users, ada.id)
    assert type(found).__name__ == "User"
    assert found == ada
    assert found.home == Address(city="Berlin")
    assert (found._calls, found.label) == (4, "ada (5)")
    assert not found.is_dirty
    found.nick = None
    found.tags.add("new")
    with pytest.raises(ValidationError):
        found.age = "old"
    assert found.changed == {"nick", "tags"}
    await do.save(found)
    again = await do.get(users, ada.id)
    assert (again.nick, again.tags, again.version) == (None, {"new"}, 2)
    ada.name = "eve"
    with pytest.raises(VersionConflict):
        await do.save(ada)
    await do.refresh(ada)
    assert ada == again
    assert ada.model_dump() == again.model_dump()
    await do.update(ada, users.age.add(1), nick="x")
    assert (ada.age, ada.nick, ada.version) == (6, "x", 3)
    await do.delete(ada)
    assert await do.get(users, ada.id) is None


async def test_conditions_queries_batches_and_the_rest(do):
    await do.batch_save(users, [users(id=f"u{n}", name="many", age=n) for n in range(3)])
    await do.create(users, id="last", name="last", age=9, kind="b")
    assert {one.id for one in await do.iterate(do.scan(users, users.age > 0))} == {"u1", "u2", "last"}
    by_kind = users.by_kind
    found = await do.iterate((by_kind.query if do.blocking else by_kind.aquery)(users.age < 2, kind="a"))
    assert [one.id for one in found] == ["u0", "u1"]
    assert await do.count(users) == 4
    assert await do.exists(users, "u1")
    with pytest.raises(KeyCollision):
        await do.create(users, id="u1", name="twice")
    made, is_new = await do.get_or_create(users, id="u1", defaults={"name": "other"})
    assert (made.name, is_new) == ("many", False)
    made, is_new = await do.get_or_create(users, id="u9", defaults={"name": "other"})
    assert (type(made), made.name, made.age, is_new) == (User, "other", 5, True)
    await do.update_by_key(users, "u10", name="upserted", upsert=True)
    assert await do.get(users, "u10") == users(id="u10", name="upserted", version=1)


async def test_a_dataclass_stays_a_dataclass(do):
    first = events("a", 1, NOON, path=(1, 2), words=frozenset({"x"}))
    second = events("a", 2, NOON, level=2, cause=first)
    await do.save(first)
    await do.batch_save(events, [second])
    assert await do.get(events, "a", 1) == first
    found = await do.iterate(do.query(events, pk="a"))
    assert found == [first, second]
    assert [one.cause for one in found] == [None, first]
    assert found[0].length == 2
    assert [dataclasses.asdict(one)["sk"] for one in await do.iterate(do.query(events, level=2))] == [2]
    await do.save(dataclasses.replace(first, level=5))
    assert (await do.get(events, "a", 1)).level == 5


async def test_copies_have_a_state_of_their_own(do):
    ada = await do.create(users, name="ada")
    await do.update(ada, age=6)  # it has more state than its row now
    copies = [ada.model_copy(), copy.copy(ada), copy.deepcopy(ada), pickle.loads(pickle.dumps(ada))]
    for number, one in enumerate(copies):
        assert one == ada
        one.name = f"copy {number}"
        assert (one.changed, ada.changed) == ({"name"}, frozenset())
    await do.save(copies[0])
    assert (await do.get(users, ada.id)).name == "copy 0"


async def test_copies_of_partial_instances_are_saved(do):
    ada = await do.create(users, name="ada")
    for number, copied in enumerate((copy.copy, copy.deepcopy, lambda part: pickle.loads(pickle.dumps(part)))):
        one = copied(await do.get(users, ada.id, attributes=["age", "version"]))
        with pytest.raises(NotLoaded):
            _ = one.name
        one.age = number
        await do.save(one)
        assert (await do.get(users, ada.id)).name == "ada"
        assert (await do.get(users, ada.id)).age == number


async def test_rows_that_lack_values(do, raw):
    class Stored(Model):
        model_config = ModelConfig(table="mapped-users")
        id = StringAttribute(partition_key=True)
        name = StringAttribute()
        age = NumberAttribute()

    await do.save(Stored(id="old", name="ada"))
    assert await do.get(users, "old") == users(id="old", name="ada", nick=None)
    await do.save(Stored(id="no name"))
    await do.save(Stored(id="half", name="bob", age=1.5))
    for key in ("no name", "half"):
        with pytest.raises(UnreadableItem) as refused:
            await do.get(users, key)
        assert refused.value.key == {"id": key}
    assert [one.id for one in await do.iterate(do.scan(users, on_unreadable="skip"))] == ["old"]


def test_transactions_pipelines_references_and_nesting(store):
    class Holder(Model):
        model_config = ModelConfig(table="mapped-holders")
        pk = StringAttribute(partition_key=True)
        owner = Reference(users)
        nested = MapAttribute(Event)
        listed = JSONAttribute(list[User])

    ada, event = users(id="ada", name="ada"), events("e", 1, NOON)
    with pipeline() as sent:
        ada.save(pipeline=sent)
        Holder(pk="h", owner=ada, nested=event, listed=[users(name="in")]).save(pipeline=sent)
    holder: Any = Holder.get("h")
    assert holder.owner.get() == ada
    assert holder.nested == event
    assert [type(one) for one in holder.listed] == [User]
    if "cluster" in store.url:
        return  # the rows are in several slots
    with transaction() as together:
        together.save(events("t", 1, NOON))
        together.create(users, id="bob", name="bob")
    assert [one and one.name for one in transact_get([(users, "bob"), (users, "none")])] == ["bob", None]


def test_hooks_and_validators(store):
    calls = []

    @mapped(partition_key="id", table="mapped-hooked")
    @pydantic_dataclass
    class Hooked:
        id: str
        city: str = "x"

        @field_validator("city")
        @classmethod
        def shout(cls, value: str) -> str:
            return value + "!"

        @before_save
        def note(self) -> None:
            calls.append(self.id)

    hooked: Any = Hooked
    hooked("a", "Rome").save()
    assert calls == ["a"]
    assert hooked.get("a").city == "Rome!!", "a dataclass is constructed with its validators"


aliased: Any = mapped(partition_key="id", table="mapped-aliased")


@aliased
class Aliased(BaseModel):
    id: str
    mail: str | None = Field(None, alias="e-mail")
    size: int = Field(0, validation_alias=AliasChoices("how_big", "length"))


async def test_fields_with_aliases_are_created_by_name(do):
    made: Any = Aliased
    first, is_new = await do.get_or_create(made, id="1", defaults={"mail": "a@b.c", "size": 2})
    assert (first.mail, first.size, is_new) == ("a@b.c", 2, True)
    second, _ = await do.update_or_create(made, id="2", defaults={"mail": "d@e.f"})
    assert second.mail == "d@e.f"
    assert (await do.create(made, id="3", mail="g@h.i")).mail == "g@h.i"
    assert (await do.create(made, id="4", **{"e-mail": "j@k.l"})).mail == "j@k.l"
    assert (await do.get_or_create(made, id="1", mail="a@b.c", defaults={"size": 9})) == (first, False)
    assert [(await do.get(made, key)).mail for key in "1234"] == ["a@b.c", "d@e.f", "g@h.i", "j@k.l"]


def test_dataclasses_of_pydantic_have_fields_of_pydantic(store):
    declare: Any = mapped(partition_key="id", table="mapped-validated")

    @declare
    @pydantic_dataclass(kw_only=True)
    class Validated:
        id: str
        mail: Annotated[str, Field(alias="e-mail")] = "none"
        size: int = Field(3, ge=0)
        words: set[str] = Field(default_factory=set)

    validated: Any = Validated
    one = validated(id="1", **{"e-mail": "a@b.c"}, size=5, words={"x"})
    one.save()
    assert validated.get("1") == one
    validated.update_by_key({"id": "2"}, mail="d@e.f", upsert=True)
    two = validated.get("2")
    assert (two.mail, two.size, two.words) == ("d@e.f", 3, set())
    with transaction() as together:
        assert together.create(validated, id="3", mail="g@h.i").mail == "g@h.i"
    assert validated.get("3").mail == "g@h.i"


@pytest.mark.parametrize("key", [AutoKeyField(strategy="ulid"), UniqueKeyField()])
async def test_a_key_of_the_fields_never_overwrites(do, key):
    @mapped(partition_key="id", table="mapped-keys", attributes={"id": key})
    class Keyed(BaseModel):
        id: str | None = None
        size: int = 0

    keyed: Any = Keyed
    first = keyed(id=None if isinstance(key, AutoKeyField) else "1")
    await do.save(first)
    with pytest.raises(KeyCollision):
        await do.save(keyed(id=first.id, size=2))
    assert await do.get(keyed, first.id) == first


async def test_a_hook_builds_a_key(do):
    @mapped(partition_key="pk", sort_key="sk", table="mapped-built")
    class Built(BaseModel):
        user: str
        pk: str | None = None
        sk: str = "PROFILE"

        @before_save
        def build(self) -> None:
            self.pk = f"USER#{self.user}"

    built: Any = Built
    ada = built(user="ada")
    await do.save(ada)
    assert await do.get(built, "USER#ada", "PROFILE") == ada
    assert (ada.pk, ada.model_dump()) == ("USER#ada", {"user": "ada", "pk": "USER#ada", "sk": "PROFILE"})


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


def test_values_of_members_are_stored_by_an_attribute_for_them(store):
    class Shirt(BaseModel):
        model_config = ConfigDict(use_enum_values=True)
        id: str
        size: Size

    shirt: Any = mapped(partition_key="id", table="shirts", attributes={"size": StringAttribute()})(Shirt)
    shirt(id="1", size=Size.LARGE).save()
    assert shirt.get("1").size == "l"
    assert shirt.count(shirt.size == "l") == 1


def test_what_cannot_be_mapped():
    def refusal(make: Any, **options: Any) -> str:
        with pytest.raises(ConfigurationError) as refused:
            mapped(**{"partition_key": "id", "table": "mapped-bad", **options})(make)
        return str(refused.value)

    @dataclasses.dataclass
    class Good:
        id: str
        other: int = 0

    @dataclasses.dataclass
    class Counted:
        id: str
        count: int = 0

    @dataclasses.dataclass(slots=True)
    class Slotted:
        id: str

    @dataclasses.dataclass
    class Odd:
        id: str
        call: Strange

    @dataclasses.dataclass
    class Unresolved:
        id: Unknown  # type: ignore[name-defined]  # noqa: F821

    class Extra(BaseModel):
        model_config = ConfigDict(extra="allow")
        id: str

    class SlottedModel(BaseModel):
        __slots__ = ("more",)
        id: str

    @dataclasses.dataclass
    class Seeded:
        id: str
        seed: dataclasses.InitVar[int]

    class ByValue(BaseModel):
        model_config = ConfigDict(use_enum_values=True)
        id: str
        sizes: dict[str, list[Size] | None] = {}

    @pydantic_dataclass(config=ConfigDict(use_enum_values=True))
    class ByLiteral:
        id: str
        size: Literal[Size.SMALL] | None = None

    assert "SlottedModel: __slots__" in refusal(SlottedModel)
    assert "Seeded.seed is an InitVar" in refusal(Seeded)
    assert "ByValue.sizes: use_enum_values=True" in refusal(ByValue)
    assert 'attributes={"size": StringAttribute()}' in refusal(ByLiteral)
    assert "names 'ids', which is not a field. The fields are id, other" in refusal(Good, partition_key="ids")
    assert "index= names 'x'" in refusal(Good, index=["x"])
    assert "attributes= names 'x'" in refusal(Good, attributes={"x": StringAttribute()})
    for built in (StringAttribute(template="A#{other}"), StringAttribute(discriminator=True)):
        assert "Good.id: template= and discriminator= need a subclass" in refusal(Good, attributes={"id": built})
    assert refusal(Good, table="a b").endswith("set another one with @mapped(table=…)")
    assert "partition_key= names ['id'], which is not a field" in refusal(Good, partition_key=["id"])
    assert "partition_key= names None, which is not a field" in refusal(Good, partition_key=None)
    assert "index= takes a list of fields, such as index=['other'], not 'other'" in refusal(Good, index="other")
    assert 'unique= takes a list of fields, such as unique=["city"], not 5' in refusal(Good, unique=5)
    assert "attributes= takes a dict of attributes and indexes by name" in refusal(Good, attributes=["other"])
    assert "attributes= takes a dict of attributes and indexes by name" in refusal(Good, attributes={"other": int})
    assert "config= takes a ModelConfig(…), not {'table': 'good'}" in refusal(Good, config={"table": "good"})
    assert "Counted.count: methods of Model use this name" in refusal(Counted)
    assert "slots=True" in refusal(Slotted)
    assert "Odd.call: " in refusal(Odd)
    assert "name 'Unknown' is not defined" in refusal(Unresolved)
    assert 'extra="allow"' in refusal(Extra)
    assert "int is neither a dataclass nor a pydantic model" in refusal(int)
    assert "is neither" in refusal(type("M", (Model,), {"model_config": ModelConfig(abstract=True)}))


def test_a_subclass_is_mapped_by_itself(store):
    class Admin(User):
        rights: list[str] = []

    admin: Any = Admin(name="root")
    with pytest.raises(ConfigurationError, match="Admin is a subclass of the mapped class User"):
        admin.save()
    mapped_admin: Any = user(Admin)
    mapped_admin(id="root", name="root", rights=["all"]).save()
    assert mapped_admin.get("root").rights == ["all"]
    assert [one.id for one in users.query(users.id == "root")] == ["root"]
    assert Admin.model_fields["age"].default == 5


def test_parts_of_rows_and_defaults_of_old_ones(store):
    class Stored(Model):
        model_config = ModelConfig(table="mapped-users")
        id = StringAttribute(partition_key=True)
        name = StringAttribute()

    Stored(id="a", name="ada").save()
    part = users.query(id="a", attributes=["name"]).first()
    assert (type(part).__name__, part.name, isinstance(part, Model)) == ("User", "ada", True)
    with pytest.raises(NotLoaded):
        part.age  # noqa: B018
    assert list(users.query.filter(id="a").values("name")) == [{"name": "ada"}]
    assert [one.id for one in users.by_kind.query(kind="a")] == []
    assert users.backfill() == 1
    assert [one.id for one in users.by_kind.query(kind="a")] == ["a"]


def test_instances_hold_only_their_values(store):
    @mapped(partition_key="id", table="mapped-strict")
    class Strict(BaseModel):
        model_config = ConfigDict(revalidate_instances="always", extra="forbid")
        id: str
        n: int = 1

    class Outer(BaseModel):
        inner: Strict

    strict: Any = Strict
    strict(id="a").save()
    one = strict.get("a")
    assert vars(one) == {"id": "a", "n": 1}
    assert Outer(inner=one).inner == one == Strict.model_validate(one)
    for copied in (copy.copy(one), copy.deepcopy(one), one.model_copy(deep=True)):
        copied.n += 1
        copied.save()  # only the change is written
        assert strict.get("a").n == one.n + 1
        copied.n = one.n
        copied.save()
        assert vars(copied) == {"id": "a", "n": 1}
    one.delete()
    one.n = 5
    copied.n = 9
    with pytest.raises(ItemGone, match=r"save\(replace=True\)"):
        copied.save()


def test_the_state_of_an_instance_ends_with_it(store):
    events: Any = Event
    events(pk="a", sk=1, at=datetime(2024, 1, 1, tzinfo=timezone.utc)).save()
    kept = [Event.__dict__[name]._kept for name in ("_stored", "_kept")]
    before = sum(map(len, kept))
    many = [events.get("a", 1) for _ in range(10)]
    assert sum(map(len, kept)) > before
    del many
    gc.collect()
    assert sum(map(len, kept)) == before


def test_a_class_with_an_init_of_its_own_gets_its_aliases(store):
    @mapped(partition_key="id", table="mapped-own-init")
    class Own(BaseModel):
        id: str
        name: str = Field("none", alias="theName")
        n: int = Field(0, validation_alias=AliasChoices("theN", "number"))

        def __init__(self, **values: Any) -> None:
            super().__init__(**values)

    own: Any = Own
    assert own.create(id="a", name="x", n=7).n == 7
    assert (own.get("a").name, own.get("a").n) == ("x", 7)
    assert own.create(id="b", theName="y").name == "y"
    assert own.get_or_create(id="c", defaults={"name": "z"})[0].name == "z"
