"""Figure 8 of the SSD paper: SSD in place of SDS where an avatar is made. The paper does it inside
DreamWaltz with SMPL; here it is the mannequin and the person prior, and the truth is known."""

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from gs_ssd import config as configs
from gs_ssd.assets.avatar.asset import AvatarAsset
from gs_ssd.body.poses import CLIPS
from gs_ssd.errors import UserError
from gs_ssd.export.avatar_file import Avatar
from gs_ssd.files import atomic_path
from gs_ssd.job import Job
from gs_ssd.json_lines import append_record, read_records
from gs_ssd.lab.evaluate import avatars, sheet
from gs_ssd.lab.evaluate.avatars import AvatarNumbers
from gs_ssd.lab.evaluate.intervals import bootstrap
from gs_ssd.lab.reproduce.comparison import RULE, decide
from gs_ssd.lab.reproduce.report import Claim, Context, Report, SizeName, write_table
from gs_ssd.lab.world import COLORS
from gs_ssd.lab.world.person import Outfit
from gs_ssd.maths.color import to_uint8
from gs_ssd.prior import DiffusionPrior, PriorConfig, load
from gs_ssd.prior.outfit import HAIR, PLAIN, SKIN
from gs_ssd.scene.camera import at_angles

TITLE = "Avatars: SSD in place of SDS (Fig. 8)"
CONFIG = "configs/quickstart_avatar.yaml"
ROWS: Final = {
    "ssd": ("guidance.estimator=ssd",),
    "sds": ("guidance.estimator=sds", "guidance.cfg_scale=7.5"),
    "sds@100": ("guidance.estimator=sds", "guidance.cfg_scale=100.0"),
}
"""SDS at the scale that tuning gave it on objects, and at the paper's omega."""
SIZES: dict[SizeName, dict[str, Any]] = {
    "tiny": {
        "prompts": 1,
        "rows": 2,
        "seeds": (0,),
        "overrides": ("num_steps=3", "finish.steps=2"),
    },
    "small": {
        "prompts": 6,
        "rows": 2,
        "seeds": (0,),
        "overrides": ("num_steps=80", "finish.steps=60"),
    },
    "full": {"prompts": 6, "rows": 3, "seeds": (0, 1), "overrides": ()},
}


class Person(NamedTuple):
    """A sentence and what it says."""

    prompt: str
    outfit: Outfit


def _outfit(shirt: str, trousers: str, hair: str = "", skin: str = "") -> Outfit:
    return Outfit(
        skin=SKIN.get(skin, PLAIN["skin"]),
        hair=HAIR.get(hair, PLAIN["hair"]),
        shirt=COLORS[shirt],
        trousers=COLORS[trousers],
        shoes=PLAIN["shoes"],
    )


PERSONS: Final = (
    Person("a person in a red shirt and blue trousers", _outfit("red", "blue")),
    Person(
        "a woman with blond hair in a green shirt and white trousers",
        _outfit("green", "white", "blond"),
    ),
    Person(
        "a man with dark skin in a yellow shirt and purple trousers",
        _outfit("yellow", "purple", skin="dark"),
    ),
    Person(
        "a person with white hair in a pink shirt and black trousers",
        _outfit("pink", "black", "white"),
    ),
    Person("a woman in an orange shirt and gray trousers", _outfit("orange", "gray")),
    Person(
        "a man with black hair in a cyan shirt and brown trousers",
        _outfit("cyan", "brown", "black"),
    ),
)


def run(context: Context) -> Report:
    """Train the avatars that are not there yet, measure them, compare the rows."""
    size = SIZES[context.size]
    rows = context.rows or tuple(ROWS)[: size["rows"]]
    if unknown := [row for row in rows if row not in ROWS]:
        raise UserError(f"--rows {unknown[0]}: choose from {', '.join(ROWS)}")
    people = PERSONS[: context.limit or size["prompts"]]
    ledger = context.folder / f"results-{context.size}.jsonl"
    context.folder.mkdir(parents=True, exist_ok=True)
    done, started = _read(ledger), time.monotonic()
    wanted = [
        (row, number, seed)
        for seed in size["seeds"]
        for number in range(len(people))
        for row in rows
    ]
    for job in wanted:
        if job in done or time.monotonic() - started > 60 * context.minutes:
            continue
        record = _train(context, *job, size["overrides"])
        append_record(ledger, record)
        done[job] = record
        print(f"  {job[0]}, {record['prompt']!r}, seed {job[2]}: {_short(record)}", flush=True)
    found = [done[job] for job in wanted if job in done]
    names = ["row", "prompt", "seed", "cpu", *AvatarNumbers._fields]
    write_table(
        context.folder / "avatars.csv",
        names,
        [[record.get(name, "") for name in names] for record in found],
    )
    _sheet(context.folder, people, rows, found)
    shown = "A pose that no training names, then a moment of the wave; front, side and back."
    return Report(
        TITLE,
        f"{len(people)} persons, seeds {', '.join(map(str, size['seeds']))}, {', '.join(rows)};"
        f" `{' '.join([CONFIG, *size['overrides']])}`, prior {prior_of(context)};"
        f" five poses that no training names, from {avatars.VIEWS} sides each."
        f" {len(found)} of {len(wanted)} avatars are there.",
        _claims(found, rows),
        (("sheet.png", shown),) if found else (),
        remarks=f"{_table(found, rows)}\n\n{RULE}",
        complete=len(found) == len(wanted),
        timed=False,
    )


