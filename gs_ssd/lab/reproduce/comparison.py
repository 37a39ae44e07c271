"""Figs. 6, 7, 9, 14-16 and 18 of the SSD paper: the same prompts, seeds and budget, one estimator
after the other."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate import summary
from gs_ssd.lab.evaluate.benchmark import Variant
from gs_ssd.lab.evaluate.intervals import Interval, bootstrap, sign_flip
from gs_ssd.lab.evaluate.suite import load_suite
from gs_ssd.lab.reproduce.grid import BARE, CONFIG, TINY, Grid, run_grid
from gs_ssd.lab.reproduce.origin import origin_of_prior
from gs_ssd.lab.reproduce.report import Claim, Context, Report, SizeName
from gs_ssd.lab.reproduce.tuning import CANDIDATES, FILE, RECIPE, read_tuned
from gs_ssd.prior import PriorConfig

TITLE = "3D assets by estimator (Figs. 6, 7, 9, 14-16, 18)"
MIN_PROMPTS = 6
"""With fewer no sign-flip test can fall below .05, and no claim is settled."""

PERP_NEG = ("guidance.prompts.perp_neg=true",)
ROWS: Final[dict[str, tuple[str, ...]]] = {
    "ssd": (),
    "csd": (),
    "sds": (),
    "seek_minus_eps": (),
    "seek_reduced": (),
    "ism": (),
    "sds_reduced": (),
    "nfsd": (),
    "ssd@perpneg": PERP_NEG,
    **{f"ssd@M{M}": (f"guidance.M={M}",) for M in (300, 1000, 500, 200)},
    "sds@g101": ("guidance.cfg_scale=101",),
    "csd@recipe": RECIPE,
    "sds_reduced@g101": ("guidance.cfg_scale=101",),
    "seek": (),
    "sds@perpneg": PERP_NEG,
    **{f"ssd@M{M}": (f"guidance.M={M}",) for M in (80, 600, 700, 800)},
}
"""A row is an estimator with its tuned settings, and after the @ what is changed. `seek_minus_eps`
is SDS at CFG 1, g101 the paper's omega = 100, `csd@recipe` has the learning rates of SSD's row,
`ssd@M1000` is seeking alone at the size of h, `seek` seeking without variance reduction."""

RULE: Final = (
    "A claim holds where the 95 % bootstrap interval of the paired difference lies on its side of"
    " zero and a sign-flip test says p < .05; it does not hold where both say so of the other"
    f" side, and cannot be told otherwise, or on fewer than {MIN_PROMPTS} prompts. Of claims about"
    " nothing (a true difference of zero) some one in twenty is settled all the same: p is not"
    " corrected for their number."
)

REMARKS: Final = """\
On the bundled prior, which is told the camera, at size `full`: SSD, CSD and SDS, tuned, on twenty
prompts; seeking alone and CSD at SSD's rates on fifteen. Whoever made it, an asset is recognised
from all sides, and no row loses one; only seeking alone is named less often in some views. The lead
that SSD had on weights that saw no camera is gone.

SSD and tuned SDS (g = 7.5) make nearly the same: SSD is paler by .013, its outlines are sharper by
one percent, SDS has the better silhouette by .003 and 2 % more detail. All of it is settled and
none of it can be seen on the sheet; so the paper's claims of less saturation and sharper outlines
hold against SDS in sign, not in size, and that of more detail does not.

CSD as tuned loses silhouette, haze, outlines, floaters and detail to SSD, and is paler: the
speckles on the sheet are splats that have not come to rest. That is its tuning: recognition is 1.00
whatever is tried, so the criterion (.984 to .986) was decided by thousandths, and chose halved
learning rates. At SSD's own rates (`csd@recipe`) silhouette, parts and outlines cannot be told
apart, SSD is paler by .030 and closer to the true object's picture by 1.2 dB, and CSD has more
detail, which on the sheet is speckle. That much is what seeking does.

Seeking alone (M = 1000) has the palest colours, nearest to the truth, and the smoothest surfaces,
and loses what is small: parts .125 fewer, the mug's handle half filled, the duck's bill dim. So h
is still what finds details, as the paper says, and no more what makes the thing recognisable: the
prior's camera does that now. ISM, NFSD, the paper's omega, Perp-Neg and variance reduction were not
run on these weights (the experiment `defaults` has Perp-Neg, `speed` what ISM costs)."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much of the grid is run."""

    suite: str
    rows: tuple[str, ...]
    limit: int | None
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()


