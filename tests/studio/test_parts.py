"""The parts below the server: messages, the journal, the bytes for the page, who may enter."""

import asyncio
import json
import os
import struct
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gs_ssd import config as configs
from gs_ssd.errors import UserError
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.splats import Splats
from gs_ssd.locks import held
from gs_ssd.studio import channel, checks, stream
from gs_ssd.studio.entry import Entry
from gs_ssd.studio.file_answer import FileAnswer
from gs_ssd.studio.guard import Guard
from gs_ssd.studio.journal import Journal
from gs_ssd.studio.registry import Registry
from gs_ssd.studio.runs import OWN, RunsFolder
from gs_ssd.studio.state import recall
from gs_ssd.studio.worker import Reporter, Steering
from gs_ssd.viewer.pack import pack_splats


def test_messages_arrive_whole_through_a_pipe_that_is_too_small_for_them():
    source, sink = os.pipe()
    sender, receiver = channel.Channel(0, sink), channel.Channel(source, 0)
    big = os.urandom(1 << 20)

    def send() -> None:
        sender.send({"event": "a"}, big)
        sender.send({"event": "b"})
        os.close(sink)

    thread = threading.Thread(target=send)
    thread.start()
    assert receiver.receive() == ({"event": "a"}, big)
    assert receiver.receive() == ({"event": "b"}, b"")
    assert receiver.receive() is None
    thread.join()
    os.close(source)


def test_a_worker_whose_server_is_gone_goes_on():
    source, sink = os.pipe()
    os.close(source)
    sender = channel.Channel(0, sink)
    sender.send({"event": "a"}, b"x" * 100)
    sender.send({"event": "b"})
    os.close(sink)


def test_a_stream_that_is_no_message_is_refused():
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"Traceback (most recent call last)")
        await channel.read_async(reader.readexactly)

    with pytest.raises(ValueError, match="message"):
        asyncio.run(read())


def test_a_torn_line_of_the_journal_is_skipped_and_not_continued(tmp_path):
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    first.append("queued", "a", anyway=True)
    first.append("queued", "b")
    first.close()
    path.write_bytes(path.read_bytes()[:-9])
    second = Journal(path)
    second.append("queued", "c")
    assert [line["run"] for line in second.read()] == ["a", "c"]
    second.close()


BEFORE = b"""\
{"time": 1.5, "event": "queued", "run": "one", "anyway": false, "source": null}
{"time": 2.0, "event": "started", "run": "one", "attempt": 2}
{"time": 2.5, "event": "queued", "run": "two", "anyway": true, "source": {"run": "x", "at": 3}}
{"time": 3.0, "event": "queu
{"time": 3.5, "event": "starred", "run": "two"}
{"time": 4.0, "event": "failed", "run": "three", "message": "no room"}
{"time": 4.5, "event": "stopped", "run": "tw"""


