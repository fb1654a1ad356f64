"""Files that are missing, cut off or damaged. The store makes no difference."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.cli.conftest import LINES, counted

from mintkey.cli import files
from mintkey.cli.endings import UsageError
from mintkey.cli.files import written_file

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


def test_a_file_that_is_cut_off_is_reported(orders, tmp_path):
    whole = tmp_path / "rows.jsonl"
    orders("export", "orders", str(whole))
    cut = b"".join(whole.read_bytes().splitlines(keepends=True)[:4])
    ended = orders("import", "copied", given=cut)
    assert (ended.out, ended.code) == (counted(3, failed=1), 1)
    assert "the last line of the export is missing: it was cut off" in ended.err
    packed = tmp_path / "cut.jsonl.gz"
    packed.write_bytes(gzip.compress(whole.read_bytes())[:-9])
    ended = orders("import", "packed", str(packed))
    assert ended.code == 1
    assert "damaged or cut off" in ended.err
    ended = orders("import", "copied")
    assert (ended.err, ended.code) == ("mintkey: standard input: there are no lines\n", 1)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_line_that_is_too_long_is_reported(orders, monkeypatch, pack):
    monkeypatch.setattr(files, "LONGEST", 100)
    monkeypatch.setattr(files, "_SKIPPED", 7)
    rows = [b'{"pk":"L","sk":%d}' % number for number in range(3)]
    exact = rows[2].replace(b"}", b',"x":"%s"}' % (b"x" * (99 - len(rows[2]) - 7)))
    lines = [rows[0], b"x" * 500, exact, b"x" * 100, b"x" * 1000, rows[1], b"x" * 107]
    ended = orders("import", "orders", given=pack(b"\n".join(lines)))
    assert (ended.out, ended.code) == (counted(3, failed=4), 1)
    where = [line.partition(":")[2].partition(":")[0] for line in ended.err.splitlines()]
    assert where == [f" standard input, line {number}" for number in (2, 4, 5, 7)]


def test_a_failed_export_leaves_the_old_file(orders, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("old")
    assert orders("export", "nothing", str(file)).code == 2
    assert file.read_text() == "old"
    assert not (tmp_path / "rows.jsonl.partial").exists()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_two_exports_to_one_file_do_not_mix(orders, tmp_path, name):
    file = tmp_path / name
    file.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(name)
    with written_file(str(file)) as first:
        first.write(b"first\n")
        first.flush()
        for other in (file, link):
            ended = orders("export", "orders", str(other))
            assert (ended.out, ended.code) == ("", 2)
            assert f"{name}.partial: another command writes this file: wait until it has ended" in ended.err
        assert file.read_text() == "old"
    packed = file.read_bytes()
    assert (gzip.decompress(packed) if name.endswith(".gz") else packed) == b"first\n"
    assert orders("export", "orders", str(file)).code == 0


def test_an_export_that_was_killed_does_not_stop_the_next_one(orders, tmp_path):
    file = tmp_path / "rows.jsonl"
    (tmp_path / "rows.jsonl.partial").write_text("a half of a row" * 1_000)
    assert orders("export", "orders", str(file)).code == 0
    assert len(file.read_bytes().splitlines()) == len(LINES) + 2
    assert not list(tmp_path.glob("*.partial"))


def test_exports_that_follow_each_other_at_once_each_write_a_whole_file(url, tmp_path):
    file = tmp_path / "rows.jsonl"

    def export(number):
        done = 0
        while done < 50:
            try:
                with written_file(str(file)) as opened:
                    opened.write(f"{number}\n".encode() * 100)
                    opened.flush()
                    opened.write(f"{number}\n".encode() * 100)
            except UsageError:
                continue
            lines = file.read_text().splitlines()
            assert len(lines) == 200
            assert len(set(lines)) == 1
            done += 1

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(export, range(3))) == [None] * 3
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_keeps_a_link_and_the_permissions_of_its_file(orders, tmp_path):
    file, link = tmp_path / "rows.jsonl", tmp_path / "link.jsonl"
    file.touch(0o600)
    link.symlink_to(file.name)
    assert orders("export", "orders", str(link)).code == 0
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_bytes().splitlines()) == len(LINES) + 2
    assert not list(tmp_path.glob("*.partial"))
    # The file of a link may be new.
    file.unlink()
    assert orders("export", "orders", str(link)).code == 0
    assert file.exists()


def test_a_descriptor_is_written_as_it_is(orders, tmp_path):
    file = tmp_path / "rows.jsonl"
    (tmp_path / "link").symlink_to("/proc/self/fd")
    with file.open("wb") as opened:
        for name in (f"/proc/self/fd/{opened.fileno()}", f"{tmp_path}/link/{opened.fileno()}"):
            inode = file.stat().st_ino
            assert orders("export", "orders", name).code == 0
            assert file.stat().st_ino == inode
            assert len(file.read_bytes().splitlines()) == len(LINES) + 2


def test_files_that_cannot_be_opened(orders, tmp_path):
    for ended in (
        orders("import", "orders", str(tmp_path / "nothing")),
        orders("export", "orders", str(tmp_path / "no" / "folder")),
    ):
        assert (ended.out, ended.code) == ("", 2)
        assert "No such file or directory" in ended.err
        assert ended.err.count("\n") == 1


def test_a_table_is_created_only_if_its_key_is_known(command):
    ended = command("import", "things", given=b'{"id":"A"}')
    assert ended.code == 2
    assert "--partition-key" in ended.err
    ended = command("import", "things", "--partition-key", "id:X", given=b'{"id":"A"}')
    assert (ended.err, ended.code) == (
        "mintkey: --partition-key id:X: give a name and a type, such as id:S, id:N or id:B\n",
        2,
    )
    assert command("tables").out == ""


def test_lines_about_a_table_that_cannot_be_read(command):
    for at, line in enumerate((b'{"$table":3}', b'{"$table":{"partition":3}}', b'{"$table":')):
        ended = command("import", f"things{at}", "--partition-key", "id:S", given=line + b'\n{"id":"A"}\n')
        assert "line 1: not the description of a table" in ended.err
        assert ended.code == 1


def test_equal_rows_are_equal_files(orders, tmp_path):
    first, second = tmp_path / "a.gz", tmp_path / "b.gz"
    orders("export", "orders", str(first))
    orders("export", "orders", str(second))
    assert first.read_bytes() == second.read_bytes()
    assert len(gzip.decompress(first.read_bytes()).splitlines()) == len(LINES) + 2


def test_compressed_rows_are_recognized_whatever_the_name_is(orders, tmp_path):
    packed = gzip.compress(b"\n".join(line.encode() for line in LINES))
    other = tmp_path / "rows.json"
    other.write_bytes(packed)
    for number, (arguments, given) in enumerate((([], packed), ([str(other)], b""))):
        table = f"packed{number}"
        ended = orders("import", table, *arguments, "--partition-key", "pk:S", "--sort-key", "sk:N", given=given)
        assert (ended.out, ended.err, ended.code) == (counted(6), "", 0)
        assert orders("scan", table).lines == orders("scan", "orders").lines
    plain = tmp_path / "rows.jsonl.gz"
    plain.write_text("\n".join(LINES))
    assert orders("import", "packed0", str(plain), "--on-conflict", "skip").out == counted(0, 6)
