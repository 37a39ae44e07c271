"""What the bundled default uses, settled on the development prompts: M, Perp-Neg, a negative
prompt."""

from collections.abc import Sequence
from typing import Any, Final

from gs_ssd.lab.evaluate.benchmark import Variant
from gs_ssd.lab.evaluate.suite import load_suite
from gs_ssd.lab.reproduce.comparison import PERP_NEG, settle
from gs_ssd.lab.reproduce.grid import BARE, CONFIG, TINY, Grid, run_grid
from gs_ssd.lab.reproduce.report import Claim, Context, Report, SizeName

TITLE = "The bundled default: M, Perp-Neg and a negative prompt, on development prompts"

CHANGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "perpneg": ("Perp-Neg", PERP_NEG),
    "negative": ("A negative prompt", ("guidance.prompts.negative=blurry, low quality",)),
    "M200": ("M = 200", ("guidance.M=200",)),
    "M400": ("M = 400", ("guidance.M=400",)),
}
"""What is tried, in words, and the settings. The words of the negative are unknown to the bundled
text encoder, which has kinds, colours and views alone: it reads them as its word for the unknown,
and that is what is tried."""

REMARKS = """\
A change is adopted where it improves silhouette or recognition and worsens neither, settled as the
comparison settles its claims, and where the sheet agrees. On the six development prompts at size
`full` no change improves anything, and recognition is 1.00 throughout, so M = 300 without Perp-Neg
and without a negative prompt stays. Perp-Neg overlaps less with the true object (in five of six
prompts, by .018 on average; the mug's handle suffers most) and costs 1.85 times the noise
predictions: a prior that is told the camera has no second faces that it could take away. A negative
prompt of words that the prior never heard makes colours too rich. M = 200 and 300 cannot be told
apart; M = 400 rubs the duck's bill and the mushroom's dots out (parts .78 against .88)."""

SIZES: dict[SizeName, dict[str, Any]] = {
    "tiny": {"changes": 1, "limit": 1, "overrides": ("num_steps=4", *TINY)},
    "small": {"changes": 2, "limit": 2, "overrides": ("num_steps=60", *BARE)},
    "full": {"changes": None, "limit": None, "overrides": ("num_steps=200", *BARE)},
}


def run(context: Context) -> Report:
    """The default and each change of it on the same prompts; a claim for whatever a change improves
    or worsens."""
    size = SIZES[context.size]
    tried = list(CHANGES)[: size["changes"]]
    rows = (Variant("ssd"), *(Variant(f"ssd@{name}", CHANGES[name][1]) for name in tried))
    grid = Grid(load_suite("development"), rows, (0,), size["limit"], size["overrides"])
    outcome = run_grid(context, "defaults", grid, TITLE)
    return Report(
        TITLE,
        f"Suite `development`: {outcome.extent()}, `{CONFIG}` {' '.join(size['overrides'])}."
        f" {outcome.state()}",
        claims(outcome.records, tried),
        (
            (
                "sheet.png",
                (
                    "First the true object, then the default and each change (four views of the"
                    " turntable)."
                ),
            ),
        ),
        REMARKS if context.size == "full" else "",
        complete=outcome.complete and not context.restricted,
        timed=False,
    )


def claims(records: Sequence[dict[str, Any]], tried: Sequence[str]) -> tuple[Claim, ...]:
    """Silhouette and recognition of every change against the default, paired over prompts."""
    columns = (("the silhouette", "iou"), ("recognition", "kind"), ("the colour", "color"))
    return tuple(
        settle(records, f"{CHANGES[name][0]} improves {what}", f"ssd@{name}", "ssd", column, 1)
        for name in tried
        for what, column in columns
    )
