"""Connections that nobody can hold for nothing: how many there are at once, and how long a client
may keep one waiting.

uvicorn waits for ever for a request that arrives letter by letter, and for a client that does not
take its answer. Here the connection is then closed, and where all are taken the one that has been
silent longest makes room.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

TIMEOUT_S = 20.0
"""For a request to arrive, for each piece of its body, and for each piece of an answer (64 KiB) to
be taken."""
MOST = 128
"""Connections at once; a browser opens six, and every page that is open holds two."""


class Connection(H11Protocol):
    """One connection of HTTP/1.1; `silent_since` is the loop's time, None while a request is
    answered."""

    silent_since: float | None = None
    _patience: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or end the one that was silent longest, which may be this one."""
        super().connection_made(transport)
        self._expect_a_request()
        if len(self.connections) > MOST:
            others = (cast(Connection, other) for other in self.connections)
            silent = [other for other in others if other.silent_since is not None]
            oldest = min(silent, key=lambda other: other.silent_since or 0.0)
            self.connections.discard(oldest)  # its loss is told later; until then it must not count
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hear what the client sends; a request that has begun to arrive gains no time by it."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request, or begin with one that has arrived meanwhile."""
        self._expect_a_request()
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """The client does not take its answer."""
        super().pause_writing()
        self._taking = self.loop.call_later(TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        _cancel(self._taking)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        super().connection_lost(exc)
        _cancel(self._patience)
        _cancel(self._taking)

    def _expect_a_request(self) -> None:
        self.silent_since = self.loop.time()
        self._start_patience()

    def _look(self) -> None:
        """Whether a request is there; its body may take long, if only it comes."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            return
        self.silent_since = None
        if cycle.more_body:
            self._start_patience()
        else:
            _cancel(self._patience)

    def _start_patience(self) -> None:
        _cancel(self._patience)
        self._patience = self.loop.call_later(TIMEOUT_S, self.transport.close)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
