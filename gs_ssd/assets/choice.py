"""One config word picks the representation that is optimized."""

from collections.abc import Callable

import torch

from gs_ssd.assets.avatar.asset import AvatarAsset
from gs_ssd.assets.base import Asset
from gs_ssd.assets.nerf.asset import NerfAsset
from gs_ssd.assets.splat.asset import SplatAsset, SplatConfig
from gs_ssd.assets.splat.initial import first_gaussians
from gs_ssd.config import ExperimentConfig
from gs_ssd.prior.base import ImaginesShapes
from gs_ssd.scene.gaussians import Gaussians


def _sections(config: ExperimentConfig) -> SplatConfig:
    return SplatConfig(
        prompt=config.prompt,
        initialize=config.initialize,
        optimizer=config.optimizer,
        regularize=config.regularize,
        densify=config.densify,
        finish=config.finish,
        augment=config.augment,
        offline=config.prior.offline,
    )


def _splat(config: ExperimentConfig, device: torch.device, prior: object) -> SplatAsset:
    imaginer = prior if isinstance(prior, ImaginesShapes) else None
    return SplatAsset(_sections(config), device, imaginer)


def _avatar(config: ExperimentConfig, device: torch.device, prior: object) -> AvatarAsset:
    del prior
    return AvatarAsset(_sections(config), config.avatar, device)


def _nerf(config: ExperimentConfig, device: torch.device, prior: object) -> NerfAsset:
    start = config.initialize
    if start.shape == "sphere":  # the default: the field's own blob
        return NerfAsset(config.nerf, device)
    imaginer = prior if isinstance(prior, ImaginesShapes) else None

    def shape(generator: torch.Generator) -> Gaussians:
        offline = config.prior.offline
        return first_gaussians(
            start, config.prompt, generator, device, offline=offline, imaginer=imaginer
        )

    return NerfAsset(config.nerf, device, shape)


ASSETS: dict[str, Callable[[ExperimentConfig, torch.device, object], Asset]] = {
    "splat": _splat,
    "avatar": _avatar,
    "nerf": _nerf,
}
"""By the name in the config; an asset begins empty, until `initialize` or `load_state_dict`."""

FILES = tuple(dict.fromkeys((*SplatAsset.files, *AvatarAsset.files, *NerfAsset.files)))
"""What the exports of all of them are called."""


def create(config: ExperimentConfig, device: torch.device, prior: object = None) -> Asset:
    """The asset that the config asks for, still empty.

    Args:
        prior: may know a shape to begin with (`ImaginesShapes`).

    Raises:
        UserError: a number that makes no sense; names the key.
    """
    return ASSETS[config.asset](config, device, prior)
