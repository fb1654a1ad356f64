"""One file by several paths, in one process and next to others."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from pathlib import Path

import pytest

from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.errors import ConfigurationError


class Row(Model):
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute()
    who = StringAttribute()


class Second(Row):
    """The same table, by another path."""

    model_config = ModelConfig(table="Row", store="second")


@pytest.fixture
def spellings(tmp_path, path) -> dict[str, str]:
    """Paths of one file."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "link.db").symlink_to(path.name)
    (tmp_path / "sub" / "again.db").symlink_to(tmp_path / "link.db")
    return {
        "plain": str(path),
        "through a folder and back": f"{tmp_path}/sub/../{path.name}",
        "through a link to the folder": f"{tmp_path}/folder/{path.name}",
        "a link to the file": f"{tmp_path}/link.db",
        "a link to a link": f"{tmp_path}/sub/again.db",
    }


SPELLINGS = [
    "plain",
    "through a folder and back",
    "through a link to the folder",
    "a link to the file",
    "a link to a link",
]

# Writes until its standard input is closed.
WRITE = """
store = connect(sys.argv[1] + "?sync=normal&timeout=60")
written = 0
over = threading.Thread(target=sys.stdin.read)
over.start()
print("begun", flush=True)
while over.is_alive():
    Row(n=written, who="x" * 300).save()
    written += 1
store.close()
print(written)
"""

