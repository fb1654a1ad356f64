"""The migration guides from packages for DynamoDB: their programs, old and new, on DynamoDB Local. The permissions."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.failures import proxies as proxy
from tests.redis.test_guides import END_OF_BLOCK, ROOT, RUN, blocks

from mintkey import AutoGenerate, ExpiresIn, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute, TTLAttribute
from mintkey.testing import frozen

ADDRESS = "http://localhost:8000"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


GUIDES = ("pydynox", "pynamodb", "boto3")


@pytest.fixture
def program(guide, package, endpoint, prefix, service) -> Iterator[str]:
    """The program of a guide for one package. Its tables have names of their own, and are gone after it."""
    text = "".join(f"{block.source}\nprint('\\0')\n" for block in blocks(guide) if block.package == package)
    named = set(re.findall(r'table="(\w+)"', (ROOT / f"docs/guides/from-{guide}.md").read_text("utf-8")))
    assert named
    for name in named:
        text = text.replace(f'"{name}"', f'"{prefix}{name}"')
    yield text.replace(ADDRESS, endpoint)
    for table in service.tables.all():
        if table.name.startswith(prefix):
            table.delete()


NEW = re.compile(r'connect\("dynamodb:[^"]*"\)')


def printed_by(program: str) -> list[str]:
    """What each block of a program prints."""
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", RUN, "the guide"],
        env={**os.environ, **CREDENTIALS},
        input=program,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *outputs, rest = done.stdout.split(END_OF_BLOCK)
    assert rest == ""
    return outputs


@pytest.mark.slow
@pytest.mark.parametrize(("guide", "package"), [(guide, package) for guide in GUIDES for package in (guide, "mintkey")])
def test_both_programs_print_what_the_guide_says(guide, package, program):
    if package == "pydynox" and sys.version_info < (3, 11):
        pytest.skip("pydynox needs Python 3.11")
    own = [block for block in blocks(guide) if block.package == package]
    assert own
    for block, printed in zip(own, printed_by(program), strict=True):
        assert printed == (block.promised or ""), f"not what is printed by\n{block.source}"


@pytest.mark.parametrize(("guide", "package"), [(guide, "mintkey") for guide in GUIDES])
def test_the_new_programs_print_the_same_on_sqlite(guide, package):
    own = [block for block in blocks(guide) if block.package == package]
    program, changed = NEW.subn('connect("sqlite://")', "".join(f"{block.source}\nprint('\\0')\n" for block in own))
    assert changed == 1
    assert printed_by(program) == [block.promised or "" for block in own]


@pytest.mark.parametrize("guide", GUIDES)
def test_each_old_program_has_its_new_one(guide):
    found: list[Any] = blocks(guide)
    assert {block.package for block in found} == {guide, "mintkey"}
    for old, new in itertools.pairwise(found):
        assert old.package != new.package


class Allowed(Model):
    model_config = ModelConfig(table="allowed")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    kind = StringAttribute(index=True)
    n = NumberAttribute()
    until = TTLAttribute()


def stale() -> Any:
    """An instance of a row that has expired and lies there still."""
    with frozen(time="2100-01-01T00:00:00Z"):
        item = Allowed(pk="old", until=ExpiresIn.seconds(5))
        item.save()
    return item


def loaded() -> Any:
    item = Allowed(kind="k", n=1)
    item.save()
    return item


def changed() -> Any:
    item = loaded()
    item.n = 2
    return item


def upserted() -> None:
    with frozen(time="2100-01-02T00:00:00Z"):
        Allowed.update_by_key({"pk": "old"}, n=1, upsert=True)


CALLS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "get()": (loaded, lambda item: Allowed.get(pk=item.pk)),
    "exists()": (loaded, lambda item: Allowed.exists(item.pk)),
    "get_or_create()": (loaded, lambda item: [Allowed.get_or_create(pk=pk) for pk in (item.pk, "new")]),
    "update_or_create()": (
        loaded,
        lambda item: [Allowed.update_or_create(pk=pk, defaults={"n": 2}) for pk in (item.pk, "new")],
    ),
    "refresh()": (loaded, lambda item: item.refresh()),
    "save() of a new item": (Allowed, lambda item: item.save()),
    "create()": (lambda: None, lambda _: Allowed.create(n=1)),
    "save() of a loaded item": (changed, lambda item: item.save()),
    "update()": (loaded, lambda item: item.update(n=2)),
    "update_by_key()": (loaded, lambda item: Allowed.update_by_key({"pk": item.pk}, n=2)),
    "update(upsert=True)": (stale, lambda _: upserted()),
    "save(replace=True)": (changed, lambda item: item.save(replace=True)),
    "delete()": (loaded, lambda item: item.delete()),
    "delete_by_key()": (loaded, lambda item: Allowed.delete_by_key(item.pk)),
    "query()": (loaded, lambda item: [*Allowed.query(pk=item.pk), *Allowed.query(kind="k")]),
    "scan()": (loaded, lambda _: [*Allowed.scan(), *Allowed.scan(segments=2)]),
    "count()": (loaded, lambda _: (Allowed.count(), Allowed.count(kind="k"))),
    "batch_get()": (loaded, lambda item: list(Allowed.batch_get([{"pk": item.pk}, {"pk": "none"}]))),
    "batch_save()": (
        lambda: [Allowed(), Allowed(), Allowed(pk="given"), Allowed(pk="too"), changed(), changed()],
        lambda items: [Allowed.batch_save(items), Allowed.batch_save([Allowed()])],
    ),
    "batch_delete()": (
        lambda: [loaded(), loaded(), loaded()],
        lambda items: [Allowed.batch_delete(items[:2]), Allowed.batch_delete(items[2:])],
    ),
    "table_exists()": (lambda: None, lambda _: Allowed.table_exists()),
    "create_table()": (Allowed.delete_table, lambda _: Allowed.create_table()),
    "delete_table()": (lambda: None, lambda _: Allowed.delete_table()),
}


def permissions() -> dict[str, set[str]]:
    """What the guide to DynamoDB says, by the call."""
    text = (ROOT / "docs/guides/dynamodb.md").read_text("utf-8").split("## Permissions")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {
        re.sub(r"`", "", call): set(re.findall(r"`(\w+)`", actions))
        for calls, actions in rows
        for call in calls.split(", ")
    }


@pytest.mark.parametrize("call", permissions())
def test_a_call_needs_the_permissions_that_the_guide_tells(call, endpoint, prefix, monkeypatch):
    used: set[str] = set()
    place = urlsplit(endpoint)
    read = proxy._message

    def noting(source: Any) -> tuple[bytes, bytes]:
        head, body = read(source)
        used.update(re.findall(r"x-amz-target: \w+\.(\w+)", head.decode()))
        return head, body

    monkeypatch.setattr(proxy, "_message", noting)
    between = proxy.HttpProxy((str(place.hostname), int(place.port or 80)))
    with between, connect(f"dynamodb://us-east-1?endpoint=http://127.0.0.1:{between.port}&table_prefix={prefix}"):
        Allowed.create_table()
        prepare, run = CALLS[call]
        prepared = prepare()
        used.clear()
        run(prepared)
        # A table that is there lacks nothing, so that no index is added.
        added = {"UpdateTable", "Scan"} if call == "create_table()" else set()
        assert used == permissions()[call] - added
        if call == "create_table()":
            # The index that a class has in addition is added to a table that is there.
            more = type(
                "Allowed", (Allowed,), {"model_config": ModelConfig(table="allowed"), "m": StringAttribute(index=True)}
            )
            more.create_table()  # type: ignore[attr-defined]
            assert used == permissions()[call]
        Allowed.delete_table()
