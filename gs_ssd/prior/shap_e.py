"""The shape of a sentence, by Shap-E (Jun and Nichol 2023, arXiv 2305.02463) through diffusers.

Beside `stable_diffusion.py` the only file that imports diffusers; it does so when it is called.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.maths.color import srgb_from_linear
from gs_ssd.prior.hub import from_hub

MODEL = "openai/shap-e"


class Shape(NamedTuple):
    """A mesh on the CPU in Shap-E's axes (z up, front -y), within -1..1, and its colours as
    displayed, in 0..1."""

    vertices: Float[Tensor, "n 3"]
    faces: Int[Tensor, "m 3"]
    rgb: Float[Tensor, "n 3"]


@torch.no_grad()
def imagine(
    text: str,
    *,
    model: str,
    steps: int,
    guidance: float,
    generator: torch.Generator,
    device: torch.device | str,
    offline: bool = False,
    grid_size: int = 128,
) -> Shape:
    """Draw one shape; the model is loaded for it and freed again.

    `grid_size`: cells a side of marching cubes.

    Raises:
        UserError: an empty text, no such model (with how to get it), or a shape without a surface.
    """
    if not text.strip():
        raise UserError(
            "initialize.text is empty; name the shape in a word or two, e.g. initialize.text='a"
            " cat'"
        )
    pipe = _load(model, offline).to(device)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe(
        text.strip(),
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=generator,
        output_type="latent",
    )
    mesh = _surface(pipe.shap_e_renderer, drawn.images[:1], torch.device(device), grid_size)
    if mesh is None:
        raise UserError(
            f"Shap-E found no surface for {text!r}; try another seed, or plainer words in"
            " initialize.text"
        )
    # diffusers hands out amounts of light, for renderers; a splat's colours are as displayed.
    light = torch.stack([mesh.vertex_channels[channel] for channel in "RGB"], dim=-1).float().cpu()
    return Shape(mesh.verts.float().cpu(), mesh.faces.long().cpu(), srgb_from_linear(light))


def _surface(renderer: Any, latents: Tensor, device: torch.device, grid_size: int) -> Any:
    """The mesh of the latents' signed distance field; `None` where it has no finite surface."""
    try:
        mesh = renderer.decode_to_mesh(latents, device, grid_size=grid_size)
    except ValueError:  # diffusers stumbles over a mesh without vertices
        return None
    return mesh if len(mesh.faces) and bool(mesh.verts.isfinite().all()) else None


def _load(model: str, offline: bool) -> Any:
    try:
        from diffusers import ShapEPipeline
    except ImportError as error:
        raise UserError(
            f"initialize.shape=text needs diffusers and transformers ({error}); install them"
        ) from error
    try:
        kind: Any = ShapEPipeline
        return from_hub(
            lambda local: kind.from_pretrained(model, local_files_only=local),
            model,
            offline=offline,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"initialize.text_model={model} cannot be loaded ({reason}).\nWith a network: hf"
            " download openai/shap-e. Or give a folder with a ShapEPipeline, or start without it:"
            " initialize.shape=sphere."
        ) from error
