"""Saved tensors that no asset can take over are named before one does."""

import pytest
import torch

from gs_ssd.assets.saved_tensors import misfit_of

ROWS = {"means": (3,), "sh_rest": (None, 3)}


def asset():
    """Two Gaussians, say."""
    parameters = {"means": torch.randn(2, 3), "sh_rest": torch.zeros(2, 0, 3)}
    adam = {
        name: {
            "step": torch.tensor(4.0),
            "exp_avg": torch.zeros_like(x),
            "exp_avg_sq": torch.ones_like(x),
        }
        for name, x in parameters.items()
    }
    return {"parameters": parameters, "adam": adam, "statistics": {"sightings": torch.zeros(2)}}


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (["parameters", "means"], KeyError, "instead of means, sh_rest"),
        (["parameters", "means"], torch.zeros(2, 4), "means is of shape (2, 4)"),
        (["parameters", "sh_rest"], torch.zeros(3, 0, 3), "sh_rest is of shape (3, 0, 3)"),
        (["parameters", "means"], torch.zeros(2), "means is no tensor of 2 dimensions"),
        (["parameters", "means"], torch.zeros(2, 3, dtype=torch.int64), "single precision"),
        (["parameters", "means"], [1.0], "means is no tensor"),
        (["adam", "means", "exp_avg"], torch.zeros(3, 3), "moments of means"),
        (["adam", "means", "exp_avg_sq"], KeyError, "entry for means"),
        (["adam", "shape"], {}, "entry for shape"),
        (["statistics"], None, "lacks parameters"),
        (["statistics", "sightings"], torch.zeros(3), "statistics sightings"),
    ],
)
def test_tensors_that_do_not_fit_together_are_named(path, value, word, changed):
    assert misfit_of(**asset(), rows=ROWS) is None
    assert word in misfit_of(**changed(asset(), path, value), rows=ROWS)


def test_no_rows_are_no_asset():
    empty = {"means": torch.zeros(0, 3), "sh_rest": torch.zeros(0, 0, 3)}
    assert misfit_of(empty, {}, {}, ROWS) == "it holds no rows"
