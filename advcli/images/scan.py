"""What lies in a folder: image files, sub-folders, and everything else by name and reason.

No file is opened here, except that one without an image's extension is asked for its first bytes.
Symbolic links are never followed out of the folder, and never into another folder: no loops.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from advcli.errors import ImagesError
from advcli.images.foreign import HEAD, foreign
from advcli.images.text import printable

__all__ = ["IMAGE_SUFFIXES", "Skipped", "Tree", "scan"]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx"}
    | {".ico", ".qoi", ".rgb", ".sgi", ".tga"}
)
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})

# How image files begin; for some a second mark further on tells them from chance.
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"qoif"),
    *(b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"),
    *(b"P%d%c" % (kind, space) for kind in range(1, 7) for space in b" \t\r\n"),
)
_SPLIT = (
    (b"RIFF", 8, b"WEBP"),
    (b"", 4, b"ftypavif"),
    (b"", 4, b"ftypavis"),
    (b"BM", 6, b"\0\0\0\0"),
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file (or a folder, its name ending in "/") that is not evaluated, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Tree:
    """Paths are relative to the root, with "/" between their parts, in sorted order.

    `folders` are the names of the root's own sub-folders, empty ones included.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def scan(root: Path) -> Tree:
    """Everything below `root`, hidden files and the litter of file managers aside.

    Raises ImagesError where `root` is no folder or cannot be read.
    """
    _check_root(root)
    real_root = os.path.realpath(root)
    files: list[str] = []
    folders: list[str] = []
    skipped: list[Skipped] = []
    pending = [""]
    while pending:
        parent = pending.pop()
        try:
            with os.scandir(os.path.join(root, parent)) as entries:
                found = list(entries)
        except OSError as error:
            if not parent:
                raise ImagesError(
                    f"{printable(str(root))}: the folder cannot be read: {error.strerror}",
                    "check its permissions",
                ) from error
            skipped.append(Skipped(f"{parent}/", f"the folder cannot be read: {error.strerror}"))
            continue
        for entry in found:
            if entry.name.startswith(".") or entry.name.lower() in _LITTER:
                continue
            path = f"{parent}/{entry.name}" if parent else entry.name
            is_folder, reason = _judge(entry, real_root)
            if is_folder and not parent:
                folders.append(entry.name)
            if reason:
                skipped.append(Skipped(f"{path}/" if is_folder else path, reason))
            elif is_folder:
                pending.append(path)
            else:
                files.append(path)
    return Tree(
        files=tuple(sorted(files, key=_parts)),
        folders=tuple(sorted(folders)),
        skipped=tuple(sorted(skipped, key=lambda entry: _parts(entry.file))),
    )


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("/"))


def _check_root(root: Path) -> None:
    shown = printable(str(root))
    try:
        mode = root.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ImagesError(f"{shown}: {reason}", "give the folder that holds the images") from error
    if not stat.S_ISDIR(mode):
        raise ImagesError(f"{shown}: not a folder", "give the folder that holds the image")


def _judge(entry: os.DirEntry[str], real_root: str) -> tuple[bool, str]:
    """Whether an entry is a folder, and why it is skipped ("" where it is not)."""
    try:
        mode = entry.stat(follow_symlinks=True).st_mode
        is_folder = stat.S_ISDIR(mode)
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if target != real_root and not target.startswith(os.path.join(real_root, "")):
                return is_folder, "a symbolic link that leads out of the folder"
            if is_folder:
                return True, "a symbolic link to a folder: not followed"
        if is_folder:
            return True, ""
        if not stat.S_ISREG(mode):
            return False, "not a regular file"
        suffix = PurePosixPath(entry.name).suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            return False, ""
        with open(entry.path, "rb") as file:
            head = file.read(HEAD)
        if _has_signature(head):
            return False, ""
    except OSError as error:
        if entry.is_symlink():
            return False, f"a broken symbolic link: {error.strerror}"
        return False, f"cannot be read: {error.strerror}"
    what = foreign(head)
    return False, what or f"not an image that advcli reads ({printable(suffix) or 'no extension'})"


def _has_signature(head: bytes) -> bool:
    return head.startswith(_SIGNATURES) or any(
        head.startswith(first) and head[at:].startswith(then) for first, at, then in _SPLIT
    )
