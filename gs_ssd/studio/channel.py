"""Messages between the server and a worker: a JSON object, and bytes where it has some.

On the wire: two little-endian uint32 (the length of the JSON, the length of the bytes), then both.
"""

import json
import os
import select
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

HEADER = struct.Struct("<II")
MAX_JSON, MAX_BYTES = 1 << 24, 1 << 30

Message = tuple[dict[str, Any], bytes]


def encode(message: Mapping[str, Any], data: bytes = b"") -> bytes:
    """One message as bytes."""
    text = json.dumps(message).encode()
    return HEADER.pack(len(text), len(data)) + text + data


async def read_async(read_exactly: Callable[[int], Awaitable[bytes]]) -> Message:
    """The next message of a stream (`asyncio.StreamReader.readexactly`).

    Raises:
        asyncio.IncompleteReadError: the stream has ended.
        ValueError: what comes is no message.
    """
    sizes = _sizes(await read_exactly(HEADER.size))
    return json.loads(await read_exactly(sizes[0])), await read_exactly(sizes[1])


class Channel:
    """A worker's end of two pipes. Messages go out from any thread and come in to one.

    Once the server is gone nothing more is sent, and nothing is raised: a run then saves itself.
    """

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink, self._sending = source, sink, threading.Lock()
        self._gone = False

    def send(self, message: Mapping[str, Any], data: bytes = b"") -> None:
        """Write one message, whole."""
        rest = memoryview(encode(message, data))
        with self._sending:
            try:
                while rest and not self._gone:
                    rest = rest[os.write(self._sink, rest) :]
            except OSError:
                self._gone = True

    def has_message(self) -> bool:
        """Whether one has begun to arrive."""
        return bool(select.select([self._source], [], [], 0)[0])

    def receive(self) -> Message | None:
        """Wait for the next message; None: the server has closed its end, or is gone."""
        header = self._read(HEADER.size)
        if header is None:
            return None
        sizes = _sizes(header)
        text, data = self._read(sizes[0]), self._read(sizes[1])
        return None if text is None or data is None else (json.loads(text), data)

    def _read(self, count: int) -> bytes | None:
        # os.read and not a file: a thread that waits in a file would hang the interpreter's end
        parts: list[bytes] = []
        while count:
            try:
                part = os.read(self._source, count)
            except OSError:
                part = b""
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _sizes(header: bytes) -> tuple[int, int]:
    text, data = HEADER.unpack(header)
    if text > MAX_JSON or data > MAX_BYTES:
        raise ValueError("not a message")
    return text, data
