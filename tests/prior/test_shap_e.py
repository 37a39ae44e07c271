"""The shape of a sentence, with a small random pipeline of the right classes."""

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.prior import shap_e


def imagine(folder, text="a cat", seed=0):
    return shap_e.imagine(
        text,
        model=str(folder),
        steps=1,
        guidance=3.0,
        generator=torch.Generator().manual_seed(seed),
        device="cpu",
        offline=True,
        grid_size=12,
    )


def test_a_shape_has_faces_between_its_vertices_and_displayable_colours(tiny_shap_e):
    shape = imagine(tiny_shap_e)
    assert shape.faces.max() < len(shape.vertices) == len(shape.rgb)
    # The field is positive up to the border: every vertex lies on the cube, which fills the grid.
    torch.testing.assert_close(
        shape.vertices.abs().amax(dim=1), torch.ones(len(shape.vertices)), atol=0.2, rtol=0
    )
    assert shape.vertices.amin() < -0.9
    assert shape.rgb.min() >= 0
    assert shape.rgb.max() <= 1


def test_the_seed_decides(tiny_shap_e):
    first, again, other = (imagine(tiny_shap_e, seed=seed).rgb for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert not torch.equal(first, other)


def test_colours_are_as_displayed(tiny_shap_e, monkeypatch):
    """The network speaks sRGB; diffusers turns that into light on the way out."""
    from diffusers.pipelines.shap_e import renderer

    shown = imagine(tiny_shap_e).rgb
    monkeypatch.setattr(renderer, "_convert_srgb_to_linear", lambda colours: colours)
    monkeypatch.setattr(shap_e, "srgb_from_linear", lambda colours: colours)
    torch.testing.assert_close(shown, imagine(tiny_shap_e).rgb, atol=1e-4, rtol=0)


def test_no_text_no_model_no_surface(tiny_shap_e, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"initialize\.text is empty"):
        imagine(tiny_shap_e, text=" ")
    with pytest.raises(UserError, match=r"hf download openai/shap-e.*initialize\.shape=sphere"):
        imagine(tmp_path / "nothing")
    monkeypatch.setattr(shap_e, "_load", lambda model, offline: _emptied(_load(model, offline)))
    with pytest.raises(UserError, match="no surface for 'a cat'"):
        imagine(tiny_shap_e)


_load = shap_e._load


def _emptied(pipe):
    with torch.no_grad():
        pipe.shap_e_renderer.mlp.mlp[-1].bias[0] = -1.0
    return pipe
