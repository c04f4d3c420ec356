"""`--baseline`: an earlier run that this one must not fall behind.

What is needed of the baseline is copied into the run (baseline.json), so that the run can go on,
and be verified, when the baseline is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from advcli.audit.compare import Names, check_conditions, check_threats, compare
from advcli.audit.directory import RunDirectory
from advcli.audit.ledger import Ledger
from advcli.audit.natural import NaturalPhase
from advcli.audit.plan import AuditConfig, Phase
from advcli.audit.side import ImageKey, Side, conditions_of, threats_of
from advcli.errors import RunError, UsageError
from advcli.images.text import printable

__all__ = ["check_asked", "check_images", "check_run", "opened", "section", "stored"]

_NAMES: Names = ("the baseline", "this run")
_LISTS = ("newly_broken_images", "fixed_images")


def opened(
    config: AuditConfig, directory: RunDirectory | None, given: frozenset[str]
) -> Side | None:
    """The baseline that is asked for, or that the run in `directory` has; None of none.

    Raises an AdvcliError where it cannot be one.
    """
    if config.baseline is None:
        if config.max_drop is not None:
            raise UsageError("--max-drop compares with an earlier run", "add --baseline RUN")
        return None
    root = Path(config.baseline)
    if directory is not None and root.resolve() == directory.root.resolve():
        raise UsageError(
            "--baseline and --out are one folder: a run is no baseline of itself",
            "give another folder to --out",
        )
    if directory is not None and "baseline" not in given and directory.baseline_file.is_file():
        return stored(directory)
    return Side.read(root)


def stored(directory: RunDirectory) -> Side:
    """The copy of its baseline that a run keeps."""
    try:
        return Side.from_dict(directory.read_baseline())
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RunError(
            f"{printable(str(directory.baseline_file))}: is no baseline",
            "state it again: --baseline RUN",
        ) from error


def check_asked(
    baseline: Side | None,
    config: AuditConfig,
    phases: Sequence[Phase],
    natural: Sequence[NaturalPhase],
    classes: Sequence[str],
) -> None:
    """Raises RunError for what the options alone tell: before TensorFlow is started."""
    if baseline is None:
        return
    known = {
        "--pixels": config.pixels,
        "--resize": config.resize,
        "--resample": config.resample,
        "--exif": config.exif,
        "--targeted": config.targeted,
    }
    check_conditions(
        baseline.conditions, known | ({"classes": [*classes]} if classes else {}), _NAMES
    )
    if all(phase.eps or phase.norm is None for phase in phases):
        _check_threats(baseline, phases, natural, targeted=config.targeted is not None)


def check_run(
    baseline: Side | None,
    run: dict[str, Any],
    phases: Sequence[Phase],
    natural: Sequence[NaturalPhase],
) -> None:
    """Raises RunError for what the loaded model tells: before an image is looked at."""
    if baseline is not None:
        check_conditions(baseline.conditions, conditions_of(run), _NAMES)
        _check_threats(baseline, phases, natural, targeted=run["config"]["targeted"] is not None)


def _check_threats(
    baseline: Side, phases: Sequence[Phase], natural: Sequence[NaturalPhase], *, targeted: bool
) -> None:
    options = {f"{phase.spec} {phase.norm}": phase.as_dict()["options"] for phase in phases}
    options |= {f"{threat.spec} None": threat.as_dict()["options"] for threat in natural}
    planned = threats_of(phases, natural, targeted=targeted)
    check_threats(baseline, planned, options, _NAMES, gate=True)


def check_images(baseline: Side | None, keys: Iterable[ImageKey]) -> None:
    """Raises RunError, before the first attack, where no image (`keys`) is the baseline's; goes no
    further through them than to the first that is."""
    if baseline is None:
        return
    known = {key for key, _ in baseline.images}
    if not any(key in known for key in keys):
        raise RunError(
            f"--baseline {printable(baseline.run)}: none of its images is among this run's",
            "give a baseline on the same images: they are paired by their pixels and labels",
        )


def section(baseline: Side | None, run: dict[str, Any], ledger: Ledger) -> dict[str, Any] | None:
    """summary.json's `baseline`: the comparison without lists of images, which
    `advcli compare` gives."""
    if baseline is None:
        return None
    found = compare(baseline, Side.of("", run, ledger), gate=True, names=_NAMES)
    rows = [{k: v for k, v in row.items() if k not in _LISTS} for row in found["threats"]]
    kept = {key: found[key] for key in ("images", "left_out", "notes")}
    facts: dict[str, Any] = found["base"]
    return facts | kept | {"threats": rows}
