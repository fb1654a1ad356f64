"""Servers that refuse: another password, another type, a replica, no more room; and one that drops rows."""

from __future__ import annotations

import contextlib
import logging
import re
import urllib.parse
from pathlib import Path

import pytest
import redis
from tests.behaviour.transacting import begun, transact_get
from tests.redis.proxy import Proxy

from mintkey import Model, connect
from mintkey.errors import BatchIncomplete, ConfigurationError, InvalidValue, MintkeyError, StoreUnavailable
from mintkey.fields import AutoKeyField, Field, IndexedField, KeyField, UniqueField


class Widget(Model):
    id = AutoKeyField(strategy="ulid")
    product = Field()
    kind = IndexedField()


class Named(Model):
    name = KeyField()
    n = Field(type=int)


class Member(Model):
    name = KeyField()
    email = UniqueField()


class Later(Model):
    name = KeyField()


async def nothing_is_written(do, *, word, table=True):
    """Each kind of write is refused for certain, by a server that takes none. With `table` the tables are there."""
    member = Member(name="new", email="new@example.com")
    several = [Named(name=str(n), n=n) for n in range(3)]
    writes = [do.save(Named(name="new", n=1)), do.save(member), do.update_by_key(Named, "new", n=2, upsert=True)]
    if not table:
        writes += [do.create_table(Named), do.create_table(Member)]
    for write in (*writes, do.create_table(Later)):
        with pytest.raises(StoreUnavailable, match=word) as caught:
            await write
        assert caught.value.outcome == "not_applied", str(caught.value)
    with pytest.raises(StoreUnavailable, match=word) as caught:
        async with begun(do) as tx:
            tx.save(Named(name="new", n=1))
    assert caught.value.outcome == "not_applied"
    with pytest.raises(BatchIncomplete, match=word) as incomplete:
        await do.batch_save(Named, several)
    assert [getattr(error, "outcome", None) for _, error in incomplete.value.failed] == ["not_applied"] * 3


async def nothing_is_stored(do):
    """Reads of tables that are not there find nothing, also on a server that takes no writes."""
    assert await do.get(Named, name="new") is None
    assert await do.iterate((Named.batch_get if do.blocking else Named.abatch_get)(["new", "other"])) == [None, None]
    assert await do.get_by(Member, email="new@example.com") is None
    keys = ((Named, "new"), (Member, "new"), (Named, "other"))
    assert await transact_get(do, *keys) == [None, None, None]
    for model in (Named, Member, Later):
        assert await do.count(model) == 0
        assert await do.all(do.scan(model)) == []
        assert await do.all(model.query.filter(name="new")) == []
        assert not await do.table_exists(model)


async def test_an_encrypted_server_with_a_password(do, secure, prefix):
    with connect(f"{secure}&prefix={prefix}"):
        made = await do.create(Widget, product="Widget", kind="new")
        assert await do.get(Widget, id=made.id) == made
        assert await do.all(Widget.query(kind="new")) == [made]


@pytest.mark.parametrize("login", [":wr0ng@", "somebody:wr0ng@", ""])
async def test_a_wrong_password_is_said_and_not_shown(do, secure, login):
    address = urllib.parse.urlsplit(secure)
    wrong = address._replace(netloc=f"{login}{address.hostname}:{address.port}").geturl()
    with connect(wrong) as store:
        with pytest.raises(ConfigurationError, match="password") as caught:
            await do.create(Widget, product="Widget")
        assert "wr0ng" not in f"{caught.value!r} {caught.value} {caught.value.__cause__} {store!r}"
        with pytest.raises(ConfigurationError, match="password"):
            await do.count(Widget)


GUIDE = Path(__file__).parents[2] / "docs/guides/redis.md"
RIGHTS = re.compile(r"ACL SETUSER shop on >password (.*?)```", re.DOTALL)


