"""Learned tokens: which word is made, that it works, and what is said where it is not used."""

import logging

import pytest
import torch
from safetensors.torch import save_file

from gs_ssd.guidance.prompts import PromptConfig, ViewPrompts, check_prompt
from gs_ssd.prior import PriorConfig, load

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
