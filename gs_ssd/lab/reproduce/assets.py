"""Training and measuring real assets for the benchmark and the 3D comparison: the wiring between
rooms.

`gs-ssd train` runs as a process for each asset; this process reads the splat or the field that it
leaves, looks at it and compares.
"""

import dataclasses
import functools
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from gs_ssd import config as configs
from gs_ssd.assets.base import Renderable
from gs_ssd.assets.nerf.asset import NerfAsset
from gs_ssd.errors import UserError
from gs_ssd.export.ply_reader import read_ply
from gs_ssd.export.splats import to_gaussians
from gs_ssd.files import atomic_path
from gs_ssd.lab.evaluate import judge, sheet, summary
from gs_ssd.lab.evaluate.benchmark import Job, read_ledger, recorded
from gs_ssd.lab.evaluate.clip_score import ClipScore
from gs_ssd.lab.evaluate.intervals import bootstrap, frechet_interval
from gs_ssd.lab.evaluate.measure import (
    COARSE,
    CRISP_VIEWS,
    JUDGED,
    Judge,
    Truth,
    numbers_beside_truth,
    own_numbers,
    photograph,
    recognised,
)
from gs_ssd.lab.evaluate.suite import Entry, Turntable
from gs_ssd.lab.evaluate.trainings import Cost, run_process
from gs_ssd.lab.reproduce import one_process
from gs_ssd.locks import held
from gs_ssd.maths.color import to_uint8
from gs_ssd.prior import DiffusionPrior
from gs_ssd.render.renderer import RenderedGaussians
from gs_ssd.run.trained import newest_asset

log = logging.getLogger(__name__)

QUIET = ("output.turntable_frames=0", "output.preview_every=0")
"""What a measured asset need not leave behind."""
ABREAST = 6
"""Assets of one prompt in a line of the contact sheet; more continue below."""
SIZES = ("num_splats", "num_cells")
"""How large an asset is, by its kind."""
SHOWN = 6
"""Views of the turntable that the page shows of an asset."""


