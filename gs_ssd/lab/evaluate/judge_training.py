"""Trains the judge (`judge.py`) and measures it: held-out pictures, and the ceiling on ground-truth
turntables."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gs_ssd import checksums
from gs_ssd.files import atomic_path
from gs_ssd.lab import world
from gs_ssd.lab.evaluate.judge import SIZE, Judge, JudgeConfig, JudgeNet, load

# Other cameras, lights and paints than the prior's training has; objects are cut out and put before
# new backgrounds.
_LAW = world.CameraLaw(
    radius=(2.9, 4.0),
    fov_y_deg=(36.0, 44.0),
    elevation_deg=(-20.0, 65.0),
    high_share=0.05,
    look_at_jitter=0.12,
    closeup_share=0.0,
)
_STUDIO = world.Studio(
    light_turn=0.5, light_strength=0.25, paint=0.08, white_share=0.0, black_share=1.1
)
_TRAINING_SEED, _HELD_OUT_SEED = 7_000_001, 7_900_001


@dataclasses.dataclass(frozen=True)
class JudgeTraining:
    pictures: int = 11_000
    held_out: int = 2_800
    epochs: int = 10
    batch: int = 64
    learning_rate: float = 2e-3
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Cutouts:
    """Objects on black, premultiplied, with their masks."""

    rgb: Tensor  # [N,3,S,S] uint8
    alpha: Tensor  # [N,1,S,S] uint8
    kind: Tensor  # [N]
    color: Tensor  # [N]


def make_cutouts(count: int, seed: int, *, batch: int = 8) -> Cutouts:
    """At least `count` cut-out pictures, as many of every kind."""
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-count // (batch * len(world.kinds())))
    shots = [
        world.photograph(kind, batch, SIZE, generator, law=_LAW, studio=_STUDIO)
        for _ in range(rounds)
        for kind in world.kinds()
    ]
    columns = zip(*((shot.rgb, shot.alpha, shot.kind, shot.color) for shot in shots), strict=True)
    return Cutouts(*(torch.cat(column) for column in columns))


def compose(
    cutouts: Cutouts, index: Tensor, generator: torch.Generator, *, augment: bool
) -> Tensor:
    """Pictures before random backgrounds (plain, or a slope between two colours); `augment` also
    mirrors and shifts the objects and varies brightness, contrast and noise. `[B,3,S,S]` in
    0..1."""
    cut = torch.cat([cutouts.rgb[index], cutouts.alpha[index]], 1).float() / 255
    if augment:
        cut = _moved(cut, generator)
    rgb, alpha = cut[:, :3], cut[:, 3:]
    count = len(index)

    def draw(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    first, second = draw(3, 1, 1), draw(3, 1, 1)
    first = torch.where(draw(1, 1, 1) < 0.5, first[:, :1], first)  # half of them gray
    first = torch.where(draw(1, 1, 1) < 0.15, torch.ones_like(first), first)
    slope = torch.linspace(0, 1, rgb.shape[-1]).expand_as(alpha)
    second = torch.where(draw(1, 1, 1) < 0.7, first, second)
    backdrop = first + (second - first) * torch.where(
        draw(1, 1, 1) < 0.5, slope, slope.transpose(2, 3)
    )
    picture = rgb + (1 - alpha) * backdrop
    if augment:
        picture = (
            (picture - 0.5) * (0.85 + 0.3 * draw(1, 1, 1)) + 0.5 + 0.12 * (draw(1, 1, 1) - 0.5)
        )
        picture = picture + 0.04 * draw(1, 1, 1) * torch.randn(picture.shape, generator=generator)
    return picture.clamp(0, 1)


def _moved(cut: Tensor, generator: torch.Generator, reach: int = 6) -> Tensor:
    """The batch cut in quarters, each mirrored or not and shifted by up to `reach` pixels over the
    black surround."""
    parts = []
    for part in cut.chunk(4):
        flip, y, x = torch.randint(2 * reach + 1, (3,), generator=generator).tolist()
        padded = nn.functional.pad(part, (reach,) * 4)[..., y : y + SIZE, x : x + SIZE]
        parts.append(padded.flip(-1) if flip % 2 else padded)
    return torch.cat(parts)


def train_judge(
    folder: Path,
    config: JudgeTraining,
    *,
    cache: Path | None = None,
    report: Callable[[str], None] = print,
) -> Judge:
    """Train a judge and write its weights and card to `folder`; `cache` keeps the pictures between
    calls."""
    torch.manual_seed(config.seed)
    cutouts = _cached(cache, config.pictures, _TRAINING_SEED)
    names = JudgeConfig(tuple(world.kinds()), tuple(world.colors()))
    net = JudgeNet(names)
    total = config.epochs * (len(cutouts.kind) // config.batch)
    adam = torch.optim.AdamW(net.parameters(), config.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, config.learning_rate, total_steps=total)
    generator = torch.Generator().manual_seed(config.seed)
    began = time.process_time()
    for epoch in range(config.epochs):
        order, loss = torch.randperm(len(cutouts.kind), generator=generator), torch.zeros(())
        for index in order[: len(order) // config.batch * config.batch].split(config.batch):
            picture = compose(cutouts, index, generator, augment=True)
            with torch.autocast("cpu", torch.bfloat16):
                kind, color, _ = net(picture)
            loss = _cross_entropy(kind.float(), cutouts.kind[index]) + _cross_entropy(
                color.float(), cutouts.color[index]
            )
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            schedule.step()
        report(f"judge: epoch {epoch + 1}/{config.epochs}  loss {loss.item():.3f}")
    seconds = time.process_time() - began
    judge = Judge(net, names)
    write_judge(folder, judge)
    judge = load(folder)
    write_card(folder, judge, config, round(seconds), cache=cache)
    return judge


def write_card(
    folder: Path, judge: Judge, config: JudgeTraining, seconds: int, *, cache: Path | None = None
) -> None:
    """Measure the judge and write `card.json` and `README.md`; `seconds` of CPU time went into
    it."""
    card = measure(judge, _cached(cache, config.held_out, _HELD_OUT_SEED))
    card["training"] = {**dataclasses.asdict(config), "cpu_seconds": seconds}
    with atomic_path(folder / "card.json") as path:
        path.write_text(json.dumps(card, indent=1) + "\n")
    with atomic_path(folder / "README.md") as path:
        path.write_text(_card_text(card))
    checksums.write(folder)


def measure(judge: Judge, held_out: Cutouts) -> dict:
    """Held-out accuracy and the ceiling: the score on ground-truth turntables of every kind."""
    generator = torch.Generator().manual_seed(1)
    indices = torch.arange(len(held_out.kind))
    opinions = [
        judge(compose(held_out, part, generator, augment=False)) for part in indices.split(256)
    ]
    named_kinds = [judge.config.kinds.index(name) for opinion in opinions for name in opinion.kinds]
    named_colors = [
        judge.config.colors.index(name) for opinion in opinions for name in opinion.colors
    ]
    kind, color = (
        torch.tensor(named_kinds) == held_out.kind,
        torch.tensor(named_colors) == held_out.color,
    )
    table = {
        name: {
            "kind": round(kind[held_out.kind == index].float().mean().item(), 4),
            "color": round(color[held_out.kind == index].float().mean().item(), 4),
        }
        for index, name in enumerate(judge.config.kinds)
    }
    overall = {
        "kind": round(kind.float().mean().item(), 4),
        "color": round(color.float().mean().item(), 4),
    }
    return {
        "held_out": {"overall": overall, "per_kind": table, "pictures": len(kind)},
        "ceiling": ceiling(judge),
    }


def ceiling(judge: Judge) -> dict:
    """Scores on 16-view turntables of the mean shapes on white, every kind in four of the
    colours."""
    views = world.turntable(16)
    table = {}
    for index, kind in enumerate(judge.config.kinds):
        scores = []
        for color in judge.config.colors[index % 3 :: 3]:
            truth = world.render(
                kind, color, views.w2c, views.tan_half_fov, SIZE, SIZE, supersample=2
            )
            scores.append(judge.score(truth.rgb, kind, color))
        table[kind] = {
            field: round(sum(getattr(score, field) for score in scores) / len(scores), 4)
            for field in ("kind", "color", "both")
        }
    overall = {
        field: round(sum(row[field] for row in table.values()) / len(table), 4)
        for field in ("kind", "color", "both")
    }
    return {"overall": overall, "per_kind": table, "views": 16}


def write_judge(folder: Path, judge: Judge) -> None:
    import safetensors.torch

    weights = {
        name: x.half() if x.is_floating_point() else x for name, x in judge.net.state_dict().items()
    }
    with atomic_path(folder / "judge.safetensors") as path:
        safetensors.torch.save_file({name: x.contiguous() for name, x in weights.items()}, path)
    with atomic_path(folder / "judge.json") as path:
        path.write_text(json.dumps(dataclasses.asdict(judge.config), indent=1) + "\n")
    checksums.write(folder)


def _card_text(card: dict) -> str:
    held_out, ceiling_ = card["held_out"], card["ceiling"]
    rows = "\n".join(
        _row(kind, held_out["per_kind"][kind], ceiling_["per_kind"][kind])
        for kind in held_out["per_kind"]
    )
    return f"""# The judge

