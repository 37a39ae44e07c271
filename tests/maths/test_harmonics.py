"""Spherical harmonics: orthonormal, signed as in 3DGS, and colours of degree 0."""

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from gs_ssd.maths import harmonics


def directions(count: int) -> torch.Tensor:
    points = torch.randn(count, 3, dtype=torch.float64)
    return points / points.norm(dim=-1, keepdim=True)


def test_bases_are_scipys_real_harmonics_with_the_condon_shortley_phase():
    d = directions(40)
    x, y, z = d.numpy().T
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    ours = harmonics.basis(d, 3).numpy()
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), polar, azimuth)
            expected = (
                value.real if order == 0 else np.sqrt(2) * (value.imag if order < 0 else value.real)
            )
            np.testing.assert_allclose(ours[:, degree * (degree + 1) + order], expected, atol=1e-12)


def test_colours_are_half_grey_plus_the_bases_and_never_negative():
    sh = torch.zeros(2, 4, 3)
    sh[0, 0] = harmonics.rgb_to_dc(torch.tensor([0.2, 0.5, 0.9]))
    sh[1, 2] = -10.0  # along z
    up = torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3)
    colors = harmonics.evaluate(sh, up)
    torch.testing.assert_close(colors[0], torch.tensor([0.2, 0.5, 0.9]))
    assert (colors[1] == 0).all()
    torch.testing.assert_close(harmonics.dc_to_rgb(sh[0, 0]), torch.tensor([0.2, 0.5, 0.9]))


@pytest.mark.parametrize("bad", [-1, 4])
def test_degrees_beyond_three_are_refused(bad):
    with pytest.raises(ValueError, match=r"0\.\.3"):
        harmonics.basis(torch.zeros(1, 3), bad)