@dataclasses.dataclass(frozen=True)
class Workshop:
    """How a job becomes an asset, and an asset a record."""

    config: Path
    out: Path
    turntable: Turntable
    judge: Judge | None = None
    size: int = 512
    clip: ClipScore | None = None
    prior: DiffusionPrior | None = None
    """Trains with it in this process, one asset at a time; `None`: each in a process of its own."""

    def train(self, job: Job, folder: Path) -> Cost:
        """`gs-ssd train` in a process, or here; continues a run that was interrupted, unless it was
        another's."""
        marker = folder.with_name(f"{folder.name}.fingerprint")
        same = marker.exists() and marker.read_text(encoding="utf-8") == job.fingerprint
        resume = same and any((folder / "checkpoints").glob("*.pt"))
        if not resume and folder.exists():
            # Before the marker: checkpoints of another job must never pass for this one's.
            _remove(folder, marker)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(job.fingerprint, encoding="utf-8")
        if self.prior is not None:
            words = (*QUIET, *job.overrides, f"prompt={job.entry.prompt}")
            return one_process.train(self.config, words, folder, self.prior, resume=resume)
        command = [sys.executable, "-m", "gs_ssd.cli", "train", "--config", str(self.config)]
        command += ["--prompt", job.entry.prompt, "--out", str(folder), "--end-with-stdin"]
        command += ["--resume"] if resume else []
        return run_process([*command, *QUIET, *job.overrides], folder / "train.log")

    def measure(self, job: Job, folder: Path) -> dict[str, Any]:
        """All numbers of one asset; leaves `strip.png` and `views.npz` (small pictures, the judge's
        features)."""
        pictures = photograph(load_asset(folder), self.turntable, self.size)
        coarse, small = pictures.shrunk(COARSE), pictures.shrunk(JUDGED).rgb
        crisp = pictures.chosen([v for v in CRISP_VIEWS if v < self.turntable.views])
        numbers: dict[str, Any] = own_numbers(crisp, coarse) | training_numbers(
            folder / "metrics.jsonl"
        )
        if self.prior is not None and self.prior.device.type == "cpu":
            # A process that keeps what an earlier training freed shows no peak of this one.
            numbers.pop("memory_mib", None)
        kept = {"rgb": to_uint8(small)}
        truth, truth_numbers = self.truth(job.entry)
        if truth is not None:
            numbers |= truth_numbers | numbers_beside_truth(coarse, truth)
        if self.judge is not None and truth is not None:
            opinion = self.judge(small)
            kept["features"] = opinion.features.detach().cpu().numpy()
            numbers |= recognised(opinion, job.entry) | {
                "named": opinion.kinds,
                "named_colors": opinion.colors,
            }
        if self.clip is not None:
            scores = self.clip(pictures.rgb, job.entry.prompt)
            numbers |= {
                "clip": self.clip.name,
                "clip_mean": float(scores.mean()),
                "clip_worst": float(scores.min()),
            }
        with atomic_path(folder / "views.npz") as temporary:
            np.savez_compressed(temporary, **kept)
        sheet.contact_sheet(
            [[sheet.Strip("", spread(to_uint8(coarse.rgb), SHOWN))]], folder / "strip.png"
        )
        return numbers

    @functools.cache  # noqa: B019 -- one workshop lives as long as its benchmark
    def truth(self, entry: Entry) -> tuple[Truth | None, dict[str, Any]]:
        """The true object of a prompt, the numbers it has itself, and what the judge makes of it
        (its ceiling)."""
        if entry.kind is None or entry.color is None:
            return None, {}
        truth = Truth(entry, self.turntable, self.size)
        coarse, small = truth.coarse, truth.coarse.shrunk(JUDGED).rgb
        numbers: dict[str, Any] = {
            f"{k}_truth": value for k, value in own_numbers(truth.crisp, coarse).items()
        }
        kept = {"rgb": to_uint8(small)}
        if self.judge is not None:
            opinion = self.judge(small)
            kept["features"] = opinion.features.detach().cpu().numpy()
            ceiling = recognised(opinion, entry)
            shares = {name: value for name, value in ceiling.items() if name.endswith("_share")}
            numbers |= {
                f"{name.removesuffix('_share')}_ceiling": value for name, value in shares.items()
            }
        folder = self.out / "truth" / entry.slug
        with atomic_path(folder / "views.npz") as temporary:
            np.savez_compressed(temporary, **kept)
        sheet.contact_sheet(
            [[sheet.Strip("", spread(to_uint8(coarse.rgb), SHOWN))]], folder / "strip.png"
        )
        return truth, numbers

    def write_summary(self, jobs: Sequence[Job], title: str, extra: str = "") -> Path:
        """`summary.md`, `sheet.png` and `index.html` over the jobs that are done; returns the
        summary's path."""
        ledger = read_ledger(self.out)
        records = recorded(jobs, ledger)
        keys = {record["key"] for record in records}
        jobs = [job for job in jobs if job.key in keys]
        text = summary.markdown(records, title) + self._distances(jobs, records) + extra
        path = self.out / "summary.md"
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        good = self.write_sheet(jobs, self.out / "sheet.png")
        with atomic_path(self.out / "index.html") as temporary:
            temporary.write_text(
                sheet.page(title, text, self._page_rows(good, ledger)), encoding="utf-8"
            )
        return path

    def write_sheet(self, jobs: Sequence[Job], path: Path) -> list[Job]:
        """The contact sheet of those of the jobs whose pictures are there; returns these."""
        ledger = read_ledger(self.out)
        good = [
            job
            for job in jobs
            if "failed" not in ledger.get(job.key, {"failed": ""}) and self._kept(job)
        ]
        if good:
            sheet.contact_sheet(self._sheet_rows(good), path)
        return good

    def _distances(self, jobs: Sequence[Job], records: Sequence[dict[str, Any]]) -> str:
        """Frechet distance of the judge's features to the true renderings', and the diversity over
        seeds, by prompt."""
        lines = []
        for variant in summary.variants(records):
            mine = [
                job
                for job in jobs
                if job.variant.label == variant and self._kept(job) and job.entry.kind
            ]
            if not mine or self.judge is None:
                continue
            features: dict[str, list[list[np.ndarray]]] = {}
            by_prompt: dict[str, list[np.ndarray]] = {}
            for job in mine:
                folder = self.out / "runs" / job.key
                pair = [_features(folder), _features(self.out / "truth" / job.entry.slug)]
                features.setdefault(job.entry.prompt, []).append(pair)
                views = np.load(folder / "views.npz")["rgb"].astype(np.float32) / 255
                by_prompt.setdefault(job.entry.prompt, []).append(views)
            asset, truth = (
                [np.concatenate([pair[i] for pair in pairs]) for pairs in features.values()]
                for i in (0, 1)
            )
            spreads = [
                float(np.std(np.stack(v), axis=0).mean()) for v in by_prompt.values() if len(v) > 1
            ]
            diversity = (
                f"; spread over seeds {bootstrap(spreads)} (standard deviation of a pixel)"
                if spreads
                else ""
            )
            distance = frechet_interval(asset, truth)
            lines.append(
                f"- {variant}: Frechet distance to true renderings {distance}, {len(asset)}"
                f" prompts{diversity}"
            )
        return "\n## Distances of the pictures\n\n" + "\n".join(lines) + "\n" if lines else ""

    def _kept(self, job: Job) -> bool:
        """Whether the pictures of a measured asset are still there."""
        return (self.out / "runs" / job.key / "views.npz").exists()

    def _sheet_rows(self, jobs: Sequence[Job]) -> list[list[sheet.Strip]]:
        rows: dict[str, list[sheet.Strip]] = {}
        for job in jobs:
            truth, asset = (
                self.out / "truth" / job.entry.slug / "views.npz",
                self.out / "runs" / job.key / "views.npz",
            )
            if job.entry.prompt not in rows:
                rows[job.entry.prompt] = []
                if truth.exists():
                    rows[job.entry.prompt].append(
                        sheet.Strip(job.entry.prompt, spread(np.load(truth)["rgb"], 3))
                    )
            first = "" if rows[job.entry.prompt] else f"{job.entry.prompt}: "
            caption = f"{first}{job.variant.label}, seed {job.seed}"
            rows[job.entry.prompt].append(sheet.Strip(caption, spread(np.load(asset)["rgb"], 4)))
        return [row[i : i + ABREAST] for row in rows.values() for i in range(0, len(row), ABREAST)]

    def _page_rows(
        self, jobs: Sequence[Job], ledger: dict[str, dict[str, Any]]
    ) -> list[tuple[str, list[tuple[str, str, str]]]]:
        rows: dict[str, list[tuple[str, str, str]]] = {}
        for job in jobs:
            truth = f"truth/{job.entry.slug}/strip.png"
            has_truth = (self.out / truth).exists()
            row = rows.setdefault(
                job.entry.prompt, [(truth, "true object", truth)] if has_truth else []
            )
            record, folder = ledger[job.key], f"runs/{job.key}"
            shown = ("kind_share", "color_share", "haze", "outside", "iou")
            numbers = ", ".join(
                f"{name} {record[name]:.2f}" for name in shown if record.get(name) is not None
            )
            row.append(
                (
                    f"{folder}/strip.png",
                    f"{job.variant.label}, seed {job.seed}: {numbers}",
                    f"{folder}/index.html",
                )
            )
        return list(rows.items())


