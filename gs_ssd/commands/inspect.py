"""`gs-ssd inspect`: what is in a splat file, and what it will cost and lose elsewhere."""

import argparse
import dataclasses
import json
from pathlib import Path

from gs_ssd.export.axes_note import note_of
from gs_ssd.export.formats import read_splats, suffix_of
from gs_ssd.export.inspection import INVISIBLE_DB, SAME_DB, Inspection, Loss, inspect
from gs_ssd.export.targets import TARGETS
from gs_ssd.viewer.runs import source_of

STATED = (".glb", ".spz")  #: formats whose text names their axes

EPILOG = """\
examples
  gs-ssd inspect out/a-red-mushroom
  gs-ssd inspect someones.ply --json | jq .overdraw.worst
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.epilog = EPILOG
    parser.add_argument("source", help="a run's folder, or a splat file of any format that is read")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.add_argument(
        "--quick", action="store_true", help="leave out overdraw and losses, which take seconds"
    )


def run(args: argparse.Namespace) -> int:
    """Read and report.

    Raises:
        UserError: an unreadable source.
    """
    path = Path("axes") if args.source == "axes" else source_of(Path(args.source))[0]
    report = inspect(read_splats(path), draw=not args.quick)
    origin = origin_of_frame(path)
    if args.json:
        print(
            json.dumps(
                {"file": str(path), "frame_is": origin} | dataclasses.asdict(report), indent=1
            )
        )
    else:
        print("\n".join(lines(path, report, origin)))
    return 0


def origin_of_frame(path: Path) -> str:
    """How the frame of a file is known."""
    if str(path) == "axes":
        return "the test object's own"
    if note_of(path).is_file():
        return f"noted in {note_of(path).name}"
    if suffix_of(path) in STATED:
        return "by the format's text"
    return "by convention; the format does not say"


def lines(path: Path, report: Inspection, origin: str) -> list[str]:
    """The report for people."""
    opacity, sigma = report.opacities, report.sigmas
    text = [
        f"{path}: {report.splats} splats, harmonics of degree {report.degree}",
        f"axes       {report.frame} ({origin})",
        *(
            ["antialiased, trained for a filter that viewers must apply"]
            if report.antialiased
            else []
        ),
        f"bounds     {_point(report.low)} to {_point(report.high)}",
        f"ball       {_point(report.center)}, radius {report.reach:.4g}",
    ]
    if opacity:
        text += [
            (
                f"opacity    median {opacity[50]:.2f}, 5 to 95 %: {opacity[5]:.2f} to"
                f" {opacity[95]:.2f}"
            ),
            (
                f"sigma      median {sigma[50]:.3g}, 5 to 95 %: {sigma[5]:.3g} to {sigma[95]:.3g}; "
                f"thickness {report.flatness:.2f} of it"
            ),
        ]
    if report.overdraw:
        text.append(
            f"overdraw   {report.overdraw.mean:.1f} layers per pixel on the object,"
            f" {report.overdraw.worst} at worst (16 views, 512 pixels)"
        )
    if report.losses:
        text.append("written as (PSNR to the original over 16 views)")
        for suffix, loss in report.losses.items():
            users = [name for name, target in TARGETS.items() if target.suffix == suffix]
            wanted = f"   (--for {', '.join(users)})" if users else ""
            text.append(f"  {suffix:15} {_size(loss.bytes):>9}   {_loss(loss, report)}{wanted}")
    return text + [f"warning: {warning}" for warning in report.warnings]


def _loss(loss: Loss, report: Inspection) -> str:
    decibels = SAME_DB if loss.psnr is None else loss.psnr
    parts = ["the same" if decibels >= SAME_DB else f"{decibels:.1f} dB"]
    if INVISIBLE_DB < decibels < SAME_DB:
        parts.append("invisible")
    if loss.degree < report.degree:
        parts.append(
            "without harmonics" if loss.degree == 0 else f"harmonics to degree {loss.degree}"
        )
    if report.antialiased and not loss.antialiased:
        parts.append("without the mark of antialiasing")
    return ", ".join(parts)


def _point(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} KB"
