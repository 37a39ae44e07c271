"""Merging: moments and weight are kept, numbers are met, and it looks better than dropping as
many."""

import dataclasses
import math

import numpy as np
import pytest

from gs_ssd.cli import main
from gs_ssd.errors import UserError
from gs_ssd.export.clean import Cleaning, clean
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.export.frames import quaternion_from_rotation, rotations_from_quaternions
from gs_ssd.export.simplify import simplify, target_of
from gs_ssd.export.splats import SH_C0, Splats
from gs_ssd.export.views import pictures, psnr


def ball(count: int, degree: int = 0) -> Splats:
    """A sphere of flat splats in soft stripes, half of them translucent."""
    rng = np.random.default_rng(3)
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    across = np.cross(normals, rng.normal(size=(count, 3)))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    axes = np.stack([across, np.cross(normals, across), normals], axis=-1)
    size = 2.2 / math.sqrt(count)
    sh = np.zeros((count, (degree + 1) ** 2, 3))
    sh[:, 0] = (0.5 + 0.4 * np.sin(4 * normals @ np.diag([1.0, 2.0, 1.5])) - 0.5) / SH_C0
    sh[:, 1:] = rng.normal(size=sh[:, 1:].shape) * 0.02
    scales = np.log(size) + rng.normal(size=(count, 3)) * 0.2 + [0, 0, -1.5]
    return Splats(
        normals, scales, quaternion_from_rotation(axes), rng.uniform(-1, 3, count), sh, "world"
    )


def total(splats: Splats) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of it all, each splat weighing opacity times its shadow's area."""
    s = np.sort(splats.scales.astype(np.float64), axis=1)
    p = 1.6075
    areas = ((s[:, 0] * s[:, 1]) ** p + (s[:, 0] * s[:, 2]) ** p + (s[:, 1] * s[:, 2]) ** p) ** (
        1 / p
    )
    weights = splats.opacities * areas
    weights /= weights.sum()
    axes = (
        rotations_from_quaternions(splats.unit_quats_wxyz.astype(np.float64))
        * splats.scales[:, None, :]
    )
    mean = weights @ splats.means
    apart = splats.means - mean
    spread = (
        np.einsum("n,nij->ij", weights, axes @ axes.transpose(0, 2, 1))
        + (weights[:, None] * apart).T @ apart
    )
    return mean, spread


def test_two_become_their_moments(make_splats):
    two = make_splats(2, degree=2)
    two = dataclasses.replace(two, logit_opacities=np.array([-2.0, -3.0]))
    (mean, spread), one = total(two), simplify(two, 1)
    assert len(one) == 1
    assert one.means[0] == pytest.approx(mean, abs=1e-5)
    axes = rotations_from_quaternions(one.quats_wxyz)[0] * one.scales[0]
    assert axes @ axes.T == pytest.approx(spread, abs=1e-5)
    assert one.frame == two.frame
    assert one.sh_degree == 2


def test_the_whole_keeps_its_moments_and_its_frame():
    splats = dataclasses.replace(ball(500), logit_opacities=np.full(500, -4.0)).to_frame("inria")
    few = simplify(splats, 60)
    assert len(few) == 60
    assert few.frame == "inria"
    for after, before in zip(total(few), total(splats), strict=True):
        assert after == pytest.approx(before, abs=2e-3)
    assert few.opacities.mean() > splats.opacities.mean()  # fewer, and more opaque


def test_more_is_asked_for_than_there_is(make_splats):
    splats = make_splats(20, degree=1)
    same = simplify(splats, 50)
    assert same.means == pytest.approx(splats.means)
    assert same.opacities == pytest.approx(splats.opacities, abs=0.006)
    assert len(simplify(splats, 1)) == 1


def test_equal_splats_merge_too(make_splats):
    one = make_splats(1, degree=1)
    few = simplify(one.take(np.zeros(100, dtype=int)), 3)
    assert len(few) == 3
    assert few.means == pytest.approx(np.repeat(one.means, 3, axis=0), abs=1e-6)
    assert few.sh == pytest.approx(np.repeat(one.sh, 3, axis=0), abs=1e-6)


@pytest.mark.parametrize("degree", [0, 1])
def test_looks_better_than_dropping_as_many(degree):
    splats = ball(3000, degree)
    wanted = pictures(splats, 128)
    merged = psnr(pictures(simplify(splats, 750), 128, like=splats), wanted)
    dropped = psnr(pictures(clean(splats, Cleaning(max_splats=750))[0], 128, like=splats), wanted)
    print(f"merged {merged:.1f} dB, dropped {dropped:.1f} dB")
    assert wanted.std() > 0.1
    assert merged > dropped + 3


def test_command(tmp_path, capsys):
    write_splats(tmp_path / "a.ply", ball(400))
    assert (
        main(
            ["export", str(tmp_path / "a.ply"), "-o", str(tmp_path / "b.ply"), "--simplify", "25%"]
        )
        == 0
    )
    assert "400 splats merged into 100" in capsys.readouterr().out
    assert len(read_splats(tmp_path / "b.ply")) == 100
    assert (
        main(
            ["export", str(tmp_path / "a.ply"), "-o", str(tmp_path / "c.ply"), "--simplify", "few"]
        )
        == 2
    )
    assert "--simplify few" in capsys.readouterr().err
    assert not (tmp_path / "c.ply").exists()


@pytest.mark.parametrize("text", ["", "0", "-3", "0%", "101%", "nan%", "2.5", "%"])
def test_nonsense_is_refused(text):
    with pytest.raises(UserError, match="--simplify"):
        target_of(text, 100)


def test_targets():
    assert target_of("70", 100) == 70
    assert target_of("12.5%", 1000) == 125
    assert target_of("1%", 10) == 1
