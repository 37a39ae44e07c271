"""Thousands of bad calls of every subcommand: each must end, in one sentence and without a
traceback.

    python tools/reliability/calls.py                        all, in an hour of one core
    python tools/reliability/calls.py --every 8 --first 3    one of eight parts, 0 to 7
    python tools/reliability/calls.py --only batch           of one subcommand

Every call runs in a process forked from this one, which has imported everything already, in a
folder of hostile files. A call that would serve or train for long is asked to end (SIGTERM) after a
while, which is no fault in a command that works on; one that ends only then, or not at all, hangs.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from children import ASSETS, SMOKE, start, warm_up

from gs_ssd.lab.reproduce import EXPERIMENTS, TRAIN_ASSETS

WORDS = (
    *(
        "",
        " ",
        "-1",
        "0",
        "1e400",
        "nan",
        "-inf",
        "9" * 30,
        "a" * 5000,
        "\udc80",
        "\U0001f4a5",
        "%s{0}",
        "../x",
        "/proc/self",
        "~",
    ),
    *(
        "/dev/null",
        "/dev/zero",
        "/proc/self/mem",
        "nowhere",
        "empty",
        "folder",
        "pipe",
        "binary",
        "deep.json",
    ),
    *(
        "deep.yaml",
        "bad.yaml",
        "half.ply",
        "text.ply",
        "empty.spz",
        "zip.sog",
        "bad.glb",
        "x=1",
        "=",
        "seed=",
        "seed=x",
    ),
    *("prompt=\udc80", "num_steps=1e30", "a.b.c=1", "guidance=3", "seed=[1,2", "seed=&a [*a]"),
)


class Tried(NamedTuple):
    """A call that is good, the options that are given every bad value after it, and bad values for
    this call alone."""

    good: list[str]
    options: tuple[str, ...]
    more: tuple[str, ...] = ()


ONE_STEP = (
    *("--config", str(SMOKE), "num_steps=1"),
    *("output.turntable_frames=0", "output.preview_every=0"),
)
SERVED = ("--host", "--port", "--name", "--at-once", "--token")
CHECKED = (
    *("--model", "--base", "--dtype", "--vae-dtype", "--prediction", "--image-size"),
    *("--device", "--prompt", "--out"),
)
NO_TIME = ("--minutes", "1e-9")
"""No training is begun; 0 would be refused before anything else is looked at."""
MANY = ("3000000000", "2.5", "mug,duck")
ROWS = ("rows.jsonl", "deep.jsonl", "rows.csv", "zero.csv", "lists.jsonl")
MOTIONS = ("half.bvh", "nan.bvh", "huge.bvh")
TRIED = (
    Tried(["train", *ONE_STEP], ("--config", "--prompt", "--out")),
    Tried(["train", *ONE_STEP, "--viewer"], ("--viewer-port", "--viewer-host")),
    Tried(["train", "--resume", "--out", "avatar"], ("--config", "--prompt", "--out")),
    Tried(
        ["export", "axes"],
        (
            *("-o", "--for", "--axes", "--up", "--activated", "--sh-degree", "--spz-version"),
            *("--viewer", "--title", "--crop", "--max-splats", "--simplify", "--height"),
        ),
    ),
    Tried(["export", "axes", "-o", "page.html"], ("--views",), ("views.json",)),
    Tried(["export", "avatar", "-o", "out.ply"], ("--pose",)),
    Tried(["export", "avatar", "-o", "frames/f.spz"], ("--clip",), MOTIONS),
    Tried(["export", "avatar", "-o", "frames/f.spz", "--clip", "wave"], ("--fps",)),
    Tried(["export", "avatar", "-o", "out.glb", "--rigged"], ("--clip", "--fps"), MOTIONS),
    Tried(["export", "avatar", "--clip", "walk"], ("-o",)),
    Tried(["export", "nerf", "--mesh", "-o", "out.glb"], ("--voxels", "-o")),
    Tried(["export", "axes", "--mesh", "-o", "out.obj"], ("--voxels", "--triangles", "--texture")),
    Tried(["view", "axes", "--no-browser"], ("--port", "--up", "--activated")),
    Tried(["gallery", "folder"], ("-o", "--title")),
    Tried(
        ["batch", "prompts.txt", "--config", str(SMOKE), "--workers", "0", "--dry-run"],
        (
            *("--config", "--out", "--seeds", "--workers", "--address", "--threads"),
            *("--gpus-per-worker", "--memory-per-worker", "--scratch", "--retries", "--deaths"),
            "--hang",
        ),
        ROWS,
    ),
    Tried(
        ["batch", "prompts.txt", *ONE_STEP, "--workers", "0"],
        ("--out", "--seeds", "--threads", "--scratch"),
        ROWS,
    ),
    Tried(["inspect", "avatar"], ("--json", "--quick")),
    Tried(["inspect", "axes"], ("--json", "--quick")),
    Tried(
        ["bench", "--suite", "suite.json", "--config", str(SMOKE), "--report"],
        (
            *("--suite", "--config", "--out", "--workers", "--seeds", "--estimators", "--limit"),
            *("--minutes", "--clip"),
        ),
        ("suites.json",),
    ),
    Tried(
        ["reproduce", "illustrative", "--size", "tiny"],
        (
            *("--size", "--out", "--prior", "--seed", "--workers", "--rows", "--limit"),
            *("--minutes", "--device"),
        ),
    ),
    Tried(
        ["reproduce", "comparison", "--size", "tiny", "--untuned", *NO_TIME],
        ("--out", "--prior", "--seed", "--workers", "--rows", "--limit", "--minutes"),
    ),
    *(
        Tried(["reproduce", name, "--size", "tiny", *NO_TIME], ("--rows", "--out"))
        for name in (*TRAIN_ASSETS, "all")
        if name != "comparison"
    ),
    *(
        Tried(["reproduce", name, "--size", "tiny"], ("--out", "--prior", "--seed"))
        for name in EXPERIMENTS
        if name not in (*TRAIN_ASSETS, "illustrative")
    ),
    Tried(["check-model", "--offline", "--model", "folder"], CHECKED),
    Tried(["sides", "--model", "folder"], ("--model", "--dtype", "--device", "--out", "--seed")),
    Tried(
        ["sides", "--kinds", "mug", "--steps", "1", "--seeds", "1"],
        ("--kinds", "--steps", "--scale", "--variety", "--held-out", "--seeds"),
        MANY,
    ),
    Tried(
        ["variety", "--kinds", "mug", "--steps", "1", "--noises", "4"],
        (
            *("--model", "--kinds", "--steps", "--scale", "--variety", "--dtype", "--device"),
            *("--out", "--noises", "--seeds"),
        ),
        MANY,
    ),
    Tried(["doctor"], ("--x",)),
    Tried(["serve", "--port", "0"], SERVED),
    Tried(["studio", "--port", "0", "--no-browser"], SERVED),
)
WORK_ON = ("view", "serve", "studio", "reproduce")
"""Commands that serve until they are stopped, or compute for long where nothing is wrong."""
LET_WORK_S = 1.5


ASKED = 128 + signal.SIGTERM
"""The exit code of one that ended because it was asked to."""


class Ended(NamedTuple):
    """How one call ended; `code` is None where it hung."""

    words: list[str]
    code: int | None
    error: str
    seconds: float

    @property
    def fault(self) -> str | None:
        """What is wrong with that, or None."""
        if self.code is None or (
            self.code == ASKED and self.words[:1] not in [[c] for c in WORK_ON]
        ):
            return "hangs"
        if "Traceback (most recent call last)" in self.error or self.code not in (
            0,
            1,
            2,
            128 + 15,
        ):
            return (
                f"code {self.code},"
                f" {(self.error.strip().splitlines() or ['nothing said'])[-1][:200]}"
            )
        if self.code == 2 and not self.error.strip():
            return "code 2 and no sentence"
        return None


def calls() -> Iterator[list[str]]:
    """Every option and every bare word of every subcommand with every hostile value, one at a
    time."""
    for command in dict.fromkeys(tried.good[0] for tried in TRIED):
        yield from ([command, word] for word in WORDS)
    for good, options, more in TRIED:
        for word in (*WORDS, *more):
            yield [*good, word]
            yield from ([*good, option, word] for option in options)
    yield from ([], ["paint"], ["--version", "x"], ["\udc80"])


def good_files(folder: Path) -> None:
    """Finished runs of an avatar and of a radiance field, and the checkout's configs, without which
    no experiment begins.

    Raises:
        RuntimeError: a run fails.
    """
    shutil.copytree(SMOKE.parent, folder / "configs")
    for asset in ("avatar", "nerf"):
        words = ["train", *ONE_STEP, "initialize.num_points=100", *ASSETS[asset], "--out", asset]
        child = start(words, folder, folder / "said")
        if child.wait(300) != 0:
            raise RuntimeError(f"a good run fails: {child.said}")
    (folder / "said").unlink()


def hostile_files(folder: Path) -> None:
    """What the words above name."""
    (folder / "empty").write_bytes(b"")
    (folder / "prompts.txt").write_text("a red disc\n")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "binary").write_bytes(bytes(range(256)) * 40)
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "deep.yaml").write_text("a: " + "[" * 20_000)
    (folder / "bad.yaml").write_bytes(b"prompt: caf\xe9\n\t- x: [")
    head = (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 1000\nproperty float"
        b" x\nend_header\n1"
    )
    (folder / "half.ply").write_bytes(head)
    (folder / "text.ply").write_text("ply\nformat ascii 1.0\nelement vertex -5\nend_header\n")
    (folder / "empty.spz").write_bytes(b"\x1f\x8b")
    (folder / "zip.sog").write_bytes(b"PK\x05\x06" + bytes(18))
    (folder / "bad.glb").write_bytes(b"glTF" + b"\xff" * 100)
    suite = {"seeds": [0], "prompts": [{"prompt": "a red disc"}]}
    (folder / "suite.json").write_text(json.dumps(suite))
    bad_suite = {"seeds": [0, 0], "prompts": [{"prompt": "a red disc", "kind": 3}], "views": 1e9}
    (folder / "suites.json").write_text(json.dumps(bad_suite))
    (folder / "rows.jsonl").write_text(
        '{"prompt": 3}\n{"prompt": "a", "seed": 1e400}\n{"prompt": "a", "tags": {"a": [1]}}\n[]\n{'
    )
    (folder / "deep.jsonl").write_text('{"prompt": ' + "[" * 50_000 + "\n")
    (folder / "lists.jsonl").write_text('{"prompt": "a disc", "viewpoints.radius": [[[]]]}\n')
    (folder / "rows.csv").write_text('prompt,seed,prompt\n"a red disc,1,2\n')
    (folder / "zero.csv").write_bytes(b"prompt,num_steps\n\0,1\nx,-\xff\n")
    (folder / "views.json").write_text('{"views": [{"name": 3, "position": [NaN, 1]}], "path": {}}')
    head = "HIERARCHY\nROOT Hips\n{\n OFFSET 0 0 0\n CHANNELS 3 Zrotation Xrotation Yrotation\n"
    (folder / "half.bvh").write_text(head)
    end = " End Site\n {\n  OFFSET 0 0 1\n }\n}\nMOTION\n"
    (folder / "nan.bvh").write_text(f"{head}{end}Frames: 1\nFrame Time: nan\nnan inf 1e400\n")
    (folder / "huge.bvh").write_text(f"{head}{end}Frames: 99999999999\nFrame Time: 1e-9\n0 0 0\n")


def call(words: list[str], folder: Path, patience: float) -> Ended:
    """One call; asked to end after `patience` seconds (sooner, where it works on), given up after
    as many again."""
    began = time.monotonic()
    child = start(words, folder / "work", folder / "said")
    code = child.wait(LET_WORK_S if words and words[0] in WORK_ON else patience)
    if code is None:
        os.kill(child.pid, signal.SIGTERM)
        code = child.wait(patience)
    if code is None:
        child.kill()
    return Ended(words, code, child.said, time.monotonic() - began)


def run(chosen: Sequence[list[str]], patience: float, seconds: float, good: Path) -> list[Ended]:
    """Every call in a folder of its own with a copy of what is in `good`, or those that the time
    allows; prints each fault."""
    end, ended = time.monotonic() + seconds, []
    for words in chosen:
        if time.monotonic() > end:
            break
        with tempfile.TemporaryDirectory(prefix="hostile-") as name:
            work = Path(name) / "work"
            shutil.copytree(good, work)
            hostile_files(work)
            ended.append(call(words, Path(name), patience))
        if (fault := ended[-1].fault) is not None:
            print(ascii([word[:40] for word in words]), "->", ascii(fault), flush=True)
    return ended


def main(argv: Sequence[str] | None = None) -> int:
    """Call, and print each fault; the exit code says whether there was one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only every Nth call")
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    parser.add_argument("--only", help="of one subcommand")
    parser.add_argument("--patience", type=float, default=90.0, help="seconds")
    parser.add_argument(
        "--seconds", type=float, default=86400, help="stop after these, with what was done by then"
    )
    args = parser.parse_args(argv)
    warm_up()
    chosen = [
        words
        for words in list(calls())[args.first :: args.every]
        if args.only in (None, *words[:1])
    ]
    with tempfile.TemporaryDirectory(prefix="good-") as name:
        good_files(Path(name))
        ended = run(chosen, args.patience, args.seconds, Path(name))
    faults = sum(one.fault is not None for one in ended)
    hangs = sum(one.fault == "hangs" for one in ended)
    slowest = max(ended, key=lambda one: one.seconds)
    refused = sum(one.code == 2 for one in ended)
    print(
        f"{len(ended)} of {len(chosen)} calls: {faults - hangs} tracebacks or unexplained codes,"
        f" {hangs} hangs;"
    )
    print(
        f"{refused} refused in a sentence; slowest {slowest.seconds:.1f} s"
        f" {ascii(slowest.words)[:100]}"
    )
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
