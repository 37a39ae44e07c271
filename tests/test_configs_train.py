"""Every YAML under configs/ trains, resumes to the same bits, and does not depend on the scale of
the prior's answer."""

import dataclasses
import functools
from pathlib import Path

import pytest
import torch

from gs_ssd import config as configs
from gs_ssd import prior as priors
from gs_ssd.assets.splat import initial
from gs_ssd.assets.splat.densify.surgery import TrainedSplat
from gs_ssd.prior.shap_e import Shape
from gs_ssd.trainer import Trainer

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = [pytest.param(path, id=path.stem) for path in sorted(CONFIGS.rglob("*.yaml"))]

SMALL = (
    "device=cpu", "viewpoints.image_size=32", "num_steps=4", "initialize.num_points=80",
    "initialize.text_steps=1", "initialize.text_grid=12", "densify.adaptive.every=1",
    "densify.adaptive.start_share=0", "densify.adaptive.stop_share=0.8",
    "densify.mcmc.every=1", "densify.mcmc.budget=90", "output.checkpoint_every=2",
    "output.preview_every=3", "output.process_frames=2", "output.turntable_frames=0",
    "output.test_views=0", "nerf.log2_entries=8", "nerf.steps=48", "nerf.resolution=[[0, 24]]",
    "nerf.conversion.steps=4", "nerf.conversion.views=8", "nerf.conversion.image_size=32",
    "nerf.blob_density=40", "nerf.warm_start.steps=4", "nerf.warm_start.image_size=24",
    "output.turntable_size=64",
)  # fmt: skip
FINISH_STEPS = 4


@pytest.fixture
def small(tiny_stable_diffusion, tiny_mvdream, tiny_taesd, tiny_shap_e):
    """A config file at a size for seconds, with small random models of the classes that it asks
    for."""

    def load(path, *overrides):
        options = [*SMALL, f"initialize.text_model={tiny_shap_e}", *overrides]
        config = configs.load(path, options)
        if config.prior.model != "analytic":
            folder = tiny_mvdream if config.prior.model == "mvdream" else tiny_stable_diffusion
            config = dataclasses.replace(
                config, prior=dataclasses.replace(config.prior, model=str(folder))
            )
        if config.prior.tiny_vae:
            config = dataclasses.replace(
                config, prior=dataclasses.replace(config.prior, tiny_vae=str(tiny_taesd))
            )
        config = dataclasses.replace(
            config,
            finish=_shortened(config.finish),
            nerf=dataclasses.replace(config.nerf, finish=_shortened(config.nerf.finish)),
        )
        return config if config.prompt else dataclasses.replace(config, prompt="a red mug")

    return load


def _shortened(finish):
    """A few steps of it, where the config has one at all."""
    return dataclasses.replace(finish, steps=min(finish.steps, FINISH_STEPS))


def trained_tensors(trainer):
    """By name, of either kind of asset."""
    asset = trainer.asset
    return asset.field.parameters if asset.kind == "nerf" else asset.gaussians.parameters()


@pytest.mark.parametrize("path", FILES)
def test_two_steps_resumed_to_four_equal_four_uninterrupted(path, small, tmp_path):
    config = small(path)
    prior = priors.load(config.prior, "cpu")
    whole = Trainer(config, tmp_path / "whole", prior=prior)
    before = {name: tensor.detach().clone() for name, tensor in trained_tensors(whole).items()}
    whole.fit()
    Trainer(config, tmp_path / "parts", prior=prior).fit(until=2)
    resumed = Trainer(config, tmp_path / "parts", prior=prior, resume=True)
    resumed.fit()
    after, again = trained_tensors(whole), trained_tensors(resumed)
    assert all(torch.equal(tensor, again[name]) for name, tensor in after.items())
    assert whole.job.bad_steps == 0
    assert all(tensor.isfinite().all() for tensor in after.values())
    moved = [
        name
        for name, a in before.items()
        if len(a) != len(after[name]) or not torch.equal(a, after[name])
    ]
    assert {name for name, tensor in after.items() if tensor.numel()} <= {*moved, "sh_rest"}
    assert (tmp_path / "whole/point_cloud.ply").read_bytes() == (
        tmp_path / "parts/point_cloud.ply"
    ).read_bytes()
    assert (tmp_path / "parts/process.mp4").is_file()
    assert (
        configs.load(tmp_path / "whole" / "config.yaml") == config
    )  # a run's folder describes itself


@pytest.mark.parametrize("as_latents", [0, 1])
def test_low_vram_changes_no_gradient(as_latents, small, tmp_path):
    """The real classes in slices and passes against the same step in one piece (the posterior's
    noise is another)."""
    options = (
        "initialize.shape=ball",
        "guidance.sample_posterior=false",
        f"guidance.depth_as_latents={as_latents}",
    )
    gradients = {}
    for name in ("object", "low_vram"):
        config = small(CONFIGS / "presets" / f"{name}.yaml", *options)
        trainer = Trainer(config, tmp_path, prior=priors.load(config.prior, "cpu"))
        kept = gradients[name] = []
        trainer.asset.trained.optimizer.step = functools.partial(_keep_gradients, trainer, kept)
        trainer.step()
    assert len(gradients["object"]) == 5
    for whole, parts in zip(*gradients.values(), strict=True):
        assert whole.abs().max() > 0
        assert (parts - whole).norm() < 1e-4 * whole.norm()


