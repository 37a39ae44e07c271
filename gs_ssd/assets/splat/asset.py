"""A 3D Gaussian splat under training: `SplatAsset`."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import record_function

from gs_ssd.assets.base import Asset, TrainingStep
from gs_ssd.assets.saved_tensors import misfit_of
from gs_ssd.assets.splat import finish, initial, optimizers
from gs_ssd.assets.splat.densify import choice, surgery
from gs_ssd.assets.splat.densify.choice import DensifyConfig
from gs_ssd.assets.splat.densify.surgery import TrainedSplat
from gs_ssd.assets.splat.finish import FinishConfig
from gs_ssd.assets.splat.optimizers import OptimizerConfig
from gs_ssd.assets.splat.regularizers import parameter_terms
from gs_ssd.errors import UserError
from gs_ssd.export import ply, splats
from gs_ssd.export.splats import Splats
from gs_ssd.prior.base import ImaginesShapes
from gs_ssd.render import augment
from gs_ssd.render.augment import AugmentConfig
from gs_ssd.render.output import RenderOutput
from gs_ssd.render.regularizers import RegularizeConfig, Term
from gs_ssd.render.renderer import SplatRenderOutput, render
from gs_ssd.scene.camera import Cameras
from gs_ssd.scene.gaussians import PARAMETERS, Gaussians
from gs_ssd.scene.initialize import InitializeConfig
from gs_ssd.scene.viewpoints import Ranges
from gs_ssd.viewer import page

log = logging.getLogger(__name__)

PLY, PAGE = "point_cloud.ply", "index.html"
ROWS = {
    "means": (3,), "log_scales": (3,), "quats_wxyz": (4,), "logit_opacities": (), "sh_dc": (1, 3),
    "sh_rest": (None, 3),
}  # fmt: skip
"""Shapes of one Gaussian in the raw tensors."""


@dataclasses.dataclass(frozen=True)
class SplatConfig:
    """The sections of an experiment that a splat reads."""

    prompt: str
    """Of the experiment; `initialize.shape=text` starts from what it names."""
    initialize: InitializeConfig = dataclasses.field(default_factory=InitializeConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    regularize: RegularizeConfig = dataclasses.field(default_factory=RegularizeConfig)
    densify: DensifyConfig = dataclasses.field(default_factory=DensifyConfig)
    finish: FinishConfig = dataclasses.field(default_factory=FinishConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    offline: bool = False
    """Fetch no model for `initialize.shape=text`."""


class SplatAsset(Asset):
    """Gaussians, the Adam that moves them, the policy that grows and prunes them, and what they
    become in the end.

    Args:
        imaginer: what may be asked for the shape of a sentence (`initialize.shape=text`).

    Raises:
        UserError: a number that makes no sense; names the key.
    """

    kind = "splat"
    files = (PLY, PAGE)

    def __init__(
        self, config: SplatConfig, device: torch.device, imaginer: ImaginesShapes | None = None
    ) -> None:
        self._imaginer = imaginer
        self.config, self._device = config, device
        self.policy = choice.create(config.densify)
        self._trained: TrainedSplat | None = None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._device

    @property
    def trained(self) -> TrainedSplat:
        """The Gaussians with their optimizer and statistics."""
        if self._trained is None:
            raise RuntimeError("call initialize or load_state_dict first")
        return self._trained

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians as they are now."""
        return self.trained.gaussians

    def initialize(self, generator: torch.Generator) -> None:
        """Begin with the shape, file, sentence or earlier splat that the config names."""
        config = self.config
        gaussians = initial.first_gaussians(
            config.initialize,
            config.prompt,
            generator,
            self._device,
            offline=config.offline,
            imaginer=self._imaginer,
        )
        self._train(gaussians)

    def _train(self, gaussians: Gaussians) -> None:
        """Begin to train Gaussians, wherever they come from."""
        gaussians = gaussians.to(self._device).requires_grad_()
        self._trained = TrainedSplat(gaussians, optimizers.build(gaussians, self.config.optimizer))
        self.policy.begin(self._trained)

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """One Adam."""
        return (self.trained.optimizer,)

    def begin_step(self, step: TrainingStep) -> None:
        """Set the learning rates of this step."""
        optimizers.set_learning_rates(self.trained.optimizer, self.config.optimizer, step.progress)

    def render(
        self,
        cameras: Cameras,
        background: Float[Tensor, "v 3"],
        generator: torch.Generator | None = None,
    ) -> SplatRenderOutput:
        """All views in one call of the rasterizer; in training with noise on the scales."""
        scales = None
        if generator is not None:
            scales = augment.noisy_scales(self.gaussians.scales, self.config.augment, generator)
        gaussians = self.shown(training=generator is not None)
        return render(gaussians, cameras, background, scales=scales)

    def shown(self, *, training: bool) -> Gaussians:  # noqa: ARG002 -- an avatar has a pose
        """What pictures are taken of: in a training step, or for people."""
        return self.gaussians

    def regularizers(
        self,
        output: RenderOutput,  # noqa: ARG002
        cameras: Cameras,  # noqa: ARG002
        step: TrainingStep,
    ) -> Sequence[Term]:
        """The terms on raw tensors."""
        return parameter_terms(self.gaussians, self.config.regularize, step.progress)

    def after_backward(self, output: RenderOutput, step: TrainingStep) -> None:  # noqa: ARG002
        """Let the policy look at the gradients of all views."""
        assert isinstance(output, SplatRenderOutput)
        with record_function("gs_ssd.densify"):
            self.policy.observe(self.trained, output.screen_gradient, output.radii > 0)

    def after_step(self, step: TrainingStep) -> dict[str, int]:
        """Bring parameters back within their bounds, then grow and prune.

        Returns counts of what was done."""
        optimizers.project(self.gaussians, self.config.optimizer, step.progress)
        with record_function("gs_ssd.densify"):
            done = self.policy.refine(self.trained, step)
        if len(self.trained) == 0:
            raise UserError(
                f"no splats are left after step {step.index + 1}: all were pruned; lower"
                " densify.adaptive.prune_opacity or regularize.opacity (the last checkpoint is"
                " intact)"
            )
        return done

    def finish(self, ranges: Ranges, generator: torch.Generator) -> bool:
        """Harden the outlines, if the config asks for it.

        Raises:
            UserError: training left no Gaussian whose numbers are finite.
        """
        self._refuse_diverged()
        if self.config.finish.steps == 0:
            return False
        log.info("finishing: %d steps without the prior", self.config.finish.steps)
        orbit = finish.Orbit(ranges.radius, ranges.fov_rad)
        self._train(finish.harden(self.gaussians, self.config.finish, orbit, generator))
        return True

    def _refuse_diverged(self) -> None:
        """A splat of infinities renders as nothing and exports as nothing; where only some are,
        they are dropped."""
        sound = self.gaussians.detach().finite
        lost = int((~sound).sum())
        fix = (
            "lower the learning rates (optimizer.*), guidance.scale or densify.mcmc.noise and begin"
            " again"
        )
        if lost == len(sound):
            raise UserError(
                f"the run diverged: none of its {lost} splats has finite numbers; {fix}"
            )
        if lost:
            log.warning(
                "%d of %d splats diverged to infinity and are left out; %s", lost, len(sound), fix
            )
            surgery.keep(self.trained, sound)

    def state_dict(self) -> dict[str, Any]:
        """The raw tensors, Adam's entries by the tensor's name, the policy's statistics."""
        splat = self.trained
        named = splat.gaussians.parameters()
        adam = {
            name: splat.optimizer.state[tensor]
            for name, tensor in named.items()
            if tensor in splat.optimizer.state
        }
        parameters = {name: tensor.detach() for name, tensor in named.items()}
        return {"parameters": parameters, "adam": adam, "statistics": splat.statistics}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the splat and its Adam on the device of this asset."""
        misfit = misfit_of(
            state.get("parameters"), state.get("adam"), state.get("statistics"), ROWS
        )
        if misfit is not None:
            raise UserError(
                f"the newest checkpoint is not one of a splat: {misfit}; delete it, and"
                " --resume takes the one before"
            )
        parameters = {name: state["parameters"][name] for name in PARAMETERS}
        gaussians = Gaussians(**parameters).to(self._device).requires_grad_()
        optimizer = optimizers.build(gaussians, self.config.optimizer)
        for name, tensor in gaussians.parameters().items():
            if name in state["adam"]:
                # Adam keeps its step counter on the host unless it is fused; moments go where the
                # tensor is.
                optimizer.state[tensor] = {
                    key: value.clone() if key == "step" else value.to(tensor.device, copy=True)
                    for key, value in state["adam"][name].items()
                }
        statistics = {
            name: value.to(self._device, copy=True) for name, value in state["statistics"].items()
        }
        self._trained = TrainedSplat(gaussians, optimizer, statistics)
        self.policy.begin(self._trained)

    def counts(self) -> dict[str, int]:
        """The number of Gaussians."""
        return {"num_splats": len(self.trained)}

    def export(self, folder: Path, *, title: str) -> list[Path]:
        """The splat in the layout of 3D Gaussian Splatting, and a page that shows it offline."""
        found = self.splats()
        ply.write_ply(folder / PLY, found.to_frame("inria"))
        page.write_page(folder / PAGE, found, title=title)
        return [folder / PLY, folder / PAGE]

    def splats(self) -> Splats:
        """The Gaussians as numpy arrays."""
        return splats.from_gaussians(self.gaussians.detach())