@pytest.mark.parametrize("kind", ["server", "cluster"])
async def test_a_user_with_the_rights_that_the_guide_names(do, request, kind):
    guide = GUIDE.read_text(encoding="utf-8")
    named = RIGHTS.search(guide)
    assert named is not None
    rights = named[1].split()
    address = urllib.parse.urlsplit(request.getfixturevalue(kind))
    places = address.netloc.rpartition("@")[2].split(",")
    if kind == "cluster":
        host, _, port = places[0].rpartition(":")
        nodes = redis.RedisCluster(host, int(port)).get_nodes()
        places = [f"{node.host}:{node.port}" for node in nodes]
    servers = [redis.Redis(place.rpartition(":")[0], int(place.rpartition(":")[2])) for place in places]
    for server in servers:
        server.execute_command("ACL", "SETUSER", "shop", "on", ">password", *rights)
    try:
        with connect(address._replace(netloc=f"shop:password@{','.join(places)}", query="prefix=shop").geturl()):
            made = await do.create(Widget, product="Widget", kind="new")
            made.kind = "old"
            await do.save(made)
            assert await do.batch_save(Widget, [Widget(product=str(n), kind="new") for n in range(700)]) == 700
            assert await do.batch_save(Named, [Named(name=str(n), n=n) for n in range(700)]) == 700
            assert await do.count(Widget, kind="new") == 700
            assert len(await do.all(Widget.query(kind="new", descending=True))) == 700
            assert len(await do.all(Widget.scan(attributes=["product"]))) == 701
            assert (await do.first(Widget.query(kind="old"))).id == made.id
            async with begun(do) as tx:
                tx.update(made, kind="new")
            assert await transact_get(do, (Widget, made.id)) == [made]
            await do.update(made, product="Thing")
            await do.delete(made)
            assert await do.count(Named) == 700
            for model in (Widget, Named):
                await do.delete_table(model)
                assert not await do.table_exists(model)
        with (
            connect(address._replace(netloc=f"shop:password@{','.join(places)}", query="prefix=other").geturl()),
            pytest.raises(ConfigurationError, match="guide to Redis"),
        ):
            await do.create(Widget, product="Widget")
    finally:
        for server in servers:
            server.execute_command("ACL", "DELUSER", "shop")


async def test_an_encrypted_server_is_not_trusted_without_its_authority(do, secure):
    with connect(secure.partition("?")[0]), pytest.raises(ConfigurationError, match=r"no trusted connection: .*\?ca="):
        await do.count(Widget)


async def test_an_address_that_encrypts_for_a_server_that_does_not_or_the_other_way_round_says_so(do, secure, server):
    plain = secure.partition("?")[0].replace("rediss://", "redis://")
    with connect(plain), pytest.raises(StoreUnavailable, match=r"if this server encrypts, write rediss…"):
        await do.count(Widget)
    encrypted = server.replace("redis://", "rediss://") + "?timeout=0.2"
    with connect(encrypted), pytest.raises(MintkeyError, match=r"if this server does not encrypt, write redis…"):
        await do.count(Widget)


async def test_a_database_that_is_not_there_is_said(do, server):
    with connect(f"{server}/99"), pytest.raises(ConfigurationError, match="no database of that number"):
        await do.count(Widget)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://:6379", "a host without a name: write redis://localhost:6379/0"),
        ("redis://127.0.0.1:99999", "not a number from 1 to 65535"),
        ("redis://127.0.0.1:port", "not a number from 1 to 65535"),
        ("redis://::1", "IPv6 address in brackets"),
        (
            "redis://127.0.0.1:6379/0#cache",
            "has a '#' in its path, where it has no meaning: name a database as in redis://localhost:6379/0",
        ),
        ("redis-cluster://a:7000,", "a host without a name: write redis-cluster://host:7000,host:7001"),
    ],
)
def test_an_address_that_cannot_be_is_told_why(url, why):
    with pytest.raises(ConfigurationError, match=re.escape(why)):
        connect(url)


async def test_a_key_of_another_type_is_refused_and_left_alone(do, url, raw, prefix):
    with connect(url):
        await do.create(Named, name="there", n=1)
        key = f"{prefix}/Named:taken"
        raw.set(key, "somebody else's")
        named = Named(name="taken", n=1)
        for operation in (
            do.save(named),
            do.create(Named, name="taken"),
            do.get(Named, name="taken"),
            do.update_by_key(Named, "taken", n=2),
            do.update_by_key(Named, "taken", n=2, upsert=True),
        ):
            with pytest.raises(ConfigurationError, match=r'^Named "taken": .* another type') as caught:
                await operation
            assert (caught.value.model, caught.value.key) == ("Named", {"name": "taken"})
        assert raw.get(key) == b"somebody else's"
        assert await do.count(Named) == 1
        raw.delete(key)
        await do.save(named)
        assert await do.count(Named) == 2