def _keep_gradients(trainer, kept):
    kept += [
        t.grad.clone()
        for name, t in trainer.asset.gaussians.parameters().items()
        if name != "sh_rest"
    ]


class Scaled:
    """A prior whose every answer is multiplied."""

    def __init__(self, prior, factor):
        self.prior, self.factor = prior, factor

    def __getattr__(self, name):
        return getattr(self.prior, name)

    def predict_noise(self, *arguments, **options):
        return self.factor * self.prior.predict_noise(*arguments, **options)


PRESETS = [
    pytest.param(CONFIGS / "presets" / f"{name}.yaml", id=name) for name in ("object", "creature")
]


@pytest.mark.parametrize("path", PRESETS)
def test_the_number_of_splats_does_not_hang_on_the_scale_of_the_priors_answer(
    path, small, tmp_path
):
    """SSD is homogeneous in the prior's answer; the preset must be too, from 0.1 to 10."""
    options = (
        "num_steps=24", "initialize.shape=ball", "initialize.num_points=300",
        "output.preview_every=0", "densify.adaptive.every=4", "densify.adaptive.stop_share=0.8",
        "densify.adaptive.reset_every=8", "densify.adaptive.quantile=0.8",
    )  # fmt: skip
    config = small(path, *options)
    prior = priors.load(config.prior, "cpu")
    counts = {}
    for factor in (0.1, 1.0, 10.0):
        trainer = Trainer(config, tmp_path, prior=Scaled(prior, factor))
        for _ in range(24):
            trainer.step()
        counts[factor] = len(trainer.asset.gaussians)
    assert counts[1.0] > 400  # it grew
    assert abs(counts[0.1] / counts[1.0] - 1) <= 0.1
    assert abs(counts[10.0] / counts[1.0] - 1) <= 0.1


def test_a_threshold_in_the_recipes_own_units_does_hang_on_it(small, tmp_path):
    """The control: LucidDreamer's absolute threshold, which is why the presets do not use it."""
    config = small(CONFIGS / "presets" / "object.yaml", "densify.adaptive.select=absolute",
        "initialize.shape=ball",
                   "initialize.num_points=300", "output.preview_every=0",
                   "densify.adaptive.every=4",
                   "densify.adaptive.threshold=1e-4", "num_steps=8")  # fmt: skip
    prior = priors.load(config.prior, "cpu")
    counts = []
    for factor in (1e-3, 1e3):
        trainer = Trainer(config, tmp_path, prior=Scaled(prior, factor))
        for _ in range(4):
            trainer.step()
        counts.append(len(trainer.asset.gaussians))
    assert counts[1] > 1.1 * counts[0]


def test_a_text_starts_upright_and_faces_the_front(small, tmp_path, monkeypatch):
    """Shap-E's front is -y, ours is +y: half a turn about z, where LucidDreamer mirrored."""
    corners = torch.tensor(
        [[0.0, -1, 0], [0.3, 0, 0], [0, 0, 0.5], [0, 0, -0.1]]
    )  # a nose, an ear at +x, a tall head
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])
    rgb = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    asked = {}
    monkeypatch.setattr(
        "gs_ssd.prior.shap_e.imagine",
        lambda text, **options: asked.update(text=text) or Shape(corners, faces, rgb),
    )
    config = small(CONFIGS / "cat_armor.yaml", "initialize.keep_colors=true",
        "initialize.num_points=4000",
                   "initialize.spread=0", "initialize.radius=0.5")  # fmt: skip
    splat = initial.first_gaussians(
        config.initialize,
        config.prompt,
        torch.Generator().manual_seed(0),
        torch.device("cpu"),
        offline=True,
    )
    assert asked["text"] == "a cat"
    assert len(splat) == 4000
    assert splat.means.norm(dim=-1).max().item() == pytest.approx(0.5, rel=0.05)
    nose = splat.means[:, 1].argmax()
    colour = 0.28209479 * splat.sh_dc[nose, 0] + 0.5
    assert colour[0] > 0.9  # the red tip is in front
    ear = splat.means[:, 0].argmin()
    assert splat.means[ear, 0] < -0.1  # and the ear at +x went to -x: a rotation, no mirror
    assert splat.means[nose, 2] < -0.1  # upright: the head towers over the nose
    extent = splat.means.amax(dim=0) - splat.means.amin(dim=0)
    assert (extent[2] / extent[1]).item() == pytest.approx(0.6, rel=0.05)


def test_a_start_is_made_anew_in_the_same_folder(small, tmp_path):
    """LucidDreamer read back its first cloud, whatever prompt or shape it had been made for."""
    starts = []
    for shape in ("ball", "box"):
        config = small(CONFIGS / "presets" / "quick.yaml", f"initialize.shape={shape}")
        trainer = Trainer(config, tmp_path, overwrite=True, prior=priors.load(config.prior, "cpu"))
        starts.append(trainer.asset.gaussians.means.detach().norm(dim=-1).max())
        trainer.save()
    assert starts[0] <= 0.5 < starts[1]


def test_splats_of_a_text_and_of_a_ball_are_alike(small, tmp_path):
    config = small(CONFIGS / "bagel.yaml")
    trainer = Trainer(config, tmp_path, prior=priors.load(config.prior, "cpu"))
    assert isinstance(trainer.asset.trained, TrainedSplat)
    assert len(trainer.asset.trained) == 80
    assert trainer.asset.gaussians.opacities.detach().max().item() == pytest.approx(0.1)
