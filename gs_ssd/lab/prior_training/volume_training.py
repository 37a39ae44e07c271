"""Teaches sentences their volumes: occupancy and lit colour of the mean shape, cell by cell,
straight from the world.

No picture is needed for that, so that 12 thousand sentences suffice; see `gs_ssd.prior.volume` for
the model.
"""

import dataclasses
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gs_ssd.files import atomic_path
from gs_ssd.json_lines import append_record
from gs_ssd.lab import world
from gs_ssd.lab.prior_training.captions import CaptionLaw, Mix, caption
from gs_ssd.lab.prior_training.held_out import held_out
from gs_ssd.lab.prior_training.train import Embedder
from gs_ssd.lab.world.occupancy import occupancy, surface_colors
from gs_ssd.maths.color import quantize
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.volume import CHANNELS, TextVolume, VolumeConfig


@dataclasses.dataclass(frozen=True)
class VolumeTraining:
    """One run. Its second part begins with a lower learning rate, and colours count for more."""

    model: VolumeConfig = dataclasses.field(default_factory=VolumeConfig)
    captions: CaptionLaw = dataclasses.field(
        default_factory=lambda: CaptionLaw(dropout=0.0, synonym=0.2, colorless=0.05)
    )
    batch: int = 12
    steps: tuple[int, int] = (1000, 900)
    learning_rate: tuple[float, float] = (2e-3, 8e-4)
    color_weight: tuple[float, float] = (5.0, 25.0)
    average: tuple[float, float] = (0.99, 0.995)
    edge_weight: float = 4.0  # added for cells at the surface: they draw the outline
    contrast_weight: float = 20.0  # added for colours that differ from those around by all of 0..1
    warmup: int = 40
    weight_decay: float = 0.01
    closeup_share: float = 0.06
    seed: int = 0
    bfloat16: bool = True


REFINED = VolumeTraining(batch=10, steps=(0, 1500), learning_rate=(0.0, 1.2e-3))
"""Goes on from the layers of a coarser volume, with a new last one."""


class Targets(NamedTuple):
    """What the volumes should be, as uint8."""

    occupancy: Tensor  # [K,R,R,R]
    edge: Tensor  # [K,R,R,R], 0 or 1: where it differs between a cell and its neighbours
    color: Tensor  # [K,C,3,R,R,R]
    known: Tensor  # [K,C,R,R,R], 0 or 1: where there is a colour
    contrast: Tensor  # [K,C,R,R,R]: how far it is from the mean of the colours around


def make_targets(config: VolumeConfig) -> Targets:
    """Every kind in every colour."""
    size, half = config.resolution, config.half_extent
    filled = [occupancy(world.sculpt(kind, "red"), size, half) for kind in world.kinds()]
    painted = [
        [surface_colors(kind, color, size, half) for color in world.colors()]
        for kind in world.kinds()
    ]
    color = torch.stack([torch.stack([rgb for rgb, _ in row]) for row in painted])
    known = torch.stack([torch.stack([where for _, where in row]) for row in painted])
    contrast = torch.stack(
        [local_contrast(c, k) for c, k in zip(color, known.float(), strict=True)]
    )
    solid = torch.stack(filled)
    edge = _at_edge(solid).byte()
    return Targets(quantize(solid), edge, quantize(color), known.byte(), quantize(contrast))


def local_contrast(
    color: Float[Tensor, "n 3 r r r"], known: Float[Tensor, "n r r r"]
) -> Float[Tensor, "n r r r"]:
    """How far each known colour is from the mean of the known ones up to a tenth of the cube away.

    Mean absolute difference of the channels: eyes, dots and windows have much of it, plain walls
    none.
    """
    reach, known = color.shape[-1] // 10, known[:, None]
    both = torch.cat([color * known, known], 1)
    for axis in range(3):  # a box, one axis after the other
        size, pad = [1, 1, 1], [0, 0, 0]
        size[axis], pad[axis] = 2 * reach + 1, reach
        both = functional.avg_pool3d(both, size, 1, pad)
    mean = both[:, :3] / both[:, 3:].clamp(min=1e-6)
    return ((color - mean).abs() * known).mean(1)


def embedder_of(base: Path) -> Embedder:
    """The frozen text encoder of a pipeline folder."""
    prior: Any = load(PriorConfig(model=str(base)), "cpu")
    embed = Embedder(prior.text_encoder, prior.tokenizer, prior.max_tokens, torch.device("cpu"))
    embed.frozen = True
    return embed


