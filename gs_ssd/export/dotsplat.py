"""antimatter15's `.splat`: 32 bytes each and no header, largest and most opaque first, without
harmonics.

    3 x float32 position · 3 x float32 sigma · 4 x uint8 red, green, blue, opacity · 4 x uint8
    quaternion w, x, y, z

The frame is INRIA's by convention.
"""

import os
from pathlib import Path

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.bounded import read_bytes
from gs_ssd.export.splats import Splats, logit
from gs_ssd.files import atomic_path
from gs_ssd.maths.conventions import SH_C0

RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("wxyz", "u1", 4)])


def write_splat(path: str | os.PathLike[str], splats: Splats) -> None:
    """Write in the frame `splats` is in; only the constant part of the colour fits."""
    weight = splats.log_scales.astype(np.float64).sum(axis=1) + np.log(
        np.maximum(splats.opacities, 1e-12)
    )
    splats = splats.take(np.argsort(-weight, kind="stable"))
    records = np.zeros(len(splats), dtype=RECORD)
    records["mean"] = splats.means
    records["scale"] = splats.scales
    records["rgba"] = to_bytes(
        np.concatenate([splats.colors, splats.opacities[:, None]], axis=1) * 255
    )
    records["wxyz"] = to_bytes(splats.unit_quats_wxyz * 128 + 128)
    with atomic_path(path) as temporary:
        records.tofile(temporary)


def read_splat(path: str | os.PathLike[str]) -> Splats:
    """Read a `.splat`, degree 0, in the INRIA frame.

    Raises:
        UserError: the size is no multiple of 32 bytes.
    """
    path = Path(path)
    data = read_bytes(path)
    if len(data) % RECORD.itemsize:
        raise UserError(
            f"{path}: {len(data)} bytes, not a multiple of 32; truncated, or not a .splat file"
        )
    records = np.frombuffer(data, dtype=RECORD)
    rgba = records["rgba"].astype(np.float32) / 255
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # zero or broken sizes become non-finite, which are counted
        log_scales = np.log(records["scale"])
    return Splats(
        means=records["mean"],
        log_scales=log_scales,
        quats_wxyz=records["wxyz"].astype(np.float32) / 128 - 1,
        logit_opacities=logit(rgba[:, 3], margin=1 / 1024),
        sh=((rgba[:, :3] - 0.5) / SH_C0)[:, None],
        frame="inria",
    )


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Round and clamp to 0..255; NaN becomes 0."""
    return np.rint(np.nan_to_num(values)).clip(0, 255).astype(np.uint8)
