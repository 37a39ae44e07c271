"""What a prior is told about each view: cameras -> conditions and Perp-Neg weights.

Two ways to mix, the model decides:

- Stable Diffusion: LucidDreamer's "<prompt>, front view / side view / back view", with the
  embeddings of front and side mixed linearly over |azimuth| < 90 degrees, of side and back beyond.
- A prior whose `metadata["views"]` lists azimuth and elevation words mixes the two neighbouring
  words linearly in the angle, as it was trained to read them.

All embeddings are computed once; after that the text encoder may be released.
"""

import difflib
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.bounds import settings
from gs_ssd.devices import to_device
from gs_ssd.errors import UserError
from gs_ssd.guidance.perp_neg import ViewWeights, view_weights
from gs_ssd.prior.base import DiffusionPrior
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.textual_inversion import occurrences
from gs_ssd.scene.camera import Cameras

log = logging.getLogger(__name__)

LUCID_NEGATIVE = (
    "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark,"
    " low-resolution, oversaturation"
)
LUCID_VIEWS = {
    "azimuth_words": [[0, "front view"], [90, "side view"], [180, "back view"], [270, "side view"]],
    "elevation_words": [[0, ""]],
    "template": "{prompt}, {azimuth}",
}
PLAIN_WORDS = re.compile(
    r"an?|the|of|and|with|on|in|its|photo|picture|image|3d|render|rendering|dslr|highly|detailed"
    r"|view|front|back|side|left|right|top|overhead|bottom"
)


@settings
class PromptConfig:
    """The negative prompt and how far the views' prompts push one another away."""

    negative: str | None = None
    """In the unconditional slot. Default: the prior's own where it names one (MVDream);
    LucidDreamer's for Stable Diffusion and for an estimator that subtracts the negative's
    prediction (NFSD); none for a prior with its own words."""
    perp_neg: bool = False
    """Perpendicular negatives of the other views (against several faces); for creatures."""
    perp_neg_weights: ViewWeights = field(default_factory=ViewWeights)
    view_dependent: bool = True
    """False: the same prompt from everywhere."""


@dataclass(frozen=True)
class ViewBatch:
    """The conditions of V views."""

    main: Condition
    negatives: tuple[Condition, ...]
    """The complementary views, V rows each: front, then side. K = 2 with Perp-Neg, else 0."""
    weights: tuple[tuple[float, ...], ...]
    """K x V weights <= 0, on the host: zeros are not evaluated."""

    @property
    def live(self) -> list[tuple[int, int]]:
        """(k, v) of the complements whose weight is not zero."""
        return [
            (k, v) for k, row in enumerate(self.weights) for v, weight in enumerate(row) if weight
        ]


def default_negative(metadata: Mapping[str, Any], *, needed: bool = False) -> str:
    """The prior's own negative prompt where its metadata names one, else LucidDreamer's; none for a
    prior with words of its own, which does not know these.

    Args:
        needed: the estimator subtracts the negative's prediction, so that there must be one.
    """
    if metadata.get("negative"):
        return str(metadata["negative"])
    return "" if "views" in metadata and not needed else LUCID_NEGATIVE


