"""SOG and compressed PLY, written without Node, as splat-transform, gaussforge and gsply read
them."""

import subprocess
import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.export.codebook import palette, scalar_codebook
from gs_ssd.export.formats import write_splats
from gs_ssd.export.morton import morton_order
from gs_ssd.export.ply_reader import read_ply
from gs_ssd.export.splats import Splats

# See `compare`.
TOLERANCE = {
    ".sog": (1e-4, 0.02, 0.02, 0.003, 0.02, 0.03),
    ".compressed.ply": (5e-3, 0.006, 0.003, 0.003, 0.01, 0.017),
}


Reader = Callable[[Path], Splats]


@pytest.fixture(params=["splat-transform", "gaussforge"])
def reader(request, tmp_path) -> Reader:
    """What a program of others makes of a file, as PLY."""
    out = tmp_path / "back.ply"
    if request.param == "splat-transform":
        program = (
            request.getfixturevalue("node_package")("@playcanvas/splat-transform") / "bin/cli.mjs"
        )

        def read(path: Path) -> Splats:
            words = ["node", str(program), "-q", "-w", "-g", "cpu", str(path), str(out)]
            subprocess.run(words, check=True, capture_output=True, timeout=120)
            return read_ply(out)

    else:
        gaussforge = pytest.importorskip(
            "gaussforge", reason="gaussforge is not installed (pip install gaussforge)"
        )

        def read(path: Path) -> Splats:
            suffix = "compressed.ply" if path.name.endswith(".compressed.ply") else path.suffix[1:]
            out.write_bytes(
                gaussforge.GaussForge().convert(path.read_bytes(), suffix, "ply")["data"]
            )
            return read_ply(out)

    return read


@pytest.mark.readers
@pytest.mark.parametrize("degree", [0, 2, 3])
@pytest.mark.parametrize("suffix", TOLERANCE)
def test_others_read_what_was_written(tmp_path, make_splats, reader, suffix, degree, compare):
    splats = make_splats(600, degree=degree, frame="world")
    write_splats(tmp_path / f"a{suffix}", splats)
    compare(reader(tmp_path / f"a{suffix}"), splats.to_frame("inria"), TOLERANCE[suffix])


@pytest.mark.readers
@pytest.mark.parametrize("count", [1, 257])
@pytest.mark.parametrize("suffix", TOLERANCE)
def test_any_number_of_splats(tmp_path, make_splats, reader, suffix, count, compare):
    splats = make_splats(count, degree=1)
    write_splats(tmp_path / f"a{suffix}", splats)
    compare(reader(tmp_path / f"a{suffix}"), splats, TOLERANCE[suffix])


@pytest.mark.readers
def test_gsply_reads_compressed_ply(tmp_path, make_splats, compare):
    gsply = pytest.importorskip("gsply", reason="gsply is not installed (pip install gsply)")
    splats = make_splats(600, degree=3)
    write_splats(tmp_path / "a.compressed.ply", splats)
    data = gsply.plyread(str(tmp_path / "a.compressed.ply"))
    sh = np.concatenate([np.reshape(data.sh0, (-1, 1, 3)), data.shN], axis=1)
    compare(
        Splats(data.means, data.scales, data.quats, data.opacities, sh, "inria"),
        splats,
        TOLERANCE[".compressed.ply"],
    )


def test_flat_objects_and_equal_splats(tmp_path, make_splats):
    splats = make_splats(300, degree=1)
    splats.means[:, 1] = 2.5
    splats.log_scales[:] = -3
    splats.sh[:] = 0.25
    for suffix in TOLERANCE:
        write_splats(tmp_path / f"a{suffix}", splats)
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        assert "meta.json" in archive.namelist()


@pytest.mark.parametrize("suffix", TOLERANCE)
def test_what_cannot_be_written_is_refused(tmp_path, make_splats, suffix):
    splats = make_splats(10)
    splats.means[3] = np.nan
    with pytest.raises(UserError, match="1 non-finite"):
        write_splats(tmp_path / f"a{suffix}", splats)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", TOLERANCE)
def test_the_same_bytes_every_time(tmp_path, make_splats, monkeypatch, suffix):
    write_splats(tmp_path / f"a{suffix}", make_splats(50, degree=2))
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write_splats(tmp_path / f"b{suffix}", make_splats(50, degree=2))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_pixels_of_invisible_splats_keep_their_colours(tmp_path, make_splats):
    splats = make_splats(40)
    splats.logit_opacities[:] = -20
    write_splats(tmp_path / "a.sog", splats)
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        pixels = np.asarray(Image.open(BytesIO(archive.read("sh0.webp"))))
    assert pixels[..., 3].max() == 0
    assert len(np.unique(pixels[..., :3])) > 40


def test_morton_order_keeps_neighbours_together(make_splats):
    means = make_splats(4096).means
    order = morton_order(means)
    assert sorted(order) == list(range(4096))
    step = np.linalg.norm(np.diff(means[order], axis=0), axis=1).mean()
    assert step < 0.3 * np.linalg.norm(np.diff(means, axis=0), axis=1).mean()
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], dtype=float)
    assert morton_order(corners[::-1]).tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


def test_a_codebook_beats_an_even_grid():
    values = np.random.default_rng(0).normal(size=(2000, 3)) ** 3
    book, labels = scalar_codebook(values)
    assert book.shape == (256,)
    assert (np.diff(book) >= 0).all()
    assert (
        np.abs(values - book[labels]) <= np.abs(values[..., None] - book).min(axis=-1) + 1e-6
    ).all()
    even = np.linspace(values.min(), values.max(), 256)
    of_even = np.square(values[..., None] - even).min(axis=-1).mean()
    assert np.square(values - book[labels]).mean() < 0.5 * of_even
    book, labels = scalar_codebook(np.array([3.0, -1.0, 3.0]))
    assert book[labels].tolist() == [3, -1, 3]


def test_a_palette_finds_the_groups_there_are():
    rng = np.random.default_rng(1)
    groups = rng.normal(size=(40, 9))
    rows = groups[rng.integers(0, 40, 3000)] + rng.normal(size=(3000, 9)) * 1e-3
    entries, labels = palette(rows, 400)
    assert len(entries) <= 400
    assert np.sqrt(np.square(rows - entries[labels]).mean()) < 2e-3
    entries, labels = palette(rows[:100], 400)
    assert np.array_equal(entries[labels], rows[:100])
