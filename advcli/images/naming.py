"""Where an image's output goes: its own relative path, made safe for any file system."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

__all__ = ["output_path"]

_LONGEST = 255  # bytes of one name on the file systems in use
_HASH = 16  # hexadecimal digits, after a "~"

# Control characters, what Windows forbids, both slashes, and what is no Unicode text.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\\/\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
_HASHED = re.compile(rf"~[0-9a-f]{{{_HASH}}}\Z", re.IGNORECASE)


def output_path(base: Path, relative: str, suffix: str = ".png") -> Path:
    """`base` / `relative` with `suffix` appended: ``cat/a.jpg`` -> ``base/cat/a.jpg.png``.

    Always inside `base`, and different for different `relative`: a part that had to be changed
    (``..``, control characters, a name that Windows reserves, too long) ends in a hash of itself.
    `relative` has "/" between its parts. Two that differ in case alone, or in how they compose
    accents, still meet on a file system that holds such names to be equal.
    """
    *folders, name = relative.split("/")
    safe = [_safe(folder, "", folder.lower().endswith(suffix.lower())) for folder in folders]
    return base.joinpath(*safe, _safe(name, suffix, False) + suffix)


def _safe(part: str, suffix: str, clashes: bool) -> str:
    """`part`, unchanged if it can stay; `clashes`: a folder named like an output file."""
    room = _LONGEST - len(suffix.encode())
    cleaned = _UNSAFE.sub("_", part)
    whole = cleaned + suffix
    if (
        cleaned == part
        and part not in ("", ".", "..")
        and not clashes
        and len(part.encode()) <= room
        and not whole.endswith((" ", "."))
        and not _RESERVED.fullmatch(whole.split(".")[0].rstrip())
        and not _HASHED.search(part)
    ):
        return part
    mark = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    kept = cleaned.encode()[: room - _HASH - 2].decode("utf-8", "ignore").strip(" .") or "_"
    if _RESERVED.fullmatch(kept.split(".")[0].rstrip()):
        kept = f"_{kept}"
    return f"{kept}~{mark}"
