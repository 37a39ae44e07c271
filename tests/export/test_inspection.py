"""What `gs-ssd inspect` counts: layers against brute force, losses against what formats are known
to lose."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from diff_gaussian_rasterization import render_views

from gs_ssd.cli import main
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import write_splats
from gs_ssd.export.inspection import LIMITS, inspect, warnings_about
from gs_ssd.export.overdraw import overdraw
from gs_ssd.export.views import VIEWS, cameras_around, in_unit_ball


def test_layers_are_the_rasterizers(make_splats):
    """Each splat alone, drawn by the rasterizer: a pixel has it as a layer where its alpha is not
    zero."""
    splats = dataclasses.replace(
        make_splats(24, frame="world"), logit_opacities=np.linspace(-4, 4, 24)
    )
    size, unit = 64, in_unit_ball(splats)
    cameras = cameras_around(size)
    layers = np.zeros((VIEWS, size, size), dtype=int)
    for i in range(len(unit)):
        one = unit.take(np.array([i]))
        views = render_views(
            *(torch.from_numpy(array) for array in (one.means, one.quats_wxyz, one.scales,
                one.opacities)),
            colors=torch.ones(1, 3), w2c=cameras.w2c, tan_half_fov=cameras.tan_half_fov, width=size,
            height=size,
            background=torch.zeros(VIEWS, 3),
        )  # fmt: skip
        layers += (views.alpha[:, 0] > 0).numpy()
    found = overdraw(splats, size)
    assert found.fill == pytest.approx(layers.mean(), rel=2e-3)
    assert found.mean == pytest.approx(layers[layers > 0].mean(), rel=2e-3)
    assert abs(found.worst - layers.max()) <= 1


def test_layers_grow_with_what_lies_behind(make_splats):
    splats = make_splats(50)
    once, twice = overdraw(splats, 64), overdraw(splats.take(np.tile(np.arange(50), 2)), 64)
    assert twice.fill == pytest.approx(2 * once.fill, rel=0.05)
    assert twice.worst == pytest.approx(2 * once.worst, abs=2)  # the framing moves a little
    faint = dataclasses.replace(splats, logit_opacities=np.full(50, -9.0))
    assert overdraw(faint, 64).fill == 0


def test_losses_are_those_of_the_formats(make_splats):
    splats = dataclasses.replace(
        make_splats(300, degree=2, frame="world"), log_scales=np.full((300, 3), -2.5)
    )
    report = inspect(splats)
    assert report.losses[".ply"].psnr is None or report.losses[".ply"].psnr > 100
    assert report.losses[".spz"].psnr > report.losses[".splat"].psnr
    assert (report.losses[".splat"].degree, report.losses[".spz"].degree) == (0, 2)
    assert report.losses[".spz"].bytes < report.losses[".ply"].bytes / 3


def test_counts_bounds_and_distributions(make_splats):
    splats = make_splats(200, frame="gltf")
    splats.means[7] = [np.nan, 0, 0]
    splats.means[8] = [5, -6, 7]
    splats.logit_opacities[:20] = -9
    report = inspect(splats, draw=False)
    assert (report.splats, report.non_finite, report.invisible) == (200, 1, 19)
    assert report.low[1] == -6
    assert report.high[2] == 7
    assert report.opacities[50] == pytest.approx(0.5, abs=0.15)
    assert math.exp(-5) < report.sigmas[5] < report.sigmas[95] < math.exp(-1)
    assert report.overdraw is None
    assert report.losses == {}
    assert any("1 splats are NaN" in warning for warning in report.warnings)


def test_limits_name_their_source(make_splats):
    few = inspect(make_splats(3), draw=False)

    def warnings(**change: int) -> str:
        return "\n".join(warnings_about(dataclasses.replace(few, **change)))

    assert warnings(splats=LIMITS[0].splats, invisible=0) == ""
    assert all(limit.source in warnings(splats=1_000_001) for limit in LIMITS)
    quest = next(limit for limit in LIMITS if "Quest" in limit.where)
    assert f"--simplify {quest.splats}" in warnings(splats=quest.splats + 1)
    assert "--sh-degree 1" in warnings(degree=2)


def test_the_mark_of_antialiasing_is_not_repeated_for_every_format(tmp_path, make_splats, caplog):
    splats = dataclasses.replace(make_splats(20), antialiased=True)
    write_splats(tmp_path / "a.ply", splats)
    assert main(["inspect", str(tmp_path / "a.ply")]) == 0
    assert caplog.text.count("trained with antialiasing") == 1


def test_nothing_but_broken_splats(make_splats):
    splats = make_splats(3)
    splats.means[:] = np.inf
    report = inspect(splats)
    assert report.non_finite == 3
    assert report.opacities == {}


def test_command(tmp_path, capsys):
    write_splats(tmp_path / "a.ply", axes_object(), frame="blender")
    assert main(["inspect", str(tmp_path / "a.ply")]) == 0
    text = capsys.readouterr().out
    assert "18 splats, harmonics of degree 1" in text
    assert "blender (noted in a.ply.axes.json)" in text
    assert "layers per pixel" in text
    assert "without harmonics" in text
    assert "--for supersplat" in text
    assert main(["inspect", str(tmp_path / "a.ply"), "--json", "--quick"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["splats"], report["frame"], report["overdraw"]) == (18, "blender", None)
    assert main(["inspect", str(tmp_path / "b.ply")]) == 2
    assert "b.ply" in capsys.readouterr().err
