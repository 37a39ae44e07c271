"""The judge: what it says of true pictures it has not seen, and its manners."""

import json

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.lab import world
from gs_ssd.lab.evaluate import judge as judge_module
from gs_ssd.lab.evaluate.judge import FOLDER, Judge, load


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load()


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads((FOLDER / "card.json").read_text())


def test_it_knows_the_whole_world_and_is_small(judge):
    assert list(judge.config.kinds) == world.kinds()
    assert list(judge.config.colors) == world.colors()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3 * 2**20


def test_it_names_fresh_objects_before_fresh_backgrounds(judge):
    generator = torch.Generator().manual_seed(424_242)
    law = world.CameraLaw(high_share=0.0, closeup_share=0.0)
    right = []
    for index, kind in enumerate(world.kinds()):
        shot = world.photograph(kind, 4, 64, generator, law=law)
        opinion = judge(shot.rgb.float() / 255)
        right += [name == kind for name in opinion.kinds]
        assert opinion.features.shape[0] == 4, index
    assert sum(right) / len(right) > 0.85


@pytest.mark.parametrize(
    ("kind", "color"), [("mushroom", "red"), ("car", "blue"), ("chair", "brown")]
)
def test_its_ceiling_can_be_measured_again(judge, card, kind, color):
    views = world.turntable(16)
    score = judge.score(
        world.render(kind, color, views.w2c, views.tan_half_fov, 64, 64).rgb, kind, color
    )
    assert score.both > 0.7
    assert score.kind >= score.both
    assert 0.9 < card["ceiling"]["overall"]["kind"] <= 1


def test_large_pictures_are_averaged_down(judge):
    views = world.turntable(4)
    small, large = (
        judge(world.render("mushroom", "yellow", views.w2c, views.tan_half_fov, size, size).rgb)
        for size in (64, 256)
    )
    assert small.kinds == large.kinds
    cosine = torch.nn.functional.cosine_similarity(small.features, large.features)
    assert cosine.min() > 0.95


def test_an_empty_picture_is_not_a_confident_answer_for_every_kind(judge):
    blank = torch.ones(1, 3, 64, 64)
    answers = {kind: judge.score(blank, kind, "red").kind for kind in world.kinds()}
    assert sum(answers.values()) == 1  # one name, whatever it is


def test_unknown_names_and_missing_weights_are_told(judge, tmp_path):
    with pytest.raises(UserError, match="zebra"):
        judge.score(torch.zeros(1, 3, 64, 64), "zebra", "red")
    with pytest.raises(UserError, match="cannot read the judge"):
        judge_module.load(tmp_path)
