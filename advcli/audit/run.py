"""One run from the configuration to its summary: the order of things, and what is kept when.

Refusals come before anything is written. After that every answer goes into the journal as it is
known, so that whatever ends the process costs only what was being computed.
"""

from __future__ import annotations

import datetime
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advcli.audit import regression
from advcli.audit import resume as resuming
from advcli.audit.directory import RunDirectory
from advcli.audit.fitting import check_enough, check_generator, records
from advcli.audit.gates import check_classes, check_planned, parse_gate
from advcli.audit.meter import Watcher
from advcli.audit.natural import NaturalPhase, draft_natural, merged_natural, missing_natural
from advcli.audit.phases import Worker
from advcli.audit.plan import (
    AuditConfig,
    Phase,
    Target,
    budget_notes,
    check_targets,
    draft_phases,
    parse_target,
    preset_of,
    resolve,
)
from advcli.audit.presets import preset_remark
from advcli.audit.setup import (
    Bench,
    build,
    open_cheaply,
    stored_preprocessing,
    stream_of,
    versions,
)
from advcli.audit.shrinking import Shrinking
from advcli.audit.side import Side
from advcli.audit.soundness import BUDGET, PRESET, finding
from advcli.audit.summary import SCHEMA_VERSION, missing, summarise
from advcli.engine.run import Engine, auto_lanes
from advcli.errors import ModelError, NoVerdictError, RunError, UsageError

__all__ = ["Result", "execute"]


@dataclass(frozen=True)
class Result:
    """A finished run: its summary, and its directory if it was kept."""

    summary: dict[str, Any]
    directory: Path | None


def execute(
    config: AuditConfig,
    watcher: Watcher,
    *,
    out: Path | None = None,
    resume: bool = False,
    given: frozenset[str] = frozenset(),
    command_line: str = "",
) -> Result:
    """Runs an audit.

    **Arguments**
    - `out`: the run directory; without one nothing is kept.
    - `resume`: go on with the run in `out`, if there is one. `given` are then the names of the
      options that the user stated; the others come from the run.

    Raises an AdvcliError (exit 2) before anything is written, NoVerdictError (exit 3) after.
    """
    if (config.save_images or config.command == "attack") and out is None:
        raise UsageError("images are written into a run directory", "add --out DIR")
    if config.surrogate is None and config.surrogate_preprocess != "auto":
        raise UsageError("--surrogate-preprocess is for a surrogate", "add --surrogate MODEL")
    if resume and out is None:
        raise UsageError("--resume needs the run to go on with", "add --out DIR")
    directory = None if out is None else RunDirectory(out)
    earlier: dict[str, Any] | None = None
    if directory is not None:
        directory.check_usable(resume=resume)
        if directory.holds_run:
            earlier = directory.read_run()
            config = resuming.merged_config(config, earlier, given)
    phases = resuming.merged_phases(config, earlier, given) if earlier else draft_phases(config)
    natural = merged_natural(config, earlier, given) if earlier else draft_natural(config)
    gates = [parse_gate(text) for text in config.fail_under]
    check_planned(gates, phases, natural, targeted=config.targeted is not None)
    baseline = regression.opened(config, directory, given)
    header, folder = open_cheaply(config)
    regression.check_asked(baseline, config, phases, natural, folder.class_names)
    check_enough(config, folder, phases)
    generator = (
        earlier["identity"].get("generator")
        if earlier is not None and "generator" not in given
        else check_generator(config, phases)
    )
    if folder.class_names:
        check_classes(gates, folder.class_names)
    if earlier is not None:
        resuming.check_model(header.sha256, earlier)
        resuming.check_path(config, earlier)
    bench = build(
        config,
        folder,
        batch_size=resuming.continued_rows(config, earlier) if earlier is not None else None,
        compiled=earlier["engine"]["compiled"] if earlier is not None else None,
        preprocessing=stored_preprocessing(earlier["model"]["preprocessing"])
        if earlier is not None and "preprocess" not in given
        else None,
        surrogate_preprocessing=stored_preprocessing(earlier["surrogate"]["preprocessing"])
        if earlier is not None
        and earlier.get("surrogate")
        and not given & {"surrogate", "surrogate_preprocess"}
        else None,
    )
    phases = resolve(phases, bench.input_shape)
    check_planned(gates, phases, natural, targeted=config.targeted is not None)
    check_classes(gates, bench.class_names)
    target = (
        None
        if config.targeted is None
        else parse_target(config.targeted, bench.class_names, bench.classifier.class_count)
    )
    check_targets(phases, target)
    for note in (*folder.notes, *budget_notes(config, phases)):
        watcher.note(note)
    engine = Engine(
        bench.classifier,
        batch_size=bench.batch_size,
        pixels=config.pixels,
        seed=config.seed,
        lanes=auto_lanes(
            bench.input_shape,
            bench.batch_size,
            bench.device.split(" ")[0],
            bench.crafting.row_bytes,
            threads_at_once=bench.crafting.threads_at_once and bench.classifier.threads_at_once,
        ),
        surrogate=None if bench.surrogate is None else bench.surrogate.classifier,
    )
    run = _describe(config, bench, phases, target, engine, command_line)
    run["natural"] = [threat.as_dict() for threat in natural]
    run["identity"]["generator"] = generator
    if earlier is not None:
        resuming.check_identity(run["identity"], earlier, given)
        run = resuming.continued(run, earlier)
    regression.check_run(baseline, run, phases, natural)
    with _opened(directory) as kept:
        if earlier is not None and kept.read_run() != earlier:
            raise RunError("another process has changed this run meanwhile", "try again")
        keep = directory is not None
        return _work(
            config, bench, phases, target, engine, run, kept, watcher, keep=keep, baseline=baseline
        )


