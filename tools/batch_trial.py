"""A batch on a real cluster of three Ray nodes (all on this machine) under fire.

    python tools/batch_trial.py --jobs 1000
    python tools/batch_trial.py --jobs 1000 --minutes 9 --out out/trial/assets    # in pieces

A worker is killed -9 every few seconds, a node is taken away twice, the driver is killed -9 twice
and called again. Every asset must be there once, and a sample of them must have the bytes of single
runs. The exit code is 1 if anything is lost, doubled or differs, and 3 if `--minutes` are over: the
driver was ended by SIGTERM then, and the same call goes on with a new cluster.
"""

import argparse
import collections
import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gs_ssd.json_lines import read_records

SMOKE = Path(__file__).resolve().parents[1] / "configs" / "smoke.yaml"
SHORT = ("num_steps=4", "output.turntable_frames=0", "output.preview_every=0")
SHORT += ("output.checkpoint_every=2", "initialize.num_points=100")
UNFINISHED = 3  #: the exit code of a piece
COLORS = ("red", "green", "blue", "yellow")


@dataclasses.dataclass
class Tally:
    """What has been done to the batch, in all pieces together."""

    pieces: int = 0
    seconds: float = 0.0
    workers_killed: int = 0
    nodes_taken: int = 0
    drivers_killed: int = 0

    @staticmethod
    def read(path: Path) -> "Tally":
        """What earlier pieces left."""
        return Tally(**json.loads(path.read_text())) if path.exists() else Tally()


class Fire:
    """The cluster, and what is done to it."""

    def __init__(self, every: float, seed: int, tally: Tally) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        self.address = str(self.cluster.address)
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        self.every, self.random, self.tally = every, random.Random(seed + tally.pieces), tally
        self._next, self._node_back = time.monotonic() + every, 0.0

    def kill_a_worker(self) -> None:
        """One that works now, if it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.every
        if found := self._workers():
            self.random.choice(found).kill()
            self.tally.workers_killed += 1

    def take_a_node(self) -> None:
        """Away with it, workers and all; it comes back after a while."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)
        self.tally.nodes_taken += 1
        self._node_back = time.monotonic() + 2 * self.every

    def give_it_back(self) -> None:
        """The node that was taken, if it is time to."""
        if self._node_back and time.monotonic() > self._node_back:
            self.nodes.append(self.cluster.add_node(num_cpus=1))
            self._node_back = 0.0

    def _workers(self) -> list[Any]:
        import psutil

        found = []
        for node in (self.cluster.head_node, *self.nodes):
            for raylet in node.all_processes.get("raylet", []) if node else []:
                try:
                    children = psutil.Process(raylet.process.pid).children(recursive=True)
                    found += [
                        child
                        for child in children
                        if " ".join(child.cmdline()).startswith("ray::_RayWorker.run")
                    ]
                except psutil.NoSuchProcess:
                    continue
        return found


def call(words: list[str], address: str, log: Path) -> subprocess.Popen[bytes]:
    """The driver, as a user starts it."""
    command = [sys.executable, "-m", "gs_ssd.cli", "batch", *words, "--address", address]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=env)


def under_fire(
    words: list[str], fire: Fire, ledger: Path, log: Path, jobs: int, seconds: float
) -> int:
    """Drivers, one after the other, until one ends by itself or the time is up; its exit code."""
    tally, told, end = fire.tally, 0.0, time.monotonic() + seconds
    driver = call(words, fire.address, log)
    while True:
        time.sleep(0.5)
        code = driver.poll()
        if code is not None:
            return code
        if time.monotonic() > end:
            driver.terminate()
            return UNFINISHED if driver.wait() == 128 + signal.SIGTERM else driver.returncode
        done = sum(line["state"] == "done" for line in read_records(ledger))
        fire.kill_a_worker()
        fire.give_it_back()
        if tally.nodes_taken < 2 and done > jobs * (0.2 + 0.3 * tally.nodes_taken):
            fire.take_a_node()
        if tally.drivers_killed < 2 and done > jobs * (0.35 + 0.3 * tally.drivers_killed):
            driver.kill()
            driver.wait()
            tally.drivers_killed += 1
            driver = call(words, fire.address, log)
        if time.monotonic() > told + 30:
            told = time.monotonic()
            counts = (tally.workers_killed, tally.nodes_taken, tally.drivers_killed)
            print(f"{done}/{jobs} done; killed {counts} workers, nodes, drivers", flush=True)


