"""What a run optimized, read back from its folder."""

from pathlib import Path

import torch

from gs_ssd import config as configs
from gs_ssd.assets import choice
from gs_ssd.assets.base import Asset
from gs_ssd.run import checkpoint as checkpoints


def newest_asset(folder: Path) -> Asset:
    """The asset of the newest checkpoint in `folder`, on the CPU, as its last step left it.

    Raises:
        UserError: no checkpoint that can be read, or one of another asset than config.yaml's.
    """
    newest = checkpoints.load_newest(folder / "checkpoints")
    asset = choice.create(configs.load(folder / "config.yaml"), torch.device("cpu"))
    asset.load_state_dict(newest.state["asset"])
    return asset