async def test_a_row_that_cannot_be_read_is_named(do, url, raw, prefix):
    with connect(url):
        for damage in (b"{", b"\xff"):
            await do.save(Named(name="there", n=1))
            raw.hset(f"{prefix}/Named:there", "n", damage)
            several = (Named.batch_get if do.blocking else Named.abatch_get)(["there"])
            for operation in (do.get(Named, name="there"), do.all(do.scan(Named)), do.iterate(several)):
                with pytest.raises(InvalidValue, match=r'Named "there": .*not written by mintkey') as caught:
                    await operation
                error = caught.value
                assert (error.model, error.attribute, error.key) == ("Named", "n", {"name": "there"})
                assert "n: " in str(error)


async def test_no_value_is_a_pattern(do, url):
    with connect(url):
        await do.create(Named, name="there", n=1)
        for pattern in ("*", "?here", "t*", "[t]here", "there*", "\\*", "{there}"):
            assert await do.get(Named, name=pattern) is None
            assert await do.all(Named.query.filter(name=pattern)) == []


async def test_a_replica_takes_no_writes(do, start, server, prefix):
    host, port = server.removeprefix("redis://").split(":")
    with connect(f"{server}?prefix={prefix}"):
        made = await do.create(Widget, product="Widget")
    with start("--replicaof", host, port) as replica, redis.Redis.from_url(replica) as raw:
        while raw.info("replication")["master_link_status"] != "up":
            pass
        with connect(f"{replica}?prefix={prefix}"):
            assert await do.get(Widget, id=made.id) == made
            with pytest.raises(StoreUnavailable, match="replica") as caught:
                await do.create(Widget, product="Widget")
            assert caught.value.outcome == "not_applied"
            made.product = "Gadget"
            for operation in (
                do.save(made),
                do.delete(made),
                do.update(made, product="Gadget"),
                do.delete_table(Widget),
            ):
                with pytest.raises(StoreUnavailable, match=r"replica.*; connect to its primary") as caught:
                    await operation
                assert caught.value.outcome == "not_applied"
            assert made.is_dirty
            # The table has all that the class needs.
            await do.create_table(Widget)
            await nothing_is_written(do, word="replica", table=False)
        with connect(f"{replica}?prefix={prefix}"):
            await nothing_is_stored(do)
        with connect(f"{replica}?prefix={prefix}") as store:
            assert len((await do.ping(store)).servers) == 1
            raw.replicaof("no", "one")
            await do.create(Widget, product="Gadget")
            assert await do.count(Widget) == 2


async def test_a_name_that_means_another_primary_is_looked_up_again(do, start, server, prefix):
    with start("--replicaof", "127.0.0.1", "1") as replica:
        proxy = Proxy(replica)
        try:
            with connect(f"{proxy.address}?prefix={prefix}"):
                for _ in range(2):
                    with pytest.raises(StoreUnavailable, match="replica"):
                        await do.create(Widget, product="Widget")
                primary = urllib.parse.urlsplit(server)
                proxy.behind = (primary.hostname, primary.port)
                made = await do.create(Widget, product="Widget")
                assert await do.get(Widget, id=made.id) == made
        finally:
            proxy.close()


async def test_a_replica_without_its_primary_is_waited_for(do, start):
    with start("--replica-serve-stale-data", "no") as address, redis.Redis.from_url(address) as raw:
        with connect(address):
            for model in (Named, Member):
                await do.create_table(model)
        raw.replicaof("127.0.0.1", "1")
        # Each request reads the catalog first: a write that is sent at the last moment has an unknown outcome.
        with connect(f"{address}?timeout=0.5") as store:
            for operation in (
                do.create_table(Later),
                do.save(Member(name="new")),
                do.get(Named, name="new"),
                do.ping(store),
            ):
                with pytest.raises(StoreUnavailable, match=r"MASTERDOWN .*raise \?timeout=") as caught:
                    await operation
                assert caught.value.outcome == "not_applied"
            raw.replicaof("no", "one")
        with connect(address) as store:
            await do.ping(store)
            assert await do.count(Named) == await do.count(Member) == 0
            assert not await do.table_exists(Later)
            await do.create(Named, name="new", n=1)


async def test_a_server_that_cannot_save_to_disk_is_said(do, start, tmp_path):
    options = ("--save", "3600 1", "--dir", str(tmp_path))
    with start(*options) as address, redis.Redis.from_url(address) as raw, connect(address) as store:
        for model in (Named, Member):
            await do.create_table(model)
        # The server cannot replace a folder by its file.
        (tmp_path / "dump.rdb").mkdir()
        raw.bgsave()
        while raw.info("persistence")["rdb_last_bgsave_status"] == "ok":
            pass
        await nothing_is_written(do, word="cannot save to disk.*log of the server")
        assert await do.get(Named, name="new") is None
        with pytest.raises(StoreUnavailable, match="cannot save to disk"):
            await do.ping(store)
        (tmp_path / "dump.rdb").rmdir()
        raw.bgsave()
        while raw.info("persistence")["rdb_last_bgsave_status"] != "ok":
            pass
        await do.create(Named, name="new", n=1)


