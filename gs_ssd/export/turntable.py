"""Turntables: frames in, an H.264 `.mp4` or an animated `.webp` / `.gif` out, as a stream."""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, temporary_folder

Frames = Iterable[NDArray[np.uint8]]


def write_mp4(path: str | os.PathLike[str], frames: Frames, *, fps: int = 30, crf: int = 18) -> int:
    """Encode `frames` (uint8 [H,W,3] sRGB, all of one size) as H.264 in yuv420p, which every
    browser plays.

    That pixel format halves the colour planes, so odd sizes are padded by repeating the last row or
    column. `crf` is x264's constant quality, smaller is better.

    Returns:
        The number of frames written.

    Raises:
        UserError: no frame, frames of different sizes, or an encoder that fails.
    """
    first, frames = _peek(frames)
    height, width = first.shape[0] + first.shape[0] % 2, first.shape[1] + first.shape[1] % 2
    count = 0
    with atomic_path(path) as temporary, temporary_folder(temporary.parent) as folder:
        # In a folder of its own, which goes first: an encoder that outlives a signal for a moment
        # cannot bring its file back.
        video = folder / temporary.name
        encoder = imageio_ffmpeg.write_frames(
            str(video),
            (width, height),
            fps=fps,
            codec="libx264",
            quality=None,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=["-crf", str(crf), "-preset", "slow", "-movflags", "+faststart"],
        )
        try:
            with contextlib.closing(encoder):  # waits for ffmpeg
                encoder.send(None)
                for frame in _same_size(frames, first.shape):
                    count += 1
                    padding = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
                    encoder.send(np.ascontiguousarray(np.pad(frame, padding, mode="edge")))
        except (OSError, RuntimeError) as error:
            raise UserError(f"cannot write {path}: the video encoder failed ({error})") from error
        if not video.is_file() or video.stat().st_size == 0:
            raise UserError(
                f"cannot write {path}: the video encoder wrote nothing; is the disk full?"
            )
        os.replace(video, temporary)
    return count


def write_animation(
    path: str | os.PathLike[str], frames: Frames, *, fps: int = 20, quality: int = 85
) -> int:
    """Write an endless animated `.webp` (or `.gif`, by suffix) through Pillow; frames as in
    `write_mp4`.

    Returns:
        The number of frames written.

    Raises:
        UserError: no frame, or frames of different sizes.
    """
    first, frames = _peek(frames)
    count = 0

    def pictures() -> Iterator[Image.Image]:
        nonlocal count
        for frame in _same_size(frames, first.shape):
            count += 1
            yield Image.fromarray(frame)

    stream = pictures()
    with atomic_path(path) as temporary:
        options = {"duration": round(1000 / fps), "loop": 0, "quality": quality, "method": 4}
        next(stream).save(temporary, save_all=True, append_images=stream, **options)
    return count


def _peek(frames: Frames) -> tuple[NDArray[np.uint8], Frames]:
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise UserError("a turntable needs at least one frame")
    return first, itertools.chain([first], iterator)


def _same_size(frames: Frames, shape: tuple[int, ...]) -> Frames:
    for frame in frames:
        if frame.shape != shape or frame.dtype != np.uint8 or frame.shape[-1] != 3:
            raise UserError(
                f"a frame of {frame.shape} {frame.dtype} in a turntable of {shape} uint8"
            )
        yield frame
