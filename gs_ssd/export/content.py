"""What the first bytes of a file say about its format, whatever its name says."""

from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file

MAGICS: tuple[tuple[bytes, str, tuple[str, ...]], ...] = (
    (b"ply", "a PLY", (".ply", ".compressed.ply")),
    (b"glTF", "a GLB", (".glb",)),
    (b"NGSP", "an SPZ", (".spz",)),
    (b"PK\x03\x04", "a ZIP, as .sog files are", (".sog",)),
    (b"\x1f\x8b", "packed with gzip, as .spz files are", (".spz",)),
)
"""First bytes, what they mean, and the suffixes that files which begin so may have."""


def refuse_other_content(path: Path, suffix: str) -> None:
    """Refuse a file whose content is another format's than its `suffix` names.

    Raises:
        UserError: says what it is; also where it is no plain file, or cannot be opened.
    """
    require_plain_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    for magic, meaning, suffixes in MAGICS:
        if head.startswith(magic) and suffix not in suffixes:
            unpack = ", or unpack it" if len(magic) == 2 or magic[:2] == b"PK" else ""
            raise UserError(
                f"{path}: named {suffix}, but it is {meaning}; rename it to {suffixes[0]}{unpack}"
            )
