"""One run from the configuration to its summary: the order of things, and what is kept when.

Refusals come before anything is written. After that every answer goes into the journal as it is
known, so that whatever ends the process costs only what was being computed.
"""

from __future__ import annotations

import datetime
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from advcli.audit import regression, waivers
from advcli.audit import resume as resuming
from advcli.audit.deadline import BLOCK, Deadline, TimeIsUpError, shown_duration
from advcli.audit.directory import RunDirectory
from advcli.audit.fitting import check_enough, check_generator, records
from advcli.audit.gallery import Keeper, Picture, pictures
from advcli.audit.gates import check_classes, check_planned, gates_of
from advcli.audit.ledger import Ledger
from advcli.audit.meter import Watcher
from advcli.audit.natural import (
    NaturalPhase,
    draft_natural,
    merged_natural,
    missing_natural,
    open_natural,
)
from advcli.audit.phases import Worker, open_images
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
from advcli.audit.shards import check_divisible, listing
from advcli.audit.shrinking import Shrinking
from advcli.audit.side import ImageKey, Side, keys_of
from advcli.audit.soundness import BUDGET, PRESET, finding
from advcli.audit.starts import Starts
from advcli.audit.summary import SCHEMA_VERSION, missing, summarise
from advcli.engine.run import Engine, auto_lanes
from advcli.errors import ModelError, NoVerdictError, RunError, UsageError
from advcli.images.stream import ImageStream

__all__ = ["Plan", "Result", "execute", "prepare"]


@dataclass(frozen=True)
class Plan:
    """A run that could begin: everything was looked at and nothing was written."""

    config: AuditConfig
    bench: Bench
    phases: tuple[Phase, ...]
    natural: tuple[NaturalPhase, ...]
    target: Target | None
    engine: Engine
    run: dict[str, Any]  # run.json
    directory: RunDirectory | None
    earlier: dict[str, Any] | None  # run.json of the run that goes on
    baseline: Side | None  # the run that it must not fall behind


@dataclass(frozen=True)
class Result:
    """A finished run: its summary, its directory if it was kept, its pictures if asked for."""

    summary: dict[str, Any]
    directory: Path | None
    gallery: tuple[Picture, ...] = ()


def execute(
    config: AuditConfig,
    watcher: Watcher,
    *,
    out: Path | None = None,
    resume: bool = False,
    given: frozenset[str] = frozenset(),
    file: dict[str, Any] | None = None,
    command_line: str = "",
    gallery: bool = False,
) -> Result:
    """Runs an audit; see `prepare` for the arguments. `gallery`: keep a few pictures for a report
    that shows them.

    Raises an AdvcliError (exit 2) before anything is written, NoVerdictError (exit 3) after.
    """
    deadline = None if config.time_budget is None else Deadline(watcher, config.time_budget)
    plan = prepare(
        config,
        watcher,
        out=out,
        resume=resume,
        given=given,
        file=file,
        command_line=command_line,
    )
    with _opened(plan.directory) as kept:
        if (kept.read_run() if kept.holds_run else None) != plan.earlier:
            raise RunError("another process has changed this run meanwhile", "try again")
        result = _work(plan, kept, watcher, deadline, gallery=gallery)
        return replace(result, gallery=pictures(kept) if gallery else ())


