"""The benchmark's wiring with a real splat, the true world and a stand-in for the judge; nothing is
trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gs_ssd import config as configs
from gs_ssd.errors import UserError
from gs_ssd.export import ply, splats
from gs_ssd.lab.evaluate.benchmark import Variant, plan, run_jobs
from gs_ssd.lab.evaluate.judge import Opinion
from gs_ssd.lab.evaluate.measure import Pictures, Truth, numbers_beside_truth
from gs_ssd.lab.evaluate.suite import Entry, Suite, Turntable
from gs_ssd.lab.evaluate.trainings import Cost, TrainingError
from gs_ssd.lab.reproduce.assets import Workshop, load_splat
from gs_ssd.prior import PriorConfig, load
from gs_ssd.scene.gaussians import Gaussians

pytest.importorskip("diff_gaussian_rasterization")
TURNTABLE = Turntable(views=4)
SUITE = Suite("toy", "A ball.", (Entry("a red ball", "ball", "red"),), (0, 1), turntable=TURNTABLE)


def ball(seed: int) -> Gaussians:
    """A shell of red splats about as large as the world's ball, and one far floater."""
    points = torch.nn.functional.normalize(
        torch.randn(3000, 3, generator=torch.Generator().manual_seed(seed)), dim=1
    )
    points = torch.cat([points * 0.54, torch.tensor([[0.0, 0.0, 1.05]])])
    count = len(points)
    red = (torch.tensor([0.86, 0.07, 0.07]) - 0.5) / 0.28209479
    return Gaussians(
        means=points,
        log_scales=torch.full((count, 3), -3.8),
        quats_wxyz=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        logit_opacities=torch.full((count,), 5.0),
        sh_dc=red.repeat(count, 1)[:, None],
        sh_rest=torch.zeros(count, 0, 3),
    )


def judge(rgb: torch.Tensor) -> Opinion:
    """Sees balls everywhere, and red only where red leads."""
    middle = rgb[:, :, 24:40, 24:40].mean(dim=(2, 3))
    names = ["red" if r > 2 * max(g, b) else "green" for r, g, b in middle.tolist()]
    return Opinion(["ball"] * len(rgb), names, middle)