async def test_a_server_with_too_many_clients_is_said(do, start):
    with start("--maxclients", "1") as address, connect(address):
        raw = redis.Redis.from_url(address)
        raw.ping()
        for write in (do.create_table(Named), do.create(Named, name="new", n=1)):
            with pytest.raises(StoreUnavailable, match="maxclients") as caught:
                await write
            assert caught.value.outcome == "not_applied"
        raw.close()
        for _ in range(1000):
            # The server may not have noticed yet that the other client is gone.
            with contextlib.suppress(StoreUnavailable):
                await do.create_table(Named)
                break
        await do.create(Named, name="new", n=1)


#: A command, and something that needs it.
NEEDED = {
    "evalsha": lambda do: do.save(Named(name="new", n=1)),
    "hset": lambda do: do.save(Named(name="new", n=1)),
    "zadd": lambda do: do.save(Member(name="new", email="new@example.com")),
    "hget": lambda do: do.get(Named, name="there"),
    "hgetall": lambda do: do.get(Named, name="there"),
    "del": lambda do: do.delete_by_key(Named, "there"),
    "zrem": lambda do: do.delete_by_key(Member, "there"),
    "sadd": lambda do: do.create_table(Later),
    "unlink": lambda do: do.delete_table(Named),
}


@pytest.mark.parametrize("command", NEEDED)
async def test_a_right_that_is_missing_is_named(do, server, raw, prefix, command):
    with connect(f"{server}?prefix={prefix}"):
        await do.create(Named, name="there", n=1)
        await do.create(Member, name="there", email="there@example.com")
    raw.execute_command("ACL", "SETUSER", "few", "on", ">password", "~*", "+@all", f"-{command}")
    try:
        with (
            connect(f"{server}?prefix={prefix}".replace("://", "://few:password@")),
            pytest.raises(
                MintkeyError, match=rf"(?i)lacks a permission: .*\b{command}\b.* guide to Redis lists"
            ) as caught,
        ):
            await NEEDED[command](do)
        if isinstance(caught.value, StoreUnavailable):
            assert caught.value.outcome == "unknown"
            assert "repeat the write" in str(caught.value)
        else:
            assert isinstance(caught.value, ConfigurationError)
        # Nothing or a part is written: with the right, the same call does the rest.
        raw.execute_command("ACL", "SETUSER", "few", "+@all")
        with connect(f"{server}?prefix={prefix}".replace("://", "://few:password@")):
            await NEEDED[command](do)
    finally:
        raw.execute_command("ACL", "DELUSER", "few")


async def test_a_command_that_the_server_does_not_have_is_named(do, start):
    removed = ("evalsha", "unlink", "info")
    options = [word for command in removed for word in ("--rename-command", command, "")]
    with start(*options) as address, connect(address) as store:
        # Without INFO the version is not known.
        assert (await do.ping(store)).servers[0].version is None
        for write in (do.create_table(Named), do.create(Named, name="secret", n=1)):
            with pytest.raises(ConfigurationError, match=r"no command EVALSHA: `rename-command` .*guide") as caught:
                await write
            assert "'1'" not in str(caught.value)
    with start("--rename-command", "unlink", "") as address, connect(address):
        await do.create(Named, name="there", n=1)
        with pytest.raises(ConfigurationError, match="no command UNLINK"):
            await do.delete_table(Named)


async def test_a_user_that_is_deleted_meanwhile(do, server, raw, prefix):
    raw.execute_command("ACL", "SETUSER", "leaver", "on", ">password", "~*", "+@all")
    with connect(f"{server}?prefix={prefix}".replace("://", "://leaver:password@")):
        await do.create(Named, name="there", n=1)
        raw.execute_command("ACL", "DELUSER", "leaver")
        for operation in (do.get(Named, name="there"), do.create_table(Named), do.save(Named(name="new", n=1))):
            with pytest.raises(ConfigurationError, match="user or password"):
                await operation
        raw.execute_command("ACL", "SETUSER", "leaver", "on", ">password", "~*", "+@all")
        assert (await do.get(Named, name="there")).n == 1
    raw.execute_command("ACL", "DELUSER", "leaver")