A small convolutional net that names the kind and the colour of an object in a 64-pixel picture. It
was trained on {card["training"]["pictures"]:,} renderings of the world, none of which the prior
saw: other seeds, a wider camera law, other lights, paints and backgrounds; mirrored, shifted,
brightened. No blurred, hazy or splatted picture is among them, and it never takes part in an
optimization.

*Held out*: {held_out["pictures"]:,} pictures of further seeds. *Ceiling*: the mean shapes on white,
{ceiling_["views"]} views (azimuth steps of 22.5 degrees, elevations 0, 15, 30 in turn), each kind
in four of the colours. `both` counts a view only if both names are right.

| kind | held out: kind | held out: colour | ceiling: kind | ceiling: colour | ceiling: both |
|---|---|---|---|---|---|
{_row("**all**", held_out["overall"], ceiling_["overall"])}
{rows}

Training took about {card["training"]["cpu_seconds"]} CPU seconds on one thread. Reproduce:

    python tools/train_prior.py judge --folder runs/judge --out gs_ssd/lab/evaluate/judge
"""


def _row(kind: str, held: dict[str, float], top: dict[str, float]) -> str:
    return " | ".join(
        [
            f"| {kind}",
            *(f"{held[key]:.3f}" for key in ("kind", "color")),
            *(f"{x:.3f}" for x in top.values()),
            "",
        ]
    ).rstrip()


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target, label_smoothing=0.05)


def _cached(cache: Path | None, count: int, seed: int) -> Cutouts:
    path = None if cache is None else cache / f"cutouts-{seed}-{count}.pt"
    if path is None or not path.exists():
        cutouts = make_cutouts(count, seed)
        if path is None:
            return cutouts
        with atomic_path(path) as temporary:
            torch.save(dataclasses.asdict(cutouts), temporary)
    return Cutouts(**torch.load(path, weights_only=True))
