"""From a ledger's records to the tables that one reads: what was reached, against what bar, and by
how much."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate.intervals import Interval, bootstrap, paired

Record = dict[str, Any]


class Column(NamedTuple):
    """A number of the table: from one record, or nan where the record lacks it."""

    title: str
    value: Callable[[Record], float]
    better: str
    """"high", "low" or "" where neither is."""


def _get(name: str) -> Callable[[Record], float]:
    return lambda record: float(record[name]) if record.get(name) is not None else math.nan


def _over(name: str, truth: str) -> Callable[[Record], float]:
    def ratio(record: Record) -> float:
        bottom = _get(truth)(record)
        return _get(name)(record) / bottom if bottom > 0 else math.nan

    return ratio


COLUMNS: Final[dict[str, Column]] = {
    "kind": Column("kind named right / ceiling", _over("kind_share", "kind_ceiling"), "high"),
    "color": Column("colour named right / ceiling", _over("color_share", "color_ceiling"), "high"),
    "kind_worst": Column("the kind's chance, worst view", _get("kind_worst"), "high"),
    "clip": Column("CLIP score, mean of the views", _get("clip_mean"), "high"),
    "clip_worst": Column("CLIP score, worst view", _get("clip_worst"), "high"),
    "haze": Column("haze / truth", _over("haze", "haze_truth"), "low"),
    "edge": Column("edge width / truth", _over("edge_px", "edge_px_truth"), "low"),
    "outside": Column("alpha outside the main component", _get("outside"), "low"),
    "iou": Column("silhouette IoU", _get("iou"), "high"),
    "iou_worst": Column("silhouette IoU, worst view", _get("iou_worst"), "high"),
    "psnr": Column("PSNR to the true object, dB", _get("psnr"), "high"),
    "parts": Column("small parts and gaps found, mean", _get("parts"), "high"),
    "part_worst": Column("the part least found", _get("part_worst"), "high"),
    "saturation": Column(
        "saturation - truth", lambda r: _get("saturation")(r) - _get("saturation_truth")(r), ""
    ),
    "detail": Column("detail / truth", _over("detail", "detail_truth"), "high"),
    "fronts": Column(
        "views like a front - truth", lambda r: _get("fronts")(r) - _get("fronts_truth")(r), "low"
    ),
    "face_behind": Column(
        "face on the back (0 none, 1 a second front)", _get("face_behind"), "low"
    ),
    "seconds": Column("seconds per asset", _get("seconds"), "low"),
    "cpu": Column("processor seconds per asset", _get("cpu_seconds"), "low"),
    "unet": Column("UNet images per asset", _get("unet_images"), "low"),
    "memory": Column("peak memory beyond the imports, MiB", _get("memory_mib"), "low"),
}
NUMBERS: Final = (
    *("kind_share", "kind_ceiling", "kind_worst", "color_share", "color_ceiling", "clip_mean"),
    *("clip_worst", "haze", "haze_truth", "edge_px", "edge_px_truth", "outside", "iou"),
    *("iou_worst", "psnr", "parts", "part_worst", "saturation", "saturation_truth", "detail"),
    *("detail_truth", "fronts", "fronts_truth", "face_behind", "seconds", "cpu_seconds"),
    *("unet_images", "memory_mib"),
)
"""What the columns are made of."""
TARGETS: Final[dict[str, tuple[str, float]]] = {
    "kind": (">=", 0.9),
    "color": (">=", 0.9),
    "haze": ("<=", 4.0),
    "edge": ("<=", 2.0),
    "outside": ("<=", 0.02),
}
KIND_FLOOR: Final = 0.7


def variants(records: Sequence[Record]) -> list[str]:
    """Labels in the order of their first record."""
    return list(dict.fromkeys(record["variant"] for record in records))


def matrix(records: Sequence[Record], variant: str, column: str) -> NDArray[np.float64]:
    """[prompts, seeds] of one variant; nan where an asset failed or is missing.

    Same order for every variant."""
    prompts = sorted({record["prompt"] for record in records})
    seeds = sorted({record["seed"] for record in records})
    table = np.full((len(prompts), len(seeds)), np.nan)
    for record in records:
        if record["variant"] == variant and "failed" not in record:
            place = prompts.index(record["prompt"]), seeds.index(record["seed"])
            table[place] = COLUMNS[column].value(record)
    return table


def summarise(records: Sequence[Record]) -> dict[str, dict[str, Interval]]:
    """For every variant the mean of each column over prompts, with its bootstrap interval; empty
    columns left out."""
    table: dict[str, dict[str, Interval]] = {}
    for variant in variants(records):
        cells = {column: matrix(records, variant, column) for column in COLUMNS}
        table[variant] = {
            name: bootstrap(cell) for name, cell in cells.items() if not np.isnan(cell).all()
        }
    return table


def differences(records: Sequence[Record], ours: str) -> dict[str, dict[str, Interval]]:
    """Paired differences ours - theirs over prompts, for every other variant."""
    table: dict[str, dict[str, Interval]] = {}
    for theirs in variants(records):
        if theirs != ours:
            pairs = {
                c: paired(matrix(records, ours, c), matrix(records, theirs, c)) for c in COLUMNS
            }
            table[theirs] = {
                c: interval for c, interval in pairs.items() if not math.isnan(interval.mean)
            }
    return table


def kind_table(records: Sequence[Record], variant: str) -> dict[str, Record]:
    """Per prompt, means over seeds of what the suite must reach."""
    rows: dict[str, Record] = {}
    for prompt in dict.fromkeys(record["prompt"] for record in records):
        mine = [
            r
            for r in records
            if r["prompt"] == prompt and r["variant"] == variant and "failed" not in r
        ]
        rows[prompt] = {
            name: float(np.mean([COLUMNS[name].value(r) for r in mine])) for name in COLUMNS if mine
        }
    return rows


def in_words(origin: Mapping[str, str]) -> str:
    """The weights and the recipe of an origin (see `benchmark.Job.origin`)."""
    recipe = origin.get("recipe")
    return origin.get("weights", "") + (f", recipe {recipe}" if recipe else "")


def weights_of(records: Sequence[Record]) -> str:
    """The weights and the recipe that all of these records were made with; "" where they were not
    recorded.

    Raises:
        UserError: there are several: their means would be of nothing.
    """
    found = {in_words(record.get("origin", {})) for record in records}
    if len(found) > 1:
        names = "; ".join(sorted(words or "not recorded" for words in found))
        raise UserError(
            f"these assets were made with different weights ({names}); report them one by one"
        )
    return found.pop() if found else ""


def markdown(records: Sequence[Record], title: str) -> str:
    """The whole summary as a page of Markdown."""
    table = summarise(records)
    failed = [record for record in records if "failed" in record]
    names = [name for name in COLUMNS if any(name in row for row in table.values())]
    lines = [
        f"# {title}",
        "",
        f"{len(records)} assets, {len(failed)} failed. Means over prompts, 95 % bootstrap.",
    ]
    lines += [f"Weights: {weights_of(records) or 'not recorded'}.", ""]
    lines += _rows(
        ["", *table],
        [[COLUMNS[n].title, *(_cell(row.get(n)) for row in table.values())] for n in names],
    )
    for record in failed:
        lines.append(f"- failed: {record['key']}: {record['failed']}")
    first = next(iter(table), None)
    if first is not None and len(table) > 1:
        paired_rows = differences(records, first)
        lines += ["", f"## {first} minus the other, paired over prompts", ""]
        body = [
            [COLUMNS[n].title, *(_cell(row.get(n)) for row in paired_rows.values())] for n in names
        ]
        lines += _rows(["", *paired_rows], body)
    for variant in table:
        lines += [
            "",
            f"## {variant}, prompt by prompt",
            "",
            *_verdicts(records, variant, table[variant]),
            "",
        ]
        rows = kind_table(records, variant)
        shown = [
            n
            for n in ("kind", "color", "haze", "edge", "outside", "iou", "fronts", "seconds")
            if n in names
        ]
        body = [[prompt, *(f"{row[n]:.2f}" for n in shown)] for prompt, row in rows.items() if row]
        lines += _rows(["prompt", *(COLUMNS[n].title for n in shown)], body)
    return "\n".join(lines) + "\n"


def _verdicts(records: Sequence[Record], variant: str, row: dict[str, Interval]) -> list[str]:
    lines = []
    failed = sum("failed" in record for record in records if record["variant"] == variant)
    missing = f" (without {failed} that failed)" if failed else ""
    for name, (sign, bar) in TARGETS.items():
        if name in row:
            reached = row[name].mean >= bar if sign == ">=" else row[name].mean <= bar
            words = "reached" if reached else "**missed**"
            lines.append(f"- {COLUMNS[name].title} {sign} {bar}: {row[name]}, {words}{missing}")
    rows = {
        prompt: (r or {"kind": math.nan})["kind"]
        for prompt, r in kind_table(records, variant).items()
    }
    low = {
        prompt: kind for prompt, kind in rows.items() if not kind >= KIND_FLOOR
    }  # a failed one has nan
    if "kind" in row:
        text = ", ".join(
            f"{prompt} {'failed' if math.isnan(value) else f'{value:.2f}'}"
            for prompt, value in low.items()
        )
        lines.append(
            f"- every kind >= {KIND_FLOOR} of its ceiling:"
            f" {f'**missed** by {text}' if low else 'reached'}"
        )
    return lines


def _cell(interval: Interval | None) -> str:
    return "" if interval is None else str(interval)


def _rows(header: list[str], body: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *body)]
