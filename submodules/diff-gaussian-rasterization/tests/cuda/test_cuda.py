"""The CUDA backend on a real GPU, against the float64 reference."""

import pytest
import torch
from checks import ALL_CHECKS
from device_checks import DEVICE_CHECKS

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(
    "check", ALL_CHECKS + DEVICE_CHECKS, ids=lambda check: check.__name__.removeprefix("check_")
)
def test_check(check):
    if left_out := check("cuda"):
        pytest.skip(left_out)
