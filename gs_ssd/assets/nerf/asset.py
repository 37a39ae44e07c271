"""A radiance field under training: `NerfAsset`."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.assets.base import Asset, TrainingStep
from gs_ssd.assets.nerf import finish, from_splats, regularizers, renderer, to_mesh, to_splats
from gs_ssd.assets.nerf.background import LearnedBackground
from gs_ssd.assets.nerf.config import NerfConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import NerfRenderOutput
from gs_ssd.errors import UserError
from gs_ssd.export import ply, splats
from gs_ssd.export.splats import Splats
from gs_ssd.maths import anneal
from gs_ssd.render.output import RenderOutput
from gs_ssd.render.regularizers import Term
from gs_ssd.scene.camera import Cameras
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.viewer import page

log = logging.getLogger(__name__)

PLY, PAGE = "point_cloud.ply", "index.html"
FIRST_LOOKS = 4  #: into every cell, before the first step


class NerfAsset(Asset):
    """The field, its AdamW, and the grid that remembers where it is not empty.

    Args:
        start: makes the splat, on the CPU, that the field looks like in the beginning; `None`: the
            blob of `config`.

    Raises:
        UserError: a number that makes no sense; names the key.
    """

    kind = "nerf"
    files = (PLY, PAGE)

    def __init__(
        self,
        config: NerfConfig,
        device: torch.device,
        start: Callable[[torch.Generator], Gaussians] | None = None,
    ) -> None:
        self.config, self._device, self._start = config, device, start
        self.field = Field(config, device)
        self.occupancy = Occupancy(config.cells, device)
        self.surroundings = LearnedBackground(device) if config.learned_background else None
        self.resolution = 0  # of the training's pictures; set by begin_step
        self._optimizer: torch.optim.Optimizer | None = None
        self._slopes = False
        self._splats: Splats | None = None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._device

    def initialize(self, generator: torch.Generator) -> None:
        """Begin with the blob, or with the shape that is wanted, and look where it is."""
        self.field.initialize(generator)
        if self.surroundings is not None:
            self.surroundings.initialize(generator)
        self._optimizer = self._adamw()
        for _ in range(FIRST_LOOKS):
            self._look(generator)
        if self._start is None:
            if self.config.blob_density == 0:
                log.info("nerf.blob_density=0: the field begins as even fog that fills its box")
            return
        self._set_levels(0.0)
        shape = self._start(generator).to(self._device)
        left = from_splats.fit(self.field, self.occupancy, shape, self.config.warm_start, generator)
        log.info("the field begins as the shape; its opacities differ by %.3f", left)
        for _ in range(FIRST_LOOKS):
            self._look(generator)

    def _set_levels(self, progress: float) -> None:
        if law := self.config.levels_on:
            on = int(anneal.piecewise(progress, law) + 1e-6)
            self.field.levels_on = min(on, self.config.levels)

    def _set_rates(self, progress: float) -> None:
        (optimizer,), config = self.optimizers, self.config
        left = anneal.log_linear(progress, 1.0, config.last_rate)
        for group in optimizer.param_groups:
            group["lr"] = getattr(config, f"{group['name']}_rate") * left

    def _adamw(self) -> torch.optim.Optimizer:
        optimizer = self.field.optimizer()
        if self.surroundings is not None:
            tensors, rate = list(self.surroundings.parameters.values()), self.config.background_rate
            optimizer.add_param_group({"name": "background", "params": tensors, "lr": rate})
        return optimizer

    def _look(self, generator: torch.Generator) -> None:
        step = renderer.step_length(self.field)
        self.occupancy.update(self.field.density, step, self.config.least_alpha, generator)

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """One AdamW."""
        if self._optimizer is None:
            raise RuntimeError("call initialize or load_state_dict first")
        return (self._optimizer,)

    def begin_step(self, step: TrainingStep) -> None:
        """Set how many levels are active, the rates, the pictures' size, and whether normals are
        asked for; look where the field is."""
        config, progress = self.config, step.progress
        self._set_levels(progress)
        self._set_rates(progress)
        self.resolution = (
            round(anneal.piecewise(progress, config.resolution)) if config.resolution else 0
        )
        self._slopes = anneal.piecewise(progress, config.orientation) > 0
        if step.index and step.index % config.occupancy_every == 0:
            self._look(step.generator)
        if not bool(self.occupancy.occupied.any()):
            raise UserError(
                f"the field has nothing left in step {step.index + 1}: it is empty everywhere;"
                " lower regularize.sparsity or raise nerf.blob_density (the last checkpoint is"
                " intact)"
            )

    def render(
        self,
        cameras: Cameras,
        background: Float[Tensor, "v 3"],
        generator: torch.Generator | None = None,
    ) -> RenderOutput:
        """All views at once in training, at the resolution of the step; one after the other for
        people."""
        if generator is None:
            return RenderOutput(
                *renderer.render_large(self.field, self.occupancy, cameras, background)
            )
        if self.resolution:
            cameras = dataclasses.replace(cameras, width=self.resolution, height=self.resolution)
        return renderer.render(
            self.field,
            self.occupancy,
            cameras,
            background,
            generator=generator,
            slopes=self._slopes,
            behind=self._behind(len(cameras), generator),
        )

    def _behind(self, views: int, generator: torch.Generator) -> renderer.Behind | None:
        """What is behind the object in a training step: learned in some views, plain in the
        others."""
        if (surroundings := self.surroundings) is None:
            return None
        chosen = torch.rand(views, generator=generator) < self.config.learned_background

        def behind(directions: Tensor, plain: Tensor) -> Tensor:
            learned = chosen.repeat_interleave(len(plain) // views).to(plain.device)
            return torch.where(learned[:, None], surroundings.color(directions), plain)

        return behind

    def regularizers(
        self,
        output: RenderOutput,
        cameras: Cameras,  # noqa: ARG002
        step: TrainingStep,
    ) -> Sequence[Term]:
        """The orientation loss."""
        weight = anneal.piecewise(step.progress, self.config.orientation)
        if weight == 0.0:
            return ()
        assert isinstance(output, NerfRenderOutput)
        reached = tuple(
            self.field.parameters[name] for name in ("tables", "density_in", "density_out")
        )
        return (Term("orientation", regularizers.orientation(output), weight, reached),)

    def after_step(self, step: TrainingStep) -> Mapping[str, int | float | Tensor]:
        """Forget the splats of the last step; after the last of all fog becomes a surface, if the
        config asks for it."""
        self._splats = None
        if self.config.finish.steps and step.index + 1 == step.num_steps:
            finish.harden(self.field, self.occupancy, self.config.finish, step.generator)
            if specks := finish.sweep(self.field, self.occupancy):
                log.info("%d cells of faint specks around the object were swept up", specks)
        return {"occupied": self.occupancy.share, "levels_on": self.field.levels_on}

    def state_dict(self) -> dict[str, Any]:
        """The parameters by name, AdamW's state, the grid's values and the active levels."""
        (optimizer,) = self.optimizers
        return {
            "parameters": {name: tensor.detach() for name, tensor in self.field.parameters.items()},
            "adamw": optimizer.state_dict(),
            "occupancy": self.occupancy.values,
            "levels_on": self.field.levels_on,
            "background": {}
            if self.surroundings is None
            else {name: t.detach() for name, t in self.surroundings.parameters.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the field, its optimizer and its grid on the device of this asset."""
        lacking = [
            name for name in ("parameters", "adamw", "occupancy", "levels_on") if name not in state
        ]
        if lacking or state["occupancy"].shape != self.occupancy.values.shape:
            raise UserError(
                "the newest checkpoint lacks parts of the radiance field, or nerf.cells was"
                " another; restore the config, or delete it, and --resume takes the one before"
            )
        self.field.load(state["parameters"])
        self.field.levels_on = state["levels_on"]
        if self.surroundings is not None:
            self.surroundings.load(state.get("background", {}))
        elif state.get("background"):
            raise UserError(
                "the checkpoint holds a learned background, and nerf.learned_background is 0 now;"
                " restore it"
            )
        self._optimizer = self._adamw()
        names = [group["name"] for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["adamw"])
        for group, name in zip(self._optimizer.param_groups, names, strict=True):
            group["name"] = name  # torch takes the saved one, and older checkpoints have none
        self.occupancy.load(state["occupancy"].clone(), self.config.least_alpha)
        self._splats = None

    def counts(self) -> dict[str, int]:
        """The occupied cells."""
        return {"num_cells": int(self.occupancy.occupied.sum())}

    def export(self, folder: Path, *, title: str) -> list[Path]:
        """The field as splats, in the layout of 3D Gaussian Splatting, and a page that shows them
        offline."""
        found = self.splats()
        ply.write_ply(folder / PLY, found.to_frame("inria"))
        page.write_page(folder / PAGE, found, title=title)
        return [folder / PLY, folder / PAGE]

    def splats(self) -> Splats:
        """The field as Gaussian splats; always the same of the same field.

        Raises:
            UserError: nothing of it is solid.
        """
        if self._splats is None:
            conversion, rng = self.config.conversion, torch.Generator().manual_seed(0)
            self._splats = splats.from_gaussians(
                to_splats.convert(self.field, self.occupancy, conversion, rng)
            )
        return self._splats

    def surface(self, voxels: int) -> to_mesh.Surface:
        """The field as triangles, by marching cubes with `voxels` along the box.

        Raises:
            UserError: nothing of it is solid, or scikit-image is missing.
        """
        return to_mesh.extract(self.field, self.occupancy, voxels)
