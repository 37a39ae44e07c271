"""Stable Diffusion 1.x and 2.x behind `base.DiffusionPrior`.

The bundled prior is a folder in the same format and comes through the same code. Noise prediction
is epsilon above this door; a v-prediction model is converted here, once. Everything is frozen; only
`encode` carries a gradient.
"""

import warnings
from typing import Any

import torch
from diffusers import AutoencoderTiny, ControlNetModel
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from gs_ssd.errors import UserError
from gs_ssd.maths.diffusion import eps_from_v
from gs_ssd.prior import PriorConfig, choose_dtype
from gs_ssd.prior.base import BodyPicture
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.controlnet import check_width, hint_of, kind_of
from gs_ssd.prior.patch_encoder import read_off
from gs_ssd.prior.pipelines import door, fetched
from gs_ssd.prior.textual_inversion import expanded, learned_tokens


class StableDiffusionPrior:
    """A StableDiffusionPipeline as a `DiffusionPrior`; the pipeline's own modules are frozen, moved
    and used.

    `source` says where its files came from, for a run's record ("" where it was made of a pipeline
    in memory).

    Args:
        pipe: a StableDiffusionPipeline of one's own, or what `open_pipeline` read
            (`gs_ssd.prior.load` does both).
        metadata: see `base.DiffusionPrior`.

    Raises:
        UserError: an image size or prediction type that does not fit; see `load` for files.
    """

    def __init__(
        self,
        pipe: Any,
        config: PriorConfig,
        device: torch.device,
        dtype: torch.dtype,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        self.metadata, self.source = metadata or {}, ""
        if words := learned_tokens(pipe.tokenizer):
            self.metadata = self.metadata | {"learned_tokens": words}
        if not hasattr(pipe.scheduler, "alphas_cumprod"):
            raise UserError(
                f"prior.model={config.model}: {type(pipe.scheduler).__name__} has no beta schedule"
            )
        self.prediction = config.prediction or pipe.scheduler.config.prediction_type
        if self.prediction not in ("epsilon", "v_prediction"):
            raise UserError(f"prior.model={config.model}: prediction type {self.prediction!r} "
                            "is not supported; "
                            "set prior.prediction to epsilon or v_prediction")  # fmt: skip
        self.alphas_cumprod = pipe.scheduler.alphas_cumprod.float().to(self.device)
        self.tokenizer = pipe.tokenizer
        self.text_encoder = freeze(pipe.text_encoder, self.device, self.dtype)
        self.unet = self._place(pipe.unet)
        self.vae = self._place_vae(pipe.vae)
        linear = self.metadata.get("encoder") == "patches" and not config.tiny_vae
        self.patches = read_off(self.vae, self.vae_factor) if linear else None
        self.control: str | None = None
        self.controlnet = self._load_controlnet()
        self.uses_depth, self.uses_cameras = self.control == "depth", False
        self.image_size = config.image_size or pipe.unet.config.sample_size * self.vae_factor
        if self.image_size % self.vae_factor:
            raise UserError(
                f"prior.image_size={self.image_size} must be a multiple of {self.vae_factor}"
            )
        skeleton = BodyPicture("openpose", self.image_size)
        self.body_picture = skeleton if self.control == "openpose" else None
        if config.compile:
            self.unet.compile()

    def _place(self, module: Any) -> Any:
        module = freeze(module, self.device, self.dtype)
        if self.config.attention_slicing and hasattr(module, "set_attention_slice"):
            module.set_attention_slice("auto")
        if self.config.channels_last and self.device.type == "cuda":
            module = module.to(memory_format=torch.channels_last)
        return module

    def _place_vae(self, vae: Any) -> Any:
        if self.config.tiny_vae:
            with door(f"prior.tiny_vae={self.config.tiny_vae}"):
                kind: Any = AutoencoderTiny
                vae = fetched(kind, self.config.tiny_vae, self.config.offline)
        wanted = self.config.vae_dtype
        dtype = self.dtype if wanted is None else choose_dtype(wanted, self.device)
        vae = freeze(self._place(vae), self.device, dtype)
        if self.config.sliced_vae:
            vae.enable_slicing()
        channels = vae.config.get("block_out_channels") or vae.config.encoder_block_out_channels
        self.vae_factor = 2 ** (len(channels) - 1)
        return vae

    def _load_controlnet(self) -> Any:
        if not self.config.controlnet:
            return None
        name = self.config.controlnet
        self.control = kind_of(name, self.config.control)
        with door(f"prior.controlnet={name}"):
            net = fetched(ControlNetModel, name, self.config.offline)
        check_width(net, self.unet, name)
        return self._place(net)

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> Float[Tensor, "p l d"]:
        """Last hidden states of the text encoder, in float32 (so that mixing views loses
        nothing)."""
        if self.text_encoder is None:
            raise RuntimeError(
                "the text encoder was released; embed every prompt before release_text_encoder()"
            )
        ids = self.tokenizer(
            [expanded(prompt, self.tokenizer) for prompt in prompts],
            padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt",
        ).input_ids  # fmt: skip
        return self.text_encoder(ids.to(self.device))[0].float()

    @property
    def max_tokens(self) -> int:
        """Tokens of a prompt that the text encoder reads, the two marks at the ends included."""
        return self.text_encoder.config.max_position_embeddings

    def overflow(self, prompt: str) -> str:
        """The end of the prompt that the text encoder cannot read; empty where all of it fits."""
        ids = self.tokenizer(
            expanded(prompt, self.tokenizer), add_special_tokens=False, verbose=False
        ).input_ids
        return self.tokenizer.decode(ids[self.max_tokens - 2 :]).strip()

    def release_text_encoder(self) -> None:
        """Free the text encoder's memory once all prompts are embedded."""
        self.text_encoder = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def encode(
        self, rgb: Float[Tensor, "b 3 H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Latents x scaling factor, float32, with gradient; pictures of another size are resized
        with antialiasing."""
        if rgb.shape[-2:] != (self.image_size, self.image_size):
            rgb = interpolate(
                rgb, (self.image_size, self.image_size), mode="bilinear", antialias=True
            )
        centred = 2 * rgb - 1
        if self.patches is not None and generator is None:
            return self.patches(centred.float()) * self.vae.config.scaling_factor
        pictures = centred.to(self.vae.dtype)
        if self.vae.device.type == "cuda" and self.config.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        encoded = self.vae.encode(pictures)
        if self.config.tiny_vae:
            latents = encoded.latents
        else:
            posterior = encoded.latent_dist
            latents = posterior.mean if generator is None else posterior.sample(generator)
        latents = latents.float() * self.vae.config.scaling_factor
        if self.vae.dtype == torch.float16 and latents.requires_grad:
            _level_gradient(latents, centred)
        return latents

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Pictures in 0..1, float32."""
        pictures = self.vae.decode(
            (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        ).sample
        return ((pictures.float() + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    def predict_noise(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        condition: Condition,
    ) -> Float[Tensor, "b c h w"]:
        """One UNet call for the whole batch; depth or skeleton drive a ControlNet."""
        x, (text, added) = (
            self.unet_input(x_t.to(self.dtype), condition),
            self.unet_arguments(condition),
        )
        if self.config.channels_last and self.device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        if self.controlnet is not None:
            hint = hint_of(self.control or "", condition, self.image_size).to(self.dtype)
            scale = self.config.control_scale
            down, mid = self.controlnet(
                x, t, text, hint, conditioning_scale=scale, return_dict=False, **added
            )
            added |= {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        return self.as_noise(
            x_t, t, self.unet(x, t, encoder_hidden_states=text, return_dict=False, **added)[0]
        )

    def unet_input(self, x: Tensor, condition: Condition) -> Tensor:  # noqa: ARG002
        """What the UNet's first convolution sees: the noisy latents, and whatever a model lays
        beside them."""
        return x

    def unet_arguments(self, condition: Condition) -> tuple[Tensor, dict[str, Any]]:
        """What the UNet is told: text, and keyword arguments beside it."""
        return condition.text.to(self.dtype), {}

    def as_noise(self, x_t: Tensor, t: Tensor, output: Tensor) -> Tensor:
        """The UNet's output as epsilon, in the dtype of `x_t`: the one place where v is
        converted."""
        output = output.to(x_t.dtype)
        return (
            eps_from_v(x_t, output, self.alphas_cumprod[t])
            if self.prediction == "v_prediction"
            else output
        )

    def trainable_copy(self, rank: int) -> "LoraCopy":
        """A LoRA on the attention of this very UNet, switched on only inside the copy's own
        predictions."""
        return LoraCopy(self, rank)


class LoraCopy:
    """A LoRA of the UNet that learns while the weights under it stay frozen
    (`base.TrainableCopy`)."""

    NAME = "critic"

    def __init__(self, prior: StableDiffusionPrior, rank: int) -> None:
        self.prior, self.unet = prior, prior.unet
        # Another critic may live on this prior already: each keeps an adapter of its own, as both
        # may keep learning.
        taken = getattr(self.unet, "peft_config", {})
        self.name = self.NAME if self.NAME not in taken else f"{self.NAME}_{len(taken) + 1}"
        add_lora(self.unet, rank, self.name)
        self.trained = [
            parameter
            for name, parameter in self.unet.named_parameters()
            if f".{self.name}." in name
        ]
        for parameter in self.trained:
            parameter.data = parameter.data.float()
        self._switch_off()

    def _switch_off(self) -> None:
        self.unet.disable_adapters()
        for parameter in self.trained:
            parameter.requires_grad_(
                True
            )  # peft freezes what it disables, and a backward pass is still to come

    def parameters(self) -> list[torch.nn.Parameter]:
        """Both halves of every low-rank pair, float32."""
        return self.trained

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The noise prediction with the LoRA on."""
        x = self.prior.unet_input(x_t.to(self.prior.dtype), condition)
        text, added = self.prior.unet_arguments(condition)
        if len(self.unet.peft_config) > 1:
            self.unet.set_adapter(self.name)
        self.unet.enable_adapters()
        try:
            output = self.unet(x, t, encoder_hidden_states=text, return_dict=False, **added)[0]
        finally:
            self._switch_off()
        return self.prior.as_noise(x_t, t, output)


def add_lora(unet: Any, rank: int, name: str) -> None:
    """Add a fresh LoRA on the UNet's attention, which changes no prediction yet.

    Raises:
        UserError: peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise UserError(
            "guidance.estimator=vsd trains a LoRA and needs peft: pip install peft"
        ) from error
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # it is meant
        torch.manual_seed(
            0
        )  # peft draws from the global generator; the other half of each pair starts at zero
        unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), adapter_name=name
        )


def _level_gradient(after: Float[Tensor, "b c h w"], before: Float[Tensor, "b 3 H W"]) -> None:
    """Let the gradient pass from `after` back to `before` at a size of about 1 per sample, and be
    its own size elsewhere.

    In between it travels in float16, where what is below 6e-8 is zero, and below 6e-5 coarse. SSD's
    gradient has no guidance factor in it, and would be there: at a small t w(t) E is 1e-4 and less.
    """
    size: list[Tensor] = []

    def to_one(gradient: Tensor) -> Tensor:
        size[:] = [gradient.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)]
        return gradient / size[0]

    after.register_hook(to_one)
    if before.requires_grad:
        before.register_hook(lambda gradient: gradient * size[0])


def freeze(module: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Move and freeze, with torch's own `to`: that of diffusers warns of float32 modules that are
    not there."""
    return torch.nn.Module.to(module.requires_grad_(False).eval(), device=device, dtype=dtype)
