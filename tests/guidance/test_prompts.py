"""View-dependent prompts: LucidDreamer's mixing, a prior's own view words, and what is refused or
warned about."""

import logging
import math
from dataclasses import replace

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.guidance.prompts import (
    LUCID_NEGATIVE,
    LUCID_VIEWS,
    PromptConfig,
    ViewPrompts,
    fill,
    mix_weights,
)
from gs_ssd.scene.camera import at_angles

VIEWS = {
    "azimuth_words": [[0, "front"], [90, "right"], [180, "back"], [270, "left"]],
    "elevation_words": [[0, "level"], [60, "above"]],
    "template": "{prompt}, {azimuth}, {elevation}",
}


def _cameras(azimuth_rad, polar_rad):
    return at_angles(azimuth_rad, polar_rad, radius=4.0, fov_y_rad=0.7, size=16)


@pytest.fixture
def spelled(prior):
    """A prior whose embedding spells out the prompt: one axis a prompt text."""
    prior.seen = []

    def embed(prompts):
        prior.seen.extend(text for text in prompts if text not in prior.seen)
        return torch.stack([torch.eye(32)[[prior.seen.index(text)]] for text in prompts])

    prior.embed = embed
    return prior


def _shares(prior, embedding):
    return {
        prior.seen[i]: round(v, 4) for i, v in enumerate(embedding[0].tolist()) if abs(v) > 1e-6
    }


@pytest.mark.parametrize(("azimuth", "shares"), [
    (0, {"front": 1}), (45, {"front": 0.5, "side": 0.5}), (-45, {"front": 0.5, "side": 0.5}),
    (90, {"side": 1}), (-90, {"side": 1}), (135, {"side": 0.5, "back": 0.5}), (180, {"back": 1}),
    (-180, {"back": 1}), (370, {"front": 0.8889, "side": 0.1111}),
])  # fmt: skip
def test_lucid_dreamers_interpolation(spelled, azimuth, shares):
    batch = ViewPrompts(spelled, "a mug.", PromptConfig()).at(
        _cameras([math.radians(azimuth)], [1.5])
    )
    assert _shares(spelled, batch.main.text[0]) == {
        f"a mug, {word} view": share for word, share in shares.items()
    }
    assert batch.negatives == ()
    assert batch.live == []


def test_a_priors_own_words_mix_bilinearly(spelled):
    spelled.metadata = {"views": VIEWS}
    prompts = ViewPrompts(spelled, "a mug", PromptConfig())
    batch = prompts.at(
        _cameras([math.radians(-60)], [math.radians(75)])
    )  # 300 degrees, elevation 15
    expected = {
        "a mug, left, level": 2 / 3 * 3 / 4,
        "a mug, front, level": 1 / 3 * 3 / 4,
        "a mug, left, above": 2 / 3 / 4,
        "a mug, front, above": 1 / 3 / 4,
    }
    assert _shares(spelled, batch.main.text[0]) == {
        k: pytest.approx(v, abs=1e-4) for k, v in expected.items()
    }
    high = prompts.at(_cameras([0.0], [math.radians(5)]))  # beyond the last word: clamped
    assert _shares(spelled, high.main.text[0]) == {"a mug, front, above": 1}
    assert torch.equal(
        prompts.negative, prompts.null
    )  # no default negative for a prior with its own words


def test_a_view_of_a_part_says_so_where_the_prior_has_words_for_it(spelled):
    cameras = _cameras([0.0, 0.0], [math.pi / 2] * 2)
    cameras = replace(cameras, closeup=torch.tensor([False, True]))
    assert torch.equal(*ViewPrompts(spelled, "a mug", PromptConfig()).at(cameras).main.text)
    spelled.metadata = {"views": VIEWS, "camera": {"closeup": {"template": "closeup of {prompt}"}}}
    config = PromptConfig(perp_neg=True)
    batch = ViewPrompts(spelled, "a mug.", config).at(cameras)
    assert [_shares(spelled, e) for e in batch.main.text] == [
        {"a mug, front, level": 1},
        {"closeup of a mug, front, level": 1},
    ]
    assert _shares(spelled, batch.negatives[1].text[1]) == {"closeup of a mug, right, level": 1}


