"""An avatar beside the true person, in poses that no training names: silhouettes, part colours,
limbs that stay apart."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gs_ssd.body import mannequin
from gs_ssd.body.body import Pose
from gs_ssd.body.poses import POSES, pose
from gs_ssd.export.avatar_file import Avatar
from gs_ssd.export.splats import to_gaussians
from gs_ssd.lab.evaluate import statistics
from gs_ssd.lab.world import person
from gs_ssd.lab.world.colors import COLORS, Rgb
from gs_ssd.lab.world.person import Outfit
from gs_ssd.lab.world.views import orbit
from gs_ssd.prior.outfit import HAIR, REGIONS
from gs_ssd.render.renderer import render
from gs_ssd.scene.camera import Cameras, at_angles

UNSEEN: Final[dict[str, Pose]] = {
    "kick": pose(
        {
            "right_hip": [("x", 62.0)],
            "right_knee": [("x", -18.0)],
            "right_shoulder": [("y", 25.0), ("x", -30.0)],
            "left_shoulder": [("y", -15.0), ("x", 40.0)],
        }
    ),
    "point": pose(
        {
            "right_shoulder": [("y", -40.0), ("x", 30.0)],
            "left_shoulder": [("y", -34.0)],
            "spine": [("z", -12.0)],
            "head": [("z", -18.0)],
        }
    ),
    "star": pose(
        {
            "right_shoulder": [("y", -75.0)],
            "left_shoulder": [("y", 75.0)],
            "right_hip": [("y", -22.0)],
            "left_hip": [("y", 22.0)],
        },
        (0.0, 0.0, -0.03),
    ),
    "bow": pose(
        {
            "pelvis": [("x", -10.0)],
            "spine": [("x", -14.0)],
            "chest": [("x", -12.0)],
            "right_shoulder": [("y", 30.0), ("x", 25.0)],
            "left_shoulder": [("y", -30.0), ("x", 25.0)],
        }
    ),
    "balance": pose(
        {
            "left_hip": [("x", 75.0)],
            "left_knee": [("x", -85.0)],
            "right_shoulder": [("y", -35.0)],
            "left_shoulder": [("y", 35.0)],
            "right_elbow": [("y", -30.0)],
        }
    ),
}
"""Written by hand, beside those of `gs_ssd.body.poses`, which trainings draw."""
NAMED: Final[dict[str, Mapping[str, Rgb]]] = {"hair": HAIR, "shirt": COLORS, "trousers": COLORS}
"""Regions whose colours are judged, and what they might be taken for."""
VIEWS, SIZE, CRISP = 16, 128, 4
RADIUS, FOV_Y_DEG = 3.35, 36.0
ELBOW_ROW = 0.43
"""Share of the picture from above, at which the rest pose's elbows are in a level front view."""


class AvatarNumbers(NamedTuple):
    """Means over all views and unseen poses."""

    silhouette_iou: float
    worst_pose_iou: float
    colors_right: float
    """Share of the outfit's shirt, trousers and hair whose mean colour, over all views and poses,
    is nearest to the told one among those that have a name."""
    color_error: float
    """Mean distance of those colours from the true (lit) ones, RGB in 0..1."""
    limbs_apart: bool
    """Whether a level front view of the rest pose shows background between arms and trunk."""
    gaps_open: float
    """Share of what is truly background between limbs in that view where the avatar shows it."""
    detail: float
    """High-frequency energy of the avatar's pictures over that of the true person's."""
    saturation_over_truth: float


@torch.no_grad()
def measure(avatar: Avatar, outfit: Outfit) -> AvatarNumbers:
    """The avatar in every unseen pose, from a turntable of 16 views, beside the true person."""
    ious, seen, true, detail, vivid = [], [], [], [], []
    for name, moved in UNSEEN.items():
        ours_rgb, ours_alpha = photograph(avatar, moved)
        truth_rgb, truth_alpha, regions = _truth(outfit, name)
        ious.append(float(statistics.silhouette_iou(ours_alpha, truth_alpha).mean()))
        seen.append(_region_colors(ours_rgb, ours_alpha, regions))
        true.append(_region_colors(truth_rgb, truth_alpha, regions))
        energy = [statistics.high_frequency_energy(x) for x in (ours_rgb, truth_rgb)]
        detail.append(energy[0] / energy[1])
        vivid.append(
            statistics.saturation(ours_rgb, ours_alpha)
            - statistics.saturation(truth_rgb, truth_alpha)
        )
    ours, truth = (torch.stack(rows).nanmean(dim=0) for rows in (seen, true))
    error = (ours - truth).norm(dim=1)
    front = photograph(avatar, POSES["a"], _level_front())[1][0]
    told = [REGIONS.index(name) for name in NAMED]
    right = [
        _nearest_paint(ours[row], truth[row], outfit.of(row), paints)
        for row, paints in zip(told, NAMED.values(), strict=True)
    ]
    return AvatarNumbers(
        silhouette_iou=sum(ious) / len(ious),
        worst_pose_iou=min(ious),
        colors_right=sum(right) / len(told),
        color_error=float(error[told].mean()),
        limbs_apart=_limbs_apart(front),
        gaps_open=float((front[_true_gaps()] < 0.5).float().mean()),
        detail=sum(detail) / len(detail),
        saturation_over_truth=sum(vivid) / len(vivid),
    )


