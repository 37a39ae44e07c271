"""The 2D generation: optimized pictures, what is kept of an interrupted call, and the verdicts."""

import dataclasses

import pytest
import torch

from gs_ssd.lab.reproduce import pictures
from gs_ssd.lab.reproduce.report import Context
from gs_ssd.prior import BUNDLED
from gs_ssd.prior.analytic import AnalyticPrior

bundled = pytest.mark.skipif(
    not (BUNDLED / "model_index.json").is_file(), reason="the bundled prior is not in this checkout"
)


@bundled
def test_pictures_of_the_bundled_prior(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = pictures.run(Context("tiny", tmp_path))
    assert report.holds("SSD leaves fewer implausible local features")
    assert report.holds("SSD's picture is more plausible")
    assert (tmp_path / "latent.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(tmp_path.glob("out/reproduce/*/*.npy"))


@bundled
def test_an_interrupted_call_is_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        pictures.SIZES,
        "tiny",
        pictures.SIZES["tiny"] | {"steps": 1, "spaces": ("latent", "pixels")},
    )
    original, made = pictures.optimize, []

    def interrupted(*arguments, **options):
        made.append(arguments[3])
        if made == ["latent", "pixels"]:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(pictures, "optimize", interrupted)
    context = Context("tiny", tmp_path / "twice")
    with pytest.raises(KeyboardInterrupt):
        pictures.run(context)
    assert (
        len(
            list(tmp_path.glob("out/reproduce/pictures-tiny-bundled-*/a-red-mushroom-latent-*.npy"))
        )
        == 1
    )
    pictures.run(context)
    assert made == ["latent", "pixels", "pixels"]
    pictures.run(dataclasses.replace(context, folder=tmp_path / "whole"))
    assert made[3:] == ["latent", "pixels"]
    assert (tmp_path / "twice" / "pictures.csv").read_text() == (
        tmp_path / "whole" / "pictures.csv"
    ).read_text()


def test_pictures_of_an_exact_mixture_become_what_the_prompt_says():
    prior = AnalyticPrior.discs()
    embeddings = prior.embed(["red", ""])
    methods = (pictures.Method("SSD", "ssd", M=500), pictures.Method("CSD", "csd"))
    made = pictures.optimize(prior, methods, embeddings, "latent", copies=2, steps=60)
    middle = made[:, :, :, 28:36, 28:36].mean(dim=(3, 4))
    assert made.shape == (2, 2, 3, 64, 64)
    assert bool((middle[:, :, 0] > middle[:, :, 1] + 0.2).all())
    assert not torch.equal(made[0], made[1])


def test_methods_see_the_same_noises():
    """A method's pictures do not depend on its neighbours in the batch."""
    prior = AnalyticPrior.discs()
    embeddings = prior.embed(["red", ""])
    ssd, sds = pictures.Method("SSD", "ssd", M=300), pictures.Method("SDS", "sds")
    for space in ("latent", "pixels"):
        both = pictures.optimize(prior, (sds, ssd), embeddings, space, copies=1, steps=5)
        alone = pictures.optimize(prior, (ssd,), embeddings, space, copies=1, steps=5)
        torch.testing.assert_close(both[1], alone[0])


def test_a_claim_on_pictures_holds_where_every_prompt_says_so():
    def outcomes(**by_label):
        labels = [method.label for method in pictures.METHODS + pictures.BANDS]
        worse = {"saturation": 0.5, "tint": 0.2, "mottle": 0.2, "prior_loss": 0.2}
        return {
            label: [
                pictures.Outcome(label, "latent", **(worse | by_label.get(label, {}).get(case, {})))
                for case in "ab"
            ]
            for label in labels
        }

    truth = [pictures.Outcome("true rendering", "latent", 0.5, 0.0, 0.0, 0.1)]
    tint, loss = {"tint": 0.1}, {"prior_loss": 0.3}

    def verdict(beginning, **by_label):
        claims = pictures.claims(outcomes(**by_label), truth, 300)
        (found,) = (claim for claim in claims if claim.text.startswith(beginning))
        return found.holds, found.evidence.split(" pictures")[0]

    around = "SSD colours what surrounds the object less than CSD"
    assert verdict(around) == (False, "in 0 of 2")
    assert verdict(around, **{"SSD, M = 300": {"a": tint | loss, "b": tint}}) == (True, "in 2 of 2")
    assert verdict(around, **{"SSD, M = 300": {"a": tint}}) == (None, "in 1 of 2")
    assert verdict("SSD's picture is more plausible", CSD={"a": loss, "b": loss})[0] is True
    smooth = {"mottle": 0.1}
    last = pictures.BANDS[-1].label
    assert verdict("The disengaging term brings", **{last: {"a": smooth, "b": smooth}})[0] is True
    pale = smooth | {"saturation": 0.4}
    assert verdict("More seeking", **{"SSD, M = 700": {"a": pale, "b": smooth}})[0] is None


def test_evidence_is_given_space_by_space():
    labels = [method.label for method in pictures.METHODS + pictures.BANDS]
    cases = {
        label: [
            pictures.Outcome(label, space, *[value] * 4)
            for space, value in (("latent", 0.1), ("pixels", 0.3))
        ]
        for label in labels
    }
    truth = pictures.Outcome("true rendering", "pixels", 0.5, 0.0, 0.0, 0.1)
    first = pictures.claims(cases, [truth], 300)[0]
    assert "latent: SSD, M = 300 0.1000" in first.evidence
    assert "pixels: SSD, M = 300 0.3000" in first.evidence
