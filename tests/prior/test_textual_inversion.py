"""Learned tokens: which word is made, that it works, and what is said where it is not used."""

import logging

import pytest
import torch
from safetensors.torch import save_file

from gs_ssd.errors import UserError
from gs_ssd.guidance.prompts import PromptConfig, ViewPrompts, check_prompt
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.textual_inversion import expanded

pytest.importorskip("diffusers")


@pytest.fixture
def taught(folder, tmp_path, caplog):
    """A prior with an A1111 file of three vectors, and what was logged while it was loaded."""
    torch.manual_seed(0)
    save_file({"emb_params": torch.randn(3, 32)}, str(tmp_path / "myduck.safetensors"))
    with caplog.at_level(logging.INFO):
        prior = load(
            PriorConfig(
                model=str(folder), textual_inversion=(str(tmp_path / "myduck.safetensors"),)
            ),
            "cpu",
        )
    return prior, caplog.text


def test_a1111s_file_name_is_the_token(taught, folder):
    prior, said = taught
    plain = load(PriorConfig(model=str(folder)), "cpu")
    assert "write 'myduck' in the prompt" in said
    assert prior.metadata["learned_tokens"] == ["myduck"]
    assert "learned_tokens" not in plain.metadata
    shifts = [
        (prior.embed([text]) - plain.embed([text])).abs().max()
        for text in ("a myduck", "a red mug")
    ]
    assert shifts[0] > 0.1
    assert shifts[1] == 0


@pytest.mark.parametrize(
    ("prompt", "negative", "warns"),
    [("a red mug", "", True), ("a myduck", "", False), ("a mug", "myduck", False)],
)
def test_an_unused_token_is_said(taught, caplog, prompt, negative, warns):
    caplog.clear()
    ViewPrompts(taught[0], prompt, PromptConfig(negative=negative))
    assert ("holds a learned token" in caplog.text) == warns


def test_a_loaded_token_is_no_strange_word(folder, tmp_path, caplog):
    save_file({"<blob>": torch.randn(32)}, str(tmp_path / "blob.safetensors"))
    prior = load(
        PriorConfig(model=str(folder), textual_inversion=(str(tmp_path / "blob.safetensors"),)),
        "cpu",
    )
    prior.metadata |= {"kinds": ["mug"], "colors": ["red"]}
    check_prompt(prior, "a red <blob> mug")
    check_prompt(prior, "a <blob>")
    assert "never seen" not in caplog.text
    check_prompt(prior, "a red blob mug")
    assert "never seen 'blob'" in caplog.text


def learned(folder, tensors, path, *, token=""):
    if path.suffix == ".safetensors":
        save_file(tensors, str(path))
    else:
        torch.save(tensors, path)
    entry = f"{path}={token}" if token else str(path)
    return load(PriorConfig(model=str(folder), textual_inversion=(entry,)), "cpu")


def test_all_vectors_of_a_word_count_however_it_is_written(folder, tmp_path):
    """CLIP's tokenizer reads capitals as small letters, and a file may be named with them."""
    vectors = torch.randn(3, 32)
    prior = learned(folder, {"emb_params": vectors}, tmp_path / "MyDuck.safetensors")
    table = prior.text_encoder.get_input_embeddings().weight
    for text in ("a MyDuck", "a myduck", "a MYDUCK"):
        spelled = expanded(text, prior.tokenizer)
        ids = prior.tokenizer(spelled, add_special_tokens=False).input_ids
        torch.testing.assert_close(table[ids[-3:]], vectors)
    assert expanded("a MyDuck_1 mug", prior.tokenizer) == "a MyDuck_1 mug"
    assert prior.overflow("a MyDuck") == ""
    assert prior.overflow("MyDuck " * 5) != ""  # fifteen vectors for fourteen places


def test_a_word_inside_another_word_is_no_learned_token(folder, tmp_path, caplog):
    prior = learned(folder, {"emb_params": torch.randn(1, 32)}, tmp_path / "art.safetensors")
    plain = load(PriorConfig(model=str(folder)), "cpu")
    text = "a red cart, start"
    torch.testing.assert_close(prior.embed([text]), plain.embed([text]))
    assert (prior.embed(["art, red"]) - plain.embed(["art, red"])).abs().max() > 0.1
    ViewPrompts(prior, text, PromptConfig(negative=""))
    assert "holds a learned token" in caplog.text


