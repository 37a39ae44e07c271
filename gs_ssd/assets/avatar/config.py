"""Settings of an avatar beside those of its splat."""

import dataclasses
from typing import Annotated

from gs_ssd.body.choice import BODIES
from gs_ssd.body.pose_law import PoseConfig
from gs_ssd.body.poses import POSES
from gs_ssd.bounds import Bounds, choice, settings


@settings
class AvatarConfig:
    """The body, the poses of the training, and how splats hold on to the body. World units: a body
    is about 1.8 tall."""

    body: Annotated[str, choice(BODIES)] = "mannequin"
    """mannequin: of capsules, always there. anny: a parametric body (extra `avatar`)."""
    poses: PoseConfig = dataclasses.field(default_factory=PoseConfig)
    shown: Annotated[str, choice(POSES)] = "a"
    """The pose of pictures and videos."""
    surface_points: Annotated[int, Bounds(500, 1_000_000)] = 20_000
    """Points of the surface that splats are bound to."""
    max_offset: Annotated[float, Bounds(0, 1, above=True)] = 0.06
    """Splats stay within this distance of their point of the surface: room for clothes and hair."""
    rebind_every: Annotated[int, Bounds(1, 1_000_000)] = 10
    """Steps after which each splat is bound to the nearest point of the surface, if that is on its
    own bone or a neighbouring one; where it is not, the splat has lost its bone and is dropped."""
