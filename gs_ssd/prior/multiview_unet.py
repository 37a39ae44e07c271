"""A Stable Diffusion UNet that looks at several views of one object together, as MVDream's does
(Shi et al. 2023, arXiv:2308.16512).

Two things are added to diffusers' class. Self-attention joins the tokens of all views of a group;
and each view's camera, sixteen numbers through two linear layers, joins the timestep's embedding,
which is what diffusers calls a projected class embedding. Without cameras the rows are single
pictures, as in half of MVDream's training.
"""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from jaxtyping import Float
from torch import Tensor

from gs_ssd.scene.camera import Cameras

CAMERA_NUMBERS = 16
BASE: Any = UNet2DConditionModel  # diffusers loads its classes lazily, so no type checker knows it


class JointAttention:
    """Attention in which the rows of a group share their tokens; a text's tokens stay its row's
    own."""

    def __init__(self) -> None:
        self.attend: Any = AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "b l c"],
        encoder_hidden_states: Float[Tensor, "b m d"] | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        views: int = 1,
    ) -> Float[Tensor, "b l c"]:
        """`views` consecutive rows are a group (`cross_attention_kwargs` of the UNet)."""
        if encoder_hidden_states is not None or views == 1:
            return self.attend(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        rows, tokens, channels = hidden_states.shape
        together = hidden_states.reshape(rows // views, views * tokens, channels)
        return self.attend(attn, together, None, None, temb).reshape(rows, tokens, channels)


class MultiViewUNet(BASE):
    """A UNet2DConditionModel with `class_embed_type="projection"`, of which the class labels are
    cameras; without them nothing is added to the timestep's embedding."""

    @classmethod
    def empty(cls, config: dict[str, Any]) -> "MultiViewUNet":
        """With tensors that have shapes and no values (for `load_state_dict(assign=True)`).

        Args:
            config: of a UNet2DConditionModel, without class embeddings.
        """
        cameras = {
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": CAMERA_NUMBERS,
        }
        with torch.device("meta"):
            unet: Any = cls.from_config(config | cameras)
        unet.set_attn_processor(JointAttention())
        return unet

    def get_class_embed(self, sample: Tensor, class_labels: Tensor | None) -> Tensor | None:
        """The cameras' embedding, or none for single pictures."""
        return None if class_labels is None else super().get_class_embed(sample, class_labels)


def camera_numbers(cameras: Cameras) -> Float[Tensor, "v 16"]:
    """Cameras as MVDream was taught them: camera to world, row by row, position of length 1.

    Its camera axes are OpenGL's (x right, y up, z backward), ours OpenCV's. Its world has z up too,
    but azimuth 0, the front, at +x and 90 degrees at +y, so ours is turned a quarter about z: our
    front (+y) becomes +x, and our 90 degrees (+x) becomes -y.
    """
    right, down, forward = cameras.w2c[:, :3, :3].unbind(dim=1)
    position = torch.nn.functional.normalize(cameras.positions, dim=1)
    ours = torch.stack([right, -down, -forward, position], dim=2)
    theirs = torch.stack([ours[:, 1], -ours[:, 0], ours[:, 2]], dim=1)
    last = torch.zeros_like(theirs[:, :1])
    last[:, :, 3] = 1
    return torch.cat([theirs, last], dim=1).flatten(1)
