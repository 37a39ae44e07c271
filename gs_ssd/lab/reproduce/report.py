"""What an experiment leaves: pictures, tables, a verdict; and the page that shows all of them.

Every experiment writes into its own folder, `result.json` last, so that an interrupted run is seen
as not done and the page can be rebuilt from whatever folders there are.
"""

import csv
import dataclasses
import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SizeName = Literal["tiny", "small", "full"]

MISSING = """\
- The user study.
- Stable Diffusion itself. The experiments run on it (`--prior MODEL --device cuda`), and `gs-ssd
  bench --suite configs/suites/stable_diffusion.json --config configs/hamburger.yaml --clip MODEL`
  measures prompts that no judge knows; nobody has run either yet."""

EARLIER = """\
**On earlier bundled weights**, and not repeated on those that come with the program now; what is
known of these stands in `docs/results.md`."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What an experiment is run with."""

    size: SizeName
    folder: Path
    prior: str = "bundled"
    """`bundled`, a diffusers directory or a model's name; exact mixtures need none."""
    seed: int = 0
    workers: int = 1
    device: str = "cpu"
    rows: tuple[str, ...] = ()
    """Where assets are trained: these rows only; none named, all of the size's."""
    limit: int | None = None
    """Where assets are trained: the first prompts only, whatever the size says."""
    minutes: float = math.inf
    """Where assets are trained: begin none after so long; the next call continues."""
    untuned: bool = False
    """The comparison: every estimator as it comes, whatever a tuning has found."""

    @property
    def options(self) -> str:
        """The part of the size that was asked for, as the command line says it; "" for all of
        it."""
        limit = [] if self.limit is None else ["--limit", str(self.limit)]
        untuned = ["--untuned"] if self.untuned else []
        return " ".join([*untuned, *limit, *(("--rows", *self.rows) if self.rows else ())])

    @property
    def restricted(self) -> bool:
        """Whether a part of the size was asked for: then it is not finished when that part is."""
        return bool(self.options)


class Claim(NamedTuple):
    """A sentence of the paper (or of ours), and what the numbers of this run say to it.

    `holds` is None where this run cannot tell.
    """

    text: str
    holds: bool | None
    evidence: str


@dataclasses.dataclass(frozen=True)
class Report:
    """One experiment's outcome; `figures` are (file name, caption), in reading order."""

    title: str
    setting: str
    claims: tuple[Claim, ...]
    figures: tuple[tuple[str, str], ...]
    remarks: str = ""
    complete: bool = True
    """False where some of it was not run yet: the next call continues."""
    timed: bool = True
    """False where earlier calls may have done part of the work, so that this call's seconds say
    nothing."""

    def holds(self, beginning: str) -> bool | None:
        """The verdict on the one claim that begins so.

        Raises:
            KeyError: no such claim.
        """
        for claim in self.claims:
            if claim.text.startswith(beginning):
                return claim.holds
        raise KeyError(beginning)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file; floats with six significant digits."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in rows)


def new_figure(
    rows: int, columns: int, width: float = 3.2, height: float = 3.0
) -> tuple["Figure", Any]:
    """A matplotlib figure without a window and its axes, `[rows, columns]`.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the figures need matplotlib; pip install 'gs-ssd[plots]'") from error
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure: "Figure", path: Path, dpi: int = 100) -> None:
    """A PNG without a date in it, so that equal pictures are equal files."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, metadata={"Software": None})


def write_report(
    report: Report,
    folder: Path,
    name: str,
    size: str,
    started: float,
    weights: str = "",
    options: str = "",
    seed: int = 0,
) -> None:
    """`README.md` and `result.json` of one experiment.

    Args:
        started: its `time.monotonic()` at the start.
        weights: what it was run on, in words; "" where nothing was learnt.
        options: of the command line, beside the size (`Context.options`).
        seed: the first one.
    """
    seconds = round(time.monotonic() - started, 1)
    record = {
        "name": name,
        "size": size,
        "options": options,
        "seed": seed,
        "weights": weights,
        "seconds": seconds,
    }
    record |= dataclasses.asdict(report)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(f"# {report.title}\n\n{_section(record, '')}", encoding="utf-8")
    with atomic_path(folder / "result.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_result(folder: Path) -> dict[str, Any] | None:
    """What `write_report` wrote there, None where there is nothing."""
    try:
        record = json_text.parse((folder / "result.json").read_text(encoding="utf-8"))
        return record if isinstance(record, dict) and "size" in record else None
    except (OSError, ValueError):
        return None


def is_finished(folder: Path, size: str, weights: str, seed: int = 0) -> bool:
    """Whether this folder's experiment was run to its end: at this size, on these weights, from
    this seed."""
    record = read_result(folder)
    return (
        record is not None
        and record.get("complete", True)
        and (record["size"], record.get("weights")) == (size, weights)
        and record.get("seed", 0) == seed
    )


def write_page(out: Path, names: Sequence[str], shipped: str = "") -> None:
    """The one page, `README.md` in `out`, from the folders of the named experiments that are
    done.

    Args:
        shipped: the bundled weights in words; what was run on earlier ones is marked.
    """
    parts = [
        "# The paper's experiments, rerun",
        (
            "Stable Score Distillation (Tang et al., arXiv 2312.09305) on priors that anyone can"
            " run: exact scores where they exist, else the bundled diffusion model. Every verdict"
            " below is computed from the numbers of the run that is named with it; `tiny` and"
            " `small` runs prove the plumbing, claims rest on the size that is stated."
        ),
    ]
    for name in names:
        record = read_result(out / name)
        if record is None:
            parts += [f"## {name}", f"Not run yet: `gs-ssd reproduce {name}`."]
            continue
        old = EARLIER if _is_earlier(record.get("weights") or "", shipped) else ""
        parts += [f"## {record['title']}", old, _section(record, f"{name}/")]
    parts += ["## What is not here", MISSING]
    text = "\n\n".join(part.strip() for part in parts if part)
    with atomic_path(out / "README.md") as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def _is_earlier(weights: str, shipped: str) -> bool:
    """Whether these are bundled weights, but not the shipped ones."""
    mine, now = weights.split(", "), shipped.split(", ")
    return bool(shipped) and mine[0].startswith("bundled ") and mine[0] != now[0]


def _section(record: dict[str, Any], prefix: str) -> str:
    word = {True: "holds", False: "**does not hold**", None: "cannot be told"}
    claims = [
        f"| {_cell(text)} | {word[holds]} | {_cell(evidence)} |"
        for text, holds, evidence in record["claims"]
    ]
    figures = [
        f"![{caption}]({prefix}{file})\n\n*{caption}*" for file, caption in record["figures"]
    ]
    command = " ".join(
        ["gs-ssd reproduce", record["name"], "--size", record["size"], record.get("options", "")]
        + (["--seed", str(record["seed"])] if record.get("seed", 0) else [])
    ).strip()
    table = "\n".join(["| claim | verdict | numbers |", "|---|---|---|", *claims]) if claims else ""
    made = {"": "", None: "Weights: not recorded."}.get(
        record.get("weights"), f"Weights: {record.get('weights')}."
    )
    parts = [
        " ".join(filter(None, [record["setting"], made])),
        table,
        *figures,
        record["remarks"],
        f"Reproduce: `{command}`"
        + (f" ({record['seconds']:.0f} s)" if record.get("timed", True) else ""),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cell(text: str) -> str:
    """Markdown ends a cell at every bar, those of a norm too."""
    return text.replace("|", "\\|")
