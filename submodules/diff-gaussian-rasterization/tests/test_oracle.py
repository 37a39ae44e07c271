"""The CPU backend and the reference against gsplat's torch code in float64, which knows nothing of
either."""

from dataclasses import replace

import pytest
import torch
from scenes import (
    SPLAT_NAMES,
    Scene,
    image_gradients,
    random_scene,
    relative,
    render_with_gradients,
)

pytest.importorskip("gsplat", reason="the oracle needs gsplat==1.5.3 (pip install gsplat==1.5.3)")

from gsplat_oracle import render_view

TOLERANCE = 1e-5
TIE = 1e-5  # relative difference of two depths that counts as a tie
DOUBTFUL = 1e-3  # share of the pixels that may lie near a threshold or a tie
SCENES = {
    "colours": {"count": 300, "width": 64, "height": 56},
    "harmonics": {"count": 200, "width": 50, "height": 40, "views": 2, "sh_degree": 3},
    "small": {"count": 800, "width": 56, "height": 56, "scales": (0.005, 0.03)},
    "saturated": {
        "count": 400,
        "width": 40,
        "height": 40,
        "scales": (0.1, 0.3),
        "opacities": (0.6, 0.95),
    },
    "inside": {"count": 400, "spread": 1.5, "distance": 0.5, "scales": (0.02, 0.1)},
}


def without_ties(scene: Scene) -> Scene:
    """The scene less the farther one of every two splats whose depths tie in some view."""
    depths = scene.means @ scene.w2c[:, 2, :3].T + scene.w2c[:, 2, 3]
    order = torch.argsort(depths, dim=0)
    sorted_depths = depths.gather(0, order)
    close = sorted_depths[1:] - sorted_depths[:-1] < TIE * sorted_depths[1:].abs()
    keep = torch.ones(len(depths), dtype=torch.bool)
    keep[order[1:][close]] = False
    return replace(
        scene,
        **{
            name: value[keep]
            for name, value in vars(scene).items()
            if name in SPLAT_NAMES[:-1] and value is not None
        },
    )


def agree(scene: Scene, seed: int, tie: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Compares images and gradients with the oracle's; returns the pixels [V,1,H,W] left out, and
    those among them that only a tie leaves out: these differ by one flip at most."""
    views = scene.w2c.shape[0]
    leaves = {
        name: value.clone().requires_grad_()
        for name, value in scene.tensors().items()
        if name in SPLAT_NAMES
    }
    leaves["screen_means"] = torch.zeros(
        views, scene.means.shape[0], 2, dtype=torch.float64, requires_grad=True
    )
    oracle = [render_view(scene, leaves, view, tie) for view in range(views)]
    doubtful, flip, tied = (
        torch.stack([getattr(part, name) for part in oracle])[:, None]
        for name in ("doubtful", "flip", "tied")
    )
    want = [torch.stack([part.rgb for part in oracle])]
    want += [
        torch.stack([getattr(part, name) for part in oracle])[:, None]
        for name in ("alpha", "depth")
    ]

    # The gradients of the pixels where float32 may decide otherwise are left out on both sides.
    image_grads = tuple(grad * ~doubtful for grad in image_gradients(scene, seed))
    torch.autograd.backward(want, image_grads)
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        have, grads = render_with_gradients(scene, backend, dtype, image_grads)
        for name, image in zip(("rgb", "alpha", "depth"), want, strict=True):
            allowed = TOLERANCE * (float(image.detach().abs().max()) if name == "depth" else 1)
            error = (getattr(have, name).double() - image).abs()
            assert (error[~doubtful.expand_as(error)] <= allowed).all(), (backend, name)
            assert (error <= allowed + flip).all(), (backend, name)
        for name, leaf in leaves.items():
            assert relative(grads[name], leaf.grad) <= TOLERANCE, (backend, name)
    return doubtful, tied


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", SCENES)
def test_gsplat(kind, seed):
    """Two splats that tie make every pixel doubtful that both of them cover, up to a fifth of a
    small image: the share can hold only where there are no ties, so these scenes have none."""
    doubtful, tied = agree(without_ties(random_scene(1000 + seed, **SCENES[kind])), seed, TIE)
    assert doubtful.double().mean() <= DOUBTFUL
    assert not tied.any()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["colours", "saturated"])
def test_gsplat_with_ties(kind, seed):
    """The scenes as they fall.

    A tenth of the margin is what float32 depths need (a few units in the last place)."""
    doubtful, tied = agree(random_scene(1000 + seed, **SCENES[kind]), seed, 0.1 * TIE)
    assert (doubtful & ~tied).double().mean() <= DOUBTFUL
