"""Fair play: every estimator gets as small a tuning on development prompts; what wins is frozen in
a file.

The held-out comparison reads that file (`tuned.json`), and refuses it where it was made with other
weights.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.json_lines import read_records
from gs_ssd.lab.evaluate import summary
from gs_ssd.lab.evaluate.benchmark import FIELDS, OTHERS, Variant
from gs_ssd.lab.evaluate.suite import load_suite
from gs_ssd.lab.reproduce.grid import BARE, CONFIG, TINY, Grid, run_grid
from gs_ssd.lab.reproduce.report import Context, Report, SizeName

TITLE = "Tuning: four tries for every estimator"
FILE = "tuned.json"
CRITERION = (
    "mean over prompts of (kind named right / ceiling + colour named right / ceiling + silhouette"
    " IoU) / 3"
)

LUCID_LAW = "guidance.t_schedule=[[0,0.02,0.98],[0.3,0.02,0.5]]"
RECIPE, FAST, SLOW = (
    tuple(
        f"optimizer.{name}=[{factor * first:g},{factor * last:g}]"
        for name, first, last in (
            ("means", 0.006, 0.002), ("log_scales", 0.02, 0.01), ("quats_wxyz", 0.02, 0.01),
            ("logit_opacities", 0.1, 0.1), ("sh_dc", 0.03, 0.01),
        )
    )
    for factor in (1, 2, 0.5)
)  # fmt: skip
"""The recipe's learning rates; doubled; halved."""


def _scales(*scales: float) -> dict[str, tuple[str, ...]]:
    return {f"g{scale:g}": (f"guidance.cfg_scale={scale:g}",) for scale in scales}


_RATES = {"recipe": (), "lucid t": (LUCID_LAW,), "fast": FAST, "slow": SLOW}

CANDIDATES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "ssd": {
        "recipe": (),
        "M200": ("guidance.M=200",),
        "M400": ("guidance.M=400",),
        "lucid t": (LUCID_LAW,),
    },
    "csd": _RATES,
    "sds": _scales(26.0, 7.5, 101.0) | {"g7.5, lucid t": ("guidance.cfg_scale=7.5", LUCID_LAW)},
    "sds_reduced": (
        _scales(26.0, 7.5, 101.0) | {"g7.5, lucid t": ("guidance.cfg_scale=7.5", LUCID_LAW)}
    ),
    "seek_minus_eps": _RATES,
    "seek_reduced": _RATES,
    "ism": (
        _scales(7.5, 26.0)
        | {
            "g7.5, lucid t": ("guidance.cfg_scale=7.5", LUCID_LAW),
            "g7.5, slow": ("guidance.cfg_scale=7.5", *SLOW),
        }
    ),
    "nfsd": (
        _scales(7.5, 26.0)
        | {
            "g7.5, lucid t": ("guidance.cfg_scale=7.5", LUCID_LAW),
            "g7.5, slow": ("guidance.cfg_scale=7.5", *SLOW),
        }
    ),
}
"""At most four tries an estimator; the first is what it runs with untuned. On the bundled prior
||eps|| = omega ||h|| at omega of about 25, which is what the paper's omega = 100 is on Stable
Diffusion: g = 26."""

SIZES: dict[SizeName, dict[str, Any]] = {
    "tiny": {"estimators": 2, "limit": 1, "overrides": ("num_steps=4", *TINY)},
    "small": {"estimators": None, "limit": 1, "overrides": ("num_steps=60", *BARE)},
    "full": {"estimators": None, "limit": 3, "overrides": ("num_steps=200", *BARE)},
}


