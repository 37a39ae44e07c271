"""The server as its clients see it: runs from wish to file, what it refuses, and that nothing is
lost with it."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.processes import is_running

TINY = {"prompt": "a red disc", "preset": "tiny", "settings": {"num_steps": 20}}
LONG = {
    "num_steps": 4000,
    "output.checkpoint_every": 20,
    "output.turntable_frames": 0,
    "output.preview_every": 0,
}


@pytest.fixture(scope="module")
def made(server) -> str:
    """A finished run."""
    status, run = server.ask("POST", "/api/runs", TINY)
    assert status == 201
    assert run["state"] in ("queued", "starting")
    assert list(server.events(run["name"]))[-1]["state"] == "done"
    return run["name"]


def test_a_wish_becomes_files(server, made):
    _, run = server.ask("GET", f"/api/runs/{made}")
    assert (run["completed"], run["num_steps"], run["prompt"]) == (20, 20, "a red disc")
    assert {"point_cloud.ply", "turntable.mp4", "views.png", "config.yaml"} <= set(run["files"])
    url = f"{server.url}/api/runs/{made}/files/point_cloud.ply?download=1"
    with urllib.request.urlopen(url) as response:
        assert "attachment" in response.headers["Content-Disposition"]
        assert response.read() == (server.folder / made / "point_cloud.ply").read_bytes()
    _, data = server.ask("GET", f"/api/runs/{made}/splats")
    assert server.splat_header(data)["count"] == len(
        read_splats(server.folder / made / "point_cloud.ply")
    )
    _, picture = server.ask("GET", f"/api/runs/{made}/picture")
    assert Image.open(BytesIO(picture)).format == "WEBP"


def test_every_target_is_written_and_says_how_to_import_it(server, made, tmp_path):
    _, form = server.ask("GET", "/api/form")
    for target in form["targets"]:
        if target["name"] == "usd":  # needs the extra
            continue
        status, written = server.ask("POST", f"/api/runs/{made}/exports/{target['name']}")
        assert status == 200, written
        assert written["file"] in written["hint"]
        _, data = server.ask("GET", written["url"])
        data = data if isinstance(data, bytes) else b""
        assert len(data) == int(written["bytes"])
        if target["suffix"] in (".ply", ".spz"):
            (tmp_path / written["file"]).write_bytes(data)
            assert len(read_splats(tmp_path / written["file"])) > 50


def test_stars_and_the_trash(server, made):
    assert server.ask("PUT", f"/api/runs/{made}/star")[1]["starred"]
    assert not server.ask("DELETE", f"/api/runs/{made}/star")[1]["starred"]
    _, thrown = server.ask("DELETE", f"/api/runs/{made}")
    assert server.ask("GET", f"/api/runs/{made}")[0] == 404
    assert server.ask("GET", "/api/trash")[1] == [thrown["trashed"]]
    _, back = server.ask("POST", f"/api/trash/{thrown['trashed']}/restore")
    assert (back["name"], back["state"]) == (made, "done")


def test_a_fork_begins_from_the_checkpoint(server, made):
    wish = {"prompt": "a blue disc", "fork": {"run": made, "completed": 20}, "settings": {}}
    status, refused = server.ask("POST", "/api/runs", wish)
    assert status == 400
    assert "num_steps" in refused["error"]
    wish["settings"] = {"num_steps": 30, "guidance.estimator": "csd"}
    status, run = server.ask("POST", "/api/runs", wish)
    assert status == 201
    last = list(server.events(run["name"]))[-1]
    assert (last["state"], last["completed"], last["estimator"]) == ("done", 30, "csd")
    assert last["source"] == {"run": made, "completed": 20}
    assert server.ask("GET", f"/api/runs/{made}")[1]["num_steps"] == 20


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": "a zebra"}, "can draw"),
        ({"prompt": "a red mug", "preset": "avatar"}, "person"),
        ({"prompt": "a red mug", "settings": {"guidance.M": "many"}}, "guidance.M"),
        ({"prompt": "a red mug", "settings": {"guidance.m": 3}}, "guidance.M"),
        ({"prompt": "a red mug", "settings": {"num_steps": 0}}, "num_steps"),
        ({"prompt": "a red mug", "preset": "../../etc/passwd"}, "preset"),
        ({"prompt": "a red mug", "settings": {"device": "cuda:7"}}, "cuda"),
        ({"prompt": "a red mug", "name": "../elsewhere"}, "cannot be used"),
        ({"prompt": "a red\nmug"}, "prompt is 'a red\\nmug'; write it in one line"),
        ({"prompt": "a red mug", "name": "Some Name"}, "name"),
        ({"prompt": "a red mug", "start": "../config.yaml"}, "upload"),
        ({"prompt": "a red mug", "fork": {"run": "nobody", "completed": 1}}, "there is no run"),
    ],
)
def test_what_cannot_run_is_said_before_and_leaves_nothing(server, wish, says):
    before = server.ask("GET", "/api/runs")[1]
    assert says in server.ask("POST", "/api/check", wish)[1]["error"]
    status, answer = server.ask("POST", "/api/runs", wish)
    assert status in (400, 404)
    assert says in answer["error"]
    assert len(server.ask("GET", "/api/runs")[1]) == len(before)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body: field required"),
        (b"{", "the body is no JSON"),
        (b"\xff\xfe", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON: nested too deep"),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "a number of more than 400 digits"),
        (b'"\xff"', "the body is no JSON"),
        (b"[]", "the body: input should be"),
        (b'{"prompt": NaN}', "prompt: input should be"),
        (b'{"prompt": [-Infinity]}', "prompt: input should be"),
        (b'{"prompt": "a red disc", "seeds": NaN}', "seeds: extra inputs"),
        (b'{"prompt": "a red disc", "fork": {}}', "fork.run: field required"),
        (b'{"prompt": "\\ud800"}', "no text"),
        (b'{"prompt": "a red disc", "settings": {"seed": NaN}}', "seed is 'NaN'"),
    ],
)
@pytest.mark.parametrize("path", ["/api/check", "/api/runs"])
def test_a_body_that_makes_no_sense_is_answered_with_one_sentence(server, path, body, says):
    before = sorted(server.folder.iterdir())
    status, answer = server.ask("POST", path, body, **{"Content-Type": "application/json"})
    assert says in answer["error"]
    assert "\n" not in answer["error"]
    assert status == 400 or (path == "/api/check" and "notes" in answer)
    assert sorted(server.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/uploads", 400),
        ("GET", "/api/runs/nobody/splats?completed=x", 400),
        ("GET", "/api/nothing", 404),
        ("DELETE", "/api/runs", 405),
    ],
)
def test_every_mistake_is_answered_with_an_error(server, method, path, status):
    answered, answer = server.ask(method, path, b"" if method == "POST" else None)
    assert (answered, [*answer]) == (status, ["error"])


def test_the_interface_describes_the_answer_to_a_mistake(server):
    _, described = server.ask("GET", "/openapi.json")
    for operations in described["paths"].values():
        for operation in operations.values():
            schema = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith("/Mistake")
            assert "422" not in operation["responses"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        *[({"name": name}, "cannot be used") for name in ("", "..", "../x", "A b", "a" * 300)],
        ({"name": "made\0"}, "cannot be used"),
        *[
            ({"fork": {"run": "RUN", "completed": completed}}, "no checkpoint after")
            for completed in (-1, 0, 7)
        ],
        ({"fork": {"run": "..", "completed": 0}}, "there is no run"),
    ],
)
def test_names_and_forks_are_checked_before(server, made, more, says):
    if more.get("fork", {}).get("run") == "RUN":
        more = {"fork": more["fork"] | {"run": made}}
    before = sorted(server.folder.iterdir())
    for path in ("/api/check", "/api/runs"):
        _, answer = server.ask("POST", path, TINY | more)
        assert says in answer["error"]
    assert sorted(server.folder.iterdir()) == before


def test_a_prompt_that_is_unknown_may_be_tried_anyway(server):
    _, answer = server.ask("POST", "/api/check", {"prompt": "a zebra"})
    assert answer["may_try"]
    _, answer = server.ask("POST", "/api/check", {"prompt": "a zebra", "anyway": True})
    assert answer["error"] is None
    assert any("zebra" in note for note in answer["notes"])


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/api/runs", "/api/events", "/api/uploads?name=a.ply"])
def test_pages_of_other_sites_are_refused(server, headers, path):
    method = "GET" if path.endswith("events") else "POST"
    before = server.ask("GET", "/api/runs")[1]
    assert server.ask(method, path, TINY, **headers)[0] == 403
    assert len(server.ask("GET", "/api/runs")[1]) == len(before)


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/..%2f..%2fetc/files/config.yaml",
        "/api/runs/%2e%2e/files/config.yaml",
        "/api/runs/{run}/files/..%2f..%2f..%2fetc%2fpasswd",
        "/api/runs/{run}/files/../../outside.txt",
        "/api/runs/{run}/files/%2fetc%2fpasswd",
        "/api/runs/{run}/files/checkpoints/step_000020.pt",
        "/api/runs/{run}/files/exports/link.ply",
        "/api/runs/{run}/files/previews/link.png",
        "/api/runs/link/files/config.yaml",
        "/api/runs/.gs-ssd-studio/files/journal.jsonl",
        "/api/uploads/..%2fjournal.jsonl/splats",
        "/api/converted/..%2f..%2fjournal.jsonl",
        "/page/..%2fapp.py",
    ],
)
def test_paths_never_leave_the_folder(server, made, path, tmp_path):
    (tmp_path / "config.yaml").write_text("prompt: secret\n")
    for link in (
        server.folder / made / "exports" / "link.ply",
        server.folder / made / "previews" / "link.png",
    ):
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / "config.yaml")
    (server.folder / "link").unlink(missing_ok=True)
    (server.folder / "link").symlink_to(tmp_path)
    status, answer = server.ask("GET", path.format(run=made))
    assert status in (400, 404)
    assert "secret" not in str(answer)
    assert "root:" not in str(answer)


def test_a_page_in_a_run_cannot_act_as_ours(server, made):
    with urllib.request.urlopen(f"{server.url}/api/runs/{made}/files/index.html") as response:
        assert "sandbox" in response.headers["Content-Security-Policy"]
        assert "allow-same-origin" not in response.headers["Content-Security-Policy"]


def test_pause_snapshot_stop_and_continue(server):
    wish = {"prompt": "a long disc", "preset": "tiny", "settings": LONG}
    _, run = server.ask("POST", "/api/runs", wish)
    name = run["name"]
    server.wait(name, lambda run: run["completed"] > 3)
    status, again = server.ask("POST", "/api/runs", {**wish, "prompt": "a second disc"})
    assert (status, again["state"], again["position"]) == (201, "queued", 0)
    assert server.ask("DELETE", f"/api/runs/{name}")[0] == 400
    server.ask("POST", f"/api/runs/{name}/pause")
    paused = server.wait(name, lambda run: run["state"] == "paused")
    assert server.ask("POST", f"/api/runs/{name}/exports/blender")[0] == 200
    _, frame = server.ask("GET", f"/api/runs/{name}/frame")
    assert server.splat_header(frame)["completed"] == paused["completed"]
    assert server.ask("GET", f"/api/runs/{name}")[1]["completed"] == paused["completed"]
    assert server.ask("POST", f"/api/runs/{again['name']}/stop")[1]["state"] == "stopped"
    server.ask("POST", f"/api/runs/{name}/continue")
    server.wait(name, lambda run: run["completed"] > paused["completed"])
    server.ask("POST", f"/api/runs/{name}/stop")
    stopped = list(server.events(name))[-1]
    assert stopped["state"] == "stopped"
    assert stopped["completed"] >= paused["completed"]
    assert stopped["checkpoints"][-1] == stopped["completed"]


def test_killed_and_restarted_it_has_lost_nothing(tmp_path, start_studio):
    first = start_studio(tmp_path / "runs", command="serve")
    wish = {"preset": "tiny", "settings": LONG | {"num_steps": 120}}
    _, run = first.ask("POST", "/api/runs", {**wish, "prompt": "a disc"})
    _, waiting = first.ask("POST", "/api/runs", {**TINY, "prompt": "a waiting disc"})
    first.wait(run["name"], lambda run: len(run["checkpoints"]) > 0)
    first.ask("PUT", f"/api/runs/{run['name']}/star")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    second = start_studio(tmp_path / "runs")
    states = {run["name"]: run for run in second.ask("GET", "/api/runs")[1]}
    assert states[run["name"]]["state"] in ("interrupted", "elsewhere")  # the worker may still save
    assert states[run["name"]]["completed"] >= 20
    assert states[run["name"]]["starred"]
    assert states[waiting["name"]]["state"] in ("queued", "starting", "running", "finishing")
    assert list(second.events(waiting["name"]))[-1]["state"] == "done"
    status, answer = second.ask("POST", f"/api/runs/{run['name']}/continue")
    assert status == 200, answer
    resumed = list(second.events(run["name"]))[-1]
    assert (resumed["state"], resumed["completed"]) == ("done", 120)


def test_ctrl_c_saves_what_runs_and_leaves_no_process(tmp_path, start_studio):
    first = start_studio(tmp_path / "runs", command="serve")
    _, run = first.ask(
        "POST", "/api/runs", {"prompt": "a disc", "preset": "tiny", "settings": LONG}
    )
    first.wait(run["name"], lambda run: run["completed"] > 3)
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    children = [int(entry.name) for entry in processes if _parent(entry) == first.process.pid]
    assert children
    first.end()
    assert first.process.returncode in (0, 130)
    assert not any(is_running(child, math.inf) for child in children)
    assert list((first.folder / run["name"] / "checkpoints").glob("*.pt"))


def _parent(entry) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def test_where_others_reach_it_a_token_is_needed(tmp_path, start_studio):
    guarded = start_studio(
        tmp_path / "runs", "--host", "0.0.0.0", "--token", "x" * 20, command="serve"
    )
    port = guarded.url.split("?")[0].rstrip("/").rpartition(":")[2]
    guarded.url = f"http://127.0.0.1:{port}"
    assert guarded.ask("GET", "/api/runs")[0] == 401
    assert guarded.ask("GET", "/", None)[0] == 401
    assert guarded.ask("GET", "/api/runs", Authorization="Bearer " + "y" * 20)[0] == 401
    assert guarded.ask("GET", "/api/runs", Authorization="Bearer " + "x" * 20) == (200, [])
    assert guarded.ask("GET", "/api/runs", Cookie="gs-ssd-token=" + "x" * 20)[0] == 200
    start = {"initialize.shape": "splat", "initialize.file": "/etc/passwd"}
    wish = {"prompt": "a red mug", "settings": start}
    status, answer = guarded.ask("POST", "/api/runs", wish, Authorization="Bearer " + "x" * 20)
    assert status == 400
    assert "initialize.file" in answer["error"]


def test_a_second_server_in_the_same_folder_is_refused(server):
    command = [sys.executable, "-m", "gs_ssd.cli", "serve", str(server.folder), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 2
    assert "in use" in second.stderr


def test_what_the_disk_refuses_is_one_sentence(tmp_path, start_studio):
    """A name that is taken stands for a folder without permissions, which root would not notice."""
    write_splats(tmp_path / "runs" / "disc" / "point_cloud.ply", axes_object())
    (tmp_path / "runs" / "disc" / "exports").touch()
    studio = start_studio(tmp_path / "runs", command="serve")
    status, answer = studio.ask("POST", "/api/runs/disc/exports/blender")
    assert (status, list(answer)) == (500, ["error"])
    assert "disc/exports: File exists; see to it" in answer["error"]


def test_numbers_are_read_whole_while_more_are_written(server, made):
    """The answer says its length before it is sent."""
    path, over = server.folder / made / "metrics.jsonl", threading.Event()
    before = path.read_bytes()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            while not over.wait(0.0005):
                file.write(b'{"step": 99, "half of a line": ')
                file.write(b'"and the rest"}\n')

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(50):
            status, text = server.ask("GET", f"/api/runs/{made}/files/metrics.jsonl?download=1")
            assert status == 200
            assert [json.loads(line)["step"] for line in text.splitlines()]
            assert text.startswith(before)
    finally:
        over.set()
        writing.join()
        path.write_bytes(before)
