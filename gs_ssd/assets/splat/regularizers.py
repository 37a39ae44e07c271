"""Regularizers on the raw tensors of a splat; their weights stand in
`render.regularizers.RegularizeConfig`."""

from gs_ssd.render.regularizers import RegularizeConfig, Term, weight_at
from gs_ssd.scene.gaussians import Gaussians


def parameter_terms(gaussians: Gaussians, config: RegularizeConfig, progress: float) -> list[Term]:
    """The terms that are active at this share of the run.

    flat: mean logarithm of each Gaussian's smallest scale. scale: mean scale. opacity: mean
        opacity.
    """
    weights = {name: weight_at(config, name, progress) for name in ("flat", "scale", "opacity")}
    terms = []
    if weights["flat"]:
        value = gaussians.log_scales.amin(dim=-1).mean()
        terms.append(Term("flat", value, weights["flat"], (gaussians.log_scales,)))
    if weights["scale"]:
        terms.append(
            Term("scale", gaussians.scales.mean(), weights["scale"], (gaussians.log_scales,))
        )
    if weights["opacity"]:
        terms.append(
            Term(
                "opacity",
                gaussians.opacities.mean(),
                weights["opacity"],
                (gaussians.logit_opacities,),
            )
        )
    return terms