def test_perp_neg_names_front_and_this_side(spelled):
    spelled.metadata = {"views": VIEWS}
    config = PromptConfig(perp_neg=True)
    batch = ViewPrompts(spelled, "a cat", config).at(
        _cameras([math.radians(45), math.radians(-135)], [math.pi / 2] * 2)
    )
    assert [_shares(spelled, e) for e in batch.negatives[0].text] == [
        {"a cat, front, level": 1}
    ] * 2
    assert [_shares(spelled, e) for e in batch.negatives[1].text] == [
        {"a cat, right, level": 1},
        {"a cat, left, level": 1},
    ]
    assert batch.weights[0] == pytest.approx((-0.736, -2), rel=1e-2)
    assert len(batch.live) == 4


def test_a_prior_that_uses_cameras_gets_them_and_complements_see_their_own_view(spelled):
    cameras = _cameras([math.radians(45), math.radians(-135)], [1.2, 1.5])
    config = PromptConfig(perp_neg=True)
    assert ViewPrompts(spelled, "a cat", config).at(cameras).main.cameras is None
    spelled.uses_cameras = True
    batch = ViewPrompts(spelled, "a cat", config).at(cameras)
    assert torch.equal(batch.main.cameras.w2c, cameras.w2c)
    for told, azimuth in zip(
        batch.negatives, ([0.0, 0.0], [math.pi / 2, -math.pi / 2]), strict=True
    ):
        torch.testing.assert_close(told.cameras.w2c, _cameras(azimuth, [1.2, 1.5]).w2c)


def test_without_view_words_every_view_is_the_same(spelled):
    batch = ViewPrompts(spelled, "a cat", PromptConfig(view_dependent=False)).at(
        _cameras([0.0, 2.0], [1.0, 2.0])
    )
    assert (
        _shares(spelled, batch.main.text[0]) == _shares(spelled, batch.main.text[1]) == {"a cat": 1}
    )


def test_negative_prompts(spelled):
    ViewPrompts(spelled, "a cat", PromptConfig())
    assert LUCID_NEGATIVE in spelled.seen
    ViewPrompts(spelled, "a cat", PromptConfig(negative="grey"))
    assert "grey" in spelled.seen


def test_embeddings_are_computed_once(spelled):
    prompts = ViewPrompts(spelled, "a cat", PromptConfig(perp_neg=True))
    spelled.embed = None
    prompts.at(_cameras([0.3], [1.0]))


@pytest.mark.parametrize(("azimuth", "elevation", "text"), [
    ("front view", "", "a cat, front view"), ("", "from above", "a cat, from above"),
    ("", "", "a cat"),
])  # fmt: skip
def test_empty_words_leave_no_comma(azimuth, elevation, text):
    assert fill("{prompt}, {azimuth}, {elevation}", "a cat.", azimuth, elevation) == text


def test_mix_weights_are_a_partition():
    for row in mix_weights([-500.0, -15.0, 0.0, 33.0, 359.9], [0.0, 45.0, 200.0], period=360.0):
        assert sum(row) == pytest.approx(1)
        assert min(row) >= 0


VOCABULARY = {
    "kinds": ["mug", "mushroom", "palm tree"],
    "colors": ["red", "blue"],
    "synonyms": {"mug": ["tea cup"]},
}


def test_empty_prompts_are_refused(prior):
    with pytest.raises(UserError, match="prompt is empty"):
        ViewPrompts(prior, "  ", PromptConfig())


def test_unknown_kinds_are_refused_with_the_nearest(prior, caplog):
    prior.metadata = VOCABULARY
    with pytest.raises(UserError, match=r"did you mean mushroom.*--anyway"):
        ViewPrompts(prior, "a red mushrom", PromptConfig())
    with caplog.at_level(logging.WARNING):
        ViewPrompts(prior, "a red mushrom", PromptConfig(), anyway=True)
    assert "mushroom" in caplog.text


