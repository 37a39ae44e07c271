"""Boards take numbers and pictures; and the pictures of a step themselves."""

import sys
import types

import numpy as np
import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.render.step_pictures import StepPictures, collage, heat_map
from gs_ssd.run import boards


def pictures(views=2, size=32):
    gradient = torch.zeros(views, 4, 4, 4)
    gradient[1, :, 0, 3] = 1.0  # the second view's upper right corner
    return StepPictures(
        rgb=torch.full((views, 3, size, size), 0.5),
        disparity=torch.zeros(views, 1, size, size),
        alpha=torch.ones(views, 1, size, size),
        denoised=torch.rand(views, 3, 16, 16),
        gradient=gradient,
    )


def test_a_collage_has_a_row_a_view_and_shows_where_the_gradient_is():
    picture = collage(pictures(), size=24)
    assert (picture.shape, picture.dtype) == ((48, 5 * 24, 3), np.uint8)
    rgb, near, alpha, _, heat = np.split(picture, 5, axis=1)
    assert (rgb == 128).all()
    assert (near == 0).all()
    assert (alpha == 255).all()
    assert (heat[24:30, 18:] == 255).all()
    heat[24:30, 18:] = 0
    assert (heat == 0).all()


def test_heat_compares_views_and_survives_nothing():
    heat = heat_map(torch.tensor([[[3.0]], [[1.0]], [[0.0]]]))
    assert heat[:, :, 0, 0].tolist() == [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert (heat_map(torch.zeros(1, 2, 2)) == 0).all()


def test_tensorboard_reads_back_what_was_sent(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (board,) = boards.open_boards(tmp_path, 0, {}, tensorboard=True, wandb=None)
    for step in range(3):
        board.numbers({"grad_norm": 2.0 * step}, step)
    board.picture("guidance", collage(pictures(), size=8), 2)
    board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("grad_norm")] == [
        (0, 0.0),
        (1, 2.0),
        (2, 4.0),
    ]
    (image,) = events.Images("guidance")
    assert (image.step, image.width, image.height) == (2, 40, 16)


def test_wandb_keeps_its_run_when_a_run_is_resumed(tmp_path, monkeypatch):
    calls = []

    class Run:
        id = "abc"

        def log(self, values, step):
            calls.append((step, sorted(values)))

        def finish(self):
            calls.append("finished")

    def init(**arguments):
        calls.append((arguments["project"], arguments["id"]))
        return Run()

    monkeypatch.setitem(
        sys.modules, "wandb", types.SimpleNamespace(init=init, Image=lambda picture: picture)
    )
    for first_step in (0, 7):
        (board,) = boards.open_boards(
            tmp_path, first_step, {"seed": 1}, tensorboard=False, wandb="splats"
        )
        board.numbers({"t": 3.0}, first_step)
        board.close()
    assert calls == [
        ("splats", None),
        (0, ["t"]),
        "finished",
        ("splats", "abc"),
        (7, ["t"]),
        "finished",
    ]


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("torch.utils.tensorboard", {"tensorboard": True, "wandb": None}),
        ("wandb", {"tensorboard": False, "wandb": "splats"}),
    ],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, module, options):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match="pip install"):
        boards.open_boards(tmp_path, 0, {}, **options)


def test_nothing_asked_nothing_opened(tmp_path):
    assert boards.open_boards(tmp_path, 0, {}, tensorboard=False, wandb=None) == []
    assert list(tmp_path.iterdir()) == []