def run(context: Context) -> Report:
    """All candidates on the development prompts; writes the winners' settings to `tuned.json`, of
    every estimator whose tries are all there."""
    size = SIZES[context.size]
    names = list(CANDIDATES)[: size["estimators"]]
    variants = {
        (name, label): Variant(
            f"{name}@{label.replace(', ', '-').replace(' ', '-')}",
            (f"guidance.estimator={name}", *settings),
        )
        for name in names
        for label, settings in CANDIDATES[name].items()
    }
    grid = Grid(
        load_suite("development"),
        tuple(variants.values()),
        limit=size["limit"],
        overrides=size["overrides"],
    )
    rows = tuple(label for row in context.rows for label in _tries(row, variants))
    outcome = run_grid(dataclasses.replace(context, rows=rows), "tuning", grid, TITLE)
    results = context.folder / f"results-{context.size}.jsonl"  # of earlier calls too
    records = list(read_records(results, FIELDS, OTHERS))
    prompts = len(grid.suite.entries[: grid.limit])
    frozen = {}
    for name in names:
        labels = {label: variants[name, label].label for label in CANDIDATES[name]}
        if all(_finished(records, label) == prompts for label in labels.values()):
            scores = {label: score(records, row) for label, row in labels.items()}
            frozen[name] = choose(scores, name)
    if frozen:
        record = {
            "size": context.size,
            "weights": summary.weights_of(records),
            "criterion": CRITERION,
            "estimators": frozen,
        }
        with atomic_path(context.folder / FILE) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return Report(
        TITLE,
        f"Development prompts: {outcome.extent()}, `{CONFIG}` {' '.join(size['overrides'])}. Chosen"
        f" by: {CRITERION} (no number that a claim of the paper is about). {outcome.state()}",
        (),
        (("sheet.png", "First the true object, then every try (four views of the turntable)."),),
        _table(frozen)
        + f"\n\n`tuning/{FILE}` holds the winners; the comparison reads it. Differences of a"
        " hundredth decide nothing, on so few prompts; the best counts all the same, for every"
        " estimator alike.",
        complete=outcome.complete and not context.restricted,
        timed=False,
    )


def _tries(row: str, variants: dict[tuple[str, str], Variant]) -> list[str]:
    """The rows that `row` means: an estimator's name means its four tries."""
    return [variant.label for (name, _), variant in variants.items() if name == row] or [row]


def _finished(records: list[dict[str, Any]], label: str) -> int:
    return len({r["prompt"] for r in records if r["variant"] == label and "failed" not in r})


def score(records: list[dict[str, Any]], label: str) -> float:
    """The criterion for one candidate; a failed or missing asset counts as nothing recognised."""
    parts = [
        np.nan_to_num(summary.matrix(records, label, column)) for column in ("kind", "color", "iou")
    ]
    return float(np.mean(parts)) if records else 0.0


def choose(scores: dict[str, float], name: str) -> dict[str, Any]:
    """The winner of one estimator with its settings and all scores; the earlier candidate wins a
    draw."""
    best = max(scores, key=lambda label: scores[label])
    return {"winner": best, "overrides": list(CANDIDATES[name][best]), "scores": scores}


def read_tuned(folder: Path, weights: str) -> dict[str, list[str]]:
    """Settings by estimator from `folder/tuned.json`, of those whose tries are all there; {} where
    there is no such file.

    Raises:
        UserError: it was tuned on other weights, or is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        tuned = json_text.parse(path.read_text(encoding="utf-8"))
        weights_of = tuned["weights"]
        found = {name: won["overrides"] for name, won in tuned["estimators"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged; run `gs-ssd reproduce tuning` again, or compare estimators as they"
            " come (--untuned)"
        ) from error
    if weights_of != weights:
        raise UserError(
            f"{path} was tuned on {weights_of or 'weights that it does not name'}, but these"
            f" are {weights}; run `gs-ssd reproduce tuning` first, or compare estimators as they"
            " come (--untuned)"
        )
    return found


def _table(frozen: dict[str, dict[str, Any]]) -> str:
    """The scores of all tries, the untuned one first, the winner in bold."""
    rows = ["| estimator | tries |", "|---|---|"]
    for name, won in frozen.items():
        tries = (
            f"**{k} {v:.3f}**" if k == won["winner"] else f"{k} {v:.3f}"
            for k, v in won["scores"].items()
        )
        rows.append(f"| {name} | {' &middot; '.join(tries)} |")
    return "\n".join(rows)