def _work(
    config: AuditConfig,
    bench: Bench,
    phases: tuple[Phase, ...],
    target: Target | None,
    engine: Engine,
    run: dict[str, Any],
    directory: RunDirectory,
    watcher: Watcher,
    *,
    keep: bool,
    baseline: Side | None,
) -> Result:
    ledger = directory.ledger()
    natural = [NaturalPhase.from_dict(stored) for stored in run["natural"]]
    stream = stream_of(config, bench.folder, bench.input_shape)
    with directory.journal() as journal:
        worker = Worker(config, engine, stream, directory, journal, ledger, watcher)
        fresh = not directory.holds_run
        if fresh:
            directory.write_run(run)
        engine.on_shrink = Shrinking(engine, run, directory, watcher)
        worker.clean_pass(target)
        try:
            worker.check(phases)
            run["images"] |= worker.images_facts()
            regression.check_images(baseline, run, ledger)
        except (ModelError, RunError, UsageError):
            if fresh:
                directory.discard()
            raise
        if baseline is not None:
            directory.write_baseline(baseline.as_dict())
        directory.summary_file.unlink(missing_ok=True)
        directory.write_run(run)
        try:
            for phase in phases:
                worker.attack_pass(phase, phases)
            for threat in natural:
                worker.natural_pass(threat)
        finally:
            run["timings"] = _added(run["timings"], worker.timings)
            run["fitted"] = records(directory, phases)
            journal.sync()
            directory.write_run(run)
        counted = ledger.restricted(run["images"]["selected"])
        left = missing(counted, phases) + missing_natural(counted, natural)
        if left:
            raise NoVerdictError(
                f"{left} answers are missing at the end of the run", "use --resume"
            )
        run["provenance"] |= {"finished": _now()}
        summary = summarise(run, ledger, regression.section(baseline, run, ledger))
        directory.write_run(run)
        directory.write_summary(summary)
    return Result(summary, directory.root if keep else None)


@contextmanager
def _opened(directory: RunDirectory | None) -> Iterator[RunDirectory]:
    """The run directory, locked; without one a temporary one, so that there is one way to work."""
    with ExitStack() as stack:
        if directory is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="advcli-"))
            directory = RunDirectory(Path(folder) / "run")
        stack.enter_context(directory.lock())
        yield directory


def _describe(
    config: AuditConfig,
    bench: Bench,
    phases: tuple[Phase, ...],
    target: Target | None,
    engine: Engine,
    command_line: str,
) -> dict[str, Any]:
    """run.json of a fresh run."""
    model = bench.model_section()
    surrogate = None if bench.surrogate is None else bench.surrogate.section()
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.model_dump(mode="json"),
        "identity": {
            "model": model["sha256"],
            "output": config.output,
            "preprocess": _formula(model),
            "classes": model["classes"],
            "labels": bench.folder.label_source,
            "resize": config.resize,
            "resample": config.resample,
            "exif": config.exif,
            "pixels": config.pixels,
            "seed": config.seed,
            "targeted": config.targeted,
            "batch_size": engine.batch_size,
            "compiled": bench.compiled,
            "command": config.command,
            "save_images": config.save_images,
            "only_fooled": config.only_fooled,
            "surrogate": surrogate and surrogate["sha256"],
            "surrogate_preprocess": surrogate and _formula(surrogate),
        },
        "model": model,
        "surrogate": surrogate,
        "images": {
            "root": str(bench.folder.root),
            "count": len(bench.folder.refs),
            "per_class": _per_class(bench),
            "labels": bench.folder.label_source,
            "skipped": [
                {"file": skipped.file, "reason": skipped.reason} for skipped in bench.folder.skipped
            ],
            "resized": None,
            "selected": None,
        },
        "phases": [phase.as_dict() for phase in phases],
        "findings": [
            *bench.findings,
            *(finding(BUDGET, "note", note) for note in budget_notes(config, phases)),
            *_preset_remark(config),
        ],
        "engine": {
            "device": bench.device,
            "compiled": bench.compiled,
            "batch_size": engine.batch_size,
        },
        "timings": {},
        "provenance": {
            **versions(),
            "seed": config.seed,
            "command": command_line,
            "cascade": bool(phases) and phases[0].cascade,
            "targeted": bench.class_names[target] if isinstance(target, int) else target,
            "surrogate": surrogate,
            "folder": str(Path.cwd()),
            "started": _now(),
            "finished": None,
        },
    }


def _preset_remark(config: AuditConfig) -> list[dict[str, str]]:
    preset = preset_of(config)
    remark = preset_remark(preset, config.norm) if preset else None
    return [finding(PRESET, "note", remark)] if remark else []


def _formula(model: dict[str, Any]) -> list[Any]:
    return [model["preprocessing"][key] for key in ("scale", "mean", "std", "channels")]


def _per_class(bench: Bench) -> dict[str, int]:
    """Images that the folder has of each class, readable or not; index as text -> count."""
    found = Counter(ref.label for ref in bench.folder.refs if ref.label is not None)
    return {str(label): found[label] for label in sorted(found)}


def _added(
    before: dict[str, dict[str, float]], new: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    total = {key: dict(value) for key, value in before.items()}
    for key, value in new.items():
        sums = total.setdefault(key, dict.fromkeys(value, 0.0))
        for name, number in value.items():
            sums[name] = sums.get(name, 0.0) + number
    return total


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
