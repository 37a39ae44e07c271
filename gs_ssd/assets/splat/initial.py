"""The first Gaussians of a run, whatever they are made of: a shape, a file, a sentence, an earlier
splat."""

import dataclasses
import logging
import math
from pathlib import Path

import torch

from gs_ssd.errors import UserError
from gs_ssd.export.splats import to_gaussians
from gs_ssd.prior.base import ImaginesShapes
from gs_ssd.scene import initialize, initialize_files
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.initialize import InitializeConfig

log = logging.getLogger(__name__)


def first_gaussians(
    start: InitializeConfig,
    prompt: str,
    generator: torch.Generator,
    device: torch.device,
    *,
    offline: bool = False,
    imaginer: ImaginesShapes | None = None,
) -> Gaussians:
    """Gaussians on the CPU, drawn from `generator` (which must live there too); `device` is where
    Shap-E may run.

    Args:
        imaginer: asked for the shape of a sentence before Shap-E is.

    Raises:
        UserError: see `initialize.create`, `prior.shap_e.imagine` and `export.formats.read_splats`.
    """
    if start.shape == "text":
        text = prompt if start.text is None else start.text
        if imaginer is not None and start.text_model is None:
            return _from_imaginer(start, text, generator, imaginer)
        return _from_shap_e(start, text, generator, device, offline=offline)
    if start.shape == "splat":
        return _from_splat(start)
    return initialize.create(start, generator)


def _from_imaginer(
    start: InitializeConfig, text: str, generator: torch.Generator, imaginer: ImaginesShapes
) -> Gaussians:
    """Points on the surface that the prior itself has in mind: of its own size, upright, facing
    +y."""
    points, rgb = imaginer.imagine(text, start.num_points, generator)
    if len(points) == 0:
        raise UserError(
            f"the prior has no shape in mind for {text!r}; name a kind of object, or"
            " initialize.shape=ball"
        )
    return initialize.from_points(points, rgb if start.keep_colors else None, start)


def _from_shap_e(
    start: InitializeConfig,
    text: str,
    generator: torch.Generator,
    device: torch.device,
    *,
    offline: bool,
) -> Gaussians:
    """Points on the surface that Shap-E imagines for the text."""
    from gs_ssd.prior import shap_e

    shape = shap_e.imagine(
        text,
        model=start.text_model or shap_e.MODEL,
        steps=start.text_steps,
        guidance=start.text_guidance,
        generator=generator,
        device=device,
        offline=offline,
        grid_size=start.text_grid,
    )
    corners = initialize_files.to_world(shape.vertices, "blender")
    mesh = initialize_files.Mesh(corners, shape.faces, shape.rgb[shape.faces])
    return initialize.from_cloud(
        *initialize_files.sample_surface(mesh, start.num_points, generator), start, generator
    )


def _from_splat(start: InitializeConfig) -> Gaussians:
    """An earlier splat, upright, as it is or (`rescale`) with its body centred and as large as
    `radius`."""
    from gs_ssd.export import clean, formats

    asset = formats.read_splats(Path(start.file or "")).to_frame("world")
    good = clean.finite(asset)
    if not good.all():
        log.warning(
            "%s: %d splats are not finite and were left out", start.file, int((~good).sum())
        )
        asset = asset.take(good)
    if len(asset) == 0:
        raise UserError(
            f"initialize.file: {start.file} holds no splats that could start a training"
        )
    if start.rescale:
        center, reach = clean.framing(asset)
        factor = start.radius / reach
        asset = dataclasses.replace(
            asset,
            means=(asset.means - center) * factor,
            log_scales=asset.log_scales + math.log(factor),
        )
    return to_gaussians(asset)