def _remove(folder: Path, marker: Path) -> None:
    """Delete the folder of another job of ours.

    Raises:
        UserError: no job of ours made it, or a process is at work in it.
    """
    if not marker.exists():
        raise UserError(
            f"{folder} was not made by a benchmark; move it away, or choose another --out"
        )
    with held(folder, "gs-ssd bench"):
        shutil.rmtree(folder)


def find_judge() -> Judge | None:
    """The bundled judge, or None (with a warning) where it is not installed.

    Raises:
        UserError: it is there, but damaged.
    """
    if not judge.FOLDER.is_dir():
        log.warning("kind and colour are not measured: there is no judge in %s", judge.FOLDER)
        return None
    return judge.load()


def load_asset(folder: Path) -> Renderable:
    """What a training has made: its radiance field, not that field's conversion to splats; else its
    splat.

    Raises:
        UserError: the file is missing or unreadable.
    """
    settings = folder / "config.yaml"
    if settings.is_file() and configs.load(settings).asset == NerfAsset.kind:
        return newest_asset(folder)
    return load_splat(folder / "point_cloud.ply")


def load_splat(path: Path) -> RenderedGaussians:
    """The splat of a PLY file, in our world's axes.

    Raises:
        UserError: the file is missing or unreadable.
    """
    return RenderedGaussians(to_gaussians(read_ply(path)))


def training_numbers(metrics: Path) -> dict[str, Any]:
    """Steps, median seconds per step, UNet images, splats or cells, and peak memory (MiB, of a GPU
    or beyond what the imports hold), from a run's metrics.jsonl."""
    rows = [
        json.loads(line)
        for line in metrics.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    numbers: dict[str, Any] = {"steps": len(rows)}
    if rows:
        numbers["seconds_per_step"] = float(np.median([row["seconds_per_step"] for row in rows]))
        numbers |= {name: n for name, n in rows[-1].items() if name in SIZES}
        peaks = [row["peak_memory_mib"] for row in rows if "peak_memory_mib" in row]
        numbers |= {"memory_mib": max(peaks)} if peaks else {}
    if rows and "unet_images" in rows[-1]:
        numbers["unet_images"] = sum(row["unet_images"] for row in rows)
    return numbers


def spread(pictures: UInt8[np.ndarray, "v h w 3"], count: int) -> UInt8[np.ndarray, "n h w 3"]:
    """At most `count` of the pictures, evenly spread, the first among them."""
    count = min(count, len(pictures))
    return pictures[[i * len(pictures) // count for i in range(count)]]


def _features(folder: Path) -> np.ndarray:
    return np.load(folder / "views.npz")["features"]
