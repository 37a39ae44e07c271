"""A splat on a body under training: `AvatarAsset`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.assets.avatar.binding import Binding
from gs_ssd.assets.avatar.config import AvatarConfig
from gs_ssd.assets.base import TrainingStep
from gs_ssd.assets.splat.asset import PAGE, PLY, SplatAsset, SplatConfig
from gs_ssd.assets.splat.densify import surgery
from gs_ssd.body import choice, clips, openpose, parts_picture, surface, visibility
from gs_ssd.body.body import Pose
from gs_ssd.body.pose_law import PoseLaw
from gs_ssd.body.poses import CLIPS, POSES
from gs_ssd.body.skinning import skin_gaussians
from gs_ssd.errors import UserError
from gs_ssd.export import avatar_file
from gs_ssd.export.avatar_file import Avatar
from gs_ssd.scene import initialize
from gs_ssd.scene.camera import Cameras, wrap_angle
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.viewer.motion import Moving
from gs_ssd.viewer.page import write_page

MOVING_PAGE = "avatar.html"
PAGE_FPS = 24.0
SURFACE_SEED = 0
"""The surface is the same in every run: checkpoints name its points by number."""
HOME = "home"
"""Label of a splat: the number of the point of the surface that it is bound to."""


class AvatarAsset(SplatAsset):
    """Gaussians in a body's rest pose, carried into a new pose at every step by linear blend
    skinning.

    They begin on the body's surface and never leave its neighbourhood.

    Raises:
        UserError: a body that is not installed, a motion file that cannot be read.
    """

    kind = "avatar"
    files = (PLY, PAGE, avatar_file.FILE, MOVING_PAGE)
    body_pictures = ("openpose", "regions")

    def __init__(self, config: SplatConfig, avatar: AvatarConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.avatar, self.body = avatar, choice.create(avatar.body)
        drawn = torch.Generator().manual_seed(SURFACE_SEED)
        self.surface = surface.sample(self.body, avatar.surface_points, drawn)
        self.binding = Binding(self.body, self.surface, device)
        self.poses = PoseLaw(avatar.poses, self.body)
        self._pose = Pose.rest()

    def initialize(self, generator: torch.Generator) -> None:
        """Begin on the body's surface, with the config's number, size, colour and opacity."""
        start = self.config.initialize
        order = torch.randperm(len(self.surface), generator=generator)
        repeats = -(-start.num_points // len(order))
        chosen = order.repeat(repeats)[: start.num_points]
        jitter = torch.randn(len(chosen), 3, generator=generator)
        points = self.surface.points[chosen] + 0.5 * self.surface.spacing * jitter
        self._train(initialize.from_points(points, None, start))

    def _train(self, gaussians: Gaussians) -> None:
        super()._train(gaussians)
        self.trained.labels[HOME] = self.binding.nearest(self.gaussians.means)

    def begin_step(self, step: TrainingStep) -> None:
        """Learning rates, and a pose that the law draws."""
        super().begin_step(step)
        self._pose = self.poses.draw(step.generator)

    def shown(self, *, training: bool) -> Gaussians:
        """In the step's pose; for people in the config's."""
        return self.posed(self._pose if training else POSES[self.avatar.shown])

    def posed(self, pose: Pose) -> Gaussians:
        """The splat in a pose; the rest pose is the splat itself, bit for bit."""
        weights = self.binding.weights[self.trained.labels[HOME]]
        return skin_gaussians(self.gaussians, weights, self.body.transforms(pose).to(self._device))

    def after_step(self, step: TrainingStep) -> dict[str, int]:
        """Bounds, densification, and who still holds on to the body."""
        done = super().after_step(step)
        splat, binding = self.trained, self.binding
        with torch.no_grad():
            home = splat.labels[HOME]
            splat.gaussians.means.copy_(
                binding.held(splat.gaussians.means, home, self.avatar.max_offset)
            )
        if (step.index + 1) % self.avatar.rebind_every == 0:
            splat.labels[HOME], keeps = binding.rebound(splat.gaussians.means, home)
            done["lost"] = surgery.keep(splat, keeps)
        return done

    def body_picture(self, kind: str, cameras: Cameras, size: int) -> Float[Tensor, "v c h w"]:
        """The body in the step's pose as a prior is shown it (on the CPU, as the cameras must be).

        Args:
            kind: openpose (the skeleton, in colour, without what the body hides) or regions.
        """
        transforms = self.body.transforms(self._pose)
        cameras = dataclasses.replace(cameras, width=size, height=size)
        if kind == "regions":
            return parts_picture.draw(self.surface, transforms, cameras, size)
        return openpose.draw_views(self.body, transforms, cameras)

    def towards(self, cameras: Cameras) -> Cameras:
        """The same cameras, with azimuths from where the body faces in the step's pose."""
        facing = visibility.facing_azimuth(self.body.transforms(self._pose))
        azimuth = wrap_angle(cameras.azimuth_rad - facing.to(cameras.azimuth_rad))
        return dataclasses.replace(cameras, azimuth_rad=azimuth)

    def state_dict(self) -> dict[str, Any]:
        """The splat's, each Gaussian's point of the surface, and whose surface it is."""
        home = self.trained.labels[HOME]
        body = {"name": self.avatar.body, "points": len(self.binding)}
        return {**super().state_dict(), HOME: home, "body": body}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the splat and what it is bound to."""
        mine = {"name": self.avatar.body, "points": len(self.binding)}
        if state.get("body") != mine:
            raise UserError(
                f"the checkpoint's splats are bound to the body {state.get('body')}, and this run's"
                f" is {mine}; resume with the avatar.body and avatar.surface_points of the run"
            )
        home = state.get(HOME)
        super().load_state_dict(state)
        count = len(self.gaussians)
        if (
            not isinstance(home, Tensor)
            or home.shape != (count,)
            or home.dtype != torch.long
            or not 0 <= int(home.min()) <= int(home.max()) < len(self.binding)
        ):
            raise UserError(
                "the newest checkpoint is none of an avatar: its splats are bound to no surface;"
                " delete it, and --resume takes the one before"
            )
        self.trained.labels[HOME] = home.to(self._device, copy=True)

    def rigged(self) -> Avatar:
        """The splat in its rest pose with its skeleton, as files keep it."""
        weights = self.binding.weights[self.trained.labels[HOME]]
        return avatar_file.bind(self.splats(), weights, self.body)

    def export(self, folder: Path, *, title: str) -> list[Path]:
        """The splat in its rest pose as any other, its rig, and a page in which it moves."""
        avatar = self.rigged()
        motions = [clips.sample(name, PAGE_FPS, self.body) for name in CLIPS]
        avatar_file.write_avatar(folder / avatar_file.FILE, avatar)
        write_page(
            folder / MOVING_PAGE,
            avatar.splats,
            title=title,
            turn=False,
            moving=Moving(avatar, motions),
        )
        plain = super().export(folder, title=title)
        return [*plain, folder / avatar_file.FILE, folder / MOVING_PAGE]
