"""threestudio's YAML files in our schema, so that `train.py --config dreamfusion-sd.yaml` runs them
as a radiance field.

dreamfusion-sd, magic3d-coarse-sd and the first stage of prolificdreamer are known
(`threestudio_schema.py` has every name). The method of such a file is SSD, or whatever
`guidance.estimator` names; the file's own weights are kept, in absolute units, as the paper kept
them. Steps become shares of the run.
"""

import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from gs_ssd.errors import UserError
from gs_ssd.host_yaml import MODELS, Translation, as_kind, nearest, tidy
from gs_ssd.maths import anneal
from gs_ssd.threestudio_schema import (
    DEAD,
    LAWS,
    LIVE,
    METHODS,
    OF_VSD,
    RATES,
    SIZES,
    SUBSECTIONS,
    TYPES,
    UNSUPPORTED,
)

SECTIONS = ("data", "system", "trainer", "checkpoint")
"""Of the file, at the top; overrides that begin with one of them are the file's own."""

REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
PROMPT = "system.prompt_processor.prompt"
WEIGHTINGS = {"sds": "sigma2", "uniform": "uniform", "fantasia3d": "alpha_sigma2"}
Knots = list[list[float]]


def recognises(values: Mapping[str, Any]) -> bool:
    """Whether a YAML file's mapping is threestudio's: it names its classes."""
    return "system_type" in values or "data_type" in values


def translate(
    values: Mapping[str, Any], source: str, *, estimator: str | None = None
) -> Translation:
    """The mapping of a threestudio file in our schema.

    Args:
        values: as read from the YAML file `source`, which messages name.
        estimator: who is to run it; `None`: SSD.

    Raises:
        UserError: a name that threestudio does not have there (with the nearest one), a class
            without a counterpart here, or a value of the wrong kind.
    """
    reader = _Reader(values, source)
    method, parts, notes = reader.method, reader.parts, reader.notes
    chosen = estimator or "ssd"
    if chosen == "ssd":
        notes.append(
            f"runs with SSD in place of {method} (guidance.estimator={method.lower()} runs the"
            " file's own method)"
        )
    data, trainer = parts["data"], parts["trainer"]
    law = _Laws(source, trainer.max_steps, notes)
    config = {
        "asset": "nerf",
        "prompt": parts["system.prompt_processor"].prompt,
        "seed": parts[""].seed,
        "num_steps": trainer.max_steps,
        "prior": _prior(parts),
        "guidance": _guidance(parts, method, chosen, law)
        | {"vsd": {"learning_rate": reader.rates.get("guidance", 1e-4)}},
        "viewpoints": _viewpoints(data, source, law),
        "augment": _augment(parts["system.background"], reader.types),
        "nerf": _nerf(parts, reader, law),
        "regularize": {
            "units": "absolute",
            "sparsity": law.weight("system.loss.lambda_sparsity", parts),
            "opaque": law.weight("system.loss.lambda_opaque", parts),
        },
        "output": _output(parts, source),
    }
    _remark(parts, reader.types, notes)
    return Translation(config, tuple(notes))


