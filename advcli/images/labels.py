"""Label files and class lists: a CSV of `file,label`, and one class name a line.

Both are read as what spreadsheets write too: UTF-8 with or without a byte-order mark, any line
ending, commas, semicolons or tabs. Bytes that are no UTF-8 are kept as the file system keeps them,
so that they still match the names of files.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advcli.errors import ImagesError
from advcli.images.text import printable

__all__ = ["LabelRow", "label_indices", "read_classes", "read_rows"]

# Compared in lower case and without underscores.
_FILE_HEADERS = frozenset({"file", "filename", "filepath", "path", "image", "imagename", "img"})
_LABEL_HEADERS = frozenset({"label", "labels", "class", "classname", "classid", "target", "y"})
_INDEX = re.compile(r"([0-9]{1,9})(\.0+)?", re.ASCII)  # pandas writes integers as 3.0


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One row of a label file: where it stands, the file as written, the label as written."""

    line: int
    file: str
    label: str


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names in index order, one a line; blank lines at the end do not count.

    Raises ImagesError for an unreadable or empty list, a blank line inside it (every index below
    would be off by one) and a name that appears twice.
    """
    lines = re.split(r"\r\n|\n|\r", _text(path, "class list").rstrip("\r\n\t "))
    names = [line.strip() for line in lines]
    shown = printable(str(path))
    if names == [""]:
        raise ImagesError(f"{shown}: the class list is empty", "write one class name a line")
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise ImagesError(
                f"{shown}: line {number} of the class list is blank",
                "write one class name a line, in index order, without gaps",
            )
        if name in seen:
            raise ImagesError(
                f"{shown}: class {printable(name, 60)!r} stands on lines {seen[name]} and {number}",
                "give every class its own name",
            )
        seen[name] = number
    return tuple(names)


def read_rows(path: Path) -> list[LabelRow]:
    """The rows of a label file, its header row (if any) left out, blank rows too.

    A row with fewer than two columns raises ImagesError with its line. Further columns are
    ignored; a header that names the file and label columns may put them anywhere.
    """
    text = _text(path, "label file")
    shown = printable(str(path))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows: list[LabelRow] = []
    columns: tuple[int, int] | None = None
    line = 1
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = _header(cells)
                if columns is not None:
                    continue
                columns = (0, 1)
            if len(cells) <= max(columns):
                raise ImagesError(
                    f"{shown}: line {start} has {len(cells)} column(s), not file and label",
                    "write one row an image: file,label",
                )
            rows.append(LabelRow(start, cells[columns[0]], cells[columns[1]].strip()))
    except csv.Error as error:
        raise ImagesError(
            f"{shown}: line {line} is no CSV: {printable(str(error))}",
            "write one row an image: file,label",
        ) from error
    if not rows:
        raise ImagesError(
            f"{shown}: the label file has no rows", "write one row an image: file,label"
        )
    return rows


def label_indices(
    labels: Sequence[str], names: Sequence[str] | None, source: Path
) -> tuple[list[int | str], tuple[str, ...]]:
    """Each label as a class index, or as the reason why it is none; and the class names.

    With class `names`, a label is one of them or an index into them. Where every label is both
    (classes called "0", "1", …) they are read as names. Without `names`, labels are all indices
    (then no names are known: an empty tuple), or all names: sorted, as folders would be.
    """
    numbers = [_number(label) for label in labels]
    if names is None:
        if all(number is not None for number in numbers):
            return [_as_index(number) for number in numbers], ()
        if any(number is not None for number in numbers):
            raise ImagesError(
                f"{printable(str(source))}: some labels are indices, others are class names",
                "give the class names in index order with --classes FILE",
            )
        names = sorted({label for label in labels if label})
    index = {name: i for i, name in enumerate(names)}
    by_number = all(number is not None for number in numbers) and any(
        label not in index for label in labels
    )
    outcome: list[int | str] = []
    for label, number in zip(labels, numbers, strict=True):
        if not by_number and label in index:
            outcome.append(index[label])
        elif number is not None and number < len(names):
            outcome.append(number)
        else:
            outcome.append(_no_class(label, number, names))
    return outcome, tuple(names)


def _as_index(number: int | None) -> int | str:
    return "no label" if number is None else number


def _number(label: str) -> int | None:
    match = _INDEX.fullmatch(label)
    return int(match[1]) if match else None


def _no_class(label: str, number: int | None, names: Sequence[str]) -> str:
    if not label:
        return "its label is empty"
    if number is not None:
        return f"its label {number} is no class: there are {len(names)}, counted from 0"
    close = difflib.get_close_matches(label[:200], names, n=1)
    guess = f" (did you mean {printable(close[0], 60)!r}?)" if close else ""
    return f"its label {printable(label, 60)!r} is no class{guess}"


def _text(path: Path, what: str) -> str:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImagesError(
            f"{printable(str(path))}: the {what} cannot be read: {reason}", "check the path"
        ) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise ImagesError(
            f"{printable(str(path))}: the {what} is no UTF-8 text", "save it as plain UTF-8 text"
        )
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _delimiter(text: str) -> str:
    """The comma, unless the first row has none and a semicolon or a tab instead."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    return next((mark for mark in ",;\t" if mark in first), ",")


def _header(cells: Sequence[str]) -> tuple[int, int] | None:
    """The columns of file and label, where the first row names them."""
    lowered = [cell.strip().lower().replace("_", "") for cell in cells]
    file = next((i for i, cell in enumerate(lowered) if cell in _FILE_HEADERS), None)
    label = next((i for i, cell in enumerate(lowered) if cell in _LABEL_HEADERS), None)
    return None if file is None or label is None else (file, label)