def judge(out: Path, jobs: int, sample: int, seed: int) -> dict[str, Any]:
    """What is there, and whether it is right."""
    from gs_ssd import config as configs
    from gs_ssd.trainer import Trainer

    found = list(read_records(out / "jobs.jsonl"))
    over: set[str] = set()
    begun_again = 0
    for line in found:
        begun_again += line["state"] == "running" and line["name"] in over
        over |= {line["name"]} if line["state"] == "done" else set()
    done = collections.Counter(line["name"] for line in found if line["state"] == "done")
    names = {line["name"] for line in found}
    with_files = [name for name in names if (out / name / "point_cloud.ply").is_file()]
    differ = []
    with tempfile.TemporaryDirectory() as folder:
        for name in random.Random(seed).sample(sorted(done), min(sample, len(done))):
            single = Path(folder) / name
            Trainer(configs.load(out / name / "config.yaml"), single).fit()
            files = ("point_cloud.ply", "index.html", "views.png", "config.yaml")
            if any((single / f).read_bytes() != (out / name / f).read_bytes() for f in files):
                differ.append(name)
    ended = [line for line in found if line["state"] == "done"]
    return {
        "assets": len(with_files),
        "lost": jobs - len(with_files),
        "never done": jobs - len(done),
        "doubled": sum(count > 1 for count in done.values()),
        "begun again though done": begun_again,
        "set aside": sum(line["state"] == "failed" for line in found),
        "attempts": sum(line["state"] == "running" for line in found),
        "compared with single runs": min(sample, len(done)),
        "differ": differ,
        "median seconds": sorted(line["seconds"] for line in ended)[len(ended) // 2],
    }


def main() -> int:
    """Run the trial and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--every", type=float, default=8.0, help="seconds between kills")
    parser.add_argument("--sample", type=int, default=10, help="assets compared with single runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: a folder for the moment")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of this piece")
    args = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # 30 are few on a busy machine
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would yield to all else here
    with tempfile.TemporaryDirectory(prefix="batch-trial-") as temporary:
        out = args.out or Path(temporary) / "out"
        out.parent.mkdir(parents=True, exist_ok=True)
        code, tally = one_piece(args, out)
        if code == UNFINISHED:
            print(f"not done yet: {dataclasses.asdict(tally)}; the same call goes on")
            return UNFINISHED
        figures = judge(out, args.jobs, args.sample, args.seed)
    figures |= {"exit code": code, **dataclasses.asdict(tally)}
    print(json.dumps(figures, indent=1))
    bad = ("lost", "never done", "doubled", "begun again though done", "differ", "exit code")
    return 1 if any(figures[name] for name in bad) else 0


def one_piece(args: argparse.Namespace, out: Path) -> tuple[int, Tally]:
    """A cluster, and drivers on it; leaves the tally beside `out` for the next piece."""
    prompts, log, left = (out.with_name(f"{out.name}-{end}") for end in ("in.csv", "log", "tally"))
    rows = [f"a {COLORS[i % len(COLORS)]} disc,{i}" for i in range(args.jobs)]
    prompts.write_text("prompt,seed\n" + "\n".join(rows) + "\n")
    words = [str(prompts), "--config", str(SMOKE), *SHORT, "--out", str(out)]
    words += ["--deaths", "8"]  # here workers die by chance, and not of their asset
    tally = Tally.read(left)
    began = time.monotonic()
    fire = Fire(args.every, args.seed, tally)
    try:
        code = under_fire(words, fire, out / "jobs.jsonl", log, args.jobs, 60 * args.minutes)
    finally:
        fire.cluster.shutdown()
        tally.pieces += 1
        tally.seconds = round(tally.seconds + time.monotonic() - began, 1)
        left.write_text(json.dumps(dataclasses.asdict(tally)))
    if code not in (0, UNFINISHED):
        print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
    return code, tally


if __name__ == "__main__":
    sys.exit(main())
