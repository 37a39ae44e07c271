"""One primitive with `KHR_gaussian_splatting`: the ratified attributes, and those of its drafts."""

import dataclasses
import logging
from typing import Any

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.glb import EXTENSION, harmonic_names
from gs_ssd.export.glb_file import WIDTHS, GlbFile
from gs_ssd.export.splats import BASES, logit
from gs_ssd.maths.conventions import SH_C0

log = logging.getLogger(__name__)

DRACO = "KHR_draco_mesh_compression"
KNOWN_WORDS = {
    "kernel": ("ellipse",),
    "colorSpace": ("srgb_rec709_display", "lin_rec709_display"),
    "projection": ("perspective",),
}
NEEDED = ("kernel", "colorSpace")
ROUNDING = 1e-3  #: of opacities, as normalized or half-precision numbers have it


@dataclasses.dataclass(frozen=True)
class Primitive:
    """As the file has them: means [N,3], sizes [N,3] (or their logarithms), quaternions x, y, z, w
    [N,4], opacities [N] in 0..1, harmonics [N,K,3]."""

    means: np.ndarray
    sizes: np.ndarray
    quats_xyzw: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray

    def __len__(self) -> int:
        return len(self.means)

    @property
    def logit_opacities(self) -> np.ndarray:
        """[N]; an opacity of 1 becomes what float32 can still tell from it."""
        return logit(self.opacities)


def read_primitive(file: GlbFile, primitive: dict[str, Any]) -> Primitive:
    """The numbers of one primitive.

    Drafts of 2025 call the attributes `_SCALE`, `_ROTATION` and keep the opacity in COLOR_0, as
    displayed.

    Raises:
        UserError: compressed, or an attribute is missing or of another length.
    """
    extensions = primitive["extensions"]
    inner = extensions[EXTENSION].get("extensions") or ([DRACO] if DRACO in extensions else [])
    if inner:
        raise UserError(f"{file.path}: compressed splats ({', '.join(inner)}); they are not read")
    attributes = primitive["attributes"]
    means = file.accessor(attributes["POSITION"], 3)

    def find(name: str) -> str | None:
        return next((key for key in (f"{EXTENSION}:{name}", f"_{name}") if key in attributes), None)

    def read(name: str, width: int) -> np.ndarray:
        values = file.accessor(attributes[name], width)
        if len(values) != len(means):
            raise UserError(f"{file.path}: {name} has {len(values)} values for {len(means)} splats")
        return values

    def required(name: str, width: int) -> np.ndarray:
        found = find(name)
        if found is None:
            raise UserError(
                f"{file.path}: its splats have no {name} ({EXTENSION}:{name}); export it again"
            )
        return read(found, width)

    draft = f"{EXTENSION}:SCALE" not in attributes
    color = None
    if "COLOR_0" in attributes:
        color = read("COLOR_0", WIDTHS[file.document["accessors"][attributes["COLOR_0"]]["type"]])
    if find("OPACITY") is not None:
        opacities = required("OPACITY", 1)[:, 0]
    elif color is not None and color.shape[1] == 4:
        opacities = color[:, 3]
    else:
        raise UserError(
            f"{file.path}: its splats have no OPACITY ({EXTENSION}:OPACITY); export it again"
        )
    if not ((opacities >= -ROUNDING) & (opacities <= 1 + ROUNDING)).all():
        raise UserError(f"{file.path}: its OPACITY leaves 0..1; export it again")
    _warn_of_unknown_words(file, extensions[EXTENSION], draft=draft)
    is_linear = extensions[EXTENSION].get("colorSpace") == "lin_rec709_display"
    return Primitive(
        means=means,
        sizes=required("SCALE", 3),
        quats_xyzw=required("ROTATION", 4),
        opacities=opacities,
        sh=_harmonics(file, find, read, color, displayed=draft, is_linear=is_linear),
    )


def _harmonics(
    file: GlbFile, find: Any, read: Any, color: Any, *, displayed: bool, is_linear: bool
) -> np.ndarray:
    """[N,K,3] from the attributes, or from COLOR_0 alone: light, or in drafts (`displayed`)
    sRGB."""
    names = [name.split(":")[1] for name in harmonic_names(3)]
    if find(names[0]) is None:
        if color is None:
            raise UserError(
                f"{file.path}: its splats have neither SH_DEGREE_0_COEF_0 nor COLOR_0; export it"
                " again"
            )
        meant = (
            "as displayed, as drafts of the extension had it"
            if displayed
            else "as linear light, as glTF has it"
        )
        log.warning("%s: no harmonics; colours are COLOR_0's, taken %s", file.path, meant)
        rgb = color[:, :3] if displayed else _srgb(color[:, :3])
        return ((rgb - 0.5) / SH_C0)[:, None]
    degree = next((d for d in (3, 2, 1) if any(map(find, names[BASES[d - 1] : BASES[d]]))), 0)
    columns = []
    for name in names[: BASES[degree]]:
        found = find(name)
        if found is None:
            raise UserError(
                f"{file.path}: harmonics of degree {degree} without {name}; export it again"
            )
        columns.append(read(found, 3))
    sh = np.stack(columns, axis=1)
    if is_linear:
        log.warning("%s: linear colours; only their constant part is turned into sRGB", file.path)
        sh[:, 0] = (_srgb(np.maximum(SH_C0 * sh[:, 0] + 0.5, 0)) - 0.5) / SH_C0
    return sh


def _warn_of_unknown_words(file: GlbFile, words: dict[str, Any], *, draft: bool) -> None:
    """Say which words of the extension are not followed; drafts leave some out."""
    for key, known in KNOWN_WORDS.items():
        word = words.get(key, known[0] if draft or key not in NEEDED else None)
        if word not in known:
            log.warning("%s: %s is %r; taken as %r", file.path, key, word, known[0])


def _srgb(light: np.ndarray) -> np.ndarray:
    """Colours as displayed from amounts of light; above 1 the curve goes on."""
    light = np.maximum(light, 0)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
