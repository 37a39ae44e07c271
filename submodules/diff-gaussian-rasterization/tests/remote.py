"""The C ABI of `csrc/dgr.h` in another process: a stand-in for a backend's library that this one
cannot load."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from ctypes import Structure, memmove, string_at
from struct import pack, unpack
from typing import Any

from diff_gaussian_rasterization import native


class RemoteLibrary:
    """What `native.load` returns, for a dgr_abi_server (tests/abi_server.cpp) that `command`
    starts.

    Arrays travel with every call; a struct's pointers become byte counts on the way."""

    def __init__(self, command: list[str]) -> None:
        self._lock = threading.Lock()
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send(b"N")
        name, version = self._server.stdout.readline().split()
        self._name, self._version = name, int(version)

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(timeout=30)
        self._server.stdout.close()

    def dgr_abi_version(self) -> int:
        return self._version

    def dgr_backend_name(self) -> bytes:
        return self._name

    def dgr_message(self, status: int) -> bytes:
        return f"status {status}".encode()

    def dgr_geometry_bytes(self, problem: Any) -> int:
        return self._sizes(problem, 0)[0]

    def dgr_binning_bytes(self, problem: Any, pairs: Any) -> int:
        return self._sizes(problem, _count(pairs))[1]

    def dgr_scratch_bytes(self, problem: Any, pairs: Any) -> int:
        return self._sizes(problem, _count(pairs))[2]

    def dgr_project(
        self, problem: Any, geometry: int, bytes_: int, radii: int, pairs: Any, _stream: None
    ) -> int:
        p = problem._obj
        radii_bytes = 4 * p.views * p.gaussians
        with self._lock:
            self._send(b"P", _problem(p), pack("<QQ", bytes_, radii_bytes))
            status, pairs._obj.value = self._status(), unpack("<q", self._read(8))[0]
            self._receive((geometry, bytes_), (radii, radii_bytes))
        return status

    def dgr_render(
        self,
        problem: Any,
        geometry: int,
        pairs: Any,
        binning: int,
        binning_bytes: int,
        images: Any,
        _stream: None,
    ) -> int:
        p, out = problem._obj, images._obj
        geometry_bytes = self._sizes(problem, 0)[0]
        sizes = _image_bytes(p)
        with self._lock:
            self._send(b"R", _problem(p), _block(geometry, geometry_bytes))
            self._send(pack("<qQ", _count(pairs), binning_bytes), _header(out, sizes))
            status = self._status()
            self._receive(
                (geometry, geometry_bytes), (binning, binning_bytes), *_targets(out, sizes)
            )
        return status

    def dgr_backward(
        self, problem: Any, geometry: int, pairs: Any, binning: int, scratch: int,
        transmittance: int,
        image_grads: Any, grads: Any, _stream: None,
    ) -> int:  # fmt: skip
        p, out = problem._obj, grads._obj
        geometry_bytes, binning_bytes, scratch_bytes = self._sizes(problem, _count(pairs))
        images, sizes = (
            _image_bytes(p),
            _splat_bytes(p) | {"screen_means": 8 * p.views * p.gaussians},
        )
        with self._lock:
            self._send(
                b"B", _problem(p), _block(geometry, geometry_bytes), pack("<q", _count(pairs))
            )
            self._send(_block(binning, binning_bytes), pack("<Q", scratch_bytes))
            self._send(
                _block(transmittance, images["transmittance"]), _struct(image_grads._obj, images)
            )
            self._send(_header(out, sizes))
            status = self._status()
            self._receive(*_targets(out, sizes))
        return status

    def dgr_mark_visible(
        self, means: int, n: int, view: int, visible: int, threads: int, _stream: None
    ) -> int:
        with self._lock:
            self._send(b"V", _block(means, 12 * n), _block(view, 64), pack("<ii", n, threads))
            status = self._status()
            self._receive((visible, n))
        return status

    def _sizes(self, problem: Any, pairs: int) -> tuple[int, int, int]:
        with self._lock:
            self._send(b"S", _problem(problem._obj), pack("<q", pairs))
            return unpack("<QQQ", self._read(24))

    def _send(self, *parts: bytes) -> None:
        self._server.stdin.write(b"".join(parts))
        self._server.stdin.flush()

    def _read(self, count: int) -> bytes:
        data = self._server.stdout.read(count)
        if len(data) != count:
            raise RuntimeError(f"the server ended with status {self._server.wait(timeout=30)}")
        return data

    def _status(self) -> int:
        return unpack("<i", self._read(4))[0]

    def _receive(self, *targets: tuple[int | None, int]) -> None:
        for address, count in targets:
            if address:
                memmove(address, self._read(count), count)


def _count(pairs: Any) -> int:
    return pairs.value if isinstance(pairs, ctypes.c_int64) else pairs


def _splat_bytes(p: native.Problem) -> dict[str, int]:
    widths = {
        "means": 3,
        "quats_wxyz": 4,
        "scales": 3,
        "cov3d": 6,
        "opacities": 1,
        "colors": 3,
        "sh": 3 * p.sh_bases,
    }
    return {name: 4 * width * p.gaussians for name, width in widths.items()}


def _image_bytes(p: native.Problem) -> dict[str, int]:
    plane = 4 * p.views * p.height * p.width
    return {"rgb": 3 * plane, "alpha": plane, "depth": plane, "transmittance": plane}


def _problem(p: native.Problem) -> bytes:
    cameras = {"view": 16, "proj": 16, "tan_half_fov": 2, "positions": 3, "background": 3}
    return _struct(
        p, _splat_bytes(p) | {name: 4 * width * p.views for name, width in cameras.items()}
    )


def _header(struct: Structure, sizes: dict[str, int]) -> bytes:
    copy = type(struct).from_buffer_copy(struct)
    for name, size in sizes.items():
        setattr(copy, name, size if getattr(struct, name) else None)
    return bytes(copy)


def _struct(struct: Structure, sizes: dict[str, int]) -> bytes:
    arrays = [
        string_at(getattr(struct, name), size)
        for name, size in sizes.items()
        if getattr(struct, name)
    ]
    return _header(struct, sizes) + b"".join(arrays)


def _block(address: int | None, count: int) -> bytes:
    return pack("<Q", count) + (string_at(address, count) if count else b"")


def _targets(struct: Structure, sizes: dict[str, int]) -> list[tuple[int | None, int]]:
    return [(getattr(struct, name), size) for name, size in sizes.items()]
