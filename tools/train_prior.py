#!/usr/bin/env python
"""Train the bundled prior or the judge.

Works in chunks of minutes: call it again and it continues where it stopped.

    B=gs_ssd/prior/bundled
    python tools/train_prior.py all --preset cpu --folder runs/prior --minutes 30 --out $B
    python tools/train_prior.py camera --folder runs/prior --base $B --out runs/prior/model
        the volume of every sentence, then the UNet that looks at it through the camera
    python tools/train_prior.py volume --folder runs/volume --base $B --out runs/volume/model
        the volume alone, on from the one in B, for the same UNet
    python tools/train_prior.py person --folder runs/person --out gs_ssd/prior/bundled_person
        persons in any pose, as a difference from the bundled prior
    python tools/train_prior.py judge --folder runs/judge --out gs_ssd/lab/evaluate/judge
    python tools/train_prior.py front_biased --folder $B --out runs/front_biased
        a fault, on purpose
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import torch

from gs_ssd.errors import UserError

OTHERS = ("camera", "volume", "person", "judge", "front_biased")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["pictures", "unet", "decoder", "publish", "all", *OTHERS])
    parser.add_argument(
        "--folder", type=Path, required=True, help="state of the run: pictures, checkpoints, log"
    )
    parser.add_argument("--out", type=Path, help="model directory to write (publish, all, judge)")
    parser.add_argument(
        "--base", type=Path, help="camera, volume: the pipeline folder to start from"
    )
    parser.add_argument("--preset", default="cpu", help="cpu | gpu | smoke")
    parser.add_argument("--steps", type=int, help="steps of the UNet instead of the preset's")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after about this long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads (more only pay on an idle machine)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    try:
        return run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    if args.what in ("publish", "all", *OTHERS) and args.out is None:
        raise UserError(f"{args.what} needs --out: the folder to write the model to")
    if args.what == "front_biased":
        from gs_ssd.lab.prior_training.bias import teach_fronts

        teach_fronts(args.folder, args.out)
        return 0
    if args.what == "camera":
        return _camera(args)
    if args.what == "volume":
        return _volume(args)
    if args.what == "person":
        return _person(args)
    if args.what == "judge":
        from gs_ssd.lab.evaluate.judge_training import JudgeTraining, train_judge

        train_judge(args.out, JudgeTraining(), cache=args.folder)
        return 0

    from gs_ssd.lab.prior_training.decoder import DecoderConfig, fit_decoder
    from gs_ssd.lab.prior_training.publish import publish
    from gs_ssd.lab.prior_training.train import PRESETS, PriorTrainer

    if args.preset not in PRESETS:
        raise UserError(f"unknown preset {args.preset!r}; there are {', '.join(PRESETS)}")
    config = PRESETS[args.preset]
    if args.steps is not None:
        config = dataclasses.replace(config, steps=args.steps)
    trainer, decoder, done = (
        PriorTrainer(args.folder, config, args.device),
        args.folder / "decoder.pt",
        True,
    )
    if args.what == "pictures":
        trainer.pictures()
    if args.what in ("unet", "all"):
        done = trainer.fit(args.minutes)
    if args.what in ("decoder", "all") and done:
        pixels = trainer.pictures(min(2, config.shards)).rgb
        done = fit_decoder(
            decoder,
            config.model,
            trainer.basis(),
            pixels,
            DecoderConfig(),
            args.minutes,
            args.device,
        )
    if args.what in ("publish", "all") and done:
        publish(trainer, decoder, args.out)
    print("done" if done else "not finished: call again to continue")
    return 0


def _camera(args: argparse.Namespace) -> int:
    from gs_ssd.lab.prior_training import camera_training, publish_camera
    from gs_ssd.lab.prior_training.volume_training import VolumeTrainer, VolumeTraining, embedder_of

    if args.base is None:
        raise UserError("camera needs --base: the pipeline folder to start from")
    config = camera_training.PRESETS.get(args.preset)
    if config is None:
        raise UserError(
            f"unknown preset {args.preset!r}; camera has {', '.join(camera_training.PRESETS)}"
        )
    if args.steps is not None:
        config = dataclasses.replace(config, steps=args.steps)
    began = time.monotonic()
    small = VolumeTraining(batch=2, steps=(1, 1), bfloat16=False)
    volume = VolumeTrainer(
        args.folder, small if args.preset == "smoke" else VolumeTraining(), embedder_of(args.base)
    )
    done = volume.fit(args.minutes)
    if done:
        camera = camera_training.CameraTrainer(args.folder, config, args.base, volume.averaged())
        done = camera.fit(args.minutes - (time.monotonic() - began) / 60)
        if done:
            publish_camera.publish(camera, volume, args.base, args.out)
    print("done" if done else "not finished: call again to continue")
    return 0


def _person(args: argparse.Namespace) -> int:
    from gs_ssd.lab.prior_training import person_training, publish_person
    from gs_ssd.prior import BUNDLED

    config = person_training.PRESETS.get(args.preset)
    if config is None:
        raise UserError(
            f"unknown preset {args.preset!r}; person has {', '.join(person_training.PRESETS)}"
        )
    if args.steps is not None:
        config = dataclasses.replace(config, steps=args.steps)
    trainer = person_training.PersonTrainer(args.folder, config, BUNDLED)
    done = trainer.fit(args.minutes)
    if done:
        publish_person.publish(trainer, args.out)
    print("done" if done else "not finished: call again to continue")
    return 0


def _volume(args: argparse.Namespace) -> int:
    from gs_ssd.lab.prior_training.publish_camera import VOLUME, publish_volume
    from gs_ssd.lab.prior_training.volume_training import REFINED, VolumeTrainer, embedder_of
    from gs_ssd.prior.volume import open_volume

    if args.base is None:
        raise UserError("volume needs --base: the pipeline folder whose volume is trained on")
    config = REFINED
    if args.steps is not None:
        config = dataclasses.replace(config, steps=(0, args.steps))
    start, _ = open_volume(args.base / VOLUME)
    trainer = VolumeTrainer(args.folder, config, embedder_of(args.base), start)
    done = trainer.fit(args.minutes)
    if done:
        publish_volume(trainer, args.base, args.out)
    print("done" if done else "not finished: call again to continue")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
