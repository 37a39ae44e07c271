"""What half precision costs where SSD looks: h is a small difference of two predictions, so it
feels every rounding."""

import pytest
import torch

from gs_ssd.maths.diffusion import add_noise
from gs_ssd.prior import BUNDLED, PriorConfig, load
from gs_ssd.prior.condition import Condition

pytest.importorskip("diffusers")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BUNDLED / "model_index.json").is_file(),
        reason="the bundled prior is not in this checkout",
    ),
]


def disengaging(dtype, t):
    """(h, eps_pos) of four noised smooth pictures."""
    prior = load(PriorConfig(dtype=dtype), "cpu")
    generator = torch.Generator().manual_seed(t)
    coarse = torch.rand(4, 3, 8, 8, generator=generator)
    latents = prior.encode(
        torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 1)
    )
    times = torch.full((4,), t)
    x_t = add_noise(
        latents, torch.randn(latents.shape, generator=generator), prior.alphas_cumprod[times]
    )
    eps_pos, eps_null = (
        prior.predict_noise(x_t, times, Condition(text.expand(4, -1, -1)))
        for text in prior.embed(["a red mug", ""])
    )
    return eps_pos - eps_null, eps_pos


@pytest.mark.parametrize(
    ("t", "float16", "bfloat16"), [(100, 0.02, 0.12), (500, 0.02, 0.12), (900, 0.05, 0.3)]
)
def test_h_survives_float16_better_than_bfloat16(t, float16, bfloat16):
    exact, whole = disengaging("float32", t)
    assert exact.norm() < 0.3 * whole.norm()
    errors = {
        name: ((disengaging(name, t)[0] - exact).norm() / exact.norm()).item()
        for name in ("float16", "bfloat16")
    }
    print(
        f"t = {t}: ||h|| / ||eps|| = {(exact.norm() / whole.norm()).item():.3f}, errors of h:"
        f" {errors}"
    )
    assert errors["float16"] < float16
    assert 3 * errors["float16"] < errors["bfloat16"] < bfloat16