class VolumeTrainer:
    """The state of a run: `folder/volume.pt` (weights, averages, Adam), `volume_targets.pt`,
    `volume_log.jsonl`."""

    def __init__(
        self,
        folder: Path,
        config: VolumeTraining,
        embed: Embedder,
        start: TextVolume | None = None,
    ) -> None:
        self.folder, self.config, self.embed = folder, config, embed
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.model = TextVolume(config.model)
        assert self.model.head.bias is not None
        cells = len(self.model.head.bias) // CHANNELS
        nn.init.constant_(self.model.head.bias[:cells], -2.0)  # most of space is empty
        if start is not None:
            take_over(self.model, start)
        self.adam = torch.optim.AdamW(
            self.model.parameters(),
            config.learning_rate[0],
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
        )
        self.average = {name: x.detach().clone() for name, x in self.model.state_dict().items()}
        self.step = 0
        kinds, colors = world.kinds(), world.colors()
        self.pairs = [(k, c) for k in kinds for c in colors if (k, c) not in held_out()]
        if (folder / "volume.pt").exists():
            state = torch.load(folder / "volume.pt", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.adam.load_state_dict(state["adam"])
            self.average, self.step = state["average"], state["step"]

    def targets(self) -> Targets:
        """Made once, kept in the folder."""
        path = self.folder / "volume_targets.pt"
        if not path.exists():
            with atomic_path(path) as temporary:
                torch.save(make_targets(self.config.model)._asdict(), temporary)
        return Targets(**torch.load(path, weights_only=True))

    def fit(self, minutes: float, report: Callable[[str], None] = print) -> bool:
        """Train for at most `minutes`; true when all steps are done."""
        targets, start, tally = self.targets(), time.monotonic(), []
        total = sum(self.config.steps)
        while self.step < total and time.monotonic() - start < minutes * 60:
            tally.append(self._train_step(targets))
            if self.step % 50 == 0:
                means = {name: sum(row[name] for row in tally) / len(tally) for name in tally[0]}
                append_record(self.folder / "volume_log.jsonl", {"step": self.step} | means)
                report(
                    f"volume step {self.step}/{total}  "
                    + "  ".join(f"{k} {v:.4f}" for k, v in means.items())
                )
                tally = []
                self._save()
        self._save()
        return self.step >= total

    def averaged(self) -> TextVolume:
        """The model with its averaged weights."""
        model = TextVolume(self.config.model)
        model.load_state_dict(self.average)
        return model.eval()

    def _train_step(self, targets: Targets) -> dict[str, float]:
        config, second = self.config, int(self.step >= self.config.steps[0])
        for group in self.adam.param_groups:
            group["lr"] = self._learning_rate(second)
        rng = random.Random(900_000 + config.seed + self.step)
        pairs = [rng.choice(self.pairs) for _ in range(config.batch)]
        filled, edge, color, known, contrast = _targets_of(pairs, targets)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            logits = self.model(self.embed([self._sentence(pair, rng) for pair in pairs]))
        logits = logits.float()
        weight = 1 + config.edge_weight * edge
        share = known * (1 + config.contrast_weight * contrast)
        shape = (
            functional.binary_cross_entropy_with_logits(logits[:, 0], filled, reduction="none")
            * weight
        ).mean()
        paint = ((logits[:, 1:].sigmoid() - color).square() * share).sum() / (3 * share.sum())
        self.adam.zero_grad(set_to_none=True)
        (shape + config.color_weight[second] * paint).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        self.step += 1
        decay = min(config.average[second], (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, x in self.model.state_dict().items():
                self.average[name].lerp_(x, 1 - decay)
        return {
            "shape": shape.item(),
            "paint": paint.item(),
            "iou": iou(logits[:, 0] > 0, filled > 0.5),
        }

    def _learning_rate(self, second: int) -> float:
        done = (self.step - second * self.config.steps[0]) / self.config.steps[second]
        warm = min(1.0, (self.step + 1) / self.config.warmup)
        return (
            self.config.learning_rate[second]
            * warm
            * max(0.02, 0.5 * (1 + math.cos(math.pi * done)))
        )

    def _sentence(self, pair: tuple[str, str], rng: random.Random) -> Mix:
        """A random caption from anywhere: the volume must not depend on the view's words."""
        near = rng.random() < self.config.closeup_share
        return caption(
            *pair, rng.uniform(-180, 180), rng.uniform(-15, 70), near, self.config.captions, rng
        )

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "adam": self.adam.state_dict(),
            "average": self.average,
            "step": self.step,
        }
        with atomic_path(self.folder / "volume.pt") as temporary:
            torch.save(state, temporary)


def take_over(model: TextVolume, start: TextVolume) -> None:
    """Give a model the weights of all layers that an earlier one of another resolution shares."""
    mine = model.state_dict()
    fits = {name: x for name, x in start.state_dict().items() if mine[name].shape == x.shape}
    model.load_state_dict(mine | fits)


def _targets_of(
    pairs: Sequence[tuple[str, str]], targets: Targets
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    kind = torch.tensor([world.kinds().index(k) for k, _ in pairs])
    color = torch.tensor([world.colors().index(c) for _, c in pairs])
    known = targets.known[kind, color][:, None].float()
    contrast = targets.contrast[kind, color][:, None].float() / 255
    filled = targets.occupancy[kind].float() / 255
    edge = targets.edge[kind].float()
    return filled, edge, targets.color[kind, color].float() / 255, known, contrast


def _at_edge(filled: Tensor) -> Tensor:
    """1 where a cell and its neighbours differ in occupancy."""
    grown, shrunk = (functional.max_pool3d(x[:, None], 3, 1, 1)[:, 0] for x in (filled, -filled))
    return ((grown + shrunk) > 0.1).float()


def iou(one: Tensor, other: Tensor) -> float:
    """Intersection over union of two sets of cells."""
    return ((one & other).sum() / (one | other).sum().clamp(min=1)).item()
