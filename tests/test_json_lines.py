"""Files of JSON lines: a kill costs the last line at most, and nobody ever sees half of one."""

import contextlib
import errno
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gs_ssd import json_lines, locks
from gs_ssd.errors import UserError
from gs_ssd.json_lines import Appender, append_record, last_record, read_records, write_records

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
records = st.dictionaries(st.text(), values, max_size=4)


def text_of(path: Path, lines: list[dict]) -> bytes:
    for line in lines:
        append_record(path, line)
    return path.read_bytes()


@settings(max_examples=50)
@given(st.lists(records, min_size=1, max_size=4))
def test_what_was_appended_is_read_back_in_its_order(lines):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "a.jsonl"
        content = text_of(path, lines)
        assert content.count(b"\n") == len(lines)
        assert list(read_records(path)) == lines
        assert last_record(path) == lines[-1]


@settings(max_examples=50)
@given(st.lists(records, min_size=1, max_size=3), records, st.data())
def test_a_kill_at_any_byte_costs_the_last_line_at_most(lines, after, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        content = text_of(path, lines)
        start = content[:-1].rfind(b"\n") + 1
        cut = data.draw(st.integers(start, len(content)))
        path.write_bytes(content[:cut])
        left = lines if cut >= len(content) - 1 else lines[:-1]  # all but its end is all of it
        assert list(read_records(path)) == left
        assert last_record(path) == (left[-1] if left else {})
        append_record(path, after)
        assert list(read_records(path)) == [*left, after]
        assert last_record(path) == after
        assert path.read_bytes().startswith(content[:cut])  # nothing that was there is touched


APPEND = """
import sys
from pathlib import Path
from gs_ssd.json_lines import Appender
path, who, count, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
file = Appender(path)
for number in range(count):
    file.append({"who": who, "number": number, "filling": who * size})
    print(number, flush=True)
"""


def appending(path: Path, who: str, count: int, size: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", APPEND, path, who, str(count), str(size)],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("said", [1, 2, 9])
def test_what_a_killed_process_had_appended_is_there(tmp_path, said):
    path = tmp_path / "a.jsonl"
    with appending(path, "x", 10_000, 300_000) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(said)]
        process.kill()
        told += process.stdout.readlines()
    there = [record["number"] for record in read_records(path)]
    whole = sum(line.endswith("\n") for line in told)
    assert there in (list(range(whole)), list(range(whole + 1)))  # or killed before it could tell


def test_a_reader_never_sees_half_a_line(tmp_path, caplog):
    path, seen = tmp_path / "a.jsonl", [0]
    with appending(path, "x", 60, 500_000) as process:
        while process.poll() is None:
            there = list(read_records(path))
            assert [record["number"] for record in there] == list(range(len(there)))
            assert all(len(record["filling"]) == 500_000 for record in there)
            seen.append(len(there))
        assert process.returncode == 0
    assert seen == sorted(seen)
    assert len(list(read_records(path))) == 60
    assert not caplog.records


@pytest.mark.parametrize("half", [b'{"number', b'{"number": 1, "x": 2', b'{"number": 1}'])
def test_a_line_that_grows_while_it_is_read_is_not_read_in_two(tmp_path, monkeypatch, caplog, half):
    path, parse = tmp_path / "a.jsonl", json_lines.json_text.parse
    path.write_bytes(b'{"number": 0}\n' + half)
    rests = {b'{"number': b'": 1}\n', b'{"number": 1, "x": 2': b"}\n", b'{"number": 1}': b"\n"}

    def slow(text: bytes):
        if text == half:
            with path.open("ab") as file:
                file.write(rests[half] + b'{"number": 2}\n')
        return parse(text)

    monkeypatch.setattr(json_lines.json_text, "parse", slow)
    first = [record["number"] for record in read_records(path)]
    assert first == ([0, 1] if half.endswith(b"}") else [0])
    assert [record["number"] for record in read_records(path)] == [0, 1, 2]
    assert not caplog.records


def test_writers_never_interleave(tmp_path):
    """Two processes, and two threads with one open file, after a line that was torn."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"who": "torn')
    with contextlib.closing(Appender(path)) as file:

        def append(who: str) -> None:
            for number in range(40):
                file.append({"who": who, "number": number, "filling": who * 100_000}, wait=False)

        threads = [threading.Thread(target=append, args=(who,)) for who in "cd"]
        with appending(path, "a", 40, 100_000) as a, appending(path, "b", 40, 100_000) as b:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert (a.wait(), b.wait()) == (0, 0)
    torn, *whole = path.read_bytes().splitlines()
    assert torn == b'{"who": "torn'
    lines = [json.loads(line) for line in whole]
    for who in "abcd":
        assert [line["number"] for line in lines if line["who"] == who] == list(range(40))
    assert all(line["filling"] == line["who"] * 100_000 for line in lines)


def test_it_is_on_the_disk_before_it_is_said(tmp_path, monkeypatch):
    path, synced = tmp_path / "a.jsonl", []
    real = os.fsync

    def fsync(handle):
        real(handle)
        synced.append((os.path.samestat(os.fstat(handle), tmp_path.stat()), path.stat().st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    file = Appender(path)
    assert synced == [(True, 0)]  # the name
    file.append({"a": 1})
    file.append({"b": 2}, wait=False)
    assert synced[1:] == [(False, 9)]
    file.sync()
    assert synced[2:] == [(False, 18)]
    Appender(path).append({"c": 3})
    assert synced[3:] == [(False, 27)]


FILL = """
import resource, sys
from pathlib import Path
from gs_ssd.errors import UserError
from gs_ssd.json_lines import Appender, read_records
path = Path(sys.argv[1])
file = Appender(path)
file.append({"number": 0})
before, (_, most) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
try:
    file.append({"number": 1, "filling": "x" * 1000})
except UserError as error:
    print(error)
assert path.read_bytes() == before
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
file.append({"number": 2})
file.close()
"""


def test_where_there_is_no_room_nothing_is_written(tmp_path):
    path = tmp_path / "a.jsonl"
    said = subprocess.run(
        [sys.executable, "-c", FILL, path], capture_output=True, text=True, check=True
    ).stdout
    assert said == f"cannot write {path}: File too large; free some room, then call it again\n"
    assert [json.loads(line)["number"] for line in path.read_bytes().splitlines()] == [0, 2]


def test_a_disk_that_refuses_a_line_has_none_of_it(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    file = Appender(path, fix="then --resume")
    file.append({"a": 1})

    def refuse(code):
        def fsync(_):
            raise OSError(code, os.strerror(code))

        return fsync

    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(UserError, match=r"a\.jsonl: Input/output error; then --resume"):
        file.append({"b": 2})
    assert path.read_text() == '{"a": 1}\n'
    with pytest.raises(UserError, match="Input/output error"):
        file.sync()
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))  # a file system that cannot say
    file.append({"c": 3})
    file.sync()
    assert list(read_records(path)) == [{"a": 1}, {"c": 3}]


@pytest.mark.parametrize("opened", ["once", "twice"])
def test_a_line_that_is_taken_back_takes_no_other_with_it(tmp_path, monkeypatch, opened):
    """The disk refuses one line while another thread wants to append."""
    path, refused = tmp_path / "a.jsonl", []
    first = Appender(path)
    second = first if opened == "once" else Appender(path)
    other = threading.Thread(target=second.append, args=({"b": 2},), kwargs={"wait": False})
    waiting = threading.Event()

    def fsync(_):
        if not waiting.is_set():
            waiting.set()
            other.start()
            other.join(0.3)  # long enough to write, were it not made to wait
            refused.append(path.read_text())
            raise OSError(errno.EIO, "refused")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match="refused"):
        first.append({"a": 1})
    other.join()
    assert refused == ['{"a": 1}\n']
    assert path.read_text() == '{"b": 2}\n'


def test_a_file_system_without_locks_will_do(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    append_record(tmp_path / "a.jsonl", {"a": 1})
    assert list(read_records(tmp_path / "a.jsonl")) == [{"a": 1}]


DAMAGED = [
    b"[1, 2]",
    b"null",
    b"3",
    b'{"name": "b", "st',
    b"[" * 100_000,
    b"\xff\xfe\x00",
    b"\0" * 50,
    b'{"name": "\xff"}',
    b'{"name": "b"} {"name": "c"}',
    b"9" * 10_000,
]


@pytest.mark.parametrize("damaged", DAMAGED, ids=lambda line: repr(line[:20]))
def test_a_damaged_line_costs_that_line_and_is_named(tmp_path, caplog, damaged):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"name": "a"}\n' + damaged + b'\n{"name": "d"}\n')
    with caplog.at_level(logging.WARNING):
        assert list(read_records(path)) == [{"name": "a"}, {"name": "d"}]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: line 2 is no JSON object, skipped"
    ]
    path.write_bytes(b'{"name": "a"}\n' + damaged + b"\n")
    assert last_record(path) is None


def test_an_object_of_wrong_types_is_named(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text('{"name": "a", "seed": 1}\n{"name": 3, "seed": 1}\n{"name": "c"}')
    with caplog.at_level(logging.WARNING):
        assert len(list(read_records(path, {"name": str, "seed": int}))) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: line 2 has no 'name', or a wrong one, skipped",
        f"{path}: line 3 has no 'seed', or a wrong one, skipped",
    ]


def test_a_field_that_need_not_be_there_may_not_be_anything(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    lines = ('{"name": "a"}', '{"name": "b", "iou": null, "new": []}', '{"name": "c", "iou": "x"}')
    path.write_text("\n".join(lines) + "\n")
    with caplog.at_level(logging.WARNING):
        found = [r["name"] for r in read_records(path, {"name": str}, {"iou": int | float | None})]
    assert found == ["a", "b"]
    assert caplog.messages == [f"{path}: line 3 has no 'iou', or a wrong one, skipped"]


def test_what_people_and_their_editors_write_is_read(tmp_path, caplog):
    """A mark at the beginning, the ends of lines of Windows, empty lines, and separators of lines
    that are none in JSON; no end after the last one."""
    path = tmp_path / "a.jsonl"
    lines = ['{"a": 1}', "", '{"b": "x\u2028y\u0085z"}', '{"c": "é"}']
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    expected = [{"a": 1}, {"b": "x\u2028y\u0085z"}, {"c": "é"}]
    assert list(read_records(path)) == expected
    append_record(path, {"d": 4})
    assert list(read_records(path)) == [*expected, {"d": 4}]
    assert not caplog.records


def test_the_last_record_is_found_from_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "LAST_LINE", 40)
    path = tmp_path / "a.jsonl"
    write_records(path, [{"number": number} for number in range(1000)])
    assert last_record(path) == {"number": 999}
    append_record(path, {"filling": "x" * 100})
    assert last_record(path) is None
    path.write_bytes(path.read_bytes()[:-9])
    assert last_record(path) is None
    path.write_bytes(b"")
    assert last_record(path) == {}
    with pytest.raises(UserError, match="no such file"):
        last_record(tmp_path / "none.jsonl")


def test_a_file_is_replaced_by_what_was_read_from_it(tmp_path):
    path = tmp_path / "a.jsonl"
    write_records(path, [{"number": number} for number in range(5)])
    write_records(path, (r for r in read_records(path) if r["number"] < 3))
    assert [record["number"] for record in read_records(path)] == [0, 1, 2]
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_what_is_no_plain_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file").touch()
    for name, why in (("pipe.jsonl", "not a plain file"), ("folder.jsonl", "a folder")):
        for use in (Appender, last_record, lambda path: list(read_records(path))):
            with pytest.raises(UserError, match=f"{name}: {why}"):
                use(tmp_path / name)
    with pytest.raises(UserError, match=r"file/a\.jsonl.*choose another folder"):
        Appender(tmp_path / "file" / "a.jsonl")
    assert list(read_records(tmp_path / "none.jsonl")) == []
