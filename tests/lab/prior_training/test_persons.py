"""The person prior as it comes with the program: it draws the pose and the outfit it is told, and
is trained by a tool that continues where it stopped."""

import math
import shutil

import pytest
import torch

from gs_ssd.body import mannequin
from gs_ssd.body.body import Pose
from gs_ssd.body.poses import POSES, pose
from gs_ssd.errors import UserError
from gs_ssd.lab import world
from gs_ssd.lab.prior_training import person_training, publish_person
from gs_ssd.lab.world import person
from gs_ssd.lab.world.person import Outfit
from gs_ssd.prior import BUNDLED, PERSON, PriorConfig, load
from gs_ssd.prior.condition import Condition

UNSEEN = pose(
    {"right_shoulder": [("y", -60.0)], "left_hip": [("x", 50.0)], "left_knee": [("x", -40.0)]}
)


@pytest.fixture(scope="module")
def prior():
    return load(PriorConfig(model="person"), "cpu")


@pytest.mark.parametrize("where", [Pose.rest(), POSES["sit"], UNSEEN], ids=["a", "sit", "unseen"])
def test_it_draws_the_pose_and_the_outfit_that_it_is_told(prior, where):
    azimuths = (0.3, 2.0)
    prompt = "a person with blond hair in a green shirt and purple trousers"
    drawn = publish_person.draw(prior, prompt, where, azimuths, 0, steps=12)
    views = world.orbit(
        torch.tensor([math.degrees(a) for a in azimuths]),
        torch.full((2,), 90 - math.degrees(1.4)),
        3.35,
        math.degrees(0.62),
    )
    outfit = Outfit(
        hair=(0.88, 0.72, 0.40), shirt=world.COLORS["green"], trousers=world.COLORS["purple"]
    )
    moved = mannequin.create().transforms(where)
    truth = person.render(outfit, moved, views.w2c, views.tan_half_fov, 64)
    inside = truth.alpha[:, 0] > 0.5
    border = torch.cat([drawn[:, :, :4].flatten(2), drawn[:, :, -4:].flatten(2)], 2).mean(2)
    far = (drawn - border[:, :, None, None]).abs().amax(1) > 0.15
    iou = (far & inside).sum() / (far | inside).sum()
    assert iou > 0.6, iou
    # The trousers and the shirt have their colours: nearer to the truth than to each other's.
    for row in range(2):
        shade = truth.rgb[row].movedim(0, -1)
        for own, other in ((outfit.shirt, outfit.trousers), (outfit.trousers, outfit.shirt)):
            unit = torch.nn.functional.normalize(torch.tensor(own), dim=0)
            there = ((shade @ unit) / shade.norm(dim=-1).clamp_min(1e-3) > 0.995) & inside[row]
            color = drawn[row].movedim(0, -1)[there].mean(0)
            distance = [(color - 0.8 * torch.tensor(c)).norm() for c in (own, other)]
            assert distance[0] < 0.6 * distance[1]


def test_the_empty_sentence_sees_no_body(prior):
    x, t = torch.randn(1, 12, 16, 16), torch.tensor([400])
    regions = torch.rand(1, 5, 32, 32) / 5
    text, null = prior.embed(["a person in a red shirt", ""])
    told = prior.predict_noise(x, t, Condition(text[None], image=regions))
    blank = prior.predict_noise(x, t, Condition(text[None], image=0 * regions))
    assert (told - blank).abs().max() > 0.05
    free = [
        prior.predict_noise(x, t, Condition(null[None], image=p)) for p in (regions, 0 * regions)
    ]
    assert torch.equal(*free)
    with pytest.raises(UserError, match="asset=avatar"):
        prior.predict_noise(x, t, Condition(text[None]))


def test_embeddings_mix_linearly_and_hold_the_outfit(prior):
    red, blue, half = prior.embed(["a man in a red shirt", "a man in a blue shirt", "a man"])
    mixed = (red + blue) / 2
    assert torch.equal(red[:-1], half[:-1])
    torch.testing.assert_close(
        mixed[-1, 6:9],
        torch.tensor(
            [sum(c) / 2 for c in zip(world.COLORS["red"], world.COLORS["blue"], strict=True)]
        ),
    )


def test_a_difference_from_another_base_and_damaged_files_are_refused(tmp_path):
    folder = tmp_path / "person"
    shutil.copytree(PERSON, folder)
    (folder / "gs_ssd.json").write_text((folder / "gs_ssd.json").read_text() + " ")
    with pytest.raises(UserError, match=r"gs_ssd\.json is damaged"):
        load(PriorConfig(model=str(folder)), "cpu")
    from gs_ssd import checksums

    card = (PERSON / "gs_ssd.json").read_text()
    (folder / "gs_ssd.json").write_text(card.replace('"base": "', '"base": "0'))
    checksums.write(folder)
    with pytest.raises(UserError, match="another version of the bundled prior"):
        load(PriorConfig(model=str(folder)), "cpu")


def test_training_goes_on_where_it_stopped_and_is_published(tmp_path):
    config = person_training.PRESETS["smoke"]
    first = person_training.PersonTrainer(tmp_path / "whole", config, BUNDLED)
    assert first.fit(10.0, report=lambda _: None)
    shutil.copytree(tmp_path / "whole" / "persons", tmp_path / "parts" / "persons")
    part = person_training.PersonTrainer(tmp_path / "parts", config, BUNDLED)
    part._train_step(part.pictures())
    part.save()
    again = person_training.PersonTrainer(tmp_path / "parts", config, BUNDLED)
    assert again.step == 1
    again.fit(10.0, report=lambda _: None)
    for name, value in first.difference().items():
        torch.testing.assert_close(value, again.difference()[name], msg=name)
    assert any(value.abs().max() > 0 for name, value in first.difference().items() if ".up" in name)