def test_a_colour_is_not_taken_for_a_misspelt_object(prior):
    prior.metadata = VOCABULARY | {"kinds": ["apple", "table", "mug"], "colors": ["purple", "blue"]}
    with pytest.raises(UserError, match=r"'a purple zebra'; it can draw"):
        ViewPrompts(prior, "a purple zebra", PromptConfig())
    with pytest.raises(UserError, match=r"did you mean mug\?"):
        ViewPrompts(prior, "a blue mgu", PromptConfig())


@pytest.mark.parametrize("prompt", [
    "a red mug", "two Mugs, of blue", "a palm tree", "a photo of a mushroom, red", "a blue tea cup",
])  # fmt: skip
def test_known_prompts_pass(prior, caplog, prompt):
    prior.metadata = VOCABULARY
    with caplog.at_level(logging.WARNING):
        ViewPrompts(prior, prompt, PromptConfig())
    assert caplog.text == "" or "'two'" in caplog.text


def test_a_part_of_a_kind_is_not_the_kind(prior):
    prior.metadata = VOCABULARY
    with pytest.raises(UserError, match="palm tree"):
        ViewPrompts(prior, "a palm", PromptConfig())


def test_strange_words_are_named(prior, caplog):
    prior.metadata = VOCABULARY
    with caplog.at_level(logging.WARNING):
        ViewPrompts(prior, "a baroque red mug", PromptConfig())
    assert "'baroque'" in caplog.text
    assert "'red'" not in caplog.text


def reads(prior, count, monkeypatch):
    """Let the prior read the first `count` words of a text only."""
    embed = prior.embed
    monkeypatch.setattr(prior, "overflow", lambda text: " ".join(text.split()[count:]))
    monkeypatch.setattr(
        prior, "embed", lambda texts: embed([" ".join(text.split()[:count]) for text in texts])
    )


@pytest.mark.parametrize("length", [3, 9, 40])
def test_a_long_prompt_loses_its_own_end_and_keeps_the_views(length, prior, caplog, monkeypatch):
    reads(prior, 8, monkeypatch)
    prompt = "a mushroom " + " ".join(f"w{i}" for i in range(length))
    views = ViewPrompts(prior, prompt, PromptConfig(perp_neg=True, negative="")).table[0, 0]
    short = ViewPrompts(prior, "a mushroom", PromptConfig(perp_neg=True, negative="")).table[0, 0]
    assert torch.equal(views, short)
    assert (views[0] - views[2]).abs().max() > 0.1  # front and back
    said = [record.getMessage() for record in caplog.records]
    lost = " ".join(f"w{i}" for i in range(4, length))
    expected = f"the prompt is too long for the text encoder; its end {lost!r} is left out, "
    expected += "so that the words for the view fit"
    assert said == ([] if length <= 4 else [expected])  # once, not once a view


@pytest.mark.parametrize("views", [{}, {"views": LUCID_VIEWS}])
def test_nfsd_has_a_negative_of_its_own_on_every_prior(views, prior, monkeypatch):
    monkeypatch.setattr(prior, "metadata", {**prior.metadata, **views})
    plain = ViewPrompts(prior, "a mushroom", PromptConfig())
    assert plain.negative_prompt == ("" if views else LUCID_NEGATIVE)
    needed = ViewPrompts(prior, "a mushroom", PromptConfig(), needs_negative=True)
    assert needed.negative_prompt == LUCID_NEGATIVE
    assert not torch.equal(needed.negative, needed.null)
    with pytest.raises(UserError, match=r"guidance\.prompts\.negative is empty"):
        ViewPrompts(prior, "a mushroom", PromptConfig(negative=" "), needs_negative=True)


def test_one_long_word_is_tried_as_it_is(prior, monkeypatch):
    reads(prior, 1, monkeypatch)
    ViewPrompts(prior, "mushroom", PromptConfig())


def test_a_negative_prompt_that_is_cut_is_said_by_its_key(prior, caplog):
    prior.overflow = lambda text: text[30:]
    with caplog.at_level(logging.WARNING):
        ViewPrompts(
            prior,
            "a red mug",
            PromptConfig(negative="blurry, " * 4 + "many faces", view_dependent=False),
        )
    assert [record.getMessage() for record in caplog.records] == [
        "guidance.prompts.negative is too long for the text encoder; its end ', many faces' is"
        " cut off"
    ]
