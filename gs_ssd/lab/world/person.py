"""A person in any pose: the true object that an avatar is measured against, and that the person
prior is trained on.

Built on the mannequin's bones, so that the body's pose is exactly known, and wider than they are
where there are clothes and hair. Every part follows its joint rigidly; balls at the joints close
the gaps.
"""

import dataclasses
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gs_ssd.body import mannequin
from gs_ssd.body.body import Transforms
from gs_ssd.body.mannequin import Bone
from gs_ssd.body.surface import WEARS
from gs_ssd.lab.world.colors import INK, Rgb
from gs_ssd.lab.world.sculptor import Part, Sculptor
from gs_ssd.lab.world.tracer import Light, Picture, cast, pixel_rays, stack
from gs_ssd.prior.outfit import REGIONS

EYES: Final = len(REGIONS)
"""What `Worn.region` says of the eyes, which are always ink."""
NOTHING: Final = EYES + 1
EASE: Final = {"skin": 1.0, "hair": 1.0, "shirt": 1.12, "trousers": 1.12, "shoes": 1.15}
"""How much wider than the body its clothes are."""


@dataclasses.dataclass(frozen=True)
class Outfit:
    """The colours of `REGIONS`, RGB in 0..1."""

    skin: Rgb = (0.87, 0.66, 0.52)
    hair: Rgb = (0.30, 0.18, 0.10)
    shirt: Rgb = (0.86, 0.07, 0.07)
    trousers: Rgb = (0.10, 0.20, 0.84)
    shoes: Rgb = (0.15, 0.13, 0.13)

    def of(self, region: int) -> Rgb:
        """The colour of a region's number."""
        return INK if region == EYES else getattr(self, REGIONS[region])


@dataclasses.dataclass(frozen=True)
class Worn:
    """A part in the rest pose, the joint that carries it, and its region."""

    part: Part
    joint: int
    region: int


def rest_parts(seed: int | None = None) -> list[Worn]:
    """The parts of one person in the rest pose: always as many, in the same order.

    Args:
        seed: how wide the clothes and how full the hair is; `None` is the mean.
    """
    dice, joints = Sculptor(seed), list(mannequin.PARENTS)
    ease = {name: 1 + (factor - 1) * float(dice.vary(1.0, 0.6)) for name, factor in EASE.items()}
    region_of = {joint: region for region, names in WEARS.items() for joint in names}
    worn: list[Worn] = []
    for bone in mannequin.bones():
        region = region_of[bone.start]
        sculptor = Sculptor()
        if bone.start == "head":
            continue
        _capsule(sculptor, bone, ease[region])
        joint, number = joints.index(bone.start), REGIONS.index(region)
        worn += [Worn(part, joint, number) for part in sculptor.parts]
    return worn + _head(joints.index("head"), float(dice.vary(1.0, 0.1)))


def _capsule(s: Sculptor, bone: Bone, ease: float) -> None:
    """A bone's frustum and the balls at its ends, `ease` times as wide."""
    start = np.array(mannequin.joints()[bone.start])
    end = np.array(mannequin.joints()[bone.end] if isinstance(bone.end, str) else bone.end)
    low, high = (ease * radius for radius in bone.radius)
    s.frustum(tuple(start), tuple(end), (low, high), INK)
    squash = np.diag([*bone.squash, 1.0])
    frustum = s.parts[-1]
    along = frustum.frame[:, 2:]
    s.parts[-1] = dataclasses.replace(
        frustum, frame=np.hstack([squash @ frustum.frame[:, :2], along])
    )
    across_x, across_y = bone.squash
    for point, radius in ((start, low), (end, high)):
        s.ellipsoid(tuple(point), (radius * across_x, radius * across_y, radius), INK)


def _head(joint: int, fullness: float) -> list[Worn]:
    """A face, hair around it, ears and eyes."""
    s = Sculptor()
    skin, hair = REGIONS.index("skin"), REGIONS.index("hair")
    s.ellipsoid((0, 0.018, 0.70), (0.098, 0.118, 0.155), INK)
    s.ellipsoid((0, -0.012, 0.762), (0.112 * fullness, 0.125 * fullness, 0.118 * fullness), INK)
    s.ellipsoid((0, -0.045, 0.70), (0.108 * fullness, 0.095 * fullness, 0.125), INK)
    s.ellipsoid((0, 0.135, 0.69), (0.02, 0.03, 0.03), INK)
    for side in (1, -1):
        s.ellipsoid((side * 0.1, 0.02, 0.70), (0.022, 0.03, 0.04), INK)
    for side in (1, -1):
        s.ellipsoid((side * 0.043, 0.118, 0.735), (0.024, 0.02, 0.026), INK)
    regions = [skin, hair, hair, skin, skin, skin, EYES, EYES]
    return [Worn(part, joint, region) for part, region in zip(s.parts, regions, strict=True)]