SIZES: dict[SizeName, Budget] = {
    "tiny": Budget("development", ("ssd", "ism"), 1, (0,), ("num_steps=4", *TINY)),
    "small": Budget("development", tuple(ROWS)[:11], 6, (0,), ("num_steps=60", *BARE)),
    "full": Budget("quick", tuple(ROWS), None, (0,), ("num_steps=200", *BARE)),
}


def run(context: Context) -> Report:
    """Train the size's grid (resumable), measure it, and settle the claims with paired
    intervals."""
    budget = SIZES[context.size]
    suite = load_suite(budget.suite)
    weights = summary.in_words(origin_of_prior(PriorConfig(model=context.prior), context.device))
    tuned = {} if context.untuned else read_tuned(context.folder.parent / "tuning", weights)
    if tuned:
        _refuse_untuned(context.rows or budget.rows, tuned)
    grid = Grid(suite, variants(budget.rows, tuned), budget.seeds, budget.limit, budget.overrides)
    outcome = run_grid(context, "comparison", grid, TITLE)
    fair = (
        "every estimator with the settings that won its four tries on development prompts"
        " (`tuning/tuned.json`)"
        if tuned
        else (
            "no estimator was tuned: learning rates and t range are those of the default, which"
            " suit SSD"
        )
    )
    return Report(
        TITLE,
        f"Suite `{suite.name}`: {outcome.extent()}, `{CONFIG}` {' '.join(budget.overrides)};"
        f" {fair}. {outcome.state()} All numbers are in `comparison/summary.md`, one JSON line an"
        f" asset in `comparison/results-{context.size}.jsonl`.",
        claims(outcome.records),
        (("sheet.png", "First the true object, then each row (four views of the turntable)."),),
        f"{RULE}" + (f"\n\n{REMARKS}" if context.size == "full" else ""),
        complete=outcome.complete and not context.restricted,
        timed=False,
    )


def _refuse_untuned(rows: Sequence[str], tuned: Mapping[str, Sequence[str]]) -> None:
    names = dict.fromkeys(row.partition("@")[0] for row in rows)
    missing = [name for name in names if name in CANDIDATES and name not in tuned]
    if missing:
        raise UserError(
            f"tuning/{FILE} does not have {', '.join(missing)}: run `gs-ssd reproduce tuning --rows"
            f" {' '.join(missing)}`, leave these out (--rows), or compare estimators as they come"
            " (--untuned)"
        )


def variants(rows: Sequence[str], tuned: Mapping[str, Sequence[str]]) -> tuple[Variant, ...]:
    """The rows as ways to train: tuned settings (or the first of the candidates) first, then what
    the row changes."""
    made = []
    for row in rows:
        name = row.partition("@")[0]
        first = next(iter(CANDIDATES.get(name, {"": ()}).values()))
        made.append(
            Variant(row, (f"guidance.estimator={name}", *tuned.get(name, first), *ROWS[row]))
        )
    return tuple(made)


