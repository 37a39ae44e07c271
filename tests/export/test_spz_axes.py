"""SPZ through splat-transform 2.7, which turns it to the axes of PLY, and 3, which takes its
numbers as they are."""

import subprocess
from pathlib import Path

import pytest
from scipy.spatial import cKDTree

from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.export.splats import Splats

RELEASES = {"2.7": "@playcanvas/splat-transform", "3": "splat-transform-3"}


@pytest.fixture(params=RELEASES)
def release(request) -> str:
    return request.param


@pytest.fixture
def transform(release, node_package):
    program = node_package(RELEASES[release]) / "bin/cli.mjs"

    def run(source: Path, target: Path) -> None:
        words = ["node", str(program), "-q", "-w", "-g", "cpu", str(source), str(target)]
        subprocess.run(words, check=True, capture_output=True, timeout=120)

    return run


def stands_upright(splats: Splats) -> bool:
    """Whether this is the axes object as it is: every splat where it belongs."""
    wanted = axes_object().means
    return bool(cKDTree(splats.to_frame("gltf").means).query(wanted)[0].max() < 0.01)


@pytest.mark.readers
def test_a_file_that_names_plys_axes_is_right_with_both(tmp_path, transform):
    write_splats(tmp_path / "a.spz", axes_object(), frame="inria", spz_version=4)
    transform(tmp_path / "a.spz", tmp_path / "b.ply")
    assert stands_upright(read_splats(tmp_path / "b.ply"))


@pytest.mark.readers
@pytest.mark.parametrize("version", [3, 4])
def test_a_file_in_the_formats_own_axes_is_turned_by_2_7_alone(
    tmp_path, transform, release, version
):
    write_splats(tmp_path / "a.spz", axes_object(), spz_version=version)
    transform(tmp_path / "a.spz", tmp_path / "b.ply")
    assert stands_upright(read_splats(tmp_path / "b.ply")) is (release == "2.7")
    assert stands_upright(read_splats(tmp_path / "b.ply", up=None if release == "2.7" else "+y"))


@pytest.mark.readers
def test_their_files_need_a_word_from_release_3_on(tmp_path, transform, release):
    write_splats(tmp_path / "a.ply", axes_object())
    transform(tmp_path / "a.ply", tmp_path / "b.spz")
    assert stands_upright(read_splats(tmp_path / "b.spz", up=None if release == "2.7" else "-y"))
    assert stands_upright(read_splats(tmp_path / "b.spz")) is (release == "2.7")
