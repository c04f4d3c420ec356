"""A run directory: run.json, results.jsonl, summary.json and the images, held by one process."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from advcli.attacks.natural import Question
from advcli.audit.journal import Journal, dumps, read_lines
from advcli.audit.ledger import Ledger
from advcli.audit.natural import NaturalPhase
from advcli.audit.plan import Phase
from advcli.audit.summary import SCHEMA_VERSION
from advcli.errors import RunError
from advcli.images.naming import output_path
from advcli.images.text import printable
from advcli.images.writer import DRAFT, write_bytes
from advcli.threats.budget import format_eps

__all__ = ["CLEAN", "RunDirectory", "attack_folder", "budget_folder"]

_LOCK = ".lock"
_RESTORE = "restore the file, or start a new run in another folder"
CLEAN = "images/clean"
# What every reader takes for granted; what lies deeper was written by the same hand
_RUN = {
    **dict.fromkeys(("config", "identity", "model", "images", "engine", "provenance"), dict),
    **dict.fromkeys(("phases", "findings"), list),
}
_SUMMARY = {
    **dict.fromkeys(("verdict", "advcli_version"), str),
    **dict.fromkeys(("model", "images", "clean", "soundness", "provenance"), dict),
    **dict.fromkeys(("attacks", "worst_case", "natural", "per_class", "gates"), list),
}


class RunDirectory:
    """The files of one run below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_file = root / "run.json"
        self.journal_file = root / "results.jsonl"
        self.summary_file = root / "summary.json"
        self.baseline_file = root / "baseline.json"

    @property
    def holds_run(self) -> bool:
        return self.run_file.is_file()

    def check_usable(self, *, resume: bool) -> None:
        """Raises RunError where this directory cannot be written as asked; changes nothing."""
        shown = printable(str(self.root))
        if self.root.exists() and not self.root.is_dir():
            raise RunError(f"{shown}: is a file, not a folder", "give another folder to --out")
        if self.holds_run and not resume:
            raise RunError(
                f"{shown}: holds a run already", "go on with --resume, or give another --out"
            )
        if self.root.is_dir() and not self.holds_run:
            names = sorted(path.name for path in self.root.iterdir())
            other = [name for name in names if name != _LOCK and not fnmatch(name, DRAFT)]
            if other:
                raise RunError(
                    f"{shown}: holds no run, but other files ({printable(other[0], 40)})",
                    "give a new or an empty folder to --out",
                )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Creates the directory and keeps every other process from writing it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / _LOCK)
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{printable(str(self.root))}: another process is writing this run",
                "wait for it to finish, or give another --out",
            ) from None
        except OSError as error:
            raise RunError(
                f"{printable(str(self.root))}: cannot be written ({error.strerror or error})",
                "give a folder that you may write to --out",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def read_run(self) -> dict[str, Any]:
        """run.json; raises RunError where there is none that can be read."""
        return self._read(self.run_file, _RUN)

    def read_summary(self) -> dict[str, Any]:
        """summary.json; raises RunError where there is none that can be read."""
        return self._read(self.summary_file, _SUMMARY)

    def read_baseline(self) -> dict[str, Any]:
        return self._read(self.baseline_file, {})

    def write_baseline(self, baseline: dict[str, Any]) -> None:
        write_bytes(self.baseline_file, dumps(baseline).encode() + b"\n")

    def write_run(self, run: dict[str, Any]) -> None:
        write_bytes(self.run_file, dumps(run, indent=2).encode() + b"\n")

    def write_summary(self, summary: dict[str, Any]) -> None:
        write_bytes(self.summary_file, dumps(summary, indent=2).encode() + b"\n")

    def ledger(self) -> Ledger:
        return Ledger.read(read_lines(self.journal_file))

    def journal(self) -> Journal:
        return Journal(self.journal_file)

    def discard(self) -> None:
        """Removes a run that was refused before its first attack."""
        shutil.rmtree(self.root / CLEAN, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.root / CLEAN).parent.rmdir()
        for file in (self.run_file, self.journal_file, self.summary_file, self.root / _LOCK):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: something else is in it
            self.root.rmdir()

    def clean_file(self, image: str) -> str:
        """Where a clean image goes, relative to the run, "/" between the parts."""
        return self._relative(output_path(self.root / CLEAN, image))

    def perturbed_file(self, phase: Phase, eps: float | None, image: str, suffix: str) -> str:
        """Where a perturbed image goes, relative to the run."""
        folder = self.root / "images" / attack_folder(phase.spec) / budget_folder(phase, eps)
        return self._relative(output_path(folder, image, suffix))

    def natural_file(self, phase: NaturalPhase, question: Question, image: str) -> str:
        """Where a picture of a natural threat goes, relative to the run; always a PNG."""
        folder = self.root / "images" / attack_folder(phase.spec) / question.name
        return self._relative(output_path(folder, image))

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _read(self, file: Path, needed: Mapping[str, type]) -> dict[str, Any]:
        shown = printable(str(file))
        try:
            found = json.loads(file.read_bytes())
        except OSError as error:
            raise RunError(
                f"{shown}: {error.strerror or error}",
                "give the folder that --out named",
            ) from error
        except ValueError as error:
            raise RunError(f"{shown}: is no JSON ({error})", _RESTORE) from None
        if not isinstance(found, dict):
            raise RunError(f"{shown}: is no file of a run", _RESTORE)
        version = found.get("schema_version", SCHEMA_VERSION) if needed else SCHEMA_VERSION
        if version != SCHEMA_VERSION:
            raise RunError(
                f"{shown}: has the format {printable(str(version), 20)}, and this version of "
                f"advcli reads {SCHEMA_VERSION}",
                "use the version of advcli that wrote the run",
            )
        for key, kind in needed.items():
            if not isinstance(found.get(key), kind):
                raise RunError(f"{shown}: is damaged, or of no run: no '{key}' in it", _RESTORE)
        return found


def budget_folder(phase: Phase, eps: float | None) -> str:
    """A budget as a folder's name: `linf-8_255`; empty for a threat without a norm."""
    if phase.norm is None:
        return ""
    return phase.norm if eps is None else f"{phase.norm}-{format_eps(eps).replace('/', '_')}"


def attack_folder(spec: str) -> str:
    """A canonical spec as a folder's name: `pgd:steps=100` -> `pgd_steps-100`."""
    return spec.translate(str.maketrans(":=,/", "_-__"))
