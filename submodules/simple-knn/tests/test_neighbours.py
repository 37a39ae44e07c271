"""mean_squared_distance against a brute-force search, and what it does at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import simple_knn
from simple_knn import mean_squared_distance
from simple_knn._C import distCUDA2


def brute_force(points: np.ndarray, k: int) -> np.ndarray:
    """All distances in float32, the smallest k sorted and added in that order: the promised
    bits."""
    squares = np.square(points[:, None] - points[None], dtype=np.float32)
    distances = squares[..., 0] + squares[..., 1] + squares[..., 2]
    np.fill_diagonal(distances, np.inf)
    k = min(k, len(points) - 1)
    nearest = np.sort(distances, axis=1)[:, :k]
    total = np.zeros(len(points), np.float32)
    for column in nearest.T:
        total += column
    return total / np.float32(max(k, 1))


def cloud(seed: int, n: int, shape: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 3))
    if shape == "grid":  # ties everywhere
        points = rng.integers(0, 4, size=(n, 3))
    elif shape == "duplicates":
        points = points[rng.integers(0, max(1, n // 5), size=n)]
    elif shape == "line":
        points = points[:, :1] * np.array([[1.0, 0.0, 0.0]])
    elif shape == "scales":  # clusters and outliers over twelve orders of magnitude
        points = points * 10.0 ** rng.integers(-6, 7, size=(n, 1))
    return points.astype(np.float32)


SHAPES = ("normal", "grid", "duplicates", "line", "scales")


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 400),
    k=st.one_of(st.just(3), st.integers(1, 64)),
    shape=st.sampled_from(SHAPES),
)
def test_equals_brute_force_bit_for_bit(seed: int, n: int, k: int, shape: str) -> None:
    points = cloud(seed, n, shape)
    result = mean_squared_distance(torch.from_numpy(points), k).numpy()
    np.testing.assert_array_equal(result, brute_force(points, k))


def test_many_points_agree_with_float64() -> None:
    scipy_spatial = pytest.importorskip("scipy.spatial")
    points = cloud(1, 30_000, "normal")
    distances, _ = scipy_spatial.cKDTree(points.astype(np.float64)).query(points, k=4)
    expected = (distances[:, 1:] ** 2).mean(axis=1)
    np.testing.assert_allclose(
        mean_squared_distance(torch.from_numpy(points)).numpy(), expected, rtol=1e-5
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_same_bits_for_any_number_of_threads(shape: str) -> None:
    points = torch.from_numpy(cloud(2, 40_000, shape))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            results.append(mean_squared_distance(points))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert torch.equal(result, results[0])


@pytest.mark.parametrize("n", [8, 9, 50_000])
def test_all_points_in_one_place(n: int) -> None:
    assert torch.equal(mean_squared_distance(torch.full((n, 3), 0.25)), torch.zeros(n))


def test_fewer_than_four_points() -> None:
    assert mean_squared_distance(torch.empty(0, 3)).shape == (0,)
    assert mean_squared_distance(torch.ones(1, 3)).tolist() == [0.0]
    assert mean_squared_distance(torch.tensor([[0.0, 0, 0], [0, 2, 0]])).tolist() == [4.0, 4.0]
    assert mean_squared_distance(torch.tensor([[0.0, 0, 0], [0, 2, 0], [0, 0, 1]])).tolist() == [
        2.5,
        4.5,
        3.0,
    ]


def test_a_duplicate_is_a_neighbour_at_distance_zero() -> None:
    points = torch.tensor([[0.0, 0, 0], [0, 0, 0], [3, 0, 0], [0, 3, 0]])
    assert mean_squared_distance(points, k=1).tolist() == [0.0, 0.0, 9.0, 9.0]


def test_old_name_and_layouts() -> None:
    points = torch.randn(3, 500, generator=torch.Generator().manual_seed(0)).T  # not contiguous
    result = distCUDA2(points)
    assert torch.equal(result, mean_squared_distance(points.contiguous(), k=3))
    assert (result.dtype, result.shape, result.requires_grad) == (torch.float32, (500,), False)
    assert not distCUDA2(points.clone().requires_grad_()).requires_grad
    assert simple_knn.__all__ == ["mean_squared_distance"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_tensor_comes_back_on_its_device() -> None:
    points = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    result = distCUDA2(points.cuda())
    assert result.is_cuda
    assert torch.equal(result.cpu(), distCUDA2(points))


@pytest.mark.parametrize(
    ("points", "k", "error", "message"),
    [
        (np.zeros((4, 3), np.float32), 3, TypeError, "points: a torch.Tensor"),
        (torch.zeros(4, 3, dtype=torch.float64), 3, TypeError, "points: float32"),
        (torch.zeros(4, 2), 3, ValueError, r"points: shape \[N,3\] is needed, got \[4, 2\]"),
        (torch.zeros(12), 3, ValueError, "points: shape"),
        (torch.zeros(4, 3), 0, ValueError, "k: 1 to 64"),
        (torch.zeros(4, 3), 65, ValueError, "k: 1 to 64"),
        (torch.zeros(4, 3), 3.0, TypeError, "k: an int"),
        (
            torch.tensor([[0.0, 0, 0], [0, float("nan"), 0]]),
            3,
            ValueError,
            "points: NaN or infinity in 1 rows.*row 1",
        ),
        (torch.full((2, 3), float("inf")), 3, ValueError, "points: NaN or infinity in 2 rows"),
    ],
)
def test_bad_arguments_are_named(
    points: object, k: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mean_squared_distance(points, k)
