"""Some three hundred bad calls of every subcommand: each must end, in one sentence and without a
traceback.

    python tools/reliability/calls.py                 all, in some minutes of one core
    python tools/reliability/calls.py --every 7       a sample

Every call runs in a process forked from this one, which has imported everything already, in a
folder of hostile files. A call that would serve or train for long is asked to end (SIGTERM) after a
while, which is no fault in a command that works on; one that ends only then, or not at all, hangs.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from children import SMOKE, start, warm_up

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
        "/",
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
OPTIONS = {
    "train": ("--config", "--prompt", "--out", "--viewer-port", "--viewer-host"),
    "export": (
        "-o",
        "--for",
        "--up",
        "--max-splats",
        "--axes",
        "--sh-degree",
        "--height",
        "--title",
        "--simplify",
    ),
    "view": ("--port", "--up"),
    "gallery": ("-o", "--title"),
    "batch": ("--config", "--out", "--seeds", "--workers", "--threads", "--retries", "--hang"),
    "inspect": ("--json", "--quick"),
    "bench": (
        "--suite",
        "--config",
        "--out",
        "--workers",
        "--seeds",
        "--estimators",
        "--limit",
        "--minutes",
    ),
    "reproduce": (
        "--size",
        "--out",
        "--prior",
        "--seed",
        "--workers",
        "--rows",
        "--limit",
        "--minutes",
        "--device",
    ),
    "check-model": (
        "--model",
        "--base",
        "--dtype",
        "--image-size",
        "--device",
        "--prompt",
        "--out",
    ),
    "sides": ("--model", "--dtype", "--device", "--out", "--seed", "--x"),
    "doctor": ("--x",),
    "serve": ("--host", "--port", "--name", "--at-once", "--token"),
    "studio": ("--host", "--port", "--name", "--at-once", "--token"),
}
GOOD = {
    "train": [
        "--config",
        str(SMOKE),
        "num_steps=1",
        "output.turntable_frames=0",
        "output.preview_every=0",
    ],
    "export": ["axes"],
    "view": ["axes", "--no-browser"],
    "gallery": ["folder"],
    "batch": ["prompts.txt", "--config", str(SMOKE), "--workers", "0", "--dry-run"],
    "inspect": ["axes"],
    "bench": ["--suite", "suite.json", "--config", str(SMOKE), "--report"],
    "reproduce": ["illustrative", "--size", "tiny"],
    "check-model": ["--offline", "--model", "folder"],
    "sides": ["--model", "folder"],
    "doctor": [],
    "serve": ["--port", "0"],
    "studio": ["--port", "0", "--no-browser"],
}
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
    for command, options in OPTIONS.items():
        for word in WORDS:
            yield [command, word]
            yield [command, *GOOD[command], word]
            for option in options:
                yield [command, *GOOD[command], option, word]
    yield from ([], ["paint"], ["--version", "x"], ["\udc80"])


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


def run(chosen: Sequence[list[str]], patience: float, seconds: float) -> list[Ended]:
    """Every call in a folder of its own, or those that the time allows; prints each fault."""
    end, ended = time.monotonic() + seconds, []
    for words in chosen:
        if time.monotonic() > end:
            break
        with tempfile.TemporaryDirectory(prefix="hostile-") as name:
            work = Path(name) / "work"
            work.mkdir()
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
    ended = run(chosen, args.patience, args.seconds)
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
