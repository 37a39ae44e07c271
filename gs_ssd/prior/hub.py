"""Files of the Hugging Face hub, and of its cache where the hub does not answer.

The hub's client switches to the cache by itself where a connection fails, but not behind a proxy
that refuses, nor where a connection is reset or closed: its HTTP library's errors come through as
they are, and they are no `OSError`. It waits for ever for a server that takes the connection and
then says nothing.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
SILENCE_S = 30.0


class HubError(OSError):
    """Neither the hub nor its cache has the files; the message says why."""


def from_hub(load: Callable[[bool], T], name: str, *, offline: bool) -> T:
    """What `load(local_files_only)` gives: of a local path or the cache alone, or of the hub, else
    of the cache.

    Raises:
        HubError: the hub does not answer or does not have it, and the cache does not have it
            either.
    """
    if offline or Path(name).expanduser().exists():
        return load(True)
    try:
        with _limited_patience():
            return load(False)
    except errors() as error:
        refusal = error
    try:
        found = load(True)
    except errors() as error:
        cache = first_sentence(error)
        reason = first_sentence(refusal)
        raise HubError(
            reason if cache == reason else f"{reason}; in the cache: {cache}"
        ) from refusal
    log.warning(
        "%s is taken from the cache, as the hub gave none (%s)", name, first_sentence(refusal)
    )
    return found


@contextlib.contextmanager
def _limited_patience() -> Iterator[None]:
    """The hub's client gives a server up that says nothing for `SILENCE_S`.

    It asks without any limit, which no default of its HTTP library changes: so the limit is set on
    each request. Versions that are built on requests have no such place.
    """
    from huggingface_hub.utils import get_session

    session: Any = get_session()
    before = getattr(session, "event_hooks", None)
    if before is None:
        yield
        return
    session.event_hooks = {**before, "request": [*before.get("request", ()), _limit]}
    try:
        yield
    finally:
        session.event_hooks = before


def _limit(request: Any) -> None:
    limits = request.extensions.get("timeout", {})
    limited = {key: SILENCE_S if value is None else value for key, value in limits.items()}
    request.extensions = {**request.extensions, "timeout": limited}


def errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises where a file cannot be had, whichever HTTP library it is built
    on."""
    from huggingface_hub import errors as hub

    # requests, httpx or httpx2, by the hub's version
    http = sys.modules[hub.HTTPError.__module__.partition(".")[0]]
    others = [getattr(http, "InvalidURL", None)]
    others += [
        getattr(hub, name, None)
        for name in ("EntryNotFoundError", "RevisionResolutionError", "XetDownloadError")
    ]
    return (OSError, hub.HTTPError, *(kind for kind in others if kind is not None))


def first_sentence(error: BaseException) -> str:
    """The start of a library's message, short enough to be quoted."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.split(". ")[0].rstrip(".:")[:200]
