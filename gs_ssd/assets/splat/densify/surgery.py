"""Edits of a splat under training.

Raw tensors, Adam's moments and the policy's statistics change together.

Every edit is built from three moves: `keep` some rows, `append` rows copied from others, or
overwrite rows in place. New rows start with zero moments; rows that survive keep theirs.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gs_ssd.maths import rotation
from gs_ssd.scene.gaussians import Gaussians

MIN_OPACITY = 1e-6


@dataclasses.dataclass
class TrainedSplat:
    """N Gaussians, the Adam that trains them, and what is known of each of them, [N, ...]: what
    densification edits."""

    gaussians: Gaussians
    optimizer: torch.optim.Adam
    statistics: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """What a policy counts: zero for new Gaussians."""
    labels: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """What an asset knows of each: new Gaussians inherit it from those that they were made of."""

    def __len__(self) -> int:
        return len(self.gaussians)


def _rewrite(
    splat: TrainedSplat,
    edit: Callable[[str, Tensor], Tensor],
    edit_moment: Callable[[Tensor], Tensor],
) -> None:
    """Replace every raw tensor by a new leaf and hand its group and its (edited) moments over to
    it."""
    groups = {group["name"]: group for group in splat.optimizer.param_groups}
    for name, old in splat.gaussians.parameters().items():
        new = edit(name, old.detach()).contiguous().requires_grad_()
        state = splat.optimizer.state.pop(old, None)
        if state is not None:
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = edit_moment(state[key])
            splat.optimizer.state[new] = state
        groups[name]["params"][0] = new
        setattr(splat.gaussians, name, new)


def keep(splat: TrainedSplat, mask: Bool[Tensor, " n"]) -> int:
    """Remove the Gaussians where `mask` is false. Returns how many went."""
    removed = int((~mask).sum())
    if removed:
        _rewrite(splat, lambda _, tensor: tensor[mask], lambda moment: moment[mask])
        splat.statistics = {key: value[mask] for key, value in splat.statistics.items()}
        splat.labels = {key: value[mask] for key, value in splat.labels.items()}
    return removed


def append(
    splat: TrainedSplat, source: Int[Tensor, " m"], changes: dict[str, Tensor] | None = None
) -> None:
    """Add copies of the Gaussians `source`, with some raw tensors ([m, ...]) replaced; moments and
    statistics zero."""
    changes = changes or {}

    def with_zeros(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor.new_zeros(len(source), *tensor.shape[1:])])

    _rewrite(
        splat,
        lambda name, tensor: torch.cat([tensor, changes.get(name, tensor[source])]),
        with_zeros,
    )
    splat.statistics = {key: with_zeros(value) for key, value in splat.statistics.items()}
    splat.labels = {key: torch.cat([value, value[source]]) for key, value in splat.labels.items()}


def clone(splat: TrainedSplat, chosen: Int[Tensor, " m"]) -> None:
    """Duplicate small Gaussians in place; the optimizer drives the twins apart (3DGS, section
    5)."""
    append(splat, chosen)


def split(
    splat: TrainedSplat,
    chosen: Int[Tensor, " m"],
    generator: torch.Generator,
    *,
    children: int = 2,
    shrink: float = 1.6,
) -> None:
    """Replace large Gaussians by `children` drawn from them, with scales divided by `shrink` (3DGS,
    section 5)."""
    gaussians = splat.gaussians.detach()
    parents = chosen.repeat(children)
    noise = torch.randn(len(parents), 3, generator=generator, device=generator.device).to(
        gaussians.means
    )
    frame = rotation.quat_to_matrix(gaussians.quats_wxyz[parents])
    offset = (frame @ (gaussians.scales[parents] * noise).unsqueeze(-1)).squeeze(-1)
    changes = {
        "means": gaussians.means[parents] + offset,
        "log_scales": gaussians.log_scales[parents] - math.log(shrink),
    }
    append(splat, parents, changes)
    mask = torch.ones(len(splat), dtype=torch.bool, device=chosen.device)
    mask[chosen] = False
    keep(splat, mask)


def relocate(splat: TrainedSplat, dead: Int[Tensor, " m"], target: Int[Tensor, " m"]) -> None:
    """Move `dead` Gaussians onto living `target`s and share each target's opacity so that the
    picture stays.

    3DGS-MCMC (Kheradmand et al. 2024, arXiv 2404.09591), eq. (9): with R Gaussians at one place,
    each gets opacity 1 - (1 - o)^(1/R) and covariance o^2 (sum_i sum_k C(i-1, k) (-1)^k o_new^(k+1)
    / sqrt(k+1))^-2 Sigma. Moments of everything that changed are zeroed.
    """
    if len(dead) == 0:
        return
    gaussians = splat.gaussians.detach()
    counts = torch.bincount(target, minlength=len(splat)) + 1
    touched = target.unique()
    opacity, factor = shared_opacity(gaussians.opacities[touched], counts[touched])
    opacity = opacity.clamp(MIN_OPACITY, 1 - MIN_OPACITY)
    with torch.no_grad():
        splat.gaussians.logit_opacities[touched] = torch.logit(opacity)
        splat.gaussians.log_scales[touched] += factor.log().unsqueeze(-1)
        for tensor in (*splat.gaussians.parameters().values(), *splat.labels.values()):
            tensor[dead] = tensor[target]
    _zero_rows(splat, torch.cat([touched, dead]))


@torch.no_grad()
def overwrite(splat: TrainedSplat, rows: Int[Tensor, " m"], values: dict[str, Tensor]) -> None:
    """Replace the raw tensors of some rows by `values` ([m, ...]), in place; their moments are
    zeroed."""
    for name, value in values.items():
        getattr(splat.gaussians, name)[rows] = value
    _zero_rows(splat, rows)


def shared_opacity(
    opacity: Float[Tensor, " m"], count: Int[Tensor, " m"], *, most: int = 51
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Opacity and scale factor for `count` equal Gaussians that together look like one of `opacity`
    (see `relocate`).

    Counts above `most` are treated as `most`: the alternating sum loses its digits there even in
    float64.
    """
    old, count = opacity.double(), count.clamp(1, most)
    new = 1 - (1 - old) ** (1.0 / count)
    total = torch.zeros_like(old)
    for i in range(1, int(count.max()) + 1):
        terms = [
            math.comb(i - 1, k) * (-1) ** k * new ** (k + 1) / math.sqrt(k + 1) for k in range(i)
        ]
        total = total + torch.where(count >= i, torch.stack(terms).sum(dim=0), 0.0)
    return new.to(opacity.dtype), (old / total).to(opacity.dtype)


def reset_opacities(splat: TrainedSplat, ceiling: float) -> None:
    """Cap every opacity at `ceiling` and zero the opacities' moments (3DGS, section 5.2)."""
    with torch.no_grad():
        splat.gaussians.logit_opacities.clamp_(max=math.log(ceiling / (1 - ceiling)))
    state = splat.optimizer.state.get(splat.gaussians.logit_opacities)
    if state:
        state["exp_avg"].zero_()
        state["exp_avg_sq"].zero_()


def _zero_rows(splat: TrainedSplat, rows: Int[Tensor, " m"]) -> None:
    for tensor in splat.gaussians.parameters().values():
        state = splat.optimizer.state.get(tensor)
        if state:
            state["exp_avg"][rows] = 0.0
            state["exp_avg_sq"][rows] = 0.0
    for value in splat.statistics.values():
        value[rows] = 0
