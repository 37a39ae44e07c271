"""Finds our three native packages, and recognises a foreign package under their names.

All are installed by path, never from an index: an unrelated k-NN classifier is published there as
`simple-knn`, and many forks of a `diff_gaussian_rasterization` with another interface are about.
"""

import importlib
from types import ModuleType

from gs_ssd.errors import UserError

_OURS = {
    "diff_gaussian_rasterization": ("render_views", "submodules/diff-gaussian-rasterization"),
    "simple_knn": ("mean_squared_distance", "submodules/simple-knn"),
    "hash_grid_encoding": ("encode", "submodules/hash-grid-encoding"),
}

_NEWEST = {"diff_gaussian_rasterization": "available_backends", "hash_grid_encoding": "mlps"}
"""What our packages of this version have and earlier ones have not."""


def native(name: str) -> ModuleType:
    """Import one of our native packages.

    Args:
        name: `diff_gaussian_rasterization`, `simple_knn` or `hash_grid_encoding`.

    Raises:
        UserError: it is missing, or another package answers to its name.
    """
    function, folder = _OURS[name]
    fix = f"run `pip install ./{folder}` in the checkout (or `make setup`)"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(f"the package {name} is not installed; {fix}") from error
    if not hasattr(module, function):
        where = getattr(module, "__file__", None) or "an unknown place"
        raise UserError(
            f"the package {name} at {where} is not ours (it has no `{function}`); "
            f"`pip uninstall {name.replace('_', '-')}`, then {fix}"
        )
    if not hasattr(module, _NEWEST.get(name, function)):
        raise UserError(f"the package {name} is older than this gs_ssd; {fix}")
    return module