class _Reader:
    """The file over the built-in defaults: `parts` by section, `types` by key, `rates` by part of
    the model, and the notes on what is without effect."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.source, self.tree = source, values
        self.types: dict[str, str] = {}
        self.rates: dict[str, float] = {}
        self.notes: list[str] = []
        self._dead: list[str] = []
        self.parts = {section: SimpleNamespace(**known) for section, known in LIVE.items()}
        system = values.get("system")
        kind = system.get("guidance_type") if isinstance(system, Mapping) else None
        if METHODS.get(str(kind)) == "VSD":
            vars(self.parts["system.guidance"]).update(OF_VSD)
        self._section("", values)
        for key, known in TYPES.items():
            self.types.setdefault(key, known[0])
        self.method = METHODS[self.types["system.guidance_type"]]
        if self._dead:
            self.notes.insert(0, f"without effect: {', '.join(self._dead)}")

    def _section(self, section: str, given: Any) -> None:
        where = f"{self.source}: {section}" if section else self.source
        if given is None:
            return
        if not isinstance(given, Mapping):
            raise UserError(f"{where} must hold keys and values, not {given!r}")
        live, dead = LIVE[section], DEAD.get(section, ())
        others, inner = UNSUPPORTED.get(section, {}), SUBSECTIONS[section]
        types = [key.rpartition(".")[2] for key in TYPES if key.rpartition(".")[0] == section]
        rates = RATES if section == "system.optimizer.params" else ()
        known = [*live, *others, *dead, *inner, *types, *rates]
        for key, value in given.items():
            name = f"{section}.{key}" if section else key
            if key not in known:
                where = f"{section} of threestudio" if section else "threestudio"
                raise UserError(f"{self.source}: {where} has no key {key!r}{nearest(key, known)}")
            if key in inner:
                self._section(name, value)
            elif key in rates:
                self._rate(name, key, value)
            elif key in types:
                self._type(name, self._value(name, value))
            elif key in dead:
                self._dead.append(name)
            elif key in others:
                self._other(name, key, self._value(name, value), others[key])
            else:
                setattr(self.parts[section], key, self._live(name, value, live[key]))

    def _value(self, name: str, value: Any, depth: int = 0) -> Any:
        """What stands there, or what it refers to: ${system.geometry.radius}."""
        if not isinstance(value, str) or "${" not in value:
            return value
        found = REFERENCE.fullmatch(value.strip())
        place: Any = self.tree
        for key in found.group(1).split(".") if found else ():
            place = place.get(key) if isinstance(place, Mapping) else None
        if found is None or place is None or depth > 8:
            raise UserError(f"{self.source}: {name} is {value!r}, which refers to nothing; write a"
                            " value there")  # fmt: skip
        return self._value(name, place, depth + 1)

    def _live(self, name: str, value: Any, default: Any) -> Any:
        value, where = self._value(name, value), f"{self.source}: {name}"
        if value == "???":
            if name == PROMPT:  # the command line's matter
                return ""
            raise UserError(f"{where} is ???; write a value there")
        if name in LAWS and isinstance(value, list):
            return value
        if name in SIZES or name == "data.resolution_milestones":
            sizes = value if isinstance(value, list) else [value]
            return [as_kind(where, size, 1) for size in sizes]
        if default is None:
            return value if value is None else as_kind(where, value, 0.0)
        if default == "finite_difference" and value is None:
            return None
        return as_kind(where, value, default)

    def _type(self, name: str, value: Any) -> None:
        if value not in TYPES[name]:
            raise UserError(
                f"{self.source}: {name}={value} has no counterpart here; known:"
                f" {', '.join(TYPES[name])}"
            )
        self.types[name] = value

    def _other(self, name: str, key: str, value: Any, only: Any) -> None:
        if name in ("system.stage", "system.refinement") and value != only:
            raise UserError(
                f"{self.source}: {name}={value} refines a mesh that an earlier stage left; only the"
                " first stage, a radiance field, is made here"
            )
        if value != only and name != "system.renderer.radius":  # which is always the geometry's
            self.notes.append(f"{name}={value} is not supported; it runs as {key}={only}")

    def _rate(self, name: str, part: str, value: Any) -> None:
        given = value if isinstance(value, Mapping) else {}
        if list(given) != ["lr"]:
            raise UserError(f"{self.source}: {name} must hold lr and nothing else, not {value!r}")
        self.rates[part] = as_kind(f"{self.source}: {name}.lr", given["lr"], 0.0)


class _Laws:
    """Steps of the file as shares of the run."""

    def __init__(self, source: str, num_steps: int, notes: list[str]) -> None:
        self.source, self.num_steps, self.notes = source, max(num_steps, 1), notes

    def share(self, step: int | float) -> float:
        """The share of the run that lies behind a step of the file."""
        return tidy(min(max(step / self.num_steps, 0.0), 1.0))

    def knots(self, name: str, value: Any) -> Knots:
        """A number, or [first step, value, value, last step, value, step, ...]; the first step may
        be left out where it is 0."""
        if not isinstance(value, list):
            return [[0.0, float(value)]]
        numbers = [as_kind(f"{self.source}: {name}", number, 0.0) for number in value]
        numbers = [0, *numbers] if len(numbers) == 3 else numbers
        if len(numbers) < 4 or len(numbers) % 2:
            raise UserError(
                f"{self.source}: {name}={value} is no law; write [first step, value, value, last"
                " step]"
            )
        steps, levels = [numbers[0], *numbers[3::2]], [numbers[1], *numbers[2::2]]
        if steps != sorted(steps):
            raise UserError(f"{self.source}: the steps of {name}={value} are not in order")
        if isinstance(numbers[-1], float) and not isinstance(value[-1], int):
            self.notes.append(
                f"{name}={value} counts epochs (its last step has a decimal point), and a run is"
                f" one epoch: it stays {levels[0]:g}"
            )
            return [[0.0, float(levels[0])]]
        return self.within([[step / self.num_steps, float(v)] for step, v in zip(steps, levels)])  # noqa: B905

    def within(self, knots: Knots) -> Knots:
        """The same law, its knots within the run."""
        ends = [[at, anneal.piecewise(at, knots)] for at in (0.0, 1.0)]
        inner = [[tidy(at), v] for at, v in knots if 0 <= at <= 1]
        start = [ends[0]] if knots[0][0] < 0 else []
        return [*start, *inner, *([ends[1]] if knots[-1][0] > 1 else [])]

    def weight(self, name: str, parts: Mapping[str, SimpleNamespace]) -> Knots:
        """The law of a loss; none where it is 0 throughout."""
        section, _, key = name.rpartition(".")
        knots = self.knots(name, getattr(parts[section], key))
        return knots if any(value for _, value in knots) else []

    def stages(self, values: Sequence[int], milestones: Sequence[int]) -> Knots:
        """Constant between the milestones, where it jumps."""
        knots = [[0.0, float(values[0])]]
        for step, before, after in zip(milestones, values[:-1], values[1:], strict=True):
            knots += [[self.share(step), float(before)], [self.share(step), float(after)]]
        return knots


def _prior(parts: Mapping[str, SimpleNamespace]) -> dict[str, Any]:
    guidance = parts["system.guidance"]
    key = guidance.pretrained_model_name_or_path
    return {
        "model": MODELS.get(key, key),
        "dtype": None if guidance.half_precision_weights else "float32",
    }


def _guidance(
    parts: Mapping[str, SimpleNamespace], method: str, estimator: str, law: _Laws
) -> dict[str, Any]:
    guidance, prompts = parts["system.guidance"], parts["system.prompt_processor"]
    loss = parts["system.loss"]
    if guidance.weighting_strategy not in WEIGHTINGS:
        raise UserError(
            f"{law.source}: system.guidance.weighting_strategy={guidance.weighting_strategy!r};"
            f" choose one of {', '.join(WEIGHTINGS)}"
        )
    # eps_text + s h is eps_uncond + (s + 1) h; its VSD writes the latter.
    scale = guidance.guidance_scale + (1 if method == "SDS" else 0)
    return {
        "estimator": estimator,
        "cfg_scale": float(scale),
        "weighting": WEIGHTINGS[guidance.weighting_strategy],
        "scale": loss.lambda_sds if method == "SDS" else loss.lambda_vsd,
        "average_views": True,
        "t_schedule": _t_schedule(guidance, law),
        "sample_posterior": True,
        "prompts": {
            "negative": prompts.negative_prompt or "",
            "perp_neg": prompts.use_perp_neg,
            "view_dependent": guidance.view_dependent_prompting,
        },
    }


def _t_schedule(guidance: SimpleNamespace, law: _Laws) -> list[list[float]]:
    """Both ends' knots as one law."""
    name = "system.guidance.{}_step_percent"
    low = law.knots(name.format("min"), guidance.min_step_percent)
    high = law.knots(name.format("max"), guidance.max_step_percent)
    places = sorted({at for at, _ in (*low, *high)})
    return [[at, anneal.piecewise(at, low), anneal.piecewise(at, high)] for at in places]


