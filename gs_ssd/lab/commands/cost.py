"""Where a training step's time goes, measured on a run that is there: its own config, its own last
splats.

The parts are the ranges named `gs_ssd.*` that the code marks for PyTorch's profiler. On a CPU with
one thread they count wall time, so measure on a machine that does nothing else; on a GPU the time
of the kernels that they started.
"""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from gs_ssd import config as configs
from gs_ssd.job import Job
from gs_ssd.trainer import Trainer

PREFIX = "gs_ssd."


def breakdown(folder: Path, steps: int = 8) -> dict[str, float]:
    """Seconds a step by part over the last steps of the finished run in `folder`, from its newest
    checkpoint."""
    config = configs.load(folder / "config.yaml")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure(Trainer(config, folder, resume=True).job, steps)
    finally:
        torch.set_num_threads(threads)


def measure(job: Job, steps: int) -> dict[str, float]:
    """Seconds a step by part, over the run's last `steps` steps, which are trained for it."""
    job.completed = max(job.config.num_steps - steps - 1, 0)
    job.step()
    on_gpu = job.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    # In one thread, so that the kernels of a backward pass belong to the range that called it.
    with torch.autograd.set_multithreading_enabled(False), profile(activities=activities) as record:
        for _ in job.steps(job.completed + steps):
            pass
        if on_gpu:
            torch.cuda.synchronize()
    parts: dict[str, float] = {}
    for event in record.key_averages():
        if event.key.startswith(PREFIX):
            microseconds = event.device_time_total if on_gpu else event.cpu_time_total
            parts[event.key.removeprefix(PREFIX)] = microseconds / steps / 1e6
    whole = parts.pop("step")
    return parts | {"other": whole - sum(parts.values()), "step": whole}
