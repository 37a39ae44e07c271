"""One config word picks the body."""

from collections.abc import Callable

from gs_ssd.body import anny_body, mannequin
from gs_ssd.body.body import Body

BODIES: dict[str, Callable[[], Body]] = {
    "mannequin": mannequin.create,
    "anny": anny_body.create,
}
"""By the name in the config."""


def create(name: str) -> Body:
    """The body of that name in its rest pose.

    Raises:
        UserError: what it is made with is not installed.
    """
    return BODIES[name]()
