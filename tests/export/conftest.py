"""Splats to carry around."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial import cKDTree

from gs_ssd.export.frames import rotations_from_quaternions
from gs_ssd.export.splats import Splats


@pytest.fixture
def make_splats() -> Callable[..., Splats]:
    """A cloud of `count` random splats of harmonic `degree`, in `frame`."""

    def make(count: int = 50, degree: int = 0, frame: str = "inria", seed: int = 0) -> Splats:
        rng = np.random.default_rng(seed)
        return Splats(
            means=rng.normal(size=(count, 3)),
            log_scales=rng.uniform(-5, -1, size=(count, 3)),
            quats_wxyz=rng.normal(size=(count, 4)),
            logit_opacities=rng.normal(size=count) * 2,
            sh=rng.normal(size=(count, (degree + 1) ** 2, 3)) * 0.3,
            frame=frame,
        )

    return make


def _compare(back: Splats, splats: Splats, tolerance: tuple[float, ...]) -> None:
    """Splat by splat, in whatever order the file has them."""
    position, rotation, size, opacity, color, harmonics = tolerance
    nearest = cKDTree(back.means).query(splats.means)[1]
    assert len(set(nearest)) == len(splats) == len(back)
    back = back.take(nearest)
    assert back.sh_degree == splats.sh_degree
    assert back.means == pytest.approx(splats.means, abs=position)
    turned = rotations_from_quaternions(back.quats_wxyz)
    assert turned == pytest.approx(rotations_from_quaternions(splats.quats_wxyz), abs=rotation)
    assert back.log_scales == pytest.approx(splats.log_scales, abs=size)
    assert back.opacities == pytest.approx(splats.opacities, abs=opacity)
    assert back.sh[:, 0] == pytest.approx(splats.sh[:, 0], abs=color)
    assert back.sh[:, 1:] == pytest.approx(splats.sh[:, 1:], abs=harmonics)


@pytest.fixture
def compare() -> Callable[[Splats, Splats, tuple[float, ...]], None]:
    """Fails where splats that were read are not those that were written. The largest errors:
    position, rotation matrix entry, log sigma, opacity, colour coefficient, harmonics."""
    return _compare
