"""What `gs-ssd check-model` tells a prior beside the sentence: a posed body or a depth, where it
wants one."""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.body import mannequin, openpose, parts_picture, surface
from gs_ssd.body.poses import POSES
from gs_ssd.prior import DiffusionPrior
from gs_ssd.prior.base import BodyPicture
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import at_angles

OBJECT = "a red mug"
PERSON = "a person in a red shirt and blue trousers"
POINTS = 20_000
"""Of the body's surface, as in trainings."""


def prompt_for(prior: DiffusionPrior) -> str:
    """A sentence that the prior knows."""
    return OBJECT if prior.body_picture is None else PERSON


def condition_for(prior: DiffusionPrior, text: Float[Tensor, "b l d"]) -> Condition:
    """The rows of `text` with all that the prior listens to; every second row sees the same."""
    image = depth = None
    if prior.body_picture is not None:
        image = _alternating(_bodies(prior.body_picture), len(text)).to(prior.device)
    if prior.uses_depth:
        depth = _ball(prior.image_size).expand(len(text), -1, -1, -1).to(prior.device)
    return Condition(text, depth=depth, image=image)


def _alternating(pictures: Float[Tensor, "2 c h w"], rows: int) -> Float[Tensor, "b c h w"]:
    return pictures[torch.arange(rows) % 2]


@functools.lru_cache(maxsize=1)
def _bodies(wanted: BodyPicture) -> Float[Tensor, "2 c h w"]:
    """The mannequin standing, from the front, and with level arms, from its right."""
    body = mannequin.create()
    cameras = at_angles(
        [0.0, 0.9], [math.radians(80)] * 2, radius=3.35, fov_y_rad=0.63, size=wanted.size
    )
    skin = surface.sample(body, POINTS, torch.Generator().manual_seed(0))
    pictures = []
    for row, pose in enumerate((POSES["stand"], POSES["t"])):
        transforms, camera = body.transforms(pose), cameras[row : row + 1]
        if wanted.kind == "regions":
            pictures.append(parts_picture.draw(skin, transforms, camera, wanted.size))
        else:
            pictures.append(openpose.draw_views(body, transforms, camera))
    return torch.cat(pictures)


def _ball(size: int) -> Float[Tensor, "1 1 h w"]:
    """The depth of a ball before nothing, 0 far .. 1 near."""
    line = torch.linspace(-2, 2, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return (1 - x.square() - y.square()).clamp_min(0).sqrt()[None, None]
