"""The paper's experiments, one module a figure; `gs-ssd reproduce NAME` runs one.

Each module offers `run(context) -> Report` and writes its pictures and tables into the context's
folder.
"""

from typing import Final

EXPERIMENTS: Final[dict[str, str]] = {
    "illustrative": "2D mixture with exact scores: who finds a mode (Fig. 3)",
    "numerical": "norms, correlation, projection ratio and variances over t (Figs. 5, 19-22)",
    "pictures": "2D generation with SDS, CSD and SSD, and h by bands of t (Figs. 4, 10, 17)",
    "defaults": "M, Perp-Neg and a negative prompt for the bundled default, on development prompts",
    "tuning": "four tries for every estimator, on development prompts",
    "comparison": "3D assets by estimator (Figs. 6, 7, 9, 14-16, 18)",
    "nerf": "the same with radiance fields, the paper's own representation",
    "janus": "Perp-Neg against second faces, on a prior that was made to draw fronts",
    "avatar": "avatars: SSD in place of SDS on persons that move (Fig. 8)",
    "speed": "what DDIM inversion costs (section 5.1)",
}
TRAIN_ASSETS: Final = ("defaults", "tuning", "comparison", "nerf", "janus", "avatar")
"""Experiments that train assets one by one, and continue where they stopped."""
