import pytest
import torch
import torch.nn.functional as F

from gs_ssd.errors import UserError
from gs_ssd.evaluate.clip_score import MEAN, STD, ClipScore

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A tiny CLIP with random weights and a tokenizer of single letters."""
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    letters = [chr(c) for c in range(97, 123)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": len(words), "max_position_embeddings": 12,
                     "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1},
        vision_config={**tower, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(path)
    transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]).save_pretrained(path)
    return str(path)


def test_the_score_is_the_cosine_that_the_model_itself_reports(folder):
    score = ClipScore(folder)
    pictures = torch.rand(3, 3, 32, 32)
    got = score(pictures, "red car")
    normal = (pictures - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    tokens = score.tokenizer(["red car"], return_tensors="pt")
    with torch.no_grad():
        logits = score.net(pixel_values=normal, **tokens).logits_per_image[:, 0] / score.net.logit_scale.exp()
    torch.testing.assert_close(got, 100 * logits, atol=1e-3, rtol=1e-4)
    assert bool((got.abs() <= 100).all())


def test_size_does_not_matter_and_long_sentences_are_cut(folder):
    score = ClipScore(folder)
    picture = F.interpolate(torch.rand(1, 3, 4, 4), (64, 64), mode="bilinear")
    assert float(score(picture, "a mug")) == pytest.approx(float(score(F.avg_pool2d(picture, 2), "a mug")), abs=0.5)
    assert score(picture, "a very long sentence of many letters").shape == (1,)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        ClipScore(str(tmp_path / "nowhere"))