def posed(worn: list[Worn], transforms: Transforms, colors: list[Rgb]) -> list[Part]:
    """The parts where a pose takes them, in these colours (one a region, the eyes' last)."""
    turn = transforms.rotation.double().numpy()
    rest, at = transforms.rest_position.double().numpy(), transforms.position.double().numpy()
    return [
        dataclasses.replace(
            w.part,
            frame=turn[w.joint] @ w.part.frame,
            center=turn[w.joint] @ (w.part.center - rest[w.joint]) + at[w.joint],
            color=colors[w.region],
        )
        for w in worn
    ]


class Seen(NamedTuple):
    """What rays meet, V square pictures of them; black and `NOTHING` where they miss."""

    shade: Float[Tensor, "v 3 f f"]
    depth: Float[Tensor, "v f f"]
    region: Int[Tensor, "v f f"]
    """Index into `REGIONS`, `EYES` or `NOTHING`."""


def look(
    people: list[list[Part]],
    w2c: Float[Tensor, "v 4 4"],
    tan_half_fov: Float[Tensor, "v 2"],
    fine: int,
    light: tuple[Tensor, Tensor],
) -> Seen:
    """Persons seen by V cameras: one for all of them, or one each.

    Only rays near a part are cast: a person covers a tenth of a picture.
    """
    near = _near(people, w2c, tan_half_fov, fine)
    most = int(near.sum(dim=1).amax())
    index = near.float().topk(most, dim=1).indices  # padded with rays that miss
    turn = w2c[:, :3, :3].transpose(1, 2)
    rays = turn @ pixel_rays(tan_half_fov, fine, fine)
    rays = rays.gather(2, index[:, None].expand(-1, 3, -1))
    shade, depth, winner = cast(stack(people), -(turn @ w2c[:, :3, 3:]), rays, light)
    regions = torch.tensor([*(w.region for w in rest_parts()), NOTHING])  # -1, a miss: the last
    blank = torch.zeros(len(w2c), fine * fine)
    colors = [blank.scatter(1, index, channel) for channel in shade.unbind(1)]
    depth = blank.scatter(1, index, torch.where(winner >= 0, depth, 0.0))
    region = torch.full_like(blank, NOTHING, dtype=torch.long)
    region = region.scatter(1, index, regions[winner.long()])
    shape = (fine, fine)
    return Seen(
        torch.stack(colors, dim=1).unflatten(2, shape),
        depth.unflatten(1, shape),
        region.unflatten(1, shape),
    )


def _near(
    people: list[list[Part]], w2c: Tensor, tan_half_fov: Tensor, fine: int
) -> Bool[Tensor, "v n"]:
    """The rays that pass within the balls around the parts."""
    rays = pixel_rays(tan_half_fov, fine, fine)
    rays = rays / rays.norm(dim=1, keepdim=True)
    balls = torch.tensor(
        [[[*p.center, float(np.linalg.norm(p.half_extent()))] for p in parts] for parts in people],
        dtype=torch.float32,
    )
    near = torch.zeros(len(w2c), fine * fine, dtype=torch.bool)
    for ball in balls.expand(len(w2c), -1, -1).unbind(1):
        center = (w2c[:, :3, :3] @ ball[:, :3, None])[..., 0] + w2c[:, :3, 3]
        along = (rays * center[:, :, None]).sum(dim=1)
        apart = center.square().sum(dim=1, keepdim=True) - along.square()
        near |= apart <= ball[:, 3:].square()
    return near


def render(
    outfit: Outfit,
    transforms: Transforms,
    w2c: Tensor,
    tan_half_fov: Tensor,
    size: int,
    *,
    seed: int | None = None,
    background: Tensor | None = None,
    supersample: int = 3,
) -> Picture:
    """One person in one pose seen by V cameras; arguments and result as those of `world.render`."""
    seen = photograph(outfit, transforms, w2c, tan_half_fov, size * supersample, seed)
    hit = (seen.region != NOTHING).unsqueeze(1).float()
    shade, alpha, depth = (
        avg_pool2d(x, supersample) for x in (seen.shade, hit, seen.depth.unsqueeze(1))
    )
    backdrop = torch.ones(1, 3) if background is None else background
    rgb = (shade + (1 - alpha) * backdrop[:, :, None, None]).clamp(0, 1)
    return Picture(rgb, alpha, depth)


def photograph(
    outfit: Outfit,
    transforms: Transforms,
    w2c: Tensor,
    tan_half_fov: Tensor,
    fine: int,
    seed: int | None = None,
    *,
    ink: Rgb = INK,
) -> Seen:
    """One person in one pose, ray by ray, `fine` rays a side; the eyes are of `ink`."""
    colors = [outfit.of(region) for region in range(EYES)] + [ink]
    lamp = Light().tensors(len(w2c), w2c.device)
    return look([posed(rest_parts(seed), transforms, colors)], w2c, tan_half_fov, fine, lamp)
