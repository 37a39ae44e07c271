"""What a run starts from that needs rooms above the scene: an earlier splat, in any format and of
any size."""

import dataclasses

import numpy as np
import pytest
import torch

from gs_ssd import config as configs
from gs_ssd.assets.splat import initial
from gs_ssd.errors import UserError
from gs_ssd.export import formats
from gs_ssd.export.splats import Splats


def splats(count=50, scale=1.0, shift=0.0):
    """A nose at world +y, and colours of degree 1."""
    rng = np.random.default_rng(0)
    means = rng.uniform(-1, 1, size=(count, 3)) * [0.3, 0.3, 0.3]
    means[0] = [0, 0.5, 0]
    return Splats(
        means=means * scale + shift,
        log_scales=np.full((count, 3), np.log(0.02 * scale)),
        quats_wxyz=np.tile([1.0, 0, 0, 0], (count, 1)),
        logit_opacities=np.linspace(-2, 2, count),
        sh=rng.normal(size=(count, 4, 3)) * 0.2,
        frame="world",
    )


def first(path, **settings):
    config = configs.from_mapping(
        {"initialize": {"shape": "splat", "file": str(path), **settings}}, "test"
    )
    return initial.first_gaussians(
        config.initialize, config.prompt, torch.Generator(), torch.device("cpu")
    )


@pytest.mark.parametrize("ending", ["ply", "splat", "spz", "glb"])
def test_a_splat_of_any_format_stands_as_it_stood(tmp_path, ending):
    asset = splats()
    path = tmp_path / f"asset.{ending}"
    formats.write_splats(path, asset)
    made = first(path)
    assert len(made) == 50
    nose = made.means[:, 1].argmax()
    torch.testing.assert_close(made.means[nose], torch.tensor([0.0, 0.5, 0.0]), atol=2e-3, rtol=0)
    torch.testing.assert_close(made.scales.mean(), torch.tensor(0.02), atol=1e-3, rtol=0)
    if ending == "ply":
        np.testing.assert_allclose(made.sh.numpy(), asset.sh, atol=1e-6)


def test_a_splat_of_another_size_is_brought_to_ours_if_told(tmp_path):
    path = tmp_path / "huge.ply"
    formats.write_splats(path, splats(scale=100.0, shift=700.0))
    as_it_is, fitted = first(path), first(path, rescale=True, radius=0.5)
    assert as_it_is.means.norm(dim=-1).min() > 500
    # The body reaches 0.5; the nose is the percent of it that may stick out.
    assert fitted.means.norm(dim=-1).quantile(0.9).item() == pytest.approx(0.45, abs=0.1)
    ratio = fitted.scales.mean() / as_it_is.scales.mean()
    spans = [float((made.means[1] - made.means[2]).norm()) for made in (fitted, as_it_is)]
    assert ratio.item() == pytest.approx(spans[0] / spans[1], rel=1e-3)


def test_splats_that_are_not_finite_are_left_out_and_counted(tmp_path, caplog):
    asset = splats()
    broken = asset.means.copy()
    broken[3:5] = np.nan
    formats.write_splats(tmp_path / "a.ply", dataclasses.replace(asset, means=broken))
    assert len(first(tmp_path / "a.ply")) == 48
    assert "2 splats are not finite" in caplog.text
    formats.write_splats(
        tmp_path / "b.ply", dataclasses.replace(asset, means=np.full((50, 3), np.nan))
    )
    with pytest.raises(UserError, match=r"b\.ply holds no splats"):
        first(tmp_path / "b.ply")
