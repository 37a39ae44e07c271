"""LoRA files and learned tokens with random damage: read, or one sentence, nothing else."""

import copy
import logging
import random

import pytest
import torch
from safetensors.torch import save_file

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig

pytest.importorskip("diffusers")
KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
PAIR = {f"{KEY}.lora_down.weight": torch.ones(2, 16), f"{KEY}.lora_up.weight": torch.ones(16, 2)}
SETTINGS = {"lora_adapter_metadata": '{"unet.lora_alpha": 4, "unet.r": 2}'}
ROUNDS = 60


@pytest.fixture(scope="module")
def pipe(folder):
    from gs_ssd.prior.pipelines import open_pipeline

    return open_pipeline(folder, PriorConfig(model=str(folder)), half=False)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, removed, added or cut off, most of them in the header."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        place = rng.randrange(min(len(out), 600) if rng.random() < 0.7 else len(out))
        kind = rng.random()
        if kind < 0.6:
            out[place] = rng.randrange(256)
        elif kind < 0.75:
            del out[place : place + rng.randrange(1, 40)]
        elif kind < 0.9:
            out[place:place] = rng.randbytes(rng.randrange(1, 20))
        else:
            del out[place:]
        if not out:
            break
    return bytes(out)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["lora.safetensors", "lora.pt", "word.safetensors", "word.pt"])
def test_random_damage_is_read_or_refused(pipe, tmp_path, name, caplog):
    from gs_ssd.prior import lora, textual_inversion
    from gs_ssd.prior.pipelines import door

    caplog.set_level(logging.CRITICAL)
    file = tmp_path / name
    content = PAIR if name.startswith("lora") else {"emb_params": torch.ones(3, 32)}
    if name.endswith(".pt"):
        torch.save(content, file)
    else:
        save_file(content, str(file), metadata=SETTINGS if name.startswith("lora") else None)
    sound, rng, refused = file.read_bytes(), random.Random(5), []
    for _ in range(ROUNDS):
        file.write_bytes(damaged(sound, rng))
        fresh = copy.copy(pipe)
        fresh.tokenizer = copy.deepcopy(pipe.tokenizer)
        fresh.text_encoder = copy.deepcopy(pipe.text_encoder)
        try:
            with door(f"prior.addition={file}"):
                if name.startswith("lora"):
                    lora.fuse(fresh, str(file), 0.0, offline=True)
                else:
                    textual_inversion.learn(fresh, str(file), None, offline=True)
        except UserError as error:
            refused.append(str(error))
    assert ROUNDS > len(refused) > ROUNDS // 2
    assert all(str(file) in message for message in refused)
