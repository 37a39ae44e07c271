"""Files whose opacities or sizes are stored as they are drawn, where readers expect logits and
logarithms."""

import dataclasses
import logging
from pathlib import Path
from typing import Literal

import numpy as np

from gs_ssd.export.splats import Splats, logit

log = logging.getLogger(__name__)

Part = Literal["both", "opacities", "scales"]
ENOUGH = 16  #: splats; fewer may lie within 0..1 by chance


def suspected(splats: Splats) -> Part | None:
    """Which of the raw values look activated already, judged by their distribution.

    Logits of a real splat reach beyond 0..1 on both sides; these never do, and are not all the
    same. Logarithms of sizes are negative for anything smaller than a unit; sizes never are, and
    read as logarithms they would all be a unit or a little more, or as large as the object.
    """
    opacities, sizes = splats.logit_opacities, splats.log_scales
    opacities = opacities[~np.isnan(opacities)]
    if len(opacities) < ENOUGH:
        return None
    faded = bool(opacities.min() >= 0 and opacities.max() <= 1 and np.ptp(opacities) > 0.05)
    if not bool((sizes >= 0).all()):
        return "opacities" if faded else None
    extent = float(np.linalg.norm(np.ptp(np.nan_to_num(splats.means), axis=0)))
    as_large_as_the_object = np.exp(min(float(np.median(sizes)), 60.0)) > 0.1 * extent
    crowded_above_one_unit = sizes.min() < 0.1 and np.percentile(sizes, 95) < 1
    return (
        "both" if faded else "scales" if as_large_as_the_object or crowded_above_one_unit else None
    )


def warn_if_suspected(path: Path, splats: Splats) -> None:
    """Say so, with the flag that helps."""
    part = suspected(splats)
    if part is None:
        return
    words = {
        "both": (
            "all opacities lie within 0..1 and no size is negative, so both look activated already"
        ),
        "opacities": "all opacities lie within 0..1, so they look activated already",
        "scales": (
            "no size is negative, and read as logarithms all would be too large, so they look"
            " linear"
        ),
    }[part]
    flag = "--activated" if part == "both" else f"--activated {part}"
    log.warning(
        "%s: %s; if they are, `gs-ssd export` and `view` take %s (read as logits and logarithms for"
        " now)",
        path,
        words,
        flag,
    )


def deactivated(splats: Splats, part: Part) -> Splats:
    """Raw values from activated ones; sizes of zero become non-finite, which cleaning counts."""
    logits, sizes = splats.logit_opacities, splats.log_scales
    if part != "scales":
        logits = logit(logits, margin=1 / 1024)
    if part != "opacities":
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = np.log(sizes)
    return dataclasses.replace(splats, logit_opacities=logits, log_scales=sizes)
