"""Splats at map coordinates: float32 cannot tell them apart, so they are centred, and the offset is
kept."""

import logging
from pathlib import Path

import numpy as np

from gs_ssd.export.frames import FloatArray

log = logging.getLogger(__name__)

FAR = 1e5  #: units; beyond, float32 is coarser than a hundredth
EPSILON = 2.0**-24  #: of float32, relative
STEPS_PER_SIGMA = 32


def centered(
    path: Path, means: FloatArray, log_scales: FloatArray
) -> tuple[FloatArray, tuple[float, float, float]]:
    """`means` [N,3], in whatever precision the file has them, and what was taken away from them.

    Nothing is, unless their middle lies so far out that float32 would move a typical splat by more
    than 1/32 of its sigma (or beyond `FAR`), and far from the origin compared with the object's
    size. The offset is whole.
    """
    finite = np.isfinite(means).all(axis=1)
    if not finite.any():
        return means, (0.0, 0.0, 0.0)
    low, middle, high = np.percentile(means[finite].astype(np.float64), [1, 50, 99], axis=0)
    distance, extent = np.abs(middle).max(), (high - low).max()
    with np.errstate(over="ignore", invalid="ignore"):
        sigma = np.nan_to_num(np.exp(np.median(log_scales.astype(np.float64))), nan=0.0)
    too_coarse = 0 < sigma < distance * EPSILON * STEPS_PER_SIGMA and distance > 10 * extent
    if not too_coarse and distance < FAR:
        return means, (0.0, 0.0, 0.0)
    x, y, z = (np.rint(middle) + 0.0).tolist()  # no -0
    step = float(np.spacing(np.float32(distance))) if means.dtype == np.float32 else 0.0
    where = ", ".join(f"{value:.0f}" if abs(value) < 1e9 else f"{value:.3g}" for value in (x, y, z))
    log.warning(
        "%s: its splats lie around (%s), too far out for 32-bit floats, and were moved to the"
        " origin%s; `gs-ssd export --keep-offset` notes that beside the output",
        path,
        where,
        f" (the file has 32 bits, in steps of {step:.2g} there)" if step else "",
    )
    return means.astype(np.float64) - [x, y, z], (x, y, z)
