"""The container: shapes are held, turning it turns what one sees."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gs_ssd.export.frames import rotations_from_quaternions, sh_basis
from gs_ssd.export.splats import from_gaussians, logit, sigmoid


def covariances(splats):
    half = rotations_from_quaternions(splats.quats_wxyz) * splats.scales[:, None, :]
    return half @ half.transpose(0, 2, 1)


def test_wrong_shapes_are_named(make_splats):
    splats = make_splats(4)
    with pytest.raises(ValueError, match="log_scales"):
        type(splats)(
            splats.means,
            splats.log_scales[:3],
            splats.quats_wxyz,
            splats.logit_opacities,
            splats.sh,
            "world",
        )
    with pytest.raises(ValueError, match="5 bases"):
        type(splats)(
            splats.means,
            splats.log_scales,
            splats.quats_wxyz,
            splats.logit_opacities,
            np.zeros((4, 5, 3)),
            "world",
        )


@pytest.mark.parametrize("frame", ["gltf", "inria", "blender"])
def test_frame_change_keeps_what_one_sees(make_splats, frame):
    splats = make_splats(20, degree=3, frame="world")
    there = splats.to_frame(frame)
    rotation = np.linalg.lstsq(splats.means, there.means, rcond=None)[0].T
    assert covariances(there) == pytest.approx(
        rotation @ covariances(splats) @ rotation.T, abs=1e-6
    )
    eye = np.array([0.3, 3.0, 1.0])

    def seen(s, camera):
        away = s.means - camera
        basis = sh_basis(away / np.linalg.norm(away, axis=1, keepdims=True), 3)
        return np.einsum("nk,nkc->nc", basis, s.sh)

    assert seen(there, rotation @ eye) == pytest.approx(seen(splats, eye), abs=1e-5)
    assert there.to_frame("world").means == pytest.approx(splats.means, abs=1e-6)


def test_degree_is_cut_and_padded(make_splats):
    splats = make_splats(5, degree=2)
    assert splats.with_sh_degree(3).with_sh_degree(2).sh == pytest.approx(splats.sh)
    assert not splats.with_sh_degree(3).sh[:, 9:].any()
    assert splats.with_sh_degree(0).sh.shape == (5, 1, 3)


def test_unit_quaternions_survive_zeros(make_splats):
    splats = make_splats(3)
    splats.quats_wxyz[1] = 0
    assert splats.unit_quats_wxyz[1] == pytest.approx([1, 0, 0, 0])
    assert np.linalg.norm(splats.unit_quats_wxyz, axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_sigmoid_and_logit_are_inverse_and_finite():
    x = np.array([-12.0, -1, 0, 3, 12])
    assert logit(sigmoid(x)) == pytest.approx(x, abs=1e-6)
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert sigmoid(np.array([-1e4, 1e4])) == pytest.approx([0, 1])


def test_from_gaussians_copies_raw_parameters_in_the_world_frame(make_splats):
    wanted = make_splats(6, degree=1, frame="world")
    tensors = {name: torch.from_numpy(getattr(wanted, name)).requires_grad_() for name in
               ("means", "log_scales", "quats_wxyz", "logit_opacities")}  # fmt: skip
    scene = SimpleNamespace(
        **tensors,
        sh_dc=torch.from_numpy(wanted.sh[:, :1]),
        sh_rest=torch.from_numpy(wanted.sh[:, 1:]),
    )
    splats = from_gaussians(scene)
    assert splats.frame == "world"
    for name in (*tensors, "sh"):
        assert np.array_equal(getattr(splats, name), getattr(wanted, name))