CHECK = """
raw = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"))
print(*(row[0] for row in raw.execute("PRAGMA integrity_check")))
print(raw.execute('SELECT count(*) FROM "^row"').fetchone()[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("spelling", SPELLINGS[1:])
def test_a_second_path_in_the_process_damages_nothing_while_another_process_writes(
    url, start, program, spellings, spelling
):
    parameters = "?sync=normal&timeout=60"
    over = threading.Event()
    written = [0, 0]

    def write(number: int) -> None:
        while not over.is_set():
            Row(n=number, who="y" * 300).save()
            written[number] += 1

    with connect(url + parameters):
        other = start(WRITE)
        assert other.stdout is not None
        assert other.stdout.readline() == "begun\n"
        threads = [threading.Thread(target=write, args=(number,)) for number in range(len(written))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(700):
                with connect(f"sqlite:///{spellings[spelling]}{parameters}", name="second"):
                    assert Second.get(pk="none") is None
        finally:
            over.set()
            for thread in threads:
                thread.join()
            output, stderr = other.communicate(timeout=60)
    assert stderr == ""
    check, rows = program(CHECK).splitlines()
    assert check == "ok"
    assert int(rows) == sum(written) + int(output)


@pytest.mark.parametrize("first", SPELLINGS)
def test_every_path_leads_to_the_same_rows(spellings, first, path):
    with connect(f"sqlite:///{spellings[first]}"):
        Row(pk=first, n=0).save()
        assert path.exists()
        for number, second in enumerate(SPELLINGS, start=1):
            with connect(f"sqlite:///{spellings[second]}", name="second"):
                Second(pk=second, n=number).save()
                assert Second.count() == len({first, *SPELLINGS[:number]})
        assert {row.pk for row in Row.scan()} == set(SPELLINGS)
    # The log went with the last connection, and none of the names created another file.
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["folder", "link.db", "sub", "test.db"]


async def test_every_path_leads_to_the_same_rows_awaited(spellings):
    async with connect(f"sqlite:///{spellings['a link to the file']}"):
        await Row(pk="a", n=0).asave()
        async with connect(f"sqlite:///{spellings['through a folder and back']}", name="second"):
            await Second(pk="b", n=1).asave()
            assert await Second.acount() == 2
        await Row(pk="c", n=2).asave()
        assert await Row.acount() == 3


def test_a_relative_path_is_found_wherever_the_process_works(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    with connect("sqlite:///test.db"):
        Row(pk="a").save()
        monkeypatch.chdir(tmp_path / "two")
        with connect("sqlite:///../one/test.db", name="second"):
            Second(pk="b").save()
        with connect("sqlite:///test.db", name="second"):
            Second(pk="c").save()
        Row(pk="d").save()
        assert sorted(str(row.pk) for row in Row.scan()) == ["a", "b", "d"]


def test_a_hard_link_is_refused_while_the_file_is_open(url, path, tmp_path):
    with connect(url):
        Row(pk="a").save()
        (tmp_path / "hard.db").hardlink_to(path)
        with connect(f"sqlite:///{tmp_path}/hard.db", name="second"):
            for call in (Second.count, Second(pk="b").save, Second.create_table):
                with pytest.raises(ConfigurationError, match=r"hard\.db.*test\.db"):
                    call()
        Row(pk="b").save()
    with connect(f"sqlite:///{tmp_path}/hard.db", name="second"):
        assert Second.count() == 2


async def test_a_hard_link_is_refused_while_the_file_is_open_awaited(url, path, tmp_path):
    async with connect(url):
        await Row(pk="a").asave()
        (tmp_path / "hard.db").hardlink_to(path)
        async with connect(f"sqlite:///{tmp_path}/hard.db", name="second"):
            for call in (Second.acount, Second(pk="b").asave):
                with pytest.raises(ConfigurationError, match=r"hard\.db.*test\.db"):
                    await call()
        await Row(pk="b").asave()
        assert await Row.acount() == 2


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_log_or_its_index_is_refused_as_a_database(url, path, tmp_path, suffix):
    """Closing a handle of the index would release the locks of the connections to its database."""
    sidecar = path.with_name(path.name + suffix)
    (tmp_path / "link.db").symlink_to(sidecar)
    for address in (f"{url}{suffix}", f"sqlite:///{tmp_path}/link.db"):
        with connect(address, name="second"), pytest.raises(ConfigurationError, match=f"names that end with {suffix}"):
            Second.count()
    assert not sidecar.exists()
    with connect(url):
        Row(pk="a").save()
        before = sidecar.read_bytes()
        for address in (f"{url}{suffix}", f"sqlite:///{tmp_path}/link.db"):
            with connect(address, name="second"):
                for call in (Second.count, Second(pk="b").save, Second.create_table):
                    with pytest.raises(ConfigurationError, match=f"names that end with {suffix}"):
                        call()
        assert sidecar.read_bytes() == before
        Row(pk="b").save()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.db", path.name]


def test_a_hard_link_to_the_index_is_refused_while_the_database_is_open(url, path, tmp_path):
    with connect(url):
        Row(pk="a").save()
        (tmp_path / "hard.db").hardlink_to(path.with_name(path.name + "-shm"))
        with connect(f"sqlite:///{tmp_path}/hard.db", name="second"):
            for call in (Second.count, Second(pk="b").save):
                with pytest.raises(ConfigurationError, match=r"hard\.db.*test\.db-shm.*two names of one file"):
                    call()
        Row(pk="b").save()
        assert Row.count() == 2


def test_no_handle_is_left_of_any_path(spellings, tmp_path):
    def handles() -> int:
        found = 0
        for descriptor in Path("/proc/self/fd").iterdir():
            # One of them is that of the listing itself.
            with contextlib.suppress(FileNotFoundError):
                found += descriptor.readlink().is_relative_to(tmp_path)
        return found

    for _ in range(3):
        left = []
        with connect(f"sqlite:///{spellings['plain']}"):
            Row(pk="a").save()
            for spelling in SPELLINGS:
                with connect(f"sqlite:///{spellings[spelling]}", name="second"):
                    assert Second.count() == 1
                left.append(handles())
            assert Row.count() == 1
        # SQLite keeps one that it cannot close yet, and uses it again.
        assert set(left) == {left[0]}
        assert handles() == 0


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_a_new_file_is_for_its_owner_unless_the_address_says_else(url, path, umask):
    def modes() -> set[int]:
        return {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    before = os.umask(umask)
    try:
        for parameter, expected in (("", 0o600), ("?mode=660", 0o660), ("?mode=0644", 0o644)):
            with connect(url + parameter):
                Row(pk="a").save()
                assert modes() == {expected}, "the log and its index too"
            path.unlink()
    finally:
        os.umask(before)
    for wrong in ("ro", "400", "7777"):
        with pytest.raises(ConfigurationError, match=f'mode="{wrong}"'):
            connect(f"{url}?mode={wrong}")
    with pytest.raises(ConfigurationError, match="memory"):
        connect("sqlite://?mode=600")
