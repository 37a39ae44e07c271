"""A worker process, from the server's side."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

from gs_ssd.studio import channel

log = logging.getLogger(__name__)

STDERR_KEPT = 4000
"""Bytes of a worker's standard error that are kept, to say why it died."""

Listener = Callable[[dict[str, Any], bytes], None]


class WorkerProcess:
    """One process of `gs_ssd.studio.worker`: it warms up, then does one job."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._stderr = b""
        self._listening = asyncio.create_task(self._keep_stderr())

    @classmethod
    async def start(cls) -> "WorkerProcess":
        """A new process, in a session of its own: Ctrl-C on the server's terminal is not for it."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gs_ssd.studio.worker"),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
            limit=1 << 22,
        )
        return cls(process)

    async def work(self, listener: Listener) -> tuple[str, str]:
        """Read the worker's messages until it ends, and pass each to the listener. Returns the
        outcome and a sentence.

        The outcome is the worker's own (done, stopped, failed), or `died`.
        """
        out = self.process.stdout
        assert out is not None
        while True:
            try:
                message, data = await channel.read_async(out.readexactly)
            except asyncio.IncompleteReadError:
                return "died", await self._why_it_ended()
            except ValueError:
                self.kill()
                return "died", "the worker sent something that is no message"
            if message.get("event") == "ended":
                await self.end()
                return str(message["outcome"]), str(message["message"])
            listener(message, data)

    def send(self, **wish: Any) -> None:
        """Send one message; to a process that is gone, nothing."""
        pipe = self.process.stdin
        if pipe is not None and not pipe.is_closing():
            pipe.write(channel.encode(wish))

    def kill(self) -> None:
        """End it at once, as it is."""
        if self.process.returncode is None:
            self.process.kill()

    async def end(self) -> None:
        """Close its input, which is the wish to stop, and wait for its end."""
        pipe = self.process.stdin
        if pipe is not None:
            pipe.close()
        await self.process.wait()
        await self._listening

    async def _why_it_ended(self) -> str:
        code = await self.process.wait()
        await self._listening
        lines = [
            line for line in self._stderr.decode(errors="replace").splitlines() if line.strip()
        ]
        if code == -9:
            return "the worker was killed, as a system does that is out of memory"
        if code < 0:
            return f"the worker was ended by signal {-code}"
        last = f": {lines[-1].strip()}" if lines else ""
        return f"the worker ended with code {code}{last}"

    async def _keep_stderr(self) -> None:
        stream = self.process.stderr
        assert stream is not None
        while part := await stream.read(1 << 16):
            self._stderr = (self._stderr + part)[-STDERR_KEPT:]


class WarmWorker:
    """At most one process that warms up before its job is there, so that a run begins at once."""

    def __init__(self) -> None:
        self._starting: asyncio.Task[WorkerProcess] | None = None

    def prepare(self) -> None:
        """Start one, unless there is one."""
        if self._starting is None:
            self._starting = asyncio.create_task(WorkerProcess.start())

    async def take(self) -> WorkerProcess:
        """The warm one if it still lives, else a new one."""
        starting, self._starting = self._starting, None
        if starting is not None:
            worker = await starting
            if worker.process.returncode is None:
                return worker
        return await WorkerProcess.start()

    async def close(self) -> None:
        """End it; it holds nothing that could be lost."""
        if self._starting is not None:
            worker = await self._starting
            worker.kill()
            await worker.end()