async def test_a_full_cluster_takes_nothing_half(do, cluster, prefix):
    places = urllib.parse.urlsplit(cluster).netloc.split(",")
    servers = [redis.Redis(place.rpartition(":")[0], int(place.rpartition(":")[2])) for place in places]
    with connect(f"{cluster}?prefix={prefix}"):
        for model in (Named, Member):
            await do.create_table(model)
        try:
            for server in servers:
                server.config_set("maxmemory", 1)
            await nothing_is_written(do, word="maxmemory.*; delete data")
        finally:
            for server in servers:
                server.config_set("maxmemory", 0)
        # No value is claimed.
        await do.create(Member, name="other", email="new@example.com")
        assert await do.count(Named) == 0
        assert await do.count(Member) == 1


async def test_a_table_of_which_one_primary_takes_nothing(do, cluster, prefix):
    places = urllib.parse.urlsplit(cluster).netloc.split(",")
    servers = [redis.Redis(place.rpartition(":")[0], int(place.rpartition(":")[2])) for place in places]
    primaries = [server for server in servers if server.info("replication")["role"] == "master"]
    outcomes = []
    for number, full in enumerate(primaries):
        with connect(f"{cluster}?prefix={prefix}{number}"):
            full.config_set("maxmemory", 1)
            try:
                with pytest.raises(StoreUnavailable, match=r"maxmemory.*; delete data") as caught:
                    await do.create_table(Named)
                assert await do.count(Named) == 0
            finally:
                full.config_set("maxmemory", 0)
            outcomes.append(caught.value.outcome)
            assert ("then repeat the call" in str(caught.value)) == (caught.value.outcome == "unknown")
            await do.create_table(Named)
            await do.create(Named, name="new", n=1)
            assert await do.count(Named) == 1
    # One primary has the entry of the whole table, which comes first.
    assert outcomes.count("unknown") >= len(primaries) - 1


async def test_a_user_of_a_cluster_who_may_not_ask_for_its_slots(do, cluster):
    address = urllib.parse.urlsplit(cluster)
    place = address.netloc.split(",")[0]
    with redis.Redis(place.rpartition(":")[0], int(place.rpartition(":")[2])) as raw:
        raw.execute_command("ACL", "SETUSER", "few", "on", ">password", "~*", "+@all", "-cluster|slots")
        try:
            with connect(f"redis-cluster://few:password@{place}"):
                for operation in (do.create_table(Named), do.get(Named, name="there")):
                    with pytest.raises(
                        ConfigurationError, match=r"lacks a permission: .*cluster\|slots.* guide to Redis"
                    ):
                        await operation
        finally:
            raw.execute_command("ACL", "DELUSER", "few")


async def test_a_full_server_takes_nothing_half(do, start):
    with start("--maxmemory", "4mb") as address, redis.Redis.from_url(address) as raw, connect(address):
        kept = []
        with pytest.raises(StoreUnavailable, match="maxmemory") as caught:  # noqa: PT012 - it takes some to fill it
            while True:
                kept.append(await do.create(Widget, product="x" * 50_000, kind="large"))
        assert caught.value.outcome == "not_applied"
        assert kept
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await do.update(kept[0], kind="larger")
        assert await do.count(Widget) == len(kept)
        assert {found.id for found in await do.all(Widget.query(kind="large"))} == {one.id for one in kept}
        assert raw.zcard("@Widget:rows") == len(kept)
        await do.create_table(Widget)
        await nothing_is_written(do, word="maxmemory", table=False)
        await nothing_is_stored(do)
        # A full server carries out deletions, which make room.
        for one in kept:
            await do.delete(one)
        await do.create(Widget, product="small")
        assert await do.count(Widget) == 1


@pytest.mark.parametrize(("policy", "dropped"), [("allkeys-lru", "indexes"), ("volatile-ttl", "expiry")])
async def test_a_policy_that_drops_rows_is_said_once(do, start, caplog, policy, dropped):
    with start("--maxmemory-policy", policy) as address:
        for _ in range(2):
            caplog.clear()
            with connect(address):
                for _ in range(3):
                    await do.create(Widget, product="Widget")
            said = [(record.name, record.levelno, record.getMessage()) for record in caplog.records]
            assert [(name, level) for name, level, _ in said] == [("mintkey.redis", logging.WARNING)]
            assert policy in said[0][2]
            assert dropped in said[0][2]
            assert "noeviction" in said[0][2]


async def test_a_server_that_refuses_when_full_is_not_talked_about(do, url, caplog):
    with connect(url):
        await do.create(Widget, product="Widget")
    assert not caplog.records
