import shutil

import pytest
import torch
import torch.nn.functional as F

from gs_ssd.errors import UserError
from gs_ssd.export import ply, splats
from gs_ssd.lab.evaluate.benchmark import Job, Variant
from gs_ssd.lab.evaluate.clip_score import MEAN, STD, ClipScore
from gs_ssd.lab.evaluate.measure import photograph
from gs_ssd.lab.evaluate.suite import Entry, Turntable
from gs_ssd.lab.reproduce.assets import Workshop, load_splat
from gs_ssd.scene.gaussians import Gaussians

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A tiny CLIP with random weights and a tokenizer of single letters."""
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tower = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    letters = [chr(c) for c in range(97, 123)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": len(words), "max_position_embeddings": 12,
                     "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1},
        vision_config={**tower, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(path)
    transformers.CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[]
    ).save_pretrained(path)
    return str(path)


def test_the_score_is_the_cosine_that_the_model_itself_reports(folder):
    score = ClipScore(folder)
    pictures = torch.rand(3, 3, 32, 32)
    got = score(pictures, "red car")
    normal = (pictures - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    tokens = score.tokenizer(["red car"], return_tensors="pt")
    with torch.no_grad():
        logits = (
            score.net(pixel_values=normal, **tokens).logits_per_image[:, 0]
            / score.net.logit_scale.exp()
        )
    torch.testing.assert_close(got, 100 * logits, atol=1e-3, rtol=1e-4)
    assert bool((got.abs() <= 100).all())


def test_size_does_not_matter_and_long_sentences_are_cut(folder):
    score = ClipScore(folder)
    picture = F.interpolate(torch.rand(1, 3, 4, 4), (64, 64), mode="bilinear")
    assert float(score(picture, "a mug")) == pytest.approx(
        float(score(F.avg_pool2d(picture, 2), "a mug")), abs=0.5
    )
    assert score(picture, "a very long sentence of many letters").shape == (1,)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        ClipScore(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("settings", ["[" * 100_000, "[]", "{}", '{"vision_config": 3}', ""])
def test_a_model_whose_settings_make_no_sense_is_named(settings, tmp_path):
    (tmp_path / "config.json").write_text(settings)
    with pytest.raises(UserError, match=f"--clip {tmp_path} cannot be read"):
        ClipScore(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x05\x06" + bytes(18), bytes(range(256))])
def test_a_file_that_is_no_model_is_named(content, tmp_path):
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(UserError, match=f"--clip {tmp_path / 'model'} cannot be read"):
        ClipScore(str(tmp_path / "model"))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_truncated_part_is_named(name, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    whole = (tmp_path / "model" / name).read_bytes()
    (tmp_path / "model" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"--clip {tmp_path / 'model'} cannot be read"):
        ClipScore(str(tmp_path / "model"))


def test_the_benchmark_scores_every_view_of_a_free_prompt(folder, tmp_path):
    pytest.importorskip("diff_gaussian_rasterization")
    count, run = 40, tmp_path / "run"
    run.mkdir()
    cloud = Gaussians(
        means=0.5 * torch.randn(count, 3),
        log_scales=torch.full((count, 3), -2.0),
        quats_wxyz=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        logit_opacities=torch.full((count,), 3.0),
        sh_dc=torch.randn(count, 1, 3),
        sh_rest=torch.zeros(count, 0, 3),
    )
    ply.write_ply(run / "point_cloud.ply", splats.from_gaussians(cloud).to_frame("inria"))
    (run / "metrics.jsonl").write_text("")
    score, table = ClipScore(folder), Turntable(views=4)
    workshop = Workshop(tmp_path / "config.yaml", tmp_path, table, size=64, clip=score)
    record = workshop.measure(Job(Entry("a hamburger"), 0, Variant("ssd")), run)
    views = score(photograph(load_splat(run / "point_cloud.ply"), table, 64).rgb, "a hamburger")
    assert record["clip"] == folder
    assert record["clip_mean"] == pytest.approx(float(views.mean()), abs=1e-4)
    assert record["clip_worst"] == pytest.approx(float(views.min()), abs=1e-4)
    assert "iou" not in record
