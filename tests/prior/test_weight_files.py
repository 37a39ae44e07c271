"""Weights in shards or in one precision: fetched, found again offline, or named as lacking."""

import shutil

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig, load, weight_files

pytest.importorskip("diffusers")
NAME = "someone/model"


@pytest.fixture
def saved(tiny, tmp_path):
    """Save a tiny pipeline whose parts are in shards, in the given precisions."""

    def save(*variants, size="150KB"):
        folder = tmp_path / "repository"
        for variant in variants:
            pipe = tiny.pipeline(tmp_path / "words")
            if variant == "fp16":
                for part in (pipe.unet, pipe.vae, pipe.text_encoder):
                    part.half()
            pipe.save_pretrained(str(folder), variant=variant, max_shard_size=size)
        return folder

    return save


def opened(**settings):
    return load(PriorConfig(model=NAME, **settings), "cpu")


def weights(prior):
    return [w.float() for m in (prior.unet, prior.vae, prior.text_encoder) for w in m.parameters()]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("variants", [(None,), ("fp16",), (None, "fp16")], ids=str)
def test_shards_of_any_precision_are_fetched_and_found_again(saved, open_hub, variants, dtype):
    folder = saved(*variants)
    assert len(list((folder / "unet").glob("*-of-*.safetensors"))) > 2
    whole = weights(load(PriorConfig(model=str(folder), dtype="float32"), "cpu"))
    hub = open_hub(folder)
    online, offline = opened(dtype=dtype), opened(dtype=dtype, offline=True)
    for prior in (online, offline):
        torch.testing.assert_close(weights(prior), whole, atol=2e-3, rtol=1e-3)
    tensors = [name for name in hub.sent if name.endswith(".safetensors")]
    assert len(tensors) == len(set(tensors))
    halves = {bool(weight_files.HALF.search(name)) for name in tensors}
    wanted = "fp16" if dtype == "float16" else None
    assert halves == {(wanted if wanted in variants else variants[0]) == "fp16"}


def test_a_part_that_exists_in_full_precision_only_is_taken_so(saved, open_hub):
    folder = saved(None, "fp16")
    for file in (folder / "text_encoder").glob("*fp16*"):
        file.unlink()
    hub = open_hub(folder)
    assert opened(dtype="float16").dtype == torch.float16
    tensors = [name for name in hub.sent if name.endswith(".safetensors")]
    full = {name.split("/")[0] for name in tensors if not weight_files.HALF.search(name)}
    assert full == {"text_encoder"}


def test_full_precision_is_fetched_beside_half_precision(saved, open_hub):
    hub = open_hub(saved(None, "fp16"))
    opened(dtype="float16")
    assert not any("unet/diffusion_pytorch_model-" in name for name in hub.sent)
    opened(dtype="float32")
    assert any("unet/diffusion_pytorch_model-" in name for name in hub.sent)


def test_a_missing_shard_is_named(saved, open_hub, tmp_path):
    open_hub(saved(None))
    opened()
    (shard,) = (tmp_path / "cache").rglob("unet/*-00002-of-*.safetensors")
    shard.unlink()
    with pytest.raises(UserError, match="the cache lacks the weights of unet"):
        opened(offline=True)


def test_a_repository_without_safetensors_is_refused(saved, open_hub):
    folder = saved(None)
    for file in (folder / "vae").glob("*.safetensors"):
        file.unlink()
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"pickled")
    open_hub(folder)
    with pytest.raises(UserError, match="the repository lacks the weights of vae"):
        opened()


def test_a_repository_that_is_no_pipeline_is_refused(saved, open_hub):
    folder = saved(None)
    (folder / "model_index.json").unlink()
    open_hub(folder)
    with pytest.raises(UserError, match=r"it has no model_index\.json"):
        opened()


def test_shards_of_a_local_folder_are_read(saved, tmp_path):
    folder = saved(None)
    assert load(PriorConfig(model=str(folder)), "cpu").dtype == torch.float32
    (shard,) = (folder / "unet").glob("*-00002-of-*.safetensors")
    shutil.move(shard, tmp_path / "away")
    with pytest.raises(UserError, match="unet"):
        load(PriorConfig(model=str(folder)), "cpu")


@pytest.mark.parametrize(
    ("names", "full", "half"),
    [
        (["model.safetensors"], True, False),
        (["model.fp16.safetensors"], False, True),
        (["model-00001-of-00002.safetensors"], False, False),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], True, False),
        (["model.fp16-00001-of-00001.safetensors"], False, True),
        (["model-00001-of-00001.fp16.safetensors"], False, True),
        (["model-00001-of-00002.safetensors", "model-00002-of-00003.safetensors"], False, False),
    ],
)
def test_what_counts_as_all_of_the_weights(tmp_path, names, full, half):
    for name in names:
        (tmp_path / name).touch()
    assert weight_files.complete(tmp_path, False) == full
    assert weight_files.complete(tmp_path, True) == half
    assert weight_files.complete(tmp_path) == (full or half)
    assert weight_files.variant(tmp_path, False) == ("fp16" if half and not full else None)