class ViewPrompts:
    """Makes the conditions of one prompt seen from anywhere; keeps the negative and the null
    prompt's embeddings.

    Args:
        needs_negative: the estimator wants the negative prompt's own prediction beside the null
            prompt's.

    Raises:
        UserError: see `check_prompt`; and an empty negative where one is needed.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        prompt: str,
        config: PromptConfig,
        *,
        anyway: bool = False,
        needs_negative: bool = False,
    ) -> None:
        check_prompt(prior, prompt, anyway=anyway)
        self.config, self.uses_cameras = config, prior.uses_cameras
        views = prior.metadata.get("views", LUCID_VIEWS) if config.view_dependent else PLAIN_VIEWS
        self.azimuths, azimuth_words = _sorted_words(views["azimuth_words"], period=360.0)
        self.elevations, elevation_words = _sorted_words(views["elevation_words"])
        closeup = ((prior.metadata.get("camera") or {}).get("closeup") or {}).get(
            "template", "{prompt}"
        )
        if prior.uses_cameras:  # which say it exactly, so that one sentence serves all views
            views, closeup = PLAIN_VIEWS, "{prompt}"

        def from_everywhere(words: str) -> list[str]:
            return [
                fill(views["template"], wording.format(prompt=words), azimuth, elevation)
                for wording in ("{prompt}", closeup)
                for elevation in elevation_words
                for azimuth in azimuth_words
            ]

        flat = from_everywhere(_shortened(prior, prompt, from_everywhere))
        negative = config.negative
        if negative is None:
            negative = default_negative(prior.metadata, needed=needs_negative)
        elif needs_negative and not negative.strip():
            # Equal to the null prompt, its difference from it would be zero: another method under
            # this name.
            raise UserError(
                "guidance.prompts.negative is empty, but this estimator subtracts its prediction;"
                " write one, or leave it open for the default"
            )
        if lost := prior.overflow(negative):
            log.warning(
                "guidance.prompts.negative is too long for the text encoder; its end %r is cut off",
                lost,
            )
        self.negative_prompt = negative
        warn_of_unused_tokens(prior, f"{prompt} {negative}")
        texts = list(dict.fromkeys(flat))
        table = prior.embed([*texts, negative, ""])
        self.null, self.negative = table[-1], table[-2]
        rows = [texts.index(text) for text in flat]
        self.table = table[rows].unflatten(0, (2, len(self.elevations), len(self.azimuths)))

    def at(
        self,
        cameras: Cameras,
        depth: Float[Tensor, "v 1 H W"] | None = None,
        image: Float[Tensor, "v c h w"] | None = None,
    ) -> ViewBatch:
        """The conditions of these views.

        The mix of the prompts follows the cameras' angles, which are needed on the host: keep the
        cameras on the CPU. The prior hears of the cameras themselves where it uses them. A
        complementary view has the angle of its prompt and the camera turned to there, and shares
        the rest with its view.

        Args:
            cameras: of V views; those marked `closeup` show a part, and have prompts of their own.
            depth: 0 far .. 1 near, for a prior that uses it.
            image: of the body, for a prior that is told the pose by it.
        """
        azimuth = cameras.azimuth_rad.tolist()
        near = cameras.closeup.tolist()
        elevation = [90 - math.degrees(polar) for polar in cameras.polar_rad.tolist()]

        def seen_from(angles_deg: list[float]) -> Condition:
            text = self._mix(angles_deg, elevation, near)
            if not self.uses_cameras:
                return Condition(text, depth=depth, image=image)
            turn = torch.tensor(angles_deg).deg2rad().to(cameras.azimuth_rad) - cameras.azimuth_rad
            return Condition(text, cameras.turned(turn).to(text.device), depth, image)

        main = seen_from([math.degrees(angle) for angle in azimuth])
        if not self.config.perp_neg:
            return ViewBatch(main, (), ())
        side = [math.copysign(90.0, math.remainder(angle, 2 * math.pi)) for angle in azimuth]
        law = self.config.perp_neg_weights
        pairs = [view_weights(angle, law) for angle in azimuth]
        return ViewBatch(
            main, (seen_from([0.0] * len(side)), seen_from(side)), tuple(zip(*pairs, strict=True))
        )

    def _mix(
        self, azimuth_deg: list[float], elevation_deg: list[float], closeup: list[bool]
    ) -> Float[Tensor, "v l d"]:
        across = mix_weights(azimuth_deg, self.azimuths, period=360.0)
        upwards = mix_weights(elevation_deg, self.elevations)
        weights = torch.tensor(upwards)[:, :, None] * torch.tensor(across)[:, None, :]
        weights, near = (
            to_device(x, self.table.device) for x in (weights, torch.tensor(closeup).long())
        )
        return torch.einsum("vea,veald->vld", weights.to(self.table.dtype), self.table[near])


PLAIN_VIEWS: dict[str, Any] = {
    "azimuth_words": [[0, ""]],
    "elevation_words": [[0, ""]],
    "template": "{prompt}",
}


def fill(template: str, prompt: str, azimuth: str, elevation: str) -> str:
    """The view's sentence; an empty word leaves no stray comma behind."""
    text = template.format(prompt=prompt.strip().rstrip(".,"), azimuth=azimuth, elevation=elevation)
    return re.sub(r"(\s*,)+\s*(?=,|$)", "", text).strip()


