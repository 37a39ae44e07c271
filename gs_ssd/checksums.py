"""The weights that come with the program are those that were published, bit for bit.

A folder of weights carries `SHA256SUMS`, which the code that publishes it writes and the code that
loads it checks; `sha256sum -c SHA256SUMS` checks it too.
"""

import hashlib
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path

FILE = "SHA256SUMS"
SUFFIXES = (".safetensors", ".json", ".txt")
"""What a model is loaded from; pages and pictures beside it may change."""


def write(folder: Path) -> Path:
    """Write down what the folder's files are now; returns the path of the list."""
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder)]
    with atomic_path(folder / FILE) as temporary:
        temporary.write_text("".join(lines), encoding="ascii")
    return folder / FILE


def check(folder: Path, fix: str) -> None:
    """See that the folder's files are those of its list, all of them and no others.

    Args:
        fix: what the user can do about it, for the end of the sentence.

    Raises:
        UserError: names the first file that is missing, damaged or not listed.
    """
    try:
        lines = (folder / FILE).read_text(encoding="ascii").splitlines()
        listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / FILE} is missing or damaged; {fix}") from error
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            raise UserError(f"{folder / name} is missing; {fix}")
        if name not in listed:
            raise UserError(f"{folder / name} is not in {FILE}; {fix}")
        if _digest(found[name]) != listed[name]:
            raise UserError(
                f"{folder / name} is damaged (its SHA-256 is not the one in {FILE}); {fix}"
            )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
