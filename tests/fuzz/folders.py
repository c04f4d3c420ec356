"""Folders: hostile names, links, loops, pipes, litter, and class lists that fit or do not."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import strategies as st

from advcli.images.decode import ImageReadError, decode
from advcli.images.folder import check_classes, open_folder
from advcli.images.text import printable
from tests.fuzz.parts import Finding, Part

_PIXEL = b"P5 1 1 255\n\0"
_NAMES = (
    *("cat", "dog", "Cat", "a.png", "b.JPG", "ä", "a\u0308", " ", "a b", "a\nb.png", "'\"`$(x)"),
    *("\x1b[31m", "\u202egnp.a", "...", "-rf", "~", "x" * 255, "é" * 120 + ".png", "\udcff.png"),
    *(".DS_Store", ".hidden", "Thumbs.db", "desktop.ini", "__MACOSX", "labels.csv", "a.gif.exe"),
    *("con", "a\\b.png", "%s{0}", "=cmd().png", "<b>.png", "a\u2028b.png", "1", "01", "\ud800"),
)
_names = st.sampled_from(_NAMES) | st.text(min_size=1, max_size=8)
_contents = st.sampled_from(("pixel", "", "text", "lfs", "html"))
_entries = st.tuples(
    st.sampled_from(("file", "file", "file", "folder", "link", "pipe")),
    st.lists(_names, min_size=1, max_size=3),
    _contents,
    st.lists(st.sampled_from((*_NAMES[:6], "..", ".", "nowhere")), min_size=1, max_size=3),
)
_BYTES = {
    "pixel": _PIXEL,
    "": b"",
    "text": b"words",
    "lfs": b"version https://git-lfs",
    "html": b"<html>",
}


def read(case: bytes, folder: Path) -> None:
    """Makes what can be made of the entries, opens the folder and reads every image in it."""
    entries, count, classes = json.loads(case)
    root = folder / "images"
    root.mkdir()
    for kind, parts, content, target in entries:
        _make(root, kind, parts, _BYTES[content], target)
    listed = None
    if classes is not None:
        listed = folder / "classes.txt"
        listed.write_bytes("\n".join(classes).encode(errors="surrogatepass"))
    found = open_folder(root, classes=listed)
    real = os.path.realpath(root)
    for ref in found.refs:
        if not os.path.realpath(found.file(ref)).startswith(os.path.join(real, "")):
            raise Finding(f"{ref.path!r} leads out of the folder")
        try:
            decode(found.file(ref), (2, 2, 3))
        except ImageReadError as error:
            if error.reason != printable(error.reason):
                raise Finding(f"a reason that is no line: {error.reason!r}") from None
    for entry in found.skipped:
        if entry.reason != printable(entry.reason):
            raise Finding(f"a reason that is no line: {entry.reason!r}")
    check_classes(found, count)


def _make(root: Path, kind: str, parts: list[str], content: bytes, target: list[str]) -> None:
    path = os.path.join(root, *(part.replace("/", "_") for part in parts))
    if not os.path.normpath(path).startswith(os.path.join(root, "")):
        return  # "..": no file has that name
    if os.path.lexists(path):
        return  # writing into a pipe would wait for its reader
    try:
        os.makedirs(path if kind == "folder" else os.path.dirname(path), exist_ok=True)
        if kind == "file":
            Path(path).write_bytes(content)
        elif kind == "link":
            os.symlink(os.path.join(*target), path)
        elif kind == "pipe":
            os.mkfifo(path)
    except (OSError, ValueError):
        pass  # a name that this file system has not, or that exists


PART = Part(
    "folders",
    st.builds(
        lambda *case: json.dumps(case).encode(),
        st.lists(_entries, max_size=7),
        st.integers(1, 3),
        st.none() | st.none() | st.lists(_names, min_size=1, max_size=3),
    ),
    read,
)
