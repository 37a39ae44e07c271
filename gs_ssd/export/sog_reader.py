"""Reading PlayCanvas's SOG, versions 1 and 2; `gs_ssd.export.sog` describes version 2.

Version 1, which names no version, has no codebooks: bytes lie between `mins` and `maxs` of each
channel, and the opacity is a logit between the fourth of them.
"""

import io
import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.export.bounded import MAX_SPLATS, read_bytes, room_for
from gs_ssd.export.compressed_ply_reader import with_largest
from gs_ssd.export.sog import MAX_PALETTE, PER_ROW
from gs_ssd.export.splats import BASES, Splats, logit

MAX_META = 4 << 20  #: bytes
MAX_EXTRA = 4096  #: pixels of padding, or bytes of a picture beyond its pixels
BYTES_PER_SPLAT = 20
#: What zipfile, json and Pillow raise over damaged files, and numpy over what does not fit.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, KeyError, IndexError, TypeError, ValueError, AttributeError,
    OSError, EOFError,
    RuntimeError, NotImplementedError, OverflowError, RecursionError, SyntaxError,
    Image.DecompressionBombError,
)  # fmt: skip


def read_sog(path: str | os.PathLike[str]) -> Splats:
    """Read a `.sog` (the one-file form), in the INRIA frame.

    Raises:
        UserError: not a SOG, damaged, or more splats than a file of its size can hold.
    """
    path = Path(path)
    data = read_bytes(path)
    if not data.startswith(b"PK"):
        raise UserError(f"{path}: not a SOG file (a ZIP of pictures and meta.json)")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _Reader(path, archive, len(data)).splats()
    except DAMAGE as error:
        raise UserError(f"{path}: a damaged SOG file ({type(error).__name__}: {error})") from error


class _Reader:
    """One archive and its `meta.json`."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, size: int) -> None:
        self.path, self.archive = path, archive
        # Some tools put everything into a folder of the archive.
        places = sorted(
            (n for n in archive.namelist() if n.rsplit("/", 1)[-1] == "meta.json"), key=len
        )
        if not places:
            hint = (
                " (streamed levels of detail: not read)"
                if "lod-meta.json" in archive.namelist()
                else ""
            )
            raise UserError(f"{path}: a ZIP without meta.json, so no SOG file{hint}")
        self.folder = places[0][: -len("meta.json")]
        self.meta: dict[str, Any] = json_text.parse(self._member("meta.json", MAX_META))
        self.version = self.meta.get("version", 1)
        if self.version not in (1, 2):
            raise UserError(f"{path}: SOG version {self.version}; versions 1 and 2 are read")
        shape = self.meta["means"]["shape"] if self.version == 1 else [self.meta["count"]]
        self.count = int(shape[0])
        if not 0 < self.count <= min(MAX_SPLATS, room_for(size) // BYTES_PER_SPLAT):
            raise UserError(f"{path}: {self.count} splats are not what a file of its size can hold")

    def splats(self) -> Splats:
        sizes, _ = self._values("scales")
        color, opacity = self._values("sh0")
        return Splats(
            means=self._means(),
            log_scales=sizes,
            quats_wxyz=self._quats(),
            logit_opacities=opacity,
            sh=np.concatenate([color[:, None], self._harmonics()], axis=1),
            frame="inria",
            antialiased=self.meta.get("model") == "antialiased",
        )

    def _member(self, name: str, limit: int) -> bytes:
        with self.archive.open(self.folder + name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise UserError(
                f"{self.path}: {name} unpacks to more than {limit >> 10} KB; the file is damaged"
            )
        return data

    def _picture(self, name: str, *, least: int, most: int) -> np.ndarray:
        """Bytes [H,W,4] of so many pixels; their number is known before they are decoded."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            data = self._member(str(name), 4 * most + MAX_EXTRA)
            image = Image.open(io.BytesIO(data), formats=["WEBP", "PNG"])
            pixels = image.width * image.height
            if not least <= pixels <= most:
                raise UserError(
                    f"{self.path}: {name} has {pixels} pixels for {least} entries; the file is"
                    " damaged"
                )
            return np.asarray(image.convert("RGBA"))

    def _pixels(self, name: str) -> np.ndarray:
        """One pixel a splat [N,4]; pictures may be padded to a power of two each way."""
        picture = self._picture(name, least=self.count, most=4 * self.count + MAX_EXTRA)
        return picture.reshape(-1, 4)[: self.count]

    def _means(self) -> np.ndarray:
        part = self.meta["means"]
        low, high = (self._pixels(name)[:, :3].astype(np.uint32) for name in part["files"][:2])
        least, most = (np.array(part[end], dtype=np.float64).reshape(3) for end in ("mins", "maxs"))
        logs = least + (most - least) * ((high << 8) | low) / 65535
        with np.errstate(over="ignore"):  # absurd bounds become infinite, which is counted later
            return np.sign(logs) * np.expm1(np.abs(logs))

    def _quats(self) -> np.ndarray:
        pixels = self._pixels(self.meta["quats"]["files"][0])
        others = (pixels[:, :3] / 255.0 - 0.5) * np.sqrt(2)
        wxyz = with_largest(others, np.clip(pixels[:, 3].astype(int) - 252, 0, 3))
        wxyz[pixels[:, 3] < 252] = [1, 0, 0, 0]  # as its own readers have it
        return wxyz

    def _values(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Three numbers per splat [N,3], and the logit in the fourth channel [N], which only `sh0`
        means so."""
        part = self.meta[name]
        pixels = self._pixels(part["files"][0])
        if self.version == 2:
            book = np.array(part["codebook"], dtype=np.float64)
            return book[pixels[:, :3]], logit(pixels[:, 3] / 255, margin=1 / 1024)
        least, most = (
            np.resize(np.array(part[end], dtype=np.float64).reshape(-1), 4)
            for end in ("mins", "maxs")
        )
        values = least + (most - least) * pixels / 255
        return values[:, :3], values[:, 3]

    def _harmonics(self) -> np.ndarray:
        part = self.meta.get("shN")
        if not part:
            return np.zeros((self.count, 0, 3))
        centroids, labels = part["files"][:2]
        label = self._pixels(labels).astype(np.uint32)
        index = label[:, 0] | (label[:, 1] << 8)
        entries = int(index.max()) + 1
        picture = self._picture(centroids, least=entries * 3, most=MAX_PALETTE * 15)
        coefficients, remainder = divmod(picture.shape[1], PER_ROW)
        if remainder or coefficients + 1 not in BASES[1:] or len(picture) * PER_ROW < entries:
            raise UserError(
                f"{self.path}: a palette of {picture.shape[1]} x {len(picture)} pixels; it is"
                " damaged"
            )
        rows = picture.reshape(-1, coefficients, 4)[:, :, :3]
        if self.version == 2:
            values = np.array(part["codebook"], dtype=np.float32)[rows]
        else:
            least, most = float(part["mins"]), float(part["maxs"])
            values = least + (most - least) * rows.astype(np.float32) / 255
        return values[index]
