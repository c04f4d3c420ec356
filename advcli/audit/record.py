"""A finished run as its files have it, with their hashes, for whoever has to vouch for it.

The model is not run. A run whose summary is not what its journal adds up to is refused: a document
about figures that nothing supports would be worse than none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from advcli.audit import regression
from advcli.audit.directory import RunDirectory
from advcli.audit.journal import finite, read_lines
from advcli.audit.ledger import Ledger
from advcli.audit.lines import Line
from advcli.audit.summary import summarise
from advcli.errors import RunError
from advcli.images.text import printable

__all__ = ["Answers", "Record", "added_up", "read_record"]


@dataclass
class Answers:
    """Lines of the journal about one attack in one norm."""

    count: int = 0
    errors: int = 0


@dataclass
class Record:
    """`files`: run.json and summary.json as they are. `sha256`: of each of the run's own files.
    `images`: the journal's clean lines. `written`: file -> SHA-256, None where none was kept.
    `answers`: (attack, norm) -> what the journal has of it."""

    run: dict[str, Any]
    summary: dict[str, Any]
    files: dict[str, bytes]
    sha256: dict[str, str]
    images: list[Line] = field(default_factory=list)
    written: dict[str, str | None] = field(default_factory=dict)
    answers: dict[tuple[str, str | None], Answers] = field(default_factory=dict)


def read_record(directory: RunDirectory) -> Record:
    """Raises RunError for a folder without a run, a run that is not finished, or one whose summary
    is not what its journal adds up to."""
    shown = printable(str(directory.root))
    run = directory.read_run()
    if not directory.summary_file.exists():
        raise RunError(
            f"{shown}: the run is not finished, and there is no evidence of half a run",
            "go on with it first: evaluate (or attack) with --out DIR --resume",
        )
    files = {f.name: f.read_bytes() for f in (directory.run_file, directory.summary_file)}
    summary = directory.read_summary()
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    for file in (directory.journal_file, directory.baseline_file):
        if file.exists():
            with file.open("rb") as stream:
                sha256[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    record = Record(run, summary, files, sha256)
    ledger = Ledger.read(_noted(record, read_lines(directory.journal_file)))
    again = added_up(directory, run, ledger)
    if summary["advcli_version"] == again["advcli_version"]:
        different = any(summary.get(key) != again[key] for key in again)
    else:  # another version has other keys and checks
        different = _counts(summary) != _counts(again)
    if different:
        raise RunError(
            f"{shown}: its summary is not what its journal adds up to",
            "see `advcli verify`, or run again with another --out",
        )
    for fitted in run.get("fitted", ()):
        for name, digest in fitted.get("files", {}).items():
            record.written[f"{fitted['folder']}/{name}"] = digest
    return record


def added_up(directory: RunDirectory, run: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """The summary that `run` (run.json) and `ledger` (the journal) add up to, as JSON has it.

    Raises RunError where the run's copy of its baseline is damaged.
    """
    baseline = regression.stored(directory) if run["config"].get("baseline") else None
    found: dict[str, Any] = finite(
        summarise(run, ledger, regression.section(baseline, run, ledger))
    )
    return found


def _noted(record: Record, lines: Iterator[Line]) -> Iterator[Line]:
    for line in lines:
        if line["attack"] == "clean":
            record.images.append(line)
        else:
            known = record.answers.setdefault((line["attack"], line["norm"]), Answers())
            known.count += 1
            known.errors += line["error"] is not None
            if line["file"] is not None:
                record.written.setdefault(line["file"], line.get("file_sha256"))
        yield line


def _counts(summary: dict[str, Any]) -> list[Any]:
    """The counts, which every version of a summary has."""
    return [
        [summary["clean"][key] for key in ("correct", "total")],
        [
            [row[key] for key in ("attack", "norm", "eps", "robust", "broken", "errors", "total")]
            for row in summary["attacks"]
        ],
        [[row[key] for key in ("norm", "eps", "robust_accuracy")] for row in summary["worst_case"]],
        [
            [row[key] for key in ("attack", "kind", "severity", "correct", "total")]
            for row in summary["natural"]
        ],
    ]
