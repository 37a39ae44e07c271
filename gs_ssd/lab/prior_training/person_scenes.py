"""Training pictures of persons: pose, camera, light and region of every ray; outfits are put on
when they are shown.

The tracer's light multiplies a surface's colour, so brightness and region at twice the resolution
are a picture in any colours: a few thousand poses do not wear out.
"""

import dataclasses
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from gs_ssd.body import mannequin, parts_picture, surface
from gs_ssd.body.pose_law import PoseConfig, PoseLaw
from gs_ssd.files import atomic_path
from gs_ssd.lab.world import person
from gs_ssd.lab.world.photographs import Studio, draw_lights
from gs_ssd.lab.world.views import CameraLaw, Views, draw_views
from gs_ssd.scene.camera import Cameras

BATCH = 8
FINE = 2
POSES = PoseConfig(rest_share=0.05, named_share=0.15, clip_share=0.25, spread=1.0)
CAMERAS = CameraLaw(fov_y_deg=(32.0, 40.0), closeup_share=0.12)


@dataclasses.dataclass(frozen=True)
class PersonScenes:
    """N pictures of persons, without colours, and what the prior is told of them."""

    brightness: UInt8[Tensor, "n f f"]
    """255 is the surface's own colour; of each ray, `FINE` a pixel."""
    region: UInt8[Tensor, "n f f"]
    """Index into `REGIONS`, `person.EYES`, or `person.NOTHING`."""
    told: UInt8[Tensor, "n c m m"]
    """The picture of the body's regions (`body.parts_picture`), 255: all of the pixel."""

    def __len__(self) -> int:
        return len(self.told)

    def __getitem__(self, index: Tensor | slice) -> "PersonScenes":
        return PersonScenes(self.brightness[index], self.region[index], self.told[index])


def dressed(
    scenes: PersonScenes, colors: Float[Tensor, "n r 3"]
) -> tuple[Float[Tensor, "n 3 s s"], Float[Tensor, "n 1 s s"]]:
    """Colours times alpha, and alpha, of the pictures in these outfits (`r` regions, the eyes'
    last).
    """
    worn = one_hot(scenes.region.long(), person.NOTHING + 1)[..., : person.NOTHING].float()
    rgb = torch.einsum("nhwr,nrc->nchw", worn, colors) * scenes.brightness[:, None].float() / 255
    alpha = (scenes.region != person.NOTHING).float()[:, None]
    return avg_pool2d(rgb, FINE), avg_pool2d(alpha, FINE)


def make_shard(count: int, size: int, map_size: int, seed: int) -> PersonScenes:
    """`count` pictures of as many persons, poses, cameras and lamps."""
    generator = torch.Generator().manual_seed(seed)
    body = mannequin.create()
    skin = surface.sample(body, 20_000, torch.Generator().manual_seed(0))
    law = PoseLaw(POSES, body)
    parts = [_batch(skin, law, size, map_size, generator) for _ in range(count // BATCH)]
    return _cat(parts)


def _cat(parts: list[PersonScenes]) -> PersonScenes:
    names = [field.name for field in dataclasses.fields(PersonScenes)]
    return PersonScenes(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _batch(
    skin: surface.Surface,
    law: PoseLaw,
    size: int,
    map_size: int,
    generator: torch.Generator,
) -> PersonScenes:
    views = draw_views(BATCH, CAMERAS, generator)
    seeds = torch.randint(2**31, (BATCH,), generator=generator).tolist()
    moved = [law.body.transforms(law.draw(generator)) for _ in range(BATCH)]
    cameras = _cameras(views, size)
    told = [
        parts_picture.draw(skin, pose, cameras[row : row + 1], map_size)
        for row, pose in enumerate(moved)
    ]
    told = torch.cat(told)
    white = [(1.0, 1.0, 1.0)] * person.NOTHING
    worn = [person.rest_parts(seed) for seed in seeds]
    people = [person.posed(parts, pose, white) for parts, pose in zip(worn, moved, strict=True)]
    light = draw_lights(BATCH, Studio(), generator)
    seen = person.look(people, views.w2c, views.tan_half_fov, size * FINE, light)
    return PersonScenes(_bytes(seen.shade[:, 0]), seen.region.byte(), _bytes(told))


def _cameras(views: Views, size: int) -> Cameras:
    polar = (90 - views.elevation_deg).deg2rad()
    radius = views.w2c[:, :3, 3].norm(dim=1)
    azimuth = views.azimuth_deg.deg2rad()
    return Cameras(views.w2c, views.tan_half_fov, size, size, azimuth, polar, radius, views.closeup)


def _bytes(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    return (x * 255).round().clamp(0, 255).byte()


def load(folder: Path, shards: int, count: int, size: int, map_size: int) -> PersonScenes:
    """All shards of `folder`; those that are missing are made there first."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for index in range(shards):
        path = folder / f"persons-{size}-{index:03d}.pt"
        if not path.exists():
            with atomic_path(path) as temporary:
                made = make_shard(count, size, map_size, 9000 + index)
                torch.save(vars(made), temporary)
        parts.append(PersonScenes(**torch.load(path, weights_only=True)))
    return _cat(parts)