def prepare(
    config: AuditConfig,
    watcher: Watcher,
    *,
    out: Path | None = None,
    resume: bool = False,
    given: frozenset[str] = frozenset(),
    file: dict[str, Any] | None = None,
    command_line: str = "",
) -> Plan:
    """Everything before the first attack: refusals, the model, its preprocessing, its gradient.

    **Arguments**
    - `out`: the run directory; without one nothing is kept.
    - `resume`: go on with the run in `out`, if there is one. `given` are then the names of the
      options that the user stated; the others come from the run.
    - `file`: `{path, options {name: value}}`, what a configuration file says; of it only what has
      changed since the run counts as stated.

    Raises an AdvcliError (exit 2).
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
            given |= resuming.changed_options(file, earlier)
            config = resuming.merged_config(config, earlier, given)
    phases = resuming.merged_phases(config, earlier, given) if earlier else draft_phases(config)
    natural = merged_natural(config, earlier, given) if earlier else draft_natural(config)
    gates = gates_of(config.fail_under, config.gates)
    check_planned(gates, phases, natural, targeted=config.targeted is not None)
    baseline = regression.opened(config, directory, given)
    header, folder = open_cheaply(config)
    regression.check_asked(baseline, config, phases, natural, folder.class_names)
    check_enough(config, folder, phases)
    check_divisible(config, phases, len(folder.refs))
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
        lanes=auto_lanes(bench.batch_size, bench.crafting.row_bytes),
        surrogate=None if bench.surrogate is None else bench.surrogate.classifier,
    )
    run = _describe(config, bench, phases, target, engine, command_line)
    run["natural"] = [threat.as_dict() for threat in natural]
    run["identity"]["generator"] = generator
    run["config_file"] = file
    if earlier is not None:
        resuming.check_identity(run["identity"], earlier, given)
        for note in resuming.sample_notes(config, given, run["images"], earlier):
            watcher.note(note)
        run = resuming.continued(run, earlier)
    regression.check_run(baseline, run, phases, natural)
    return Plan(
        config, bench, phases, tuple(natural), target, engine, run, directory, earlier, baseline
    )


def _work(
    plan: Plan,
    directory: RunDirectory,
    watcher: Watcher,
    deadline: Deadline | None,
    *,
    gallery: bool,
) -> Result:
    config, phases, run, engine = plan.config, plan.phases, plan.run, plan.engine
    ledger = directory.ledger()
    stream = stream_of(config, plan.bench.folder, plan.bench.input_shape)
    fresh = not directory.holds_run
    finished: list[Worker] = []
    if plan.earlier is not None:
        _pin(plan.earlier, directory, ledger)

    def go_through(worker: Worker) -> None:
        """All that is asked about the images of one worker."""
        worker.clean_pass(plan.target)
        try:
            worker.check(phases)
            if not finished:
                run["images"] |= _facts(ledger, [worker])
                regression.check_images(
                    plan.baseline,
                    keys_of(run, ledger) if deadline is None else _keys(stream),
                )
        except (ModelError, RunError, UsageError):
            if fresh and not finished:
                directory.discard()
            raise
        worker.begin_gallery()
        if plan.baseline is not None:
            directory.write_baseline(plan.baseline.as_dict())
        directory.summary_file.unlink(missing_ok=True)
        directory.write_run(run)
        try:
            for phase in phases:
                worker.attack_pass(phase, phases)
            for threat in plan.natural:
                worker.natural_pass(threat)
            if config.soundness == "full" and deadline is None:
                worker.probe(ledger.restricted(run["images"]["selected"]), phases, run)
        finally:
            run["timings"] = _added(run["timings"], worker.timings)
            run["fitted"] = records(directory, phases)
            journal.sync()
            directory.write_run(run)

    if fresh:  # first of all: a folder with a journal alone is no run to go on with
        directory.write_run(run)
    with directory.journal() as journal:
        engine.on_shrink = Shrinking(engine, run, directory, watcher)
        starts = Starts(stream, engine.predict, run.setdefault("starts", {}))
        waiting = set() if deadline is None else _waiting(plan, ledger)
        for part in [stream] if deadline is None else stream.blocks(BLOCK):
            # the first block is a sample like any other
            keeper = (
                Keeper(directory, plan.bench.classifier, part, ledger, config.seed)
                if gallery and not finished
                else None
            )
            paths = {ref.path for ref in part.folder.refs}
            answered = paths <= ledger.clean.keys() and paths.isdisjoint(waiting)
            told = watcher if deadline is None or answered else deadline
            worker = Worker(config, engine, part, directory, journal, ledger, told, starts, keeper)
            try:
                go_through(worker)
            except TimeIsUpError:
                break
            finished.append(worker)
            if deadline is not None:  # a report of a stopped run is about these, and no others
                run["images"] |= _facts(ledger, finished, named=True)
                directory.write_run(run)
        run["images"] |= _facts(ledger, finished)
        run["images"]["time_budget"] = _time_spent(config, stream, finished)
        if deadline is not None:
            try:
                regression.check_images(plan.baseline, keys_of(run, ledger))
            except RunError as error:
                raise NoVerdictError(error.message, "give it more time: --resume goes on") from None
        counted = ledger.restricted(run["images"]["selected"])
        left = missing(counted, phases) + missing_natural(counted, plan.natural)
        if left:
            raise NoVerdictError(
                f"{left} answers are missing at the end of the run", "use --resume"
            )
        run["provenance"] |= {"finished": _now()}
        run["judged_on"] = waivers.today().isoformat()
        summary = summarise(run, ledger, regression.section(plan.baseline, run, ledger))
        directory.write_run(run)
        directory.write_summary(summary)
    return Result(summary, None if plan.directory is None else directory.root)


def _waiting(plan: Plan, ledger: Ledger) -> set[str]:
    """Images that the journal knows, and that something is still to be asked about."""
    wrong = plan.config.include_misclassified
    return open_images(ledger, plan.phases, misclassified=wrong) | open_natural(
        ledger, plan.natural
    )


def _keys(stream: ImageStream) -> Iterator[ImageKey]:
    """What `keys_of` gives of images that the model was shown, without it."""
    return ((image.sha256, image.ref.label) for image in stream if image.sha256 is not None)


def _pin(run: dict[str, Any], directory: RunDirectory, ledger: Ledger) -> None:
    """Names the images that the run's figures are about, before the journal knows of others."""
    if run["images"].get("complete", True) and run["images"]["selected"] is None:
        images = run["images"] | {"selected": [*ledger.clean]}
        directory.write_run(run | {"images": images})


def _facts(ledger: Ledger, workers: Sequence[Worker], *, named: bool = False) -> dict[str, Any]:
    """What run.json's `images` learns from the clean passes; they were `complete`.

    `named`: the images are named although the journal has no other yet.
    """
    seen = [image for worker in workers for image in worker.seen]
    resized = [worker.resized for worker in workers if worker.resized is not None]
    return {
        "resized": resized[0] | {"count": sum(r["count"] for r in resized)} if resized else None,
        "selected": seen if named or set(ledger.clean) - set(seen) else None,
        "complete": True,
    }


def _time_spent(
    config: AuditConfig, stream: ImageStream, finished: Sequence[Worker]
) -> dict[str, Any] | None:
    """What a time budget left of the images; raises NoVerdictError where that is nothing."""
    if config.time_budget is None:
        return None
    if not finished:
        raise NoVerdictError(
            f"the time budget of {shown_duration(config.time_budget)} was over before the first "
            f"{BLOCK} images were through",
            "give it more time, or fewer attacks; --resume goes on with what was finished",
        )
    seen = sum(len(worker.seen) for worker in finished)
    return {"seconds": config.time_budget, "images": seen, "of": max(seen, stream.count)}


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
            "shard": config.shard,
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
            "listing": listing(ref.path for ref in bench.folder.refs),
            "shard": config.shard,
            "time_budget": None,
            "complete": False,
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
