"""Label files and class lists: any bytes, and tables with every trick of a spreadsheet."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from hypothesis import strategies as st

from advcli.images.folder import check_classes, open_folder
from tests.fuzz.parts import Part

_IMAGES = ("a.png", "b.png", "cat/a.png", "dog/ä.png")
_PIXEL = b"P5 1 1 255\n\0"

_odd_files = st.sampled_from(
    (
        *(
            *_IMAGES,
            "./a.png",
            "cat\\a.png",
            " a.png ",
            "../a.png",
            "/etc/passwd",
            "",
            "\0",
            "a\nb.png",
        ),
        *("nowhere.png", "\u202egnp.a", "A.PNG", "dog/a\u0308.png", "x" * 300),
    )
)
_odd_labels = st.sampled_from(
    (
        *(
            "0",
            "1",
            "2",
            "3.0",
            "cat",
            "dog",
            "",
            " cat ",
            "-1",
            "999999999",
            "9" * 5000,
            "nan",
            "１",
        ),
        *("=cmd()", "\x1b[31m", "\u202e", "x" * 5000, "cat\ndog", "0x1", "True", "\ud800"),
    )
)
_files = st.one_of(*[st.sampled_from(_IMAGES)] * 5, _odd_files)
_labels = st.one_of(*[st.sampled_from(("0", "1"))] * 5, _odd_labels)
_names = st.one_of(*[st.sampled_from(("cat", "dog"))] * 5, _odd_labels)
_quoted = st.sampled_from((False, False, False, True))
_separators = st.sampled_from((*[","] * 12, ";", "\t", ", ", ",,"))
_ends = st.sampled_from((*["\n"] * 5, "\r\n", "\r", "\n\n"))
_headers = st.sampled_from(
    (*["file,label"] * 6, "", "Label,File", "image_name\tclass", "a,b,c", '"')
)


def _cell(text: str, quoted: bool) -> str:
    return '"' + text.replace('"', '""') + '"' if quoted else text


@st.composite
def _tables(draw: st.DrawFn) -> bytes:
    separator, end = draw(_separators), draw(_ends)
    labels = draw(st.sampled_from((_labels, _names)))
    lines = [draw(_headers)]
    for _ in range(draw(st.integers(0, 6))):
        cells = [_cell(draw(_files), draw(_quoted)), _cell(draw(labels), draw(_quoted))]
        lines.append(separator.join(cells[: draw(st.sampled_from((*[2] * 20, 1)))]))
    text = end.join(lines)
    encoding = draw(st.sampled_from((*["utf-8"] * 8, "utf-8-sig", "utf-16", "latin-1")))
    handler = "replace" if encoding == "latin-1" else "surrogatepass"
    return text.encode(encoding, handler)


_bytes = st.binary(max_size=200) | st.text(",;\t\"'\n\rabc.png01 \ufeff\0", max_size=60).map(
    str.encode
)
_class_lists = st.one_of(
    *[st.none()] * 4,
    *[st.just(b"cat\ndog\n")] * 2,
    _bytes,
    st.lists(_odd_labels, max_size=5).map(
        lambda names: "\n".join(names).encode(errors="surrogatepass")
    ),
)


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def read(case: bytes, folder: Path) -> None:
    """A folder of four images with the label file, the class list or both."""
    labels, classes, count = json.loads(case)
    for name in _IMAGES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(_PIXEL)
    paths: list[Path | None] = []
    for name, data in (("labels.csv", labels), ("classes.txt", classes)):
        if data is not None:
            (folder / name).write_bytes(base64.b64decode(data))
        paths.append(None if data is None else folder / name)
    found = open_folder(folder, labels=paths[0], classes=paths[1])
    check_classes(found, count)
    for ref in found.refs:
        if ref.path not in _IMAGES or (ref.label is not None and not 0 <= ref.label < count):
            raise AssertionError(f"read as {ref}")


PART = Part(
    "labels",
    st.builds(
        lambda *parts: json.dumps([_text(parts[0]), _text(parts[1]), parts[2]]).encode(),
        st.one_of(st.none(), *[_tables()] * 6, _bytes),
        _class_lists,
        st.sampled_from((2, 2, 2, 1, 3)),
    ),
    read,
)