def _viewpoints(data: SimpleNamespace, source: str, law: _Laws) -> dict[str, Any]:
    widths, heights, batches, milestones = _stages(data, source)
    if widths != heights:
        raise UserError(
            f"{source}: data.width={widths} and data.height={heights}; views are square here"
        )
    low, high = data.elevation_range
    return {
        "num_views": batches[0],
        "num_views_law": law.stages(batches, milestones) if len(set(batches)) > 1 else [],
        "radius": data.camera_distance_range,
        "fov_y_deg": data.fovy_range,
        "polar_deg": [90 - high, 90 - low],
        "azimuth_deg": data.azimuth_range,
        "azimuths": "stratified" if data.batch_uniform_azimuth else "independent",
        "jitter_position": tidy(2 * data.camera_perturb),  # a full width here, half of one there
        "jitter_target": data.center_perturb,
        "jitter_up": data.up_perturb,
        "widening": {"every_share": 0.0},
    }


def _stages(
    data: SimpleNamespace, source: str
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Widths, heights, numbers of views, and the steps at which the next of each holds."""
    given = [part if isinstance(part, list) else [part]
             for part in (data.width, data.height, data.batch_size)]  # fmt: skip
    milestones = data.resolution_milestones or []
    if all(len(part) == 1 for part in given):
        milestones = []
    for key, part in zip(("width", "height", "batch_size"), given, strict=True):
        if len(part) != len(milestones) + 1:
            raise UserError(
                f"{source}: data.{key} has {len(part)} values; {len(milestones)} numbers of"
                f" data.resolution_milestones ask for {len(milestones) + 1}"
            )
    if milestones != sorted(milestones):
        raise UserError(f"{source}: data.resolution_milestones={milestones} are not in order")
    return given[0], given[1], given[2], milestones


def _augment(background: SimpleNamespace, types: Mapping[str, str]) -> dict[str, Any]:
    """Plain colours where they are drawn; `nerf.learned_background` takes the others."""
    random = background.random_aug_prob if background.random_aug else 0.0
    if _is_learned(types):
        return {"background_random": 1.0, "background_black": 0.0}
    black = 1 - random if background.color == [0.0, 0.0, 0.0] else 0.0
    return {"background_random": random, "background_black": black}


def _is_learned(types: Mapping[str, str]) -> bool:
    return types["system.background_type"] == "neural-environment-map-background"


def _nerf(parts: Mapping[str, SimpleNamespace], reader: _Reader, law: _Laws) -> dict[str, Any]:
    geometry, background = parts["system.geometry"], parts["system.background"]
    grid, args = parts["system.geometry.pos_encoding_config"], parts["system.optimizer.args"]
    widths, _, _, milestones = _stages(parts["data"], law.source)
    rates = reader.rates
    body = rates.get("geometry", args.lr)
    random = background.random_aug_prob if background.random_aug else 0.0
    decay = 0.01 if parts["system.optimizer"].name == "AdamW" else 0.0
    return {
        "levels": grid.n_levels,
        "log2_entries": grid.log2_hashmap_size,
        "base_resolution": grid.base_resolution,
        "level_scale": grid.per_level_scale,
        "levels_on": _levels_on(grid, law),
        "hidden": parts["system.geometry.mlp_network_config"].n_neurons,
        "radius": geometry.radius,
        "blob_density": geometry.density_blob_scale,
        "blob_radius": geometry.density_blob_std,
        "steps": parts["system.renderer"].num_samples_per_ray,
        "resolution": law.stages(widths, milestones),
        "table_rate": rates.get("geometry.encoding", body),
        "network_rate": rates.get("geometry.density_network", body),
        "background_rate": rates.get("background", args.lr),
        "learned_background": tidy(1 - random) if _is_learned(reader.types) else 0.0,
        "weight_decay": decay if args.weight_decay is None else args.weight_decay,
        "orientation": law.weight("system.loss.lambda_orient", parts),
    }


def _levels_on(grid: SimpleNamespace, law: _Laws) -> Knots:
    """One more level every `update_steps`, from `start_step` on; all of them in a plain grid."""
    if grid.otype == "HashGrid":
        return []
    if grid.otype != "ProgressiveBandHashGrid":
        key = "system.geometry.pos_encoding_config.otype"
        raise UserError(
            f"{law.source}: {key}={grid.otype} has no counterpart here; known: HashGrid,"
            " ProgressiveBandHashGrid"
        )
    last = grid.start_step + max(grid.n_levels - grid.start_level, 0) * grid.update_steps
    steps = ((grid.start_step, grid.start_level), (last, grid.n_levels))
    return law.within([[step / law.num_steps, float(levels)] for step, levels in steps])


def _output(parts: Mapping[str, SimpleNamespace], source: str) -> dict[str, Any]:
    data, trainer, checkpoint = parts["data"], parts["trainer"], parts["checkpoint"]
    if data.eval_height != data.eval_width:
        raise UserError(f"{source}: data.eval_height and data.eval_width differ; views are square")
    wandb = parts["system.loggers.wandb"]
    looks = trainer.val_check_interval
    looks = round(looks) if looks and looks >= 1 else None
    saves = looks if checkpoint.save_last and looks else checkpoint.every_n_train_steps
    found = {
        "preview_every": looks,
        "checkpoint_every": round(saves) if saves else None,
        "log_every": trainer.log_every_n_steps,
        "turntable_frames": data.n_test_views,
        "turntable_size": data.eval_height,
        "polar_deg": [90.0 - data.eval_elevation_deg],
        "radius": data.eval_camera_distance,
        "fov_y_deg": data.eval_fovy_deg,
        "wandb": wandb.project if wandb.enable else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _remark(
    parts: Mapping[str, SimpleNamespace], types: Mapping[str, str], notes: list[str]
) -> None:
    """What the mapping changes without being asked."""
    if types["system.material_type"] != "no-material":
        notes.append(
            f"system.material_type={types['system.material_type']}: pictures are not shaded; all of"
            " them show the colours alone, as its ambient_only_steps do"
        )
    normals, orient = parts["system.geometry"].normal_type, parts["system.loss"].lambda_orient
    if normals != "analytic" and orient:
        notes.append(
            f"system.geometry.normal_type={normals or 'null'}: the orientation loss takes analytic"
            " normals"
        )
    if (name := parts["system.optimizer"].name) not in ("Adam", "AdamW"):
        notes.append(f"system.optimizer.name={name} is not supported; it runs as Adam")
    background = parts["system.background"]
    if not _is_learned(types) and (background.learned or len(set(background.color)) > 1):
        notes.append("a learned or coloured system.background.color is not supported; it is white")
