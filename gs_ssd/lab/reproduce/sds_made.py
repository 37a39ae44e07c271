"""Assets of SDS, whose renderings the numerical study looks at as the paper did."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate.benchmark import Job, Variant, plan, run_jobs
from gs_ssd.lab.evaluate.measure import photograph
from gs_ssd.lab.evaluate.suite import Entry, Turntable, load_suite
from gs_ssd.lab.reproduce.assets import Workshop, load_splat
from gs_ssd.lab.reproduce.grid import BARE, adopt, checkout_config, working_folder
from gs_ssd.lab.reproduce.origin import origins
from gs_ssd.lab.reproduce.report import Context

SDS = Variant("sds", ("guidance.estimator=sds", "guidance.cfg_scale=26"))
"""On the bundled prior ||eps|| = omega ||h|| at about 26, where Stable Diffusion has its 100."""


def sds_views(
    context: Context, prompts: tuple[str, ...], overrides: tuple[str, ...], views: int, size: int
) -> dict[str, Float[Tensor, "v 3 s s"]]:
    """Renderings by prompt, on white, evenly around from the front on; trains what is not in
    `out/reproduce` yet.

    Raises:
        UserError: no checkout of the project around, or a training failed.
    """
    config = checkout_config()
    suite = dataclasses.replace(
        load_suite("development"), entries=tuple(Entry(prompt) for prompt in prompts)
    )
    common = (*BARE, *overrides, f"prior.model={context.prior}", f"device={context.device}")
    jobs = plan(suite, (SDS,), seeds=(context.seed,), common=common, origin=origins(config))
    out = working_folder(context, "numerical", jobs[0].origin["weights"])
    adopt(jobs, out)
    workshop = Workshop(config, out, suite.turntable)
    for record in run_jobs(jobs, out, workshop.train, _unmeasured, workers=context.workers):
        if "failed" in record:
            raise UserError(
                f"the training of {record['key']} failed: {record['failed']}; {out} has its log"
            )
    splats = {
        job.entry.prompt: load_splat(out / "runs" / job.key / "point_cloud.ply") for job in jobs
    }
    table = Turntable(views=views, elevations_deg=(15.0,))
    return {prompt: photograph(splat, table, size).rgb for prompt, splat in splats.items()}


def _unmeasured(_job: Job, _folder: Path) -> dict[str, Any]:
    return {}
