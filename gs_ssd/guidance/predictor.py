"""The prior's noise prediction for many prompts in one call, in batches that fit, and counted."""

import torch
from torch import Tensor
from torch.profiler import record_function

from gs_ssd.devices import to_device
from gs_ssd.guidance import trajectory
from gs_ssd.guidance.estimators import guided
from gs_ssd.prior.base import DiffusionPrior, rows_at_once, views_per_group
from gs_ssd.prior.condition import Condition


class Predictor:
    """The prior's noise prediction, at most `most` images at a time, with a count of what it
    cost.

    Roles follow one another, each with all of its views in order, so that a prior's groups of views
    are consecutive rows; they are never split."""

    def __init__(self, prior: DiffusionPrior, most: int | None) -> None:
        self.prior, self.most, self.images = prior, most, 0

    def __call__(self, x_t: Tensor, t: Tensor, index: list[int], condition: Condition) -> Tensor:
        """Predict for the views `index` (with repetitions), one row of `condition` each."""
        self.images += len(index)
        most = rows_at_once(self.most, len(index), views_per_group(self.prior))
        batches = to_device(torch.tensor(index), x_t.device).split(most)
        parts = []
        for where, some in zip(batches, condition.split(most), strict=True):
            with record_function("gs_ssd.unet"):
                parts.append(self.prior.predict_noise(x_t[where], t[where], some))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def alone(self, condition: Condition) -> trajectory.Predict:
        """One prompt, for an inversion."""
        views = [*range(len(condition))]

        def predict(x: Tensor, u: int) -> Tensor:
            return self(x, torch.full((len(x),), u, device=x.device), views, condition)

        return predict

    def guided(self, first: Condition, second: Condition, scale: float) -> trajectory.Predict:
        """first + scale (second - first), both in one call, for an inversion."""
        views = [*range(len(first))] * 2
        both = Condition.cat([first, second])

        def predict(x: Tensor, u: int) -> Tensor:
            a, b = self(x, torch.full((len(x),), u, device=x.device), views, both).chunk(2)
            return guided(a, b - a, scale)

        return predict
