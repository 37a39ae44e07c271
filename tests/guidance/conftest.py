"""A small exact prior whose prompts tell front, side and back apart, and which records what it is
asked."""

import pytest
import torch

from gs_ssd.prior.analytic import AnalyticPrior

NAMES = ["mushroom", "front", "side", "back", "blurry"]


class RecordingPrior(AnalyticPrior):
    """Counts calls and images, and keeps the last call's arguments; can scale or spoil its
    answers."""

    calls = images = 0
    scale = 1.0

    def predict_noise(self, x_t, t, condition):
        self.calls, self.images = self.calls + 1, self.images + len(x_t)
        self.last = (x_t, t, condition)
        return self.scale * super().predict_noise(x_t, t, condition)


@pytest.fixture
def prior() -> RecordingPrior:
    generator = torch.Generator().manual_seed(5)
    means = torch.randn(len(NAMES), 3, 4, 4, generator=generator, dtype=torch.float64)
    return RecordingPrior(means, torch.linspace(0.1, 0.5, len(NAMES), dtype=torch.float64), NAMES)


@pytest.fixture
def rgb() -> torch.Tensor:
    return (
        torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(9))
        .double()
        .requires_grad_()
    )
