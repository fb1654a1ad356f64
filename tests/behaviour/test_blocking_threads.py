"""No blocking call starts a thread, on any store, also if the server is named by a host name that is looked up."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.behaviour.conftest import STORES

# The system refuses new threads from `with` on, so a call that needs one fails, however short the thread's life is.
# The limit counts the threads of a user, and root is exempt: a test run by root becomes another user first.
PROGRAM = """
import os, resource, sys

import mintkey
from mintkey import AutoGenerate, Model, ModelConfig, connect
from mintkey.attributes import NumberAttribute, StringAttribute, VersionAttribute

class Row(Model):
    model_config = ModelConfig(table="rows")
    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    n = NumberAttribute(index=True)

class Counted(Model):
    model_config = ModelConfig(table="counted")
    pk = StringAttribute(partition_key=True)
    n = NumberAttribute()
    version = VersionAttribute()

def threads():
    return len(os.listdir("/proc/self/task"))

if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
_, hard = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
before = threads()
with connect(sys.argv[1]):
    for model in (Row, Counted):
        model.create_table()
    row = Row(n=1)
    row.save()
    row.n = 2
    row.save()
    row.update(Row.n.add(1))
    row.refresh()
    assert Row.get(pk=row.pk).n == 3
    counted = Counted.create(pk="a", n=0)
    Counted.update_by_key({"pk": "b"}, Counted.n.add(1), upsert=True)
    assert Row.batch_save(Row(n=n) for n in range(600)) == 600
    assert Counted.batch_save([Counted(pk=str(n), n=n) for n in range(60)]) == 60
    rows = list(Row.scan())
    assert len(rows) == Row.count() == 601
    assert len(list(Row.scan(segments=4))) == Row.count(segments=4) == 601
    assert [found.n for found in Row.query(n=3)] == [3, 3]
    assert None not in list(Row.batch_get([row.pk for row in rows]))
    with mintkey.pipeline() as pipeline:
        counted.update(Counted.n.add(1), pipeline=pipeline)
        for n in range(60):
            Row(n=n).save(pipeline=pipeline)
    assert Row.batch_delete(rows) == 601
    counted.delete()
    for model in (Row, Counted):
        model.delete_table()
    assert threads() == before
assert threads() == before
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below tmp_path, whose folders only their owner may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.parametrize("named", [False, True], ids=["address", "host name"])
@pytest.mark.parametrize("store", STORES)
def test_no_blocking_call_starts_a_thread(store, named, folder):
    url = STORES[store](folder)
    if named:
        if "127.0.0.1" not in url:
            pytest.skip("no server, no host")
        url = url.replace("127.0.0.1", "localhost")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        # Another user may not read the files of root's home.
        env={**os.environ, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