def photograph(
    avatar: Avatar, moved: Pose, views: Cameras | None = None
) -> tuple[Float[Tensor, "v 3 s s"], Float[Tensor, "v s s"]]:
    """Pictures of the avatar in a pose on black, and their alpha; from the turntable by default.

    Taken `CRISP` times as large and averaged: in small pictures the rasterizer's low-pass would
    widen a limb by a tenth.
    """
    cameras = _turntable() if views is None else views
    cameras = dataclasses.replace(
        cameras, width=CRISP * cameras.width, height=CRISP * cameras.height
    )
    splat = to_gaussians(avatar.posed(moved))
    parts = []
    for start in range(0, len(cameras), 4):
        some = cameras[start : start + 4]
        seen = render(splat, some, torch.zeros(len(some), 3))
        parts.append(avg_pool2d(torch.cat([seen.rgb, seen.alpha], dim=1), CRISP))
    rgb, alpha = torch.cat(parts).clamp(0, 1).split([3, 1], dim=1)
    return rgb, alpha[:, 0]


def _turntable() -> Cameras:
    azimuth = [2 * math.pi * view / VIEWS for view in range(VIEWS)]
    polar = [math.radians(90 - 15 * (view % 3)) for view in range(VIEWS)]
    fov = math.radians(FOV_Y_DEG)
    return at_angles(azimuth, polar, radius=RADIUS, fov_y_rad=fov, size=SIZE)


def _truth(
    outfit: Outfit, name: str
) -> tuple[Float[Tensor, "v 3 s s"], Float[Tensor, "v s s"], Float[Tensor, "v r s s"]]:
    """The true person on black, alpha, and the share of each pixel that each region covers."""
    seen = _shape(name, VIEWS, SIZE)
    colors = torch.tensor([*(outfit.of(r) for r in range(person.NOTHING)), (0.0, 0.0, 0.0)])
    shade = colors[seen.region].movedim(-1, 1) * seen.shade
    shares = [seen.region == region for region in range(len(REGIONS))]
    parts = torch.cat(
        [shade, (seen.region != person.NOTHING)[:, None], torch.stack(shares, dim=1)], dim=1
    )
    rgb, alpha, regions = avg_pool2d(parts.float(), 2).split([3, 1, len(REGIONS)], dim=1)
    return rgb, alpha[:, 0], regions


@functools.lru_cache(maxsize=len(UNSEEN))
def _shape(name: str, views: int, size: int) -> person.Seen:
    """The true person in a pose, all in white: light multiplies colours, so one is enough."""
    white = Outfit(**dict.fromkeys(REGIONS, (1.0, 1.0, 1.0)))
    number = torch.arange(views)
    seen = orbit(number * (360.0 / views), (number % 3) * 15.0, RADIUS, FOV_Y_DEG)
    transforms = mannequin.create().transforms(UNSEEN[name])
    return person.photograph(
        white, transforms, seen.w2c, seen.tan_half_fov, 2 * size, ink=(1.0, 1.0, 1.0)
    )


def _region_colors(
    rgb: Float[Tensor, "v 3 s s"],
    alpha: Float[Tensor, "v s s"],
    regions: Float[Tensor, "v r s s"],
) -> Float[Tensor, "r 3"]:
    """Mean colour where each region truly is, of what is drawn there."""
    weight = regions * alpha[:, None]
    color = rgb / alpha.clamp_min(1e-3)[:, None]
    total = weight.sum((0, 2, 3))
    return torch.einsum("vrhw,vchw->rc", weight, color) / total[:, None]


def _nearest_paint(ours: Tensor, truth: Tensor, told: Rgb, paints: Mapping[str, Rgb]) -> bool:
    """Whether the told colour is the nearest, all of them under the light that the true one has."""
    told_row = torch.tensor(told)
    light = float(truth.sum() / told_row.sum().clamp_min(1e-3))
    others = [torch.tensor(paint) for paint in paints.values() if paint != told]
    distance = [(ours - light * paint).norm() for paint in (told_row, *others)]
    return bool(distance[0] <= min(distance[1:]))


def _level_front() -> Cameras:
    fov = math.radians(FOV_Y_DEG)
    return at_angles([0.0], [math.pi / 2], radius=RADIUS, fov_y_rad=fov, size=SIZE)


def _limbs_apart(front: Float[Tensor, "s s"]) -> bool:
    row = front[round(ELBOW_ROW * SIZE)] > 0.5
    return int((row[1:] & ~row[:-1]).sum()) == 3


def _true_gaps() -> Bool[Tensor, "s s"]:
    """Pixels of the level front view that the true person leaves open between its limbs."""
    seen = orbit(torch.zeros(1), torch.zeros(1), RADIUS, FOV_Y_DEG)
    transforms = mannequin.create().transforms(POSES["a"])
    regions = person.photograph(Outfit(), transforms, seen.w2c, seen.tan_half_fov, 2 * SIZE).region
    covered = avg_pool2d((regions != person.NOTHING).float()[:, None], 2)[0, 0] > 0
    left = covered.int().cummax(dim=1).values.bool()
    right = covered.int().flip(1).cummax(dim=1).values.flip(1).bool()
    return ~covered & left & right
