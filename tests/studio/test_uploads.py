"""Splat files of one's own: what is kept of them, what is made of them, and whose it is."""

import resource

import numpy as np
import pytest

from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.files import TEMPORARY

GONE = 1 << 30  #: a process's number beyond what systems give


def test_a_file_is_looked_at_converted_and_begun_from(server, tmp_path):
    write_splats(tmp_path / "axes.spz", axes_object())
    data = (tmp_path / "axes.spz").read_bytes()
    status, kept = server.ask("POST", "/api/uploads?name=My%20axes.spz", data)
    assert (status, kept["splats"]) == (201, len(axes_object()))
    _, shown = server.ask("GET", f"/api/uploads/{kept['name']}/splats")
    assert server.splat_header(shown)["count"] == len(axes_object())
    _, written = server.ask("POST", f"/api/uploads/{kept['name']}/exports/blender")
    _, ply = server.ask("GET", written["url"])
    (tmp_path / "out.ply").write_bytes(ply)
    assert len(read_splats(tmp_path / "out.ply")) == len(axes_object())
    wish = {
        "prompt": "a disc",
        "preset": "tiny",
        "start": kept["name"],
        "settings": {"num_steps": 2},
    }
    _, run = server.ask("POST", "/api/runs", wish)
    assert list(server.events(run["name"]))[-1]["state"] == "done"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.exe", b"MZ", ".ply"),
        ("a.ply", b"ply\nnothing", "a.ply"),
        ("../../a.spz", b"\x1f\x8b", "a.spz"),
        ("a.glb", b"", "a.glb"),
    ],
)
def test_what_cannot_be_read_is_not_kept(server, name, data, says):
    folder = server.folder / ".gs-ssd-studio" / "uploads"
    before = set(folder.rglob("*")) if folder.exists() else set()
    status, answer = server.ask("POST", f"/api/uploads?name={name}", data)
    assert status == 400
    assert says in answer["error"]
    assert {path for path in folder.rglob("*") if path.is_file()} <= before


def test_an_upload_for_which_there_is_no_room_is_one_sentence(tmp_path, start_studio):
    """A limit for files stands for a full disk: what is written to an open file names nothing."""
    left = tmp_path / ".gs-ssd-studio" / "uploads" / f"{TEMPORARY}{GONE}-left.spz"
    left.parent.mkdir(parents=True)
    left.touch()
    studio = start_studio(tmp_path, command="serve")
    assert not left.exists()  # by a server that was killed
    resource.prlimit(studio.process.pid, resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    status, answer = studio.ask("POST", "/api/uploads?name=a.splat", bytes(1 << 20))
    assert (status, list(answer)) == (500, ["error"])
    assert str(left.parent) in answer["error"]
    assert list(left.parent.iterdir()) == []


def test_what_is_made_of_two_files_of_a_name_is_not_mixed_up(server, tmp_path):
    urls = []
    for count in (1, 2):
        write_splats(tmp_path / "two.splat", axes_object().take(np.arange(count)))
        data = (tmp_path / "two.splat").read_bytes()
        _, kept = server.ask("POST", "/api/uploads?name=two.splat", data)
        _, written = server.ask("POST", f"/api/uploads/{kept['name']}/exports/supersplat")
        assert written["file"] == "two.supersplat.ply"
        urls.append(written["url"])
    for count, url in zip((1, 2), urls, strict=True):
        (tmp_path / "got.ply").write_bytes(server.ask("GET", url)[1])
        assert len(read_splats(tmp_path / "got.ply")) == count