@pytest.mark.parametrize("name", ["bad hands", "bad-hands-5", "duck_2", "Größe", "🦆", "<x>"])
def test_odd_names_are_tokens_too(folder, tmp_path, name):
    prior = learned(folder, {"emb_params": torch.randn(2, 32)}, tmp_path / f"{name}.safetensors")
    plain = load(PriorConfig(model=str(folder)), "cpu")
    assert prior.metadata["learned_tokens"] == [name]
    text = f"a {name}"
    assert (prior.embed([text]) - plain.embed([text])).abs().max() > 0.1
    assert expanded(text, prior.tokenizer) == f"a {name} {name}_1"


@pytest.mark.parametrize(
    ("tensors", "token", "said"),
    [
        (
            {"emb_params": torch.zeros(2, 768)},
            "",
            r"are \(2, 768\), the text encoder's are 32 wide",
        ),
        ({"emb_params": torch.zeros(0, 32)}, "", r"are \(0, 32\)"),
        ({"conv.weight": torch.zeros(2, 3, 4, 5)}, "", r"are \(2, 3, 4, 5\)"),
        ({"x": torch.tensor(1.0)}, "", r"are \(\)"),
        ({"emb_params": torch.full((2, 32), torch.nan)}, "", "it is not finite"),
        ({"clip_g": torch.zeros(2, 64), "clip_l": torch.zeros(2, 32)}, "", "vectors for SDXL"),
        ({"a.down": torch.zeros(2, 32), "a.up": torch.zeros(2, 32)}, "", "belongs into prior.lora"),
        ({}, "", "holds nothing"),
        ({"": torch.zeros(2, 32)}, "", "token '' is empty; name another one"),
        ({"emb_params": torch.zeros(2, 32)}, "q", "token 'q' is one of the tokenizer already"),
        ({"emb_params": torch.zeros(2, 32)}, "Q", "token 'Q' is one of the tokenizer already"),
        ({"emb_params": torch.zeros(2, 32)}, "<|endoftext|>", "is one of the tokenizer already"),
    ],
)
def test_what_is_no_learned_token_is_named(folder, tmp_path, tensors, token, said):
    with pytest.raises(UserError, match=rf"prior\.textual_inversion=.*word\.safetensors.*{said}"):
        learned(folder, tensors, tmp_path / "word.safetensors", token=token)


def test_a1111s_pickled_files(folder, tmp_path):
    vectors = {"string_to_param": {"*": torch.randn(2, 32)}}
    named = learned(folder, vectors | {"name": "foo"}, tmp_path / "bar.pt")
    unnamed = learned(folder, vectors, tmp_path / "bar.pt")
    plain = learned(folder, vectors["string_to_param"]["*"], tmp_path / "bar.pt")
    words = [prior.metadata["learned_tokens"] for prior in (named, unnamed, plain)]
    assert words == [["foo"], ["bar"], ["bar"]]


def test_a_file_whose_name_holds_an_equals_sign(folder, tmp_path):
    prior = learned(folder, {"emb_params": torch.randn(1, 32)}, tmp_path / "x=y.safetensors")
    assert prior.metadata["learned_tokens"] == ["x=y"]


def test_two_files_of_one_word_are_refused(folder, tmp_path):
    entries = []
    for name in ("Duck", "duck"):
        (tmp_path / name).mkdir()
        entries.append(str(tmp_path / name / f"{name}.safetensors"))
        save_file({"emb_params": torch.randn(2, 32)}, entries[-1])
    with pytest.raises(UserError, match="token 'duck' is one of the tokenizer already"):
        load(PriorConfig(model=str(folder), textual_inversion=tuple(entries)), "cpu")


def test_nothing_but_the_token_changes(folder, tmp_path):
    vectors = torch.randn(3, 32)
    prior = learned(folder, {"<x>": vectors}, tmp_path / "x.safetensors")
    plain = load(PriorConfig(model=str(folder)), "cpu")
    before, after = (p.text_encoder.get_input_embeddings().weight for p in (plain, prior))
    torch.testing.assert_close(after[: len(before)], before)
    torch.testing.assert_close(after[len(before) :], vectors)