def claims(records: Sequence[dict[str, Any]]) -> tuple[Claim, ...]:
    """The paper's comparisons, each a paired difference over prompts."""
    questions = (
        ("SSD is less saturated than SDS", "ssd", "sds", "saturation", -1),
        ("SSD is less saturated than SDS at the paper's omega",
            "ssd", "sds@g101", "saturation", -1),
        ("SSD is less saturated than CSD", "ssd", "csd", "saturation", -1),
        ("SSD is less saturated than CSD at the same learning rates",
            "ssd", "csd@recipe", "saturation", -1),
        ("SSD at M = 300 is less saturated than CSD at the same learning rates",
         "ssd@M300", "csd@recipe", "saturation", -1),
        ("SSD's saturation is nearer to the truth than that of SDS",
            "ssd", "sds", "|saturation|", -1),
        ("SSD's saturation is nearer to the truth than that of CSD",
            "ssd", "csd", "|saturation|", -1),
        ("SSD has more detail than SDS", "ssd", "sds", "detail", 1),
        ("SSD at M = 300 has more detail than SDS", "ssd@M300", "sds", "detail", 1),
        ("SSD has more detail than SDS at the paper's omega", "ssd", "sds@g101", "detail", 1),
        ("SSD has more detail than CSD", "ssd", "csd", "detail", 1),
        ("SSD has more detail than CSD at the same learning rates",
            "ssd", "csd@recipe", "detail", 1),
        ("SSD has more detail than seeking alone", "ssd", "seek_reduced", "detail", 1),
        ("SSD's outlines are sharper than those of SDS", "ssd", "sds", "edge", -1),
        ("SSD's outlines are sharper than those of CSD", "ssd", "csd", "edge", -1),
        ("SSD leaves less haze than CSD", "ssd", "csd", "haze", -1),
        ("SSD has fewer floaters than CSD", "ssd", "csd", "outside", -1),
        *(
            (f"SSD has the better silhouette than {name}", "ssd", row, "iou", 1)
            for name, row in (("CSD", "csd"), ("SDS", "sds"), ("SDS at CFG 1", "seek_minus_eps"),
                              ("seeking alone", "seek_reduced"), ("ISM", "ism"), ("NFSD", "nfsd"))
        ),
        *(
            (f"SSD is recognised more often than {name}", "ssd", row, "kind", 1)
            for name, row in (("CSD", "csd"), ("SDS", "sds"), ("SDS at CFG 1", "seek_minus_eps"),
                ("ISM", "ism"))
        ),
        ("Adaptive variance reduction helps SDS", "sds_reduced", "sds", "iou", 1),
        ("Adaptive variance reduction helps SDS at CFG 1",
            "seek_reduced", "seek_minus_eps", "iou", 1),
        ("Perp-Neg lowers the number of fronts", "ssd@perpneg", "ssd", "fronts", -1),
        ("M = 300, the prior's own, has the better silhouette than M as tuned",
            "ssd@M300", "ssd", "iou", 1),
        ("M = 300, the prior's own, is recognised more often than M as tuned",
            "ssd@M300", "ssd", "kind", 1),
        ("SSD needs fewer noise predictions than ISM", "ssd", "ism", "unet", -1),
        ("SSD is faster than ISM", "ssd", "ism", "cpu", -1),
    )  # fmt: skip
    return (*(settle(records, *question) for question in questions), quicker(records))


def settle(
    records: Sequence[dict[str, Any]], text: str, ours: str, theirs: str, column: str, sign: int
) -> Claim:
    """The verdict on ours - theirs, paired over prompts: |column| compares distances from zero;
    sign is the claim's."""
    name = column.strip("|")
    first, second = (summary.matrix(records, variant, name) for variant in (ours, theirs))
    differences = first - second if column == name else np.abs(first) - np.abs(second)
    if np.isnan(differences).all():
        return Claim(text, None, f"{ours} and {theirs} were not both measured")
    title = (
        f"{summary.COLUMNS[name].title}{' (distance)' if column != name else ''}, {ours} minus"
        f" {theirs}"
    )
    return decide(text, title, differences, sign)


def quicker(records: Sequence[dict[str, Any]]) -> Claim:
    """The paper's "75 % faster", of whole trainings: ISM's processor time over SSD's, prompt by
    prompt."""
    text = "Without the inversion a training is 75 % faster: ISM takes 1.75 times as long, or more"
    ism, ssd = (summary.matrix(records, variant, "cpu") for variant in ("ism", "ssd"))
    ratios = ism / ssd
    if np.isnan(ratios).all():
        return Claim(text, None, "ism and ssd were not both measured")
    claim = decide(text, "processor seconds, ism over ssd, less 1.75", ratios - 1.75, 1)
    return claim._replace(evidence=f"{claim.evidence}; the ratio itself {np.nanmean(ratios):.3g}")


def decide(text: str, title: str, differences: ArrayLike, sign: int) -> Claim:
    """What paired differences [P, S] say to a claim that their mean has the `sign`."""
    interval, p = bootstrap(differences), sign_flip(differences)
    prompts = int((~np.isnan(np.asarray(differences))).any(axis=1).sum())
    holds = verdict(interval, p, sign) if prompts >= MIN_PROMPTS else None
    return Claim(text, holds, f"{title}: {interval}, p {p:.2g}, {prompts} prompts")


def verdict(interval: Interval, p: float, sign: int) -> bool | None:
    """True where the whole interval has the sign and p is below .05, False where it has the other,
    else None."""
    low, high = sorted((sign * interval.low, sign * interval.high))
    return None if p >= 0.05 else True if low > 0 else False if high < 0 else None
