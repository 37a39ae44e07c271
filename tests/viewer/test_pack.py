"""The page's packed splats, decoded again as the shader does."""

import numpy as np
import pytest

from gs_ssd.export.clean import framing
from gs_ssd.export.frames import rotations_from_quaternions
from gs_ssd.export.splats import Splats
from gs_ssd.viewer.pack import pack_splats
from gs_ssd.viewer.page import write_page


def cloud(count: int, degree: int, seed: int = 0) -> Splats:
    rng = np.random.default_rng(seed)
    return Splats(
        means=rng.normal(size=(count, 3)) * 0.4 + [5, 0, -3],
        log_scales=rng.uniform(-6, -1, size=(count, 3)),
        quats_wxyz=rng.normal(size=(count, 4)) * 3,
        logit_opacities=rng.normal(size=count),
        sh=rng.normal(size=(count, (degree + 1) ** 2, 3)) * 0.2,
        frame="gltf",
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_packing_keeps_what_the_eye_sees(degree):
    splats = cloud(500, degree)
    packed = pack_splats(splats)
    assert packed.count == 500
    assert len(packed.data) == 500 * (32 + 16 * degree)
    words = np.frombuffer(packed.data, "<u4", count=500 * 8).reshape(500, 8)
    means = words[:, :3].copy().view("<f4") * packed.radius + packed.center
    assert means == pytest.approx(splats.means, abs=1e-6)
    halves = words[:, 3:7].copy().view("<f2").astype(float)
    assert halves[:, [0, 1, 2]] == pytest.approx(splats.colors, abs=1e-3)
    assert halves[:, 3] == pytest.approx(splats.opacities, abs=1e-3)
    assert halves[:, 4:7] * packed.radius == pytest.approx(splats.scales, rel=1e-3)
    parts = (
        np.stack([words[:, 6] >> 16, words[:, 7] & 32767, (words[:, 7] >> 15) & 32767], axis=1)
        & 32767
    )
    small = parts * np.sqrt(2) / 32767 - np.sqrt(0.5)
    quats = np.zeros((500, 4))
    largest = words[:, 7] >> 30
    rest = np.arange(4) != largest[:, None]
    quats[rest] = small.ravel()
    quats[~rest] = np.sqrt(1 - (small**2).sum(axis=1))
    assert rotations_from_quaternions(quats) == pytest.approx(
        rotations_from_quaternions(splats.quats_wxyz), abs=2e-4
    )
    signed = np.frombuffer(packed.data, np.int8, offset=500 * 32).reshape(500, 16 * degree)
    for band in range(1, degree + 1):
        start, stop = 3 * (band * band - 1), 3 * ((band + 1) ** 2 - 1)
        decoded = signed[:, start:stop].reshape(500, -1, 3) * (packed.sh_range[band - 1] / 127)
        assert decoded == pytest.approx(
            splats.sh[:, band**2 : (band + 1) ** 2], abs=packed.sh_range[band - 1] / 250
        )


def test_what_cannot_be_seen_is_left_out():
    splats = cloud(8, 1)
    splats.means[0, 0] = np.nan
    splats.log_scales[1, 2] = np.inf
    splats.sh[2, 3, 1] = np.nan
    splats.logit_opacities[3] = -8  # alpha 0.0003 never reaches one step of 8 bits
    splats.logit_opacities[4] = np.nan
    splats.logit_opacities[5] = np.inf  # opaque, and fine
    assert pack_splats(splats).count == 3


def test_framing_ignores_a_stray_splat():
    splats = cloud(1000, 0)
    splats.means[0] = 1e6
    center, radius = framing(splats)
    assert center == pytest.approx([5, 0, -3], abs=0.1)
    assert 0.8 < radius < 2.5


def test_quickstart_sized_pages_stay_small(tmp_path):
    assert write_page(tmp_path / "a.html", cloud(20_000, 3), title="a") < 4e6
    assert (tmp_path / "a.html").stat().st_size < 4e6
