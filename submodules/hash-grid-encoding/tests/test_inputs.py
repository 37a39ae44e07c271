"""What is refused, and by what name."""

import pytest
import torch
from fields import GRID, some_samples, some_tables, some_weights
from hash_grid_encoding import Box, HashGrid, composite, encode, march, mlp, mlps

BOX = Box((-1.0,) * 3, (1.0,) * 3)
TABLES = some_tables(GRID, 0)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"levels": 0}, "levels"), ({"levels": 33}, "levels"),
        ({"log2_entries": 2}, "log2_entries"), ({"log2_entries": 31}, "log2_entries"),
        ({"base_resolution": 0}, "base_resolution"), ({"scale": 0.5}, "scale"),
        ({"scale": float("nan")}, "scale"), ({"scale": 4.0}, "cells a side"),
    ],
    ids=str,
)  # fmt: skip
def test_grids(arguments, word):
    with pytest.raises(ValueError, match=word):
        HashGrid(**arguments)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_points_that_are_not_finite(bad, backend):
    points = torch.rand(100, 3)
    points[71, 1] = bad
    with pytest.raises(ValueError, match="points contain NaN or infinity"):
        encode(points, TABLES, GRID, backend=backend)


def test_shapes_and_kinds():
    points = torch.rand(4, 3)
    w1, w2 = some_weights(16, 32, 1, 0)
    wide1, wide2 = some_weights(16, 160, 1, 0)
    for call, error, word in [
        (lambda: encode(torch.rand(4, 2), TABLES, GRID), ValueError, "points"),
        (lambda: encode(points, TABLES[1:], GRID), ValueError, "tables"),
        (lambda: encode(points, TABLES, GRID, 9), ValueError, "levels_on"),
        (lambda: encode(points.double(), TABLES, GRID), TypeError, "points, tables"),
        (lambda: encode(points, TABLES, GRID, backend="cuda"), ValueError, "backend"),
        (
            lambda: encode(points.double(), TABLES.double(), GRID, backend="native"),
            TypeError,
            "float32",
        ),
        (lambda: mlp(torch.rand(4, 15), w1, w2), ValueError, "inputs"),
        (lambda: mlp(torch.rand(4, 16), w1[:31], w2[:, :31]), ValueError, "multiple of 8"),
        (lambda: mlp(torch.rand(4, 16), w1, torch.rand(17, 32)), ValueError, "outputs"),
        (lambda: mlps(torch.rand(4, 16), []), ValueError, "at least one"),
        (lambda: mlps(torch.rand(4, 16), [(w1, w2)] * 9), ValueError, "9 heads"),
        (lambda: mlps(torch.rand(4, 16), [(wide1, wide2)] * 2), ValueError, "256"),
        (lambda: mlps(torch.rand(4, 16), [(w1, w2), (w1.double(), w2)]), TypeError, "w1\\[1\\]"),
        (
            lambda: composite(some_samples([2], 0), torch.rand(3), torch.rand(3, 3), 0.1),
            ValueError,
            "sigmas",
        ),
    ]:
        with pytest.raises(error, match=word):
            call()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"origins": torch.full((1, 3), float("nan"))}, "NaN"),
        ({"directions": torch.ones(2, 3)}, "directions"), ({"jitter": torch.ones(2)}, "jitter"),
        ({"occupied": torch.ones(2, 2, 3, dtype=torch.bool)}, "occupied"),
        ({"occupied": torch.ones(2, 2, 2)}, "occupied"), ({"step": 0.0}, "step"),
        ({"step": 1e-7}, "step"), ({"step": float("nan")}, "step"),
        ({"box": Box((0.0,) * 3, (1.0, 0.0, 1.0))}, "box"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_rays(change, word, backend):
    arguments = {
        "origins": torch.zeros(1, 3), "directions": torch.tensor([[0.0, 0.0, 1.0]]),
        "jitter": torch.tensor([0.5]), "occupied": torch.ones(2, 2, 2, dtype=torch.bool),
        "box": BOX, "step": 0.1,
    }  # fmt: skip
    assert len(march(**arguments, backend=backend).t) == 10
    with pytest.raises(ValueError, match=word):
        march(**(arguments | change), backend=backend)


def test_a_ray_without_direction_has_no_samples():
    occupied = torch.ones(1, 1, 1, dtype=torch.bool)
    for backend in ("native", "reference"):
        samples = march(
            torch.zeros(1, 3),
            torch.zeros(1, 3),
            occupied,
            BOX,
            0.1,
            torch.zeros(1),
            backend=backend,
        )
        assert len(samples.t) == 0