def mix_weights(
    angles: list[float], knots: list[float], period: float | None = None
) -> list[list[float]]:
    """Linear interpolation as a row of weights a angle: the two neighbouring knots share 1, the
    others have 0.

    `knots` ascend. With a period the last knot neighbours the first, else angles beyond the ends
    take the end's word.
    """
    if len(knots) == 1:
        return [[1.0] for _ in angles]
    rows = []
    ends = knots if period is None else [*knots, knots[0] + period]
    for angle in angles:
        row = [0.0] * len(knots)
        turned = angle if period is None else knots[0] + (angle - knots[0]) % period
        inside = min(max(turned, ends[0]), ends[-1])
        low = max(i for i in range(len(ends) - 1) if ends[i] <= inside)
        share = (inside - ends[low]) / (ends[low + 1] - ends[low])
        row[low] += 1 - share
        row[(low + 1) % len(knots)] += share
        rows.append(row)
    return rows


def check_prompt(prior: DiffusionPrior, prompt: str, *, anyway: bool = False) -> None:
    """Refuse what cannot work, warn of what the prior has never seen.

    Raises:
        UserError: an empty prompt; or a prior with a vocabulary and no kind of object that it knows
            in the prompt (`anyway` turns that into a warning).
    """
    if not prompt.strip():
        raise UserError('the prompt is empty; give one, e.g. --prompt "a red mushroom"')
    kinds: list[str] = list(prior.metadata.get("kinds", []))
    if not kinds:
        return
    synonyms: dict[str, list[str]] = prior.metadata.get("synonyms", {})
    names = [*kinds, *(other for kind in kinds for other in synonyms.get(kind, []))]
    words = re.findall(r"[a-z0-9]+", prompt.lower())
    known = [
        name
        for name in names
        if re.search(rf" {re.escape(name.lower())}(e?s)? ", f" {' '.join(words)} ")
    ]
    taught = prompt.lower()
    if tokens := prior.metadata.get("learned_tokens", []):
        taught = occurrences(tokens).sub(" ", taught)
    if not known and taught == prompt.lower():
        colors = set(prior.metadata.get("colors", []))
        near = dict.fromkeys(
            match
            for word in words
            if word not in colors
            for match in difflib.get_close_matches(word, names, n=3, cutoff=0.6)
        )
        hint = f"did you mean {', '.join(near)}? It" if near else "it"
        message = (
            f"the prior knows no object in {prompt!r}; {hint} can draw: {', '.join(sorted(kinds))}"
        )
        if not anyway:
            raise UserError(f"{message} (--anyway tries it nevertheless)")
        log.warning("%s", message)
        return
    listed = [
        *names,
        *prior.metadata.get("colors", []),
        *(other for others in synonyms.values() for other in others),
    ]
    vocabulary = set(" ".join(listed).lower().split()) | {
        f"{name}{end}" for name in known for end in ("s", "es")
    }
    others = re.findall(r"[a-z0-9]+", taught)
    strange = [
        word for word in others if word not in vocabulary and not PLAIN_WORDS.fullmatch(word)
    ]
    if strange:
        them = "it" if len(strange) == 1 else "them"
        log.warning(
            "the prior has never seen %s; expect %s to be ignored",
            ", ".join(map(repr, strange)),
            them,
        )


def warn_of_unused_tokens(prior: DiffusionPrior, text: str) -> None:
    """Say so where tokens were loaded (prior.textual_inversion) and neither prompt nor negative
    holds one."""
    tokens: list[str] = prior.metadata.get("learned_tokens", [])
    if tokens and not occurrences(tokens).search(text):
        log.warning(
            "neither the prompt nor guidance.prompts.negative holds a learned token, so"
            " prior.textual_inversion does nothing; write %s",
            " or ".join(map(repr, tokens)),
        )


def _shortened(
    prior: DiffusionPrior, prompt: str, from_everywhere: Callable[[str], list[str]]
) -> str:
    """The prompt without the last words that would push the view's words, which come after, out of
    the text encoder.

    Without this, front, side and back of a long prompt would be one and the same embedding.
    """
    words = prompt.split()
    kept = len(words)
    while kept > 1 and any(
        prior.overflow(text) for text in dict.fromkeys(from_everywhere(" ".join(words[:kept])))
    ):
        kept -= 1
    if kept == len(words):
        return prompt
    log.warning(
        "the prompt is too long for the text encoder; its end %r is left out, so that the words for"
        " the view fit",
        " ".join(words[kept:]),
    )
    return " ".join(words[:kept])


def _sorted_words(
    pairs: list[list[Any]], period: float | None = None
) -> tuple[list[float], list[str]]:
    ordered = sorted(
        (float(angle) % period if period else float(angle), str(words)) for angle, words in pairs
    )
    return [angle for angle, _ in ordered], [words for _, words in ordered]
