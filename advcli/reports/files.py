"""Reports as files, chosen by extension, and as text for standard output."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advcli.errors import UsageError
from advcli.images.text import printable

if TYPE_CHECKING:
    from advcli.audit.gallery import Picture

__all__ = ["EXTENSIONS", "check_target", "render", "shows_pictures", "write_report"]


def _json(summary: dict[str, Any]) -> str:
    from advcli.reports.json_report import render

    return render(summary)


def _csv(summary: dict[str, Any]) -> str:
    from advcli.reports.csv_report import render

    return render(summary)


def _markdown(summary: dict[str, Any]) -> str:
    from advcli.reports.markdown import render

    return render(summary)


def _junit(summary: dict[str, Any]) -> str:
    from advcli.reports.junit_report import render

    return render(summary)


def _html(summary: dict[str, Any], gallery: Sequence[Picture] = ()) -> str:
    from advcli.reports.html_report import render

    return render(summary, gallery)


def _sarif(summary: dict[str, Any]) -> str:
    from advcli.reports.sarif_report import render

    return render(summary)


def _github(summary: dict[str, Any]) -> str:
    from advcli.reports.github_report import render

    return render(summary)


_FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "json": _json,
    "csv": _csv,
    "markdown": _markdown,
    "html": _html,
    "junit": _junit,
    "sarif": _sarif,
    "github": _github,
}
EXTENSIONS = {
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".html": "html",
    ".junit.xml": "junit",
    ".sarif": "sarif",
}

_OF_A_RUN = frozenset({"run.json", "summary.json", "baseline.json"})


def render(summary: dict[str, Any], name: str) -> str:
    """The summary in the format called `name`: a value of `EXTENSIONS`, or `github`."""
    return _FORMATS[name](summary)


def _extension(path: Path) -> str:
    """The end of the name that says which report it is, or what stands in its place."""
    name = path.name.lower()
    return next((end for end in EXTENSIONS if name.endswith(end)), path.suffix.lower())


def check_target(path: Path, out: Path | None = None) -> None:
    """Raises UsageError, before any work, for a report that could not be written afterwards, or
    would replace a file that a run, in `out` say, keeps of itself.

    A temporary file is really made and removed, beside the report or in the nearest folder above
    it that exists: permission bits tell nothing of a read-only file system, or of /proc.
    """
    shown = printable(str(path))
    suffix = _extension(path)
    if suffix not in EXTENSIONS:
        near = [end for end in EXTENSIONS if suffix and end.endswith(suffix)]
        near += difflib.get_close_matches(suffix, EXTENSIONS, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(
            f"--report {shown}: no report has the extension '{printable(suffix)}'",
            f"{hint}use one of {' '.join(EXTENSIONS)}",
        )
    if os.path.isdir(path):
        raise UsageError(f"--report {shown}: is a folder", "name a file in it")
    folder, name = os.path.split(os.path.realpath(path))
    runs = os.path.isfile(os.path.join(folder, "run.json"))
    if name in _OF_A_RUN and (runs or (out is not None and folder == os.path.realpath(out))):
        raise UsageError(
            f"--report {shown}: would replace a file that the run keeps of itself",
            "give the report another name",
        )
    parent = path.parent
    while not os.path.exists(parent) and parent != parent.parent:
        parent = parent.parent
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path)  # a name too long for the file system
        with tempfile.NamedTemporaryFile(dir=parent, prefix=".advcli-", suffix=".tmp"):
            pass
    except OSError as error:
        raise UsageError(
            f"--report {shown}: {printable(str(parent))} cannot be written: "
            f"{error.strerror or error}",
            "choose a folder that you may write to",
        ) from error


def shows_pictures(path: Path) -> bool:
    """Whether the report called `path` has a place for pictures of the run."""
    return EXTENSIONS.get(_extension(path)) == "html"


def write_report(path: Path, summary: dict[str, Any], gallery: Sequence[Picture] = ()) -> None:
    """Writes one report, whole or not at all; raises NoVerdictError where that fails.

    `gallery`: pictures of the run, for a format that shows them.
    """
    from advcli.images.writer import write_bytes

    if shows_pictures(path):
        text = _html(summary, gallery)
    else:
        text = render(summary, EXTENSIONS[_extension(path)])
    write_bytes(path, text.encode())
