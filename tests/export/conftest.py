"""Splats to carry around."""

from collections.abc import Callable

import numpy as np
import pytest

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
