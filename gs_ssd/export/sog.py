"""PlayCanvas's SOG, version 2: a ZIP of lossless WebP pictures, one pixel a splat, and `meta.json`;
INRIA frame.

    means_l, means_u   low and high bytes of 16-bit positions, sign(x) ln(1 + |x|) between `mins`
                       and `maxs`
    quats              the three parts beside the largest, q / sqrt(2) + 0.5; alpha is 252 + the
                       index of the largest (w, x, y, z)
    scales             indices into a codebook of 256 log scales
    sh0                indices into a codebook of 256 colour coefficients; alpha is the opacity
    shN_labels         16-bit index of each splat's harmonics in a palette of at most 65 536
    shN_centroids      the palette, 64 entries per row, each a run of 3, 8 or 15
                       pixels with red, green
                       and blue: indices into a codebook of 256 coefficients

Source: "The SOG Format" in PlayCanvas's manual.
"""

import io
import json
import os
import zipfile

import numpy as np
from PIL import Image

from gs_ssd import __version__
from gs_ssd.export.clean import refuse_non_finite
from gs_ssd.export.codebook import palette, scalar_codebook
from gs_ssd.export.dotsplat import to_bytes
from gs_ssd.export.frames import FloatArray
from gs_ssd.export.morton import morton_order
from gs_ssd.export.splats import Splats
from gs_ssd.files import atomic_path

MAX_PALETTE, MIN_PALETTE = 1 << 16, 1 << 12
PER_ROW = 64  #: palette entries in a row of pixels
DATE = (1980, 1, 1, 0, 0, 0)  #: of every file in the ZIP: the same splats give the same bytes


def write_sog(path: str | os.PathLike[str], splats: Splats) -> None:
    """Write in the frame `splats` is in.

    Coarse by design: rotations to a degree, sizes and colours to a 256th of what occurs, harmonics
    shared between splats that are alike (where there are more than 4096).

    Raises:
        UserError: a number is NaN, infinite or absurdly large.
    """
    refuse_non_finite(path, splats)
    splats = splats.take(morton_order(splats.means))
    pictures: dict[str, np.ndarray] = {}
    meta: dict[str, object] = {
        "version": 2,
        "asset": {"generator": f"GS-SSD {__version__}"},
        "count": len(splats),
        "means": _means(splats, pictures),
        "scales": _codebook(splats.log_scales, "scales", pictures),
        "quats": _quats(splats, pictures),
        "sh0": _codebook(splats.sh[:, 0], "sh0", pictures, to_bytes(splats.opacities * 255)),
    }
    if splats.antialiased:
        meta["model"] = "antialiased"  # as splat-transform 3 marks it
    if splats.sh_degree:
        meta["shN"] = _harmonics(splats, pictures)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, pixels in pictures.items():
            archive.writestr(zipfile.ZipInfo(name, DATE), _webp(pixels))
        archive.writestr(
            zipfile.ZipInfo("meta.json", DATE), json.dumps(meta, separators=(",", ":"))
        )


def _means(splats: Splats, pictures: dict[str, np.ndarray]) -> dict[str, object]:
    means = splats.means.astype(np.float64)
    logs = np.sign(means) * np.log1p(np.abs(means))
    low, high = logs.min(axis=0), logs.max(axis=0)
    steps = np.rint((logs - low) / np.where(high > low, high - low, 1.0) * 65535).astype(np.uint16)
    pictures["means_l.webp"] = _image(steps & 255)
    pictures["means_u.webp"] = _image(steps >> 8)
    return {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]}


def _quats(splats: Splats, pictures: dict[str, np.ndarray]) -> dict[str, object]:
    wxyz = splats.unit_quats_wxyz
    largest = np.abs(wxyz).argmax(axis=1)
    signed = wxyz * np.where(wxyz[np.arange(len(wxyz)), largest] < 0, -1.0, 1.0)[:, None]
    others = signed[np.arange(4) != largest[:, None]].reshape(-1, 3)
    pictures["quats.webp"] = _image(to_bytes((others * np.sqrt(0.5) + 0.5) * 255), 252 + largest)
    return {"files": ["quats.webp"]}


def _codebook(
    values: FloatArray, name: str, pictures: dict[str, np.ndarray], alpha: np.ndarray | int = 255
) -> dict[str, object]:
    book, labels = scalar_codebook(values)
    pictures[f"{name}.webp"] = _image(labels, alpha)
    return {"codebook": book.tolist(), "files": [f"{name}.webp"]}


def _harmonics(splats: Splats, pictures: dict[str, np.ndarray]) -> dict[str, object]:
    count, coefficients = len(splats), splats.sh.shape[1] - 1
    size = min(MAX_PALETTE, max(MIN_PALETTE, 2 ** int(np.log2(count))))
    entries, labels = palette(splats.sh[:, 1:].reshape(count, 3 * coefficients), size)
    book, indices = scalar_codebook(entries)
    rows = -(-len(entries) // PER_ROW)
    pixels = np.zeros((rows * PER_ROW, coefficients, 4), dtype=np.uint8)
    pixels[: len(entries), :, :3] = indices.reshape(len(entries), coefficients, 3)
    pixels[..., 3] = 255
    pictures["shN_centroids.webp"] = pixels.reshape(rows, PER_ROW * coefficients, 4)
    pictures["shN_labels.webp"] = _image(
        np.stack([labels & 255, labels >> 8, np.zeros_like(labels)], axis=1)
    )
    return {
        "count": len(entries),
        "bands": splats.sh_degree,
        "codebook": book.tolist(),
        "files": ["shN_centroids.webp", "shN_labels.webp"],
    }


def _image(colors: np.ndarray, alpha: np.ndarray | int = 255) -> np.ndarray:
    """Bytes [N,3] and [N] as pixels [H,W,4] of a picture about as high as wide, both multiples of
    four."""
    width = 4 * int(np.ceil(np.sqrt(len(colors)) / 4))
    height = 4 * -(-len(colors) // (4 * width))
    pixels = np.zeros((height * width, 4), dtype=np.uint8)
    pixels[: len(colors), :3], pixels[: len(colors), 3] = colors, alpha
    return pixels.reshape(height, width, 4)


def _webp(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    # `exact`: without it pixels whose alpha is 0, an invisible splat's, lose their colours. More
    # effort than this takes many times as long and saves nothing.
    Image.fromarray(pixels, "RGBA").save(
        data, "WEBP", lossless=True, exact=True, quality=50, method=2
    )
    return data.getvalue()