def test_a_journal_of_the_version_before_reads_the_same(tmp_path):
    """With a line that one kill left half written, and another at the end."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(BEFORE)
    journal = Journal(path)
    live, waiting = recall(journal.read())
    assert waiting == ["two"]
    assert {name: run.state for name, run in live.items()} == {
        "one": "interrupted",
        "two": "queued",
        "three": "failed",
    }
    assert (live["one"].attempts, live["one"].anyway) == (2, False)
    assert (live["two"].starred, live["two"].source) == (True, {"run": "x", "at": 3})
    assert live["three"].message == "no room"
    journal.append("stopped", "two")
    assert path.read_bytes().startswith(BEFORE + b"\n")
    assert recall(journal.read())[1] == []
    journal.close()


def test_the_bytes_for_the_page_are_the_packed_splats():
    splats = axes_object()
    data = stream.to_bytes(splats, about={"completed": 3})
    size = struct.unpack("<I", data[:4])[0]
    header = json.loads(data[4 : 4 + size])
    assert (4 + size) % 16 == 0
    packed = pack_splats(splats.to_frame("gltf"))
    assert data[4 + size :] == packed.data
    assert (header["count"], header["total"], header["completed"]) == (packed.count, len(splats), 3)


def test_of_too_many_the_most_visible_are_sent():
    rng = np.random.default_rng(0)
    n = 500
    opacities = np.where(np.arange(n) < 100, 4.0, -3.0)
    splats = Splats(rng.normal(size=(n, 3)), np.full((n, 3), -3.0), rng.normal(size=(n, 4)),
                    opacities, rng.normal(size=(n, 1, 3)), frame="world")  # fmt: skip
    data = stream.to_bytes(splats, at_most=100)
    size = struct.unpack("<I", data[:4])[0]
    header = json.loads(data[4 : 4 + size])
    assert (header["count"], header["total"]) == (100, n)
    alphas = np.frombuffer(data[4 + size :], dtype="<f2").reshape(-1, 16)[:100, 9]
    assert alphas.min() > 0.9


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\\b", ".hidden", "a\0b", "x" * 300])
def test_names_that_lead_elsewhere_are_no_runs(tmp_path, name):
    with pytest.raises(UserError, match="there is no run"):
        RunsFolder(tmp_path).folder(name)


def answer_of(guard: Guard, token: str | None, path: str = "/api/runs", **headers: str) -> int:
    """The status that an entry answers with; 200 stands for the application behind it."""

    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    path, _, query = path.partition("?")
    named = {"host": "localhost:1"} | {k.replace("_", "-"): v for k, v in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": query.encode(),
             "headers": raw}  # fmt: skip
    asyncio.run(Entry(app, guard, token)(scope, receive, send))
    assert any(name == b"content-security-policy" for name, _ in sent[0]["headers"])
    return sent[0]["status"]


def test_the_entry_lets_in_our_page_and_the_token():
    here, token = Guard("127.0.0.1"), "a" * 20
    assert answer_of(here, None) == 200
    assert answer_of(here, None, origin="http://localhost:1") == 200
    assert answer_of(here, None, origin="http://localhost:2") == 403
    assert answer_of(here, None, host="evil.example:1") == 403
    assert answer_of(here, None, sec_fetch_site="cross-site") == 403
    assert answer_of(here, token) == 401
    assert answer_of(here, token, authorization=f"Bearer {token}") == 200
    assert answer_of(here, token, cookie=f"a=b; gs-ssd-token={token}") == 200
    assert answer_of(here, token, path=f"/?token={token}") == 303
    assert answer_of(here, token, path=f"/api/runs?token={token}") == 401
    assert answer_of(here, token, path="/?token=") == 401
    assert answer_of(here, token, authorization=f"Basic {token}") == 401


def test_bodies_are_bounded_but_for_uploads_which_count_themselves():
    here = Guard("127.0.0.1")
    assert answer_of(here, None, content_length="1000") == 200
    assert answer_of(here, None, content_length=str(1 << 30)) == 413
    assert answer_of(here, None, content_length="-1") == 413
    assert answer_of(here, None, transfer_encoding="chunked") == 411
    assert answer_of(here, None, path="/api/uploads?name=a.ply", transfer_encoding="chunked") == 200


def test_folders_that_may_not_be_looked_into_do_not_close_the_others(tmp_path, monkeypatch):
    """Root may look into any, so the refusal is made here."""
    for name in ("open", "closed", "half"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text("prompt: a red disc\n")
    exists, iterdir = Path.exists, Path.iterdir
    shut = (tmp_path / "closed", tmp_path / "half" / "checkpoints")

    def refuse(path, ask):
        if any(folder in (path, *path.parents) for folder in shut) and path not in shut:
            raise PermissionError(13, "Permission denied", str(path))
        return ask(path)

    def list_or_refuse(path):
        if path in shut:
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "exists", lambda path: refuse(path, exists))
    monkeypatch.setattr(Path, "iterdir", list_or_refuse)
    runs = RunsFolder(tmp_path)
    assert runs.names() == ["half", "open"]
    assert runs.facts("half").checkpoints == ()
    assert runs.facts("half").setting("prompt") == "a red disc"


def test_two_of_a_name_thrown_away_in_a_second_come_back_both(tmp_path):
    runs, kept = RunsFolder(tmp_path), []
    for text in ("the first", "the second"):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "config.yaml").write_text(f"prompt: {text}\n")
        kept.append(runs.discard("a"))
    assert sorted(runs.trash()) == sorted(kept)
    assert [runs.restore(name) for name in kept] == ["a", "a-2"]
    assert [runs.facts(name).settings["prompt"] for name in ("a", "a-2")] == [
        "the first",
        "the second",
    ]


def test_a_run_that_somebody_deletes_closes_the_list_to_nobody(tmp_path, monkeypatch):
    (tmp_path / "there" / "checkpoints").mkdir(parents=True)
    runs = RunsFolder(tmp_path)
    monkeypatch.setattr(runs, "names", lambda: ["gone", "there"])  # as it was a moment ago
    assert Registry(runs).names() == ["there"]


def test_results_may_move_away_while_a_folder_is_read(tmp_path):
    """As they do when a finished run takes more steps."""
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    result, aside, over = tmp_path / "a" / "index.html", tmp_path / "aside", threading.Event()
    result.touch()

    def move() -> None:
        while not over.is_set():
            result.rename(aside)
            aside.rename(result)

    moving = threading.Thread(target=move)
    moving.start()
    try:
        for _ in range(2000):
            assert set(RunsFolder(tmp_path).facts("a").has) <= {"index.html"}
    finally:
        over.set()
        moving.join()


def test_of_a_run_that_cannot_be_shown_yet_a_snapshot_says_so_and_the_run_goes_on(tmp_path):
    class Foggy:
        def splats(self) -> None:
            raise UserError("nothing of the field is solid")

    steering, (source, sink) = Steering(), os.pipe()
    trainer = SimpleNamespace(asset=Foggy(), folder=tmp_path, completed=7, stopping=False)
    steering.take({"snapshot": True})
    Reporter(channel.Channel(source, sink), steering, trainer).between_steps()
    fault = "nothing of the field is solid"
    told = {"event": "snapshot", "completed": 7, "fault": fault}
    assert channel.Channel(source, sink).receive() == (told, b"")
    assert not steering.snapshot


def test_nobody_hears_what_is_said_of_another_wish(monkeypatch):
    """Two requests at the same moment: each check begins before the other ends."""
    both = threading.Barrier(2)
    check = checks.prompts.check_prompt

    def check_together(*args, **more) -> None:
        both.wait(60)
        check(*args, **more)
        both.wait(60)

    monkeypatch.setattr(checks.prompts, "check_prompt", check_together)
    smoke = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    heard = {}

    def ask(prompt: str) -> None:
        heard[prompt] = checks.warnings_of(configs.load(smoke, [f"prompt={prompt}"]), anyway=True)

    asking = [threading.Thread(target=ask, args=(text,)) for text in ("a rusty mug", "a blue mug")]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert heard["a blue mug"] == []
    assert ["rusty" in text for text in heard["a rusty mug"]] == [True]


def test_where_the_folder_was_that_was_moved_no_run_is_begun(tmp_path):
    root = tmp_path / "runs"
    registry = Registry(RunsFolder(root))
    config = configs.load(Path(__file__).parents[2] / "configs" / "smoke.yaml")
    with held(root / OWN, "gs-ssd studio"):
        assert registry.submit(config) == "a-red-disc"
        root.rename(tmp_path / "moved")
        with pytest.raises(UserError, match="start the server again where"):
            registry.submit(config)
    assert not root.exists()


def test_a_file_that_goes_before_it_is_sent_is_answered_as_one_that_never_was(tmp_path):
    path, sent = tmp_path / "guidance_000020.png", []
    path.write_bytes(b"png")
    answer = FileAnswer(path)

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.Event().wait()  # a client that stays

    scope = {"type": "http", "method": "GET", "headers": []}
    asyncio.run(answer(scope, receive, send))
    assert sent[0]["status"] == 200
    assert b"".join(message.get("body", b"") for message in sent) == b"png"
    sent.clear()
    path.unlink()
    with pytest.raises(UserError, match="there is no guidance_000020"):
        asyncio.run(FileAnswer(path)(scope, receive, send))
    assert not sent
