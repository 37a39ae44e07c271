"""Feed the readers broken files for a while: `python tests/export/fuzz_readers.py --minutes 10
[--format .glb]`.

Only `UserError` may come out, within two seconds of processor time and 4 GB of address space. What
fails is kept in --keep; make a test of it in test_formats.py or test_ply.py.
"""

import argparse
import gzip
import io
import json
import logging
import random
import resource
import struct
import tempfile
import time
import traceback
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.export.splats import Splats

NUMBERS = [
    0,
    1,
    -1,
    2,
    255,
    2**15,
    2**31 - 1,
    2**32 - 1,
    2**63,
    10**30,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
]
WRITTEN = (".ply", ".compressed.ply", ".splat", ".spz", ".glb", ".sog")
WORDS = [
    b"list",
    b"uchar",
    b"double",
    b"ascii",
    b"element",
    b"property",
    b"end_header",
    b"vertex",
    b"\n",
]


def seeds() -> dict[str, list[bytes]]:
    """Small honest files of every format that is read."""
    rng = np.random.default_rng(0)
    out: dict[str, list[bytes]] = {suffix: [] for suffix in WRITTEN}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, files in out.items():
            for degree in (0, 1, 3):
                n, k = 12, (degree + 1) ** 2
                parts = (rng.normal(size=s) for s in ((n, 3), (n, 3), (n, 4), (n,), (n, k, 3)))
                path = Path(folder) / f"a{suffix}"
                write_splats(path, Splats(*parts, frame="inria"))
                files.append(path.read_bytes())
                if suffix == ".spz":
                    write_splats(path, read_splats(path), spz_version=3)
                    files.append(path.read_bytes())
    out[".ksplat"] = [ksplat(level) for level in (0, 1, 2)]
    return out


def ksplat(level: int) -> bytes:
    """Twelve splats of degree 1 in one bucket that is not full."""
    head, section = bytearray(4096), bytearray(1024)
    head[1] = 1
    struct.pack_into("<IIIIH", head, 4, 1, 1, 12, 12, level)
    struct.pack_into("<4IfHxxI4xIIH", section, 0, 12, 12, 256, 1, 5.0, 12, 32767, 0, 1, 1)
    width = (44 + 36, 24 + 18, 24 + 9)[level]
    return bytes(head + section) + struct.pack("<I", 12) + bytes(12) + bytes(range(1, 13)) * width


def mangle(data: bytes, rng: random.Random) -> bytes:
    """One to eight small accidents."""
    raw = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(7):
            case 0 if raw:
                raw[at % len(raw)] = rng.randrange(256)
            case 1:
                del raw[at : at + rng.choice((1, 4, 64, len(raw)))]
            case 2:
                raw[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
            case 3:
                raw[at : at + 4] = struct.pack(
                    "<I", int(rng.choice((0, 1, 2**31, 2**32 - 1, len(raw))))
                )
            case 4:
                raw[at:at] = raw[: rng.randrange(len(raw) + 1)]
            case 5:
                raw[at : at + 8] = rng.choice(WORDS)
            case 6:
                raw[at : at + 1] = str(int(rng.choice((0, 9, 10**9, 10**20, -3)))).encode()
    return bytes(raw[: 1 << 20])


def mangle_json(value: object, rng: random.Random) -> object:
    """Change one leaf or branch somewhere."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: mangle_json(value[key], rng)} if rng.random() < 0.95 else {}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        changed = [*value[:at], mangle_json(value[at], rng), *value[at + 1 :]]
        return changed if rng.random() < 0.9 else value * rng.choice((0, 2, 50))
    return rng.choice([*NUMBERS, "", "x" * 50, None, True, [], {}, [0], {"a": 1}])


def broken(suffix: str, data: bytes, rng: random.Random) -> bytes:
    """A broken file, sometimes broken behind its compression or inside its JSON."""
    if suffix == ".sog" and rng.random() < 0.9:
        return broken_sog(data, rng)
    if suffix == ".spz" and data[:2] == b"\x1f\x8b" and rng.random() < 0.8:
        return gzip.compress(mangle(zlib.decompress(data, 31), rng), 1)
    if suffix.endswith(".ply") and rng.random() < 0.6:
        end = data.index(b"end_header")
        return mangle(data[:end], rng) + data[end:]
    if suffix == ".glb" and rng.random() < 0.8:
        (length,) = struct.unpack_from("<I", data, 12)
        document = json.loads(data[20 : 20 + length])
        for _ in range(rng.randint(1, 3)):
            document = mangle_json(document, rng)
        text = json.dumps(document).encode()
        rest = data[20 + length :]
        return (
            struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
            + text
            + rest
        )
    return mangle(data, rng)


def broken_sog(data: bytes, rng: random.Random) -> bytes:
    """Another meta.json, or a broken picture, in an archive that is whole."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([*members, "meta.json", "meta.json"])
    if name == "meta.json" and rng.random() < 0.8:
        members[name] = json.dumps(mangle_json(json.loads(members[name]), rng)).encode()
    else:
        members[name] = mangle(members[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return out.getvalue()


def main() -> None:
    """Fuzz one format or all, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for each format")
    parser.add_argument("--format", choices=[*WRITTEN, ".ksplat"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "gs-ssd-fuzz")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    np.seterr(all="ignore")
    honest = seeds()
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    args.keep.mkdir(parents=True, exist_ok=True)
    for suffix in [args.format] if args.format else honest:
        rng, counts, end = random.Random(args.seed), Counter(), time.monotonic() + 60 * args.minutes
        path = args.keep / f"case{suffix}"
        while time.monotonic() < end:
            path.write_bytes(broken(suffix, rng.choice(honest[suffix]), rng))
            started = time.process_time()
            try:
                read_splats(path)
                outcome = "read"
            except UserError:
                outcome = "refused"
            except BaseException as error:
                outcome = (
                    f"ESCAPED {type(error).__name__}:"
                    f" {traceback.extract_tb(error.__traceback__)[-1]}"
                )
            if time.process_time() - started > 2:
                outcome = "SLOW"
            counts[outcome] += 1
            if outcome not in ("read", "refused") and counts[outcome] == 1:
                path.rename(args.keep / f"found-{sum(counts.values())}{suffix}")
        print(suffix, dict(counts), flush=True)


if __name__ == "__main__":
    main()
