"""Pairs of kind and colour that the volume and the camera's training never see: do words
combine?"""

import random

from gs_ssd.lab import world

COUNT = 20


def held_out() -> set[tuple[str, str]]:
    """Twenty pairs, a kind at most once, the same in every run."""
    rng = random.Random(22)
    kinds = rng.sample(range(len(world.kinds())), COUNT)
    chosen = sorted((kind, rng.randrange(len(world.colors()))) for kind in kinds)
    return {(world.kinds()[k], world.colors()[c]) for k, c in chosen}
