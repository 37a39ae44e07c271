"""How much memory the work took, of the GPU where it ran on one, else of the process; is it
full?"""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gs_ssd.errors import UserError

MIB = 2**20
ALLOCATORS = ("not enough memory", "can't allocate memory", "bad_alloc", "Cannot allocate memory")


def is_full(error: BaseException) -> bool:
    """Whether an allocator refused: Python's, NumPy's, C++'s, or PyTorch's on a CPU (a
    RuntimeError) or a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATORS)


@contextmanager
def explained() -> Iterator[None]:
    """What an allocator says, on a GPU or a CPU, with what needs less.

    Raises:
        UserError: in place of an error that says that memory is full.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_full(error):
            raise
        where = "the GPU's memory" if isinstance(error, torch.OutOfMemoryError) else "the memory"
        said = str(error).splitlines()[:1] or [type(error).__name__]
        raise UserError(
            f"{where} is full ({said[0]}); the last checkpoint, if any, is intact. Less is needed"
            " with guidance.views_per_pass=1 prior.sliced_vae=true"
            " (configs/presets/low_vram.yaml), and with smaller viewpoints.num_views,"
            " viewpoints.image_size, prior.image_size, initialize.num_points,"
            " densify.adaptive.max_splats, densify.mcmc.budget or output.turntable_size"
        ) from error


class Gauge:
    """Peak memory since the gauge was made: allocated on a GPU, or resident on a CPU beyond what
    was resident then.

    Reading costs no host sync. On a CPU outside Linux an earlier peak of the same process cannot be
    told from a later.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.floor = 0
        else:
            _forget_peak()
            self.floor = resident()

    @property
    def peak(self) -> int:
        """Bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return max(peak_resident() - self.floor, 0)

    @property
    def peak_mib(self) -> int:
        """`peak` as a number for people."""
        return round(self.peak / MIB)


def available(device: torch.device) -> int | None:
    """Bytes that can still be had: of the GPU, or what Linux says of the machine and of this
    process's control group; `None` where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    said = [_kilobytes("/proc/meminfo", "MemAvailable"), _left_of_group(Path("/sys/fs/cgroup"))]
    found = [bytes_ for bytes_ in said if bytes_ is not None]
    return min(found) if found else None


def _left_of_group(group: Path) -> int | None:
    """Bytes that a control group may still take; what it holds of files can be had again."""
    try:
        limit, used = (
            int((group / f"memory.{name}").read_text(encoding="ascii"))
            for name in ("max", "current")
        )
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        held = dict(line.split() for line in lines)
        cached = int(held["active_file"]) + int(held["inactive_file"])
    except (OSError, ValueError, KeyError):  # no control group, or one without a limit
        return None
    return max(limit - used + cached, 0)


def resident() -> int:
    """Bytes of this process that are in memory now (the peak so far, where the system does not
    say)."""
    return _status("VmRSS") or _peak_of_life()


def peak_resident() -> int:
    """The most bytes that were in memory since the last gauge was made (ever, where that cannot be
    told)."""
    return _status("VmHWM") or _peak_of_life()


def _peak_of_life() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def _status(field: str) -> int:
    """Linux's own account of this process, in bytes; 0 where there is none."""
    return _kilobytes("/proc/self/status", field) or 0


def _kilobytes(path: str, field: str) -> int | None:
    """A line of one of Linux's accounts, in bytes."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith(f"{field}:")), None)


def _forget_peak() -> None:
    """Let Linux begin a new peak; elsewhere the old one stays."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return