def train(job, folder) -> Cost:
    folder.mkdir(parents=True)
    ply.write_ply(
        folder / "point_cloud.ply", splats.from_gaussians(ball(job.seed)).to_frame("inria")
    )
    lines = [
        json.dumps(
            {
                "seconds_per_step": s,
                "num_splats": 3001,
                "unet_images": 8,
                "peak_memory_mib": peak,
            }
        )
        for s, peak in ((0.1, 300), (0.2, 410), (0.3, 50))  # the last one in a process of its own
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return Cost(3.0, 2.5)


def test_a_job_goes_on_from_its_own_checkpoints_alone(tmp_path, monkeypatch):
    commands = []

    def stopped(command, log):
        commands.append(command)
        (log.parent / "checkpoints").mkdir(parents=True, exist_ok=True)
        (log.parent / "checkpoints" / "step_000007.pt").touch()
        return Cost(1.0, 1.0)

    monkeypatch.setattr("gs_ssd.lab.reproduce.assets.run_process", stopped)
    workshop = Workshop(Path("some.yaml"), tmp_path, TURNTABLE, None)
    job, other = (plan(SUITE, [Variant("ssd")], common=[f"num_steps={n}"])[0] for n in (9, 10))
    for each in (job, job, other, other):
        workshop.train(each, tmp_path / "runs" / each.key)
    assert [("--resume" in command) for command in commands] == [False, True, False, True]
    monkeypatch.setattr(
        Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):  # killed before the marker is written
        workshop.train(job, tmp_path / "runs" / job.key)
    assert not list(tmp_path.rglob("*.pt"))


def test_an_asset_is_measured_against_the_true_object(tmp_path):
    workshop = Workshop(tmp_path / "config.yaml", tmp_path, TURNTABLE, judge, size=128)
    jobs = plan(SUITE, [Variant.parse("ssd")])
    records = list(run_jobs(jobs, tmp_path, train, workshop.measure, say=lambda _: None))
    for record in records:
        assert record["iou"] > 0.9
        assert "fronts" not in record  # a ball has no face
        assert 0 < record["outside"] < 0.02
        assert record["outside_truth"] == 0
        assert record["kind_share"] == record["kind_ceiling"] == 1
        assert record["edge_px"] > record["edge_px_truth"]
        assert record["haze"] > record["haze_truth"]
        assert (record["steps"], record["seconds_per_step"], record["unet_images"]) == (3, 0.2, 24)
        assert record["memory_mib"] == 410
    path = workshop.write_summary(jobs, "Toy")
    assert "every kind >= 0.7 of its ceiling: reached" in path.read_text()
    assert "Frechet distance" in path.read_text()
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"
    many = plan(SUITE, [Variant.parse("ssd"), *(Variant(f"ssd@{i}") for i in range(7))], seeds=[0])
    for job in many[1:]:
        shutil.copytree(tmp_path / "runs" / many[0].key, tmp_path / "runs" / job.key)
    assert [len(line) for line in workshop._sheet_rows(many)] == [
        6,
        3,
    ]  # the true object and eight assets
    page = (tmp_path / "index.html").read_text()
    for name in ("truth/a-red-ball/strip.png", "runs/ssd/a-red-ball/seed-1/strip.png"):
        assert name in page
        assert (tmp_path / name).exists()
    np.testing.assert_equal(
        np.load(tmp_path / "runs/ssd/a-red-ball/seed-0/views.npz")["rgb"].shape, (4, 64, 64, 3)
    )


def test_a_free_prompt_is_measured_without_judge_and_truth(tmp_path):
    workshop = Workshop(tmp_path / "config.yaml", tmp_path, TURNTABLE, judge, size=64)
    jobs = plan(
        Suite("free", "", (Entry("a hamburger"),), (0,), turntable=TURNTABLE),
        [Variant.parse("ssd")],
    )
    (record,) = run_jobs(jobs, tmp_path, train, workshop.measure, say=lambda _: None)
    assert not {"kind_share", "iou", "haze_truth"} & set(record)
    assert 0 < record["haze"] < 1
    assert "haze" not in workshop.write_summary(jobs, "Free").read_text()
    assert "a hamburger" in (tmp_path / "index.html").read_text()


def test_a_splat_is_read_back_in_the_world_s_axes(tmp_path):
    gaussians = ball(0)
    ply.write_ply(tmp_path / "a.ply", splats.from_gaussians(gaussians).to_frame("inria"))
    back = load_splat(tmp_path / "a.ply").gaussians
    torch.testing.assert_close(back.means, gaussians.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(back.sh_dc, gaussians.sh_dc, atol=1e-5, rtol=0)
    with pytest.raises(UserError):
        load_splat(tmp_path / "missing.ply")


def test_a_duck_has_three_front_views_and_a_two_faced_one_has_more():
    truth = Truth(Entry("a yellow duck", "duck", "yellow"), Turntable(), size=64)
    honest = numbers_beside_truth(truth.coarse, truth)
    silhouette = {"iou": 1.0, "iou_worst": 1.0, "psnr": 100.0}
    parts = {f"part_{name}": 1.0 for name in ("beak", "eyes", "tail", "gaps")} | {
        "parts": 1.0,
        "part_worst": 1.0,
    }
    assert honest == silhouette | parts | {"fronts": 3.0, "fronts_truth": 3.0, "face_behind": 0.0}
    order = [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    ]  # the back is the front again, at its own elevation
    views = torch.stack([truth.around[v, a] for v, a in enumerate(order)])
    janus = Pictures(
        views.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), truth.coarse.alpha
    )
    assert numbers_beside_truth(janus, truth)["fronts"] > 3
    assert (
        numbers_beside_truth(janus, truth)["face_behind"] > 0.5
    )  # less than 1: these faces bring their own light
    turned = truth.coarse.rgb.clone()
    turned[truth.behind] = truth.turned.rgb
    assert numbers_beside_truth(Pictures(turned, truth.coarse.alpha), truth)[
        "face_behind"
    ] == pytest.approx(1)


def test_the_world_shows_no_truth_for_a_free_prompt():
    with pytest.raises(ValueError, match="no true shape"):
        Truth(Entry("a hamburger"), TURNTABLE)


def test_a_folder_that_no_benchmark_made_is_not_deleted(tmp_path):
    (job, *_) = plan(SUITE, [Variant.parse("ssd")])
    folder = tmp_path / "runs" / job.key
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    workshop = Workshop(tmp_path / "config.yaml", tmp_path, TURNTABLE)
    with pytest.raises(UserError, match="was not made by a benchmark"):
        workshop.train(job, folder)
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_prior_that_is_there_trains_in_this_process_and_goes_on(tmp_path, monkeypatch):
    """The folder is what a process would leave; a failure is a record, as there."""
    monkeypatch.setattr(
        "gs_ssd.lab.reproduce.assets.run_process", lambda *_: pytest.fail("a process")
    )
    config = tmp_path / "config.yaml"
    config.write_text("prior: {model: analytic}\ninitialize: {num_points: 60, shape: ball}\n")
    small = ("num_steps=2", "viewpoints.image_size=16", "densify.policy=none", "finish.steps=0")
    prior = load(PriorConfig(model="analytic"), "cpu")
    workshop = Workshop(config, tmp_path, TURNTABLE, None, size=64, prior=prior)
    job = plan(SUITE, [Variant.parse("ssd")], common=small)[0]
    folder = tmp_path / "runs" / job.key
    cost = workshop.train(job, folder)
    assert cost.cpu_seconds > 0
    assert cost.seconds > 0
    assert configs.load(folder / "config.yaml").prompt == job.entry.prompt
    measured = workshop.measure(job, folder)
    assert measured["steps"] == 2
    assert "memory_mib" not in measured  # this process keeps what earlier trainings freed
    before = (folder / "metrics.jsonl").read_text()
    workshop.train(job, folder)  # its own checkpoint: nothing is left to do
    assert (folder / "metrics.jsonl").read_text() == before
    bad = plan(SUITE, [Variant("ssd", ("guidance.estimator=ssd", "num_steps=-1"))])[0]
    with pytest.raises(TrainingError, match="num_steps"):
        workshop.train(bad, tmp_path / "runs" / "other")