def prior_of(context: Context) -> str:
    """The person prior stands for the bundled one, which draws no persons."""
    return "person" if context.prior == "bundled" else context.prior


@functools.cache
def _prior(model: str, device: str) -> DiffusionPrior:
    return load(PriorConfig(model=model), device)


def _train(
    context: Context, row: str, number: int, seed: int, overrides: Sequence[str]
) -> dict[str, Any]:
    """One avatar: trained, measured, photographed."""
    who = PERSONS[number]
    path = Path(__file__).parents[3] / CONFIG
    if not path.is_file():
        raise UserError(
            f"there is no {path}; run `gs-ssd reproduce` from a checkout of the project"
        )
    words = [f"prompt={who.prompt}", f"seed={seed}", f"device={context.device}"]
    settings = configs.load(path, [*words, *overrides, *ROWS[row]])
    began = time.process_time()
    job = Job(settings, _prior(prior_of(context), context.device))
    for _ in job.steps():
        pass
    job.finish()
    spent = time.process_time() - began
    assert isinstance(job.asset, AvatarAsset)
    avatar = job.asset.rigged()
    _photographs(context.folder, row, number, seed, avatar)
    numbers = avatars.measure(avatar, who.outfit)._asdict()
    return {
        "row": row,
        "number": number,
        "prompt": who.prompt,
        "seed": seed,
        "cpu": spent,
    } | numbers


def _photographs(folder: Path, row: str, number: int, seed: int, avatar: Avatar) -> None:
    moments = [avatars.UNSEEN["kick"], CLIPS["wave"][0](0.1)]
    views = at_angles([0.35, 1.75, 3.3], [1.4] * 3, radius=3.35, fov_y_rad=0.66, size=96)
    pictures = []
    for pose in moments:
        rgb, alpha = avatars.photograph(avatar, pose, views)
        pictures.append(to_uint8(rgb + 1 - alpha[:, None]))
    path = _pictures_of(folder, row, number, seed)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, pictures=np.concatenate(pictures))


def _pictures_of(folder: Path, row: str, number: int, seed: int) -> Path:
    (folder / "assets").mkdir(exist_ok=True)
    return folder / "assets" / f"{row}-{number}-{seed}.npz"


def _sheet(
    folder: Path, people: Sequence[Person], rows: Sequence[str], found: list[dict[str, Any]]
) -> None:
    lines = []
    for number, who in enumerate(people):
        strips = [
            sheet.Strip(
                f"{row}: {who.prompt}", np.load(_pictures_of(folder, row, number, 0))["pictures"]
            )
            for row in rows
            if any((r["row"], r["number"], r["seed"]) == (row, number, 0) for r in found)
        ]
        lines += [strips] if strips else []
    if lines:
        sheet.contact_sheet(lines, folder / "sheet.png")


def _read(ledger: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    records = read_records(ledger, {"row": str, "number": int, "seed": int})
    return {(r["row"], r["number"], r["seed"]): r for r in records}


def _matrix(found: list[dict[str, Any]], row: str, name: str) -> np.ndarray:
    """`[P, S]`, nan where there is none."""
    people, seeds = sorted({r["number"] for r in found}), sorted({r["seed"] for r in found})
    values = {
        (r["number"], r["seed"]): float(r.get(name, np.nan)) for r in found if r["row"] == row
    }
    rows = [[values.get((p, s), np.nan) for s in seeds] for p in people]
    return np.array(rows).reshape(len(people), len(seeds))  # two axes, where nothing is there too


def _claims(found: list[dict[str, Any]], rows: Sequence[str]) -> tuple[Claim, ...]:
    ssd = {name: _matrix(found, "ssd", name) for name in AvatarNumbers._fields}
    claims = []
    for row in rows:
        if row == "ssd":
            continue
        other = {name: _matrix(found, row, name) for name in AvatarNumbers._fields}
        for text, title, difference, sign in (
            ("more detail", "high-frequency energy over the truth's",
             ssd["detail"] - other["detail"], 1),
            ("detail nearer to the truth's", "distance of that ratio from 1",
             abs(ssd["detail"] - 1) - abs(other["detail"] - 1), -1),
            ("truer colours", "colour error", ssd["color_error"] - other["color_error"], -1),
            ("a truer silhouette in unseen poses", "silhouette IoU",
             ssd["silhouette_iou"] - other["silhouette_iou"], 1),
        ):  # fmt: skip
            claims.append(
                decide(f"SSD's avatars have {text} than {row}'s", f"{title}, ssd minus {row}",
                       difference, sign)
            )  # fmt: skip
    reached = bootstrap(ssd["silhouette_iou"])
    goal = Claim(
        "SSD's silhouettes reach an IoU of .85 in unseen poses",
        None if np.isnan(reached.mean) else reached.low >= 0.85,
        f"{reached} over {len(ssd['silhouette_iou'])} persons",
    )
    return (*claims, goal)


def _table(found: list[dict[str, Any]], rows: Sequence[str]) -> str:
    names = ["silhouette_iou", "worst_pose_iou", "colors_right", "color_error", "limbs_apart",
             "gaps_open", "detail", "saturation_over_truth", "cpu"]  # fmt: skip
    lines = ["| row | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        cells = [f"{bootstrap(_matrix(found, row, name)).mean:.3f}" for name in names]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _short(record: dict[str, Any]) -> str:
    return f"IoU {record['silhouette_iou']:.3f}, colours {record['color_error']:.3f}, detail" + (
        f" {record['detail']:.2f}, {record['cpu']:.0f} s"
    )
