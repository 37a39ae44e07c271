#!/usr/bin/env bash
# One and the same DoRA gives two results in diffusers, by the names in its file. Under peft's names
# (lora_magnitude_vector) it is applied as trained. Under kohya's (dora_scale, what trainers outside
# diffusers write) the loader logs a warning, takes the scales out and goes on with what is left as a
# plain LoRA: no error, another result, though its own conversion of kohya's names, which comes next,
# translates dora_scale into lora_magnitude_vector and would give the right one.
# (diffusers 0.42.1, peft 0.21.2, transformers 5.23.0, torch 2.13.0 for CPUs; run on 2026-11-28,
# Python 3.11)
#
# Output seen (largest difference of a weight to the one that peft merges):
#   peft's names                        0.00
#   kohya's names, as loaded            0.20, warned
#   a plain LoRA of the same matrices   0.20
#   kohya's names, converted directly   0.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/pip install -q torch==2.13.0 --index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}"
env/bin/pip install -q diffusers==0.42.1 peft==0.21.2 transformers==5.23.0 accelerate==1.15.0
env/bin/python - 2>/dev/null <<'PY' | tee seen
import copy
import logging

import peft
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from diffusers.utils import logging as diffusers_logging

NAME = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
torch.manual_seed(0)
plain = UNet2DConditionModel(
    sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
    cross_attention_dim=32, attention_head_dim=2,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
trained = copy.deepcopy(plain)
trained.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=[NAME], use_dora=True,
                                    init_lora_weights=False))
layer = trained.get_submodule(NAME)
layer.lora_magnitude_vector["default"].weight.data *= 1.5
matrices = {"down": layer.lora_A["default"].weight, "up": layer.lora_B["default"].weight}
matrices = {kind: matrix.detach().clone() for kind, matrix in matrices.items()}
length = layer.lora_magnitude_vector["default"].weight.detach().clone()
layer.merge()
wanted = layer.base_layer.weight.detach()
warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
diffusers_logging.get_logger("diffusers").addHandler(handler)


def report(words, state, alphas=None):
    unet = copy.deepcopy(plain)
    StableDiffusionPipeline.load_lora_into_unet(state, alphas, unet)
    loaded = unet.get_submodule(NAME)
    loaded.merge()
    off = (loaded.base_layer.weight.detach() - wanted).abs().max().item()
    warned = any("DoRA" in warning for warning in warnings)
    warnings.clear()
    print(f"{words:<35} {off:.2f}{', warned' if warned else ''}")


key = "lora_unet_" + NAME.replace(".", "_")
kohya = {f"{key}.lora_{kind}.weight": matrix for kind, matrix in matrices.items()}
dora = kohya | {f"{key}.dora_scale": length.reshape(-1, 1)}
report("peft's names", {f"unet.{NAME}.lora_A.weight": matrices["down"],
                        f"unet.{NAME}.lora_B.weight": matrices["up"],
                        f"unet.{NAME}.lora_magnitude_vector": length})
report("kohya's names, as loaded", *StableDiffusionPipeline.lora_state_dict(dict(dora)))
report("a plain LoRA of the same matrices", *StableDiffusionPipeline.lora_state_dict(dict(kohya)))
converted, alphas = _convert_non_diffusers_lora_to_diffusers(
    kohya | {f"{key}.dora_scale": length})
report("kohya's names, converted directly", converted, alphas)
PY
diff seen - <<'EOF'
peft's names                        0.00
kohya's names, as loaded            0.20, warned
a plain LoRA of the same matrices   0.20
kohya's names, converted directly   0.00
EOF
