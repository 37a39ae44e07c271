"""`gs-ssd train`: a sentence becomes a splat."""

import argparse
import logging
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gs_ssd import config as configs
from gs_ssd import memory
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.files import slug
from gs_ssd.interrupts import Interrupted, Terminated
from gs_ssd.locks import held, owner_of
from gs_ssd.processes import end_with_stdin
from gs_ssd.run import checkpoint as checkpoints
from gs_ssd.run.folder import would_replace

if TYPE_CHECKING:
    from gs_ssd.events import Event
    from gs_ssd.trainer import Trainer

DESCRIPTION = "Distill a sentence into a 3D Gaussian splat."
EPILOG = """\
examples
  train.py --config configs/quickstart.yaml
  train.py --config configs/quickstart.yaml --prompt "a blue mug" seed=1
  train.py --config configs/quickstart.yaml num_steps=1000 guidance.estimator=csd
  train.py --resume --out out/a-blue-mug          continue a run that was stopped
  train.py --config configs/quickstart.yaml --dry-run | less   all keys and their values
  train.py --config configs/bagel.yaml prior.model=FOLDER   Stable Diffusion (docs/guidance.md)

A key=value wins over the YAML file, which wins over the defaults. Ctrl-C saves a checkpoint and
stops.

a run's folder
  point_cloud.ply   the splat, in the layout of 3D Gaussian Splatting
  index.html        a viewer, one file, offline
  turntable.mp4     one turn (and .webp)
  views.png         eight views
  config.yaml       all settings as given (null: left open)
  metrics.jsonl     numbers, line by line
  environment.json  versions, device, weights, and what the settings left open became
  previews/         contact sheets and what the guidance saw
  checkpoints/      the newest states
  where asked for:  process.mp4 (the making), test_views/, tensorboard/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings by dotted name, e.g. seed=1"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="a YAML file of settings (ours, LucidDreamer's, threestudio's)",
    )
    parser.add_argument(
        "--prompt", metavar="TEXT", help="what to make, word for word; the same as prompt=TEXT"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="the run's folder (default: out/<the prompt>)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in --out from its newest checkpoint"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="start over in a folder that holds a run already"
    )
    parser.add_argument(
        "--anyway", action="store_true", help="try a prompt that the bundled prior has no kind for"
    )
    parser.add_argument(
        "--viewer",
        action="store_true",
        help="watch, pause and steer it in the browser",
    )
    parser.add_argument(
        "--viewer-host", default="127.0.0.1", metavar="HOST", help="default: this machine alone"
    )
    parser.add_argument(
        "--viewer-port", type=int, default=8080, metavar="PORT", help="default: 8080"
    )
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="save and stop when standard input closes: the program that started this has ended",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print all settings as YAML (null: open) and stop"
    )


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code: 0, or 130 / 143 after Ctrl-C / SIGTERM.

    Raises:
        UserError: anything that the user can fix (exit code 2).
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    config = _compose(args)
    if args.dry_run:
        print(configs.to_yaml(config), end="")
        return 0
    if args.end_with_stdin:
        end_with_stdin()
    folder = (
        args.out
        if args.resume
        else choose_folder(args.out, config.prompt, overwrite=args.overwrite)
    )
    with (
        held(folder, "gs-ssd train"),
        memory.explained(),
    ):  # from before a checkpoint is read
        return _fit(args, config, folder)


def _fit(args: argparse.Namespace, config: ExperimentConfig, folder: Path) -> int:
    from gs_ssd.trainer import Trainer

    trainer = Trainer(
        config, folder, resume=args.resume, overwrite=args.overwrite, anyway=args.anyway
    )
    try:
        with _live(args, trainer) as listeners:
            written = trainer.fit(listeners=listeners)
    except Interrupted as stop:
        print(f"\n{stop}; a checkpoint is saved. Continue with: {_resuming(args, folder)}")
        return 128 + stop.signal_number
    except (
        KeyboardInterrupt,
        Terminated,
    ):  # outside the loop: results are being written, or nothing was begun
        if checkpoints.listing(folder / "checkpoints"):
            print(
                f"\nthe last checkpoint is intact. Continue with: {_resuming(args, folder)}",
                flush=True,
            )
        raise
    print("\n".join(f"{path.name:<16} {path}" for path in written))
    return 0


def _resuming(args: argparse.Namespace, folder: Path) -> str:
    anyway = " --anyway" if args.anyway else ""  # else the prompt would be refused
    return f"gs-ssd train --resume --out {shlex.quote(str(folder))}{anyway}"


@contextmanager
def _live(
    args: argparse.Namespace, trainer: "Trainer"
) -> Iterator["list[Callable[[Event], None]]"]:
    """What is told every event: the studio's page over this run, if it was asked for."""
    if not args.viewer:
        yield []
        return
    from gs_ssd.studio import alongside

    with alongside.shown(trainer, args.viewer_host, args.viewer_port) as (url, tell):
        print(f"live view: {url}", flush=True)
        yield [tell]


def _compose(args: argparse.Namespace) -> ExperimentConfig:
    source = args.config
    if args.resume:
        if args.overwrite:
            raise UserError(
                "--resume continues the run that --overwrite would delete; choose one of them"
            )
        if args.out is None:
            raise UserError("--resume needs --out DIR, the folder of the run to continue")
        saved = args.out / "config.yaml"
        if not saved.is_file():
            raise UserError(f"nothing to resume: {saved} is not there; start without --resume")
        if source is None and not any("prompt" in says for _, says in configs.read_layers(saved)):
            raise UserError(  # every run has written one
                f"{saved} names no prompt, so what the run was made with is lost; name its settings"
                " with --config FILE, or start without --resume"
            )
        source = source or saved
    prompt = [] if args.prompt is None else [f"prompt={args.prompt}"]
    return configs.load(source, [*args.overrides, *prompt])


def choose_folder(out: Path | None, prompt: str, *, overwrite: bool) -> Path:
    """The run's folder: the named one, if it may be used; else the first free out/<prompt>, -2, -3,
    ...

    Nothing is deleted here: what `overwrite` replaces goes when the new run begins (`Trainer`).

    Raises:
        UserError: the named folder holds a run and `overwrite` is off.
    """
    if out is not None:
        if overwrite or owner_of(out) is not None:  # one that runs is named by the lock's refusal
            return out
        if holds_run(out):
            raise UserError(
                f"{out} holds a run already; continue it with --resume, or replace it with"
                " --overwrite"
            )
        if (name := would_replace(out)) is not None:
            raise UserError(
                f"{out} holds a {name}, which a run would replace; choose another --out, or let it"
                " be replaced with --overwrite"
            )
        return out
    base = Path("out") / slug(prompt)
    if overwrite:
        return base
    number = 1
    while _is_taken(folder := base if number == 1 else base.with_name(f"{base.name}-{number}")):
        number += 1
    return folder


def _is_taken(folder: Path) -> bool:
    """By a run that has left its traces, or by one that is about to."""
    return would_replace(folder) is not None or owner_of(folder) is not None


def holds_run(folder: Path) -> bool:
    """Whether a run has left its traces there."""
    return (folder / "config.yaml").exists() or (folder / "checkpoints").exists()
