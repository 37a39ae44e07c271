"""PLY: the bytes importers expect, back again exactly, and files that lie are refused before they
cost anything."""

import tracemalloc

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from gs_ssd.errors import UserError
from gs_ssd.export.ply import property_names, write_ply
from gs_ssd.export.ply_reader import read_ply

ARRAYS = ("means", "log_scales", "logit_opacities", "sh")


@pytest.mark.parametrize(("degree", "floats"), [(0, 17), (1, 26), (2, 41), (3, 62)])
def test_layout_is_the_standard_one(tmp_path, make_splats, degree, floats):
    splats = make_splats(7, degree=degree)
    write_ply(tmp_path / "a.ply", splats)
    raw = (tmp_path / "a.ply").read_bytes()
    names = property_names((degree + 1) ** 2)
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 7\n"
    header += "".join(f"property float {name}\n" for name in names) + "end_header\n"
    assert len(names) == floats
    assert raw.startswith(header.encode())
    rows = np.frombuffer(raw[len(header) :], "<f4").reshape(7, floats)
    assert rows[:, 6:9] == pytest.approx(splats.sh[:, 0])
    if degree:  # channel-major: the second value is red of the second coefficient
        assert rows[:, 10] == pytest.approx(splats.sh[:, 2, 0])
    assert np.linalg.norm(rows[:, -4:], axis=1) == pytest.approx(np.ones(7), abs=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_round_trip_is_exact(tmp_path, make_splats, degree):
    splats = make_splats(30, degree=degree)
    write_ply(tmp_path / "a.ply", splats)
    back = read_ply(tmp_path / "a.ply")
    assert back.frame == "inria"
    for name in ARRAYS:
        assert np.array_equal(getattr(back, name), getattr(splats, name))
    assert back.unit_quats_wxyz == pytest.approx(splats.unit_quats_wxyz, abs=1e-7)


@pytest.mark.parametrize("kind", ["ascii", "big-endian", "shuffled doubles"])
def test_other_peoples_dialects_are_read(tmp_path, make_splats, kind, caplog):
    splats = make_splats(9, degree=3)
    write_ply(tmp_path / "a.ply", splats)
    rows = PlyData.read(tmp_path / "a.ply")["vertex"].data
    if kind == "shuffled doubles":
        order = np.random.default_rng(0).permutation(rows.dtype.names)
        other = np.zeros(9, dtype=[(name, "<f8") for name in order] + [("segment", "u1")])
        for name in order:
            other[name] = rows[name]
        rows = other
    elements = [PlyElement.describe(np.array(rows), "vertex")]
    PlyData(elements, text=kind == "ascii", byte_order=">" if kind == "big-endian" else "<").write(
        tmp_path / "b.ply"
    )
    back = read_ply(tmp_path / "b.ply")
    for name in ARRAYS:
        assert getattr(back, name) == pytest.approx(getattr(splats, name), rel=1e-6)
    assert ("segment" in caplog.text) == (kind == "shuffled doubles")


def header(*lines: str) -> bytes:
    return "\n".join(["ply", "format binary_little_endian 1.0", *lines, "end_header\n"]).encode()


SPLAT = [f"property float {name}" for name in property_names(1)]
HOSTILE = {
    "empty": b"",
    "not a ply": b"\x1f\x8b" + b"0" * 500,
    "no end": b"ply\nformat binary_little_endian 1.0\n" + b"comment x\n" * 20000,
    "huge count": header("element vertex 4000000000", *SPLAT) + b"0" * 680,
    "huge count of nothing": (
        header("element vertex 10", *SPLAT, "element void 999999999999") + b"0" * 680
    ),
    "overflowing count": header("element vertex 9" + "9" * 30, *SPLAT) + b"0" * 680,
    "negative count": header("element vertex -1", *SPLAT),
    "many properties": (
        header("element vertex 1", *(f"property float p{i}" for i in range(3000))) + b"0" * 12000
    ),
    "list bomb": (
        header("element vertex 1", *SPLAT, "element face 1", "property list uint int i")
        + b"\0" * 68
        + b"\xff" * 4
    ),
    "list in vertex": (
        header("element vertex 1", *SPLAT, "property list uint float more") + b"\xff" * 90
    ),
    "duplicate property": header("element vertex 1", *SPLAT, "property float x") + b"0" * 100,
    "unknown type": header("element vertex 1", "property quad x") + b"0" * 100,
    "two vertices": header("element vertex 1", *SPLAT, "element vertex 1", *SPLAT) + b"0" * 136,
    "ascii garbage": (
        b"ply\nformat ascii 1.0\nelement vertex 2\n"
        + "\n".join(SPLAT).encode()
        + b"\nend_header\n"
        + b"x y\n" * 40
    ),
    "not a number": header("element vertex many", *SPLAT),
    "not ascii": header("element vertex 1", "property float \xff\xfe", *SPLAT) + b"0" * 72,
    "mesh": (
        header("element vertex 1", "property float x", "property float y", "property float z")
        + b"0" * 12
    ),
    "eight f_rest": (
        header("element vertex 1", *SPLAT, *(f"property float f_rest_{i}" for i in range(8)))
        + b"0" * 100
    ),
    "gap in f_rest": (
        header("element vertex 1", *SPLAT, *(f"property float f_rest_{i + 1}" for i in range(9)))
        + b"0" * 104
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_cheaply(tmp_path, name):
    path = tmp_path / "bad.ply"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bad\.ply"):
        read_ply(path)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.999])
def test_truncated_file_says_so(tmp_path, make_splats, keep):
    write_ply(tmp_path / "a.ply", make_splats(100))
    raw = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(UserError, match=r"truncated"):
        read_ply(tmp_path / "a.ply")


def test_known_cousins_are_named(tmp_path):
    packed = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
    (tmp_path / "c.ply").write_bytes(
        header("element vertex 1", *(f"property uint {p}" for p in packed)) + b"0" * 16
    )
    with pytest.raises(UserError, match="without the bounds of its chunks"):
        read_ply(tmp_path / "c.ply")


def test_higher_degrees_are_cut_with_a_warning(tmp_path, make_splats, caplog):
    write_ply(tmp_path / "a.ply", make_splats(3, degree=3))
    rows = PlyData.read(tmp_path / "a.ply")["vertex"].data
    wide = np.zeros(3, dtype=[*rows.dtype.descr, *((f"f_rest_{i}", "<f4") for i in range(45, 72))])
    for name in rows.dtype.names:
        wide[name] = rows[name]
    PlyData([PlyElement.describe(wide, "vertex")]).write(tmp_path / "b.ply")
    assert read_ply(tmp_path / "b.ply").sh_degree == 3
    assert "above degree 3" in caplog.text


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        read_ply(tmp_path / "nowhere.ply")


def test_failing_write_leaves_the_old_file(tmp_path, make_splats, monkeypatch):
    write_ply(tmp_path / "a.ply", make_splats(3))
    before = (tmp_path / "a.ply").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PlyData, "write", full)
    with pytest.raises(UserError, match="No space left"):
        write_ply(tmp_path / "a.ply", make_splats(5))
    assert (tmp_path / "a.ply").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]
